#include "regress/unit/handover_rig.h"

/* ---- asking ---- */

static void
asks_in_turn(void **state)
{
	unsigned int turns[8] = { 0 };

	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 8), 0);
	seek(1);
	for (size_t n = 0; n < 24; n++) {
		while (sent_count == n)
			pass(100);
		assert_int_equal(under_way(), 1);
		assert_int_equal(turns[peer_of(n)]++, n / 8);
		assert_int_equal(handover_problem(h)[0] != '\0', n >= 8);
		finish(n, KMS_EUNAVAIL, 503, NULL);
	}
	assert_non_null(strstr(handover_problem(h), "http://peer"));
	assert_non_null(strstr(handover_problem(h), ": it says no"));
	while (sent_count == 24)
		pass(100);
	hand_over(24, 1);
	assert_true(found(1));
	pass(60000);
	assert_int_equal(sent_count, 25);
}

/* While kms-chain is away nothing is a peer's fault, and when it is back
 * nobody is waited for. */
static void
retries_at_once(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 2), 0);
	ask_error = KMS_EUNAVAIL;
	seek(1);
	pass(300);
	ask_error = 0;
	pass(300);
	assert_int_equal(sent_count, 0);
	handover_retry(h);
	pass(100);
	assert_int_equal(sent_count, 1);
	finish(0, KMS_EUNAVAIL, 0, NULL);
	pass(100);
	finish(1, KMS_EUNAVAIL, 0, NULL);
	pass(100);
	assert_int_equal(sent_count, 2);
	handover_retry(h);
	pass(100);
	assert_int_equal(sent_count, 3);
}

/* Not every node asks the same one first. */
static void
random_order(void **state)
{
	unsigned int first[4] = { 0 };

	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 4), 0);
	for (size_t n = 0; n < 64; n++) {
		seek(1);
		first[peer_of(n)]++;
		handover_seek_stop(h);
	}
	for (size_t i = 0; i < 4; i++)
		assert_in_range(first[i], 4, 40);
}

static void
slow_peers(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 8), 0);
	seek(1);
	assert_int_equal(sent_count, 1);
	pass(1900);
	assert_int_equal(sent_count, 1);
	pass(100);
	assert_int_equal(sent_count, 2);
	pass(7900);
	assert_int_equal(sent_count, HANDOVER_ASKS_MAX);
	assert_false(sent[0].cancelled);
	pass(100);
	assert_true(sent[0].cancelled);
	assert_int_equal(sent_count, HANDOVER_ASKS_MAX + 1);
	assert_int_equal(under_way(), HANDOVER_ASKS_MAX);
	/* The slow one has it: the others are not needed any more. */
	hand_over(1, 1);
	assert_true(found(1));
	assert_int_equal(under_way(), 0);
}

static void
wrong_secret(void **state)
{
	struct eth_word other = hash_of(2);
	const char *url;

	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 2), 0);
	seek(1);
	hand_over(0, 2);
	assert_false(found(1));
	assert_null(handover_found(h, &other, &url));
	assert_true(handover_doubts(h));
	/* The chain first. */
	pass(60000);
	assert_int_equal(sent_count, 1);
	seek(1);
	assert_false(handover_doubts(h));
	assert_int_equal(sent_count, 2);
	assert_true(peer_of(0) != peer_of(1));
	hand_over(1, 1);
	assert_true(found(1));
	assert_string_equal(handover_problem(h), "");
}

