#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "crypto/sha256.h"
#include "kms-keeper/sync_internal.h"

#define FIXED_BYTES 64 /* of a record to be hashed, but for what varies */

/*
 * Digests are sums of keyed 64-bit hashes of records, so that they need no
 * order: HMAC-SHA256 over sorted records holds the event loop for a fifth of
 * a second where this takes a fiftieth (100 000 records). Apps, who choose
 * keys and values, do not know the key; who knows it is a peer and could send
 * wrong digests anyway.
 */
int
sync_digest_keys(struct sync *sync)
{
	static const char label[] = "nova-kms:digest";
	uint8_t mac[SHA256_LEN];
	int error;

	error = hmac_sha256(sync->config.digest_key, SYNC_DIGEST_KEY_LEN, label,
	    sizeof(label) - 1, mac);
	if (error != 0)
		return error;
	memcpy(sync->item_key, mac, SIPHASH_KEY_LEN);
	memcpy(sync->bucket_key, mac + SIPHASH_KEY_LEN, SIPHASH_KEY_LEN);
	return 0;
}

/* ---- hashes -------------------------------------------------------------- */

static uint8_t *
put_number(uint8_t *p, uint64_t n)
{
	for (int i = 0; i < 8; i++)
		*p++ = (uint8_t)(n >> 8 * i);
	return p;
}

static uint8_t *
put_bytes(uint8_t *p, const void *bytes, size_t len)
{
	p = put_number(p, len);
	if (len > 0)
		memcpy(p, bytes, len);
	return p + len;
}

uint64_t
sync_key_hash(
    const struct sync *sync, uint64_t app_id, const void *key, size_t len)
{
	uint64_t hash = siphash(sync->bucket_key, key, len);

	/* The bucket is the key's alone. */
	return hash ^ ((app_id * 0x9e3779b97f4a7c15) >> 8);
}

static size_t
clock_length(const struct vector_clock *clock)
{
	const struct clock_entry *entry = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock), total = 8, len;

	for (size_t i = 0; i < count; i++) {
		(void)clock_member_name(entry[i].member, &len);
		total += 16 + len;
	}
	return total;
}

static uint8_t *
put_clock(uint8_t *p, const struct vector_clock *clock)
{
	const struct clock_entry *entry = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock), len;

	p = put_number(p, count);
	for (size_t i = 0; i < count; i++) {
		const char *name = clock_member_name(entry[i].member, &len);

		p = put_bytes(p, name, len);
		p = put_number(p, entry[i].counter);
	}
	return p;
}

/*
 * key, clock, updated_at_ms, tombstone, ttl_ms, head: numbers are 8 bytes,
 * little end first, bytes have their length in front. A live record and the
 * stub that it becomes are the same, so that the time does not matter.
 */
uint64_t
sync_item_hash(struct sync *sync, const struct store_record *record)
{
	bool tombstone = record->state == STORE_TOMBSTONE;
	size_t head = tombstone ? 0 : record->value_len;
	uint8_t *start, *p;

	if (head > MERGE_HEAD_LEN)
		head = MERGE_HEAD_LEN;
	sync->scratch.len = 0;
	if (buf_reserve(&sync->scratch,
		FIXED_BYTES + record->key_len + clock_length(record->clock) +
		    head,
		&start) != 0)
		return 0;
	p = put_bytes(start, record->key, record->key_len);
	p = put_clock(p, record->clock);
	p = put_number(p, (uint64_t)record->updated_at_ms);
	p = put_number(p, tombstone ? 1 : 0);
	p = put_number(p, tombstone ? 0 : (uint64_t)record->ttl_ms);
	p = put_bytes(p, record->value, head);
	return siphash(sync->item_key, start, (size_t)(p - start));
}

int
sync_hash_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

bool
sync_hash_find(
    const uint64_t *sorted, size_t count, uint64_t hash, size_t *index)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (sorted[middle] < hash)
			low = middle + 1;
		else
			high = middle;
	}
	*index = low;
	return low < count && sorted[low] == hash;
}

/* ---- records as the time is ---------------------------------------------- */

static int64_t
due_ms(const struct store_record *record)
{
	int64_t due;

	if (record->ttl_ms <= 0 ||
	    __builtin_add_overflow(record->updated_at_ms, record->ttl_ms, &due))
		return INT64_MAX;
	return due;
}

struct store_record
sync_view_now(const struct store_record *record, struct kms_time now)
{
	struct store_record view = *record;

	if ((view.state == STORE_LIVE || view.state == STORE_EVICTED) &&
	    due_ms(record) <= now.wall_ms) {
		view.state = STORE_EXPIRED;
		if (view.value_len > MERGE_HEAD_LEN)
			view.value_len = MERGE_HEAD_LEN;
	}
	return view;
}

bool
sync_is_fading(const struct sync *sync, const struct store_record *record,
    struct kms_time now)
{
	int64_t died = record->state == STORE_TOMBSTONE ? record->updated_at_ms
							: due_ms(record);
	int64_t age;

	/* Each node forgets what it evicted itself: no other may bring that
	 * back for ever. */
	if (record->state == STORE_EVICTED &&
	    now.boot_ms - record->dead_since_ms >= sync->config.retention_ms)
		return true;
	if (died == INT64_MAX ||
	    __builtin_sub_overflow(now.wall_ms, died, &age))
		return false;
	return age >= sync->config.retention_ms;
}
