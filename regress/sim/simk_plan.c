/* What happens to a world: faults, and what the registries' owner does. */
#include <stdlib.h>
#include <string.h>

#include "kms-keeper/readiness_internal.h"
#include "regress/sim/simk.h"

#define STRANGER (PLACES_MAX - 1)
#define RESCUE_MS 20000

/* ---- what a seed is like ------------------------------------------------- */

static void
choose(struct world *world, unsigned int nodes)
{
	struct profile *p = &world->profile;
	bool quorum = simk_chance(world, 500);

	p->nodes =
	    nodes > 0 ? nodes : NODES_MIN + (unsigned int)simk_below(world, 3);
	p->quorum = quorum ? 2 : 1;
	p->liar = quorum && simk_chance(world, 700);
	p->wrong = !quorum && simk_chance(world, 400);
	p->no_final = simk_chance(world, 150) && !p->wrong;
	p->reorganises = simk_chance(world, 500);
	p->resets = simk_chance(world, 350);
	p->revokes = simk_chance(world, 400);
	p->joins = simk_chance(world, 250);
	p->crashes = simk_chance(world, 500);
	p->jumps = simk_chance(world, 300);
	p->outages = simk_chance(world, 400);
	p->partitions = simk_chance(world, 500);
	p->middle = simk_chance(world, 400);
	p->hostile = simk_chance(world, 200);
	p->stranger = simk_chance(world, 300);
	p->slow = simk_chance(world, 250);
	p->loss = (unsigned int)simk_below(world, 100);
	p->delay_ms = 2 + (int64_t)simk_below(world, 200);
	p->chaos_ms = 60000 + (int64_t)simk_below(world, 120000);
	p->final_depth = simk_chance(world, 150)
	    ? 30
	    : 4 + (unsigned int)simk_below(world, 8);
}

static void
break_rule(struct world *world)
{
	struct profile *p = &world->profile;

	switch (world->mutation) {
	case MUTATE_FINALITY:
		p->no_final = false;
		p->reorganises = p->revokes = true;
		break;
	case MUTATE_ONE_BELIEVED:
		p->quorum = 1;
		p->no_final = false;
		break;
	case MUTATE_FALSE_PEER:
		p->stranger = true;
		break;
	case MUTATE_LOST:
	case MUTATE_UNDONE:
		p->hostile = p->resets = p->crashes = false;
		break;
	default:
		break;
	}
}

void
simk_plan(struct world *world, unsigned int nodes)
{
	struct profile *p = &world->profile;

	choose(world, nodes);
	break_rule(world);
	simk_app_begin(world);
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		simk_node_keys(world, i);
	world->nodes[0].hostile = p->hostile;
	world->nodes[STRANGER].stranger = true;
	simk_chain_begin(world);
	for (unsigned int i = 0; i < p->nodes; i++)
		simk_start(world, i);
	if (p->stranger)
		simk_start(world, STRANGER);
	simk_push(world, (struct event){ .at_ms = 5000, .type = EVENT_WORK });
	simk_push(world, (struct event){ .at_ms = 3000, .type = EVENT_FAULT });
	simk_push(world, (struct event){ .at_ms = 9000, .type = EVENT_OWNER });
	if (p->middle)
		simk_push(world,
		    (struct event){ .at_ms = 4000, .type = EVENT_MIDDLE });
}

/* ---- faults -------------------------------------------------------------- */

static void
partition(struct world *world)
{
	uint64_t side = simk_random(world);
	bool one_way = simk_chance(world, 300);

	memset(world->blocked, 0, sizeof(world->blocked));
	simk_note(world, "a partition%s", one_way ? ", one way" : "");
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		for (unsigned int j = 0; j < PLACES_MAX; j++)
			if ((side >> i & 1) < (side >> j & 1)) {
				world->blocked[i][j] = true;
				world->blocked[j][i] = !one_way;
			}
}

static void
crash_one(struct world *world, unsigned int i)
{
	if (!world->nodes[i].alive)
		return;
	simk_crash(world, i);
	simk_push(world,
	    (struct event){ .at_ms = world->now_ms + 200 +
		    (int64_t)simk_below(world, 15000),
		.type = EVENT_RESTART,
		.node = i });
}

static void
jump(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];

	/* A clock that goes back while its node is down lets it use a counter
	 * twice: that one the protocol does not survive. */
	if (world->profile.crashes)
		node->skew_ms += (int64_t)simk_below(world, 8000);
	else
		node->skew_ms = (int64_t)simk_below(world, 60000) - 30000;
	simk_note(
	    world, "the clock of node %u is %d ms off", i, (int)node->skew_ms);
}

/* A child of the node is replaced, or away for a while. */
static void
outage(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	int64_t until = world->now_ms + (int64_t)simk_below(world, 120000);

	if (!node->alive)
		return;
	simk_set_time(world, i);
	switch (simk_below(world, 5)) {
	case 0:
		simk_note(world, "node %u has no chain", i);
		node->chain_down_ms = until;
		break;
	case 1:
		registry_lost(node->keeper->registry);
		readiness_kick(node->keeper->readiness);
		break;
	case 2:
		node->peer_down_ms = world->now_ms + 5000;
		simk_net_cut(world, i);
		break;
	case 3:
		requests_cancel_all(node->keeper->requests);
		sync_requests_cancel_all(node->keeper->syncs);
		simk_app_crash(world, i);
		break;
	default:
		simk_note(world, "nobody has a chain");
		for (unsigned int n = 0; n < world->profile.nodes; n++)
			world->nodes[n].chain_down_ms = until;
		break;
	}
	simk_settle(world, i);
}

