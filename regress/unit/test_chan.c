/*
 * proto/chan: two ends of a socketpair on one loop. The sending end of a test
 * is a chan or, to be illegal, the bare socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/fdpass.h"
#include "common/log.h"
#include "proto/chan.h"

struct end {
	struct chan *chan;
	unsigned int received;
	uint64_t last_id;
	size_t last_len;
	int got_fd;
	int error; /* what closed() said */
	unsigned int closed;
	unsigned int drained;
	int free_in_handler;
	int refuse;
};

static struct {
	uv_loop_t loop;
	uv_timer_t limit;
	int fds[2];
	struct end a, b; /* a: kmsd or kms-net; b: the other */
	unsigned int errors_logged;
	char last_error[512];
} t;

static void
count_errors(enum log_level level, const char *text, void *arg)
{
	(void)arg;
	if (level != LOG_LEVEL_ERROR)
		return;
	t.errors_logged++;
	(void)strncpy(t.last_error, text, sizeof(t.last_error) - 1);
}

static int
on_message(struct chan *chan, struct msg *msg, void *arg)
{
	struct end *end = arg;

	(void)chan;
	end->received++;
	end->last_id = msg->id;
	end->last_len = msg->v[0].len;
	if (msg->fd >= 0) {
		end->got_fd = msg->fd;
		msg->fd = -1;
	}
	if (end->free_in_handler) {
		chan_free(end->chan);
		end->chan = NULL;
	}
	return end->refuse ? KMS_EBUSY : 0;
}

static void
on_closed(struct chan *chan, int error, void *arg)
{
	struct end *end = arg;

	end->error = error;
	end->closed++;
	chan_free(chan);
	end->chan = NULL;
}

static void
on_drained(struct chan *chan, void *arg)
{
	struct end *end = arg;

	(void)chan;
	end->drained++;
}

static const struct chan_handler kmsd_handlers[] = {
	{ MSG_CHILDKMSD_READY, on_message },
	{ MSG_CHILDKMSD_METRICS, on_message },
	{ 0, NULL },
};
static const struct chan_handler child_handlers[] = {
	{ MSG_KMSDCHILD_CONFIG, on_message },
	{ MSG_KMSDCHILD_BLOB, on_message },
	{ MSG_KMSDNET_ACCEPT, on_message },
	{ MSG_KMSDKEEPER_CHANNEL, on_message },
	{ 0, NULL },
};

static void
open_end(struct end *end, int fd, int kmsd)
{
	struct chan_config config = { .name = kmsd ? "kmsd" : "child",
		.in = kmsd ? MSG_CHANNEL_CHILD_KMSD : MSG_CHANNEL_KMSD_CHILD,
		.out = kmsd ? MSG_CHANNEL_KMSD_CHILD : MSG_CHANNEL_CHILD_KMSD,
		.generation = 3,
		.handlers = kmsd ? kmsd_handlers : child_handlers,
		.closed = on_closed,
		.drained = on_drained,
		.arg = end,
		.queue_max = 1024 * 1024 };

	end->got_fd = -1;
	assert_int_equal(chan_open(&t.loop, fd, &config, &end->chan), 0);
}

static void
on_limit(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("waited too long");
}

/* Turn the loop until the condition holds. */
#define UNTIL(condition)                                                       \
	while (!(condition))                                                   \
	(void)uv_run(&t.loop, UV_RUN_ONCE)

static int
set_up(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	log_set_sink(count_errors, NULL);
	(void)uv_loop_init(&t.loop);
	(void)uv_timer_init(&t.loop, &t.limit);
	(void)uv_timer_start(&t.limit, on_limit, 10000, 0);
	return socketpair(AF_UNIX, SOCK_STREAM, 0, t.fds);
}

static int
tear_down(void **state)
{
	(void)state;
	chan_free(t.a.chan);
	chan_free(t.b.chan);
	uv_close((uv_handle_t *)&t.limit, NULL);
	(void)uv_run(&t.loop, UV_RUN_DEFAULT);
	return uv_loop_close(&t.loop);
}

