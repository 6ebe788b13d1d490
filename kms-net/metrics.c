#include "kms-net/metrics.h"

#include <inttypes.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-net/answer.h"
#include "kms-net/net.h"

#define METRICS_TEXT_MAX 65536

static uint64_t
value_of(const struct net *net, size_t i)
{
	/* Our own are here and now; kmsd's set of ours is a second old. */
	return metric_rows[i].slot == METRICS_SLOT_net
	    ? metrics[i]
	    : net->metrics_sets[metric_rows[i].slot][i];
}

int
metrics_render(const struct net *net, struct buf *out)
{
	metrics[METRIC_NET_LOG_LOST] = log_lost();
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct metric_row *row = &metric_rows[i];
		int error = buf_printf(out,
		    "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", row->name,
		    row->help, row->name, row->kind, row->name,
		    value_of(net, i));

		if (error != 0)
			return error;
	}
	return 0;
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
