#include "kms-net/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "kms-net/answer.h"
#include "kms-net/net.h"

#define METRICS_TEXT_MAX (1U << 20)
#define LABELS_MAX 160
#define SECOND 1000000 /* in microseconds */

#define TRY(call)                                                              \
	do {                                                                   \
		int error_ = (call);                                           \
		if (error_ != 0)                                               \
			return error_;                                         \
	} while (0)

/* ---- counting ---- */

void
metrics_count_request(const struct conn *conn, int status)
{
	const struct request *request = &conn->request;
	size_t route = request->route != NULL
	    ? (size_t)(request->route - route_table)
	    : METRICS_ROUTES - 1;

	metrics[METRIC_NET_REQUESTS + route * METRICS_STATUSES +
	    answer_status_index(status)]++;
	if (request->began_ns != 0)
		metrics_observe(METRIC_NET_LATENCY + route * METRICS_BUCKETS,
		    (uv_hrtime() - request->began_ns) / 1000);
}

/* ---- labels ---- */

static int
route_labels(size_t i, char *out, size_t size)
{
	if (i >= route_count)
		return snprintf(out, size, "method=\"other\",route=\"other\"");
	return snprintf(out, size, "method=\"%s\",route=\"%s\"",
	    route_method_name(route_table[i].method), route_table[i].path);
}

/* The label of one member of a set; nothing for the set none. */
static int
one_label(const struct label_set *set, size_t i, char *out, size_t size)
{
	if (set == &label_set_none)
		return 0;
	if (set == &label_set_route)
		return route_labels(i, out, size);
	if (set == &label_set_status)
		return snprintf(
		    out, size, "status=\"%d\"", answer_status_at(i));
	if (set->texts == NULL)
		return snprintf(out, size, "%s=\"%zu\"", set->name, i + 1);
	return snprintf(out, size, "%s=\"%s\"", set->name, set->texts[i]);
}

static void
put_labels(
    const struct metric_row *row, size_t i, size_t j, char out[LABELS_MAX])
{
	int len = one_label(row->set, i, out, LABELS_MAX);

	if (row->more == &label_set_none || row->more == &label_set_seconds)
		return;
	out[len++] = ',';
	(void)one_label(row->more, j, out + len, LABELS_MAX - (size_t)len);
}

/* ---- values ---- */

static const uint64_t *
values_of(const struct net *net, const struct metric_row *row)
{
	/* Our own are here and now; kmsd's set of ours is a second old. */
	return (row->slot == METRICS_SLOT_net ? metrics
					      : net->metrics_sets[row->slot]) +
	    row->first;
}

static int
put_seconds(struct buf *out, uint64_t value)
{
	return buf_printf(
	    out, "%" PRIu64 ".%06" PRIu64 "\n", value / SECOND, value % SECOND);
}

static int
put_histogram(struct buf *out, const struct metric_row *row, const char *labels,
    const uint64_t *buckets)
{
	const char *comma = labels[0] != '\0' ? "," : "";
	uint64_t count = 0;

	for (size_t b = 0; b < METRICS_BOUNDS; b++) {
		count += buckets[b];
		TRY(buf_printf(out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n",
		    row->name, labels, comma, metrics_bound_texts[b], count));
	}
	count += buckets[METRICS_BOUNDS];
	TRY(buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n",
	    row->name, labels, comma, count));
	TRY(buf_printf(out, "%s_sum{%s} ", row->name, labels));
	TRY(put_seconds(out, buckets[METRICS_BUCKETS - 1]));
	return buf_printf(
	    out, "%s_count{%s} %" PRIu64 "\n", row->name, labels, count);
}

static bool
is_empty(const uint64_t *values, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (values[i] != 0)
			return false;
	}
	return true;
}

