/* What the dead of all apps may cost, whatever peers say was deleted. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "regress/unit/store_rig.h"

#define TOMBSTONES 100
#define RETENTION 1000
#define FLOOD 20000
#define INVENTED 1000000 /* the first app that is none */
#define LONG_CLOCK 65
#define APP_AND_TABLE 1024

static struct store *
new_store(void)
{
	struct store_config config;
	struct store *store;

	store_config_init(&config);
	config.max_tombstones = TOMBSTONES;
	config.tombstone_retention_ms = RETENTION;
	store = rig_store(&config, RIG_SELF);
	assert_non_null(store);
	return store;
}

/* What a peer says was deleted, under a clock of that many members. */
static struct store_merge_result
bury_long(
    struct store *store, uint64_t app, const char *key, size_t members, int at)
{
	static char names[LONG_CLOCK][65];
	struct clock_item items[LONG_CLOCK];
	struct store_incoming in;

	assert_true(members <= LONG_CLOCK);
	for (size_t i = 0; i < members; i++) {
		/* As long as may be, and nobody else's. */
		(void)snprintf(names[i], sizeof(names[i]),
		    "%016zx%016" PRIx64 "%-32.32s", i, app, key);
		items[i] = (struct clock_item){ names[i], 64, 7 };
	}
	in = rig_incoming(key, NULL, at, items, members);
	return store_merge(store, app, &in, rig_time(at));
}

static bool
bury(struct store *store, uint64_t app, const char *key, int at)
{
	struct store_merge_result result = bury_long(store, app, key, 1, at);

	if (result.outcome == STORE_MERGED)
		return true;
	assert_int_equal(result.outcome, STORE_SKIPPED);
	assert_string_equal(result.reason, "quota");
	return false;
}

static void
die_here(struct store *store, uint64_t app, const char *key, int at)
{
	assert_int_equal(rig_put(store, app, key, "v", 0, at), 0);
	assert_int_equal(
	    store_delete_local(store, app, key, strlen(key), rig_time(at)), 0);
}

/* One tombstone in each of FLOOD apps that are none. How many were taken. */
static uint64_t
flood(struct store *store, int at)
{
	uint64_t taken = 0;

	for (uint64_t i = 0; i < FLOOD; i++)
		taken += bury(store, INVENTED + i, "k", at);
	return taken;
}

static bool
is_there(struct store *store, uint64_t app, const char *key)
{
	struct store_record record;

	return rig_peek(store, app, key, 0, &record);
}

/* ---- invented apps ------------------------------------------------------- */

static void
test_a_flood_in_invented_apps_is_bounded(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store), taken;
	struct store_stats stats;
	size_t before;

	(void)state;
	before = mallinfo2().uordblks;
	taken = flood(store, 0);
	stats = store_stats(store);
	assert_true(taken > 100);
	assert_int_equal(stats.namespaces, taken);
	assert_int_equal(stats.dead_keys, taken);
	assert_int_equal(stats.sequence, taken);
	assert_true(stats.dead_bytes >= taken * APP_AND_TABLE);
	assert_true(stats.dead_bytes <= bound / 4);
	assert_true(stats.dead_bytes > bound / 4 - 2000);
	/* The account is true of memory (0 under a sanitizer's malloc). */
	assert_true(mallinfo2().uordblks - before <= stats.dead_bytes);
	store_free(store);
}

static void
test_a_flood_pushes_nothing_out(void **state)
{
	struct store *store = new_store();

	(void)state;
	store_set_low_mark(store, 0);
	die_here(store, 1, "here", 0);
	assert_int_equal(rig_put(store, 2, "live", "v", 0, 0), 0);
	assert_true(bury(store, 2, "elsewhere", 0));
	assert_true(bury(store, 3, "honest", 0));
	assert_true(flood(store, 0) < FLOOD);
	assert_true(is_there(store, 1, "here"));
	assert_true(is_there(store, 2, "elsewhere"));
	assert_true(is_there(store, 3, "honest"));
	assert_int_equal(store_stats(store).forgotten, 0);
	assert_int_equal(store_lost_mark(store), 0);
	/* Nor does it keep out what apps with records delete. */
	die_here(store, 1, "later", 1);
	assert_true(bury(store, 2, "later elsewhere", 1));
	assert_true(bury(store, 2, "live", 1));
	assert_false(bury(store, 4, "nobody's", 1));
	/* Nor what is written: with that its app is known. */
	assert_int_equal(rig_put(store, 4, "k", "v", 0, 1), 0);
	assert_true(bury(store, 4, "nobody's", 1));
	assert_true(is_there(store, 2, "live"));
	assert_int_equal(store_stats(store).forgotten, 0);
	store_free(store);
}

