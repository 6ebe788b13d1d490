/*
 * Drive the HTTP reader over a stream of messages as a connection would, cut
 * into pieces, and write down all it says: two ways of cutting the same stream
 * must give the same record. Shared by the unit test and the fuzz target.
 */
#ifndef KMS_REGRESS_HTTP_DRIVE_H
#define KMS_REGRESS_HTTP_DRIVE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/http.h"

struct http_drive {
	const struct http_limits *limits;
	bool answers;	/* responses instead of requests */
	size_t first;	/* bytes of the first piece; 0: all at once */
	size_t step;	/* bytes of every further piece; 0: all the rest */
	uint32_t shake; /* not 0: pieces of 1..16 bytes from this seed instead
			 */
	struct buf record;
	int status;	    /* of the refusal that ended it, else 0 */
	const char *reason; /* likewise */
	unsigned messages;  /* read to their end */
	size_t consumed;    /* bytes of those */
};

#define DRIVE_CHECK(condition)                                                 \
	do {                                                                   \
		if (!(condition))                                              \
			abort();                                               \
	} while (0)

static inline size_t
http_drive_piece(struct http_drive *drive, size_t have, size_t len)
{
	size_t piece = have == 0 ? drive->first : drive->step;

	if (drive->shake != 0) {
		drive->shake = drive->shake * 1664525u + 1013904223u;
		piece = 1 + (drive->shake >> 28);
	}
	return piece == 0 || piece > len - have ? len - have : piece;
}

static inline void
http_drive_span(struct http_drive *drive, const char *label,
    const struct http_head *head, struct http_span span, size_t len)
{
	struct http_slice text = http_text(head, span);

	DRIVE_CHECK((size_t)span.at + span.len <= len);
	DRIVE_CHECK(buf_printf(&drive->record, "%s ", label) == 0);
	DRIVE_CHECK(buf_append(&drive->record, text.data, text.len) == 0);
	DRIVE_CHECK(buf_append(&drive->record, "\n", 1) == 0);
}

static inline void
http_drive_head(struct http_drive *drive, const struct http_head *head,
    size_t head_len, unsigned code)
{
	DRIVE_CHECK(head->header_count <= HTTP_HEADERS_MAX);
	for (unsigned i = 0; i < head->header_count; i++) {
		http_drive_span(
		    drive, "name", head, head->headers[i].name, head_len);
		http_drive_span(
		    drive, "value", head, head->headers[i].value, head_len);
	}
	DRIVE_CHECK(
	    buf_printf(&drive->record,
		"code %u minor %u keep %d expect %d framing %d length "
		"%" PRIu64 "\nbody ",
		code, head->minor, head->keep_alive, head->expect_continue,
		(int)head->framing, head->content_length) == 0);
}

static inline int
http_drive_refused(struct http_drive *drive, int rc, int status,
    const char *reason, size_t body_len)
{
	DRIVE_CHECK(rc == KMS_EPROTO || rc == KMS_ETOOBIG);
	DRIVE_CHECK(status >= 400 && reason != NULL);
	drive->status = status;
	drive->reason = reason;
	DRIVE_CHECK(buf_printf(&drive->record, "\nrefused %d %d %zu: %s\n", rc,
			status, body_len, reason) == 0);
	return rc;
}

/*
 * One message at data, of which len bytes will ever come. The reader sees a
 * copy of exactly those that have, somewhere else each time: a look beyond
 * them is the sanitizer's to find. 0 and its length in *used, or its error.
 */
static inline int
http_drive_message(
    struct http_drive *drive, const char *data, size_t len, size_t *used)
{
	struct http_request req;
	struct http_response response;
	struct http_head *head = drive->answers ? &response.head : &req.head;
	struct http_body body;
	const uint8_t *out;
	size_t have = 0, head_len = 0, at, out_len, taken;
	char *copy = NULL;
	int rc = KMS_EAGAIN;

	http_request_init(&req);
	http_response_init(&response);
	while (rc == KMS_EAGAIN && have < len) {
		have += http_drive_piece(drive, have, len);
		free(copy);
		DRIVE_CHECK((copy = malloc(have)) != NULL);
		memcpy(copy, data, have);
		rc = drive->answers ? http_response_parse(&response, copy, have,
					  drive->limits, &head_len)
				    : http_request_parse(&req, copy, have,
					  drive->limits, &head_len);
		/* Never far behind: feeding by bytes costs linear time. */
		DRIVE_CHECK(rc != KMS_EAGAIN || head->scan + 1 >= have);
	}
	if (rc != 0) {
		if (rc != KMS_EAGAIN)
			http_drive_refused(
			    drive, rc, head->status, head->reason, 0);
		free(copy);
		return rc;
	}
	DRIVE_CHECK(head_len > 0 && head_len <= have);
	if (!drive->answers) {
		http_drive_span(drive, "method", head, req.method, head_len);
		http_drive_span(drive, "target", head, req.target, head_len);
	}
	http_drive_head(
	    drive, head, head_len, drive->answers ? response.code : 0);

	at = head_len;
	rc = http_body_init(&body, head, drive->limits);
	DRIVE_CHECK(rc == 0);
	for (rc = KMS_EAGAIN; rc == KMS_EAGAIN;) {
		size_t more = have - at;
		/* A body's bytes too are seen alone. */
		free(copy);
		DRIVE_CHECK((copy = malloc(more + 1)) != NULL);
		memcpy(copy + 1, data + at, more);
		rc = http_body_feed(
		    &body, copy + 1, more, &taken, &out, &out_len);
		DRIVE_CHECK(taken <= more && out_len <= taken);
		DRIVE_CHECK(rc != KMS_EAGAIN || taken > 0 || more == 0);
		DRIVE_CHECK(buf_append(&drive->record, out, out_len) == 0);
		DRIVE_CHECK(body.total <= drive->limits->body);
		at += taken;
		if (rc == KMS_EAGAIN && at == have) {
			if (have == len)
				break;
			have += http_drive_piece(drive, have, len);
		}
	}
	free(copy);
	*used = at;
	if (rc != 0 && rc != KMS_EAGAIN)
		http_drive_refused(
		    drive, rc, body.status, body.reason, at - head_len);
	return rc;
}

/*
 * A stream of messages until one is refused, closes the connection or is
 * incomplete. Returns what the last one did; free drive->record.
 */
static inline int
http_drive(struct http_drive *drive, const void *data, size_t len)
{
	const char *p = data;
	size_t used = 0;
	int rc = 0;

	buf_init(&drive->record, 1 << 24);
	while (rc == 0 && len > 0) {
		rc = http_drive_message(drive, p, len, &used);
		if (rc != 0)
			break;
		drive->messages++;
		drive->consumed += used;
		DRIVE_CHECK(buf_append_text(&drive->record, "\nend\n") == 0);
		p += used;
		len -= used;
	}
	if (rc == KMS_EAGAIN)
		DRIVE_CHECK(buf_printf(&drive->record, "\nincomplete\n") == 0);
	return rc;
}

#endif
