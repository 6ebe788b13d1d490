#include "kms-net/keeper.h"

#include <string.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/err.h"
#include "common/log.h"
#include "kms-net/answer.h"
#include "kms-net/net.h"
#include "kms-net/pop.h"
#include "proto/fds.h"

#define QUEUE_MAX                                                              \
	(4U << 20) /* bytes of frames that may wait for the keeper             \
		    */
#define CREDIT_STEP MSG_CHUNK_MAX /* least credit worth a frame */

/* ---- places ---- */

static struct flight *
flight_take(struct keeper *keeper, struct conn *conn)
{
	uint16_t place = keeper->free[--keeper->free_count];
	struct flight *flight = &keeper->flights[place];

	*flight = (struct flight){ .conn = conn,
		.id = ++keeper->sequence * KEEPER_FLIGHTS + place,
		.body_credit = MSG_WINDOW,
		.answer_credit = MSG_WINDOW };
	conn->flight = flight;
	conn->request.id = flight->id;
	return flight;
}

uint64_t
keeper_new_id(struct keeper *keeper)
{
	return ++keeper->sequence * KEEPER_FLIGHTS;
}

static void
flight_release(struct keeper *keeper, struct flight *flight)
{
	flight->conn->flight = NULL;
	flight->conn = NULL;
	keeper->free[keeper->free_count++] =
	    (uint16_t)(flight - keeper->flights);
}

/*
 * The place of a request number in a frame from the keeper. 0 with *flight
 * NULL: one that was cancelled, its answer has crossed our message.
 */
static int
flight_find(struct keeper *keeper, uint64_t id, struct flight **flight)
{
	struct flight *f = &keeper->flights[id % KEEPER_FLIGHTS];

	*flight = NULL;
	if (id > f->id || id == 0)
		return KMS_EPROTO; /* never asked */
	if (id < f->id)
		return 0;
	if (f->conn == NULL)
		return f->cancelled ? 0 : KMS_EPROTO;
	*flight = f;
	return 0;
}

/* ---- to the keeper ---- */

static void
send_number(struct net *net, enum msg_type type, uint64_t id, uint64_t value)
{
	struct msg_writer w;

	chan_begin(net->keeper.chan, &w, type, id);
	if (type == MSG_NETKEEPER_CREDIT)
		msg_put_u(&w, value);
	(void)chan_end(net->keeper.chan, &w);
}

/* Is there something of its body that can be sent? */
static bool
has_body(const struct flight *flight)
{
	return flight->conn != NULL && flight->handed_over &&
	    !flight->answered && flight->conn->request.content.data != NULL;
}

/* Send of the body what credit and the channel's room allow. */
static void
send_body(struct net *net, struct flight *flight)
{
	struct request *request = &flight->conn->request;
	struct http_slice data = request->envelope.data;
	struct msg_writer w;

	while (flight->body_sent < data.len &&
	    flight->body_sent < flight->body_credit &&
	    chan_send_room(net->keeper.chan) >= MSG_WINDOW) {
		uint64_t len = data.len - flight->body_sent;

		if (len > flight->body_credit - flight->body_sent)
			len = flight->body_credit - flight->body_sent;
		if (len > MSG_CHUNK_MAX)
			len = MSG_CHUNK_MAX;
		chan_begin(
		    net->keeper.chan, &w, MSG_NETKEEPER_BODY, flight->id);
		msg_put_d(&w, data.data + flight->body_sent, (size_t)len);
		if (chan_end(net->keeper.chan, &w) != 0)
			return;
		flight->body_sent += len;
	}
	if (flight->body_sent == data.len)
		bytes_free(&request->content, flight->conn->memory);
}

