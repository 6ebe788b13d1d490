/* What the store's files share and nobody else includes. */
#ifndef KMS_KEEPER_STORE_INTERNAL_H
#define KMS_KEEPER_STORE_INTERNAL_H

#include <sys/queue.h>

#include "kms-keeper/store.h"
#include "kms-keeper/table.h"

#define NOT_IN_HEAP UINT32_MAX
#define RECORD_DETACHED 0xff /* state: in its table, but in no list */

/*
 * About 200 bytes and the key; with malloc's share, the table's bucket and the
 * heap's slot STORE_RECORD_OVERHEAD is what a live record costs beyond its
 * bytes.
 */
struct record {
	UT_hash_handle hh;
	TAILQ_ENTRY(record) order;  /* of ns->used or ns->dead */
	TAILQ_ENTRY(record) death;  /* of dead_list() while dead */
	TAILQ_ENTRY(record) change; /* of store->changes, once sequence != 0 */
	struct namespace *ns;
	struct vector_clock clock;
	uint64_t sequence;
	int64_t updated_at_ms;
	int64_t ttl_ms;
	int64_t dead_since_ms; /* boot clock */
	uint8_t *value;
	uint32_t value_len;
	uint32_t heap_index;
	uint32_t key_len;
	uint32_t origin;
	uint32_t dead_cost; /* while dead: its part of stats.dead_bytes */
	uint8_t state;	    /* enum store_state or RECORD_DETACHED */
	bool pinned;	    /* a cursor may stand here */
	bool found;	    /* dead, and a foundling (store_dead.c) */
	uint8_t key[];
};

TAILQ_HEAD(record_list, record);

/* The records of an app; freed with its last one. */
struct namespace
{
	UT_hash_handle hh;
	uint64_t app_id;
	struct record *records;
	struct record_list used; /* live, least recently used first */
	struct record_list dead; /* tombstones and stubs, oldest first */
	uint64_t live_count;
	uint64_t charged; /* record_charge of the live ones */
	uint64_t dead_count;
	uint64_t dead_bytes;  /* record_charge of the dead ones */
	uint64_t found_bytes; /* dead_cost of the foundlings */
	uint64_t version;     /* of store->touched, at the last change */
	bool known;	      /* a record of it was live here */
};

struct ttl_slot {
	int64_t due_ms; /* wall clock */
	struct record *record;
};

/* A four-way heap, the next to expire first; records know their index. */
struct ttl_heap {
	struct ttl_slot *slots;
	size_t count;
	size_t size;
};

struct store {
	struct store_config config;
	struct namespace *namespaces;
	struct clock_members members;
	struct clock_member *self;
	clock_keep_fn is_peer;
	void *is_peer_arg;
	uint64_t last_counter;
	struct ttl_heap heap;
	struct record_list dead;   /* of all apps, oldest first, but for */
	struct record_list found;  /* foundlings, in the same order */
	uint64_t found_bytes;	   /* of stats.dead_bytes, of foundlings and the
				      apps that are made of them */
	uint64_t strange_bytes;	   /* of these, of apps not known */
	uint64_t long_clock_bytes; /* of live records, store_clock_fits */
	struct record_list changes;
	struct store_cursor *cursors;
	uint64_t low_mark;
	uint64_t lost_mark;
	uint64_t touched; /* counts the changes of all apps */
	struct store_stats stats;
};

/* ---- store_heap.c -------------------------------------------------------- */

/* Make room for one more. KMS_ENOMEM, KMS_EBUSY beyond 2^32-1 records. */
int ttl_heap_reserve(struct ttl_heap *heap);
/* Add a record with a ttl; room was reserved. */
void ttl_heap_add(struct ttl_heap *heap, struct record *record);
/* Remove one; nothing when it is not in. */
void ttl_heap_remove(struct ttl_heap *heap, struct record *record);
void ttl_heap_free(struct ttl_heap *heap);

/* ---- store_record.c ------------------------------------------------------ */

/* Where a key is, or would be. */
struct slot {
	uint64_t app_id;
	const void *key;
	size_t key_len;
	unsigned hash;
	struct namespace *ns;  /* NULL: the app has nothing */
	struct record *record; /* NULL: no such key */
};

