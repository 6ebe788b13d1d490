/* Reading the known answers in regress/vectors, for unit tests. */
#ifndef KMS_REGRESS_VECTOR_H
#define KMS_REGRESS_VECTOR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/hex.h"

#define VECTOR_UNUSED __attribute__((unused))

/* The file's array (or object) of vectors, not empty; json_decref it. */
VECTOR_UNUSED static json_t *
vector_load(const char *path)
{
	json_error_t why;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &why);

	if (root == NULL)
		fail_msg("%s:%d: %s", path, why.line, why.text);
	assert_true(json_array_size(root) > 0 || json_object_size(root) > 0);
	return root;
}

/* A member's text, borrowed; its length, which may hold NULs, to *len. */
VECTOR_UNUSED static const char *
vector_text(const json_t *object, const char *member, size_t *len)
{
	const json_t *value = json_object_get(object, member);

	if (!json_is_string(value))
		fail_msg("no text member %s", member);
	*len = json_string_length(value);
	return json_string_value(value);
}

/* A hex member as bytes in memory of its own (never NULL; free it). */
VECTOR_UNUSED static uint8_t *
vector_bytes(const json_t *object, const char *member, size_t *len)
{
	size_t text_len;
	const char *text = vector_text(object, member, &text_len);
	uint8_t *bytes = malloc(text_len / 2 + 1);

	assert_non_null(bytes);
	assert_int_equal(
	    hex_decode(text, text_len, bytes, text_len / 2 + 1, len), 0);
	return bytes;
}

/* A hex member of exactly len bytes. */
VECTOR_UNUSED static void
vector_exact(const json_t *object, const char *member, uint8_t *out, size_t len)
{
	size_t text_len;
	const char *text = vector_text(object, member, &text_len);

	assert_int_equal(hex_decode_exact(text, text_len, out, len), 0);
}

VECTOR_UNUSED static uint64_t
vector_u64(const json_t *object, const char *member)
{
	const json_t *value = json_object_get(object, member);

	if (json_is_string(value))
		return strtoull(json_string_value(value), NULL, 10);
	assert_true(json_is_integer(value));
	return (uint64_t)json_integer_value(value);
}

/*
 * Call each(test, group) for every test of a Wycheproof file and check that
 * there were as many as the file says.
 */
VECTOR_UNUSED static void
vector_wycheproof(const char *path,
    void (*each)(const json_t *test, const json_t *group, void *arg), void *arg)
{
	json_t *root = vector_load(path);
	const json_t *groups = json_object_get(root, "testGroups");
	const json_t *group, *test;
	size_t i, k, count = 0;

	json_array_foreach(groups, i, group)
	{
		json_array_foreach(json_object_get(group, "tests"), k, test)
		{
			each(test, group, arg);
			count++;
		}
	}
	assert_int_equal(count, vector_u64(root, "numberOfTests"));
	assert_true(count > 0);
	json_decref(root);
}

VECTOR_UNUSED static int
vector_result_is(const json_t *test, const char *result)
{
	size_t len;

	return strcmp(vector_text(test, "result", &len), result) == 0;
}

/* Deterministic numbers for mutations (xorshift64). */
VECTOR_UNUSED static uint64_t
vector_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Change one to four bytes of data (len > 0). */
VECTOR_UNUSED static void
vector_mutate(uint64_t *state, uint8_t *data, size_t len)
{
	size_t changes = 1 + vector_random(state) % 4;

	for (size_t i = 0; i < changes; i++) {
		uint64_t r = vector_random(state);

		data[(r >> 16) % len] ^= (uint8_t)(1U << (r & 7));
		if ((r & 0x100) != 0)
			data[(r >> 16) % len] = (uint8_t)(r >> 8);
	}
}

#endif
