#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "common/err.h"
#include "kms-keeper/store_internal.h"

/* Of the least recently used, for one that may go: a bound for the work. */
#define VICTIMS_LOOKED_AT 64

/* ---- finding ------------------------------------------------------------- */

static unsigned
hash_of(const struct store *store, const void *bytes, size_t len)
{
	return (unsigned)siphash(store->config.hash_key, bytes, len);
}

struct namespace *
namespace_find(const struct store *store, uint64_t app_id)
{
	struct namespace *ns = NULL;
	unsigned hash = hash_of(store, &app_id, sizeof(app_id));

	HASH_FIND_BYHASHVALUE(
	    hh, store->namespaces, &app_id, sizeof(app_id), hash, ns);
	return ns;
}

void
slot_find(const struct store *store, uint64_t app_id, const void *key,
    size_t key_len, struct slot *slot)
{
	slot->app_id = app_id;
	slot->key = key;
	slot->key_len = key_len;
	slot->hash = hash_of(store, key, key_len);
	slot->ns = namespace_find(store, app_id);
	slot->record = NULL;
	if (slot->ns != NULL)
		HASH_FIND_BYHASHVALUE(hh, slot->ns->records, key, key_len,
		    slot->hash, slot->record);
}

/* ---- what a record costs ------------------------------------------------- */

static uint64_t
charge(size_t key_len, size_t value_len)
{
	return key_len + value_len + STORE_RECORD_OVERHEAD;
}

static uint64_t
record_charge(const struct record *record)
{
	return charge(record->key_len, record->value_len);
}

static size_t
record_live_bytes(const struct record *record)
{
	return (size_t)record->key_len + record->value_len;
}

/* ---- making and freeing -------------------------------------------------- */

static int
namespace_make(struct store *store, uint64_t app_id, struct namespace **out)
{
	struct namespace *ns = calloc(1, sizeof(*ns));
	unsigned hash = hash_of(store, &app_id, sizeof(app_id));

	if (ns == NULL)
		return KMS_ENOMEM;
	ns->app_id = app_id;
	TAILQ_INIT(&ns->used);
	TAILQ_INIT(&ns->dead);
	HASH_ADD_KEYPTR_BYHASHVALUE(
	    hh, store->namespaces, &ns->app_id, sizeof(ns->app_id), hash, ns);
	if (ns->hh.tbl == NULL) {
		free(ns);
		return KMS_ENOMEM;
	}
	store->stats.namespaces++;
	*out = ns;
	return 0;
}

static void
namespace_free_if_empty(struct store *store, struct namespace *ns)
{
	if (ns->records != NULL)
		return;
	HASH_DELETE(hh, store->namespaces, ns);
	store->stats.namespaces--;
	free(ns);
}

/* Make what slot_find did not find. KMS_ENOMEM leaves nothing behind. */
static int
slot_make(struct store *store, struct slot *slot)
{
	struct record *record;
	int error;

	if (slot->ns == NULL) {
		error = namespace_make(store, slot->app_id, &slot->ns);
		if (error != 0)
			return error;
	}
	record = calloc(1, sizeof(*record) + slot->key_len);
	if (record == NULL)
		goto free_namespace;
	record->ns = slot->ns;
	record->state = RECORD_DETACHED;
	record->heap_index = NOT_IN_HEAP;
	record->key_len = (uint32_t)slot->key_len;
	memcpy(record->key, slot->key, slot->key_len);
	HASH_ADD_KEYPTR_BYHASHVALUE(hh, slot->ns->records, record->key,
	    slot->key_len, slot->hash, record);
	if (record->hh.tbl == NULL)
		goto free_record;
	slot->record = record;
	return 0;

free_record:
	free(record);
free_namespace:
	namespace_free_if_empty(store, slot->ns);
	slot->ns = NULL;
	return KMS_ENOMEM;
}

static void
value_free(uint8_t *value, size_t len)
{
	if (value == NULL)
		return;
	OPENSSL_cleanse(value, len);
	free(value);
}

/* ---- states -------------------------------------------------------------- */

static uint64_t
long_clock_cost(const struct vector_clock *clock)
{
	uint64_t members = vector_clock_count(clock);

	return members > CLOCK_MEMBERS_KEPT ? members * CLOCK_MEMBER_COST : 0;
}

bool
store_clock_fits(const struct store *store, const struct slot *slot,
    const struct vector_clock *clock)
{
	const struct record *record = slot->record;
	uint64_t more = long_clock_cost(clock), have = 0;

	if (record != NULL && record->state == STORE_LIVE)
		have = long_clock_cost(&record->clock);
	return more <= have ||
	    store->long_clock_bytes - have + more <=
	    store_dead_bound(store) / 4;
}

void
store_clock_charge(struct store *store, const struct record *record, bool add)
{
	uint64_t cost = long_clock_cost(&record->clock);

	store->long_clock_bytes += add ? cost : -cost;
}

