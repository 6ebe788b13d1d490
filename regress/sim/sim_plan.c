#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "regress/sim/sim.h"

/* ---- what a seed is like ------------------------------------------------- */

void
sim_plan(struct world *world, unsigned int nodes)
{
	struct profile *p = &world->profile;

	p->nodes = nodes > 0 ? nodes : 3 + (unsigned int)sim_below(world, 7);
	p->away = sim_chance(world, 200);
	p->hostile = sim_chance(world, 250) && !p->away;
	p->deployed = sim_chance(world, 250) && !p->away;
	p->evicting = sim_chance(world, 120) && !p->away;
	p->jumps = sim_chance(world, 400) && !p->away;
	p->crashes = sim_chance(world, 600) && !p->away;
	p->members = sim_chance(world, 300) && !p->away;
	if (world->mutation == MUTATE_MEMORY ||
	    world->mutation == MUTATE_EVICTED)
		p->evicting = true;
	if (world->mutation == MUTATE_MEMBERS)
		p->deployed = true;
	p->loss = p->away ? 0 : (unsigned int)sim_below(world, 150);
	p->duplicate = (unsigned int)sim_below(world, 100);
	p->delay_ms = 2 + (int64_t)sim_below(world, 200);
	p->chaos_ms = p->away ? 120000 : 20000;
	p->writes = 30 + (unsigned int)sim_below(world, 120);
	for (unsigned int i = 0; i < p->nodes; i++) {
		struct node *node = &world->nodes[i];

		(void)snprintf(node->wallet, sizeof(node->wallet),
		    "0x%040" PRIx64, UINT64_C(0xa0000) + i);
		memcpy(node->member_name, node->wallet, sizeof(node->wallet));
		node->role = ROLE_OURS;
		node->member = true;
		if (p->hostile && i == p->nodes - 1)
			node->role = ROLE_HOSTILE;
		if (p->deployed && i == p->nodes - 2) {
			node->role = ROLE_DEPLOYED;
			/* They write theirs in checksum case. */
			node->member_name[37] = 'A';
		}
	}
	sim_push(world, (struct event){ .at_ms = 200, .type = EVENT_WORKLOAD });
	sim_push(world, (struct event){ .at_ms = 1500, .type = EVENT_FAULT });
}

/* ---- writes -------------------------------------------------------------- */

static struct told *
tell(struct world *world, unsigned int node, uint64_t app, unsigned int key,
    bool deletion)
{
	struct told *told;
	struct store_record record;
	char text[16];

	if (world->told_count == WRITES_MAX)
		return NULL;
	told = &world->told[world->told_count++];
	memset(told, 0, sizeof(*told));
	told->app = app;
	told->key = key;
	told->node = node;
	told->life = world->nodes[node].life;
	told->deletion = deletion;
	sim_key(key, text);
	if (store_peek(world->nodes[node].store, app, text, strlen(text),
		sim_time(world, node), &record))
		for (unsigned int n = 0; n < world->profile.nodes; n++)
			told->clock[n] = sim_counter(world, &record, n);
	told->counter = told->clock[node];
	return told;
}

static void
write_one(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct kms_time now = sim_time(world, i);
	uint64_t app = 1 + sim_below(world, APPS);
	unsigned int key = (unsigned int)sim_below(world, KEYS);
	unsigned int replicas = (unsigned int)sim_below(world, 3);
	bool deletion = sim_chance(world, 250);
	int64_t ttl = sim_chance(world, 150)
	    ? 1000 + (int64_t)sim_below(world, 20000)
	    : 0;
	char text[16], value[400];
	int error, n;

	sim_key(key, text);
	n = snprintf(value, sizeof(value), "v:%016" PRIx64 "%*s",
	    sim_random(world), (int)sim_below(world, 300), "");
	if (deletion)
		error = store_delete_local(
		    node->store, app, text, strlen(text), now);
	else
		error = store_put_local(node->store, app, text, strlen(text),
		    value, (size_t)n, ttl, now, NULL);
	if (error != 0)
		return;
	if (deletion || ttl > 0)
		world->forgot[app - 1][key] = true;
	if (node->sync == NULL)
		return;
	sync_local_change(node->sync, now);
	if (replicas > 0 && sync_can_wait(node->sync, app, replicas) == 0) {
		struct told *told = tell(world, i, app, key, deletion);

		if (told != NULL)
			(void)sync_wait(node->sync, app, text, strlen(text),
			    replicas, told, now);
	}
}

