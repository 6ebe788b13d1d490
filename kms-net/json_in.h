/*
 * Read an envelope (PROTOCOL.md section 3) without building a tree: one pass
 * over the text, nothing allocated. Pure.
 */
#ifndef KMS_NET_JSON_IN_H
#define KMS_NET_JSON_IN_H

#include <stddef.h>
#include <stdint.h>

#include "common/http.h"

#define JSON_IN_SENDER_MAX 512 /* bytes, as NETKEEPER_REQUEST carries them */
#define JSON_IN_NONCE_MAX 64

struct json_envelope {
	struct http_slice sender; /* pieces of the text that was read */
	struct http_slice nonce;
	struct http_slice data;
};

/*
 * The text must be one JSON object with exactly the members
 * sender_tee_pubkey, nonce and encrypted_data, in any order, each a string of
 * visible ASCII and spaces without escapes; nothing but white space (RFC 8259
 * section 2) around it. KMS_EINVAL otherwise, and *reason (static text, for
 * the client) says what is wrong.
 */
int json_in_envelope(const uint8_t *text, size_t len,
    struct json_envelope *envelope, const char **reason);

#endif
