#include "regress/unit/vector.h"

#include "common/err.h"
#include "crypto/pop.h"
#include "regress/unit/crypto_setup.h"

#define WALLET "0xdc4fe1f86340eb7aa07e2ca05a382ae74adaeb34"
#define NONCE "AAECAwQFBgcICQoLDA0ODw=="
#define HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define R32 "1111111111111111111111111111111111111111111111111111111111111111"

static struct pop_request
request_of(enum pop_kind kind)
{
	struct pop_request request = { .kind = kind,
		.nonce = NONCE,
		.nonce_len = strlen(NONCE),
		.timestamp = 1767225600 };

	assert_int_equal(
	    eth_address_parse(WALLET, strlen(WALLET), &request.recipient), 0);
	return request;
}

static void
assert_text(struct buf *out, const char *expected)
{
	assert_int_equal(out->len, strlen(expected));
	assert_memory_equal(out->data, expected, out->len);
	buf_clear(out);
}

/* The texts that eip191.json signs are the ones that are built here. */
static void
request_v1(void **state)
{
	json_t *root = vector_load("regress/vectors/eip191.json");
	struct pop_request app = request_of(POP_APP);
	struct pop_request node = request_of(POP_NODE);
	struct buf out;
	size_t len;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(pop_request_append(&app, &out), 0);
	assert_text(
	    &out, vector_text(json_array_get(root, 0), "message", &len));
	assert_int_equal(pop_request_append(&node, &out), 0);
	assert_text(
	    &out, vector_text(json_array_get(root, 1), "message", &len));
	buf_free(&out);
	json_decref(root);
}

static struct pop_binding
binding_of(const char *method, const char *target)
{
	struct pop_binding binding = { .method = method,
		.method_len = strlen(method),
		.target = target,
		.target_len = strlen(target) };

	assert_int_equal(sha256("", 0, binding.content_hash), 0);
	return binding;
}

static void
request_v2(void **state)
{
	struct pop_request app = request_of(POP_APP);
	struct pop_request node = request_of(POP_NODE);
	struct pop_binding get = binding_of("GET", "/kms/data?key=a%3Ab:c");
	struct pop_binding post = binding_of("POST", "/sync");
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(pop_request_v2_append(&app, &get, &out), 0);
	assert_text(&out,
	    "NovaKMS:AppAuth:v2:" NONCE ":" WALLET
	    ":1767225600:GET:/kms/data?key=a%3Ab:c:" HASH);
	assert_int_equal(pop_request_v2_append(&node, &post, &out), 0);
	assert_text(&out,
	    "NovaKMS:Auth:v2:" NONCE ":" WALLET ":1767225600:POST:/sync:" HASH);
	buf_free(&out);
}

static void
bad_bindings(void **state)
{
	static const char *const methods[] = { "", "get", "G T",
		"GET:", "ABCDEFGHIJKLMNOPQ" };
	static const char *const targets[] = { "", "/a b", "/\x7f", "/\xc3\xa4",
		"/\n" };
	struct pop_request app = request_of(POP_APP);
	struct pop_binding binding;
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(buf_append_text(&out, "kept"), 0);
	for (size_t i = 0; i < 5; i++) {
		binding = binding_of(methods[i], "/");
		assert_int_equal(
		    pop_request_v2_append(&app, &binding, &out), KMS_EINVAL);
		binding = binding_of("GET", targets[i]);
		assert_int_equal(
		    pop_request_v2_append(&app, &binding, &out), KMS_EINVAL);
	}
	binding = binding_of("ABCDEFGHIJKLMNOP", "/");
	assert_int_equal(pop_request_v2_append(&app, &binding, &out), 0);
	/* Every ceiling below the whole leaves the buffer as it was. */
	for (size_t max = 4; max < out.len; max++) {
		struct buf small;

		buf_init(&small, max);
		assert_int_equal(buf_append_text(&small, "kept"), 0);
		assert_int_equal(
		    pop_request_v2_append(&app, &binding, &small), KMS_ETOOBIG);
		assert_int_equal(small.len, 4);
		buf_free(&small);
	}
	buf_free(&out);
}

