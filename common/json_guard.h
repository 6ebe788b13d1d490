/*
 * A count of what a JSON text would become, before a parser makes objects of
 * it: two megabytes of "[{}," are a hundred and fifty of jansson's.
 */
#ifndef KMS_COMMON_JSON_GUARD_H
#define KMS_COMMON_JSON_GUARD_H

#include <stddef.h>

/*
 * Walk text (len bytes, no NUL needed behind it) once, without allocation.
 * A token is each string (member names too), number, literal, array and
 * object; depth is how many arrays and objects stand open at once. 0 when
 * there are at most max_tokens tokens and max_depth levels, KMS_ETOOBIG when
 * there are more, KMS_EINVAL for what no parser takes: a NUL, an unterminated
 * string, a bracket that does not close or was not opened. It is no validator:
 * of a text that a parser accepts the counts are exact.
 */
int json_guard(
    const char *text, size_t len, size_t max_tokens, size_t max_depth);

#endif
