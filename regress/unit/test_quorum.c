/* What several endpoints agree on: votes, blocks at which they meet, silence,
 * dissent, bounds. Each endpoint's answers are made by hand. */
#include "regress/unit/keeper_rig.h"

#include "kms-keeper/quorum.h"
#include "kms-keeper/quorum_internal.h"

static struct rig rig;
static struct registry_answer made;

struct result {
	unsigned int calls;
	int error;
	unsigned int failure, endpoint;
	uint64_t block, head, app_id;
	uint8_t fact;
	char text[513];
	bool ask_again;
};

static unsigned int warnings;
static char warned[LOG_LINE_MAX];

static void
on_log(enum log_level level, const char *text, void *arg)
{
	(void)arg;
	if (level != LOG_LEVEL_WARN)
		return;
	warnings++;
	(void)snprintf(warned, sizeof(warned), "%s", text);
}

static void
use(unsigned int need, size_t endpoints)
{
	registry_free(rig.registry);
	memset(&rig, 0, sizeof(rig));
	rig.now = (struct kms_time){ RIG_WALL, RIG_BOOT };
	rig.registry = registry_new(rig_ask, &rig);
	assert_non_null(rig.registry);
	assert_int_equal(registry_set_quorum(rig.registry, need, endpoints), 0);
	warnings = 0;
	warned[0] = '\0';
	log_set_sink(on_log, NULL);
}

static int
begin(void **state)
{
	(void)state;
	use(2, 3);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	registry_free(rig.registry);
	rig.registry = NULL;
	log_set_sink(rig_log, NULL);
	return 0;
}

static void
pass(int64_t ms)
{
	for (; ms > 0; ms -= 100) {
		rig_pass(&rig, ms < 100 ? ms : 100);
		registry_tick(rig.registry, rig.now);
	}
}

static void ask(const struct registry_question *question, struct result *result,
    int expected);

static void
done(void *arg, int error, const struct registry_answer *answer)
{
	static const struct registry_question again = { .kind = REGISTRY_HASH,
		.endpoint = MSG_ENDPOINT_ANY };
	struct result *result = arg;

	result->calls++;
	result->error = error;
	result->failure = answer->failure;
	result->endpoint = answer->endpoint;
	result->block = answer->block;
	result->head = answer->head;
	result->fact = answer->hash.bytes[0];
	result->app_id = answer->instance.app_id;
	memcpy(result->text, answer->text, sizeof(result->text));
	if (result->ask_again) {
		result->ask_again = false;
		ask(&again, result, 0);
	}
}

static void
ask(const struct registry_question *question, struct result *result,
    int expected)
{
	assert_int_equal(
	    registry_ask(rig.registry, question, rig.now, done, result),
	    expected);
}

static const struct registry_question hash_question = {
	.kind = REGISTRY_HASH,
	.endpoint = MSG_ENDPOINT_ANY,
	.confirmations = 1,
};

/* Take the oldest question to that endpoint out of the queue. */
static struct rig_question
take(unsigned int endpoint)
{
	for (size_t i = 0; i < rig.queued; i++) {
		struct rig_question found = rig.queue[i];

		if (found.q.endpoint != endpoint)
			continue;
		memmove(&rig.queue[i], &rig.queue[i + 1],
		    (rig.queued - i - 1) * sizeof(rig.queue[0]));
		rig.queued--;
		return found;
	}
	fail_msg("endpoint %u was not asked", endpoint);
	return rig.queue[0];
}

/* It answers with its head (or at the block it was asked about) and a fact. */
static void
says(unsigned int endpoint, uint64_t block, uint8_t fact)
{
	struct rig_question question = take(endpoint);

	memset(&made, 0, sizeof(made));
	made.kind = question.q.kind;
	made.endpoint = endpoint;
	made.block = question.q.block != 0 ? question.q.block : block;
	made.block_time = 1700000000 + (int64_t)made.block;
	made.head = block + 7; /* each its own */
	made.head_time = 1700000000 + (int64_t)block + 7 + endpoint;
	made.hash.bytes[0] = fact;
	made.chain_id = RIG_CHAIN_ID;
	made.instance.found = true;
	made.instance.app_id = fact;
	made.member_count = 2;
	made.members[1].bytes[3] = fact;
	if (question.q.kind == REGISTRY_SEND && fact == 0)
		keccak256(question.raw, question.q.raw_len, made.hash.bytes);
	registry_answered(rig.registry, question.id, 0, &made);
}

