/* Hexadecimal text, as the wire uses it: output is lower case without 0x. */
#ifndef KMS_COMMON_HEX_H
#define KMS_COMMON_HEX_H

#include <stddef.h>
#include <stdint.h>

/*
 * Write the 2*len lower-case digits of data to out, and a NUL behind them:
 * out has room for 2*len+1 bytes. Branch-free per nibble.
 */
void hex_encode(const uint8_t *data, size_t len, char *out);

/*
 * Decode text (text_len bytes, any case, an optional "0x" in front) into out,
 * which has room for out_size bytes; *out_len is set to the bytes written.
 * KMS_EINVAL on an odd count or another character, KMS_ETOOBIG when it does
 * not fit. out may be text itself (decoding in place).
 */
int hex_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size,
    size_t *out_len);

/* As hex_decode, and the result must be exactly out_len bytes (KMS_EINVAL). */
int hex_decode_exact(
    const char *text, size_t text_len, uint8_t *out, size_t out_len);

#endif
