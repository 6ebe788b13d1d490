/* Who the peers are: who is dialled, what is kept of one that goes and comes
 * back, the probes of their /status, and how they look from outside. */
#include "kms-keeper/peer_call_internal.h"
#include "regress/unit/cluster_rig.h"

#define PROBES_MAX 32
#define NOT_PROBED SIZE_MAX

struct probing {
	uint64_t id;
	char url[64];
	peer_done_fn done;
	void *arg;
};

static struct probing probes[PROBES_MAX]; /* under way */
static size_t probe_count;
static unsigned int probes_begun, probes_stopped;
static uint64_t probe_last_id;
static int probe_error; /* what the next ones end with */

static int
on_probe_post(void *arg, const struct peer_call *asked, uint64_t *id)
{
	struct probing *p = &probes[probe_count];

	(void)arg;
	probes_begun++;
	if (probe_error != 0)
		return probe_error;
	assert_true(probe_count++ < PROBES_MAX);
	assert_int_equal(asked->kind, PEER_STATUS);
	assert_int_equal(asked->timeout_ms, CLUSTER_PROBE_MS);
	assert_int_equal(asked->answer_max, 65536);
	p->id = *id = ++probe_last_id;
	(void)snprintf(p->url, sizeof(p->url), "%s", asked->url);
	p->done = asked->done;
	p->arg = asked->arg;
	return 0;
}

static void
drop_probe(size_t i)
{
	probe_count--;
	memmove(
	    &probes[i], &probes[i + 1], (probe_count - i) * sizeof(probes[0]));
}

static void
on_probe_unpost(void *arg, uint64_t id)
{
	(void)arg;
	for (size_t i = 0; i < probe_count; i++) {
		if (probes[i].id != id)
			continue;
		drop_probe(i);
		probes_stopped++;
		return;
	}
	fail_msg("a probe was stopped that is not under way");
}

/* Where among those under way the probe of peer n is. */
static size_t
probe_of(size_t n)
{
	char url[64];

	(void)snprintf(url, sizeof(url), "http://peer%zu", n);
	for (size_t i = 0; i < probe_count; i++) {
		if (strcmp(probes[i].url, url) == 0)
			return i;
	}
	return NOT_PROBED;
}

static void
answer_probe(size_t n, const struct peer_reply *answer)
{
	struct probing p = probes[probe_of(n)];

	drop_probe(probe_of(n));
	p.done(p.arg, p.id, answer);
}

static void
answer_status(size_t n)
{
	struct peer_reply r = { .kind = PEER_REPLY_STATUS, .elapsed_ms = 7 };

	answer_probe(n, &r);
}

static int
begin_probes(void **state)
{
	if (begin_cluster(state) != 0)
		return -1;
	k->ops.post = on_probe_post;
	k->ops.unpost = on_probe_unpost;
	probe_count = 0;
	probes_begun = probes_stopped = 0;
	probe_error = 0;
	return 0;
}

/* Whatever is under way at the end is stopped. */
static int
end_probes(void **state)
{
	int error = end(state);

	return error != 0 || probe_count != 0;
}

static bool
is_dialled(size_t n)
{
	struct eth_address wallet = peer_wallet(n);
	struct cluster_peer_view view;

	assert_true(cluster_peer_of(c, &wallet, &view));
	assert_true(eth_address_equal(&view.wallet, &wallet));
	/* It is replicated to, or not. */
	assert_int_equal(view.dialled, engine_peer(n) != NULL);
	return view.dialled;
}

static void
tick(void)
{
	cluster_peers_tick(c);
	cluster_peers_update(c);
}

/* ---- who is dialled ------------------------------------------------------ */

static void
the_list(void **state)
{
	struct eth_address stranger = peer_wallet(9);
	struct cluster_peer_view view;

	(void)state;
	assert_int_equal(c->peer_count, 0);
	assert_false(cluster_peer_at(c, 0, &view));
	list_peers(0, 3);
	/* Without this node itself. */
	assert_int_equal(c->peer_count, 3);
	for (size_t n = 0; n < 3; n++) {
		struct eth_address wallet = peer_wallet(n);
		char url[32];

		(void)snprintf(url, sizeof(url), "http://peer%zu", n);
		assert_true(cluster_peer_at(c, n, &view));
		assert_true(eth_address_equal(&view.wallet, &wallet));
		assert_string_equal(view.url, url);
		assert_true(is_dialled(n));
	}
	assert_int_equal(c->sync->peer_count, 3);
	assert_false(cluster_peer_at(c, 3, &view));
	assert_null(peer(9));
	assert_false(cluster_peer_of(c, &stranger, &view));
	assert_false(cluster_peer_of(c, &rig.identity->wallet, &view));
}

