#include "regress/unit/vector.h"

#include <stdio.h>

#include "common/base64.h"
#include "common/err.h"
#include "crypto/pop.h"
#include "kms-keeper/answer_app.h"
#include "kms-keeper/derive.h"
#include "regress/unit/crypto_setup.h"

#define WALL INT64_C(1767225600000)

static uint8_t master[MASTER_SECRET_LEN];
static struct app_context context;
static struct app_answer answer;
static json_t *reply; /* of the last call that was answered with 200 */

static void
counting(void *arg, uint8_t *out, size_t len)
{
	static uint8_t next;

	(void)arg;
	for (size_t i = 0; i < len; i++)
		out[i] = next++;
}

static int
begin(void **state)
{
	struct store_config config;

	(void)state;
	store_config_init(&config);
	config.max_value_size = 4096;
	config.max_app_storage = 65536;
	context = (struct app_context){
		.store = store_new(&config),
		.master = master,
		.app_id = 49,
		.bound = true,
		.max_value_size = 4096,
		.now = { WALL, 1000 },
		.random = counting,
	};
	return store_set_member(context.store, "0xaa", 4);
}

static int
end(void **state)
{
	(void)state;
	json_decref(reply);
	reply = NULL;
	store_free(context.store);
	return 0;
}

static unsigned int
call_target(const struct target *target, const void *body, size_t len)
{
	uint64_t before = store_stats(context.store).sequence;
	uint8_t digest[SHA256_LEN];
	struct buf plaintext;

	json_decref(reply);
	reply = NULL;
	buf_init(&plaintext, ANSWER_MAX);
	answer_app(&context, target, body, len, &plaintext, &answer);
	if (answer.status == 200) {
		reply = json_loadb((const char *)plaintext.data, plaintext.len,
		    JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
		assert_non_null(reply);
		assert_int_equal(
		    json_integer_value(json_object_get(reply, "app_id")),
		    context.app_id);
	} else {
		/* Nothing written, nothing stored, and fit to be signed. */
		assert_int_equal(plaintext.len, 0);
		assert_int_equal(store_stats(context.store).sequence, before);
		assert_true(answer.message[0] != '\0');
		assert_int_equal(pop_error_hash(answer_app_code(answer.status),
				     answer.message, digest),
		    0);
	}
	buf_free(&plaintext);
	return answer.status;
}

static unsigned int
call(enum operation operation, const char *body)
{
	struct target target = { .operation = operation };

	return call_target(&target, body, strlen(body));
}

static unsigned int
get(const char *key)
{
	struct target target = { .operation = OPERATION_GET };

	target.key.given = true;
	target.key.len = strlen(key);
	memcpy(target.key.text, key, target.key.len);
	return call_target(&target, NULL, 0);
}

static void
refused(enum operation operation, const char *body, const char *part)
{
	if (call(operation, body) != 400)
		fail_msg("%s: %u %s", body, answer.status, answer.message);
	if (strstr(answer.message, part) == NULL)
		fail_msg("%s: expected \"%s\", got \"%s\"", body, part,
		    answer.message);
}

static const char *
text_of(const char *member)
{
	const char *text = json_string_value(json_object_get(reply, member));

	assert_non_null(text);
	return text;
}

static int64_t
number_of(const char *member)
{
	assert_true(json_is_integer(json_object_get(reply, member)));
	return json_integer_value(json_object_get(reply, member));
}

static void
derive_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/kdf.json");
	const json_t *row;
	size_t i, used = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "derive"), i, row)
	{
		uint8_t expected[DERIVE_LEN_MAX], key[DERIVE_LEN_MAX];
		size_t len, got, path_len, context_len;
		const char *path = vector_text(row, "path", &path_len);
		const char *with = vector_text(row, "context", &context_len);
		json_t *body;
		char *text;

		len = vector_u64(row, "length");
		vector_exact(row, "master_secret", master, sizeof(master));
		vector_exact(row, "key", expected, len);
		context.app_id = vector_u64(row, "app_id");
		context.reserved_paths_allowed = true;
		if (context.app_id == 0 || context.app_id > INT64_MAX)
			continue;
		body = json_pack("{s:s%,s:s%,s:I}", "path", path, path_len,
		    "context", with, context_len, "length", (json_int_t)len);
		text = json_dumps(body, 0);
		assert_int_equal(call(OPERATION_DERIVE, text), 200);
		free(text);
		json_decref(body);
		assert_int_equal(number_of("length"), len);
		assert_string_equal(text_of("path"), path);
		assert_string_equal(text_of("context"), with);
		assert_int_equal(
		    base64_decode(text_of("key"), strlen(text_of("key")), key,
			sizeof(key), &got),
		    0);
		assert_int_equal(got, len);
		assert_memory_equal(key, expected, len);
		used++;
	}
	assert_true(used >= 3);
	json_decref(root);
}

