/* Counters of all processes, from metrics.def. */
#ifndef KMS_PROTO_METRICS_H
#define KMS_PROTO_METRICS_H

#include <stddef.h>
#include <stdint.h>

enum metric {
#define METRIC(id, process, kind, name, help) METRIC_##id,
#include "proto/metrics.def"
#undef METRIC
	METRIC_COUNT
};

/* Which process's set: KMSDNET_METRICS' first field. */
enum metrics_slot {
	METRICS_SLOT_kmsd,
	METRICS_SLOT_net,
	METRICS_SLOT_keeper,
	METRICS_SLOT_rpc,
	METRICS_SLOT_peer,
	METRICS_SLOTS
};

struct metric_row {
	enum metrics_slot slot;
	const char *kind; /* "counter" or "gauge" */
	const char *name;
	const char *help;
};

extern const struct metric_row metric_rows[METRIC_COUNT];

/* This process's own values. */
extern uint64_t metrics[METRIC_COUNT];

#define METRICS_WIRE_LEN (METRIC_COUNT * 8)

/* Such an array, or this process's own: 8 bytes little endian each. */
void metrics_encode_values(
    const uint64_t values[METRIC_COUNT], uint8_t wire[METRICS_WIRE_LEN]);
void metrics_encode(uint8_t wire[METRICS_WIRE_LEN]);

/* The other way; KMS_EPROTO when len is not METRICS_WIRE_LEN. */
int metrics_decode(
    const uint8_t *wire, size_t len, uint64_t values[METRIC_COUNT]);

#endif
