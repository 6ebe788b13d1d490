/*
 * How the answer of an authenticated request comes about, an app's or a
 * peer's: envelope, signatures, next nonce (PROTOCOL.md sections 2 and 3),
 * then keeper_ops.answer. Pure but for the identity, which may take its time.
 */
#ifndef KMS_KEEPER_REPLY_H
#define KMS_KEEPER_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base64.h"
#include "common/buf.h"
#include "crypto/aead.h"
#include "crypto/signature.h"
#include "kms-keeper/answer_app.h"
#include "kms-keeper/counterpart.h"
#include "kms-keeper/nonce.h"

#define REPLY_RETRY_S 1 /* Retry-After of what may pass at any moment */

struct keeper;

/* Embedded in a request, zeroed; the first part is the request's to fill. */
struct reply {
	struct keeper *keeper;
	uint64_t handle;
	struct counterpart *counterpart; /* who is answered */
	bool bound;			 /* v2: sign status and content */
	bool cancelled;			 /* compose, but do not answer */
	bool forget; /* an envelope of ours cannot come back: not remembered */
	enum audit_kind kind; /* for the audit trail */
	const uint8_t *path;  /* AUDIT_PATH_LEN bytes, or NULL; likewise */
	char caller[SIGNATURE_TEXT_LEN + 1]; /* its signature, as sent */
	/* Once it is answered, or was cancelled: free the request, this too. */
	void (*done)(struct reply *reply);

	unsigned int status; /* private, as are the rest */
	unsigned int retry_after;
	char message[ANSWER_MESSAGE_LEN];
	char nonce[2 * AEAD_NONCE_LEN + 1];
	struct buf data; /* hex */
	char signature[SIGNATURE_TEXT_LEN + 1];
	char signature_v2[SIGNATURE_TEXT_LEN + 1];
	char next_nonce[BASE64_LEN(NONCE_LEN) + 1];
};

/* An error before there is a caller to sign for; answers at once. A 403 is
 * counted by its reason and stands in the audit trail. */
void reply_refuse(struct keeper *keeper, uint64_t handle, unsigned int status,
    unsigned int retry_after, const char *message);

/* Answer 200 with the plaintext, which is read before this returns. done is
 * called once, perhaps before this returns; likewise below. */
void reply_send(struct reply *reply, const void *plaintext, size_t len);

/* Answer with a signed error; retry_after in seconds, 0: none. */
void reply_error(struct reply *reply, unsigned int status,
    unsigned int retry_after, const char *message);

/* Nobody waits for the answer of what was done: for the audit trail. */
void reply_drop(const struct reply *reply);

/* Count what the next identity operation with this counterpart will cost. */
void reply_count_agreement(const struct counterpart *counterpart);

/* Free what it holds. */
void reply_free(struct reply *reply);

#endif
