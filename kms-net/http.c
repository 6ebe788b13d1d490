#include "kms-net/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-net/answer.h"
#include "kms-net/net.h"
#include "proto/fds.h"

#define TICK_MS 250
#define LINGER_MS 2000
#define FRESH_MS 1000  /* to the first byte of a request */
#define SLOW_MS 1000   /* from a request's first byte to its last */
#define SHED_LOOKS 64  /* of one new connection for an idle one */
#define SLOW_LOOKS 256 /* ... for a slow one */
#define ACCEPTS_MAX 64 /* of one event, so that others get their turn */

static void on_conn(uv_poll_t *poll, int status, int events);

/* ---- deadlines ---- */

static bool
is_listed_idle(const struct conn *conn)
{
	return conn->due == DUE_IDLE && conn->client != NULL;
}

static void
leave_due(struct conn *conn)
{
	TAILQ_REMOVE(&conn->net->http.due[conn->due], conn, in_due);
	if (is_listed_idle(conn))
		TAILQ_REMOVE(&conn->client->idle, conn, in_client);
}

static void
enter_due(struct conn *conn, enum conn_due due)
{
	struct net *net = conn->net;

	conn->due = due;
	conn->deadline = uv_now(&net->loop) + net->http.timeout[due];
	TAILQ_INSERT_TAIL(&net->http.due[due], conn, in_due);
	if (is_listed_idle(conn))
		TAILQ_INSERT_TAIL(&conn->client->idle, conn, in_client);
}

void
http_due(struct conn *conn, enum conn_due due)
{
	leave_due(conn);
	enter_due(conn, due);
}

/* What waits for the keeper is told so; what drips or stalls is cut. */
static void
expire(struct conn *conn)
{
	if (conn->due != DUE_LINGER && conn->due != DUE_IDLE)
		metrics[METRIC_NET_DEADLINES]++;
	if (conn->state != CONN_WAITING && conn->state != CONN_KEEPER) {
		http_close(conn);
		return;
	}
	keeper_abandon(conn);
	answer_then_close(conn);
	answer_error(conn, 503, "the request took too long");
}

static void accept_some(struct listener *listener);

static void
on_tick(uv_timer_t *tick)
{
	struct net *net = tick->data;
	uint64_t now = uv_now(&net->loop);
	struct conn *conn;

	for (size_t due = 0; due < DUES; due++) {
		/* An expired one leaves the list, or joins it anew. */
		while ((conn = TAILQ_FIRST(&net->http.due[due])) != NULL &&
		    conn->deadline <= now)
			expire(conn);
	}
	for (size_t i = 0; i < net->http.listener_count; i++) {
		if (net->http.listeners[i].waiting)
			accept_some(&net->http.listeners[i]);
	}
}

/* ---- the end of a connection ---- */

static void
on_conn_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;

	bytes_free(&conn->in, NULL);
	free(conn);
}

void
http_close(struct conn *conn)
{
	if (conn->state == CONN_CLOSED)
		return;
	keeper_abandon(conn);
	leave_due(conn);
	/* Counted as the client's, which may end here. */
	bytes_free(&conn->out, conn->memory);
	conn->out_sent = 0;
	request_free(conn);
	conn->memory = &conn->net->memory;
	client_release(conn->client);
	conn->client = NULL;
	conn->state = CONN_CLOSED;
	conn->net->http.connections--;
	metrics[METRIC_NET_CONNECTIONS] = conn->net->http.connections;
	uv_close((uv_handle_t *)&conn->poll, on_conn_closed);
	(void)close(conn->fd);
}

/*
 * Closing with unread input would reset the connection, and the client could
 * lose the answer: half close, and drop what still comes for a while.
 */
static void
linger(struct conn *conn)
{
	if (conn->eof || shutdown(conn->fd, SHUT_WR) != 0) {
		http_close(conn);
		return;
	}
	bytes_free(&conn->in, NULL);
	request_free(conn);
	conn->state = CONN_LINGER;
	http_due(conn, DUE_LINGER);
}

/* ---- reading and writing ---- */

/* Whether the body may be read is not decided yet. */
static bool
is_paused(const struct conn *conn)
{
	return (conn->state == CONN_WAITING || conn->state == CONN_KEEPER) &&
	    request_is_unread(conn);
}