/* An app that peers' tombstones made is as good as others when it writes. */
static void
test_an_app_becomes_known(void **state)
{
	struct store *store = new_store();
	uint64_t taken = flood(store, 0);
	struct clock_item item = { "peer", 4, 1 };
	struct store_incoming in;

	(void)state;
	assert_false(bury(store, 1, "k", 0));
	for (uint64_t i = 0; i < taken / 4; i++)
		assert_int_equal(
		    rig_put(store, INVENTED + i, "own", "v", 0, 0), 0);
	/* It leaves its part of the strangers' share to others. */
	for (uint64_t i = 0; i < taken / 4; i++)
		assert_true(bury(store, 1 + i, "k", 0));
	assert_false(bury(store, FLOOD, "k", 0));
	/* So it does when a peer has a value under its data key. */
	in = rig_incoming("theirs", "v", 0, &item, 1);
	assert_int_equal(
	    store_merge(store, FLOOD, &in, rig_time(0)).outcome, STORE_MERGED);
	assert_true(bury(store, FLOOD, "k", 0));
	store_free(store);
}

static void
test_empty_apps_vanish(void **state)
{
	struct store *store = new_store();
	uint64_t taken = flood(store, 0);

	(void)state;
	for (int round = 1; round < 4; round++) {
		(void)store_tick(store, rig_time(round * RETENTION), FLOOD);
		assert_int_equal(store_stats(store).namespaces, 0);
		assert_int_equal(store_stats(store).dead_bytes, 0);
		assert_int_equal(flood(store, round * RETENTION), taken);
	}
	store_free(store);
}

/* ---- apps that there are ------------------------------------------------- */

static void
test_foundlings_in_known_apps_have_a_share(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store), taken = 0;
	char key[200];

	(void)state;
	for (uint64_t app = 1; app <= 64; app++) {
		assert_int_equal(rig_put(store, app, "live", "v", 0, 0), 0);
		for (int i = 0; i < TOMBSTONES; i++) {
			(void)snprintf(key, sizeof(key), "%0150d", i);
			taken += bury(store, app, key, 0);
		}
	}
	assert_int_equal(store_stats(store).dead_keys, taken);
	assert_true(
	    store_stats(store).dead_bytes <= bound / 2 + 64 * APP_AND_TABLE);
	assert_true(store_stats(store).dead_bytes > bound / 2 - 2000);
	/* What hides something here is taken all the same. */
	assert_true(bury(store, 64, "live", 1));
	store_free(store);
}

/*
 * What dies here has the whole bound: first foundlings go, then the oldest. A
 * peer that has not acknowledged what went has to compare.
 */
static void
test_what_died_here_outlives_foundlings(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store), found = flood(store, 0);
	uint64_t gone = 0;
	char key[400];

	(void)state;
	store_set_low_mark(store, found);
	for (uint64_t own = 0; own < 64 * TOMBSTONES; own++) {
		(void)snprintf(key, sizeof(key), "%0300" PRIu64, own);
		die_here(store, 1 + own / TOMBSTONES, key, 0);
		assert_true(store_stats(store).dead_bytes <= bound);
		assert_int_equal(
		    store_stats(store).dead_keys + store_stats(store).forgotten,
		    found + own + 1);
		if (store_stats(store).forgotten <= found) {
			assert_int_equal(store_lost_mark(store), 0);
			continue;
		}
		gone = store_stats(store).forgotten - found;
		/* Each took a number when written and one when deleted. */
		assert_int_equal(store_lost_mark(store), found + 2 * gone);
		(void)snprintf(key, sizeof(key), "%0300" PRIu64, gone - 1);
		assert_false(is_there(store, 1 + (gone - 1) / TOMBSTONES, key));
	}
	assert_true(gone > TOMBSTONES);
	/* Their first apps went with their last records. */
	assert_int_equal(store_stats(store).namespaces, 64 - gone / TOMBSTONES);
	store_free(store);
}

