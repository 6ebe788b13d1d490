#ifndef KMS_COMMON_PRINTABLE_H
#define KMS_COMMON_PRINTABLE_H

#include <stddef.h>

/*
 * Somebody else's words for people: len bytes of from, cut to the size - 1
 * that to has room for, with '?' in place of all but printable ASCII, and a
 * NUL. to may be from.
 */
void printable_copy(const char *from, size_t len, char *to, size_t size);

#endif
