/*
 * Replication between the nodes of a cluster (PROTOCOL.md section 7): every
 * change reaches every peer, nodes without common marks compare digests and
 * exchange what differs, and a node that was away too long brings nothing
 * deleted back. Pure: messages, time and randomness in, messages out. What
 * authenticates, seals and carries messages stands around it: here a peer is
 * its canonical wallet, and its messages are the plaintext of envelopes that
 * have been verified.
 *
 * Memory is bounded by the number of peers and apps, whatever peers do; each
 * peer has its own pace, retries and at most two messages under way.
 */
#ifndef KMS_KEEPER_SYNC_H
#define KMS_KEEPER_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "kms-keeper/record_json.h"
#include "kms-keeper/store.h"

#define SYNC_WALLET_LEN 42
#define SYNC_BOOT_MAX 64
#define SYNC_DIGEST_KEY_LEN 32
#define SYNC_PEERS_MAX 1024
#define SYNC_WAITS_APP_MAX 64 /* writes of an app that wait for replicas */
#define SYNC_WAITS_MAX 4096
#define SYNC_FETCHES_MAX 256
#define SYNC_COALESCE_MS 10 /* from a write to its push */
#define SYNC_BATCH_BYTES 1000000
#define SYNC_BULK_BYTES 250000 /* of a message that a rest follows */
#define SYNC_REST_MS 75	       /* at most */
#define SYNC_BATCH_TIMES 4 /* sync-batch, to one of ours that is far behind */
#define SYNC_DEPLOYED_GAP_MS 3000

enum sync_kind {
	SYNC_KIND_UNKNOWN,  /* has answered nothing: deployed types only */
	SYNC_KIND_OURS,	    /* its delta answer listed our extensions */
	SYNC_KIND_DEPLOYED, /* its did not */
};

struct sync_config {
	char wallet[SYNC_WALLET_LEN + 1]; /* ours, canonical */
	char boot[SYNC_BOOT_MAX + 1];	  /* random text, made at start: 16
					     characters do, each message has it */
	uint8_t digest_key[SYNC_DIGEST_KEY_LEN]; /* from the sync key */
	size_t batch_records;			 /* sync-batch */
	int64_t interval_ms;			 /* sync-interval */
	int64_t retention_ms;			 /* tombstone-retention */
	int64_t replica_timeout_ms;		 /* replica-timeout */
	int64_t request_timeout_ms; /* until a message counts as failed */
};

/* The defaults of PROTOCOL.md section 9; names and keys are left empty. */
void sync_config_init(struct sync_config *config);

struct sync_ops {
	/*
	 * Send an inner message to a peer. body is borrowed for the call. What
	 * comes of it is told by sync_answer with this id, not from within the
	 * call; an id that is never answered times out.
	 */
	void (*send)(void *arg, const char *wallet, uint64_t id,
	    const void *body, size_t len);
	/* A write that waited: k peers hold it, met says if that is enough. */
	void (*replicas_done)(
	    void *arg, void *cookie, unsigned int k, bool met);
	/* What sync_fetch found out: the value is in the store again, or no
	 * peer that answered has it. */
	void (*fetched)(void *arg, void *cookie, bool found);
	/* Do these stored bytes decrypt under the app's data key? */
	bool (*value_ok)(
	    void *arg, uint64_t app_id, const void *stored, size_t len);
	uint64_t (*random)(void *arg); /* for jitter and choices only */
	void *arg;
};

struct sync;

/* NULL when out of memory. store is borrowed for life; config is copied. */
struct sync *sync_new(const struct sync_config *config,
    const struct sync_ops *ops, struct store *store, struct kms_time now);

/* Waiting writes and fetches are not told. NULL is fine. */
void sync_free(struct sync *sync);

/* The current peers (canonical wallets, without our own): the others are
 * forgotten, new ones greeted. KMS_ENOMEM (some may be missing), KMS_ERANGE
 * above SYNC_PEERS_MAX (nothing changed). */
int sync_set_peers(struct sync *sync, const char *const *wallets, size_t count,
    struct kms_time now);

/* There is nothing to be had from others: this node made the secret. */
void sync_set_filled(struct sync *sync);

/* The store changed by a local write. */
void sync_local_change(struct sync *sync, struct kms_time now);

/* Send to a peer at once, the empty message if there is nothing else: its
 * answer shows that it is there. An unknown peer is ignored. */
void sync_greet(struct sync *sync, const char *wallet, struct kms_time now);

/* Do what is due. */
void sync_tick(struct sync *sync, struct kms_time now);

/* Of that only this: tell those whose wait (below) is over. */
void sync_waits_tick(struct sync *sync, struct kms_time now);

/* Milliseconds until sync_tick has work, at most 1000. */
int64_t sync_next(const struct sync *sync, struct kms_time now);

/* ---- answers to what we sent --------------------------------------------- */

struct sync_outcome {
	int error;	     /* 0, or KMS_E*: no verified answer came */
	unsigned int status; /* HTTP status when there was one, else 0 */
	const char *body;    /* of a verified 2xx answer: its plaintext */
	size_t len;
};

