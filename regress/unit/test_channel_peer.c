/*
 * kms-keeper/channel_peer: typed calls over a channel whose other end the
 * test plays: bodies both ways under credit, every reply, every violation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/channel_peer.h"

#define BIG (1U << 20)

static struct {
	uv_loop_t loop;
	uv_timer_t limit;
	struct peer_client client;
	struct chan *other; /* kms-chain's end */
	int other_ended;

	/* what kms-chain has received */
	unsigned int requests, cancels;
	uint64_t id, total, received, credit;
	int give_credit;

	/* what the caller was told */
	unsigned int done, pieces, before;
	struct peer_reply reply;
	char *data;
	size_t piece_bytes;
	uint64_t cancel_in_piece;
} t;

static int
on_request(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	t.requests++;
	t.id = msg->id;
	t.total = msg->v[13].u;
	t.received = msg->v[14].len;
	return 0;
}

static int
on_body(struct chan *chan, struct msg *msg, void *arg)
{
	struct msg_writer w;

	(void)arg;
	t.received += msg->v[0].len;
	if (!t.give_credit)
		return 0;
	chan_begin(chan, &w, MSG_PEERKEEPER_CREDIT, msg->id);
	msg_put_u(&w, msg->v[0].len);
	return chan_end(chan, &w);
}

static int
on_cancel(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	(void)arg;
	t.cancels++;
	return 0;
}

static int
on_credit(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	t.credit += msg->v[0].u;
	return 0;
}

static const struct chan_handler other_handlers[] = {
	{ MSG_KEEPERPEER_REQUEST, on_request },
	{ MSG_KEEPERPEER_BODY, on_body },
	{ MSG_KEEPERPEER_CANCEL, on_cancel },
	{ MSG_KEEPERPEER_CREDIT, on_credit },
	{ 0, NULL },
};

static void
on_other_closed(struct chan *chan, int error, void *arg)
{
	(void)error;
	(void)arg;
	chan_free(chan);
	t.other = NULL;
	t.other_ended = 1;
}

static void
on_before(void *arg)
{
	(void)arg;
	t.before++;
}

static void
on_limit(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("it takes too long");
}

static void
open_pair(uint32_t generation)
{
	struct chan_config config = { .name = "test",
		.in = MSG_CHANNEL_KEEPER_PEER,
		.out = MSG_CHANNEL_PEER_KEEPER,
		.generation = generation,
		.handlers = other_handlers,
		.closed = on_other_closed,
		.queue_max = 8U << 20 };
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(
	    peer_client_open(&t.client, &t.loop, fds[0], generation), 0);
	assert_int_equal(chan_open(&t.loop, fds[1], &config, &t.other), 0);
}

static int
setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	assert_int_equal(uv_loop_init(&t.loop), 0);
	assert_int_equal(uv_timer_init(&t.loop, &t.limit), 0);
	(void)uv_timer_start(&t.limit, on_limit, 20000, 0);
	uv_unref((uv_handle_t *)&t.limit);
	t.client.before = on_before;
	open_pair(3);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	peer_client_close(&t.client);
	chan_free(t.other);
	uv_close((uv_handle_t *)&t.limit, NULL);
	(void)uv_run(&t.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&t.loop), 0);
	assert_int_equal(t.client.sending, 0);
	assert_int_equal(t.client.collected, 0);
	assert_int_equal(t.client.count, 0);
	free(t.data);
	return 0;
}

/* Everything that is on its way arrives. */
static void
settle(void)
{
	for (int i = 0; i < 200; i++)
		(void)uv_run(&t.loop, UV_RUN_NOWAIT);
}

static void
on_done(void *arg, uint64_t id, const struct peer_reply *reply)
{
	assert_ptr_equal(arg, &t);
	assert_int_equal(id, t.id);
	t.done++;
	t.reply = *reply;
	free(t.data);
	t.data = NULL;
	if (reply->data_len > 0) {
		t.data = malloc(reply->data_len);
		assert_non_null(t.data);
		memcpy(t.data, reply->data, reply->data_len);
	}
}

static void
on_piece(void *arg, uint64_t id, const char *data, size_t len)
{
	(void)arg;
	assert_non_null(data);
	t.pieces++;
	t.piece_bytes += len;
	if (t.cancel_in_piece != 0)
		peer_client_cancel(&t.client, id);
}

