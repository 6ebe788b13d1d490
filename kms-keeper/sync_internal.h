/* What the engine's files share and nobody else includes. */
#ifndef KMS_KEEPER_SYNC_INTERNAL_H
#define KMS_KEEPER_SYNC_INTERNAL_H

#include <sys/queue.h>

#include "kms-keeper/sync.h"
#include "kms-keeper/table.h"

#define BUCKETS 256
#define BUCKET_MAP_LEN (BUCKETS / 8)
#define ORIGIN_UNKNOWN UINT32_MAX /* from a peer, but which is not certain */
#define REFUSED_MAX 64		  /* records a peer */
#define REFUSED_KEY_MAX 1024
#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 10000
#define PAGE_APPS 2048	   /* apps of one digest_request with roots */
#define DETAIL_APPS 16	   /* apps of one digest_request with buckets */
#define GROUP_HASHES 30000 /* hashes of one bucket_request */
#define GROUP_APPS 256	   /* apps of one bucket_request */
#define SMALL_APP 512	   /* records: below it buckets are not worth asking */
#define WANT_MAX 65536	   /* hashes of one answer */
#define REPAIR_LEASE_MS 30000 /* one repair, when others wait */
#define REPAIR_STAGGER_MS 5000
#define REPAIRS_MAX 4
#define REQUEST_VOID_MS 60000
#define DIGEST_CACHE_MAX 512
#define DIGEST_CACHE_MS 60000

/* ---- sync_digest.c ------------------------------------------------------- */

struct sync_digest {
	uint64_t root;
	uint64_t bucket[BUCKETS];
	uint64_t records;
};

struct digest_cache {
	UT_hash_handle hh;
	uint64_t app_id, version;
	int64_t made_ms;
	struct sync_digest digest;
};

/* ---- a peer -------------------------------------------------------------- */

/* A record sent or known to be held, in a batch under way. */
struct push_entry {
	uint64_t key, sequence;
};

/* A record that the peer rejected. */
struct refused {
	TAILQ_ENTRY(refused) link;
	uint64_t app_id;
	int64_t retry_ms;
	unsigned int tries;
	uint32_t key_len;
	uint8_t key[];
};

TAILQ_HEAD(refused_list, refused);

struct push {
	struct store_cursor cursor[2]; /* acknowledged; end of the batch */
	int at;			       /* which is the acknowledged one */
	uint64_t id;		       /* of the batch under way, 0: none */
	int64_t sent_ms, due_ms, retry_ms;
	unsigned int failures, rejections;
	size_t limit;		 /* records a batch, while halved */
	size_t sent;		 /* records in the batch */
	size_t bytes;		 /* of it */
	size_t taken;		 /* bytes that it has taken at once, ever */
	struct refused *retried; /* the batch is this one again */
	bool again;		 /* so was the last one */
	struct push_entry *entries;
	size_t entry_count, entry_size;
	struct refused_list refused; /* the next to retry first */
	size_t refused_count;
	bool greeted; /* it has answered a delta since it is a peer */
};

enum repair_step {
	REPAIR_IDLE,
	REPAIR_ROOTS,
	REPAIR_DETAIL,
	REPAIR_PULL,
	REPAIR_PUSH,
	REPAIR_SNAPSHOT,
};

/* An app that differs. */
struct repair_app {
	uint64_t app_id;
	bool detailed;		       /* its buckets were compared */
	uint8_t map[BUCKET_MAP_LEN];   /* that are left to exchange */
	uint8_t asked[BUCKET_MAP_LEN]; /* in the message under way */
	uint64_t *want;		       /* hashes the peer asked for */
	size_t want_count;
};

struct repair {
	enum repair_step step;
	uint64_t id; /* of the message under way */
	int64_t sent_ms, started_ms, due_ms;
	unsigned int failures;
	uint64_t base;		 /* our sequence when it began */
	uint64_t after, through; /* apps of the page */
	bool last_page;
	struct repair_app *apps;
	size_t count;
	size_t next;		 /* first app not yet pulled */
	size_t group;		 /* apps of the message under way */
	uint64_t page_app, page; /* of the group: where an answer ended */
	size_t sent;		 /* records of the delta under way */
	uint64_t moved;		 /* records either way in this repair */
	uint64_t left;		 /* that the peer rejected */
	bool differed;
	bool dropping;	/* we were away too long, the peer was not */
	uint64_t *seen; /* keys that it sent, while dropping */
	size_t seen_count, seen_size;
};

