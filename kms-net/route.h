/* The routes of PROTOCOL.md section 5, one row each. */
#ifndef KMS_NET_ROUTE_H
#define KMS_NET_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/http.h"
#include "proto/msg.h"

struct conn;

enum route_flag {
	ROUTE_BODY = 1,	     /* takes a JSON body; all others take none */
	ROUTE_UNCOUNTED = 2, /* no rate limit counts it */
	ROUTE_NONCE = 4,     /* nonce-rate counts it instead of request-rate */
	ROUTE_READY = 8,     /* 503 unless the keeper says ready */
	ROUTE_SYNC = 16,     /* takes a JSON body, read when the keeper, which
				sees the head first, wants it */
	ROUTE_METRICS = 32   /* also, or only, on the metrics socket */
};

struct route {
	enum kms_method method;
	const char *path; /* "{key}" at its end stands for any rest */
	unsigned int flags;
	const char *auth;    /* who may call, for the overview */
	const char *summary; /* likewise */
	/* Called with the complete request; answers now or later. Of
	 * ROUTE_SYNC: with its head, and again with its body. */
	void (*answer)(struct conn *conn);
};

extern const struct route route_table[];
extern const size_t route_count;

/* "GET" and so on. */
const char *route_method_name(enum kms_method method);

/*
 * The row for a method and the path of a target (up to '?', compared byte by
 * byte). NULL when there is none; *allowed is then the mask of 1 << enum
 * kms_method that the path takes, 0 for an unknown path.
 */
const struct route *route_find(
    struct http_slice method, struct http_slice target, unsigned int *allowed);

#define ROUTE_ALLOW_MAX 32

/* The value of Allow for a mask: "GET, PUT". */
void route_allow(unsigned int allowed, char text[ROUTE_ALLOW_MAX]);

#endif
