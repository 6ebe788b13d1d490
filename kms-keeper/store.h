/*
 * The key-value store of a node: records of apps in memory (PROTOCOL.md
 * section 7). Pure: time, hash seed and limits are inputs; no clock, socket
 * or random byte is read inside. Values are stored bytes (nonce, ciphertext,
 * tag) that the caller has encrypted or checked; no key or plaintext comes
 * here.
 *
 * A record is live, a tombstone (deleted), or a stub: expired or evicted, its
 * value freed, while key, clock, updated_at_ms, ttl_ms and the first 32 stored
 * bytes go on taking part in merging.
 *
 * Pointers handed out are borrowed until the next call that may change the
 * store (any but store_peek, store_list, store_each, store_stats). One thread.
 */
#ifndef KMS_KEEPER_STORE_H
#define KMS_KEEPER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "kms-keeper/merge.h"
#include "kms-keeper/siphash.h"
#include "kms-keeper/vector_clock.h"

struct store;

/*
 * What a live record costs an app's quota beyond its key and its stored
 * bytes: about what the process really spends on it (regress/bench/store.c).
 */
#define STORE_RECORD_OVERHEAD 256

#define STORE_APP_ID_MAX ((UINT64_C(1) << 63) - 1)

enum store_eviction { STORE_EVICT_LRU, STORE_EVICT_REJECT };

struct store_config {
	uint64_t max_app_storage; /* live bytes of an app: key, stored bytes and
				     STORE_RECORD_OVERHEAD of each record */
	uint64_t max_store;	  /* the same of all apps together; 0: none */
	uint64_t max_value_size;  /* stored bytes may be 128 more */
	uint64_t max_tombstones;  /* tombstones and stubs of an app; their bytes
				     are held to max_app_storage of their own,
				     those of all to store_dead_bound */
	int64_t tombstone_retention_ms;
	int64_t max_clock_skew_ms;
	enum store_eviction eviction;
	uint8_t hash_key[SIPHASH_KEY_LEN]; /* random, made at start */
};

/* The defaults of PROTOCOL.md section 9; hash_key is left zero. */
void store_config_init(struct store_config *config);

/* NULL when out of memory. The config is copied. */
struct store *store_new(const struct store_config *config);

/* Wipe and free everything; NULL is fine. Cursors must be closed before. */
void store_free(struct store *store);

/*
 * Drop all records (wiped). Sequence numbers and the last issued counter go
 * on from where they are; cursors stay open.
 */
void store_clear(struct store *store);

/* Our clock member, the canonical wallet: to be set before the first local
 * write. KMS_EINVAL, KMS_ENOMEM. */
int store_set_member(struct store *store, const char *member, size_t len);

/*
 * Who is a current peer: local writes drop the other members of a clock of
 * more than 64. Without one (NULL, the start) nothing is dropped.
 */
void store_set_peers(struct store *store, clock_keep_fn is_peer, void *arg);

/* ---- one record ---------------------------------------------------------- */

enum store_state {
	STORE_LIVE,
	STORE_TOMBSTONE, /* deleted */
	STORE_EXPIRED,	 /* stub; goes to peers as a tombstone with ttl_ms 0 */
	STORE_EVICTED,	 /* stub; goes to our own nodes only */
};

/* A record as seen from outside; everything is borrowed. */
struct store_record {
	uint64_t app_id;
	const uint8_t *key;
	size_t key_len;
	const uint8_t *value; /* stored bytes; of a stub the first 32 */
	size_t value_len;     /* 0 for a tombstone */
	const struct vector_clock *clock;
	int64_t updated_at_ms;
	int64_t ttl_ms;
	uint64_t sequence; /* of its last change */
	uint32_t origin;   /* who sent exactly this version; 0: nobody */
	enum store_state state;
	int64_t dead_since_ms; /* boot time, when it is not live */
	int64_t age_ms; /* since then, as the time was given; else unset */
};

enum store_found {
	STORE_FOUND,  /* live: *record is filled */
	STORE_ABSENT, /* never there, deleted or expired: 404 */
	STORE_GONE,   /* evicted here: ask the peers, else 410; *record holds
			 the stub */
};

/*
 * Read a record for an app, which makes it the most recently used one. A
 * record whose time has come is expired by this read. O(1), O(log n) when it
 * expires.
 */
