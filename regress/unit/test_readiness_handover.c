#include "regress/unit/readiness_rig.h"

/* ---- the race ---- */

/* All three make candidates, one wins, the others get its secret. */
static void
bootstrap(void **state)
{
	size_t winner;

	(void)state;
	winner = become_ready();
	for (size_t i = 0; i < NODES; i++) {
		const struct readiness_view *view = readiness_view(nodes[i].r);
		char url[32];

		assert_int_equal(nodes[i].rig.sent, 1);
		assert_int_equal(nodes[i].offered, 2);
		(void)snprintf(url, sizeof(url), "http://node%zu", winner);
		assert_string_equal(view->synced_from, i == winner ? "" : url);
	}
	run(70000);
	for (size_t i = 0; i < NODES; i++) {
		assert_non_null(readiness_master(nodes[i].r));
		assert_int_equal(nodes[i].installed, 1);
		assert_int_equal(nodes[i].wiped, 0);
	}
}

/* Without offers: the winner hands it over itself. */
static void
losers_ask(void **state)
{
	size_t winner;

	(void)state;
	holds_offers = true;
	winner = become_ready();
	assert_int_equal(nodes[winner].served, 2);
	/* When the race is over nothing is offered any more. */
	assert_int_equal(post_count, 0);
	for (size_t i = 0; i < NODES; i++)
		assert_int_equal(nodes[i].offered, 0);
}

/* A node that starts later asks those that are there. */
static void
latecomer(void **state)
{
	(void)state;
	(void)become_ready();
	finalize();
	run(70000);
	restart(2);
	run(3000);
	assert_non_null(readiness_master(nodes[2].r));
	assert_int_equal(nodes[2].rig.sent, 1);
	assert_int_equal(nodes[0].served + nodes[1].served, 1);
	assert_int_equal(
	    readiness_view(nodes[2].r)->master_state, MASTER_SYNCED);
}

/* Offers go out first, and their answers are waited for, but not for long. */
static void
offers_before_the_transaction(void **state)
{
	(void)state;
	holds_offers = true;
	run(4500);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].rig.sent, 0);
		unavailable_for(i, "waiting for masterSecretHash");
	}
	assert_int_equal(post_count, NODES * (NODES - 1));
	run(2500);
	for (size_t i = 0; i < NODES; i++)
		assert_int_equal(nodes[i].rig.sent, 1);
}

/* The winner dies right after its transaction; the others have its offer. */
static void
winner_dies(void **state)
{
	(void)state;
	nodes[1].rig.poor = nodes[2].rig.poor = true;
	while (nodes[0].rig.sent == 0)
		pass(100, false);
	nodes[0].dead = true;
	run(10000);
	for (size_t i = 1; i < NODES; i++) {
		const struct readiness_view *view = readiness_view(nodes[i].r);

		assert_non_null(readiness_master(nodes[i].r));
		assert_string_equal(view->synced_from, "http://node0");
		assert_int_equal(nodes[i].rig.sent, 0);
		assert_int_equal(nodes[i].served, 0);
	}
	/* And it gets it back. */
	nodes[0].dead = false;
	restart(0);
	run(5000);
	assert_non_null(readiness_master(nodes[0].r));
}

/* Nobody hands out a candidate. */
static void
candidate_is_not_served(void **state)
{
	(void)state;
	pass(10000, false);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].rig.sent, 1);
		assert_null(readiness_secret(nodes[i].r));
	}
}

/* The last blocks change their order: a loser's hash stands after all. It
 * keeps the secret that it was handed unused, and its own candidate, until
 * either is final. */
