#include "regress/unit/keeper_rig.h"

#include "kms-keeper/counterpart.h"

#define REPLAY_TEST_MAX 1000

static struct rig rig;
static struct counterparts *cs;
static struct p384_point keys[2];

struct wait {
	struct counterpart_waiter waiter;
	unsigned int calls;
	int error;
	struct counterpart *unpin; /* a request that ends in its callback */
};

static void
on_ready(struct counterpart_waiter *waiter, int error)
{
	struct wait *wait = (struct wait *)(void *)waiter;

	wait->calls++;
	wait->error = error;
	if (wait->unpin != NULL)
		counterpart_unpin(wait->unpin);
}

static struct counterparts *
make(uint64_t app_rate)
{
	struct counterparts_config config = {
		.ttl_ms = 180000,
		.max_head_age_ms = 120000,
		.app_rate = app_rate,
		.replay_max = REPLAY_TEST_MAX,
		.hash_key = { 1 },
	};

	return counterparts_new(&config, rig.registry, rig.identity);
}

static int
begin(void **state)
{
	(void)state;
	rig_init(&rig);
	rig.registry = registry_new(rig_ask, &rig);
	cs = make(0);
	for (uint8_t i = 0; i < 2; i++) {
		const uint8_t scalar[P384_SCALAR_LEN] = { 9, i };
		struct p384_key *key;

		assert_int_equal(p384_key_new(scalar, &key), 0);
		keys[i] = *p384_key_point(key);
		p384_key_free(key);
	}
	return cs == NULL;
}

static int
end(void **state)
{
	(void)state;
	counterparts_free(cs);
	registry_free(rig.registry);
	identity_free(rig.identity);
	return 0;
}

static void
pass(int64_t ms)
{
	rig_pass(&rig, ms);
	counterparts_set_time(cs, rig.now);
	registry_tick(rig.registry, rig.now);
}

static struct eth_address
wallet(unsigned int n)
{
	struct eth_address address = { { 0 } };

	address.bytes[0] = 0xee;
	address.bytes[18] = (uint8_t)(n >> 8);
	address.bytes[19] = (uint8_t)n;
	return address;
}

static struct counterpart *
pin(unsigned int n)
{
	struct eth_address address = wallet(n);
	struct counterpart *c = counterpart_pin(cs, &address, rig.now);

	assert_non_null(c);
	return c;
}

static int
authorise(struct counterpart *c, struct wait *wait)
{
	*wait = (struct wait){ .waiter.ready = on_ready };
	return counterpart_authorise(c, &wait->waiter, rig.now);
}

static struct instance_facts *
register_app(unsigned int n)
{
	struct eth_address address = wallet(n);

	return rig_add_instance(&rig, 100 + n, &address, &keys[0]);
}

static struct counterpart *
authorised(unsigned int n)
{
	struct counterpart *c;
	struct wait wait;

	(void)register_app(n);
	c = pin(n);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.calls, 1);
	assert_int_equal(wait.error, 0);
	assert_int_equal(c->verdict, COUNTERPART_AUTHORISED);
	return c;
}

static void
one_lookup_for_all(void **state)
{
	static struct wait waits[COUNTERPART_WAITING_MAX + 1];
	struct counterpart *c = pin(1);

	(void)state;
	(void)register_app(1);
	for (int i = 0; i < COUNTERPART_WAITING_MAX; i++)
		assert_int_equal(authorise(c, &waits[i]), KMS_EAGAIN);
	assert_int_equal(
	    authorise(c, &waits[COUNTERPART_WAITING_MAX]), KMS_EBUSY);
	assert_int_equal(rig.queued, 1);
	/* One gives up; it is not called, and its place is free. */
	counterpart_cancel(c, &waits[3].waiter);
	counterpart_cancel(c, &waits[3].waiter);
	assert_int_equal(
	    authorise(c, &waits[COUNTERPART_WAITING_MAX]), KMS_EAGAIN);
	rig_pump(&rig);
	for (int i = 0; i <= COUNTERPART_WAITING_MAX; i++)
		assert_int_equal(waits[i].calls, i != 3);
	assert_int_equal(authorise(c, &waits[0]), 0);
	assert_int_equal(c->app_id, 101);
	assert_true(p384_point_equal(&c->point, &keys[0]));
	counterpart_unpin(c);
}

