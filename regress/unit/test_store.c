/* The store as an app sees it, and what it promises about memory and time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "regress/unit/store_rig.h"

#define COST(key, value) ((key) + (value) + STORE_RECORD_OVERHEAD)

static struct store *
new_store(void)
{
	struct store_config config;
	struct store *store;

	store_config_init(&config);
	store = rig_store(&config, RIG_SELF);
	assert_non_null(store);
	return store;
}

static void
assert_value(struct store *store, uint64_t app, const char *key,
    const char *value, int64_t at)
{
	struct store_record record;

	assert_int_equal(rig_get(store, app, key, at, &record), STORE_FOUND);
	assert_int_equal(record.value_len, strlen(value));
	assert_memory_equal(record.value, value, strlen(value));
}

static void
assert_found(struct store *store, uint64_t app, const char *key, int64_t at,
    enum store_found expected)
{
	struct store_record record;

	assert_int_equal(rig_get(store, app, key, at, &record), expected);
}

/* ---- operations ---------------------------------------------------------- */

static void
test_put_get_delete(void **state)
{
	struct store *store = new_store();

	(void)state;
	assert_found(store, 1, "k", 0, STORE_ABSENT);
	assert_int_equal(rig_put(store, 1, "k", "value", 0, 0), 0);
	assert_value(store, 1, "k", "value", 0);
	assert_found(store, 2, "k", 0, STORE_ABSENT);
	assert_found(store, 1, "kk", 0, STORE_ABSENT);
	assert_int_equal(rig_put(store, 1, "k", "other", 0, 1), 0);
	assert_value(store, 1, "k", "other", 1);
	assert_int_equal(store_delete_local(store, 1, "k", 1, rig_time(2)), 0);
	assert_found(store, 1, "k", 2, STORE_ABSENT);
	assert_int_equal(
	    store_delete_local(store, 1, "k", 1, rig_time(2)), KMS_ENOENT);
	assert_int_equal(
	    store_delete_local(store, 1, "x", 1, rig_time(2)), KMS_ENOENT);
	assert_int_equal(rig_put(store, 1, "k", "again", 0, 3), 0);
	assert_value(store, 1, "k", "again", 3);
	store_free(store);
}

static void
test_arguments_at_their_bounds(void **state)
{
	static char bytes[MERGE_KEY_MAX + 1];
	struct store_config config;
	struct store *store;
	struct kms_time now = rig_time(0);

	(void)state;
	store_config_init(&config);
	config.max_value_size = 100;
	store = rig_store(&config, RIG_SELF);
	memset(bytes, 'k', sizeof(bytes));
	assert_int_equal(
	    store_put_local(store, 1, bytes, 0, "v", 1, 0, now, NULL),
	    KMS_EINVAL);
	assert_int_equal(
	    store_put_local(store, 1, bytes, 1, "v", 1, 0, now, NULL), 0);
	assert_int_equal(
	    store_put_local(store, 1, bytes, 1024, "v", 1, 0, now, NULL), 0);
	assert_int_equal(store_put_local(store, 1, bytes, MERGE_KEY_MAX, "v", 1,
			     0, now, NULL),
	    0);
	assert_int_equal(store_put_local(store, 1, bytes, MERGE_KEY_MAX + 1,
			     "v", 1, 0, now, NULL),
	    KMS_EINVAL);
	assert_int_equal(
	    store_put_local(store, 1, "k", 1, bytes, 229, 0, now, NULL),
	    KMS_ETOOBIG);
	assert_int_equal(
	    store_put_local(store, 1, "k", 1, bytes, 228, 0, now, NULL), 0);
	assert_int_equal(
	    store_put_local(store, 0, "k", 1, "v", 1, 0, now, NULL),
	    KMS_EINVAL);
	assert_int_equal(store_put_local(store, UINT64_C(1) << 63, "k", 1, "v",
			     1, 0, now, NULL),
	    KMS_EINVAL);
	assert_int_equal(store_put_local(store, STORE_APP_ID_MAX, "k", 1, "v",
			     1, 0, now, NULL),
	    0);
	assert_int_equal(
	    store_put_local(store, 1, "k", 1, "v", 1, -1, now, NULL),
	    KMS_EINVAL);
	assert_int_equal(store_put_local(store, 1, "k", 1, "v", 1,
			     MERGE_TTL_MAX + 1, now, NULL),
	    KMS_EINVAL);
	assert_int_equal(
	    store_put_local(store, 1, "k", 1, "v", 1, MERGE_TTL_MAX, now, NULL),
	    0);
	store_free(store);
}

static void
test_writes_need_our_member(void **state)
{
	struct store_config config;
	struct store *store;

	(void)state;
	store_config_init(&config);
	store = store_new(&config);
	assert_int_equal(rig_put(store, 1, "k", "v", 0, 0), KMS_EINVAL);
	assert_int_equal(store_set_member(store, "", 0), KMS_EINVAL);
	assert_int_equal(store_set_member(store, "me", 2), 0);
	assert_int_equal(store_set_member(store, "me too", 6), 0);
	assert_int_equal(rig_put(store, 1, "k", "v", 0, 0), 0);
	store_free(store);
}

