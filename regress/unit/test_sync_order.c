/* The order in which a comparison names apps and nodes: what repeats, overlaps
 * or goes back is refused, and no node of ours is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kms-keeper/sync.h"
#include "regress/unit/crypto_setup.h"
#include "regress/unit/store_rig.h"

#define QUEUE 16
#define APPS 3000
#define LARGE 5 /* the app with most of the records */

struct pair;

struct node {
	struct pair *pair;
	unsigned int index;
	char wallet[SYNC_WALLET_LEN + 1];
	struct store *store;
	struct sync *sync;
};

struct letter {
	unsigned int from;
	uint64_t id;
	char *body;
	size_t len;
};

struct pair {
	struct node node[2];
	struct letter queue[QUEUE];
	size_t count;
	int64_t ms;
	unsigned int digests, lists, leaves, pages, chosen; /* requests */
	const char *rivals; /* the second is a script that names these */
};

static void
on_send(
    void *arg, const char *wallet, uint64_t id, const void *body, size_t len)
{
	struct node *n = arg;
	struct letter *letter = &n->pair->queue[n->pair->count++];

	assert_true(n->pair->count <= QUEUE);
	assert_string_equal(wallet, n->pair->node[1 - n->index].wallet);
	letter->from = n->index;
	letter->id = id;
	letter->len = len;
	letter->body = malloc(len + 1);
	memcpy(letter->body, body, len);
	letter->body[len] = '\0';
}

static void
on_done(void *arg, void *cookie, unsigned int k, bool met)
{
	(void)arg;
	(void)cookie;
	(void)k;
	(void)met;
}

static void
on_fetched(void *arg, void *cookie, bool found)
{
	(void)arg;
	(void)cookie;
	(void)found;
}

static bool
on_value(void *arg, uint64_t app_id, const void *stored, size_t len)
{
	(void)arg;
	(void)app_id;
	(void)stored;
	return len > 0;
}

static uint64_t
on_random(void *arg)
{
	static struct rig_random random = { 3 };

	(void)arg;
	return rig_next(&random);
}

static struct pair *
pair_new(void)
{
	struct pair *p = calloc(1, sizeof(*p));
	struct sync_config config;
	struct store_config store;

	for (unsigned int i = 0; i < 2; i++) {
		struct node *n = &p->node[i];
		const struct sync_ops ops = { on_send, on_done, on_fetched,
			on_value, on_random, n };

		n->pair = p;
		n->index = i;
		(void)snprintf(
		    n->wallet, sizeof(n->wallet), "0x%040x", 0xa1 + i);
		store_config_init(&store);
		store.max_app_storage = 1 << 30;
		n->store = rig_store(&store, n->wallet);
		sync_config_init(&config);
		memcpy(config.wallet, n->wallet, sizeof(config.wallet));
		(void)snprintf(config.boot, sizeof(config.boot), "boot%u", i);
		n->sync = sync_new(&config, &ops, n->store, rig_time(0));
		assert_non_null(n->sync);
	}
	return p;
}

static void
pair_meet(struct pair *p)
{
	for (unsigned int i = 0; i < 2; i++) {
		const char *wallets[] = { p->node[1 - i].wallet };

		assert_int_equal(sync_set_peers(p->node[i].sync, wallets, 1,
				     rig_time(p->ms)),
		    0);
	}
}

static void
pair_free(struct pair *p)
{
	for (unsigned int i = 0; i < 2; i++) {
		sync_free(p->node[i].sync);
		store_free(p->node[i].store);
	}
	for (size_t i = 0; i < p->count; i++)
		free(p->queue[i].body);
	free(p);
}

static void
note(struct pair *p, const char *body)
{
	bool leaves = strstr(body, "\"type\":\"bucket_request\"") != NULL;
	bool digests = strstr(body, "\"type\":\"digest_request\"") != NULL;

	p->digests += digests && strstr(body, "\"trees\":") != NULL;
	p->lists += digests && strstr(body, "\"apps\":") != NULL;
	p->leaves += leaves;
	p->pages += leaves && strstr(body, "\"after_app\":") != NULL;
	p->chosen += leaves && strstr(body, "\"chosen\":") != NULL;
}

