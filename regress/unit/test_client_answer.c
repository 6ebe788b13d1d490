/* libkmsclient believes no answer that the registered node did not sign. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "crypto/crypto.h"
#include "crypto/pop.h"
#include "kmsctl/client.h"

struct world {
	struct wallet_context *wallets;
	uint8_t node_key[WALLET_KEY_LEN];
	uint8_t other_key[WALLET_KEY_LEN];
	struct p384_key *node_tee;
	struct p384_key *app_tee;
	struct client_peer peer;
	uint8_t shared[P384_SHARED_LEN];
	char caller[SIGNATURE_TEXT_LEN + 1];
	char other_caller[SIGNATURE_TEXT_LEN + 1];
};

static struct p384_key *
tee_key(uint8_t fill)
{
	uint8_t scalar[P384_SCALAR_LEN];
	struct p384_key *key;

	memset(scalar, fill, sizeof(scalar));
	assert_int_equal(p384_key_new(scalar, &key), 0);
	return key;
}

static void
sign_text(const struct world *w, const uint8_t *key, const struct buf *text,
    char out[CLIENT_HEADER_MAX])
{
	uint8_t signature[SIGNATURE_LEN];

	assert_int_equal(wallet_sign_message(
			     w->wallets, key, text->data, text->len, signature),
	    0);
	signature_format(signature, out);
}

static int
world_setup(void **state)
{
	static const uint8_t seed[32] = { 7 };
	struct world *w = calloc(1, sizeof(*w));
	char text[CLIENT_HEADER_MAX];
	struct buf message;

	assert_non_null(w);
	w->wallets = wallet_context_new(seed);
	assert_non_null(w->wallets);
	memset(w->node_key, 0x11, sizeof(w->node_key));
	memset(w->other_key, 0x22, sizeof(w->other_key));
	w->node_tee = tee_key(0x33);
	w->app_tee = tee_key(0x44);
	assert_int_equal(
	    wallet_key_address(w->wallets, w->node_key, &w->peer.wallet), 0);
	w->peer.tee_point = *p384_key_point(w->node_tee);
	assert_int_equal(
	    p384_agree(w->app_tee, &w->peer.tee_point, w->shared), 0);
	buf_init(&message, 100);
	buf_append_text(&message, "a request");
	sign_text(w, w->other_key, &message, text);
	memcpy(w->caller, text, sizeof(w->caller));
	buf_append_text(&message, " of another time");
	sign_text(w, w->other_key, &message, text);
	memcpy(w->other_caller, text, sizeof(w->other_caller));
	buf_free(&message);
	*state = w;
	return 0;
}

static int
world_teardown(void **state)
{
	struct world *w = *state;

	wallet_context_free(w->wallets);
	p384_key_free(w->node_tee);
	p384_key_free(w->app_tee);
	free(w);
	return 0;
}

/* Sign as a node with that wallet key does. */
static void
answer_sign(const struct world *w, const uint8_t *key, const char *caller,
    struct client_answer *answer, unsigned int status,
    const uint8_t hash[SHA256_LEN])
{
	struct buf text;

	answer->status = status;
	buf_init(&text, 1024);
	assert_int_equal(
	    pop_response_append(caller, strlen(caller), &w->peer.wallet, &text),
	    0);
	sign_text(w, key, &text, answer->signature);
	buf_clear(&text);
	assert_int_equal(pop_response_v2_append(caller, strlen(caller),
			     &w->peer.wallet, status, hash, &text),
	    0);
	sign_text(w, key, &text, answer->signature_v2);
	buf_free(&text);
}

/* An answer with an envelope from a P-384 key and signatures of a wallet. */
static void
answer_make(const struct world *w, const uint8_t *key,
    const struct p384_key *tee, const char *caller,
    struct client_answer *answer)
{
	static const uint8_t nonce[AEAD_NONCE_LEN] = { 1, 2, 3 };
	uint8_t hash[SHA256_LEN], shared[P384_SHARED_LEN];
	struct buf plaintext;

