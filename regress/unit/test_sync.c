/* Replication between nodes of a small, obedient network: what is sent when,
 * what a mark needs to move, what a comparison costs. The disobedient one is
 * regress/sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kms-keeper/sync.h"
#include "regress/unit/crypto_setup.h"
#include "regress/unit/store_rig.h"

#define NODES 3
#define QUEUE 256

struct cluster;

struct member {
	struct cluster *cluster;
	char wallet[SYNC_WALLET_LEN + 1];
	struct store *store;
	struct sync *sync;
	unsigned int boots;
	int done, met;	     /* of waiting writes */
	unsigned int copies; /* what the last one was told */
	int fetched;	     /* -1: not yet */
	/* stands in for the node when set: the status, *body the answer */
	unsigned int (*script)(struct member *self, const char *body,
	    size_t len, struct buf *answer);
	size_t asked; /* requests that reached it */
	int64_t asked_ms;
	char last[4096]; /* the start of the last */
	unsigned int step;
};

struct letter {
	unsigned int from, to;
	uint64_t id;
	int64_t sent_ms;
	char *body;
	size_t len;
};

struct cluster {
	struct member member[NODES];
	struct letter queue[QUEUE];
	size_t count;
	int64_t ms;
	bool cut;		   /* nothing gets through */
	int64_t lag_ms;		   /* from a letter to its answer */
	int64_t bulk_ms;	   /* when the last large one was answered */
	int64_t least_rest_ms;	   /* of the sender's behind one */
	struct rig_random *damage; /* messages arrive changed, when set */
	uint64_t bytes, letters;   /* bytes: but for greetings */
	size_t biggest;
	int64_t retention_ms;
};

static unsigned int
index_of(const struct cluster *c, const char *wallet)
{
	for (unsigned int i = 0; i < NODES; i++)
		if (strcmp(c->member[i].wallet, wallet) == 0)
			return i;
	fail();
	return 0;
}

static void
on_send(
    void *arg, const char *wallet, uint64_t id, const void *body, size_t len)
{
	struct member *m = arg;
	struct cluster *c = m->cluster;
	struct letter *letter = &c->queue[c->count];

	assert_true(c->count < QUEUE);
	c->count++;
	letter->from = index_of(c, m->wallet);
	letter->to = index_of(c, wallet);
	letter->id = id;
	letter->sent_ms = c->ms;
	if (c->bulk_ms > 0 && c->ms - c->bulk_ms < c->least_rest_ms)
		c->least_rest_ms = c->ms - c->bulk_ms;
	letter->len = len;
	letter->body = malloc(len + 1);
	memcpy(letter->body, body, len);
	letter->body[len] = '\0';
}

static void
on_done(void *arg, void *cookie, unsigned int k, bool met)
{
	struct member *m = arg;

	(void)cookie;
	m->done++;
	m->met += met;
	m->copies = k;
}

static void
on_fetched(void *arg, void *cookie, bool found)
{
	struct member *m = arg;

	(void)cookie;
	m->fetched = found;
}

static bool
on_value(void *arg, uint64_t app_id, const void *stored, size_t len)
{
	(void)arg;
	(void)app_id;
	return len > 0 && ((const char *)stored)[0] != '!';
}

static uint64_t
on_random(void *arg)
{
	static struct rig_random random = { 3 };

	(void)arg;
	return rig_next(&random);
}

static void
meet(struct cluster *c, unsigned int i, unsigned int members)
{
	const char *wallets[NODES];

	for (unsigned int n = 0; n < members; n++)
		wallets[n] = c->member[n].wallet;
	assert_int_equal(sync_set_peers(c->member[i].sync, wallets, members,
			     rig_time(c->ms)),
	    0);
}

static void
boot(struct cluster *c, unsigned int i)
{
	struct member *m = &c->member[i];
	const struct sync_ops ops = { on_send, on_done, on_fetched, on_value,
		on_random, m };
	struct store_config store;
	struct sync_config config;

	sync_free(m->sync);
	store_free(m->store);
	store_config_init(&store);
	store.max_app_storage = 1 << 30;
	store.tombstone_retention_ms = c->retention_ms;
	m->store = rig_store(&store, m->wallet);
	sync_config_init(&config);
	memcpy(config.wallet, m->wallet, sizeof(config.wallet));
	(void)snprintf(config.boot, sizeof(config.boot), "boot%03u-%c-%06u",
	    m->boots++, m->wallet[41], 7);
	config.retention_ms = c->retention_ms;
	m->sync = sync_new(&config, &ops, m->store, rig_time(c->ms));
	assert_non_null(m->sync);
	m->fetched = -1;
}

static struct cluster *
cluster_new(unsigned int members)
{
	struct cluster *c = calloc(1, sizeof(*c));

	c->retention_ms = 86400000;
	for (unsigned int i = 0; i < NODES; i++) {
		c->member[i].cluster = c;
		(void)snprintf(c->member[i].wallet, sizeof(c->member[i].wallet),
		    "0x%040x", 0xa1 + i);
	}
	for (unsigned int i = 0; i < members; i++)
		boot(c, i);
	for (unsigned int i = 0; i < members; i++)
		meet(c, i, members);
	return c;
}

static void
cluster_free(struct cluster *c)
{
	for (unsigned int i = 0; i < NODES; i++) {
		sync_free(c->member[i].sync);
		store_free(c->member[i].store);
	}
	for (size_t i = 0; i < c->count; i++)
		free(c->queue[i].body);
	free(c);
}

/* Change a few bytes, now and then. */
static void
damage(struct cluster *c, char *text, size_t len)
{
	static const char bits[] = "{}[]\",:0189afAB=\\u-e";

	if (c->damage == NULL || len == 0 || rig_below(c->damage, 2) == 0)
		return;
	for (uint64_t n = 1 + rig_below(c->damage, 3); n > 0; n--)
		text[rig_below(c->damage, len)] =
		    bits[rig_below(c->damage, sizeof(bits) - 1)];
}

