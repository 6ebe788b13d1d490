/* What the operator asks by control-socket, and who answers it. */
#ifndef KMS_KMSD_OPERATOR_H
#define KMS_KMSD_OPERATOR_H

#include "proto/chan.h"

struct supervisor;

/* Serve the control-socket, if there is one. KMS_ENOMEM. */
int operator_open(struct supervisor *s);
void operator_close(struct supervisor *s);

/* Ask the keeper; KEEPERKMSD_TOLD answers under this id. KMS_E*. */
int operator_ask(
    struct supervisor *s, uint64_t id, enum control_question question);

/* KEEPERKMSD_TOLD */
int operator_on_told(struct chan *chan, struct msg *msg, void *arg);

#endif
