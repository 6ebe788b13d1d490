#include "proto/chan.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/fdpass.h"
#include "common/log.h"

#define HANDLERS_END 128
#define READ_SIZE_MIN 16384

struct chan {
	uv_poll_t poll;
	uv_prepare_t flush; /* active while there is output to write */
	struct chan_config config;
	chan_handler_fn handlers[HANDLERS_END];
	enum msg_state state;
	int fd;
	int events; /* what poll waits for now */
	int paused;
	int ended;    /* error that ended it, 0 while it lives */
	int reported; /* closed() was called or must not be */
	int in_dispatch;
	int freed;
	int handles_open; /* uv handles whose close is not through */
	int choked;	  /* chan_send_room said there is little */
	uint8_t *in;	  /* received, not yet dispatched */
	size_t in_len;
	size_t in_size;
	struct buf out;
	size_t out_sent;  /* bytes of out already written */
	int out_fd;	  /* descriptor that waits, or -1 */
	size_t out_fd_at; /* offset in out of the frame it goes with */
	int in_fd;	  /* received descriptor not yet claimed, or -1 */
	int takes_fds;	  /* some row of the incoming direction carries one */
};

static void chan_update(struct chan *chan);

static void
chan_end_with(struct chan *chan, int error)
{
	if (chan->ended == 0)
		chan->ended = error;
}

/* The type is named by number: it may not exist. */
static int
violation(struct chan *chan, unsigned int type, const char *what)
{
	const struct msg_row *row = msg_row(type);

	log_error("channel %s ended: message %s (%u): %s", chan->config.name,
	    row != NULL ? row->name : "unknown", type, what);
	chan_end_with(chan, KMS_EPROTO);
	return KMS_EPROTO;
}

static int
check_header(struct chan *chan, const struct frame_header *header)
{
	const struct msg_row *row = msg_row(header->type);

	if (row == NULL)
		return violation(chan, header->type, "unknown type");
	if (row->channel != chan->config.in)
		return violation(
		    chan, header->type, "not legal from this sender");
	if ((row->states & chan->state) == 0)
		return violation(chan, header->type, "not legal in this state");
	if (header->payload_len > row->ceiling)
		return violation(chan, header->type, "longer than its ceiling");
	if (header->generation != chan->config.generation)
		return violation(
		    chan, header->type, "of another channel's generation");
	if (chan->handlers[header->type] == NULL)
		return violation(chan, header->type, "has no handler here");
	return 0;
}

static void
dispatch_frame(struct chan *chan, const struct frame_header *header,
    const uint8_t *payload)
{
	struct msg msg = { .id = header->id, .fd = -1 };
	int error;

	if (msg_parse(msg_row(header->type), payload, header->payload_len,
		&msg) != 0) {
		(void)violation(
		    chan, header->type, "fields are not as its row says");
		return;
	}
	if (msg.row->with_fd) {
		if (chan->in_fd < 0) {
			(void)violation(
			    chan, header->type, "came without its descriptor");
			return;
		}
		msg.fd = chan->in_fd;
		chan->in_fd = -1;
	}
	error = chan->handlers[header->type](chan, &msg, chan->config.arg);
	if (msg.fd >= 0)
		(void)close(msg.fd);
	if (error != 0) {
		(void)violation(chan, header->type, kms_strerror(error));
	}
}

/* Dispatch every whole frame that is there. */
static void
dispatch_input(struct chan *chan)
{
	size_t at = 0;

	chan->in_dispatch++;
	while (chan->ended == 0 && !chan->freed && !chan->paused &&
	    chan->in_len - at >= FRAME_HEADER_LEN) {
		struct frame_header header;
		size_t len;

		if (frame_header_parse(chan->in + at, &header) != 0) {
			(void)violation(chan, 0, "malformed frame header");
			break;
		}
		if (check_header(chan, &header) != 0)
			break;
		len = FRAME_HEADER_LEN + header.payload_len;
		if (chan->in_len - at < len)
			break;
		dispatch_frame(chan, &header, chan->in + at + FRAME_HEADER_LEN);
		at += len;
	}
	chan->in_dispatch--;
	if (at > 0) {
		memmove(chan->in, chan->in + at, chan->in_len - at);
		chan->in_len -= at;
	}
	if (chan->in_fd >= 0 && chan->in_len == 0 && chan->ended == 0)
		(void)violation(chan, 0, "a descriptor without its message");
}

static void
read_input(struct chan *chan)
{
	size_t room = chan->in_size - chan->in_len;
	ssize_t got;
	int fd = -1;

	if (room == 0)
		return;
	if (chan->takes_fds)
		got = fdpass_recv(chan->fd, chan->in + chan->in_len, room, &fd);
	else
		got = read(chan->fd, chan->in + chan->in_len, room);
	if (fd >= 0) {
		if (chan->in_fd >= 0) {
			(void)close(fd);
			(void)violation(chan, 0, "two descriptors at once");
			return;
		}
		chan->in_fd = fd;
	}
	if (got > 0)
		chan->in_len += (size_t)got;
	else if (got == 0)
		chan_end_with(chan, KMS_ECLOSED);
	else if (errno != EAGAIN && errno != EINTR)
		chan_end_with(
		    chan, errno == ECONNRESET ? KMS_ECLOSED : KMS_ESYS);
}

