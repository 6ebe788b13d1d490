/*
 * What the keeper asks of the chain, and the facts it gets: questions go to
 * kms-chain rpc, answers come back under their number or time out. Pure: the
 * channel is behind registry_ask_fn, the time is passed in.
 *
 * The answers are what one endpoint reports, or what rpc-quorum of them agree
 * on (quorum.h; PROTOCOL.md section 6): they are facts to be judged here,
 * never decisions.
 */
#ifndef KMS_KEEPER_REGISTRY_H
#define KMS_KEEPER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/eth.h"

#define REGISTRY_PENDING_MAX 1024 /* questions under way */
#define REGISTRY_TIMEOUT_MS 12000 /* beyond kms-chain's own deadline */
#define REGISTRY_ENDPOINTS_MAX 16
#define REGISTRY_DISTRUST_MS 30000 /* others are asked for that long */
#define REGISTRY_MEMBERS_MAX 1024
#define REGISTRY_URL_MAX 2048
#define REGISTRY_PUBKEY_MAX 256
#define REGISTRY_ID_HUGE UINT64_MAX /* an ID that does not fit 64 bits */

enum registry_kind {
	REGISTRY_INSTANCE,
	REGISTRY_MEMBERS,
	REGISTRY_HASH,
	REGISTRY_TX_INPUTS,
	REGISTRY_SEND,
	REGISTRY_RECEIPT
};

struct registry_question {
	uint64_t request; /* on whose behalf, for the log; 0: nobody's */
	enum registry_kind kind;
	unsigned int endpoint; /* MSG_ENDPOINT_ANY */
	uint64_t block; /* INSTANCE, MEMBERS: 0 is the head; HASH: 0 is by
			   confirmations or finalized */
	struct eth_address wallet; /* INSTANCE, TX_INPUTS */
	uint64_t app_id;	   /* MEMBERS */
	uint64_t confirmations;	   /* HASH */
	bool finalized;		   /* HASH */
	const uint8_t *raw;	   /* SEND; borrowed for the call */
	size_t raw_len;
	struct eth_word hash; /* RECEIPT */
};

/* RuntimeInstance with its app and version, all read at one block. */
struct instance_facts {
	bool found;
	uint64_t instance_id;
	uint64_t app_id;
	uint64_t version_id;
	struct eth_address operator;
	char url[REGISTRY_URL_MAX + 1];
	uint8_t pubkey[REGISTRY_PUBKEY_MAX]; /* teePubkey as registered */
	size_t pubkey_len;
	struct eth_address wallet;
	bool zk_verified;
	uint64_t status;
	uint64_t registered_at; /* seconds since 1970 */
	uint64_t app_id_answered;
	uint64_t app_status;
	uint64_t version_id_answered;
	uint64_t version_status;
};

struct registry_answer {
	enum registry_kind kind;
	unsigned int endpoint; /* MSG_ENDPOINT_ANY: a quorum's */
	uint64_t block;	       /* the one that was read */
	int64_t block_time;    /* seconds since 1970 */
	uint64_t head;	       /* HASH: latest block; a quorum's: block */
	int64_t head_time;     /* HASH: its time */
	uint64_t chain_id;     /* HASH, TX_INPUTS */
	uint64_t kms_app_id;   /* HASH: kmsAppId() */
	struct eth_word hash;  /* HASH: masterSecretHash(); SEND: of the tx */
	struct instance_facts instance;
	size_t member_count; /* MEMBERS */
	struct eth_address members[REGISTRY_MEMBERS_MAX];
	uint64_t nonce_pending; /* TX_INPUTS */
	uint64_t nonce_latest;
	uint64_t tip;	   /* wei per gas */
	uint64_t base_fee; /* wei per gas */
	struct eth_word balance;
	bool mined;	      /* RECEIPT */
	uint64_t tx_status;   /* RECEIPT: 1 success */
	unsigned int failure; /* enum chain_error when error is set */
	char text[513];	      /* of the failure, or RECEIPT: why it reverted;
				 for the log and /status */
};

struct registry;

/* Send a question under a number. KMS_E* when it cannot go out. */
typedef int (*registry_ask_fn)(
    void *arg, uint64_t id, const struct registry_question *question);

/*
 * The answer, or why there is none: error 0 and the facts; KMS_EUNAVAIL with
 * failure and text filled; KMS_ETIMEOUT. answer is borrowed for the call.
 */
typedef void (*registry_done_fn)(
    void *arg, int error, const struct registry_answer *answer);

/* NULL without memory. */
struct registry *registry_new(registry_ask_fn ask, void *arg);
void registry_free(struct registry *registry); /* done is not called */

/*
 * How many of how many endpoints must agree: 1..endpoints, and endpoints at
 * most REGISTRY_ENDPOINTS_MAX. Without this call it is 1 of 1: kms-chain
 * chooses. KMS_EINVAL, KMS_ENOMEM.
 */
int registry_set_quorum(
    struct registry *registry, unsigned int need, size_t endpoints);

/*
 * What an endpoint reported cannot be believed (its head is stale, say): leave
 * it out of questions to any endpoint for REGISTRY_DISTRUST_MS. True when
 * there is another one to ask; false also for a quorum's answer.
 */
bool registry_distrust(
    struct registry *registry, unsigned int endpoint, struct kms_time now);

/* The others do not answer at all: distrust nobody any more. */
void registry_forgive(struct registry *registry);

/*
 * Ask. done is called exactly once, never from within, unless this returns
 * an error: KMS_EBUSY, KMS_ENOMEM, or what ask said.
 *
 * A question to MSG_ENDPOINT_ANY: with a quorum above 1, INSTANCE, MEMBERS,
 * HASH and RECEIPT go to every endpoint and are answered by what so many agree
 * on, SEND goes to every endpoint and the first acceptance counts; everything
 * else goes to one of kms-chain's choice, or while some are distrusted to the
 * others, where the first answer counts.
 */
int registry_ask(struct registry *registry,
    const struct registry_question *question, struct kms_time now,
    registry_done_fn done, void *arg);

/* The same of exactly the endpoint that is named; for quorum.c. */
int registry_ask_one(struct registry *registry,
    const struct registry_question *question, struct kms_time now,
    registry_done_fn done, void *arg);

/* Call done with an answer of that kind that carries a failure. */
void registry_tell_failure(registry_done_fn done, void *arg,
    enum registry_kind kind, int error, unsigned int failure, const char *text);

/*
 * An answer came for number id: facts (error 0) or a failure. Of another kind
 * than was asked, or for a wallet, a transaction or block that was not: the
 * question fails (KMS_EUNAVAIL). An unknown number is ignored: it timed out.
 */
void registry_answered(struct registry *registry, uint64_t id, int error,
    struct registry_answer *answer);

/* Fail what has waited too long. */
void registry_tick(struct registry *registry, struct kms_time now);

/* The channel is gone: every question fails. */
void registry_lost(struct registry *registry);

#endif
