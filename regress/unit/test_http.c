/* What the HTTP reader takes, and that splitting changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "regress/unit/http_text.h"

/* ---- what is taken ---- */

/*
 * A stream of messages, each taken to its end, and all that the reader says
 * about it.
 */
static void
take(bool answers, unsigned messages, const char *text, size_t len,
    const char *record)
{
	struct http_drive drive;
	int rc;

	drive = drive_all(answers, text, len, &rc);
	if (drive.reason != NULL)
		fail_msg("refused: %s", drive.reason);
	assert_int_equal(rc, 0);
	assert_int_equal(drive.messages, messages);
	assert_int_equal(drive.consumed, len);
	assert_int_equal(buf_append(&drive.record, "", 1), 0);
	assert_string_equal((const char *)drive.record.data, record);
	buf_free(&drive.record);
}

#define TAKE(messages, text, record)                                           \
	take(false, messages, text, sizeof(text) - 1, record)
#define TAKE_ANSWER(messages, text, record)                                    \
	take(true, messages, text, sizeof(text) - 1, record)

#define GET_RECORD "method GET\ntarget /\nname Host\nvalue a\n"
#define POST_RECORD "method POST\ntarget /\nname Host\nvalue a\n"
#define CHUNKED_RECORD                                                         \
	POST_RECORD "name Transfer-Encoding\nvalue chunked\n"                  \
		    "code 0 minor 1 keep 1 expect 0 framing 2 length 0\nbody "
#define PLAIN_RECORD                                                           \
	"code 0 minor 1 keep 1 expect 0 framing 0 length 0\nbody \nend\n"
#define TEXT48 "0123456789abcdef0123456789abcdef0123456789abcdef"
#define BODY32 "0123456789abcdef0123456789ABCDEF"

static void
bound_body(void **state)
{
	(void)state;
	TAKE(1, POST "Content-Length: 0000000000000000032" END BODY32,
	    POST_RECORD "name Content-Length\nvalue 0000000000000000032\n"
			"code 0 minor 1 keep 1 expect 0 framing 1 length 32\n"
			"body " BODY32 "\nend\n");
	TAKE(1, CHUNKED "0000000000000020\r\n" BODY32 "\r\n0" END,
	    CHUNKED_RECORD BODY32 "\nend\n");
	TAKE(1,
	    CHUNKED
	    "1f\r\n0123456789abcdef0123456789ABCDE\r\n1\r\nF\r\n000" END,
	    CHUNKED_RECORD BODY32 "\nend\n");
}

static void
bound_chunk_extension(void **state)
{
	(void)state;
	TAKE(
	    1, CHUNKED "1;a=34567890\r\nx\r\n0" END, CHUNKED_RECORD "x\nend\n");
	TAKE(1, CHUNKED "1;a=34\r\nx\r\n1;b=\"78\"\r\ny\r\n0" END,
	    CHUNKED_RECORD "xy\nend\n");
}

static void
bound_trailer(void **state)
{
	(void)state;
	TAKE(
	    1, CHUNKED "0\r\nA: 456789012345678" END, CHUNKED_RECORD "\nend\n");
	TAKE(1, CHUNKED "0\r\nA: 4 678\r\nB:45\t78\xc3" END,
	    CHUNKED_RECORD "\nend\n");
}

static void
bound_tight_head(void **state)
{
	(void)state;
	/* A target of 64 bytes, 8 headers. */
	TAKE(1,
	    "GET /123456789abcdef" TEXT48 R11
	    "Host: [::0]:4090\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:" END,
	    "method GET\ntarget /123456789abcdef" TEXT48
	    "\nname Host\nvalue [::0]:4090\n"
	    "name A\nvalue \nname A\nvalue \nname A\nvalue \n"
	    "name A\nvalue \nname A\nvalue \nname A\nvalue \n"
	    "name A\nvalue \n" PLAIN_RECORD);
	/* A head of 512 bytes. */
	TAKE(1,
	    GET TEXT64 ":" TEXT64 "\r\n" TEXT64 ":" TEXT64 "\r\n" TEXT64
		       ":" TEXT64 "\r\nA:" TEXT64
		       "0123456789abcdef01234567" END,
	    GET_RECORD "name " TEXT64 "\nvalue " TEXT64 "\nname " TEXT64
		       "\nvalue " TEXT64 "\nname " TEXT64 "\nvalue " TEXT64
		       "\nname A\nvalue " TEXT64
		       "0123456789abcdef01234567\n" PLAIN_RECORD);
	TAKE_ANSWER(1, ANSWER "Content-Length: 32" END BODY32,
	    "name Content-Length\nvalue 32\n"
	    "code 200 minor 1 keep 1 expect 0 framing 1 length 32\n"
	    "body " BODY32 "\nend\n");
}