static void
race_turns(void **state)
{
	struct eth_word hash;
	size_t winner, loser;

	(void)state;
	winner = become_ready();
	loser = (winner + 1) % NODES;
	hash = sent_hash(loser);
	set_hash(&hash);
	run(31000);
	for (size_t i = 0; i < NODES; i++) {
		unavailable_for(i, "masterSecretHash is another one now");
		assert_null(readiness_secret(nodes[i].r));
		assert_int_equal(nodes[i].wiped, 0);
	}
	finalize();
	run(65000);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].wiped, 1);
		assert_int_equal(nodes[i].installed, 2);
		assert_memory_equal(readiness_master(nodes[i].r),
		    readiness_master(nodes[loser].r), MASTER_SECRET_LEN);
		assert_int_equal(readiness_view(nodes[i].r)->master_state,
		    i == loser ? MASTER_GENERATED : MASTER_SYNCED);
	}
}

/* The same, and it is gone: the others still have its offer. */
static void
race_turns_and_winner_dies(void **state)
{
	struct eth_word hash;
	size_t loser;

	(void)state;
	loser = (become_ready() + 1) % NODES;
	hash = sent_hash(loser);
	nodes[loser].dead = true;
	set_hash(&hash);
	run(31000);
	finalize();
	run(65000);
	for (size_t i = 0; i < NODES; i++) {
		if (i != loser)
			assert_non_null(readiness_master(nodes[i].r));
	}
}

/* What is final is against the secret that served, and the head is further: a
 * loser's hash stands there, which nobody else can know. */
static void
head_is_further(const struct eth_word *final)
{
	struct eth_word hash;
	size_t loser = (become_ready() + 1) % NODES;

	hash = sent_hash(loser);
	set_hash(&hash);
	run(31000);
	for (size_t i = 0; i < NODES; i++) {
		unavailable_for(i, "masterSecretHash is another one now");
		nodes[i].rig.final_hash = *final;
		nodes[i].rig.final_block = nodes[i].rig.head + 1;
	}
	run(65000);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].wiped, 1);
		assert_non_null(readiness_master(nodes[i].r));
		assert_int_equal(readiness_view(nodes[i].r)->master_state,
		    i == loser ? MASTER_GENERATED : MASTER_SYNCED);
	}
}

static void
reset_is_final_and_candidate_mined(void **state)
{
	struct eth_word zero = { { 0 } };

	(void)state;
	head_is_further(&zero);
}

static void
another_is_final_and_candidate_mined(void **state)
{
	struct eth_word another = { { 0xaa } };

	(void)state;
	head_is_further(&another);
}

/* What is final is wiped: neither candidates nor offers come back. */
static void
leftovers_go(void **state)
{
	struct eth_word hash;
	size_t winner, loser;

	(void)state;
	winner = become_ready();
	loser = (winner + 1) % NODES;
	finalize();
	run(65000);
	hash = sent_hash(loser);
	set_hash(&hash);
	run(31000);
	finalize();
	run(65000);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].wiped, 1);
		unavailable_for(i, "no peer has handed it over");
	}
}

/* A transaction that may still be mined keeps the secret that it is for, and no
 * other. */
static void
open_transactions(void **state)
{
	struct eth_word another = { { 0xaa } };
	size_t winner;

	(void)state;
	for (size_t i = 0; i < NODES; i++)
		nodes[i].rig.stall = 1U << REGISTRY_RECEIPT;
	winner = become_ready();
	set_hash(&another);
	run(31000);
	finalize();
	run(65000);
	for (size_t i = 0; i < NODES; i++)
		assert_int_equal(nodes[i].wiped, i != winner);
}

/* After a reset that is final the secret that served is nowhere any more, in
 * an offer neither. */
static void
reset(void **state)
{
	struct eth_word zero = { { 0 } }, old;

	(void)state;
	/* Nobody's offers have been dropped as final yet. */
	(void)become_ready();
	old = nodes[0].rig.hash;
	/* Nor are they replaced by those of the new race. */
	holds_offers = true;
	set_hash(&zero);
	pass(31000, false);
	for (size_t i = 0; i < NODES; i++)
		unavailable_for(i, "masterSecretHash was reset");
	finalize();
	pass(40000, false);
	for (size_t i = 0; i < NODES; i++) {
		assert_int_equal(nodes[i].wiped, 1);
		assert_int_equal(nodes[i].rig.sent, 2);
	}
	set_hash(&old);
	pass(60000, false);
	for (size_t i = 0; i < NODES; i++)
		unavailable_for(i, "no peer has handed it over");
}

