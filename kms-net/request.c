#include "kms-net/request.h"

#include <string.h>

#include "common/err.h"
#include "kms-net/answer.h"
#include "kms-net/net.h"

void
request_init(struct request *request)
{
	http_request_init(&request->http);
	request->began_ns = 0;
	request->id = 0;
	request->head_len = 0;
	request->route = NULL;
	request->data = NULL;
	request->data_len = 0;
	request->small_only = false;
	request->counted = false;
	request->head_only = false;
}

bool
request_is_unread(const struct conn *conn)
{
	const struct request *request = &conn->request;

	return request->route != NULL && request->route->flags & ROUTE_SYNC &&
	    request->data == NULL;
}

void
request_free(struct conn *conn)
{
	bytes_free(&conn->request.head, conn->memory);
	bytes_free(&conn->request.content, conn->memory);
}

static const char *
moved(const char *old, const uint8_t *from, const uint8_t *to)
{
	return (const char *)to + (old - (const char *)from);
}

static int
hold_content(struct request *request, struct budget *memory)
{
	const uint8_t *from = request->data;
	struct json_envelope *envelope = &request->envelope;
	int error = bytes_append(&request->content, memory, from,
	    request->data_len, request->data_len);

	if (error != 0)
		return error;
	request->data = request->content.data;
	envelope->sender.data =
	    moved(envelope->sender.data, from, request->data);
	envelope->nonce.data = moved(envelope->nonce.data, from, request->data);
	envelope->data.data = moved(envelope->data.data, from, request->data);
	return 0;
}

int
request_hold(struct conn *conn)
{
	struct request *request = &conn->request;
	struct budget *memory = conn->memory;
	int error;

	if (request->head.data == NULL) {
		error = bytes_append(&request->head, memory,
		    request->http.head.base, request->head_len,
		    request->head_len);
		if (error != 0)
			return error;
		request->http.head.base = (const char *)request->head.data;
	}
	if (request->data_len > 0 && request->content.data == NULL)
		return hold_content(request, memory);
	return 0;
}

/* ---- rate limits ---- */

/* Whom to count; false: nobody, the bounds for all together must do. */
static bool
client_of_request(const struct conn *conn, struct address *client)
{
	struct address forwarded;
	int error;

	*client = address_client(&conn->peer);
	if (!conn->trusted)
		return true;
	error = address_forwarded(&conn->request.http.head, conn->net->trusted,
	    conn->net->trusted_count, &forwarded);
	if (error == 0)
		*client = address_client(&forwarded);
	return error != KMS_ENOENT;
}

/* 0, or the seconds until the client may try again. */
static unsigned int
count_request(struct conn *conn, const struct route *route)
{
	struct request *request = &conn->request;
	enum limit_kind kind = LIMIT_REQUEST;

	if (route != NULL && route->flags & ROUTE_UNCOUNTED)
		return 0;
	if (route != NULL && route->flags & ROUTE_NONCE)
		kind = LIMIT_NONCE;
	request->counted = client_of_request(conn, &request->client);
	if (!request->counted)
		return 0;
	return limit_take(&conn->net->limit, &request->client, kind,
	    uv_now(&conn->net->loop));
}

void
request_authenticated(struct conn *conn)
{
	struct request *request = &conn->request;

	if (!request->counted)
		return;
	request->counted = false;
	limit_give(&conn->net->limit, &request->client, LIMIT_REQUEST);
	limit_give(&conn->net->limit, &request->client, LIMIT_NONCE);
}

/* ---- the head ---- */

static bool
has_body(const struct http_head *head)
{
	return head->framing == HTTP_BODY_CHUNKED ||
	    (head->framing == HTTP_BODY_LENGTH && head->content_length > 0);
}

/*
 * The request is answered from its head: of the len bytes behind it, how many
 * are its body? A body that is not all here is not waited for.
 */
static size_t
skip_body(struct conn *conn, size_t len)
{
	const struct http_head *head = &conn->request.http.head;

	if (!has_body(head))
		return 0;
	if (head->framing == HTTP_BODY_LENGTH && head->content_length <= len)
		return (size_t)head->content_length;
	answer_then_close(conn);
	return len;
}

static size_t
refuse(struct conn *conn, size_t len, int status, const char *message)
{
	size_t skipped = skip_body(conn, len);

	answer_error(conn, status, message);
	return skipped;
}

static size_t
refuse_with(
    struct conn *conn, size_t len, struct answer *answer, const char *message)
{
	const char *code = answer_code(answer->status);
	size_t skipped = skip_body(conn, len);

