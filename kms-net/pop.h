/* The headers of a proof of possession, as sent (PROTOCOL.md section 2). */
#ifndef KMS_NET_POP_H
#define KMS_NET_POP_H

#include "common/http.h"
#include "proto/msg.h"

/* In the order of NETKEEPER_REQUEST. */
enum pop_header {
	POP_SIGNATURE,
	POP_NONCE,
	POP_TIMESTAMP,
	POP_WALLET,
	POP_AUTH,
	POP_CONTENT,
	POP_HEADERS
};

struct pop {
	struct http_slice value[POP_HEADERS]; /* "" where absent */
	unsigned int flags;		      /* mask of enum auth_flag */
};

/*
 * Collect them. A value that its field cannot carry, being too long or not
 * printable ASCII, is left out and marked AUTH_FLAG_OVERLONG; of a repeated
 * header the first value stands. The keeper decides what that means.
 */
void pop_read(const struct http_head *head, struct pop *pop);

#endif
