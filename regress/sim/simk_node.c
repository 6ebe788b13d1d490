/* A node: its keys, its keeper and what the keeper is given to act with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/hex.h"
#include "regress/sim/simk.h"

#define WAKES_MAX 400 /* in a second; each message is one or two */

struct kms_time
simk_time(const struct world *world, unsigned int node)
{
	return (struct kms_time){
		WALL0 + world->now_ms + world->nodes[node].skew_ms,
		BOOT0 + world->now_ms,
	};
}

/* Before every input to it. */
void
simk_set_time(struct world *world, unsigned int node)
{
	run_log_of(node);
	keeper_set_time(world->nodes[node].keeper, simk_time(world, node));
}

/* ---- keeper_ops ---------------------------------------------------------- */

static void
op_random(void *arg, uint8_t *out, size_t len)
{
	simk_fill(&((struct node *)arg)->random, out, len);
}

/* Requests of apps have odd handles, calls of nodes even ones. */
static void
op_answer(void *arg, uint64_t handle, const struct answer *answer)
{
	struct node *node = arg;

	if (handle % 2 == 1)
		simk_app_answer(node->world, handle, answer);
	else
		simk_net_answer(node->world, handle, answer);
}

static void
op_credit(void *arg, uint64_t handle, size_t bytes)
{
	(void)arg;
	(void)handle;
	(void)bytes;
}

static void
op_go(void *arg, uint64_t handle, size_t most)
{
	simk_net_go(((struct node *)arg)->world, handle, most);
}

/* As main.c: the earliest of the times that were asked for. */
static void
op_wake(void *arg, int64_t ms)
{
	struct node *node = arg;
	struct world *world = node->world;
	int64_t at = world->now_ms + (ms > 0 ? ms : 1);

	if (!node->alive || (node->wake_ms != 0 && node->wake_ms <= at))
		return;
	node->wake_ms = at;
	simk_push(world,
	    (struct event){ .at_ms = at,
		.type = EVENT_WAKE,
		.node = node->index,
		.life = node->life });
}

static void
op_changed(void *arg)
{
	(void)arg;
}

/* ---- keys ---------------------------------------------------------------- */

void
simk_node_keys(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct p384_key *key;

	node->world = world;
	node->index = i;
	do {
		simk_fill(&world->random, node->wallet_key, WALLET_KEY_LEN);
	} while (wallet_key_check(world->wallets, node->wallet_key) != 0);
	do {
		simk_fill(&world->random, node->tee_key, P384_SCALAR_LEN);
	} while (p384_key_new(node->tee_key, &key) != 0);
	node->point = *p384_key_point(key);
	p384_key_free(key);
	if (wallet_key_address(
		world->wallets, node->wallet_key, &node->wallet) != 0)
		abort();
	(void)snprintf(node->url, sizeof(node->url), "http://node%u", i);
}

/* The identity file, through a pipe. */
static struct identity *
make_identity(struct node *node)
{
	char wallet[2 * WALLET_KEY_LEN + 1], tee[2 * P384_SCALAR_LEN + 1];
	struct identity *identity;
	char text[512];
	int ends[2], n;

	hex_encode(node->wallet_key, WALLET_KEY_LEN, wallet);
	hex_encode(node->tee_key, P384_SCALAR_LEN, tee);
	n = snprintf(text, sizeof(text),
	    "{\"wallet_private_key\":\"%s\",\"tee_private_key\":\"%s\"}",
	    wallet, tee);
	if (pipe(ends) != 0 || write(ends[1], text, (size_t)n) != n)
		abort();
	(void)close(ends[1]);
	if (identity_local_new(ends[0], op_random, node, &identity) != 0)
		abort();
	(void)close(ends[0]);
	return identity;
}

/* ---- life ---------------------------------------------------------------- */

