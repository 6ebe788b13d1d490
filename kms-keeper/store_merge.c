#include <string.h>

#include "common/err.h"
#include "kms-keeper/store_internal.h"

static struct store_merge_result
rejected(const char *reason)
{
	return (struct store_merge_result){ STORE_REJECTED, reason, false };
}

static struct store_merge_result
skipped(const char *reason)
{
	return (struct store_merge_result){ STORE_SKIPPED, reason, false };
}

static struct store_merge_result
merged(bool taken)
{
	return (struct store_merge_result){ STORE_MERGED, NULL, taken };
}

static const char *
error_reason(int error)
{
	switch (error) {
	case KMS_ENOMEM:
	case KMS_EBUSY:
		return "memory";
	case KMS_ETOOBIG:
		return "quota";
	case KMS_ERANGE:
		return "clock";
	default:
		return "malformed";
	}
}

/* Can a record have expired by now, on a clock as far ahead as may be? */
static bool
may_have_expired(const struct store *store, const struct store_incoming *in,
    struct kms_time now)
{
	int64_t ttl = merge_ttl(in->ttl_ms, false), due;

	return ttl > 0 &&
	    !__builtin_add_overflow(in->updated_at_ms, ttl, &due) &&
	    due <= now.wall_ms + store->config.max_clock_skew_ms;
}

/* Rule 1 but for the clock; NULL when nothing is wrong. */
static const char *
refusal(const struct store *store, uint64_t app_id,
    const struct store_incoming *in, struct kms_time now)
{
	if (app_id == 0 || app_id > STORE_APP_ID_MAX || in->key_len == 0 ||
	    in->key == NULL || (in->clock == NULL && in->clock_count > 0))
		return "malformed";
	if (in->key_len > MERGE_KEY_MAX)
		return "size";
	if (!in->tombstone && in->value == NULL)
		return "malformed";
	if (!in->tombstone && !store_value_fits(store, in->value_len))
		return "size";
	if (in->updated_at_ms > now.wall_ms + store->config.max_clock_skew_ms)
		return "future";
	if (in->expired && !may_have_expired(store, in, now))
		return "future";
	return NULL;
}

static struct merge_version
version_of_record(const struct record *record)
{
	return (struct merge_version){
		.clock = &record->clock,
		.updated_at_ms = record->updated_at_ms,
		.ttl_ms = record->ttl_ms,
		.head = record->value,
		.head_len = record->value_len,
		.tombstone = record->state == STORE_TOMBSTONE,
	};
}

static struct merge_version
version_of_incoming(
    const struct store_incoming *in, const struct vector_clock *clock)
{
	return (struct merge_version){
		.clock = clock,
		.updated_at_ms = in->updated_at_ms,
		.ttl_ms = merge_ttl(in->ttl_ms, in->tombstone),
		.head = in->value,
		.head_len = in->tombstone ? 0 : in->value_len,
		.tombstone = in->tombstone,
	};
}

/* Ours won: it stays as it is, under the joined clock. */
static struct store_merge_result
keep_joined(
    struct store *store, struct slot *slot, const struct vector_clock *clock)
{
	struct record *record = slot->record;
	struct vector_clock joined;
	int error;

	error = vector_clock_join(&joined, &record->clock, clock);
	if (error != 0)
		return rejected(error_reason(error));
	if (record->state == STORE_LIVE
		? !store_clock_fits(store, slot, &joined)
		: !dead_is_welcome(store, slot, record->value_len,
		      vector_clock_count(&joined))) {
		vector_clock_clear(&store->members, &joined);
		return skipped("quota");
	}
	if (record->state == STORE_LIVE)
		store_clock_charge(store, record, false);
	vector_clock_clear(&store->members, &record->clock);
	record->clock = joined;
	if (record->state == STORE_LIVE)
		store_clock_charge(store, record, true);
	record->origin = 0;
	record->ns->version = ++store->touched;
	record_changed(store, record);
	if (record->state != STORE_LIVE)
		dead_clock_changed(store, record);
	return merged(false);
}

