#include "regress/tools/simchain_http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/http.h"

#define READ_SIZE 65536
#define HEAD_SPACE 192 /* of an answer */

struct simchain_http {
	uv_tcp_t listener;
	uv_loop_t *loop;
	struct simchain_rpc *rpc;
	struct connection *connections;
	size_t count;
	char read_space[READ_SIZE]; /* one read callback runs at a time */
};

enum phase {
	PHASE_HEAD,
	PHASE_BODY,
	PHASE_ANSWER, /* the request is complete, its answer held back */
	PHASE_WRITE,
	PHASE_CLOSING
};

struct connection {
	struct simchain_http *http;
	struct connection *prev, *next;
	uv_tcp_t tcp;
	uv_timer_t timer;
	uv_write_t write;
	unsigned int handles; /* not closed yet */
	enum phase phase;
	bool keep_alive;
	bool paused; /* not reading: too much is waiting */

	struct buf in; /* as received: what is not parsed yet */
	struct http_request request;
	struct http_body reader;
	struct buf body;
	struct buf answer;
	char head[HEAD_SPACE];
};

static void advance(struct connection *c);

/* ---- closing ----------------------------------------------------------- */

static void
on_closed(uv_handle_t *handle)
{
	struct connection *c = handle->data;

	if (--c->handles > 0)
		return;
	DL_DELETE(c->http->connections, c);
	c->http->count--;
	buf_free(&c->in);
	buf_free(&c->body);
	buf_free(&c->answer);
	free(c);
}

static void
connection_close(struct connection *c)
{
	if (c->phase == PHASE_CLOSING)
		return;
	c->phase = PHASE_CLOSING;
	uv_close((uv_handle_t *)&c->tcp, on_closed);
	uv_close((uv_handle_t *)&c->timer, on_closed);
}

static void
on_deadline(uv_timer_t *timer)
{
	connection_close(timer->data);
}

static void
deadline(struct connection *c, uint64_t ms)
{
	(void)uv_timer_start(&c->timer, on_deadline, ms, 0);
}

/* ---- answers ----------------------------------------------------------- */

static void
on_written(uv_write_t *write, int status)
{
	struct connection *c = write->data;

	if (c->phase != PHASE_WRITE)
		return;
	if (status != 0 || !c->keep_alive) {
		connection_close(c);
		return;
	}
	buf_clear(&c->body);
	buf_clear(&c->answer);
	http_request_init(&c->request);
	c->phase = PHASE_HEAD;
	deadline(c, SIMCHAIN_IDLE_MS);
	advance(c);
}

static void
answer(struct connection *c, const char *status)
{
	uv_buf_t parts[2];
	int head = snprintf(c->head, sizeof(c->head),
	    "HTTP/1.1 %s\r\nContent-Type: application/json\r\n"
	    "Content-Length: %zu\r\nConnection: %s\r\n\r\n",
	    status, c->answer.len, c->keep_alive ? "keep-alive" : "close");

	c->phase = PHASE_WRITE;
	deadline(c, SIMCHAIN_REQUEST_MS);
	parts[0] = uv_buf_init(c->head, (unsigned int)head);
	parts[1] =
	    uv_buf_init((char *)c->answer.data, (unsigned int)c->answer.len);
	c->write.data = c;
	if (uv_write(&c->write, (uv_stream_t *)&c->tcp, parts,
		c->answer.len > 0 ? 2 : 1, on_written) != 0)
		connection_close(c);
}

/* Nothing that follows a refused request can be believed. */
static void
refuse(struct connection *c, int status)
{
	char line[32];

	c->keep_alive = false;
	buf_clear(&c->answer);
	(void)snprintf(line, sizeof(line), "%d Refused", status);
	answer(c, line);
}

static void
on_delayed(uv_timer_t *timer)
{
	answer(timer->data, "200 OK");
}

static void on_stalled(uv_timer_t *timer);