static int
send_request(struct net *net, struct flight *flight)
{
	const struct request *request = &flight->conn->request;
	const struct http_head *head = &request->http.head;
	struct http_slice target = http_text(head, request->http.target);
	const struct json_envelope *envelope = &request->envelope;
	int with_body = (request->route->flags & ROUTE_BODY) != 0;
	struct http_slice none = { "", 0 };
	struct http_slice data = with_body ? envelope->data : none;
	struct http_slice sender = with_body ? envelope->sender : none;
	struct http_slice nonce = with_body ? envelope->nonce : none;
	struct pop pop;
	struct msg_writer w;

	pop_read(head, POP_OF_APP, &pop);
	flight->handed_over = with_body;
	flight->body_sent = data.len < MSG_CHUNK_MAX ? data.len : MSG_CHUNK_MAX;
	chan_begin(net->keeper.chan, &w, MSG_NETKEEPER_REQUEST, flight->id);
	msg_put_u(&w, request->route->method);
	msg_put_sn(&w, target.data, target.len);
	msg_put_u(&w, pop.flags);
	for (size_t i = 0; i < POP_SYNC; i++)
		msg_put_sn(&w, pop.value[i].data, pop.value[i].len);
	msg_put_b(&w, with_body);
	msg_put_sn(&w, sender.data, sender.len);
	msg_put_sn(&w, nonce.data, nonce.len);
	msg_put_u(&w, data.len);
	msg_put_d(&w, data.data, (size_t)flight->body_sent);
	return chan_end(net->keeper.chan, &w);
}

static int
send_nonce(struct net *net, struct flight *flight)
{
	struct msg_writer w;

	chan_begin(net->keeper.chan, &w, MSG_NETKEEPER_NONCE, flight->id);
	return chan_end(net->keeper.chan, &w);
}

static int
send_sync(struct net *net, struct flight *flight)
{
	const struct http_head *head = &flight->conn->request.http.head;
	struct http_slice target =
	    http_text(head, flight->conn->request.http.target);
	struct pop pop;
	struct msg_writer w;

	pop_read(head, POP_OF_PEER, &pop);
	chan_begin(net->keeper.chan, &w, MSG_NETKEEPER_SYNC, flight->id);
	msg_put_sn(&w, target.data, target.len);
	msg_put_u(&w, pop.flags);
	for (size_t i = 0; i < POP_HEADERS; i++)
		msg_put_sn(&w, pop.value[i].data, pop.value[i].len);
	return chan_end(net->keeper.chan, &w);
}

/* The channel takes nothing: the keeper may never have heard of it. */
static void
refuse_flight(struct net *net, struct flight *flight)
{
	struct conn *conn = flight->conn;

	flight->cancelled = true;
	flight_release(&net->keeper, flight);
	if (request_is_unread(conn))
		answer_then_close(conn);
	answer_error(conn, 503, "the keeper takes no requests now");
}

static void
launch(struct net *net, struct conn *conn)
{
	struct flight *flight = flight_take(&net->keeper, conn);
	unsigned int flags = conn->request.route->flags;
	int error;

	conn->state = CONN_KEEPER;
	flight->nonce = (flags & ROUTE_NONCE) != 0;
	flight->sync = (flags & ROUTE_SYNC) != 0;
	if (flight->nonce)
		error = send_nonce(net, flight);
	else if (flight->sync)
		error = send_sync(net, flight);
	else
		error = send_request(net, flight);
	if (error != 0)
		refuse_flight(net, flight);
	else if (has_body(flight))
		send_body(net, flight);
}

void
keeper_envelope(struct conn *conn)
{
	struct net *net = conn->net;
	struct flight *flight = conn->flight;
	const struct json_envelope *envelope = &conn->request.envelope;
	struct msg_writer w;

	conn->state = CONN_KEEPER;
	flight->handed_over = true;
	/* The pieces wait for room; this alone has some. */
	if (chan_send_room(net->keeper.chan) >= MSG_WINDOW)
		flight->body_sent = envelope->data.len < MSG_CHUNK_MAX
		    ? envelope->data.len
		    : MSG_CHUNK_MAX;
	chan_begin(net->keeper.chan, &w, MSG_NETKEEPER_ENVELOPE, flight->id);
	msg_put_sn(&w, envelope->sender.data, envelope->sender.len);
	msg_put_sn(&w, envelope->nonce.data, envelope->nonce.len);
	msg_put_u(&w, envelope->data.len);
	msg_put_d(&w, envelope->data.data, (size_t)flight->body_sent);
	if (chan_end(net->keeper.chan, &w) != 0) {
		send_number(net, MSG_NETKEEPER_CANCEL, flight->id, 0);
		refuse_flight(net, flight);
		return;
	}
	if (has_body(flight))
		send_body(net, flight);
}

static bool
has_room(struct keeper *keeper)
{
	return keeper->free_count > 0 &&
	    chan_send_room(keeper->chan) >= MSG_WINDOW;
}

