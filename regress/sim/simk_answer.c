/* kms-chain rpc and its endpoints: what a keeper is told of the chain, late,
 * from the view of one endpoint, or as a lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/authz.h"
#include "proto/msg.h"
#include "regress/sim/simk.h"

#define LIAR (ENDPOINTS - 1)
#define WRONG_GAP_MS (2 * MEMBERSHIP_MS)

int
simk_ask(void *arg, uint64_t id, const struct registry_question *q)
{
	struct node *node = arg;
	struct world *world = node->world;
	struct question *question;
	int64_t delay = world->calm ? 5 : world->profile.delay_ms;

	if (node->chain_down_ms > world->now_ms && id % 2 == 0)
		return KMS_EUNAVAIL;
	question = calloc(1, sizeof(*question));
	if (question == NULL)
		abort();
	question->id = id;
	question->q = *q;
	question->q.raw = question->raw;
	if (q->raw_len > sizeof(question->raw))
		simk_fail(world, "a transaction of %zu bytes", q->raw_len);
	else if (q->raw_len > 0)
		memcpy(question->raw, q->raw, q->raw_len);
	delay = 1 + (int64_t)simk_below(world, (uint64_t)delay);
	if (!world->calm && simk_chance(world, 10))
		delay += (int64_t)simk_below(world, 15000);
	simk_push(world,
	    (struct event){ .at_ms = world->now_ms + delay,
		.type = EVENT_QUESTION,
		.node = node->index,
		.life = node->life,
		.id = id,
		.question = question });
	return 0;
}

/* ---- the truth, as of an endpoint's head --------------------------------- */

struct view {
	struct world *world;
	struct node *node; /* who asks */
	unsigned int endpoint;
	uint64_t head, final;
	const struct question *question;
};

static void
set_instance(struct world *world, const struct block *block, unsigned int i,
    struct instance_facts *facts)
{
	const struct node *node = &world->nodes[i];

	facts->found = true;
	facts->instance_id = 1 + i;
	facts->app_id = facts->app_id_answered = KMS_APP;
	facts->version_id = facts->version_id_answered = 1 + i % 2;
	facts->version_status = block->version[i % 2];
	facts->status = block->status[i];
	facts->wallet = node->wallet;
	facts->zk_verified = true;
	(void)snprintf(facts->url, sizeof(facts->url), "%s", node->url);
	p384_public_spki(&node->point, facts->pubkey);
	facts->pubkey_len = P384_SPKI_LEN;
}

static void
set_app(const struct world *world, const struct block *block, unsigned int i,
    struct instance_facts *facts)
{
	facts->found = true;
	facts->instance_id = 100 + i;
	facts->app_id = facts->app_id_answered = APP0 + i;
	facts->version_id = facts->version_id_answered = 1;
	facts->status = block->app[i];
	facts->wallet = world->apps[i].wallet;
	facts->zk_verified = true;
	(void)snprintf(facts->url, sizeof(facts->url), "http://app%u", i);
	p384_public_spki(p384_key_point(world->apps[i].tee), facts->pubkey);
	facts->pubkey_len = P384_SPKI_LEN;
}

/* A stranger believes that it is one of them; nobody else does. */
static bool
is_shown(const struct view *v, const struct block *block, unsigned int i)
{
	if (i == PLACES_MAX - 1)
		return v->world->profile.stranger &&
		    (v->node->stranger ||
			v->world->mutation == MUTATE_FALSE_PEER);
	return block->status[i] != ABSENT;
}

static void
answer_instance(
    const struct view *v, const struct block *block, struct registry_answer *a)
{
	const struct eth_address *wallet = &v->question->q.wallet;
	struct world *world = v->world;

	for (unsigned int i = 0; i < PLACES_MAX; i++) {
		if (!is_shown(v, block, i) ||
		    !eth_address_equal(wallet, &world->nodes[i].wallet))
			continue;
		set_instance(world, block, i, &a->instance);
		if (i == PLACES_MAX - 1)
			a->instance.status = INSTANCE_ACTIVE;
	}
	for (unsigned int i = 0; i < APPS; i++)
		if (eth_address_equal(wallet, &world->apps[i].wallet))
			set_app(world, block, i, &a->instance);
}

static void
answer_members(
    const struct view *v, const struct block *block, struct registry_answer *a)
{
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		if (is_shown(v, block, i) &&
		    (i == PLACES_MAX - 1 ||
			block->status[i] == INSTANCE_ACTIVE))
			a->members[a->member_count++] =
			    v->world->nodes[i].wallet;
}

/* The first transaction of a node of that kind, which set nothing. */
static const struct tx *
vain_tx(const struct view *v)
{
	struct chain *chain = &v->world->chain;
	bool two = v->world->mutation == MUTATE_TWO_HASHES;

	for (size_t i = 0; i < chain->tx_count; i++) {
		const struct tx *tx = &chain->txs[i];

		if (tx->kind == TX_SET_HASH && !tx->ok &&
		    (tx->who == v->node->index ||
			(two && tx->who % 2 == v->node->index % 2)))
			return tx;
	}
	return NULL;
}