static ssize_t
write_some(struct chan *chan)
{
	const uint8_t *from = chan->out.data + chan->out_sent;
	size_t len = chan->out.len - chan->out_sent;
	ssize_t sent;

	if (chan->out_fd < 0)
		return fdpass_send(chan->fd, from, len, -1);
	if (chan->out_sent < chan->out_fd_at)
		return fdpass_send(
		    chan->fd, from, chan->out_fd_at - chan->out_sent, -1);
	sent = fdpass_send(chan->fd, from, len, chan->out_fd);
	if (sent > 0) {
		(void)close(chan->out_fd);
		chan->out_fd = -1;
	}
	return sent;
}

static void
write_output(struct chan *chan)
{
	while (chan->ended == 0 && chan->out_sent < chan->out.len) {
		ssize_t sent = write_some(chan);

		if (sent < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				chan_end_with(chan,
				    errno == EPIPE || errno == ECONNRESET
					? KMS_ECLOSED
					: KMS_ESYS);
			break;
		}
		chan->out_sent += (size_t)sent;
	}
	if (chan->out_sent == chan->out.len) {
		chan->out_sent = 0;
		if (chan->out.size > 4 * READ_SIZE_MIN)
			buf_free(&chan->out);
		else
			chan->out.len = 0;
	} else if (chan->out_sent > READ_SIZE_MIN) {
		buf_consume(&chan->out, chan->out_sent);
		if (chan->out_fd >= 0)
			chan->out_fd_at -= chan->out_sent;
		chan->out_sent = 0;
	}
}

static size_t
queued(const struct chan *chan)
{
	return chan->out.len - chan->out_sent;
}

static void
on_handle_closed(uv_handle_t *handle)
{
	struct chan *chan = handle->data;

	if (--chan->handles_open > 0)
		return;
	if (chan->in_fd >= 0)
		(void)close(chan->in_fd);
	if (chan->out_fd >= 0)
		(void)close(chan->out_fd);
	(void)close(chan->fd);
	buf_free(&chan->out);
	free(chan->in);
	free(chan);
}

static void
report_end(struct chan *chan)
{
	if (chan->ended == 0 || chan->reported || chan->freed ||
	    chan->in_dispatch > 0)
		return;
	chan->reported = 1;
	(void)uv_poll_stop(&chan->poll);
	(void)uv_prepare_stop(&chan->flush);
	chan->config.closed(chan, chan->ended, chan->config.arg);
}

static void
report_drained(struct chan *chan)
{
	if (!chan->choked || chan->ended != 0 || chan->freed ||
	    queued(chan) > chan->config.queue_max / 2)
		return;
	chan->choked = 0;
	if (chan->config.drained != NULL)
		chan->config.drained(chan, chan->config.arg);
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
	struct chan *chan = poll->data;

	if (status < 0) {
		/* The other side is gone with bytes of ours unread; what it
		 * said before is heard all the same. */
		read_input(chan);
		dispatch_input(chan);
		chan_end_with(chan, KMS_ECLOSED);
	} else {
		if (events & UV_READABLE && !chan->paused) {
			read_input(chan);
			dispatch_input(chan);
		}
		if (events & UV_WRITABLE && !chan->freed) {
			write_output(chan);
			report_drained(chan);
		}
	}
	if (chan->freed)
		return;
	report_end(chan);
	if (!chan->freed)
		chan_update(chan);
}

/* Once before each poll while output waits: everything in one write. */
static void
on_flush(uv_prepare_t *flush)
{
	struct chan *chan = flush->data;

	/* A resumed channel may hold whole frames that no poll announces. */
	if (!chan->paused)
		dispatch_input(chan);
	if (chan->freed)
		return;
	write_output(chan);
	(void)uv_prepare_stop(&chan->flush);
	report_drained(chan);
	if (chan->freed)
		return;
	report_end(chan);
	if (!chan->freed)
		chan_update(chan);
}

static void
chan_update(struct chan *chan)
{
	int events = 0;

	if (chan->reported || chan->freed)
		return;
	if (!chan->paused)
		events |= UV_READABLE;
	if (queued(chan) > 0 && !uv_is_active((uv_handle_t *)&chan->flush))
		events |= UV_WRITABLE;
	if (events == chan->events)
		return;
	chan->events = events;
	if (events == 0)
		(void)uv_poll_stop(&chan->poll);
	else
		(void)uv_poll_start(&chan->poll, events, on_poll);
}

