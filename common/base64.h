/* Standard base64 with padding (RFC 4648 section 4), strict on input. */
#ifndef KMS_COMMON_BASE64_H
#define KMS_COMMON_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Length of the text of len bytes, without its NUL. */
#define BASE64_LEN(len) (((len) + 2) / 3 * 4)

/* Upper bound of the bytes that text_len characters decode to. */
#define BASE64_DECODED_MAX(text_len) ((text_len) / 4 * 3)

/* Write BASE64_LEN(len) characters and a NUL to out. */
void base64_encode(const uint8_t *data, size_t len, char *out);

/*
 * Decode text into out (room for out_size bytes). Accepts exactly what
 * base64_encode produces: padded, no white space, unused bits zero.
 * KMS_EINVAL on anything else, KMS_ETOOBIG when it does not fit.
 */
int base64_decode(const char *text, size_t text_len, uint8_t *out,
    size_t out_size, size_t *out_len);

#endif