/* ---- contrary facts ---- */

static void
contrary_stops_serving(void **state)
{
	struct eth_word hash, other;

	(void)state;
	(void)become_ready();
	hash = other = nodes[0].rig.hash;
	other.bytes[3] ^= 1;
	restart(2);
	nodes[2].dead = true;
	set_hash(&other);
	run(31000);
	assert_null(readiness_secret(nodes[0].r));
	assert_null(readiness_secret(nodes[1].r));
	assert_true(readiness_view(nodes[0].r)->master_initialized);
	/* One alone sees the old hash, and asks for it. */
	nodes[2].dead = false;
	nodes[2].rig.hash = hash;
	nodes[0].served = nodes[1].served = 0;
	run(31000);
	unavailable_for(2, "no peer has handed it over: http://node");
	unavailable_for(2, ": no master secret whose hash is the one on chain");
	assert_int_equal(nodes[0].served + nodes[1].served, 0);
	set_hash(&hash);
	run(62000);
	for (size_t i = 0; i < NODES; i++)
		assert_non_null(readiness_secret(nodes[i].r));
	assert_int_equal(nodes[0].wiped + nodes[1].wiped, 0);
	assert_int_equal(nodes[0].installed, 1);
}

/* The hash alone is read, the members are not yet: that is enough. */
static void
contrary_hash_stops_at_once(void **state)
{
	struct eth_word other;

	(void)state;
	(void)become_ready();
	other = nodes[0].rig.hash;
	other.bytes[3] ^= 1;
	nodes[0].rig.hash = other;
	nodes[0].rig.stall = 1U << REGISTRY_MEMBERS;
	run(31000);
	assert_null(readiness_secret(nodes[0].r));
	assert_non_null(readiness_secret(nodes[1].r));
}

static void
refused_registration(void **state)
{
	(void)state;
	(void)become_ready();
	nodes[0].rig.instances[0].version_status = 2;
	run(31000);
	assert_null(readiness_secret(nodes[0].r));
	nodes[0].rig.instances[0].version_status = 0;
	run(31000);
	assert_non_null(readiness_secret(nodes[0].r));
	/* Cut off from the chain. */
	nodes[0].rig.stall = ~0U;
	run(550000);
	assert_non_null(readiness_secret(nodes[0].r));
	run(100000);
	assert_null(readiness_secret(nodes[0].r));
}

/* ---- asking ---- */

static void
one_lies(void **state)
{
	unsigned int asked;

	(void)state;
	(void)become_ready();
	finalize();
	run(65000);
	nodes[0].liar = true;
	for (unsigned int n = 0; n < 6; n++) {
		restart(2);
		run(100);
		asked = nodes[2].rig.asked[REGISTRY_HASH];
		run(3000);
		assert_non_null(readiness_master(nodes[2].r));
		assert_memory_equal(readiness_master(nodes[2].r),
		    readiness_master(nodes[1].r), MASTER_SECRET_LEN);
		/* After a lie the chain is read again. */
		if (nodes[0].served > 0)
			assert_int_equal(
			    nodes[2].rig.asked[REGISTRY_HASH] - asked, 1);
		nodes[0].served = 0;
	}
	/* All lie: it goes on asking, but not without pause. */
	nodes[1].liar = true;
	restart(2);
	asked = nodes[2].rig.asked[REGISTRY_HASH];
	run(60000);
	unavailable_for(2, "is not the one behind masterSecretHash");
	assert_int_equal(nodes[2].installed, 0);
	assert_in_range(nodes[0].served, 2, 8);
	assert_in_range(nodes[2].rig.asked[REGISTRY_HASH] - asked, 4, 20);
	nodes[1].liar = false;
	run(31000);
	assert_non_null(readiness_master(nodes[2].r));
}

