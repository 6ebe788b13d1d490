/*
 * One HTTP/1.1 exchange with the identity service (PROTOCOL.md section 10):
 * the bytes of a request, and the strict, bounded reading of its answer. Pure:
 * whose connection it is, and how long it may take, is capsule_pool.c's.
 */
#ifndef KMS_KEEPER_CAPSULE_HTTP_H
#define KMS_KEEPER_CAPSULE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/http.h"

#define CAPSULE_REQUEST_MAX (10u << 20) /* bytes of a request's body */
#define CAPSULE_ANSWER_MAX (24u << 20)	/* bytes of an answer's body */
#define CAPSULE_HEAD_MAX 16384 /* bytes of all heads of an answer, 1xx too */

struct capsule_http {
	struct http_response response;
	struct http_body reader;
	struct buf head; /* what has come of it */
	struct buf body; /* content; may hold secrets */
	size_t heads;	 /* bytes of the 1xx heads so far */
	bool in_body;
	bool begun; /* a byte of the answer has come */
	bool done;
	const char *reason; /* when refused: what was expected, static text */
};

/*
 * Append a request to out: POST with a body, which is JSON, GET when body is
 * NULL. host is the Host header's value. KMS_ETOOBIG beyond
 * CAPSULE_REQUEST_MAX, KMS_ENOMEM.
 */
int capsule_http_request(struct buf *out, const char *host, const char *target,
    const struct buf *body);

/* Start reading an answer whose body has at most body_max bytes. */
void capsule_http_init(struct capsule_http *http, size_t body_max);
void capsule_http_free(struct capsule_http *http); /* wipes */

/*
 * The next len bytes of the connection. 0: the answer is complete, its status
 * http->response.code, its body http->body. KMS_EAGAIN: more is to come.
 * KMS_EPROTO: no answer of HTTP as common/http.h takes it, or bytes behind it:
 * nobody asked for a second one. KMS_ETOOBIG, KMS_ENOMEM. After an error the
 * connection is of no use.
 */
int capsule_http_feed(
    struct capsule_http *http, const uint8_t *data, size_t len);

/* May the connection carry another exchange? Of a complete answer. */
bool capsule_http_reusable(const struct capsule_http *http);

#endif