static void
update(struct conn *conn)
{
	int events = 0;

	if (conn->state == CONN_CLOSED)
		return;
	if (!conn->eof && conn->in.len < HTTP_INPUT_MAX && !is_paused(conn))
		events |= UV_READABLE;
	if (!http_flushed(conn))
		events |= UV_WRITABLE;
	if (events == conn->events)
		return;
	conn->events = events;
	(void)uv_poll_start(&conn->poll, events, on_conn);
}

/* After a request, and after input was understood: what comes next? */
static void
settle(struct conn *conn)
{
	if (conn->state == CONN_HEAD || conn->state == CONN_BODY) {
		if (conn->eof)
			http_close(conn);
		else if (!conn->begun && conn->due != DUE_IDLE)
			http_due(conn, DUE_IDLE);
	}
	update(conn);
}

static void
understand(struct conn *conn, const uint8_t *data, size_t len)
{
	conn->busy = true;
	request_input(conn, data, len);
	conn->busy = false;
	settle(conn);
}

void
http_resume(struct conn *conn)
{
	understand(conn, conn->in.data, conn->in.len);
}

/* The answer is with the kernel: the next request, or the end. */
static void
finish(struct conn *conn)
{
	request_free(conn);
	conn->answered = false;
	if (conn->close_after) {
		if (conn->unread || conn->in.len > 0)
			linger(conn);
		else
			http_close(conn);
		update(conn);
		return;
	}
	request_init(&conn->request);
	conn->state = CONN_HEAD;
	conn->begun = false;
	if (!conn->busy)
		understand(conn, conn->in.data, conn->in.len);
}

void
http_answered(struct conn *conn)
{
	conn->answered = true;
	if (http_flushed(conn))
		finish(conn);
	else
		http_due(conn, DUE_ANSWER);
}

bool
http_flushed(const struct conn *conn)
{
	return conn->out.len == conn->out_sent;
}

/* Queue what is left of the pieces behind the first sent bytes. */
static bool
queue(struct conn *conn, const struct iovec *iov, int count, size_t sent)
{
	for (int i = 0; i < count; i++) {
		size_t skip = sent < iov[i].iov_len ? sent : iov[i].iov_len;

		sent -= skip;
		if (bytes_append(&conn->out, conn->memory,
			(const uint8_t *)iov[i].iov_base + skip,
			iov[i].iov_len - skip, 0) != 0) {
			http_close(conn);
			return false;
		}
	}
	update(conn);
	return true;
}

bool
http_write(struct conn *conn, const struct iovec *iov, int count)
{
	size_t total = 0;
	ssize_t sent = 0;

	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (http_flushed(conn)) {
		sent = writev(conn->fd, iov, count);
		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			http_close(conn);
			return false;
		}
		if (sent < 0)
			sent = 0;
	}
	if ((size_t)sent == total)
		return true;
	return queue(conn, iov, count, (size_t)sent);
}

static void
on_writable(struct conn *conn)
{
	ssize_t sent = write(conn->fd, conn->out.data + conn->out_sent,
	    conn->out.len - conn->out_sent);

	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			http_close(conn);
		return;
	}
	conn->out_sent += (size_t)sent;
	if (!http_flushed(conn))
		return;
	bytes_free(&conn->out, conn->memory);
	conn->out_sent = 0;
	if (conn->answered)
		finish(conn);
	else
		keeper_flushed(conn);
	update(conn);
}

/*
 * Of a body with a declared length no byte behind it is read, of a chunked
 * one no more than can be kept; so what follows a request stays within
 * HTTP_INPUT_MAX.
 */
static size_t
read_size(const struct conn *conn)
{
	const struct request *request = &conn->request;
	uint64_t left;

	if (conn->state == CONN_LINGER)
		return HTTP_READ_MAX;
	if (conn->state != CONN_BODY ||
	    request->http.head.framing != HTTP_BODY_LENGTH)
		return HTTP_INPUT_MAX - conn->in.len;
	left = request->http.head.content_length - request->body.total;
	return left < HTTP_READ_MAX ? (size_t)left : HTTP_READ_MAX;
}

static void
on_readable(struct conn *conn)
{
	uint8_t *input = conn->net->http.input;
	size_t size = read_size(conn);
	ssize_t got = read(conn->fd, input, size);

	if (got < 0) {
		if (errno != EAGAIN && errno != EINTR)
			http_close(conn);
		return;
	}
	if (conn->state == CONN_LINGER) {
		if (got == 0)
			http_close(conn);
		return;
	}
	if (got == 0) {
		conn->eof = true;
		settle(conn);
		return;
	}
	if (conn->in.len == 0) {
		understand(conn, input, (size_t)got);
		return;
	}
	if (bytes_append(&conn->in, NULL, input, (size_t)got, HTTP_INPUT_MAX) !=
	    0) {
		http_close(conn);
		return;
	}
	understand(conn, conn->in.data, conn->in.len);
}

