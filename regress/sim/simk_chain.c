/* The chain: blocks with the state of the registries behind each, what waits
 * to be mined, and branches that are given up. */
#include <stdlib.h>
#include <string.h>

#include "common/keccak256.h"
#include "crypto/eip1559.h"
#include "kms-keeper/authz.h"
#include "regress/sim/simk.h"

#define HISTORY 40 /* blocks before the beginning */

struct block *
simk_block(struct world *world, uint64_t number)
{
	return &world->chain.blocks[number - BLOCK0];
}

bool
simk_is_member(const struct block *block, unsigned int node)
{
	return block->status[node] == INSTANCE_ACTIVE &&
	    block->version[node % 2] != VERSION_REVOKED;
}

struct era *
simk_era(struct world *world, const struct eth_word *hash)
{
	struct chain *chain = &world->chain;
	struct era *era;

	for (size_t i = 0; i < chain->era_count; i++)
		if (memcmp(chain->eras[i].hash.bytes, hash->bytes,
			ETH_WORD_LEN) == 0)
			return &chain->eras[i];
	if (chain->era_count == ERAS_MAX)
		abort();
	era = &chain->eras[chain->era_count++];
	memset(era, 0, sizeof(*era));
	era->hash = *hash;
	return era;
}

/* What stands at the head has been seen by somebody. */
static void
note_head(struct world *world)
{
	struct chain *chain = &world->chain;
	const struct block *head = simk_block(world, chain->head);
	struct era *era;

	for (unsigned int i = 0; i < PLACES_MAX; i++)
		if (simk_is_member(head, i))
			chain->active_ms[i] = world->now_ms;
	for (unsigned int i = 0; i < APPS; i++)
		if (head->app[i] == INSTANCE_ACTIVE)
			chain->app_ms[i] = world->now_ms;
	if (eth_word_is_zero(&head->hash))
		return;
	era = simk_era(world, &head->hash);
	era->on_chain = true;
	era->seen_ms = world->now_ms;
}

static int64_t
world_seconds(const struct world *world)
{
	return (WALL0 + world->now_ms) / 1000;
}

void
simk_chain_begin(struct world *world)
{
	struct chain *chain = &world->chain;

	chain->head = chain->final = BLOCK0;
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		chain->blocks[0].status[i] = ABSENT;
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (!world->profile.joins || i < NODES_MIN - 1)
			chain->blocks[0].status[i] = INSTANCE_ACTIVE;
	chain->blocks[0].time_s = world_seconds(world) - 2 * HISTORY;
	while (chain->head < BLOCK0 + HISTORY) {
		struct block *next = simk_block(world, chain->head + 1);

		*next = *simk_block(world, chain->head++);
		next->time_s += 2;
	}
	chain->final = chain->head - world->profile.final_depth;
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		chain->active_ms[i] = INT32_MIN;
	note_head(world);
	simk_push(world, (struct event){ .at_ms = 1, .type = EVENT_BLOCK });
}

/* ---- transactions -------------------------------------------------------- */

static struct tx *
tx_new(struct world *world)
{
	struct chain *chain = &world->chain;

	if (chain->tx_count == TXS_MAX)
		abort();
	memset(&chain->txs[chain->tx_count], 0, sizeof(chain->txs[0]));
	return &chain->txs[chain->tx_count++];
}

struct tx *
simk_chain_tx(struct world *world, const struct eth_word *id)
{
	struct chain *chain = &world->chain;

	for (size_t i = 0; i < chain->tx_count; i++)
		if (chain->txs[i].kind == TX_SET_HASH &&
		    memcmp(chain->txs[i].id.bytes, id->bytes, ETH_WORD_LEN) ==
			0)
			return &chain->txs[i];
	return NULL;
}

void
simk_chain_owner(
    struct world *world, enum tx_kind kind, unsigned int who, uint8_t value)
{
	static const char *const names[] = { "", "resets the hash", "node",
		"version of node", "app" };
	struct tx *tx = tx_new(world);

	simk_note(world, "owner: %s %u: %u", names[kind], who, value);
	tx->kind = kind;
	tx->who = who;
	tx->value = value;
}

