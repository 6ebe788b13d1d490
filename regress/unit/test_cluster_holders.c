/* Who else holds the secret and the data: whose word counts, for how long, and
 * how those who are silent are asked. */
#include "regress/unit/cluster_rig.h"

#define LOOK_MS 1000
#define GREET_MS 5000
#define QUIET_MS 30000

static void
note(size_t n, bool shown)
{
	struct eth_address wallet = peer_wallet(n);

	cluster_holders_note(c, &wallet, shown);
}

static bool
is_last_of_secret(void)
{
	return cluster_holding(c, 0).last_of_secret;
}

static bool
is_last_of_data(void)
{
	return cluster_holding(c, 0).last_of_data;
}

/* ---- the secret ---------------------------------------------------------- */

static void
word_runs_out(void **state)
{
	(void)state;
	assert_true(is_last_of_secret());
	list_peers(0, 2);
	assert_true(is_last_of_secret());
	note(1, true);
	assert_false(is_last_of_secret());
	pass(CLUSTER_SHOWN_MS);
	assert_false(is_last_of_secret());
	pass(1);
	assert_true(is_last_of_secret());
	/* Another's word begins anew, and stands beside a new one. */
	note(0, true);
	pass(CLUSTER_SHOWN_MS);
	note(1, true);
	assert_false(is_last_of_secret());
	pass(1);
	assert_false(is_last_of_secret());
}

static void
failing_voids_it(void **state)
{
	struct eth_address stranger = peer_wallet(9);

	(void)state;
	list_peers(0, 2);
	note(0, true);
	note(0, false);
	assert_true(is_last_of_secret());
	/* One fails, not the other. */
	note(0, true);
	note(1, true);
	note(0, false);
	assert_false(is_last_of_secret());
	note(1, false);
	assert_true(is_last_of_secret());
	/* That it could not be asked says nothing. */
	note(1, true);
	cluster_holders_unsent(c, &peer(1)->wallet);
	assert_false(is_last_of_secret());
	note(1, false);
	cluster_holders_unsent(c, &peer(1)->wallet);
	assert_true(is_last_of_secret());
	/* Nor does one that is no peer. */
	cluster_holders_note(c, &stranger, true);
	cluster_holders_unsent(c, &stranger);
	assert_true(is_last_of_secret());
}

static void
no_longer_dialled(void **state)
{
	(void)state;
	rig.config.peer_blacklist = 0;
	list_peers(0, 2);
	note(0, true);
	peer_facts(0)->status = 1;
	update();
	assert_true(is_last_of_secret());
	/* What it says meanwhile is noted, and counts with what it said when
	 * it is dialled again. */
	note(0, true);
	assert_true(is_last_of_secret());
	peer_facts(0)->status = 0;
	update();
	assert_false(is_last_of_secret());
	/* The chain lists it no more. */
	list_peers(1, 1);
	assert_true(is_last_of_secret());
	list_peers(0, 2);
	assert_true(is_last_of_secret());
}

/* What a peer showed before the question is no answer to it. */
static void
shown_since(void **state)
{
	(void)state;
	list_peers(0, 1);
	has_up_to(0, last_sequence());
	write_key("a");
	has_up_to(0, last_sequence());
	note(0, true);
	assert_false(cluster_holding(c, rig.now.boot_ms).last_of_secret);
	assert_false(cluster_holding(c, rig.now.boot_ms).last_of_data);
	assert_true(cluster_holding(c, rig.now.boot_ms + 1).last_of_secret);
	assert_true(cluster_holding(c, rig.now.boot_ms + 1).last_of_data);
}

static void
all_are_heard(void **state)
{
	int64_t since;

	(void)state;
	list_peers(0, 3);
	assert_false(cluster_holding(c, 0).heard);
	note(0, true);
	note(1, true);
	note(2, true);
	assert_true(cluster_holding(c, 0).heard);
	pass(1);
	since = rig.now.boot_ms;
	assert_true(cluster_holding(c, since - 1).heard);
	assert_false(cluster_holding(c, since).heard);
	/* An answer, a failure, and one that could not be asked. */
	note(0, true);
	note(1, false);
	assert_false(cluster_holding(c, since).heard);
	cluster_holders_unsent(c, &peer(2)->wallet);
	assert_true(cluster_holding(c, since).heard);
	/* Nobody waits for one that is not dialled. */
	pass(1);
	since = rig.now.boot_ms;
	note(0, false);
	note(2, false);
	assert_false(cluster_holding(c, since).heard);
	peer_facts(1)->status = 1;
	update();
	assert_true(cluster_holding(c, since).heard);
	/* Alone there is nobody to be heard. */
	list_peers(0, 0);
	assert_true(cluster_holding(c, since).heard);
	assert_true(cluster_holding(c, since).last_of_secret);
}

