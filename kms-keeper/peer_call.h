/*
 * One authenticated call of another node's POST /sync (PROTOCOL.md sections 2,
 * 3 and 7): nonce, proof of possession, envelope to the registered key, HMAC;
 * and of what comes back only what that node has signed and sealed for us.
 * Pure: kms-chain peer stands behind peer_calls_ops, the time is passed in.
 */
#ifndef KMS_KEEPER_PEER_CALL_H
#define KMS_KEEPER_PEER_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/eth.h"
#include "kms-keeper/channel_peer.h"
#include "kms-keeper/counterpart.h"
#include "kms-keeper/identity.h"

#define PEER_CALLS_A_PEER 8 /* under way at once to one node */
#define PEER_CALLS_NODES_MAX 2048
#define PEER_CALLS_BODIES_MAX (128U << 20) /* bytes of plaintext held */
#define PEER_CALLS_NONCE_MS 100000    /* X-KMS-Next-Nonce is used until then */
#define PEER_CALLS_DEPLOYED_MS 600000 /* v1 goes first to a deployed node */

struct peer_calls_ops {
	/* As peer_client_post and peer_client_cancel. */
	int (*post)(void *arg, const struct peer_call *call, uint64_t *id);
	void (*cancel)(void *arg, uint64_t id);
	void *arg;
};

struct peer_calls_config {
	uint64_t kms_app_id;		    /* a peer is an instance of it */
	char sender[2 * P384_SPKI_LEN + 1]; /* our sender_tee_pubkey, hex */
};

struct peer_calls;

/* NULL without memory. All but the config is borrowed for life. */
struct peer_calls *peer_calls_new(const struct peer_calls_config *config,
    const struct peer_calls_ops *ops, struct counterparts *counterparts,
    struct identity *identity);
/* Calls under way are not told; what the identity still works on for them is
 * dropped when it is done. Not from within done. */
void peer_calls_free(struct peer_calls *calls);

struct peer_question {
	struct eth_address wallet;
	const char *url;	 /* as registered; borrowed, as the rest is,
				    for peer_calls_ask */
	const uint8_t *sync_key; /* SYNC_KEY_LEN bytes, or NULL: without
				    X-Sync-Signature */
	const void *body;	 /* plaintext of the inner message */
	size_t len;
	uint64_t timeout_ms; /* for all of it */
	size_t answer_max;   /* bytes of the answer's plaintext; kms-chain takes
				64 MiB of hex */
	uint64_t request;    /* the one behind it, for the log; 0: none */
};

/*
 * What came of it; borrowed for the call. body is wiped after it.
 *
 * error is 0 only for a verified 200. KMS_EUNAVAIL: another status (at POST
 * /sync or at GET /nonce before it), no connection, or no answer of the chain.
 * KMS_EAUTH: the registry does not authorise the node, or the answer is not
 * provably its own, under its registered key. KMS_EREPLAY: its envelope was
 * seen or sent before. KMS_ETIMEOUT, KMS_EPROTO (malformed), KMS_ETOOBIG
 * (beyond answer_max), KMS_EINVAL (a URL that may not be asked), KMS_EBUSY,
 * KMS_ENOMEM, KMS_ECRYPTO.
 */
struct peer_outcome {
	int error;
	unsigned int status; /* HTTP status where there was one, else 0 */
	bool authentic;	     /* the status is the node's own word: signed, v2 */
	const char *body;
	size_t len;
	unsigned int retry_after; /* seconds, 0: none */
	uint64_t elapsed_ms;	  /* since peer_calls_ask */
	const char *text; /* what went wrong, for people, printable ASCII; ""
			     on success. Quotes an error's code and message */
};

typedef void (*peer_outcome_fn)(
    void *arg, uint64_t id, const struct peer_outcome *outcome);

/*
 * Ask. done is called exactly once, never from within, unless cancelled; it
 * may ask and cancel. KMS_EBUSY at a bound, KMS_ENOMEM, KMS_EUNAVAIL without
 * kms-chain; KMS_EINVAL for a URL of more than 2048 bytes, no body, no time,
 * or this node itself.
 *
 * A node that has answered v2 once is ours: it is never again asked, nor
 * believed, without it. Another is tried with v2 first; one that refuses it
 * (400 or 403, which anybody could have made up) gets v1 in the same call, and
 * when its answer verifies v1 goes first for PEER_CALLS_DEPLOYED_MS.
 *
 * A 403 to a nonce that came with an earlier answer is asked again, once, with
 * a fresh one: the message may then arrive twice.
 */
int peer_calls_ask(struct peer_calls *calls,
    const struct peer_question *question, struct kms_time now,
    peer_outcome_fn done, void *arg, uint64_t *id);

void peer_calls_cancel(struct peer_calls *calls, uint64_t id);

/* Before every other input: what time it is. */
void peer_calls_set_time(struct peer_calls *calls, struct kms_time now);

/* At least every 100 ms: deadlines. */
void peer_calls_tick(struct peer_calls *calls, struct kms_time now);

/* Has this node ever answered v2? Then it must ask with it, too. */
bool peer_calls_is_ours(
    const struct peer_calls *calls, const struct eth_address *wallet);

/* Forget what is known of nodes that are not among these. */
void peer_calls_keep(
    struct peer_calls *calls, const struct eth_address *wallets, size_t count);

#endif