static void
answer_hash(const struct view *v, struct registry_answer *a)
{
	enum mutation mutation = v->world->mutation;
	const struct tx *tx;

	a->head = v->head;
	a->head_time = simk_block(v->world, v->head)->time_s;
	a->kms_app_id = KMS_APP;
	a->hash = simk_block(v->world, a->block)->hash;
	if (mutation != MUTATE_UNMINED &&
	    (mutation != MUTATE_TWO_HASHES || v->node->index % 2 == 0))
		return;
	tx = vain_tx(v);
	if (tx != NULL)
		a->hash = tx->hash;
}

static void
answer_inputs(const struct view *v, struct registry_answer *a)
{
	struct chain *chain = &v->world->chain;
	unsigned int who = v->node->index;

	a->nonce_latest = a->nonce_pending =
	    simk_block(v->world, v->head)->nonce[who];
	for (size_t i = 0; i < chain->tx_count; i++) {
		const struct tx *tx = &chain->txs[i];

		if (tx->kind == TX_SET_HASH && tx->who == who && !tx->dead &&
		    tx->nonce == a->nonce_pending)
			a->nonce_pending++;
	}
	a->tip = 1000000000;
	a->base_fee = 7000000000;
	a->balance.bytes[12] = 1;
}

static void
answer_receipt(const struct view *v, struct registry_answer *a)
{
	const struct tx *tx = simk_chain_tx(v->world, &v->question->q.hash);

	if (tx == NULL || tx->block == 0 || tx->block > v->head)
		return;
	a->mined = true;
	a->tx_status = tx->ok;
	a->block = tx->block;
	if (!tx->ok)
		(void)snprintf(
		    a->text, sizeof(a->text), "MasterSecretHashAlreadySet");
}

/* Which block is asked for? 0: the endpoint does not have it. */
static uint64_t
block_of(const struct view *v)
{
	const struct registry_question *q = &v->question->q;
	uint64_t block = v->head;

	if (q->kind != REGISTRY_HASH && q->kind != REGISTRY_MEMBERS &&
	    q->kind != REGISTRY_INSTANCE)
		return v->head;
	if (q->block != 0)
		block = q->block;
	else if (q->kind == REGISTRY_HASH && q->finalized)
		block = v->final;
	else if (q->kind == REGISTRY_HASH)
		block = v->head - q->confirmations;
	return block <= v->head ? block : 0;
}

static void
fail(struct registry_answer *a, unsigned int failure, const char *text)
{
	a->failure = failure;
	(void)snprintf(a->text, sizeof(a->text), "%s", text);
}

static int
answer_true(const struct view *v, struct registry_answer *a)
{
	const struct registry_question *q = &v->question->q;
	const struct block *block;

	a->kind = q->kind;
	a->endpoint = v->endpoint;
	a->chain_id = CHAIN_ID;
	a->block = block_of(v);
	if (a->block == 0) {
		fail(a, CHAIN_ERROR_REFUSED, "header not found");
		return KMS_EUNAVAIL;
	}
	if (q->kind == REGISTRY_HASH && q->finalized && q->block == 0 &&
	    v->world->profile.no_final) {
		fail(a, CHAIN_ERROR_REFUSED, "unknown block");
		return KMS_EUNAVAIL;
	}
	block = simk_block(v->world, a->block);
	a->block_time = block->time_s;
	switch (q->kind) {
	case REGISTRY_INSTANCE:
		answer_instance(v, block, a);
		break;
	case REGISTRY_MEMBERS:
		answer_members(v, block, a);
		break;
	case REGISTRY_HASH:
		answer_hash(v, a);
		break;
	case REGISTRY_TX_INPUTS:
		answer_inputs(v, a);
		break;
	case REGISTRY_SEND:
		(void)simk_chain_send(v->world, v->node->index,
		    v->question->raw, q->raw_len, &a->hash);
		break;
	case REGISTRY_RECEIPT:
		answer_receipt(v, a);
		break;
	}
	return 0;
}

/* ---- lies ---------------------------------------------------------------- */

static void
lie_hash(const struct view *v, struct registry_answer *a)
{
	struct world *world = v->world;
	struct chain *chain = &world->chain;
	uint64_t choice = simk_below(world, 4);

	memset(&a->hash, 0, sizeof(a->hash));
	if (choice == 0)
		a->hash.bytes[3] = 0x66;
	/* Of a candidate only one liar among others may say so: who is alone
	 * with it must believe. */
	if (choice == 1 && chain->era_count > 0) {
		struct era *era =
		    &chain->eras[simk_below(world, chain->era_count)];

		if (era->on_chain || v->endpoint == LIAR)
			a->hash = era->hash;
	}
	if (choice == 2 && v->endpoint == LIAR && simk_chance(world, 300))
		a->head = a->block = a->head + 1000000;
}

