/* Write JSON text (RFC 8259). Pure. */
#ifndef KMS_NET_JSON_OUT_H
#define KMS_NET_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"

/*
 * Append len bytes of well-formed UTF-8 as a quoted string. Only what must be
 * is escaped: '"' and '\' with '\', control characters as \u00xx in lower
 * case; the keeper signs errors in this same form. KMS_ENOMEM, KMS_ETOOBIG.
 */
int json_out_string(struct buf *out, const char *text, size_t len);

/* As above for a NUL-terminated text; the second writes null for "". */
int json_out_text(struct buf *out, const char *text);
int json_out_text_or_null(struct buf *out, const char *text);

/* Append true or false. */
int json_out_bool(struct buf *out, bool value);

#endif
