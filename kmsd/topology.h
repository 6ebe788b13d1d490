/* Who exists, and who may talk to whom. */
#ifndef KMS_KMSD_TOPOLOGY_H
#define KMS_KMSD_TOPOLOGY_H

#include <stddef.h>

#include "proto/metrics.h"
#include "proto/msg.h"

enum role { ROLE_NET, ROLE_KEEPER, ROLE_RPC, ROLE_PEER, ROLES };

#define ROLE_BIT(role) (1U << (role))

struct role_row {
	const char *name;    /* value of the configuration row "role" */
	const char *program; /* file name of the executable */
	const char *label;   /* in log lines */
	const char *user;    /* default user, when root and it exists */
	unsigned int uid;    /* else this user and group */
	enum metrics_slot slot;
};

extern const struct role_row roles[ROLES];

/*
 * One row per channel between children; each has the keeper at its other
 * end. What does not stand here cannot be spoken.
 */
struct channel_row {
	enum role role;
	enum channel_kind kind; /* what the keeper is told it is */
};

extern const struct channel_row channels[];
extern const size_t channel_count;

/* The row of a role's channel to the keeper; NULL: it has none. */
const struct channel_row *topology_channel(enum role role);

#endif
