/* Merging one record (PROTOCOL.md section 7, rules 1 to 4), and that nodes
 * agree in the end whatever the order in which they hear of things. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "regress/unit/store_rig.h"

#define APP 7
#define LONG_A "0123456789abcdef0123456789abcdefA"
#define LONG_B "0123456789abcdef0123456789abcdefB"

static const struct clock_item clock_a1[] = { { "a", 1, 1 } };
static const struct clock_item clock_a2[] = { { "a", 1, 2 } };
static const struct clock_item clock_b1[] = { { "b", 1, 1 } };
static const struct clock_item clock_a1b1[] = { { "a", 1, 1 }, { "b", 1, 1 } };

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

static struct store_merge_result
merge(struct store *store, const char *value, int64_t updated,
    const struct clock_item *clock, size_t count)
{
	struct store_incoming in =
	    rig_incoming("k", value, updated, clock, count);

	return store_merge(store, APP, &in, rig_time(0));
}

static void
assert_outcome(struct store_merge_result result,
    enum store_merge_outcome outcome, const char *reason)
{
	assert_int_equal(result.outcome, outcome);
	if (reason == NULL)
		assert_null(result.reason);
	else
		assert_string_equal(result.reason, reason);
}

static void
assert_record(struct store *store, const char *expected)
{
	struct store_record record;
	char text[1000];

	assert_true(rig_peek(store, APP, "k", 0, &record));
	rig_record_text(&record, text, sizeof(text));
	assert_string_equal(text, expected);
}

/* ---- rule 1 -------------------------------------------------------------- */

static void
test_rule_1_refuses_a_future_stamp(void **state)
{
	struct store *store = new_store();

	(void)state;
	assert_outcome(
	    merge(store, "v", 15001, clock_a1, 1), STORE_REJECTED, "future");
	assert_outcome(
	    merge(store, "v", 15000, clock_a1, 1), STORE_MERGED, NULL);
	store_free(store);
}

static void
test_rule_1_refuses_clocks_over_the_limits(void **state)
{
	static struct clock_item items[CLOCK_MEMBERS_MAX + 1];
	static char names[CLOCK_MEMBERS_MAX + 1][8];
	struct clock_item high = { "a", 1, CLOCK_COUNTER_MAX + 1 };
	struct clock_item bad = { "a\n", 2, 1 };
	struct store *store = new_store();

	(void)state;
	for (int i = 0; i <= CLOCK_MEMBERS_MAX; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "m%d", i);
		items[i] = (struct clock_item){ names[i], strlen(names[i]), 1 };
	}
	assert_outcome(merge(store, "v", 0, items, CLOCK_MEMBERS_MAX + 1),
	    STORE_REJECTED, "clock");
	assert_outcome(merge(store, "v", 0, &high, 1), STORE_REJECTED, "clock");
	assert_outcome(
	    merge(store, "v", 0, &bad, 1), STORE_REJECTED, "malformed");
	assert_int_equal(store_stats(store).namespaces, 0);
	high.counter--;
	assert_outcome(merge(store, "v", 0, &high, 1), STORE_MERGED, NULL);
	assert_outcome(merge(store, "w", 1, items, CLOCK_MEMBERS_MAX),
	    STORE_REJECTED, "clock"); /* the join would have 4097 */
	assert_record(store, "k {a:9007199254740992,} 0 value ttl 0 'v'");
	store_free(store);
}

static void
test_rule_1_refuses_sizes_over_the_limits(void **state)
{
	static char key[MERGE_KEY_MAX + 1], value[1000 + 128 + 1];
	struct store_config config;
	struct store_incoming in;
	struct store *store;

	(void)state;
	store_config_init(&config);
	config.max_value_size = 1000;
	store = rig_store(&config, RIG_SELF);
	in = rig_incoming("k", "v", 0, clock_a1, 1);
	in.value = value;
	in.value_len = sizeof(value);
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_REJECTED, "size");
	in.value_len--;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_MERGED, NULL);
	memset(key, 'k', sizeof(key));
	in.key = key;
	in.key_len = sizeof(key);
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_REJECTED, "size");
	in.key_len--;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_MERGED, NULL);
	in.key_len = 0;
	assert_outcome(store_merge(store, APP, &in, rig_time(0)),
	    STORE_REJECTED, "malformed");
	store_free(store);
}

