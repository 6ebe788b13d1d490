#include "regress/unit/vector.h"

#include "common/err.h"
#include "kms-keeper/seal.h"
#include "regress/unit/crypto_setup.h"

static struct p384_key *
key_of(const json_t *vector, const char *member)
{
	uint8_t scalar[P384_SCALAR_LEN];
	struct p384_key *key = NULL;

	vector_exact(vector, member, scalar, sizeof(scalar));
	assert_int_equal(p384_key_new(scalar, &key), 0);
	return key;
}

static void
parse(const json_t *object, struct sealed_secret *sealed)
{
	size_t key_len, nonce_len, data_len;
	const char *key = vector_text(object, "ephemeral_pubkey", &key_len);
	const char *nonce = vector_text(object, "nonce", &nonce_len);
	const char *data = vector_text(object, "encrypted_data", &data_len);

	assert_int_equal(sealed_secret_parse(key, key_len, nonce, nonce_len,
			     data, data_len, sealed),
	    0);
	assert_int_equal(sealed_secret_parse(key, key_len - 2, nonce, nonce_len,
			     data, data_len, sealed),
	    KMS_EINVAL);
	assert_int_equal(sealed_secret_parse(key, key_len, nonce, nonce_len - 2,
			     data, data_len, sealed),
	    KMS_EINVAL);
	assert_int_equal(sealed_secret_parse(key, key_len, nonce, nonce_len,
			     data, data_len - 2, sealed),
	    KMS_EINVAL);
	assert_int_equal(sealed_secret_parse(key, key_len, nonce, nonce_len,
			     data, data_len, sealed),
	    0);
}

static void
seal_case(const json_t *vector)
{
	struct p384_key *ephemeral = key_of(vector, "ephemeral_private");
	struct p384_key *own = key_of(vector, "requester_private");
	uint8_t master[MASTER_SECRET_LEN], got[MASTER_SECRET_LEN];
	uint8_t shared[P384_SHARED_LEN];
	struct sealed_secret sealed, made;

	vector_exact(vector, "master_secret", master, sizeof(master));
	vector_exact(vector, "shared_secret", shared, sizeof(shared));
	parse(json_object_get(vector, "sealed"), &sealed);
	assert_int_equal(sealed_secret_open(own, &sealed, got), 0);
	assert_memory_equal(got, master, sizeof(got));
	memset(got, 0, sizeof(got));
	assert_int_equal(sealed_secret_open_shared(shared, &sealed, got), 0);
	assert_memory_equal(got, master, sizeof(got));
	assert_int_equal(sealed_secret_seal(master, ephemeral,
			     p384_key_point(own), sealed.nonce, &made),
	    0);
	assert_memory_equal(&made, &sealed, sizeof(made));
	sealed.data[0] ^= 1;
	assert_int_equal(sealed_secret_open(own, &sealed, got), KMS_EAUTH);
	sealed.data[0] ^= 1;
	assert_int_equal(
	    sealed_secret_open(ephemeral, &sealed, got), KMS_EAUTH);
	p384_key_free(own);
	p384_key_free(ephemeral);
}

static void
seal_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/sealed_secret.json");
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector) seal_case(vector);
	assert_int_equal(i, 3);
	json_decref(root);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(seal_vectors),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
