#include "regress/unit/keeper_rig.h"

#include "kms-keeper/authz.h"

static struct rig rig;
static struct eth_address wallet;
static struct p384_point key;

static struct instance_facts
good(void)
{
	rig.instance_count = 0;
	return *rig_add_instance(&rig, 7, &wallet, &key);
}

static int
setup(void **state)
{
	static const uint8_t scalar[P384_SCALAR_LEN] = { 1, 2, 3 };
	struct p384_key *made;

	if (rig_setup(state) != 0 || p384_key_new(scalar, &made) != 0)
		return -1;
	key = *p384_key_point(made);
	p384_key_free(made);
	memset(wallet.bytes, 0x5a, sizeof(wallet.bytes));
	return 0;
}

static void
passes(const struct instance_facts *facts)
{
	struct p384_point point;
	const char *refusal = authz_app(facts, &wallet, &point);

	if (refusal != NULL)
		fail_msg("refused: %s", refusal);
	assert_true(p384_point_equal(&point, &key));
}

static void
refused(const struct instance_facts *facts, const char *part)
{
	struct p384_point point;
	const char *refusal = authz_app(facts, &wallet, &point);

	assert_non_null(refusal);
	if (strstr(refusal, part) == NULL)
		fail_msg("expected \"%s\", got \"%s\"", part, refusal);
	/* A peer must be all that an app must be. */
	assert_non_null(authz_peer(facts, &wallet, facts->app_id, &point));
}

static void
accepted(void **state)
{
	struct instance_facts facts = good();

	(void)state;
	passes(&facts);
	facts.version_status = VERSION_DEPRECATED;
	passes(&facts);
	facts.app_id = facts.app_id_answered = INT64_MAX;
	passes(&facts);
	/* A key registered as a bare point is the same key. */
	facts = good();
	memcpy(facts.pubkey, key.sec1, P384_SEC1_LEN);
	facts.pubkey_len = P384_SEC1_LEN;
	passes(&facts);
}

static void
instance_conditions(void **state)
{
	struct instance_facts facts;

	(void)state;
	facts = good();
	facts.found = false;
	refused(&facts, "not that of a registered");
	facts = good();
	facts.instance_id = 0;
	refused(&facts, "not that of a registered");
	facts = good();
	facts.wallet.bytes[19] ^= 1;
	refused(&facts, "not that of a registered");
	for (uint64_t status = 1; status < 300; status++) {
		facts = good();
		facts.status = status;
		refused(&facts, "instance is not ACTIVE");
	}
	facts.status = UINT64_MAX;
	refused(&facts, "instance is not ACTIVE");
	facts = good();
	facts.zk_verified = false;
	refused(&facts, "zkVerified");
}

static void
app_and_version(void **state)
{
	static const uint64_t bad_ids[] = { 0, UINT64_C(1) << 63,
		REGISTRY_ID_HUGE };
	struct instance_facts facts;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		facts = good();
		facts.app_id = facts.app_id_answered = bad_ids[i];
		refused(&facts, "unusable");
	}
	facts = good();
	facts.app_id_answered = 8;
	refused(&facts, "app is not registered");
	facts = good();
	facts.version_id_answered = 2;
	refused(&facts, "version is not registered");
	facts = good();
	for (size_t i = 0; i < 3; i++) {
		facts = good();
		facts.version_id = facts.version_id_answered = bad_ids[i];
		refused(&facts, "version is not registered");
	}
	/* What a registry answers for a version that it does not know. */
	facts = good();
	facts.version_id_answered = 0;
	refused(&facts, "version is not registered");
	facts = good();
	facts.version_id = INT64_MAX;
	facts.version_id_answered = INT64_MAX;
	passes(&facts);
	for (uint64_t status = 1; status < 300; status++) {
		facts = good();
		facts.app_status = status;
		refused(&facts, "app is not ACTIVE");
		facts = good();
		facts.version_status = status + 1;
		refused(&facts, "neither ENROLLED nor DEPRECATED");
	}
}

static void
keys(void **state)
{
	struct instance_facts facts = good();

	(void)state;
	facts.pubkey_len--;
	refused(&facts, "not a P-384 key");
	facts.pubkey_len = 0;
	refused(&facts, "not a P-384 key");
	facts = good();
	facts.pubkey_len++;
	refused(&facts, "not a P-384 key");
	facts = good();
	facts.pubkey[100] ^= 1;
	refused(&facts, "not a P-384 key");
}

