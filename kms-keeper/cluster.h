/*
 * This node among its peers: what connects readiness (who they are, which
 * secret), calls to them (peer_call.h), their calls (request_sync.h), and the
 * replication engine (sync.h). PROTOCOL.md sections 7 and 8.
 */
#ifndef KMS_KEEPER_CLUSTER_H
#define KMS_KEEPER_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/eth.h"
#include "kms-keeper/handover.h"
#include "kms-keeper/peer_call.h"
#include "kms-keeper/sync.h"

#define CLUSTER_CALL_MS 60000	/* for one message of /sync */
#define CLUSTER_SECRET_MS 10000 /* for one about the secret */
#define CLUSTER_PROBE_MS 5000	/* for a look at a peer's /status */
#define CLUSTER_PROBES_AT_ONCE 8

struct keeper;
struct cluster;

/* NULL without memory (also secmem). */
struct cluster *cluster_new(struct keeper *keeper);
void cluster_free(struct cluster *cluster);

void cluster_set_time(struct cluster *cluster, struct kms_time now);

/* Do what is due, and ask keeper_ops.wake for the next time. */
void cluster_tick(struct cluster *cluster);

/* ---- hooks of readiness -------------------------------------------------- */

/* A secret whose hash stands on chain is held now. */
void cluster_installed(struct cluster *cluster);

/* The secret is gone, and what it sealed with it. */
void cluster_wiped(struct cluster *cluster);

/* Has the store been filled from a peer? *complete: false when it is time to
 * go on without. */
bool cluster_filled(const struct cluster *cluster, bool *complete);

/* As peer_calls_ask, about the secret. */
int cluster_ask_secret(struct cluster *cluster,
    const struct handover_peer *peer, const void *body, size_t len,
    peer_outcome_fn done, void *arg, uint64_t *id);
void cluster_cancel(struct cluster *cluster, uint64_t id);

/* ---- requests of peers --------------------------------------------------- */

/* The HMAC key of /sync, SYNC_KEY_LEN bytes, while our secret's hash is the
 * one on chain; else NULL. Borrowed until the next input. */
const uint8_t *cluster_sync_key(const struct cluster *cluster);

/* Must this node's requests be bound (v2)? */
bool cluster_is_ours(
    const struct cluster *cluster, const struct eth_address *wallet);

/*
 * Serve the plaintext of an authenticated peer's envelope: the answer's
 * plaintext is appended, and its HTTP status returned. On another than 200
 * nothing is appended and *message says why (static, needs no JSON escape).
 * hmac_holds: X-Sync-Signature was there and right; what needs it is refused
 * without (403). The answer may hold sealed secrets: not for a log.
 */
unsigned int cluster_serve(struct cluster *cluster,
    const struct eth_address *wallet, bool hmac_holds, const char *body,
    size_t len, struct buf *answer, const char **message);

/* ---- requests of apps ---------------------------------------------------- */

/*
 * What an app's request waits for. For a write: so many peers hold it, and met
 * says if that is what it asked for. For a read: met says if the value is here
 * again. Never called from within a call of cluster_*.
 */
struct cluster_waiter {
	void (*done)(struct cluster_waiter *waiter, unsigned int k, bool met);
	uint64_t request; /* for the log */
};

/* As sync_can_wait, sync_wait (n 0: only a change to push) and sync_fetch. */
int cluster_can_wait(
    const struct cluster *cluster, uint64_t app_id, unsigned int n);
int cluster_written(struct cluster *cluster, uint64_t app_id, const void *key,
    size_t key_len, unsigned int n, struct cluster_waiter *waiter);
int cluster_fetch(struct cluster *cluster, uint64_t app_id, const void *key,
    size_t key_len, struct cluster_waiter *waiter);

/* It waits no longer. A fetch that goes on tells nobody. */
void cluster_forget(struct cluster *cluster, struct cluster_waiter *waiter);

/* ---- who else holds what is here ------------------------------------------
 */

#define CLUSTER_SHOWN_MS 120000 /* so long a peer's word stands */
#define CLUSTER_SETTLE_MS                                                      \
	5000 /* changes younger than once to twice this are                    \
		on their way */

struct cluster_holding {
	bool last_of_secret; /* no current peer has shown that it holds it */
	bool last_of_data;   /* none of those that did has all that is here */
	bool heard;	     /* every peer has answered, or failed to */
};

/*
 * Is this node the last holder? A peer shows that it holds the secret by an
 * answer to our /sync or a request under its HMAC, since since_ms (boot time)
 * and not before CLUSTER_SHOWN_MS ago; when it then fails to answer, that is
 * void. A node without the secret, or without data, is the last of nothing.
 */
struct cluster_holding cluster_holding(
    const struct cluster *cluster, int64_t since_ms);

/* The same since ever, at most a second old. */
struct cluster_holding cluster_holding_lately(const struct cluster *cluster);

/* Ask every peer anew, at once. */
void cluster_greet(struct cluster *cluster);

enum cluster_flush {
	CLUSTER_FLUSHED,     /* nothing is here that no peer has */
	CLUSTER_FLUSHING,    /* something is, and a peer may get it */
	CLUSTER_CANNOT_FLUSH /* there is no peer, or nothing may be sent */
};

/* How far the changes here have come; *behind: at most so many are with no
 * peer. */
enum cluster_flush cluster_flush(
    const struct cluster *cluster, uint64_t *behind);

/* ---- figures ------------------------------------------------------------- */

/* What is known of a peer; borrowed until the next input. */
struct cluster_peer_view {
	struct eth_address wallet;
	const char *url;
	enum sync_kind kind;
	bool dialled;	      /* it is one of the peers that we replicate to */
	bool level;	      /* nothing is left to compare */
	uint64_t mark;	      /* of our changes, it has those up to this one */
	uint64_t lag_records; /* at most so many changes it has not */
	int64_t lag_ms;	      /* since when it has not had them all */
	int64_t contact_ago_ms; /* -1: never */
	unsigned int failures;	/* in a row */
	const char *last_error; /* "" none */
	/* its /status, as it says itself */
	bool probed;
	bool reachable;
	unsigned int http_code;
	uint64_t probe_ms;    /* how long it took */
	int64_t probed_at_ms; /* Unix milliseconds */
};

/* Peer n, false beyond the last; or the one of that wallet. */
bool cluster_peer_at(
    const struct cluster *cluster, size_t n, struct cluster_peer_view *view);
bool cluster_peer_of(const struct cluster *cluster,
    const struct eth_address *wallet, struct cluster_peer_view *view);

/* The engine, or NULL; borrowed until the next input. */
const struct sync *cluster_engine(const struct cluster *cluster);

/* All zero while there is no engine. */
struct sync_stats cluster_stats(const struct cluster *cluster);

/* Changes with what cluster_peer_at tells of probes. */
uint64_t cluster_probes_version(const struct cluster *cluster);

#endif