static void
carry(struct cluster *c, const struct letter *letter)
{
	struct member *to = &c->member[letter->to];
	struct sync_outcome outcome = { 0 };
	struct buf answer;

	buf_init(&answer, 64u << 20);
	c->letters++;
	if (letter->len > c->biggest)
		c->biggest = letter->len;
	if (c->cut || to->sync == NULL) {
		outcome.error = KMS_ETIMEOUT;
	} else {
		to->asked++;
		to->asked_ms = c->ms;
		damage(c, letter->body, letter->len);
		(void)snprintf(to->last, sizeof(to->last), "%s", letter->body);
		outcome.status = to->script != NULL
		    ? to->script(to, letter->body, letter->len, &answer)
		    : sync_request(to->sync, c->member[letter->from].wallet,
			  letter->body, letter->len, rig_time(c->ms), &answer);
		damage(c, (char *)answer.data, answer.len);
		outcome.body = (const char *)answer.data;
		outcome.len = answer.len;
		if (strstr(letter->body, "\"data\":{}}") == NULL)
			c->bytes += letter->len + answer.len;
	}
	c->bulk_ms = letter->len + answer.len >= SYNC_BULK_BYTES ? c->ms : 0;
	sync_answer(c->member[letter->from].sync, letter->id, &outcome,
	    rig_time(c->ms));
	buf_free(&answer);
}

/* What is due now is done when the node has been asked for it a few times:
 * one that goes on wanting more keeps its process from everything else. */
static void
tick(struct sync *sync, struct kms_time now)
{
	int times = 0;

	do {
		assert_true(times++ < 8);
		sync_tick(sync, now);
	} while (sync_next(sync, now) == 0);
}

/* Let so many milliseconds pass. */
static void
pass(struct cluster *c, int64_t ms)
{
	struct letter letters[QUEUE];
	size_t count;

	for (int64_t end = c->ms + ms; c->ms < end; c->ms++) {
		for (unsigned int i = 0; i < NODES; i++)
			if (c->member[i].sync != NULL)
				tick(c->member[i].sync, rig_time(c->ms));
		count = c->count;
		memcpy(letters, c->queue, count * sizeof(letters[0]));
		c->count = 0;
		for (size_t i = 0; i < count; i++) {
			if (c->ms < letters[i].sent_ms + c->lag_ms) {
				c->queue[c->count++] = letters[i];
				continue;
			}
			carry(c, &letters[i]);
			free(letters[i].body);
		}
	}
}

static void
put(struct cluster *c, unsigned int i, const char *key, const char *value)
{
	assert_int_equal(
	    rig_put(c->member[i].store, 1, key, value, 0, c->ms), 0);
	sync_local_change(c->member[i].sync, rig_time(c->ms));
}

static void
assert_value(
    struct cluster *c, unsigned int i, const char *key, const char *value)
{
	struct store_record record;

	if (!rig_peek(c->member[i].store, 1, key, c->ms, &record)) {
		assert_null(value);
		return;
	}
	if (value == NULL) {
		assert_int_not_equal(record.state, STORE_LIVE);
		return;
	}
	assert_int_equal(record.state, STORE_LIVE);
	assert_int_equal(record.value_len, strlen(value));
	assert_memory_equal(record.value, value, strlen(value));
}

static struct sync_peer_view
peer_of(struct cluster *c, unsigned int i, unsigned int other)
{
	struct sync_peer_view view;

	for (size_t n = 0; sync_peer_at(c->member[i].sync, n, &view); n++)
		if (strcmp(view.wallet, c->member[other].wallet) == 0)
			return view;
	fail();
	return view;
}

/* ---- pushes -------------------------------------------------------------- */

static void
test_a_write_arrives_within_50_ms(void **state)
{
	struct cluster *c = cluster_new(3);
	uint64_t letters;

	(void)state;
	pass(c, 2000);
	assert_true(peer_of(c, 0, 1).level && peer_of(c, 1, 2).level);
	assert_int_equal(peer_of(c, 0, 1).kind, SYNC_KIND_OURS);
	put(c, 0, "a", "v:1");
	letters = c->letters;
	pass(c, 49);
	assert_value(c, 1, "a", "v:1");
	assert_value(c, 2, "a", "v:1");
	/* To both, and from each to the other: never back to where it came
	 * from. */
	pass(c, 200);
	assert_int_equal(c->letters - letters, 4);
	/* Many at once are one message. */
	letters = c->letters;
	for (int i = 0; i < 100; i++) {
		char key[16];

		(void)snprintf(key, sizeof(key), "k%d", i);
		put(c, 1, key, "v:x");
	}
	pass(c, 300);
	assert_int_equal(c->letters - letters, 4);
	cluster_free(c);
}

static void
test_a_cut_loses_nothing(void **state)
{
	struct cluster *c = cluster_new(2);

	(void)state;
	pass(c, 2000);
	c->cut = true;
	put(c, 0, "a", "v:1");
	put(c, 1, "b", "v:2");
	put(c, 1, "a", "v:3");
	pass(c, 30000);
	assert_true(peer_of(c, 0, 1).failures > 1);
	c->cut = false;
	pass(c, 20000);
	assert_value(c, 0, "b", "v:2");
	assert_value(c, 0, "a", "v:3");
	assert_value(c, 1, "a", "v:3");
	cluster_free(c);
}

/* Whenever it is written while nodes meet and compare: the others hold it at
 * once, and the write hears of it. */
static void
test_min_replicas_at_first(void **state)
{
	(void)state;
	for (int64_t ms = 1; ms < 400; ms++) {
		struct cluster *c = cluster_new(3);
		struct member *m = &c->member[0];

		put(c, 0, "b", "v:0");
		pass(c, ms);
		put(c, 0, "a", "v:1");
		assert_int_equal(
		    sync_wait(m->sync, 1, "a", 1, 2, m, rig_time(c->ms)), 0);
		pass(c, 100);
		assert_int_equal(m->done, 1);
		assert_int_equal(m->copies, 2);
		cluster_free(c);
	}
}