static uint64_t
post(enum peer_kind kind, size_t len, int pieces)
{
	struct peer_call call = { .kind = kind,
		.url = "https://peer.example.net",
		.timeout_ms = 1000,
		.answer_max = BIG,
		.data_len = len,
		.piece = pieces ? on_piece : NULL,
		.done = on_done,
		.arg = &t };
	uint64_t id = 0;

	if (len > 0) {
		call.data = malloc(len);
		assert_non_null(call.data);
		memset(call.data, 'a', len);
	}
	assert_int_equal(peer_client_post(&t.client, &call, &id), 0);
	assert_int_not_equal(id, 0);
	settle();
	return id;
}

/* ---- kms-chain's words --------------------------------------------------- */

static void
say_body(uint64_t id, size_t len)
{
	static uint8_t bytes[MSG_CHUNK_MAX];
	struct msg_writer w;

	memset(bytes, 'b', sizeof(bytes));
	chan_begin(t.other, &w, MSG_PEERKEEPER_BODY, id);
	msg_put_d(&w, bytes, len);
	assert_int_equal(chan_end(t.other, &w), 0);
	settle();
}

static void
say_answer(uint64_t id, uint64_t total, const char *last)
{
	struct msg_writer w;

	chan_begin(t.other, &w, MSG_PEERKEEPER_ANSWER, id);
	msg_put_u(&w, 17);
	msg_put_s(&w, "0xaa");
	msg_put_s(&w, "0xbb");
	msg_put_s(&w, "next");
	msg_put_s(&w, "3076");
	msg_put_s(&w, "00ff");
	msg_put_u(&w, total);
	msg_put_d(&w, last, strlen(last));
	assert_int_equal(chan_end(t.other, &w), 0);
	settle();
}

static void
say_numbers(enum msg_type type, uint64_t id, uint64_t number, const char *text)
{
	struct msg_writer w;

	chan_begin(t.other, &w, type, id);
	msg_put_u(&w, number);
	if (text != NULL)
		msg_put_s(&w, text);
	assert_int_equal(chan_end(t.other, &w), 0);
	settle();
}

static void
expect_failed(enum peer_failure failure)
{
	assert_int_equal(t.done, 1);
	assert_int_equal(t.reply.kind, PEER_REPLY_FAILED);
	assert_int_equal(t.reply.failure, failure);
	assert_int_not_equal(t.reply.text[0], '\0');
}

/* ---- the tests ----------------------------------------------------------- */

static void
small(void **state)
{
	uint64_t id = post(PEER_SYNC, 10, 0);

	(void)state;
	assert_int_equal(t.requests, 1);
	assert_int_equal(t.total, 10);
	assert_int_equal(t.received, 10);
	assert_int_equal(t.client.sending, 0); /* all of it is gone */
	say_answer(id, 4, "data");
	assert_int_equal(t.done, 1);
	assert_int_equal(t.before, 1);
	assert_int_equal(t.reply.kind, PEER_REPLY_ENVELOPE);
	assert_int_equal(t.reply.elapsed_ms, 17);
	assert_string_equal(t.reply.signature, "0xaa");
	assert_string_equal(t.reply.signature_v2, "0xbb");
	assert_string_equal(t.reply.next_nonce, "next");
	assert_string_equal(t.reply.sender, "3076");
	assert_string_equal(t.reply.nonce, "00ff");
	assert_int_equal(t.reply.data_len, 4);
	assert_memory_equal(t.data, "data", 4);
}

static void
big_request(void **state)
{
	(void)state;
	(void)post(PEER_SYNC, BIG, 0);
	assert_int_equal(t.received, MSG_WINDOW);
	assert_int_equal(t.client.sending, BIG);
	t.give_credit = 1;
	say_numbers(MSG_PEERKEEPER_CREDIT, t.id, MSG_WINDOW, NULL);
	assert_int_equal(t.received, BIG);
	assert_int_equal(t.client.sending, 0);
	say_numbers(MSG_PEERKEEPER_FAILED, t.id, PEER_FAILURE_TIMEOUT, "late");
	expect_failed(PEER_FAILURE_TIMEOUT);
}

