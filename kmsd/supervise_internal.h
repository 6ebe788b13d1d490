/* What the files of the supervisor share and nobody else includes. */
#ifndef KMS_KMSD_SUPERVISE_INTERNAL_H
#define KMS_KMSD_SUPERVISE_INTERNAL_H

#include "kmsd/child.h"
#include "kmsd/control.h"
#include "kmsd/supervise.h"

enum phase {
	PHASE_FIRST_START, /* the port is not open; any failure ends kmsd */
	PHASE_SERVING,
	PHASE_REPLACING, /* the keeper died: all go down, then all come up */
	PHASE_DRAINING,	 /* the last requests, the last changes */
	PHASE_STOPPING
};

struct supervisor {
	uv_loop_t *loop;
	struct machine *machine;
	const struct reload *reload;
	struct notify *notify;
	enum phase phase;
	int status; /* exit status of kmsd */
	struct child children[ROLES];
	struct supply *supply; /* NULL: the keys are local */
	uv_signal_t on_child, on_term, on_int, on_hup, on_usr1, on_usr2;
	uv_timer_t sign_timer; /* a stop that waits for the last signature */
	uv_timer_t metrics_timer;
	uv_timer_t drain_timer;
	struct control *control; /* NULL: no control-socket */
	int serving;		 /* the keeper says ready */
	int has_served;		 /* ... or this keeper said so once */
	int flushing;		 /* draining: requests are done with */
	int drained;		 /* ... and all else */
	uint64_t drain_asker;	 /* the operator's question, 0: a signal */
	uint64_t drain_ms;	 /* when it began */
};

/* All children end, then kmsd. */
void supervise_stop(struct supervisor *s);

#endif