static int
send_config(struct chan *chan, uint64_t id)
{
	struct msg_writer w;

	chan_begin(chan, &w, MSG_KMSDCHILD_CONFIG, id);
	msg_put_s(&w, "name");
	msg_put_s(&w, "value");
	return chan_end(chan, &w);
}

static int
send_blob(struct chan *chan, size_t len)
{
	static const uint8_t piece[65536];
	struct msg_writer w;

	chan_begin(chan, &w, MSG_KMSDCHILD_BLOB, 0);
	msg_put_s(&w, "name");
	msg_put_d(&w, piece, len);
	return chan_end(chan, &w);
}

static void
messages_cross_both_ways(void **state)
{
	struct msg_writer w;

	(void)state;
	open_end(&t.a, t.fds[0], 1);
	open_end(&t.b, t.fds[1], 0);
	chan_set_state(t.a.chan, MSG_STATE_CONFIGURING);
	chan_set_state(t.b.chan, MSG_STATE_CONFIGURING);
	for (uint64_t id = 1; id <= 1000; id++)
		assert_int_equal(send_config(t.a.chan, id), 0);
	chan_begin(t.b.chan, &w, MSG_CHILDKMSD_READY, 5);
	msg_put_s(&w, "nothing");
	assert_int_equal(chan_end(t.b.chan, &w), 0);
	UNTIL(t.b.received == 1000 && t.a.received == 1);
	assert_int_equal(t.b.last_id, 1000);
	assert_int_equal(t.a.last_len, 7);
	assert_int_equal(t.errors_logged, 0);
}

/* The bare socket sends one frame; the child's end must end, with one line. */
static void
expect_violation(const struct buf *frame, const char *reason)
{
	open_end(&t.b, t.fds[1], 0);
	assert_int_equal(
	    write(t.fds[0], frame->data, frame->len), (ssize_t)frame->len);
	UNTIL(t.b.closed > 0);
	assert_int_equal(t.b.closed, 1);
	assert_int_equal(t.b.error, KMS_EPROTO);
	assert_int_equal(t.errors_logged, 1);
	assert_non_null(strstr(t.last_error, reason));
	assert_int_equal(t.b.received, 0);
	(void)close(t.fds[0]);
}

static void
compose(struct buf *frame, enum msg_type type, uint32_t generation)
{
	struct msg_writer w;

	buf_init(frame, 100000);
	msg_writer_begin(&w, frame, type, generation, 1);
	if (type == MSG_CHILDKMSD_READY) {
		msg_put_s(&w, "x");
	} else if (type == MSG_KMSDCHILD_CONFIG) {
		msg_put_s(&w, "x");
		msg_put_s(&w, "x");
	} else if (type == MSG_KMSDNET_METRICS) {
		msg_put_u(&w, 1);
		msg_put_d(&w, "", 0);
	} else if (type == MSG_KMSDKEEPER_CHANNEL) {
		msg_put_u(&w, 1);
		msg_put_u(&w, 1);
	}
	assert_int_equal(msg_writer_end(&w), 0);
}

#define VIOLATION(name, type, generation, change, reason)                      \
	static void name(void **state)                                         \
	{                                                                      \
		struct buf frame;                                              \
                                                                               \
		(void)state;                                                   \
		compose(&frame, type, generation);                             \
		change;                                                        \
		expect_violation(&frame, reason);                              \
		buf_free(&frame);                                              \
	}

VIOLATION(wrong_sender, MSG_CHILDKMSD_READY, 3, (void)0, "from this sender")
VIOLATION(wrong_state, MSG_KMSDCHILD_CONFIG, 3, (void)0, "in this state")
VIOLATION(wrong_generation, MSG_KMSDNET_ACCEPT, 2, (void)0, "generation")
VIOLATION(no_handler, MSG_KMSDNET_METRICS, 3, (void)0, "no handler")
VIOLATION(unknown_type, MSG_KMSDNET_ACCEPT, 3, frame.data[5] = 127, "unknown")
VIOLATION(over_the_ceiling, MSG_KMSDNET_ACCEPT, 3, frame.data[2] = 1, "ceiling")
VIOLATION(bad_header, MSG_KMSDNET_ACCEPT, 3, frame.data[7] = 1, "header")
VIOLATION(bad_payload, MSG_KMSDNET_ACCEPT, 3,
    frame.data[FRAME_HEADER_LEN] = 0x91, "fields")
