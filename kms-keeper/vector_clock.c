#include "kms-keeper/vector_clock.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/table.h"

#define MANY_TAG (UINT64_C(1) << 63)

struct clock_member {
	UT_hash_handle hh;
	uint32_t refs;
	uint32_t len;
	char name[];
};

/* ---- names --------------------------------------------------------------- */

const char *
clock_member_name(const struct clock_member *member, size_t *len)
{
	*len = member->len;
	return member->name;
}

void
clock_members_init(
    struct clock_members *members, const uint8_t hash_key[SIPHASH_KEY_LEN])
{
	members->table = NULL;
	memcpy(members->hash_key, hash_key, SIPHASH_KEY_LEN);
}

size_t
clock_members_count(const struct clock_members *members)
{
	return HASH_COUNT(members->table);
}

static bool
name_is_valid(const char *name, size_t len)
{
	if (len == 0 || len > CLOCK_MEMBER_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (name[i] < 0x20 || name[i] > 0x7e)
			return false;
	return true;
}

int
clock_member_intern(struct clock_members *members, const char *name, size_t len,
    struct clock_member **out)
{
	struct clock_member *member = NULL;
	unsigned hash;

	if (!name_is_valid(name, len))
		return KMS_EINVAL;
	hash = (unsigned)siphash(members->hash_key, name, len);
	HASH_FIND_BYHASHVALUE(hh, members->table, name, len, hash, member);
	if (member == NULL) {
		member = malloc(sizeof(*member) + len);
		if (member == NULL)
			return KMS_ENOMEM;
		member->refs = 0;
		member->len = (uint32_t)len;
		memcpy(member->name, name, len);
		HASH_ADD_KEYPTR_BYHASHVALUE(
		    hh, members->table, member->name, len, hash, member);
		if (member->hh.tbl == NULL) {
			free(member);
			return KMS_ENOMEM;
		}
	}
	member->refs++;
	*out = member;
	return 0;
}

void
clock_member_release(struct clock_members *members, struct clock_member *member)
{
	if (member == NULL || --member->refs > 0)
		return;
	HASH_DELETE(hh, members->table, member);
	free(member);
}

static int
member_compare(const struct clock_member *a, const struct clock_member *b)
{
	uint32_t len = a->len < b->len ? a->len : b->len;
	int order;

	if (a == b)
		return 0;
	order = memcmp(a->name, b->name, len);
	if (order != 0)
		return order;
	return a->len < b->len ? -1 : 1;
}

/* ---- clocks -------------------------------------------------------------- */

static bool
is_many(const struct vector_clock *clock)
{
	return (clock->u.many.tagged_count & MANY_TAG) != 0;
}

size_t
vector_clock_count(const struct vector_clock *clock)
{
	if (is_many(clock))
		return (size_t)(clock->u.many.tagged_count & ~MANY_TAG);
	return clock->u.one.member != NULL ? 1 : 0;
}

const struct clock_entry *
vector_clock_entries(const struct vector_clock *clock)
{
	return is_many(clock) ? clock->u.many.list : &clock->u.one;
}

/* Where member stands among the sorted entries, or would. */
static size_t
entry_position(const struct clock_entry *entries, size_t count,
    const struct clock_member *member)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (member_compare(entries[middle].member, member) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t
vector_clock_counter(
    const struct vector_clock *clock, const struct clock_member *member)
{
	const struct clock_entry *entries = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock);
	size_t at = entry_position(entries, count, member);

	if (at == count || entries[at].member != member)
		return 0;
	return entries[at].counter;
}

/*
 * Room for up to count entries: the clock itself for at most one, else a list.
 * NULL when out of memory.
 */
static struct clock_entry *
entries_new(struct vector_clock *clock, size_t count)
{
	memset(clock, 0, sizeof(*clock));
	if (count <= 1)
		return &clock->u.one;
	clock->u.many.list = malloc(count * sizeof(struct clock_entry));
	clock->u.many.tagged_count = MANY_TAG | count;
	return clock->u.many.list;
}

/* Say that count of the entries made by entries_new are in use. Cannot fail:
 * a list that does not shrink stays as it is. */
static void
entries_finish(struct vector_clock *clock, size_t count)
{
	struct clock_entry *list, only = { NULL, 0 };

	if (!is_many(clock))
		return;
	list = clock->u.many.list;
	if (count > 1) {
		if (count < vector_clock_count(clock)) {
			list =
			    realloc(clock->u.many.list, count * sizeof(*list));
			if (list != NULL)
				clock->u.many.list = list;
		}
		clock->u.many.tagged_count = MANY_TAG | count;
		return;
	}
	if (count == 1)
		only = list[0];
	free(list);
	memset(clock, 0, sizeof(*clock));
	clock->u.one = only;
}

static int
entry_compare(const void *a, const void *b)
{
	const struct clock_entry *x = a, *y = b;

	return member_compare(x->member, y->member);
}

static int
check_items(const struct clock_item *items, size_t count)
{
	if (count > CLOCK_MEMBERS_MAX)
		return KMS_ERANGE;
	for (size_t i = 0; i < count; i++) {
		if (!name_is_valid(items[i].member, items[i].member_len) ||
		    items[i].counter < 0)
			return KMS_EINVAL;
		if (items[i].counter > CLOCK_COUNTER_MAX)
			return KMS_ERANGE;
	}
	return 0;
}

/* Drop the zero counters of sorted entries; KMS_EINVAL on a repeated name. */
static int
entries_normalise(struct clock_members *members, struct vector_clock *clock)
{
	struct clock_entry *e = clock->u.many.list;
	size_t count = vector_clock_count(clock), kept = 0;

	for (size_t i = 1; i < count; i++)
		if (e[i].member == e[i - 1].member)
			return KMS_EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (e[i].counter != 0)
			e[kept++] = e[i];
		else
			clock_member_release(members, e[i].member);
	}
	entries_finish(clock, kept);
	return 0;
}

