/* The identity service's answers: bounds, pieces, and mutations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "kms-keeper/capsule_http.h"

static struct capsule_http http;

static int
feed(const char *text)
{
	return capsule_http_feed(&http, (const uint8_t *)text, strlen(text));
}

/* An answer that is there at once; what it says of it. */
static int
whole(const char *text, size_t body_max)
{
	capsule_http_free(&http);
	capsule_http_init(&http, body_max);
	return feed(text);
}

static int
end(void **state)
{
	(void)state;
	capsule_http_free(&http);
	return 0;
}

static void
expect_body(const char *text)
{
	assert_int_equal(http.body.len, strlen(text));
	assert_memory_equal(http.body.data, text, strlen(text));
}

#define OK "HTTP/1.1 200 OK\r\n"
#define NO "HTTP/1.0 404 No\r\n"
#define INTERIM "HTTP/1.1 100 Continue\r\n\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"

static void
requests(void **state)
{
	struct buf out, body;

	(void)state;
	buf_init(&out, 2 * CAPSULE_REQUEST_MAX);
	assert_int_equal(
	    capsule_http_request(&out, "127.0.0.1:1", "/v1/random", NULL), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal((char *)out.data,
	    "GET /v1/random HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"
	    "Accept: application/json\r\n\r\n");
	buf_clear(&out);
	buf_init(&body, 2 * CAPSULE_REQUEST_MAX);
	assert_int_equal(buf_append_text(&body, "{}"), 0);
	assert_int_equal(capsule_http_request(&out, "h", "/x", &body), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal((char *)out.data,
	    "POST /x HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n"
	    "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
	buf_clear(&out);
	while (body.len < CAPSULE_REQUEST_MAX)
		assert_int_equal(buf_append(&body, "x", 1), 0);
	assert_int_equal(capsule_http_request(&out, "h", "/x", &body), 0);
	assert_int_equal(buf_append(&body, "x", 1), 0);
	buf_clear(&out);
	assert_int_equal(
	    capsule_http_request(&out, "h", "/x", &body), KMS_ETOOBIG);
	buf_free(&body);
	buf_free(&out);
}

static void
answers(void **state)
{
	(void)state;
	assert_int_equal(whole(OK "Content-Length: 3\r\n\r\nabc", 100), 0);
	expect_body("abc");
	assert_int_equal(http.response.code, 200);
	assert_true(capsule_http_reusable(&http));
	assert_int_equal(whole(OK "Transfer-Encoding: chunked\r\n\r\n"
				  "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
			     100),
	    0);
	expect_body("abc");
	assert_int_equal(
	    whole("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
		  "Content-Length: 0\r\n\r\n",
		100),
	    0);
	expect_body("");
	assert_int_equal(http.response.code, 400);
	assert_false(capsule_http_reusable(&http));
	assert_int_equal(
	    whole("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 100), 0);
	assert_false(capsule_http_reusable(&http));
	assert_int_equal(whole("HTTP/1.1 204 No Content\r\n\r\n", 100), 0);
	assert_int_equal(whole("HTTP/1.1 100 Continue\r\n\r\n" OK
			       "Content-Length: 1\r\n\r\nx",
			     100),
	    0);
	expect_body("x");
}

static void
cut_anywhere(void **state)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" OK
				   "Transfer-Encoding: chunked\r\n\r\n"
				   "2;e\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n";
	const uint8_t *bytes = (const uint8_t *)text;
	size_t len = sizeof(text) - 1;

	(void)state;
	for (size_t cut = 1; cut < len; cut++) {
		capsule_http_free(&http);
		capsule_http_init(&http, 100);
		assert_int_equal(
		    capsule_http_feed(&http, bytes, cut), KMS_EAGAIN);
		assert_int_equal(
		    capsule_http_feed(&http, bytes + cut, len - cut), 0);
		expect_body("abc");
	}
	capsule_http_free(&http);
	capsule_http_init(&http, 100);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(capsule_http_feed(&http, bytes + i, 1),
		    i + 1 < len ? KMS_EAGAIN : 0);
	expect_body("abc");
}

static void
refused(void **state)
{
	static const char *const cases[] = { "GET / HTTP/1.1\r\n\r\n",
		OK "\r\n", OK "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		OK "Content-Length : 1\r\n\r\nx", "HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 101 Switching\r\n\r\n", "HTTP/1.1 200 OK\nA: b\n\n",
		OK "Content-Length: 1\r\n\r\nxy",
		OK "Content-Length: 0\r\n\r\n" OK,
		OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx",
		OK "Transfer-Encoding: gzip\r\n\r\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(whole(cases[i], 100), KMS_EPROTO);
		assert_non_null(http.reason);
	}
	/* Behind an answer that was complete before, too. */
	assert_int_equal(whole(OK "Content-Length: 1\r\n\r\nx", 100), 0);
	assert_int_equal(feed("y"), KMS_EPROTO);
}

static void
bounds(void **state)
{
	char head[CAPSULE_HEAD_MAX + 64];
	int prefix;

	(void)state;
	assert_int_equal(whole(OK "Content-Length: 3\r\n\r\nabc", 3), 0);
	assert_int_equal(
	    whole(OK "Content-Length: 4\r\n\r\nabcd", 3), KMS_ETOOBIG);
	assert_int_equal(whole(OK "Transfer-Encoding: chunked\r\n\r\n"
				  "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
			     3),
	    KMS_ETOOBIG);
	assert_int_equal(
	    whole(OK "Content-Length: 99999999999\r\n\r\n", SIZE_MAX),
	    KMS_ETOOBIG);
	/* A head of exactly the bound, and one byte more. */
	for (int more = 0; more < 2; more++) {
		prefix =
		    snprintf(head, sizeof(head), OK "Content-Length: 0\r\nX: ");
		memset(head + prefix, 'x', sizeof(head) - (size_t)prefix);
		(void)snprintf(
		    head + CAPSULE_HEAD_MAX - 4 + more, 5, "%s", "\r\n\r\n");
		assert_int_equal(whole(head, 100), more == 0 ? 0 : KMS_ETOOBIG);
	}
	/* Interim answers count as well. */
	capsule_http_free(&http);
	capsule_http_init(&http, 100);
	for (int i = 0; i < 2000; i++) {
		int error = feed("HTTP/1.1 100 Continue\r\n\r\n");

		if (error == KMS_ETOOBIG)
			return;
		assert_int_equal(error, KMS_EAGAIN);
	}
	fail_msg("interim answers without end");
}

static uint32_t seed = 4711;

static uint32_t
draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

/* By pieces and as a whole: the same verdict, never beyond the bounds. */
static void
mutations(void **state)
{
	static const char *const seeds[] = { OK
		"Content-Length: 12\r\n\r\n{\"a\":\"b\",1}",
		INTERIM OK CHUNKED "3\r\nabc\r\n0\r\n\r\n",
		NO "Content-Length: 0\r\nConnection: close\r\n\r\n" };

	(void)state;
	for (int round = 0; round < 60000; round++) {
		const char *text = seeds[draw(3)];
		size_t len = strlen(text), at = 0;
		struct capsule_http other;
		uint8_t bytes[256];
		int all, some = KMS_EAGAIN;

		memcpy(bytes, text, len);
		for (uint32_t n = 1 + draw(4); n > 0; n--)
			bytes[draw((uint32_t)len)] = draw(2)
			    ? (uint8_t)draw(256)
			    : (uint8_t)text[draw((uint32_t)len)];
		len -= draw(4) == 0 ? draw((uint32_t)len) : 0;
		capsule_http_free(&http);
		capsule_http_init(&http, 16);
		all = capsule_http_feed(&http, bytes, len);
		capsule_http_init(&other, 16);
		while (at < len && (some == KMS_EAGAIN || some == 0)) {
			size_t piece = 1 + draw((uint32_t)(len - at));

			some = capsule_http_feed(&other, bytes + at, piece);
			at += piece;
		}
		if (len > 0)
			assert_int_equal(all, some);
		assert_true(http.body.len <= 16);
		if (all == 0)
			assert_memory_equal(
			    http.body.data, other.body.data, http.body.len);
		capsule_http_free(&other);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(requests, end),
		cmocka_unit_test_teardown(answers, end),
		cmocka_unit_test_teardown(cut_anywhere, end),
		cmocka_unit_test_teardown(refused, end),
		cmocka_unit_test_teardown(bounds, end),
		cmocka_unit_test_teardown(mutations, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
