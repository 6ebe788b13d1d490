/* What a request is answered with. */
#include "regress/unit/keeper_core.h"

static void
end_to_end(void **state)
{
	uint8_t expected[32], key[33];
	json_t *o;
	size_t len;

	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		o = call(METHOD_POST, "/kms/derive",
		    "{\"path\":\"wallet/root\"}", bound);
		assert_int_equal(
		    derive_app_key(readiness_master(k->readiness), APP,
			"wallet/root", 11, "", 0, expected, sizeof(expected)),
		    0);
		assert_int_equal(
		    base64_decode(json_string_value(json_object_get(o, "key")),
			json_string_length(json_object_get(o, "key")), key,
			sizeof(key), &len),
		    0);
		assert_int_equal(len, 32);
		assert_memory_equal(key, expected, 32);
		json_decref(o);
		o = call(METHOD_PUT, "/kms/data",
		    "{\"key\":\"a/b\",\"value\":\"aGk=\"}", bound);
		member_is(o, "key", "a/b");
		json_decref(o);
		o = call(METHOD_GET, "/kms/data/a%2Fb", NULL, bound);
		member_is(o, "value", "aGk=");
		json_decref(o);
		o = call(METHOD_GET, "/kms/data?key=a/b", NULL, bound);
		member_is(o, "value", "aGk=");
		json_decref(o);
		o = call(METHOD_GET, "/kms/data?prefix=a", NULL, bound);
		assert_int_equal(
		    json_integer_value(json_object_get(o, "count")), 1);
		json_decref(o);
		o = call(
		    METHOD_DELETE, "/kms/data", "{\"key\":\"a/b\"}", bound);
		assert_true(json_is_true(json_object_get(o, "deleted")));
		json_decref(o);
		make(METHOD_GET, "/kms/data/a/b", NULL, bound);
		send_it();
		signed_error(404, "no such key", bound);
	}
	/* P-384 once, the registry once. */
	assert_int_equal(metrics[METRIC_KEEPER_AGREEMENTS], 1);
	assert_int_equal(metrics[METRIC_KEEPER_LOOKUPS], 1);
}

static void
signed_refusals(void **state)
{
	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		make(METHOD_GET, "/kms/nothing", NULL, bound);
		send_it();
		rig_pump(&rig);
		signed_error(404, "no such route", bound);
		make(METHOD_GET, "/kms/derive", NULL, bound);
		send_it();
		signed_error(405, "expected POST", bound);
		make(METHOD_POST, "/kms/derive", NULL, bound);
		send_it();
		signed_error(400, "expected an envelope", bound);
		make(METHOD_GET, "/kms/data", "{}", bound);
		send_it();
		signed_error(400, "expected no body", bound);
		make(METHOD_POST, "/kms/derive", "{\"path\":1}", bound);
		send_it();
		signed_error(400, "path: expected a string", bound);
		make(METHOD_POST, "/kms/derive", "not JSON", bound);
		send_it();
		signed_error(400, "body:", bound);
		make(METHOD_PUT, "/kms/data",
		    "{\"key\":\"a\",\"value\":\"\",\"min_replicas\":1}", bound);
		send_it();
		signed_error(400, "min_replicas", bound);
	}
	assert_int_equal(store_stats(k->store).sequence, 0);
}

static void
resign(bool bound)
{
	uint8_t nonce[NONCE_LEN];

	fresh_nonce(nonce);
	message_sign(&client, &m, nonce, method_text(m.head.method), bound);
}

static void
envelopes(void **state)
{
	uint64_t agreements;

	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		m.data[0] = m.data[0] == '0' ? '1' : '0';
		resign(bound);
		send_it();
		rig_pump(&rig);
		signed_error(400, "does not decrypt", bound);
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		m.data[0] = 'x';
		resign(bound);
		send_it();
		signed_error(400, "not well formed", bound);
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		m.head.data_total = m.head.data.len = 30;
		resign(bound);
		send_it();
		signed_error(400, "not well formed", bound);
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		m.head.data_total = m.head.data.len = 0;
		resign(bound);
		send_it();
		signed_error(400, "not well formed", bound);
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		m.head.envelope_nonce.len -= 2;
		resign(bound);
		send_it();
		signed_error(400, "not well formed", bound);
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		m.sender[100] = m.sender[100] == '0' ? '1' : '0';
		resign(bound);
		send_it();
		signed_error(400, "not well formed", bound);
	}
	/* Hex in capitals, with a prefix: the same envelope. */
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	for (char *c = m.data; *c != '\0'; c++)
		*c = (char)(*c >= 'a' && *c <= 'f' ? *c - 32 : *c);
	resign(true);
	send_it();
	json_decref(open_reply(true));
	agreements = metrics[METRIC_KEEPER_AGREEMENTS];
	assert_int_equal(agreements, 1);
}

/* Another's key, though it is a good one: 403 before any P-384 work. */
static void
wrong_sender(void **state)
{
	struct client other;

	(void)state;
	client_init(&other, &rig, 2);
	for (int bound = 0; bound < 2; bound++) {
		make(METHOD_POST, "/kms/derive", NULL, bound);
		message_seal(&other, &m, "{\"path\":\"a\"}", 12);
		resign(bound);
		send_it();
		rig_pump(&rig);
		signed_error(403, "sender_tee_pubkey", bound);
	}
	assert_int_equal(metrics[METRIC_KEEPER_AGREEMENTS], 0);
	client_free(&other);
}

