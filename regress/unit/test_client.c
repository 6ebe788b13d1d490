/* libkmsclient's pure parts, and the identity file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/crypto.h"
#include "kmsctl/client.h"
#include "kmsctl/cmd.h"

/* ---- URLs and targets ---- */

static void
test_origin(void **state)
{
	static const char *const refused[] = { "", "http://", "https:///",
		"ftp://h", "h:80", "http://h/x", "http://h//", "http://h?q",
		"http://h#f", "http://u@h", "http://u:p@h", "http://h:0",
		"http://h:65536", "http://h:", "http://h:8x", "http://h: 80",
		"http://h h", "http://h\n", "http://[::1", "http://[]",
		"http://[::1%25lo]", "http://h%41", "http://h\\x",
		"http://h:4294967376" };
	struct client_origin origin, other;
	size_t i;

	(void)state;
	assert_int_equal(client_origin_parse("HTTP://LocalHost/", &origin), 0);
	assert_string_equal(origin.host, "localhost");
	assert_int_equal(origin.port, 80);
	assert_false(origin.tls);
	assert_int_equal(
	    client_origin_parse("https://[2001:DB8::1]:65535", &origin), 0);
	assert_string_equal(origin.host, "[2001:db8::1]");
	assert_int_equal(origin.port, 65535);
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(
		    client_origin_parse(refused[i], &origin), KMS_EINVAL);

	client_origin_parse("https://kms.example", &origin);
	client_origin_parse("https://KMS.example:443/", &other);
	assert_true(client_origin_equal(&origin, &other));
	client_origin_parse("http://kms.example:443", &other);
	assert_false(client_origin_equal(&origin, &other));
	client_origin_parse("https://kms.example:444", &other);
	assert_false(client_origin_equal(&origin, &other));
	client_origin_parse("https://kms.example.", &other);
	assert_false(client_origin_equal(&origin, &other));
}

static int
loopback(const char *url)
{
	struct client_origin origin;

	assert_int_equal(client_origin_parse(url, &origin), 0);
	return client_origin_is_loopback(&origin);
}

static void
test_loopback(void **state)
{
	(void)state;
	assert_true(loopback("http://127.0.0.1:4000"));
	assert_true(loopback("http://127.9.9.9"));
	assert_true(loopback("http://LOCALHOST"));
	assert_true(loopback("http://[::1]:1"));
	assert_false(loopback("http://127.evil.example"));
	assert_false(loopback("http://localhost.example"));
	assert_false(loopback("http://128.0.0.1"));
	assert_false(loopback("http://[::2]"));
}