static void
bad_answers(void **state)
{
	static const char *const bad[] = { "", "{}", "[]",
		"{\"status\":\"ok\"}", "{\"status\":\"ok\",\"sealed\":null}",
		"{\"status\":\"error\"}",
		("{\"status\":\"ok\",\"sealed\":{\"ephemeral_pubkey\":\"\","
		 "\"nonce\":\"\",\"encrypted_data\":\"\"}}") };
	static char large[HANDOVER_BODY_MAX + 2];
	struct sealed_secret sealed;
	struct p384_point key;
	char text[HANDOVER_BODY_MAX];
	size_t n = 0;

	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	for (; n < sizeof(bad) / sizeof(bad[0]); n++) {
		seek(1);
		while (sent_count == n)
			pass(100);
		finish(n, 0, 200, bad[n]);
		assert_false(found(1));
		assert_false(handover_doubts(h));
	}
	/* Sealed to another key than the one of this request. */
	while (sent_count == n)
		pass(100);
	seal_to(&peers[5].point, 1, &sealed);
	print_sealed(text, sizeof(text), "\"status\":\"ok\"", &sealed);
	finish(n++, 0, 200, text);
	assert_false(found(1));
	/* Good, but too large. */
	while (sent_count == n)
		pass(100);
	key = asked_key(n);
	seal_to(&key, 1, &sealed);
	memset(large, ' ', sizeof(large) - 1);
	print_sealed(text, sizeof(text), "\"status\":\"ok\"", &sealed);
	memcpy(large, text, strlen(text));
	finish(n++, 0, 200, large);
	assert_false(found(1));
	while (sent_count == n)
		pass(100);
	hand_over(n, 1);
	assert_true(found(1));
}

static void
hash_changes(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	seek(1);
	seek(1);
	assert_int_equal(sent_count, 1);
	seek(2);
	assert_true(sent[0].cancelled);
	assert_int_equal(sent_count, 2);
	hand_over(1, 2);
	assert_true(found(2));
	assert_false(found(1));
	/* What was found for a hash that went by is gone. */
	seek(3);
	assert_false(found(2));
	handover_seek_stop(h);
	assert_int_equal(under_way(), 0);
	pass(20000);
	assert_int_equal(sent_count, 3);
}

static void
peers_come_and_go(void **state)
{
	(void)state;
	seek(1);
	pass(5000);
	assert_int_equal(sent_count, 0);
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	pass(100);
	assert_int_equal(sent_count, 1);
	/* The list is read again: nothing is asked twice. */
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	pass(1000);
	assert_int_equal(sent_count, 1);
	assert_int_equal(handover_set_peers(h, peers + 1, 1), 0);
	assert_true(sent[0].cancelled);
	pass(100);
	assert_int_equal(peer_of(1), 1);
	finish(1, KMS_EUNAVAIL, 0, NULL);
	/* Its delay is remembered, also in another place of the list. */
	assert_int_equal(handover_set_peers(h, peers, 2), 0);
	pass(100);
	assert_int_equal(peer_of(2), 0);
	assert_int_equal(under_way(), 1);
}

static void
transport_gone(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 2), 0);
	ask_error = KMS_EUNAVAIL;
	seek(1);
	pass(60000);
	assert_string_equal(handover_problem(h), "");
	ask_error = 0;
	pass(1100);
	assert_int_equal(sent_count, 1);
	hand_over(0, 1);
	assert_true(found(1));
	/* A peer that cannot be asked is passed over. */
	ask_error = KMS_EINVAL;
	seek(2);
	pass(2000);
	assert_string_not_equal(handover_problem(h), "");
}

/* ---- our own candidate ---- */

static const uint8_t candidate[MASTER_SECRET_LEN] = { 5, 6, 7 };

static void
offer_candidate(void)
{
	struct eth_word hash;

	master_secret_hash(candidate, hash.bytes);
	handover_offer(h, candidate, &hash);
}