bool
simk_chain_send(struct world *world, unsigned int who, const uint8_t *raw,
    size_t len, struct eth_word *id)
{
	uint8_t signature[SIGNATURE_LEN];
	struct eip1559 decoded;
	struct tx *tx;

	if (eip1559_decode(raw, len, &decoded, signature) != 0 ||
	    decoded.chain_id != CHAIN_ID || decoded.data_len != 36 ||
	    decoded.to.bytes[ETH_ADDRESS_LEN - 1] != KMS_APP ||
	    !eth_word_is_zero(&decoded.value)) {
		simk_fail(world, "node %u signed another transaction", who);
		return false;
	}
	keccak256(raw, len, id->bytes);
	if (simk_chain_tx(world, id) != NULL)
		return true;
	tx = tx_new(world);
	tx->kind = TX_SET_HASH;
	tx->who = who;
	tx->nonce = decoded.nonce;
	tx->fee = decoded.max_fee;
	tx->id = *id;
	memcpy(tx->hash.bytes, decoded.data + 4, ETH_WORD_LEN);
	simk_note(world, "chain: node %u sends hash %02x%02x", who,
	    tx->hash.bytes[0], tx->hash.bytes[1]);
	return true;
}

static void
set_hash(struct world *world, struct tx *tx, struct block *block)
{
	uint64_t *nonce = &block->nonce[tx->who];

	if (tx->nonce < *nonce)
		tx->dead = true;
	if (tx->nonce != *nonce)
		return;
	++*nonce;
	tx->block = world->chain.head;
	tx->ok =
	    simk_is_member(block, tx->who) && eth_word_is_zero(&block->hash);
	if (tx->ok)
		block->hash = tx->hash;
	simk_note(world, "chain: block %llu: hash %02x%02x of node %u %s",
	    (unsigned long long)tx->block, tx->hash.bytes[0], tx->hash.bytes[1],
	    tx->who, tx->ok ? "set" : "reverted");
}

static void
apply(struct world *world, struct tx *tx, struct block *block)
{
	if (tx->kind == TX_SET_HASH) {
		set_hash(world, tx, block);
		return;
	}
	tx->block = world->chain.head;
	tx->ok = true;
	switch (tx->kind) {
	case TX_RESET:
		memset(&block->hash, 0, sizeof(block->hash));
		break;
	case TX_NODE:
		block->status[tx->who] = tx->value;
		break;
	case TX_VERSION:
		block->version[tx->who % 2] = tx->value;
		break;
	default:
		block->app[tx->who] = tx->value;
		break;
	}
}

/* ---- blocks -------------------------------------------------------------- */

static void
mine(struct world *world, int64_t time_s)
{
	struct chain *chain = &world->chain;
	struct block *block;
	size_t start;

	if (chain->head + 1 - BLOCK0 == BLOCKS_MAX)
		abort();
	block = simk_block(world, chain->head + 1);
	*block = *simk_block(world, chain->head++);
	if (time_s > block->time_s)
		block->time_s = time_s;
	start = chain->tx_count > 0 ? simk_below(world, chain->tx_count) : 0;
	for (size_t i = 0; i < chain->tx_count; i++) {
		struct tx *tx = &chain->txs[(start + i) % chain->tx_count];

		/* Not all of it finds its way into the next block. */
		if (tx->block == 0 && !tx->dead &&
		    (world->calm || simk_chance(world, 700)))
			apply(world, tx, block);
	}
	note_head(world);
}

static void
finalise(struct world *world)
{
	struct chain *chain = &world->chain;
	uint64_t final = chain->head - world->profile.final_depth;

	if (final > chain->final)
		chain->final = final;
}

void
simk_chain_block(struct world *world)
{
	note_head(world);
	mine(world, world_seconds(world));
	finalise(world);
	simk_push(world,
	    (struct event){
		.at_ms = world->now_ms + BLOCK_MS, .type = EVENT_BLOCK });
}

/* The last blocks are given up for one more of another branch: what they held
 * waits again, or is forgotten. */
void
simk_chain_reorganise(struct world *world, unsigned int depth)
{
	struct chain *chain = &world->chain;
	int64_t time_s = world_seconds(world);

	if (chain->head - depth < chain->final)
		depth = (unsigned int)(chain->head - chain->final);
	simk_note(world, "chain: the last %u blocks are given up", depth);
	note_head(world);
	chain->head -= depth;
	/* What a node has seen above is of another branch. */
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		if (world->nodes[i].installed_block > chain->head)
			world->nodes[i].installed_block = chain->head;
	for (size_t i = 0; i < chain->tx_count; i++) {
		struct tx *tx = &chain->txs[i];

		if (tx->block > chain->head) {
			tx->block = 0;
			tx->ok = false;
			tx->dead = simk_chance(
			    world, tx->kind == TX_SET_HASH ? 100 : 400);
		}
	}
	for (unsigned int i = 0; i <= depth; i++)
		mine(world, time_s);
	finalise(world);
}