struct sync_peer {
	TAILQ_ENTRY(sync_peer) link;
	char wallet[SYNC_WALLET_LEN + 1];
	char boot[SYNC_BOOT_MAX + 1];
	enum sync_kind kind;
	uint32_t number;	  /* of no other peer, ever */
	uint32_t incarnation;	  /* for store_record.origin */
	bool current;		  /* while the list is being replaced */
	bool needs_repair;	  /* the mark stands for our own writes only */
	bool owes_snapshot;	  /* pushed to without having given one */
	unsigned int unsupported; /* extensions it listed and refused */
	bool tried, answered;	  /* since we came back from too long away */
	int64_t contact_ms;
	int64_t voided_ms; /* by a snapshot_request */
	uint64_t lost_seen;
	uint64_t too_large, repairs;
	const char *last_error;
	struct push push;
	struct repair repair;
};

TAILQ_HEAD(sync_peer_list, sync_peer);

struct sync_wait {
	TAILQ_ENTRY(sync_wait) link;
	void *cookie;
	uint64_t app_id, key, sequence;
	int64_t deadline_ms;
	unsigned int wanted, got;
	uint32_t by[]; /* the peers counted, room for wanted */
};

TAILQ_HEAD(sync_wait_list, sync_wait);

#define FETCH_PEERS 3
#define FETCH_TIMEOUT_MS 1000

struct sync_fetch {
	TAILQ_ENTRY(sync_fetch) link;
	void *cookie;
	uint64_t id, app_id;
	int64_t sent_ms;
	unsigned int asked; /* peers */
	size_t first;	    /* where among the peers it began */
	bool over, found;
	uint32_t key_len;
	uint8_t key[];
};

TAILQ_HEAD(sync_fetch_list, sync_fetch);

struct sync {
	struct sync_config config;
	struct sync_ops ops;
	struct store *store;
	struct sync_peer_list peers;
	size_t peer_count;
	struct sync_wait_list waits;
	struct sync_fetch_list fetches;
	uint64_t last_id;
	uint32_t last_incarnation;
	int64_t entropy_ms;	/* when some peer is compared with again */
	unsigned int fruitless; /* comparisons that differed for nothing */
	int64_t repair_started_ms;
	int64_t contact_ms;	   /* last contact with any peer */
	int64_t touch_ms;	   /* since when never away too long */
	uint64_t contact_sequence; /* of the store, then */
	uint64_t acked_sequence;   /* some peer holds what lies below */
	bool stale;
	uint64_t
	    doubt_sequence; /* then, records of peers are in doubt up to it, */
	uint64_t doubt_acked;	/* and ours up to it */
	int64_t stale_since_ms; /* last contact before */
	uint8_t item_key[SIPHASH_KEY_LEN], bucket_key[SIPHASH_KEY_LEN];
	struct digest_cache *cache;
	struct buf scratch; /* a record to be hashed */
	struct buf body;    /* a message being made */
	struct record_reader reader;
	struct record_list_item *items; /* config.batch_records of them */
	struct sync_stats stats;
};

/* ---- sync_digest.c ------------------------------------------------------- */

int sync_digest_keys(struct sync *sync);
void sync_digest_free(struct sync *sync);

/* The hash of a key of an app: its first byte is the bucket. */
uint64_t sync_key_hash(
    const struct sync *sync, uint64_t app_id, const void *key, size_t len);

/* The hash of all that nodes must agree on; 0 without memory. */
uint64_t sync_item_hash(struct sync *sync, const struct store_record *record);

/* Dead for longer than the retention: others may have forgotten it. */
bool sync_is_fading(const struct sync *sync, const struct store_record *record,
    struct kms_time now);