/* Take a record out of the lists of its state; its value stays. */
static void
record_detach(struct store *store, struct record *record)
{
	struct namespace *ns = record->ns;

	ns->version = ++store->touched;
	switch (record->state) {
	case RECORD_DETACHED:
		return;
	case STORE_LIVE:
		TAILQ_REMOVE(&ns->used, record, order);
		ttl_heap_remove(&store->heap, record);
		store_clock_charge(store, record, false);
		ns->live_count--;
		ns->charged -= record_charge(record);
		store->stats.live_keys--;
		store->stats.live_bytes -= record_live_bytes(record);
		store->stats.charged_bytes -= record_charge(record);
		break;
	default:
		ns->dead_bytes -= record_charge(record);
		dead_remove(store, record);
		break;
	}
	record->state = RECORD_DETACHED;
}

/* Put a detached record into the lists of its new state, as the youngest. */
static void
record_attach(struct store *store, struct record *record,
    enum store_state state, struct kms_time now)
{
	struct namespace *ns = record->ns;

	record->state = (uint8_t)state;
	if (!record->found)
		namespace_known(store, ns);
	if (state == STORE_LIVE) {
		TAILQ_INSERT_TAIL(&ns->used, record, order);
		if (record->ttl_ms > 0)
			ttl_heap_add(&store->heap, record);
		store_clock_charge(store, record, true);
		ns->live_count++;
		ns->charged += record_charge(record);
		store->stats.live_keys++;
		store->stats.live_bytes += record_live_bytes(record);
		store->stats.charged_bytes += record_charge(record);
		return;
	}
	record->dead_since_ms = now.boot_ms;
	ns->dead_bytes += record_charge(record);
	dead_add(store, record);
}

void
record_free(struct store *store, struct record *record)
{
	struct namespace *ns = record->ns;

	record_detach(store, record);
	if (record->sequence != 0) {
		cursors_step_over(store, record);
		TAILQ_REMOVE(&store->changes, record, change);
	}
	vector_clock_clear(&store->members, &record->clock);
	value_free(record->value, record->value_len);
	HASH_DELETE(hh, ns->records, record);
	OPENSSL_cleanse(record, sizeof(*record) + record->key_len);
	free(record);
	namespace_free_if_empty(store, ns);
}

/* Free a detached record's value but for the bytes that merging looks at.
 * Should there be no memory for the shorter copy, the long one is wiped. */
static void
record_trim(struct record *record)
{
	uint8_t *head;

	if (record->value_len <= MERGE_HEAD_LEN)
		return;
	head = malloc(MERGE_HEAD_LEN);
	if (head != NULL) {
		memcpy(head, record->value, MERGE_HEAD_LEN);
		value_free(record->value, record->value_len);
		record->value = head;
	} else {
		OPENSSL_cleanse(record->value + MERGE_HEAD_LEN,
		    record->value_len - MERGE_HEAD_LEN);
	}
	record->value_len = MERGE_HEAD_LEN;
}

int64_t
record_due_ms(const struct record *record)
{
	int64_t due;

	if (__builtin_add_overflow(record->updated_at_ms, record->ttl_ms, &due))
		return INT64_MAX;
	return due;
}

bool
record_is_overdue(const struct record *record, struct kms_time now)
{
	return record->ttl_ms > 0 &&
	    (record->state == STORE_LIVE || record->state == STORE_EVICTED) &&
	    record_due_ms(record) <= now.wall_ms;
}

void
record_expire(struct store *store, struct record *record, struct kms_time now)
{
	struct namespace *ns = record->ns;

	record_detach(store, record);
	record_trim(record);
	record_attach(store, record, STORE_EXPIRED, now);
	store->stats.expirations++;
	dead_enforce(store, ns);
}

static void
record_evict(struct store *store, struct record *record, struct kms_time now)
{
	struct namespace *ns = record->ns;

	record_detach(store, record);
	record_trim(record);
	record_attach(store, record, STORE_EVICTED, now);
	store->stats.evictions++;
	dead_enforce(store, ns);
}

void
record_changed(struct store *store, struct record *record)
{
	if (record->sequence != 0) {
		cursors_step_over(store, record);
		TAILQ_REMOVE(&store->changes, record, change);
	}
	record->sequence = ++store->stats.sequence;
	TAILQ_INSERT_TAIL(&store->changes, record, change);
}

void
record_view(
    const struct record *record, struct kms_time now, struct store_record *view)
{
	view->app_id = record->ns->app_id;
	view->key = record->key;
	view->key_len = record->key_len;
	view->value = record->value;
	view->value_len = record->value_len;
	view->clock = &record->clock;
	view->updated_at_ms = record->updated_at_ms;
	view->ttl_ms = record->ttl_ms;
	view->sequence = record->sequence;
	view->origin = record->origin;
	view->state = (enum store_state)record->state;
	view->dead_since_ms = record->dead_since_ms;
	if (__builtin_sub_overflow(
		now.boot_ms, record->dead_since_ms, &view->age_ms))
		view->age_ms = 0;
	if (record_is_overdue(record, now)) {
		view->state = STORE_EXPIRED;
		if (view->value_len > MERGE_HEAD_LEN)
			view->value_len = MERGE_HEAD_LEN;
	}
}