static void
test_rule_1_refuses_what_is_malformed(void **state)
{
	struct store_incoming in = rig_incoming("k", "v", 0, clock_a1, 1);
	struct store *store = new_store();

	(void)state;
	assert_outcome(store_merge(store, 0, &in, rig_time(0)), STORE_REJECTED,
	    "malformed");
	assert_outcome(
	    store_merge(store, STORE_APP_ID_MAX + 1, &in, rig_time(0)),
	    STORE_REJECTED, "malformed");
	assert_outcome(store_merge(store, STORE_APP_ID_MAX, &in, rig_time(0)),
	    STORE_MERGED, NULL);
	in.value = NULL;
	assert_outcome(store_merge(store, APP, &in, rig_time(0)),
	    STORE_REJECTED, "malformed");
	store_free(store);
}

static void
test_ttl_of_peers_is_normalised(void **state)
{
	static const struct {
		int64_t in, kept;
	} rows[] = {
		{ 0, 0 },
		{ -1, 0 },
		{ INT64_MIN, 0 },
		{ INT64_MAX, 0 },
		{ MERGE_TTL_MAX, MERGE_TTL_MAX },
		{ MERGE_TTL_MAX + 1, 0 },
		{ 1000, 1000 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct store_incoming in =
		    rig_incoming("k", "v", 0, clock_a1, 1);
		struct store *store = new_store();
		struct store_record record;

		in.ttl_ms = rows[i].in;
		assert_outcome(store_merge(store, APP, &in, rig_time(0)),
		    STORE_MERGED, NULL);
		assert_true(rig_peek(store, APP, "k", 0, &record));
		assert_int_equal(record.ttl_ms, rows[i].kept);
		store_free(store);
	}
}

/* ---- rule 2 -------------------------------------------------------------- */

static void
test_rule_2_takes_what_is_new(void **state)
{
	struct store *store = new_store();

	(void)state;
	assert_outcome(merge(store, "v", 5, NULL, 0), STORE_MERGED, NULL);
	assert_record(store, "k {} 5 value ttl 0 'v'");
	/* An empty clock comes before any other, whatever the stamps. */
	assert_outcome(merge(store, "a", 4, clock_a1, 1), STORE_MERGED, NULL);
	assert_record(store, "k {a:1,} 4 value ttl 0 'a'");
	store_free(store);
}

static void
test_rule_2_causality_beats_the_stamps(void **state)
{
	struct store *store = new_store();

	(void)state;
	assert_outcome(merge(store, "x", 100, clock_a1, 1), STORE_MERGED, NULL);
	assert_outcome(merge(store, "y", 50, clock_a2, 1), STORE_MERGED, NULL);
	assert_record(store, "k {a:2,} 50 value ttl 0 'y'");
	assert_outcome(
	    merge(store, "x", 100, clock_a1, 1), STORE_SKIPPED, "older");
	assert_record(store, "k {a:2,} 50 value ttl 0 'y'");
	store_free(store);
}

static void
test_rule_2_the_same_record_again(void **state)
{
	struct store *store = new_store();
	uint64_t sequence;

	(void)state;
	merge(store, "x", 1, clock_a1, 1);
	sequence = store_stats(store).sequence;
	assert_outcome(
	    merge(store, "x", 1, clock_a1, 1), STORE_SKIPPED, "same");
	assert_int_equal(store_stats(store).sequence, sequence);
	store_free(store);
}

static void
test_rule_2_equal_clocks_go_by_rule_3(void **state)
{
	struct store *store = new_store();

	(void)state;
	merge(store, "x", 1, clock_a1, 1);
	assert_outcome(
	    merge(store, "w", 1, clock_a1, 1), STORE_SKIPPED, "older");
	assert_outcome(merge(store, "y", 1, clock_a1, 1), STORE_MERGED, NULL);
	assert_outcome(merge(store, "a", 2, clock_a1, 1), STORE_MERGED, NULL);
	assert_outcome(
	    merge(store, NULL, 2, clock_a1, 1), STORE_SKIPPED, "older");
	assert_record(store, "k {a:1,} 2 value ttl 0 'a'");
	store_free(store);
}

/* ---- rule 3 -------------------------------------------------------------- */

static void
test_rule_3_the_later_stamp_wins(void **state)
{
	struct store *store = new_store();
	struct store_merge_result result;

	(void)state;
	merge(store, "x", 1, clock_a1, 1);
	result = merge(store, "a", 2, clock_b1, 1);
	assert_outcome(result, STORE_MERGED, NULL);
	assert_true(result.taken);
	assert_record(store, "k {a:1,b:1,} 2 value ttl 0 'a'");
	store_free(store);
}

static void
test_rule_3_the_clock_is_joined_whoever_wins(void **state)
{
	struct store *store = new_store();
	struct store_merge_result result;
	uint64_t sequence;

	(void)state;
	merge(store, "x", 5, clock_a1, 1);
	sequence = store_stats(store).sequence;
	result = merge(store, "y", 4, clock_b1, 1);
	assert_outcome(result, STORE_MERGED, NULL);
	assert_false(result.taken);
	assert_record(store, "k {a:1,b:1,} 5 value ttl 0 'x'");
	assert_int_equal(store_stats(store).sequence, sequence + 1);
	/* What lost does not come back. */
	assert_outcome(
	    merge(store, "y", 4, clock_b1, 1), STORE_SKIPPED, "older");
	assert_outcome(
	    merge(store, "x", 5, clock_a1b1, 2), STORE_SKIPPED, "same");
	store_free(store);
}

static void
test_rule_3_on_a_tie_the_larger_bytes_win(void **state)
{
	struct store *store = new_store();

	(void)state;
	merge(store, "x", 5, clock_a1, 1);
	merge(store, "xa", 5, clock_b1, 1);
	assert_record(store, "k {a:1,b:1,} 5 value ttl 0 'xa'");
	store_free(store);
	store = new_store();
	merge(store, "x\x80", 5, clock_a1, 1);
	merge(store, "x\x7f", 5, clock_b1, 1);
	assert_record(store, "k {a:1,b:1,} 5 value ttl 0 'x\x80'");
	store_free(store);
}

static void
test_rule_3_a_tombstone_counts_as_empty(void **state)
{
	struct store *store = new_store();

	(void)state;
	merge(store, NULL, 5, clock_a1, 1);
	merge(store, "\x01", 5, clock_b1, 1);
	assert_record(store, "k {a:1,b:1,} 5 value ttl 0 '\x01'");
	store_free(store);
	store = new_store();
	merge(store, "\x01", 5, clock_a1, 1);
	merge(store, NULL, 5, clock_b1, 1);
	assert_record(store, "k {a:1,b:1,} 5 value ttl 0 '\x01'");
	merge(store, NULL, 6, clock_a2, 1);
	assert_record(store, "k {a:2,b:1,} 6 tombstone ttl 0 ''");
	store_free(store);
}

static void
test_rule_3_looks_at_32_bytes_only(void **state)
{
	struct store *store = new_store();

	(void)state;
	merge(store, LONG_A, 5, clock_a1, 1);
	assert_outcome(
	    merge(store, LONG_B, 5, clock_a1, 1), STORE_SKIPPED, "same");
	store_free(store);
}

static void
test_rule_3_orders_every_two_contents(void **state)
{
	static const uint8_t head[] = { 1, 2 };
	static const struct vector_clock empty;
	/* From the weakest to the strongest. */
	const struct merge_version rows[] = {
		{ &empty, 1, 9, head, 2, false },
		{ &empty, 2, 0, head, 2, true },
		{ &empty, 2, 0, NULL, 0, false },
		{ &empty, 2, 5, NULL, 0, false },
		{ &empty, 2, 0, head, 1, false },
		{ &empty, 2, 0, head, 2, false },
		{ &empty, 2, 3, head, 2, false },
		{ &empty, 2, 0, head + 1, 1, false },
		{ &empty, 3, 0, head, 0, true },
	};
	const int count = (int)(sizeof(rows) / sizeof(rows[0]));

	(void)state;
	for (int a = 0; a < count; a++)
		for (int b = 0; b < count; b++) {
			int order = merge_content_compare(&rows[a], &rows[b]);

			assert_int_equal(
			    (order > 0) - (order < 0), (a > b) - (a < b));
			assert_int_equal(merge_decide(&rows[a], &rows[b]),
			    a == b	? MERGE_SAME
				: a > b ? MERGE_KEEP
					: MERGE_TAKE);
		}
}

/* ---- stubs --------------------------------------------------------------- */

static void
test_an_expired_stub_merges_as_the_record_it_was(void **state)
{
	struct store_incoming in = rig_incoming("k", LONG_A, 0, clock_a1, 1);
	struct store *store = new_store();
	struct store_record record;

	(void)state;
	in.ttl_ms = 100;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_MERGED, NULL);
	assert_int_equal(store_tick(store, rig_time(100), 10), 1);
	assert_true(rig_peek(store, APP, "k", 100, &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	assert_int_equal(record.value_len, 32);
	assert_memory_equal(record.value, LONG_A, 32);
	/* The live record again, and its form as a tombstone from a peer. */
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(100)), STORE_SKIPPED, "same");
	assert_outcome(
	    merge(store, NULL, 0, clock_a1, 1), STORE_SKIPPED, "older");
	/* On a tie smaller bytes lose against what it held. */
	assert_outcome(
	    merge(store, "0123", 0, clock_b1, 1), STORE_MERGED, NULL);
	assert_true(rig_peek(store, APP, "k", 100, &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	assert_int_equal(vector_clock_count(record.clock), 2);
	/* A later write wins. */
	assert_outcome(merge(store, "n", 1, clock_a2, 1), STORE_MERGED, NULL);
	assert_true(rig_peek(store, APP, "k", 100, &record));
	assert_int_equal(record.state, STORE_LIVE);
	store_free(store);
}

static void
test_an_overdue_record_comes_in_as_a_stub(void **state)
{
	struct store_incoming in = rig_incoming("k", LONG_A, 0, clock_a1, 1);
	struct store *store = new_store();
	struct store_record record;

	(void)state;
	in.ttl_ms = 100;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(100)), STORE_MERGED, NULL);
	assert_true(rig_peek(store, APP, "k", 0, &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	assert_int_equal(record.value_len, 32);
	assert_int_equal(store_stats(store).live_keys, 0);
	store_free(store);
}

static void
test_an_evicted_stub_is_revived_by_the_same_version(void **state)
{
	struct store_incoming in = rig_incoming("k", LONG_A, 0, clock_a1, 1);
	struct store_config config;
	struct store_record record;
	struct store *store;
	uint64_t sequence;

	(void)state;
	store_config_init(&config);
	config.max_app_storage = 2 * STORE_RECORD_OVERHEAD + 50;
	store = rig_store(&config, RIG_SELF);
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_MERGED, NULL);
	assert_int_equal(rig_put(store, APP, "x", LONG_A, 0, 0), 0);
	assert_int_equal(rig_get(store, APP, "k", 0, &record), STORE_GONE);
	sequence = store_stats(store).sequence;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_SKIPPED, "same");
	in.revive = true;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_MERGED, NULL);
	assert_int_equal(rig_get(store, APP, "k", 0, &record), STORE_FOUND);
	assert_int_equal(record.value_len, strlen(LONG_A));
	assert_int_equal(rig_get(store, APP, "x", 0, &record), STORE_GONE);
	assert_int_equal(store_stats(store).sequence, sequence);
	store_free(store);
}

