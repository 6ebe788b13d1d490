/* The table of metrics: places of values, histograms, names that Prometheus
 * takes; and the refusals that are counted by reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kms-keeper/refusal.h"
#include "kms-net/answer.h"
#include "proto/metrics.h"

static void
rows_follow_each_other(void **state)
{
	size_t next = 0;

	(void)state;
	for (size_t r = 0; r < metric_row_count; r++) {
		const struct metric_row *row = &metric_rows[r];

		assert_int_equal(row->first, next);
		next += row->set->count * row->more->count;
		for (size_t other = 0; other < r; other++)
			assert_string_not_equal(
			    row->name, metric_rows[other].name);
		assert_int_equal(row->kind == METRIC_KIND_histogram,
		    row->more == &label_set_seconds);
	}
	assert_int_equal(next, METRIC_COUNT);
}

static void
texts_are_labels(void **state)
{
	(void)state;
	for (size_t r = 0; r < metric_row_count; r++) {
		const struct label_set *set = metric_rows[r].set;

		for (size_t i = 0; set->texts != NULL && i < set->count; i++)
			assert_null(strpbrk(set->texts[i], "\"\\\n{}, "));
		assert_null(strpbrk(metric_rows[r].help, "\\\n"));
	}
}

static void
histogram_counts_once(void **state)
{
	const size_t at = METRIC_CHAIN_LATENCY + 3 * METRICS_BUCKETS;
	uint64_t *buckets = &metrics[at];

	(void)state;
	metrics_observe(at, 0);
	metrics_observe(at, metrics_bounds[0]);
	metrics_observe(at, metrics_bounds[0] + 1);
	metrics_observe(at, metrics_bounds[METRICS_BOUNDS - 1]);
	metrics_observe(at, metrics_bounds[METRICS_BOUNDS - 1] + 1);
	metrics_observe(at, 1000000000);
	assert_int_equal(buckets[0], 2);
	assert_int_equal(buckets[1], 1);
	assert_int_equal(buckets[METRICS_BOUNDS - 1], 1);
	assert_int_equal(buckets[METRICS_BOUNDS], 2);
	assert_int_equal(buckets[METRICS_BUCKETS - 1],
	    2 * metrics_bounds[0] + 1 + 2 * metrics_bounds[METRICS_BOUNDS - 1] +
		1 + 1000000000);
	/* Its neighbours are not touched. */
	assert_int_equal(metrics[at - 1], 0);
	assert_int_equal(metrics[at + METRICS_BUCKETS], 0);
	for (size_t i = 1; i < METRICS_BOUNDS; i++)
		assert_true(metrics_bounds[i] > metrics_bounds[i - 1]);
}

static void
statuses_have_places(void **state)
{
	(void)state;
	assert_int_equal(answer_status_at(answer_status_index(200)), 200);
	assert_int_equal(answer_status_at(answer_status_index(431)), 431);
	/* What is not sent is an internal error. */
	assert_int_equal(answer_status_at(answer_status_index(299)), 500);
	assert_int_equal(answer_status_at(METRICS_STATUSES), 0);
}

static void
refusals_have_reasons(void **state)
{
	(void)state;
	for (size_t i = 0; i < REFUSAL_COUNT; i++) {
		const char *text = refusal_text((enum refusal)i);

		assert_int_not_equal(refusal_reason(text), LABEL_reason_OTHER);
		assert_int_equal(
		    refusal_reason(refusal_text_peer((enum refusal)i)),
		    refusal_reason(text));
		assert_null(strstr(refusal_text_peer((enum refusal)i), "App"));
		for (size_t other = 0; other < i; other++)
			assert_string_not_equal(
			    text, refusal_text((enum refusal)other));
	}
	assert_int_equal(refusal_reason(refusal_text(REFUSAL_NONCE_USED)),
	    LABEL_reason_NONCE_USED);
	assert_int_equal(refusal_reason("anything"), LABEL_reason_OTHER);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_follow_each_other),
		cmocka_unit_test(texts_are_labels),
		cmocka_unit_test(histogram_counts_once),
		cmocka_unit_test(statuses_have_places),
		cmocka_unit_test(refusals_have_reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