/* Who calls is there: it is not waited for until the next try. */
static void
test_who_calls_is_tried(void **state)
{
	struct cluster *c = cluster_new(2);
	struct member *m = &c->member[0];
	uint64_t letters;

	(void)state;
	pass(c, 2000);
	c->cut = true;
	put(c, 0, "a", "v:1");
	do
		pass(c, 100);
	while (peer_of(c, 0, 1).failures < 8);
	pass(c, 1000);
	letters = c->letters;
	sync_heard(m->sync, c->member[1].wallet, rig_time(c->ms));
	pass(c, 60);
	assert_int_equal(peer_of(c, 0, 1).failures, 9);
	/* Not at every word of one that cannot be called. */
	for (int i = 0; i < 9; i++) {
		sync_heard(m->sync, c->member[1].wallet, rig_time(c->ms));
		pass(c, 100);
	}
	assert_int_equal(peer_of(c, 0, 1).failures, 9);
	assert_int_equal(c->letters, letters + 1);
	c->cut = false;
	pass(c, 100);
	sync_heard(m->sync, c->member[1].wallet, rig_time(c->ms));
	pass(c, 60);
	assert_value(c, 1, "a", "v:1");
	cluster_free(c);
}

static void
test_min_replicas(void **state)
{
	struct cluster *c = cluster_new(3);
	struct member *m = &c->member[0];

	(void)state;
	pass(c, 2000);
	assert_int_equal(sync_can_wait(m->sync, 1, 3), KMS_ERANGE);
	put(c, 0, "a", "v:1");
	assert_int_equal(
	    sync_wait(m->sync, 1, "a", 1, 2, m, rig_time(c->ms)), 0);
	pass(c, 50);
	assert_int_equal(m->done, 1);
	assert_int_equal(m->met, 1);
	assert_int_equal(m->copies, 2);
	c->cut = true;
	for (int i = 0; i < SYNC_WAITS_APP_MAX; i++) {
		put(c, 0, "a", "v:2");
		assert_int_equal(
		    sync_wait(m->sync, 1, "a", 1, 1, m, rig_time(c->ms)), 0);
	}
	assert_int_equal(sync_can_wait(m->sync, 1, 1), KMS_EBUSY);
	assert_int_equal(sync_can_wait(m->sync, 2, 1), 0);
	pass(c, 1990);
	assert_int_equal(m->done, 1);
	pass(c, 20);
	assert_int_equal(m->done, 1 + SYNC_WAITS_APP_MAX);
	assert_int_equal(m->met, 1);
	assert_int_equal(sync_stats(m->sync).waits, 0);
	cluster_free(c);
}

/* ---- what a peer may answer ---------------------------------------------- */

static size_t
records_in(const char *body)
{
	size_t n = 0;

	while ((body = strstr(body, "\"version\"")) != NULL) {
		body++;
		n++;
	}
	return n;
}

/* Takes everything but the key "bad", as ours or as a deployed node would. */
static unsigned int
rejects_bad(
    struct member *self, const char *body, size_t len, struct buf *answer)
{
	size_t sent = records_in(body);
	size_t bad = strstr(body, "\"bad\"") != NULL ? 1 : 0;

	(void)self;
	(void)len;
	if (strstr(body, "snapshot") != NULL)
		return buf_printf(answer, "{\"status\":\"ok\",\"data\":{}}") ==
			0
		    ? 200
		    : 500;
	(void)buf_printf(answer,
	    "{\"status\":\"ok\",\"total\":%zu,\"merged\":%zu,\"skipped\":0,"
	    "\"rejected\":%zu}",
	    sent, sent - bad, bad);
	return 200;
}

static void
test_rejected_records_are_split_off(void **state)
{
	struct cluster *c = cluster_new(2);
	char key[16];

	(void)state;
	c->member[1].script = rejects_bad;
	meet(c, 1, 0);
	pass(c, 5000);
	assert_int_equal(peer_of(c, 0, 1).kind, SYNC_KIND_DEPLOYED);
	for (int i = 0; i < 20; i++) {
		(void)snprintf(key, sizeof(key), i == 7 ? "bad" : "k%d", i);
		put(c, 0, key, "v:1");
	}
	pass(c, 60000);
	assert_int_equal(peer_of(c, 0, 1).refused, 1);
	assert_int_equal(
	    peer_of(c, 0, 1).mark, store_stats(c->member[0].store).sequence);
	/* It is tried again, and taken in the end. */
	c->member[1].script = NULL;
	meet(c, 1, 2);
	pass(c, 120000);
	assert_int_equal(peer_of(c, 0, 1).refused, 0);
	cluster_free(c);
}

#define APPETITE 20000

static unsigned int
small_appetite(
    struct member *self, const char *body, size_t len, struct buf *answer)
{
	if (len > APPETITE)
		return 413;
	return rejects_bad(self, body, len, answer);
}

static void
put_large(struct cluster *c, unsigned int i, const char *key)
{
	char big[APPETITE / 2 + 1];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	put(c, i, key, big);
}

/* What a node is too small for holds up nothing, and is tried again. */
static void
test_too_large(void **state)
{
	struct cluster *c = cluster_new(2);
	struct sync_peer_view view;
	char key[16];

	(void)state;
	c->member[1].script = small_appetite;
	meet(c, 1, 0);
	pass(c, 5000);
	put_large(c, 0, "big");
	for (int i = 0; i < 400; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		put(c, 0, key, "v:1");
	}
	pass(c, 120000);
	view = peer_of(c, 0, 1);
	assert_int_equal(view.too_large, 1);
	assert_int_equal(view.refused, 1);
	assert_int_equal(view.failures, 0);
	assert_int_equal(view.mark, store_stats(c->member[0].store).sequence);
	/* Another put of it is no second one to try again. */
	put_large(c, 0, "big");
	pass(c, 20000);
	assert_int_equal(peer_of(c, 0, 1).too_large, 2);
	assert_int_equal(peer_of(c, 0, 1).refused, 1);
	/* The node has grown: what it gets then is what it was refused. */
	c->member[1].script = rejects_bad;
	c->biggest = 0;
	pass(c, 240000);
	assert_int_equal(peer_of(c, 0, 1).refused, 0);
	assert_true(c->biggest > APPETITE);
	cluster_free(c);
}

