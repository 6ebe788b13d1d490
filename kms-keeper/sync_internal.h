/* What the engine's files share and nobody else includes. */
#ifndef KMS_KEEPER_SYNC_INTERNAL_H
#define KMS_KEEPER_SYNC_INTERNAL_H

#include <sys/queue.h>

#include "kms-keeper/sync.h"
#include "kms-keeper/sync_wire.h"
#include "kms-keeper/table.h"

#define ORIGIN_UNKNOWN UINT32_MAX /* from a peer, but which is not certain */
#define REFUSED_MAX 64		  /* records a peer */
#define REFUSED_KEY_MAX 1024
#define ALWAYS_TAKEN 16384 /* bytes of a message no node is too small for */
#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 10000
#define LIST_MAX 64	      /* items of a node that is listed, not divided */
#define CHUNK_MAX 4096	      /* of one whose other side is small */
#define MESSAGE_NODES 256     /* of one digest_request */
#define MESSAGE_APPS 2048     /* listed in one digest_request */
#define GROUP_HASHES 30000    /* of one bucket_request */
#define GROUP_NODES 8192      /* of one bucket_request */
#define LISTED_MAX 65536      /* hashes of one node that a peer may list */
#define PASSES_MAX 3	      /* comparisons of one repair */
#define REPAIR_LEASE_MS 30000 /* one repair, when others wait */
#define REPAIR_STAGGER_MS 5000
#define REPAIRS_MAX 4
#define REQUEST_VOID_MS 60000
#define TREE_MS 60000 /* what is fading changes meanwhile */

/* ---- sync_tree.c --------------------------------------------------------- */

/* A record of an app, or in tree 0 an app. */
struct tree_item {
	uint64_t key, hash;
	uint64_t sum; /* of the hashes before it */
	union {
		const uint8_t *bytes; /* the record's key, in the store */
		uint64_t app_id;
	};
	uint32_t len;
	bool fading; /* not in the sums: see sync_is_fading */
};

struct tree {
	UT_hash_handle hh;
	uint64_t app_id, version;
	int64_t made_ms;
	uint64_t root;		 /* the sum of all */
	uint64_t records;	 /* that are not fading */
	struct tree_item *items; /* by key; NULL: the root alone is known */
	size_t count;
};

struct tree_range {
	size_t first, end;
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
	size_t limit;		 /* records a batch, while halved; else 0 */
	size_t sent;		 /* records in the batch */
	size_t bytes;		 /* of it */
	size_t taken;		 /* bytes that it has taken at once, ever */
	bool more;		 /* there were others behind it */
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
	REPAIR_DIGESTS,
	REPAIR_PULL,
	REPAIR_PUSH,
	REPAIR_SNAPSHOT,
};

struct repair_node {
	uint64_t app_id; /* 0: of the tree of apps */
	struct tree_node node;
	bool listed;	   /* of tree 0: its apps are named */
	uint16_t answered; /* children that the peer has gone on with */
};

struct node_list {
	struct repair_node *nodes;
	size_t count, size;
};

/* Records of an app that the peer asked for. */
struct repair_want {
	uint64_t app_id;
	uint64_t *hashes; /* shortened, sorted */
	size_t count;
};

/* A version that the peer has and we want. */
struct repair_rival {
	uint64_t app_id;
	struct tree_node leaf;
	uint64_t key; /* sync_rival_key */
};