static void
derive_members(void **state)
{
	(void)state;
	assert_int_equal(call(OPERATION_DERIVE, "{\"path\":\"a\"}"), 200);
	assert_int_equal(number_of("length"), 32);
	assert_string_equal(text_of("context"), "");
	assert_int_equal(json_object_size(reply), 5);
	/* An integral real is an integer. */
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"a\",\"length\":48.0}"), 200);
	assert_int_equal(number_of("length"), 48);
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"a\",\"length\":4.8e1}"), 200);
	assert_int_equal(number_of("length"), 48);
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"a\",\"length\":1024}"), 200);
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"a\",\"length\":1}"), 200);
	/* A path may hold anything that JSON can. */
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"\\u0000 \\\"\"}"), 200);
	context.bound = false;
	assert_int_equal(call(OPERATION_DERIVE, "{\"path\":\"a\"}"), 200);
	assert_null(json_object_get(reply, "context"));
	/* A decimal string as the length: deployed callers, v1 alone. */
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"a\",\"length\":\"48\"}"), 200);
	assert_int_equal(number_of("length"), 48);
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"length\":\"\"}", "length:");
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"length\":\"-1\"}", "length:");
	refused(OPERATION_DERIVE, "{\"path\":\"a\",\"length\":\"1025\"}",
	    "length:");
	refused(OPERATION_DERIVE,
	    "{\"path\":\"a\",\"length\":\"99999999999999999999\"}", "length:");
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"length\":\"4 8\"}", "length:");
	context.bound = true;
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"length\":\"48\"}", "length:");
}

/* What JSON must escape comes back as it was sent. */
static void
derive_escaped_path(void **state)
{
	(void)state;
	assert_int_equal(call(OPERATION_DERIVE,
			     "{\"path\":\"q\\\"b\\\\t\\tn\\u0001\\u00e9\","
			     "\"context\":\"/\\\"\"}"),
	    200);
	assert_string_equal(text_of("path"), "q\"b\\t\tn\x01\xc3\xa9");
	assert_string_equal(text_of("context"), "/\"");
}

