/*
 * Verdicts on instances, from the facts of the chain alone (PROTOCOL.md
 * section 6). Pure; no cache, no time but the block's.
 */
#ifndef KMS_KEEPER_AUTHZ_H
#define KMS_KEEPER_AUTHZ_H

#include "common/clock.h"
#include "crypto/p384.h"
#include "kms-keeper/registry.h"

#define AUTHZ_ID_MAX INT64_MAX	/* of an app or version; above: unusable */
#define AUTHZ_HEAD_STEP_BACK 64 /* blocks a head may go back */

enum instance_status { INSTANCE_ACTIVE, INSTANCE_STOPPED, INSTANCE_FAILED };
enum app_status { APP_ACTIVE, APP_INACTIVE, APP_REVOKED };
enum version_status { VERSION_ENROLLED, VERSION_DEPRECATED, VERSION_REVOKED };

/*
 * NULL when the instance may call as an app under this wallet, its key then
 * in *point; else why not, a static text for the 403.
 */
const char *authz_app(const struct instance_facts *facts,
    const struct eth_address *wallet, struct p384_point *point);

/* The same for a node: also appId must be the cluster's. */
const char *authz_peer(const struct instance_facts *facts,
    const struct eth_address *wallet, uint64_t kms_app_id,
    struct p384_point *point);

/* The name of an instance status, "UNKNOWN" for another value. */
const char *authz_instance_status_name(uint64_t status);

/*
 * The freshness of what endpoints report, each for itself: one that once named
 * a head out of this world spoils only its own. Start with all zero.
 */
struct head_guard {
	/* block ever seen; the last one of what a quorum agreed on */
	uint64_t highest[REGISTRY_ENDPOINTS_MAX + 1];
	int64_t lower_since_ms[REGISTRY_ENDPOINTS_MAX + 1]; /* boot; 0: not */
};

/* So long heads far below the highest, and none near it, take its place: one
 * false head must not stop a node for ever, which it would lose its memory to
 * forget. Well below membership-max-age. */
#define AUTHZ_HEAD_FORGET_MS 240000

/*
 * May facts that this endpoint (MSG_ENDPOINT_ANY: a quorum) read at this block
 * be believed now? NULL, or why not. max_age_ms 0: the age is not looked at.
 * Remembers the highest block, as above.
 */
const char *head_guard_check(struct head_guard *guard, unsigned int endpoint,
    uint64_t block, int64_t block_time, struct kms_time now,
    uint64_t max_age_ms);

#endif