static void
test_empty_namespaces_are_freed(void **state)
{
	struct store_config config;
	struct store *store;

	(void)state;
	store_config_init(&config);
	config.tombstone_retention_ms = 1000;
	store = rig_store(&config, RIG_SELF);
	assert_int_equal(rig_put(store, 1, "k", "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 2, "k", "v", 0, 0), 0);
	assert_int_equal(store_stats(store).namespaces, 2);
	assert_int_equal(store_delete_local(store, 1, "k", 1, rig_time(0)), 0);
	assert_int_equal(store_stats(store).namespaces, 2);
	assert_int_equal(store_next_tick(store, rig_time(400)), 600);
	assert_int_equal(store_tick(store, rig_time(999), 10), 0);
	assert_int_equal(store_tick(store, rig_time(1000), 10), 1);
	assert_int_equal(store_stats(store).namespaces, 1);
	assert_int_equal(store_next_tick(store, rig_time(1000)), -1);
	store_clear(store);
	assert_int_equal(store_stats(store).namespaces, 0);
	assert_int_equal(store_stats(store).charged_bytes, 0);
	assert_int_equal(rig_put(store, 1, "k", "v", 0, 0), 0);
	store_free(store);
	store_free(NULL);
}

static void
test_stats(void **state)
{
	struct store *store = new_store();
	struct store_stats stats;

	(void)state;
	assert_int_equal(rig_put(store, 1, "key", "value", 0, 0), 0);
	assert_int_equal(rig_put(store, 2, "k", "v", 0, 0), 0);
	stats = store_stats(store);
	assert_int_equal(stats.live_keys, 2);
	assert_int_equal(stats.live_bytes, 10);
	assert_int_equal(stats.charged_bytes, COST(3, 5) + COST(1, 1));
	assert_int_equal(store_app_charged(store, 1), COST(3, 5));
	assert_int_equal(store_app_charged(store, 3), 0);
	assert_int_equal(stats.sequence, 2);
	assert_int_equal(
	    store_delete_local(store, 1, "key", 3, rig_time(0)), 0);
	stats = store_stats(store);
	assert_int_equal(stats.live_keys, 1);
	assert_int_equal(stats.dead_keys, 1);
	assert_int_equal(stats.charged_bytes, COST(1, 1));
	assert_int_equal(stats.sequence, 3);
	store_free(store);
}

/* ---- expiry -------------------------------------------------------------- */

static void
test_expiry_on_read(void **state)
{
	struct store *store = new_store();
	struct store_record record;

	(void)state;
	assert_int_equal(rig_put(store, 1, "k", "v", 100, 0), 0);
	assert_value(store, 1, "k", "v", 99);
	assert_true(rig_peek(store, 1, "k", 100, &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	assert_int_equal(store_stats(store).live_keys, 1);
	assert_found(store, 1, "k", 100, STORE_ABSENT);
	assert_int_equal(store_stats(store).live_keys, 0);
	assert_int_equal(store_stats(store).expirations, 1);
	assert_int_equal(store_tick(store, rig_time(100), 10), 0);
	/* Not even when the clock is set back. */
	assert_found(store, 1, "k", 50, STORE_ABSENT);
	store_free(store);
}

static void
test_expiry_by_tick_in_order_and_bounded(void **state)
{
	static const int64_t ttls[] = { 500, 100, 300, 200, 400 };
	struct store *store = new_store();
	char key[2] = "a";

	(void)state;
	for (size_t i = 0; i < 5; i++, key[0]++)
		assert_int_equal(rig_put(store, 1, key, "v", ttls[i], 0), 0);
	assert_int_equal(store_next_tick(store, rig_time(0)), 100);
	assert_int_equal(store_tick(store, rig_time(99), 10), 0);
	assert_int_equal(store_tick(store, rig_time(300), 2), 2);
	assert_int_equal(store_next_tick(store, rig_time(300)), 0);
	assert_int_equal(store_stats(store).live_keys, 3);
	assert_int_equal(store_tick(store, rig_time(300), 2), 1);
	assert_value(store, 1, "a", "v", 300);
	assert_found(store, 1, "c", 300, STORE_ABSENT);
	assert_int_equal(store_next_tick(store, rig_time(300)), 100);
	/* A rewrite takes the place of the old time. */
	assert_int_equal(rig_put(store, 1, "e", "v", 0, 300), 0);
	assert_int_equal(store_next_tick(store, rig_time(300)), 200);
	store_free(store);
}

static void
test_delete_on_a_stub_writes_a_tombstone(void **state)
{
	struct store *store = new_store();
	struct store_record record;

	(void)state;
	assert_int_equal(rig_put(store, 1, "k", "v", 100, 0), 0);
	assert_int_equal(store_tick(store, rig_time(100), 10), 1);
	assert_int_equal(
	    store_delete_local(store, 1, "k", 1, rig_time(100)), 0);
	assert_true(rig_peek(store, 1, "k", 100, &record));
	assert_int_equal(record.state, STORE_TOMBSTONE);
	assert_int_equal(record.value_len, 0);
	store_free(store);
}

/* ---- quota --------------------------------------------------------------- */

static struct store *
small_store(enum store_eviction eviction, uint64_t records, uint64_t max_store)
{
	struct store_config config;
	struct store *store;

	store_config_init(&config);
	config.max_app_storage = records * COST(1, 40);
	config.max_store = max_store * COST(1, 40);
	config.eviction = eviction;
	store = rig_store(&config, RIG_SELF);
	assert_non_null(store);
	return store;
}

#define V40 "0123456789012345678901234567890123456789"

static void
test_the_least_recently_used_goes_first(void **state)
{
	struct store *store = small_store(STORE_EVICT_LRU, 3, 0);
	struct store_record record;

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "c", V40, 0, 0), 0);
	assert_value(store, 1, "a", V40, 0);
	assert_true(rig_peek(store, 1, "b", 0, &record));
	assert_int_equal(rig_put(store, 1, "d", V40, 0, 0), 0);
	assert_int_equal(rig_get(store, 1, "b", 0, &record), STORE_GONE);
	assert_int_equal(record.state, STORE_EVICTED);
	assert_int_equal(record.value_len, 32);
	assert_value(store, 1, "c", V40, 0);
	/* Another app is not touched. */
	assert_int_equal(rig_put(store, 2, "e", V40, 0, 0), 0);
	assert_int_equal(store_stats(store).evictions, 1);
	/* The record itself does not count twice when it is replaced. */
	assert_int_equal(rig_put(store, 1, "a", V40, 0, 0), 0);
	assert_int_equal(store_stats(store).evictions, 1);
	/* Writing to the stub brings the key back. */
	assert_int_equal(rig_put(store, 1, "b", V40, 0, 0), 0);
	assert_value(store, 1, "b", V40, 0);
	store_free(store);
}

static void
test_an_evicted_stub_expires(void **state)
{
	struct store *store = small_store(STORE_EVICT_LRU, 1, 0);

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", V40, 100, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", V40, 0, 0), 0);
	assert_found(store, 1, "a", 99, STORE_GONE);
	assert_found(store, 1, "a", 100, STORE_ABSENT);
	store_free(store);
}