static void
derive_refusals(void **state)
{
	static const char *const lengths[] = { "0", "-1", "1025", "32.5",
		"true", "null", "[]", "{}", "1e300", "99999999999999999999",
		"-99999999999999999999", "9223372036854775807", "0.0", "-1.0" };
	char body[128];

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		(void)snprintf(body, sizeof(body),
		    "{\"path\":\"a\",\"length\":%s}", lengths[i]);
		refused(OPERATION_DERIVE, body, "length:");
	}
	refused(OPERATION_DERIVE, "{}", "path: missing");
	refused(OPERATION_DERIVE, "{\"path\":1}", "path: expected a string");
	refused(OPERATION_DERIVE, "{\"path\":null}", "path: expected a string");
	refused(OPERATION_DERIVE, "{\"path\":\"\"}", "path:");
	refused(OPERATION_DERIVE, "{\"path\":\" \\t\\n\\r\"}", "path:");
	refused(OPERATION_DERIVE, "{\"path\":\"a\",\"context\":1}", "context:");
	refused(OPERATION_DERIVE, "{\"path\":\"a\",\"x\":1}", "x: unknown");
	refused(OPERATION_DERIVE, "{\"path\":\"a\",\"Path\":\"a\"}",
	    "Path: unknown");
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"a\\\"b\":1}", "body: unknown");
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"path\":\"a\"}", "repeated");
	/* The value's members have no place here, nor the other way round. */
	refused(
	    OPERATION_DERIVE, "{\"path\":\"a\",\"key\":\"a\"}", "key: unknown");
	refused(OPERATION_PUT, "{\"key\":\"a\",\"value\":\"\",\"path\":\"a\"}",
	    "path: unknown");
	refused(OPERATION_DELETE, "{\"key\":\"a\",\"value\":\"\"}",
	    "value: unknown");
	/* An answer that comes back as a request. */
	assert_int_equal(call(OPERATION_DERIVE, "{\"path\":\"a\"}"), 200);
	refused(OPERATION_DERIVE,
	    "{\"app_id\":49,\"path\":\"a\",\"key\":\"\",\"length\":32}",
	    "unknown");
}

static void
reserved_path(void **state)
{
	(void)state;
	refused(OPERATION_DERIVE, "{\"path\":\"data_key\"}", "path:");
	refused(OPERATION_DERIVE, "{\"path\":\"data_key\",\"context\":\"\"}",
	    "path:");
	refused(OPERATION_DERIVE, "{\"path\":\"\\u0064ata_key\"}", "path:");
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"data_key\",\"context\":\"x\"}"),
	    200);
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"data_key \"}"), 200);
	context.reserved_paths_allowed = true;
	assert_int_equal(
	    call(OPERATION_DERIVE, "{\"path\":\"data_key\"}"), 200);
}

/* A body with one text member of len characters. */
static char *
long_body(const char *before, size_t len, const char *after)
{
	char *body = malloc(strlen(before) + len + strlen(after) + 1);

	assert_non_null(body);
	memcpy(body, before, strlen(before));
	memset(body + strlen(before), 'A', len);
	memcpy(body + strlen(before) + len, after, strlen(after) + 1);
	return body;
}

static unsigned int
call_long(
    enum operation operation, const char *before, size_t len, const char *after)
{
	char *body = long_body(before, len, after);
	unsigned int status = call(operation, body);

	free(body);
	return status;
}

static void
bounds(void **state)
{
	(void)state;
	assert_int_equal(
	    call_long(OPERATION_DERIVE, "{\"path\":\"", 65536, "\"}"), 200);
	assert_int_equal(
	    call_long(OPERATION_DERIVE, "{\"path\":\"", 65537, "\"}"), 400);
	assert_non_null(strstr(answer.message, "path: expected at most 65536"));
	assert_int_equal(call_long(OPERATION_DERIVE,
			     "{\"path\":\"a\",\"context\":\"", 65536, "\"}"),
	    200);
	assert_int_equal(call_long(OPERATION_DERIVE,
			     "{\"path\":\"a\",\"context\":\"", 65537, "\"}"),
	    400);
	assert_non_null(strstr(answer.message, "context:"));
	assert_int_equal(
	    call_long(OPERATION_PUT, "{\"value\":\"\",\"key\":\"", 1024, "\"}"),
	    200);
	assert_int_equal(
	    call_long(OPERATION_PUT, "{\"value\":\"\",\"key\":\"", 1025, "\"}"),
	    400);
	assert_non_null(strstr(answer.message, "key:"));
	assert_int_equal(
	    call_long(OPERATION_DELETE, "{\"key\":\"", 1025, "\"}"), 400);
	/* 4096 bytes, decoded: 5464 characters less two of padding. */
	assert_int_equal(call_long(OPERATION_PUT, "{\"key\":\"a\",\"value\":\"",
			     5462, "==\"}"),
	    200);
	assert_int_equal(get("a"), 200);
	assert_int_equal(strlen(text_of("value")), 5464);
	assert_int_equal(call_long(OPERATION_PUT, "{\"key\":\"a\",\"value\":\"",
			     5463, "=\"}"),
	    413);
	assert_non_null(strstr(answer.message, "value:"));
	assert_int_equal(call_long(OPERATION_PUT, "{\"key\":\"a\",\"value\":\"",
			     90000, "\"}"),
	    413);
}

