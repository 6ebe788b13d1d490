#include "regress/sim/runner.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

#define AGAIN_EVERY 10 /* seeds that are run twice */
#define JOBS_MAX 64

struct options {
	const struct run_kind *kind;
	uint64_t from, seeds;
	unsigned int nodes, jobs, mutation;
	bool forever, one, log;
};

struct total {
	uint64_t seeds, failed, messages, met, level_ms, level_max_ms;
};

static void
print_failure(const struct options *o, uint64_t seed, const char *reason)
{
	const char *mutation = o->kind->mutations[o->mutation].name;
	char nodes[32] = "", mutate[64] = "";

	if (o->nodes > 0)
		(void)snprintf(nodes, sizeof(nodes), " --nodes %u", o->nodes);
	if (o->mutation != 0)
		(void)snprintf(
		    mutate, sizeof(mutate), " --mutate %s", mutation);
	(void)printf("%s: seed %" PRIu64 ": %s\n"
		     "     replay: %s --seed %" PRIu64 "%s%s\n",
	    o->kind->name, seed, reason, o->kind->name, seed, nodes, mutate);
	(void)fflush(stdout);
}

static void
one_seed(const struct options *o, uint64_t seed, struct total *total)
{
	const char *wanted = o->kind->mutations[o->mutation].reason;
	struct run_result result = { 0 }, again = { 0 };

	o->kind->run(seed, o->nodes, o->mutation, o->one, &result);
	if (result.reason[0] == '\0' && seed % AGAIN_EVERY == 0) {
		o->kind->run(seed, o->nodes, o->mutation, false, &again);
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
	if (o->mutation == 0 || o->one)
		print_failure(o, seed, result.reason);
	if (strncmp(result.reason, wanted, strlen(wanted)) == 0)
		total->failed++;
}

static void
give_up(const struct options *o, const char *what)
{
	(void)fprintf(
	    stderr, "%s: %s: %s\n", o->kind->name, what, strerror(errno));
	exit(1);
}

static struct total
work(const struct options *o, unsigned int job)
{
	struct total total = { 0 };

	if (o->kind->init() != 0)
		give_up(o, "init");
	for (uint64_t n = job; o->forever || n < o->seeds; n += o->jobs) {
		one_seed(o, o->from + n, &total);
		/* One that notices a mutation is enough. */
		if ((o->forever || o->mutation != 0) && total.failed > 0)
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
			give_up(o, "pipe");
		switch (fork()) {
		case -1:
			give_up(o, "fork");
			break;
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

/* ---- options ------------------------------------------------------------- */

static uint64_t
number(const struct options *o, const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0') {
		(void)fprintf(stderr, "%s: expected a number, got %s\n",
		    o->kind->name, text);
		exit(2);
	}
	return n;
}

static unsigned int
mutation_of(const struct options *o, const char *name)
{
	for (unsigned int i = 0; i < o->kind->mutation_count; i++)
		if (strcmp(o->kind->mutations[i].name, name) == 0)
			return i;
	(void)fprintf(stderr, "%s: unknown mutation %s\n", o->kind->name, name);
	exit(2);
}

static void
read_option(struct options *o, int c)
{
	switch (c) {
	case 'n':
		o->seeds = number(o, optarg);
		break;
	case 's':
		o->one = true;
		o->seeds = o->jobs = 1;
		o->from = number(o, optarg);
		break;
	case 'f':
		o->from = number(o, optarg);
		break;
	case 'N':
		o->nodes = (unsigned int)number(o, optarg);
		break;
	case 'j':
		o->jobs = (unsigned int)number(o, optarg);
		break;
	case 'm':
		o->mutation = mutation_of(o, optarg);
		break;
	case 'F':
		o->forever = true;
		break;
	case 'l':
		o->log = true;
		break;
	default:
		exit(2);
	}
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
		{ "log", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	const struct run_kind *kind = o->kind;
	int c;

	while ((c = getopt_long(argc, argv, "", rows, NULL)) != -1)
		read_option(o, c);
	if (o->jobs < 1 || o->jobs > JOBS_MAX || o->nodes > kind->nodes_max ||
	    (o->nodes > 0 && o->nodes < kind->nodes_min)) {
		(void)fprintf(stderr, "%s: jobs 1..%d, nodes %u..%u\n",
		    kind->name, JOBS_MAX, kind->nodes_min, kind->nodes_max);
		exit(2);
	}
}

static unsigned int log_node;

void
run_log_of(unsigned int node)
{
	log_node = node;
}

static void
take_log(enum log_level level, const char *text, void *arg)
{
	if (*(const bool *)arg)
		(void)printf("%13snode %u: %s: %s\n", "", log_node,
		    log_level_name(level), text);
}

static const struct run_table *
table_of(const struct run_kind *kind, int argc, char **argv)
{
	const struct run_table *table = kind->tables;

	if (table == NULL || argc != 2)
		return NULL;
	while (table->name != NULL && strcmp(table->name, argv[1]) != 0)
		table++;
	return table->name != NULL ? table : NULL;
}

int
run_main(const struct run_kind *kind, int argc, char **argv)
{
	static struct options o = { .from = 1, .seeds = 100, .jobs = 2 };
	const struct run_table *table = table_of(kind, argc, argv);
	struct total sum;

	o.kind = kind;
	log_set_sink(take_log, &o.log);
	if (table != NULL)
		return kind->init() == 0 ? table->print() : 1;
	read_options(argc, argv, &o);
	sum = o.one ? work(&o, 0) : run_jobs(&o);
	(void)printf("%s: %" PRIu64 " seeds, %" PRIu64 " messages, %" PRIu64
		     " acknowledged writes, level after %.1f s (at most "
		     "%.1f s), %" PRIu64 " violations%s%s\n",
	    kind->name, sum.seeds, sum.messages, sum.met,
	    sum.seeds > 0 ? (double)sum.level_ms / 1000.0 / (double)sum.seeds
			  : 0.0,
	    (double)sum.level_max_ms / 1000.0, sum.failed,
	    o.mutation != 0 ? " with the mutation " : "",
	    o.mutation != 0 ? kind->mutations[o.mutation].name : "");
	if (o.mutation != 0)
		return sum.failed > 0 ? 0 : 1;
	return sum.failed == 0 ? 0 : 1;
}