static void
fails(unsigned int endpoint, unsigned int failure, const char *text)
{
	struct rig_question question = take(endpoint);

	memset(&made, 0, sizeof(made));
	made.failure = failure;
	(void)snprintf(made.text, sizeof(made.text), "%s", text);
	registry_answered(rig.registry, question.id, KMS_EUNAVAIL, &made);
}

static void
text_has(const struct result *result, const char *part)
{
	if (strstr(result->text, part) == NULL)
		fail_msg("no \"%s\" in \"%s\"", part, result->text);
}

static void
warned_of(const char *part, unsigned int count)
{
	if (warnings != count || (count > 0 && strstr(warned, part) == NULL))
		fail_msg("%u warnings, the last \"%s\"", warnings, warned);
}

static void
agreement(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	assert_int_equal(rig.queued, 3);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(rig.queue[i].q.endpoint, i);
		assert_int_equal(rig.queue[i].q.block, 0);
		assert_int_equal(rig.queue[i].q.confirmations, 1);
	}
	says(2, 100, 5);
	assert_int_equal(r.calls, 0);
	says(0, 100, 5);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.fact, 5);
	assert_int_equal(r.block, 100);
	/* Nobody vouches for freshness alone. */
	assert_int_equal(r.head, 100);
	assert_int_equal(r.endpoint, MSG_ENDPOINT_ANY);
	/* The silent one is nobody's concern any more. */
	pass(REGISTRY_TIMEOUT_MS + 1000);
	assert_int_equal(r.calls, 1);
	warned_of("", 0);
}

/* Every kind, every fact: what differs is no agreement. */
static void
one_lies(void **state)
{
	static const enum registry_kind kinds[] = { REGISTRY_HASH,
		REGISTRY_INSTANCE, REGISTRY_MEMBERS };
	static const char *const names[] = { "another masterSecretHash",
		"another instance", "another list of active instances" };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct registry_question question = hash_question;

		for (unsigned int liar = 0; liar < 3; liar++) {
			struct result r = { 0 };

			use(2, 3);
			question.kind = kinds[i];
			ask(&question, &r, 0);
			for (unsigned int e = 0; e < 3; e++)
				says(e, 100, e == liar ? 6 : 5);
			assert_int_equal(r.calls, 1);
			assert_int_equal(r.error, 0);
			assert_int_equal(r.fact, 5);
			assert_int_equal(r.app_id, 5);
			warned_of(names[i], 1);
			warned_of("at block 100; 2 others agree", 1);
		}
	}
}

static void
warns_once_a_minute(void **state)
{
	(void)state;
	for (int round = 0; round < 10; round++) {
		struct result r = { 0 };

		ask(&hash_question, &r, 0);
		says(0, 100, 5);
		says(1, 100, 5);
		says(2, 100, 6);
		assert_int_equal(r.calls, 1);
		warned_of("rpc-url 3 reports another", 1);
		pass(5000);
	}
	pass(10000);
	for (int round = 0; round < 2; round++) {
		struct result r = { 0 };

		ask(&hash_question, &r, 0);
		says(0, 100, 6);
		says(1, 100, 5);
		says(2, 100, 5);
	}
	warned_of("rpc-url 1 reports another", 2);
}

static void
nobody_agrees(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	says(0, 100, 5);
	says(1, 100, 6);
	assert_int_equal(r.calls, 0);
	says(2, 100, 7);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.error, KMS_EUNAVAIL);
	assert_int_not_equal(r.failure, CHAIN_ERROR_REFUSED);
	text_has(&r,
	    "rpc-quorum 2 is not reached: rpc-url 1 answers at block "
	    "100, rpc-url 2 reports another masterSecretHash or "
	    "kmsAppId at block 100, rpc-url 3 reports another");
	/* Three of four, and the text says who agrees. */
	use(3, 4);
	memset(&r, 0, sizeof(r));
	ask(&hash_question, &r, 0);
	says(0, 100, 5);
	fails(1, CHAIN_ERROR_TIMEOUT, "no answer in time");
	says(2, 100, 5);
	says(3, 100, 7);
	assert_int_equal(r.error, KMS_EUNAVAIL);
	assert_string_equal(r.text,
	    "rpc-quorum 3 is not reached: rpc-url 1 and 3 agree at block 100, "
	    "rpc-url 2: no answer in time, rpc-url 4 reports another "
	    "masterSecretHash or kmsAppId at block 100");
}