	answer_send_error(conn, answer,
	    (struct http_slice){ code, strlen(code) },
	    (struct http_slice){ message, strlen(message) });
	return skipped;
}

static size_t
refuse_rate(struct conn *conn, size_t len, unsigned int retry_after)
{
	struct answer answer = { .status = 429, .retry_after = retry_after };

	metrics[METRIC_NET_RATE_LIMITED]++;
	return refuse_with(conn, len, &answer, "too many requests");
}

static size_t
refuse_method(struct conn *conn, size_t len, unsigned int allowed)
{
	char allow[ROUTE_ALLOW_MAX];
	struct answer answer = { .status = 405, .allow = allow };

	route_allow(allowed, allow);
	return refuse_with(
	    conn, len, &answer, "the path does not take this method");
}

/* The metrics socket has the metrics alone; where there is one, the API socket
 * has all but them. */
static bool
is_here(const struct conn *conn, const struct route *route)
{
	bool of_metrics = (route->flags & ROUTE_METRICS) != 0;

	if (conn->metrics_only)
		return of_metrics;
	return !of_metrics || !conn->net->config.metrics_separate;
}

static bool
is_json(const struct http_head *head)
{
	struct http_slice type;
	const char *end;

	if (http_header_find(head, "content-type", &type) != 1)
		return false;
	end = memchr(type.data, ';', type.len);
	if (end != NULL)
		type.len = (size_t)(end - type.data);
	while (type.len > 0 &&
	    (type.data[type.len - 1] == ' ' || type.data[type.len - 1] == '\t'))
		type.len--;
	return http_slice_is_nocase(type, "application/json");
}

static void
send_continue(struct conn *conn)
{
	static char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct iovec iov = { text, sizeof(text) - 1 };

	(void)http_write(conn, &iov, 1);
}

/* A body is wanted and allowed: take it where it lies, or begin to read. */
static size_t
begin_body(struct conn *conn, const uint8_t *data, size_t len)
{
	struct request *request = &conn->request;
	const struct http_head *head = &request->http.head;
	uint64_t length = head->content_length;

	if (head->framing == HTTP_BODY_LENGTH && length <= len) {
		request->data = data;
		request->data_len = (size_t)length;
		request->route->answer(conn);
		return (size_t)length;
	}
	if (request_hold(conn) != 0)
		return refuse(conn, len, 503, "too many bodies are being read");
	conn->state = CONN_BODY;
	if (head->expect_continue && len == 0)
		send_continue(conn);
	return 0;
}

/* The head goes to the keeper; what is here of the body stays where it is. */
static size_t
begin_sync(struct conn *conn, size_t len)
{
	struct request *request = &conn->request;

	if (!conn->net->state.known)
		return refuse(conn, len, 503, conn->net->state.reason);
	if (request_hold(conn) != 0)
		return refuse(conn, len, 503, "too many bodies are being read");
	http_due(conn, DUE_SYNC);
	request->route->answer(conn);
	return 0;
}

static size_t
check_body(struct conn *conn, const uint8_t *data, size_t len)
{
	struct request *request = &conn->request;
	const struct http_head *head = &request->http.head;
	const struct net_config *config = &conn->net->config;
	struct http_limits limits = http_limits_default;
	bool sync = (request->route->flags & ROUTE_SYNC) != 0;

	if (!has_body(head))
		return refuse(conn, len, 400, "expected a body");
	if (!is_json(head))
		return refuse(
		    conn, len, 400, "expected Content-Type: application/json");
	limits.body = sync ? config->max_sync_body : config->max_body;
	if (http_body_init(&request->body, head, &limits) != 0)
		return refuse(
		    conn, len, request->body.status, request->body.reason);
	return sync ? begin_sync(conn, len) : begin_body(conn, data, len);
}

/* A whole head was read; data is what follows. Returns what of it was used. */
static size_t
route_request(struct conn *conn, const uint8_t *data, size_t len)
{
	struct request *request = &conn->request;
	const struct http_head *head = &request->http.head;
	const struct route *route;
	unsigned int allowed, retry_after;
	size_t skipped;

	route = route_find(http_text(head, request->http.method),
	    http_text(head, request->http.target), &allowed);
	request->route = route;
	retry_after = count_request(conn, route);
	if (retry_after > 0)
		return refuse_rate(conn, len, retry_after);
	if (route == NULL && allowed != 0 && !conn->metrics_only)
		return refuse_method(conn, len, allowed);
	if (route == NULL || !is_here(conn, route))
		return refuse(conn, len, 404, "there is nothing at this path");
	if (route->flags & ROUTE_READY && !conn->net->state.ready)
		return refuse(conn, len, 503, conn->net->state.reason);
	if (route->flags & (ROUTE_BODY | ROUTE_SYNC))
		return check_body(conn, data, len);
	if (has_body(head))
		return refuse(conn, len, 400, "expected no body");
	skipped = skip_body(conn, len);
	route->answer(conn);
	return skipped;
}

