/* The texts that the HTTP reader's tests are made of, and their driver. */
#ifndef KMS_REGRESS_HTTP_TEXT_H
#define KMS_REGRESS_HTTP_TEXT_H

#include "regress/fuzz/http_drive.h"

#define R11 " HTTP/1.1\r\n"
#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define END "\r\n\r\n"
#define TEXT64                                                                 \
	"0123456789abcdef0123456789abcdef"                                     \
	"0123456789abcdef0123456789abcdef"
#define ANSWER "HTTP/1.1 200 OK\r\n"

/* Bounds that short texts reach; the real ones have tests of their own. */
static const struct http_limits limits = { .target = 64,
	.head = 512,
	.headers = 8,
	.body = 32,
	.extension = 10,
	.trailer = 20 };

static inline void
drive_once(struct http_drive *drive, const char *text, size_t len, int *rc)
{
	if (drive->limits == NULL)
		drive->limits = &limits;
	*rc = http_drive(drive, text, len);
}

static inline void
assert_same(const struct http_drive *a, const struct http_drive *b)
{
	assert_int_equal(a->consumed, b->consumed);
	assert_int_equal(a->record.len, b->record.len);
	assert_memory_equal(a->record.data, b->record.data, a->record.len);
}

/*
 * Drive text whole, by single bytes, and in two pieces at every place: all
 * must agree. Returns the whole run, whose record is to be freed.
 */
static inline struct http_drive
drive_all(bool answers, const char *text, size_t len, int *rc)
{
	struct http_drive whole = { .answers = answers };
	int other;

	drive_once(&whole, text, len, rc);
	for (size_t split = 0; split < len; split++) {
		/* Split 0 stands for single bytes. */
		struct http_drive cut = { .answers = answers,
			.first = split == 0 ? 1 : split,
			.step = split == 0 ? 1 : 0 };
		drive_once(&cut, text, len, &other);
		assert_int_equal(other, *rc);
		assert_same(&whole, &cut);
		buf_free(&cut.record);
	}
	return whole;
}

/* Parse a head whole; its status, 0 when it was taken, 100 when incomplete. */
static inline int
head_status(const char *text, size_t len, const struct http_limits *of,
    size_t *consumed)
{
	struct http_request req;
	int rc;

	http_request_init(&req);
	rc = http_request_parse(&req, text, len, of, consumed);
	return rc == KMS_EAGAIN ? 100 : req.head.status;
}

#endif
