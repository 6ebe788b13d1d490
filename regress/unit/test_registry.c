#include "regress/unit/keeper_rig.h"

static struct rig rig;

struct result {
	unsigned int calls;
	int error;
	unsigned int failure;
	char text[513];
	uint64_t block;
	bool ask_again;
};

static void
done(void *arg, int error, const struct registry_answer *answer)
{
	struct result *result = arg;
	static const struct registry_question again = { .kind = REGISTRY_HASH,
		.endpoint = MSG_ENDPOINT_ANY };

	result->calls++;
	result->error = error;
	result->failure = answer->failure;
	result->block = answer->block;
	memcpy(result->text, answer->text, sizeof(result->text));
	if (result->ask_again) {
		result->ask_again = false;
		assert_int_equal(
		    registry_ask(rig.registry, &again, rig.now, done, result),
		    0);
	}
}

static int
begin(void **state)
{
	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.now = (struct kms_time){ RIG_WALL, RIG_BOOT };
	rig.head = 50;
	rig.registry = registry_new(rig_ask, &rig);
	return rig.registry == NULL;
}

static int
end(void **state)
{
	(void)state;
	registry_free(rig.registry);
	return 0;
}

static struct registry_question
instance_at(uint64_t block)
{
	return (struct registry_question){
		.kind = REGISTRY_INSTANCE,
		.endpoint = MSG_ENDPOINT_ANY,
		.block = block,
	};
}

static void
answers(void **state)
{
	struct registry_question q = instance_at(0);
	struct result a = { 0 }, b = { 0 };

	(void)state;
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &a), 0);
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &b), 0);
	assert_int_equal(rig.queued, 2);
	assert_int_not_equal(rig.queue[0].id, rig.queue[1].id);
	assert_int_equal(a.calls, 0);
	rig_pump(&rig);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.error, 0);
	assert_int_equal(a.block, 50);
	assert_int_equal(b.calls, 1);
	/* A failure comes with its text. */
	rig.fail = ~0U;
	rig.failure_text = "try later";
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &a), 0);
	rig_pump(&rig);
	assert_int_equal(a.error, KMS_EUNAVAIL);
	assert_string_equal(a.text, "try later");
}

static void
mismatches(void **state)
{
	static struct registry_answer answer;
	struct registry_question q = instance_at(49);
	struct result r = { 0 };

	(void)state;
	/* another kind */
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &r), 0);
	answer = (struct registry_answer){ .kind = REGISTRY_HASH, .block = 49 };
	registry_answered(rig.registry, rig.queue[0].id, 0, &answer);
	assert_int_equal(r.error, KMS_EUNAVAIL);
	assert_int_equal(r.failure, CHAIN_ERROR_MALFORMED);
	/* another block than the one that was asked about */
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &r), 0);
	answer.kind = REGISTRY_INSTANCE;
	answer.block = 48;
	registry_answered(rig.registry, rig.queue[1].id, 0, &answer);
	assert_int_equal(r.error, KMS_EUNAVAIL);
	/* another endpoint */
	q.endpoint = 1;
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &r), 0);
	answer.block = 49;
	registry_answered(rig.registry, rig.queue[2].id, 0, &answer);
	assert_int_equal(r.error, KMS_EUNAVAIL);
	assert_int_equal(r.calls, 3);
	/* a number that nobody asked under, and one that was answered */
	registry_answered(rig.registry, 999999, 0, &answer);
	registry_answered(rig.registry, rig.queue[2].id, 0, &answer);
	assert_int_equal(r.calls, 3);
	/* the right one */
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &r), 0);
	answer.endpoint = 1;
	registry_answered(rig.registry, rig.queue[3].id, 0, &answer);
	assert_int_equal(r.error, 0);
}

static void
timeouts(void **state)
{
	static struct registry_answer late = { .kind = REGISTRY_INSTANCE };
	struct registry_question q = instance_at(0);
	struct result a = { .ask_again = true }, b = { 0 };

	(void)state;
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &a), 0);
	rig_pass(&rig, 100);
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &b), 0);
	rig_pass(&rig, REGISTRY_TIMEOUT_MS - 101);
	registry_tick(rig.registry, rig.now);
	assert_int_equal(a.calls + b.calls, 0);
	rig_pass(&rig, 1);
	registry_tick(rig.registry, rig.now);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.error, KMS_ETIMEOUT);
	assert_int_equal(b.calls, 0);
	registry_answered(rig.registry, rig.queue[0].id, 0, &late);
	assert_int_equal(a.calls, 1);
	rig_pass(&rig, 100);
	registry_tick(rig.registry, rig.now);
	assert_int_equal(b.error, KMS_ETIMEOUT);
	/* What done asked anew still waits, and is freed with the registry. */
	assert_int_equal(rig.queued, 3);
}

static void
lost(void **state)
{
	struct registry_question q = instance_at(0);
	struct result a = { .ask_again = true }, b = { 0 };

	(void)state;
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &a), 0);
	assert_int_equal(registry_ask(rig.registry, &q, rig.now, done, &b), 0);
	registry_lost(rig.registry);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.error, KMS_EUNAVAIL);
	assert_int_equal(a.failure, CHAIN_ERROR_UNREACHABLE);
	assert_int_equal(b.calls, 1);
	registry_lost(rig.registry);
	assert_int_equal(a.calls, 2);
	registry_lost(rig.registry);
	assert_int_equal(a.calls, 2);
}

static void
bounds(void **state)
{
	struct registry_question q = instance_at(0);
	struct result r = { 0 };

	(void)state;
	for (int i = 0; i < REGISTRY_PENDING_MAX; i++)
		assert_int_equal(
		    registry_ask(rig.registry, &q, rig.now, done, &r), 0);
	assert_int_equal(
	    registry_ask(rig.registry, &q, rig.now, done, &r), KMS_EBUSY);
	rig_pump(&rig);
	assert_int_equal(r.calls, REGISTRY_PENDING_MAX);
	rig.down = true;
	assert_int_equal(
	    registry_ask(rig.registry, &q, rig.now, done, &r), KMS_EUNAVAIL);
	registry_lost(rig.registry);
	assert_int_equal(r.calls, REGISTRY_PENDING_MAX);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers),
		TEST(mismatches),
		TEST(timeouts),
		TEST(lost),
		TEST(bounds),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