static void
test_quota_holds_for_peers(void **state)
{
	struct store_incoming in = rig_incoming("k", LONG_A, 0, clock_a1, 1);
	struct store_config config;
	struct store *store;

	(void)state;
	store_config_init(&config);
	config.max_app_storage = STORE_RECORD_OVERHEAD + 50;
	config.eviction = STORE_EVICT_REJECT;
	store = rig_store(&config, RIG_SELF);
	assert_int_equal(rig_put(store, APP, "x", LONG_A, 0, 0), 0);
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_REJECTED, "quota");
	in.key = "x";
	in.updated_at_ms++;
	assert_outcome(
	    store_merge(store, APP, &in, rig_time(0)), STORE_MERGED, NULL);
	store_free(store);
}

/* ---- rule 4 -------------------------------------------------------------- */

static uint64_t
own_counter(struct store *store, const char *key)
{
	struct store_record record;
	const struct clock_entry *e;
	size_t len;

	assert_true(rig_peek(store, APP, key, 0, &record));
	e = vector_clock_entries(record.clock);
	for (size_t i = 0; i < vector_clock_count(record.clock); i++)
		if (memcmp(clock_member_name(e[i].member, &len), RIG_SELF, 3) ==
			0 &&
		    len == strlen(RIG_SELF))
			return e[i].counter;
	return 0;
}

