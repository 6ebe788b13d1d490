/* Contents of JSON strings that stand for themselves. */
#ifndef KMS_CRYPTO_JSON_TEXT_H
#define KMS_CRYPTO_JSON_TEXT_H

#include <stddef.h>

/*
 * 1 when JSON writes these bytes as they are (RFC 8259 section 7: no quote, no
 * backslash, no control character), else 0. UTF-8 is not checked.
 */
int json_text_is_plain(const char *text, size_t len);

#endif