/* Heads differ: those ahead are asked again at the second highest. */
static void
meet_below(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	says(0, 102, 5);
	says(1, 100, 5);
	assert_int_equal(rig.queued, 1);
	says(2, 101, 5);
	assert_int_equal(rig.queued, 1);
	assert_int_equal(rig.queue[0].q.block, 101);
	assert_int_equal(rig.queue[0].q.endpoint, 0);
	says(0, 102, 5);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.block, 101);
	warned_of("", 0);
}

/* A finalized block that another names is as final for the one above it. */
static void
meet_at_a_finalized_block(void **state)
{
	struct registry_question question = hash_question;
	struct result r = { 0 };

	(void)state;
	question.finalized = true;
	ask(&question, &r, 0);
	says(0, 64, 5);
	says(1, 32, 5);
	says(2, 32, 4);
	assert_int_equal(rig.queue[0].q.block, 32);
	assert_false(rig.queue[0].q.finalized);
	says(0, 64, 5);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.block, 32);
	assert_int_equal(r.fact, 5);
}

/* One that claims to be ahead, and lies below too, delays but does not stop
 * the others. */
static void
liar_ahead(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	says(0, 9000, 6);
	says(1, 101, 5);
	says(2, 100, 5);
	assert_int_equal(take(0).q.block, 101);
	/* It does not even answer there. */
	pass(QUORUM_PATIENCE_MS);
	says(1, 0, 5);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.block, 100);
	use(2, 3);
	memset(&r, 0, sizeof(r));
	ask(&hash_question, &r, 0);
	says(0, 9000, 6);
	says(1, 101, 5);
	says(2, 100, 5);
	says(0, 0, 6);
	assert_int_equal(r.calls, 0);
	/* now both at 100 */
	says(1, 0, 5);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.block, 100);
	warned_of("rpc-url 1 is at block 9000", 1);
	says(0, 0, 6);
	assert_int_equal(rig.queued, 0);
}

/* One far behind is not where the others meet. */
static void
one_lags(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	says(0, 10, 5);
	says(1, 500, 5);
	pass(1000);
	assert_int_equal(rig.queued, 1);
	says(2, 501, 5);
	assert_int_equal(take(2).q.block, 500);
	/* With the third one dead there is no agreement, and no stale one. */
	use(2, 3);
	memset(&r, 0, sizeof(r));
	ask(&hash_question, &r, 0);
	says(0, 10, 5);
	says(1, 500, 5);
	fails(2, CHAIN_ERROR_UNREACHABLE, "no connection");
	assert_int_equal(rig.queued, 1);
	says(1, 500, 5);
	/* The block is ten: for the guard of the head to refuse. */
	assert_int_equal(r.error, 0);
	assert_int_equal(r.head, 10);
}

static void
silence(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	says(0, 101, 5);
	says(1, 100, 5);
	assert_int_equal(rig.queued, 1);
	/* The third is not waited for long. */
	pass(QUORUM_PATIENCE_MS + 100);
	assert_int_equal(rig.queued, 2);
	says(0, 101, 5);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.block, 100);
	/* Two silent: the time-out, with who they are. */
	memset(&r, 0, sizeof(r));
	rig.queued = 0;
	ask(&hash_question, &r, 0);
	says(1, 100, 5);
	pass(REGISTRY_TIMEOUT_MS - 100);
	assert_int_equal(r.calls, 0);
	pass(200);
	assert_int_equal(r.calls, 1);
	text_has(&r,
	    "rpc-quorum 2 is not reached: rpc-url 2 answers at block "
	    "100, rpc-url 1: the chain did not answer in time");
}

/* An error of the chain counts when as many report it. */
static void
refusals(void **state)
{
	struct result r = { 0 };

	(void)state;
	ask(&hash_question, &r, 0);
	fails(0, CHAIN_ERROR_REFUSED, "no finalized block");
	fails(1, CHAIN_ERROR_UNREACHABLE, "no connection");
	says(2, 100, 5);
	assert_int_equal(r.failure, CHAIN_ERROR_UNREACHABLE);
	memset(&r, 0, sizeof(r));
	ask(&hash_question, &r, 0);
	fails(0, CHAIN_ERROR_REFUSED, "no finalized block");
	fails(1, CHAIN_ERROR_UNREACHABLE, "no connection");
	fails(2, CHAIN_ERROR_REFUSED, "no finalized block");
	assert_int_equal(r.failure, CHAIN_ERROR_REFUSED);
	text_has(&r, "rpc-url 3: no finalized block");
}