/* What theirs is to be here; one that is overdue comes in as a stub. */
static int
content_fill(struct content *content, const struct store_incoming *in,
    const struct merge_version *theirs, struct kms_time now)
{
	size_t len = in->value_len;
	int64_t due;

	content->updated_at_ms = theirs->updated_at_ms;
	content->ttl_ms = theirs->ttl_ms;
	content->state = STORE_LIVE;
	if (in->tombstone) {
		content->state = STORE_TOMBSTONE;
		return 0;
	}
	if (in->evicted) {
		content->state = STORE_EVICTED;
		content->age_ms = in->age_ms;
	}
	if (in->expired ||
	    (theirs->ttl_ms > 0 &&
		!__builtin_add_overflow(
		    theirs->updated_at_ms, theirs->ttl_ms, &due) &&
		due <= now.wall_ms)) {
		content->state = STORE_EXPIRED;
	}
	if (content->state != STORE_LIVE && len > MERGE_HEAD_LEN)
		len = MERGE_HEAD_LEN;
	return content_set_value(content, in->value, len);
}

static struct store_merge_result
take(struct store *store, struct slot *slot, const struct store_incoming *in,
    const struct merge_version *theirs, bool join, bool changed,
    struct kms_time now)
{
	struct content content = { .brought = true,
		.origin = join ? 0 : in->origin };
	int error;

	if (join)
		error = vector_clock_join(
		    &content.clock, &slot->record->clock, theirs->clock);
	else
		error = vector_clock_copy(&content.clock, theirs->clock);
	if (error != 0)
		return rejected(error_reason(error));
	error = content_fill(&content, in, theirs, now);
	/* Older than that is as good as gone. */
	if (content.age_ms > store->config.tombstone_retention_ms)
		content.age_ms = store->config.tombstone_retention_ms;
	if (error == 0 &&
	    (content.state == STORE_LIVE
		    ? !store_clock_fits(store, slot, &content.clock)
		    : !dead_is_welcome(store, slot, content.value_len,
			  vector_clock_count(&content.clock)))) {
		content_clear(store, &content);
		return skipped("quota");
	}
	if (error == 0)
		error = store_write(store, slot, &content, changed, now);
	if (error == 0)
		return merged(true);
	content_clear(store, &content);
	return rejected(error_reason(error));
}

/* Why a stub of what was never here is not taken: others forget it as it is,
 * and it may push out nothing that died here. NULL: it is. */
static const char *
no_place_for_stub(const struct store *store, const struct slot *slot,
    const struct store_incoming *in)
{
	if (in->age_ms < 0 ||
	    in->age_ms >= store->config.tombstone_retention_ms)
		return "older";
	if (!record_may_die(store, slot->ns,
		slot->key_len + MERGE_HEAD_LEN + STORE_RECORD_OVERHEAD))
		return "quota";
	return NULL;
}

static struct store_merge_result
merge_slot(struct store *store, struct slot *slot,
    const struct store_incoming *in, const struct vector_clock *clock,
    struct kms_time now)
{
	struct merge_version theirs = version_of_incoming(in, clock), ours;
	struct record *record = slot->record;

	if (record == NULL && in->evicted) {
		const char *reason = no_place_for_stub(store, slot, in);

		if (reason != NULL)
			return skipped(reason);
	}
	if (record == NULL)
		return take(store, slot, in, &theirs, false, true, now);
	ours = version_of_record(record);
	switch (merge_decide(&ours, &theirs)) {
	case MERGE_SAME:
		if (record->state == STORE_EVICTED && !in->evicted &&
		    !in->expired && !record_is_overdue(record, now) &&
		    (in->revive ||
			record_is_past_retention(store, record, now)))
			return take(
			    store, slot, in, &theirs, false, false, now);
		return skipped("same");
	case MERGE_KEEP:
		return skipped("older");
	case MERGE_KEEP_JOIN:
		return keep_joined(store, slot, clock);
	case MERGE_TAKE:
		return take(store, slot, in, &theirs, false, true, now);
	case MERGE_TAKE_JOIN:
		return take(store, slot, in, &theirs, true, true, now);
	}
	return rejected("malformed");
}

struct store_merge_result
store_merge(struct store *store, uint64_t app_id,
    const struct store_incoming *in, struct kms_time now)
{
	const char *reason = refusal(store, app_id, in, now);
	struct store_merge_result result;
	struct vector_clock clock;
	struct slot slot;
	int error;

	if (reason != NULL)
		return rejected(reason);
	error = vector_clock_parse(
	    &store->members, in->clock, in->clock_count, &clock);
	if (error != 0)
		return rejected(error_reason(error));
	slot_find(store, app_id, in->key, in->key_len, &slot);
	result = merge_slot(store, &slot, in, &clock, now);
	vector_clock_clear(&store->members, &clock);
	return result;
}
