#include "regress/unit/vector.h"

#include "common/err.h"
#include "crypto/aead.h"
#include "crypto/aes_block.h"
#include "regress/unit/crypto_setup.h"

struct tally {
	size_t valid, invalid, other;
};

static void
open_and_seal(const json_t *test, const uint8_t *key, const uint8_t *nonce,
    const uint8_t *sealed, size_t sealed_len, struct tally *tally)
{
	size_t len;
	uint8_t *message = vector_bytes(test, "msg", &len);
	uint8_t *out = calloc(1, sealed_len + 1);
	int error;

	assert_non_null(out);
	error = aead_open(key, nonce, sealed, sealed_len, out);
	if (vector_result_is(test, "valid")) {
		assert_int_equal(error, 0);
		assert_memory_equal(out, message, len);
		assert_int_equal(aead_seal(key, nonce, message, len, out), 0);
		assert_memory_equal(out, sealed, sealed_len);
		/* In place, both ways. */
		assert_int_equal(
		    aead_open(key, nonce, out, sealed_len, out), 0);
		assert_memory_equal(out, message, len);
		assert_int_equal(aead_seal(key, nonce, out, len, out), 0);
		assert_memory_equal(out, sealed, sealed_len);
		tally->valid++;
	} else {
		assert_int_equal(error, KMS_EAUTH);
		for (size_t i = 0; i + AEAD_TAG_LEN < sealed_len; i++)
			assert_int_equal(out[i], 0);
		tally->invalid++;
	}
	free(out);
	free(message);
}

static void
gcm_case(const json_t *test, const json_t *group, void *arg)
{
	struct tally *tally = arg;
	size_t key_len, nonce_len, aad_len, ct_len, tag_len;
	uint8_t *key = vector_bytes(test, "key", &key_len);
	uint8_t *nonce = vector_bytes(test, "iv", &nonce_len);
	uint8_t *aad = vector_bytes(test, "aad", &aad_len);
	uint8_t *ct = vector_bytes(test, "ct", &ct_len);
	uint8_t *tag = vector_bytes(test, "tag", &tag_len);

	(void)group;
	if (key_len == AEAD_KEY_LEN && nonce_len == AEAD_NONCE_LEN &&
	    aad_len == 0 && tag_len == AEAD_TAG_LEN) {
		ct = realloc(ct, ct_len + tag_len);
		assert_non_null(ct);
		memcpy(ct + ct_len, tag, tag_len);
		open_and_seal(test, key, nonce, ct, ct_len + tag_len, tally);
	} else {
		tally->other++; /* sizes this room has no function for */
	}
	free(tag);
	free(ct);
	free(aad);
	free(nonce);
	free(key);
}

static void
gcm_wycheproof(void **state)
{
	struct tally tally = { 0 };

	(void)state;
	vector_wycheproof(
	    "regress/vectors/wycheproof/aes_gcm_test.json", gcm_case, &tally);
	assert_int_equal(tally.valid, 21);
	assert_int_equal(tally.invalid, 27);
}

static void
every_bit_counts(void **state)
{
	uint8_t key[AEAD_KEY_LEN] = { 1 }, nonce[AEAD_NONCE_LEN] = { 2 };
	uint8_t sealed[5 + AEAD_TAG_LEN], out[5];

	(void)state;
	assert_int_equal(aead_seal(key, nonce, "hello", 5, sealed), 0);
	for (size_t bit = 0; bit < 8 * sizeof(sealed); bit++) {
		sealed[bit / 8] ^= (uint8_t)(1U << (bit % 8));
		assert_int_equal(
		    aead_open(key, nonce, sealed, sizeof(sealed), out),
		    KMS_EAUTH);
		sealed[bit / 8] ^= (uint8_t)(1U << (bit % 8));
	}
	for (size_t len = 0; len < sizeof(sealed); len++)
		assert_int_equal(
		    aead_open(key, nonce, sealed, len, out), KMS_EAUTH);
	assert_int_equal(aead_open(key, nonce, sealed, sizeof(sealed), out), 0);
	assert_memory_equal(out, "hello", 5);
	assert_int_equal(
	    aead_seal(key, nonce, out, AEAD_TEXT_MAX + 1, out), KMS_ETOOBIG);
	assert_int_equal(aead_open(key, nonce, sealed,
			     AEAD_TEXT_MAX + AEAD_TAG_LEN + 1, out),
	    KMS_ETOOBIG);
}

/* FIPS 197 appendix C.3. */
static void
aes_block(void **state)
{
	uint8_t key[AES_BLOCK_KEY_LEN], text[AES_BLOCK_LEN];
	uint8_t expected[AES_BLOCK_LEN], out[AES_BLOCK_LEN];
	struct aes_block *block = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 0x11);
	assert_int_equal(hex_decode_exact("8ea2b7ca516745bfeafc49904b496089",
			     32, expected, sizeof(expected)),
	    0);
	assert_int_equal(aes_block_new(key, &block), 0);
	for (size_t round = 0; round < 3; round++) {
		assert_int_equal(aes_block_encrypt(block, text, out), 0);
		assert_memory_equal(out, expected, sizeof(out));
		assert_int_equal(aes_block_decrypt(block, out, out), 0);
		assert_memory_equal(out, text, sizeof(out));
	}
	aes_block_free(block);
	aes_block_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gcm_wycheproof),
		cmocka_unit_test(every_bit_counts),
		cmocka_unit_test(aes_block),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