/* What was sent as number n opens with the peer's key, and nobody else's. */
static void
check_offer(size_t n)
{
	json_t *body = json_loads(sent[n].body, JSON_REJECT_DUPLICATES, NULL);
	const json_t *box = json_object_get(body, "sealed");
	uint8_t hash[32], told[32], secret[MASTER_SECRET_LEN];
	struct sealed_secret sealed;
	size_t key_len, nonce_len, data_len;
	const char *key = vector_text(box, "ephemeral_pubkey", &key_len);
	const char *nonce = vector_text(box, "nonce", &nonce_len);
	const char *data = vector_text(box, "encrypted_data", &data_len);

	assert_string_equal(
	    vector_text(body, "type", &(size_t){ 0 }), "secret_offer");
	master_secret_hash(candidate, hash);
	vector_exact(body, "hash", told, sizeof(told));
	assert_memory_equal(hash, told, sizeof(told));
	assert_int_equal(sealed_secret_parse(key, key_len, nonce, nonce_len,
			     data, data_len, &sealed),
	    0);
	assert_int_equal(
	    sealed_secret_open(peer_keys[peer_of(n)], &sealed, secret), 0);
	assert_memory_equal(secret, candidate, sizeof(secret));
	assert_int_equal(
	    sealed_secret_open(peer_keys[PEERS_MAX - 1], &sealed, secret),
	    KMS_EAUTH);
	json_decref(body);
}

static void
offers_candidate(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 6), 0);
	offer_candidate();
	pass(300);
	assert_int_equal(sent_count, 6);
	for (size_t n = 0; n < 6; n++)
		check_offer(n);
	assert_false(handover_offered(h));
	finish(0, 0, 200, "{\"status\":\"ok\"}");
	finish(1, KMS_EUNAVAIL, 400, NULL);
	finish(2, KMS_EUNAVAIL, 503, NULL);
	finish(3, KMS_EUNAVAIL, 0, NULL);
	finish(4, 0, 200, "{\"status\":\"busy\"}");
	assert_false(handover_offered(h));
	finish(5, KMS_EUNAVAIL, 403, NULL);
	assert_true(handover_offered(h));
	/* Of these, four are tried again. */
	offer_candidate();
	pass(2500);
	assert_int_equal(sent_count, 10);
	for (size_t n = 6; n < 10; n++) {
		assert_in_range(peer_of(n), 2, 5);
		finish(n, 0, 200, "{\"status\":\"ok\"}");
	}
	pass(60000);
	assert_int_equal(sent_count, 10);
	/* One that comes later gets it, too. */
	assert_int_equal(handover_set_peers(h, peers, 7), 0);
	pass(100);
	assert_int_equal(sent_count, 11);
	assert_int_equal(peer_of(10), 6);
	check_offer(10);
	handover_offer_stop(h);
	assert_true(sent[10].cancelled);
	pass(60000);
	assert_int_equal(sent_count, 11);
}

static void
offers_wait(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 20), 0);
	deployed = peers[3].wallet;
	offer_candidate();
	pass(4900);
	assert_int_equal(sent_count, HANDOVER_OFFERING_MAX);
	assert_false(handover_offered(h));
	pass(100);
	assert_true(handover_offered(h));
	/* Slow ones make room for the rest, all but the deployed one. */
	pass(5400);
	assert_int_equal(under_way(), 3);
	for (size_t n = 0; n < sent_count; n++)
		assert_true(peer_of(n) != 3);
	/* Without anybody to offer it to there is nothing to wait for. */
	handover_offer_stop(h);
	assert_int_equal(handover_set_peers(h, NULL, 0), 0);
	offer_candidate();
	assert_true(handover_offered(h));
}

static void
offers_without_transport(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	ask_error = KMS_EUNAVAIL;
	offer_candidate();
	pass(2000);
	assert_false(handover_offered(h));
	ask_error = 0;
	pass(1100);
	assert_int_equal(sent_count, 1);
	finish(0, 0, 200, "{\"status\":\"ok\"}");
	assert_true(handover_offered(h));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(asks_in_turn),
		TEST(retries_at_once),
		TEST(random_order),
		TEST(slow_peers),
		TEST(wrong_secret),
		TEST(bad_answers),
		TEST(hash_changes),
		TEST(peers_come_and_go),
		TEST(transport_gone),
		TEST(offers_candidate),
		TEST(offers_wait),
		TEST(offers_without_transport),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
