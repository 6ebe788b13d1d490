/* kms-net/json_out against jansson. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/err.h"
#include "kms-net/json_out.h"

static void
check_text(const char *text, size_t len, const char *expected)
{
	struct buf out;

	buf_init(&out, 4096);
	assert_int_equal(json_out_string(&out, text, len), 0);
	assert_int_equal(out.len, strlen(expected));
	assert_memory_equal(out.data, expected, out.len);
	buf_free(&out);
}

static void
test_forms(void **state)
{
	(void)state;
	check_text("", 0, "\"\"");
	check_text("abc", 3, "\"abc\"");
	check_text("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
	check_text("\n\t\x1f\x7f", 4, "\"\\u000a\\u0009\\u001f\x7f\"");
	check_text("\0x", 2, "\"\\u0000x\"");
	check_text(
	    "\xc3\xa4\xf0\x9f\x94\x91", 6, "\"\xc3\xa4\xf0\x9f\x94\x91\"");
}

static void
test_round_trip(void **state)
{
	char text[256];

	(void)state;
	for (size_t i = 0; i < 127; i++)
		text[i] = (char)(i + 1);
	for (size_t len = 0; len <= 127; len++) {
		struct buf out;
		json_t *read;

		buf_init(&out, 4096);
		assert_int_equal(json_out_string(&out, text, len), 0);
		read = json_loadb(
		    (const char *)out.data, out.len, JSON_DECODE_ANY, NULL);
		assert_non_null(read);
		assert_int_equal(json_string_length(read), len);
		assert_memory_equal(json_string_value(read), text, len);
		json_decref(read);
		buf_free(&out);
	}
}

static void
test_others(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 64);
	assert_int_equal(json_out_text_or_null(&out, ""), 0);
	assert_int_equal(json_out_text_or_null(&out, "x"), 0);
	assert_int_equal(json_out_bool(&out, true), 0);
	assert_int_equal(json_out_bool(&out, false), 0);
	assert_int_equal(out.len, strlen("null\"x\"truefalse"));
	assert_memory_equal(out.data, "null\"x\"truefalse", out.len);
	buf_free(&out);
}

static void
test_ceiling(void **state)
{
	(void)state;
	for (size_t max = 0; max < 8; max++) {
		struct buf out;

		buf_init(&out, max);
		assert_int_equal(json_out_text(&out, "\x01"), KMS_ETOOBIG);
		buf_free(&out);
	}
	check_text("\x01", 1, "\"\\u0001\"");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_ceiling),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