enum store_found store_get(struct store *store, uint64_t app_id,
    const void *key, size_t key_len, struct kms_time now,
    struct store_record *record);

/* Look at a record of any state without touching it (for peers). An overdue
 * one is shown as STORE_EXPIRED. False: there is none. */
bool store_peek(const struct store *store, uint64_t app_id, const void *key,
    size_t key_len, struct kms_time now, struct store_record *record);

/*
 * Write stored bytes for an app (rule 4). The key is 1..65536 bytes, ttl_ms
 * 0 (never) .. 2^53. *updated_at_ms (may be NULL) is the stamp given.
 * KMS_ETOOBIG: over max_value_size or the quota (with eviction lru only when
 * it cannot fit however much of the app were evicted); KMS_ERANGE: our clock
 * counter is at its end; KMS_EINVAL; KMS_ENOMEM. On an error nothing changes.
 */
int store_put_local(struct store *store, uint64_t app_id, const void *key,
    size_t key_len, const void *value, size_t value_len, int64_t ttl_ms,
    struct kms_time now, int64_t *updated_at_ms);

/*
 * Delete for an app: leaves a tombstone (rule 4), also where a stub is.
 * KMS_ENOENT when there is nothing or a tombstone; else as store_put_local.
 */
int store_delete_local(struct store *store, uint64_t app_id, const void *key,
    size_t key_len, struct kms_time now);

/* ---- merging ------------------------------------------------------------- */

/* A record that a peer sent; everything is borrowed for the call. */
struct store_incoming {
	const void *key;
	size_t key_len;
	const void *value; /* stored bytes; the caller has seen them decrypt.
			      Not looked at for a tombstone */
	size_t value_len;
	const struct clock_item *clock;
	size_t clock_count;
	int64_t updated_at_ms;
	int64_t ttl_ms; /* any; what is not in 0..2^53 is 0 */
	bool tombstone;
	bool expired; /* an expired stub: value holds its first 32 stored bytes
			at most, ttl_ms is the one it ran out of */
	bool evicted; /* an evicted stub: value and ttl_ms as of an expired one
		       */
	int64_t age_ms;	 /* of an evicted stub, since its eviction */
	uint32_t origin; /* the sender, for store_record.origin; 0: untold */
	bool revive; /* the answer to a record_request for an evicted stub: the
			same version gives it its value back */
};

enum store_merge_outcome {
	STORE_MERGED,  /* stored, or ours won and took over the joined clock */
	STORE_SKIPPED, /* nothing changed: we have it or something newer */
	STORE_REJECTED,
};

struct store_merge_result {
	enum store_merge_outcome outcome;
	const char *reason; /* one static word for skip_reasons and logs: same,
			       older, clock, size, future, quota, malformed,
			       memory; NULL when merged */
	bool taken;	    /* the contents are now theirs */
};

/*
 * Rules 1 to 3 for one record (but for the decryption, which the caller has
 * tried). A record rejected for "memory" or "quota" may be sent again.
 *
 * An evicted stub takes the place of what is older, and becomes one here; the
 * same version, live, is not touched by it. Where there is nothing it is taken
 * while it is younger than the retention and there is room for it; it stays
 * what it was there, and is forgotten no later than a retention from now.
 *
 * Of the room for the dead of all apps, those that peers bring where there was
 * nothing get a share: over it they are skipped for "quota".
 */
struct store_merge_result store_merge(struct store *store, uint64_t app_id,
    const struct store_incoming *incoming, struct kms_time now);

/*
 * Forget one record of any state as if it had never been here. KMS_ENOENT.
 * For the node that was away longer than the retention: what it drops was
 * deleted, and the tombstones are gone.
 */
int store_drop(
    struct store *store, uint64_t app_id, const void *key, size_t key_len);

/* ---- time ---------------------------------------------------------------- */

/*
 * Expire what is due and forget tombstones and stubs past their retention,
 * at most max_work records. Returns how many there were; max_work means that
 * more may be waiting.
 */
size_t store_tick(struct store *store, struct kms_time now, size_t max_work);

/* Milliseconds until store_tick has work: 0 when it has some now, -1 never. */
int64_t store_next_tick(const struct store *store, struct kms_time now);

/* ---- many records -------------------------------------------------------- */