VIOLATION(descriptor_missing, MSG_KMSDKEEPER_CHANNEL, 3, (void)0,
    "without its descriptor")

static void
a_stray_descriptor_ends_it(void **state)
{
	struct buf frame;

	(void)state;
	compose(&frame, MSG_KMSDNET_ACCEPT, 3);
	open_end(&t.b, t.fds[1], 0);
	assert_int_equal(fdpass_send(t.fds[0], frame.data, frame.len, 0),
	    (ssize_t)frame.len);
	UNTIL(t.b.closed > 0);
	assert_int_equal(t.errors_logged, 1);
	assert_non_null(strstr(t.last_error, "without its message"));
	buf_free(&frame);
	(void)close(t.fds[0]);
}

/* Two in one message are refused, and neither stays open. */
static void
a_second_descriptor_is_no_stowaway(void **state)
{
	int two[2] = { 0, 0 }, before = dup(0), after;
	char byte = 'x', space[CMSG_SPACE(sizeof(two))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space,
		.msg_controllen = sizeof(space) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int fd = 0;

	(void)state;
	(void)close(before);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(two));
	memcpy(CMSG_DATA(cmsg), two, sizeof(two));
	assert_int_equal(sendmsg(t.fds[0], &msg, 0), 1);
	assert_int_equal(fdpass_recv(t.fds[1], &byte, 1, &fd), -1);
	assert_int_equal(errno, EPROTO);
	assert_int_equal(fd, -1);
	after = dup(0);
	assert_int_equal(after, before);
	(void)close(after);
	(void)close(t.fds[0]);
	(void)close(t.fds[1]);
}

static void
a_handler_can_refuse(void **state)
{
	struct buf frame;

	(void)state;
	compose(&frame, MSG_KMSDNET_ACCEPT, 3);
	open_end(&t.b, t.fds[1], 0);
	t.b.refuse = 1;
	assert_true(write(t.fds[0], frame.data, frame.len) > 0);
	UNTIL(t.b.closed > 0);
	assert_int_equal(t.errors_logged, 1);
	assert_non_null(strstr(t.last_error, "KMSDNET_ACCEPT (4): busy"));
	buf_free(&frame);
	(void)close(t.fds[0]);
}

static void
the_other_side_closing_is_quiet(void **state)
{
	(void)state;
	open_end(&t.a, t.fds[0], 1);
	open_end(&t.b, t.fds[1], 0);
	chan_set_state(t.b.chan, MSG_STATE_CONFIGURING);
	/* What was queued before the free still arrives. */
	assert_int_equal(send_config(t.a.chan, 9), 0);
	chan_free(t.a.chan);
	t.a.chan = NULL;
	UNTIL(t.b.closed > 0);
	assert_int_equal(t.b.error, KMS_ECLOSED);
	assert_int_equal(t.b.last_id, 9);
	assert_int_equal(t.a.closed, 0);
	assert_int_equal(t.errors_logged, 0);
}

static void
freeing_inside_a_handler_is_safe(void **state)
{
	(void)state;
	open_end(&t.a, t.fds[0], 1);
	open_end(&t.b, t.fds[1], 0);
	chan_set_state(t.b.chan, MSG_STATE_CONFIGURING);
	t.b.free_in_handler = 1;
	for (int i = 0; i < 10; i++)
		assert_int_equal(send_config(t.a.chan, 1), 0);
	UNTIL(t.a.closed > 0);
	assert_int_equal(t.b.received, 1);
	assert_int_equal(t.b.closed, 0);
}

static int
send_channel(struct chan *chan, int fd)
{
	struct msg_writer w;

	chan_begin(chan, &w, MSG_KMSDKEEPER_CHANNEL, 0);
	msg_put_u(&w, CHANNEL_RPC);
	msg_put_u(&w, 8);
	return chan_end_fd(chan, &w, fd);
}

