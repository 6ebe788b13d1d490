/*
 * The deterministic cluster simulator.
 *
 *   sim [--seeds N] [--from S] [--nodes N] [--jobs J] [--mutate NAME]
 *   sim --seed S [--nodes N]     one seed, with its figures
 *   sim --forever                until a seed fails
 *   sim repair                   a table: bytes to repair what differs
 *   sim bulk                     a table: time for a large backlog
 *
 * Prints the seeds that violate a rule; exits 0 when none did (with --mutate,
 * which breaks a rule on purpose: when one did, and for the right reason).
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "crypto/crypto.h"
#include "regress/sim/sim.h"

#define LEVEL_MAX_MS 900000
#define LOOK_MS 1000
#define AGAIN_EVERY 10 /* seeds that are run twice */
#define JOBS_MAX 64

static const struct {
	const char *name, *reason;
} mutations[MUTATIONS] = {
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
	while (world->reason[0] == '\0' && world->heap_count > 0 &&
	    world->heap[0].at_ms <= at_ms)
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
		if (sim_is_converged(world, false))
			return world->now_ms - start;
	}
	(void)sim_is_converged(world, true);
	return -1;
}

void
sim_run(uint64_t seed, unsigned int nodes, enum mutation mutation, bool verbose,
    struct result *result)
{
	struct world *world = calloc(1, sizeof(*world));

	if (world == NULL)
		abort();
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15 + 1;
	world->mutation = mutation;
	world->verbose = verbose;
	sim_plan(world, nodes);
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		sim_start(world, i);
	run_until(world, world->profile.chaos_ms);
	result->level_ms = -1;
	if (world->reason[0] == '\0')
		result->level_ms = run_calm(world);
	if (world->reason[0] == '\0')
		sim_check_end(world);
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

/* ---- many ---------------------------------------------------------------- */

struct options {
	uint64_t from, seeds;
	unsigned int nodes, jobs;
	enum mutation mutation;
	bool forever, one;
};

struct total {
	uint64_t seeds, failed, messages, met, level_ms, level_max_ms;
};

static void
print_failure(const struct options *o, uint64_t seed, const char *reason)
{
	char nodes[32] = "";

	if (o->nodes > 0)
		(void)snprintf(nodes, sizeof(nodes), " --nodes %u", o->nodes);
	(void)printf("sim: seed %" PRIu64 ": %s\n"
		     "     replay: sim --seed %" PRIu64 "%s\n",
	    seed, reason, seed, nodes);
	(void)fflush(stdout);
}

static void
one_seed(const struct options *o, uint64_t seed, struct total *total)
{
	struct result result, again;
	const char *wanted = mutations[o->mutation].reason;

	sim_run(seed, o->nodes, o->mutation, o->one, &result);
	if (result.reason[0] == '\0' && seed % AGAIN_EVERY == 0) {
		sim_run(seed, o->nodes, o->mutation, false, &again);
		if (again.trace != result.trace)
			(void)snprintf(result.reason, sizeof(result.reason),
			    "the same seed, another trace");
	}
	total->seeds++;
	total->messages += result.messages;
	total->met += result.met;
	if (result.level_ms > 0) {
		total->level_ms += (uint64_t)result.level_ms;
		if ((uint64_t)result.level_ms > total->level_max_ms)
			total->level_max_ms = (uint64_t)result.level_ms;
	}
	if (result.reason[0] == '\0')
		return;
	if (o->mutation == MUTATE_NONE)
		print_failure(o, seed, result.reason);
	if (strncmp(result.reason, wanted, strlen(wanted)) == 0)
		total->failed++;
}

static struct total
work(const struct options *o, unsigned int job)
{
	struct total total = { 0 };

	for (uint64_t n = job; o->forever || n < o->seeds; n += o->jobs) {
		one_seed(o, o->from + n, &total);
		if (o->forever && total.failed > 0)
			break;
	}
	return total;
}

static void
add(struct total *sum, const struct total *part)
{
	sum->seeds += part->seeds;
	sum->failed += part->failed;
	sum->messages += part->messages;
	sum->met += part->met;
	sum->level_ms += part->level_ms;
	if (part->level_max_ms > sum->level_max_ms)
		sum->level_max_ms = part->level_max_ms;
}

/* Each job is a process; one that dies counts as a failure. */
static struct total
run_jobs(const struct options *o)
{
	struct total sum = { 0 }, part;
	int ends[JOBS_MAX][2];

	for (unsigned int job = 0; job < o->jobs; job++) {
		if (pipe(ends[job]) != 0)
			exit(1);
		switch (fork()) {
		case -1:
			exit(1);
		case 0:
			part = work(o, job);
			if (write(ends[job][1], &part, sizeof(part)) !=
			    (ssize_t)sizeof(part))
				_exit(1);
			exit(0);
		default:
			(void)close(ends[job][1]);
		}
	}
	for (unsigned int job = 0; job < o->jobs; job++) {
		if (read(ends[job][0], &part, sizeof(part)) ==
		    (ssize_t)sizeof(part))
			add(&sum, &part);
		else
			sum.failed++;
		(void)close(ends[job][0]);
	}
	while (wait(NULL) > 0)
		;
	return sum;
}

static uint64_t
number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		(void)fprintf(stderr, "sim: expected a number, got %s\n", text);
		exit(2);
	}
	return n;
}