int
vector_clock_parse(struct clock_members *members,
    const struct clock_item *items, size_t count, struct vector_clock *clock)
{
	struct vector_clock made;
	struct clock_entry *e;
	size_t n = 0;
	int error;

	error = check_items(items, count);
	if (error != 0)
		return error;
	if (count == 1 && items[0].counter == 0)
		count = 0;
	e = entries_new(&made, count);
	if (e == NULL)
		return KMS_ENOMEM;
	for (; n < count; n++) {
		error = clock_member_intern(members, items[n].member,
		    items[n].member_len, &e[n].member);
		if (error != 0)
			goto release;
		e[n].counter = (uint64_t)items[n].counter;
	}
	if (count > 1) {
		qsort(e, count, sizeof(*e), entry_compare);
		error = entries_normalise(members, &made);
		if (error != 0)
			goto release;
	}
	*clock = made;
	return 0;

release:
	entries_finish(&made, n);
	vector_clock_clear(members, &made);
	return error;
}

int
vector_clock_copy(struct vector_clock *copy, const struct vector_clock *clock)
{
	const struct clock_entry *from = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock);
	struct vector_clock made;
	struct clock_entry *to = entries_new(&made, count);

	if (to == NULL)
		return KMS_ENOMEM;
	for (size_t i = 0; i < count; i++) {
		to[i] = from[i];
		to[i].member->refs++;
	}
	*copy = made;
	return 0;
}

/* Step through two clocks together: negative, 0, positive as the smallest
 * name not yet passed is in the first, both, or the second only. */
static int
side(const struct clock_entry *a, const struct clock_entry *a_end,
    const struct clock_entry *b, const struct clock_entry *b_end)
{
	if (a == a_end)
		return 1;
	if (b == b_end)
		return -1;
	return member_compare(a->member, b->member);
}

enum clock_order
vector_clock_compare(const struct vector_clock *a, const struct vector_clock *b)
{
	const struct clock_entry *x = vector_clock_entries(a);
	const struct clock_entry *y = vector_clock_entries(b);
	const struct clock_entry *x_end = x + vector_clock_count(a);
	const struct clock_entry *y_end = y + vector_clock_count(b);
	bool more = false, less = false;

	while (x < x_end || y < y_end) {
		int s = side(x, x_end, y, y_end);

		if (s < 0) {
			more = true;
			x++;
		} else if (s > 0) {
			less = true;
			y++;
		} else {
			more |= x->counter > y->counter;
			less |= x->counter < y->counter;
			x++;
			y++;
		}
	}
	if (more)
		return less ? CLOCK_CONCURRENT : CLOCK_AFTER;
	return less ? CLOCK_BEFORE : CLOCK_EQUAL;
}

