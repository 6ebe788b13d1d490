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

	if (died == INT64_MAX ||
	    __builtin_sub_overflow(now.wall_ms, died, &age))
		return false;
	return age >= sync->config.retention_ms;
}

/* ---- digests ------------------------------------------------------------- */

struct digest_walk {
	struct sync *sync;
	struct sync_digest *digest;
	struct kms_time now;
};

static bool
digest_record(const struct store_record *record, void *arg)
{
	struct digest_walk *walk = arg;
	uint64_t hash, key;

	if (sync_is_fading(walk->sync, record, walk->now))
		return true;
	hash = sync_item_hash(walk->sync, record);
	key = sync_key_hash(
	    walk->sync, record->app_id, record->key, record->key_len);
	walk->digest->bucket[key >> 56] += hash;
	walk->digest->root += hash;
	walk->digest->records++;
	return true;
}

/* Room for one more. */
static struct digest_cache *
cache_new(struct sync *sync, uint64_t app_id)
{
	struct digest_cache *entry, *oldest;
	unsigned int hash =
	    (unsigned int)siphash(sync->bucket_key, &app_id, sizeof(app_id));

	if (HASH_COUNT(sync->cache) >= DIGEST_CACHE_MAX) {
		oldest = sync->cache;
		HASH_DELETE(hh, sync->cache, oldest);
		free(oldest);
	}
	entry = calloc(1, sizeof(*entry));
	if (entry == NULL)
		return NULL;
	entry->app_id = app_id;
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, sync->cache, &entry->app_id,
	    sizeof(entry->app_id), hash, entry);
	if (entry->hh.tbl == NULL) {
		free(entry);
		return NULL;
	}
	return entry;
}

static struct digest_cache *
cache_find(struct sync *sync, uint64_t app_id)
{
	struct digest_cache *entry = NULL;
	unsigned int hash =
	    (unsigned int)siphash(sync->bucket_key, &app_id, sizeof(app_id));

	HASH_FIND_BYHASHVALUE(
	    hh, sync->cache, &app_id, sizeof(app_id), hash, entry);
	return entry;
}

const struct sync_digest *
sync_digest_app(struct sync *sync, uint64_t app_id, struct kms_time now)
{
	struct digest_cache *entry = cache_find(sync, app_id);
	uint64_t version = store_app_version(sync->store, app_id);
	struct digest_walk walk = { sync, NULL, now };

	if (entry != NULL && entry->version == version &&
	    now.boot_ms - entry->made_ms < DIGEST_CACHE_MS)
		return &entry->digest;
	if (entry == NULL) {
		entry = cache_new(sync, app_id);
		if (entry == NULL)
			return NULL;
	}
	memset(&entry->digest, 0, sizeof(entry->digest));
	walk.digest = &entry->digest;
	store_each(sync->store, app_id, digest_record, &walk);
	entry->version = version;
	entry->made_ms = now.boot_ms;
	return &entry->digest;
}

void
sync_digest_free(struct sync *sync)
{
	struct digest_cache *entry;

	while ((entry = sync->cache) != NULL) {
		HASH_DELETE(hh, sync->cache, entry);
		free(entry);
	}
}

/* ---- apps ---------------------------------------------------------------- */

struct apps_walk {
	uint64_t after, *apps;
	size_t count, size;
};

static void
collect_app(uint64_t app_id, void *arg)
{
	struct apps_walk *walk = arg;

	if (app_id > walk->after && walk->count < walk->size)
		walk->apps[walk->count++] = app_id;
}

int
sync_apps_after(const struct sync *sync, uint64_t after, size_t max,
    uint64_t **apps, size_t *count, bool *more)
{
	struct apps_walk walk = { .after = after };

	walk.size = (size_t)store_stats(sync->store).namespaces;
	walk.apps = malloc((walk.size > 0 ? walk.size : 1) * sizeof(uint64_t));
	if (walk.apps == NULL)
		return KMS_ENOMEM;
	store_each_app(sync->store, collect_app, &walk);
	if (walk.count > 1)
		qsort(
		    walk.apps, walk.count, sizeof(uint64_t), sync_hash_compare);
	*more = walk.count > max;
	*count = *more ? max : walk.count;
	*apps = walk.apps;
	return 0;
}
