/*
 * What the keeper pushed about itself and the cluster, and the answers made
 * of it when it came, so that a request costs no more than a write.
 */
#ifndef KMS_NET_STATE_H
#define KMS_NET_STATE_H

#include <stdbool.h>

#include "common/buf.h"
#include "proto/msg.h"

#define STATE_NODES_MAX 1024

#define STATE_VALUES 18 /* fields of KEEPERNET_STATE */

struct state {
	bool draining; /* shown as not ready, whatever the keeper says */
	struct msg_value values[STATE_VALUES]; /* the latest, */
	struct buf texts;		       /* which point into this */
	bool ready;			       /* /kms/ is served */
	bool known;			       /* some state was pushed */
	char reason[513];		       /* why it is not ready */
	struct buf status;		       /* body of /status */
	struct buf nodes;		       /* body of /nodes */
	struct buf rows;		       /* /nodes being put together */
	uint64_t push;			       /* its push number */
	uint64_t row_next;
	uint64_t row_count;
};

/* Not ready: "keeper not reachable"; no nodes. KMS_ENOMEM. */
int state_init(struct state *state);

/* KEEPERNET_STATE, KEEPERNET_NODE. 0, KMS_ENOMEM; KMS_EPROTO for a row that
 * does not follow the one before it, or more than STATE_NODES_MAX. */
int state_update(struct state *state, const struct msg *msg);
int state_node(struct state *state, const struct msg *msg);

/* From now on it is not ready: "draining". KMS_ENOMEM. */
int state_drain(struct state *state);

#endif
