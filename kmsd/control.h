/*
 * The operator's socket (control-socket): a Unix stream socket that only root
 * and kmsd's own user can open. A connection sends one line, the name of a
 * question or an order, and gets one JSON text back. What the keeper is asked
 * it answers; kmsd carries the bytes and looks at none of them.
 */
#ifndef KMS_KMSD_CONTROL_H
#define KMS_KMSD_CONTROL_H

#include <stdint.h>
#include <uv.h>

#include "common/buf.h"
#include "proto/msg.h"

#define CONTROL_SESSIONS_MAX 8
#define CONTROL_LINE_MAX 64
#define CONTROL_ANSWER_MAX (4u << 20) /* bytes of one answer */
#define CONTROL_TIMEOUT_MS 30000

struct control;

struct control_ops {
	/* Ask the keeper; control_told brings its answer under this id. KMS_E*
	 * when it cannot be asked. */
	int (*ask)(void *arg, uint64_t id, enum control_question question);
	/* Drain and stop; control_told or control_refused says what came of
	 * it, with no deadline of control's. KMS_EBUSY: under way already. */
	int (*drain)(void *arg, uint64_t id);
	/* Append what is known of the processes, as JSON. KMS_ENOMEM. */
	int (*processes)(void *arg, struct buf *answer);
	void *arg;
};

/* Make the socket at path, mode 0600, in place of one that nobody listens on
 * any more. The descriptor, listening, or -1 (logged). Before the sandbox. */
int control_bind(const char *path);

/* Serve it; takes over fd. NULL without memory. */
struct control *control_new(
    uv_loop_t *loop, int fd, const struct control_ops *ops);

/* A piece of the answer to a question; last: it ends with it. An unknown id is
 * ignored: its caller has gone. */
void control_told(struct control *control, uint64_t id, const void *piece,
    size_t len, int last);

/* There is no answer; why needs no JSON escape. */
void control_refused(struct control *control, uint64_t id, const char *why);

/* The keeper is gone: whoever waits for it is told so. */
void control_lost(struct control *control);

/* Close everything; memory goes with the loop's last turn. NULL is fine. */
void control_close(struct control *control);

#endif