static void
take_body_tighter_than_head(void **state)
{
	struct http_limits tighter = limits;
	struct http_request req;
	struct http_body body;
	const char text[] = POST "Content-Length: 11" END;
	size_t consumed;

	(void)state;
	http_request_init(&req);
	assert_int_equal(http_request_parse(
			     &req, text, sizeof(text) - 1, &limits, &consumed),
	    0);
	tighter.body = 11;
	assert_int_equal(http_body_init(&body, &req.head, &tighter), 0);
	tighter.body = 10;
	assert_int_equal(
	    http_body_init(&body, &req.head, &tighter), KMS_ETOOBIG);
	assert_int_equal(body.status, 413);
}

static void
take_requests(void **state)
{
	(void)state;
	TAKE(1, GET "\r\n", GET_RECORD PLAIN_RECORD);
	TAKE(1,
	    "DELETE //a/%2e./b?c=d&e=/?\"<>{}|\\^` HTTP/1.1\r\n"
	    "hOST: [::ffff:1.2.3.4]:65535\r\n"
	    "X-Empty:\r\nX-Blank: \t \r\nX-In: \t a \t b\t \r\n"
	    "X-Opaque:\xc3\xa4\xff\r\n"
	    "!#$%&'*+-.^_`|~09: x" END,
	    "method DELETE\ntarget //a/%2e./b?c=d&e=/?\"<>{}|\\^`\n"
	    "name hOST\nvalue [::ffff:1.2.3.4]:65535\n"
	    "name X-Empty\nvalue \nname X-Blank\nvalue \n"
	    "name X-In\nvalue a \t b\nname X-Opaque\nvalue \xc3\xa4\xff\n"
	    "name !#$%&'*+-.^_`|~09\nvalue x\n" PLAIN_RECORD);
	TAKE(1, "ABCDEFGHIJKLMNOP / HTTP/1.1\r\nHost: a-b_c.d:1" END,
	    "method ABCDEFGHIJKLMNOP\ntarget /\nname Host\n"
	    "value a-b_c.d:1\n" PLAIN_RECORD);
}

static void
take_names_that_only_start_alike(void **state)
{
	(void)state;
	TAKE(1,
	    GET "Content-Lengths: 3\r\nX-Content-Length: 3\r\n"
		"Content-Lengt: 3\r\nTransfer-Encodin: a\r\n"
		"Transfer-Encodings: a" END,
	    GET_RECORD "name Content-Lengths\nvalue 3\n"
		       "name X-Content-Length\nvalue 3\n"
		       "name Content-Lengt\nvalue 3\n"
		       "name Transfer-Encodin\nvalue a\n"
		       "name Transfer-Encodings\nvalue a\n" PLAIN_RECORD);
}

static void
take_lengths(void **state)
{
	(void)state;
	TAKE(1, POST "CONTENT-LENGTH:\t3 " END "abc",
	    POST_RECORD "name CONTENT-LENGTH\nvalue 3\n"
			"code 0 minor 1 keep 1 expect 0 framing 1 length 3\n"
			"body abc\nend\n");
	TAKE(1, POST "Content-Length: 0" END,
	    POST_RECORD "name Content-Length\nvalue 0\n"
			"code 0 minor 1 keep 1 expect 0 framing 1 length 0\n"
			"body \nend\n");
}

static void
take_chunked(void **state)
{
	(void)state;
	TAKE(1, CHUNKED "3\r\nabc\r\nA\r\n\r\n0\r\n\r\n\0\r\n\r\n0" END,
	    CHUNKED_RECORD "abc\r\n0\r\n\r\n");
}