static void
test_what_never_fits_evicts_nothing(void **state)
{
	static char big[4000];
	struct store *store = small_store(STORE_EVICT_LRU, 3, 0);

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", V40, 0, 0), 0);
	assert_int_equal(store_put_local(store, 1, "a", 1, big,
			     2 * COST(1, 40) + 41, 0, rig_time(0), NULL),
	    KMS_ETOOBIG);
	assert_value(store, 1, "a", V40, 0);
	assert_value(store, 1, "b", V40, 0);
	assert_int_equal(store_put_local(store, 3, "a", 1, big, sizeof(big), 0,
			     rig_time(0), NULL),
	    KMS_ETOOBIG);
	assert_int_equal(store_stats(store).namespaces, 1);
	assert_int_equal(store_put_local(store, 1, "a", 1, big,
			     2 * COST(1, 40) + 40, 0, rig_time(0), NULL),
	    0);
	assert_found(store, 1, "b", 0, STORE_GONE);
	store_free(store);
}

static void
test_eviction_reject(void **state)
{
	struct store *store = small_store(STORE_EVICT_REJECT, 2, 0);

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "c", V40, 0, 0), KMS_ETOOBIG);
	assert_value(store, 1, "a", V40, 0);
	assert_int_equal(rig_put(store, 1, "a", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "a", V40 "1", 0, 0), KMS_ETOOBIG);
	assert_value(store, 1, "a", V40, 0);
	assert_int_equal(store_delete_local(store, 1, "b", 1, rig_time(0)), 0);
	assert_int_equal(rig_put(store, 1, "c", V40, 0, 0), 0);
	store_free(store);
}

static void
test_max_store_bounds_all_apps(void **state)
{
	struct store *store = small_store(STORE_EVICT_LRU, 3, 4);

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "c", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 2, "a", V40, 0, 0), 0);
	/* An app makes room from its own records only. */
	assert_int_equal(rig_put(store, 2, "b", V40, 0, 0), 0);
	assert_found(store, 2, "a", 0, STORE_GONE);
	assert_value(store, 1, "a", V40, 0);
	assert_int_equal(rig_put(store, 2, "b", V40 "1", 0, 0), KMS_ETOOBIG);
	assert_int_equal(rig_put(store, 3, "a", V40, 0, 0), KMS_ETOOBIG);
	assert_value(store, 2, "b", V40, 0);
	store_free(store);
}

/* ---- tombstones and stubs ------------------------------------------------ */

static void
test_max_tombstones_oldest_first(void **state)
{
	struct store_config config;
	struct store_record record;
	struct store *store;
	char key[2] = "a";

	(void)state;
	store_config_init(&config);
	config.max_tombstones = 3;
	store = rig_store(&config, RIG_SELF);
	for (int i = 0; i < 5; i++, key[0]++) {
		assert_int_equal(rig_put(store, 1, key, "v", 0, i), 0);
		assert_int_equal(
		    store_delete_local(store, 1, key, 1, rig_time(i)), 0);
	}
	assert_false(rig_peek(store, 1, "a", 5, &record));
	assert_false(rig_peek(store, 1, "b", 5, &record));
	assert_true(rig_peek(store, 1, "c", 5, &record));
	assert_true(rig_peek(store, 1, "e", 5, &record));
	assert_int_equal(store_stats(store).dead_keys, 3);
	/* Deleted again it is as young as the last. */
	assert_int_equal(rig_put(store, 1, "c", "v", 0, 6), 0);
	assert_int_equal(store_delete_local(store, 1, "c", 1, rig_time(6)), 0);
	assert_int_equal(rig_put(store, 1, "f", "v", 0, 7), 0);
	assert_int_equal(store_delete_local(store, 1, "f", 1, rig_time(7)), 0);
	assert_false(rig_peek(store, 1, "d", 7, &record));
	assert_true(rig_peek(store, 1, "c", 7, &record));
	store_free(store);
}