/* What the script says: both apps differ, and these rivals are there. */
static unsigned int
script(const struct pair *p, const char *body, struct buf *answer)
{
	const char *text = "\"data\":{},\"want\":{}";

	if (strstr(body, "\"delta\"") != NULL)
		text = "\"total\":0,\"merged\":0,\"skipped\":0,\"rejected\":0,"
		       "\"extensions\":[\"digest_request\",\"bucket_request\"]";
	else if (strstr(body, "\"digest_request\"") != NULL)
		text = "\"trees\":{\"1\":{\"\":\"\"},\"2\":{\"\":\"\"}}";
	else if (strstr(body, "\"chosen\"") == NULL)
		text = "\"data\":{},\"want\":{\"1\":\"AAAA\",\"2\":\"AAAA\"},"
		       "\"rivals\":";
	(void)buf_printf(answer, "{\"status\":\"ok\",\"boot\":\"b\",%s%s}",
	    text, strstr(text, "rivals") != NULL ? p->rivals : "");
	return 200;
}

/* No request of ours is refused. */
static void
deliver(struct pair *p, const struct letter *letter)
{
	struct node *to = &p->node[1 - letter->from];
	struct sync_outcome outcome = { 0 };
	struct buf answer;

	note(p, letter->body);
	buf_init(&answer, 64u << 20);
	if (p->rivals != NULL && to->index == 1)
		outcome.status = script(p, letter->body, &answer);
	else
		outcome.status =
		    sync_request(to->sync, p->node[letter->from].wallet,
			letter->body, letter->len, rig_time(p->ms), &answer);
	assert_int_equal(outcome.status, 200);
	outcome.body = (const char *)answer.data;
	outcome.len = answer.len;
	sync_answer(
	    p->node[letter->from].sync, letter->id, &outcome, rig_time(p->ms));
	buf_free(&answer);
}

static void
pass(struct pair *p, int64_t ms)
{
	struct letter letters[QUEUE];
	size_t count;

	for (int64_t end = p->ms + ms; p->ms < end; p->ms++) {
		for (unsigned int i = 0; i < 2; i++)
			if (i == 0 || p->rivals == NULL)
				sync_tick(p->node[i].sync, rig_time(p->ms));
		count = p->count;
		memcpy(letters, p->queue, count * sizeof(letters[0]));
		p->count = 0;
		for (size_t i = 0; i < count; i++) {
			deliver(p, &letters[i]);
			free(letters[i].body);
		}
	}
}

/* ---- requests ------------------------------------------------------------ */

/* type_request with these members. */
static unsigned int
ask(struct pair *p, const char *type, const char *members)
{
	struct buf body, answer;
	unsigned int status;

	buf_init(&body, 1 << 20);
	buf_init(&answer, 1 << 20);
	assert_int_equal(
	    buf_printf(&body, "{\"type\":\"%s_request\",%s}", type, members),
	    0);
	status = sync_request(p->node[0].sync, p->node[1].wallet,
	    (const char *)body.data, body.len, rig_time(p->ms), &answer);
	if (status != 200)
		assert_int_equal(answer.len, 0);
	buf_free(&body);
	buf_free(&answer);
	return status;
}

static struct pair *
pair_with_records(void)
{
	struct pair *p = pair_new();
	char key[16];

	for (unsigned int n = 0; n < 300; n++) {
		(void)snprintf(key, sizeof(key), "k%u", n);
		assert_int_equal(
		    rig_put(p->node[0].store, 1 + n % 3, key, "v:1", 0, 0), 0);
	}
	return p;
}

/* Nodes of an app, in order or not. */
static const struct {
	const char *names[4];
	unsigned int status;
} orders[] = {
	{ { "" }, 200 },
	{ { "0", "1", "f" }, 200 },
	{ { "0", "10", "11", "2" }, 200 },
	{ { "0fffffffffffffff", "1", "2000000000000000", "20000000000001" },
	    200 },
	{ { "ffffffffffffffff" }, 200 },
	{ { "", "" }, 400 },
	{ { "0", "0" }, 400 },
	{ { "f", "f" }, 400 },
	{ { "0", "1", "2", "1" }, 400 },
	{ { "1", "0" }, 400 },
	{ { "11", "10" }, 400 },
	{ { "", "0" }, 400 },
	{ { "", "f" }, 400 },
	{ { "0", "" }, 400 },
	{ { "0", "00" }, 400 },
	{ { "00", "0" }, 400 },
	{ { "1", "1f" }, 400 },
	{ { "1f", "1" }, 400 },
	{ { "ffffffffffffffff", "ffffffffffffffff" }, 400 },
	{ { "ffffffffffffffff", "" }, 400 },
};