struct repair {
	enum repair_step step;
	uint64_t id; /* of the message under way */
	int64_t sent_ms, started_ms, due_ms;
	int64_t rest_ms; /* without a message under way: when it goes on */
	size_t bytes;	 /* of the message, then of the answer, too */
	size_t sent_bytes;
	unsigned int failures;
	unsigned int passes;
	uint64_t base;		   /* our sequence when it began */
	struct short_form form;	   /* of the digests */
	struct node_list open;	   /* nodes that differ, to be divided */
	size_t asked;		   /* of them, the last, in the message */
	struct node_list leaves;   /* to be exchanged: by app, in order */
	size_t next, group;	   /* the first not exchanged; in the message */
	uint64_t page_app, page;   /* of the group: where an answer ended */
	struct repair_want *wants; /* of the group, by app */
	size_t want_count;
	struct repair_rival *chosen; /* to be got */
	size_t chosen_count, chosen_size;
	bool choosing;	  /* the message under way asks for them */
	uint64_t *spared; /* keys of ours that would lose there */
	size_t spared_count, spared_size;
	uint64_t push_app, pushed; /* of wants, what was sent up to here */
	size_t sent;		   /* records of the delta under way */
	uint64_t one_app;	   /* ... and which it is, if it is one */
	size_t one_len;
	uint8_t one[REFUSED_KEY_MAX];
	uint64_t moved; /* records either way in this repair */
	uint64_t left;	/* that the peer rejected */
	bool differed;	/* in this pass */
	bool dropping;	/* we were away too long, the peer was not */
	bool dropped;	/* of this group, what is to be dropped */
	bool unfilled;	/* the peer itself lacks what others have */
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
	bool compared;		  /* all it has was taken, since our start */
	unsigned int fill_failures; /* attempts at that, in a row */
	bool withheld;		    /* it sent stubs that were not taken yet */
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
	bool all_tried; /* every peer was compared with, or failed */
	uint64_t
	    doubt_sequence; /* then, records of peers are in doubt up to it, */
	uint64_t doubt_acked;	/* and ours up to it */
	int64_t stale_since_ms; /* last contact before */
	uint8_t item_key[SIPHASH_KEY_LEN], bucket_key[SIPHASH_KEY_LEN];
	struct tree *trees; /* of apps, made anew when the app has changed */
	int64_t trees_ms;   /* when they were last looked through */
	struct buf scratch; /* a record to be hashed */
	struct buf body;    /* a message being made */
	struct record_reader reader;
	struct record_list_item *items; /* sync_items_max of them */
	struct sync_stats stats;
};

/* ---- sync_digest.c ------------------------------------------------------- */

int sync_digest_keys(struct sync *sync);

/* The hash of a key of an app: its place in the app's tree. */
uint64_t sync_key_hash(
    const struct sync *sync, uint64_t app_id, const void *key, size_t len);

/* The hash of all that nodes must agree on; 0 without memory. */
uint64_t sync_item_hash(struct sync *sync, const struct store_record *record);

/* Dead for longer than the retention: others may have forgotten it. */
bool sync_is_fading(const struct sync *sync, const struct store_record *record,
    struct kms_time now);

/* A record that stands here and, as the time is, how it is sent. */
struct store_record sync_view_now(
    const struct store_record *record, struct kms_time now);

int sync_hash_compare(const void *a, const void *b);
bool sync_hash_find(
    const uint64_t *sorted, size_t count, uint64_t hash, size_t *index);

/* ---- sync_tree.c --------------------------------------------------------- */

/* The tree of an app with its items, made when there is none of this version;
 * borrowed until the store changes. NULL without memory. */
const struct tree *sync_tree(
    struct sync *sync, uint64_t app_id, struct kms_time now);

/* The hash of an app's ID: its place in tree 0. */
uint64_t sync_app_place(const struct sync *sync, uint64_t app_id);

/* The tree of apps into *tree, to be cleared. KMS_ENOMEM. */
int sync_tree_of_apps(
    struct sync *sync, struct tree *tree, struct kms_time now);
void sync_tree_clear(struct tree *tree);
const struct tree_item *sync_tree_find_app(
    const struct sync *sync, const struct tree *tree, uint64_t app_id);

/* The items of a node. O(log n), as what follows. */
struct tree_range tree_range(const struct tree *tree, struct tree_node node);
uint64_t tree_digest(const struct tree *tree, struct tree_range range);
void tree_children(const struct tree *tree, struct tree_node node,
    struct short_form form, uint64_t digests[TREE_FANOUT]);

void sync_trees_tick(struct sync *sync, struct kms_time now);
void sync_trees_free(struct sync *sync);
size_t sync_trees_memory(const struct sync *sync);

/* ---- sync.c -------------------------------------------------------------- */

/* Room in sync->items. */
size_t sync_items_max(const struct sync *sync);
struct sync_peer *sync_peer_find(const struct sync *sync, const char *wallet);
uint64_t sync_send(struct sync *sync, struct sync_peer *peer);
int64_t sync_backoff(struct sync *sync, unsigned int failures);
/* The rest after a message of so many bytes, both ways, that is answered. */
int64_t sync_rest_ms(size_t bytes, int64_t sent_ms, struct kms_time now);
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
/* The lowest sequence that a write waits for; UINT64_MAX: none waits. */
uint64_t sync_waits_first(const struct sync *sync);
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
    const struct sync *sync, struct sync_peer *peer, struct kms_time now);