	client_answer_init(answer);
	buf_init(&plaintext, 1000);
	buf_append_text(&plaintext, "{\"app_id\":1000}");
	assert_int_equal(
	    p384_agree(tee, p384_key_point(w->app_tee), shared), 0);
	assert_int_equal(client_envelope_seal(shared, p384_key_point(tee),
			     p384_key_point(w->app_tee), nonce, &plaintext,
			     &answer->body, hash),
	    0);
	buf_free(&plaintext);
	answer_sign(w, key, caller, answer, 200, hash);
}

static void
error_make(const struct world *w, const char *caller, unsigned int status,
    const char *code, const char *message, struct client_answer *answer)
{
	uint8_t hash[SHA256_LEN];

	client_answer_init(answer);
	assert_int_equal(
	    buf_printf(&answer->body, "{\"message\": \"%s\", \"code\": \"%s\"}",
		message, code),
	    0);
	assert_int_equal(pop_error_hash(code, message, hash), 0);
	answer_sign(w, w->node_key, caller, answer, status, hash);
}

static int
verify(const struct world *w, const struct client_answer *answer)
{
	const char *why;
	json_t *json;
	int rc;

	rc = client_answer_verify(
	    w->wallets, &w->peer, w->caller, answer, &json, &why);
	assert_true((rc == 0) == (json != NULL));
	assert_non_null(why);
	client_json_free(json);
	return rc;
}

static void
test_answer_good(void **state)
{
	const struct world *w = *state;
	struct client_answer answer;
	struct buf plaintext;
	const char *why;
	json_t *json;

	answer_make(w, w->node_key, w->node_tee, w->caller, &answer);
	assert_int_equal(client_answer_verify(w->wallets, &w->peer, w->caller,
			     &answer, &json, &why),
	    0);
	buf_init(&plaintext, 1000);
	assert_int_equal(
	    client_envelope_open(json, w->shared, p384_key_point(w->app_tee),
		&w->peer.tee_point, &plaintext),
	    0);
	assert_int_equal(plaintext.len, 15);
	assert_memory_equal(plaintext.data, "{\"app_id\":1000}", 15);
	client_json_free(json);
	buf_free(&plaintext);
	client_answer_free(&answer);
}

static void
test_answer_wrong_sender(void **state)
{
	const struct world *w = *state;
	struct client_answer answer;

	/* signed by the node, but sealed by somebody else */
	answer_make(w, w->node_key, w->app_tee, w->caller, &answer);
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);
}

static void
test_answer_wrong_signer(void **state)
{
	const struct world *w = *state;
	struct client_answer answer, good;

	answer_make(w, w->other_key, w->node_tee, w->caller, &answer);
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	/* each signature alone does not carry the other */
	answer_make(w, w->node_key, w->node_tee, w->caller, &good);
	memcpy(answer.signature, good.signature, CLIENT_HEADER_MAX);
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);
	answer_make(w, w->other_key, w->node_tee, w->caller, &answer);
	memcpy(answer.signature_v2, good.signature_v2, CLIENT_HEADER_MAX);
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	memcpy(answer.signature, good.signature, CLIENT_HEADER_MAX);
	assert_int_equal(verify(w, &answer), 0);
	client_answer_free(&answer);
	client_answer_free(&good);
}

static void
test_answer_replayed(void **state)
{
	const struct world *w = *state;
	struct client_answer answer;

	answer_make(w, w->node_key, w->node_tee, w->other_caller, &answer);
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);
	/* the same signatures over another status */
	answer_make(w, w->node_key, w->node_tee, w->caller, &answer);
	answer.status = 201;
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);
}

/* Also without a signature, with the v1 one alone, or with headers twice. */
static void
test_answer_unsigned(void **state)
{
	const struct world *w = *state;
	struct client_answer answer;

	answer_make(w, w->node_key, w->node_tee, w->caller, &answer);
	answer.repeated = true;
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	answer.repeated = false;
	answer.signature_v2[0] = '\0';
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	answer.signature[0] = '\0';
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);

	error_make(w, w->caller, 404, "not_found", "no such key", &answer);
	answer.signature_v2[0] = '\0';
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	answer.signature[0] = '\0';
	assert_int_equal(verify(w, &answer), KMS_ENOENT);
	client_answer_free(&answer);

	answer_make(w, w->node_key, w->node_tee, w->caller, &answer);
	answer.signature[0] = '\0';
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);
}

