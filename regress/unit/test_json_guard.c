/* common/json_guard: its counts are jansson's, at every bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/err.h"
#include "common/json_guard.h"

#define MUTATIONS 40000
#define TEXT_MAX 512
#define ANY ((size_t)1 << 20)

static int
guard(const char *text, size_t tokens, size_t depth)
{
	return json_guard(text, strlen(text), tokens, depth);
}

static void
counts(void **state)
{
	static const struct {
		const char *text;
		size_t tokens, depth;
	} rows[] = {
		{ "", 0, 0 },
		{ " \t\r\n", 0, 0 },
		{ "1", 1, 0 },
		{ "null", 1, 0 },
		{ "\"a b,c\"", 1, 0 },
		{ "[]", 1, 1 },
		{ "{}", 1, 1 },
		{ "[[]]", 2, 2 },
		{ "[{},{}]", 3, 2 },
		{ "[1,2.5e3,-4]", 4, 1 },
		{ "{\"a\":1,\"b\":[true]}", 6, 2 },
		{ "\"\\\"[{\\\\\"", 1, 0 },
		{ "[\"]\",\"}\",\"\\u005d\"]", 4, 1 },
		{ "{\"a\":{\"b\":{\"c\":null}}}", 7, 3 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *text = rows[i].text;
		size_t tokens = rows[i].tokens, depth = rows[i].depth;

		assert_int_equal(guard(text, tokens, depth), 0);
		if (tokens > 0)
			assert_int_equal(
			    guard(text, tokens - 1, depth), KMS_ETOOBIG);
		if (depth > 0)
			assert_int_equal(
			    guard(text, tokens, depth - 1), KMS_ETOOBIG);
	}
}

static void
refusals(void **state)
{
	static const char *const rows[] = { "[", "{", "]", "}", "[]]", "[[]",
		"\"", "\"a", "\"a\\", "\"a\\\"", "[\"]", "{\"a\":1" };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(guard(rows[i], ANY, ANY), KMS_EINVAL);
	assert_int_equal(json_guard("1\0", 2, ANY, ANY), KMS_EINVAL);
	assert_int_equal(json_guard("\"\0\"", 3, ANY, ANY), KMS_EINVAL);
}

static void
bombs(void **state)
{
	const size_t len = 2 << 20;
	char *text = malloc(len);

	(void)state;
	assert_non_null(text);
	memset(text, '[', len);
	assert_int_equal(json_guard(text, len, ANY, 32), KMS_ETOOBIG);
	for (size_t i = 0; i < len; i++)
		text[i] = i == 0 ? '[' : "{},"[(i - 1) % 3];
	assert_int_equal(json_guard(text, len, 10000, 32), KMS_ETOOBIG);
	memset(text, ' ', len);
	assert_int_equal(json_guard(text, len, 0, 0), 0);
	free(text);
}

/* What the parser made: its values and member names, and their depth. */
static void
measure(const json_t *value, size_t depth, size_t *tokens, size_t *deepest)
{
	const char *key;
	json_t *child;
	size_t i;

	++*tokens;
	if (json_is_object(value) || json_is_array(value))
		depth++;
	if (depth > *deepest)
		*deepest = depth;
	json_object_foreach((json_t *)(uintptr_t)value, key, child)
	{
		++*tokens;
		measure(child, depth, tokens, deepest);
	}
	json_array_foreach(value, i, child)
	    measure(child, depth, tokens, deepest);
}

static uint64_t
next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void
mutations(void **state)
{
	static const char seed_text[] =
	    "{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":[{\"a\\\"\":[1,-2.5],"
	    "\"b\":{}},[[null,true]],\"\\u20ac]}\",\"\"]}";
	static const char letters[] = "[]{}\",:\\ 1atnu\n";
	uint64_t seed = 88172645463325252U;
	size_t accepted = 0;

	(void)state;
	for (size_t n = 0; n < MUTATIONS; n++) {
		size_t len = sizeof(seed_text) - 1, tokens = 0, deepest = 0;
		char text[TEXT_MAX], *copy;
		json_t *root;
		int result;

		memcpy(text, seed_text, len);
		for (uint64_t i = next_random(&seed) % 4; i > 0; i--)
			text[next_random(&seed) % len] =
			    letters[next_random(&seed) % (sizeof(letters) - 1)];
		if (next_random(&seed) % 8 == 0)
			len = next_random(&seed) % len;
		copy = malloc(len > 0 ? len : 1); /* ASan sees its end */
		assert_non_null(copy);
		memcpy(copy, text, len);
		result = json_guard(copy, len, ANY, ANY);
		root = json_loadb(
		    copy, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
		if (root != NULL) {
			accepted++;
			measure(root, 0, &tokens, &deepest);
			assert_int_equal(result, 0);
			assert_int_equal(
			    json_guard(copy, len, tokens, deepest), 0);
			assert_int_equal(
			    json_guard(copy, len, tokens - 1, deepest),
			    KMS_ETOOBIG);
			if (deepest > 0)
				assert_int_equal(
				    json_guard(copy, len, tokens, deepest - 1),
				    KMS_ETOOBIG);
		}
		json_decref(root);
		free(copy);
	}
	assert_in_range(accepted, MUTATIONS / 10, MUTATIONS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts),
		cmocka_unit_test(refusals),
		cmocka_unit_test(bombs),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests_name("json_guard", tests, NULL, NULL);
}
