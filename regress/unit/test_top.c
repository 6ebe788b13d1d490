/* kmsctl top: what it reads of /metrics, and what it makes of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/buf.h"
#include "kmsctl/top_metrics.h"
#include "kmsctl/top_view.h"

static const char text[] =
    "# HELP a_total x\n"
    "# TYPE a_total counter\n"
    "a_total{x=\"1\",y=\"z\"} 5\n"
    "a_total{x=\"2\",y=\"} {\"} 7.5\n"
    "b 3\n"
    "kms_http_requests_total{method=\"GET\",route=\"/n\",status=\"200\"} 40\n"
    "kms_http_requests_total{method=\"GET\",route=\"/n\",status=\"404\"} 10\n"
    "h_bucket{r=\"1\",le=\"0.1\"} 10\n"
    "h_bucket{r=\"1\",le=\"1\"} 90\n"
    "h_bucket{r=\"1\",le=\"10\"} 100\n"
    "h_bucket{r=\"1\",le=\"+Inf\"} 100\n"
    "h_bucket{r=\"2\",le=\"0.1\"} 0\n"
    "h_bucket{r=\"2\",le=\"1\"} 0\n"
    "h_bucket{r=\"2\",le=\"10\"} 0\n"
    "h_bucket{r=\"2\",le=\"+Inf\"} 4\n"
    "broken{ 1\nbroken\nbroken x\nbroken NaN\nbroken +Inf\nbroken 1 2\n"
    "{x=\"1\"} 1\nbro\x1bken 1\nbroken{x=\"\x07\"} 1\n last 9";

static struct top_metrics
parse(const char *from)
{
	struct top_metrics metrics;

	assert_int_equal(top_metrics_parse(from, strlen(from), &metrics), 0);
	return metrics;
}

static void
near(double got, double expected)
{
	assert_true(got > expected - 1e-9 && got < expected + 1e-9);
}

static void
samples_are_read(void **state)
{
	struct top_metrics m = parse(text);
	char label[8];

	(void)state;
	near(top_metrics_sum(&m, "a_total", NULL), 12.5);
	near(top_metrics_sum(&m, "a_total", "x=\"2\""), 7.5);
	near(top_metrics_sum(&m, "b", NULL), 3);
	near(top_metrics_sum(&m, "broken", NULL), 0);
	near(top_metrics_sum(&m, "absent", NULL), 0);
	assert_int_equal(m.count, 13);
	top_label(m.samples[0].labels, "y", label, sizeof(label));
	assert_string_equal(label, "z");
	top_label(m.samples[0].labels, "z", label, sizeof(label));
	assert_string_equal(label, "");
	top_label("xy=\"no\",y=\"a long value\"", "y", label, sizeof(label));
	assert_string_equal(label, "a long ");
	top_metrics_free(&m);
}

static void
quantiles_are_interpolated(void **state)
{
	struct top_metrics m = parse(text), none = { 0 };
	struct top_metrics half = parse("h_bucket{r=\"1\",le=\"0.1\"} 10\n"
					"h_bucket{r=\"1\",le=\"1\"} 50\n"
					"h_bucket{r=\"1\",le=\"10\"} 60\n"
					"h_bucket{r=\"1\",le=\"+Inf\"} 60\n");

	(void)state;
	near(top_quantile(&m, &none, "h", "r=\"1\"", 0.5), 0.1 + 0.9 * 0.5);
	near(top_quantile(&m, &none, "h", "r=\"1\"", 0.05), 0.05);
	near(top_quantile(&m, &none, "h", "r=\"1\"", 0.95), 1 + 9 * 0.5);
	/* Beyond the bounds; between two readings; nothing counted. */
	near(top_quantile(&m, &none, "h", "r=\"2\"", 0.5), 10);
	near(top_quantile(&m, &half, "h", "r=\"1\"", 0.5), 0.1 + 0.9 * 0.5);
	assert_true(top_quantile(&m, &m, "h", "r=\"1\"", 0.5) < 0);
	assert_true(top_quantile(&m, &none, "g", NULL, 0.5) < 0);
	top_metrics_free(&m);
	top_metrics_free(&half);
}

static void
long_parts_are_passed_over(void **state)
{
	char *long_name = malloc(400);
	struct top_metrics m;

	(void)state;
	(void)snprintf(long_name, 400, "%0*d 1\nx{%0*d} 1\ny 2\n", TOP_NAME_MAX,
	    0, 192, 0);
	m = parse(long_name);
	assert_int_equal(m.count, 1);
	assert_string_equal(m.samples[0].name, "y");
	top_metrics_free(&m);
	(void)snprintf(long_name, 400, "%0*d 1\nx{%0*d} 1\n", TOP_NAME_MAX - 1,
	    0, TOP_LABELS_MAX - 1, 0);
	m = parse(long_name);
	assert_int_equal(m.count, 2);
	top_metrics_free(&m);
	free(long_name);
}

static void
view_shows_rates(void **state)
{
	struct top_reading before = { .at = 100 }, now = { .at = 102 };
	struct buf out;

	(void)state;
	before.metrics = parse(
	    "kms_http_requests_total{method=\"GET\",route=\"/"
	    "n\",status=\"200\"} "
	    "20\nkms_http_requests_total{method=\"GET\",route=\"/o\",status=\""
	    "200\"} 9\n");
	now.metrics = parse(text);
	buf_init(&out, 1 << 20);
	assert_int_equal(top_view("n", &now, &before, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_non_null(strstr((char *)out.data,
	    "GET    /n                          15.0       5.0       0.0"));
	buf_free(&out);
	/* Counters that began anew. */
	assert_int_equal(top_view("n", &before, &now, &out), 0);
	buf_free(&out);
	assert_int_equal(top_view("n", &now, NULL, &out), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_non_null(strstr((char *)out.data,
	    "GET    /n                          50.0      10.0       0.0"));
	buf_free(&out);
	top_metrics_free(&before.metrics);
	top_metrics_free(&now.metrics);
}

static void
survives_mutations(void **state)
{
	char copy[sizeof(text)];
	uint32_t seed = 3;

	(void)state;
	for (int i = 0; i < 300; i++) {
		struct top_reading now = { .at = 1 };
		struct buf out;

		memcpy(copy, text, sizeof(text));
		for (int k = 0; k < 6; k++) {
			seed = seed * 1664525 + 1013904223;
			copy[(seed >> 8) % (sizeof(text) - 1)] =
			    (char)(seed >> 24);
		}
		assert_int_equal(
		    top_metrics_parse(copy, sizeof(text) - 1, &now.metrics), 0);
		(void)top_quantile(
		    &now.metrics, &now.metrics, "h", "r=\"1\"", 0.9);
		buf_init(&out, 1 << 20);
		assert_int_equal(top_view("n", &now, NULL, &out), 0);
		buf_free(&out);
		top_metrics_free(&now.metrics);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(samples_are_read),
		cmocka_unit_test(quantiles_are_interpolated),
		cmocka_unit_test(long_parts_are_passed_over),
		cmocka_unit_test(view_shows_rates),
		cmocka_unit_test(survives_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
