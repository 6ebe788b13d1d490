/*
 * One end of a socketpair between two processes, on a libuv loop: frames in,
 * frames out, checked against msg.def. What is not legal from that sender in
 * that state ends the channel with one log line.
 */
#ifndef KMS_PROTO_CHAN_H
#define KMS_PROTO_CHAN_H

#include <stdint.h>
#include <uv.h>

#include "proto/msg.h"

struct chan;

/* A message arrived. Return 0, or a KMS_E* to end the channel (one log line
 * names the message and the error). msg and its values die on return. */
typedef int (*chan_handler_fn)(struct chan *chan, struct msg *msg, void *arg);

/* One row per message that this end receives; the last has handler NULL. */
struct chan_handler {
	enum msg_type type;
	chan_handler_fn handler;
};

/*
 * The channel ended: by the other side (KMS_ECLOSED), by a violation
 * (KMS_EPROTO, already logged) or an error. Called once, never from within
 * chan_open or a chan_send; the chan is closed by then: chan_free it.
 */
typedef void (*chan_closed_fn)(struct chan *chan, int error, void *arg);

/* The output queue fell below its low mark after chan_send_room said 0. */
typedef void (*chan_drained_fn)(struct chan *chan, void *arg);

struct chan_config {
	const char *name;     /* for the log; borrowed for ever */
	enum msg_channel in;  /* what is received here */
	enum msg_channel out; /* what is sent from here */
	uint32_t generation;  /* frames with another one end the channel */
	const struct chan_handler *handlers;
	chan_closed_fn closed;
	chan_drained_fn drained; /* may be NULL */
	void *arg;
	size_t queue_max; /* bytes of output that may wait */
};

/*
 * Take over fd (a stream socketpair end; made non-blocking). State starts as
 * MSG_STATE_RUNNING. *chan is freed by chan_free. KMS_ENOMEM, KMS_ESYS; fd is
 * then still the caller's.
 */
int chan_open(uv_loop_t *loop, int fd, const struct chan_config *config,
    struct chan **chan);

/* Flush what can be flushed, close and free; the callbacks stay silent. Safe
 * inside a handler. NULL is fine. */
void chan_free(struct chan *chan);

void chan_set_state(struct chan *chan, enum msg_state state);
uint32_t chan_generation(const struct chan *chan);

/*
 * Send: begin, msg_put_* in the row's order, end. chan_end returns 0,
 * KMS_EINVAL for a message that does not fit its row (a bug), KMS_ETOOBIG
 * when the queue is full, KMS_ECLOSED. Output is collected and written once
 * before the loop polls.
 *   struct msg_writer w;
 *   chan_begin(chan, &w, MSG_NETKEEPER_NONCE, id);
 *   error = chan_end(chan, &w);
 */
void chan_begin(
    struct chan *chan, struct msg_writer *w, enum msg_type type, uint64_t id);
int chan_end(struct chan *chan, struct msg_writer *w);

/* As chan_end for a row that carries a descriptor: fd is sent along and
 * closed here in every case. One may wait at a time (KMS_EBUSY). */
int chan_end_fd(struct chan *chan, struct msg_writer *w, int fd);

/* Bytes that may still be queued. Below MSG_WINDOW, callers hold bodies back
 * and wait for drained. */
size_t chan_send_room(struct chan *chan);

/* Stop and resume reading (backpressure on the other side). */
void chan_pause(struct chan *chan);
void chan_resume(struct chan *chan);

/*
 * The other side has died: hand what it still sent to the handlers, at once.
 * closed is not called from here.
 */
void chan_read_last(struct chan *chan);

/* Write out what is queued, blocking up to timeout_ms; for last words. */
void chan_flush_blocking(struct chan *chan, int timeout_ms);

#endif
