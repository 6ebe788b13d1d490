/* What the simulators share: many seeds in several processes, seeds that are
 * run twice, and rules broken on purpose. */
#ifndef KMS_REGRESS_RUNNER_H
#define KMS_REGRESS_RUNNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REASON_LEN 600

/* What the run of one seed came to. */
struct run_result {
	uint64_t trace;
	char reason[REASON_LEN]; /* "": no rule was violated */
	uint64_t messages;
	uint64_t met;	  /* acknowledged writes */
	int64_t level_ms; /* from calm to converged, -1: never */
};

/* A rule that can be broken on purpose, and how the reason begins with which
 * the checkers must notice. The first is none. */
struct run_mutation {
	const char *name, *reason;
};

/* Something else that the program prints, and its exit status. */
struct run_table {
	const char *name;
	int (*print)(void);
};

struct run_kind {
	const char *name;
	const struct run_mutation *mutations;
	size_t mutation_count;
	const struct run_table *tables; /* ends with NULLs; or NULL */
	unsigned int nodes_min, nodes_max;
	/* Called first, in every process. 0, or it cannot run. */
	int (*init)(void);
	void (*run)(uint64_t seed, unsigned int nodes, unsigned int mutation,
	    bool verbose, struct run_result *result);
};

/*
 *   NAME [--seeds N] [--from S] [--nodes N] [--jobs J] [--mutate NAME]
 *   NAME --seed S [--nodes N] [--log]   one seed, with its figures, and with
 *                                       what the nodes log
 *   NAME --forever                      until a seed fails
 *   NAME TABLE                          one of kind->tables
 *
 * Prints the seeds that violate a rule; returns 0 when none did (with
 * --mutate: when one did, and for the right reason), 1 otherwise.
 */
int run_main(const struct run_kind *kind, int argc, char **argv);

/* What is logged from now on is this node's. */
void run_log_of(unsigned int node);

#endif
