#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/store_internal.h"

static int
bytes_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t len = a_len < b_len ? a_len : b_len;
	int order = len > 0 ? memcmp(a, b, len) : 0;

	if (order != 0)
		return order;
	return (a_len > b_len) - (a_len < b_len);
}

static int
key_compare(const void *a, const void *b)
{
	const struct store_key *x = a, *y = b;

	return bytes_compare(x->bytes, x->len, y->bytes, y->len);
}

/* The last key of a full list is on top of a heap: put key into its place and
 * let it sink. */
static void
replace_top(struct store_keys *keys, struct store_key key)
{
	size_t at = 0;

	for (;;) {
		size_t child = 2 * at + 1;

		if (child >= keys->count)
			break;
		if (child + 1 < keys->count &&
		    key_compare(&keys->keys[child + 1], &keys->keys[child]) > 0)
			child++;
		if (key_compare(&keys->keys[child], &key) <= 0)
			break;
		keys->keys[at] = keys->keys[child];
		at = child;
	}
	keys->keys[at] = key;
}

static void
add_and_rise(struct store_keys *keys, struct store_key key)
{
	size_t at = keys->count++;

	while (at > 0) {
		size_t parent = (at - 1) / 2;

		if (key_compare(&keys->keys[parent], &key) >= 0)
			break;
		keys->keys[at] = keys->keys[parent];
		at = parent;
	}
	keys->keys[at] = key;
}

struct range {
	const void *prefix;
	size_t prefix_len;
	const void *after;
	size_t after_len;
};

static bool
in_range(const struct range *range, const struct record *record)
{
	if (record->key_len < range->prefix_len)
		return false;
	if (range->prefix_len > 0 &&
	    memcmp(record->key, range->prefix, range->prefix_len) != 0)
		return false;
	return range->after_len == 0 ||
	    bytes_compare(record->key, record->key_len, range->after,
		range->after_len) > 0;
}

/* Keep the first `room` keys in range in a heap with the last on top. */
static void
collect(struct namespace *ns, const struct range *range, size_t room,
    struct kms_time now, struct store_keys *keys)
{
	struct record *record;

	for (record = TAILQ_FIRST(&ns->used); record != NULL;
	     record = TAILQ_NEXT(record, order)) {
		struct store_key key = { record->key, record->key_len };

		if (!in_range(range, record) || record_is_overdue(record, now))
			continue;
		if (keys->count < room) {
			add_and_rise(keys, key);
			continue;
		}
		keys->more = true;
		if (key_compare(&key, &keys->keys[0]) < 0)
			replace_top(keys, key);
	}
}

int
store_list(const struct store *store, uint64_t app_id, const void *prefix,
    size_t prefix_len, const void *after, size_t after_len, size_t limit,
    struct kms_time now, struct store_keys *keys)
{
	struct range range = { prefix, prefix_len, after, after_len };
	struct namespace *ns = namespace_find(store, app_id);
	size_t room;

	memset(keys, 0, sizeof(*keys));
	if (ns == NULL || ns->live_count == 0)
		return 0;
	room = (size_t)ns->live_count;
	if (limit > 0 && limit < room)
		room = limit;
	keys->keys = malloc(room * sizeof(*keys->keys));
	if (keys->keys == NULL)
		return KMS_ENOMEM;
	collect(ns, &range, room, now, keys);
	if (keys->count > 1)
		qsort(
		    keys->keys, keys->count, sizeof(*keys->keys), key_compare);
	return 0;
}

void
store_keys_free(struct store_keys *keys)
{
	free(keys->keys);
	memset(keys, 0, sizeof(*keys));
}

static bool
each_of_namespace(const struct namespace *ns, store_each_fn each, void *arg)
{
	/* Whatever the time: nothing is overdue before all time. */
	struct kms_time now = { INT64_MIN, INT64_MIN };
	const struct record *record;
	struct store_record view;

	for (record = ns->records; record != NULL; record = record->hh.next) {
		record_view(record, now, &view);
		if (!each(&view, arg))
			return false;
	}
	return true;
}

void
store_each(
    const struct store *store, uint64_t app_id, store_each_fn each, void *arg)
{
	const struct namespace *ns;

	if (app_id != 0) {
		ns = namespace_find(store, app_id);
		if (ns != NULL)
			(void)each_of_namespace(ns, each, arg);
		return;
	}
	for (ns = store->namespaces; ns != NULL; ns = ns->hh.next)
		if (!each_of_namespace(ns, each, arg))
			return;
}

void
store_each_app(const struct store *store, store_each_app_fn each, void *arg)
{
	const struct namespace *ns;

	for (ns = store->namespaces; ns != NULL; ns = ns->hh.next)
		each(ns->app_id, arg);
}

uint64_t
store_app_version(const struct store *store, uint64_t app_id)
{
	const struct namespace *ns = namespace_find(store, app_id);

	return ns != NULL ? ns->version : 0;
}

uint64_t
store_app_records(const struct store *store, uint64_t app_id)
{
	const struct namespace *ns = namespace_find(store, app_id);

	return ns != NULL ? ns->live_count + ns->dead_count : 0;
}