/* The digests of an app; borrowed until the next call. NULL without memory. */
const struct sync_digest *sync_digest_app(
    struct sync *sync, uint64_t app_id, struct kms_time now);

/* The IDs of the apps above after, sorted, at most max: a new array (free);
 * *more: there are further ones. KMS_ENOMEM. */
int sync_apps_after(const struct sync *sync, uint64_t after, size_t max,
    uint64_t **apps, size_t *count, bool *more);

/* A record that stands here and, as the time is, how it is sent. */
struct store_record sync_view_now(
    const struct store_record *record, struct kms_time now);

int sync_hash_compare(const void *a, const void *b);
bool sync_hash_find(
    const uint64_t *sorted, size_t count, uint64_t hash, size_t *index);

/* ---- sync.c -------------------------------------------------------------- */

struct sync_peer *sync_peer_find(const struct sync *sync, const char *wallet);
uint64_t sync_send(struct sync *sync, struct sync_peer *peer);
int64_t sync_backoff(struct sync *sync, unsigned int failures);
/* The start of a message: {"type":…,"sender_wallet":…[,"boot":…] */
int sync_body_begin(struct sync *sync, enum sync_type type, bool boot);
void sync_contact(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
/* Note the boot that an answer gave; another one voids the mark. */
void sync_note_boot(struct sync *sync, struct sync_peer *peer,
    struct slice boot, struct kms_time now);
/* The peer's mark stands no more. */
void sync_void(struct sync *sync, struct sync_peer *peer, int64_t due_ms);
/* A peer was tried after we came back: perhaps all were. */
void sync_stale_tried(struct sync *sync, struct sync_peer *peer, bool answered);
void sync_stale_over(struct sync *sync);

/* Merge one record of a peer; NULL in: malformed. */
struct store_merge_result sync_merge(struct sync *sync, uint64_t app_id,
    struct store_incoming *in, uint32_t origin, struct kms_time now);

/* ---- sync_wait.c --------------------------------------------------------- */

void sync_waits_acknowledged(struct sync *sync, struct sync_peer *peer);
void sync_waits_tick(struct sync *sync, struct kms_time now);
void sync_waits_free(struct sync *sync);
bool sync_fetch_answer(struct sync *sync, uint64_t id,
    const struct sync_outcome *outcome, struct kms_time now);

/* ---- sync_peer.c --------------------------------------------------------- */

struct sync_peer *sync_peer_new(
    struct sync *sync, const char *wallet, struct kms_time now);
void sync_peer_free(struct sync *sync, struct sync_peer *peer);
void sync_push_due(struct sync_peer *peer, int64_t at_ms);
void sync_push_tick(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
void sync_push_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_outcome *outcome, struct kms_time now);
int64_t sync_push_next(
    const struct sync *sync, const struct sync_peer *peer, struct kms_time now);
/* Start again behind this sequence. */
void sync_push_from(
    struct sync *sync, struct sync_peer *peer, uint64_t sequence);
uint64_t sync_push_mark(const struct sync_peer *peer);
bool sync_counts_are_whole(const struct sync_counts *counts, size_t sent);

/* ---- sync_repair.c ------------------------------------------------------- */

void sync_repair_begin(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
void sync_repair_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_outcome *outcome, struct kms_time now);
void sync_repair_stop(struct sync_peer *peer);
void sync_repair_failed(struct sync *sync, struct sync_peer *peer,
    const char *why, struct kms_time now);

/* Close the body and send it; with an error the repair fails. */
void sync_repair_send(
    struct sync *sync, struct sync_peer *peer, int error, struct kms_time now);

/* ---- sync_want.c --------------------------------------------------------- */

bool sync_map_has(const uint8_t map[BUCKET_MAP_LEN], unsigned int bucket);

/* An app of a bucket_request: its buckets, and our hashes in them. */
int sync_have_write(struct sync *sync, const struct repair *repair,
    const struct repair_app *app, bool first, struct kms_time now);

/* Send what the group's apps are asked for, a batch of it. False: nothing is
 * asked for any more. */
bool sync_want_send(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);

#endif
