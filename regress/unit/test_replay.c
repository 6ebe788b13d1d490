#include "regress/unit/vector.h"

#include "common/err.h"
#include "kms-keeper/replay.h"

static const uint8_t key[SIPHASH_KEY_LEN] = { 9 };

static void
nonce_of(uint64_t number, uint8_t nonce[AEAD_NONCE_LEN])
{
	memset(nonce, 0, AEAD_NONCE_LEN);
	memcpy(nonce + 2, &number, sizeof(number));
}

static int
add(struct replay_window *window, uint64_t number, int64_t now)
{
	uint8_t nonce[AEAD_NONCE_LEN];

	nonce_of(number, nonce);
	return replay_check_and_add(window, nonce, now);
}

static void
repeats(void **state)
{
	struct replay_window window;

	(void)state;
	replay_init(&window, 100, 10000, key);
	assert_int_equal(replay_memory(&window), 0);
	assert_int_equal(add(&window, 1, 500), 0);
	assert_int_equal(add(&window, 1, 500), KMS_EREPLAY);
	assert_int_equal(add(&window, 2, 600), 0);
	assert_int_equal(add(&window, 1, 10499), KMS_EREPLAY);
	/* Remembered for the reach, and at most a second longer. */
	assert_int_equal(add(&window, 1, 11500), 0);
	assert_int_equal(add(&window, 1, 400), KMS_EREPLAY);
	replay_expire(&window, 30000);
	assert_int_equal(window.count, 0);
	assert_int_equal(replay_memory(&window), 0);
	replay_free(&window);
}

/* Full: refused, and nothing is forgotten to make room. */
static void
bound(void **state)
{
	struct replay_window window;

	(void)state;
	replay_init(&window, 1000, 10000, key);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(add(&window, i, (int64_t)i), 0);
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(add(&window, 5000 + i, 1000), KMS_EBUSY);
		assert_int_equal(add(&window, i, 1000), KMS_EREPLAY);
	}
	assert_int_equal(window.count, 1000);
	assert_true(replay_memory(&window) <= 24 * 1024);
	/* The oldest leave first. */
	assert_int_equal(add(&window, 7000, 10000), 0);
	assert_int_equal(add(&window, 7001, 10000), KMS_EBUSY);
	for (uint64_t i = 1; i < 1000; i++)
		assert_int_equal(add(&window, i, 10999), KMS_EREPLAY);
	assert_int_equal(add(&window, 0, 11000), 0);
	assert_int_equal(window.count, 2);
	replay_free(&window);
	replay_init(&window, 0, 10000, key);
	assert_int_equal(add(&window, 1, 0), KMS_EBUSY);
	replay_init(&window, UINT32_MAX, 10000, key);
	assert_int_equal(window.max, REPLAY_MAX);
}

/* Against a plain list, through growth, wrap-around and shrinking. */
static void
model(void **state)
{
	enum { NUMBERS = 4096 };
	static int64_t expiries[NUMBERS];
	struct replay_window window;
	uint64_t random = 0xbe5466cf34e90c6c;
	int64_t now = 0;
	size_t fresh = 0, repeated = 0, peak = 0;

	(void)state;
	memset(expiries, 0, sizeof(expiries));
	replay_init(&window, NUMBERS, 5000, key);
	for (size_t i = 0; i < 200000; i++) {
		uint64_t number = vector_random(&random) % NUMBERS;
		int quiet = i / 20000 % 2 == 1, known;

		now += (int64_t)(vector_random(&random) % (quiet ? 2000 : 5));
		known = now < expiries[number];
		if (known) {
			repeated++;
			assert_int_equal(
			    add(&window, number, now), KMS_EREPLAY);
		} else {
			assert_int_equal(add(&window, number, now), 0);
			expiries[number] = (now + 5000 + 999) / 1000 * 1000;
			fresh++;
		}
		if (replay_memory(&window) > peak)
			peak = replay_memory(&window);
		if (i % 20000 == 19999 && quiet)
			assert_true(replay_memory(&window) <= peak / 8);
	}
	assert_true(fresh > 10000 && repeated > 10000);
	replay_free(&window);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repeats),
		cmocka_unit_test(bound),
		cmocka_unit_test(model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
