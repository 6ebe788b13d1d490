/*
 * What the tests of the keeper's core share: a clock, a random generator with
 * a seed, and a chain that is told what to answer. Questions of the registry
 * wait in a queue until rig_pump answers them from the chain's state.
 */
#ifndef KMS_REGRESS_KEEPER_RIG_H
#define KMS_REGRESS_KEEPER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/keccak256.h"
#include "common/log.h"
#include "common/secmem.h"
#include "crypto/crypto.h"
#include "kms-keeper/config.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/registry.h"
#include "proto/metrics.h"
#include "proto/msg.h"

#define RIG_WALL INT64_C(1767225600000)
#define RIG_BOOT INT64_C(5000000)
#define RIG_CHAIN_ID 31337
#define RIG_KMS_APP 49
#define RIG_QUEUE_MAX 1100
#define RIG_INSTANCES_MAX 16

struct rig_question {
	uint64_t id;
	struct registry_question q;
	uint8_t raw[1024];
};

struct rig {
	struct kms_time now;
	uint64_t random;
	struct keeper_config config;
	struct registry *registry; /* the one that gets the answers */
	struct identity *identity;

	struct rig_question queue[RIG_QUEUE_MAX];
	size_t queued;
	unsigned int asked[REGISTRY_RECEIPT + 1]; /* by kind, since start */
	uint64_t asked_confirmations;

	bool down;	    /* the channel is gone: ask fails */
	unsigned int stall; /* mask of kinds that stay unanswered */
	unsigned int fail;  /* mask of kinds that fail */
	const struct eth_address *fail_wallet; /* its instance is unreadable */
	unsigned int failure;
	const char *failure_text;

	/* endpoints that misbehave, as masks; any is endpoint 0 */
	unsigned int frozen; /* its head stands still since 1000 s */
	unsigned int ahead;  /* its head is out of this world */
	unsigned int lies;   /* other facts */

	/* the chain */
	uint64_t chain_id, kms_app_id, head;
	int64_t head_age_s;
	struct eth_word hash;
	uint64_t hash_block; /* 0: the head */
	bool no_final;	     /* it knows no finalized block */
	uint64_t final_block;
	struct eth_word final_hash;
	bool final_without_instances;
	struct instance_facts instances[RIG_INSTANCES_MAX];
	size_t instance_count;
	struct eth_address members[RIG_INSTANCES_MAX];
	size_t member_count;
	uint64_t nonce_pending, nonce_latest, tip, base_fee;
	bool poor, mined;
	uint64_t tx_status, mined_block;
	const char *revert_reason; /* NULL: not known */
	unsigned int sent;
	uint8_t raw[1024]; /* of the last transaction sent */
	size_t raw_len;
	bool wrong_sent_hash;
};

static inline void
rig_random(void *arg, uint8_t *out, size_t len)
{
	struct rig *rig = arg;

	for (size_t i = 0; i < len; i++) {
		rig->random ^= rig->random << 13;
		rig->random ^= rig->random >> 7;
		rig->random ^= rig->random << 17;
		out[i] = (uint8_t)(rig->random >> 24);
	}
}

/* registry_ask_fn */
static inline int
rig_ask(void *arg, uint64_t id, const struct registry_question *q)
{
	struct rig *rig = arg;
	struct rig_question *slot;

	if (rig->down)
		return KMS_EUNAVAIL;
	assert_true(rig->queued < RIG_QUEUE_MAX);
	slot = &rig->queue[rig->queued++];
	slot->id = id;
	slot->q = *q;
	rig->asked[q->kind]++;
	if (q->kind == REGISTRY_HASH && !q->finalized)
		rig->asked_confirmations = q->confirmations;
	if (q->kind == REGISTRY_SEND) {
		assert_true(q->raw_len <= sizeof(slot->raw));
		memcpy(slot->raw, q->raw, q->raw_len);
	}
	return 0;
}