static size_t
input_size(enum msg_channel in)
{
	size_t frame = msg_channel_ceiling(in) + FRAME_HEADER_LEN;

	return frame * 2 < READ_SIZE_MIN ? READ_SIZE_MIN : frame * 2;
}

static int
direction_takes_fds(enum msg_channel in)
{
	for (unsigned int type = 0; type < HANDLERS_END; type++) {
		const struct msg_row *row = msg_row(type);

		if (row != NULL && row->channel == in && row->with_fd)
			return 1;
	}
	return 0;
}

int
chan_open(uv_loop_t *loop, int fd, const struct chan_config *config,
    struct chan **chan_out)
{
	struct chan *chan = calloc(1, sizeof(*chan));

	if (chan == NULL)
		return KMS_ENOMEM;
	chan->config = *config;
	chan->state = MSG_STATE_RUNNING;
	chan->fd = fd;
	chan->in_fd = chan->out_fd = -1;
	chan->takes_fds = direction_takes_fds(config->in);
	chan->in_size = input_size(config->in);
	buf_init(&chan->out, config->queue_max + MSG_PAYLOAD_MAX);
	for (const struct chan_handler *h = config->handlers;
	     h->handler != NULL; h++)
		chan->handlers[h->type] = h->handler;
	chan->in = malloc(chan->in_size);
	if (chan->in == NULL)
		goto fail_chan;
	if (uv_poll_init(loop, &chan->poll, fd) != 0)
		goto fail_in;
	chan->poll.data = chan;
	(void)uv_prepare_init(loop, &chan->flush);
	chan->flush.data = chan;
	chan->handles_open = 2;
	chan_update(chan);
	*chan_out = chan;
	return 0;

fail_in:
	free(chan->in);
fail_chan:
	free(chan);
	return KMS_ESYS;
}

void
chan_free(struct chan *chan)
{
	if (chan == NULL || chan->freed)
		return;
	write_output(chan);
	chan->freed = 1;
	uv_close((uv_handle_t *)&chan->poll, on_handle_closed);
	uv_close((uv_handle_t *)&chan->flush, on_handle_closed);
}

void
chan_set_state(struct chan *chan, enum msg_state state)
{
	chan->state = state;
}

uint32_t
chan_generation(const struct chan *chan)
{
	return chan->config.generation;
}

void
chan_begin(
    struct chan *chan, struct msg_writer *w, enum msg_type type, uint64_t id)
{
	msg_writer_begin(w, &chan->out, type, chan->config.generation, id);
	if (w->error == 0 && w->row->channel != chan->config.out)
		w->error = KMS_EINVAL;
	if (w->error == 0 && chan->ended != 0)
		w->error = KMS_ECLOSED;
	if (w->error == 0 && queued(chan) > chan->config.queue_max)
		w->error = KMS_ETOOBIG;
}

int
chan_end(struct chan *chan, struct msg_writer *w)
{
	int error = msg_writer_end(w);

	if (error == KMS_EINVAL)
		log_error("channel %s: a %s was not composed as its row says",
		    chan->config.name,
		    w->row != NULL ? w->row->name : "message");
	if (error == 0 && !uv_is_active((uv_handle_t *)&chan->flush))
		(void)uv_prepare_start(&chan->flush, on_flush);
	return error;
}

int
chan_end_fd(struct chan *chan, struct msg_writer *w, int fd)
{
	int error;

	if (w->error == 0 && chan->out_fd >= 0)
		w->error = KMS_EBUSY;
	if (w->error == 0 && !w->row->with_fd)
		w->error = KMS_EINVAL;
	error = chan_end(chan, w);
	if (error != 0) {
		(void)close(fd);
		return error;
	}
	chan->out_fd = fd;
	chan->out_fd_at = w->start;
	return 0;
}

size_t
chan_send_room(struct chan *chan)
{
	size_t used = queued(chan);
	size_t room =
	    used < chan->config.queue_max ? chan->config.queue_max - used : 0;

	if (room < MSG_WINDOW)
		chan->choked = 1;
	return room;
}

void
chan_pause(struct chan *chan)
{
	chan->paused = 1;
	chan_update(chan);
}

void
chan_resume(struct chan *chan)
{
	if (!chan->paused || chan->freed || chan->reported)
		return;
	chan->paused = 0;
	(void)uv_prepare_start(&chan->flush, on_flush);
	chan_update(chan);
}

void
chan_flush_blocking(struct chan *chan, int timeout_ms)
{
	struct pollfd pfd = { .fd = chan->fd, .events = POLLOUT };

	write_output(chan);
	while (chan->ended == 0 && queued(chan) > 0 &&
	    poll(&pfd, 1, timeout_ms) > 0)
		write_output(chan);
}

void
chan_read_last(struct chan *chan)
{
	size_t before;

	do {
		before = chan->in_len;
		read_input(chan);
		if (chan->in_len == before)
			break;
		dispatch_input(chan);
	} while (chan->ended == 0 && !chan->freed);
}