static void
big_answer(void **state)
{
	uint64_t id = post(PEER_SYNC, 1, 0);

	(void)state;
	for (int i = 0; i < 8; i++)
		say_body(id, MSG_CHUNK_MAX);
	assert_int_equal(t.credit, 8 * MSG_CHUNK_MAX);
	assert_int_equal(t.client.collected, 8 * MSG_CHUNK_MAX);
	say_answer(id, 8 * MSG_CHUNK_MAX + 4, "tail");
	assert_int_equal(t.reply.data_len, 8 * MSG_CHUNK_MAX + 4);
	assert_int_equal(t.data[0], 'b');
	assert_memory_equal(t.data + 8 * MSG_CHUNK_MAX, "tail", 4);
	assert_int_equal(t.client.collected, 0);
}

static void
pieces(void **state)
{
	uint64_t id = post(PEER_SYNC, 1, 1);

	(void)state;
	for (int i = 0; i < 4; i++)
		say_body(id, MSG_CHUNK_MAX);
	assert_int_equal(t.pieces, 4);
	assert_int_equal(t.credit, 0); /* until the caller says so */
	peer_client_consumed(&t.client, id, 1000);
	peer_client_consumed(&t.client, id, 3 * MSG_CHUNK_MAX - 1000);
	settle();
	assert_int_equal(t.credit, 3 * MSG_CHUNK_MAX);
	say_body(id, MSG_CHUNK_MAX);
	say_answer(id, 5 * MSG_CHUNK_MAX + 1, "x");
	assert_int_equal(t.done, 1);
	assert_int_equal(t.piece_bytes, 5 * MSG_CHUNK_MAX + 1);
	assert_null(t.reply.data);
}

static void
other_replies(void **state)
{
	struct msg_writer w;
	uint64_t id = post(PEER_NONCE, 0, 0);

	(void)state;
	say_numbers(MSG_PEERKEEPER_NONCE, id, 5, "bm9uY2Vub25jZW5v");
	assert_int_equal(t.reply.kind, PEER_REPLY_NONCE);
	assert_string_equal(t.reply.nonce, "bm9uY2Vub25jZW5v");
	id = post(PEER_STATUS, 0, 0);
	chan_begin(t.other, &w, MSG_PEERKEEPER_STATUS, id);
	msg_put_u(&w, 6);
	msg_put_s(&w, "0x11");
	msg_put_b(&w, 1);
	msg_put_s(&w, "why");
	assert_int_equal(chan_end(t.other, &w), 0);
	settle();
	assert_int_equal(t.reply.kind, PEER_REPLY_STATUS);
	assert_int_equal(t.reply.elapsed_ms, 6);
	assert_true(t.reply.available);
	assert_string_equal(t.reply.wallet, "0x11");
	assert_string_equal(t.reply.unavailable, "why");
	id = post(PEER_SYNC, 5, 0);
	chan_begin(t.other, &w, MSG_PEERKEEPER_ERROR, id);
	msg_put_u(&w, 429);
	msg_put_u(&w, 7);
	msg_put_u(&w, 30);
	msg_put_s(&w, "0xaa");
	msg_put_s(&w, "0xbb");
	msg_put_s(&w, "next");
	msg_put_s(&w, "rate_limited");
	msg_put_s(&w, "wait");
	assert_int_equal(chan_end(t.other, &w), 0);
	settle();
	assert_int_equal(t.reply.kind, PEER_REPLY_ERROR);
	assert_int_equal(t.reply.status, 429);
	assert_int_equal(t.reply.retry_after, 30);
	assert_string_equal(t.reply.signature_v2, "0xbb");
	assert_string_equal(t.reply.code, "rate_limited");
	assert_string_equal(t.reply.message, "wait");
	assert_int_equal(t.done, 3);
}

static void
cancelled(void **state)
{
	uint64_t id = post(PEER_SYNC, BIG, 0);

	(void)state;
	peer_client_cancel(&t.client, id);
	settle();
	assert_int_equal(t.cancels, 1);
	assert_int_equal(t.client.sending, 0);
	/* What was under way is dropped. */
	say_body(id, 10);
	say_answer(id, 14, "data");
	say_numbers(MSG_PEERKEEPER_CREDIT, id, 5, NULL);
	say_numbers(MSG_PEERKEEPER_FAILED, id, PEER_FAILURE_BUSY, "x");
	assert_int_equal(t.done, 0);
	assert_int_equal(t.other_ended, 0);
	/* From within a piece, and a last one too. */
	t.cancel_in_piece = 1;
	id = post(PEER_SYNC, 1, 1);
	say_answer(id, 4, "data");
	assert_int_equal(t.pieces, 1);
	assert_int_equal(t.done, 0);
	assert_int_equal(t.client.count, 0);
}

