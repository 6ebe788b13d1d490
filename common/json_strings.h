/*
 * Read a JSON object whose members are strings, as an envelope is one
 * (PROTOCOL.md section 3), without building a tree: one pass over the text in
 * whatever pieces it arrives, nothing allocated, nothing copied. Pure.
 *
 * The object has exactly the members of its shape, in any order, each a
 * string of visible ASCII and spaces without escapes; nothing but white space
 * (RFC 8259 section 2) stands around it.
 */
#ifndef KMS_COMMON_JSON_STRINGS_H
#define KMS_COMMON_JSON_STRINGS_H

#include <stddef.h>
#include <stdint.h>

#include "common/http.h"

#define JSON_STRINGS_MEMBERS_MAX 3
#define JSON_STRINGS_NAME_MAX 24

struct json_strings_member {
	const char *name; /* at most JSON_STRINGS_NAME_MAX bytes */
	size_t max;	  /* bytes of its value */
	const char *repeated, *missing, *kind, *overlong; /* reasons */
};

/* A member of at most max bytes, with its reasons. */
#define JSON_STRINGS_MEMBER(name, max)                                         \
	{                                                                      \
		name, max, name ": repeated", name ": missing",                \
		    name ": expected a string", name ": too long"              \
	}

struct json_strings_shape {
	const char *unknown; /* reason: a member that is none of these */
	size_t count;	     /* 1..JSON_STRINGS_MEMBERS_MAX */
	struct json_strings_member members[JSON_STRINGS_MEMBERS_MAX];
};

enum { ENVELOPE_SENDER, ENVELOPE_NONCE, ENVELOPE_DATA };

#define ENVELOPE_SENDER_MAX 512 /* bytes, as the messages carry them */
#define ENVELOPE_NONCE_MAX 64

/* Members in the order of the enum above; encrypted_data has no bound. */
extern const struct json_strings_shape json_strings_envelope_shape;

struct json_strings {
	const char *reason; /* when refused: static text, for the sender */

	const struct json_strings_shape *shape; /* private, as are the rest */
	uint8_t state;
	uint8_t member; /* whose name or value is being read */
	uint8_t name_len;
	char name[JSON_STRINGS_NAME_MAX];
	uint64_t at;				  /* bytes read */
	uint64_t start[JSON_STRINGS_MEMBERS_MAX]; /* of a value; 0: none */
	uint64_t length[JSON_STRINGS_MEMBERS_MAX];
};

/* A piece of a member's value; any error it returns ends the reading. */
typedef int (*json_strings_fn)(
    void *arg, size_t member, const char *piece, size_t len);

void json_strings_init(
    struct json_strings *strings, const struct json_strings_shape *shape);

/*
 * The next len bytes of the text. take (may be NULL) is given the values in
 * the pieces they come in. KMS_EINVAL when this is no such object (reason is
 * set, and every later call says the same), or what take returned.
 */
int json_strings_feed(struct json_strings *strings, const char *text,
    size_t len, json_strings_fn take, void *arg);

/* The text is at its end. 0 when all is there, else KMS_EINVAL. */
int json_strings_end(struct json_strings *strings);

struct json_envelope {
	struct http_slice sender; /* pieces of the text that was read */
	struct http_slice nonce;
	struct http_slice data;
};

/* Read an envelope that is there as a whole. KMS_EINVAL and *reason. */
int json_strings_envelope(const uint8_t *text, size_t len,
    struct json_envelope *envelope, const char **reason);

#endif
