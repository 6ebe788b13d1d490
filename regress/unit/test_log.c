/* Classes of log lines: what comes too often is held back and told of. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/log.h"

static unsigned int lines;
static char last[LOG_LINE_MAX];
static enum log_level last_level;

static void
count_line(enum log_level level, const char *text, void *arg)
{
	(void)arg;
	lines++;
	last_level = level;
	(void)strncpy(last, text, sizeof(last) - 1);
}

static int
set_up(void **state)
{
	(void)state;
	log_init_tool("test", LOG_LEVEL_DEBUG);
	log_set_sink(count_line, NULL);
	return 0;
}

/* A class is a format, as it stands in one place. */
static void
flood(int i)
{
	log_warn("flood %d", i);
}

static void
tools_say_everything(void **state)
{
	(void)state;
	lines = 0;
	for (int i = 0; i < 10 * LOG_CLASS_BURST; i++)
		log_warn("tool %d", i);
	assert_int_equal(lines, 10 * LOG_CLASS_BURST);
	assert_int_equal(log_held_back(), 0);
}

static void
a_flood_is_held_back(void **state)
{
	unsigned int written;

	(void)state;
	log_limit_classes();
	lines = 0;
	for (int i = 0; i < 10000; i++)
		flood(i);
	/* However slow this machine is, it earns a few a second. */
	written = lines;
	assert_in_range(written, LOG_CLASS_BURST, 1000);
	assert_int_equal(log_held_back(), 10000 - written);
	/* Another class is not held back, nor is debug. */
	log_error("another");
	assert_string_equal(last, "another");
	lines = 0;
	for (int i = 0; i < 1000; i++)
		log_debug("detail %d", i);
	assert_int_equal(lines, 1000);
}

static void
it_is_told_of(void **state)
{
	char expected[80];

	(void)state;
	(void)snprintf(expected, sizeof(expected),
	    "%llu more suppressed, like: flood 9999",
	    (unsigned long long)log_held_back());
	lines = 0;
	log_tick();
	assert_int_equal(lines, 1);
	assert_int_equal(last_level, LOG_LEVEL_WARN);
	assert_string_equal(last, expected);
	/* Once, and then for a while not again. */
	log_tick();
	for (int i = 0; i < 1000; i++)
		flood(i);
	lines = 0;
	log_tick();
	assert_int_equal(lines, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tools_say_everything),
		cmocka_unit_test(a_flood_is_held_back),
		cmocka_unit_test(it_is_told_of),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