/* Only a list that is another is taken over. */
static void
same_list(void **state)
{
	const struct cluster_peer *before;
	uint64_t version;

	(void)state;
	list_peers(0, 2);
	before = c->peers;
	version = cluster_probes_version(c);
	cluster_peers_update(c);
	assert_ptr_equal(c->peers, before);
	assert_int_equal(cluster_probes_version(c), version);
	update();
	assert_int_equal(cluster_probes_version(c), version + 1);
}

/* What the chain says against them. */
static void
invalid_ones(void **state)
{
	struct eth_address unread = peer_wallet(5);

	(void)state;
	for (size_t n = 0; n < 7; n++)
		list_peer(n);
	peer_facts(1)->status = 1;
	peer_facts(2)->app_id = APP;
	peer_facts(3)->version_status = 2;
	peer_facts(4)->pubkey_len = 5;
	rig.fail_wallet = &unread;
	update();
	assert_int_equal(c->peer_count, 7);
	for (size_t n = 0; n < 7; n++)
		assert_int_equal(is_dialled(n), n == 0 || n == 6);
	assert_int_equal(c->sync->peer_count, 2);
	tick();
	assert_int_equal(probe_count, 2);
	assert_true(probe_of(0) != NOT_PROBED && probe_of(6) != NOT_PROBED);
}

/* Valid again: only peer-blacklist after it was last seen invalid. */
static void
shunned(void **state)
{
	(void)state;
	list_peers(0, 1);
	peer_facts(0)->status = 1;
	update();
	pass(1000);
	update();
	peer_facts(0)->status = 0;
	update();
	assert_false(is_dialled(0));
	pass(BLACKLIST_MS - 1);
	tick();
	assert_false(is_dialled(0));
	update();
	assert_false(is_dialled(0));
	pass(1);
	/* It needs no news of the chain. */
	tick();
	assert_true(is_dialled(0));
}

/* As the last one, but it is the chain's news that bring it back. */
static void
shunned_until_news(void **state)
{
	(void)state;
	list_peers(0, 1);
	peer_facts(0)->status = 1;
	update();
	peer_facts(0)->status = 0;
	pass(BLACKLIST_MS - 1);
	update();
	assert_false(is_dialled(0));
	pass(1);
	update();
	assert_true(is_dialled(0));
}

/* That it could not be read is no fact about it. */
static void
unread(void **state)
{
	struct eth_address wallet = peer_wallet(0);

	(void)state;
	rig.fail_wallet = &wallet;
	list_peers(0, 1);
	assert_false(is_dialled(0));
	assert_int_equal(peer(0)->shunned_until_ms, 0);
	rig.fail_wallet = NULL;
	update();
	assert_true(is_dialled(0));
}

/* The time is over for one that cannot be read then: the list is judged again
 * once, not with every tick. */
static void
unread_when_it_is_over(void **state)
{
	struct eth_address wallet = peer_wallet(0);
	uint64_t version;

	(void)state;
	rig.config.membership_max_age = BLACKLIST_MS / 2;
	list_peers(0, 1);
	peer_facts(0)->status = 1;
	update();
	rig.fail_wallet = &wallet;
	pass(BLACKLIST_MS / 2 + 1);
	update();
	pass(BLACKLIST_MS / 2 - 2);
	version = cluster_probes_version(c);
	tick();
	assert_int_equal(cluster_probes_version(c), version);
	pass(1);
	tick();
	assert_int_equal(cluster_probes_version(c), version + 1);
	assert_false(is_dialled(0));
	tick();
	assert_int_equal(cluster_probes_version(c), version + 1);
	rig.fail_wallet = NULL;
	peer_facts(0)->status = 0;
	update();
	assert_true(is_dialled(0));
}