static void
test_rule_4_the_counter(void **state)
{
	struct store *store = new_store();
	struct clock_item ours = { RIG_SELF, strlen(RIG_SELF), 0 };

	(void)state;
	assert_int_equal(rig_put(store, APP, "k", "1", 0, 0), 0);
	assert_int_equal(own_counter(store, "k"), RIG_T0); /* now in ms */
	assert_int_equal(rig_put(store, APP, "j", "1", 0, 0), 0);
	assert_int_equal(own_counter(store, "j"), RIG_T0 + 1); /* last + 1 */
	assert_int_equal(rig_put(store, APP, "k", "1", 0, -500), 0);
	assert_int_equal(own_counter(store, "k"), RIG_T0 + 2);
	ours.counter = RIG_T0 + 1000;
	assert_outcome(merge(store, "x", 1, &ours, 1), STORE_MERGED, NULL);
	assert_int_equal(rig_put(store, APP, "k", "1", 0, 0), 0);
	assert_int_equal(own_counter(store, "k"), RIG_T0 + 1001); /* own + 1 */
	assert_int_equal(rig_put(store, APP, "j", "1", 0, 0), 0);
	assert_int_equal(own_counter(store, "j"), RIG_T0 + 1002);
	store_free(store);
}

static void
test_rule_4_an_inflated_clock_is_not_contagious(void **state)
{
	struct store *store = new_store();
	struct clock_item ours = { RIG_SELF, strlen(RIG_SELF),
		CLOCK_COUNTER_MAX - 1 };

	(void)state;
	assert_outcome(merge(store, "x", 0, &ours, 1), STORE_MERGED, NULL);
	assert_int_equal(rig_put(store, APP, "k", "1", 0, 0), 0);
	assert_int_equal(own_counter(store, "k"), CLOCK_COUNTER_MAX);
	assert_int_equal(rig_put(store, APP, "k", "2", 0, 0), KMS_ERANGE);
	assert_int_equal(rig_put(store, APP, "j", "1", 0, 0), 0);
	assert_int_equal(own_counter(store, "j"), RIG_T0);
	store_free(store);
}