static void
on_conn(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;

	if (status < 0) {
		http_close(conn);
		return;
	}
	if (events & UV_READABLE)
		on_readable(conn);
	if (events & UV_WRITABLE && conn->state != CONN_CLOSED &&
	    !http_flushed(conn))
		on_writable(conn);
}

/* ---- accepting ---- */

/* Accepted just now, and its first request is yet to come. */
static bool
is_fresh(const struct conn *conn)
{
	const struct net *net = conn->net;

	return !conn->asked &&
	    conn->deadline + FRESH_MS >
	    uv_now(&net->loop) + net->http.timeout[DUE_IDLE];
}

static struct conn *
oldest_idle(struct net *net, struct client *client)
{
	struct conn *conn;
	int looks = 0;

	if (client == NULL)
		return TAILQ_FIRST(&net->http.due[DUE_IDLE]);
	TAILQ_FOREACH (conn, &client->idle, in_client) {
		if (!is_fresh(conn))
			return conn;
		if (++looks == SHED_LOOKS)
			break;
	}
	return NULL;
}

static bool
has_room(const struct net *net, const struct client *client)
{
	return client != NULL
	    ? client->connections <= net->http.per_client
	    : net->http.connections < net->config.max_connections;
}

/*
 * Close idle connections, oldest first, until the client (NULL: all of them)
 * has room for one more. One whose request has arrived and was only not read
 * yet is not idle. Nor is a fresh one, as long as it is in the way of its own
 * client alone: the newcomer is then told 503, rather than that one nothing.
 */
static bool
shed_idle(struct net *net, struct client *client)
{
	for (int looks = 0; !has_room(net, client); looks++) {
		struct conn *conn = oldest_idle(net, client);

		if (conn == NULL || looks == SHED_LOOKS)
			return false;
		on_readable(conn);
		if (conn->state != CONN_HEAD || conn->begun)
			continue;
		metrics[METRIC_NET_SHED]++;
		http_close(conn);
	}
	return true;
}

/*
 * With no idle one left, the oldest whose request has been coming in for too
 * long: else a few clients that send a byte each could keep all others out.
 */
static bool
shed_slow(struct net *net)
{
	uint64_t timeout = net->http.timeout[DUE_REQUEST];
	uint64_t now = uv_now(&net->loop);
	struct conn *conn;
	int looked_at = 0;

	TAILQ_FOREACH (conn, &net->http.due[DUE_REQUEST], in_due) {
		if (conn->deadline + SLOW_MS > now + timeout ||
		    ++looked_at > SLOW_LOOKS)
			return false;
		if (conn->state == CONN_HEAD || conn->state == CONN_BODY)
			break;
	}
	if (conn == NULL)
		return false;
	metrics[METRIC_NET_SHED]++;
	http_close(conn);
	return true;
}

static bool
is_trusted(const struct net *net, const struct address *peer)
{
	for (size_t i = 0; i < net->trusted_count; i++) {
		if (network_contains(&net->trusted[i], peer))
			return true;
	}
	return false;
}

static void
turn_away(struct net *net, int fd)
{
	static const char body[] = "{\"code\":\"service_unavailable\","
				   "\"message\":\"too many connections\"}";
	char text[512], id[ANSWER_ID_LEN + 1] = "";
	int len;

	metrics[METRIC_NET_SHED]++;
	answer_put_id(keeper_new_id(&net->keeper), id);
	len = snprintf(text, sizeof(text),
	    "HTTP/1.1 503 Service Unavailable\r\n"
	    "Content-Type: application/json\r\nContent-Length: %zu\r\n"
	    "X-Request-Id: %s\r\nRetry-After: 1\r\n"
	    "Connection: close\r\n\r\n%s",
	    sizeof(body) - 1, id, body);
	/* Closing with unread input would reset it, and lose the answer. */
	if (read(fd, net->http.input, sizeof(net->http.input)) != 0 &&
	    write(fd, text, (size_t)len) > 0)
		(void)shutdown(fd, SHUT_WR);
	(void)close(fd);
}