/* The first to accept a transaction counts; what it says must be its hash. */
static void
sending(void **state)
{
	static const uint8_t raw[200] = { 2, 1 };
	struct registry_question question = {
		.kind = REGISTRY_SEND,
		.endpoint = MSG_ENDPOINT_ANY,
		.raw = raw,
		.raw_len = sizeof(raw),
	};
	struct result r = { 0 };

	(void)state;
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 3);
	says(0, 0, 9);
	fails(1, CHAIN_ERROR_REFUSED, "nonce too low");
	assert_int_equal(r.calls, 0);
	says(2, 0, 0);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.error, 0);
	memset(&r, 0, sizeof(r));
	ask(&question, &r, 0);
	for (unsigned int i = 0; i < 3; i++)
		fails(i, CHAIN_ERROR_REFUSED, "nonce too low");
	assert_int_equal(r.error, KMS_EUNAVAIL);
	assert_int_equal(r.failure, CHAIN_ERROR_REFUSED);
	text_has(&r, "rpc-url 1: nonce too low, rpc-url 2: nonce too low");
	/* The rest goes to one of kms-chain's choice. */
	question.kind = REGISTRY_TX_INPUTS;
	ask(&question, &r, 0);
	assert_int_equal(rig.queue[0].q.endpoint, MSG_ENDPOINT_ANY);
	assert_int_equal(rig.queued, 1);
}

/* Of a receipt: block 0 is none; status 1 is success. */
static void
shows(unsigned int endpoint, uint64_t block, uint64_t status)
{
	struct rig_question question = take(endpoint);

	memset(&made, 0, sizeof(made));
	made.kind = REGISTRY_RECEIPT;
	made.endpoint = endpoint;
	made.mined = block != 0;
	made.block = block;
	made.tx_status = status;
	registry_answered(rig.registry, question.id, 0, &made);
}

/* That a transaction is mined, or reverted, no single endpoint can say. */
static void
receipts(void **state)
{
	struct registry_question question = { .kind = REGISTRY_RECEIPT,
		.endpoint = MSG_ENDPOINT_ANY };
	struct result r = { 0 };

	(void)state;
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 3);
	shows(0, 100, 0);
	shows(1, 0, 0);
	assert_int_equal(r.calls, 0);
	shows(2, 0, 0);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.block, 0);
	assert_int_equal(warnings, 0);
	/* One has not heard of it yet. */
	memset(&r, 0, sizeof(r));
	ask(&question, &r, 0);
	shows(2, 100, 1);
	shows(0, 0, 0);
	assert_int_equal(r.calls, 0);
	shows(1, 100, 1);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.block, 100);
	assert_int_equal(warnings, 0);
	/* No two say the same. */
	memset(&r, 0, sizeof(r));
	ask(&question, &r, 0);
	shows(0, 100, 1);
	shows(1, 100, 0);
	shows(2, 0, 0);
	pass(QUORUM_PATIENCE_MS + 100);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.error, KMS_EUNAVAIL);
	assert_int_equal(rig.queued, 0);
	text_has(&r, "rpc-url 2 reports another receipt at block 100");
	text_has(&r, "rpc-url 3 knows no receipt");
}

