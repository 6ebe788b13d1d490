/*
 * The target of an app request as it stood on the request line (PROTOCOL.md
 * section 5): which operation, and its parameters, percent-decoded once. Pure.
 */
#ifndef KMS_KEEPER_TARGET_H
#define KMS_KEEPER_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/msg.h"

#define TARGET_MAX 8192 /* bytes of a target */
#define KEY_MAX 1024	/* bytes of a key that an app may use */

enum operation {
	OPERATION_DERIVE,
	OPERATION_LIST,
	OPERATION_GET,
	OPERATION_PUT,
	OPERATION_DELETE
};

/* A decoded parameter; not NUL-terminated, may hold any UTF-8. */
struct target_text {
	bool given;
	size_t len;
	char text[KEY_MAX];
};

struct target {
	enum operation operation;
	struct target_text key;	   /* GET */
	struct target_text prefix; /* LIST; empty is none */
	struct target_text after;  /* LIST */
	uint64_t limit;		   /* LIST; 0: none given */
};

/*
 * Parse. 0, or the HTTP status of the refusal (400, 404, 405) with a static
 * text in *message. A key may hold '/' and must be 1..KEY_MAX bytes of UTF-8
 * without control characters; dot segments and "//" are not normalised.
 */
unsigned int target_parse(enum kms_method method, const char *text, size_t len,
    struct target *target, const char **message);

/* A key as section 5 wants it: 1..KEY_MAX bytes of UTF-8 without control
 * characters. NULL, or what is wrong. */
const char *key_check(const char *key, size_t len);

#endif
