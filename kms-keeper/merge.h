/*
 * Which of two versions of a record stands: rules 1 to 3 of "Merging one
 * record" in PROTOCOL.md section 7, without storage or side effects. The
 * outcome is the same on every node, whatever the order of arrival.
 */
#ifndef KMS_KEEPER_MERGE_H
#define KMS_KEEPER_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kms-keeper/vector_clock.h"

#define MERGE_HEAD_LEN 32     /* stored bytes that take part in rule 3 */
#define MERGE_VALUE_SLACK 128 /* stored bytes allowed over max-value-size */
#define MERGE_KEY_MAX 65536   /* bytes of a key that a peer may send */
#define MERGE_TTL_MAX (INT64_C(1) << 53)

/* A version of a record, as far as merging looks at it. */
struct merge_version {
	const struct vector_clock *clock;
	int64_t updated_at_ms;
	int64_t ttl_ms;	     /* 0: never */
	const uint8_t *head; /* at least min(32, len) stored bytes */
	size_t head_len;     /* more than 32 are not looked at */
	bool tombstone;	     /* then head counts as empty */
};

enum merge_choice {
	MERGE_SAME,	 /* equal clocks and contents: nothing to do */
	MERGE_KEEP,	 /* ours happened after, or wins with equal clocks */
	MERGE_KEEP_JOIN, /* concurrent, ours wins; its clock is to be joined */
	MERGE_TAKE,	 /* theirs happened after, or wins with equal clocks */
	MERGE_TAKE_JOIN, /* concurrent, theirs wins with the joined clock */
};

/* Rules 2 and 3 for a record that both have. */
enum merge_choice merge_decide(
    const struct merge_version *ours, const struct merge_version *theirs);

/*
 * Rule 3's order alone: positive when a wins over b, 0 when they are the same
 * content. After updated_at_ms and the stored bytes come tombstone and ttl_ms,
 * which the protocol leaves open, so that no two contents ever tie.
 */
int merge_content_compare(
    const struct merge_version *a, const struct merge_version *b);

/* ttl_ms as kept: what is not in 0..2^53, and that of a tombstone, is 0. */
int64_t merge_ttl(int64_t ttl_ms, bool tombstone);

#endif
