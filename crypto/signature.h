/*
 * Recoverable secp256k1 signatures as bytes and text (PROTOCOL.md section 1):
 * r (32) || s (32) || v, with v 0 or 1 and s in the low half.
 */
#ifndef KMS_CRYPTO_SIGNATURE_H
#define KMS_CRYPTO_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#define SIGNATURE_LEN 65
#define SIGNATURE_TEXT_LEN 132 /* "0x" and 130 digits, without the NUL */

/*
 * Parse a caller's signature: 130 hex digits in any case, "0x" optional.
 * v 0, 1, 27 or 28 becomes 0 or 1. KMS_EINVAL on other text, r or s zero or
 * not below the group's order, or a high s (no malleable twin).
 */
int signature_parse(
    const char *text, size_t len, uint8_t signature[SIGNATURE_LEN]);

/* "0x" and 130 lower-case digits, NUL-terminated. */
void signature_format(
    const uint8_t signature[SIGNATURE_LEN], char text[SIGNATURE_TEXT_LEN + 1]);

/* As signature_parse's rules, for bytes; v is made 0 or 1 in place. */
int signature_check(uint8_t signature[SIGNATURE_LEN]);

/*
 * What an identity service signed, made what we send: v 0, 1, 27 or 28 to 0
 * or 1, a high s to its low twin with v flipped. KMS_EINVAL for another v, or
 * r or s out of range.
 */
int signature_normalise(uint8_t signature[SIGNATURE_LEN]);

#endif
