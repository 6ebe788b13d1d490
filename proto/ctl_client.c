#include "proto/ctl_client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "proto/fds.h"
#include "proto/metrics.h"

#define CTL_QUEUE_MAX (1U << 20) /* lines of the audit trail come in bursts */
#define METRICS_PERIOD_MS 1000

static struct chan_config ctl_config = {
	.name = "control",
	.in = MSG_CHANNEL_KMSD_CHILD,
	.out = MSG_CHANNEL_CHILD_KMSD,
	.queue_max = CTL_QUEUE_MAX,
};

static uv_timer_t metrics_timer;

static int
read_exactly(uint8_t *out, size_t len)
{
	while (len > 0) {
		ssize_t got = read(FD_CONTROL, out, len);

		if (got == 0)
			return KMS_ECLOSED;
		if (got < 0 && errno != EINTR)
			return KMS_ESYS;
		if (got > 0) {
			out += got;
			len -= (size_t)got;
		}
	}
	return 0;
}

/* One frame of the configuring state into payload (MSG_PAYLOAD_MAX bytes). */
static int
read_message(uint8_t *payload, struct msg *msg)
{
	uint8_t head[FRAME_HEADER_LEN];
	struct frame_header header;
	const struct msg_row *row;
	int error = read_exactly(head, sizeof(head));

	if (error != 0)
		return error;
	if (frame_header_parse(head, &header) != 0)
		return KMS_EPROTO;
	row = msg_row(header.type);
	if (row == NULL || row->channel != MSG_CHANNEL_KMSD_CHILD ||
	    (row->states & MSG_STATE_CONFIGURING) == 0 ||
	    header.payload_len > row->ceiling || header.generation != 0)
		return KMS_EPROTO;
	error = read_exactly(payload, header.payload_len);
	if (error != 0)
		return error;
	return msg_parse(row, payload, header.payload_len, msg);
}

static int
apply_message(const struct msg *msg, const struct config_row *rows,
    size_t count, void *base, ctl_blob_fn blob, void *arg)
{
	const struct msg_value *name = &msg->v[0], *value = &msg->v[1];
	int error;

	if (msg->row->type != MSG_KMSDCHILD_BLOB)
		error =
		    config_apply(rows, count, base, (const char *)name->data,
			name->len, (const char *)value->data, value->len);
	else if (blob != NULL)
		error = blob((const char *)name->data, name->len, value->data,
		    value->len, arg);
	else
		error = KMS_EPROTO;
	if (error != 0)
		log_error("configuration: \"%.*s\": %s", (int)name->len,
		    (const char *)name->data, kms_strerror(error));
	return error;
}

int
ctl_client_configure(const struct config_row *rows, size_t count, void *base,
    ctl_blob_fn blob, void *arg)
{
	uint8_t *payload = malloc(MSG_PAYLOAD_MAX);
	struct msg msg = { .fd = -1 };
	int error = payload == NULL ? KMS_ENOMEM : 0;

	while (error == 0) {
		error = read_message(payload, &msg);
		if (error == 0 && msg.row->type == MSG_KMSDCHILD_START)
			break;
		if (error == 0)
			error =
			    apply_message(&msg, rows, count, base, blob, arg);
		else if (error != KMS_ECLOSED)
			log_error("control channel: %s", kms_strerror(error));
	}
	free(payload);
	return error;
}

static void
begin_reload(struct ctl_reload *reload)
{
	memcpy(reload->next, reload->current, reload->size);
	for (size_t i = 0; i < reload->count; i++) {
		const struct config_row *row = &reload->rows[i];
		struct config_list *list =
		    (void *)((char *)reload->next + row->offset);

		if (row->kind == CONFIG_LIST)
			list->count = 0;
	}
	reload->collecting = 1;
}

int
ctl_client_reconfig(struct ctl_reload *reload, const struct msg *msg)
{
	if (!reload->collecting)
		begin_reload(reload);
	return apply_message(msg, reload->rows, reload->count, reload->next,
		   NULL, NULL) == 0
	    ? 0
	    : KMS_EPROTO;
}

int
ctl_client_reconfigured(struct ctl_reload *reload)
{
	if (!reload->collecting)
		return KMS_EPROTO;
	reload->collecting = 0;
	return 0;
}

static void
on_control_closed(struct chan *chan, int error, void *arg)
{
	(void)chan;
	(void)arg;
	/* _exit: the other threads and handles need no farewell. */
	_exit(error == KMS_ECLOSED ? 0 : 1);
}

static void
send_metrics(uv_timer_t *timer)
{
	struct chan *chan = timer->data;
	uint8_t wire[METRICS_WIRE_LEN];
	struct msg_writer w;

	log_tick();
	metrics_encode(wire);
	chan_begin(chan, &w, MSG_CHILDKMSD_METRICS, 0);
	msg_put_d(&w, wire, sizeof(wire));
	(void)chan_end(chan, &w);
}

int
ctl_client_open(uv_loop_t *loop, const struct chan_handler *handlers, void *arg,
    struct chan **chan)
{
	int error;

	ctl_config.handlers = handlers;
	ctl_config.closed = on_control_closed;
	ctl_config.arg = arg;
	error = chan_open(loop, FD_CONTROL, &ctl_config, chan);
	if (error != 0)
		return error;
	(void)uv_timer_init(loop, &metrics_timer);
	metrics_timer.data = *chan;
	(void)uv_timer_start(
	    &metrics_timer, send_metrics, METRICS_PERIOD_MS, METRICS_PERIOD_MS);
	return 0;
}

int
ctl_client_ready(struct chan *chan, const char *missing)
{
	struct msg_writer w;

	chan_begin(chan, &w, MSG_CHILDKMSD_READY, 0);
	msg_put_s(&w, missing);
	return chan_end(chan, &w);
}

void
ctl_client_fail(struct chan *chan, const char *format, ...)
{
	char text[512];
	struct msg_writer w;
	struct buf out;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (chan != NULL) {
		chan_begin(chan, &w, MSG_CHILDKMSD_FAILED, 0);
		msg_put_s(&w, text);
		(void)chan_end(chan, &w);
		chan_flush_blocking(chan, 500);
	} else {
		buf_init(&out, 1024);
		msg_writer_begin(&w, &out, MSG_CHILDKMSD_FAILED, 0, 0);
		msg_put_s(&w, text);
		if (msg_writer_end(&w) == 0 &&
		    write(FD_CONTROL, out.data, out.len) < 0)
			log_error("%s", text);
	}
	_exit(1);
}