static void
bad_values(void **state)
{
	static const char *const values[] = { "a", "aGk", "aGk=\\n",
		"aG k=", "aGl=", "aGk_", "====", "\\u0000", "aGk=aGk=" };
	char body[128];

	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		(void)snprintf(body, sizeof(body),
		    "{\"key\":\"a\",\"value\":\"%s\"}", values[i]);
		refused(OPERATION_PUT, body, "value:");
	}
	refused(OPERATION_PUT, "{\"key\":\"a\"}", "value: missing");
	refused(OPERATION_PUT, "{\"value\":\"\"}", "key: missing");
	refused(OPERATION_PUT, "{\"key\":\"a\",\"value\":1}", "value:");
	refused(OPERATION_PUT, "{\"key\":1,\"value\":\"\"}", "key:");
	refused(OPERATION_PUT, "{\"key\":\"\",\"value\":\"\"}", "key:");
	refused(OPERATION_PUT, "{\"key\":\"a\\n\",\"value\":\"\"}", "key:");
	refused(OPERATION_PUT, "{\"key\":\"a\\u0000\",\"value\":\"\"}", "key:");
	refused(OPERATION_PUT, "{\"key\":\"\\u0085\",\"value\":\"\"}", "key:");
	refused(OPERATION_DELETE, "{}", "key: missing");
	refused(OPERATION_DELETE, "{\"key\":\"\"}", "key:");
	assert_int_equal(store_stats(context.store).sequence, 0);
}

static void
ttl_and_replicas(void **state)
{
	static const char *const bad[] = { "-1", "9007199254740993", "1.5",
		"\"5\"", "null", "1e16", "99999999999999999999" };
	char body[128];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(body, sizeof(body),
		    "{\"key\":\"a\",\"value\":\"\",\"ttl_ms\":%s}", bad[i]);
		refused(OPERATION_PUT, body, "ttl_ms:");
		(void)snprintf(body, sizeof(body),
		    "{\"key\":\"a\",\"min_replicas\":%s}", bad[i]);
		refused(OPERATION_DELETE, body, "min_replicas:");
	}
	assert_int_equal(call(OPERATION_PUT,
			     "{\"key\":\"a\",\"value\":\"\","
			     "\"ttl_ms\":9007199254740992}"),
	    200);
	assert_null(json_object_get(reply, "replicas_met"));
	assert_int_equal(number_of("replicas"), 0);
	assert_int_equal(call(OPERATION_PUT,
			     "{\"key\":\"a\",\"value\":\"\","
			     "\"min_replicas\":0}"),
	    200);
	assert_true(json_is_true(json_object_get(reply, "replicas_met")));
	/* More than there are peers: at once, nothing stored. */
	refused(OPERATION_PUT,
	    "{\"key\":\"b\",\"value\":\"\",\"min_replicas\":1}",
	    "min_replicas:");
	assert_int_equal(get("b"), 404);
	refused(OPERATION_DELETE, "{\"key\":\"a\",\"min_replicas\":1}",
	    "min_replicas:");
	assert_int_equal(get("a"), 200);
	context.peer_count = 2;
	assert_int_equal(call(OPERATION_PUT,
			     "{\"key\":\"b\",\"value\":\"\","
			     "\"min_replicas\":2}"),
	    200);
	assert_true(json_is_false(json_object_get(reply, "replicas_met")));
	/* The default applies where none is given, 0 is never. */
	context.default_ttl_ms = 5000;
	assert_int_equal(
	    call(OPERATION_PUT, "{\"key\":\"c\",\"value\":\"\"}"), 200);
	assert_int_equal(
	    call(OPERATION_PUT, "{\"key\":\"d\",\"value\":\"\",\"ttl_ms\":0}"),
	    200);
	context.now.wall_ms += 5001;
	context.now.boot_ms += 5001;
	assert_int_equal(get("c"), 404);
	assert_int_equal(get("d"), 200);
}

