/*
 * JSON read where it lies: a checked text and slices of it, without objects
 * and almost without allocation. For what peers send: a library refuses the
 * whole text for one integer beyond int64 or one ill-formed string, while a
 * bad record may not spoil its message (PROTOCOL.md section 7). Here the
 * structure is checked at once, and the contents of strings and numbers when
 * they are asked for.
 */
#ifndef KMS_KEEPER_JSON_SLICE_H
#define KMS_KEEPER_JSON_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"

#define SLICE_DEPTH_MAX 32

/* One value, borrowed from the text; all zero: there is none. */
struct slice {
	const char *text;
	size_t len;
};

enum slice_kind {
	SLICE_ABSENT,
	SLICE_OBJECT,
	SLICE_ARRAY,
	SLICE_STRING,
	SLICE_NUMBER,
	SLICE_TRUE,
	SLICE_FALSE,
	SLICE_NULL,
};

/*
 * Check that text is one JSON value (RFC 8259; the bytes of strings may be
 * any) of at most SLICE_DEPTH_MAX levels, and return it without the white
 * space around it. KMS_EINVAL. Only what this accepted, or a part of it, may
 * be given to the functions below.
 */
int slice_check(const char *text, size_t len, struct slice *value);

enum slice_kind slice_kind(struct slice value);

/* Step through the members of an object or the elements of an array; nothing
 * comes of any other value. */
struct slice_walk {
	const char *at, *end;
	bool object;
};

void slice_walk_begin(struct slice_walk *walk, struct slice container);

/* name (the string with its quotes) is left alone for an array. False at the
 * end. */
bool slice_walk_next(
    struct slice_walk *walk, struct slice *name, struct slice *value);

/* Is it this string, written without escapes? */
bool slice_is(struct slice value, const char *text);

/*
 * The member of an object, absent when there is none or value is no object.
 * KMS_EINVAL when it is there twice.
 */
int slice_member(struct slice object, const char *name, struct slice *value);

/* An integer, also one written as a real (1.0, 1e3). KMS_EINVAL for what is
 * no integral number, KMS_ERANGE beyond int64 (a real: beyond 2^53). */
int slice_integer(struct slice value, int64_t *out);

/* Decimal digits of a member's name or a string as 1..2^63-1, canonical.
 * KMS_EINVAL. */
int slice_app_id(struct slice name, uint64_t *app_id);

/*
 * Append the contents of a string. KMS_EINVAL for what is no string, has a
 * NUL, or is ill-formed as UTF-8 or in its \u escapes; KMS_ETOOBIG, KMS_ENOMEM
 * from out. It never becomes longer than it is in the text.
 */
int slice_string(struct slice value, struct buf *out);

/* Append text as a JSON string with its quotes. text is well-formed UTF-8. */
int slice_write_string(struct buf *out, const char *text, size_t len);

/* Bytes that slice_write_string would append. */
size_t slice_string_length(const char *text, size_t len);

#endif