static void
test_no_tombstones_at_all(void **state)
{
	struct store_config config;
	struct store *store;

	(void)state;
	store_config_init(&config);
	config.max_tombstones = 0;
	store = rig_store(&config, RIG_SELF);
	assert_int_equal(rig_put(store, 1, "k", "v", 0, 0), 0);
	assert_int_equal(store_delete_local(store, 1, "k", 1, rig_time(0)), 0);
	assert_int_equal(store_stats(store).namespaces, 0);
	assert_int_equal(rig_put(store, 1, "k", "v", 10, 0), 0);
	assert_found(store, 1, "k", 10, STORE_ABSENT);
	assert_int_equal(store_stats(store).namespaces, 0);
	store_free(store);
}

static void
test_the_low_mark_holds_back(void **state)
{
	struct store_config config;
	struct store_record record;
	struct store *store;

	(void)state;
	store_config_init(&config);
	config.tombstone_retention_ms = 1000;
	config.max_tombstones = 2;
	store = rig_store(&config, RIG_SELF);
	assert_int_equal(rig_put(store, 1, "a", "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", "v", 0, 0), 0);
	assert_int_equal(
	    store_delete_local(store, 1, "a", 1, rig_time(0)), 0); /* 3 */
	assert_int_equal(
	    store_delete_local(store, 1, "b", 1, rig_time(0)), 0); /* 4 */
	store_set_low_mark(store, 3);
	assert_int_equal(store_tick(store, rig_time(1000), 10), 2);
	assert_false(rig_peek(store, 1, "a", 1000, &record));
	assert_true(rig_peek(store, 1, "b", 1000, &record));
	assert_int_equal(store_lost_mark(store), 0);
	/* Only while there is room. */
	assert_int_equal(rig_put(store, 1, "c", "v", 1, 1000), 0);
	assert_int_equal(rig_put(store, 1, "d", "v", 1, 1000), 0);
	assert_int_equal(store_tick(store, rig_time(1001), 10), 2);
	assert_false(rig_peek(store, 1, "b", 1001, &record));
	assert_int_equal(store_lost_mark(store), 4);
	store_free(store);
}

/* ---- listing ------------------------------------------------------------- */

static void
assert_listed(struct store *store, const char *prefix, const char *after,
    size_t limit, const char *expected, bool more)
{
	struct store_keys keys;
	char text[200] = "";

	assert_int_equal(store_list(store, 1, prefix, strlen(prefix), after,
			     strlen(after), limit, rig_time(50), &keys),
	    0);
	for (size_t i = 0; i < keys.count; i++) {
		strncat(
		    text, (const char *)keys.keys[i].bytes, keys.keys[i].len);
		strncat(text, " ", 2);
	}
	assert_string_equal(text, expected);
	assert_int_equal(keys.more, more);
	store_keys_free(&keys);
}