static void
take_pipelined(void **state)
{
	(void)state;
	TAKE(5,
	    GET "\r\n" POST "Content-Length: 2" END "GE" CHUNKED
		"1;x\r\nG\r\n2\r\nET\r\n0\r\nT: u" END GET
		"\r\nGET /last HTTP/1.0\r\nConnection: Keep-Alive" END,
	    GET_RECORD PLAIN_RECORD POST_RECORD
	    "name Content-Length\nvalue 2\n"
	    "code 0 minor 1 keep 1 expect 0 framing 1 length 2\n"
	    "body GE\nend\n" CHUNKED_RECORD "GET\nend\n" GET_RECORD PLAIN_RECORD
	    "method GET\ntarget /last\nname Connection\nvalue Keep-Alive\n"
	    "code 0 minor 0 keep 1 expect 0 framing 0 length 0\n"
	    "body \nend\n");
}

static void
take_answers(void **state)
{
	(void)state;
	TAKE_ANSWER(5,
	    "HTTP/1.1 100 Continue" END
	    "HTTP/1.1 200 \xc3\xa4 \t!\r\nContent-Length: 2" END "ok"
	    "HTTP/1.0 404 \r\nContent-Length: 0\r\nHost: ,\r\nExpect: x" END
	    "HTTP/1.1 599 A\r\nTransfer-Encoding: CHUNKED" END
	    "2\r\nab\r\n0" END "HTTP/1.1 304 B\r\nContent-Length: 99" END,
	    "code 100 minor 1 keep 1 expect 0 framing 0 length 0\n"
	    "body \nend\n"
	    "name Content-Length\nvalue 2\n"
	    "code 200 minor 1 keep 1 expect 0 framing 1 length 2\n"
	    "body ok\nend\n"
	    "name Content-Length\nvalue 0\nname Host\nvalue ,\n"
	    "name Expect\nvalue x\n"
	    "code 404 minor 0 keep 0 expect 0 framing 1 length 0\n"
	    "body \nend\n"
	    "name Transfer-Encoding\nvalue CHUNKED\n"
	    "code 599 minor 1 keep 1 expect 0 framing 2 length 0\n"
	    "body ab\nend\n"
	    "name Content-Length\nvalue 99\n"
	    "code 304 minor 1 keep 1 expect 0 framing 0 length 0\n"
	    "body \nend\n");
	TAKE_ANSWER(2,
	    "HTTP/1.1 204 A" END "HTTP/1.1 204 A\r\nContent-Length: 0\r\n"
	    "Connection: close" END,
	    "code 204 minor 1 keep 1 expect 0 framing 0 length 0\n"
	    "body \nend\n"
	    "name Content-Length\nvalue 0\nname Connection\nvalue close\n"
	    "code 204 minor 1 keep 0 expect 0 framing 0 length 0\n"
	    "body \nend\n");
}

static void
parse(struct http_request *req, const char *text)
{
	size_t consumed = 0;

	http_request_init(req);
	assert_int_equal(
	    http_request_parse(req, text, strlen(text), &limits, &consumed), 0);
	assert_int_equal(consumed, strlen(text));
}

static void
connection_kept(void **state)
{
	static const struct {
		const char *lines;
		bool in_1_1, in_1_0;
	} rows[] = {
		{ "", true, false },
		{ "Connection: close\r\n", false, false },
		{ "Connection: CLOSE\r\n", false, false },
		{ "Connection: keep-alive\r\n", true, true },
		{ "Connection: Keep-Alive, TE\r\n", true, true },
		{ "Connection: , TE ,\tclose ,,\r\n", false, false },
		{ "Connection: closed\r\n", true, false },
		{ "Connection:\r\n", true, false },
		{ "Connection: keep-alive\r\nConnection: close\r\n", false,
		    false },
		{ "Connection: close, keep-alive\r\n", false, false },
		{ "Keep-Alive: 5\r\nProxy-Connection: close\r\n", true, false },
	};
	struct http_request req;
	char text[256];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), GET "%s\r\n", rows[i].lines);
		parse(&req, text);
		assert_int_equal(req.head.keep_alive, rows[i].in_1_1);
		snprintf(text, sizeof(text), "GET / HTTP/1.0\r\n%s\r\n",
		    rows[i].lines);
		parse(&req, text);
		assert_int_equal(req.head.keep_alive, rows[i].in_1_0);
	}
}

