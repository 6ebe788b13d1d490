/*
 * The connections of clients: accepting, reading, writing, deadlines, making
 * room. What the bytes mean is request.c's business.
 */
#ifndef KMS_NET_HTTP_H
#define KMS_NET_HTTP_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/uio.h>
#include <uv.h>

#include "kms-net/bytes.h"
#include "kms-net/client.h"
#include "kms-net/request.h"

#define HTTP_INPUT_MAX 16384 /* unread bytes kept per connection: one head */
#define HTTP_READ_MAX 65536  /* bytes of one read of a body */

struct net;
struct flight;

enum conn_state {
	CONN_HEAD,    /* between requests, or in a head */
	CONN_BODY,    /* in a body */
	CONN_WAITING, /* the request waits for a place with the keeper */
	CONN_KEEPER,  /* the keeper has the request */
	CONN_ANSWER,  /* the answer is on its way out */
	CONN_LINGER,  /* answered and half closed: what comes is dropped */
	CONN_CLOSED
};

/*
 * Every open connection is on exactly one of these; all on one have the same
 * time from joining it to their deadline, so the first is always the next due.
 */
enum conn_due {
	DUE_IDLE,    /* idle-timeout: no request has begun */
	DUE_REQUEST, /* request-timeout, from a request's first byte */
	DUE_SYNC,    /* sync-timeout, from the head of a sync request */
	DUE_ANSWER,  /* request-timeout, from an answer's first byte */
	DUE_LINGER,
	DUES
};

struct conn {
	uv_poll_t poll;
	struct net *net;
	int fd;
	int events; /* what poll waits for now */
	enum conn_state state;
	bool metrics_only; /* came in on the metrics socket */
	bool trusted;	   /* the peer is a trusted proxy */
	bool begun;	   /* some byte of a request was read */
	bool asked;	   /* ... of this or an earlier one */
	bool busy;	   /* request_input is at work on it */
	bool eof;	   /* the client has finished sending */
	bool close_after;  /* no request follows the current one */
	bool unread;	   /* ... and input may be left: linger */
	bool answered;	   /* the whole answer is written or queued */
	struct address peer;
	struct client *client; /* NULL for trusted proxies */
	struct budget *memory; /* the client's, or that of all */
	enum conn_due due;
	uint64_t deadline; /* uv_now of the loop */
	TAILQ_ENTRY(conn) in_due;
	TAILQ_ENTRY(conn) in_client;  /* while due is DUE_IDLE */
	TAILQ_ENTRY(conn) in_waiting; /* while state is CONN_WAITING */
	struct bytes in;	      /* read, not yet understood */
	struct bytes out;	      /* answered, not yet written */
	size_t out_sent;
	struct request request;
	struct flight *flight; /* while the keeper has the request */
};

struct listener {
	uv_poll_t poll;
	struct net *net;
	int fd;
	bool metrics_only;
	bool waiting; /* accepting failed: try again at the next tick */
};

#define HTTP_LISTENERS 2

struct http {
	struct listener listeners[HTTP_LISTENERS];
	size_t listener_count;
	bool accepting;
	uv_timer_t tick; /* every deadline is looked at by this one */
	uint64_t connections;
	uint64_t per_client; /* most connections of one client */
	uint64_t timeout[DUES];
	struct conn_queue due[DUES];
	uint8_t input[HTTP_READ_MAX]; /* where every read goes first */
};

/* Take over the bound sockets; nothing is accepted yet. 0 or KMS_ESYS. */
int http_open(struct net *net);

/* net->config has other limits or timeouts: they hold for open connections
 * too, but none is closed because there are more than max-connections. */
void http_reconfigured(struct net *net);

/* The sockets listen: accept from now on. */
void http_accept(struct net *net);

/*
 * Write or queue a piece of the current answer. Returns false when the
 * connection was closed instead: the client is gone, or the memory for what
 * it does not take is used up.
 */
bool http_write(struct conn *conn, const struct iovec *iov, int count);

/* The answer is complete: go on to the next request once it is written. */
void http_answered(struct conn *conn);

/* Everything queued is written. */
bool http_flushed(const struct conn *conn);

/* The body behind the request's head is wanted: understand what is here of
 * it, and read on. */
void http_resume(struct conn *conn);

/* Join another list, with a new deadline. */
void http_due(struct conn *conn, enum conn_due due);

/* Close now; a request in the keeper is cancelled. */
void http_close(struct conn *conn);

#endif
