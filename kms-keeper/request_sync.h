/*
 * One POST /sync of a peer, from its head to its answer (PROTOCOL.md sections
 * 2, 3, 6 and 7): the head alone (nonce, proof, membership) decides whether a
 * byte of the body is read; then envelope, HMAC, cluster_serve, envelope,
 * signatures. Pure: its inputs are what kms-net handed over.
 */
#ifndef KMS_KEEPER_REQUEST_SYNC_H
#define KMS_KEEPER_REQUEST_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "kms-keeper/request.h"

#define SYNC_REQUESTS_MAX 64	       /* under way at once */
#define SYNC_REQUESTS_PEER_MAX 4       /* of one wallet */
#define SYNC_REQUESTS_STRANGERS_MAX 32 /* of wallets not known as peers */
#define SYNC_BODY_MAX (128u << 20)     /* bytes of their bodies together */

/* Without the sync key only what hands the secret over is of use: a body of
 * more bytes than this is then not read. */
#define SYNC_KEYLESS_BODY_MAX 65536

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

/* What stands behind: the cluster (cluster.h). */
struct sync_requests_ops {
	/* SYNC_KEY_LEN bytes, borrowed until the next input, or NULL. */
	const uint8_t *(*sync_key)(void *arg);
	/* Must this node's requests be bound (v2)? */
	bool (*is_ours)(void *arg, const struct eth_address *wallet);
	/* As cluster_serve. */
	unsigned int (*serve)(void *arg, const struct eth_address *wallet,
	    bool hmac_holds, const char *body, size_t len, struct buf *answer,
	    const char **message);
	void *arg;
};

struct sync_requests;

/* NULL without memory. ops is copied. */
struct sync_requests *sync_requests_new(
    struct keeper *keeper, const struct sync_requests_ops *ops);
void sync_requests_free(struct sync_requests *requests);

/*
 * A head arrived under a handle that no other request has now: keeper_ops.go
 * is called when its body is wanted, or keeper_ops.answer, perhaps before this
 * returns. KMS_EPROTO when the sender broke the protocol.
 */
int sync_request_begin(struct sync_requests *requests, uint64_t handle,
    const struct sync_head *head);

/* Its envelope, once, after go: else KMS_EPROTO. An unknown handle is ignored,
 * also below. */
int sync_request_envelope(struct sync_requests *requests, uint64_t handle,
    const struct sync_envelope *envelope);

/* A further piece of encrypted_data. Returns 1 when the handle is one of
 * these, 0 when not; KMS_EPROTO before its envelope, or when it is more than
 * was announced. */
int sync_request_body(struct sync_requests *requests, uint64_t handle,
    const char *data, size_t len);

void sync_request_cancel(struct sync_requests *requests, uint64_t handle);
void sync_requests_cancel_all(struct sync_requests *requests);

size_t sync_requests_count(const struct sync_requests *requests);
size_t sync_requests_bytes(const struct sync_requests *requests);

#endif