static void
test_rule_4_the_stamp(void **state)
{
	struct store *store = new_store();
	int64_t stamp;

	(void)state;
	assert_int_equal(store_put_local(store, APP, "k", 1, "v", 1, 0,
			     rig_time(10), &stamp),
	    0);
	assert_int_equal(stamp, RIG_T0 + 10);
	assert_int_equal(
	    store_put_local(store, APP, "k", 1, "v", 1, 0, rig_time(5), &stamp),
	    0);
	assert_int_equal(stamp, RIG_T0 + 11); /* previous + 1 */
	assert_outcome(
	    merge(store, "x", 15000, clock_a2, 1), STORE_MERGED, NULL);
	assert_int_equal(
	    store_put_local(store, APP, "k", 1, "v", 1, 0, rig_time(0), &stamp),
	    0);
	assert_int_equal(stamp, RIG_T0 + 7500); /* now + skew / 2 */
	store_free(store);
}

static bool
is_peer(const char *name, size_t len, void *arg)
{
	(void)arg;
	return len == 2 && memcmp(name, "m1", 2) == 0;
}

static void
test_rule_4_prunes_over_64_members(void **state)
{
	struct clock_item items[64];
	char names[64][8];
	struct store *store = new_store();
	struct store_record record;

	(void)state;
	for (int i = 0; i < 64; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "m%d", i);
		items[i] = (struct clock_item){ names[i], strlen(names[i]), 1 };
	}
	merge(store, "v", -5, items, 63);
	store_set_peers(store, is_peer, NULL);
	assert_int_equal(rig_put(store, APP, "k", "v", 0, 0), 0);
	assert_true(rig_peek(store, APP, "k", 0, &record));
	assert_int_equal(vector_clock_count(record.clock), 64);
	merge(store, "v", -5, items, 64);
	assert_int_equal(rig_put(store, APP, "k", "v", 0, 0), 0);
	assert_true(rig_peek(store, APP, "k", 0, &record));
	assert_int_equal(vector_clock_count(record.clock), 2);
	store_free(store);
}

/* ---- agreement ----------------------------------------------------------- */

#define REPLICAS 4
#define KEYS 5
#define WRITES 60
#define STEPS 260

/* A record that travels: deep enough to outlive its store. */
struct message {
	char key[8];
	char value[40];
	char names[REPLICAS + 1][44];
	struct clock_item clock[REPLICAS + 1];
	size_t clock_count;
	int64_t updated_at_ms;
	int64_t ttl_ms;
	bool tombstone;
};

static void
message_of(const struct store_record *record, bool as_sent, struct message *m)
{
	const struct clock_entry *e = vector_clock_entries(record->clock);

	memset(m, 0, sizeof(*m));
	memcpy(m->key, record->key, record->key_len);
	m->tombstone = record->state == STORE_TOMBSTONE ||
	    (as_sent && record->state == STORE_EXPIRED);
	if (!m->tombstone) {
		memcpy(m->value, record->value, record->value_len);
		m->ttl_ms = record->ttl_ms;
	}
	m->updated_at_ms = record->updated_at_ms;
	m->clock_count = vector_clock_count(record->clock);
	assert_true(m->clock_count <= REPLICAS + 1);
	for (size_t i = 0; i < m->clock_count; i++) {
		size_t len;
		const char *name = clock_member_name(e[i].member, &len);

		memcpy(m->names[i], name, len);
		m->clock[i].member_len = len;
		m->clock[i].counter = (int64_t)e[i].counter;
	}
}

