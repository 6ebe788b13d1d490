/*
 * The members of an app's request (PROTOCOL.md section 5), from the plaintext
 * of its envelope: counted for tokens and depth, parsed, and each member held
 * to its type and bounds. Pure.
 */
#ifndef KMS_KEEPER_APP_BODY_H
#define KMS_KEEPER_APP_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kms-keeper/answer_app.h"

struct text_member {
	const char *text; /* borrowed from the tree; NULL: absent */
	size_t len;
};

struct app_body {
	struct text_member path, context, key, value;
	bool has_length, has_ttl, has_min_replicas;
	int64_t length, ttl_ms, min_replicas;
};

/*
 * Parse a body (NULL: there was no envelope) of an operation that has one.
 * What is given in members is borrowed from *tree, which the caller drops.
 * bound: a v2 request, which gives a number as a number. KMS_EINVAL with the
 * refusal in *answer.
 */
int app_body_parse(enum operation operation, bool bound, const uint8_t *body,
    size_t len, json_t **tree, struct app_body *members,
    struct app_answer *answer);

/* Refuse: the status and a message that JSON need not escape. KMS_EINVAL. */
int app_refuse(struct app_answer *answer, unsigned int status,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
