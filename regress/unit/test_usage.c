/* /proc/PID/stat as kmsd reads it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/err.h"
#include "kmsd/usage.h"
#include "proto/metrics.h"

#define REST                                                                   \
	" S 1 2 3 0 -1 4194560 160 0 0 0 250 31 0 0 20 0 1 0 8812 12345678 "   \
	"300 18446744073709551615 1 1 0 0 0\n"

static int
parse(const char *text, struct usage *usage)
{
	return usage_parse(text, strlen(text), 100, 4096, usage);
}

static void
reads_the_fields(void **state)
{
	struct usage usage;

	(void)state;
	assert_int_equal(parse("77 (kms-net)" REST, &usage), 0);
	assert_int_equal(usage.cpu_us, 2810000);
	assert_int_equal(usage.resident_bytes, 300 * 4096);
	assert_int_equal(parse("77 (a) b) 9 (c)" REST, &usage), 0);
	assert_int_equal(usage.cpu_us, 2810000);
}

static void
refuses_the_rest(void **state)
{
	static const char whole[] = "77 (kms-net)" REST;
	struct usage usage;

	(void)state;
	assert_int_equal(parse("", &usage), KMS_EINVAL);
	assert_int_equal(parse("77 (x)", &usage), KMS_EINVAL);
	assert_int_equal(parse("77 (x) ", &usage), KMS_EINVAL);
	assert_int_equal(
	    parse("1 (x) S 1 2 3 0 -1 4194560 160 0 0 0 -5 31 0 0 20 0 1 0 1 1 "
		  "1 1\n",
		&usage),
	    KMS_EINVAL);
	assert_int_equal(
	    parse("1 (x) S 1 2 3 0 -1 4194560 160 0 0 0 "
		  "99999999999999999999999 31 0 0 20 0 1 0 1 1 1 1\n",
		&usage),
	    KMS_EINVAL);
	/* Cut anywhere: refused, or read as far as it is needed. */
	for (size_t len = 0; len < sizeof(whole); len++) {
		char *copy = malloc(len + 1);

		memcpy(copy, whole, len);
		(void)usage_parse(copy, len, 100, 4096, &usage);
		free(copy);
	}
}

static void
survives_mutations(void **state)
{
	char text[] = "77 (kms-net)" REST;
	const size_t len = sizeof(text) - 1;
	struct usage usage;
	uint32_t seed = 1;

	(void)state;
	for (int i = 0; i < 100000; i++) {
		size_t at;
		char old;

		seed = seed * 1664525 + 1013904223;
		at = (seed >> 8) % len;
		old = text[at];
		text[at] = (char)(seed >> 24);
		(void)usage_parse(text, len, 100, 4096, &usage);
		if (i % 4 != 0)
			text[at] = old;
	}
}

static void
counts_this_process(void **state)
{
	(void)state;
	usage_started(LABEL_process_PEER);
	assert_true(metrics[METRIC_KMSD_STARTED + LABEL_process_PEER] >
	    UINT64_C(1700000000000000));
	usage_count(LABEL_process_PEER, getpid());
	assert_true(
	    metrics[METRIC_KMSD_RESIDENT + LABEL_process_PEER] > 100000);
	usage_count(LABEL_process_PEER, 0);
	assert_int_equal(metrics[METRIC_KMSD_RESIDENT + LABEL_process_PEER], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_fields),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(survives_mutations),
		cmocka_unit_test(counts_this_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
