#include "regress/unit/vector.h"

#include "common/err.h"
#include "crypto/envelope.h"
#include "regress/unit/crypto_setup.h"

static struct envelope_text
text_of(const json_t *object)
{
	struct envelope_text text;

	text.sender =
	    vector_text(object, "sender_tee_pubkey", &text.sender_len);
	text.nonce = vector_text(object, "nonce", &text.nonce_len);
	text.data = vector_text(object, "encrypted_data", &text.data_len);
	return text;
}

static struct p384_key *
key_of(const json_t *vector, const char *private_member,
    const char *spki_member, const char *sec1_member)
{
	uint8_t scalar[P384_SCALAR_LEN], spki[P384_SPKI_LEN];
	uint8_t expected[P384_SPKI_LEN], sec1[P384_SEC1_LEN];
	struct p384_key *key = NULL;

	vector_exact(vector, private_member, scalar, sizeof(scalar));
	vector_exact(vector, spki_member, expected, sizeof(expected));
	vector_exact(vector, sec1_member, sec1, sizeof(sec1));
	assert_int_equal(p384_key_new(scalar, &key), 0);
	p384_public_spki(p384_key_point(key), spki);
	assert_memory_equal(spki, expected, sizeof(spki));
	assert_memory_equal(p384_key_point(key)->sec1, sec1, sizeof(sec1));
	return key;
}

static void
open_and_seal(const json_t *vector, const uint8_t *shared,
    const struct p384_point *own, const struct p384_point *other)
{
	struct envelope_text text =
	    text_of(json_object_get(vector, "envelope"));
	size_t plain_len, sealed_len;
	const char *plain = vector_text(vector, "plaintext", &plain_len);
	uint8_t *sealed = malloc(text.data_len / 2);
	uint8_t *out = malloc(text.data_len / 2);
	uint8_t nonce[AEAD_NONCE_LEN];
	struct p384_point sender;

	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     text.data_len / 2, &sealed_len),
	    0);
	assert_true(p384_point_equal(&sender, other));
	assert_int_equal(sealed_len, plain_len + AEAD_TAG_LEN);
	assert_int_equal(
	    envelope_open(shared, own, other, nonce, sealed, sealed_len, out),
	    0);
	assert_memory_equal(out, plain, plain_len);
	assert_int_equal(
	    envelope_seal(shared, other, own, nonce, plain, plain_len, out), 0);
	assert_memory_equal(out, sealed, sealed_len);
	sealed[sealed_len - 1] ^= 1;
	assert_int_equal(
	    envelope_open(shared, own, other, nonce, sealed, sealed_len, out),
	    KMS_EAUTH);
	free(out);
	free(sealed);
}

static void
envelope_case(const json_t *vector)
{
	struct p384_key *sender =
	    key_of(vector, "sender_private", "sender_spki", "sender_sec1");
	struct p384_key *receiver = key_of(
	    vector, "receiver_private", "receiver_spki", "receiver_sec1");
	const struct p384_point *a = p384_key_point(sender);
	const struct p384_point *b = p384_key_point(receiver);
	uint8_t shared[P384_SHARED_LEN], expected[P384_SHARED_LEN];
	uint8_t nonce[AEAD_NONCE_LEN], key[AEAD_KEY_LEN];
	uint8_t expected_key[AEAD_KEY_LEN];

	vector_exact(vector, "shared_secret", expected, sizeof(expected));
	vector_exact(vector, "nonce", nonce, sizeof(nonce));
	vector_exact(vector, "aes_key", expected_key, sizeof(expected_key));
	assert_int_equal(p384_agree(sender, b, shared), 0);
	assert_memory_equal(shared, expected, sizeof(shared));
	assert_int_equal(p384_agree(receiver, a, shared), 0);
	assert_memory_equal(shared, expected, sizeof(shared));
	assert_int_equal(envelope_key(shared, a, b, nonce, key), 0);
	assert_memory_equal(key, expected_key, sizeof(key));
	assert_int_equal(envelope_key(shared, b, a, nonce, key), 0);
	assert_memory_equal(key, expected_key, sizeof(key));
	open_and_seal(vector, shared, b, a);
	p384_key_free(receiver);
	p384_key_free(sender);
}

static void
envelope_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/envelope.json");
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector) envelope_case(vector);
	assert_int_equal(i, 5);
	json_decref(root);
}

static void
sync_hmac_case(const json_t *vector)
{
	struct envelope_text text = text_of(json_object_get(vector, "body"));
	uint8_t key[32], expected[SHA256_LEN], got[SHA256_LEN];
	size_t len;
	const char *canonical = vector_text(vector, "canonical", &len);
	struct buf out;

	vector_exact(vector, "sync_key", key, sizeof(key));
	vector_exact(vector, "x_sync_signature", expected, sizeof(expected));
	assert_int_equal(
	    envelope_canonical_hmac(key, sizeof(key), &text, got), 0);
	assert_memory_equal(got, expected, sizeof(got));
	assert_int_equal(sha256(canonical, len, expected), 0);
	assert_int_equal(envelope_canonical_hash(&text, got), 0);
	assert_memory_equal(got, expected, sizeof(got));
	buf_init(&out, len);
	assert_int_equal(envelope_canonical_append(&text, &out), 0);
	assert_int_equal(out.len, len);
	assert_memory_equal(out.data, canonical, len);
	assert_int_equal(envelope_canonical_append(&text, &out), KMS_ETOOBIG);
	assert_int_equal(out.len, len);
	buf_free(&out);
	text.nonce = "a\"b";
	text.nonce_len = 3;
	assert_int_equal(envelope_canonical_hash(&text, got), KMS_EINVAL);
}

static void
sync_hmac_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/sync_hmac.json");
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector) sync_hmac_case(vector);
	assert_int_equal(i, 2);
	json_decref(root);
}

/* What decode takes: lengths, alphabet, and room. */
static void
decode_bounds(void **state)
{
	json_t *root = vector_load("regress/vectors/envelope.json");
	const json_t *object =
	    json_object_get(json_array_get(root, 0), "envelope");
	const struct envelope_text good = text_of(object);
	struct envelope_text text = good;
	struct p384_point sender;
	uint8_t nonce[AEAD_NONCE_LEN], sealed[256];
	size_t len;

	(void)state;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    0);
	assert_int_equal(
	    envelope_decode(&text, &sender, nonce, sealed, len - 1, &len),
	    KMS_ETOOBIG);
	text.nonce_len -= 2;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    KMS_EINVAL);
	text = good;
	text.data_len = 2 * AEAD_TAG_LEN - 2;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    KMS_EINVAL);
	text.data_len = 2 * AEAD_TAG_LEN;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    0);
	text.data_len--;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    KMS_EINVAL);
	text = good;
	text.sender_len -= 2;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    KMS_EINVAL);
	text.sender_len = 0;
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     sizeof(sealed), &len),
	    KMS_EINVAL);
	json_decref(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(envelope_vectors),
		cmocka_unit_test(sync_hmac_vectors),
		cmocka_unit_test(decode_bounds),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