/* ---- going and coming back ----------------------------------------------- */

/* To be listed no more is to be invalid. */
static void
gone_and_back(void **state)
{
	(void)state;
	list_peers(0, 2);
	pass(5);
	list_peers(1, 1);
	assert_null(peer(0));
	assert_null(engine_peer(0));
	pass(1000);
	list_peers(0, 3);
	assert_false(is_dialled(0));
	/* Who stayed, and who is new, have nothing to do with it. */
	assert_true(is_dialled(1));
	assert_true(is_dialled(2));
	pass(BLACKLIST_MS - 1001);
	tick();
	assert_false(is_dialled(0));
	pass(1);
	tick();
	assert_true(is_dialled(0));
	/* Gone for the second time, the latest counts. */
	list_peers(1, 2);
	list_peers(0, 3);
	assert_false(is_dialled(0));
	pass(BLACKLIST_MS);
	list_peers(1, 2);
	list_peers(0, 3);
	pass(1);
	tick();
	assert_false(is_dialled(0));
	/* After its time it comes back as any other. */
	list_peers(1, 2);
	pass(BLACKLIST_MS);
	list_peers(0, 3);
	assert_true(is_dialled(0));
}

/* A list that lacks this node, too, is wrong rather than right. */
static void
list_without_us(void **state)
{
	(void)state;
	list_peers(0, 2);
	update();
	rig.member_count = 0;
	list_peer(0);
	update();
	assert_int_equal(c->peer_count, 1);
	assert_true(is_dialled(0));
	list_peers(0, 2);
	assert_true(is_dialled(1));
	/* With it there is no doubt. */
	list_peers(0, 1);
	list_peers(0, 2);
	assert_false(is_dialled(1));
}

/* Nobody is judged by it, nor let off: what the chain has shown before stands
 * for its time. */
static void
shunned_over_list_without_us(void **state)
{
	(void)state;
	list_peers(0, 2);
	peer_facts(1)->status = 1;
	update();
	pass(1000);
	rig.member_count = 0;
	list_peer(0);
	update();
	assert_null(peer(1));
	list_peers(0, 2);
	assert_true(is_dialled(0));
	assert_false(is_dialled(1));
	pass(BLACKLIST_MS - 1001);
	tick();
	assert_false(is_dialled(1));
	pass(1);
	tick();
	assert_true(is_dialled(1));
}

/* So many are remembered; one more, and the first is not. */
static void
many_gone(void **state)
{
	const size_t round = 13;

	(void)state;
	assert_int_equal(CLUSTER_GONE_MAX, 5 * round - 1);
	for (size_t i = 0; i < 5; i++)
		list_peers(i * round, round);
	list_peers(0, 0);
	list_peers(0, 2);
	assert_true(is_dialled(0));
	assert_false(is_dialled(1));
	list_peer(CLUSTER_GONE_MAX);
	update();
	assert_false(is_dialled(CLUSTER_GONE_MAX));
}

static void
note_much(size_t n)
{
	struct cluster_peer *p = peer(n);

	cluster_holders_note(c, &p->wallet, true);
	(void)snprintf(p->last_error, sizeof(p->last_error), "refused");
	p->last_code = KMS_EUNAVAIL;
	p->last_status = 500;
}

/* Of one that stays all is kept, in whatever order the chain has them. */
static void
kept(void **state)
{
	struct eth_address own = rig.identity->wallet;
	int64_t at;

	(void)state;
	list_peers(0, 2);
	tick();
	answer_status(0);
	note_much(0);
	at = rig.now.boot_ms;
	pass(10);
	rig.member_count = 0;
	list_peer(1);
	list_peer(2);
	list_peer(0);
	rig.members[rig.member_count++] = own;
	update();
	assert_ptr_equal(peer(0), &c->peers[2]);
	assert_ptr_equal(peer(0)->owner, c);
	assert_int_equal(peer(0)->shown_ms, at);
	assert_int_equal(peer(0)->heard_ms, at);
	assert_int_equal(peer(0)->level_ms, at);
	assert_string_equal(peer(0)->last_error, "refused");
	assert_int_equal(peer(0)->last_code, KMS_EUNAVAIL);
	assert_int_equal(peer(0)->last_status, 500);
	assert_true(peer(0)->probed && peer(0)->reachable);
	/* It was asked, and is not asked again before it is due. */
	assert_int_equal(
	    peer(0)->probe_due_ms, at + (int64_t)rig.config.node_tick);
	/* The one that is new has shown nothing. */
	assert_int_equal(peer(2)->shown_ms, -1);
	assert_int_equal(peer(2)->heard_ms, -1);
	assert_int_equal(peer(2)->level_ms, rig.now.boot_ms);
}