/* The lie arrives while the chain is being read: what was read before counts
 * for nothing. */
static void
lie_during_a_tick(void **state)
{
	unsigned int asked;

	(void)state;
	(void)become_ready();
	finalize();
	run(65000);
	nodes[0].mute = nodes[1].mute = true;
	nodes[0].liar = nodes[1].liar = true;
	restart(2);
	run(1000);
	nodes[2].rig.stall = 1U << REGISTRY_MEMBERS;
	while (nodes[2].rig.queued == 0)
		run(100);
	nodes[0].mute = nodes[1].mute = false;
	run(500);
	assert_true(nodes[0].served + nodes[1].served > 0);
	asked = nodes[2].rig.asked[REGISTRY_HASH];
	nodes[0].served = nodes[1].served = 0;
	nodes[2].rig.stall = 1U << REGISTRY_HASH;
	run(5000);
	assert_int_equal(nodes[2].rig.asked[REGISTRY_HASH] - asked, 1);
	assert_int_equal(nodes[0].served + nodes[1].served, 0);
	nodes[0].liar = nodes[1].liar = false;
	nodes[2].rig.stall = 0;
	run(5000);
	assert_non_null(readiness_master(nodes[2].r));
}

/* Cut off from the chain for long: what is handed over then is not used. */
static void
stale_facts(void **state)
{
	(void)state;
	(void)become_ready();
	nodes[0].mute = nodes[1].mute = true;
	restart(2);
	run(1000);
	nodes[2].rig.fail = ~0U;
	run(700000);
	nodes[0].mute = nodes[1].mute = false;
	nodes[0].served = nodes[1].served = 0;
	run(40000);
	assert_int_equal(nodes[0].served + nodes[1].served, 1);
	assert_int_equal(nodes[2].installed, 0);
	nodes[2].rig.fail = 0;
	run(31000);
	assert_non_null(readiness_master(nodes[2].r));
}

/* The answer comes when another hash stands: it is worth nothing. */
static void
hash_changes_while_asking(void **state)
{
	struct eth_word other;
	uint8_t secret[MASTER_SECRET_LEN] = { 9 };

	(void)state;
	(void)become_ready();
	finalize();
	run(65000);
	nodes[0].mute = nodes[1].mute = true;
	restart(2);
	run(1000);
	assert_int_equal(post_count, 1);
	master_secret_hash(secret, other.bytes);
	nodes[2].rig.hash = other;
	nodes[2].rig.stall = 1U << REGISTRY_MEMBERS;
	run(30000);
	/* The hash has been read, what hangs on it not. */
	assert_true(post_count > 0);
	nodes[0].mute = nodes[1].mute = false;
	run(1000);
	assert_true(nodes[0].served + nodes[1].served > 0);
	assert_int_equal(nodes[2].installed, 0);
	nodes[2].rig.stall = 0;
	nodes[2].rig.queued = 0;
	run(40000);
	assert_int_equal(nodes[2].installed, 0);
	unavailable_for(2, "no peer has handed it over");
	nodes[2].rig.hash = nodes[1].rig.hash;
	run(31000);
	assert_non_null(readiness_master(nodes[2].r));
}

static void
all_fail(void **state)
{
	(void)state;
	(void)become_ready();
	nodes[0].dead = nodes[1].dead = true;
	restart(2);
	run(5000);
	unavailable_for(2, "no peer has handed it over: http://node");
	unavailable_for(2, ": connection refused");
	run(60000);
	nodes[1].dead = false;
	run(31000);
	assert_non_null(readiness_master(nodes[2].r));
	assert_string_equal(
	    readiness_view(nodes[2].r)->synced_from, "http://node1");
}

/* ---- filling ---- */