static void
deliver(struct store *store, struct message *m, struct kms_time now)
{
	struct store_incoming in = {
		.key = m->key,
		.key_len = strlen(m->key),
		.value = m->value,
		.value_len = strlen(m->value),
		.clock = m->clock,
		.clock_count = m->clock_count,
		.updated_at_ms = m->updated_at_ms,
		.ttl_ms = m->ttl_ms,
		.tombstone = m->tombstone,
	};
	struct store_merge_result result;

	for (size_t i = 0; i < m->clock_count; i++)
		m->clock[i].member = m->names[i];
	result = store_merge(store, APP, &in, now);
	assert_int_not_equal(result.outcome, STORE_REJECTED);
}

struct cluster {
	struct rig_random random;
	struct store *store[REPLICAS];
	int64_t skew[REPLICAS];
	int64_t now;
	struct message log[WRITES];
	size_t written;
	enum cluster_kind {
		SKEWED,		 /* no ttl */
		SKEWED_TTL,	 /* nobody sends expired stubs */
		DISTINCT_STAMPS, /* ttl, and no two writes in a millisecond */
		CLUSTER_KINDS,
	} kind;
};

/*
 * Expired stubs go to peers as tombstones, without the bytes that decide a tie
 * of stamps: with ttl either stamps are distinct or nobody sends them.
 */

static struct store *
replica_new(struct rig_random *random, size_t index)
{
	struct store_config config;
	struct store *store;
	char name[44];

	store_config_init(&config);
	for (size_t i = 0; i < SIPHASH_KEY_LEN; i++)
		config.hash_key[i] = (uint8_t)rig_next(random);
	(void)snprintf(name, sizeof(name), "0x%040zx", index + 1);
	store = rig_store(&config, name);
	assert_non_null(store);
	return store;
}

static struct kms_time
cluster_time(const struct cluster *c, size_t replica)
{
	return rig_time(c->now + c->skew[replica]);
}

/* A write or a delete by an app at one replica, kept in the log as it was. */
static void
cluster_write(struct cluster *c, size_t r, const char *key)
{
	struct kms_time now = cluster_time(c, r);
	struct store_record record;
	char value[40];
	int64_t ttl = 0;
	int error;

	if (c->written == WRITES)
		return;
	if (c->kind != SKEWED && rig_below(&c->random, 2) == 0)
		ttl = 1 + (int64_t)rig_below(&c->random, 400);
	(void)snprintf(value, sizeof(value), "%016" PRIx64 "%s",
	    rig_next(&c->random),
	    rig_below(&c->random, 2) == 0 ? "" : "0123456789abcdefghij");
	if (rig_below(&c->random, 4) == 0)
		error =
		    store_delete_local(c->store[r], APP, key, strlen(key), now);
	else
		error = store_put_local(c->store[r], APP, key, strlen(key),
		    value, strlen(value), ttl, now, NULL);
	if (error == KMS_ENOENT)
		return;
	assert_int_equal(error, 0);
	assert_true(store_peek(
	    c->store[r], APP, key, strlen(key), rig_time(-100000), &record));
	message_of(&record, false, &c->log[c->written++]);
}

static void
cluster_push(struct cluster *c, size_t from, size_t to, const char *key)
{
	struct store_record record;
	struct message m;

	if (!store_peek(c->store[from], APP, key, strlen(key),
		cluster_time(c, from), &record) ||
	    record.state == STORE_EVICTED ||
	    (record.state == STORE_EXPIRED && c->kind == SKEWED_TTL))
		return;
	message_of(&record, true, &m);
	deliver(c->store[to], &m, cluster_time(c, to));
}

static void
cluster_step(struct cluster *c)
{
	size_t r = rig_below(&c->random, REPLICAS);
	size_t other = (r + 1 + rig_below(&c->random, REPLICAS - 1)) % REPLICAS;
	struct store_record record;
	char key[8];

	(void)snprintf(
	    key, sizeof(key), "k%d", (int)rig_below(&c->random, KEYS));
	c->now += 1 + (int64_t)rig_below(&c->random, 20);
	switch (rig_below(&c->random, 6)) {
	case 0:
	case 1:
		cluster_write(c, r, key);
		break;
	case 2:
		(void)store_get(c->store[r], APP, key, strlen(key),
		    cluster_time(c, r), &record);
		(void)store_tick(c->store[r], cluster_time(c, r), 3);
		break;
	default:
		cluster_push(c, r, other, key);
		break;
	}
}