static enum mutation
mutation_of(const char *name)
{
	for (int i = 0; i < MUTATIONS; i++)
		if (strcmp(mutations[i].name, name) == 0)
			return (enum mutation)i;
	(void)fprintf(stderr, "sim: unknown mutation %s\n", name);
	exit(2);
}

static void
read_options(int argc, char **argv, struct options *o)
{
	static const struct option rows[] = {
		{ "seeds", required_argument, NULL, 'n' },
		{ "from", required_argument, NULL, 'f' },
		{ "nodes", required_argument, NULL, 'N' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "mutate", required_argument, NULL, 'm' },
		{ "seed", required_argument, NULL, 's' },
		{ "forever", no_argument, NULL, 'F' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", rows, NULL)) != -1) {
		switch (c) {
		case 'n':
			o->seeds = number(optarg);
			break;
		case 's':
			o->one = true;
			o->seeds = o->jobs = 1;
			o->from = number(optarg);
			break;
		case 'f':
			o->from = number(optarg);
			break;
		case 'N':
			o->nodes = (unsigned int)number(optarg);
			break;
		case 'j':
			o->jobs = (unsigned int)number(optarg);
			break;
		case 'm':
			o->mutation = mutation_of(optarg);
			break;
		case 'F':
			o->forever = true;
			break;
		default:
			exit(2);
		}
	}
	if (o->jobs < 1 || o->jobs > JOBS_MAX || o->nodes > NODES_MAX ||
	    (o->nodes > 0 && o->nodes < 3)) {
		(void)fprintf(stderr, "sim: jobs 1..%d, nodes 3..%d\n",
		    JOBS_MAX, NODES_MAX);
		exit(2);
	}
}

static void
swallow(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)text;
	(void)arg;
}

int
main(int argc, char **argv)
{
	struct options o = { .from = 1, .seeds = 100, .jobs = 2 };
	struct total sum;

	log_set_sink(swallow, NULL);
	if (crypto_init() != 0)
		return 1;
	if (argc == 2 && strcmp(argv[1], "repair") == 0)
		return sim_repair() ? 0 : 1;
	if (argc == 2 && strcmp(argv[1], "bulk") == 0) {
		sim_bulk();
		return 0;
	}
	read_options(argc, argv, &o);
	sum = o.one ? work(&o, 0) : run_jobs(&o);
	(void)printf("sim: %" PRIu64 " seeds, %" PRIu64 " messages, %" PRIu64
		     " acknowledged writes, level after %.1f s (at most "
		     "%.1f s), %" PRIu64 " violations%s%s\n",
	    sum.seeds, sum.messages, sum.met,
	    sum.seeds > 0 ? (double)sum.level_ms / 1000.0 / (double)sum.seeds
			  : 0.0,
	    (double)sum.level_max_ms / 1000.0, sum.failed,
	    o.mutation != MUTATE_NONE ? " with the mutation " : "",
	    o.mutation != MUTATE_NONE ? mutations[o.mutation].name : "");
	if (o.mutation != MUTATE_NONE)
		return sum.failed > 0 ? 0 : 1;
	return sum.failed == 0 ? 0 : 1;
}