/* ---- writing ------------------------------------------------------------- */

bool
store_value_fits(const struct store *store, size_t len)
{
	return len <= UINT32_MAX &&
	    len <= store->config.max_value_size + MERGE_VALUE_SLACK;
}

int
content_set_value(struct content *content, const void *value, size_t len)
{
	content->value = malloc(len > 0 ? len : 1);
	if (content->value == NULL)
		return KMS_ENOMEM;
	if (len > 0)
		memcpy(content->value, value, len);
	content->value_len = (uint32_t)len;
	return 0;
}

void
content_clear(struct store *store, struct content *content)
{
	value_free(content->value, content->value_len);
	content->value = NULL;
	vector_clock_clear(&store->members, &content->clock);
}

/* What the live records of an app may cost, given what the others hold. */
static uint64_t
app_limit(const struct store *store, const struct namespace *ns)
{
	const struct store_config *config = &store->config;
	uint64_t own = ns != NULL ? ns->charged : 0, others, left;

	if (config->max_store == 0)
		return config->max_app_storage;
	others = store->stats.charged_bytes - own;
	left = others < config->max_store ? config->max_store - others : 0;
	return left < config->max_app_storage ? left : config->max_app_storage;
}

/* Can a live record of this cost stand in the slot? KMS_ETOOBIG if not. */
static int
quota_check(const struct store *store, const struct slot *slot, uint64_t cost)
{
	uint64_t limit = app_limit(store, slot->ns), rest;

	if (cost > limit)
		return KMS_ETOOBIG;
	if (store->config.eviction == STORE_EVICT_LRU || slot->ns == NULL)
		return 0;
	rest = slot->ns->charged;
	if (slot->record != NULL && slot->record->state == STORE_LIVE)
		rest -= record_charge(slot->record);
	return rest + cost > limit ? KMS_ETOOBIG : 0;
}

/* The least recently used record that every peer holds; when none of the
 * first few is, the least recently used. */
static struct record *
next_victim(const struct store *store, const struct namespace *ns)
{
	struct record *record = TAILQ_FIRST(&ns->used);

	for (int i = 0; i < VICTIMS_LOOKED_AT && record != NULL; i++) {
		if (record->sequence <= store->low_mark)
			return record;
		record = TAILQ_NEXT(record, order);
	}
	return TAILQ_FIRST(&ns->used);
}

/* Evict the least recently used until cost more fits, as quota_check has
 * found it would. */
static void
make_room(struct store *store, struct namespace *ns, uint64_t cost,
    struct kms_time now)
{
	struct record *victim;

	while (ns->charged + cost > app_limit(store, ns)) {
		victim = next_victim(store, ns);
		if (victim == NULL)
			return;
		record_evict(store, victim, now);
	}
}

static void
record_install(
    struct store *store, struct record *record, struct content *content)
{
	value_free(record->value, record->value_len);
	vector_clock_clear(&store->members, &record->clock);
	record->value = content->value;
	record->value_len = content->value_len;
	record->clock = content->clock;
	record->updated_at_ms = content->updated_at_ms;
	record->ttl_ms = content->ttl_ms;
	record->origin = content->origin;
	content->value = NULL;
	content->value_len = 0;
	memset(&content->clock, 0, sizeof(content->clock));
}

int
store_write(struct store *store, struct slot *slot, struct content *content,
    bool changed, struct kms_time now)
{
	bool live = content->state == STORE_LIVE, found = content->brought;
	uint64_t cost = charge(slot->key_len, content->value_len);
	struct namespace *ns;
	int error;

	if (live) {
		error = quota_check(store, slot, cost);
		if (error != 0)
			return error;
		if (content->ttl_ms > 0) {
			error = ttl_heap_reserve(&store->heap);
			if (error != 0)
				return error;
		}
	}
	if (slot->record == NULL) {
		error = slot_make(store, slot);
		if (error != 0)
			return error;
	} else {
		found = found && slot->record->found;
	}
	/* From here on nothing fails. The record is in no list, so that
	 * making room neither evicts nor forgets it. */
	ns = slot->ns;
	record_detach(store, slot->record);
	if (live)
		make_room(store, ns, cost, now);
	slot->record->found = found && !live;
	record_install(store, slot->record, content);
	record_attach(store, slot->record, content->state, now);
	slot->record->dead_since_ms -= content->age_ms;
	if (changed)
		record_changed(store, slot->record);
	if (!live)
		dead_enforce(store, ns);
	return 0;
}