/* Invalid for a while it is still a peer. */
static void
kept_while_shunned(void **state)
{
	int64_t at;

	(void)state;
	list_peers(0, 1);
	note_much(0);
	at = rig.now.boot_ms;
	peer_facts(0)->status = 1;
	update();
	peer_facts(0)->status = 0;
	pass(BLACKLIST_MS);
	update();
	assert_true(is_dialled(0));
	assert_int_equal(peer(0)->shown_ms, at);
	assert_string_equal(peer(0)->last_error, "refused");
}

/* Of one that comes back nothing but when it may. */
static void
not_kept(void **state)
{
	(void)state;
	list_peers(0, 1);
	tick();
	answer_status(0);
	note_much(0);
	pass(10);
	list_peers(0, 0);
	list_peers(0, 1);
	assert_int_equal(peer(0)->shown_ms, -1);
	assert_int_equal(peer(0)->heard_ms, -1);
	assert_int_equal(peer(0)->level_ms, rig.now.boot_ms);
	assert_string_equal(peer(0)->last_error, "");
	assert_false(peer(0)->probed);
	assert_int_equal(
	    peer(0)->shunned_until_ms, rig.now.boot_ms + BLACKLIST_MS);
}

/* That a node speaks v2 is remembered as long as it is a member. */
static void
calls_keep(void **state)
{
	struct eth_address wallet;

	(void)state;
	list_peers(0, 2);
	for (size_t n = 0; n < 2; n++) {
		wallet = peer_wallet(n);
		peer_node_note_ours(
		    peer_node_get(&c->calls->nodes, &wallet), "", rig.now);
	}
	peer_facts(1)->status = 1;
	update();
	assert_true(cluster_is_ours(c, &peer(0)->wallet));
	assert_true(cluster_is_ours(c, &peer(1)->wallet));
	list_peers(0, 1);
	assert_true(cluster_is_ours(c, &peer(0)->wallet));
	assert_false(cluster_is_ours(c, &wallet));
}

/* ---- probes -------------------------------------------------------------- */

static void
when_probed(void **state)
{
	(void)state;
	list_peers(0, 1);
	tick();
	assert_int_equal(probes_begun, 1);
	assert_int_equal(probe_of(0), 0);
	/* One at a time, however long it takes. */
	pass((int64_t)rig.config.node_tick);
	tick();
	assert_int_equal(probes_begun, 1);
	answer_status(0);
	tick();
	assert_int_equal(probes_begun, 2);
	answer_status(0);
	pass((int64_t)rig.config.node_tick - 1);
	tick();
	assert_int_equal(probes_begun, 2);
	pass(1);
	tick();
	assert_int_equal(probes_begun, 3);
	/* No more when it is not dialled. */
	answer_status(0);
	peer_facts(0)->status = 1;
	update();
	pass((int64_t)rig.config.node_tick);
	tick();
	assert_int_equal(probes_begun, 3);
}

static void
probes_at_once(void **state)
{
	const size_t count = CLUSTER_PROBES_AT_ONCE + 2;

	(void)state;
	list_peers(0, count);
	tick();
	assert_int_equal(probe_count, CLUSTER_PROBES_AT_ONCE);
	tick();
	assert_int_equal(probe_count, CLUSTER_PROBES_AT_ONCE);
	answer_status(3);
	tick();
	assert_int_equal(probe_count, CLUSTER_PROBES_AT_ONCE);
	assert_true(probe_of(3) == NOT_PROBED);
	/* The place of one that is listed no more is free, too. */
	list_peers(1, count - 1);
	tick();
	assert_int_equal(probes_stopped, 1);
	assert_int_equal(probe_count, CLUSTER_PROBES_AT_ONCE);
	for (size_t n = 1; n < count; n++)
		assert_int_equal(probe_of(n) == NOT_PROBED, n == 3);
}

