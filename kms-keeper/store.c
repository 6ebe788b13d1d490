#include "kms-keeper/store.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "common/err.h"
#include "kms-keeper/store_internal.h"

/* A local counter further ahead of the clock than this came from a peer's
 * inflated clock: it stays the affair of that one record. */
#define COUNTER_LEAD_MS (24 * INT64_C(3600000))

/* ---- the store ----------------------------------------------------------- */

void
store_config_init(struct store_config *config)
{
	memset(config, 0, sizeof(*config));
	config->max_app_storage = 10 << 20;
	config->max_value_size = 1 << 20;
	config->max_tombstones = 10000;
	config->tombstone_retention_ms = 24 * INT64_C(3600000);
	config->max_clock_skew_ms = 15000;
	config->eviction = STORE_EVICT_LRU;
}

struct store *
store_new(const struct store_config *config)
{
	struct store *store = calloc(1, sizeof(*store));

	if (store == NULL)
		return NULL;
	store->config = *config;
	clock_members_init(&store->members, config->hash_key);
	TAILQ_INIT(&store->dead);
	TAILQ_INIT(&store->found);
	TAILQ_INIT(&store->changes);
	store->low_mark = UINT64_MAX;
	return store;
}

void
store_clear(struct store *store)
{
	struct record *record;

	while ((record = TAILQ_FIRST(&store->changes)) != NULL)
		record_free(store, record);
	ttl_heap_free(&store->heap);
}

void
store_free(struct store *store)
{
	if (store == NULL)
		return;
	store_clear(store);
	clock_member_release(&store->members, store->self);
	OPENSSL_cleanse(store, sizeof(*store));
	free(store);
}

int
store_set_member(struct store *store, const char *member, size_t len)
{
	struct clock_member *self;
	int error;

	error = clock_member_intern(&store->members, member, len, &self);
	if (error != 0)
		return error;
	clock_member_release(&store->members, store->self);
	store->self = self;
	return 0;
}

void
store_set_peers(struct store *store, clock_keep_fn is_peer, void *arg)
{
	store->is_peer = is_peer;
	store->is_peer_arg = arg;
}

/* ---- reading ------------------------------------------------------------- */

enum store_found
store_get(struct store *store, uint64_t app_id, const void *key, size_t key_len,
    struct kms_time now, struct store_record *view)
{
	struct record *record;
	struct slot slot;

	slot_find(store, app_id, key, key_len, &slot);
	record = slot.record;
	if (record == NULL)
		return STORE_ABSENT;
	if (record_is_overdue(record, now)) {
		record_expire(store, record, now);
		return STORE_ABSENT;
	}
	record_view(record, now, view);
	switch (view->state) {
	case STORE_LIVE:
		TAILQ_REMOVE(&record->ns->used, record, order);
		TAILQ_INSERT_TAIL(&record->ns->used, record, order);
		return STORE_FOUND;
	case STORE_EVICTED:
		return STORE_GONE;
	default:
		return STORE_ABSENT;
	}
}

bool
store_peek(const struct store *store, uint64_t app_id, const void *key,
    size_t key_len, struct kms_time now, struct store_record *view)
{
	struct slot slot;

	slot_find(store, app_id, key, key_len, &slot);
	if (slot.record == NULL)
		return false;
	record_view(slot.record, now, view);
	return true;
}

/* ---- local writes (rule 4) ----------------------------------------------- */

static uint64_t
wall_counter(int64_t ms)
{
	if (ms < 0)
		return 0;
	if (ms > CLOCK_COUNTER_MAX)
		return (uint64_t)CLOCK_COUNTER_MAX;
	return (uint64_t)ms;
}

/* The counter of our member in the clock of the next write. */
static uint64_t
next_counter(const struct store *store, const struct vector_clock *clock,
    struct kms_time now)
{
	uint64_t counter = wall_counter(now.wall_ms);
	uint64_t own = vector_clock_counter(clock, store->self);