static int
put_value(struct buf *out, const struct metric_row *row, size_t i, size_t j,
    uint64_t value)
{
	char labels[LABELS_MAX] = "";

	put_labels(row, i, j, labels);
	TRY(buf_append_text(out, row->name));
	if (labels[0] != '\0')
		TRY(buf_printf(out, "{%s}", labels));
	TRY(buf_append_text(out, " "));
	if (row->kind == METRIC_KIND_seconds_counter ||
	    row->kind == METRIC_KIND_seconds_gauge)
		return put_seconds(out, value);
	return buf_printf(out, "%" PRIu64 "\n", value);
}

/* The values that the i-th member of a row's labels has. */
static int
put_member(struct buf *out, const struct metric_row *row, size_t i,
    const uint64_t *values)
{
	char labels[LABELS_MAX] = "";

	if (row->kind == METRIC_KIND_histogram) {
		if (is_empty(values, METRICS_BUCKETS))
			return 0;
		put_labels(row, i, 0, labels);
		return put_histogram(out, row, labels, values);
	}
	for (size_t j = 0; j < row->more->count; j++) {
		if (values[j] != 0 || row->more == &label_set_none)
			TRY(put_value(out, row, i, j, values[j]));
	}
	return 0;
}

static const char *
type_name(enum metric_kind kind)
{
	static const char *const names[] = { "counter", "gauge", "counter",
		"gauge", "histogram" };

	return names[kind];
}