/* ---- the data ------------------------------------------------------------ */

/* Where there is none, nothing is lost. */
static void
no_data(void **state)
{
	(void)state;
	list_peers(0, 1);
	assert_true(is_last_of_secret());
	assert_false(is_last_of_data());
	write_key("a");
	assert_true(is_last_of_data());
	assert_int_equal(store_delete_local(k->store, APP, "a", 1, rig.now), 0);
	assert_false(is_last_of_data());
}

/* A peer lacks what it was not sent yet: that counts when it is old. */
static void
changes_settle(void **state)
{
	(void)state;
	list_peers(0, 1);
	write_key("a");
	has_up_to(0, last_sequence());
	note(0, true);
	cluster_holders_reset(c);
	note(0, true);
	pass(CLUSTER_SETTLE_MS);
	cluster_holders_tick(c);
	pass(CLUSTER_SETTLE_MS);
	cluster_holders_tick(c);
	/* All that was settled it has; this comes behind the look at it. */
	write_key("b");
	assert_false(is_last_of_data());
	pass(CLUSTER_SETTLE_MS - 1);
	cluster_holders_tick(c);
	pass(1);
	cluster_holders_tick(c);
	assert_false(is_last_of_data());
	note(0, true);
	/* Twice the time and no less: the look before last. */
	pass(CLUSTER_SETTLE_MS - 1);
	cluster_holders_tick(c);
	assert_false(is_last_of_data());
	pass(1);
	cluster_holders_tick(c);
	assert_true(is_last_of_data());
	assert_false(is_last_of_secret());
	/* One short, and then not. */
	has_up_to(0, last_sequence() - 1);
	assert_true(is_last_of_data());
	has_up_to(0, last_sequence());
	assert_false(is_last_of_data());
	/* Its mark stands, but not for what came from others. */
	engine_peer(0)->needs_repair = true;
	assert_true(is_last_of_data());
}

/* The one that has everything must also be one that showed the secret. */
static void
data_without_word(void **state)
{
	(void)state;
	list_peers(0, 2);
	write_key("a");
	has_up_to(0, last_sequence());
	has_up_to(1, last_sequence() - 1);
	for (int i = 0; i < 2; i++) {
		pass(CLUSTER_SETTLE_MS);
		cluster_holders_tick(c);
	}
	note(1, true);
	assert_false(is_last_of_secret());
	assert_true(is_last_of_data());
	note(0, true);
	assert_false(is_last_of_data());
	note(0, false);
	assert_true(is_last_of_data());
}

/* ---- beginning anew ------------------------------------------------------ */

static void
reset(void **state)
{
	(void)state;
	list_peers(0, 2);
	write_key("a");
	note(0, true);
	note(1, true);
	for (int i = 0; i < 2; i++) {
		pass(CLUSTER_SETTLE_MS);
		cluster_holders_tick(c);
	}
	assert_int_equal(c->settled[0], last_sequence());
	assert_false(cluster_holding_lately(c).last_of_secret);
	assert_true(cluster_holding(c, 0).heard);
	pass(LOOK_MS);
	cluster_holders_reset(c);
	assert_true(is_last_of_secret());
	assert_false(cluster_holding(c, 0).heard);
	/* What was settled was of another store: the time runs anew. */
	assert_int_equal(c->settled[0], 0);
	assert_int_equal(c->settled[1], 0);
	pass(CLUSTER_SETTLE_MS - 1);
	cluster_holders_tick(c);
	assert_int_equal(c->settled[1], 0);
	assert_true(cluster_holding_lately(c).last_of_secret);
	pass(1);
	cluster_holders_tick(c);
	assert_int_equal(c->settled[0], 0);
	assert_int_equal(c->settled[1], last_sequence());
}

/* It is seen and asked for at once, not when the last look would be over. */
static void
reset_looks_at_once(void **state)
{
	(void)state;
	list_peers(0, 1);
	cluster_holders_tick(c); /* it is asked */
	note(0, true);
	pass(LOOK_MS);
	cluster_holders_tick(c);
	assert_false(cluster_holding_lately(c).last_of_secret);
	cluster_holders_reset(c);
	engine_peer(0)->push.greeted = true;
	cluster_holders_tick(c);
	assert_true(cluster_holding_lately(c).last_of_secret);
	assert_false(engine_peer(0)->push.greeted);
}

