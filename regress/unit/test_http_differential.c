/*
 * The HTTP reader against http-parser: whatever both accept, they must
 * understand alike. It is the more lenient of the two; that it accepts more is
 * the point of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <http_parser.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/http.h"

#define BODY_MAX 4096

static const struct http_limits limits = { .target = 1024,
	.head = 4096,
	.headers = HTTP_HEADERS_MAX,
	.body = BODY_MAX,
	.extension = 64,
	.trailer = 64 };

/* What one parser understood of the first message of a text. */
struct reading {
	bool accepted;
	size_t consumed; /* bytes of head and body */
	bool keep_alive;
	bool listed; /* Connection repeated, or of several elements */
	unsigned code, minor;
	struct buf method, target, headers, body;
};

static void
reading_init(struct reading *reading)
{
	memset(reading, 0, sizeof(*reading));
	buf_init(&reading->method, BODY_MAX);
	buf_init(&reading->target, BODY_MAX);
	buf_init(&reading->headers, 2 * BODY_MAX);
	buf_init(&reading->body, 2 * BODY_MAX);
}

static void
reading_free(struct reading *reading)
{
	buf_free(&reading->method);
	buf_free(&reading->target);
	buf_free(&reading->headers);
	buf_free(&reading->body);
}

static void
put(struct buf *buf, const void *data, size_t len)
{
	assert_int_equal(buf_append(buf, data, len), 0);
}

static void
put_slice(struct buf *buf, struct http_slice slice)
{
	put(buf, slice.data, slice.len);
}

/* ---- ours ---- */

static void
ours_body(struct reading *reading, const struct http_head *head,
    const char *text, size_t len)
{
	struct http_body body;
	const uint8_t *out;
	size_t used, out_len;
	int rc = KMS_EAGAIN;

	assert_int_equal(http_body_init(&body, head, &limits), 0);
	while (rc == KMS_EAGAIN) {
		rc = http_body_feed(&body, text + reading->consumed,
		    len - reading->consumed, &used, &out, &out_len);
		put(&reading->body, out, out_len);
		reading->consumed += used;
		if (rc == KMS_EAGAIN && reading->consumed == len)
			return;
	}
	reading->accepted = rc == 0;
}

static bool
connection_listed(const struct http_head *head)
{
	struct http_slice value = { "", 0 };

	return http_header_find(head, "connection", &value) > 1 ||
	    (value.len > 0 && memchr(value.data, ',', value.len) != NULL);
}

static void
ours(struct reading *reading, const char *text, size_t len, bool answer)
{
	struct http_request req;
	struct http_response response;
	const struct http_head *head = answer ? &response.head : &req.head;
	int rc;

	http_request_init(&req);
	http_response_init(&response);
	rc = answer
	    ? http_response_parse(
		  &response, text, len, &limits, &reading->consumed)
	    : http_request_parse(&req, text, len, &limits, &reading->consumed);
	if (rc != 0)
		return;
	if (!answer) {
		put_slice(&reading->method, http_text(head, req.method));
		put_slice(&reading->target, http_text(head, req.target));
	}
	reading->code = answer ? response.code : 0;
	reading->minor = head->minor;
	reading->keep_alive = head->keep_alive;
	reading->listed = connection_listed(head);
	for (unsigned i = 0; i < head->header_count; i++) {
		put_slice(
		    &reading->headers, http_text(head, head->headers[i].name));
		put(&reading->headers, "\n", 1);
		put_slice(
		    &reading->headers, http_text(head, head->headers[i].value));
		put(&reading->headers, "\n", 1);
	}
	ours_body(reading, head, text, len);
}

/* ---- theirs ---- */

struct theirs {
	struct reading *reading;
	struct buf name, value;
	bool in_value, in_body, done;
};

/* It leaves white space behind a value: trim, as it does not matter. */
static void
theirs_header(struct theirs *theirs)
{
	struct buf *value = &theirs->value;

	if (!theirs->in_value)
		return;
	while (value->len > 0 &&
	    (value->data[value->len - 1] == ' ' ||
		value->data[value->len - 1] == '\t'))
		value->len--;
	put(&theirs->reading->headers, theirs->name.data, theirs->name.len);
	put(&theirs->reading->headers, "\n", 1);
	put(&theirs->reading->headers, value->data, value->len);
	put(&theirs->reading->headers, "\n", 1);
	theirs->name.len = value->len = 0;
	theirs->in_value = false;
}

static int
on_url(http_parser *parser, const char *at, size_t len)
{
	struct theirs *theirs = parser->data;

	put(&theirs->reading->target, at, len);
	return 0;
}

static int
on_name(http_parser *parser, const char *at, size_t len)
{
	struct theirs *theirs = parser->data;

	if (theirs->in_body) /* trailers are dropped */
		return 0;
	theirs_header(theirs);
	put(&theirs->name, at, len);
	return 0;
}

static int
on_value(http_parser *parser, const char *at, size_t len)
{
	struct theirs *theirs = parser->data;

	if (theirs->in_body)
		return 0;
	theirs->in_value = true;
	put(&theirs->value, at, len);
	return 0;
}