/* With a quorum of one an endpoint that is not believed is left out. */
static void
distrust(void **state)
{
	struct registry_question question = hash_question;
	struct result r = { 0 };

	(void)state;
	use(1, 3);
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 1);
	assert_int_equal(take(MSG_ENDPOINT_ANY).q.endpoint, MSG_ENDPOINT_ANY);
	assert_false(registry_distrust(rig.registry, 3, rig.now));
	assert_false(
	    registry_distrust(rig.registry, MSG_ENDPOINT_ANY, rig.now));
	assert_true(registry_distrust(rig.registry, 0, rig.now));
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 2);
	says(2, 100, 5);
	assert_int_equal(r.error, 0);
	assert_int_equal(r.endpoint, 2);
	assert_int_equal(r.head, 107);
	says(1, 90, 6);
	assert_int_equal(r.calls, 1);
	assert_true(registry_distrust(rig.registry, 1, rig.now));
	assert_false(registry_distrust(rig.registry, 2, rig.now));
	/* Nobody is left: all of them again. */
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 1);
	assert_int_equal(rig.queue[0].q.endpoint, MSG_ENDPOINT_ANY);
	rig.queued = 0;
	pass(REGISTRY_DISTRUST_MS);
	assert_true(registry_distrust(rig.registry, 2, rig.now));
	memset(&r, 0, sizeof(r));
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 2);
	/* Better one that was wrong than none. */
	fails(0, CHAIN_ERROR_UNREACHABLE, "no connection");
	fails(1, CHAIN_ERROR_UNREACHABLE, "no connection");
	assert_int_equal(r.error, KMS_EUNAVAIL);
	ask(&question, &r, 0);
	assert_int_equal(rig.queued, 1);
	assert_int_equal(rig.queue[0].q.endpoint, MSG_ENDPOINT_ANY);
}

/* One endpoint that never answers costs a moment, however many questions are
 * open, and none of its share is exceeded. */
static void
room(void **state)
{
	enum { SHARE = QUORUM_OPEN_MAX / 3 };
	static struct result results[QUORUM_GROUPS_MAX + 1];
	size_t asked;

	(void)state;
	memset(results, 0, sizeof(results));
	for (size_t i = 0; i < QUORUM_GROUPS_MAX; i++)
		ask(&hash_question, &results[i], 0);
	ask(&hash_question, &results[QUORUM_GROUPS_MAX], KMS_EBUSY);
	assert_int_equal(rig.queued, 3 * SHARE);
	for (size_t i = 0; i < SHARE; i++) {
		says(0, 100, 5);
		says(1, 100, 5);
	}
	for (size_t i = 0; i < SHARE; i++)
		assert_int_equal(results[i].calls, 1);
	assert_int_equal(results[SHARE].calls, 0);
	/* Their share of the third is taken by the silent questions. */
	assert_int_equal(rig.queued, SHARE);
	pass(QUORUM_PATIENCE_MS);
	for (asked = SHARE; asked < QUORUM_GROUPS_MAX; asked++) {
		says(0, 100, 5);
		says(1, 100, 5);
		assert_int_equal(results[asked].calls, 1);
		assert_int_equal(results[asked].error, 0);
	}
	assert_int_equal(rig.queued, SHARE);
	for (size_t i = 0; i < SHARE; i++)
		says(2, 100, 5);
	/* All of it was given back. */
	memset(results, 0, sizeof(results));
	for (size_t i = 0; i < SHARE; i++)
		ask(&hash_question, &results[i], 0);
	assert_int_equal(rig.queued, 3 * SHARE);
}

static void
lost_channel(void **state)
{
	static struct result results[300];

	(void)state;
	memset(results, 0, sizeof(results));
	results[0].ask_again = true;
	for (size_t i = 0; i < 300; i++)
		ask(&hash_question, &results[i], 0);
	says(0, 101, 5);
	says(1, 100, 5);
	rig.down = true;
	rig.queued = 0;
	results[0].ask_again = false;
	registry_lost(rig.registry);
	pass(QUORUM_PATIENCE_MS);
	for (size_t i = 0; i < 300; i++) {
		assert_int_equal(results[i].calls, 1);
		assert_int_equal(results[i].error, KMS_EUNAVAIL);
	}
	text_has(&results[1], "kms-chain is being restarted");
	ask(&hash_question, &results[0], KMS_EUNAVAIL);
	rig.down = false;
	memset(results, 0, sizeof(results));
	results[0].ask_again = true;
	ask(&hash_question, &results[0], 0);
	says(0, 100, 5);
	says(1, 100, 5);
	assert_int_equal(results[0].calls, 1);
	says(2, 100, 5);
	says(0, 101, 6);
	says(1, 101, 6);
	assert_int_equal(results[0].calls, 2);
	assert_int_equal(results[0].fact, 6);
	/* What is still open is freed with the registry. */
	ask(&hash_question, &results[1], 0);
}

static void
settings(void **state)
{
	(void)state;
	assert_int_equal(registry_set_quorum(rig.registry, 0, 3), KMS_EINVAL);
	assert_int_equal(registry_set_quorum(rig.registry, 4, 3), KMS_EINVAL);
	assert_int_equal(registry_set_quorum(rig.registry, 2, 17), KMS_EINVAL);
	use(16, 16);
	use(1, 1);
}