static void
replays(void **state)
{
	struct message old;

	(void)state;
	/* An old envelope under a fresh proof. */
	make(METHOD_PUT, "/kms/data", "{\"key\":\"a\",\"value\":\"\"}", false);
	send_it();
	rig_pump(&rig);
	json_decref(open_reply(false));
	resign(false);
	send_it();
	signed_error(403, "used before", false);
	assert_int_equal(metrics[METRIC_KEEPER_REPLAYS], 1);
	/* Also one that came in a bound request. */
	make(METHOD_PUT, "/kms/data", "{\"key\":\"b\",\"value\":\"\"}", true);
	send_it();
	json_decref(open_reply(true));
	resign(false);
	send_it();
	signed_error(403, "used before", false);
	/* The answer, reflected: the key is the same both ways. */
	for (int bound = 0; bound < 2; bound++) {
		json_decref(call(METHOD_GET, "/kms/data/a", NULL, bound));
		old = m;
		m.data = NULL;
		make(METHOD_POST, "/kms/derive", "{}", false);
		free(m.data);
		m.data = strdup(reply.data);
		memcpy(m.envelope_nonce, reply.nonce, strlen(reply.nonce) + 1);
		m.head.data = text_of(m.data);
		m.head.data_total = m.head.data.len;
		resign(false);
		send_it();
		signed_error(403, "used before", false);
		message_free(&old);
	}
	/* A proof is not used twice either, and that is nobody's answer. */
	make(METHOD_GET, "/kms/data/a", NULL, true);
	send_it();
	json_decref(open_reply(true));
	send_it();
	unsigned_error(403, "used before");
	/* A bound envelope may come again: its proof covers it. */
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	send_it();
	json_decref(open_reply(true));
	resign(true);
	send_it();
	json_decref(open_reply(true));
}

static void
content_mismatch(void **state)
{
	struct message other = { 0 };

	(void)state;
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.data[3] = m.data[3] == '0' ? '1' : '0';
	send_it();
	rig_pump(&rig);
	signed_error(403, "X-App-Content-SHA256", true);
	/* The same bytes in capitals are other content. */
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.sender[1] = '0';
	for (char *c = m.sender; *c != '\0'; c++)
		*c = (char)(*c >= 'a' && *c <= 'f' ? *c - 32 : *c);
	send_it();
	signed_error(403, "X-App-Content-SHA256", true);
	/* A body taken away, and one put in place of none. */
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.envelope = false;
	m.head.data_total = m.head.data.len = 0;
	m.head.method = METHOD_POST;
	send_it();
	signed_error(400, "expected an envelope", true);
	make(METHOD_GET, "/kms/data", "{}", true);
	m.head.envelope = false;
	m.head.data_total = m.head.data.len = 0;
	send_it();
	signed_error(403, "X-App-Content-SHA256", true);
	make(METHOD_DELETE, "/kms/data", NULL, true);
	message_seal(&client, &other, "{\"key\":\"a\"}", 11);
	m.head.envelope = true;
	m.head.sender = other.head.sender;
	m.head.envelope_nonce = other.head.envelope_nonce;
	m.head.data = other.head.data;
	m.head.data_total = other.head.data_total;
	send_it();
	signed_error(403, "X-App-Content-SHA256", true);
	message_free(&other);
	assert_int_equal(metrics[METRIC_KEEPER_AGREEMENTS], 0);
}

static void
next_nonce(void **state)
{
	uint8_t first[NONCE_LEN], second[NONCE_LEN];
	size_t len, outstanding;

	(void)state;
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
	outstanding = nonce_outstanding(k->nonces, rig.now.boot_ms);
	assert_int_equal(outstanding, 0);
	assert_int_equal(base64_decode(reply.next_nonce,
			     strlen(reply.next_nonce), first, NONCE_LEN, &len),
	    0);
	/* It serves for the next call, once. */
	message_free(&m);
	message_make(&client, &m, first, METHOD_GET, "/kms/data", NULL, true);
	send_it();
	json_decref(open_reply(true));
	assert_int_equal(base64_decode(reply.next_nonce,
			     strlen(reply.next_nonce), second, NONCE_LEN, &len),
	    0);
	assert_memory_not_equal(first, second, NONCE_LEN);
	message_make(&client, &m, first, METHOD_GET, "/kms/data", NULL, true);
	send_it();
	unsigned_error(403, "used before");
	/* The newer replaces the older, also when that was not used; an error
	 * brings one, too. */
	make(METHOD_GET, "/kms/data/none", NULL, true);
	send_it();
	signed_error(404, "no such key", true);
	assert_string_not_equal(reply.next_nonce, "");
	message_make(&client, &m, second, METHOD_GET, "/kms/data", NULL, true);
	send_it();
	unsigned_error(403, "used before");
}

static void
bound_requests_only(void **state)
{
	(void)state;
	rig.config.require_bound_requests = 1;
	make(METHOD_GET, "/kms/data", NULL, false);
	send_it();
	rig_pump(&rig);
	signed_error(403, "bound requests only", false);
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
}

static void
proof_fails(void **state)
{
	unsigned int asked = rig.asked[REGISTRY_INSTANCE];

	(void)state;
	make(METHOD_GET, "/kms/data", NULL, true);
	m.head.timestamp = text_of("1");
	send_it();
	unsigned_error(403, "X-App-Timestamp");
	assert_int_equal(metrics[METRIC_KEEPER_POP_FAILED], 1);
	make(METHOD_GET, "/kms/data", NULL, false);
	m.head.signature = text_of("");
	send_it();
	unsigned_error(403, "expected X-App-Signature");
	assert_int_equal(requests_count(k->requests), 0);
	assert_int_equal(rig.asked[REGISTRY_INSTANCE], asked);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(end_to_end),
		TEST(signed_refusals),
		TEST(envelopes),
		TEST(wrong_sender),
		TEST(replays),
		TEST(content_mismatch),
		TEST(next_nonce),
		TEST(bound_requests_only),
		TEST(proof_fails),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