static int
put_head(struct buf *out, const char *name, const char *help, const char *type)
{
	return buf_printf(
	    out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* ---- peers ---- */

enum {
	PEER_PUSH,
	PEER_INDEX,
	PEER_COUNT,
	PEER_WALLET,
	PEER_LEVEL,
	PEER_BEHIND,
	PEER_CONTACT,
	PEER_FAILURES_IN_A_ROW,
	PEER_REFUSED,
	PEER_TOO_LARGE,
	PEER_LAG
};

int
metrics_peer_store(struct metrics_peers *peers, const struct msg *msg)
{
	const struct msg_value *v = msg->v;
	uint64_t count = v[PEER_COUNT].u, index = v[PEER_INDEX].u;
	struct metrics_peer *row;

	if (count > METRICS_PEERS_MAX || (count > 0 && index >= count) ||
	    (count == 0 && index != 0))
		return KMS_EPROTO;
	if (index > 0 &&
	    (v[PEER_PUSH].u != peers->push || index != peers->next ||
		count != peers->next_count))
		return KMS_EPROTO;
	peers->push = v[PEER_PUSH].u;
	peers->next_count = (size_t)count;
	peers->next = (size_t)index + 1;
	row = &peers->next_rows[index];
	memcpy(row->wallet, v[PEER_WALLET].data, sizeof(row->wallet));
	row->level = v[PEER_LEVEL].u != 0;
	row->behind = v[PEER_BEHIND].u;
	row->contact_ms = v[PEER_CONTACT].u;
	row->failures = v[PEER_FAILURES_IN_A_ROW].u;
	row->refused = v[PEER_REFUSED].u;
	row->too_large = v[PEER_TOO_LARGE].u;
	row->lag_ms = v[PEER_LAG].u;
	if (peers->next >= peers->next_count) {
		peers->count = peers->next_count;
		memcpy(peers->rows, peers->next_rows, sizeof(peers->rows));
	}
	return 0;
}

static uint64_t
peer_level(const struct metrics_peer *peer)
{
	return peer->level;
}

static uint64_t
peer_behind(const struct metrics_peer *peer)
{
	return peer->behind;
}

static uint64_t
peer_failures(const struct metrics_peer *peer)
{
	return peer->failures;
}

static uint64_t
peer_refused(const struct metrics_peer *peer)
{
	return peer->refused;
}

static uint64_t
peer_too_large(const struct metrics_peer *peer)
{
	return peer->too_large;
}

static const struct peer_row {
	const char *name;
	const char *help;
	const char *type;
	uint64_t (*value)(const struct metrics_peer *peer);
} peer_rows[] = {
	{ "kms_replication_level", "1 while a peer has all that is here",
	    "gauge", peer_level },
	{ "kms_replication_lag_records", "Records that a peer may lack",
	    "gauge", peer_behind },
	{ "kms_replication_failed_pushes",
	    "Pushes to a peer that failed in a row", "gauge", peer_failures },
	{ "kms_replication_rejected_records",
	    "Records that a peer rejected, kept to be tried again", "gauge",
	    peer_refused },
	{ "kms_replication_too_large_total",
	    "Records that were too large for a peer", "counter",
	    peer_too_large },
};

static int
put_peer_label(
    struct buf *out, const char *name, const struct metrics_peer *peer)
{
	char wallet[2 * sizeof(peer->wallet) + 1];

	hex_encode(peer->wallet, sizeof(peer->wallet), wallet);
	return buf_printf(out, "%s{peer=\"0x%s\"} ", name, wallet);
}

/* Milliseconds as seconds; UINT64_MAX is not known. */
static int
put_peer_ms(struct buf *out, const char *name, const struct metrics_peer *peer,
    uint64_t ms)
{
	if (ms > UINT64_MAX / 1000)
		return 0;
	TRY(put_peer_label(out, name, peer));
	return put_seconds(out, ms * 1000);
}

static int
put_peers(struct buf *out, const struct metrics_peers *peers)
{
	static const char contact[] = "kms_replication_contact_age_seconds";
	static const char lag[] = "kms_replication_lag_seconds";

	for (size_t r = 0; r < sizeof(peer_rows) / sizeof(peer_rows[0]); r++) {
		const struct peer_row *row = &peer_rows[r];

		TRY(put_head(out, row->name, row->help, row->type));
		for (size_t i = 0; i < peers->count; i++) {
			TRY(put_peer_label(out, row->name, &peers->rows[i]));
			TRY(buf_printf(
			    out, "%" PRIu64 "\n", row->value(&peers->rows[i])));
		}
	}
	TRY(put_head(out, lag, "Since a peer had all that is here", "gauge"));
	for (size_t i = 0; i < peers->count; i++)
		TRY(put_peer_ms(
		    out, lag, &peers->rows[i], peers->rows[i].lag_ms));
	TRY(put_head(out, contact, "Since a peer was heard", "gauge"));
	for (size_t i = 0; i < peers->count; i++)
		TRY(put_peer_ms(
		    out, contact, &peers->rows[i], peers->rows[i].contact_ms));
	return 0;
}

/* ---- the whole ---- */

static void
count_now(const struct net *net)
{
	metrics[METRIC_NET_LOG_LOST] = log_lost();
	metrics[METRIC_NET_LOG_HELD_BACK] = log_held_back();
	metrics[METRIC_NET_IN_KEEPER] = KEEPER_FLIGHTS - net->keeper.free_count;
	metrics[METRIC_NET_WAITING] = net->keeper.waiting_count;
	metrics[METRIC_NET_BODY_BYTES] = net->memory.used;
}

int
metrics_render(const struct net *net, struct buf *out)
{
	count_now(net);
	for (size_t r = 0; r < metric_row_count; r++) {
		const struct metric_row *row = &metric_rows[r];
		const uint64_t *values = values_of(net, row);

		TRY(put_head(out, row->name, row->help, type_name(row->kind)));
		for (size_t i = 0; i < row->set->count; i++)
			TRY(put_member(
			    out, row, i, values + i * row->more->count));
	}
	return put_peers(out, &net->peers);
}

void
metrics_answer(struct conn *conn)
{
	struct buf text;
	struct iovec iov;
	struct answer answer = { .status = 200,
		.type = "text/plain; version=0.0.4",
		.body = &iov,
		.body_count = 1 };

	buf_init(&text, METRICS_TEXT_MAX);
	if (metrics_render(conn->net, &text) != 0) {
		answer_error(conn, 500, "out of memory");
	} else {
		iov = (struct iovec){ text.data, text.len };
		answer_send(conn, &answer);
	}
	buf_free(&text);
}

int
metrics_store(struct net *net, const struct msg *msg)
{
	if (msg->v[0].u >= METRICS_SLOTS)
		return KMS_EPROTO;
	return metrics_decode(
	    msg->v[1].data, msg->v[1].len, net->metrics_sets[msg->v[0].u]);
}
