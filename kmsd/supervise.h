/*
 * The life of the children.
 *
 *   start: all four at once; when each has said READY the sockets listen and
 *     kms-net is told to accept. One that fails before that ends kmsd.
 *   a child dies: after a delay it is started again, with a new channel to
 *     the keeper of the next generation; if it was the keeper, the whole set
 *     is started again.
 *   SIGTERM: the node drains (kmsd/drain.h), then stops; a second one stops it
 *     at once.
 *   stop: the control channels close, children exit; after STOP_MS they are
 *     killed.
 *   SIGHUP: kmsd/reload.h; a child that is starting gets the changes once it
 *     is ready.
 */
#ifndef KMS_KMSD_SUPERVISE_H
#define KMS_KMSD_SUPERVISE_H

#include <uv.h>

#include "kmsd/machine.h"
#include "kmsd/notify.h"
#include "kmsd/reload.h"

#define RESTART_FIRST_MS 100 /* doubled at each death */
#define RESTART_LAST_MS 5000 /* up to this */
#define RESTART_CALM_TIMES                                                     \
	12	       /* forgotten after a life so many times as long         \
			*/
#define READY_MS 10000 /* from start to READY */
#define STOP_MS 1000   /* from the end of control to SIGKILL */

/*
 * Run the children until SIGTERM, SIGINT or the operator's drain; notify is
 * told once the node serves. The exit status for main: 0, or 1 when a child
 * failed before the port opened. Nothing is left running.
 */
int supervise_run(uv_loop_t *loop, struct machine *machine,
    const struct reload *reload, struct notify *notify);

/* The delay before the next start of a child that lived so long, given the
 * delay before (0: never died). */
uint64_t supervise_delay(uint64_t last_ms, uint64_t lived_ms);

#endif