static void
lost(void **state)
{
	struct peer_call call = { .url = "https://h.example", .done = on_done };
	uint64_t id;

	(void)state;
	(void)post(PEER_SYNC, BIG, 0);
	chan_free(t.other);
	t.other = NULL;
	settle();
	expect_failed(PEER_FAILURE_UNREACHABLE);
	assert_int_equal(peer_client_post(&t.client, &call, &id), KMS_EUNAVAIL);
	/* A successor takes new calls, under new numbers. */
	open_pair(4);
	assert_true(post(PEER_SYNC, 1, 0) > 1);
	/* And a channel that is replaced while calls are open fails them. */
	chan_free(t.other);
	t.other = NULL;
	t.done = 0;
	open_pair(5);
	expect_failed(PEER_FAILURE_UNREACHABLE);
}

static void
bounds(void **state)
{
	struct peer_call call = { .url = "https://h.example",
		.done = on_done,
		.data_len = PEER_SENDING_MAX + 1 };
	char url[2050];
	uint64_t id;

	(void)state;
	assert_int_equal(peer_client_post(&t.client, &call, &id), KMS_EBUSY);
	memset(url, 'a', sizeof(url) - 1);
	url[sizeof(url) - 1] = '\0';
	call.url = url;
	call.data_len = 0;
	assert_int_equal(peer_client_post(&t.client, &call, &id), KMS_EINVAL);
	assert_int_equal(t.client.count, 0);
	call.url = "https://h.example";
	for (int i = 0; i < PEER_CALLS_MAX; i++)
		assert_int_equal(peer_client_post(&t.client, &call, &id), 0);
	assert_int_equal(peer_client_post(&t.client, &call, &id), KMS_EBUSY);
}

static void
expect_end(void)
{
	settle();
	assert_int_equal(t.other_ended, 1);
	assert_null(t.client.chan);
	expect_failed(PEER_FAILURE_UNREACHABLE);
}

static void
beyond_the_window(void **state)
{
	uint64_t id = post(PEER_SYNC, 1, 1);

	(void)state;
	for (int i = 0; i < 4; i++)
		say_body(id, MSG_CHUNK_MAX);
	assert_int_equal(t.other_ended, 0);
	say_body(id, 1);
	expect_end();
}

static void
beyond_the_limit(void **state)
{
	uint64_t id = post(PEER_SYNC, 1, 0);

	(void)state;
	for (int i = 0; i < 16; i++)
		say_body(id, MSG_CHUNK_MAX);
	assert_int_equal(t.other_ended, 0);
	say_body(id, 1);
	expect_end();
}

static void
wrong_total(void **state)
{
	(void)state;
	say_answer(post(PEER_SYNC, 1, 0), 5, "data");
	expect_end();
}

static void
wrong_kind(void **state)
{
	(void)state;
	say_numbers(MSG_PEERKEEPER_NONCE, post(PEER_SYNC, 1, 0), 5, "nonce");
	expect_end();
}

static void
body_of_a_nonce(void **state)
{
	(void)state;
	say_body(post(PEER_NONCE, 0, 0), 1);
	expect_end();
}

static void
too_much_credit(void **state)
{
	(void)state;
	say_numbers(MSG_PEERKEEPER_CREDIT, post(PEER_SYNC, 10, 0), 11, NULL);
	expect_end();
}

static void
unknown_failure(void **state)
{
	(void)state;
	say_numbers(MSG_PEERKEEPER_FAILED, post(PEER_SYNC, 1, 0),
	    PEER_FAILURE_BUSY + 1, "x");
	expect_end();
}

static void
no_log(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)text;
	(void)arg;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(small),
		TEST(big_request),
		TEST(big_answer),
		TEST(pieces),
		TEST(other_replies),
		TEST(cancelled),
		TEST(lost),
		TEST(bounds),
		TEST(beyond_the_window),
		TEST(beyond_the_limit),
		TEST(wrong_total),
		TEST(wrong_kind),
		TEST(body_of_a_nonce),
		TEST(too_much_credit),
		TEST(unknown_failure),
	};

	log_set_sink(no_log, NULL);
	return cmocka_run_group_tests_name("channel_peer", tests, NULL, NULL);
}