static inline struct instance_facts *
rig_instance(struct rig *rig, const struct eth_address *wallet)
{
	for (size_t i = 0; i < rig->instance_count; i++) {
		if (eth_address_equal(&rig->instances[i].wallet, wallet))
			return &rig->instances[i];
	}
	return NULL;
}

static inline void
rig_fill(struct rig *rig, const struct rig_question *question,
    struct registry_answer *a)
{
	const struct registry_question *q = &question->q;
	const struct instance_facts *facts;

	unsigned int endpoint =
	    q->endpoint == MSG_ENDPOINT_ANY ? 0 : q->endpoint;
	uint64_t head = rig->head + (rig->ahead >> endpoint & 1 ? 1000000 : 0);

	a->kind = q->kind;
	a->endpoint = endpoint;
	a->block = q->block != 0 ? q->block : head;
	a->block_time = rig->now.wall_ms / 1000 - rig->head_age_s -
	    (rig->frozen >> endpoint & 1 ? 1000 : 0);
	a->chain_id = rig->chain_id;
	switch (q->kind) {
	case REGISTRY_INSTANCE:
		facts = rig_instance(rig, &q->wallet);
		if (facts != NULL &&
		    !(rig->final_without_instances && q->block != 0 &&
			q->block == rig->final_block))
			a->instance = *facts;
		a->instance.app_id ^= rig->lies >> endpoint & 1;
		break;
	case REGISTRY_MEMBERS:
		assert_int_equal(q->app_id, RIG_KMS_APP);
		a->member_count = rig->member_count;
		memcpy(a->members, rig->members, sizeof(rig->members));
		break;
	case REGISTRY_HASH:
		a->head = head;
		a->head_time = a->block_time;
		a->block = q->block != 0   ? q->block
		    : q->finalized	   ? rig->final_block
		    : rig->hash_block != 0 ? rig->hash_block
					   : head;
		a->hash = q->finalized ? rig->final_hash : rig->hash;
		a->hash.bytes[7] ^= (uint8_t)(rig->lies >> endpoint & 1);
		a->kms_app_id = rig->kms_app_id;
		break;
	case REGISTRY_TX_INPUTS:
		a->nonce_pending = rig->nonce_pending;
		a->nonce_latest = rig->nonce_latest;
		a->tip = rig->tip;
		a->base_fee = rig->base_fee;
		if (!rig->poor)
			a->balance.bytes[12] = 1;
		break;
	case REGISTRY_SEND:
		rig->sent += endpoint == 0; /* once, of all */
		memcpy(rig->raw, question->raw, q->raw_len);
		rig->raw_len = q->raw_len;
		keccak256(rig->raw, rig->raw_len, a->hash.bytes);
		if (rig->wrong_sent_hash)
			a->hash.bytes[0] ^= 1;
		break;
	case REGISTRY_RECEIPT:
		a->mined = rig->mined;
		a->tx_status = rig->tx_status;
		a->block = rig->mined_block;
		if (rig->revert_reason != NULL)
			(void)snprintf(
			    a->text, sizeof(a->text), "%s", rig->revert_reason);
		break;
	}
}

/* Answer what waits, and what is asked then, but for what stalls. */
static inline void
rig_pump(struct rig *rig)
{
	static struct registry_answer answer;
	size_t i = 0;

	while (i < rig->queued) {
		struct rig_question question = rig->queue[i];
		unsigned int bit = 1U << question.q.kind;
		int error = 0;

		if (rig->stall & bit) {
			i++;
			continue;
		}
		memmove(&rig->queue[i], &rig->queue[i + 1],
		    (rig->queued - i - 1) * sizeof(rig->queue[0]));
		rig->queued--;
		memset(&answer, 0, sizeof(answer));
		if ((rig->fail & bit) ||
		    (question.q.kind == REGISTRY_INSTANCE &&
			rig->fail_wallet != NULL &&
			eth_address_equal(
			    rig->fail_wallet, &question.q.wallet)) ||
		    (question.q.finalized && rig->no_final)) {
			answer.failure = question.q.finalized && rig->no_final
			    ? CHAIN_ERROR_REFUSED
			    : rig->failure;
			(void)snprintf(answer.text, sizeof(answer.text), "%s",
			    rig->failure_text);
			error = KMS_EUNAVAIL;
		} else {
			rig_fill(rig, &question, &answer);
		}
		registry_answered(rig->registry, question.id, error, &answer);
	}
}

