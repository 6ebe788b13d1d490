#include "proto/metrics.h"

#include "common/err.h"

#define TEXT(set, id, text) text,
#define LABEL_SET(set)                                                         \
	static const char *const texts_##set[] = { LABELS_##set(TEXT) };       \
	const struct label_set label_set_##set = { #set, LABELS_##set##_COUNT, \
		texts_##set }
#define LABEL_SET_OF_PROCESS(set)                                              \
	const struct label_set label_set_##set = { #set, LABELS_##set##_COUNT, \
		NULL }

LABEL_SET(none);
LABEL_SET(process);
LABEL_SET(reason);
LABEL_SET(cache);
LABEL_SET(chain_error);
LABEL_SET(peer_failure);
LABEL_SET(peer_kind);
LABEL_SET(identity_call);
LABEL_SET(held);
LABEL_SET(result);
LABEL_SET_OF_PROCESS(route);
LABEL_SET_OF_PROCESS(status);
LABEL_SET_OF_PROCESS(endpoint);
LABEL_SET_OF_PROCESS(seconds);

const struct metric_row metric_rows[] = {
#define METRIC(id, process, kind, name, set, more, help)                       \
	{ METRICS_SLOT_##process, METRIC_KIND_##kind, METRIC_##id, name,       \
		&label_set_##set, &label_set_##more, help },
#include "proto/metrics.def"
#undef METRIC
};
const size_t metric_row_count = sizeof(metric_rows) / sizeof(metric_rows[0]);

/* clang-format off */
#define BOUNDS(BOUND)                                                          \
	BOUND(500, "0.0005") BOUND(1000, "0.001") BOUND(2500, "0.0025")        \
	BOUND(5000, "0.005") BOUND(10000, "0.01") BOUND(25000, "0.025")        \
	BOUND(50000, "0.05") BOUND(100000, "0.1") BOUND(250000, "0.25")        \
	BOUND(500000, "0.5") BOUND(1000000, "1") BOUND(2500000, "2.5")         \
	BOUND(5000000, "5") BOUND(10000000, "10")
/* clang-format on */

#define BOUND_VALUE(microseconds, text) microseconds,
#define BOUND_TEXT(microseconds, text) text,

const uint64_t metrics_bounds[METRICS_BOUNDS] = { BOUNDS(BOUND_VALUE) };
const char *const metrics_bound_texts[METRICS_BOUNDS] = { BOUNDS(BOUND_TEXT) };

uint64_t metrics[METRIC_COUNT];

_Static_assert(METRICS_WIRE_LEN <= 16000, "CHILDKMSD_METRICS has no such room");

void
metrics_observe(size_t metric, uint64_t microseconds)
{
	uint64_t *buckets = &metrics[metric];
	size_t i = 0;

	while (i < METRICS_BOUNDS && microseconds > metrics_bounds[i])
		i++;
	buckets[i]++;
	buckets[METRICS_BUCKETS - 1] += microseconds;
}

void
metrics_encode_values(
    const uint64_t values[METRIC_COUNT], uint8_t wire[METRICS_WIRE_LEN])
{
	for (size_t i = 0; i < METRICS_WIRE_LEN; i++)
		wire[i] = (uint8_t)(values[i / 8] >> (8 * (i % 8)));
}

void
metrics_encode(uint8_t wire[METRICS_WIRE_LEN])
{
	metrics_encode_values(metrics, wire);
}

int
metrics_decode(const uint8_t *wire, size_t len, uint64_t values[METRIC_COUNT])
{
	if (len != METRICS_WIRE_LEN)
		return KMS_EPROTO;
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		values[i] = 0;
		for (size_t b = 8; b-- > 0;)
			values[i] = values[i] << 8 | wire[8 * i + b];
	}
	return 0;
}
