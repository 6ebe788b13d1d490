/*
 * Requests over an identity whose operations end later, as those of a
 * platform's service do: what is cancelled, lost or freed meanwhile.
 */
#include "regress/unit/keeper_core.h"

#define WAITING_MAX 16

/* An operation that waits to be told how it ends. */
struct waiting {
	identity_done_fn done;
	void *arg;
	int error;
	uint8_t *out; /* what the inner identity made of it */
	size_t len;
};

struct slow {
	struct identity head;
	struct identity *inner;
	struct agreement *agreement; /* there is one client */
	struct waiting waiting[WAITING_MAX];
	size_t count;
	bool freed;
};

static struct slow slow;

static void
keep(void *arg, int error, const uint8_t *out, size_t len)
{
	struct waiting *w = arg;

	w->error = error;
	w->len = len;
	w->out = malloc(len + 1);
	assert_non_null(w->out);
	if (len > 0)
		memcpy(w->out, out, len);
}

static struct waiting *
add(identity_done_fn done, void *arg)
{
	struct waiting *w = &slow.waiting[slow.count++];

	assert_true(slow.count <= WAITING_MAX);
	w->done = done;
	w->arg = arg;
	return w;
}

static void
slow_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg)
{
	(void)identity;
	identity_sign(slow.inner, message, len, keep, add(done, arg));
}

static void
slow_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	(void)identity;
	(void)agreement;
	identity_open(slow.inner, &slow.agreement, other, nonce, sealed, len,
	    keep, add(done, arg));
}

static void
slow_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	(void)identity;
	(void)agreement;
	identity_seal(slow.inner, &slow.agreement, other, plaintext, len, keep,
	    add(done, arg));
}

static void
slow_sign_transaction(struct identity *identity,
    const struct transaction *transaction, identity_done_fn done, void *arg)
{
	(void)identity;
	identity_sign_transaction(
	    slow.inner, transaction, keep, add(done, arg));
}

/* The oldest one ends, with an error of ours or as it did. */
static void
let_go(int error)
{
	struct waiting w = slow.waiting[0];

	assert_true(slow.count > 0);
	memmove(&slow.waiting[0], &slow.waiting[1],
	    --slow.count * sizeof(slow.waiting[0]));
	if (w.error == 0)
		w.error = error;
	w.done(w.arg, w.error, w.out, w.error == 0 ? w.len : 0);
	free(w.out);
}

static void
slow_free(struct identity *identity)
{
	(void)identity;
	for (size_t i = 0; i < slow.count; i++)
		free(slow.waiting[i].out);
	identity_forget(slow.inner, &slow.agreement);
	identity_free(slow.inner);
	slow.freed = true;
}

static const struct identity_ops slow_ops = {
	.sign = slow_sign,
	.open = slow_open,
	.seal = slow_seal,
	.sign_transaction = slow_sign_transaction,
	.free = slow_free,
};

static int
begin_slow(void **state)
{
	(void)state;
	rig_init(&rig);
	client_init(&client, &rig, 1);
	(void)rig_add_instance(
	    &rig, APP, &client.wallet, p384_key_point(client.tee));
	memset(&reply, 0, sizeof(reply));
	memset(metrics, 0, sizeof(metrics));
	memset(&slow, 0, sizeof(slow));
	handle = 0;
	credited = 0;
	slow.head = *rig.identity;
	slow.head.ops = &slow_ops;
	slow.inner = rig.identity;
	rig.identity = &slow.head;
	if (make_keeper() != 0)
		return -1;
	run(1000);
	let_go(0); /* the transaction */
	run(1000);
	set_hash();
	run(2000);
	return readiness_master(k->readiness) == NULL;
}

static int
end_slow(void **state)
{
	int error = end(state);

	return error != 0 || !slow.freed;
}

/* A request that is on its way to being opened. */
static void
start(const char *key)
{
	char body[128];

	(void)snprintf(
	    body, sizeof(body), "{\"key\":\"%s\",\"value\":\"dg==\"}", key);
	make(METHOD_PUT, "/kms/data", body, true);
	send_it();
	rig_pump(&rig);
	assert_int_equal(reply.calls, 0);
	assert_int_equal(slow.count, 1);
}

