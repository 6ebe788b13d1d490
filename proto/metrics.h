/* Counters, gauges and histograms of all processes, from metrics.def. */
#ifndef KMS_PROTO_METRICS_H
#define KMS_PROTO_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "proto/metrics_labels.h"

/* METRIC_x is the place of a row's first value, METRIC_x_LAST of its last. */
enum metric {
#define METRIC(id, process, kind, name, set, more, help)                       \
	METRIC_##id,                                                           \
	    METRIC_##id##_LAST = METRIC_##id +                                 \
	    (int)LABELS_##set##_COUNT * (int)LABELS_##more##_COUNT - 1,
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

enum metric_kind {
	METRIC_KIND_counter,
	METRIC_KIND_gauge,
	METRIC_KIND_seconds_counter, /* kept in microseconds, as those below */
	METRIC_KIND_seconds_gauge,
	METRIC_KIND_histogram
};

struct label_set {
	const char *name;
	size_t count;
	const char *const *texts; /* NULL: only its process can name them */
};

extern const struct label_set label_set_none;
extern const struct label_set label_set_process;
extern const struct label_set label_set_reason;
extern const struct label_set label_set_cache;
extern const struct label_set label_set_chain_error;
extern const struct label_set label_set_peer_failure;
extern const struct label_set label_set_peer_kind;
extern const struct label_set label_set_identity_call;
extern const struct label_set label_set_held;
extern const struct label_set label_set_result;
extern const struct label_set label_set_route;
extern const struct label_set label_set_status;
extern const struct label_set label_set_endpoint;
extern const struct label_set label_set_seconds;

struct metric_row {
	enum metrics_slot slot;
	enum metric_kind kind;
	size_t first; /* of its values */
	const char *name;
	const struct label_set *set;
	const struct label_set *more;
	const char *help;
};

extern const struct metric_row metric_rows[];
extern const size_t metric_row_count;

/* Upper bounds of a histogram's buckets in microseconds, and as texts of
 * seconds. */
extern const uint64_t metrics_bounds[METRICS_BOUNDS];
extern const char *const metrics_bound_texts[METRICS_BOUNDS];

/* This process's own values. */
extern uint64_t metrics[METRIC_COUNT];

/*
 * Count a duration in the histogram whose first value stands at metric:
 * METRIC_x + member * METRICS_BUCKETS.
 */
void metrics_observe(size_t metric, uint64_t microseconds);

#define METRICS_WIRE_LEN ((size_t)METRIC_COUNT * 8)

/* Such an array, or this process's own: 8 bytes little endian each. */
void metrics_encode_values(
    const uint64_t values[METRIC_COUNT], uint8_t wire[METRICS_WIRE_LEN]);
void metrics_encode(uint8_t wire[METRICS_WIRE_LEN]);

/* The other way; KMS_EPROTO when len is not METRICS_WIRE_LEN. */
int metrics_decode(
    const uint8_t *wire, size_t len, uint64_t values[METRIC_COUNT]);

#endif