static bool
votes_differ(const struct registry_answer *a, const struct registry_answer *b)
{
	struct vote x = vote_of(a), y = vote_of(b);

	return x.block != y.block || x.block_time != y.block_time ||
	    memcmp(x.facts, y.facts, sizeof(x.facts)) != 0;
}

/* One fact after the other is changed: it must be seen. */
static void
every_fact_counts(void **state)
{
	static struct registry_answer a, b;
	struct instance_facts *facts = &b.instance;

	(void)state;
#define CHANGED(change)                                                        \
	do {                                                                   \
		b = a;                                                         \
		change;                                                        \
		assert_true(votes_differ(&a, &b));                             \
	} while (0)
	a.kind = REGISTRY_INSTANCE;
	a.instance.pubkey_len = 120;
	(void)snprintf(
	    a.instance.url, sizeof(a.instance.url), "http://node.example");
	CHANGED(b.block++);
	CHANGED(b.block_time++);
	CHANGED(facts->found = true);
	CHANGED(facts->instance_id++);
	CHANGED(facts->app_id++);
	CHANGED(facts->version_id++);
	CHANGED(facts->operator.bytes[19]++);
	CHANGED(facts->url[0]++);
	CHANGED(facts->url[18] = '\0');
	CHANGED(facts->pubkey[119]++);
	CHANGED(facts->pubkey_len--);
	CHANGED(facts->wallet.bytes[0]++);
	CHANGED(facts->zk_verified = true);
	CHANGED(facts->status++);
	CHANGED(facts->registered_at++);
	CHANGED(facts->app_id_answered++);
	CHANGED(facts->app_status++);
	CHANGED(facts->version_id_answered++);
	CHANGED(facts->version_status++);
	a.kind = REGISTRY_MEMBERS;
	a.member_count = 3;
	CHANGED(b.member_count--);
	CHANGED(b.members[2].bytes[19]++);
	a.members[0].bytes[0] = 1;
	CHANGED(b.members[1] = a.members[0]; b.members[0] = a.members[1]);
	a.kind = REGISTRY_HASH;
	CHANGED(b.hash.bytes[31]++);
	CHANGED(b.chain_id++);
	CHANGED(b.kms_app_id++);
#undef CHANGED
	/* Who answered, and where its head is, is no fact of the chain. */
	b = a;
	b.endpoint++;
	b.head++;
	b.head_time++;
	assert_false(votes_differ(&a, &b));
}

/*
 * Whatever two of five endpoints say, fail to say or say late: done is called
 * once, and the answer is never theirs alone, for the honest three agree at
 * every block.
 */
static void
any_order(void **state)
{
	uint64_t random = 88172645463325252U;
	unsigned int agreed = 0;

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct result r = { 0 };
		unsigned int steps = 0;

		use(3, 5);
		ask(&hash_question, &r, 0);
		while (rig.queued > 0 && steps++ < 400) {
			unsigned int e;
			uint64_t block;

			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			e = rig.queue[random % rig.queued].q.endpoint;
			block = 100 + (random >> 20) % 3;
			if (e >= 2)
				says(e, 100 + e % 3, 5);
			else if ((random >> 32) % 4 == 0)
				fails(e, (unsigned int)(1 + (random >> 40) % 6),
				    "no");
			else if ((random >> 32) % 4 == 1)
				says(e, 5000, 6);
			else if ((random >> 32) % 4 == 2)
				says(e, block, 6);
			else
				pass(QUORUM_PATIENCE_MS);
		}
		pass(REGISTRY_TIMEOUT_MS * 2);
		assert_int_equal(r.calls, 1);
		if (r.error == 0)
			assert_int_equal(r.fact, 5);
		agreed += r.error == 0;
	}
	assert_int_equal(agreed, 3000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(agreement),
		TEST(one_lies),
		TEST(warns_once_a_minute),
		TEST(nobody_agrees),
		TEST(meet_below),
		TEST(meet_at_a_finalized_block),
		TEST(liar_ahead),
		TEST(one_lags),
		TEST(silence),
		TEST(refusals),
		TEST(sending),
		TEST(receipts),
		TEST(distrust),
		TEST(room),
		TEST(lost_channel),
		TEST(settings),
		TEST(every_fact_counts),
		TEST(any_order),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