	if (counter <= store->last_counter)
		counter = store->last_counter + 1;
	if (counter <= own)
		counter = own + 1;
	return counter;
}

/* Never reuse a counter; but see COUNTER_LEAD_MS. */
static void
counter_issued(struct store *store, uint64_t counter, struct kms_time now)
{
	uint64_t bound = wall_counter(now.wall_ms) + COUNTER_LEAD_MS;

	if (counter > store->last_counter &&
	    (counter <= bound || counter == store->last_counter + 1))
		store->last_counter = counter;
}

static bool
keep_peers_and_self(const char *name, size_t len, void *arg)
{
	const struct store *store = arg;
	const char *self;
	size_t self_len;

	self = clock_member_name(store->self, &self_len);
	if (len == self_len && memcmp(name, self, len) == 0)
		return true;
	return store->is_peer(name, len, store->is_peer_arg);
}

static int64_t
next_stamp(
    const struct store *store, const struct record *record, struct kms_time now)
{
	int64_t stamp = now.wall_ms, ceiling;

	ceiling = now.wall_ms + store->config.max_clock_skew_ms / 2;
	if (record != NULL && record->updated_at_ms >= stamp)
		stamp = record->updated_at_ms < ceiling
		    ? record->updated_at_ms + 1
		    : ceiling;
	return stamp;
}

/* Fill clock and stamp of content for a local write to slot. */
static int
content_stamp(struct store *store, const struct slot *slot,
    struct content *content, struct kms_time now, uint64_t *counter)
{
	static const struct vector_clock empty;
	const struct vector_clock *clock;
	size_t members;
	int error;

	clock = slot->record != NULL ? &slot->record->clock : &empty;
	*counter = next_counter(store, clock, now);
	if (*counter > (uint64_t)CLOCK_COUNTER_MAX)
		return KMS_ERANGE;
	error = vector_clock_copy(&content->clock, clock);
	if (error != 0)
		return error;
	members = vector_clock_count(clock);
	if (vector_clock_counter(clock, store->self) == 0)
		members++;
	if (members > CLOCK_MEMBERS_KEPT && store->is_peer != NULL)
		vector_clock_prune(&store->members, &content->clock,
		    keep_peers_and_self, store);
	error = vector_clock_set(&content->clock, store->self, *counter);
	if (error != 0)
		return error;
	content->updated_at_ms = next_stamp(store, slot->record, now);
	return 0;
}

static bool
address_is_valid(
    const struct store *store, uint64_t app_id, const void *key, size_t key_len)
{
	return store->self != NULL && app_id >= 1 &&
	    app_id <= STORE_APP_ID_MAX && key != NULL && key_len >= 1 &&
	    key_len <= MERGE_KEY_MAX;
}

int
store_put_local(struct store *store, uint64_t app_id, const void *key,
    size_t key_len, const void *value, size_t value_len, int64_t ttl_ms,
    struct kms_time now, int64_t *updated_at_ms)
{
	struct content content = { .state = STORE_LIVE, .ttl_ms = ttl_ms };
	struct slot slot;
	uint64_t counter;
	int64_t stamp;
	int error;

	if (!address_is_valid(store, app_id, key, key_len) ||
	    (value == NULL && value_len > 0) || ttl_ms < 0 ||
	    ttl_ms > MERGE_TTL_MAX)
		return KMS_EINVAL;
	if (!store_value_fits(store, value_len))
		return KMS_ETOOBIG;
	slot_find(store, app_id, key, key_len, &slot);
	error = content_stamp(store, &slot, &content, now, &counter);
	if (error != 0)
		goto clear;
	error = content_set_value(&content, value, value_len);
	if (error != 0)
		goto clear;
	stamp = content.updated_at_ms;
	error = store_write(store, &slot, &content, true, now);
	if (error != 0)
		goto clear;
	counter_issued(store, counter, now);
	if (updated_at_ms != NULL)
		*updated_at_ms = stamp;
	return 0;

clear:
	content_clear(store, &content);
	return error;
}