/* Those that are too many to keep are skipped, and hold up nothing either. */
static void
test_too_many_too_large(void **state)
{
	struct cluster *c = cluster_new(2);
	struct sync_peer_view view;
	char key[16];

	(void)state;
	c->member[1].script = small_appetite;
	meet(c, 1, 0);
	pass(c, 5000);
	for (int i = 0; i < 70; i++) {
		(void)snprintf(key, sizeof(key), "big%d", i);
		put_large(c, 0, key);
	}
	put(c, 0, "small", "v:1");
	pass(c, 480000);
	view = peer_of(c, 0, 1);
	assert_int_equal(view.too_large, 70);
	assert_int_equal(view.refused, 64);
	assert_int_equal(view.mark, store_stats(c->member[0].store).sequence);
	cluster_free(c);
}

/* A 413 to anything, as whoever stands between can say it. */
static unsigned int
no_appetite(
    struct member *self, const char *body, size_t len, struct buf *answer)
{
	(void)self;
	(void)body;
	(void)len;
	(void)answer;
	return 413;
}

static void
test_a_false_413_loses_nothing(void **state)
{
	unsigned int (*const peers[])(struct member *, const char *, size_t,
	    struct buf *) = { rejects_bad, NULL };
	struct sync_peer_view before, view;
	struct cluster *c;
	char key[16];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		c = cluster_new(2);
		c->member[1].script = peers[i];
		pass(c, 10000);
		put_large(c, 0, "taken");
		pass(c, 10000);
		meet(c, 1, 0);
		before = peer_of(c, 0, 1);
		assert_true(before.level);
		c->member[1].script = no_appetite;
		for (int n = 0; n < 100; n++) {
			(void)snprintf(key, sizeof(key), "k%d", n);
			put(c, 0, key, "v:1");
		}
		put_large(c, 0, "large");
		pass(c, 120000);
		view = peer_of(c, 0, 1);
		assert_int_equal(view.mark, before.mark);
		assert_int_equal(view.too_large, 0);
		assert_true(view.failures > 5);
		/* It was no contact with the peer. */
		assert_int_equal(view.last_contact_ms, before.last_contact_ms);
		c->member[1].script = peers[i];
		pass(c, 120000);
		view = peer_of(c, 0, 1);
		assert_int_equal(
		    view.mark, store_stats(c->member[0].store).sequence);
		assert_int_equal(view.failures, 0);
		cluster_free(c);
	}
}

/* The peer itself, but for what carries records. */
static unsigned int
takes_no_records(
    struct member *self, const char *body, size_t len, struct buf *answer)
{
	struct cluster *c = self->cluster;

	if (records_in(body) > 0)
		return 413;
	return sync_request(self->sync, c->member[0].wallet, body, len,
	    rig_time(c->ms), answer);
}

static unsigned int
takes_large_not(
    struct member *self, const char *body, size_t len, struct buf *answer)
{
	struct cluster *c = self->cluster;

	if (len > 16384)
		return 413;
	return sync_request(self->sync, c->member[0].wallet, body, len,
	    rig_time(c->ms), answer);
}

/* The same of what a comparison sends. */
static void
test_a_false_413_in_a_comparison(void **state)
{
	struct sync_peer_view view;
	struct cluster *c = cluster_new(2);

	(void)state;
	pass(c, 10000);
	meet(c, 1, 0);
	c->member[1].script = takes_no_records;
	put(c, 0, "small", "v:1");
	boot(c, 1);
	pass(c, 60000);
	view = peer_of(c, 0, 1);
	assert_false(view.level);
	assert_int_equal(view.too_large, 0);
	assert_int_equal(view.refused, 0);
	c->member[1].script = NULL;
	pass(c, 60000);
	assert_true(peer_of(c, 0, 1).level);
	assert_value(c, 1, "small", "v:1");
	/* What a node could mean is tried again, and holds up nothing. */
	c->member[1].script = takes_no_records;
	put_large(c, 0, "large");
	boot(c, 1);
	c->member[1].script = takes_large_not;
	pass(c, 60000);
	view = peer_of(c, 0, 1);
	assert_true(view.level);
	assert_true(view.too_large > 0);
	assert_int_equal(view.refused, 1);
	assert_value(c, 1, "small", "v:1");
	c->member[1].script = NULL;
	pass(c, 600000);
	assert_int_equal(peer_of(c, 0, 1).refused, 0);
	cluster_free(c);
}

/* Says ok to what it did not get. */
static unsigned int
cannot_count(
    struct member *self, const char *body, size_t len, struct buf *answer)
{
	static const char *const lies[] = {
		"{\"status\":\"ok\",\"total\":7,\"merged\":1,\"skipped\":0}",
		"{\"status\":\"error\",\"merged\":1,\"skipped\":0}",
		"{\"merged\":1,\"skipped\":0}",
		"{\"status\":\"ok\",\"merged\":1,\"skipped\":0",
		"{\"status\":\"ok\",\"merged\":-1}",
		"[]",
	};

	if (records_in(body) == 0)
		return rejects_bad(self, body, len, answer);
	(void)buf_append_text(
	    answer, lies[self->step++ % (sizeof(lies) / sizeof(lies[0]))]);
	return 200;
}

static void
test_a_mark_needs_a_whole_answer(void **state)
{
	struct cluster *c = cluster_new(2);

	(void)state;
	c->member[1].script = cannot_count;
	meet(c, 1, 0);
	pass(c, 5000);
	put(c, 0, "a", "v:1");
	pass(c, 60000);
	assert_true(c->member[1].step > 3);
	assert_true(peer_of(c, 0, 1).mark < 1);
	cluster_free(c);
}

