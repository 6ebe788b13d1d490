#include "common/http.h"

#include <string.h>

#include "common/err.h"
#include "common/http_char.h"

/*
 * chunk   = size [";" extension] CR LF data CR LF
 * last    = "0"+ [";" extension] CR LF *(trailer CR LF) CR LF
 * trailer = name ":" value
 */
enum {
	BODY_LENGTH, /* in content framed by its length */
	BODY_DATA,   /* in the content of a chunk */
	BODY_SIZE,
	BODY_EXTENSION_START,
	BODY_EXTENSION,
	BODY_SIZE_LF,
	BODY_DATA_CR,
	BODY_DATA_LF,
	BODY_TRAILER_START,
	BODY_TRAILER_NAME,
	BODY_TRAILER_VALUE,
	BODY_TRAILER_LF,
	BODY_LAST_LF,
	BODY_DONE,
	BODY_REFUSED
};

static int
refuse(struct http_body *body, int status, const char *reason)
{
	body->state = BODY_REFUSED;
	body->status = status;
	body->reason = reason;
	body->error = status == 413 ? KMS_ETOOBIG : KMS_EPROTO;
	return body->error;
}

int
http_body_init(struct http_body *body, const struct http_head *head,
    const struct http_limits *limits)
{
	memset(body, 0, sizeof(*body));
	body->limit = limits->body;
	body->extension_left = limits->extension;
	body->trailer_left = limits->trailer;
	switch (head->framing) {
	case HTTP_BODY_NONE:
		body->state = BODY_DONE;
		break;
	case HTTP_BODY_LENGTH:
		if (head->content_length > limits->body)
			return refuse(body, 413, "expected a shorter body");
		body->left = head->content_length;
		body->state = body->left == 0 ? BODY_DONE : BODY_LENGTH;
		break;
	case HTTP_BODY_CHUNKED:
		body->state = BODY_SIZE;
		break;
	}
	return 0;
}

/* One character of the line that announces a chunk. */
static int
step_size(struct http_body *body, char c)
{
	int digit = http_char_hex(c);

	if (digit >= 0) {
		if (body->digits == HTTP_CHUNK_DIGITS)
			return refuse(
			    body, 400, "expected at most 16 chunk size digits");
		body->digits++;
		/* Sixteen digits just fit. */
		body->left = body->left << 4 | (uint64_t)digit;
		if (body->left > body->limit - body->total)
			return refuse(body, 413, "expected a shorter body");
		return 0;
	}
	if (body->digits == 0)
		return refuse(body, 400, "expected a chunk size in hex");
	if (c == '\r')
		body->state = BODY_SIZE_LF;
	else if (c == ';')
		body->state = BODY_EXTENSION_START;
	else
		return refuse(
		    body, 400, "expected CR LF or ; behind a chunk size");
	return 0;
}

static int
step_extension(struct http_body *body, char c)
{
	if (body->state == BODY_EXTENSION_START &&
	    !http_char_is(c, HTTP_CHAR_TOKEN))
		return refuse(body, 400, "expected a chunk extension's name");
	if (c == '\r') {
		body->state = BODY_SIZE_LF;
		return 0;
	}
	if (!http_char_is(c, HTTP_CHAR_FIELD) || (uint8_t)c >= 0x80)
		return refuse(body, 400, "expected printable chunk extensions");
	if (body->extension_left == 0)
		return refuse(body, 400, "expected shorter chunk extensions");
	body->extension_left--;
	body->state = BODY_EXTENSION;
	return 0;
}

static int
step_trailer(struct http_body *body, char c)
{
	if (body->state == BODY_TRAILER_START && c == '\r') {
		body->state = BODY_LAST_LF;
		return 0;
	}
	if (body->trailer_left == 0)
		return refuse(body, 400, "expected shorter trailers");
	body->trailer_left--;
	switch (body->state) {
	case BODY_TRAILER_START:
	case BODY_TRAILER_NAME:
		if (http_char_is(c, HTTP_CHAR_TOKEN))
			body->state = BODY_TRAILER_NAME;
		else if (body->state == BODY_TRAILER_NAME && c == ':')
			body->state = BODY_TRAILER_VALUE;
		else
			return refuse(
			    body, 400, "expected a trailer's name and a colon");
		return 0;
	case BODY_TRAILER_VALUE:
		if (c == '\r')
			body->state = BODY_TRAILER_LF;
		else if (!http_char_is(c, HTTP_CHAR_FIELD))
			return refuse(body, 400,
			    "expected no control characters in a trailer");
		return 0;
	default:
		if (c != '\n')
			return refuse(body, 400, "expected LF behind CR");
		body->state = BODY_TRAILER_START;
		return 0;
	}
}

/* One character that is not content. */
static int
step(struct http_body *body, char c)
{
	switch (body->state) {
	case BODY_SIZE:
		return step_size(body, c);
	case BODY_EXTENSION_START:
	case BODY_EXTENSION:
		return step_extension(body, c);
	case BODY_DATA_CR:
		if (c != '\r')
			return refuse(
			    body, 400, "expected CR LF behind a chunk");
		body->state = BODY_DATA_LF;
		return 0;
	case BODY_SIZE_LF:
	case BODY_DATA_LF:
	case BODY_LAST_LF:
		if (c != '\n')
			return refuse(body, 400, "expected LF behind CR");
		if (body->state == BODY_LAST_LF) {
			body->state = BODY_DONE;
		} else if (body->state == BODY_DATA_LF) {
			body->state = BODY_SIZE;
			body->digits = 0;
		} else {
			body->state =
			    body->left == 0 ? BODY_TRAILER_START : BODY_DATA;
		}
		return 0;
	default:
		return step_trailer(body, c);
	}
}

/* Hand out what in holds of the content at hand. */
static size_t
take(struct http_body *body, size_t in_len)
{
	size_t len = body->left < in_len ? (size_t)body->left : in_len;

	body->left -= len;
	body->total += len;
	if (body->left == 0)
		body->state =
		    body->state == BODY_LENGTH ? BODY_DONE : BODY_DATA_CR;
	return len;
}

int
http_body_feed(struct http_body *body, const void *in, size_t in_len,
    size_t *used, const uint8_t **out, size_t *out_len)
{
	const uint8_t *data = in;
	size_t at = 0;

	*out = NULL;
	*out_len = 0;
	while (at < in_len && body->state < BODY_DONE && *out_len == 0) {
		if (body->state == BODY_LENGTH || body->state == BODY_DATA) {
			*out = data + at;
			*out_len = take(body, in_len - at);
			at += *out_len;
		} else if (step(body, (char)data[at]) != 0) {
			break;
		} else {
			at++;
		}
	}
	*used = at;
	if (body->state == BODY_REFUSED)
		return body->error;
	return body->state == BODY_DONE ? 0 : KMS_EAGAIN;
}