/* A full share takes the next version of what it has, but nothing larger. */
static void
test_a_full_share_is_kept_up(void **state)
{
	struct store *store = new_store();
	struct store_record record;
	uint64_t taken = flood(store, 0);
	struct store_merge_result result;

	(void)state;
	assert_int_equal(flood(store, 1), taken);
	assert_int_equal(store_stats(store).dead_keys, taken);
	for (uint64_t i = 0; i < 20; i++) {
		result = bury_long(store, INVENTED + i, "k", 20, 2);
		assert_int_equal(result.outcome, STORE_SKIPPED);
		assert_string_equal(result.reason, "quota");
	}
	assert_true(rig_peek(store, INVENTED, "k", 0, &record));
	assert_int_equal(record.updated_at_ms, RIG_T0 + 1);
	assert_int_equal(vector_clock_count(record.clock), 1);
	store_free(store);
}

/* What died here stays no foundling when a peer knows a later deletion. */
static void
test_what_died_here_remains_so(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store);
	char key[200];

	(void)state;
	for (uint64_t i = 0; i < 35 * TOMBSTONES; i++) {
		(void)snprintf(key, sizeof(key), "%0150" PRIu64, i);
		die_here(store, 1 + i / TOMBSTONES, key, 0);
		assert_true(bury(store, 1 + i / TOMBSTONES, key, 5));
	}
	assert_true(store_stats(store).dead_bytes > bound / 2);
	assert_true(bury(store, INVENTED, "k", 0));
	assert_int_equal(store_stats(store).forgotten, 0);
	store_free(store);
}

/* ---- retention ----------------------------------------------------------- */

static void
test_few_foundlings_are_held_back(void **state)
{
	struct store *store = new_store();

	(void)state;
	store_set_low_mark(store, 0);
	for (uint64_t i = 0; i < 100; i++)
		assert_true(bury(store, INVENTED + i, "k", 0));
	assert_int_equal(store_tick(store, rig_time(RETENTION), FLOOD), 100);
	assert_int_equal(store_stats(store).dead_keys, 100);
	assert_int_equal(store_lost_mark(store), 0);
	store_set_low_mark(store, 100);
	assert_int_equal(
	    store_tick(store, rig_time(2 * RETENTION), FLOOD), 100);
	assert_int_equal(store_stats(store).namespaces, 0);
	assert_int_equal(store_lost_mark(store), 0);
	store_free(store);
}

/* A peer that acknowledges nothing does not keep its flood here for ever. */
static void
test_many_foundlings_are_not_held_back(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store), left;

	(void)state;
	store_set_low_mark(store, 0);
	die_here(store, 1, "own", 0);
	assert_true(flood(store, 0) < FLOOD);
	(void)store_tick(store, rig_time(RETENTION), FLOOD);
	left = store_stats(store).dead_keys;
	assert_true(store_stats(store).dead_bytes <= bound / 8 + 2000);
	assert_true(store_stats(store).dead_bytes > bound / 8 - 2000);
	assert_int_equal(store_stats(store).namespaces, left);
	assert_true(is_there(store, 1, "own"));
	/* Its write and its deletion took two numbers, and was kept. */
	assert_int_equal(
	    store_lost_mark(store), 2 + store_stats(store).forgotten);
	store_free(store);
}

/* ---- clocks -------------------------------------------------------------- */

