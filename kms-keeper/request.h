/*
 * One request of an app, from its head to its answer (PROTOCOL.md sections 2,
 * 3, 5 and 6): proof of possession, authorisation, envelope, operation,
 * envelope, signatures. Pure: its inputs are what kms-net handed over.
 */
#ifndef KMS_KEEPER_REQUEST_H
#define KMS_KEEPER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/msg.h"

#define REQUESTS_MAX 1024	       /* under way at once */
#define REQUESTS_BODY_MAX (128u << 20) /* bytes of their bodies together */

struct keeper;

/* A borrowed text. */
struct text {
	const char *text;
	size_t len;
};

/* NETKEEPER_REQUEST, borrowed for the call. */
struct request_head {
	enum kms_method method;
	struct text target;
	unsigned int flags; /* enum auth_flag */
	struct text signature;
	struct text nonce;
	struct text timestamp;
	struct text wallet;
	struct text version; /* X-App-Auth */
	struct text content_hash;
	bool envelope;
	struct text sender;
	struct text envelope_nonce;
	uint64_t data_total; /* characters of encrypted_data */
	struct text data;    /* its first piece */
};

/* KEEPERNET_ANSWER, borrowed for the call. Texts are "" where absent. */
struct answer {
	unsigned int status;
	const char *code;
	const char *message;
	unsigned int retry_after; /* seconds, 0: none */
	const char *signature;
	const char *signature_v2;
	const char *next_nonce;
	bool envelope;
	const char *sender;
	const char *nonce;
	const char *data; /* hex text */
	size_t data_len;
};

struct requests;

/* NULL without memory. */
struct requests *requests_new(struct keeper *keeper);
void requests_free(struct requests *requests);

/*
 * A request arrived under a handle that no other has now. keeper_ops.answer is
 * called once for it, perhaps before this returns, unless it is cancelled.
 * KMS_EPROTO when the sender broke the protocol.
 */
int request_begin(struct requests *requests, uint64_t handle,
    const struct request_head *head);

/* A further piece of its encrypted_data. KMS_EPROTO when it is more than was
 * announced. An unknown handle is ignored: it is answered already. */
int request_body(
    struct requests *requests, uint64_t handle, const char *data, size_t len);

/* Nobody waits for the answer any more. */
void request_cancel(struct requests *requests, uint64_t handle);

/* All requests of the lost kms-net. */
void requests_cancel_all(struct requests *requests);

size_t requests_count(const struct requests *requests);

#endif