static int
on_head(http_parser *parser)
{
	struct theirs *theirs = parser->data;
	struct reading *reading = theirs->reading;
	const char *method;

	theirs_header(theirs);
	theirs->in_body = true;
	reading->keep_alive = http_should_keep_alive(parser) != 0;
	reading->minor = parser->http_minor;
	if (parser->type == HTTP_REQUEST) {
		method = http_method_str((enum http_method)parser->method);
		put(&reading->method, method, strlen(method));
	} else {
		reading->code = parser->status_code;
	}
	/* 1: no body. Whoever uses it must know (RFC 9112 section 6.3). */
	return reading->code == 304;
}

static int
on_body(http_parser *parser, const char *at, size_t len)
{
	struct theirs *theirs = parser->data;

	put(&theirs->reading->body, at, len);
	return 0;
}

static int
on_end(http_parser *parser)
{
	struct theirs *theirs = parser->data;

	theirs->done = true;
	http_parser_pause(parser, 1);
	return 0;
}

static void
read_theirs(struct reading *reading, const char *text, size_t len, bool answer)
{
	static const http_parser_settings settings = { .on_url = on_url,
		.on_header_field = on_name,
		.on_header_value = on_value,
		.on_headers_complete = on_head,
		.on_body = on_body,
		.on_message_complete = on_end };
	struct theirs theirs = { .reading = reading };
	http_parser parser;
	size_t used;

	buf_init(&theirs.name, 2 * BODY_MAX);
	buf_init(&theirs.value, 2 * BODY_MAX);
	http_parser_init(&parser, answer ? HTTP_RESPONSE : HTTP_REQUEST);
	parser.data = &theirs;
	used = http_parser_execute(&parser, &settings, text, len);
	/* An upgrade ends its HTTP, not ours: nothing to compare. */
	reading->accepted = theirs.done && !parser.upgrade;
	reading->consumed = used;
	buf_free(&theirs.name);
	buf_free(&theirs.value);
}

/* ---- inputs ---- */

static uint32_t
draw(uint32_t *seed, uint32_t below)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (*seed >> 8) % below;
}

static const char *
pick(uint32_t *seed, const char *const *list, size_t count)
{
	return list[draw(seed, (uint32_t)count)];
}