static void
test_long_clocks_are_counted(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store), taken = 0;
	struct store_merge_result result;
	size_t before = mallinfo2().uordblks;

	(void)state;
	for (uint64_t i = 0; i < 2000; i++) {
		result = bury_long(store, INVENTED + i, "k", 64, 0);
		taken += result.outcome == STORE_MERGED;
	}
	assert_int_equal(store_stats(store).dead_keys, taken);
	assert_true(taken > 10 && taken < bound / 4 / 64 / 100);
	assert_true(store_stats(store).dead_bytes <= bound / 4);
	assert_true(
	    mallinfo2().uordblks - before <= store_stats(store).dead_bytes);
	store_free(store);
}

static void
bury_all_long(struct store *store, uint64_t app, uint64_t last, int at)
{
	char key[20];

	for (; app <= last; app++)
		for (int i = 0; i < TOMBSTONES; i++) {
			(void)snprintf(key, sizeof(key), "%d", i);
			(void)bury_long(store, app, key, LONG_CLOCK, at);
		}
}

/* Neither by a clock that grows, nor by one that is longer than any of ours,
 * does a peer push out what died here. */
static void
test_long_clocks_push_nothing_out(void **state)
{
	struct store *store = new_store();
	uint64_t bound = store_dead_bound(store);
	char key[20];

	(void)state;
	assert_int_equal(bury_long(store, 22, "first", LONG_CLOCK, 100).outcome,
	    STORE_MERGED);
	for (uint64_t app = 1; app <= 10; app++)
		for (int i = 0; i < TOMBSTONES; i++) {
			(void)snprintf(key, sizeof(key), "%d", i);
			die_here(store, app, key, 100);
		}
	for (uint64_t app = 11; app <= 20; app++)
		for (int i = 0; i < TOMBSTONES; i++) {
			(void)snprintf(key, sizeof(key), "%d", i);
			assert_int_equal(
			    rig_put(store, app, key, "v", 0, 100), 0);
		}
	/* At 99 ours win and are joined, at 101 theirs do. */
	bury_all_long(store, 1, 10, 99);
	assert_true(store_stats(store).dead_bytes > bound / 2 - 20000);
	bury_all_long(store, 1, 20, 101);
	assert_int_equal(store_stats(store).forgotten, 0);
	assert_true(store_stats(store).dead_bytes <= bound / 2);
	/* A clock as honest nodes make them still is taken. */
	assert_true(bury(store, 20, "99", 102));
	/* As is the next version of a long one that is here. */
	for (int i = 0; store_stats(store).dead_bytes <= bound / 2; i++) {
		(void)snprintf(key, sizeof(key), "%d", i);
		die_here(store, 21, key, 102);
	}
	assert_int_equal(bury_long(store, 22, "first", LONG_CLOCK, 103).outcome,
	    STORE_MERGED);
	store_free(store);
}

/* ---- the account --------------------------------------------------------- */

static void
random_step(struct store *store, struct rig_random *random, int64_t at)
{
	uint64_t app = 1 + rig_below(random, 5);
	size_t members = 1 + rig_below(random, 4);
	char key[2] = { (char)('a' + rig_below(random, 6)), '\0' };
	struct store_record record;

	switch (rig_below(random, 8)) {
	case 0:
		(void)rig_put(
		    store, app, key, "v", (int64_t)rig_below(random, 50), at);
		break;
	case 1:
		(void)store_delete_local(store, app, key, 1, rig_time(at));
		break;
	case 2:
		(void)rig_get(store, app, key, at, &record);
		break;
	case 3:
		(void)store_tick(store, rig_time(at), 3);
		break;
	case 4:
		(void)store_drop(store, app, key, 1);
		break;
	default:
		(void)bury_long(store, app, key, members,
		    (int)(at - (int64_t)rig_below(random, 20)));
		break;
	}
}

static bool
one_of_all(const struct store_record *record, void *arg)
{
	*(struct store_record *)arg = *record;
	return false;
}