static void
round_trip(void **state)
{
	struct target list = { .operation = OPERATION_LIST };
	struct store_record record;

	(void)state;
	assert_int_equal(get("a/b"), 404);
	assert_int_equal(
	    call(OPERATION_PUT, "{\"key\":\"a/b\",\"value\":\"aGVsbG8=\"}"),
	    200);
	assert_int_equal(number_of("updated_at_ms"), WALL);
	assert_string_equal(text_of("key"), "a/b");
	assert_int_equal(get("a/b"), 200);
	assert_string_equal(text_of("value"), "aGVsbG8=");
	assert_int_equal(number_of("updated_at_ms"), WALL);
	/* Encrypted at rest, under a fresh nonce each time. */
	assert_true(
	    store_peek(context.store, 49, "a/b", 3, context.now, &record));
	assert_int_equal(record.value_len, 5 + 28);
	assert_memory_not_equal(record.value + 12, "hello", 5);
	assert_int_equal(
	    call(OPERATION_PUT, "{\"key\":\"B\",\"value\":\"\"}"), 200);
	assert_int_equal(call_target(&list, NULL, 0), 200);
	assert_int_equal(number_of("count"), 2);
	assert_string_equal(json_string_value(json_array_get(
				json_object_get(reply, "keys"), 0)),
	    "B");
	list.limit = 1;
	list.after.given = true;
	list.after.len = 1;
	list.after.text[0] = 'B';
	assert_int_equal(call_target(&list, NULL, 0), 200);
	assert_int_equal(number_of("count"), 1);
	/* Another app sees nothing of it. */
	context.app_id = 50;
	assert_int_equal(get("a/b"), 404);
	assert_int_equal(call(OPERATION_DELETE, "{\"key\":\"a/b\"}"), 404);
	context.app_id = 49;
	assert_int_equal(call(OPERATION_DELETE, "{\"key\":\"a/b\"}"), 200);
	assert_true(json_is_true(json_object_get(reply, "deleted")));
	assert_int_equal(get("a/b"), 404);
	assert_int_equal(call(OPERATION_DELETE, "{\"key\":\"a/b\"}"), 404);
}

static void
storage(void **state)
{
	char body[64];

	(void)state;
	for (int i = 0; i < 20; i++) {
		(void)snprintf(
		    body, sizeof(body), "{\"key\":\"k%d\",\"value\":\"", i);
		assert_int_equal(
		    call_long(OPERATION_PUT, body, 5460, "\"}"), 200);
	}
	assert_int_equal(get("k0"), 410);
	assert_string_equal(answer_app_code(answer.status), "evicted");
	assert_int_equal(get("k19"), 200);
}

static void
not_json(void **state)
{
	static const char *const bodies[] = { "", " ", "{", "[]", "\"a\"", "1",
		"null", "{\"path\":\"a\"", "{\"path\":\"a\"}x", "{path:\"a\"}",
		"{\"path\":\"a\",}", "{\"path\":\"\xff\"}",
		"{\"path\":\"\\ud800\"}", "\xef\xbb\xbf{\"path\":\"a\"}",
		"{\"path\":\"a\"}{}", "{\"path\":[[\"a\"]]}", "{'path':'a'}",
		"{\"\\u0000\":1}", "{\"path\":\"a\",\"length\":1e999}" };
	struct target target = { .operation = OPERATION_DERIVE };
	static char bomb[200000];

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		refused(OPERATION_DERIVE, bodies[i], "");
		refused(OPERATION_PUT, bodies[i], "");
		refused(OPERATION_DELETE, bodies[i], "");
	}
	assert_int_equal(call_target(&target, "{\"path\":\"a\0\"}", 13), 400);
	assert_int_equal(call_target(&target, NULL, 0), 400);
	/* Many tokens, great depth: refused before a tree is made. */
	memset(bomb, '[', sizeof(bomb));
	assert_int_equal(call_target(&target, bomb, sizeof(bomb)), 400);
	bomb[0] = '[';
	for (size_t i = 1; i + 3 <= sizeof(bomb); i += 3)
		memcpy(bomb + i, "{},", 3);
	assert_int_equal(call_target(&target, bomb, sizeof(bomb)), 400);
}

