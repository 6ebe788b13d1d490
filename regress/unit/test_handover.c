#include "regress/unit/handover_rig.h"

/* ---- vectors ---- */

static void
vector_serve(const json_t *vector)
{
	uint8_t scalar[P384_SCALAR_LEN], nonce[AEAD_NONCE_LEN];
	uint8_t master[MASTER_SECRET_LEN];
	const json_t *sealed = json_object_get(vector, "sealed");
	char text[512];
	struct buf answer;
	json_t *object;
	size_t len;

	vector_exact(vector, "ephemeral_private", scalar, sizeof(scalar));
	vector_exact(sealed, "nonce", nonce, sizeof(nonce));
	vector_exact(vector, "master_secret", master, sizeof(master));
	next_scalar = scalar;
	next_nonce = nonce;
	(void)snprintf(text, sizeof(text),
	    "{\"type\":\"master_secret_request\",\"ecdh_pubkey\":\"%s\"}",
	    vector_text(vector, "requester_spki", &len));
	buf_init(&answer, HANDOVER_BODY_MAX);
	assert_int_equal(serve(&peers[0].wallet, master, text, &answer), 200);
	object = json_loadb((char *)answer.data, answer.len, 0, NULL);
	assert_non_null(object);
	assert_int_equal(json_object_size(object), 2);
	assert_string_equal(vector_text(object, "status", &len), "ok");
	assert_true(json_equal(json_object_get(object, "sealed"), sealed));
	json_decref(object);
	buf_free(&answer);
}

static void
vector_ask(const json_t *vector)
{
	uint8_t scalar[P384_SCALAR_LEN], master[MASTER_SECRET_LEN];
	char *sealed = json_dumps(json_object_get(vector, "sealed"), 0);
	struct p384_point point;
	struct eth_word hash;
	const uint8_t *got;
	const char *url;
	char text[HANDOVER_BODY_MAX];
	size_t len;

	vector_exact(vector, "requester_private", scalar, sizeof(scalar));
	vector_exact(vector, "master_secret", master, sizeof(master));
	master_secret_hash(master, hash.bytes);
	next_scalar = scalar;
	sent_count = 0;
	handover_seek(h, &hash);
	assert_int_equal(sent_count, 1);
	point = asked_key(0);
	assert_true(p384_public_is_hex(
	    vector_text(vector, "requester_spki", &len), 240, &point));
	(void)snprintf(
	    text, sizeof(text), "{\"status\":\"ok\",\"sealed\":%s}", sealed);
	free(sealed);
	finish(0, 0, 200, text);
	got = handover_found(h, &hash, &url);
	assert_non_null(got);
	assert_memory_equal(got, master, sizeof(master));
	assert_string_equal(url, peers[peer_of(0)].url);
	handover_seek_stop(h);
	assert_null(handover_found(h, &hash, &url));
}

static void
vector_offer(const json_t *vector)
{
	char *sealed = json_dumps(json_object_get(vector, "sealed"), 0);
	uint8_t master[MASTER_SECRET_LEN];
	char text[HANDOVER_BODY_MAX], digits[65];
	struct eth_word hash;
	const uint8_t *got;
	const char *url;
	size_t len;

	make_identity(vector_text(vector, "requester_private", &len));
	make_handover();
	vector_exact(vector, "master_secret", master, sizeof(master));
	master_secret_hash(master, hash.bytes);
	hex_encode(hash.bytes, 32, digits);
	(void)snprintf(text, sizeof(text),
	    "{\"type\":\"secret_offer\",\"hash\":\"%s\",\"sealed\":%s}", digits,
	    sealed);
	free(sealed);
	assert_int_equal(serve_quietly(&peers[3].wallet, NULL, text), 200);
	handover_seek(h, &hash);
	got = handover_found(h, &hash, &url);
	assert_non_null(got);
	assert_memory_equal(got, master, sizeof(master));
	assert_string_equal(url, ""); /* of no current peer */
}