static void
test_the_account_balances(void **state)
{
	struct rig_random random = { 5 };
	struct store *store = new_store();
	uint64_t fresh = flood(store, 0);
	struct store_record record;

	(void)state;
	store_clear(store);
	assert_int_equal(store_stats(store).dead_bytes, 0);
	for (int i = 0; i < 20000; i++)
		random_step(store, &random, 100 + i);
	for (;;) {
		record.key_len = 0;
		store_each(store, 0, one_of_all, &record);
		if (record.key_len == 0)
			break;
		assert_int_equal(store_drop(store, record.app_id, record.key,
				     record.key_len),
		    0);
	}
	assert_int_equal(store_stats(store).dead_keys, 0);
	assert_int_equal(store_stats(store).dead_bytes, 0);
	assert_int_equal(flood(store, 50000), fresh);
	store_free(store);
}

/* ---- clocks of live records ---------------------------------------------- */

/* Join a long clock to so many records from the first on: how many took it. */
static size_t
join_long(struct store *store, size_t from, size_t to)
{
	struct store_merge_result result;
	size_t taken = 0;
	char key[16];

	for (size_t i = from; i < to; i++) {
		(void)snprintf(key, sizeof(key), "live%zu", i);
		/* Older than the value, and concurrent to it. */
		result = bury_long(store, 1, key, LONG_CLOCK, 5);
		if (result.outcome == STORE_MERGED)
			taken++;
		else
			assert_string_equal(result.reason, "quota");
	}
	return taken;
}

static void
test_live_clocks_are_bounded(void **state)
{
	const size_t cost = (LONG_CLOCK + 1) * (size_t)160;
	struct store *store = new_store();
	struct store_record record;
	size_t most = store_dead_bound(store) / 4 / cost;
	char key[16];

	(void)state;
	for (size_t i = 0; i < 300; i++) {
		(void)snprintf(key, sizeof(key), "live%zu", i);
		assert_int_equal(rig_put(store, 1, key, "v", 0, 10), 0);
	}
	assert_in_range(most, 10, 290);
	assert_int_equal(join_long(store, 0, 300), most);
	/* Once more costs nothing more. */
	assert_int_equal(
	    bury_long(store, 1, "live0", LONG_CLOCK, 4).outcome, STORE_SKIPPED);
	assert_int_equal(join_long(store, 299, 300), 0);
	/* Short ones are joined as ever, and values written. */
	assert_int_equal(
	    bury_long(store, 1, "live299", 1, 5).outcome, STORE_MERGED);
	assert_int_equal(rig_put(store, 1, "live1", "w", 0, 11), 0);
	for (size_t i = 0; i < 300; i++) {
		(void)snprintf(key, sizeof(key), "live%zu", i);
		assert_true(rig_peek(store, 1, key, 11, &record));
		assert_int_equal(record.state, STORE_LIVE);
	}
	/* Room that becomes free is room. */
	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(key, sizeof(key), "live%zu", i);
		assert_int_equal(store_delete_local(
				     store, 1, key, strlen(key), rig_time(12)),
		    0);
	}
	assert_int_equal(join_long(store, 290, 299), 3);
	store_clear(store);
	assert_int_equal(rig_put(store, 1, "live0", "v", 0, 10), 0);
	assert_int_equal(join_long(store, 0, 1), 1);
	store_free(store);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_flood_in_invented_apps_is_bounded),
		cmocka_unit_test(test_a_flood_pushes_nothing_out),
		cmocka_unit_test(test_an_app_becomes_known),
		cmocka_unit_test(test_empty_apps_vanish),
		cmocka_unit_test(test_foundlings_in_known_apps_have_a_share),
		cmocka_unit_test(test_what_died_here_outlives_foundlings),
		cmocka_unit_test(test_a_full_share_is_kept_up),
		cmocka_unit_test(test_what_died_here_remains_so),
		cmocka_unit_test(test_few_foundlings_are_held_back),
		cmocka_unit_test(test_many_foundlings_are_not_held_back),
		cmocka_unit_test(test_long_clocks_are_counted),
		cmocka_unit_test(test_long_clocks_push_nothing_out),
		cmocka_unit_test(test_the_account_balances),
		cmocka_unit_test(test_live_clocks_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
