/* kmsd/logline: what a child writes cannot forge a line, or flood. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "kmsd/logline.h"

static void
expect(const char *raw, size_t len, int json, const char *want)
{
	struct logline line = { .wall_ms = INT64_C(1767225600123),
		.process = "kms-net",
		.pid = 12 };
	char out[LOGLINE_MAX + 1];
	size_t used;

	logline_parse(raw, len, &line);
	used = logline_format(&line, json, out);
	out[used] = '\0';
	assert_string_equal(out, want);
}

#define EXPECT(raw, json, want) expect(raw, sizeof(raw) - 1, json, want)
#define HEAD "2026-01-01T00:00:00.123Z kms-net[12] "

static void
lines_are_escaped(void **state)
{
	(void)state;
	EXPECT("2 hello", 0, HEAD "info: hello\n");
	EXPECT("no level", 0, HEAD "error: no level\n");
	EXPECT("9 x", 0, HEAD "error: 9 x\n");
	EXPECT("1 a\\b\x1b[2J\0\xff\"", 0,
	    HEAD "warn: a\\\\b\\x1b[2J\\x00\\xff\"\n");
	EXPECT("3 \"a\"\\\x1b\xff", 1,
	    "{\"time\":\"2026-01-01T00:00:00.123Z\",\"process\":\"kms-net\","
	    "\"pid\":12,\"level\":\"debug\",\"message\":"
	    "\"\\\"a\\\"\\\\\\u001b\\u00ff\"}\n");
	EXPECT("", 0, HEAD "error: \n");
}

static void
a_request_has_a_member(void **state)
{
	static const char front[] =
	    "{\"time\":\"2026-01-01T00:00:00.123Z\",\"process\":\"kms-net\","
	    "\"pid\":12,\"level\":\"info\",";
	static const char *const plain[] = { "request 0123456789abcdeg: x",
		"request 0123456789abcdef:x", "request 0123456789abcde: x",
		"request 0123456789ABCDEF: x", "request 0123456789abcdef",
		" request 0123456789abcdef: x" };
	char raw[80], want[256];

	(void)state;
	(void)snprintf(want, sizeof(want),
	    "%s\"request\":\"0123456789abcdef\",\"message\":\"x\"}\n", front);
	EXPECT("2 request 0123456789abcdef: x", 1, want);
	EXPECT("2 request 0123456789abcdef: x", 0,
	    HEAD "info: request 0123456789abcdef: x\n");
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		int len = snprintf(raw, sizeof(raw), "2 %s", plain[i]);

		(void)snprintf(want, sizeof(want), "%s\"message\":\"%s\"}\n",
		    front, plain[i]);
		expect(raw, (size_t)len, 1, want);
	}
}

static void
the_longest_line_fits(void **state)
{
	/* More, and its reader's pipe could make kmsd wait. */
	_Static_assert(LOGLINE_MAX <= PIPE_BUF, "a line is one write");
	static char raw[4 * LOG_LINE_MAX];
	struct logline line = { .process = "kms-chain-peer", .pid = 1 };
	char out[LOGLINE_MAX];
	size_t used;

	(void)state;
	memset(raw, 0xff, sizeof(raw));
	logline_parse(raw, sizeof(raw), &line);
	for (int json = 0; json < 2; json++) {
		used = logline_format(&line, json, out);
		assert_true(used <= LOGLINE_MAX);
		assert_int_equal(out[used - 1], '\n');
		if (json)
			assert_memory_equal(out + used - 3, "\"}\n", 3);
		assert_null(memchr(out, '\n', used - 1));
	}
}

static void
a_flood_is_limited_and_counted(void **state)
{
	struct logline_rate rate = { 0 };
	int admitted = 0;

	(void)state;
	for (int i = 0; i < 5000; i++)
		admitted += logline_admit(&rate, 1000);
	assert_int_equal(admitted, LOGLINE_BURST);
	assert_int_equal(rate.dropped, 5000 - LOGLINE_BURST);
	/* A second later some are earned, and no more than that. */
	admitted = 0;
	for (int i = 0; i < 5000; i++)
		admitted += logline_admit(&rate, 2000);
	assert_int_equal(admitted, LOGLINE_PER_SECOND);
	/* After long silence the burst is whole, not larger. */
	admitted = 0;
	for (int i = 0; i < 5000; i++)
		admitted += logline_admit(&rate, INT64_MAX);
	assert_int_equal(admitted, LOGLINE_BURST);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_escaped),
		cmocka_unit_test(a_request_has_a_member),
		cmocka_unit_test(the_longest_line_fits),
		cmocka_unit_test(a_flood_is_limited_and_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
