/* One child as kmsd sees it: process, control channel, log pipe. */
#ifndef KMS_KMSD_CHILD_H
#define KMS_KMSD_CHILD_H

#include <uv.h>

#include "kmsd/logger.h"
#include "kmsd/machine.h"
#include "proto/chan.h"

enum child_state {
	CHILD_DOWN,	/* no process */
	CHILD_STARTING, /* not READY yet */
	CHILD_READY,
	CHILD_ENDING /* control closed, exit awaited */
};

struct child {
	enum role role;
	enum child_state state;
	pid_t pid;
	uint32_t generation;  /* of its channel to the keeper */
	int keeper_end;	      /* the keeper's end, until it is handed over */
	struct chan *control; /* NULL: closed */
	struct logger_pipe *log;
	uint64_t started_ms;	   /* loop time */
	uint64_t delay_ms;	   /* before the latest start; 0 at first */
	unsigned int restarts;	   /* since kmsd's start */
	char last_end[160];	   /* how the process before ended; "" */
	uv_timer_t timer;	   /* next start, READY deadline or SIGKILL */
	int outdated;		   /* configured before a reload */
	uint64_t most_connections; /* kms-net: max-connections at its start */
	int has_metrics;
	uint64_t metrics[METRIC_COUNT];
	void *owner; /* of whoever started it */
};

/*
 * Spawn the process, open its control channel on the loop with these
 * handlers, and queue its configuration. For a role with a channel to the
 * keeper, a new socketpair of the next generation is made. KMS_E* (logged);
 * then nothing runs.
 */
int child_start(struct child *child, uv_loop_t *loop,
    const struct machine *machine, const struct chan_handler *handlers,
    chan_closed_fn closed);

/* Forget a process that was waited for: prints what its log still holds. */
void child_reaped(struct child *child);

/* How its process ended, from the status of wait, for people. */
void child_describe_end(
    const struct child *child, int status, char *out, size_t size);

/* Close its control channel, which asks it to exit. */
void child_end(struct child *child);

#endif
