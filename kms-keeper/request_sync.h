/*
 * One POST /sync of a peer, from its head to its answer (PROTOCOL.md sections
 * 2, 3, 6 and 7): the head alone (nonce, proof, membership) decides whether a
 * byte of the body is read; then envelope, HMAC, cluster_serve, envelope,
 * signatures. Pure: its inputs are what kms-net handed over.
 */
#ifndef KMS_KEEPER_REQUEST_SYNC_H
#define KMS_KEEPER_REQUEST_SYNC_H

#include <stddef.h>
#include <stdint.h>

#include "kms-keeper/request.h"

#define SYNC_REQUESTS_MAX 64	 /* under way at once */
#define SYNC_REQUESTS_PEER_MAX 4 /* of one peer */

struct keeper;

/* NETKEEPER_SYNC, borrowed for the call. */
struct sync_head {
	struct text target;
	unsigned int flags;    /* enum auth_flag */
	struct text signature; /* X-KMS-Signature, and so on */
	struct text nonce;
	struct text timestamp;
	struct text wallet;
	struct text version; /* X-KMS-Auth */
	struct text content_hash;
	struct text sync_signature; /* X-Sync-Signature */
};

/* NETKEEPER_ENVELOPE: the body has been read, this is its beginning. */
struct sync_envelope {
	struct text sender;
	struct text nonce;
	uint64_t data_total; /* characters of encrypted_data */
	struct text data;    /* its first piece */
};

struct sync_requests;

/* NULL without memory. */
struct sync_requests *sync_requests_new(struct keeper *keeper);
void sync_requests_free(struct sync_requests *requests);

/*
 * A head arrived under a handle that no other request has now: keeper_ops.go
 * is called when its body is wanted, or keeper_ops.answer, perhaps before this
 * returns. KMS_EPROTO when the sender broke the protocol.
 */
int sync_request_begin(struct sync_requests *requests, uint64_t handle,
    const struct sync_head *head);

/* Its envelope, once, after go. KMS_EPROTO. */
int sync_request_envelope(struct sync_requests *requests, uint64_t handle,
    const struct sync_envelope *envelope);

/* A further piece of encrypted_data. Returns 1 when the handle is one of
 * these, 0 when not; KMS_EPROTO. */
int sync_request_body(struct sync_requests *requests, uint64_t handle,
    const char *data, size_t len);

void sync_request_cancel(struct sync_requests *requests, uint64_t handle);
void sync_requests_cancel_all(struct sync_requests *requests);

#endif
