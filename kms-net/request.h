/*
 * From bytes to a request that a route can answer: head, client, rate limits,
 * route, body.
 */
#ifndef KMS_NET_REQUEST_H
#define KMS_NET_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/http.h"
#include "common/json_strings.h"
#include "kms-net/address.h"
#include "kms-net/bytes.h"
#include "kms-net/route.h"

struct conn;

struct request {
	struct http_request http; /* its spans point into head or the input */
	uint64_t began_ns; /* uv_hrtime at its first byte; 0: not begun */
	uint64_t id; /* X-Request-Id, and its number with the keeper; 0: none */
	size_t head_len;
	struct bytes head; /* the head, when it must outlive the input */
	const struct route *route;
	struct http_body body;
	struct bytes content; /* the body, unless the input holds it whole */
	const uint8_t *data;  /* the body, once it is complete */
	size_t data_len;
	bool small_only; /* the keeper wants no body as long as is allowed */
	struct json_envelope envelope;
	struct address client; /* whom the limits count, if counted */
	bool counted;
	bool head_only; /* HEAD: no body may follow an answer's head */
};

/* Begin the next request of a connection. */
void request_init(struct request *request);

/* Understand as much of the input as there is; what is left goes to conn->in
 * (data may be a part of that). */
void request_input(struct conn *conn, const uint8_t *data, size_t len);

/*
 * Copy what of the request still lies in the shared input buffer (head and
 * body), since the request is not answered at once. 0, KMS_EBUSY, KMS_ENOMEM.
 */
int request_hold(struct conn *conn);

/*
 * Of ROUTE_SYNC: is the body behind the head still to be read? Then an answer
 * must be the connection's last.
 */
bool request_is_unread(const struct conn *conn);

/* The keeper wants that body, if it has at most so many bytes: read on. */
void request_wanted(struct conn *conn, uint64_t most);

/* The caller proved who it is: its request does not count against its
 * client's limits, nor the nonce it used. */
void request_authenticated(struct conn *conn);

/* Free what it holds. */
void request_free(struct conn *conn);

#endif
