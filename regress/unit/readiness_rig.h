/*
 * Nodes that become ready together: each a whole readiness with its own keys,
 * all on one chain, their messages carried from one to the other here.
 */
#ifndef KMS_REGRESS_READINESS_RIG_H
#define KMS_REGRESS_READINESS_RIG_H

#include "regress/unit/keeper_rig.h"

#include "crypto/eip1559.h"
#include "kms-keeper/readiness.h"

#define NODES 3
#define POST_MAX 64

struct node {
	struct rig rig;
	struct readiness *r;
	unsigned int wiped, installed, polled;
	bool dead; /* it neither asks nor answers */
	bool mute; /* what it is asked is never answered */
	bool liar; /* it hands over another secret than it has */
	bool filled, complete;
	unsigned int served, offered; /* requests answered with 200, by type */
};

/* A call on its way. */
struct post {
	uint64_t id;
	struct node *from, *to;
	char body[HANDOVER_BODY_MAX];
	size_t len;
	peer_outcome_fn done;
	void *arg;
};

static struct node nodes[NODES];
static struct post posts[POST_MAX];
static size_t post_count;
static uint64_t post_id;
static unsigned int mined; /* transactions that set the hash */
static bool holds_offers;  /* keep offers of candidates on their way */

static inline void
on_changed(void *arg)
{
	(void)arg;
}

static inline void
on_wiped(void *arg)
{
	((struct node *)arg)->wiped++;
}

static inline void
on_installed(void *arg)
{
	struct node *node = arg;

	node->installed++;
	/* What hangs on the secret can be made from within. */
	assert_non_null(readiness_secret(node->r));
}

static inline bool
on_filled(void *arg, bool *complete)
{
	struct node *node = arg;

	node->polled++;
	*complete = node->complete;
	return node->filled;
}

static inline int
on_ask(void *arg, const struct handover_peer *peer, const void *body,
    size_t len, peer_outcome_fn done, void *done_arg, uint64_t *id)
{
	struct post *post = &posts[post_count];

	assert_true(post_count < POST_MAX && len <= sizeof(post->body));
	post->from = arg;
	post->to = NULL;
	for (size_t i = 0; i < NODES; i++) {
		if (eth_address_equal(
			&nodes[i].rig.identity->wallet, &peer->wallet))
			post->to = &nodes[i];
	}
	assert_non_null(post->to);
	assert_true(
	    p384_point_equal(&peer->point, &post->to->rig.identity->point));
	memcpy(post->body, body, len);
	post->len = len;
	post->done = done;
	post->arg = done_arg;
	*id = post->id = ++post_id;
	post_count++;
	return 0;
}

static inline void
drop_post(size_t i)
{
	post_count--;
	memmove(&posts[i], &posts[i + 1], (post_count - i) * sizeof(posts[0]));
}

static inline void
on_cancel(void *arg, uint64_t id)
{
	for (size_t i = 0; i < post_count; i++) {
		if (posts[i].id != id)
			continue;
		assert_ptr_equal(posts[i].from, arg);
		drop_post(i);
		return;
	}
	fail_msg("a call was cancelled that is not under way");
}

/* A secret of one's own, sealed as it should be. */
static inline void
lie(const struct post *post, struct buf *answer)
{
	struct handover_ops ops = { .arg = NULL };
	struct node *to = post->to;
	uint8_t secret[MASTER_SECRET_LEN] = { 0xee };
	struct sync_message message;
	struct handover *h;
	const char *text;

	h = handover_new(&ops, to->rig.identity, rig_random, &to->rig);
	assert_int_equal(sync_message_read(post->body, post->len, &message), 0);
	assert_int_equal(handover_serve(h, &post->from->rig.identity->wallet,
			     &message, secret, answer, &text),
	    200);
	handover_free(h);
}

static inline void
answer_post(const struct post *post)
{
	struct peer_outcome outcome = { .text = "" };
	struct sync_message message;
	struct buf answer;

	buf_init(&answer, HANDOVER_BODY_MAX);
	assert_int_equal(sync_message_read(post->body, post->len, &message), 0);
	if (post->to->liar && message.type == SYNC_MASTER_SECRET_REQUEST) {
		lie(post, &answer);
		outcome.status = 200;
	} else {
		outcome.status = readiness_serve(post->to->r,
		    &post->from->rig.identity->wallet, &message, &answer,
		    &outcome.text);
	}
	outcome.error = outcome.status == 200 ? 0 : KMS_EUNAVAIL;
	outcome.body = (const char *)answer.data;
	outcome.len = answer.len;
	if (outcome.error == 0) {
		post->to->served += message.type == SYNC_MASTER_SECRET_REQUEST;
		post->to->offered += message.type == SYNC_SECRET_OFFER;
	}
	post->done(post->arg, post->id, &outcome);
	buf_free(&answer);
}

static inline void
fail_post(const struct post *post)
{
	struct peer_outcome outcome = { .error = KMS_EUNAVAIL,
		.text = "connection refused" };

	post->done(post->arg, post->id, &outcome);
}

static inline void
pump_posts(void)
{
	size_t i = 0;

	while (i < post_count) {
		struct post post = posts[i];

		if (post.to->mute ||
		    (holds_offers &&
			memmem(post.body, post.len, "offer", 5) != NULL)) {
			i++;
			continue;
		}
		drop_post(i);
		if (post.to->dead)
			fail_post(&post);
		else
			answer_post(&post);
	}
}

static inline void
set_hash(const struct eth_word *hash)
{
	for (size_t i = 0; i < NODES; i++)
		nodes[i].rig.hash = *hash;
}