/* Once a second is enough for figures. */
static void
lately(void **state)
{
	(void)state;
	list_peers(0, 1);
	note(0, true);
	pass(LOOK_MS);
	cluster_holders_tick(c);
	assert_false(cluster_holding_lately(c).last_of_secret);
	note(0, false);
	pass(LOOK_MS - 1);
	cluster_holders_tick(c);
	assert_false(cluster_holding_lately(c).last_of_secret);
	pass(1);
	cluster_holders_tick(c);
	assert_true(cluster_holding_lately(c).last_of_secret);
}

/* A node without the secret is the last of nothing. */
static void
no_secret(void **state)
{
	struct cluster_holding holding;
	uint64_t behind = 1;

	(void)state;
	list_peers(0, 1);
	write_key("a");
	pass(LOOK_MS);
	cluster_holders_tick(c);
	assert_true(cluster_holding_lately(c).last_of_secret);
	assert_true(cluster_holding_lately(c).last_of_data);
	cluster_wiped(c);
	holding = cluster_holding(c, 0);
	assert_false(holding.last_of_secret);
	assert_false(holding.last_of_data);
	assert_true(holding.heard);
	cluster_greet(c);
	cluster_holders_tick(c);
	assert_false(cluster_holding_lately(c).last_of_secret);
	assert_false(cluster_holding_lately(c).last_of_data);
	assert_int_equal(cluster_flush(c, &behind), CLUSTER_FLUSHED);
	assert_int_equal(behind, 0);
}

/* ---- asking -------------------------------------------------------------- */

/* Every peer has answered what was sent. */
static void
all_greeted(void)
{
	struct sync_peer *each;

	TAILQ_FOREACH (each, &c->sync->peers, link) {
		each->push.greeted = true;
		each->push.due_ms = INT64_MAX;
	}
}

/* Which of three peers a tick has asked, -1: none. */
static int
asked_by_tick(void)
{
	int asked = -1;

	all_greeted();
	cluster_holders_tick(c);
	for (size_t n = 0; n < 3; n++) {
		const struct sync_peer *each = engine_peer(n);

		if (each == NULL || each->push.greeted)
			continue;
		assert_int_equal(asked, -1);
		assert_int_equal(each->push.due_ms, rig.now.boot_ms);
		asked = (int)n;
	}
	return asked;
}

/* Nobody answers: one after the other is asked, in turn. */
static void
silent_peers(void **state)
{
	int turn[3];

	(void)state;
	list_peers(0, 3);
	cluster_holders_reset(c);
	for (int i = 0; i < 6; i++) {
		int asked = asked_by_tick();

		assert_in_range(asked, 0, 2);
		if (i >= 3)
			assert_int_equal(asked, turn[i % 3]);
		turn[i % 3] = asked;
		assert_int_equal(asked_by_tick(), -1);
		pass(GREET_MS - 1);
		assert_int_equal(asked_by_tick(), -1);
		pass(1);
	}
	assert_true(
	    turn[0] != turn[1] && turn[1] != turn[2] && turn[0] != turn[2]);
}

/* The latest word is enough, whose ever it is, for half a minute. */
static void
quiet(void **state)
{
	(void)state;
	list_peers(0, 3);
	cluster_holders_reset(c);
	note(2, true);
	pass(1);
	note(0, true);
	assert_int_equal(asked_by_tick(), -1);
	pass(QUIET_MS - 1);
	assert_int_equal(asked_by_tick(), -1);
	pass(1);
	assert_true(asked_by_tick() >= 0);
	/* One that fails has no word: the next is asked, but not at once. */
	pass(GREET_MS);
	note(1, true);
	assert_int_equal(asked_by_tick(), -1);
	note(1, false);
	note(0, false);
	note(2, false);
	assert_true(asked_by_tick() >= 0);
	assert_int_equal(asked_by_tick(), -1);
}

/* The word of one that is dialled no more counts no more: nor does it keep
 * this node from asking the others. */
static void
word_of_one_not_dialled(void **state)
{
	(void)state;
	list_peers(0, 3);
	cluster_holders_reset(c);
	note(1, true);
	assert_int_equal(asked_by_tick(), -1);
	peer_facts(1)->status = 1;
	update();
	assert_true(is_last_of_secret());
	if (asked_by_tick() < 0)
		assert_true(asked_by_tick() >= 0);
}