static void
test_target(void **state)
{
	struct client_parameter rows[] = { { "prefix", "a/b c+d%\xc3\xa9~." },
		{ "limit", NULL }, { "after", "" } };
	char longest[3000];
	struct buf target;

	(void)state;
	buf_init(&target, 1);
	assert_int_equal(client_target_build("/kms/data", rows, 3, &target), 0);
	assert_string_equal((const char *)target.data,
	    "/kms/data?prefix=a%2Fb%20c%2Bd%25%C3%A9~.&after=");
	assert_int_equal(target.len, strlen((const char *)target.data));
	assert_int_equal(client_target_build("/kms/data", NULL, 0, &target), 0);
	assert_string_equal((const char *)target.data, "/kms/data");

	memset(longest, '%', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	rows[0].value = longest;
	assert_int_equal(
	    client_target_build("/kms/data", rows, 1, &target), KMS_ETOOBIG);
	buf_free(&target);
}

/* ---- JSON, numbers ---- */

static void
test_json(void **state)
{
	static const char *const refused[] = { "", "[]", "1", "{", "{}x",
		"{\"a\":1,\"a\":2}", "{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}",
		"{\"a\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}" };
	const char good[] = "{\"a\":\"x\",\"n\":9,\"f\":1.5}";
	struct buf text;
	json_t *json;
	int64_t n;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(
		    client_json_parse(refused[i], strlen(refused[i]), &json),
		    KMS_EPROTO);
		assert_null(json);
	}
	assert_int_equal(client_json_parse(good, sizeof(good) - 1, &json), 0);
	assert_string_equal(client_json_string(json, "a"), "x");
	assert_null(client_json_string(json, "n"));
	assert_int_equal(client_json_integer(json, "n", 9, 9, &n), 0);
	assert_int_equal(
	    client_json_integer(json, "n", 10, 99, &n), KMS_EPROTO);
	assert_int_equal(client_json_integer(json, "n", 0, 8, &n), KMS_EPROTO);
	assert_int_equal(client_json_integer(json, "f", 0, 8, &n), KMS_EPROTO);
	client_json_free(json);

	buf_init(&text, CLIENT_ANSWER_MAX);
	assert_int_equal(buf_append_text(&text, "{\"a\":["), 0);
	for (i = 0; i < CLIENT_JSON_TOKENS; i++)
		assert_int_equal(buf_append_text(&text, "1,"), 0);
	assert_int_equal(buf_append_text(&text, "1]}"), 0);
	assert_int_equal(
	    client_json_parse(text.data, text.len, &json), KMS_EPROTO);
	buf_clear(&text);
	assert_int_equal(
	    client_json_append_string(&text, "q\"b\\n\n\x1f\xc3\xa9"), 0);
	assert_int_equal(buf_append(&text, "", 1), 0);
	assert_string_equal(
	    (const char *)text.data, "\"q\\\"b\\\\n\\u000a\\u001f\xc3\xa9\"");
	buf_free(&text);

	assert_int_equal(client_text_check("", 1, 9), KMS_EINVAL);
	assert_int_equal(client_text_check("abc", 1, 3), 0);
	assert_int_equal(client_text_check("abcd", 1, 3), KMS_EINVAL);
	assert_int_equal(client_text_check("\xc3", 1, 3), KMS_EINVAL);
}

