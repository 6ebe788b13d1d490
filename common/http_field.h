/* Private to the HTTP reader: header fields with a meaning of their own. */
#ifndef KMS_COMMON_HTTP_FIELD_H
#define KMS_COMMON_HTTP_FIELD_H

#include "common/http.h"

/* head->state */
enum { HEAD_START, HEAD_HEADERS, HEAD_DONE, HEAD_REFUSED };

/* head->seen */
enum {
	SEEN_LENGTH = 1,
	SEEN_CODING = 2,
	SEEN_HOST = 4,
	SEEN_EXPECT = 8,
	SEEN_CLOSE = 16,
	SEEN_KEEP_ALIVE = 32,
	IS_REQUEST = 64
};

/*
 * Refuse the head for good: status is what a server answers (an answer's head
 * always gets 502), reason static text. Returns the KMS_E* to return.
 */
int http_head_refuse(struct http_head *head, int status, const char *reason);

/*
 * Take note of a header that frames the message or rules the connection.
 * 0, or what http_head_refuse returned.
 */
int http_field_read(
    struct http_head *head, struct http_slice name, struct http_slice value);

#endif