static size_t
keys(void)
{
	return store_stats(k->store).live_keys;
}

static void
step_by_step(void **state)
{
	json_t *object;

	(void)state;
	start("a");
	assert_int_equal(keys(), 0);
	let_go(0); /* opened */
	assert_int_equal(keys(), 1);
	let_go(0); /* sealed */
	let_go(0); /* signed */
	assert_int_equal(reply.calls, 0);
	let_go(0); /* signed, v2 */
	object = open_reply(true);
	member_is(object, "key", "a");
	json_decref(object);
	assert_int_equal(slow.count, 0);
}

/* Wherever it stands: its handle may be another's at once, and nothing comes
 * of it any more. */
static void
cancelled(void **state)
{
	json_t *object;

	(void)state;
	for (int steps = 0; steps < 4; steps++) {
		start("b");
		for (int i = 0; i < steps; i++)
			let_go(0);
		request_cancel(k->requests, handle);
		assert_int_equal(requests_count(k->requests), 1);
		handle--;
		make(METHOD_GET, "/kms/data", NULL, true);
		send_it();
		rig_pump(&rig);
		assert_int_equal(slow.count, 2);
		let_go(0); /* of the one that was cancelled: its last */
		assert_int_equal(requests_count(k->requests), 1);
		assert_int_equal(slow.count, 1);
		let_go(0); /* sealed */
		let_go(0);
		let_go(0);
		object = open_reply(true);
		assert_int_equal(
		    json_integer_value(json_object_get(object, "count")),
		    steps == 0 ? 0 : 1);
		json_decref(object);
	}
}

static unsigned int puts_told, heads_told;

static int
note_line(void *arg, const struct audit_line *line)
{
	(void)arg;
	heads_told += line->head;
	puts_told +=
	    memmem(line->text, line->len, "\"kind\":\"put\"", 12) != NULL;
	return 0;
}

static void
open_trail(void)
{
	static const uint8_t nothing[SHA256_LEN];

	audit_free(k->audit);
	k->audit = audit_new(note_line, NULL, k->identity);
	assert_non_null(k->audit);
	keeper_audit_open(k, 0, nothing);
	puts_told = heads_told = 0;
}

/* What was done stands in the trail, though its caller has gone. */
static void
cancelled_in_the_trail(void **state)
{
	(void)state;
	open_trail();
	for (unsigned int steps = 0; steps < 4; steps++) {
		puts_told = 0;
		start("b");
		for (unsigned int i = 0; i < steps; i++)
			let_go(0);
		request_cancel(k->requests, handle);
		let_go(0);
		assert_int_equal(requests_count(k->requests), 0);
		/* Nothing is done before it is opened. */
		assert_int_equal(puts_told, steps == 0 ? 0 : 1);
	}
}

/* The line that is being signed turns out to be none of the file's. */
static void
lost_while_signed(void **state)
{
	static const uint8_t head[SHA256_LEN] = { 1 };

	(void)state;
	open_trail();
	audit_sign(k->audit, rig.now);
	assert_int_equal(slow.count, 1);
	keeper_audit_open(k, 1, head);
	let_go(0);
	assert_int_equal(heads_told, 0);
	audit_sign(k->audit, rig.now);
	let_go(0);
	assert_int_equal(heads_told, 1);
}

static void
all_cancelled(void **state)
{
	(void)state;
	start("c");
	requests_cancel_all(k->requests);
	assert_int_equal(requests_count(k->requests), 1);
	let_go(KMS_ECLOSED);
	assert_int_equal(requests_count(k->requests), 0);
	assert_int_equal(reply.calls, 0);
}

static void
fails_at(int step, const char *text, bool is_signed)
{
	start("d");
	for (int i = 0; i < step; i++)
		let_go(0);
	let_go(KMS_EUNAVAIL);
	if (!is_signed) {
		unsigned_error(503, text);
		return;
	}
	let_go(0);
	let_go(0);
	signed_error(503, text, true);
}

