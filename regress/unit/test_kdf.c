#include "regress/unit/vector.h"

#include "common/err.h"
#include "crypto/kdf.h"
#include "crypto/sha256.h"
#include "regress/unit/crypto_setup.h"

struct tally {
	size_t valid, invalid;
};

static void
hkdf_case(const json_t *test, const json_t *group, void *arg)
{
	struct tally *tally = arg;
	size_t ikm_len, salt_len, info_len, okm_len;
	uint8_t *ikm = vector_bytes(test, "ikm", &ikm_len);
	uint8_t *salt = vector_bytes(test, "salt", &salt_len);
	uint8_t *info = vector_bytes(test, "info", &info_len);
	uint8_t *okm = vector_bytes(test, "okm", &okm_len);
	size_t size = (size_t)vector_u64(test, "size");
	uint8_t *got = calloc(1, size + 1);
	int error;

	(void)group;
	assert_non_null(got);
	error = hkdf_sha256(
	    ikm, ikm_len, salt, salt_len, info, info_len, got, size);
	if (vector_result_is(test, "valid")) {
		struct piece pieces[2] = { { info, info_len / 2 },
			{ info + info_len / 2, info_len - info_len / 2 } };

		assert_int_equal(error, 0);
		assert_int_equal(okm_len, size);
		assert_memory_equal(got, okm, size);
		memset(got, 0, size);
		assert_int_equal(hkdf_sha256_pieces(ikm, ikm_len, salt,
				     salt_len, pieces, 2, got, size),
		    0);
		assert_memory_equal(got, okm, size);
		tally->valid++;
	} else {
		assert_int_equal(error, KMS_EINVAL);
		tally->invalid++;
	}
	free(got);
	free(okm);
	free(info);
	free(salt);
	free(ikm);
}

static void
hkdf_wycheproof(void **state)
{
	struct tally tally = { 0 };

	(void)state;
	vector_wycheproof("regress/vectors/wycheproof/hkdf_sha256_test.json",
	    hkdf_case, &tally);
	assert_int_equal(tally.valid, 83);
	assert_int_equal(tally.invalid, 3);
}

static void
hmac_case(const json_t *test, const json_t *group, void *arg)
{
	struct tally *tally = arg;
	size_t key_len, len, tag_len;
	uint8_t *key = vector_bytes(test, "key", &key_len);
	uint8_t *message = vector_bytes(test, "msg", &len);
	uint8_t *tag = vector_bytes(test, "tag", &tag_len);
	uint8_t mac[SHA256_LEN];
	int equal;

	assert_int_equal(tag_len, vector_u64(group, "tagSize") / 8);
	assert_int_equal(hmac_sha256(key, key_len, message, len, mac), 0);
	equal = memcmp(mac, tag, tag_len) == 0;
	assert_int_equal(equal, vector_result_is(test, "valid"));
	if (equal)
		tally->valid++;
	else
		tally->invalid++;
	free(tag);
	free(message);
	free(key);
}

static void
hmac_wycheproof(void **state)
{
	struct tally tally = { 0 };

	(void)state;
	vector_wycheproof("regress/vectors/wycheproof/hmac_sha256_test.json",
	    hmac_case, &tally);
	assert_int_equal(tally.valid, 66);
	assert_int_equal(tally.invalid, 108);
}

/* FIPS 180-4's example "abc", in one piece, in pieces and as a stream. */
static void
sha256_forms(void **state)
{
	static const char expected[] = "ba7816bf8f01cfea414140de5dae2223"
				       "b00361a396177a9cb410ff61f20015ad";
	const struct piece pieces[] = { { "a", 1 }, { NULL, 0 }, { "bc", 2 } };
	uint8_t want[SHA256_LEN], got[SHA256_LEN];
	struct sha256_stream *stream;

	(void)state;
	assert_int_equal(hex_decode_exact(expected, 64, want, sizeof(want)), 0);
	assert_int_equal(sha256("abc", 3, got), 0);
	assert_memory_equal(got, want, sizeof(want));
	assert_int_equal(sha256_pieces(pieces, 3, got), 0);
	assert_memory_equal(got, want, sizeof(want));
	stream = sha256_stream_new();
	assert_non_null(stream);
	assert_int_equal(sha256_stream_update(stream, "ab", 2), 0);
	assert_int_equal(sha256_stream_update(stream, NULL, 0), 0);
	assert_int_equal(sha256_stream_update(stream, "c", 1), 0);
	assert_int_equal(sha256_stream_final(stream, got), 0);
	assert_memory_equal(got, want, sizeof(want));
	sha256_stream_free(stream);
	sha256_stream_free(NULL);
}

static void
bounds(void **state)
{
	static uint8_t out[HKDF_OUT_MAX + 1];

	(void)state;
	assert_int_equal(
	    hkdf_sha256("k", 1, NULL, 0, NULL, 0, out, 0), KMS_EINVAL);
	assert_int_equal(hkdf_sha256("k", 1, NULL, 0, NULL, 0, out, 1), 0);
	assert_int_equal(
	    hkdf_sha256("k", 1, NULL, 0, NULL, 0, out, HKDF_OUT_MAX), 0);
	assert_int_equal(
	    hkdf_sha256("k", 1, NULL, 0, NULL, 0, out, HKDF_OUT_MAX + 1),
	    KMS_EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hkdf_wycheproof),
		cmocka_unit_test(hmac_wycheproof),
		cmocka_unit_test(sha256_forms),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