#define PICK(seed, ...)                                                        \
	pick(seed, (const char *const[]){ __VA_ARGS__ },                       \
	    sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

static void
make_random_text(struct buf *buf, uint32_t *seed, const char *set, uint32_t max)
{
	uint32_t count = draw(seed, max + 1), size = (uint32_t)strlen(set);

	while (count-- > 0)
		put(buf, set + draw(seed, size), 1);
}

static void
make_header(struct buf *buf, uint32_t *seed)
{
	buf_append_text(buf,
	    PICK(seed, "User-Agent", "X-App-Nonce", "accept", "X_Y", "Date",
		"CONTENT-TYPE", "x-content-length", "Con", "Connect",
		"Connection-", "Transfer", "Keep-Alive", "~!"));
	buf_append_text(buf, PICK(seed, ":", ": ", ":\t", ":  "));
	make_random_text(buf, seed, "ab,; =\t\"(/:\xc3\xa4?close", 20);
	buf_append_text(buf, PICK(seed, "\r\n", " \r\n", "\t \r\n"));
}

static void
make_chunks(struct buf *buf, uint32_t *seed)
{
	uint32_t count = draw(seed, 4);

	while (count-- > 0) {
		uint32_t size = 1 + draw(seed, 40);
		buf_printf(buf, draw(seed, 2) ? "%x" : "%04X", size);
		buf_append_text(buf, PICK(seed, "", "", ";a", ";a=b; c=\"d\""));
		buf_append_text(buf, "\r\n");
		while (size-- > 0)
			put(buf, &"ab\r\n0;\0\xff"[draw(seed, 8)], 1);
		buf_append_text(buf, "\r\n");
	}
	buf_append_text(buf, PICK(seed, "0", "000"));
	buf_append_text(buf, PICK(seed, "\r\n", ";x\r\n"));
	buf_append_text(buf, PICK(seed, "", "", "T: u\r\n", "T:u \r\nV:\r\n"));
	buf_append_text(buf, "\r\n");
}

static void
make_start(struct buf *buf, uint32_t *seed, bool answer, bool old)
{
	const char *version = old ? "HTTP/1.0" : "HTTP/1.1";

	if (answer) {
		buf_printf(buf, "%s %s %s\r\n", version,
		    PICK(seed, "200", "404", "503", "204", "304", "100"),
		    PICK(seed, "OK", "", "Not Found"));
		return;
	}
	buf_append_text(buf,
	    PICK(seed, "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS",
		"PATCH", "PROPFIND"));
	buf_append_text(buf, " /");
	make_random_text(
	    buf, seed, "abc019/?&=%.+-_~:;,@!$'()*[]{}|^`\"<>\\", 30);
	buf_printf(buf, " %s\r\n", version);
}

/* One message, most often well formed, and the start of another. */
static void
make_message(struct buf *buf, uint32_t *seed, bool answer)
{
	bool old = draw(seed, 5) == 0;
	uint32_t framing = draw(seed, 3), length = draw(seed, 50);
	uint32_t headers = draw(seed, 5);

	make_start(buf, seed, answer, old);
	if (!answer)
		buf_append_text(buf,
		    PICK(seed, "Host: a\r\n", "host:a.b:1 \r\n",
			"HOST:\t[::1]\r\n"));
	while (headers-- > 0)
		make_header(buf, seed);
	buf_append_text(buf,
	    PICK(seed, "", "", "", "Connection: close\r\n",
		"connection: Keep-Alive\r\n", "Connection: TE,close \r\n",
		"Connection:closed, keep-alive2\r\n"
		"Connection: keep-alive\r\n"));
	if (framing == 1)
		buf_printf(buf, "%s:%s%u%s\r\n",
		    PICK(seed, "Content-Length", "content-length"),
		    PICK(seed, "", " ", " 0"), length, PICK(seed, "", " "));
	if (framing == 2)
		buf_append_text(buf,
		    PICK(seed, "Transfer-Encoding: chunked\r\n",
			"TRANSFER-ENCODING:Chunked \r\n"));
	if (draw(seed, 4) == 0)
		make_header(buf, seed);
	buf_append_text(buf, "\r\n");
	if (framing == 2)
		make_chunks(buf, seed);
	while (framing == 1 && length-- > 0)
		put(buf, &"xy\r\nGET \0"[draw(seed, 9)], 1);
	buf_append_text(
	    buf, PICK(seed, "", "", "GET / HTTP/1.1\r\nHost: b\r\n\r\n"));
}

static void
mutate(struct buf *buf, uint32_t *seed)
{
	static const char spice[] = "\r\n:;, \t0123456789abcdef";
	uint32_t edits = 1 + draw(seed, 3);
	size_t at, piece;

	while (edits-- > 0 && buf->len > 8) {
		/* Mostly within the head. */
		at = draw(seed, (uint32_t)(buf->len < 200 ? buf->len : 200));
		piece = 1 + draw(seed, 6);
		if (piece > buf->len - at)
			piece = buf->len - at;
		switch (draw(seed, 4)) {
		case 0:
			buf->data[at] = (uint8_t)draw(seed, 256);
			break;
		case 1:
			buf->data[at] =
			    (uint8_t)spice[draw(seed, (uint32_t)sizeof(spice))];
			break;
		case 2:
			memmove(buf->data + at, buf->data + at + piece,
			    buf->len - at - piece);
			buf->len -= piece;
			break;
		default:
			put(buf, "......", piece);
			memmove(buf->data + at + piece, buf->data + at,
			    buf->len - at - piece);
		}
	}
}

/* ---- comparison ---- */

static void
assert_bufs(const struct buf *a, const struct buf *b)
{
	assert_int_equal(a->len, b->len);
	if (a->len > 0)
		assert_memory_equal(a->data, b->data, a->len);
}

/*
 * 1 when both accepted the text. Mutated lists in Connection are left out: of
 * "clos,close" and ",,close" http-parser misses the last element, and of
 * "close, keep-alive" in HTTP/1.0 it heeds only that.
 */
static unsigned
compare(const struct buf *text, bool answer, bool mutated)
{
	const char *data = (const char *)text->data;
	struct reading a, b;
	bool both;

	reading_init(&a);
	reading_init(&b);
	ours(&a, data, text->len, answer);
	read_theirs(&b, data, text->len, answer);
	both = a.accepted && b.accepted;
	if (both) {
		assert_bufs(&a.method, &b.method);
		assert_bufs(&a.target, &b.target);
		assert_bufs(&a.headers, &b.headers);
		assert_bufs(&a.body, &b.body);
		assert_int_equal(a.minor, b.minor);
		assert_int_equal(a.code, b.code);
		assert_int_equal(a.consumed, b.consumed);
		if (!mutated || !a.listed)
			assert_int_equal(a.keep_alive, b.keep_alive);
	}
	reading_free(&a);
	reading_free(&b);
	return both;
}

static void
differ(bool answer, bool mutated, unsigned rounds, unsigned least)
{
	uint32_t seed = answer ? 3 : 5;
	unsigned both = 0;

	for (unsigned i = 0; i < rounds; i++) {
		struct buf text;
		buf_init(&text, BODY_MAX);
		make_message(&text, &seed, answer);
		if (mutated)
			mutate(&text, &seed);
		both += compare(&text, answer, mutated);
		buf_free(&text);
	}
	print_message("both accepted %u of %u\n", both, rounds);
	assert_true(both >= least);
}

static void
requests(void **state)
{
	(void)state;
	differ(false, false, 5000, 3000);
}

static void
requests_mutated(void **state)
{
	(void)state;
	differ(false, true, 30000, 3000);
}

static void
answers(void **state)
{
	(void)state;
	differ(true, false, 3000, 1000);
}

static void
answers_mutated(void **state)
{
	(void)state;
	differ(true, true, 15000, 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests),
		cmocka_unit_test(requests_mutated),
		cmocka_unit_test(answers),
		cmocka_unit_test(answers_mutated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
