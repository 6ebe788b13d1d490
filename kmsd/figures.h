/* Every process's figures, on their way to kms-net's /metrics. */
#ifndef KMS_KMSD_FIGURES_H
#define KMS_KMSD_FIGURES_H

#include "kmsd/child.h"
#include "proto/metrics.h"

struct supervisor;

/* The member of the label set "process" that is this child. */
enum label_process figures_process(const struct child *child);

/* The delay that a child's deaths have brought it to; 0 after a calm life. */
uint64_t figures_restart_delay(
    const struct supervisor *s, const struct child *child);

/* Count what kmsd sees of the processes, and send all to kms-net, which is
 * running. */
void figures_push(struct supervisor *s);

#endif