/* Borrowed for the call. An unknown id (a late answer) is ignored. */
void sync_answer(struct sync *sync, uint64_t id,
    const struct sync_outcome *outcome, struct kms_time now);

/* ---- requests of peers --------------------------------------------------- */

/*
 * Serve an authenticated inner message of a peer: appends the answer's
 * plaintext to answer and returns its HTTP status: 200; 400 for what is
 * malformed or of an unknown type, and for the two types about the secret,
 * which are not served here; 403 when sender_wallet is another; 503 without
 * memory. On others than 200 nothing is appended. A wallet that is no current
 * peer is served, but nothing is remembered of it.
 */
unsigned int sync_request(struct sync *sync, const char *wallet,
    const char *body, size_t len, struct kms_time now, struct buf *answer);

/* That peer's request was authentic: it is there again. What is to be tried
 * again after a failure is due now, at most once a second. */
void sync_heard(struct sync *sync, const char *wallet, struct kms_time now);

/* ---- waiting writes ------------------------------------------------------ */

/* May a write to the app ask for n replicas? KMS_ERANGE: above the number of
 * current peers; KMS_EBUSY: too many of the app's wait. */
int sync_can_wait(const struct sync *sync, uint64_t app_id, unsigned int n);

/*
 * Wait until n >= 1 peers hold the record just written (or a later version of
 * it), or replica-timeout: then ops.replicas_done, never from within. As
 * sync_can_wait, and KMS_ENOENT: no such record; KMS_ENOMEM.
 */
int sync_wait(struct sync *sync, uint64_t app_id, const void *key,
    size_t key_len, unsigned int n, void *cookie, struct kms_time now);

/* The caller of a waiting write has gone. */
void sync_wait_cancel(struct sync *sync, const void *cookie);

/*
 * Ask peers for the value of a record that was evicted here: up to three, one
 * after the other, then ops.fetched, never from within. KMS_ENOENT: it is not
 * an evicted one, or there is no peer to ask; KMS_EBUSY; KMS_ENOMEM.
 */
int sync_fetch(struct sync *sync, uint64_t app_id, const void *key,
    size_t key_len, void *cookie, struct kms_time now);

/* ---- figures ------------------------------------------------------------- */

struct sync_peer_view {
	const char *wallet;
	enum sync_kind kind;
	bool level;    /* it has all up to mark: nothing is left to compare */
	uint64_t mark; /* sequence up to which it was pushed */
	int64_t last_contact_ms; /* boot time, -1: never */
	unsigned int failures;	 /* of pushes, in a row */
	unsigned int refused;	 /* records that it rejected, kept to retry */
	uint64_t too_large;	 /* records that it will not take (413) */
	uint64_t repairs;	 /* finished comparisons */
	const char *last_error;	 /* static, "" when none */
};

/* Peer n, false beyond the last. Borrowed until sync_set_peers. */
bool sync_peer_at(
    const struct sync *sync, size_t n, struct sync_peer_view *view);

struct sync_stats {
	uint64_t messages, bytes; /* sent */
	uint64_t records_pushed, records_taken, records_rejected;
	uint64_t too_large;
	uint64_t dropped; /* by the rule for a node that was away too long */
	size_t waits, fetches;
	bool stale;
	bool filled;
	bool fill_tried; /* every current peer was compared with, or failed */
	unsigned int fill_failures;
};

/*
 * What a node needs to know before it serves:
 *
 * filled: since the start this node has had all that the cluster has. It
 * begins false, becomes true once, and stays, when
 *  - a comparison with a peer of ours has ended (everything it has was taken,
 *    or nothing differed, whoever of the two asked), and that peer was filled;
 *  - such comparisons with every current peer have ended, none of them filled:
 *    a cluster that starts anew;
 *  - a deployed peer's snapshot was merged;
 *  - sync_set_filled was called.
 * Without any peer it stays as it is, since a list may be empty for a moment:
 * whether a node that is alone serves is for the caller to say.
 * Records that were refused on the way (sync_stats.records_rejected) do not
 * count against it.
 *
 * fill_failures: current peers, each once, with which three attempts in a row
 * to get there have failed (one may just have started) and none has succeeded
 * since: no greeting, comparison or snapshot came to its end. 0 once filled. A
 * node goes ready with "complete": false with fill_tried; when filled becomes
 * true later, it is complete.
 *
 * stale: this node has been out of touch longer than the retention, and may
 * hold what was deleted meanwhile. It begins with the first contact after, and
 * ends when a peer that stayed in touch has been compared with, or all were
 * tried and one that did not has answered. Meanwhile it asks but teaches
 * nobody (its answers are "busy"), and should not serve apps; filled is not
 * touched by it.
 */

struct sync_stats sync_stats(const struct sync *sync);

/* Bytes held beyond the store and the struct itself, for tests of bounds. */
size_t sync_memory(const struct sync *sync);

#endif