static void
expect_continue(void **state)
{
	struct http_request req;

	(void)state;
	parse(&req, POST "Expect: 100-Continue\r\nContent-Length: 1" END);
	assert_true(req.head.expect_continue);
	parse(&req,
	    POST "Expect: 100-continue\r\n"
		 "Transfer-Encoding: chunked" END);
	assert_true(req.head.expect_continue);
	parse(&req, POST "Expect: 100-continue\r\nContent-Length: 0" END);
	assert_false(req.head.expect_continue);
	parse(&req, GET "Expect: 100-continue" END);
	assert_false(req.head.expect_continue);
	parse(&req,
	    "POST / HTTP/1.0\r\nExpect: 100-continue\r\n"
	    "Content-Length: 1" END);
	assert_false(req.head.expect_continue);
	parse(&req, POST "Content-Length: 1" END);
	assert_false(req.head.expect_continue);
}

static void
header_find(void **state)
{
	struct http_slice value = { "before", 6 };
	struct http_request req;
	char text[] = GET "X-App-Nonce:  one \r\nx-app-nonc: two\r\n"
			  "x-APP-nonce: three" END;
	char moved[sizeof(text)];

	(void)state;
	parse(&req, text);
	assert_int_equal(http_header_find(&req.head, "absent", &value), 0);
	assert_true(http_slice_is(value, "before"));
	assert_int_equal(http_header_find(&req.head, "x-app-nonce", &value), 2);
	assert_true(http_slice_is(value, "one"));
	assert_int_equal(http_header_find(&req.head, "x-app-nonc", NULL), 1);
	assert_true(http_slice_is(http_text(&req.head, req.method), "GET"));
	assert_false(http_slice_is(http_text(&req.head, req.method), "get"));
	assert_false(http_slice_is(http_text(&req.head, req.method), "GETS"));
	assert_true(
	    http_slice_is_nocase(http_text(&req.head, req.method), "get"));
	/* The buffer moves: one assignment mends every span. */
	memcpy(moved, text, sizeof(text));
	memset(text, 'x', sizeof(text));
	req.head.base = moved;
	assert_int_equal(http_header_find(&req.head, "x-app-nonce", &value), 2);
	assert_ptr_equal(value.data, strstr(moved, "one"));
}

/* A refusal is final; a complete head and body stay complete. */
static void
verdicts_stay(void **state)
{
	static const char bad[] = "GET / HTTP/1.1\n", good[] = GET "\r\n";
	struct http_request req;
	struct http_body body;
	const uint8_t *out;
	size_t consumed = 0, out_len;

	(void)state;
	http_request_init(&req);
	for (int i = 0; i < 2; i++)
		assert_int_equal(http_request_parse(&req, bad, sizeof(bad) - 1,
				     &limits, &consumed),
		    KMS_EPROTO);
	assert_false(req.head.keep_alive);
	http_request_init(&req);
	for (int i = 0; i < 2; i++) {
		consumed = 0;
		assert_int_equal(http_request_parse(&req, good,
				     sizeof(good) - 1, &limits, &consumed),
		    0);
		assert_int_equal(consumed, sizeof(good) - 1);
	}
	assert_int_equal(http_body_init(&body, &req.head, &limits), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
		    http_body_feed(&body, "GET", 3, &consumed, &out, &out_len),
		    0);
		assert_int_equal(consumed, 0);
		assert_int_equal(out_len, 0);
	}
	req.head.framing = HTTP_BODY_CHUNKED;
	assert_int_equal(http_body_init(&body, &req.head, &limits), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
		    http_body_feed(&body, "g", 1, &consumed, &out, &out_len),
		    KMS_EPROTO);
		assert_int_equal(consumed, 0);
		assert_int_equal(body.status, 400);
	}
}