static void
cluster_start(struct cluster *c, uint64_t seed, enum cluster_kind kind)
{
	memset(c, 0, sizeof(*c));
	c->random.state = seed;
	c->kind = kind;
	for (size_t r = 0; r < REPLICAS; r++) {
		c->store[r] = replica_new(&c->random, r);
		if (kind != DISTINCT_STAMPS)
			c->skew[r] =
			    (int64_t)rig_below(&c->random, 6000) - 3000;
	}
	for (int i = 0; i < STEPS; i++)
		cluster_step(c);
}

static void
cluster_end(struct cluster *c)
{
	for (size_t r = 0; r < REPLICAS; r++)
		store_free(c->store[r]);
}

/*
 * as_sent: an expired stub counts as the tombstone that goes to peers. Who has
 * only heard of it in that form keeps it so when the record itself arrives
 * behind a joined clock; to an app both are nothing.
 */
static void
record_text(
    const struct store_record *record, bool as_sent, char *text, size_t size)
{
	struct store_record sent = *record;

	if (as_sent && record->state == STORE_EXPIRED) {
		sent.state = STORE_TOMBSTONE;
		sent.ttl_ms = 0;
		sent.value_len = 0;
	}
	rig_record_text(&sent, text, size);
}

static void
assert_same_records(
    struct store *a, struct store *b, bool as_sent, uint64_t seed)
{
	char key[8], x[1000], y[1000];
	struct store_record record;

	for (int k = 0; k < KEYS; k++) {
		(void)snprintf(key, sizeof(key), "k%d", k);
		(void)strncpy(x, "none", sizeof(x));
		(void)strncpy(y, "none", sizeof(y));
		if (rig_peek(a, APP, key, 0, &record))
			record_text(&record, as_sent, x, sizeof(x));
		if (rig_peek(b, APP, key, 0, &record))
			record_text(&record, as_sent, y, sizeof(y));
		if (strcmp(x, y) != 0)
			fail_msg("seed %" PRIu64 ":\n%s\n%s", seed, x, y);
	}
}

static void
shuffle(struct rig_random *random, size_t order[], size_t count)
{
	for (size_t i = 0; i < count; i++)
		order[i] = i;
	for (size_t i = count; i > 1; i--) {
		size_t j = rig_below(random, i), t = order[i - 1];

		order[i - 1] = order[j];
		order[j] = t;
	}
}

/*
 * The same writes, deletes and expiries reach fresh replicas, each in another
 * order, some twice, with expiry falling in between: no exchange afterwards
 * is needed for them to be the same.
 */
static void
test_any_order_of_arrival_gives_the_same_records(void **state)
{
	static struct cluster c;
	size_t order[WRITES];

	(void)state;
	for (uint64_t seed = 1; seed <= 600; seed++) {
		struct store *fresh[3];

		cluster_start(
		    &c, seed, (enum cluster_kind)(seed % CLUSTER_KINDS));
		for (size_t f = 0; f < 3; f++) {
			fresh[f] = replica_new(&c.random, 10 + f);
			shuffle(&c.random, order, c.written);
			for (size_t i = 0; i < c.written; i++) {
				struct kms_time now = rig_time(
				    c.now + (int64_t)rig_below(&c.random, 300));

				deliver(fresh[f], &c.log[order[i]], now);
				if (rig_below(&c.random, 5) == 0)
					deliver(fresh[f], &c.log[order[i / 2]],
					    now);
				if (rig_below(&c.random, 4) == 0)
					(void)store_tick(fresh[f], now, 2);
			}
			(void)store_tick(
			    fresh[f], rig_time(c.now + 5000), 1000);
		}
		assert_same_records(fresh[0], fresh[1], false, seed);
		assert_same_records(fresh[0], fresh[2], false, seed);
		/* And the replicas that lived through it hear the same. */
		for (size_t r = 0; r < REPLICAS; r++) {
			shuffle(&c.random, order, c.written);
			for (size_t i = 0; i < c.written; i++)
				deliver(c.store[r], &c.log[order[i]],
				    rig_time(c.now + 5000));
			(void)store_tick(
			    c.store[r], rig_time(c.now + 10000), 1000);
			assert_same_records(fresh[0], c.store[r], true, seed);
		}
		for (size_t f = 0; f < 3; f++)
			store_free(fresh[f]);
		cluster_end(&c);
	}
}

