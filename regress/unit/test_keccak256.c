#include "regress/unit/vector.h"

#include "common/keccak256.h"

static void
known_answers(void **state)
{
	json_t *root = vector_load("regress/vectors/keccak256.json");
	const json_t *vector;
	size_t i;

	(void)state;
	json_array_foreach(root, i, vector)
	{
		uint8_t expected[KECCAK256_LEN], got[KECCAK256_LEN];
		size_t len;
		uint8_t *input = vector_bytes(vector, "input", &len);

		vector_exact(vector, "digest", expected, sizeof(expected));
		keccak256(input, len, got);
		assert_memory_equal(got, expected, sizeof(got));
		free(input);
	}
	assert_int_equal(i, 13);
	json_decref(root);
}

/* However a message is cut, its digest is the same. */
static void
any_cut(void **state)
{
	uint8_t message[300], whole[KECCAK256_LEN], parts[KECCAK256_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)(i * 7);
	keccak256(message, sizeof(message), whole);
	for (size_t cut = 0; cut <= sizeof(message); cut++) {
		struct keccak256 k;

		keccak256_init(&k);
		keccak256_update(&k, message, cut);
		keccak256_update(&k, message + cut, sizeof(message) - cut);
		keccak256_final(&k, parts);
		assert_memory_equal(parts, whole, sizeof(whole));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
		cmocka_unit_test(any_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