static void
write_order(struct buf *out, size_t n, const char *value)
{
	assert_int_equal(buf_append_text(out, "{"), 0);
	for (size_t i = 0; i < 4 && orders[n].names[i] != NULL; i++)
		assert_int_equal(
		    buf_printf(out, "%s\"%s\":%s", i > 0 ? "," : "",
			orders[n].names[i], value),
		    0);
	assert_int_equal(buf_append_text(out, "}"), 0);
}

static void
test_nodes(void **state)
{
	/* Digests of 16 children, which are none of a deepest node. */
	static const char digests[] =
	    "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
	    "ISIjJCUmJygpKissLS4v\"";
	static const struct {
		const char *type, *before, *value, *after;
	} uses[] = {
		{ "bucket", "\"apps\":{\"1\":", "\"\"", "}" },
		{ "bucket", "\"apps\":{\"1\":{\"\":\"\"},\"2\":", "\"\"", "}" },
		{ "bucket", "\"apps\":{\"7\":", "\"AAAA\"", "}" },
		{ "bucket", "\"chosen\":true,\"apps\":{\"1\":", "\"\"", "}" },
		{ "bucket", "\"stale\":true,\"apps\":{\"1\":", "\"\"", "}" },
		{ "bucket",
		    "\"after_app\":1,\"after\":\"0123456789abcdef\","
		    "\"apps\":{\"1\":",
		    "\"\"", "}" },
		{ "digest", "\"apps\":", "{}", "" },
		{ "digest", "\"trees\":{\"0\":", digests, "}" },
		{ "digest", "\"trees\":{\"1\":", digests, "}" },
	};
	struct pair *p = pair_with_records();
	struct buf out;

	(void)state;
	for (size_t u = 0; u < sizeof(uses) / sizeof(uses[0]); u++) {
		for (size_t n = 0; n < sizeof(orders) / sizeof(orders[0]);
		     n++) {
			buf_init(&out, 4096);
			assert_int_equal(
			    buf_append_text(&out, uses[u].before), 0);
			write_order(&out, n, uses[u].value);
			assert_int_equal(buf_append(&out, uses[u].after,
					     strlen(uses[u].after) + 1),
			    0);
			if (uses[u].value != digests ||
			    strstr((const char *)out.data,
				"fffffffffffffff\"") == NULL)
				assert_int_equal(ask(p, uses[u].type,
						     (const char *)out.data),
				    orders[n].status);
			buf_free(&out);
		}
	}
	pair_free(p);
}

static void
test_apps(void **state)
{
	static const struct {
		const char *ids[3];
		unsigned int status;
	} apps[] = {
		{ { "1", "2", "3" }, 200 },
		{ { "2", "10", "9223372036854775807" }, 200 },
		{ { "1", "1" }, 400 },
		{ { "2", "1" }, 400 },
		{ { "1", "2", "1" }, 400 },
		{ { "10", "2" }, 400 },
		{ { "9223372036854775807", "9223372036854775807" }, 400 },
	};
	static const char *const before[] = { "\"apps\":", "\"trees\":" };
	static const char *const types[] = { "bucket", "digest" };
	struct pair *p = pair_with_records();
	struct buf out;

	(void)state;
	for (size_t n = 0; n < 2 * sizeof(apps) / sizeof(apps[0]); n++) {
		buf_init(&out, 4096);
		assert_int_equal(buf_printf(&out, "%s{%s", before[n % 2],
				     n % 2 > 0 ? "\"0\":{}," : ""),
		    0);
		for (size_t i = 0; i < 3 && apps[n / 2].ids[i] != NULL; i++)
			assert_int_equal(
			    buf_printf(&out, "%s\"%s\":{}", i > 0 ? "," : "",
				apps[n / 2].ids[i]),
			    0);
		assert_int_equal(buf_append_text(&out, "}"), 0);
		assert_int_equal(buf_append(&out, "", 1), 0);
		assert_int_equal(ask(p, types[n % 2], (const char *)out.data),
		    apps[n / 2].status);
		buf_free(&out);
	}
	assert_int_equal(
	    ask(p, "digest", "\"trees\":{\"1\":{},\"0\":{}}"), 400);
	assert_int_equal(
	    ask(p, "digest", "\"trees\":{\"0\":{},\"0\":{}}"), 400);
	assert_int_equal(ask(p, "bucket", "\"apps\":{\"0\":{}}"), 400);
	pair_free(p);
}

