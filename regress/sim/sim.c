/*
 * The deterministic simulator of the replication engine; options: runner.h,
 * and
 *   sim repair                   a table: bytes to repair what differs
 *   sim bulk                     a table: time for a large backlog
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypto.h"
#include "regress/sim/sim.h"

#define LEVEL_MAX_MS 900000
#define LOOK_MS 1000

static const struct run_mutation mutations[MUTATIONS] = {
	[MUTATE_NONE] = { "none", "" },
	[MUTATE_CONVERGENCE] = { "convergence", "not level" },
	[MUTATE_ACKNOWLEDGED] = { "acknowledged", "acknowledged" },
	[MUTATE_DELETION] = { "deletion", "deletion undone" },
	[MUTATE_CAUSALITY] = { "causality", "node " },
	[MUTATE_MEMORY] = { "memory", "memory" },
	[MUTATE_MEMBERS] = { "members", "a deployed peer" },
	[MUTATE_EVICTED] = { "evicted", "not level" },
};

/* ---- one seed ------------------------------------------------------------ */

static void
run_until(struct world *world, int64_t at_ms)
{
	while (world->reason[0] == '\0' &&
	    schedule_next_ms(&world->schedule) <= at_ms)
		(void)sim_step(world);
	if (world->now_ms < at_ms)
		world->now_ms = at_ms;
}

/* Everybody is back, nothing is lost any more: how long until all is level? */
static int64_t
run_calm(struct world *world)
{
	int64_t start = world->now_ms;

	sim_calm(world);
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (world->nodes[i].member && !world->nodes[i].alive)
			sim_start(world, i);
	for (int64_t at = start + LOOK_MS; at <= start + LEVEL_MAX_MS;
	     at += LOOK_MS) {
		run_until(world, at);
		if (world->reason[0] != '\0')
			return -1;
		if (sim_is_converged(world, false) &&
		    sim_told_stand(world, false))
			return world->now_ms - start;
	}
	(void)(sim_is_converged(world, true) && sim_told_stand(world, true));
	return -1;
}

static void
run(uint64_t seed, unsigned int nodes, unsigned int mutation, bool verbose,
    struct run_result *result)
{
	struct world *world = calloc(1, sizeof(*world));

	if (world == NULL)
		abort();
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	world->mutation = (enum mutation)mutation;
	world->verbose = verbose;
	sim_plan(world, nodes);
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		sim_start(world, i);
	run_until(world, world->profile.chaos_ms);
	result->level_ms = -1;
	if (world->reason[0] == '\0')
		result->level_ms = run_calm(world);
	if (verbose) {
		const struct profile *p = &world->profile;

		(void)printf("seed %" PRIu64 ": %u nodes%s%s%s%s%s%s%s, "
			     "loss %u/1000, delay %" PRId64 " ms, %" PRIu64
			     " events, level after %" PRId64 " ms\n",
		    seed, p->nodes, p->hostile ? " hostile" : "",
		    p->deployed ? " deployed" : "",
		    p->evicting ? " evicting" : "", p->jumps ? " jumps" : "",
		    p->crashes ? " crashes" : "", p->members ? " members" : "",
		    p->away ? " away" : "", p->loss, p->delay_ms, world->events,
		    result->level_ms);
	}
	result->trace = world->trace;
	result->messages = world->messages;
	result->met = world->writes_met;
	memcpy(result->reason, world->reason, sizeof(result->reason));
	sim_world_free(world);
	free(world);
}

static int
bulk(void)
{
	sim_bulk();
	return 0;
}

static int
repair(void)
{
	return sim_repair() ? 0 : 1;
}

int
main(int argc, char **argv)
{
	static const struct run_table tables[] = {
		{ "repair", repair },
		{ "bulk", bulk },
		{ NULL, NULL },
	};
	static const struct run_kind kind = {
		.name = "sim",
		.mutations = mutations,
		.mutation_count = MUTATIONS,
		.tables = tables,
		.nodes_min = 3,
		.nodes_max = NODES_MAX,
		.init = crypto_init,
		.run = run,
	};

	return run_main(&kind, argc, argv);
}