static void
vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/sealed_secret.json");
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector)
	{
		vector_serve(vector);
		assert_int_equal(handover_set_peers(h, peers, 2), 0);
		vector_ask(vector);
		vector_offer(vector);
	}
	assert_int_equal(i, 3);
	json_decref(root);
}

/* ---- answering ---- */

static void
serve_request(void **state)
{
	static const char form[] =
	    "{\"type\":\"master_secret_request\",%s\"ecdh_pubkey\":\"%s%s\"}";
	uint8_t secret[MASTER_SECRET_LEN] = { 1 }, spki[P384_SPKI_LEN];
	char key[2 * P384_SPKI_LEN + 1], text[1024];
	struct buf first, second;

	(void)state;
	p384_public_spki(&peers[0].point, spki);
	hex_encode(spki, sizeof(spki), key);
	buf_init(&first, HANDOVER_BODY_MAX);
	buf_init(&second, HANDOVER_BODY_MAX);
	(void)snprintf(text, sizeof(text), form, "", "0x", key);
	assert_int_equal(serve(&peers[0].wallet, secret, text, &first), 200);
	assert_int_equal(serve(&peers[0].wallet, secret, text, &second), 200);
	/* A fresh ephemeral key each time. */
	assert_int_equal(first.len, second.len);
	assert_memory_not_equal(first.data + 70, second.data + 70, 200);
	buf_free(&first);
	buf_free(&second);
	assert_int_equal(serve_quietly(&peers[0].wallet, NULL, text), 503);
	(void)snprintf(text, sizeof(text), form,
	    "\"sender_wallet\":\"2020202020202020202020202020202020202020\",",
	    "", key);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret, text), 200);
	assert_int_equal(serve_quietly(&peers[1].wallet, secret, text), 403);
	(void)snprintf(
	    text, sizeof(text), form, "\"sender_wallet\":\"0x20\",", "", key);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret, text), 403);
	(void)snprintf(text, sizeof(text), form, "\"ecdh_pubkey\":1,", "", key);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret, text), 400);
	(void)snprintf(text, sizeof(text), form, "", "00", key);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret, text), 400);
	(void)snprintf(text, sizeof(text), form, "", "\\u0030x", key);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret, text), 400);
	key[239] ^= 1; /* off the curve */
	(void)snprintf(text, sizeof(text), form, "", "", key);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret, text), 400);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret,
			     "{\"type\":\"master_secret_request\"}"),
	    400);
	assert_int_equal(serve_quietly(&peers[0].wallet, secret,
			     "{\"type\":\"snapshot_request\"}"),
	    400);
}

static void
serve_offers(void **state)
{
	static const char *const bad[] = {
		"{\"type\":\"secret_offer\"}",
		"{\"type\":\"secret_offer\",\"hash\":\"00\",\"sealed\":{}}",
		"{\"type\":\"secret_offer\",\"hash\":1,\"sealed\":[]}",
	};
	char text[HANDOVER_BODY_MAX], *digits;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(
		    serve_quietly(&peers[0].wallet, NULL, bad[i]), 400);
	print_offer(text, sizeof(text), 1, 1);
	digits = strstr(text, "\"hash\":\"") + 8;
	memset(digits, '0', 64); /* the hash that nobody has */
	assert_int_equal(serve_quietly(&peers[0].wallet, NULL, text), 400);
	memset(digits, '1', 64);
	*strstr(text, "sealed") = 'x';
	assert_int_equal(serve_quietly(&peers[0].wallet, NULL, text), 400);
	assert_int_equal(handover_offers(h), 0);
	/* Even one that cannot be opened is kept: it is not looked at. */
	print_offer(text, sizeof(text), 1, 1);
	text[strlen(text) - 4] ^= 1;
	assert_int_equal(serve_quietly(&peers[0].wallet, NULL, text), 200);
	assert_int_equal(handover_offers(h), 1);
	seek(1);
	assert_false(found(1));
	assert_int_equal(handover_offers(h), 0);
}

/* ---- offers of others ---- */

