/* What the HTTP reader refuses, and where its bounds are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "regress/unit/http_refusals.h"

/* ---- refusals ---- */

/* Refused for a size that has a status of its own, not with 400. */
static bool
over_limit(const char *reason)
{
	static const char *const things[] = { "shorter body", "shorter head",
		"shorter target", "shorter request line", "fewer headers" };

	for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++)
		if (strstr(reason, things[i]) != NULL)
			return true;
	return false;
}

static void
refuse(
    bool answers, int status, const char *words, const char *text, size_t len)
{
	struct http_drive drive;
	int rc;

	drive = drive_all(answers, text, len, &rc);
	assert_int_equal(drive.status, status);
	assert_int_equal(
	    rc, over_limit(drive.reason) ? KMS_ETOOBIG : KMS_EPROTO);
	if (strstr(drive.reason, words) == NULL)
		fail_msg("reason is: %s", drive.reason);
	assert_int_equal(drive.messages, 0);
	buf_free(&drive.record);
}

#define REFUSE_TEST(name, status, words, text)                                 \
	static void refuse_##name(void **state)                                \
	{                                                                      \
		(void)state;                                                   \
		refuse(false, status, words, text, sizeof(text) - 1);          \
	}
#define REFUSE_ANSWER_TEST(name, status, words, text)                          \
	static void refuse_##name(void **state)                                \
	{                                                                      \
		(void)state;                                                   \
		refuse(true, status, words, text, sizeof(text) - 1);           \
	}
#define REFUSE_ROW(name, status, words, text) cmocka_unit_test(refuse_##name),

/* clang-format off */
REFUSALS(REFUSE_TEST)
ANSWER_REFUSALS(REFUSE_ANSWER_TEST)
/* clang-format on */

/* ---- bounds: exactly at them, and one over ---- */

static void
head_of(struct buf *buf, const char *method, size_t target)
{
	buf_init(buf, 1 << 20);
	assert_int_equal(buf_printf(buf, "%s /", method), 0);
	for (size_t i = 1; i < target; i++)
		assert_int_equal(buf_append(buf, "t", 1), 0);
	assert_int_equal(buf_append_text(buf, R11 "Host: a\r\n"), 0);
}

static int
status_of(struct buf *buf, size_t *consumed)
{
	int status;

	status = head_status(
	    (const char *)buf->data, buf->len, &http_limits_default, consumed);
	buf_free(buf);
	return status;
}

static void
bound_target(void **state)
{
	struct buf buf;
	size_t consumed, len;

	(void)state;
	head_of(&buf, "GET", 8192);
	buf_append_text(&buf, "\r\n");
	len = buf.len;
	assert_int_equal(status_of(&buf, &consumed), 0);
	assert_int_equal(consumed, len);
	head_of(&buf, "ABCDEFGHIJKLMNOP", 8192);
	buf_append_text(&buf, "\r\n");
	assert_int_equal(status_of(&buf, &consumed), 0);
	head_of(&buf, "GET", 8193);
	assert_int_equal(status_of(&buf, &consumed), 414);
	/* No end in sight: refused as soon as no end could be in time. */
	head_of(&buf, "GET", 20000);
	buf.len = 8192 + 16 + 12 - 1;
	assert_int_equal(head_status((const char *)buf.data, buf.len,
			     &http_limits_default, &consumed),
	    100);
	buf.len++;
	assert_int_equal(status_of(&buf, &consumed), 414);
}

/* A head of exactly that many bytes, its empty line included. */
static void
head_sized(struct buf *buf, size_t size)
{
	head_of(buf, "GET", 1);
	assert_int_equal(buf_append_text(buf, "A: "), 0);
	while (buf->len < size - 4)
		assert_int_equal(buf_append(buf, "v", 1), 0);
	assert_int_equal(buf_append_text(buf, "\r\n\r\n"), 0);
	assert_int_equal(buf->len, size);
}

static void
bound_head(void **state)
{
	struct buf buf;
	size_t consumed;

	(void)state;
	head_sized(&buf, 16384);
	assert_int_equal(status_of(&buf, &consumed), 0);
	assert_int_equal(consumed, 16384);
	head_sized(&buf, 16385);
	assert_int_equal(status_of(&buf, &consumed), 431);
	/* The same without its end: at the bound, not one byte later. */
	head_sized(&buf, 20000);
	buf.len = 16383;
	assert_int_equal(head_status((const char *)buf.data, buf.len,
			     &http_limits_default, &consumed),
	    100);
	buf.len++;
	assert_int_equal(status_of(&buf, &consumed), 431);
	/* Every way the last line end can lie across the bound. */
	for (size_t over = 1; over <= 4; over++) {
		head_sized(&buf, 16384 + over);
		assert_int_equal(status_of(&buf, &consumed), 431);
	}
}

static void
bound_head_largest(void **state)
{
	struct http_limits large = http_limits_default;
	struct buf buf;
	size_t consumed;

	(void)state;
	large.head = large.target = SIZE_MAX / 2;
	head_sized(&buf, HTTP_HEAD_MAX);
	assert_int_equal(
	    head_status((const char *)buf.data, buf.len, &large, &consumed), 0);
	buf_free(&buf);
	head_sized(&buf, HTTP_HEAD_MAX + 1);
	assert_int_equal(
	    head_status((const char *)buf.data, buf.len, &large, &consumed),
	    431);
	buf_free(&buf);
	head_of(&buf, "GET", HTTP_HEAD_MAX + 1);
	assert_int_equal(
	    head_status((const char *)buf.data, buf.len, &large, &consumed),
	    414);
	buf_free(&buf);
}

static void
bound_headers(void **state)
{
	struct http_limits more = http_limits_default;
	struct buf buf;
	size_t consumed;

	(void)state;
	more.headers = 1000;
	for (unsigned count = 100; count <= 101; count++) {
		head_of(&buf, "GET", 1);
		for (unsigned i = 1; i < count; i++)
			buf_printf(&buf, "A%u:\r\n", i);
		buf_append_text(&buf, "\r\n");
		assert_int_equal(head_status((const char *)buf.data, buf.len,
				     &more, &consumed),
		    count == 100 ? 0 : 431);
		assert_int_equal(
		    status_of(&buf, &consumed), count == 100 ? 0 : 431);
	}
}

static void
bound_host(void **state)
{
	char text[300] = "GET /" R11 "Host: ", *p = text + strlen(text);
	size_t consumed;

	(void)state;
	memset(p, 'h', 255);
	memcpy(p + 255, END, sizeof(END));
	assert_int_equal(
	    head_status(text, strlen(text), &http_limits_default, &consumed),
	    0);
	memset(p, 'h', 256);
	memcpy(p + 256, END, sizeof(END));
	assert_int_equal(
	    head_status(text, strlen(text), &http_limits_default, &consumed),
	    400);
}

int
main(void)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		REFUSALS(REFUSE_ROW)
		ANSWER_REFUSALS(REFUSE_ROW)
		cmocka_unit_test(bound_target),
		cmocka_unit_test(bound_head),
		cmocka_unit_test(bound_head_largest),
		cmocka_unit_test(bound_headers),
		cmocka_unit_test(bound_host),
	};
	/* clang-format on */

	return cmocka_run_group_tests(tests, NULL, NULL);
}