static void
refusals_are_short(void **state)
{
	struct counterpart *c = pin(1);
	struct wait wait;

	(void)state;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	assert_int_equal(c->verdict, COUNTERPART_REFUSED);
	assert_non_null(c->refusal);
	pass(COUNTERPART_REFUSED_TTL_MS - 1);
	assert_int_equal(authorise(c, &wait), 0);
	assert_int_equal(rig.asked[REGISTRY_INSTANCE], 1);
	(void)register_app(1);
	pass(1);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(c->verdict, COUNTERPART_AUTHORISED);
	counterpart_unpin(c);
}

/* A hot caller never waits while its refresh stalls, and does not pass on a
 * verdict that ran out. */
static void
background_refresh(void **state)
{
	struct counterpart *c = authorised(1);
	struct wait wait;
	int64_t fetched = rig.now.boot_ms;

	(void)state;
	pass(80000);
	assert_int_equal(authorise(c, &wait), 0);
	assert_int_equal(rig.asked[REGISTRY_INSTANCE], 1);
	rig.stall = ~0U;
	while (rig.now.boot_ms - fetched < 179000) {
		pass(1000);
		assert_int_equal(authorise(c, &wait), 0);
	}
	/* Timed out and asked again, but never two at once. */
	assert_true(rig.asked[REGISTRY_INSTANCE] > 3);
	assert_true(rig.asked[REGISTRY_INSTANCE] < 12);
	pass(1000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	pass(REGISTRY_TIMEOUT_MS);
	assert_int_equal(wait.calls, 1);
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	rig.queued = 0;
	rig.stall = 0;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	counterpart_unpin(c);
}

static void
refreshed_in_time(void **state)
{
	struct counterpart *c = authorised(1);
	struct wait wait;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		pass(1000);
		assert_int_equal(authorise(c, &wait), 0);
		rig_pump(&rig);
	}
	assert_in_range(rig.asked[REGISTRY_INSTANCE], 9, 13);
	/* Revoked: the refresh shows it. */
	rig.instances[1].app_status = 2;
	for (int i = 0; i < 92 && c->verdict != COUNTERPART_REFUSED; i++) {
		pass(1000);
		assert_int_equal(authorise(c, &wait), 0);
		rig_pump(&rig);
	}
	assert_int_equal(c->verdict, COUNTERPART_REFUSED);
	counterpart_unpin(c);
}

static void
failures(void **state)
{
	struct counterpart *c = pin(1);
	struct wait wait;

	(void)state;
	(void)register_app(1);
	rig.down = true;
	assert_int_equal(authorise(c, &wait), KMS_EUNAVAIL);
	assert_false(wait.waiter.waiting);
	rig.down = false;
	rig.fail = ~0U;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	assert_int_equal(c->verdict, COUNTERPART_UNKNOWN);
	/* Facts of a stale head authorise nobody. */
	rig.fail = 0;
	rig.head_age_s = 121;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	assert_int_equal(c->verdict, COUNTERPART_UNKNOWN);
	rig.head_age_s = 0;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	/* Nor do those of a head far below. */
	rig.head -= 65;
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	counterpart_unpin(c);
}

