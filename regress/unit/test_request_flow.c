/* Requests that wait, come in pieces, are too many or end early. */
#include "kms-keeper/authz.h"
#include "regress/unit/keeper_core.h"

static void
not_ready(void **state)
{
	(void)state;
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	unsigned_error(503, "not ready");
	assert_true(reply.retry_after > 0);
	/* Before any authentication: the nonce is still good. */
	run(1000);
	set_hash();
	run(2000);
	send_it();
	rig_pump(&rig);
	json_decref(open_reply(true));
	/* The chain says otherwise: service ends. */
	rig.hash.bytes[0] ^= 1;
	run(31000);
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	unsigned_error(503, "not ready");
}

/* It was ready when the request came, and is not when its turn comes. */
static void
no_longer_ready(void **state)
{
	(void)state;
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data.len--;
	send_it();
	rig_pump(&rig);
	rig.hash.bytes[0] ^= 1;
	run(31000);
	assert_null(readiness_master(k->readiness));
	assert_int_equal(reply.calls, 0);
	assert_int_equal(
	    request_body(k->requests, handle, m.data + m.head.data.len, 1), 0);
	signed_error(503, "not ready", true);
}

static void
registry_unreachable(void **state)
{
	(void)state;
	rig.fail = ~0U;
	for (int bound = 0; bound < 2; bound++) {
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		send_it();
		assert_int_equal(reply.calls, 0);
		assert_int_equal(requests_count(k->requests), 1);
		rig_pump(&rig);
		signed_error(503, "registry cannot be read", bound);
		assert_string_equal(reply.next_nonce, "");
	}
	rig.down = true;
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	signed_error(503, "registry cannot be read", true);
	rig.down = false;
	rig.stall = ~0U;
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	assert_int_equal(reply.calls, 0);
	run(REGISTRY_TIMEOUT_MS + 100);
	signed_error(503, "registry cannot be read", true);
	rig.queued = 0;
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	registry_lost(k->registry);
	signed_error(503, "registry cannot be read", true);
}

/* Not authorised: 403, signed, and nobody waits for the body. */
static void
denied(void **state)
{
	struct client other;

	(void)state;
	client_init(&other, &rig, 2);
	make_as(&other, METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data.len = 4;
	send_it();
	assert_int_equal(reply.calls, 0);
	rig_pump(&rig);
	signed_error(403, "not that of a registered instance", true);
	assert_string_equal(reply.next_nonce, "");
	assert_int_equal(metrics[METRIC_KEEPER_DENIED], 1);
	/* What is left of the body comes too late. */
	assert_int_equal(request_body(k->requests, handle, m.data + 4, 4), 0);
	client_free(&other);
	/* Revoked while it is being served: with the next look-up. */
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
	rig.instances[1].version_status = 2;
	rig_pass(&rig, 180000);
	keeper_tick(k, rig.now);
	rig_pump(&rig);
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	rig_pump(&rig);
	signed_error(403, "neither ENROLLED nor DEPRECATED", true);
}

static char *
large_body(size_t len)
{
	char *body = malloc(len + 64);
	int at = snprintf(body, 64, "{\"key\":\"a\",\"value\":\"");

	assert_non_null(body);
	memset(body + at, 'A', len);
	memcpy(body + (size_t)at + len, "\"}", 3);
	return body;
}

/* In pieces, and the answer in one; the window moves as they are taken. */
static void
pieces(void **state)
{
	char *body = large_body(800000);
	size_t total, at;

	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		make(METHOD_PUT, "/kms/data", body, bound);
		total = m.head.data.len;
		assert_true(total > MSG_WINDOW);
		m.head.data.len = MSG_CHUNK_MAX;
		credited = 0;
		send_it();
		rig_pump(&rig);
		for (at = MSG_CHUNK_MAX; at < total;) {
			size_t piece = total - at < MSG_CHUNK_MAX
			    ? total - at
			    : MSG_CHUNK_MAX;

			assert_int_equal(reply.calls, 0);
			assert_true(MSG_WINDOW + credited >= at + piece);
			assert_int_equal(request_body(k->requests, handle,
					     m.data + at, piece),
			    0);
			at += piece;
		}
		assert_in_range(credited, total - MSG_WINDOW, total);
		json_decref(open_reply(bound));
	}
	free(body);
	json_decref(call(METHOD_GET, "/kms/data/a", NULL, true));
	assert_int_equal(reply.data_len > 1600000, 1);
	/* A small one needs no credit. */
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	total = m.head.data.len;
	credited = 0;
	m.head.data.len = 0;
	send_it();
	for (at = 0; at < total; at++)
		assert_int_equal(
		    request_body(k->requests, handle, m.data + at, 1), 0);
	json_decref(open_reply(true));
	assert_int_equal(credited, 0);
}