static void
test_a_deployed_peer_has_time(void **state)
{
	struct cluster *c = cluster_new(2);
	char value[30001], key[16];
	int64_t first;

	(void)state;
	c->member[1].script = rejects_bad;
	meet(c, 1, 0);
	pass(c, 5000);
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (int i = 0; i < 60; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		put(c, 0, key, value);
	}
	c->biggest = 0;
	c->member[1].asked = 0;
	first = c->ms;
	while (c->member[1].asked < 4 && c->ms < first + 60000)
		pass(c, 10);
	assert_true(c->ms - first >= 3 * SYNC_DEPLOYED_GAP_MS);
	assert_true(c->biggest <= SYNC_BATCH_BYTES);
	assert_true(c->biggest > SYNC_BATCH_BYTES / 2);
	assert_null(strstr(c->member[1].last, "\"boot\""));
	cluster_free(c);
}

/* Who is far behind gets large batches, one as soon as the last has arrived. */
static void
test_a_backlog_goes_at_once(void **state)
{
	struct cluster *c = cluster_new(2);
	uint64_t letters;
	char key[16];
	int64_t start;

	(void)state;
	pass(c, 2000);
	for (int i = 0; i < 6000; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		put(c, 0, key, "v:1");
	}
	letters = c->letters;
	start = c->ms;
	while (peer_of(c, 0, 1).mark < store_stats(c->member[0].store).sequence)
		pass(c, 1);
	assert_true(c->letters - letters <= 4);
	assert_true(c->ms - start <= SYNC_COALESCE_MS + 10);
	assert_true(c->biggest <= SYNC_BATCH_BYTES);
	cluster_free(c);
}

/* Both ends of a large exchange have others to serve. */
static void
assert_rests(int64_t lag_ms, int64_t rest_ms, const char *value)
{
	struct cluster *c = cluster_new(2);
	char key[16];

	pass(c, 2000);
	c->lag_ms = lag_ms;
	for (int i = 0; i < 6000; i++) {
		(void)snprintf(key, sizeof(key), "k%d", i);
		put(c, 0, key, value);
	}
	c->least_rest_ms = INT64_MAX;
	while (peer_of(c, 0, 1).mark < store_stats(c->member[0].store).sequence)
		pass(c, 1);
	assert_int_equal(c->least_rest_ms, rest_ms);
	/* The same for what a comparison moves. */
	boot(c, 1);
	meet(c, 1, 2);
	c->least_rest_ms = INT64_MAX;
	c->bulk_ms = 0;
	while (!sync_stats(c->member[1].sync).filled)
		pass(c, 1);
	assert_true(c->least_rest_ms >= rest_ms);
	assert_true(c->least_rest_ms <= rest_ms + 2);
	cluster_free(c);
}

static void
test_large_messages_are_followed_by_a_rest(void **state)
{
	char value[201];

	(void)state;
	memset(value, 'v', 200);
	value[200] = '\0';
	assert_rests(20, 60, value);
	assert_rests(90, SYNC_REST_MS, value);
}

/* ---- having all there is ------------------------------------------------- */

static unsigned int
is_away(struct member *self, const char *body, size_t len, struct buf *answer)
{
	(void)self;
	(void)body;
	(void)len;
	(void)answer;
	return 503;
}

static void
test_filled(void **state)
{
	struct cluster *c = cluster_new(3);
	struct sync_stats stats;

	(void)state;
	/* All begin anew: none has more than the others. */
	pass(c, 3000);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(sync_stats(c->member[i].sync).filled);
	put(c, 0, "a", "v:1");
	pass(c, 1000);
	boot(c, 1);
	boot(c, 2);
	assert_false(sync_stats(c->member[2].sync).filled);
	meet(c, 1, 3);
	meet(c, 2, 3);
	c->member[0].script = is_away;
	pass(c, 5000);
	/* Two with nothing learn nothing from each other. */
	stats = sync_stats(c->member[2].sync);
	assert_false(stats.filled);
	assert_int_equal(stats.fill_failures, 1);
	assert_true(stats.fill_tried);
	c->member[0].script = NULL;
	pass(c, 15000);
	stats = sync_stats(c->member[2].sync);
	assert_true(stats.filled);
	assert_int_equal(stats.fill_failures, 0);
	assert_value(c, 2, "a", "v:1");
	/* Nobody there: nothing is known, unless it made the secret. */
	boot(c, 1);
	meet(c, 1, 0);
	pass(c, 1000);
	assert_false(sync_stats(c->member[1].sync).filled);
	assert_false(sync_stats(c->member[1].sync).fill_tried);
	sync_set_filled(c->member[1].sync);
	assert_true(sync_stats(c->member[1].sync).filled);
	/* A deployed peer gives a snapshot. */
	boot(c, 1);
	meet(c, 1, 1);
	c->member[0].script = rejects_bad;
	assert_false(sync_stats(c->member[1].sync).filled);
	pass(c, 10000);
	assert_true(sync_stats(c->member[1].sync).filled);
	cluster_free(c);
}

static void
test_fill_failures(void **state)
{
	struct cluster *c = cluster_new(3);
	struct sync_stats stats;

	(void)state;
	c->cut = true;
	stats = sync_stats(c->member[0].sync);
	assert_false(stats.fill_tried);
	assert_int_equal(stats.fill_failures, 0);
	pass(c, 30000);
	stats = sync_stats(c->member[0].sync);
	assert_false(stats.filled);
	assert_true(stats.fill_tried);
	assert_int_equal(stats.fill_failures, 2);
	cluster_free(c);
}

/* ---- comparing ----------------------------------------------------------- */

static void
test_a_restart_voids_the_mark(void **state)
{
	struct cluster *c = cluster_new(3);

	(void)state;
	pass(c, 2000);
	put(c, 0, "a", "v:1");
	put(c, 1, "b", "v:2");
	pass(c, 1000);
	boot(c, 2);
	meet(c, 2, 3);
	assert_false(sync_stats(c->member[2].sync).filled);
	pass(c, 3000);
	assert_true(sync_stats(c->member[2].sync).filled);
	assert_value(c, 2, "a", "v:1");
	assert_value(c, 2, "b", "v:2");
	pass(c, 20000);
	assert_true(peer_of(c, 0, 2).level);
	cluster_free(c);
}

