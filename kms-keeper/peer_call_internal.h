/* Between peer_call.c, which keeps the calls, and peer_attempt.c, which goes
 * through one; for no one else. */
#ifndef KMS_KEEPER_PEER_CALL_INTERNAL_H
#define KMS_KEEPER_PEER_CALL_INTERNAL_H

#include <sys/queue.h>

#include "common/buf.h"
#include "kms-keeper/derive.h"
#include "kms-keeper/peer_call.h"
#include "kms-keeper/peer_node.h"
#include "kms-keeper/peer_proof.h"

#define EXCHANGE_TEXT_MAX 768

/* What is waited for. */
enum step {
	STEP_VERDICT,
	STEP_NONCE,
	STEP_SEAL,
	STEP_SIGN,
	STEP_POST,
	STEP_OPEN
};

struct exchange {
	TAILQ_ENTRY(exchange) link;
	struct peer_calls *calls; /* NULL: only the identity still has it */
	struct peer_node *node;
	struct counterpart *counterpart; /* pinned */
	struct counterpart_waiter waiter;
	uint64_t id;
	peer_outcome_fn done;
	void *arg;
	enum step step;
	bool busy;    /* the identity works on it, and will call */
	bool ended;   /* the caller has no part in it any more */
	bool settled; /* it ended within peer_calls_ask: told by a tick */
	int error;    /* of that end */
	char *text;

	/* the question */
	char *url;
	struct buf body; /* until no further attempt can want it */
	size_t len;
	bool has_key;
	uint8_t key[SYNC_KEY_LEN]; /* as long as body */
	size_t answer_max;
	uint64_t request;
	int64_t began_ms, deadline_ms;

	/* the attempt */
	bool must_bind; /* the node is ours: v2 or nothing */
	bool used_next; /* its nonce came with an earlier answer */
	bool retried;	/* with a fresh one */
	bool authentic; /* what came is the node's own word */
	uint64_t post;	/* number at kms-chain, 0: none */
	char *data;	/* encrypted_data to be sent */
	char envelope_nonce[2 * AEAD_NONCE_LEN + 1];
	char sync_signature[2 * SHA256_LEN + 1];
	struct peer_proof proof;
	uint8_t answer_nonce[AEAD_NONCE_LEN];
};

TAILQ_HEAD(exchange_list, exchange);

struct peer_calls {
	struct peer_calls_config config;
	struct peer_calls_ops ops;
	struct counterparts *counterparts;
	struct identity *identity;
	struct kms_time now;
	struct exchange_list list; /* oldest first */
	size_t count;
	size_t held; /* bytes of all bodies */
	uint64_t last_id;
	struct peer_nodes nodes;
	struct exchange *asking; /* peer_calls_ask is at work on it */
};

/* The verdict is there: go on from it, as far as it goes without waiting.
 * After each of these that may end the exchange it is gone. */
void exchange_begin(struct exchange *x);

/* It ends: tell the caller. outcome's elapsed_ms is filled here. */
void exchange_finish(struct exchange *x, struct peer_outcome *outcome);
void exchange_fail(struct exchange *x, int error, const char *text);

/* Wipe what no further attempt will want. */
void exchange_drop_body(struct exchange *x);

/* The identity has come back: false when nobody waits for it, and the exchange
 * is gone. */
bool exchange_is_back(struct exchange *x);

#endif