static size_t
read_head(struct conn *conn, const uint8_t *data, size_t len)
{
	struct http_request *http = &conn->request.http;
	struct http_limits limits = http_limits_default;
	size_t used;
	int error;

	if (!conn->begun) {
		conn->begun = conn->asked = true;
		conn->request.began_ns = uv_hrtime();
		http_due(conn, DUE_REQUEST);
	}
	limits.body = UINT64_MAX >> 1; /* the route's own limit decides */
	error = http_request_parse(http, data, len, &limits, &used);
	if (error == KMS_EAGAIN)
		return 0;
	conn->request.head_only =
	    http_slice_is(http_text(&http->head, http->method), "HEAD");
	if (error != 0) {
		metrics[METRIC_NET_MALFORMED]++;
		answer_then_close(conn);
		answer_error(conn, http->head.status, http->head.reason);
		return len;
	}
	conn->request.head_len = used;
	conn->close_after = !http->head.keep_alive;
	conn->unread = conn->close_after && len > used;
	return used + route_request(conn, data + used, len - used);
}

/* ---- the body ---- */

static size_t
refuse_body(struct conn *conn, size_t len, int status, const char *message)
{
	if (status == 413 && conn->request.small_only) {
		status = 503;
		message = "the node takes no large requests now";
	}
	keeper_abandon(conn); /* of ROUTE_SYNC: it waits for the body */
	answer_then_close(conn);
	answer_error(conn, status, message);
	return len;
}

static size_t
read_body(struct conn *conn, const uint8_t *data, size_t len)
{
	struct request *request = &conn->request;
	const struct http_head *head = &request->http.head;
	size_t at = 0, used, piece_len;
	size_t most = head->framing == HTTP_BODY_LENGTH
	    ? (size_t)head->content_length
	    : 0;
	const uint8_t *piece;
	int error = KMS_EAGAIN;

	while (error == KMS_EAGAIN && at < len) {
		error = http_body_feed(&request->body, data + at, len - at,
		    &used, &piece, &piece_len);
		at += used;
		if (piece_len > 0 &&
		    bytes_append(&request->content, conn->memory, piece,
			piece_len, most) != 0)
			return refuse_body(
			    conn, len, 503, "too many bodies are being read");
	}
	if (error == KMS_EAGAIN)
		return at;
	if (error != 0) {
		if (request->body.status == 400)
			metrics[METRIC_NET_MALFORMED]++;
		return refuse_body(
		    conn, len, request->body.status, request->body.reason);
	}
	request->data = request->content.data;
	request->data_len = request->content.len;
	request->route->answer(conn);
	return at;
}

void
request_input(struct conn *conn, const uint8_t *data, size_t len)
{
	size_t at = 0, used;

	do {
		if (at == len)
			break;
		if (conn->state == CONN_HEAD)
			used = read_head(conn, data + at, len - at);
		else if (conn->state == CONN_BODY)
			used = read_body(conn, data + at, len - at);
		else
			break;
		at += used;
	} while (used > 0);
	if (conn->state == CONN_CLOSED || conn->state == CONN_LINGER)
		return;
	if (conn->in.len > 0) {
		bytes_consume(&conn->in, at);
		if (conn->in.len == 0)
			bytes_free(&conn->in, NULL);
	} else if (at < len &&
	    bytes_append(
		&conn->in, NULL, data + at, len - at, HTTP_INPUT_MAX) != 0) {
		http_close(conn);
	}
}

void
request_wanted(struct conn *conn, uint64_t most)
{
	struct request *request = &conn->request;
	const struct http_head *head = &request->http.head;
	struct http_limits limits = http_limits_default;

	limits.body = conn->net->config.max_sync_body;
	request->small_only = most < limits.body;
	if (request->small_only)
		limits.body = most;
	conn->state = CONN_BODY;
	if (http_body_init(&request->body, head, &limits) != 0) {
		(void)refuse_body(
		    conn, 0, request->body.status, request->body.reason);
		return;
	}
	if (head->expect_continue && conn->in.len == 0)
		send_continue(conn);
	http_resume(conn);
}