static void
test_answer_error(void **state)
{
	const struct world *w = *state;
	struct client_answer answer, other;

	error_make(w, w->caller, 404, "not_found", "no such key", &answer);
	assert_int_equal(verify(w, &answer), 0);
	/* a signed 410 is no 404, and a signed error is no success */
	answer.status = 410;
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	answer.status = 200;
	assert_int_equal(verify(w, &answer), KMS_EAUTH);
	client_answer_free(&answer);
	error_make(w, w->caller, 404, "not_found", "no such key", &answer);
	error_make(w, w->caller, 404, "evicted", "no such key", &other);
	memcpy(other.signature_v2, answer.signature_v2, CLIENT_HEADER_MAX);
	assert_int_equal(verify(w, &other), KMS_EAUTH);
	client_answer_free(&answer);
	client_answer_free(&other);
}

/*
 * Whatever is changed in a verified answer, it is not believed or it still
 * says the same: letters of hex and white space may differ.
 */
static void
test_answer_mutated(void **state)
{
	const struct world *w = *state;
	struct client_answer answer;
	struct buf original, opened;
	unsigned int seed = 1, i;
	const char *why;
	json_t *json;

	answer_make(w, w->node_key, w->node_tee, w->caller, &answer);
	buf_init(&original, CLIENT_ANSWER_MAX);
	buf_init(&opened, CLIENT_ANSWER_MAX);
	buf_append(&original, answer.body.data, answer.body.len);
	for (i = 0; i < 20000; i++) {
		size_t at, len = original.len;

		seed = seed * 1103515245 + 12345;
		at = (seed >> 8) % len;
		buf_clear(&answer.body);
		if (seed % 5 == 0)
			len = at;
		buf_append(&answer.body, original.data, len);
		if (at < len)
			answer.body.data[at] = (uint8_t)(seed >> 3);
		if (client_answer_verify(w->wallets, &w->peer, w->caller,
			&answer, &json, &why) != 0)
			continue;
		buf_clear(&opened);
		assert_int_equal(client_envelope_open(json, w->shared,
				     p384_key_point(w->app_tee),
				     &w->peer.tee_point, &opened),
		    0);
		assert_int_equal(opened.len, 15);
		client_json_free(json);
	}
	buf_free(&original);
	buf_free(&opened);
	client_answer_free(&answer);
}

static void
test_envelope_refused(void **state)
{
	const struct world *w = *state;
	struct client_answer answer;
	struct buf out;
	json_t *json;

	answer_make(w, w->node_key, w->node_tee, w->caller, &answer);
	assert_int_equal(
	    client_json_parse(answer.body.data, answer.body.len, &json), 0);
	buf_init(&out, 1000);
	/* not for this pair of keys */
	assert_int_equal(
	    client_envelope_open(json, w->shared, p384_key_point(w->app_tee),
		p384_key_point(w->app_tee), &out),
	    KMS_EAUTH);
	/* a fourth member */
	json_object_set_new(json, "more", json_string(""));
	assert_int_equal(
	    client_envelope_open(json, w->shared, p384_key_point(w->app_tee),
		&w->peer.tee_point, &out),
	    KMS_EPROTO);
	assert_int_equal(out.len, 0);
	client_json_free(json);
	client_answer_free(&answer);
	buf_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer_good),
		cmocka_unit_test(test_answer_wrong_sender),
		cmocka_unit_test(test_answer_wrong_signer),
		cmocka_unit_test(test_answer_replayed),
		cmocka_unit_test(test_answer_unsigned),
		cmocka_unit_test(test_answer_error),
		cmocka_unit_test(test_answer_mutated),
		cmocka_unit_test(test_envelope_refused),
	};
	int rc;

	if (crypto_init() != 0)
		return 1;
	rc = cmocka_run_group_tests(tests, world_setup, world_teardown);
	crypto_free();
	return rc;
}