/* The hash that a node's last transaction sets. */
static inline struct eth_word
sent_hash(size_t n)
{
	const struct rig *rig = &nodes[n].rig;
	uint8_t signature[SIGNATURE_LEN];
	struct eth_word hash;
	struct eip1559 tx;

	assert_int_equal(
	    eip1559_decode(rig->raw, rig->raw_len, &tx, signature), 0);
	memcpy(hash.bytes, tx.data + 4, ETH_WORD_LEN);
	return hash;
}

/* The chain: of the transactions that were sent the first one counts. */
static inline void
mine(void)
{
	for (size_t i = 0; i < NODES; i++) {
		struct rig *rig = &nodes[i].rig;
		bool first = eth_word_is_zero(&nodes[0].rig.hash);
		struct eth_word hash;

		if (rig->sent == 0 || rig->mined)
			continue;
		if (first) {
			hash = sent_hash(i);
			set_hash(&hash);
			mined++;
		}
		rig->mined = true;
		rig->tx_status = first;
		rig->mined_block = rig->head;
	}
}

static inline void
pass(int64_t ms, bool mining)
{
	for (int64_t t = 0; t < ms; t += 100) {
		for (size_t i = 0; i < NODES; i++) {
			struct rig *rig = &nodes[i].rig;

			rig_pass(rig, 100);
			if (rig->now.boot_ms % 2000 == 0)
				rig->head++;
			if (nodes[i].dead)
				continue;
			registry_tick(rig->registry, rig->now);
			readiness_tick(nodes[i].r, rig->now);
			rig_pump(rig);
		}
		pump_posts();
		if (mining && nodes[0].rig.now.boot_ms % 2000 == 0)
			mine();
	}
}

static inline void
run(int64_t ms)
{
	pass(ms, true);
}

static inline void
make_node(struct node *node, uint64_t seed)
{
	struct rig *rig = &node->rig;

	memset(node, 0, sizeof(*node));
	rig_init(rig);
	rig->random = seed;
	identity_free(rig->identity);
	rig->identity = rig_identity(rig);
	rig->instance_count = rig->member_count = 0;
	rig->registry = registry_new(rig_ask, rig);
	node->filled = node->complete = true;
}

static inline int
begin(void **state)
{
	(void)state;
	post_count = 0;
	mined = 0;
	holds_offers = false;
	for (size_t i = 0; i < NODES; i++)
		make_node(&nodes[i], 1000 + i);
	for (size_t i = 0; i < NODES; i++) {
		struct readiness_hooks hooks = { on_changed, on_wiped,
			on_installed, on_filled, on_ask, on_cancel, NULL,
			&nodes[i] };
		struct rig *rig = &nodes[i].rig;

		for (size_t k = 0; k < NODES; k++) {
			const struct identity *other = nodes[k].rig.identity;
			struct instance_facts *facts = rig_add_instance(
			    rig, RIG_KMS_APP, &other->wallet, &other->point);

			(void)snprintf(facts->url, sizeof(facts->url),
			    "http://node%zu", k);
			rig->members[rig->member_count++] = other->wallet;
		}
		nodes[i].r = readiness_new(&rig->config, rig->registry,
		    rig->identity, rig_random, rig, &hooks);
		assert_non_null(nodes[i].r);
		readiness_kick(nodes[i].r);
	}
	return 0;
}

static inline int
end(void **state)
{
	(void)state;
	for (size_t i = 0; i < NODES; i++) {
		readiness_free(nodes[i].r);
		registry_free(nodes[i].rig.registry);
		identity_free(nodes[i].rig.identity);
	}
	return 0;
}

static inline const char *
reason(size_t i)
{
	return readiness_view(nodes[i].r)->reason;
}

static inline void
unavailable_for(size_t i, const char *part)
{
	assert_null(readiness_master(nodes[i].r));
	if (strstr(reason(i), part) == NULL)
		fail_msg("expected \"%s\", got \"%s\"", part, reason(i));
}

/* It stands at a finalized block that is as young as can be. */
static inline void
finalize(void)
{
	for (size_t i = 0; i < NODES; i++) {
		nodes[i].rig.final_hash = nodes[i].rig.hash;
		nodes[i].rig.final_block = nodes[i].rig.head + 1;
	}
}

/* All become ready; the number of the one whose candidate it is. */
static inline size_t
become_ready(void)
{
	size_t winner = NODES;
	const uint8_t *secret;

	run(15000);
	secret = readiness_master(nodes[0].r);
	for (size_t i = 0; i < NODES; i++) {
		const struct readiness_view *view = readiness_view(nodes[i].r);

		if (readiness_master(nodes[i].r) == NULL)
			fail_msg("node %zu: %s", i, view->reason);
		assert_memory_equal(
		    readiness_master(nodes[i].r), secret, MASTER_SECRET_LEN);
		assert_true(view->complete);
		assert_int_equal(nodes[i].installed, 1);
		if (view->master_state == MASTER_GENERATED)
			winner = i;
		else
			assert_int_equal(view->master_state, MASTER_SYNCED);
	}
	assert_int_equal(mined, 1);
	assert_true(winner < NODES);
	return winner;
}

/* Restart: everything it knew is gone. */
static inline void
restart(size_t n)
{
	struct readiness_hooks hooks = { on_changed, on_wiped, on_installed,
		on_filled, on_ask, on_cancel, NULL, &nodes[n] };
	struct rig *rig = &nodes[n].rig;

	readiness_free(nodes[n].r);
	registry_free(rig->registry);
	rig->queued = 0;
	rig->registry = registry_new(rig_ask, rig);
	nodes[n].r = readiness_new(&rig->config, rig->registry, rig->identity,
	    rig_random, rig, &hooks);
	nodes[n].installed = 0;
	readiness_kick(nodes[n].r);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

#endif