static void
test_duration(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} good[] = { { "0", 0 }, { "0s", 0 }, { "1ms", 1 }, { "90s", 90000 },
		{ "10m", 600000 }, { "2h", 7200000 }, { "7d", 604800000 },
		{ "9007199254740992ms", KMS_CLIENT_TTL_MAX } };
	static const char *const bad[] = { "", "5", "m", "-1s", "+1s", " 1s",
		"1s ", "1.5h", "1M", "1 s", "9007199254740993ms",
		"9007199254741s", "99999999999999999999ms", "0x1s" };
	uint64_t n;
	int64_t ms;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(cmd_duration_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(cmd_duration_parse(bad[i], &ms), KMS_EINVAL);

	assert_int_equal(cmd_number_parse("1024", 1, 1024, &n), 0);
	assert_int_equal(n, 1024);
	assert_int_equal(cmd_number_parse("1025", 1, 1024, &n), KMS_EINVAL);
	assert_int_equal(cmd_number_parse("0", 1, 1024, &n), KMS_EINVAL);
	assert_int_equal(cmd_number_parse("3", 0, 2, &n), KMS_EINVAL);
	assert_int_equal(cmd_number_parse("2", 0, 2, &n), 0);
	assert_int_equal(
	    cmd_number_parse("18446744073709551615", 0, UINT64_MAX, &n), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(
	    cmd_number_parse("18446744073709551616", 0, UINT64_MAX, &n),
	    KMS_EINVAL);
	assert_int_equal(cmd_number_parse("1x", 0, 9, &n), KMS_EINVAL);
}

static void
test_is_text(void **state)
{
	(void)state;
	assert_true(cmd_is_text((const uint8_t *)"a\tb\n\xc3\xa9", 6));
	assert_true(cmd_is_text(NULL, 0));
	assert_false(cmd_is_text((const uint8_t *)"a\x1b[2J", 5));
	assert_false(cmd_is_text((const uint8_t *)"\xc2\x9b", 2));
	assert_false(cmd_is_text((const uint8_t *)"\xff", 1));
	assert_false(cmd_is_text((const uint8_t *)"a\0b", 3));
}

/* ---- the registry's answers ---- */

static json_t *
vectors_load(void)
{
	json_t *json = json_load_file("regress/vectors/abi.json", 0, NULL);

	assert_non_null(json);
	return json;
}

static size_t
vector_data(const json_t *row, uint8_t *data, size_t size)
{
	const char *text = client_json_string(row, "data");
	size_t len;

	assert_non_null(text);
	assert_int_equal(hex_decode(text, strlen(text), data, size, &len), 0);
	return len;
}

static void
instance_check(const json_t *fields, const struct client_instance *instance)
{
	char hex[2 * sizeof(instance->tee_pubkey) + 1];
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	assert_int_equal(instance->instance_id,
	    strtoull(client_json_string(fields, "instance_id"), NULL, 10));
	assert_int_equal(instance->app_id,
	    strtoull(client_json_string(fields, "app_id"), NULL, 10));
	assert_int_equal(instance->version_id,
	    strtoull(client_json_string(fields, "version_id"), NULL, 10));
	assert_string_equal(
	    instance->url, client_json_string(fields, "instance_url"));
	hex_encode(instance->tee_pubkey, instance->tee_pubkey_len, hex);
	assert_string_equal(hex, client_json_string(fields, "tee_pubkey"));
	assert_int_equal(instance->zk_verified,
	    json_is_true(json_object_get(fields, "zk_verified")));
	assert_int_equal(instance->status == 0,
	    strcmp(client_json_string(fields, "status"), "ACTIVE") == 0);
	eth_address_format(&instance->wallet, wallet);
	if (client_json_string(fields, "tee_wallet") != NULL)
		assert_string_equal(
		    wallet, client_json_string(fields, "tee_wallet"));
}

static void
test_registry_vectors(void **state)
{
	json_t *json = vectors_load(), *row;
	const json_t *fields;
	struct client_instance instance;
	uint8_t data[8192];
	size_t i, len, instances = 0;

	(void)state;
	json_array_foreach(json_object_get(json, "returns"), i, row)
	{
		const char *name = client_json_string(row, "function");

		fields = json_object_get(row, "fields");
		len = vector_data(row, data, sizeof(data));
		if (strcmp(name, "getInstanceByWallet") == 0) {
			assert_int_equal(
			    client_instance_decode(data, len, &instance), 0);
			instance_check(fields, &instance);
			instances++;
		}
	}
	assert_true(instances >= 3);
	json_decref(json);
}

/* Every cut and many changed bytes: an error or values within bounds. */
static void
test_registry_mutated(void **state)
{
	json_t *json = vectors_load(), *row;
	struct client_instance instance;
	uint8_t data[8192], changed[8192], *exact;
	unsigned int seed = 3;
	size_t i, n, len;

	(void)state;
	json_array_foreach(json_object_get(json, "returns"), i, row)
	{
		len = vector_data(row, data, sizeof(data));
		for (n = 0; n < 3000; n++) {
			size_t cut = n <= len ? n : len;

			memcpy(changed, data, len);
			seed = seed * 1103515245 + 12345;
			if (n > len && len > 0)
				changed[(seed >> 8) % len] =
				    (uint8_t)(seed >> 4);
			/* of exactly that size, for the sanitizer */
			exact = malloc(cut + 1);
			assert_non_null(exact);
			memcpy(exact + 1, changed, cut);
			if (client_instance_decode(exact + 1, cut, &instance) ==
			    0)
				assert_true(
				    strlen(instance.url) <= KMS_CLIENT_URL_MAX);
			free(exact);
		}
	}
	json_decref(json);
}

/* ---- the identity file ---- */

static void
file_write(const char *file, const char *text, mode_t mode)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(file, mode), 0);
}