static void
perform(struct connection *c)
{
	uint64_t delay_ms = 0;
	int error =
	    simchain_rpc_answer(c->http->rpc, (const char *)c->body.data,
		c->body.len, clock_now().wall_ms / 1000, &c->answer, &delay_ms);

	c->phase = PHASE_ANSWER;
	if (error == KMS_EAGAIN)
		(void)uv_timer_start(
		    &c->timer, on_stalled, SIMCHAIN_STALL_MS, 0);
	else if (error != 0)
		connection_close(c);
	else if (delay_ms > 0)
		(void)uv_timer_start(&c->timer, on_delayed, delay_ms, 0);
	else
		answer(c, "200 OK");
}

static void
on_stalled(uv_timer_t *timer)
{
	perform(timer->data);
}

/* ---- requests ---------------------------------------------------------- */

static void
go_on(struct connection *c)
{
	uv_buf_t text =
	    uv_buf_init((char *)"HTTP/1.1 100 Continue\r\n\r\n", 25);

	(void)uv_try_write((uv_stream_t *)&c->tcp, &text, 1);
}

static void
advance_head(struct connection *c)
{
	struct http_limits limits = http_limits_default;
	struct http_head *head = &c->request.head;
	size_t used;
	int error;

	limits.body = SIMCHAIN_BODY_MAX;
	error = http_request_parse(
	    &c->request, c->in.data, c->in.len, &limits, &used);
	if (error == KMS_EAGAIN)
		return;
	if (error == 0)
		error = http_body_init(&c->reader, head, &limits);
	if (error != 0)
		refuse(c, head->status != 0 ? head->status : 413);
	else if (!http_slice_is(http_text(head, c->request.target), "/"))
		refuse(c, 404);
	else if (!http_slice_is(http_text(head, c->request.method), "POST"))
		refuse(c, 405);
	if (c->phase != PHASE_HEAD)
		return;
	c->keep_alive = head->keep_alive;
	if (head->expect_continue && c->in.len == used)
		go_on(c);
	buf_consume(&c->in, used);
	c->phase = PHASE_BODY;
}

static void
advance_body(struct connection *c)
{
	const uint8_t *piece;
	size_t used, len;
	int error, full;

	do {
		error = http_body_feed(
		    &c->reader, c->in.data, c->in.len, &used, &piece, &len);
		full = len > 0 ? buf_append(&c->body, piece, len) : 0;
		buf_consume(&c->in, used);
	} while (error == KMS_EAGAIN && full == 0 && c->in.len > 0);
	if (error == KMS_EAGAIN && full == 0)
		return;
	if (error != 0 || full != 0)
		refuse(c, full != 0 ? 413 : c->reader.status);
	else
		perform(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *space);
static void on_space(uv_handle_t *handle, size_t size, uv_buf_t *space);

/* Do what can be done with the bytes that have come. */
static void
advance(struct connection *c)
{
	if (c->phase == PHASE_HEAD && c->in.len > 0)
		advance_head(c);
	if (c->phase == PHASE_BODY)
		advance_body(c);
	if (c->paused && c->phase != PHASE_CLOSING && c->in.len < READ_SIZE) {
		c->paused = false;
		if (uv_read_start((uv_stream_t *)&c->tcp, on_space, on_read) !=
		    0)
			connection_close(c);
	}
}

static void
on_space(uv_handle_t *handle, size_t size, uv_buf_t *space)
{
	struct connection *c = handle->data;

	(void)size;
	*space = uv_buf_init(c->http->read_space, READ_SIZE);
}

/* Reading goes on while an answer is held back, to see the other side leave;
 * what it sends meanwhile is kept up to a bound. */
static void
on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *space)
{
	struct connection *c = stream->data;

	if (n == 0)
		return;
	if (n < 0 || buf_append(&c->in, space->base, (size_t)n) != 0) {
		connection_close(c);
		return;
	}
	if (c->phase == PHASE_HEAD && c->in.len == (size_t)n)
		deadline(c, SIMCHAIN_REQUEST_MS);
	advance(c);
	if (c->phase != PHASE_CLOSING && c->in.len >= READ_SIZE) {
		c->paused = true;
		(void)uv_read_stop(stream);
	}
}

/* ---- listening --------------------------------------------------------- */