struct namespace *namespace_find(const struct store *store, uint64_t app_id);
void slot_find(const struct store *store, uint64_t app_id, const void *key,
    size_t key_len, struct slot *slot);

/* What a record is about to hold. Owns value and clock until installed. */
struct content {
	enum store_state state;
	uint8_t *value;
	uint32_t value_len;
	struct vector_clock clock;
	int64_t updated_at_ms;
	int64_t ttl_ms;
	uint32_t origin;
	int64_t age_ms; /* that it has been dead elsewhere */
	bool brought;	/* by a peer */
};

/* A member of a clock with its interned name, as if nobody else had it. */
#define CLOCK_MEMBER_COST 160

/*
 * May a live record of the slot have this clock? Anybody's older tombstone
 * joins its clock to that of a record: one longer than CLOCK_MEMBERS_KEPT is
 * charged to all live records together, to a quarter of store_dead_bound; over
 * it none becomes longer.
 */
bool store_clock_fits(const struct store *store, const struct slot *slot,
    const struct vector_clock *clock);
/* Of a live record, before its clock changes and after. */
void store_clock_charge(
    struct store *store, const struct record *record, bool add);

/* Are that many stored bytes within max_value_size and its slack? */
bool store_value_fits(const struct store *store, size_t len);

/* A copy of len stored bytes for content. KMS_ENOMEM. */
int content_set_value(struct content *content, const void *value, size_t len);
void content_clear(struct store *store, struct content *content);

/*
 * Make the key of slot hold content, evicting and forgetting what has to go.
 * changed: give it the next sequence number. On success content is empty; on
 * KMS_ETOOBIG (quota) or KMS_ENOMEM nothing has changed and content is whole.
 * The slot's pointers are void afterwards.
 */
int store_write(struct store *store, struct slot *slot, struct content *content,
    bool changed, struct kms_time now);

/* Turn a live or evicted record whose time has come into an expired stub; it
 * may be forgotten, and its namespace, on the way. */
void record_expire(
    struct store *store, struct record *record, struct kms_time now);
bool record_is_overdue(const struct record *record, struct kms_time now);

/* Free a record of any state and its namespace if it was the last. */
void record_free(struct store *store, struct record *record);

/* The next sequence number for a record whose clock or content changed. */
void record_changed(struct store *store, struct record *record);

/* When the record's ttl runs out. */
int64_t record_due_ms(const struct record *record);

void record_view(const struct record *record, struct kms_time now,
    struct store_record *view);

/* ---- store_dead.c -------------------------------------------------------- */

/* Put a record into the lists of the dead, as the youngest, and into the
 * account; take it out of both, before its value, clock or found changes. */
void dead_add(struct store *store, struct record *record);
void dead_remove(struct store *store, struct record *record);

/* The list of all apps that a dead record is in. */
struct record_list *dead_list(struct store *store, const struct record *record);

/* A dead record has another clock. It may be forgotten, and its namespace. */
void dead_clock_changed(struct store *store, struct record *record);

/* A record of the app is live here, or died here. */
void namespace_known(struct store *store, struct namespace *ns);

/* Has it been dead for the retention? */
bool record_is_past_retention(const struct store *store,
    const struct record *record, struct kms_time now);

/* Is there room in the app for another tombstone or stub of this cost? */
bool record_may_die(
    const struct store *store, const struct namespace *ns, uint64_t cost);

/* May what a peer sent make a dead record of that many stored bytes and clock
 * members of the slot, given what all the dead cost? */
bool dead_is_welcome(const struct store *store, const struct slot *slot,
    size_t value_len, size_t members);

/* May it outlive its retention for a peer that has not acknowledged it? */
bool dead_may_be_held_back(
    const struct store *store, const struct record *record);

/* Drop a tombstone or stub and note what that means to the low mark. */
void record_forget(struct store *store, struct record *record);

/*
 * Hold the dead of an app, and of all apps, to their bounds, oldest first out.
 * Any dead record may be gone then, and its namespace, also this one.
 */
void dead_enforce(struct store *store, struct namespace *ns);
void dead_enforce_all(struct store *store);

/* ---- store_changes.c ----------------------------------------------------- */

/* A record is about to leave its place in the order of changes. */
void cursors_step_over(struct store *store, struct record *record);

#endif
