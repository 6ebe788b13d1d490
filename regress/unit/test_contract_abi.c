/*
 * common/abi against what the compiler made of contracts/ and what the
 * contracts answered (regress/vectors/contracts/abi.json, kept equal to the
 * sources by `make contracts`): a change of a struct breaks a test here.
 */
#include "regress/unit/vector.h"

#include "common/abi.h"
#include "common/err.h"

#define FILE_NAME "regress/vectors/contracts/abi.json"
#define WALLETS_MAX 8

/* How the members are laid out and called, as PROTOCOL.md section 6 says. */
static const struct {
	const char *function;
	const char *returns;
	const char *members[11];
} tuples[] = {
	{ "getInstanceByWallet(address)",
	    "(uint256,uint256,uint256,address,string,bytes,address,bool,uint8,"
	    "uint256)",
	    { "instanceId", "appId", "versionId", "operator", "instanceUrl",
		"teePubkey", "teeWalletAddress", "zkVerified", "status",
		"registeredAt" } },
	{ "getApp(uint256)",
	    "(uint256,address,bytes32,address,string,uint256,uint256,uint8,"
	    "address)",
	    { "appId", "owner", "teeArch", "dappContract", "metadataUri",
		"latestVersionId", "createdAt", "status", "appWallet" } },
	{ "getVersion(uint256,uint256)",
	    "(uint256,string,bytes32,string,string,string,string,uint8,"
	    "uint256,address)",
	    { "versionId", "versionName", "codeMeasurement", "imageUri",
		"auditUrl", "auditHash", "githubRunId", "status", "enrolledAt",
		"enrolledBy" } },
};

static json_t *file;

static int
load(void **state)
{
	(void)state;
	file = vector_load(FILE_NAME);
	return 0;
}

static int
unload(void **state)
{
	(void)state;
	json_decref(file);
	return 0;
}

static const json_t *
contract(const char *name)
{
	const json_t *found =
	    json_object_get(json_object_get(file, "contracts"), name);

	assert_non_null(found);
	return found;
}

/* The row of a function in whichever contract has it. */
static const json_t *
function_row(const char *signature)
{
	static const char *const names[] = { "KMSRegistry", "NovaAppRegistry" };
	const json_t *row = NULL;

	for (size_t i = 0; row == NULL && i < 2; i++)
		row = json_object_get(
		    json_object_get(contract(names[i]), "functions"),
		    signature);
	if (row == NULL)
		fail_msg("no contract has %s", signature);
	return row;
}

static void
test_selectors(void **state)
{
	const struct abi_function *function;
	uint8_t selector[ABI_SELECTOR_LEN];

	(void)state;
	for (int i = 0; i < ABI_CALL_COUNT; i++) {
		function = abi_function((enum abi_call)i);
		vector_exact(function_row(function->signature), "selector",
		    selector, sizeof(selector));
		assert_memory_equal(
		    selector, function->selector, sizeof(selector));
	}
}

static void
test_tuples(void **state)
{
	const json_t *names;
	size_t count, len;

	(void)state;
	for (size_t i = 0; i < sizeof(tuples) / sizeof(tuples[0]); i++) {
		char name[64];

		assert_string_equal(
		    vector_text(
			function_row(tuples[i].function), "returns", &len),
		    tuples[i].returns);
		(void)snprintf(name, sizeof(name), "%.*s",
		    (int)strcspn(tuples[i].function, "("), tuples[i].function);
		names = json_object_get(
		    json_object_get(contract("NovaAppRegistry"), "members"),
		    name);
		for (count = 0; tuples[i].members[count] != NULL; count++) {
			const char *member =
			    json_string_value(json_array_get(names, count));

			assert_non_null(member);
			assert_string_equal(member, tuples[i].members[count]);
		}
		assert_int_equal(json_array_size(names), count);
	}
}

static void
test_errors(void **state)
{
	const json_t *errors =
			 json_object_get(contract("KMSRegistry"), "errors"),
		     *row;
	size_t known = 0, i;

	(void)state;
	while (abi_error(known) != NULL)
		known++;
	assert_int_equal(json_array_size(errors), known);
	json_array_foreach(errors, i, row)
	{
		size_t k = 0;

		while (k < known &&
		    strcmp(abi_error(k)->signature, json_string_value(row)) !=
			0)
			k++;
		if (k == known)
			fail_msg("no row for %s", json_string_value(row));
	}
}

/* ---- encodings --------------------------------------------------------- */

static void
address_is(
    const json_t *fields, const char *member, const struct eth_address *got)
{
	struct eth_address expected;

	vector_exact(fields, member, expected.bytes, sizeof(expected.bytes));
	assert_memory_equal(expected.bytes, got->bytes, sizeof(got->bytes));
}