struct store_key {
	const uint8_t *bytes; /* borrowed as above */
	size_t len;
};

struct store_keys {
	struct store_key *keys; /* sorted by bytes */
	size_t count;
	bool more; /* there are further keys behind the last */
};

/*
 * The live keys of an app that begin with prefix and come after `after`
 * (after_len 0: from the first), at most limit (0: all), sorted by bytes. The
 * only operation that scans a namespace. KMS_ENOMEM. Free with
 * store_keys_free.
 */
int store_list(const struct store *store, uint64_t app_id, const void *prefix,
    size_t prefix_len, const void *after, size_t after_len, size_t limit,
    struct kms_time now, struct store_keys *keys);
void store_keys_free(struct store_keys *keys);

/* Call each with every record of an app, or of all with app_id 0, in any
 * order, until it returns false. It must not change the store. */
typedef bool (*store_each_fn)(const struct store_record *record, void *arg);
void store_each(
    const struct store *store, uint64_t app_id, store_each_fn each, void *arg);

/* Call each with every app that has a record of any state, in any order. */
typedef void (*store_each_app_fn)(uint64_t app_id, void *arg);
void store_each_app(
    const struct store *store, store_each_app_fn each, void *arg);

/* Changes whenever a record of the app comes, goes, or changes its contents or
 * state, and never returns to what it was; 0: the app has no records. O(1). */
uint64_t store_app_version(const struct store *store, uint64_t app_id);

/* Records of any state of an app. O(1). */
uint64_t store_app_records(const struct store *store, uint64_t app_id);

struct store_stats {
	uint64_t namespaces; /* apps with a record of any state */
	uint64_t live_keys;
	uint64_t live_bytes;	/* keys and stored bytes of live records */
	uint64_t charged_bytes; /* the same with STORE_RECORD_OVERHEAD */
	uint64_t dead_keys;	/* tombstones and stubs */
	uint64_t dead_bytes;	/* what they and their apps' tables cost */
	uint64_t evictions;	/* since start, as the following */
	uint64_t expirations;
	uint64_t forgotten; /* tombstones and stubs dropped */
	uint64_t sequence;  /* the last number given out */
};

/* O(1). */
struct store_stats store_stats(const struct store *store);

/* What stats.dead_bytes is held to: 64 times max_tombstones records of 512
 * bytes. */
uint64_t store_dead_bound(const struct store *store);

/* The live bytes an app is charged for; 0 when it has none. O(1). */
uint64_t store_app_charged(const struct store *store, uint64_t app_id);

/* ---- changes, for replication -------------------------------------------- */

/*
 * A place in the order of changes. A cursor keeps its place when records move
 * to the end or vanish; going on is O(1).
 */
struct store_cursor {
	struct store *store;
	struct store_cursor *next, **prev; /* of the store's open cursors */
	struct record *at;		   /* next to visit; NULL: look behind
					      `after` */
	uint64_t after; /* sequence of the last record visited */
};

/*
 * Open before the first change behind sequence `after`. O(1) for 0, else in
 * the number of records changed since.
 */
void store_cursor_open(
    struct store *store, struct store_cursor *cursor, uint64_t after);

/* A second cursor at the place of the first (to go back to when a batch
 * fails). */
void store_cursor_copy(struct store_cursor *to, struct store_cursor *from);
void store_cursor_close(struct store_cursor *cursor);

/* The next changed record, in order of sequence, in its present state; false
 * at the end. A record that changes again is visited again. */
bool store_cursor_next(struct store_cursor *cursor, struct kms_time now,
    struct store_record *record);

/* What store_cursor_next would return, without going on; O(1) but for the first
 * time after the end was reached. */
bool store_cursor_peek(struct store_cursor *cursor, struct kms_time now,
    struct store_record *record);

/*
 * Every current peer has acknowledged the changes up to this sequence:
 * tombstones and stubs above it outlive their retention while there is room.
 * UINT64_MAX, the start, holds nothing back. Eviction, too, prefers live
 * records at or below it: what no peer holds yet is not given up first.
 */
void store_set_low_mark(struct store *store, uint64_t sequence);

/* The highest sequence of a tombstone or stub that had to be dropped above
 * the low mark (0: none): a peer's mark below it is void. */
uint64_t store_lost_mark(const struct store *store);

#endif
