/* The headers of a proof of possession, as sent (PROTOCOL.md section 2), with
 * what else goes before a peer's body (section 7). */
#ifndef KMS_NET_POP_H
#define KMS_NET_POP_H

#include "common/http.h"
#include "proto/msg.h"

enum pop_caller { POP_OF_APP, POP_OF_PEER };

/* In the order of NETKEEPER_REQUEST and NETKEEPER_SYNC. */
enum pop_header {
	POP_SIGNATURE,
	POP_NONCE,
	POP_TIMESTAMP,
	POP_WALLET,
	POP_AUTH,
	POP_CONTENT,
	POP_SYNC, /* X-Sync-Signature, of peers alone */
	POP_HEADERS
};

struct pop {
	struct http_slice value[POP_HEADERS]; /* "" where absent */
	unsigned int flags;		      /* mask of enum auth_flag */
};

/*
 * Collect those of an app or of a peer. A value that its field cannot carry,
 * being too long or not printable ASCII, is left out and marked
 * AUTH_FLAG_OVERLONG; of a repeated header the first value stands. The keeper
 * decides what that means.
 */
void pop_read(
    const struct http_head *head, enum pop_caller caller, struct pop *pop);

#endif