static void
lie_instance(const struct view *v, struct registry_answer *a)
{
	struct world *world = v->world;
	const struct node *stranger = &world->nodes[PLACES_MAX - 1];
	const struct block *block = simk_block(world, a->block);

	if (v->endpoint == LIAR && world->profile.stranger &&
	    eth_address_equal(&v->question->q.wallet, &stranger->wallet)) {
		set_instance(world, block, PLACES_MAX - 1, &a->instance);
		a->instance.status = INSTANCE_ACTIVE;
		return;
	}
	switch (simk_below(world, 4)) {
	case 0:
		memset(&a->instance, 0, sizeof(a->instance));
		break;
	case 1:
		a->instance.status = INSTANCE_STOPPED;
		break;
	case 2:
		a->instance.version_status = VERSION_REVOKED;
		break;
	default:
		if (v->endpoint == LIAR)
			p384_public_spki(&stranger->point, a->instance.pubkey);
		break;
	}
}

static void
lie_members(const struct view *v, struct registry_answer *a)
{
	struct world *world = v->world;

	if (v->endpoint == LIAR && world->profile.stranger)
		a->members[a->member_count++] =
		    world->nodes[PLACES_MAX - 1].wallet;
	else
		a->member_count = simk_below(world, a->member_count + 1);
}

static void
lie(const struct view *v, struct registry_answer *a)
{
	struct world *world = v->world;

	switch (a->kind) {
	case REGISTRY_HASH:
		lie_hash(v, a);
		break;
	case REGISTRY_INSTANCE:
		lie_instance(v, a);
		break;
	case REGISTRY_MEMBERS:
		lie_members(v, a);
		break;
	case REGISTRY_TX_INPUTS:
		a->nonce_pending += simk_below(world, 3);
		break;
	case REGISTRY_SEND:
		a->hash.bytes[0] ^= 1;
		break;
	case REGISTRY_RECEIPT:
		a->mined = true;
		a->tx_status = simk_below(world, 2);
		break;
	}
}

/* Is it time for a single wrong answer? Not while the chain itself is of two
 * minds: that would be two faults at once. */
static bool
may_be_wrong(struct world *world, struct node *node)
{
	const struct block *head = simk_block(world, world->chain.head);
	const struct block *final = simk_block(world, world->chain.final);

	if (world->now_ms - node->wrong_ms < WRONG_GAP_MS ||
	    memcmp(head->hash.bytes, final->hash.bytes, ETH_WORD_LEN) != 0 ||
	    memcmp(head->status, final->status, sizeof(head->status)) != 0 ||
	    !simk_chance(world, 20))
		return false;
	node->wrong_ms = world->now_ms;
	return true;
}

static bool
is_lie(const struct view *v)
{
	struct world *world = v->world;

	if (v->node->stranger)
		return false;
	if (world->mutation == MUTATE_ONE_BELIEVED)
		return simk_chance(world, 500);
	if (world->profile.liar)
		return v->endpoint == LIAR && simk_chance(world, 800);
	return world->profile.wrong && !world->calm &&
	    may_be_wrong(world, v->node);
}

/* ---- the answer ---------------------------------------------------------- */

/* Endpoints are not level: one has the newest block, another not yet. */
static void
look(struct view *v)
{
	struct world *world = v->world;
	unsigned int endpoint = v->question->q.endpoint;
	uint64_t lag;

	if (endpoint == MSG_ENDPOINT_ANY)
		endpoint = world->profile.quorum > 1
		    ? (unsigned int)simk_below(world, ENDPOINTS)
		    : 0;
	lag = world->profile.quorum > 1 ? endpoint % 2 : simk_below(world, 2);
	v->endpoint = endpoint;
	v->head = world->chain.head - (world->calm ? 0 : lag);
	v->final = world->chain.final < v->head ? world->chain.final : v->head;
	if (world->mutation == MUTATE_FINALITY)
		v->final = v->head;
}

void
simk_answer(struct world *world, struct event *event)
{
	static struct registry_answer answer;
	struct node *node = &world->nodes[event->node];
	struct view v = {
		.world = world, .node = node, .question = event->question
	};
	int error;

	/* One that is down answers nothing, or that it cannot. */
	if (!node->alive || node->life != event->life ||
	    (node->chain_down_ms > world->now_ms && simk_chance(world, 500)))
		return;
	memset(&answer, 0, sizeof(answer));
	look(&v);
	if (node->chain_down_ms > world->now_ms) {
		answer.endpoint = v.endpoint;
		fail(&answer, CHAIN_ERROR_UNREACHABLE, "no endpoint answers");
		error = KMS_EUNAVAIL;
	} else {
		error = answer_true(&v, &answer);
	}
	if (error == 0 && is_lie(&v)) {
		simk_note(world, "endpoint %u lies to node %u, kind %d",
		    v.endpoint, node->index, (int)answer.kind);
		lie(&v, &answer);
	}
	simk_trace(world, &answer.hash, sizeof(answer.hash));
	simk_set_time(world, node->index);
	registry_answered(
	    node->keeper->registry, event->question->id, error, &answer);
	simk_settle(world, event->node);
}