static void
big_put(struct store *store, uint64_t n, int64_t at)
{
	uint8_t value[228]; /* 200 bytes with nonce and tag */
	char key[32];
	int len =
	    snprintf(key, sizeof(key), "record-%08llu", (unsigned long long)n);

	memset(value, (int)('a' + n % 20), sizeof(value));
	assert_int_equal(store_put_local(store, 1, key, (size_t)len, value,
			     sizeof(value), 0, rig_time(at), NULL),
	    0);
}

/* Records that differ cost so much JSON. */
static uint64_t
differing_bytes(struct store *store, uint64_t count)
{
	struct store_record record;
	struct buf out;
	uint64_t bytes;

	buf_init(&out, 10000);
	assert_true(rig_peek(store, 1, "record-00000000", 0, &record));
	assert_int_equal(record_json_write(&out, &record, RECORD_OURS), 0);
	bytes = (out.len + 1) * count;
	buf_free(&out);
	return bytes;
}

static bool
is_level(struct cluster *c)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct sync_peer_view view = peer_of(c, i, 1 - i);

		if (!view.level ||
		    view.mark < store_stats(c->member[i].store).sequence)
			return false;
	}
	return true;
}

static void
level(struct cluster *c)
{
	for (int64_t end = c->ms + 120000; c->ms < end && !is_level(c);)
		pass(c, 1);
	assert_true(is_level(c));
}

/* Two nodes part with 100 000 records in common, one writes: what does the
 * meeting cost? forget: their marks are gone, too. */
static double
cost_of(struct cluster *c, uint64_t differ, bool forget)
{
	uint64_t expected, bytes;

	c->cut = true;
	for (uint64_t n = 0; n < differ; n++)
		big_put(c->member[n % 2].store, n * (100000 / differ), c->ms);
	pass(c, 2);
	if (forget) {
		meet(c, 0, 0);
		meet(c, 1, 0);
		meet(c, 0, 2);
		meet(c, 1, 2);
	}
	c->cut = false;
	c->bytes = 0;
	level(c);
	bytes = c->bytes;
	expected = differing_bytes(c->member[0].store, differ);
	print_message("%6llu of 100000 differ%s: %llu bytes, %.2f times\n",
	    (unsigned long long)differ, forget ? ", no marks" : "",
	    (unsigned long long)bytes, (double)bytes / (double)expected);
	return (double)bytes / (double)expected;
}

static void
test_cost_of_repair(void **state)
{
	struct cluster *c = cluster_new(2);

	(void)state;
	for (uint64_t n = 0; n < 100000; n++)
		big_put(c->member[0].store, n, 0);
	c->bytes = 0;
	level(c);
	print_message("filling a new node with 100000: %.2f times\n",
	    (double)c->bytes /
		(double)differing_bytes(c->member[0].store, 100000));
	assert_true(c->bytes < 2 * differing_bytes(c->member[0].store, 100000));
	for (uint64_t differ = 1; differ <= 10000; differ *= 10) {
		assert_true(cost_of(c, differ, false) <= 3.0);
		assert_true(cost_of(c, differ, true) <= 3.0);
	}
	cluster_free(c);
}

/* ---- stubs, eviction, long absence --------------------------------------- */