int
store_delete_local(struct store *store, uint64_t app_id, const void *key,
    size_t key_len, struct kms_time now)
{
	struct content content = { .state = STORE_TOMBSTONE };
	struct slot slot;
	uint64_t counter;
	int error;

	if (!address_is_valid(store, app_id, key, key_len))
		return KMS_EINVAL;
	slot_find(store, app_id, key, key_len, &slot);
	if (slot.record == NULL || slot.record->state == STORE_TOMBSTONE)
		return KMS_ENOENT;
	error = content_stamp(store, &slot, &content, now, &counter);
	if (error != 0)
		goto clear;
	error = store_write(store, &slot, &content, true, now);
	if (error != 0)
		goto clear;
	counter_issued(store, counter, now);
	return 0;

clear:
	content_clear(store, &content);
	return error;
}

int
store_drop(
    struct store *store, uint64_t app_id, const void *key, size_t key_len)
{
	struct slot slot;

	slot_find(store, app_id, key, key_len, &slot);
	if (slot.record == NULL)
		return KMS_ENOENT;
	record_free(store, slot.record);
	return 0;
}

/* ---- time ---------------------------------------------------------------- */

/* Keep an unacknowledged tombstone or stub for another retention: its app has
 * room, or it would have gone when the last one died. */
static void
hold_back(struct store *store, struct record *record, struct kms_time now)
{
	struct namespace *ns = record->ns;

	record->dead_since_ms = now.boot_ms;
	TAILQ_REMOVE(&ns->dead, record, order);
	TAILQ_INSERT_TAIL(&ns->dead, record, order);
	TAILQ_REMOVE(dead_list(store, record), record, death);
	TAILQ_INSERT_TAIL(dead_list(store, record), record, death);
}

/* Of the dead of all apps the one whose retention ends first. */
static struct record *
oldest_dead(const struct store *store)
{
	struct record *own = TAILQ_FIRST(&store->dead);
	struct record *found = TAILQ_FIRST(&store->found);

	if (own == NULL ||
	    (found != NULL && found->dead_since_ms < own->dead_since_ms))
		return found;
	return own;
}

size_t
store_tick(struct store *store, struct kms_time now, size_t max_work)
{
	struct ttl_heap *heap = &store->heap;
	struct record *record;
	size_t work = 0;

	while (work < max_work && heap->count > 0 &&
	    heap->slots[0].due_ms <= now.wall_ms) {
		record_expire(store, heap->slots[0].record, now);
		work++;
	}
	while (work < max_work && (record = oldest_dead(store)) != NULL &&
	    record_is_past_retention(store, record, now)) {
		if (record->sequence > store->low_mark &&
		    dead_may_be_held_back(store, record))
			hold_back(store, record, now);
		else
			record_forget(store, record);
		work++;
	}
	return work;
}

int64_t
store_next_tick(const struct store *store, struct kms_time now)
{
	const struct record *dead = oldest_dead(store);
	int64_t next = -1, wait;

	if (store->heap.count > 0) {
		wait = store->heap.slots[0].due_ms - now.wall_ms;
		next = wait > 0 ? wait : 0;
	}
	if (dead != NULL) {
		wait = dead->dead_since_ms +
		    store->config.tombstone_retention_ms - now.boot_ms;
		if (wait < 0)
			wait = 0;
		if (next < 0 || wait < next)
			next = wait;
	}
	return next;
}

/* ---- figures ------------------------------------------------------------- */

struct store_stats
store_stats(const struct store *store)
{
	return store->stats;
}

uint64_t
store_app_charged(const struct store *store, uint64_t app_id)
{
	const struct namespace *ns = namespace_find(store, app_id);

	return ns != NULL ? ns->charged : 0;
}
