#include "kms-keeper/authz.h"

#include <stddef.h>

#include "kms-keeper/refusal.h"

static const char *
check_app_and_version(const struct instance_facts *facts)
{
	if (facts->app_id == 0 || facts->app_id > AUTHZ_ID_MAX)
		return refusal_text(REFUSAL_APP_ID);
	if (facts->app_id_answered != facts->app_id)
		return refusal_text(REFUSAL_APP_ABSENT);
	if (facts->app_status != APP_ACTIVE)
		return refusal_text(REFUSAL_APP_STATUS);
	/* A registry answers an unknown version with zeros: 0 is ENROLLED. */
	if (facts->version_id == 0 || facts->version_id > AUTHZ_ID_MAX ||
	    facts->version_id_answered != facts->version_id)
		return refusal_text(REFUSAL_VERSION_ABSENT);
	if (facts->version_status != VERSION_ENROLLED &&
	    facts->version_status != VERSION_DEPRECATED)
		return refusal_text(REFUSAL_VERSION_STATUS);
	return NULL;
}

const char *
authz_app(const struct instance_facts *facts, const struct eth_address *wallet,
    struct p384_point *point)
{
	const char *refusal;

	if (!facts->found || facts->instance_id == 0 ||
	    !eth_address_equal(&facts->wallet, wallet))
		return refusal_text(REFUSAL_UNREGISTERED);
	if (facts->status != INSTANCE_ACTIVE)
		return refusal_text(REFUSAL_INSTANCE_STATUS);
	if (!facts->zk_verified)
		return refusal_text(REFUSAL_UNVERIFIED);
	refusal = check_app_and_version(facts);
	if (refusal != NULL)
		return refusal;
	if (p384_public_parse(facts->pubkey, facts->pubkey_len, point) != 0)
		return refusal_text(REFUSAL_PUBKEY);
	return NULL;
}

const char *
authz_peer(const struct instance_facts *facts, const struct eth_address *wallet,
    uint64_t kms_app_id, struct p384_point *point)
{
	if (facts->found && facts->app_id != kms_app_id)
		return refusal_text(REFUSAL_NOT_A_MEMBER);
	return authz_app(facts, wallet, point);
}

const char *
authz_instance_status_name(uint64_t status)
{
	static const char *const names[] = { "ACTIVE", "STOPPED", "FAILED" };

	return status < 3 ? names[status] : "UNKNOWN";
}

/* Has the highest been contradicted for long enough, by heads whose time is
 * right? */
static bool
is_outlived(struct head_guard *guard, size_t at, struct kms_time now)
{
	int64_t *since = &guard->lower_since_ms[at];

	if (*since == 0)
		*since = now.boot_ms;
	return now.boot_ms - *since >= AUTHZ_HEAD_FORGET_MS;
}

const char *
head_guard_check(struct head_guard *guard, unsigned int endpoint,
    uint64_t block, int64_t block_time, struct kms_time now,
    uint64_t max_age_ms)
{
	size_t at = endpoint < REGISTRY_ENDPOINTS_MAX ? endpoint
						      : REGISTRY_ENDPOINTS_MAX;
	uint64_t *highest = &guard->highest[at];
	int64_t now_s = now.wall_ms / 1000;
	bool back;

	if (block > INT64_MAX)
		return "the chain's head is no block number";
	back = block<*highest && * highest - block> AUTHZ_HEAD_STEP_BACK;
	if (max_age_ms != 0 && block_time < now_s &&
	    (uint64_t)(now_s - block_time) > max_age_ms / 1000)
		return back
		    ? "the chain's head went back by more than 64 blocks"
		    : "the chain's latest block is older than max-head-age";
	if (max_age_ms != 0 && block_time > now_s &&
	    (uint64_t)(block_time - now_s) > max_age_ms / 1000)
		return "the chain's latest block lies in the future";
	if (back && !is_outlived(guard, at, now))
		return "the chain's head went back by more than 64 blocks";
	guard->lower_since_ms[at] = 0;
	if (back || block > *highest)
		*highest = block;
	return NULL;
}