static void
a_descriptor_comes_with_its_message(void **state)
{
	char byte = 0;
	int pipe_fds[2];

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	open_end(&t.a, t.fds[0], 1);
	open_end(&t.b, t.fds[1], 0);
	/* With a message before it in the same write. */
	{
		struct msg_writer w;

		chan_begin(t.a.chan, &w, MSG_KMSDNET_ACCEPT, 0);
		assert_int_equal(chan_end(t.a.chan, &w), 0);
	}
	assert_int_equal(send_channel(t.a.chan, pipe_fds[1]), 0);
	/* One may wait; the refused one is closed all the same. */
	assert_int_equal(send_channel(t.a.chan, dup(0)), KMS_EBUSY);
	UNTIL(t.b.received == 2);
	assert_true(t.b.got_fd >= 0);
	assert_true((fcntl(t.b.got_fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(write(t.b.got_fd, "y", 1), 1);
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	assert_int_equal(t.errors_logged, 0);
	(void)close(pipe_fds[0]);
	(void)close(t.b.got_fd);
}

static void
a_full_queue_refuses_and_drains(void **state)
{
	unsigned int sent = 0;
	int error = 0;

	(void)state;
	open_end(&t.a, t.fds[0], 1);
	open_end(&t.b, t.fds[1], 0);
	chan_set_state(t.b.chan, MSG_STATE_CONFIGURING);
	chan_pause(t.b.chan);
	for (int i = 0; i < 200 && error == 0; i++) {
		error = send_blob(t.a.chan, 60000);
		sent += error == 0;
		(void)uv_run(&t.loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(error, KMS_ETOOBIG);
	assert_true(chan_send_room(t.a.chan) < MSG_WINDOW);
	assert_int_equal(t.b.received, 0);
	assert_int_equal(t.a.drained, 0);
	chan_resume(t.b.chan);
	UNTIL(t.b.received == sent);
	assert_int_equal(t.a.drained, 1);
	assert_int_equal(chan_send_room(t.a.chan), 1024 * 1024);
	assert_int_equal(t.errors_logged, 0);
	assert_int_equal(send_blob(t.a.chan, 1), 0);
	UNTIL(t.b.received == sent + 1);
}

static void
last_words_are_read(void **state)
{
	struct msg_writer w;

	(void)state;
	open_end(&t.a, t.fds[0], 1);
	open_end(&t.b, t.fds[1], 0);
	chan_begin(t.b.chan, &w, MSG_CHILDKMSD_METRICS, 0);
	msg_put_d(&w, "12345678", 8);
	assert_int_equal(chan_end(t.b.chan, &w), 0);
	chan_free(t.b.chan);
	t.b.chan = NULL;
	chan_read_last(t.a.chan);
	assert_int_equal(t.a.received, 1);
	assert_int_equal(t.a.closed, 0);
}

/* A frame that comes a byte at a time is the same frame. */
static void
pieces_make_a_frame(void **state)
{
	struct buf frame;

	(void)state;
	compose(&frame, MSG_KMSDNET_ACCEPT, 3);
	open_end(&t.b, t.fds[1], 0);
	for (size_t i = 0; i < frame.len; i++) {
		assert_int_equal(t.b.received, 0);
		assert_int_equal(write(t.fds[0], frame.data + i, 1), 1);
		(void)uv_run(&t.loop, UV_RUN_ONCE);
	}
	UNTIL(t.b.received == 1);
	buf_free(&frame);
	(void)close(t.fds[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(messages_cross_both_ways),
		TEST(wrong_sender),
		TEST(wrong_state),
		TEST(wrong_generation),
		TEST(no_handler),
		TEST(unknown_type),
		TEST(over_the_ceiling),
		TEST(bad_header),
		TEST(bad_payload),
		TEST(descriptor_missing),
		TEST(a_stray_descriptor_ends_it),
		TEST(a_second_descriptor_is_no_stowaway),
		TEST(a_handler_can_refuse),
		TEST(the_other_side_closing_is_quiet),
		TEST(freeing_inside_a_handler_is_safe),
		TEST(a_descriptor_comes_with_its_message),
		TEST(a_full_queue_refuses_and_drains),
		TEST(last_words_are_read),
		TEST(pieces_make_a_frame),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
