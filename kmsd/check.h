/*
 * kmsd -tt: whether the world is as the configuration says. kmsd starts the
 * very kms-chain that a start would, in its sandbox, and asks it what the
 * keeper would ask, of each endpoint; the wallet comes from a kms-keeper that
 * is given the identity file and nothing else, or from the identity service.
 * So nothing here decodes what a network sent, and nothing is changed: no
 * socket is bound, no transaction is made.
 */
#ifndef KMS_KMSD_CHECK_H
#define KMS_KMSD_CHECK_H

#include <stdio.h>
#include <uv.h>

#include "kmsd/machine.h"

/*
 * Check, and write a line for each check: "ok", "FAIL" with what was expected,
 * what came and what to do, or "skip" with why. The exit status: 0, or 1 when
 * something failed.
 */
int check_run(uv_loop_t *loop, struct machine *machine, FILE *out);

#endif