static void
word_is(const json_t *fields, const char *member, const struct eth_word *got)
{
	struct eth_word expected;

	vector_exact(fields, member, expected.bytes, sizeof(expected.bytes));
	assert_memory_equal(expected.bytes, got->bytes, sizeof(got->bytes));
}

static void
uint_is(const json_t *fields, const char *member, uint64_t got)
{
	assert_int_equal(vector_u64(fields, member), got);
}

static void
check_instance(const json_t *fields, const uint8_t *data, size_t len)
{
	struct abi_instance got;
	const char *url;
	size_t key_len, url_len;
	uint8_t *key = vector_bytes(fields, "tee_pubkey", &key_len);

	assert_int_equal(abi_decode_instance(data, len, &got), 0);
	uint_is(fields, "instance_id", got.instance_id);
	uint_is(fields, "app_id", got.app_id);
	uint_is(fields, "version_id", got.version_id);
	address_is(fields, "operator", &got.operator_address);
	url = vector_text(fields, "instance_url", &url_len);
	assert_int_equal(url_len, got.instance_url_len);
	assert_memory_equal(url, got.instance_url, url_len);
	assert_int_equal(key_len, got.tee_pubkey_len);
	assert_memory_equal(key, got.tee_pubkey, key_len);
	address_is(fields, "tee_wallet", &got.tee_wallet);
	assert_int_equal(json_is_true(json_object_get(fields, "zk_verified")),
	    got.zk_verified);
	uint_is(fields, "status", got.status);
	uint_is(fields, "registered_at", got.registered_at);
	free(key);
}

static void
check_app(const json_t *fields, const uint8_t *data, size_t len)
{
	struct abi_app got;

	assert_int_equal(abi_decode_app(data, len, &got), 0);
	uint_is(fields, "app_id", got.app_id);
	address_is(fields, "owner", &got.owner);
	word_is(fields, "tee_arch", &got.tee_arch);
	address_is(fields, "dapp_contract", &got.dapp_contract);
	uint_is(fields, "latest_version_id", got.latest_version_id);
	uint_is(fields, "created_at", got.created_at);
	uint_is(fields, "status", got.status);
	assert_true(got.has_app_wallet);
	address_is(fields, "app_wallet", &got.app_wallet);
}

static void
check_version(const json_t *fields, const uint8_t *data, size_t len)
{
	struct abi_version got;

	assert_int_equal(abi_decode_version(data, len, &got), 0);
	uint_is(fields, "version_id", got.version_id);
	word_is(fields, "code_measurement", &got.code_measurement);
	uint_is(fields, "status", got.status);
	uint_is(fields, "enrolled_at", got.enrolled_at);
	address_is(fields, "enrolled_by", &got.enrolled_by);
}

static void
check_wallets(const json_t *fields, const uint8_t *data, size_t len)
{
	const json_t *expected = json_object_get(fields, "wallets"), *text;
	struct eth_address got[WALLETS_MAX], wallet;
	size_t count, i;

	assert_int_equal(
	    abi_decode_addresses(data, len, got, WALLETS_MAX, &count), 0);
	assert_int_equal(json_array_size(expected), count);
	json_array_foreach(expected, i, text)
	{
		assert_int_equal(hex_decode_exact(json_string_value(text),
				     json_string_length(text), wallet.bytes,
				     sizeof(wallet.bytes)),
		    0);
		assert_memory_equal(
		    wallet.bytes, got[i].bytes, sizeof(wallet.bytes));
	}
}

static void
check_hash(const json_t *fields, const uint8_t *data, size_t len)
{
	struct eth_word got;

	assert_int_equal(abi_decode_word(data, len, &got), 0);
	word_is(fields, "word", &got);
	assert_false(eth_word_is_zero(&got));
}

static void
check_uint(const json_t *fields, const uint8_t *data, size_t len)
{
	struct eth_word word;
	uint64_t got, expected;

	vector_exact(fields, "word", word.bytes, sizeof(word.bytes));
	assert_int_equal(eth_word_to_u64(&word, &expected), 0);
	assert_int_equal(abi_decode_uint(data, len, &got), 0);
	assert_int_equal(got, expected);
	assert_int_equal(got, 49);
}

static void
check_bool(const json_t *fields, const uint8_t *data, size_t len)
{
	struct eth_word word;
	bool got;

	vector_exact(fields, "word", word.bytes, sizeof(word.bytes));
	assert_int_equal(abi_decode_bool(data, len, &got), 0);
	assert_int_equal(got, word.bytes[ETH_WORD_LEN - 1]);
}