/* The body took longer than the verdict lives. */
static void
slow_body(void **state)
{
	(void)state;
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data.len--;
	send_it();
	rig_pump(&rig);
	assert_int_equal(reply.calls, 0);
	rig_pass(&rig, 180001);
	keeper_set_time(k, rig.now);
	rig.instances[1].status = 1;
	assert_int_equal(
	    request_body(k->requests, handle, m.data + m.head.data.len, 1), 0);
	assert_int_equal(reply.calls, 0);
	rig_pump(&rig);
	signed_error(403, "not ACTIVE", true);
}

static void
protocol_errors(void **state)
{
	(void)state;
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data_total--;
	assert_int_equal(request_begin(k->requests, 1000, &m.head), KMS_EPROTO);
	m.head.data_total++;
	m.head.data.len -= 5;
	send_it();
	assert_int_equal(
	    request_begin(k->requests, handle, &m.head), KMS_EPROTO);
	assert_int_equal(
	    request_body(k->requests, handle, m.data, 6), KMS_EPROTO);
	assert_int_equal(request_body(k->requests, 999, m.data, 6), 0);
	request_cancel(k->requests, 999);
	request_cancel(k->requests, handle);
	assert_int_equal(requests_count(k->requests), 0);
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	assert_int_equal(request_body(k->requests, handle, "0", 1), KMS_EPROTO);
	rig_pump(&rig);
	json_decref(open_reply(true));
}

/* Cancelled: while it waits for the verdict, for its body, or for both. */
static void
cancelled(void **state)
{
	(void)state;
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data.len -= 5;
	send_it();
	request_cancel(k->requests, handle);
	rig_pump(&rig);
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	rig_pass(&rig, 190000);
	keeper_set_time(k, rig.now);
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	send_it();
	request_cancel(k->requests, handle);
	rig_pump(&rig);
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data.len -= 5;
	send_it();
	rig_pump(&rig);
	request_cancel(k->requests, handle);
	assert_int_equal(request_body(k->requests, handle, m.data, 5), 0);
	assert_int_equal(reply.calls, 0);
	assert_int_equal(requests_count(k->requests), 0);
	/* kms-net is gone with all of them. */
	rig_pass(&rig, 190000);
	keeper_set_time(k, rig.now);
	for (int i = 0; i < 20; i++) {
		make(METHOD_GET, "/kms/data", NULL, i & 1);
		send_it();
	}
	assert_int_equal(requests_count(k->requests), 20);
	requests_cancel_all(k->requests);
	assert_int_equal(requests_count(k->requests), 0);
	rig_pump(&rig);
	assert_int_equal(reply.calls, 0);
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
}

/* The keeper ends with requests at every stage under way. */
static void
teardown(void **state)
{
	(void)state;
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data.len -= 5;
	send_it();
	rig_pump(&rig);
	assert_int_equal(requests_count(k->requests), 1);
	rig_pass(&rig, 190000);
	for (int i = 0; i < 5; i++) {
		make(METHOD_GET, "/kms/data", NULL, true);
		send_it();
	}
	keeper_tick(k, rig.now);
	assert_int_equal(requests_count(k->requests), 6);
}

