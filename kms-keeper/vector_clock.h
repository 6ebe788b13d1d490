/*
 * Vector clocks of stored records (PROTOCOL.md section 7). A clock maps
 * members (opaque printable ASCII, usually a wallet) to counters; a member
 * that is absent counts as 0, and a counter of 0 is not kept, so that equal
 * clocks have one form. Member names are interned in a reference-counted table:
 * a clock of one member, which nearly all are, is 16 bytes and no allocation.
 */
#ifndef KMS_KEEPER_VECTOR_CLOCK_H
#define KMS_KEEPER_VECTOR_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kms-keeper/siphash.h"

#define CLOCK_MEMBER_MAX 64		     /* bytes of a member */
#define CLOCK_MEMBERS_MAX 4096		     /* members of a clock */
#define CLOCK_MEMBERS_KEPT 64		     /* beyond it writes prune */
#define CLOCK_COUNTER_MAX (INT64_C(1) << 53) /* largest counter */

/* An interned name. Opaque but for reading; equal names are one object. */
struct clock_member;

/* The name, not NUL-terminated; it lives as long as a clock refers to it. */
const char *clock_member_name(const struct clock_member *member, size_t *len);

/* The table of names. One for a store; clocks of different tables must not be
 * mixed. */
struct clock_members {
	struct clock_member *table;
	uint8_t hash_key[SIPHASH_KEY_LEN];
};

/* Start empty. hash_key: random bytes made at start. */
void clock_members_init(
    struct clock_members *members, const uint8_t hash_key[SIPHASH_KEY_LEN]);

/* Names in the table: 0 once every clock is cleared. O(1). */
size_t clock_members_count(const struct clock_members *members);

/*
 * Find or add name (1..64 printable ASCII bytes, else KMS_EINVAL) and take a
 * reference, which clock_member_release gives back. KMS_ENOMEM.
 */
int clock_member_intern(struct clock_members *members, const char *name,
    size_t len, struct clock_member **member);
void clock_member_release(
    struct clock_members *members, struct clock_member *member);

struct clock_entry {
	struct clock_member *member;
	uint64_t counter; /* 1..2^53 */
};

/*
 * All zero bytes: the empty clock. One entry lies in the struct itself; more
 * lie in a list, sorted by the bytes of their names, and bit 63 of the second
 * word, which no counter has, says so. Use the functions.
 */
struct vector_clock {
	union {
		struct clock_entry one;
		struct {
			struct clock_entry *list;
			uint64_t tagged_count;
		} many;
	} u;
};

/* One member of a clock as a peer sent it. */
struct clock_item {
	const char *member; /* borrowed */
	size_t member_len;
	int64_t counter;
};

enum clock_order { CLOCK_EQUAL, CLOCK_BEFORE, CLOCK_AFTER, CLOCK_CONCURRENT };

/* Members of the clock. */
size_t vector_clock_count(const struct vector_clock *clock);

/* Its vector_clock_count() entries, sorted by name as bytes; borrowed until
 * the clock changes. */
const struct clock_entry *vector_clock_entries(
    const struct vector_clock *clock);

/* The counter of a member, 0 when absent. O(log n). */
uint64_t vector_clock_counter(
    const struct vector_clock *clock, const struct clock_member *member);

/*
 * Make a clock of what came from outside: at most 4096 items in any order,
 * counters 0..2^53 (0 is dropped), distinct members. KMS_EINVAL for a bad or
 * repeated name or a negative counter, KMS_ERANGE above a limit, KMS_ENOMEM;
 * *clock is written on success only and is cleared by vector_clock_clear.
 */
int vector_clock_parse(struct clock_members *members,
    const struct clock_item *items, size_t count, struct vector_clock *clock);

/* An independent copy in *copy, whose former contents are not looked at.
 * KMS_ENOMEM. */
int vector_clock_copy(
    struct vector_clock *copy, const struct vector_clock *clock);

/* How a stands to b: CLOCK_BEFORE when a happened before b. O(n + m). */
enum clock_order vector_clock_compare(
    const struct vector_clock *a, const struct vector_clock *b);

/*
 * The element-wise maximum of a and b in *result, whose former contents are
 * not looked at. KMS_ERANGE when it has more than 4096 members (no peer would
 * take such a clock), KMS_ENOMEM; *result is written on success only.
 */
int vector_clock_join(struct vector_clock *result, const struct vector_clock *a,
    const struct vector_clock *b);

/* Set one counter (1..2^53). KMS_ENOMEM, KMS_ERANGE; unchanged on error. */
int vector_clock_set(
    struct vector_clock *clock, struct clock_member *member, uint64_t counter);

/* Drop the members for which keep returns false. Cannot fail. */
typedef bool (*clock_keep_fn)(const char *name, size_t len, void *arg);
void vector_clock_prune(struct clock_members *members,
    struct vector_clock *clock, clock_keep_fn keep, void *arg);

/* Release the members and become the empty clock. */
void vector_clock_clear(
    struct clock_members *members, struct vector_clock *clock);

#endif