static void
test_identity(void **state)
{
	static const uint8_t seed[32] = { 7 };
	struct wallet_context *wallets = wallet_context_new(seed);
	char directory[] = "/tmp/test_client.XXXXXX", file[64], other[64];
	char wallet[KMS_CLIENT_WALLET_LEN + 1], text[KMS_CLIENT_WALLET_LEN + 1];
	char reason[KMS_CLIENT_REASON_LEN];
	struct client_identity identity;
	struct stat st;
	json_t *json;

	(void)state;
	assert_non_null(wallets);
	assert_non_null(mkdtemp(directory));
	snprintf(file, sizeof(file), "%s/a", directory);
	snprintf(other, sizeof(other), "%s/b", directory);
	assert_int_equal(kms_client_keygen(file, wallet, reason), 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(
	    client_identity_load(file, wallets, &identity, reason), 0);
	eth_address_format(&identity.wallet, text);
	assert_string_equal(text, wallet);
	client_identity_free(&identity);

	/* it is never overwritten, and never read when others could */
	assert_int_equal(
	    kms_client_keygen(file, wallet, reason), KMS_CLIENT_USAGE);
	assert_non_null(strstr(reason, "exists already"));
	chmod(file, 0640);
	assert_int_equal(client_identity_load(file, wallets, &identity, reason),
	    KMS_CLIENT_USAGE);
	assert_non_null(strstr(reason, "chmod 600"));
	chmod(file, 0600);

	/* a wallet that is not the key's */
	json = json_load_file(file, 0, NULL);
	json_object_set_new(json, "wallet",
	    json_string("0x0000000000000000000000000000000000000001"));
	json_dump_file(json, other, 0);
	json_decref(json);
	chmod(other, 0600);
	assert_int_equal(
	    client_identity_load(other, wallets, &identity, reason),
	    KMS_CLIENT_USAGE);
	file_write(other, "{\"wallet_private_key\":\"00\"}", 0600);
	assert_int_equal(
	    client_identity_load(other, wallets, &identity, reason),
	    KMS_CLIENT_USAGE);
	file_write(other, "", 0600);
	assert_int_equal(
	    client_identity_load(other, wallets, &identity, reason),
	    KMS_CLIENT_USAGE);
	unlink(file);
	unlink(other);
	assert_int_equal(client_identity_load(file, wallets, &identity, reason),
	    KMS_CLIENT_USAGE);
	rmdir(directory);
	wallet_context_free(wallets);
}

/* Nothing listens: unavailable, with the reason; arguments are checked first.
 */
static void
test_open(void **state)
{
	struct kms_client_options options = { .node_url = "http://127.0.0.1:1",
		.rpc_url = "http://127.0.0.1:1/secret-token",
		.timeout_ms = 2000 };
	char reason[KMS_CLIENT_REASON_LEN], *json;
	struct kms_client *client;
	uint8_t key[32];

	(void)state;
	assert_int_equal(kms_client_open(&options, &client, reason), 0);
	assert_int_equal(
	    kms_client_status(client, &json), KMS_CLIENT_UNAVAILABLE);
	assert_null(json);
	assert_non_null(strstr(kms_client_reason(client), "127.0.0.1:1"));
	assert_int_equal(kms_client_derive(client, "p", NULL, key, sizeof(key)),
	    KMS_CLIENT_USAGE);
	assert_int_equal(kms_client_derive(client, "", NULL, key, sizeof(key)),
	    KMS_CLIENT_USAGE);
	assert_int_equal(
	    kms_client_derive(client, "p", NULL, key, 0), KMS_CLIENT_USAGE);
	assert_int_equal(kms_client_put(client, "a\nb", "", 0, -1, 0, NULL),
	    KMS_CLIENT_USAGE);
	/* an RPC URL may be a credential */
	assert_int_equal(client_registry_confirm(client, &client->kms_registry),
	    KMS_CLIENT_UNAVAILABLE);
	assert_null(strstr(kms_client_reason(client), "secret-token"));
	kms_client_close(client);

	options.node_url = "http://h/path";
	assert_int_equal(
	    kms_client_open(&options, &client, reason), KMS_CLIENT_USAGE);
	assert_null(client);
	options.node_url = NULL;
	options.kms_registry = "0x12";
	assert_int_equal(
	    kms_client_open(&options, &client, reason), KMS_CLIENT_USAGE);
	options.kms_registry = NULL;
	options.identity_file = "/nonexistent/identity";
	assert_int_equal(
	    kms_client_open(&options, &client, reason), KMS_CLIENT_USAGE);
	assert_non_null(strstr(reason, "keygen"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_is_text),
		cmocka_unit_test(test_registry_vectors),
		cmocka_unit_test(test_registry_mutated),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_open),
	};
	int rc;

	if (crypto_init() != 0)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	crypto_free();
	return rc;
}