static void
bounds(void **state)
{
	(void)state;
	for (int i = 0; i < COUNTERPART_WAITING_MAX; i++) {
		make(METHOD_GET, "/kms/data", NULL, true);
		send_it();
	}
	assert_int_equal(reply.calls, 0);
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	assert_int_equal(reply.status, 503);
	assert_non_null(strstr(reply.message, "too many registry look-ups"));
	check_signatures(true);
	rig_pump(&rig);
	/* Bodies that never end: bounded in number and in bytes. */
	for (int i = 0; i < 15; i++) {
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
		m.head.data_total = 6 << 20;
		send_it();
	}
	assert_int_equal(requests_count(k->requests), 15);
	make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
	m.head.data_total = (6 << 20) + 64;
	send_it();
	unsigned_error(503, "no room");
	for (int i = 0; i < 8; i++) {
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
		m.head.data_total = 6 << 20;
		send_it();
	}
	unsigned_error(503, "no room");
	requests_cancel_all(k->requests);
	for (int i = 0; i < REQUESTS_MAX; i++) {
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", true);
		m.head.data.len -= 5;
		send_it();
		assert_int_equal(reply.calls, 0);
	}
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	unsigned_error(503, "busy");
}

/* The secret is wiped for good, and the store with it. */
static void
wiped_for_good(void **state)
{
	(void)state;
	json_decref(call(METHOD_PUT, "/kms/data",
	    "{\"key\":\"a\",\"value\":\"aGk=\"}", true));
	assert_int_equal(store_stats(k->store).live_keys, 1);
	rig.hash.bytes[0] ^= 1;
	run(60000);
	assert_int_equal(store_stats(k->store).live_keys, 1);
	rig.final_hash = rig.hash;
	rig.final_block = rig.head + 1;
	run(31000);
	assert_int_equal(store_stats(k->store).live_keys, 0);
}

static void
rate(void **state)
{
	(void)state;
	keeper_free(k);
	rig.identity = rig_identity(&rig);
	client.wallets = rig.identity->wallets;
	client.node = rig.identity->wallet;
	client.node_point = rig.identity->point;
	assert_int_equal(
	    p384_agree(client.tee, &client.node_point, client.shared), 0);
	rig.instances[0].wallet = rig.members[0] = client.node;
	p384_public_spki(&client.node_point, rig.instances[0].pubkey);
	rig.config.app_rate = 2;
	memset(&rig.hash, 0, sizeof(rig.hash));
	rig.mined = false;
	rig.queued = 0;
	assert_int_equal(make_keeper(), 0);
	run(1000);
	set_hash();
	run(2000);
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	signed_error(429, "too many requests", true);
	assert_in_range(reply.retry_after, 29, 31);
	run(31000);
	json_decref(call(METHOD_GET, "/kms/data", NULL, true));
}

/* A write waits for a replica when the secret is locked: it hears of it in time
 * all the same. */
static void
locked_while_it_waits(void **state)
{
	struct client peer;
	json_t *object;

	(void)state;
	client_init(&peer, &rig, 9);
	(void)rig_add_instance(
	    &rig, RIG_KMS_APP, &peer.wallet, p384_key_point(peer.tee));
	rig.members[rig.member_count++] = peer.wallet;
	rig.config.node_tick = 1000;
	rig.config.replica_timeout = 5000;
	rig.config.sync_batch = 500;
	rig.config.sync_interval = 10000;
	run(10000);
	set_hash();
	run(3000);
	make(METHOD_PUT, "/kms/data",
	    "{\"key\":\"a\",\"value\":\"\",\"min_replicas\":1}", true);
	send_it();
	rig_pump(&rig);
	assert_int_equal(reply.calls, 0);
	rig.instances[0].version_status = VERSION_REVOKED;
	run(3000);
	assert_null(readiness_secret(k->readiness));
	assert_int_equal(reply.calls, 0);
	run(3000);
	object = open_reply(true);
	assert_true(json_is_false(json_object_get(object, "replicas_met")));
	json_decref(object);
	client_free(&peer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(not_ready, begin_unready, end),
		TEST(no_longer_ready),
		TEST(registry_unreachable),
		TEST(denied),
		TEST(pieces),
		TEST(slow_body),
		TEST(protocol_errors),
		TEST(cancelled),
		TEST(teardown),
		TEST(bounds),
		TEST(wiped_for_good),
		TEST(rate),
		cmocka_unit_test_setup_teardown(
		    locked_while_it_waits, begin_unready, end),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
