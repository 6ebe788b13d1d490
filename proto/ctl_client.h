/* A child's side of its control channel (descriptor FD_CONTROL). */
#ifndef KMS_PROTO_CTL_CLIENT_H
#define KMS_PROTO_CTL_CLIENT_H

#include "proto/chan.h"
#include "proto/config.h"

/* A piece of a large text (KMSDCHILD_BLOB). 0 or KMS_E*. */
typedef int (*ctl_blob_fn)(const char *name, size_t name_len,
    const uint8_t *piece, size_t len, void *arg);

/*
 * Before the sandbox, without a loop: read KMSDCHILD_CONFIG rows into the
 * struct at base until KMSDCHILD_START. blob may be NULL (then a blob is an
 * error). Blocks; KMS_ECLOSED at the end of the channel, KMS_EPROTO, or what
 * config_apply said. Errors are logged.
 */
int ctl_client_configure(const struct config_row *rows, size_t count,
    void *base, ctl_blob_fn blob, void *arg);

/*
 * The control channel on the loop, in state RUNNING. handlers: what this
 * child receives beyond configuration. The process exits (status 0) when the
 * channel ends, so nothing survives kmsd. Counters go up once a second.
 */
int ctl_client_open(uv_loop_t *loop, const struct chan_handler *handlers,
    void *arg, struct chan **chan);

/*
 * What of its configuration a running child can change. rows are a table of
 * their own; next, of size bytes like current, is where a change is collected.
 */
struct ctl_reload {
	const struct config_row *rows;
	size_t count;
	void *current;
	void *next;
	size_t size;
	int collecting;
};

/*
 * KMSDCHILD_RECONFIG: a row into reload->next, which starts as a copy of
 * current with its lists empty. KMS_EPROTO for a name that is not in rows or a
 * bad value (logged).
 */
int ctl_client_reconfig(struct ctl_reload *reload, const struct msg *msg);

/*
 * KMSDCHILD_APPLY: next is complete. KMS_EPROTO when no row came. The caller
 * checks it and takes it over.
 */
int ctl_client_reconfigured(struct ctl_reload *reload);

/* Tell kmsd that rights are given up. missing: "" or what is not in force. */
int ctl_client_ready(struct chan *chan, const char *missing);

/* Log, tell kmsd why, and exit with status 1. Usable before and after
 * ctl_client_open (chan may be NULL). */
void ctl_client_fail(struct chan *chan, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

#endif