static const struct {
	const char *name;
	void (*check)(const json_t *fields, const uint8_t *data, size_t len);
	size_t times; /* in the file */
} checks[] = {
	{ "getInstanceByWallet", check_instance, 3 },
	{ "getApp", check_app, 2 },
	{ "getVersion", check_version, 3 },
	{ "getActiveInstances", check_wallets, 2 },
	{ "getOperators", check_wallets, 1 },
	{ "masterSecretHash", check_hash, 1 },
	{ "kmsAppId", check_uint, 1 },
	{ "isOperator", check_bool, 2 },
};

static void
test_answers(void **state)
{
	const json_t *rows = json_object_get(file, "encodings"), *row;
	size_t i, k, len, name_len, seen;
	uint8_t *data;

	(void)state;
	for (k = 0; k < sizeof(checks) / sizeof(checks[0]); k++) {
		seen = 0;
		json_array_foreach(rows, i, row)
		{
			if (strcmp(vector_text(row, "name", &name_len),
				checks[k].name) != 0)
				continue;
			data = vector_bytes(row, "data", &len);
			checks[k].check(
			    json_object_get(row, "fields"), data, len);
			free(data);
			seen++;
		}
		assert_int_equal(seen, checks[k].times);
	}
}

static void
test_reverts(void **state)
{
	const json_t *rows = json_object_get(file, "encodings"), *row;
	size_t i, len, name_len, seen = 0, known = 0;
	struct abi_revert got;
	uint8_t *data;

	(void)state;
	json_array_foreach(rows, i, row)
	{
		if (json_object_get(row, "revert") == NULL)
			continue;
		data = vector_bytes(row, "revert", &len);
		abi_decode_revert(data, len, &got);
		assert_int_equal(got.kind, ABI_REVERT_CUSTOM);
		assert_string_equal(
		    got.text, vector_text(row, "name", &name_len));
		free(data);
		seen++;
	}
	while (abi_error(known) != NULL)
		known++;
	assert_int_equal(seen, known); /* each was provoked */
}

/* Calldata: the one transaction and what it asks with arguments. */
static const uint8_t *
calldata_of(const json_t *rows, const char *name, size_t skip, size_t *len)
{
	static uint8_t data[ABI_CALLDATA_MAX];
	size_t i, name_len;
	const json_t *row;

	json_array_foreach(rows, i, row)
	{
		const char *text;
		size_t text_len;

		if (strcmp(vector_text(row, "name", &name_len), name) != 0 ||
		    skip-- > 0)
			continue;
		text = vector_text(row, "calldata", &text_len);
		assert_int_equal(
		    hex_decode(text, text_len, data, sizeof(data), len), 0);
		return data;
	}
	fail_msg("no row %s", name);
	return NULL;
}

static void
calldata_is(const char *name, size_t skip, const struct abi_calldata *got)
{
	const json_t *rows = json_object_get(file, "encodings");
	size_t len;
	const uint8_t *expected = calldata_of(rows, name, skip, &len);

	assert_int_equal(len, got->len);
	assert_memory_equal(expected, got->data, len);
}

static void
test_calldata(void **state)
{
	struct eth_address node, other;
	struct eth_word again = { { 0 } };
	struct abi_calldata call;

	(void)state;
	memset(node.bytes, 0x11, sizeof(node.bytes));
	memset(other.bytes, 0x22, sizeof(other.bytes));
	abi_encode_get_instance_by_wallet(&node, &call);
	calldata_is("getInstanceByWallet", 0, &call);
	assert_int_equal(abi_encode_get_app(49, &call), 0);
	calldata_is("getApp", 0, &call);
	assert_int_equal(abi_encode_get_version(49, 4, &call), 0);
	calldata_is("getVersion", 1, &call);
	assert_int_equal(abi_encode_get_active_instances(49, &call), 0);
	calldata_is("getActiveInstances", 0, &call);
	abi_encode_get_operators(&call);
	calldata_is("getOperators", 0, &call);
	abi_encode_master_secret_hash(&call);
	calldata_is("masterSecretHash", 0, &call);
	abi_encode_kms_app_id(&call);
	calldata_is("kmsAppId", 0, &call);
	abi_encode_is_operator(&other, &call);
	calldata_is("isOperator", 1, &call);
	memcpy(again.bytes, "again", 5);
	abi_encode_set_master_secret_hash(&again, &call);
	calldata_is("MasterSecretHashAlreadySet", 0, &call);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_tuples),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_reverts),
		cmocka_unit_test(test_calldata),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
