/*
 * The texts that proofs of possession and their answers sign (PROTOCOL.md
 * section 2). Builders append to a caller's buffer, whose ceiling bounds them;
 * on an error the buffer is as it was.
 */
#ifndef KMS_CRYPTO_POP_H
#define KMS_CRYPTO_POP_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "crypto/sha256.h"

#define POP_NONCE_TEXT_MIN 16 /* base64 characters of a nonce we sign */
#define POP_NONCE_TEXT_MAX 64
#define POP_METHOD_MAX 16
#define POP_TIMESTAMP_MAX 9999999999999 /* seconds */

enum pop_kind {
	POP_APP, /* app to node: NovaKMS:AppAuth */
	POP_NODE /* node to node: NovaKMS:Auth */
};

struct pop_request {
	enum pop_kind kind;
	const char *nonce; /* base64 as received; borrowed */
	size_t nonce_len;
	struct eth_address recipient; /* the node that is asked */
	int64_t timestamp;	      /* seconds since 1970 */
};

/* What a bound request (v2) adds. */
struct pop_binding {
	const char *method; /* upper-case letters, borrowed */
	size_t method_len;
	const char *target; /* between the two spaces of the request line */
	size_t target_len;
	uint8_t content_hash[SHA256_LEN]; /* of the canonical body or of "" */
};

/*
 * A timestamp header: decimal digits without sign or leading zero, at most
 * POP_TIMESTAMP_MAX, so that the number stands for exactly one text.
 * KMS_EINVAL.
 */
int pop_timestamp_parse(const char *text, size_t len, int64_t *timestamp);

/* 0 when text is 16..64 characters of base64 (padding only at the end). */
int pop_nonce_check(const char *text, size_t len);

/*
 * The text a caller signs, v1:
 *   NovaKMS:AppAuth:<nonce>:<recipient>:<timestamp>   (POP_NODE: NovaKMS:Auth)
 * KMS_EINVAL when the nonce is not 16..64 base64 characters or the timestamp
 * is out of range; KMS_ETOOBIG, KMS_ENOMEM.
 */
int pop_request_append(const struct pop_request *request, struct buf *out);

/*
 * The same, bound (v2):
 *   NovaKMS:AppAuth:v2:<nonce>:<recipient>:<timestamp>:<METHOD>:<target>:<hash>
 * Also KMS_EINVAL when the method is not 1..16 upper-case letters or the
 * target is empty or not visible ASCII.
 */
int pop_request_v2_append(const struct pop_request *request,
    const struct pop_binding *binding, struct buf *out);

/*
 * The text a node signs over its answer, v1:
 *   NovaKMS:Response:<caller signature as sent>:<node>
 * KMS_EINVAL when the signature text is not 130 hex digits with or without
 * "0x"; KMS_ETOOBIG, KMS_ENOMEM.
 */
int pop_response_append(const char *signature, size_t signature_len,
    const struct eth_address *node, struct buf *out);

/*
 * The same, v2:
 *   NovaKMS:Response:v2:<caller signature>:<node>:<status>:<hash>
 * status is 100..599 (KMS_EINVAL); content_hash is that of the answer's
 * canonical envelope or of its error.
 */
int pop_response_v2_append(const char *signature, size_t signature_len,
    const struct eth_address *node, unsigned int status,
    const uint8_t content_hash[SHA256_LEN], struct buf *out);

/*
 * SHA-256 of {"code":"<code>","message":"<message>"}. Both are the contents of
 * the strings as sent; KMS_EINVAL when one holds a character that JSON
 * escapes. KMS_ECRYPTO.
 */
int pop_error_hash(
    const char *code, const char *message, uint8_t digest[SHA256_LEN]);

#endif