static void
launch_waiting(struct net *net)
{
	struct keeper *keeper = &net->keeper;
	struct conn *conn;

	while ((conn = TAILQ_FIRST(&keeper->waiting)) != NULL &&
	    has_room(keeper)) {
		TAILQ_REMOVE(&keeper->waiting, conn, in_waiting);
		keeper->waiting_count--;
		launch(net, conn);
	}
}

void
keeper_submit(struct conn *conn)
{
	struct net *net = conn->net;
	struct keeper *keeper = &net->keeper;

	if (keeper->waiting_count == 0 && has_room(keeper)) {
		launch(net, conn);
		return;
	}
	if (keeper->waiting_count == KEEPER_WAITING ||
	    request_hold(conn) != 0) {
		if (request_is_unread(conn))
			answer_then_close(conn);
		answer_error(conn, 503, "too many requests wait already");
		return;
	}
	conn->state = CONN_WAITING;
	TAILQ_INSERT_TAIL(&keeper->waiting, conn, in_waiting);
	keeper->waiting_count++;
}

void
keeper_abandon(struct conn *conn)
{
	struct net *net = conn->net;
	struct flight *flight = conn->flight;

	if (conn->state == CONN_WAITING) {
		TAILQ_REMOVE(&net->keeper.waiting, conn, in_waiting);
		net->keeper.waiting_count--;
	}
	if (flight == NULL)
		return;
	flight->cancelled = true;
	send_number(net, MSG_NETKEEPER_CANCEL, flight->id, 0);
	flight_release(&net->keeper, flight);
	launch_waiting(net);
}

void
keeper_flushed(struct conn *conn)
{
	struct flight *flight = conn->flight;
	uint64_t credit;

	if (flight == NULL || !flight->answered)
		return;
	credit = flight->answer_got + MSG_WINDOW - flight->answer_credit;
	if (credit < CREDIT_STEP)
		return;
	flight->answer_credit += credit;
	send_number(conn->net, MSG_NETKEEPER_CREDIT, flight->id, credit);
}

/* ---- from the keeper ---- */

static int
on_nonce(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;
	char text[BASE64_LEN(16) + 1], body[64];
	struct iovec iov = { body, 0 };
	struct answer answer = { .status = 200, .body = &iov, .body_count = 1 };
	struct flight *flight;
	struct conn *conn;
	int error = flight_find(&net->keeper, msg->id, &flight);

	(void)chan;
	if (error != 0 || flight == NULL)
		return error;
	if (!flight->nonce)
		return KMS_EPROTO;
	conn = flight->conn;
	flight_release(&net->keeper, flight);
	base64_encode(msg->v[0].data, msg->v[0].len, text);
	memcpy(body, "{\"nonce\":\"", 10);
	memcpy(body + 10, text, sizeof(text) - 1);
	memcpy(body + 10 + sizeof(text) - 1, "\"}", 2);
	iov.iov_len = 10 + sizeof(text) - 1 + 2;
	answer_send(conn, &answer);
	launch_waiting(net);
	return 0;
}

enum {
	ANSWER_STATUS,
	ANSWER_CODE,
	ANSWER_MESSAGE,
	ANSWER_RETRY,
	ANSWER_SIGNATURE,
	ANSWER_SIGNATURE_V2,
	ANSWER_NEXT_NONCE,
	ANSWER_ENVELOPE,
	ANSWER_SENDER,
	ANSWER_NONCE,
	ANSWER_TOTAL,
	ANSWER_PIECE
};

static struct http_slice
slice_of(const struct msg_value *value)
{
	return (struct http_slice){ (const char *)value->data, value->len };
}

/* Whether it can stand in a header, or in a JSON string as it is. */
static bool
is_plain(const struct msg_value *value)
{
	for (size_t i = 0; i < value->len; i++) {
		uint8_t c = value->data[i];

		if (c <= 0x20 || c > 0x7e || c == '"' || c == '\\')
			return false;
	}
	return true;
}

/* Of encrypted_data: no configuration leads to more. */
#define ANSWER_TOTAL_MAX UINT32_MAX