static void
test_stubs_are_the_same_everywhere(void **state)
{
	struct cluster *c = cluster_new(2);
	char x[1000], y[1000];
	struct store_record record;

	(void)state;
	pass(c, 2000);
	c->cut = true;
	assert_int_equal(
	    rig_put(c->member[0].store, 1, "t", "v:0123456789", 500, c->ms), 0);
	pass(c, 1000);
	(void)store_tick(c->member[0].store, rig_time(c->ms), 10);
	c->cut = false;
	pass(c, 15000);
	assert_true(rig_peek(c->member[0].store, 1, "t", c->ms, &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	rig_record_text(&record, x, sizeof(x));
	assert_true(rig_peek(c->member[1].store, 1, "t", c->ms, &record));
	assert_int_equal(record.state, STORE_EXPIRED);
	rig_record_text(&record, y, sizeof(y));
	assert_string_equal(x, y);
	cluster_free(c);
}

/* Node 0 again, with room for two records. */
static void
boot_small(struct cluster *c)
{
	struct member *m = &c->member[0];
	const struct sync_ops ops = { on_send, on_done, on_fetched, on_value,
		on_random, m };
	struct store_config store;
	struct sync_config config;

	sync_free(m->sync);
	store_free(m->store);
	store_config_init(&store);
	store.max_app_storage = 700;
	store.tombstone_retention_ms = c->retention_ms;
	m->store = rig_store(&store, m->wallet);
	sync_config_init(&config);
	memcpy(config.wallet, m->wallet, sizeof(config.wallet));
	(void)snprintf(config.boot, sizeof(config.boot), "small");
	config.retention_ms = c->retention_ms;
	m->sync = sync_new(&config, &ops, m->store, rig_time(c->ms));
	assert_non_null(m->sync);
}

static enum store_state
state_of(struct cluster *c, unsigned int i, const char *key)
{
	struct store_record record;

	assert_true(rig_peek(c->member[i].store, 1, key, c->ms, &record));
	return record.state;
}

/* Nobody has the value of the last version any more: the one before it does
 * not come back for that, nor does a reader hear that there is nothing. */
static void
test_what_all_have_evicted(void **state)
{
	struct cluster *c = cluster_new(2);
	struct store_record record;

	(void)state;
	boot_small(c);
	meet(c, 0, 2);
	pass(c, 2000);
	put(c, 0, "a", "v:old");
	pass(c, 1000);
	assert_value(c, 1, "a", "v:old");
	c->cut = true;
	put(c, 0, "a", "v:new");
	put(c, 0, "b", "v:1");
	put(c, 0, "c", "v:2");
	assert_int_equal(state_of(c, 0, "a"), STORE_EVICTED);
	c->cut = false;
	pass(c, 20000);
	assert_int_equal(state_of(c, 1, "a"), STORE_EVICTED);
	assert_int_equal(
	    rig_get(c->member[1].store, 1, "a", c->ms, &record), STORE_GONE);
	/* What is live there, and the same, stays. */
	put(c, 0, "d", "v:3");
	pass(c, 1000);
	assert_int_equal(state_of(c, 0, "b"), STORE_EVICTED);
	assert_value(c, 1, "b", "v:1");
	meet(c, 1, 0);
	meet(c, 0, 0);
	meet(c, 1, 2);
	meet(c, 0, 2);
	pass(c, 20000);
	assert_value(c, 1, "b", "v:1");
	assert_int_equal(state_of(c, 0, "b"), STORE_EVICTED);
	cluster_free(c);
}

/* A stub does not stand in the way of the value that another node has. */
static void
test_values_come_before_stubs(void **state)
{
	struct cluster *c = cluster_new(2);
	struct store_record record;

	(void)state;
	boot_small(c);
	meet(c, 0, 2);
	pass(c, 2000);
	put(c, 0, "a", "v:1");
	pass(c, 1000);
	put(c, 0, "b", "v:2");
	put(c, 0, "c", "v:3");
	pass(c, 1000);
	assert_int_equal(state_of(c, 0, "a"), STORE_EVICTED);
	boot(c, 2);
	for (unsigned int i = 0; i < 3; i++)
		meet(c, i, 3);
	/* The one with the stub is heard first. */
	for (int i = 0; i < 3000; i++) {
		pass(c, 1);
		if (rig_peek(c->member[2].store, 1, "a", c->ms, &record))
			assert_int_equal(record.state, STORE_LIVE);
	}
	assert_value(c, 2, "a", "v:1");
	cluster_free(c);
}

static void
test_an_evicted_value_is_fetched(void **state)
{
	struct cluster *c = cluster_new(3);
	struct member *m = &c->member[0];

	(void)state;
	boot_small(c);
	meet(c, 0, 3);
	pass(c, 2000);
	put(c, 0, "a", "v:1");
	pass(c, 1000);
	put(c, 0, "b", "v:2");
	pass(c, 1000);
	put(c, 0, "c", "v:3");
	pass(c, 1000);
	assert_value(c, 0, "a", NULL);
	assert_value(c, 1, "a", "v:1");
	assert_int_equal(
	    sync_fetch(m->sync, 1, "c", 1, m, rig_time(c->ms)), KMS_ENOENT);
	assert_int_equal(sync_fetch(m->sync, 1, "a", 1, m, rig_time(c->ms)), 0);
	pass(c, 20);
	assert_int_equal(m->fetched, 1);
	assert_value(c, 0, "a", "v:1");
	/* Nobody is there to ask. */
	c->cut = true;
	m->fetched = -1;
	assert_value(c, 0, "b", NULL);
	assert_int_equal(sync_fetch(m->sync, 1, "b", 1, m, rig_time(c->ms)), 0);
	pass(c, 4000);
	assert_int_equal(m->fetched, 0);
	cluster_free(c);
}

static void
test_away_too_long(void **state)
{
	struct cluster *c = calloc(1, sizeof(*c));
	int64_t end;

	(void)state;
	cluster_free(c);
	c = cluster_new(3);
	c->retention_ms = 30000;
	for (unsigned int i = 0; i < 3; i++)
		boot(c, i);
	for (unsigned int i = 0; i < 3; i++)
		meet(c, i, 3);
	pass(c, 2000);
	put(c, 0, "old", "v:1");
	put(c, 0, "kept", "v:2");
	pass(c, 1000);
	/* Node 2 is apart: its peers do not know it, nor it them. */
	meet(c, 0, 2);
	meet(c, 1, 2);
	c->member[2].script = cannot_count;
	end = c->ms + 40000;
	assert_int_equal(store_delete_local(
			     c->member[0].store, 1, "old", 3, rig_time(c->ms)),
	    0);
	put(c, 2, "new", "v:3");
	while (c->ms < end) {
		struct sync *apart = c->member[2].sync;

		c->member[2].sync = NULL;
		pass(c, 100);
		c->member[2].sync = apart;
		(void)store_tick(c->member[0].store, rig_time(c->ms), 100);
		(void)store_tick(c->member[1].store, rig_time(c->ms), 100);
	}
	assert_value(c, 0, "old", NULL);
	assert_value(c, 2, "old", "v:1");
	c->member[2].script = NULL;
	meet(c, 0, 3);
	meet(c, 1, 3);
	pass(c, 15000);
	assert_false(sync_stats(c->member[2].sync).stale);
	assert_int_equal(sync_stats(c->member[2].sync).dropped, 1);
	for (unsigned int i = 0; i < 3; i++) {
		assert_value(c, i, "old", NULL);
		assert_value(c, i, "kept", "v:2");
		assert_value(c, i, "new", "v:3");
	}
	cluster_free(c);
}

/* ---- what the engine needs of the store -----------------------------------
 */

static void
test_store_for_replication(void **state)
{
	struct store_config config;
	struct store_record record;
	struct store *store;
	uint64_t version;

	(void)state;
	store_config_init(&config);
	config.max_app_storage = 2 * (STORE_RECORD_OVERHEAD + 4);
	store = rig_store(&config, RIG_SELF);
	assert_int_equal(rig_put(store, 1, "a", "v:1", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "b", "v:2", 0, 0), 0);
	assert_true(rig_peek(store, 1, "a", 0, &record));
	assert_int_equal(store_drop(store, 1, "b", 1), 0);
	assert_int_equal(store_drop(store, 1, "b", 1), KMS_ENOENT);
	assert_int_equal(rig_put(store, 1, "b", "v:2", 0, 0), 0);
	assert_int_equal(rig_put(store, 1, "a", "v:3", 0, 0), 0);
	assert_int_equal(rig_get(store, 1, "b", 0, &record), STORE_FOUND);
	assert_true(rig_peek(store, 1, "b", 0, &record));
	/* "a" is the least recently used now, but nobody else has it: "b"
	 * goes. */
	assert_int_equal(rig_get(store, 1, "b", 0, &record), STORE_FOUND);
	store_set_low_mark(store, record.sequence);
	version = store_app_version(store, 1);
	assert_int_equal(rig_put(store, 1, "c", "v:4", 0, 0), 0);
	assert_true(store_app_version(store, 1) > version);
	assert_int_equal(rig_get(store, 1, "b", 0, &record), STORE_GONE);
	assert_int_equal(rig_get(store, 1, "a", 0, &record), STORE_FOUND);
	/* All unknown to others: the least recently used after all. */
	store_set_low_mark(store, 0);
	assert_int_equal(rig_put(store, 1, "d", "v:5", 0, 0), 0);
	assert_int_equal(rig_get(store, 1, "c", 0, &record), STORE_GONE);
	assert_int_equal(store_app_records(store, 1), 4);
	assert_int_equal(store_app_version(store, 2), 0);
	store_free(store);
}

/* ---- requests ------------------------------------------------------------ */

static unsigned int
ask(struct cluster *c, const char *body, struct buf *answer)
{
	buf_clear(answer);
	return sync_request(c->member[0].sync, c->member[1].wallet, body,
	    strlen(body), rig_time(c->ms), answer);
}

static void
test_requests(void **state)
{
	struct cluster *c = cluster_new(2);
	struct buf answer;

	(void)state;
	buf_init(&answer, 1 << 20);
	assert_int_equal(ask(c, "", &answer), 400);
	assert_int_equal(ask(c, "{\"type\":\"nothing\"}", &answer), 400);
	assert_int_equal(
	    ask(c, "{\"type\":\"master_secret_request\"}", &answer), 400);
	assert_int_equal(
	    ask(c, "{\"type\":\"delta\",\"sender_wallet\":\"0xbb\"}", &answer),
	    403);
	assert_int_equal(
	    ask(c,
		"{\"type\":\"delta\",\"sender_wallet\":"
		"\"00000000000000000000000000000000000000A2\",\"data\":{"
		"\"1\":[7,{\"key\":\"a\",\"value\":\"21\",\"version\":{\"x\":1}"
		","
		"\"updated_at_ms\":1,\"tombstone\":false},{\"key\":\"a\","
		"\"value\":\"22\",\"version\":{\"x\":1},\"updated_at_ms\":1,"
		"\"tombstone\":false}]}}",
		&answer),
	    200);
	assert_int_equal(buf_append(&answer, "", 1), 0);
	assert_non_null(strstr((const char *)answer.data,
	    "\"total\":3,\"merged\":1,\"skipped\":0,\"rejected\":2,"
	    "\"skip_reasons\":{\"malformed\":1,\"value\":1}"));
	assert_int_equal(
	    ask(c, "{\"type\":\"record_request\",\"app_id\":1,\"key\":\"a\"}",
		&answer),
	    200);
	assert_int_equal(buf_append(&answer, "", 1), 0);
	assert_non_null(strstr((const char *)answer.data, "\"value\":\"22\""));
	assert_int_equal(
	    ask(c,
		"{\"type\":\"digest_request\",\"trees\":{\"1\":{\"\":\"00\"}}}",
		&answer),
	    400);
	assert_int_equal(answer.len, 0);
	buf_free(&answer);
	cluster_free(c);
}

/* Comparisons of which half the messages are damaged end, and when they no
 * longer are, all is level. */
static void
test_damaged_messages(void **state)
{
	struct cluster *c = cluster_new(2);
	struct rig_random random = { 11 };
	char key[16];

	(void)state;
	pass(c, 1000);
	for (unsigned int round = 0; round < 400; round++) {
		for (unsigned int n = 0; n < 8; n++) {
			(void)snprintf(key, sizeof(key), "k%u",
			    (unsigned int)rig_below(&random, 300));
			put(c, n % 2, key, "v:1");
		}
		meet(c, round % 2, 0);
		meet(c, round % 2, 2);
		c->damage = &random;
		pass(c, 60);
		c->damage = NULL;
	}
	meet(c, 0, 0);
	meet(c, 1, 0);
	meet(c, 0, 2);
	meet(c, 1, 2);
	level(c);
	assert_int_equal(store_app_records(c->member[0].store, 1),
	    store_app_records(c->member[1].store, 1));
	cluster_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_write_arrives_within_50_ms),
		cmocka_unit_test(test_a_cut_loses_nothing),
		cmocka_unit_test(test_min_replicas_at_first),
		cmocka_unit_test(test_who_calls_is_tried),
		cmocka_unit_test(test_min_replicas),
		cmocka_unit_test(test_rejected_records_are_split_off),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_too_many_too_large),
		cmocka_unit_test(test_a_false_413_loses_nothing),
		cmocka_unit_test(test_a_false_413_in_a_comparison),
		cmocka_unit_test(test_a_mark_needs_a_whole_answer),
		cmocka_unit_test(test_a_deployed_peer_has_time),
		cmocka_unit_test(test_a_backlog_goes_at_once),
		cmocka_unit_test(test_large_messages_are_followed_by_a_rest),
		cmocka_unit_test(test_filled),
		cmocka_unit_test(test_fill_failures),
		cmocka_unit_test(test_a_restart_voids_the_mark),
		cmocka_unit_test(test_stubs_are_the_same_everywhere),
		cmocka_unit_test(test_what_all_have_evicted),
		cmocka_unit_test(test_values_come_before_stubs),
		cmocka_unit_test(test_an_evicted_value_is_fetched),
		cmocka_unit_test(test_away_too_long),
		cmocka_unit_test(test_store_for_replication),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_damaged_messages),
		cmocka_unit_test(test_cost_of_repair),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
