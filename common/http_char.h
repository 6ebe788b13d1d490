/* Character classes of HTTP (RFC 9110 section 5.6.2), for the reader alone. */
#ifndef KMS_COMMON_HTTP_CHAR_H
#define KMS_COMMON_HTTP_CHAR_H

#include <stdbool.h>
#include <stdint.h>

enum {
	HTTP_CHAR_TOKEN = 1,  /* of methods and header names */
	HTTP_CHAR_FIELD = 2,  /* of header values: no control but HTAB */
	HTTP_CHAR_TARGET = 4, /* visible ASCII without '#' */
	HTTP_CHAR_HOST = 8    /* letters, digits, '-', '.', '_' */
};

extern const uint8_t http_char_class[256];

static inline bool
http_char_is(char c, int class)
{
	return (http_char_class[(uint8_t)c] & class) != 0;
}

static inline bool
http_char_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static inline char
http_char_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* The value of a hex digit, else -1. */
static inline int
http_char_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = http_char_lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif
