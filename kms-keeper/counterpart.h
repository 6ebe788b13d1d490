/*
 * What the keeper knows of the wallets that call it: the registry's verdict
 * with its age, the agreement with the registered key, the replay window, the
 * nonce on its way back (PROTOCOL.md sections 2, 3 and 6). Pure.
 *
 * Bounded: wallets that the registry does not authorise live in a share of
 * their own and push out only each other; of the authorised the least
 * recently used goes, never one with a request under way.
 */
#ifndef KMS_KEEPER_COUNTERPART_H
#define KMS_KEEPER_COUNTERPART_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/clock.h"
#include "crypto/p384.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/nonce.h"
#include "kms-keeper/registry.h"
#include "kms-keeper/replay.h"
#include "kms-keeper/table.h"

#define COUNTERPARTS_AUTHORISED_MAX 8192
#define COUNTERPARTS_REFUSED_MAX 2048
#define COUNTERPART_WAITING_MAX 64  /* requests that wait for one look-up */
#define COUNTERPART_LOOKUPS_MAX 256 /* under way, 3/4 of them strangers' */
#define COUNTERPART_REPLAY_MAX 262144
#define COUNTERPARTS_REPLAY_MAX                                                \
	4194304			   /* of all together, 20 to 60 bytes each */
#define COUNTERPARTS_TICK_MS 10000 /* between sweeps of idle windows */
#define COUNTERPART_REPLAY_REACH_MS 3600000
#define COUNTERPART_REFUSED_TTL_MS 10000
#define COUNTERPART_RETRY_MS 2000 /* between failed background refreshes */

enum counterpart_verdict {
	COUNTERPART_UNKNOWN, /* never looked up with success */
	COUNTERPART_AUTHORISED,
	COUNTERPART_REFUSED
};

struct counterpart_waiter;

/* The verdict is there: error 0 and counterpart->verdict is not UNKNOWN, or
 * KMS_EUNAVAIL (the chain could not be asked). */
typedef void (*counterpart_ready_fn)(
    struct counterpart_waiter *waiter, int error);

/* Embedded in what waits for a verdict. */
struct counterpart_waiter {
	TAILQ_ENTRY(counterpart_waiter) link;
	bool waiting;
	uint64_t request; /* on whose behalf, for the log; 0: nobody's */
	counterpart_ready_fn ready;
};

TAILQ_HEAD(counterpart_waiters, counterpart_waiter);

struct counterpart {
	UT_hash_handle hh;
	TAILQ_ENTRY(counterpart) lru; /* least recently used first */
	struct counterparts *owner;
	struct eth_address wallet;
	enum counterpart_verdict verdict;
	const char *refusal; /* why, for COUNTERPART_REFUSED */
	uint64_t app_id;
	struct p384_point point;
	int64_t fetched_ms; /* boot time of the verdict */
	int64_t asked_ms;   /* boot time of the last look-up's start */
	bool lookup;	    /* one is under way */
	unsigned int tried; /* endpoints that it was asked of in vain */
	uint64_t request;   /* that made it, for the log */
	unsigned int pins;  /* requests under way */
	unsigned int waiting;
	struct counterpart_waiters waiters;
	struct agreement *agreement;
	struct replay_window replay;
	bool has_next_nonce;
	uint8_t next_nonce[NONCE_LEN];
	double tokens; /* app-rate, by counterpart_take_token */
	int64_t tokens_ms;
};

struct counterparts;

struct counterparts_config {
	uint64_t ttl_ms;	  /* registry-cache-ttl */
	uint64_t max_head_age_ms; /* max-head-age */
	uint64_t app_rate;	  /* requests a minute a wallet, 0: off */
	uint64_t kms_app_id;	  /* its instances are peers */
	uint64_t peer_reach_ms;	  /* of a peer's window: tombstone-retention */
	size_t replay_max;	  /* 0: COUNTERPARTS_REPLAY_MAX */
	uint8_t hash_key[SIPHASH_KEY_LEN];
};

/* NULL without memory. registry and identity are borrowed for life. */
struct counterparts *counterparts_new(const struct counterparts_config *config,
    struct registry *registry, struct identity *identity);
void counterparts_free(struct counterparts *counterparts);

/*
 * Find or make the entry of a wallet and pin it until counterpart_unpin.
 * NULL when the table is full of pinned entries or memory is out.
 */
struct counterpart *counterpart_pin(struct counterparts *counterparts,
    const struct eth_address *wallet, struct kms_time now);
void counterpart_unpin(struct counterpart *counterpart);

/*
 * The verdict on a wallet: 0 when it is there and young enough (one that will
 * run out soon is refreshed in the background); KMS_EAGAIN when it is being
 * looked up: waiter->ready is called later, unless counterpart_cancel comes
 * first; KMS_EBUSY at a bound; KMS_EUNAVAIL when the chain cannot be asked.
 */
int counterpart_authorise(struct counterpart *counterpart,
    struct counterpart_waiter *waiter, struct kms_time now);
void counterpart_cancel(
    struct counterpart *counterpart, struct counterpart_waiter *waiter);

/* One request of this wallet against app-rate: true when it may go on, else
 * *retry_s says in how many seconds. */
bool counterpart_take_token(struct counterpart *counterpart,
    struct kms_time now, unsigned int *retry_s);

/* Another app-rate from now on. */
void counterparts_set_app_rate(
    struct counterparts *counterparts, uint64_t app_rate);

/* The clock for what look-ups find when they come back. */
void counterparts_set_time(
    struct counterparts *counterparts, struct kms_time now);

/*
 * The envelope nonce was received from this counterpart or sent to it: take it
 * into its replay window. 0 when it is new; KMS_EREPLAY; KMS_EBUSY when the
 * window, or all windows together, are full of entries that still count: an
 * unbound request then gets 429; KMS_ENOMEM.
 */
int counterpart_remember(struct counterpart *counterpart,
    const uint8_t nonce[AEAD_NONCE_LEN], struct kms_time now);

/* Call at least every COUNTERPARTS_TICK_MS: forgets the entries of replay
 * windows that nobody uses any more. */
void counterparts_tick(struct counterparts *counterparts, struct kms_time now);

/* Entries of all replay windows. */
size_t counterparts_replay_count(const struct counterparts *counterparts);

/* Look-ups under way. */
size_t counterparts_lookups(const struct counterparts *counterparts);

size_t counterparts_count(const struct counterparts *counterparts);

#endif
