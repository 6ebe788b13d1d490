#include "kms-keeper/merge.h"

#include <string.h>

static int
int64_compare(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static size_t
head_len(const struct merge_version *version)
{
	if (version->tombstone)
		return 0;
	return version->head_len < MERGE_HEAD_LEN ? version->head_len
						  : MERGE_HEAD_LEN;
}

static int
head_compare(const struct merge_version *a, const struct merge_version *b)
{
	size_t a_len = head_len(a), b_len = head_len(b);
	size_t len = a_len < b_len ? a_len : b_len;
	int order = len > 0 ? memcmp(a->head, b->head, len) : 0;

	if (order != 0)
		return order;
	return (a_len > b_len) - (a_len < b_len);
}

int
merge_content_compare(
    const struct merge_version *a, const struct merge_version *b)
{
	int order = int64_compare(a->updated_at_ms, b->updated_at_ms);

	if (order == 0)
		order = head_compare(a, b);
	if (order == 0)
		order = (int)b->tombstone - (int)a->tombstone;
	if (order == 0)
		order = int64_compare(a->ttl_ms, b->ttl_ms);
	return order;
}

enum merge_choice
merge_decide(
    const struct merge_version *ours, const struct merge_version *theirs)
{
	int order;

	switch (vector_clock_compare(ours->clock, theirs->clock)) {
	case CLOCK_BEFORE:
		return MERGE_TAKE;
	case CLOCK_AFTER:
		return MERGE_KEEP;
	case CLOCK_EQUAL:
		order = merge_content_compare(ours, theirs);
		if (order == 0)
			return MERGE_SAME;
		return order > 0 ? MERGE_KEEP : MERGE_TAKE;
	case CLOCK_CONCURRENT:
		break;
	}
	order = merge_content_compare(ours, theirs);
	return order >= 0 ? MERGE_KEEP_JOIN : MERGE_TAKE_JOIN;
}

int64_t
merge_ttl(int64_t ttl_ms, bool tombstone)
{
	if (tombstone || ttl_ms < 0 || ttl_ms > MERGE_TTL_MAX)
		return 0;
	return ttl_ms;
}
