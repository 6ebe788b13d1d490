#include "regress/unit/vector.h"

#include "common/err.h"
#include "crypto/kdf.h"
#include "kms-keeper/derive.h"
#include "regress/unit/crypto_setup.h"

static void
derive_case(const json_t *vector, size_t *apps, size_t *syncs)
{
	uint8_t master[MASTER_SECRET_LEN], expected[DERIVE_LEN_MAX];
	uint8_t key[DERIVE_LEN_MAX];
	uint64_t app_id = vector_u64(vector, "app_id");
	size_t key_len = (size_t)vector_u64(vector, "length");
	size_t path_len, context_len;
	const char *path = vector_text(vector, "path", &path_len);
	const char *context = vector_text(vector, "context", &context_len);

	vector_exact(vector, "master_secret", master, sizeof(master));
	vector_exact(vector, "key", expected, key_len);
	if (app_id == 0) {
		assert_int_equal(derive_app_key(master, app_id, path, path_len,
				     context, context_len, key, key_len),
		    KMS_EINVAL);
		assert_string_equal(path, "sync_hmac_key");
		assert_int_equal(derive_sync_key(master, key), 0);
		assert_memory_equal(key, expected, SYNC_KEY_LEN);
		(*syncs)++;
		return;
	}
	assert_int_equal(derive_app_key(master, app_id, path, path_len, context,
			     context_len, key, key_len),
	    0);
	assert_memory_equal(key, expected, key_len);
	assert_int_equal(derive_is_reserved(path, path_len, context_len),
	    strcmp(path, "data_key") == 0 && context_len == 0);
	if (derive_is_reserved(path, path_len, context_len)) {
		assert_int_equal(derive_data_key(master, app_id, key), 0);
		assert_memory_equal(key, expected, DATA_KEY_LEN);
	}
	(*apps)++;
}

static void
derive_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/kdf.json");
	const json_t *vector;
	size_t i, apps = 0, syncs = 0;

	(void)state;
	json_array_foreach(json_object_get(root, "derive"), i, vector)
	    derive_case(vector, &apps, &syncs);
	assert_int_equal(apps, 30);
	assert_int_equal(syncs, 3);
	json_decref(root);
}

static void
secret_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/kdf.json");
	const json_t *vector;
	uint8_t master[32], expected[32], got[32];
	size_t i;

	(void)state;
	json_array_foreach(json_object_get(root, "secrets"), i, vector)
	{
		vector_exact(vector, "master_secret", master, sizeof(master));
		vector_exact(vector, "master_secret_hash", expected, 32);
		master_secret_hash(master, got);
		assert_memory_equal(got, expected, 32);
		vector_exact(vector, "sync_key", expected, 32);
		assert_int_equal(derive_sync_key(master, got), 0);
		assert_memory_equal(got, expected, 32);
		vector_exact(vector, "data_key_app_49", expected, 32);
		assert_int_equal(derive_data_key(master, 49, got), 0);
		assert_memory_equal(got, expected, 32);
	}
	assert_int_equal(i, 3);
	json_decref(root);
}

/* The longest path with the longest context, against the plain HKDF. */
static void
bounds(void **state)
{
	static char info[2 * DERIVE_TEXT_MAX + 1];
	const char *path = info, *context = info + DERIVE_TEXT_MAX + 1;
	uint8_t master[32] = { 3 }, key[DERIVE_LEN_MAX + 1];
	uint8_t expected[DERIVE_LEN_MAX];

	(void)state;
	memset(info, 'p', sizeof(info));
	info[DERIVE_TEXT_MAX] = ':';
	assert_int_equal(derive_app_key(master, 7, path, DERIVE_TEXT_MAX,
			     context, DERIVE_TEXT_MAX, key, DERIVE_LEN_MAX),
	    0);
	assert_int_equal(hkdf_sha256(master, 32, "nova-kms:app:7", 14, info,
			     sizeof(info), expected, sizeof(expected)),
	    0);
	assert_memory_equal(key, expected, sizeof(expected));
	assert_int_equal(derive_app_key(master, 7, path, DERIVE_TEXT_MAX + 1,
			     NULL, 0, key, 32),
	    KMS_EINVAL);
	assert_int_equal(derive_app_key(master, 7, path, 1, context,
			     DERIVE_TEXT_MAX + 1, key, 32),
	    KMS_EINVAL);
	assert_int_equal(
	    derive_app_key(master, 7, path, 1, NULL, 0, key, 0), KMS_EINVAL);
	assert_int_equal(derive_app_key(master, 7, path, 1, NULL, 0, key,
			     DERIVE_LEN_MAX + 1),
	    KMS_EINVAL);
	assert_int_equal(derive_data_key(master, 0, key), KMS_EINVAL);
	assert_false(derive_is_reserved("data_key", 8, 1));
	assert_false(derive_is_reserved("data_key", 7, 0));
	assert_false(derive_is_reserved("data_keys", 9, 0));
	assert_true(derive_is_reserved("data_key", 8, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(derive_vectors),
		cmocka_unit_test(secret_vectors),
		cmocka_unit_test(bounds),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
