/* The deterministic simulator of whole keepers; options: runner.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/secmem.h"
#include "crypto/crypto.h"
#include "regress/sim/simk.h"

#define LEVEL_MAX_MS 600000
#define LOOK_MS 1000
#define LAST_TRIES 20
#define LAST_MS 8000 /* for the last writes */
#define SECRETS_BYTES (512 << 10)

static const struct run_mutation mutations[MUTATIONS] = {
	[MUTATE_NONE] = { "none", "" },
	[MUTATE_TWO_HASHES] = { "two-hashes", "split" },
	[MUTATE_FINALITY] = { "finality", "wiped" },
	[MUTATE_ONE_BELIEVED] = { "one-believed", "wiped" },
	[MUTATE_UNMINED] = { "unmined", "split" },
	[MUTATE_FALSE_PEER] = { "false-peer", "handed out" },
	[MUTATE_LOST] = { "lost", "acknowledged" },
	[MUTATE_UNDONE] = { "undone", "deletion undone" },
	[MUTATE_MEMORY] = { "memory", "memory" },
	[MUTATE_DEAF] = { "deaf", "not level" },
};

/* ---- rules broken on purpose --------------------------------------------- */

/* One write that was acknowledged is forgotten everywhere, or a value that was
 * deleted comes back. */
static void
spoil(struct world *world)
{
	bool undone = world->mutation == MUTATE_UNDONE;
	struct write *write = NULL;
	char key[24], writer[ETH_ADDRESS_TEXT_LEN + 1];

	for (size_t w = 0; w < world->write_count; w++)
		if (world->writes[w].told && !world->writes[w].exempt &&
		    world->writes[w].deletion == undone)
			write = &world->writes[w];
	if (write == NULL)
		return;
	(void)snprintf(key, sizeof(key), "key-%u", write->key);
	eth_address_format(&world->nodes[write->node].wallet, writer);
	for (unsigned int i = 0; i < world->profile.nodes; i++) {
		struct node *node = &world->nodes[i];
		struct clock_item old = { writer, strlen(writer), 1 };
		struct store_incoming in = { .key = key,
			.key_len = strlen(key),
			.value = key,
			.value_len = strlen(key),
			.clock = &old,
			.clock_count = 1,
			.updated_at_ms = WALL0 };

		(void)store_drop(
		    node->keeper->store, APP0 + write->app, key, strlen(key));
		if (undone)
			(void)store_merge(node->keeper->store,
			    APP0 + write->app, &in, simk_time(world, i));
	}
}

/* ---- one seed ------------------------------------------------------------ */

/* Everybody is back: how long until all serve with one secret and hold the
 * same? */
static int64_t
run_level(struct world *world)
{
	int64_t start = world->now_ms;

	for (int64_t at = start + LOOK_MS; at <= start + LEVEL_MAX_MS;
	     at += LOOK_MS) {
		simk_run_until(world, at);
		if (world->reason[0] != '\0')
			return -1;
		if (simk_is_level(world, false))
			return world->now_ms - start;
		simk_rescue(world);
	}
	(void)simk_is_level(world, true);
	return -1;
}

/* It works: what each node is given all others acknowledge. */
static void
run_last(struct world *world)
{
	unsigned int alive = 0;

	for (unsigned int i = 0; i < world->profile.nodes; i++)
		alive += world->nodes[i].alive;
	for (unsigned int i = 0;
	     i < world->profile.nodes && world->reason[0] == '\0'; i++) {
		uint64_t met = world->met;

		for (unsigned int n = 0; world->nodes[i].alive &&
		     world->met == met && n < LAST_TRIES;
		     n++) {
			simk_app_write(world, i, alive - 1);
			simk_run_until(world, world->now_ms + LAST_MS);
		}
		if (world->nodes[i].alive && world->met == met)
			simk_fail(world,
			    "not level: a write to node %u is not "
			    "acknowledged by all",
			    i);
	}
}

static void
print_figures(const struct world *world, int64_t level_ms)
{
	const struct profile *p = &world->profile;

	(void)printf("seed %" PRIu64 ": %u nodes, quorum %u%s%s%s%s%s%s%s%s%s%s"
		     "%s%s%s%s%s, loss %u/1000, delay %" PRId64 " ms, final "
		     "after %u, %" PRIu64 " events, %" PRIu64 " calls, "
		     "%u requests served, level after %" PRId64 " ms\n",
	    world->seed, p->nodes, p->quorum, p->liar ? " liar" : "",
	    p->wrong ? " wrong" : "", p->no_final ? " no-final" : "",
	    p->reorganises ? " reorganises" : "", p->resets ? " resets" : "",
	    p->revokes ? " revokes" : "", p->joins ? " joins" : "",
	    p->crashes ? " crashes" : "", p->jumps ? " jumps" : "",
	    p->outages ? " outages" : "", p->partitions ? " partitions" : "",
	    p->middle ? " middle" : "", p->hostile ? " hostile" : "",
	    p->stranger ? " stranger" : "", p->slow ? " slow" : "", p->loss,
	    p->delay_ms, p->final_depth, world->events, world->messages,
	    world->served, level_ms);
}

static void
run(uint64_t seed, unsigned int nodes, unsigned int mutation, bool verbose,
    struct run_result *result)
{
	struct world *world = calloc(1, sizeof(*world));

	if (world == NULL)
		abort();
	TAILQ_INIT(&world->ops);
	TAILQ_INIT(&world->calls);
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	world->mutation = (enum mutation)mutation;
	world->verbose = verbose;
	simk_plan(world, nodes);
	simk_run_until(world, world->profile.chaos_ms);
	result->level_ms = -1;
	if (world->reason[0] == '\0') {
		simk_calm(world);
		if (mutation == MUTATE_LOST || mutation == MUTATE_UNDONE)
			spoil(world);
		result->level_ms = run_level(world);
	}
	if (world->reason[0] == '\0')
		run_last(world);
	if (world->reason[0] == '\0')
		(void)run_level(world);
	if (world->reason[0] == '\0')
		simk_check_end(world);
	if (verbose)
		print_figures(world, result->level_ms);
	result->trace = world->trace;
	result->messages = world->messages;
	result->met = world->met;
	memcpy(result->reason, world->reason, sizeof(result->reason));
	simk_world_free(world);
	free(world);
}

/* In each process: locked memory is no child's of its parent. */
static int
init(void)
{
	int error = secmem_init(SECRETS_BYTES, NULL);

	return error == 0 ? crypto_init() : error;
}

int
main(int argc, char **argv)
{
	static const struct run_kind kind = {
		.name = "simk",
		.mutations = mutations,
		.mutation_count = MUTATIONS,
		.nodes_min = NODES_MIN,
		.nodes_max = NODES_MAX,
		.init = init,
		.run = run,
	};

	return run_main(&kind, argc, argv);
}