static void
service_fails(void **state)
{
	(void)state;
	fails_at(0, "cannot be opened", true);
	fails_at(1, "cannot be sealed", true);
	fails_at(2, "cannot sign", false);
	fails_at(3, "cannot sign", false);
	assert_int_equal(requests_count(k->requests), 0);
	start("e");
	let_go(KMS_EAUTH);
	let_go(0);
	let_go(0);
	signed_error(400, "does not decrypt", true);
}

/* The registry changes its mind while the envelope is being opened. */
static void
refused_meanwhile(void **state)
{
	(void)state;
	start("f");
	rig_instance(&rig, &client.wallet)->zk_verified = false;
	rig_pass(&rig, (int64_t)rig.config.registry_cache_ttl + 1000);
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	rig_pump(&rig);
	assert_int_equal(slow.count, 2);
	let_go(0);
	assert_int_equal(keys(), 0);
	/* Each is signed twice. */
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(slow.count, i < 3 ? 2 : 1);
		let_go(0);
		assert_int_equal(reply.calls, i < 2 ? 0 : i - 1);
	}
	assert_int_equal(reply.status, 403);
}

/* Not ready while the identity has a problem; at once again without it. */
static void
problem(void **state)
{
	const struct readiness_view *view;

	(void)state;
	start("g");
	slow.head.problem = "the service is gone";
	assert_null(readiness_master(k->readiness));
	run(100);
	view = readiness_view(k->readiness);
	assert_false(view->ready);
	assert_string_equal(view->reason, "the service is gone");
	let_go(0); /* opened, but too late */
	assert_int_equal(keys(), 0);
	let_go(KMS_EUNAVAIL);
	unsigned_error(503, "cannot sign");
	slow.head.problem = NULL;
	run(100);
	assert_true(readiness_view(k->readiness)->ready);
	assert_string_equal(readiness_view(k->readiness)->reason, "");
	assert_non_null(readiness_master(k->readiness));
}

/* The keeper goes with a request under way and another cancelled. */
static void
freed(void **state)
{
	(void)state;
	start("h");
	request_cancel(k->requests, handle);
	make(METHOD_GET, "/kms/data", NULL, true);
	send_it();
	rig_pump(&rig);
	assert_int_equal(requests_count(k->requests), 2);
}

/* Made before the keys were known: a core that serves nobody. */
static void
renewed(void **state)
{
	struct eth_address wallet = slow.head.wallet;

	(void)state;
	slow.head.known = false;
	slow.head.problem = "not reachable";
	memset(&slow.head.wallet, 0, sizeof(slow.head.wallet));
	assert_int_equal(keeper_renew(&k), 0);
	rig.registry = k->registry;
	rig.queued = 0;
	readiness_kick(k->readiness);
	run(10000);
	assert_int_equal(rig.queued, 0);
	assert_string_equal(
	    readiness_view(k->readiness)->reason, "not reachable");
	slow.head.wallet = wallet;
	slow.head.known = true;
	slow.head.problem = NULL;
	/* Nothing may be under way when it goes. */
	assert_int_equal(
	    sync_request_begin(k->syncs, ++handle, &(struct sync_head){ 0 }),
	    0);
	unsigned_error(503, "keys");
	assert_int_equal(keeper_renew(&k), 0);
	rig.registry = k->registry;
	readiness_kick(k->readiness);
	run(2000);
	assert_true(readiness_view(k->readiness)->is_operator);
}

int
main(void)
{
#define SLOW(test) cmocka_unit_test_setup_teardown(test, begin_slow, end_slow)
	const struct CMUnitTest tests[] = {
		SLOW(step_by_step),
		SLOW(cancelled),
		SLOW(cancelled_in_the_trail),
		SLOW(lost_while_signed),
		SLOW(all_cancelled),
		SLOW(service_fails),
		SLOW(refused_meanwhile),
		SLOW(problem),
		SLOW(freed),
		SLOW(renewed),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