/* An ACTIVE, verified instance of an app; facts->wallet names it. */
static inline struct instance_facts *
rig_add_instance(struct rig *rig, uint64_t app_id,
    const struct eth_address *wallet, const struct p384_point *point)
{
	struct instance_facts *facts = &rig->instances[rig->instance_count++];

	assert_true(rig->instance_count <= RIG_INSTANCES_MAX);
	memset(facts, 0, sizeof(*facts));
	facts->found = true;
	facts->instance_id = rig->instance_count;
	facts->app_id = facts->app_id_answered = app_id;
	facts->version_id = facts->version_id_answered = 1;
	facts->wallet = *wallet;
	facts->zk_verified = true;
	(void)snprintf(facts->url, sizeof(facts->url), "http://127.0.0.1:4000");
	p384_public_spki(point, facts->pubkey);
	facts->pubkey_len = P384_SPKI_LEN;
	return facts;
}

static inline void
rig_config(struct keeper_config *config)
{
	memset(config, 0, sizeof(*config));
	config->kms_app_id = RIG_KMS_APP;
	config->chain_id = RIG_CHAIN_ID;
	config->node_tick = 30000;
	config->registry_cache_ttl = 180000;
	config->membership_max_age = 600000;
	config->max_head_age = 120000;
	config->confirmations = 1;
	config->wipe_confirmations = 3600000;
	config->pop_max_age = 120000;
	config->max_nonces = 1024;
	config->max_value_size = 1048576;
	config->max_app_storage = 10 << 20;
	config->tombstone_retention = 86400000;
	config->max_tombstones = 1000;
	config->max_clock_skew = 15000;
	config->max_body = 3 << 20;
	config->max_sync_body = 50 << 20;
	config->evict_lru = 1;
	config->kms_registry.bytes[19] = 7;
}

/* A new identity made from the rig's randomness. */
static inline struct identity *
rig_identity(struct rig *rig)
{
	struct identity *identity = NULL;
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	(void)close(ends[1]);
	assert_int_equal(
	    identity_local_new(ends[0], rig_random, rig, &identity), 0);
	(void)close(ends[0]);
	return identity;
}

/* A chain at block 1000 that shows this node as its only member. */
static inline void
rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->now = (struct kms_time){ RIG_WALL, RIG_BOOT };
	rig->random = 0x243f6a8885a308d3;
	rig_config(&rig->config);
	rig->failure = CHAIN_ERROR_UNREACHABLE;
	rig->failure_text = "no endpoint answers";
	rig->chain_id = RIG_CHAIN_ID;
	rig->kms_app_id = RIG_KMS_APP;
	rig->head = 1000;
	rig->final_block = 940;
	rig->tip = 1000000000;
	rig->base_fee = 7000000000;
	rig->identity = rig_identity(rig);
	(void)rig_add_instance(
	    rig, RIG_KMS_APP, &rig->identity->wallet, &rig->identity->point);
	rig->members[0] = rig->identity->wallet;
	rig->member_count = 1;
}

static inline void
rig_pass(struct rig *rig, int64_t ms)
{
	rig->now.wall_ms += ms;
	rig->now.boot_ms += ms;
}

static char rig_logged[LOG_LINE_MAX]; /* the last line */

static inline void
rig_log(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)arg;
	(void)snprintf(rig_logged, sizeof(rig_logged), "%s", text);
}

static inline int
rig_setup(void **state)
{
	static int done;

	(void)state;
	log_set_sink(rig_log, NULL);
	if (!done && secmem_init(1 << 20, NULL) != 0)
		return -1;
	done = 1;
	return crypto_init();
}

static inline int
rig_teardown(void **state)
{
	(void)state;
	crypto_free();
	return 0;
}

#endif
