/* Answers: heads composed on the stack, written with their body at once. */
#ifndef KMS_NET_ANSWER_H
#define KMS_NET_ANSWER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/http.h"

struct conn;
struct net;

#define ANSWER_ID_LEN 16 /* hex digits of X-Request-Id */

/* The text of a request's id. */
void answer_put_id(uint64_t id, char text[ANSWER_ID_LEN]);

#define ANSWER_PARTS 3

struct answer {
	int status;
	const char *type;	     /* media type; NULL: application/json */
	const char *allow;	     /* NULL: no Allow */
	uint64_t retry_after;	     /* seconds; 0: none */
	bool of_node;		     /* the signature is for a peer */
	struct http_slice signature; /* len 0: not sent; visible ASCII */
	struct http_slice signature_v2;
	struct http_slice next_nonce;
	const struct iovec *body; /* at most ANSWER_PARTS pieces */
	int body_count;
	uint64_t rest; /* bytes of body that follow with answer_more */
};

/* Send it; with rest 0 the answer is then complete. Borrowed memory is not
 * needed any more on return. */
void answer_send(struct conn *conn, const struct answer *answer);

/* A further piece of an answer; last: it is complete. */
void answer_more(
    struct conn *conn, const struct iovec *iov, int count, int last);

/*
 * {"code":…,"message":…} as the body of an answer whose other members are
 * filled in. Retry-After is 1 second where the status wants one and none is
 * given. Texts are UTF-8 of at most 64 and 512 bytes.
 */
void answer_send_error(struct conn *conn, struct answer *answer,
    struct http_slice code, struct http_slice message);

/* The plain case; the code follows from the status. */
void answer_error(struct conn *conn, int status, const char *message);

/* Close after the answer, with unread input likely. */
void answer_then_close(struct conn *conn);

/* The code of PROTOCOL.md section 5 for a status. */
const char *answer_code(int status);

/* The place of a status in the table of all that are sent, below
 * METRICS_STATUSES; and back, 0 for a place that is not used. */
size_t answer_status_index(int status);
int answer_status_at(size_t index);

#endif
