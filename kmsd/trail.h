/*
 * The audit trail as the supervisor sees it: the keeper's lines into kmsd's
 * file (kmsd/audit.h), and signatures of it when they are wanted.
 */
#ifndef KMS_KMSD_TRAIL_H
#define KMS_KMSD_TRAIL_H

#include <uv.h>

#include "proto/chan.h"

struct supervisor;

/* The keeper learns how the file ends, and goes on from there. */
void trail_tell(struct supervisor *s);

/* KEEPERKMSD_AUDIT */
int trail_on_audit(struct chan *chan, struct msg *msg, void *arg);

/* The file was rotated, or is to be tried again. */
void trail_reopen(struct supervisor *s);

/* SIGUSR1: open the file again; SIGUSR2: sign it. */
void trail_on_signal(uv_signal_t *handle, int signum);

/* Stop, when the keeper has signed the trail's end or the wait is too long. */
void trail_stop(struct supervisor *s);
int trail_is_signing(const struct supervisor *s);

#endif