static int
check_answer(const struct flight *flight, const struct msg *msg)
{
	const struct msg_value *v = msg->v;
	uint64_t status = v[ANSWER_STATUS].u;
	int good = status == 200;

	if (flight->answered || (!good && (status < 400 || status > 599)))
		return KMS_EPROTO;
	if (good ? v[ANSWER_ENVELOPE].u == 0 || flight->nonce ||
		    (flight->sync && !flight->handed_over)
		 : v[ANSWER_ENVELOPE].u != 0 || v[ANSWER_TOTAL].u != 0)
		return KMS_EPROTO;
	if (v[ANSWER_PIECE].len > v[ANSWER_TOTAL].u ||
	    v[ANSWER_TOTAL].u > ANSWER_TOTAL_MAX)
		return KMS_EPROTO;
	for (size_t i = ANSWER_SIGNATURE; i <= ANSWER_NONCE; i++) {
		if (i != ANSWER_ENVELOPE && !is_plain(&v[i]))
			return KMS_EPROTO;
	}
	return 0;
}

#define ENVELOPE_HEAD_MAX 700 /* 512 + 64 and the names */

static size_t
put(char *out, size_t at, const void *data, size_t len)
{
	if (len > 0)
		memcpy(out + at, data, len);
	return at + len;
}

#define PUT(out, at, literal) put(out, at, literal, sizeof(literal) - 1)

static size_t
envelope_head(const struct msg_value *v, char out[ENVELOPE_HEAD_MAX])
{
	size_t at = PUT(out, 0, "{\"sender_tee_pubkey\":\"");

	at = put(out, at, v[ANSWER_SENDER].data, v[ANSWER_SENDER].len);
	at = PUT(out, at, "\",\"nonce\":\"");
	at = put(out, at, v[ANSWER_NONCE].data, v[ANSWER_NONCE].len);
	return PUT(out, at, "\",\"encrypted_data\":\"");
}

static char envelope_tail[] = { '"', '}' };

/* The envelope, or its first part: the flight stays while more is to come. */
static void
send_envelope(struct net *net, struct flight *flight, struct answer *answer,
    const struct msg_value *v)
{
	struct conn *conn = flight->conn;
	char head[ENVELOPE_HEAD_MAX];
	struct iovec iov[3] = {
		{ head, envelope_head(v, head) },
		{ (void *)(uintptr_t)v[ANSWER_PIECE].data,
		    v[ANSWER_PIECE].len },
		{ envelope_tail, sizeof(envelope_tail) },
	};

	answer->body = iov;
	answer->body_count = 3;
	flight->answered = true;
	flight->answer_got = v[ANSWER_PIECE].len;
	flight->answer_left = v[ANSWER_TOTAL].u - flight->answer_got;
	if (flight->answer_left == 0) {
		flight_release(&net->keeper, flight);
	} else {
		answer->body_count = 2;
		answer->rest = flight->answer_left + sizeof(envelope_tail);
	}
	answer_send(conn, answer);
	if (answer->rest > 0 && http_flushed(conn))
		keeper_flushed(conn);
}

static int
on_answer(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;
	const struct msg_value *v = msg->v;
	struct answer answer = { .status = (int)v[ANSWER_STATUS].u,
		.retry_after = v[ANSWER_RETRY].u,
		.signature = slice_of(&v[ANSWER_SIGNATURE]),
		.signature_v2 = slice_of(&v[ANSWER_SIGNATURE_V2]),
		.next_nonce = slice_of(&v[ANSWER_NEXT_NONCE]) };
	struct flight *flight;
	struct conn *conn;
	int error = flight_find(&net->keeper, msg->id, &flight);

	(void)chan;
	if (error != 0 || flight == NULL)
		return error;
	if (check_answer(flight, msg) != 0)
		return KMS_EPROTO;
	conn = flight->conn;
	answer.of_node = flight->sync;
	if (answer.signature.len > 0 || answer.signature_v2.len > 0)
		request_authenticated(conn);
	if (flight->sync && !flight->handed_over)
		answer_then_close(conn);
	if (v[ANSWER_ENVELOPE].u != 0) {
		send_envelope(net, flight, &answer, v);
	} else {
		flight_release(&net->keeper, flight);
		answer_send_error(conn, &answer, slice_of(&v[ANSWER_CODE]),
		    slice_of(&v[ANSWER_MESSAGE]));
	}
	launch_waiting(net);
	return 0;
}

