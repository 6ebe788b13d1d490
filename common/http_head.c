#include "common/http.h"

#include <string.h>

#include "common/err.h"
#include "common/http_char.h"
#include "common/http_field.h"

const struct http_limits http_limits_default = {
	.target = 8192,
	.head = 16384,
	.headers = HTTP_HEADERS_MAX,
	.body = 1 << 20,
	.extension = 256,
	.trailer = 1024,
};

#define VERSION_LEN (sizeof("HTTP/1.1") - 1)

/* ---- lines ---- */

static bool
word_has_control(uint64_t word)
{
	const uint64_t ones = 0x0101010101010101U, tops = ones << 7;
	uint64_t del = word ^ (ones * 0x7f);

	return (((word - ones * 0x20) & ~word) | ((del - ones) & ~del)) & tops;
}

/* The first control character but HTAB in data[at..end), else end. */
static size_t
skip_text(const char *data, size_t at, size_t end)
{
	uint64_t word;

	while (at < end) {
		if (end - at >= sizeof(word)) {
			memcpy(&word, data + at, sizeof(word));
			if (!word_has_control(word)) {
				at += sizeof(word);
				continue;
			}
		}
		if (!http_char_is(data[at], HTTP_CHAR_FIELD))
			break;
		at++;
	}
	return at;
}

static int
line_too_long(struct http_head *head)
{
	if (head->state == HEAD_START && head->seen & IS_REQUEST)
		return http_head_refuse(
		    head, 414, "expected a shorter request line");
	return http_head_refuse(head, 431, "expected a shorter head");
}

/*
 * Move head->scan to the CR LF that ends the current line, which lies before
 * bound. Both checks go byte by byte from the left, so that the first one to
 * fail is the same however the bytes came.
 */
static int
line_end(struct http_head *head, size_t len, size_t bound)
{
	size_t end = len < bound ? len : bound;
	size_t at = skip_text(head->base, head->scan, end);

	head->scan = (uint32_t)at;
	if (at >= end)
		return at >= bound ? line_too_long(head) : KMS_EAGAIN;
	if (head->base[at] != '\r')
		return http_head_refuse(head, 400,
		    "expected no control characters, and CR LF as line end");
	if (at + 1 == bound)
		return line_too_long(head);
	if (at + 1 == len)
		return KMS_EAGAIN;
	if (head->base[at + 1] != '\n')
		return http_head_refuse(head, 400, "expected LF behind CR");
	return 0;
}

/* "HTTP/1.1" or "HTTP/1.0" in VERSION_LEN bytes. */
static int
read_version(struct http_head *head, const char *p)
{
	if (memcmp(p, "HTTP/", 5) != 0 || p[5] < '0' || p[5] > '9' ||
	    p[6] != '.' || p[7] < '0' || p[7] > '9')
		return http_head_refuse(head, 400, "expected HTTP/1.1");
	if (p[5] != '1' || p[7] > '1')
		return http_head_refuse(
		    head, 505, "expected HTTP/1.1 or HTTP/1.0");
	head->minor = (uint8_t)(p[7] - '0');
	return 0;
}

static struct http_span
span(size_t from, size_t to)
{
	return (struct http_span){ (uint16_t)from, (uint16_t)(to - from) };
}

static int
read_target(struct http_request *req, size_t from, size_t to, size_t max)
{
	const char *base = req->head.base;

	if (to - from > max)
		return http_head_refuse(
		    &req->head, 414, "expected a shorter target");
	if (from == to || base[from] != '/')
		return http_head_refuse(
		    &req->head, 400, "expected a target that starts with /");
	for (size_t i = from; i < to; i++)
		if (!http_char_is(base[i], HTTP_CHAR_TARGET))
			return http_head_refuse(&req->head, 400,
			    "expected a target of visible ASCII without #");
	req->target = span(from, to);
	return 0;
}

/* method SP target SP version, in base[0..end). */
static int
read_request_line(
    struct http_request *req, size_t end, const struct http_limits *limits)
{
	struct http_head *head = &req->head;
	size_t method = 0;
	int rc;