static struct connection *
connection_new(struct simchain_http *http)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->http = http;
	c->tcp.data = c->timer.data = c;
	c->handles = 2;
	buf_init(&c->in, 2 * READ_SIZE);
	buf_init(&c->body, SIMCHAIN_BODY_MAX);
	buf_init(&c->answer, SIMCHAIN_ANSWER_MAX);
	http_request_init(&c->request);
	(void)uv_tcp_init(http->loop, &c->tcp);
	(void)uv_timer_init(http->loop, &c->timer);
	DL_APPEND(http->connections, c);
	http->count++;
	return c;
}

static void
on_connection(uv_stream_t *listener, int status)
{
	struct simchain_http *http = listener->data;
	struct connection *c;

	if (status != 0)
		return;
	c = connection_new(http);
	if (c == NULL)
		return;
	if (uv_accept(listener, (uv_stream_t *)&c->tcp) != 0 ||
	    http->count > SIMCHAIN_CONNECTIONS_MAX ||
	    uv_tcp_nodelay(&c->tcp, 1) != 0 ||
	    uv_read_start((uv_stream_t *)&c->tcp, on_space, on_read) != 0) {
		connection_close(c);
		return;
	}
	deadline(c, SIMCHAIN_IDLE_MS);
}

/* "HOST:PORT" or "[HOST]:PORT", numeric. */
static int
parse_address(const char *text, struct sockaddr_storage *address)
{
	const char *colon = strrchr(text, ':');
	char host[64], *end;
	unsigned long port;
	size_t len;

	if (colon == NULL || colon == text || colon[1] < '0' || colon[1] > '9')
		return KMS_EINVAL;
	port = strtoul(colon + 1, &end, 10);
	len = (size_t)(colon - text);
	if (*end != '\0' || port > 65535 || len >= sizeof(host))
		return KMS_EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)address) == 0)
		return 0;
	if (host[0] != '[' || host[len - 1] != ']')
		return KMS_EINVAL;
	host[len - 1] = '\0';
	return uv_ip6_addr(
		   host + 1, (int)port, (struct sockaddr_in6 *)address) == 0
	    ? 0
	    : KMS_EINVAL;
}

static void
format_url(const uv_tcp_t *tcp, char *url, size_t size)
{
	struct sockaddr_storage name;
	char host[64] = "?";
	int len = sizeof(name);

	memset(&name, 0, sizeof(name));
	(void)uv_tcp_getsockname(tcp, (struct sockaddr *)&name, &len);
	if (name.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&name;

		(void)uv_ip6_name(in6, host, sizeof(host));
		(void)snprintf(url, size, "http://[%s]:%u", host,
		    (unsigned int)ntohs(in6->sin6_port));
	} else {
		const struct sockaddr_in *in = (struct sockaddr_in *)&name;

		(void)uv_ip4_name(in, host, sizeof(host));
		(void)snprintf(url, size, "http://%s:%u", host,
		    (unsigned int)ntohs(in->sin_port));
	}
}

int
simchain_http_start(uv_loop_t *loop, struct simchain_rpc *rpc,
    const char *address, char *url, size_t url_size, struct simchain_http **out)
{
	struct sockaddr_storage name;
	struct simchain_http *http;
	int error;

	memset(&name, 0, sizeof(name));
	if (parse_address(address, &name) != 0)
		return KMS_EINVAL;
	http = calloc(1, sizeof(*http));
	if (http == NULL)
		return KMS_ENOMEM;
	*out = http;
	http->loop = loop;
	http->rpc = rpc;
	(void)uv_tcp_init(loop, &http->listener);
	http->listener.data = http;
	error = uv_tcp_bind(&http->listener, (struct sockaddr *)&name, 0);
	if (error == 0)
		error = uv_listen(
		    (uv_stream_t *)&http->listener, 128, on_connection);
	if (error != 0) {
		errno = -error;
		return KMS_ESYS;
	}
	format_url(&http->listener, url, url_size);
	return 0;
}

void
simchain_http_stop(struct simchain_http *http)
{
	struct connection *c, *next;

	if (http == NULL)
		return;
	if (!uv_is_closing((uv_handle_t *)&http->listener))
		uv_close((uv_handle_t *)&http->listener, NULL);
	for (c = http->connections; c != NULL; c = next) {
		next = c->next;
		connection_close(c);
	}
}

void
simchain_http_free(struct simchain_http *http)
{
	free(http);
}