static void
fills_first(void **state)
{
	const struct readiness_view *view;

	(void)state;
	(void)become_ready();
	finalize();
	run(65000);
	nodes[2].filled = nodes[2].complete = false;
	restart(2);
	view = readiness_view(nodes[2].r);
	run(60000);
	unavailable_for(2, "pulling a snapshot of the store from a peer");
	assert_int_equal(nodes[2].installed, 1);
	assert_false(view->complete);
	/* Two that wait for each other can serve each other. */
	assert_non_null(readiness_secret(nodes[2].r));
	/* Three peers have failed: without. */
	nodes[2].filled = true;
	run(200);
	assert_non_null(readiness_master(nodes[2].r));
	assert_false(view->complete);
	nodes[2].complete = true;
	run(200);
	assert_true(view->complete);
	assert_string_equal(view->reason, "");
}

/* The chain cannot be read for a while: that costs nothing but time. */
static void
fills_without_the_chain(void **state)
{
	(void)state;
	(void)become_ready();
	finalize();
	run(65000);
	nodes[2].filled = false;
	restart(2);
	run(5000);
	nodes[2].rig.fail = ~0U;
	run(40000);
	unavailable_for(2, "the chain cannot be read");
	nodes[2].filled = true;
	run(100);
	assert_non_null(readiness_master(nodes[2].r));
	run(700000);
	assert_null(readiness_master(nodes[2].r));
	nodes[2].rig.fail = 0;
	run(31000);
	assert_non_null(readiness_master(nodes[2].r));
}

/* The winner has the records of all there are; nor is there anybody to take
 * them from when a node is alone. */
static void
needs_no_filling(void **state)
{
	size_t winner;

	(void)state;
	winner = become_ready();
	assert_int_equal(nodes[winner].polled, 0);
	finalize();
	run(65000);
	nodes[2].filled = false;
	restart(2);
	run(5000);
	unavailable_for(2, "pulling a snapshot");
	nodes[2].rig.instances[0].status = nodes[2].rig.instances[1].status = 1;
	run(31000);
	assert_non_null(readiness_master(nodes[2].r));
	assert_true(readiness_view(nodes[2].r)->complete);
}

/* A candidate that is seen to have won when others served with it long ago. */
static void
winner_comes_back_late(void **state)
{
	(void)state;
	nodes[1].rig.poor = nodes[2].rig.poor = true;
	nodes[0].filled = nodes[0].complete = false;
	while (nodes[0].rig.sent == 0)
		pass(100, false);
	nodes[0].rig.stall = ~0U;
	run(700000);
	assert_non_null(readiness_master(nodes[1].r));
	assert_null(readiness_master(nodes[0].r));
	nodes[0].rig.stall = 0;
	run(31000);
	unavailable_for(0, "pulling a snapshot");
	assert_int_equal(
	    readiness_view(nodes[0].r)->master_state, MASTER_GENERATED);
	nodes[0].filled = true;
	run(100);
	assert_non_null(readiness_master(nodes[0].r));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bootstrap),
		TEST(losers_ask),
		TEST(latecomer),
		TEST(offers_before_the_transaction),
		TEST(winner_dies),
		TEST(candidate_is_not_served),
		TEST(race_turns),
		TEST(race_turns_and_winner_dies),
		TEST(reset_is_final_and_candidate_mined),
		TEST(another_is_final_and_candidate_mined),
		TEST(leftovers_go),
		TEST(open_transactions),
		TEST(reset),
		TEST(contrary_stops_serving),
		TEST(contrary_hash_stops_at_once),
		TEST(refused_registration),
		TEST(one_lies),
		TEST(lie_during_a_tick),
		TEST(stale_facts),
		TEST(hash_changes_while_asking),
		TEST(all_fail),
		TEST(fills_first),
		TEST(fills_without_the_chain),
		TEST(needs_no_filling),
		TEST(winner_comes_back_late),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