static void
configure(struct node *node)
{
	const struct profile *p = &node->world->profile;
	bool roomy = node->world->mutation == MUTATE_MEMORY;

	node->config = (struct keeper_config){
		.kms_app_id = KMS_APP,
		.chain_id = CHAIN_ID,
		.node_tick = NODE_TICK_MS,
		.sync_interval = 8000,
		.sync_batch = 20,
		.peer_cache_ttl = CACHE_TTL_MS,
		.registry_cache_ttl = CACHE_TTL_MS,
		.membership_max_age = MEMBERSHIP_MS,
		.max_head_age = 120000,
		.confirmations = 1,
		.wipe_confirmations = WIPE_MS,
		.peer_blacklist = 20000,
		.pop_max_age = 120000,
		.max_nonces = MAX_NONCES * (roomy ? 10 : 1),
		.max_value_size = 4096,
		.max_app_storage = MAX_APP_STORAGE,
		.tombstone_retention = 86400000,
		.max_tombstones = 1000,
		.max_clock_skew = 15000,
		.replica_timeout = REPLICA_MS,
		.rpc_quorum = p->quorum,
		.rpc_endpoints = p->quorum > 1 ? ENDPOINTS : 1,
		.max_body = 65536,
		.max_sync_body = 4 << 20,
		.evict_lru = 1,
	};
	node->config.kms_registry.bytes[ETH_ADDRESS_LEN - 1] = KMS_APP;
}

void
simk_start(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct keeper_ops ops = {
		.random = op_random,
		.ask = simk_ask,
		.answer = op_answer,
		.credit = op_credit,
		.go = op_go,
		.post = simk_post,
		.unpost = simk_unpost,
		.wake = op_wake,
		.changed = op_changed,
		.arg = node,
	};

	node->life++;
	node->random = simk_random(world);
	configure(node);
	node->identity = make_identity(node);
	simk_identity_watch(node);
	node->alive = true;
	node->wake_ms = 0;
	node->installed = node->has_candidate = false;
	node->lost_ms = node->kept_ms = world->now_ms;
	if (keeper_new(&node->config, &ops, node->identity, simk_time(world, i),
		&node->keeper) != 0) {
		simk_fail(world, "memory: node %u cannot start", i);
		abort();
	}
	readiness_kick(node->keeper->readiness);
	simk_note(world, "node %u starts", i);
	simk_push(world,
	    (struct event){ .at_ms = world->now_ms + 1,
		.type = EVENT_TICK,
		.node = i,
		.life = node->life });
}

void
simk_crash(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];

	if (!node->alive)
		return;
	simk_note(world, "node %u dies", i);
	node->alive = false;
	simk_identity_end(node);
	keeper_free(node->keeper);
	node->keeper = NULL;
	node->identity = NULL;
	simk_app_crash(world, i);
	simk_net_crash(world, i);
	simk_check_holders(world);
}

void
simk_settle(struct world *world, unsigned int i)
{
	if (world->nodes[i].alive)
		simk_check_node(world, i);
}

/* A keeper that is always due would take a whole processor. */
static void
check_busy(struct world *world, struct node *node)
{
	if (node->second != world->now_ms / 1000)
		node->wakes = 0;
	node->second = world->now_ms / 1000;
	if (++node->wakes > WAKES_MAX)
		simk_fail(
		    world, "busy: node %u wakes all the time", node->index);
}

void
simk_node_wake(struct world *world, struct event *event)
{
	struct node *node = &world->nodes[event->node];

	if (!node->alive || node->life != event->life)
		return;
	if (event->type == EVENT_TICK) {
		run_log_of(event->node);
		keeper_tick(node->keeper, simk_time(world, event->node));
		event->at_ms = world->now_ms + TICK_MS;
		simk_push(world, *event);
	} else if (event->at_ms == node->wake_ms) {
		node->wake_ms = 0;
		check_busy(world, node);
		run_log_of(event->node);
		keeper_wake(node->keeper, simk_time(world, event->node));
	} else {
		return;
	}
	simk_settle(world, event->node);
}