/* Nobody serves before it has what the others have. */
static bool
may_write(const struct node *node)
{
	if (!node->alive || !node->member || node->role == ROLE_HOSTILE)
		return false;
	return node->sync == NULL || node->started_ms == 0 ||
	    sync_stats(node->sync).filled;
}

void
sim_workload(struct world *world)
{
	unsigned int i = (unsigned int)sim_below(world, world->profile.nodes);
	struct node *node = &world->nodes[i];
	int64_t gap = world->profile.chaos_ms / world->profile.writes;

	if (world->calm)
		return;
	if (may_write(node)) {
		write_one(world, i);
		sim_settle(world, i);
	}
	sim_push(world,
	    (struct event){ .at_ms = world->now_ms + 1 +
		    (int64_t)sim_below(world, (uint64_t)(2 * gap + 1)),
		.type = EVENT_WORKLOAD });
}

/* ---- faults -------------------------------------------------------------- */

static void
unblock(struct world *world)
{
	memset(world->blocked, 0, sizeof(world->blocked));
}

static void
partition(struct world *world)
{
	uint64_t side = sim_random(world);
	bool one_way = sim_chance(world, 300);

	unblock(world);
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		for (unsigned int j = 0; j < world->profile.nodes; j++)
			if ((side >> i % 64 & 1) < (side >> j % 64 & 1)) {
				world->blocked[i][j] = true;
				world->blocked[j][i] = !one_way;
			}
}

/* One node apart for longer than the retention. */
static void
isolate(struct world *world)
{
	unsigned int apart =
	    (unsigned int)sim_below(world, world->profile.nodes);

	unblock(world);
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		world->blocked[i][apart] = world->blocked[apart][i] =
		    i != apart;
}

static void
crash_one(struct world *world, unsigned int i)
{
	if (!world->nodes[i].alive)
		return;
	sim_crash(world, i);
	sim_push(world,
	    (struct event){
		.at_ms = world->now_ms + 200 + (int64_t)sim_below(world, 5000),
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
		node->skew_ms += (int64_t)sim_below(world, 8000);
	else
		node->skew_ms = (int64_t)sim_below(world, 60000) - 30000;
}

/* A member leaves for good, or one that was not becomes one. */
static void
change_members(struct world *world, unsigned int i)
{
	unsigned int members = 0;

	for (unsigned int n = 0; n < world->profile.nodes; n++)
		members += world->nodes[n].member;
	if (world->nodes[i].member && members <= 3)
		return;
	world->nodes[i].member = !world->nodes[i].member;
	if (world->nodes[i].member)
		sim_start(world, i);
	else
		sim_crash(world, i);
	sim_set_members(world);
}

void
sim_fault(struct world *world)
{
	const struct profile *p = &world->profile;
	unsigned int i = (unsigned int)sim_below(world, p->nodes);
	int64_t next = 500 + (int64_t)sim_below(world, 3000);

	if (world->calm)
		return;
	if (p->away) {
		if (sim_chance(world, 500))
			isolate(world);
		else
			unblock(world);
		next = 5000 + (int64_t)sim_below(world, 60000);
	} else {
		switch (sim_below(world, 6)) {
		case 0:
		case 1:
			partition(world);
			break;
		case 2:
			unblock(world);
			break;
		case 3:
			if (p->crashes)
				crash_one(world, i);
			break;
		case 4:
			if (p->jumps)
				jump(world, i);
			break;
		default:
			if (p->members)
				change_members(world, i);
			break;
		}
	}
	sim_push(world,
	    (struct event){
		.at_ms = world->now_ms + next, .type = EVENT_FAULT });
}

void
sim_calm(struct world *world)
{
	world->calm = true;
	unblock(world);
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		world->nodes[i].skew_ms = 0;
}