/* What could not be sent takes no place, and is tried when it is due. */
static void
probe_unsent(void **state)
{
	(void)state;
	probe_error = KMS_EBUSY;
	list_peers(0, 2);
	tick();
	tick();
	assert_int_equal(probes_begun, 2);
	assert_int_equal(c->probing, 0);
	assert_false(peer(0)->probed);
	probe_error = 0;
	pass((int64_t)rig.config.node_tick);
	tick();
	assert_int_equal(probe_count, 2);
	assert_int_equal(c->probing, 2);
}

static void
probe_shows(size_t n, bool reachable, unsigned int code, uint64_t took)
{
	struct cluster_peer_view view;

	assert_true(cluster_peer_at(c, n, &view));
	assert_true(view.probed);
	assert_int_equal(view.reachable, reachable);
	assert_int_equal(view.http_code, code);
	assert_int_equal(view.probe_ms, took);
	assert_int_equal(view.probed_at_ms, rig.now.wall_ms);
}

static void
probe_answers(void **state)
{
	struct peer_reply error = {
		.kind = PEER_REPLY_ERROR, .elapsed_ms = 8, .status = 503
	};
	struct peer_reply failed = { .kind = PEER_REPLY_FAILED,
		.elapsed_ms = 9 };
	struct cluster_peer_view view;
	uint64_t version;

	(void)state;
	list_peers(0, 3);
	for (size_t n = 0; n < 3; n++)
		cluster_holders_note(c, &peer(n)->wallet, true);
	tick();
	assert_true(cluster_peer_at(c, 0, &view));
	assert_false(view.probed);
	version = cluster_probes_version(c);
	pass(9);
	answer_status(0);
	assert_int_equal(cluster_probes_version(c), version + 1);
	probe_shows(0, true, 200, 7);
	answer_probe(1, &error);
	probe_shows(1, false, 503, 8);
	answer_probe(2, &failed);
	probe_shows(2, false, 0, 9);
	assert_int_equal(cluster_probes_version(c), version + 3);
	assert_int_equal(c->probing, 0);
	/* Who answers at all is there; of who does not, its word is void. */
	assert_true(peer(0)->shown_ms >= 0);
	assert_true(peer(1)->shown_ms >= 0);
	assert_int_equal(peer(2)->shown_ms, -1);
}

/* The list changes under a probe. */
static void
probe_moves(void **state)
{
	struct peer_reply late = { .kind = PEER_REPLY_FAILED };
	struct probing p;
	uint64_t version;

	(void)state;
	list_peers(0, 3);
	tick();
	p = probes[probe_of(0)];
	rig.member_count = 1;
	list_peer(2);
	list_peer(1);
	update();
	/* Of the one that is gone it is stopped, of the others not. */
	assert_int_equal(probes_stopped, 1);
	assert_int_equal(probe_count, 2);
	assert_int_equal(c->probing, 2);
	assert_true(probe_of(0) == NOT_PROBED);
	answer_status(2);
	assert_true(peer(2)->probed);
	assert_false(peer(1)->probed);
	answer_status(1);
	assert_true(peer(1)->probed);
	/* Of one that is not under way, nothing comes. */
	version = cluster_probes_version(c);
	p.done(p.arg, p.id, &late);
	assert_int_equal(cluster_probes_version(c), version);
	assert_int_equal(c->probing, 0);
	assert_true(peer(1)->reachable && peer(2)->reachable);
	/* With the list they all end. */
	pass((int64_t)rig.config.node_tick);
	tick();
	assert_int_equal(probe_count, 2);
	cluster_peers_free(c);
	assert_int_equal(probe_count, 0);
	assert_int_equal(c->probing, 0);
	assert_int_equal(c->peer_count, 0);
}

/* At another address it is looked at anew. */
static void
new_url(void **state)
{
	struct cluster_peer_view view;

	(void)state;
	list_peers(0, 1);
	tick();
	answer_status(0);
	update();
	tick();
	assert_int_equal(probes_begun, 1);
	(void)snprintf(
	    peer_facts(0)->url, sizeof(peer_facts(0)->url), "http://peer1");
	update();
	assert_true(cluster_peer_at(c, 0, &view));
	assert_string_equal(view.url, "http://peer1");
	tick();
	assert_int_equal(probes_begun, 2);
	assert_true(probe_of(1) != NOT_PROBED);
}