/* Every byte value at a place of its own: only those named may pass. */
static void
each_byte(void **state)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789"
				    "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	char text[] = "GE? /a?b" R11 "Host: a\r\nA?: b?c" END;
	size_t consumed, method = 2, target = 6, name = 29, value = 33;

	(void)state;
	assert_int_equal(text[name], '?');
	assert_int_equal(text[value], '?');
	text[method] = text[target] = text[name] = 'T';
	for (int c = 0; c < 256; c++) {
		bool is_token = c != 0 && strchr(token, c) != NULL;
		struct {
			size_t at;
			bool good;
		} rows[] = { { method, is_token },
			{ target, c > ' ' && c < 0x7f && c != '#' },
			{ name, is_token || c == ':' },
			{ value, (c >= ' ' && c != 0x7f) || c == '\t' } };
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			text[rows[i].at] = (char)c;
			/* A space ends the method: no other byte may. */
			if (rows[i].at == method && c == ' ')
				rows[i].good = false;
			assert_int_equal(head_status(text, sizeof(text) - 1,
					     &limits, &consumed),
			    rows[i].good ? 0 : 400);
			text[rows[i].at] = 'T';
		}
	}
}

/* ---- mutations ---- */

static uint32_t
random_next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static size_t
mutate(char *text, size_t len, uint32_t *seed)
{
	static const char spice[] = "\r\n\r\n:;, \t0A\x7f\xff/#";
	unsigned edits = 1 + random_next(seed) % 3;

	while (edits-- > 0 && len > 4) {
		size_t at = random_next(seed) % len;
		size_t piece = 1 + random_next(seed) % 8;
		switch (random_next(seed) % 5) {
		case 0:
			text[at] = (char)random_next(seed);
			break;
		case 1:
			text[at] = spice[random_next(seed) % sizeof(spice)];
			break;
		case 2:
			if (piece > len - at)
				piece = len - at;
			memmove(text + at, text + at + piece, len - at - piece);
			len -= piece;
			break;
		case 3:
			if (piece > len - at)
				piece = len - at;
			memmove(text + at + piece, text + at, len - at);
			len += piece;
			break;
		default:
			text[at] ^= (char)(1 << random_next(seed) % 8);
		}
	}
	return len;
}

static void
mutations(void **state)
{
	static const struct {
		bool answers;
		const char *text;
	} seeds[] = {
		{ false, GET "A: b\r\nConnection: TE, close" END },
		{ false,
		    POST "Expect: 100-continue\r\nContent-Length: 9" END
			 "012345678" GET "\r\n" },
		{ false,
		    CHUNKED "3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n"
			    "T: u" END GET "\r\n" },
		{ true,
		    ANSWER "Content-Length: 2" END "ok" ANSWER
			   "Transfer-Encoding: chunked" END
			   "2\r\nab\r\n0" END },
	};
	uint32_t seed = 7;
	unsigned taken = 0, refused = 0;
	int rc, rc_cut;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		char text[512];
		bool answers = seeds[i % 4].answers;
		size_t len = strlen(seeds[i % 4].text);
		struct http_drive whole = { .answers = answers };
		struct http_drive cut = { .answers = answers,
			.shake = random_next(&seed) | 1 };

		memcpy(text, seeds[i % 4].text, len);
		len = mutate(text, len, &seed);
		drive_once(&whole, text, len, &rc);
		drive_once(&cut, text, len, &rc_cut);
		assert_int_equal(rc, rc_cut);
		assert_same(&whole, &cut);
		taken += rc == 0;
		refused += whole.reason != NULL;
		buf_free(&whole.record);
		buf_free(&cut.record);
	}
	assert_true(taken > 1000);
	assert_true(refused > 1000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bound_body),
		cmocka_unit_test(bound_tight_head),
		cmocka_unit_test(bound_chunk_extension),
		cmocka_unit_test(bound_trailer),
		cmocka_unit_test(take_body_tighter_than_head),
		cmocka_unit_test(take_requests),
		cmocka_unit_test(take_names_that_only_start_alike),
		cmocka_unit_test(take_lengths),
		cmocka_unit_test(take_chunked),
		cmocka_unit_test(take_pipelined),
		cmocka_unit_test(take_answers),
		cmocka_unit_test(connection_kept),
		cmocka_unit_test(expect_continue),
		cmocka_unit_test(header_find),
		cmocka_unit_test(verdicts_stay),
		cmocka_unit_test(each_byte),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