static void
codes(void **state)
{
	(void)state;
	assert_string_equal(answer_app_code(400), "bad_request");
	assert_string_equal(answer_app_code(403), "unauthorized");
	assert_string_equal(answer_app_code(404), "not_found");
	assert_string_equal(answer_app_code(405), "method_not_allowed");
	assert_string_equal(answer_app_code(410), "evicted");
	assert_string_equal(answer_app_code(413), "too_large");
	assert_string_equal(answer_app_code(429), "rate_limited");
	assert_string_equal(answer_app_code(500), "internal_error");
	assert_string_equal(answer_app_code(503), "service_unavailable");
	assert_string_equal(answer_app_code(418), "internal_error");
}

static void
mutations(void **state)
{
	static const char *const seeds[] = {
		"{\"path\":\"wallet/root\",\"context\":\"s\",\"length\":48}",
		("{\"key\":\"a\",\"value\":\"aGVsbG8=\",\"ttl_ms\":5.0,"
		 "\"min_replicas\":0}"),
		"{\"key\":\"a\"}"
	};
	static const enum operation operations[] = { OPERATION_DERIVE,
		OPERATION_PUT, OPERATION_DELETE };
	uint64_t random = 0xa4093822299f31d0;
	unsigned int good = 0;

	(void)state;
	for (int i = 0; i < 30000; i++) {
		struct target target = { .operation = operations[i % 3] };
		size_t len = strlen(seeds[i % 3]);
		uint8_t *body = malloc(len);
		unsigned int status;

		assert_non_null(body);
		memcpy(body, seeds[i % 3], len);
		vector_mutate(&random, body, len);
		context.bound = i & 1;
		status = call_target(&target, body, len);
		free(body);
		good += status == 200;
		assert_true(status == 200 || status == 400 || status == 404 ||
		    status == 413);
	}
	assert_true(good > 500);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

/* ---- replication --------------------------------------------------------- */

static struct {
	int can, written, fetch; /* what is answered */
	unsigned int n;
	unsigned int writes, fetches;
} peers;

static int
fake_can_wait(void *arg, uint64_t app_id, unsigned int n)
{
	(void)arg;
	assert_int_equal(app_id, 49);
	peers.n = n;
	return peers.can;
}

static int
fake_written(
    void *arg, uint64_t app_id, const void *key, size_t key_len, unsigned int n)
{
	(void)arg;
	assert_int_equal(app_id, 49);
	assert_int_equal(key_len, 1);
	assert_memory_equal(key, "k", 1);
	peers.n = n;
	peers.writes++;
	return peers.written;
}

static int
fake_fetch(void *arg, uint64_t app_id, const void *key, size_t key_len)
{
	(void)arg;
	(void)key;
	(void)key_len;
	assert_int_equal(app_id, 49);
	peers.fetches++;
	return peers.fetch;
}

static const struct app_replication replication = {
	.can_wait = fake_can_wait,
	.written = fake_written,
	.fetch = fake_fetch,
};

static void
replicas_wait(void **state)
{
	static const struct target put = { .operation = OPERATION_PUT };
	static const char body[] =
	    "{\"key\":\"k\",\"value\":\"AAAA\",\"min_replicas\":2}";
	struct buf plaintext;

	(void)state;
	memset(&peers, 0, sizeof(peers));
	context.replication = &replication;
	context.peer_count = 2;
	buf_init(&plaintext, ANSWER_MAX);
	answer_app(&context, &put, (const uint8_t *)body, sizeof(body) - 1,
	    &plaintext, &answer);
	assert_int_equal(answer.status, APP_WAITS);
	assert_int_equal(plaintext.len, 0);
	assert_int_equal(peers.n, 2);
	assert_int_equal(peers.writes, 1);
	answer_app_replicas(&answer, 1, false, &plaintext);
	assert_int_equal(answer.status, 200);
	reply =
	    json_loadb((const char *)plaintext.data, plaintext.len, 0, NULL);
	assert_int_equal(
	    json_integer_value(json_object_get(reply, "replicas")), 1);
	assert_true(json_is_false(json_object_get(reply, "replicas_met")));
	buf_clear(&plaintext);

	/* The caller went away: nothing leaks. */
	answer_app(&context, &put, (const uint8_t *)body, sizeof(body) - 1,
	    &plaintext, &answer);
	assert_int_equal(answer.status, APP_WAITS);
	answer_app_drop(&answer);

	/* It cannot be waited for: the write stands, and says so. */
	peers.written = KMS_ENOMEM;
	assert_int_equal(call_target(&put, body, sizeof(body) - 1), 200);
	assert_true(json_is_false(json_object_get(reply, "replicas_met")));

	/* Too many wait: nothing is written. */
	peers.can = KMS_EBUSY;
	peers.writes = 0;
	assert_int_equal(call_target(&put, body, sizeof(body) - 1), 429);
	assert_int_equal(peers.writes, 0);
	context.peer_count = 1;
	assert_int_equal(call_target(&put, body, sizeof(body) - 1), 400);
	assert_int_equal(peers.writes, 0);
	buf_free(&plaintext);
}

static void
evicted_asks(void **state)
{
	static const struct target get = { .operation = OPERATION_GET,
		.key = { true, 4, "gone" } };
	uint8_t large[30000] = { 0 };
	struct buf plaintext;

	(void)state;
	memset(&peers, 0, sizeof(peers));
	store_free(context.store);
	{
		struct store_config config;

		store_config_init(&config);
		config.max_app_storage = 65536;
		context.store = store_new(&config);
		assert_int_equal(store_set_member(context.store, "0xaa", 4), 0);
	}
	context.replication = &replication;
	for (const char *key = "gone\0a\0b\0"; *key != '\0';
	     key += strlen(key) + 1)
		assert_int_equal(
		    store_put_local(context.store, 49, key, strlen(key), large,
			sizeof(large), 0, context.now, NULL),
		    0);
	buf_init(&plaintext, ANSWER_MAX);
	answer_app(&context, &get, NULL, 0, &plaintext, &answer);
	assert_int_equal(answer.status, APP_WAITS);
	assert_int_equal(peers.fetches, 1);
	answer_app_drop(&answer);
	/* Asked once, not again. */
	context.fetched = true;
	answer_app(&context, &get, NULL, 0, &plaintext, &answer);
	assert_int_equal(answer.status, 410);
	assert_int_equal(peers.fetches, 1);
	/* Nobody to ask. */
	context.fetched = false;
	peers.fetch = KMS_ENOENT;
	answer_app(&context, &get, NULL, 0, &plaintext, &answer);
	assert_int_equal(answer.status, 410);
	/* Too many ask already: that says nothing of the value. */
	peers.fetch = KMS_EBUSY;
	answer_app(&context, &get, NULL, 0, &plaintext, &answer);
	assert_int_equal(answer.status, 503);
	buf_free(&plaintext);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(derive_vectors),
		TEST(derive_members),
		TEST(derive_escaped_path),
		TEST(derive_refusals),
		TEST(reserved_path),
		TEST(bounds),
		TEST(bad_values),
		TEST(ttl_and_replicas),
		TEST(round_trip),
		TEST(storage),
		TEST(not_json),
		TEST(codes),
		TEST(mutations),
		TEST(replicas_wait),
		TEST(evicted_asks),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