/* ---- figures ------------------------------------------------------------- */

static void
figures(void **state)
{
	struct cluster_peer_view view;
	int64_t level;

	(void)state;
	list_peers(0, 1);
	write_key("a");
	write_key("b");
	write_key("c");
	has_up_to(0, 3);
	pass(100);
	tick();
	level = rig.now.boot_ms;
	has_up_to(0, 1);
	engine_peer(0)->kind = SYNC_KIND_OURS;
	pass(30);
	tick();
	assert_true(cluster_peer_at(c, 0, &view));
	assert_int_equal(view.kind, SYNC_KIND_OURS);
	assert_true(view.level);
	assert_int_equal(view.mark, 1);
	assert_int_equal(view.lag_records, 2);
	assert_int_equal(view.lag_ms, rig.now.boot_ms - level);
	assert_int_equal(view.contact_ago_ms, -1);
	assert_string_equal(view.last_error, "");
	/* All was sent, but not all is compared. */
	has_up_to(0, 3);
	engine_peer(0)->needs_repair = true;
	engine_peer(0)->contact_ms = rig.now.boot_ms - 5;
	engine_peer(0)->push.failures = 4;
	engine_peer(0)->last_error = "the engine's";
	tick();
	assert_true(cluster_peer_at(c, 0, &view));
	assert_false(view.level);
	assert_int_equal(view.lag_records, 0);
	assert_int_equal(view.lag_ms, rig.now.boot_ms - level);
	assert_int_equal(view.contact_ago_ms, 5);
	assert_int_equal(view.failures, 4);
	assert_string_equal(view.last_error, "the engine's");
	/* What the call says is nearer to the cause. */
	note_much(0);
	assert_true(cluster_peer_at(c, 0, &view));
	assert_string_equal(view.last_error, "refused");
	/* It has everything: since now. */
	engine_peer(0)->needs_repair = false;
	tick();
	assert_int_equal(peer(0)->level_ms, rig.now.boot_ms);
	assert_true(cluster_peer_at(c, 0, &view));
	assert_int_equal(view.lag_ms, 0);
}

/* Of one that is not dialled, or without an engine, there are none. */
static void
no_figures(void **state)
{
	struct cluster_peer_view view;

	(void)state;
	list_peers(0, 2);
	write_key("a");
	engine_peer(0)->contact_ms = engine_peer(1)->contact_ms =
	    rig.now.boot_ms;
	peer_facts(1)->status = 1;
	update();
	assert_true(cluster_peer_at(c, 0, &view));
	assert_int_equal(view.contact_ago_ms, 0);
	assert_true(cluster_peer_at(c, 1, &view));
	assert_false(view.dialled);
	assert_int_equal(view.contact_ago_ms, -1);
	assert_int_equal(view.lag_ms, 0);
	assert_string_equal(view.last_error, "");
	cluster_wiped(c);
	tick();
	assert_true(cluster_peer_at(c, 0, &view));
	assert_true(view.dialled);
	assert_int_equal(view.kind, SYNC_KIND_UNKNOWN);
	assert_int_equal(view.contact_ago_ms, -1);
	assert_int_equal(view.lag_ms, 0);
}

#define PROBES(name)                                                           \
	cmocka_unit_test_setup_teardown(name, begin_probes, end_probes)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		PROBES(the_list),
		PROBES(same_list),
		PROBES(invalid_ones),
		PROBES(shunned),
		PROBES(shunned_until_news),
		PROBES(unread),
		PROBES(unread_when_it_is_over),
		PROBES(gone_and_back),
		PROBES(list_without_us),
		PROBES(shunned_over_list_without_us),
		PROBES(many_gone),
		PROBES(kept),
		PROBES(kept_while_shunned),
		PROBES(not_kept),
		PROBES(calls_keep),
		PROBES(when_probed),
		PROBES(probes_at_once),
		PROBES(probe_unsent),
		PROBES(probe_answers),
		PROBES(probe_moves),
		PROBES(new_url),
		PROBES(figures),
		PROBES(no_figures),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