static void
offer_replaced(void **state)
{
	(void)state;
	assert_int_equal(take_offer(0, 1, 1), 200);
	assert_int_equal(take_offer(0, 2, 2), 200);
	assert_int_equal(handover_offers(h), 1);
	seek(1);
	assert_false(found(1));
	seek(2);
	assert_true(found(2));
	/* It stays until it is final that it is not needed. */
	assert_int_equal(handover_offers(h), 1);
}

static void
offers_bounded(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers + 4, 18), 0);
	for (uint8_t i = 0; i < HANDOVER_OFFERS_MAX; i++)
		assert_int_equal(take_offer(i, i, i), 200);
	assert_int_equal(handover_offers(h), HANDOVER_OFFERS_MAX);
	/* Those of 0 to 3, who are none, go first; then the oldest. */
	for (uint8_t i = 16; i < 21; i++)
		assert_int_equal(take_offer(i, i, i), 200);
	assert_int_equal(handover_offers(h), HANDOVER_OFFERS_MAX);
	for (uint8_t i = 0; i < 21; i++) {
		seek(i);
		assert_int_equal(found(i), i >= 5);
	}
	/* A stranger finds no room, and replaces nobody. */
	assert_int_equal(take_offer(22, 22, 22), 503);
	/* When a peer goes its offer becomes the first to go. */
	assert_int_equal(handover_set_peers(h, peers + 4, 15), 0);
	assert_int_equal(take_offer(22, 22, 22), 200);
	seek(19);
	assert_false(found(19));
	seek(22);
	assert_true(found(22));
}

static void
offers_dropped(void **state)
{
	struct eth_word hash = hash_of(2);

	(void)state;
	for (uint8_t i = 1; i <= 3; i++)
		assert_int_equal(take_offer(i, i, i), 200);
	handover_drop_offers(h, &hash);
	assert_int_equal(handover_offers(h), 1);
	seek(2);
	assert_true(found(2));
	handover_drop_offer(h, &hash);
	assert_int_equal(handover_offers(h), 0);
	assert_int_equal(take_offer(1, 1, 1), 200);
	handover_drop_offers(h, NULL);
	assert_int_equal(handover_offers(h), 0);
}

/* One offers another secret under the hash, one the right one. */
static void
false_offer(void **state)
{
	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	assert_int_equal(take_offer(1, 1, 2), 200);
	assert_int_equal(take_offer(2, 1, 1), 200);
	assert_int_equal(take_offer(3, 3, 1), 200);
	seek(1);
	assert_true(found(1));
	assert_int_equal(handover_offers(h), 2);
	assert_int_equal(sent_count, 0);
}

/* ---- an identity that takes its time ---- */

static identity_done_fn unsealed;
static void *unsealed_arg;
static unsigned int unseals;

static void
slow_unseal(struct identity *slow, const struct sealed_secret *sealed,
    identity_done_fn done, void *arg)
{
	(void)slow;
	(void)sealed;
	unseals++;
	unsealed = done;
	unsealed_arg = arg;
}

static void
with_slow_identity(bool can)
{
	static struct identity_ops ops;
	static struct identity slow;

	slow = *identity;
	ops = (struct identity_ops){ .unseal = can ? slow_unseal : NULL };
	slow.ops = &ops;
	unseals = 0;
	handover_free(h);
	h = NULL;
	{
		struct handover_ops calls = { ask, cancel, NULL, &rig };

		h = handover_new(&calls, &slow, draw, &rig);
	}
	handover_set_time(h, rig.now);
}