static void
nonce_and_time_bounds(void **state)
{
	static const char *const bad[] = { "AAAAAAAAAAAAAAA",
		"AAAAAAAAAAAAAAA:", "AAAAAAAAAAAAA===", "AAAAAAAAAA==AAAA",
		"AAAAAAAAAAAAAAA-", "AAAAAAAAAAAAAAA\n" };
	char text[66];
	struct pop_request request = request_of(POP_NODE);
	struct buf out;
	int64_t value;

	(void)state;
	buf_init(&out, 4096);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		request.nonce = bad[i];
		request.nonce_len = strlen(bad[i]);
		assert_int_equal(
		    pop_request_append(&request, &out), KMS_EINVAL);
	}
	memset(text, 'A', sizeof(text));
	request.nonce = text;
	request.nonce_len = 65;
	assert_int_equal(pop_request_append(&request, &out), KMS_EINVAL);
	request.nonce_len = 64;
	assert_int_equal(pop_request_append(&request, &out), 0);
	request.nonce_len = 16;
	request.timestamp = -1;
	assert_int_equal(pop_request_append(&request, &out), KMS_EINVAL);
	request.timestamp = POP_TIMESTAMP_MAX + 1;
	assert_int_equal(pop_request_append(&request, &out), KMS_EINVAL);
	buf_free(&out);

	assert_int_equal(pop_timestamp_parse("0", 1, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(pop_timestamp_parse("9999999999999", 13, &value), 0);
	assert_true(value == POP_TIMESTAMP_MAX);
	assert_int_equal(
	    pop_timestamp_parse("10000000000000", 14, &value), KMS_EINVAL);
	assert_int_equal(pop_timestamp_parse("", 0, &value), KMS_EINVAL);
	assert_int_equal(pop_timestamp_parse("01", 2, &value), KMS_EINVAL);
	assert_int_equal(pop_timestamp_parse("+1", 2, &value), KMS_EINVAL);
	assert_int_equal(pop_timestamp_parse("-1", 2, &value), KMS_EINVAL);
	assert_int_equal(pop_timestamp_parse("1 ", 2, &value), KMS_EINVAL);
	assert_int_equal(pop_timestamp_parse("1.0", 3, &value), KMS_EINVAL);
}

static void
responses(void **state)
{
	static const char signature[] = "0x" R32 R32 "1B";
	struct pop_request app = request_of(POP_APP);
	uint8_t hash[SHA256_LEN];
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	assert_int_equal(sha256("", 0, hash), 0);
	assert_int_equal(
	    pop_response_append(signature, 132, &app.recipient, &out), 0);
	assert_text(&out, "NovaKMS:Response:0x" R32 R32 "1B:" WALLET);
	assert_int_equal(
	    pop_response_append(signature + 2, 130, &app.recipient, &out), 0);
	assert_text(&out, "NovaKMS:Response:" R32 R32 "1B:" WALLET);
	assert_int_equal(pop_response_v2_append(
			     signature, 132, &app.recipient, 404, hash, &out),
	    0);
	assert_text(
	    &out, "NovaKMS:Response:v2:0x" R32 R32 "1B:" WALLET ":404:" HASH);
	assert_int_equal(
	    pop_response_append(signature, 131, &app.recipient, &out),
	    KMS_EINVAL);
	assert_int_equal(pop_response_v2_append(
			     signature, 132, &app.recipient, 99, hash, &out),
	    KMS_EINVAL);
	assert_int_equal(pop_response_v2_append(
			     signature, 132, &app.recipient, 600, hash, &out),
	    KMS_EINVAL);
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

static void
error_hash(void **state)
{
	static const char text[] =
	    "{\"code\":\"not_found\",\"message\":\"no such key\"}";
	uint8_t expected[SHA256_LEN], got[SHA256_LEN];

	(void)state;
	assert_int_equal(sha256(text, strlen(text), expected), 0);
	assert_int_equal(pop_error_hash("not_found", "no such key", got), 0);
	assert_memory_equal(got, expected, sizeof(got));
	assert_int_equal(pop_error_hash("a", "\"", got), KMS_EINVAL);
	assert_int_equal(pop_error_hash("a\\", "", got), KMS_EINVAL);
	assert_int_equal(pop_error_hash("a", "\t", got), KMS_EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_v1),
		cmocka_unit_test(request_v2),
		cmocka_unit_test(bad_bindings),
		cmocka_unit_test(nonce_and_time_bounds),
		cmocka_unit_test(responses),
		cmocka_unit_test(error_hash),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
