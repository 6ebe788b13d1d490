#include "regress/unit/vector.h"

#include "common/err.h"
#include "kms-keeper/at_rest.h"
#include "regress/unit/crypto_setup.h"

static void
at_rest_case(const json_t *vector)
{
	uint8_t master[MASTER_SECRET_LEN], key[DATA_KEY_LEN];
	uint8_t nonce[AEAD_NONCE_LEN];
	size_t len, stored_len;
	uint8_t *value = vector_bytes(vector, "value", &len);
	uint8_t *stored = vector_bytes(vector, "record_value", &stored_len);
	uint8_t *out = malloc(stored_len);

	assert_non_null(out);
	vector_exact(vector, "master_secret", master, sizeof(master));
	vector_exact(vector, "nonce", nonce, sizeof(nonce));
	assert_int_equal(
	    derive_data_key(master, vector_u64(vector, "app_id"), key), 0);
	assert_int_equal(stored_len, len + AT_REST_OVERHEAD);
	assert_int_equal(at_rest_seal(key, nonce, value, len, out), 0);
	assert_memory_equal(out, stored, stored_len);
	assert_int_equal(at_rest_open(key, stored, stored_len, out), 0);
	assert_memory_equal(out, value, len);
	for (size_t i = 0; i < stored_len; i++) {
		stored[i] ^= 0x80;
		assert_int_equal(
		    at_rest_open(key, stored, stored_len, out), KMS_EAUTH);
		stored[i] ^= 0x80;
	}
	key[0] ^= 1;
	assert_int_equal(at_rest_open(key, stored, stored_len, out), KMS_EAUTH);
	for (size_t i = 0; i < AT_REST_OVERHEAD; i++)
		assert_int_equal(at_rest_open(key, stored, i, out), KMS_EAUTH);
	free(out);
	free(stored);
	free(value);
}

static void
at_rest_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/at_rest.json");
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector) at_rest_case(vector);
	assert_int_equal(i, 4);
	json_decref(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_rest_vectors),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