static struct conn *
conn_new(struct listener *listener, int fd, struct client *client,
    const struct address *peer)
{
	struct net *net = listener->net;
	struct conn *conn = calloc(1, sizeof(*conn));

	if (conn == NULL)
		return NULL;
	if (uv_poll_init(&net->loop, &conn->poll, fd) != 0) {
		free(conn);
		return NULL;
	}
	conn->poll.data = conn;
	conn->net = net;
	conn->fd = fd;
	conn->peer = *peer;
	conn->client = client;
	conn->memory = client != NULL ? &client->memory : &net->memory;
	conn->trusted = client == NULL;
	conn->metrics_only = listener->metrics_only;
	request_init(&conn->request);
	return conn;
}

static void
welcome(struct listener *listener, int fd, const struct address *peer)
{
	struct net *net = listener->net;
	struct address key = address_client(peer);
	struct client *client = NULL;
	struct conn *conn = NULL;

	if (!is_trusted(net, peer)) {
		client = client_of(&net->clients, &key);
		if (client == NULL)
			goto away;
		/* Counted first: making room may take its last connection. */
		client->connections++;
	}
	if (client != NULL && !shed_idle(net, client))
		goto away;
	if (!shed_idle(net, NULL) && !shed_slow(net))
		goto away;
	conn = conn_new(listener, fd, client, peer);
	if (conn == NULL)
		goto away;
	metrics[METRIC_NET_ACCEPTED]++;
	metrics[METRIC_NET_CONNECTIONS] = ++net->http.connections;
	enter_due(conn, DUE_IDLE);
	update(conn);
	return;

away:
	client_release(client);
	turn_away(net, fd);
}

static void
accept_later(struct listener *listener)
{
	log_warn("accept: %s", strerror(errno));
	listener->waiting = true;
	(void)uv_poll_stop(&listener->poll);
}

static void
on_listener(uv_poll_t *poll, int status, int events)
{
	(void)events;
	if (status >= 0)
		accept_some(poll->data);
}

static void
accept_some(struct listener *listener)
{
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		struct address peer;
		int fd = accept4(listener->fd, (struct sockaddr *)&from, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EAGAIN)
				break;
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			accept_later(listener);
			return;
		}
		if (address_from_socket(&from, &peer) != 0)
			(void)close(fd);
		else
			welcome(listener, fd, &peer);
	}
	if (listener->waiting) {
		listener->waiting = false;
		(void)uv_poll_start(&listener->poll, UV_READABLE, on_listener);
	}
}

static int
listener_open(struct net *net, int fd, bool metrics_only)
{
	struct listener *l = &net->http.listeners[net->http.listener_count];

	*l = (struct listener){
		.net = net, .fd = fd, .metrics_only = metrics_only
	};
	if (uv_poll_init(&net->loop, &l->poll, fd) != 0)
		return KMS_ESYS;
	l->poll.data = l;
	net->http.listener_count++;
	return 0;
}

/* Every deadline of a list moves alike, so that its order holds. */
static void
set_timeout(struct http *http, enum conn_due due, uint64_t timeout)
{
	struct conn *conn;

	TAILQ_FOREACH (conn, &http->due[due], in_due) {
		conn->deadline += timeout - http->timeout[due];
	}
	http->timeout[due] = timeout;
}

void
http_reconfigured(struct net *net)
{
	struct http *http = &net->http;
	uint64_t share = net->config.max_connections / 4;

	set_timeout(http, DUE_IDLE, net->config.idle_timeout);
	set_timeout(http, DUE_REQUEST, net->config.request_timeout);
	set_timeout(http, DUE_ANSWER, net->config.request_timeout);
	http->per_client = share > 16 ? share : 16;
}

int
http_open(struct net *net)
{
	struct http *http = &net->http;

	for (size_t due = 0; due < DUES; due++)
		TAILQ_INIT(&http->due[due]);
	http->timeout[DUE_SYNC] = net->config.sync_timeout;
	http->timeout[DUE_LINGER] = LINGER_MS;
	http_reconfigured(net);
	(void)uv_timer_init(&net->loop, &http->tick);
	http->tick.data = net;
	(void)uv_timer_start(&http->tick, on_tick, TICK_MS, TICK_MS);
	if (listener_open(net, FD_LISTEN, false) != 0)
		return KMS_ESYS;
	if (net->config.metrics_separate)
		return listener_open(net, FD_METRICS, true);
	return 0;
}

void
http_accept(struct net *net)
{
	if (net->http.accepting)
		return;
	net->http.accepting = true;
	for (size_t i = 0; i < net->http.listener_count; i++)
		(void)uv_poll_start(
		    &net->http.listeners[i].poll, UV_READABLE, on_listener);
}