/* It is passed over, and costs the others no time. */
static void
not_dialled_is_not_asked(void **state)
{
	int seen = 0;

	(void)state;
	list_peers(0, 3);
	peer_facts(1)->status = 1;
	update();
	cluster_holders_reset(c);
	for (int i = 0; i < 4; i++) {
		int asked = asked_by_tick();

		if (asked < 0)
			asked = asked_by_tick();
		assert_true(asked == 0 || asked == 2);
		seen |= 1 << asked;
		pass(GREET_MS);
	}
	assert_int_equal(seen, 5);
}

/* Alone, and with a secret that is locked: nobody is asked. */
static void
nobody_to_ask(void **state)
{
	(void)state;
	cluster_holders_reset(c);
	assert_int_equal(asked_by_tick(), -1);
	list_peers(0, 3);
	c->has_sync_key = false;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(asked_by_tick(), -1);
		pass(GREET_MS);
	}
	c->has_sync_key = true;
	assert_true(asked_by_tick() >= 0);
}

static void
greet_all(void **state)
{
	(void)state;
	list_peers(0, 3);
	peer_facts(1)->status = 1;
	update();
	all_greeted();
	note(0, true);
	cluster_greet(c);
	assert_false(engine_peer(0)->push.greeted);
	assert_null(engine_peer(1));
	assert_false(engine_peer(2)->push.greeted);
	assert_int_equal(engine_peer(0)->push.due_ms, rig.now.boot_ms);
	assert_int_equal(engine_peer(2)->push.due_ms, rig.now.boot_ms);
}

/* ---- flushing ------------------------------------------------------------ */

static void
flush_is(enum cluster_flush expected, uint64_t expected_behind)
{
	uint64_t behind = UINT64_MAX;

	assert_int_equal(cluster_flush(c, &behind), expected);
	assert_int_equal(behind, expected_behind);
}

static void
flush(void **state)
{
	(void)state;
	/* Nothing was ever written. */
	flush_is(CLUSTER_FLUSHED, 0);
	list_peers(0, 2);
	flush_is(CLUSTER_FLUSHED, 0);
	for (int i = 0; i < 5; i++)
		write_key("a");
	assert_int_equal(last_sequence(), 5);
	has_up_to(0, 1);
	has_up_to(1, 3);
	/* The nearest one counts. */
	flush_is(CLUSTER_FLUSHING, 2);
	has_up_to(0, 4);
	flush_is(CLUSTER_FLUSHING, 1);
	has_up_to(0, 5);
	flush_is(CLUSTER_FLUSHED, 0);
	has_up_to(0, 0);
	has_up_to(1, 0);
	flush_is(CLUSTER_FLUSHING, 5);
	/* Who is not dialled gets nothing. */
	has_up_to(1, 5);
	peer_facts(1)->status = 1;
	update();
	flush_is(CLUSTER_FLUSHING, 5);
	/* Nothing may be sent, or there is no one. */
	has_up_to(0, 3);
	c->has_sync_key = false;
	flush_is(CLUSTER_CANNOT_FLUSH, 2);
	has_up_to(0, 5);
	flush_is(CLUSTER_FLUSHED, 0);
	c->has_sync_key = true;
	list_peers(0, 0);
	flush_is(CLUSTER_CANNOT_FLUSH, 5);
}

/* The mark of one that is not compared stands for part of the changes only: it
 * is not the end, and says nothing of how many are with no peer. */
static void
flush_compares(void **state)
{
	(void)state;
	write_key("a");
	write_key("b");
	/* A newcomer gets what is new: it holds nothing. */
	list_peers(0, 2);
	flush_is(CLUSTER_FLUSHING, 2);
	c->has_sync_key = false;
	flush_is(CLUSTER_CANNOT_FLUSH, 2);
	c->has_sync_key = true;
	has_up_to(1, 1);
	flush_is(CLUSTER_FLUSHING, 1);
	has_up_to(0, 2);
	flush_is(CLUSTER_FLUSHED, 0);
	engine_peer(0)->needs_repair = true;
	flush_is(CLUSTER_FLUSHING, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(word_runs_out),
		TEST(failing_voids_it),
		TEST(no_longer_dialled),
		TEST(shown_since),
		TEST(all_are_heard),
		TEST(no_data),
		TEST(changes_settle),
		TEST(data_without_word),
		TEST(reset),
		TEST(reset_looks_at_once),
		TEST(lately),
		TEST(no_secret),
		TEST(silent_peers),
		TEST(quiet),
		TEST(word_of_one_not_dialled),
		TEST(not_dialled_is_not_asked),
		TEST(nobody_to_ask),
		TEST(greet_all),
		TEST(flush),
		TEST(flush_compares),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