int
vector_clock_join(struct vector_clock *result, const struct vector_clock *a,
    const struct vector_clock *b)
{
	const struct clock_entry *x = vector_clock_entries(a);
	const struct clock_entry *y = vector_clock_entries(b);
	const struct clock_entry *x_end = x + vector_clock_count(a);
	const struct clock_entry *y_end = y + vector_clock_count(b);
	struct vector_clock made;
	struct clock_entry *to;
	size_t count = 0;

	/* Both of one and the same member need room for two here, too:
	 * entries_finish puts a single one back into the clock. */
	to = entries_new(&made, vector_clock_count(a) + vector_clock_count(b));
	if (to == NULL)
		return KMS_ENOMEM;
	while (x < x_end || y < y_end) {
		int s = side(x, x_end, y, y_end);

		to[count] = s <= 0 ? *x : *y;
		if (s == 0 && y->counter > x->counter)
			to[count].counter = y->counter;
		count++;
		if (s <= 0)
			x++;
		if (s >= 0)
			y++;
	}
	if (count > CLOCK_MEMBERS_MAX) {
		free(made.u.many.list);
		return KMS_ERANGE;
	}
	for (size_t i = 0; i < count; i++)
		to[i].member->refs++;
	entries_finish(&made, count);
	*result = made;
	return 0;
}

/* A copy of the clock with one further entry at position at. */
static int
entry_insert(struct vector_clock *clock, size_t at, struct clock_entry entry)
{
	const struct clock_entry *from = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock);
	struct vector_clock made;
	struct clock_entry *to;

	if (count >= CLOCK_MEMBERS_MAX)
		return KMS_ERANGE;
	to = entries_new(&made, count + 1);
	if (to == NULL)
		return KMS_ENOMEM;
	for (size_t i = 0; i < at; i++)
		to[i] = from[i];
	to[at] = entry;
	for (size_t i = at; i < count; i++)
		to[i + 1] = from[i];
	entry.member->refs++;
	if (is_many(clock))
		free(clock->u.many.list);
	*clock = made;
	return 0;
}

int
vector_clock_set(
    struct vector_clock *clock, struct clock_member *member, uint64_t counter)
{
	struct clock_entry *e;
	size_t count = vector_clock_count(clock), at;
	struct clock_entry entry = { member, counter };

	if (counter == 0 || counter > (uint64_t)CLOCK_COUNTER_MAX)
		return KMS_ERANGE;
	e = is_many(clock) ? clock->u.many.list : &clock->u.one;
	at = entry_position(e, count, member);
	if (at < count && e[at].member == member) {
		e[at].counter = counter;
		return 0;
	}
	return entry_insert(clock, at, entry);
}

void
vector_clock_prune(struct clock_members *members, struct vector_clock *clock,
    clock_keep_fn keep, void *arg)
{
	struct clock_entry *e;
	size_t count = vector_clock_count(clock), kept = 0;

	e = is_many(clock) ? clock->u.many.list : &clock->u.one;
	for (size_t i = 0; i < count; i++) {
		if (keep(e[i].member->name, e[i].member->len, arg))
			e[kept++] = e[i];
		else
			clock_member_release(members, e[i].member);
	}
	if (is_many(clock))
		entries_finish(clock, kept);
	else if (kept == 0)
		memset(clock, 0, sizeof(*clock));
}

void
vector_clock_clear(struct clock_members *members, struct vector_clock *clock)
{
	const struct clock_entry *e = vector_clock_entries(clock);
	size_t count = vector_clock_count(clock);

	for (size_t i = 0; i < count; i++)
		clock_member_release(members, e[i].member);
	if (is_many(clock))
		free(clock->u.many.list);
	memset(clock, 0, sizeof(*clock));
}