static void
slow_identity(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN];
	struct eth_word hash;

	(void)state;
	with_slow_identity(true);
	assert_int_equal(handover_set_peers(h, peers, 2), 0);
	secret_of(1, secret, &hash);
	assert_int_equal(take_offer(0, 1, 1), 200);
	seek(1);
	pass(1000);
	assert_int_equal(unseals, 1);
	assert_int_equal(sent_count, 0); /* nobody is asked meanwhile */
	/* It cannot be asked now: the offer stays, and a peer is asked. */
	unsealed(unsealed_arg, KMS_EUNAVAIL, NULL, 0);
	pass(100);
	assert_int_equal(handover_offers(h), 1);
	assert_int_equal(sent_count, 1);
	pass(2000);
	assert_int_equal(unseals, 2);
	unsealed(unsealed_arg, 0, secret, sizeof(secret));
	assert_true(found(1));
	assert_true(sent[0].cancelled);
	/* What comes too late, for another hash, is not taken, and nothing is
	 * held against the offer of that one. */
	handover_seek_stop(h);
	seek(1);
	assert_int_equal(unseals, 3);
	assert_int_equal(take_offer(0, 2, 2), 200);
	seek(2);
	unsealed(unsealed_arg, 0, secret, sizeof(secret));
	assert_false(found(1));
	assert_false(found(2));
	assert_int_equal(handover_offers(h), 1);
	pass(100);
	assert_int_equal(unseals, 4);
}

static void
identity_without_unseal(void **state)
{
	(void)state;
	with_slow_identity(false);
	assert_int_equal(take_offer(0, 1, 1), 503);
	assert_int_equal(handover_offers(h), 0);
}

/* ---- mutations ---- */

static void
mutations(void **state)
{
	uint8_t secret[MASTER_SECRET_LEN] = { 1 }, spki[P384_SPKI_LEN];
	char key[2 * P384_SPKI_LEN + 1], text[3][HANDOVER_BODY_MAX];
	char good[HANDOVER_BODY_MAX];
	uint64_t seed = 42;
	size_t taken = 0;

	(void)state;
	assert_int_equal(handover_set_peers(h, peers, 1), 0);
	p384_public_spki(&peers[0].point, spki);
	hex_encode(spki, sizeof(spki), key);
	(void)snprintf(text[0], sizeof(text[0]),
	    "{\"type\":\"master_secret_request\",\"sender_wallet\":"
	    "\"0x2020202020202020202020202020202020202020\","
	    "\"ecdh_pubkey\":\"%s\"}",
	    key);
	print_offer(text[1], sizeof(text[1]), 1, 1);
	for (size_t i = 0; i < 3000; i++) {
		char *copy = strdup(text[i % 2]);
		struct sync_message message;
		struct buf answer;
		const char *why;
		size_t len = strlen(copy);

		assert_non_null(copy);
		vector_mutate(&seed, (uint8_t *)copy, len);
		buf_init(&answer, HANDOVER_BODY_MAX);
		if (sync_message_read(copy, len, &message) == 0)
			taken += handover_serve(h, &peers[0].wallet, &message,
				     i % 100 < 2 ? secret : NULL, &answer,
				     &why) == 200;
		buf_free(&answer);
		free(copy);
	}
	assert_in_range(taken, 1, 2999);
	handover_drop_offers(h, NULL);
	/* An answer that was changed is never a secret. */
	for (size_t i = 0; i < 200; i++) {
		struct sealed_secret sealed;
		struct p384_point point;

		seek(1);
		while (under_way() == 0)
			pass(1000);
		point = asked_key(sent_count - 1);
		seal_to(&point, 1, &sealed);
		print_sealed(
		    text[2], sizeof(text[2]), "\"status\":\"ok\"", &sealed);
		memcpy(good, text[2], sizeof(good));
		vector_mutate(&seed,
		    (uint8_t *)strstr(text[2], "pubkey\":\"") + 9,
		    strlen(text[2]) - 60);
		if (memchr(text[2], '\0', strlen(good)) != NULL)
			memcpy(text[2], "[", 2);
		finish(sent_count - 1, 0, 200, text[2]);
		/* The case of a digit does not count. */
		if (found(1)) {
			assert_int_equal(strcasecmp(text[2], good), 0);
			handover_seek_stop(h);
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(vectors),
		TEST(serve_request),
		TEST(serve_offers),
		TEST(offer_replaced),
		TEST(offers_bounded),
		TEST(offers_dropped),
		TEST(false_offer),
		TEST(slow_identity),
		TEST(identity_without_unseal),
		TEST(mutations),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