	while (
	    method < end && http_char_is(head->base[method], HTTP_CHAR_TOKEN))
		method++;
	if (method == 0 || method == end || head->base[method] != ' ')
		return http_head_refuse(
		    head, 400, "expected a method and a space");
	/* The least line: a method, a space, nothing, a space, a version. */
	if (end < method + 2 + VERSION_LEN ||
	    head->base[end - VERSION_LEN - 1] != ' ')
		return http_head_refuse(
		    head, 400, "expected method, target and version");
	if ((rc = read_version(head, head->base + end - VERSION_LEN)) != 0)
		return rc;
	if (method > HTTP_METHOD_MAX)
		return http_head_refuse(head, 501, "expected a shorter method");
	req->method = span(0, method);
	return read_target(
	    req, method + 1, end - VERSION_LEN - 1, limits->target);
}

/* version SP three digits SP reason phrase, in base[0..end). */
static int
read_status_line(struct http_response *response, size_t end)
{
	struct http_head *head = &response->head;
	const char *p = head->base + VERSION_LEN;
	int rc;

	if (end < VERSION_LEN + 5 || p[0] != ' ' || p[4] != ' ')
		return http_head_refuse(
		    head, 400, "expected version, status and reason");
	if ((rc = read_version(head, head->base)) != 0)
		return rc;
	if (p[1] < '1' || p[1] > '5' || p[2] < '0' || p[2] > '9' ||
	    p[3] < '0' || p[3] > '9')
		return http_head_refuse(
		    head, 400, "expected a status of 100 to 599");
	response->code =
	    (uint16_t)((p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0'));
	return 0;
}

/* name ":" OWS value OWS, in base[from..to), which is not empty. */
static int
read_header_line(
    struct http_head *head, size_t from, size_t to, size_t headers_max)
{
	const char *base = head->base;
	struct http_header *header;
	size_t colon = from, value;

	if (head->header_count >= headers_max ||
	    head->header_count >= HTTP_HEADERS_MAX)
		return http_head_refuse(head, 431, "expected fewer headers");
	if (http_char_is_blank(base[from]))
		return http_head_refuse(head, 400, "expected no folded line");
	while (colon < to && http_char_is(base[colon], HTTP_CHAR_TOKEN))
		colon++;
	if (colon == from || colon == to || base[colon] != ':')
		return http_head_refuse(
		    head, 400, "expected a header name and a colon");
	value = colon + 1;
	while (value < to && http_char_is_blank(base[value]))
		value++;
	while (to > value && http_char_is_blank(base[to - 1]))
		to--;
	header = &head->headers[head->header_count++];
	header->name = span(from, colon);
	header->value = span(value, to);
	return http_field_read(head, http_text(head, header->name),
	    http_text(head, header->value));
}

/* ---- heads ---- */

static void
head_init(struct http_head *head, uint8_t seen)
{
	/* All but the headers, which count up to header_count. */
	memset(head, 0, offsetof(struct http_head, headers));
	head->seen = seen;
}

void
http_request_init(struct http_request *req)
{
	head_init(&req->head, IS_REQUEST);
	req->method = req->target = (struct http_span){ 0, 0 };
}

void
http_response_init(struct http_response *response)
{
	head_init(&response->head, 0);
	response->code = 0;
}

/* Read lines up to the empty one; the first line has been read. */
static int
read_headers(
    struct http_head *head, size_t len, const struct http_limits *limits)
{
	size_t bound =
	    limits->head < HTTP_HEAD_MAX ? limits->head : HTTP_HEAD_MAX;
	size_t from, to;
	int rc;

	for (;;) {
		if ((rc = line_end(head, len, bound)) != 0)
			return rc;
		from = head->line;
		to = head->scan;
		head->scan += 2;
		head->line = head->scan;
		if (from == to)
			return 0;
		rc = read_header_line(head, from, to, limits->headers);
		if (rc != 0)
			return rc;
	}
}

static void
head_conclude(struct http_head *head)
{
	if (head->seen & SEEN_CODING)
		head->framing = HTTP_BODY_CHUNKED;
	else if (head->seen & SEEN_LENGTH)
		head->framing = HTTP_BODY_LENGTH;
	/* "close" wins over "keep-alive". */
	head->keep_alive = !(head->seen & SEEN_CLOSE) &&
	    (head->minor == 1 || head->seen & SEEN_KEEP_ALIVE);
	/* RFC 9110 section 10.1.1: HTTP/1.0 cannot mean it. */
	head->expect_continue = head->minor == 1 && head->seen & SEEN_EXPECT &&
	    (head->framing == HTTP_BODY_CHUNKED || head->content_length > 0);
	head->state = HEAD_DONE;
}

static int
request_conclude(struct http_head *head, const struct http_limits *limits)
{
	if (head->minor == 1 && !(head->seen & SEEN_HOST))
		return http_head_refuse(head, 400, "expected Host");
	if (head->content_length > limits->body)
		return http_head_refuse(head, 413, "expected a shorter body");
	head_conclude(head);
	return 0;
}

int
http_request_parse(struct http_request *req, const void *data, size_t len,
    const struct http_limits *limits, size_t *consumed)
{
	struct http_head *head = &req->head;
	size_t bound, end;
	int rc;

	head->base = data;
	if (head->state == HEAD_START) {
		bound =
		    HTTP_METHOD_MAX + 1 + limits->target + 1 + VERSION_LEN + 2;
		if (bound > limits->head)
			bound = limits->head;
		if (bound > HTTP_HEAD_MAX)
			bound = HTTP_HEAD_MAX;
		if ((rc = line_end(head, len, bound)) != 0)
			return rc;
		end = head->scan;
		if ((rc = read_request_line(req, end, limits)) != 0)
			return rc;
		head->scan = head->line = (uint32_t)end + 2;
		head->state = HEAD_HEADERS;
	}
	if (head->state == HEAD_HEADERS) {
		if ((rc = read_headers(head, len, limits)) != 0 ||
		    (rc = request_conclude(head, limits)) != 0)
			return rc;
	}
	if (head->state == HEAD_REFUSED)
		return head->error;
	*consumed = head->scan;
	return 0;
}

static int
response_conclude(
    struct http_response *response, const struct http_limits *limits)
{
	struct http_head *head = &response->head;
	bool framed = head->seen & (SEEN_LENGTH | SEEN_CODING);
	unsigned code = response->code;

	if (code == 101)
		return http_head_refuse(
		    head, 400, "expected no change of protocol");
	if (code < 200 && framed)
		return http_head_refuse(
		    head, 400, "expected no body in a 1xx answer");
	if (code == 204 &&
	    (head->seen & SEEN_CODING || head->content_length != 0))
		return http_head_refuse(
		    head, 400, "expected no body in a 204 answer");
	if (code < 200 || code == 204 || code == 304) {
		/* What 304 says of a length is that of another answer. */
		head->seen &= (uint8_t) ~(SEEN_LENGTH | SEEN_CODING);
		head->content_length = 0;
	} else if (!framed) {
		return http_head_refuse(
		    head, 400, "expected Content-Length or chunked");
	}
	if (head->content_length > limits->body)
		return http_head_refuse(head, 413, "expected a shorter body");
	head_conclude(head);
	return 0;
}

int
http_response_parse(struct http_response *response, const void *data,
    size_t len, const struct http_limits *limits, size_t *consumed)
{
	struct http_head *head = &response->head;
	size_t bound, end;
	int rc;

	head->base = data;
	if (head->state == HEAD_START) {
		bound =
		    limits->head < HTTP_HEAD_MAX ? limits->head : HTTP_HEAD_MAX;
		if ((rc = line_end(head, len, bound)) != 0)
			return rc;
		end = head->scan;
		if ((rc = read_status_line(response, end)) != 0)
			return rc;
		head->scan = head->line = (uint32_t)end + 2;
		head->state = HEAD_HEADERS;
	}
	if (head->state == HEAD_HEADERS) {
		if ((rc = read_headers(head, len, limits)) != 0 ||
		    (rc = response_conclude(response, limits)) != 0)
			return rc;
	}
	if (head->state == HEAD_REFUSED)
		return head->error;
	*consumed = head->scan;
	return 0;
}