/* Start again behind this sequence. */
void sync_push_from(
    struct sync *sync, struct sync_peer *peer, uint64_t sequence);
uint64_t sync_push_mark(const struct sync_peer *peer);
/* Can 413 to a message of so many bytes be true? Nobody signs it. */
bool sync_may_be_too_large(const struct sync_peer *peer, size_t bytes);
/* Keep a record that the peer refused, to try it again later; false: there are
 * too many. */
bool sync_refused_keep(struct sync_peer *peer, uint64_t app_id, const void *key,
    size_t key_len, const char *why, struct kms_time now);
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

/* Go on with whatever is next. */
void sync_repair_next(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);

/* Is it between two messages, until repair.rest_ms? */
bool sync_repair_rests(const struct sync_peer *peer);
/* Go on after the rest. */
void sync_repair_tick(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);

/* All that the peer has was taken; whole: and it has had all there is. */
void sync_filled_from(struct sync *sync, struct sync_peer *peer, bool whole);
/* An attempt at that did not come to its end. */
void sync_fill_failed(struct sync_peer *peer);
/* So often that nobody should wait for it. */
bool sync_fill_is_vain(const struct sync_peer *peer);

/* ---- sync_descend.c ------------------------------------------------------ */

/* The roots, and what follows. */
void sync_descend_begin(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
/* Ask about the nodes that are open. */
void sync_descend_send(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
/* KMS_EINVAL, KMS_ENOMEM. */
int sync_descend_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now);
void node_list_free(struct node_list *list);
void node_list_sort(struct repair_node *nodes, size_t count);

/* ---- sync_exchange.c ----------------------------------------------------- */

/* The next group of leaves, or the rest of this one. */
void sync_exchange_begin(struct sync *sync, struct repair *repair);
void sync_exchange_pull(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
/* KMS_EINVAL, KMS_ENOMEM. */
int sync_exchange_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now);
void sync_exchange_done(struct repair *repair);
/* Merge the records of an answer. KMS_EINVAL, KMS_ENOMEM. */
int sync_exchange_take(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, bool stubs, struct kms_time now);

/* ---- sync_want.c --------------------------------------------------------- */

/* Send what the group's apps are asked for, a batch of it. False: nothing is
 * asked for any more, or it failed. */
bool sync_want_send(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);

/* ---- sync_rivals.c --------------------------------------------------------
 */

/* A version of a record in eight bytes: the last three of its key's hash, and
 * of updated_at_ms the last five. */
uint64_t sync_rival(uint64_t key, int64_t updated_at_ms);
/* The first of that, in place. */
uint64_t sync_rival_key(uint64_t key);

/* Which of the versions that an answer names do we want, and which of ours
 * are not worth sending? KMS_EINVAL, KMS_ENOMEM. */
int sync_rivals_read(struct sync *sync, struct repair *repair,
    struct slice rivals, struct short_form form, struct kms_time now);
/* The chosen ones, by app and leaf, as the member "apps". */
int sync_rivals_write(struct sync *sync, const struct repair *repair);
bool sync_rivals_is_spared(const struct repair *repair, uint64_t key);
void sync_rivals_free(struct repair *repair);

/* ---- sync_compare.c, sync_buckets.c: requests of those two types --------- */

unsigned int sync_answer_digest(struct sync *sync, struct sync_peer *peer,
    struct slice object, struct kms_time now, struct buf *answer);
unsigned int sync_answer_bucket(struct sync *sync, struct sync_peer *peer,
    struct slice object, struct kms_time now, struct buf *answer);
void sync_give_way(
    struct sync *sync, struct sync_peer *peer, struct kms_time now);
unsigned int sync_answer_busy(
    struct sync *sync, struct kms_time now, struct buf *answer);
unsigned int sync_status_of(int error);

/* ---- sync_answer.c ------------------------------------------------------- */

/* The start of an answer: {"status":…,"boot":… */
int sync_answer_begin(struct sync *sync, struct buf *answer, bool ok);

#endif