static void
peers(void **state)
{
	struct instance_facts facts = good();
	struct p384_point point;

	(void)state;
	assert_null(authz_peer(&facts, &wallet, 7, &point));
	assert_non_null(authz_peer(&facts, &wallet, 8, &point));
	assert_string_equal(authz_instance_status_name(0), "ACTIVE");
	assert_string_equal(authz_instance_status_name(2), "FAILED");
	assert_string_equal(authz_instance_status_name(3), "UNKNOWN");
	assert_string_equal(authz_instance_status_name(UINT64_MAX), "UNKNOWN");
}

static void
freshness(void **state)
{
	struct head_guard guard = { 0 };
	struct kms_time now = { RIG_WALL, RIG_BOOT };
	int64_t s = RIG_WALL / 1000;

	(void)state;
	assert_null(head_guard_check(&guard, 0, 1000, s, now, 120000));
	assert_null(head_guard_check(&guard, 0, 936, s, now, 120000));
	assert_non_null(head_guard_check(&guard, 0, 935, s, now, 120000));
	assert_non_null(head_guard_check(&guard, 0, 0, s, now, 120000));
	assert_null(head_guard_check(&guard, 0, 1000, s - 120, now, 120000));
	assert_non_null(
	    head_guard_check(&guard, 0, 1000, s - 121, now, 120000));
	assert_null(head_guard_check(&guard, 0, 1000, s + 120, now, 120000));
	assert_non_null(
	    head_guard_check(&guard, 0, 1000, s + 121, now, 120000));
	/* Switched off, for a chain that mines on demand. */
	assert_null(head_guard_check(&guard, 0, 1000, s - 99999, now, 0));
	/* What was not believed does not raise the mark. */
	assert_non_null(
	    head_guard_check(&guard, 0, 9000, s - 121, now, 120000));
	assert_null(head_guard_check(&guard, 0, 1000, s, now, 120000));
	assert_null(head_guard_check(&guard, 0, 1100, s, now, 120000));
	assert_non_null(head_guard_check(&guard, 0, 1000, s, now, 120000));
	assert_non_null(
	    head_guard_check(&guard, 0, UINT64_MAX, s, now, 120000));
	/* A head out of this world is remembered, of that endpoint alone; but
	 * not for ever. */
	assert_null(head_guard_check(&guard, 0, INT64_MAX, s, now, 120000));
	assert_non_null(head_guard_check(&guard, 0, 1100, s, now, 120000));
	assert_null(head_guard_check(&guard, 1, 900, s, now, 120000));
	assert_null(head_guard_check(&guard, 15, 900, s, now, 120000));
	assert_null(
	    head_guard_check(&guard, MSG_ENDPOINT_ANY, 500, s, now, 120000));
	assert_non_null(
	    head_guard_check(&guard, MSG_ENDPOINT_ANY, 435, s, now, 120000));
	assert_null(head_guard_check(&guard, 1, 836, s, now, 120000));
	now.boot_ms += AUTHZ_HEAD_FORGET_MS - 1;
	assert_non_null(head_guard_check(&guard, 0, 1100, s, now, 120000));
	now.boot_ms += 1;
	/* Not by one whose time is wrong. */
	assert_non_null(
	    head_guard_check(&guard, 0, 1100, s - 121, now, 120000));
	assert_null(head_guard_check(&guard, 0, 1100, s, now, 120000));
	assert_null(head_guard_check(&guard, 0, 1101, s, now, 120000));
	assert_non_null(head_guard_check(&guard, 0, 1036, s, now, 120000));
	/* Seen again near the highest: it begins anew. */
	now.boot_ms += AUTHZ_HEAD_FORGET_MS - 1;
	assert_null(head_guard_check(&guard, 0, 1101, s, now, 120000));
	now.boot_ms += 1;
	assert_non_null(head_guard_check(&guard, 0, 1036, s, now, 120000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(instance_conditions),
		cmocka_unit_test(app_and_version),
		cmocka_unit_test(keys),
		cmocka_unit_test(peers),
		cmocka_unit_test(freshness),
	};

	return cmocka_run_group_tests(tests, setup, rig_teardown);
}
