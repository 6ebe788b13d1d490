#include "kms-keeper/capsule_http.h"

#include <string.h>

#include "common/err.h"

#define REQUEST_HEAD_MAX 512

int
capsule_http_request(struct buf *out, const char *host, const char *target,
    const struct buf *body)
{
	int error;

	if (body == NULL)
		return buf_printf(out,
		    "GET %s HTTP/1.1\r\nHost: %s\r\n"
		    "Accept: application/json\r\n\r\n",
		    target, host);
	if (body->len > CAPSULE_REQUEST_MAX)
		return KMS_ETOOBIG;
	error = buf_printf(out,
	    "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json\r\n"
	    "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
	    target, host, body->len);
	return error != 0 ? error : buf_append(out, body->data, body->len);
}

void
capsule_http_init(struct capsule_http *http, size_t body_max)
{
	memset(http, 0, sizeof(*http));
	http_response_init(&http->response);
	buf_init(&http->head, CAPSULE_HEAD_MAX);
	buf_init(&http->body,
	    body_max < CAPSULE_ANSWER_MAX ? body_max : CAPSULE_ANSWER_MAX);
}

void
capsule_http_free(struct capsule_http *http)
{
	buf_free(&http->head);
	buf_free(&http->body);
}

static struct http_limits
limits_of(const struct capsule_http *http)
{
	struct http_limits limits = http_limits_default;

	limits.head = CAPSULE_HEAD_MAX - http->heads;
	limits.body = http->body.max;
	return limits;
}

static int
refuse(struct capsule_http *http, int error, const char *reason)
{
	http->reason = reason;
	return error;
}

/*
 * A head, or a part of one. *used of the len bytes belong to it: those that
 * were taken into http->head, less what turns out to lie behind its end.
 */
static int
read_head(
    struct capsule_http *http, const uint8_t *data, size_t len, size_t *used)
{
	struct http_limits limits = limits_of(http);
	size_t before = http->head.len, end;
	size_t room = http->head.max - before;
	int error;

	*used = len < room ? len : room;
	error = buf_append(&http->head, data, *used);
	if (error != 0)
		return refuse(http, error, "out of memory");
	error = http_response_parse(
	    &http->response, http->head.data, http->head.len, &limits, &end);
	if (error == KMS_EAGAIN && http->head.len == http->head.max)
		return refuse(http, KMS_ETOOBIG, "expected a shorter head");
	if (error == KMS_EAGAIN)
		return error;
	if (error != 0)
		return refuse(http, error, http->response.head.reason);
	*used = end - before;
	if (http->response.code >= 200) {
		http->in_body = true;
		http->head.len = end;
		return http_body_init(
		    &http->reader, &http->response.head, &limits);
	}
	/* 100 Continue and its like: the answer is still to come. */
	http->heads += end;
	buf_clear(&http->head);
	http_response_init(&http->response);
	return KMS_EAGAIN;
}

static int
read_body(
    struct capsule_http *http, const uint8_t *data, size_t len, size_t *used)
{
	const uint8_t *piece;
	size_t piece_len;
	int error =
	    http_body_feed(&http->reader, data, len, used, &piece, &piece_len);

	if (error != 0 && error != KMS_EAGAIN)
		return refuse(http, error, http->reader.reason);
	if (piece_len > 0 && buf_append(&http->body, piece, piece_len) != 0)
		return refuse(http, KMS_ENOMEM, "out of memory");
	return error;
}

int
capsule_http_feed(struct capsule_http *http, const uint8_t *data, size_t len)
{
	size_t at = 0, used;
	int error = KMS_EAGAIN;

	http->begun = http->begun || len > 0;
	while (!http->in_body && at < len) {
		error = read_head(http, data + at, len - at, &used);
		if (error != 0 && error != KMS_EAGAIN)
			return error;
		at += used;
	}
	while (http->in_body && !http->done) {
		error = read_body(http, data + at, len - at, &used);
		if (error != 0 && error != KMS_EAGAIN)
			return error;
		at += used;
		http->done = error == 0;
		if (error == KMS_EAGAIN && at == len)
			return error;
	}
	if (http->done && at < len)
		return refuse(
		    http, KMS_EPROTO, "expected nothing behind the answer");
	return http->done ? 0 : error;
}

bool
capsule_http_reusable(const struct capsule_http *http)
{
	return http->done && http->response.head.keep_alive;
}
