/*
 * Requests on their way to and from the keeper: at most KEEPER_FLIGHTS in
 * flight, at most KEEPER_WAITING waiting for a place; bodies in pieces under
 * credit in both directions.
 */
#ifndef KMS_NET_KEEPER_H
#define KMS_NET_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kms-net/client.h"

#define KEEPER_FLIGHTS 512 /* a power of two */
#define KEEPER_WAITING 2048

struct net;
struct chan;

struct flight {
	struct conn *conn; /* NULL while the place is free */
	uint64_t id;	   /* of the request here, or of the last one */
	bool nonce;	   /* a NETKEEPER_NONCE */
	bool sync;	   /* a NETKEEPER_SYNC */
	bool wanted;	   /* ... whose body the keeper wants */
	bool handed_over;  /* the body, or its beginning */
	bool answered;	   /* KEEPERNET_ANSWER or _NONCE was received */
	bool cancelled;	   /* by us: answers may still cross */
	uint64_t body_sent;
	uint64_t body_credit; /* bytes of body the keeper may have been sent */
	uint64_t answer_left; /* bytes of answer body to come */
	uint64_t answer_got;
	uint64_t answer_credit; /* bytes we may be sent */
};

struct keeper {
	struct chan *chan;
	struct flight flights[KEEPER_FLIGHTS];
	uint16_t free[KEEPER_FLIGHTS]; /* places, the last one next */
	size_t free_count;
	uint64_t sequence; /* of the latest request */
	struct conn_queue waiting;
	size_t waiting_count;
};

/* A number that no request has had, for one that the keeper never sees. */
uint64_t keeper_new_id(struct keeper *keeper);

/* The channel to the keeper, on FD_KEEPER. 0 or KMS_E*. */
int keeper_open(struct net *net);

/*
 * Hand over the connection's complete request (nonce: it is a GET /nonce; of
 * ROUTE_SYNC its head): now, later, or answer 503 when too much waits already.
 * When the keeper wants the body behind that head, request_wanted is called.
 */
void keeper_submit(struct conn *conn);

/* Hand over the body that was wanted, now complete. */
void keeper_envelope(struct conn *conn);

/* The request is wanted no more; harmless when the keeper has none. */
void keeper_abandon(struct conn *conn);

/* The client took all that was queued: the keeper may send more. */
void keeper_flushed(struct conn *conn);

#endif