static int
on_body(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;
	struct iovec iov[2] = {
		{ (void *)(uintptr_t)msg->v[0].data, msg->v[0].len },
		{ envelope_tail, sizeof(envelope_tail) },
	};
	struct flight *flight;
	struct conn *conn;
	int error = flight_find(&net->keeper, msg->id, &flight);

	(void)chan;
	if (error != 0 || flight == NULL)
		return error;
	if (!flight->answered || msg->v[0].len > flight->answer_left ||
	    msg->v[0].len > flight->answer_credit - flight->answer_got)
		return KMS_EPROTO;
	flight->answer_left -= msg->v[0].len;
	flight->answer_got += msg->v[0].len;
	conn = flight->conn;
	if (flight->answer_left == 0) {
		flight_release(&net->keeper, flight);
		answer_more(conn, iov, 2, 1);
		launch_waiting(net);
		return 0;
	}
	answer_more(conn, iov, 1, 0);
	if (conn->flight == flight && http_flushed(conn))
		keeper_flushed(conn);
	return 0;
}

static int
on_go(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;
	struct flight *flight;
	int error = flight_find(&net->keeper, msg->id, &flight);

	(void)chan;
	if (error != 0 || flight == NULL)
		return error;
	if (!flight->sync || flight->wanted)
		return KMS_EPROTO;
	flight->wanted = true;
	request_authenticated(flight->conn);
	request_wanted(flight->conn, msg->v[0].u);
	return 0;
}

static int
on_credit(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;
	struct flight *flight = &net->keeper.flights[msg->id % KEEPER_FLIGHTS];
	uint64_t outstanding;

	(void)chan;
	if (msg->id > flight->id || msg->id == 0)
		return KMS_EPROTO;
	if (msg->id < flight->id || flight->conn == NULL || flight->answered)
		return 0;
	outstanding = flight->body_sent + MSG_WINDOW - flight->body_credit;
	if (msg->v[0].u > outstanding)
		return KMS_EPROTO;
	flight->body_credit += msg->v[0].u;
	if (has_body(flight))
		send_body(net, flight);
	return 0;
}

static int
on_state(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;

	(void)chan;
	return state_update(&net->state, msg);
}

static int
on_node(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;

	(void)chan;
	return state_node(&net->state, msg);
}

static int
on_peer(struct chan *chan, struct msg *msg, void *arg)
{
	struct net *net = arg;

	(void)chan;
	return metrics_peer_store(&net->peers, msg);
}

static const struct chan_handler handlers[] = {
	{ MSG_KEEPERNET_NONCE, on_nonce },
	{ MSG_KEEPERNET_ANSWER, on_answer },
	{ MSG_KEEPERNET_BODY, on_body },
	{ MSG_KEEPERNET_CREDIT, on_credit },
	{ MSG_KEEPERNET_STATE, on_state },
	{ MSG_KEEPERNET_NODE, on_node },
	{ MSG_KEEPERNET_PEER, on_peer },
	{ MSG_KEEPERNET_GO, on_go },
	{ 0, NULL },
};

static void
on_drained(struct chan *chan, void *arg)
{
	struct net *net = arg;
	struct keeper *keeper = &net->keeper;

	(void)chan;
	for (size_t i = 0; i < KEEPER_FLIGHTS; i++) {
		struct flight *flight = &keeper->flights[i];

		if (has_body(flight))
			send_body(net, flight);
	}
	launch_waiting(net);
}

/* kmsd starts us anew, with a channel to the keeper there is then. */
static void
on_closed(struct chan *chan, int error, void *arg)
{
	(void)chan;
	(void)arg;
	if (error == KMS_ECLOSED)
		log_info("the keeper's channel ended; exiting");
	else
		log_error("the keeper's channel ended: %s; exiting",
		    kms_strerror(error));
	_exit(error == KMS_ECLOSED ? 0 : 1);
}

int
keeper_open(struct net *net)
{
	struct keeper *keeper = &net->keeper;
	struct chan_config config = { .name = "keeper",
		.in = MSG_CHANNEL_KEEPER_NET,
		.out = MSG_CHANNEL_NET_KEEPER,
		.generation = (uint32_t)net->config.generation,
		.handlers = handlers,
		.closed = on_closed,
		.drained = on_drained,
		.arg = net,
		.queue_max = QUEUE_MAX };

	TAILQ_INIT(&keeper->waiting);
	for (size_t i = 0; i < KEEPER_FLIGHTS; i++)
		keeper->free[i] = (uint16_t)(KEEPER_FLIGHTS - 1 - i);
	keeper->free_count = KEEPER_FLIGHTS;
	return chan_open(&net->loop, FD_KEEPER, &config, &keeper->chan);
}