/* One that has turned has another secret than it says. */
static void
falsify(struct node *node)
{
	struct readiness *r;

	if (!node->alive)
		return;
	r = node->keeper->readiness;
	r->candidate[0] ^= 0x55;
	r->master[0] ^= 0x55;
}

void
simk_fault(struct world *world)
{
	const struct profile *p = &world->profile;
	unsigned int i = (unsigned int)simk_below(world, p->nodes);

	if (world->calm)
		return;
	simk_push(world,
	    (struct event){ .at_ms = world->now_ms + 1000 +
		    (int64_t)simk_below(world, 8000),
		.type = EVENT_FAULT });
	if (p->hostile && simk_chance(world, 300))
		falsify(&world->nodes[0]);
	switch (simk_below(world, 7)) {
	case 0:
		if (p->partitions)
			partition(world);
		break;
	case 1:
		memset(world->blocked, 0, sizeof(world->blocked));
		break;
	case 2:
		if (p->crashes)
			crash_one(world, i);
		break;
	case 3:
		if (p->jumps)
			jump(world, i);
		break;
	case 4:
		if (p->outages)
			outage(world, i);
		break;
	default:
		if (p->reorganises)
			simk_chain_reorganise(world,
			    1 +
				(unsigned int)simk_below(
				    world, p->final_depth));
		break;
	}
}

/* ---- the registries' owner ----------------------------------------------- */

static void
end_one(struct world *world, unsigned int i)
{
	static const uint8_t statuses[] = { INSTANCE_STOPPED, INSTANCE_ACTIVE,
		INSTANCE_FAILED, INSTANCE_ACTIVE, INSTANCE_ACTIVE, ABSENT };

	switch (simk_below(world, 4)) {
	case 0:
		simk_chain_owner(world, TX_VERSION, i,
		    simk_chance(world, 400) ? VERSION_REVOKED
					    : VERSION_ENROLLED);
		break;
	case 1:
		simk_chain_owner(world, TX_APP,
		    (unsigned int)simk_below(world, APPS),
		    simk_chance(world, 300) ? INSTANCE_STOPPED
					    : INSTANCE_ACTIVE);
		break;
	default:
		simk_chain_owner(
		    world, TX_NODE, i, statuses[simk_below(world, 6)]);
		break;
	}
}

void
simk_owner(struct world *world)
{
	const struct profile *p = &world->profile;
	unsigned int i = (unsigned int)simk_below(world, p->nodes);

	if (world->calm)
		return;
	simk_push(world,
	    (struct event){ .at_ms = world->now_ms + 3000 +
		    (int64_t)simk_below(world, 20000),
		.type = EVENT_OWNER });
	if (p->resets && simk_chance(world, 250))
		simk_chain_owner(world, TX_RESET, 0, 0);
	else if (p->revokes && simk_chance(world, 600))
		end_one(world, i);
	else if (p->joins)
		simk_chain_owner(world, TX_NODE, i, INSTANCE_ACTIVE);
}

void
simk_rescue(struct world *world)
{
	const struct block *head = simk_block(world, world->chain.head);

	if (eth_word_is_zero(&head->hash) || simk_is_held(world) ||
	    world->now_ms - world->rescued_ms < RESCUE_MS)
		return;
	world->rescued_ms = world->now_ms;
	simk_chain_owner(world, TX_RESET, 0, 0);
}

/* All is well from now on, but for an endpoint that goes on to lie; who has
 * turned is expelled. */
void
simk_calm(struct world *world)
{
	const struct profile *p = &world->profile;

	simk_note(world, "calm");
	world->calm = true;
	memset(world->blocked, 0, sizeof(world->blocked));
	for (size_t i = 0; i < world->chain.tx_count; i++)
		if (world->chain.txs[i].kind != TX_SET_HASH)
			world->chain.txs[i].dead |=
			    world->chain.txs[i].block == 0;
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		world->nodes[i].skew_ms = world->nodes[i].chain_down_ms =
		    world->nodes[i].peer_down_ms = 0;
	if (p->hostile)
		simk_crash(world, 0);
	for (unsigned int i = 0; i < p->nodes; i++) {
		bool gone = world->nodes[i].hostile;

		simk_chain_owner(world, TX_NODE, i,
		    gone ? INSTANCE_STOPPED : INSTANCE_ACTIVE);
		if (!gone && !world->nodes[i].alive)
			simk_start(world, i);
	}
	for (unsigned int i = 0; i < 2; i++)
		simk_chain_owner(world, TX_VERSION, i, VERSION_ENROLLED);
	for (unsigned int i = 0; i < APPS; i++)
		simk_chain_owner(world, TX_APP, i, INSTANCE_ACTIVE);
	if (world->mutation == MUTATE_DEAF)
		for (unsigned int i = 0; i < PLACES_MAX; i++)
			world->blocked[p->nodes - 1][i] =
			    world->blocked[i][p->nodes - 1] = true;
}