static void
test_list(void **state)
{
	static const char *const names[] = { "b", "a/2", "\xc3\xa9", "a", "a/1",
		"a/10", "ab", "A" };
	struct store *store = new_store();

	(void)state;
	assert_listed(store, "", "", 0, "", false);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(rig_put(store, 1, names[i], "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "overdue", "v", 50, 0), 0);
	assert_int_equal(rig_put(store, 1, "deleted", "v", 0, 0), 0);
	assert_int_equal(
	    store_delete_local(store, 1, "deleted", 7, rig_time(0)), 0);
	assert_int_equal(rig_put(store, 2, "other", "v", 0, 0), 0);
	assert_listed(
	    store, "", "", 0, "A a a/1 a/10 a/2 ab b \xc3\xa9 ", false);
	assert_listed(store, "a/", "", 0, "a/1 a/10 a/2 ", false);
	assert_listed(store, "a/1", "", 8, "a/1 a/10 ", false);
	assert_listed(store, "", "a/10", 0, "a/2 ab b \xc3\xa9 ", false);
	assert_listed(store, "", "", 3, "A a a/1 ", true);
	assert_listed(store, "", "a/1", 3, "a/10 a/2 ab ", true);
	assert_listed(store, "", "ab", 2, "b \xc3\xa9 ", false);
	assert_listed(store, "x", "", 2, "", false);
	store_free(store);
}

/* ---- changes ------------------------------------------------------------- */

static void
assert_next(struct store_cursor *cursor, const char *expected)
{
	struct store_record record;

	if (expected == NULL) {
		assert_false(store_cursor_next(cursor, rig_time(0), &record));
		return;
	}
	assert_true(store_cursor_next(cursor, rig_time(0), &record));
	assert_int_equal(record.key_len, strlen(expected));
	assert_memory_equal(record.key, expected, record.key_len);
}

static void
test_cursors_visit_changes_in_order(void **state)
{
	struct store *store = new_store();
	struct store_cursor all, from, copy;

	(void)state;
	store_cursor_open(store, &all, 0);
	assert_next(&all, NULL);
	assert_int_equal(rig_put(store, 1, "a", "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 2, "b", "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "c", "v", 0, 0), 0);
	store_cursor_open(store, &from, 1);
	assert_next(&all, "a");
	assert_next(&all, "b");
	store_cursor_copy(&copy, &all);
	/* The one they stand at moves to the end; a visited one too. */
	assert_int_equal(rig_put(store, 1, "c", "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "a", "v", 0, 0), 0);
	assert_next(&all, "c");
	assert_next(&all, "a");
	assert_next(&all, NULL);
	assert_int_equal(rig_put(store, 2, "b", "v", 0, 0), 0);
	assert_next(&all, "b");
	assert_next(&copy, "c");
	assert_next(&from, "c");
	store_cursor_close(&copy);
	/* The one they stand at vanishes. */
	store_clear(store);
	assert_next(&from, NULL);
	assert_next(&all, NULL);
	assert_int_equal(rig_put(store, 2, "n", "v", 0, 0), 0);
	assert_next(&from, "n");
	assert_next(&all, "n");
	store_cursor_close(&all);
	store_cursor_close(&from);
	store_free(store);
}

/* One at the end does not look for its place again at every question: it would
 * pass all that has changed meanwhile. */
static void
test_a_cursor_at_the_end_finds_its_place_once(void **state)
{
	struct store *store = new_store();
	struct store_record record;
	struct store_cursor cursor;
	const struct record *place;

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", "v", 0, 0), 0);
	store_cursor_open(store, &cursor, 0);
	assert_next(&cursor, "a");
	assert_false(store_cursor_peek(&cursor, rig_time(0), &record));
	assert_null(cursor.at);
	assert_int_equal(rig_put(store, 1, "b", "v", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "c", "v", 0, 0), 0);
	assert_true(store_cursor_peek(&cursor, rig_time(0), &record));
	place = cursor.at;
	assert_non_null(place);
	/* What it found moves on, and vanishes. */
	assert_int_equal(rig_put(store, 1, "b", "v", 0, 0), 0);
	assert_true(store_cursor_peek(&cursor, rig_time(0), &record));
	assert_ptr_not_equal(cursor.at, place);
	assert_memory_equal(record.key, "c", 1);
	store_clear(store);
	assert_false(store_cursor_peek(&cursor, rig_time(0), &record));
	store_cursor_close(&cursor);
	store_free(store);
}

static void
test_expiry_and_eviction_are_no_changes(void **state)
{
	struct store *store = small_store(STORE_EVICT_LRU, 1, 0);
	struct store_cursor cursor;
	struct store_record record;

	(void)state;
	assert_int_equal(rig_put(store, 1, "a", V40, 100, 0), 0);
	assert_int_equal(rig_put(store, 2, "b", V40, 0, 0), 0);
	assert_int_equal(rig_put(store, 2, "c", V40, 0, 0), 0);
	assert_int_equal(store_tick(store, rig_time(100), 9), 1);
	assert_int_equal(store_stats(store).sequence, 3);
	store_cursor_open(store, &cursor, 0);
	assert_true(store_cursor_next(&cursor, rig_time(100), &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	assert_true(store_cursor_next(&cursor, rig_time(100), &record));
	assert_int_equal(record.state, STORE_EVICTED);
	store_cursor_close(&cursor);
	store_free(store);
}

/* ---- a naive model ------------------------------------------------------- */

#define MODEL_APPS 3
#define MODEL_KEYS 12
#define MODEL_OPS 12000
#define MODEL_TOMBSTONES 5
#define MODEL_RETENTION 900
#define MODEL_QUOTA (5 * COST(3, 60))
#define MODEL_STORE (11 * COST(3, 60))

struct model_record {
	int state; /* -1: none */
	size_t len;
	char byte;
	int64_t updated, ttl, dead_since;
	uint64_t order; /* of last use, or of death */
};

struct model {
	struct rig_random random;
	struct store *store;
	struct model_record records[MODEL_APPS][MODEL_KEYS];
	uint64_t order;
	int64_t now;
	enum store_eviction eviction;
};

static void
model_key(int k, char key[4])
{
	(void)snprintf(key, 4, "k%02d", k);
}

static bool
model_overdue(const struct model *m, const struct model_record *r)
{
	return (r->state == STORE_LIVE || r->state == STORE_EVICTED) &&
	    r->ttl > 0 && r->updated + r->ttl <= m->now;
}

static uint64_t
model_charged(const struct model *m, int app)
{
	uint64_t sum = 0;

	for (int a = 0; a < MODEL_APPS; a++)
		for (int k = 0; k < MODEL_KEYS; k++)
			if ((app < 0 || a == app) &&
			    m->records[a][k].state == STORE_LIVE)
				sum += COST(3, m->records[a][k].len);
	return sum;
}

/* The record of an app (of all with -1), live or dead, first in order. */
static struct model_record *
model_oldest(struct model *m, int app, bool live)
{
	struct model_record *oldest = NULL;

	for (int a = 0; a < MODEL_APPS; a++)
		for (int k = 0; k < MODEL_KEYS; k++) {
			struct model_record *r = &m->records[a][k];

			if ((app >= 0 && a != app) || r->state < 0 ||
			    (r->state == STORE_LIVE) != live)
				continue;
			if (oldest == NULL || r->order < oldest->order)
				oldest = r;
		}
	return oldest;
}

static void
model_die(struct model *m, int app, struct model_record *r, int state)
{
	int dead = 0;

	r->state = state;
	r->dead_since = m->now;
	r->order = ++m->order;
	if (r->len > 32)
		r->len = 32;
	for (int k = 0; k < MODEL_KEYS; k++)
		dead += m->records[app][k].state > STORE_LIVE;
	if (dead > MODEL_TOMBSTONES)
		model_oldest(m, app, false)->state = -1;
}

static bool
model_fits(const struct model *m, int app, uint64_t more)
{
	return model_charged(m, app) + more <= MODEL_QUOTA &&
	    model_charged(m, -1) + more <= MODEL_STORE;
}

static int
model_put(struct model *m, int app, int k, size_t len, char byte, int64_t ttl)
{
	struct model saved = *m;
	struct model_record *r = &m->records[app][k], *victim;
	int64_t updated = m->now;

	if (r->state >= 0 && r->updated >= updated)
		updated = r->updated + 1;
	r->state = -1;
	while (!model_fits(m, app, COST(3, len))) {
		victim = model_oldest(m, app, true);
		if (m->eviction == STORE_EVICT_REJECT || victim == NULL) {
			*m = saved;
			return KMS_ETOOBIG;
		}
		model_die(m, app, victim, STORE_EVICTED);
	}
	*r = (struct model_record){ STORE_LIVE, len, byte, updated, ttl, 0,
		++m->order };
	return 0;
}

static int
model_delete(struct model *m, int app, int k)
{
	struct model_record *r = &m->records[app][k];
	int64_t updated = m->now;

	if (r->state < 0 || r->state == STORE_TOMBSTONE)
		return KMS_ENOENT;
	if (r->updated >= updated)
		updated = r->updated + 1;
	r->updated = updated;
	r->ttl = 0;
	r->len = 0;
	model_die(m, app, r, STORE_TOMBSTONE);
	return 0;
}

static enum store_found
model_get(struct model *m, int app, int k)
{
	struct model_record *r = &m->records[app][k];

	if (r->state < 0)
		return STORE_ABSENT;
	if (model_overdue(m, r))
		model_die(m, app, r, STORE_EXPIRED);
	if (r->state == STORE_LIVE) {
		r->order = ++m->order;
		return STORE_FOUND;
	}
	return r->state == STORE_EVICTED ? STORE_GONE : STORE_ABSENT;
}

static void
model_tick(struct model *m)
{
	struct model_record *r;

	for (;;) {
		struct model_record *first = NULL;
		int app = 0;

		for (int a = 0; a < MODEL_APPS; a++)
			for (int k = 0; k < MODEL_KEYS; k++) {
				r = &m->records[a][k];
				if (r->state == STORE_LIVE &&
				    model_overdue(m, r) &&
				    (first == NULL ||
					r->updated + r->ttl <
					    first->updated + first->ttl)) {
					first = r;
					app = a;
				}
			}
		if (first == NULL)
			break;
		model_die(m, app, first, STORE_EXPIRED);
	}
	while ((r = model_oldest(m, -1, false)) != NULL &&
	    m->now - r->dead_since >= MODEL_RETENTION)
		r->state = -1;
}

/* A ttl whose end no other record has, so that their order is known. */
static int64_t
model_ttl(struct model *m, int64_t updated)
{
	int64_t ttl = 1 + (int64_t)rig_below(&m->random, 400);

	if (rig_below(&m->random, 2) == 0)
		return 0;
	for (int i = 0; i < MODEL_APPS * MODEL_KEYS; i++) {
		const struct model_record *r = &m->records[0][0] + i;

		if (r->ttl > 0 && r->updated + r->ttl == updated + ttl) {
			ttl++;
			i = -1;
		}
	}
	return ttl;
}

struct model_sum {
	uint64_t live, dead, live_bytes;
};

static bool
model_count(const struct store_record *record, void *arg)
{
	struct model_sum *sum = arg;

	if (record->state == STORE_LIVE) {
		sum->live++;
		sum->live_bytes += record->key_len + record->value_len;
	} else {
		sum->dead++;
		assert_true(record->value_len <= 32);
	}
	return true;
}

static void
model_check_invariants(const struct model *m)
{
	struct store_stats stats = store_stats(m->store);
	struct model_sum all = { 0, 0, 0 };

	store_each(m->store, 0, model_count, &all);
	assert_int_equal(all.live, stats.live_keys);
	assert_int_equal(all.dead, stats.dead_keys);
	assert_int_equal(all.live_bytes, stats.live_bytes);
	assert_int_equal(stats.charged_bytes,
	    stats.live_bytes + stats.live_keys * STORE_RECORD_OVERHEAD);
	assert_true(stats.charged_bytes <= MODEL_STORE);
	for (uint64_t app = 1; app <= MODEL_APPS; app++) {
		struct model_sum one = { 0, 0, 0 };

		store_each(m->store, app, model_count, &one);
		assert_true(one.dead <= MODEL_TOMBSTONES);
		assert_int_equal(store_app_charged(m->store, app),
		    one.live_bytes + one.live * STORE_RECORD_OVERHEAD);
		assert_true(store_app_charged(m->store, app) <= MODEL_QUOTA);
	}
}

static void
model_check(struct model *m)
{
	for (int a = 0; a < MODEL_APPS; a++)
		for (int k = 0; k < MODEL_KEYS; k++) {
			const struct model_record *r = &m->records[a][k];
			int expected = r->state;
			struct store_record record;
			char key[4];

			model_key(k, key);
			if (!rig_peek(m->store, (uint64_t)a + 1, key, m->now,
				&record)) {
				assert_int_equal(r->state, -1);
				continue;
			}
			if (model_overdue(m, r))
				expected = STORE_EXPIRED;
			assert_int_equal(record.state, expected);
			assert_int_equal(record.value_len,
			    expected != STORE_LIVE && r->len > 32 ? 32
								  : r->len);
			if (r->len > 0)
				assert_int_equal(record.value[0], r->byte);
			assert_int_equal(
			    record.updated_at_ms - RIG_T0, r->updated);
			assert_int_equal(record.ttl_ms, r->ttl);
		}
	model_check_invariants(m);
}

static void
model_step(struct model *m)
{
	int app = (int)rig_below(&m->random, MODEL_APPS);
	int k = (int)rig_below(&m->random, MODEL_KEYS);
	uint64_t id = (uint64_t)app + 1;
	struct store_record record;
	char key[4], value[2000];
	size_t len = rig_below(&m->random, 20) == 0
	    ? rig_below(&m->random, sizeof(value))
	    : rig_below(&m->random, 120);
	char byte = (char)('a' + rig_below(&m->random, 26));
	int64_t ttl = model_ttl(m, m->now);

	model_key(k, key);
	switch (rig_below(&m->random, 8)) {
	case 0:
	case 1:
	case 2:
		memset(value, byte, sizeof(value));
		assert_int_equal(store_put_local(m->store, id, key, 3, value,
				     len, ttl, rig_time(m->now), NULL),
		    model_put(m, app, k, len, byte, ttl));
		break;
	case 3:
		assert_int_equal(
		    store_delete_local(m->store, id, key, 3, rig_time(m->now)),
		    model_delete(m, app, k));
		break;
	case 4:
	case 5:
		assert_int_equal(rig_get(m->store, id, key, m->now, &record),
		    model_get(m, app, k));
		break;
	case 6:
		(void)store_tick(m->store, rig_time(m->now), 1000);
		model_tick(m);
		break;
	default:
		m->now += 1 + (int64_t)rig_below(&m->random, 30);
		break;
	}
	m->now++;
}

static void
test_random_operations_against_a_model(void **state)
{
	static struct model m;
	struct store_config config;

	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		memset(&m, 0, sizeof(m));
		for (int i = 0; i < MODEL_APPS * MODEL_KEYS; i++)
			m.records[i / MODEL_KEYS][i % MODEL_KEYS].state = -1;
		m.random.state = seed;
		m.eviction = seed == 4 ? STORE_EVICT_REJECT : STORE_EVICT_LRU;
		store_config_init(&config);
		config.max_app_storage = MODEL_QUOTA;
		config.max_store = MODEL_STORE;
		config.max_tombstones = MODEL_TOMBSTONES;
		config.tombstone_retention_ms = MODEL_RETENTION;
		config.eviction = m.eviction;
		m.store = rig_store(&config, RIG_SELF);
		for (int i = 0; i < MODEL_OPS; i++) {
			model_step(&m);
			model_check(&m);
		}
		assert_true(store_stats(m.store).expirations > 100);
		assert_true(m.eviction == STORE_EVICT_REJECT ||
		    store_stats(m.store).evictions > 100);
		assert_true(store_stats(m.store).forgotten > 100);
		store_free(m.store);
	}
}

/* Records with a ttl leave in any order: the next to expire is always known. */
static void
test_the_next_expiry_after_random_deletes(void **state)
{
	enum { COUNT = 600 };
	struct rig_random random = { 11 };
	struct store *store = new_store();
	int64_t due[COUNT], next;
	size_t gone = 0, ticked;
	char key[8];

	(void)state;
	for (int i = 0; i < COUNT; i++) {
		due[i] = 1 + (int64_t)rig_below(&random, 100000);
		(void)snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(rig_put(store, 1, key, "v", due[i], 0), 0);
	}
	while (gone < COUNT) {
		int i = (int)rig_below(&random, COUNT);

		next = INT64_MAX;
		for (int j = 0; j < COUNT; j++)
			if (due[j] < next)
				next = due[j];
		assert_int_equal(store_next_tick(store, rig_time(0)), next);
		if (due[i] != INT64_MAX && rig_below(&random, 4) != 0) {
			(void)snprintf(key, sizeof(key), "k%d", i);
			assert_int_equal(store_delete_local(store, 1, key,
					     strlen(key), rig_time(0)),
			    0);
			due[i] = INT64_MAX;
			gone++;
			continue;
		}
		ticked = store_tick(store, rig_time(next), COUNT);
		for (int j = 0; j < COUNT; j++)
			if (due[j] == next) {
				due[j] = INT64_MAX;
				gone++;
				ticked--;
			}
		assert_int_equal(ticked, 0);
	}
	store_free(store);
}

/* Tables and heap through growth and shrinking. */
static void
test_many_records(void **state)
{
	struct store_config config;
	struct store *store;
	char key[16];

	(void)state;
	store_config_init(&config);
	config.max_tombstones = 7;
	config.max_app_storage = 1 << 30;
	store = rig_store(&config, RIG_SELF);
	for (int i = 0; i < 30000; i++) {
		(void)snprintf(key, sizeof(key), "key-%d", i);
		assert_int_equal(
		    rig_put(store, 1, key, V40, 1 + i * 7919 % 30000, 0), 0);
	}
	assert_int_equal(store_stats(store).live_keys, 30000);
	for (int64_t t = 1000; t <= 30000; t += 1000) {
		assert_int_equal(store_tick(store, rig_time(t), 100000), 1000);
		assert_int_equal(
		    store_stats(store).live_keys, (uint64_t)(30000 - t));
	}
	assert_int_equal(store_stats(store).dead_keys, 7);
	store_free(store);
}

/* ---- out of memory ------------------------------------------------------- */

#ifndef KMS_SANITIZER /* sanitizers bring their own malloc */

/* Allocations until one fails; negative: none does. */
static long allocations_left = -1;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static bool
allocation_fails(void)
{
	if (allocations_left < 0)
		return false;
	return allocations_left-- == 0;
}

void *
malloc(size_t size)
{
	return allocation_fails() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return allocation_fails() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return allocation_fails() ? NULL : __libc_realloc(old, size);
}

static bool
digest_record(const struct store_record *record, void *arg)
{
	static const uint8_t key[SIPHASH_KEY_LEN];
	uint64_t *sum = arg;
	char text[1000];
	int len;

	rig_record_text(record, text, sizeof(text));
	len = snprintf(text + strlen(text), 100, " %d %zu %" PRIu64 " %" PRIu64,
	    record->state, record->value_len, record->sequence, record->app_id);
	assert_true(len > 0);
	*sum += siphash(key, text, strlen(text));
	return true;
}

static uint64_t
store_digest(struct store *store)
{
	struct store_stats stats = store_stats(store);
	uint64_t sum = stats.charged_bytes + stats.live_keys * 1000 +
	    stats.namespaces * 1000000 + stats.sequence * 10000000;

	store_each(store, 0, digest_record, &sum);
	return sum;
}

static int
oom_operation(struct store *store, int operation, const char *key)
{
	const struct clock_item clock[] = { { "peer-1", 6, 5 },
		{ "peer-2", 6, 6 } };
	struct store_incoming in = rig_incoming(key, V40, 9, clock, 2);
	struct store_merge_result result;
	struct store_keys keys;
	int error;

	switch (operation) {
	case 0:
		return rig_put(store, 1, key, V40, 100, 1);
	case 1:
		in.updated_at_ms -= 100; /* ours wins, clocks are joined */
		break;
	case 2:
		in.ttl_ms = 500;
		break;
	case 3:
		error =
		    store_delete_local(store, 1, key, strlen(key), rig_time(1));
		return error == KMS_ENOENT ? 0 : error;
	case 4:
		error =
		    store_list(store, 1, "", 0, "", 0, 3, rig_time(1), &keys);
		store_keys_free(&keys);
		return error;
	default:
		return rig_put(store, (uint64_t)operation, key, V40, 0, 1);
	}
	result = store_merge(store, 1, &in, rig_time(1));
	if (result.outcome != STORE_REJECTED)
		return 0;
	assert_string_equal(result.reason, "memory");
	return KMS_ENOMEM;
}

/* Every allocation of every operation fails once, and each time nothing has
 * changed; then the operation is done for good. */
static void
test_out_of_memory_changes_nothing(void **state)
{
	struct rig_random random = { 5 };
	struct store *store = small_store(STORE_EVICT_LRU, 60, 0);
	int failures = 0;
	char key[8];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		int operation = (int)rig_below(&random, 7), error = 1;

		(void)snprintf(
		    key, sizeof(key), "k%d", (int)rig_below(&random, 200));
		for (long left = 0; error != 0; left++) {
			uint64_t digest = store_digest(store);

			allocations_left = left;
			error = oom_operation(store, operation, key);
			allocations_left = -1;
			if (error == 0)
				break;
			assert_int_equal(error, KMS_ENOMEM);
			assert_int_equal(store_digest(store), digest);
			failures++;
			assert_true(left < 50);
		}
	}
	assert_true(failures > 1000);
	store_free(store);
}

static void
test_out_of_memory_at_start(void **state)
{
	struct store_config config;

	(void)state;
	store_config_init(&config);
	allocations_left = 0;
	assert_null(store_new(&config));
	for (long left = 1; left < 4; left++) {
		allocations_left = left;
		assert_null(rig_store(&config, RIG_SELF));
	}
	allocations_left = -1;
}

#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get_delete),
		cmocka_unit_test(test_arguments_at_their_bounds),
		cmocka_unit_test(test_writes_need_our_member),
		cmocka_unit_test(test_empty_namespaces_are_freed),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_expiry_on_read),
		cmocka_unit_test(test_expiry_by_tick_in_order_and_bounded),
		cmocka_unit_test(test_delete_on_a_stub_writes_a_tombstone),
		cmocka_unit_test(test_the_least_recently_used_goes_first),
		cmocka_unit_test(test_an_evicted_stub_expires),
		cmocka_unit_test(test_what_never_fits_evicts_nothing),
		cmocka_unit_test(test_eviction_reject),
		cmocka_unit_test(test_max_store_bounds_all_apps),
		cmocka_unit_test(test_max_tombstones_oldest_first),
		cmocka_unit_test(test_no_tombstones_at_all),
		cmocka_unit_test(test_the_low_mark_holds_back),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_cursors_visit_changes_in_order),
		cmocka_unit_test(test_a_cursor_at_the_end_finds_its_place_once),
		cmocka_unit_test(test_expiry_and_eviction_are_no_changes),
		cmocka_unit_test(test_random_operations_against_a_model),
		cmocka_unit_test(test_the_next_expiry_after_random_deletes),
		cmocka_unit_test(test_many_records),
#ifndef KMS_SANITIZER
		cmocka_unit_test(test_out_of_memory_changes_nothing),
		cmocka_unit_test(test_out_of_memory_at_start),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
