/* What kmsctl top shows, made of two readings of a node. Pure. */
#ifndef KMSCTL_TOP_VIEW_H
#define KMSCTL_TOP_VIEW_H

#include <jansson.h>

#include "common/buf.h"
#include "kmsctl/top_metrics.h"

struct top_reading {
	struct top_metrics metrics;
	json_t *status; /* of /status, or NULL */
	double at;	/* seconds, of any clock that does not jump */
	double wall;	/* unix seconds */
};

/*
 * Append the table as lines of text. before: the reading before, or NULL: the
 * figures are then those since the start, not per second. KMS_ENOMEM.
 */
int top_view(const char *node, const struct top_reading *now,
    const struct top_reading *before, struct buf *out);

#endif
