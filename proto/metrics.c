#include "proto/metrics.h"

#include "common/err.h"

const struct metric_row metric_rows[METRIC_COUNT] = {
#define METRIC(id, process, kind, name, help)                                  \
	{ METRICS_SLOT_##process, #kind, name, help },
#include "proto/metrics.def"
#undef METRIC
};

uint64_t metrics[METRIC_COUNT];

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