static bool
exchange_round(struct cluster *c)
{
	uint64_t before = 0, after = 0;
	char key[8];

	for (size_t r = 0; r < REPLICAS; r++)
		before += store_stats(c->store[r]).sequence;
	for (size_t from = 0; from < REPLICAS; from++)
		for (size_t to = 0; to < REPLICAS; to++)
			for (int k = 0; k < KEYS && from != to; k++) {
				(void)snprintf(key, sizeof(key), "k%d", k);
				cluster_push(c, from, to, key);
			}
	for (size_t r = 0; r < REPLICAS; r++)
		after += store_stats(c->store[r]).sequence;
	return after != before;
}

static void
cluster_exchange(struct cluster *c)
{
	int rounds = 0;

	while (exchange_round(c))
		assert_true(++rounds < 8);
	for (size_t r = 1; r < REPLICAS; r++)
		assert_same_records(
		    c->store[0], c->store[r], false, c->random.state);
}

/* Nodes that only tell one another what they hold now agree as well, and
 * then have nothing more to say. */
static void
test_exchange_of_states_converges(void **state)
{
	static struct cluster c;

	(void)state;
	for (uint64_t seed = 1000; seed <= 1300; seed++) {
		cluster_start(&c, seed, SKEWED);
		cluster_exchange(&c);
		cluster_end(&c);
	}
}

/* Deployed peers, or liars, send equal clocks with different contents and
 * stamps that contradict the clocks: exchange still converges. */
static void
test_exchange_converges_on_contradictory_records(void **state)
{
	static struct cluster c;

	(void)state;
	for (uint64_t seed = 2000; seed <= 2300; seed++) {
		memset(&c, 0, sizeof(c));
		c.random.state = seed;
		for (size_t r = 0; r < REPLICAS; r++)
			c.store[r] = replica_new(&c.random, r);
		for (int i = 0; i < 60; i++) {
			struct message m = { .clock_count = 2 };

			(void)snprintf(m.key, sizeof(m.key), "k%d",
			    (int)rig_below(&c.random, KEYS));
			m.tombstone = rig_below(&c.random, 3) == 0;
			m.value[0] = (char)('a' + rig_below(&c.random, 3));
			m.updated_at_ms =
			    RIG_T0 + (int64_t)rig_below(&c.random, 3);
			for (int j = 0; j < 2; j++) {
				m.names[j][0] = (char)('x' + j);
				m.clock[j].member_len = 1;
				m.clock[j].counter =
				    (int64_t)rig_below(&c.random, 3);
			}
			deliver(c.store[rig_below(&c.random, REPLICAS)], &m,
			    rig_time(0));
		}
		cluster_exchange(&c);
		cluster_end(&c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_1_refuses_a_future_stamp),
		cmocka_unit_test(test_rule_1_refuses_clocks_over_the_limits),
		cmocka_unit_test(test_rule_1_refuses_sizes_over_the_limits),
		cmocka_unit_test(test_rule_1_refuses_what_is_malformed),
		cmocka_unit_test(test_ttl_of_peers_is_normalised),
		cmocka_unit_test(test_rule_2_takes_what_is_new),
		cmocka_unit_test(test_rule_2_causality_beats_the_stamps),
		cmocka_unit_test(test_rule_2_the_same_record_again),
		cmocka_unit_test(test_rule_2_equal_clocks_go_by_rule_3),
		cmocka_unit_test(test_rule_3_the_later_stamp_wins),
		cmocka_unit_test(test_rule_3_the_clock_is_joined_whoever_wins),
		cmocka_unit_test(test_rule_3_on_a_tie_the_larger_bytes_win),
		cmocka_unit_test(test_rule_3_a_tombstone_counts_as_empty),
		cmocka_unit_test(test_rule_3_looks_at_32_bytes_only),
		cmocka_unit_test(test_rule_3_orders_every_two_contents),
		cmocka_unit_test(
		    test_an_expired_stub_merges_as_the_record_it_was),
		cmocka_unit_test(test_an_overdue_record_comes_in_as_a_stub),
		cmocka_unit_test(
		    test_an_evicted_stub_is_revived_by_the_same_version),
		cmocka_unit_test(test_quota_holds_for_peers),
		cmocka_unit_test(test_rule_4_the_counter),
		cmocka_unit_test(
		    test_rule_4_an_inflated_clock_is_not_contagious),
		cmocka_unit_test(test_rule_4_the_stamp),
		cmocka_unit_test(test_rule_4_prunes_over_64_members),
		cmocka_unit_test(
		    test_any_order_of_arrival_gives_the_same_records),
		cmocka_unit_test(test_exchange_of_states_converges),
		cmocka_unit_test(
		    test_exchange_converges_on_contradictory_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