/* A waiter whose request ends while it is called. */
static void
ends_in_callback(void **state)
{
	struct wait first = { .waiter.ready = on_ready };
	struct wait second = first;

	(void)state;
	first.unpin = pin(1);
	second.unpin = pin(1);
	assert_ptr_equal(first.unpin, second.unpin);
	assert_int_equal(
	    counterpart_authorise(first.unpin, &first.waiter, rig.now),
	    KMS_EAGAIN);
	assert_int_equal(
	    counterpart_authorise(first.unpin, &second.waiter, rig.now),
	    KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(first.calls + second.calls, 2);
	assert_int_equal(first.unpin->pins, 0);
}

static void
ignore(void *arg, int error, const uint8_t *out, size_t len)
{
	(void)arg;
	(void)error;
	(void)out;
	(void)len;
}

static void
key_change(void **state)
{
	static const uint8_t nonce[12], sealed[16];
	struct counterpart *c = authorised(1);
	struct wait wait;

	(void)state;
	identity_open(rig.identity, &c->agreement, &c->point, nonce, sealed,
	    sizeof(sealed), ignore, NULL);
	assert_non_null(c->agreement);
	/* The same key again keeps it: one P-384 agreement a counterpart. */
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_non_null(c->agreement);
	p384_public_spki(&keys[1], rig.instances[1].pubkey);
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_null(c->agreement);
	assert_true(p384_point_equal(&c->point, &keys[1]));
	counterpart_unpin(c);
}

/* However many strangers come, those in use stay. */
static void
strangers(void **state)
{
	static const uint8_t nonce[12] = { 1 };
	struct counterpart *hot = authorised(1), *busy = pin(2), *c;
	struct wait wait;

	(void)state;
	assert_int_equal(counterpart_remember(hot, nonce, rig.now), 0);
	counterpart_unpin(hot); /* not even pinned */
	for (unsigned int n = 10; n < 10000; n++) {
		c = pin(n);
		assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
		rig_pump(&rig);
		assert_int_equal(c->verdict, COUNTERPART_REFUSED);
		counterpart_unpin(c);
	}
	assert_int_equal(counterparts_count(cs), COUNTERPARTS_REFUSED_MAX + 1);
	assert_ptr_equal(pin(1), hot);
	assert_int_equal(authorise(hot, &wait), 0);
	assert_int_equal(
	    counterpart_remember(hot, nonce, rig.now), KMS_EREPLAY);
	assert_ptr_equal(pin(2), busy);
	counterpart_unpin(hot);
	counterpart_unpin(busy);
	counterpart_unpin(busy);
}

static void
unpin_all(unsigned int n)
{
	struct counterpart *c = pin(n);

	while (c->pins > 0)
		counterpart_unpin(c);
}

/* A share that is full of requests under way takes no more. */
static void
full_of_pins(void **state)
{
	struct eth_address one_more = wallet(60000);

	(void)state;
	for (unsigned int n = 0; n < COUNTERPARTS_REFUSED_MAX; n++)
		(void)pin(n);
	assert_null(counterpart_pin(cs, &one_more, rig.now));
	/* One ends: its place is free. */
	counterpart_unpin(pin(7));
	counterpart_unpin(pin(7));
	assert_null(counterpart_pin(cs, &one_more, rig.now));
	unpin_all(7);
	assert_non_null(counterpart_pin(cs, &one_more, rig.now));
}

/* Look-ups of strangers leave room for those the registry knows. */
static void
lookups_under_way(void **state)
{
	struct counterpart *known = authorised(1);
	static struct wait waits[COUNTERPART_LOOKUPS_MAX];
	struct wait wait;
	unsigned int n = 0;

	(void)state;
	rig.stall = ~0U;
	pass(180000);
	while (authorise(pin(100 + n), &waits[n]) == KMS_EAGAIN)
		n++;
	assert_in_range(
	    n, COUNTERPART_LOOKUPS_MAX / 2, COUNTERPART_LOOKUPS_MAX - 1);
	assert_int_equal(authorise(known, &wait), KMS_EAGAIN);
	registry_lost(rig.registry);
	rig.queued = 0;
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(waits[i].error, KMS_EUNAVAIL);
	rig.stall = 0;
	assert_int_equal(authorise(known, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
}

static void
remember(struct counterpart *c, unsigned int n, int expected)
{
	uint8_t nonce[AEAD_NONCE_LEN] = { 0 };

	memcpy(nonce, &n, sizeof(n));
	assert_int_equal(counterpart_remember(c, nonce, rig.now), expected);
}

/* All windows together are bounded, and idle ones are swept. */
static void
replay_memory_is_bounded(void **state)
{
	struct counterpart *a = pin(1), *b = pin(2);

	(void)state;
	for (unsigned int n = 0; n < REPLAY_TEST_MAX - 1; n++)
		remember(a, n, 0);
	remember(b, 0, 0);
	assert_int_equal(counterparts_replay_count(cs), REPLAY_TEST_MAX);
	remember(b, 1, KMS_EBUSY);
	remember(a, REPLAY_TEST_MAX, KMS_EBUSY);
	/* Known or not, it is refused. */
	remember(a, 1, KMS_EBUSY);
	counterpart_unpin(a);
	counterpart_unpin(b);
	/* Nobody uses them; the sweep makes room for others. */
	rig_pass(&rig, COUNTERPART_REPLAY_REACH_MS - 1000);
	counterparts_tick(cs, rig.now);
	assert_int_equal(counterparts_replay_count(cs), REPLAY_TEST_MAX);
	rig_pass(&rig, 2000);
	counterparts_tick(cs, rig.now);
	assert_int_equal(counterparts_replay_count(cs), REPLAY_TEST_MAX);
	rig_pass(&rig, COUNTERPARTS_TICK_MS);
	counterparts_tick(cs, rig.now);
	assert_int_equal(counterparts_replay_count(cs), 0);
	remember(pin(3), 1, 0);
	remember(pin(3), 1, KMS_EREPLAY);
	/* Own entries that ran out make room without a sweep. */
	for (unsigned int n = 2; n <= REPLAY_TEST_MAX; n++)
		remember(pin(3), n, 0);
	rig_pass(&rig, COUNTERPART_REPLAY_REACH_MS + 1000);
	remember(pin(3), 1, 0);
	assert_int_equal(counterparts_replay_count(cs), 1);
}

/* What is dropped does not count any more. */
static void
dropped_windows_do_not_count(void **state)
{
	(void)state;
	remember(pin(1), 1, 0);
	unpin_all(1);
	for (unsigned int n = 10; n < 10 + COUNTERPARTS_REFUSED_MAX; n++)
		counterpart_unpin(pin(n));
	assert_int_equal(counterparts_replay_count(cs), 0);
}

/* An endpoint whose head is not believed: another is asked at once. */
static void
failover(void **state)
{
	struct counterpart *c = pin(1);
	struct wait wait;

	(void)state;
	assert_int_equal(registry_set_quorum(rig.registry, 1, 3), 0);
	(void)register_app(1);
	rig.frozen = 1U << 0;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	assert_int_equal(c->verdict, COUNTERPART_AUTHORISED);
	assert_non_null(strstr(rig_logged, "rpc-url 1 is not believed"));
	/* One that names a head out of this world, and then another. */
	rig.frozen = 0;
	rig.ahead = 1U << 0;
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	rig.ahead = 0;
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	/* None that is good: an end all the same. */
	rig.frozen = 7;
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.calls, 1);
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	assert_int_equal(rig.queued, 0);
	counterpart_unpin(c);
}

static void
quorum(void **state)
{
	struct counterpart *c = pin(1);
	struct wait wait;

	(void)state;
	assert_int_equal(registry_set_quorum(rig.registry, 2, 3), 0);
	(void)register_app(1);
	rig.lies = 1U << 1;
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, 0);
	assert_int_equal(c->verdict, COUNTERPART_AUTHORISED);
	assert_int_equal(c->app_id, 101);
	/* The lie alone is no verdict. */
	rig.frozen = 1U << 0;
	pass(180000);
	assert_int_equal(authorise(c, &wait), KMS_EAGAIN);
	rig_pump(&rig);
	assert_int_equal(wait.error, KMS_EUNAVAIL);
	assert_int_equal(c->verdict, COUNTERPART_AUTHORISED);
	counterpart_unpin(c);
}

static void
app_rate(void **state)
{
	struct counterpart *c = pin(1);
	unsigned int retry;

	(void)state;
	for (int i = 0; i < 1000; i++)
		assert_true(counterpart_take_token(c, rig.now, &retry));
	counterpart_unpin(c);
	counterparts_free(cs);
	cs = make(60);
	c = pin(1);
	for (int i = 0; i < 60; i++)
		assert_true(counterpart_take_token(c, rig.now, &retry));
	assert_false(counterpart_take_token(c, rig.now, &retry));
	assert_in_range(retry, 1, 2);
	pass(999);
	assert_false(counterpart_take_token(c, rig.now, &retry));
	pass(2);
	assert_true(counterpart_take_token(c, rig.now, &retry));
	assert_false(counterpart_take_token(c, rig.now, &retry));
	/* Another wallet has its own. */
	assert_true(counterpart_take_token(pin(2), rig.now, &retry));
	pass(3600000);
	for (int i = 0; i < 60; i++)
		assert_true(counterpart_take_token(c, rig.now, &retry));
	assert_false(counterpart_take_token(c, rig.now, &retry));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_lookup_for_all),
		TEST(refusals_are_short),
		TEST(background_refresh),
		TEST(refreshed_in_time),
		TEST(failures),
		TEST(ends_in_callback),
		TEST(key_change),
		TEST(strangers),
		TEST(full_of_pins),
		TEST(lookups_under_way),
		TEST(replay_memory_is_bounded),
		TEST(dropped_windows_do_not_count),
		TEST(failover),
		TEST(quorum),
		TEST(app_rate),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