/* In the node where it lies, and once: in any order, which is that of the
 * hashes. */
static void
test_listed_apps(void **state)
{
	struct pair *p = pair_with_records();
	unsigned int taken = 0;
	char text[100];

	(void)state;
	for (unsigned int i = 0; i < 16; i++) {
		(void)snprintf(text, sizeof(text),
		    "\"apps\":{\"%x\":{\"7\":\"AAAA\"}}", i);
		taken += ask(p, "digest", text) == 200;
	}
	assert_int_equal(taken, 1);
#define LISTED(apps) ask(p, "digest", "\"apps\":{\"\":{" apps "}}")
	assert_int_equal(LISTED("\"1\":\"AAAA\",\"2\":\"AAAA\""), 200);
	assert_int_equal(LISTED("\"2\":\"AAAA\",\"1\":\"AAAA\""), 200);
	assert_int_equal(LISTED("\"1\":\"AAAA\",\"1\":\"AAAA\""), 400);
	assert_int_equal(
	    LISTED("\"8\":\"AAAA\",\"1\":\"AAAA\",\"8\":\"AAAA\""), 400);
#undef LISTED
	pair_free(p);
}

/* ---- what our nodes send ------------------------------------------------- */

static void
put(struct pair *p, unsigned int i, uint64_t app, unsigned int n)
{
	char key[16], value[1001];

	(void)snprintf(key, sizeof(key), "k%u", n);
	memset(value, (int)('a' + (n + i) % 20), sizeof(value) - 1);
	value[app == LARGE ? sizeof(value) - 1 : 10] = '\0';
	assert_int_equal(
	    rig_put(p->node[i].store, app, key, value, 0, p->ms + 100 * i), 0);
}

/* Apps and records that one has, that both have, and that both have in
 * versions of their own: until they are level, in several pages and with
 * versions chosen, nothing is refused. */
static void
test_ours(void **state)
{
	struct pair *p = pair_new();

	(void)state;
	for (unsigned int app = 1; app <= APPS; app++)
		put(p, app % 2, app, 0);
	for (unsigned int n = 1; n < 8000; n++) {
		if (n % 4 != 0)
			put(p, 0, LARGE, n);
		if (n % 4 == 0 || n % 40 == 1)
			put(p, 1, LARGE, n);
	}
	pair_meet(p);
	pass(p, 60000);
	for (uint64_t app = 1; app <= APPS; app++)
		assert_int_equal(store_app_records(p->node[0].store, app),
		    store_app_records(p->node[1].store, app));
	assert_int_equal(store_app_records(p->node[0].store, LARGE), 8000);
	print_message("%u with digests, %u with apps, %u with leaves, "
		      "%u further pages, %u with chosen ones\n",
	    p->digests, p->lists, p->leaves, p->pages, p->chosen);
	assert_true(p->digests > 0 && p->lists > 0 && p->leaves > 1);
	assert_true(p->pages > 0 && p->chosen > 0);
	pair_free(p);
}

/* Chosen ones are asked for in the order in which they were named. */
static void
test_rivals(void **state)
{
	static const struct {
		const char *rivals;
		bool taken;
	} answers[] = {
#define X "\"AAAAAAAAAAA=\""
		{ "{\"1\":{\"0\":" X ",\"1\":" X "}}", true },
		{ "{\"1\":{\"0\":" X "},\"2\":{\"0\":" X "}}", true },
		{ "{\"1\":{\"0\":" X ",\"0\":" X "}}", false },
		{ "{\"1\":{\"1\":" X ",\"0\":" X "}}", false },
		{ "{\"1\":{\"\":" X ",\"0\":" X "}}", false },
		{ "{\"2\":{\"0\":" X "},\"1\":{\"0\":" X "}}", false },
		{ "{\"1\":{\"0\":" X "},\"1\":{\"1\":" X "}}", false },
#undef X
	};

	(void)state;
	for (size_t n = 0; n < sizeof(answers) / sizeof(answers[0]); n++) {
		struct pair *p = pair_new();

		p->rivals = answers[n].rivals;
		put(p, 0, 1, 0);
		put(p, 0, 2, 0);
		pair_meet(p);
		pass(p, 5000);
		assert_true(p->leaves > 0);
		assert_int_equal(p->chosen > 0, answers[n].taken);
		pair_free(p);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_apps),
		cmocka_unit_test(test_listed_apps),
		cmocka_unit_test(test_ours),
		cmocka_unit_test(test_rivals),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
