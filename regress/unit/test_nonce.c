#include "regress/unit/vector.h"

#include "common/err.h"
#include "kms-keeper/nonce.h"
#include "regress/unit/crypto_setup.h"

static struct nonce_table *
table_new(size_t max)
{
	static const uint8_t key[NONCE_KEY_LEN] = { 5 };
	struct nonce_table *table = NULL;

	assert_int_equal(nonce_table_new(key, max, &table), 0);
	return table;
}

static void
single_use(void **state)
{
	struct nonce_table *table = table_new(4);
	uint8_t a[NONCE_LEN], b[NONCE_LEN];

	(void)state;
	assert_int_equal(nonce_issue(table, 0, a), 0);
	assert_int_equal(nonce_issue(table, 0, b), 0);
	assert_memory_not_equal(a, b, NONCE_LEN);
	assert_int_equal(nonce_outstanding(table, 0), 2);
	assert_int_equal(nonce_consume(table, b, 10), 0);
	assert_int_equal(nonce_consume(table, b, 10), KMS_EREPLAY);
	assert_int_equal(nonce_outstanding(table, 10), 1);
	assert_int_equal(nonce_consume(table, a, NONCE_LIFE_MS - 1), 0);
	assert_int_equal(
	    nonce_consume(table, a, NONCE_LIFE_MS - 1), KMS_EREPLAY);
	assert_int_equal(nonce_consume(table, a, NONCE_LIFE_MS), KMS_ETIMEOUT);
	nonce_table_free(table);
	nonce_table_free(NULL);
}

/* At each millisecond of a second: good to the last one, then expired. */
static void
expiry(void **state)
{
	struct nonce_table *table = table_new(4000);
	uint8_t nonce[NONCE_LEN];

	(void)state;
	for (int64_t start = 5000; start < 400000; start += 12347) {
		assert_int_equal(nonce_issue(table, start, nonce), 0);
		assert_int_equal(
		    nonce_consume(table, nonce, start + NONCE_LIFE_MS - 1), 0);
		start += 2 * NONCE_LIFE_MS;
		assert_int_equal(nonce_issue(table, start, nonce), 0);
		assert_int_equal(
		    nonce_consume(table, nonce, start + NONCE_LIFE_MS),
		    KMS_ETIMEOUT);
		/* Time that steps back does not bring it back. */
		assert_int_equal(
		    nonce_consume(table, nonce, start + 1), KMS_ETIMEOUT);
		start += 2 * NONCE_LIFE_MS;
	}
	nonce_table_free(table);
}

static void
not_ours(void **state)
{
	static const uint8_t other_key[NONCE_KEY_LEN] = { 6 };
	struct nonce_table *table = table_new(100), *other = NULL;
	uint8_t nonce[NONCE_LEN];
	uint64_t random = 0x13198a2e03707344;

	(void)state;
	assert_int_equal(nonce_table_new(other_key, 100, &other), 0);
	assert_int_equal(nonce_issue(table, 1000, nonce), 0);
	assert_int_equal(nonce_issue(other, 1000, nonce), 0);
	assert_int_equal(nonce_consume(table, nonce, 1000), KMS_ENOENT);
	for (size_t i = 0; i < 20000; i++) {
		assert_int_equal(nonce_issue(table, 2000, nonce), 0);
		if (i % 2 == 0) {
			vector_mutate(&random, nonce, sizeof(nonce));
		} else {
			for (size_t k = 0; k < sizeof(nonce); k++)
				nonce[k] = (uint8_t)vector_random(&random);
		}
		/* A mutation can undo itself; then it is the nonce. */
		if (nonce_consume(table, nonce, 2000) != 0)
			assert_int_equal(
			    nonce_consume(table, nonce, 2000), KMS_ENOENT);
		nonce_table_free(table);
		table = table_new(100);
	}
	nonce_table_free(other);
	nonce_table_free(table);
}

/* At the bound further ones are refused; none that was issued is lost. */
static void
bound(void **state)
{
	enum { MAX = 1000 };
	static uint8_t nonces[MAX][NONCE_LEN];
	struct nonce_table *table = table_new(MAX);
	uint8_t extra[NONCE_LEN];

	(void)state;
	for (size_t i = 0; i < MAX; i++)
		assert_int_equal(
		    nonce_issue(table, (int64_t)i * 50, nonces[i]), 0);
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(nonce_issue(table, 50000, extra), KMS_EBUSY);
	assert_int_equal(nonce_issue_next(table, 50000, extra), 0);
	assert_int_equal(nonce_consume(table, extra, 50000), 0);
	assert_int_equal(nonce_outstanding(table, 50000), MAX);
	for (size_t i = 0; i < MAX; i++) {
		assert_int_equal(nonce_consume(table, nonces[i], 60000), 0);
		assert_int_equal(nonce_issue(table, 60000, nonces[i]), 0);
		assert_int_equal(nonce_issue(table, 60000, extra), KMS_EBUSY);
	}
	/* Unused ones make room when they have expired, at most 1 s later. */
	assert_int_equal(
	    nonce_issue(table, 60000 + NONCE_LIFE_MS - 1, extra), KMS_EBUSY);
	assert_int_equal(nonce_issue(table, 61000 + NONCE_LIFE_MS, extra), 0);
	assert_int_equal(nonce_outstanding(table, 61000 + NONCE_LIFE_MS), 1);
	nonce_table_free(table);
}

/* A used nonce frees its place, but use cannot grow memory without end. */
static void
bound_of_used(void **state)
{
	struct nonce_table *table = table_new(2);
	uint8_t nonce[NONCE_LEN];
	size_t issued = 0;

	(void)state;
	while (nonce_issue(table, 7000, nonce) == 0) {
		assert_int_equal(nonce_consume(table, nonce, 7000), 0);
		assert_true(++issued <= 128);
	}
	assert_int_equal(issued, 128);
	assert_int_equal(nonce_issue_next(table, 7000, nonce), KMS_EBUSY);
	assert_int_equal(nonce_issue(table, 8000 + NONCE_LIFE_MS, nonce), 0);
	nonce_table_free(table);
}

/* After any pause, however long, the table is empty and right. */
static void
pauses(void **state)
{
	struct nonce_table *table = table_new(10);
	uint8_t nonce[NONCE_LEN];
	uint64_t random = 0xa4093822299f31d0;
	int64_t now = 0;

	(void)state;
	for (size_t i = 0; i < 2000; i++) {
		now += (int64_t)(vector_random(&random) % 1000000);
		while (nonce_issue(table, now, nonce) == 0)
			continue;
		assert_int_equal(nonce_outstanding(table, now), 10);
		assert_int_equal(nonce_consume(table, nonce, now), 0);
		assert_int_equal(nonce_outstanding(table, now), 9);
		now += NONCE_LIFE_MS + 1000;
		if (i % 2 == 0)
			now += (int64_t)(vector_random(&random) % 1000000);
		assert_int_equal(nonce_outstanding(table, now), 0);
	}
	nonce_table_free(table);
}

/* Against a plain list: random issue, use and passing of time. */
static void
model(void **state)
{
	enum { MAX = 3000 };
	static uint8_t nonces[MAX][NONCE_LEN];
	static int64_t expiries[MAX];
	static int used[MAX];
	struct nonce_table *table = table_new(1 << 20);
	uint64_t random = 0x082efa98ec4e6c89;
	int64_t now = 123456;
	size_t count = 0;

	(void)state;
	while (count < MAX) {
		size_t i = count == 0 ? 0 : vector_random(&random) % count;
		int expected = 0;

		now += (int64_t)(vector_random(&random) % 200);
		expiries[count] = now + NONCE_LIFE_MS;
		assert_int_equal(nonce_issue(table, now, nonces[count++]), 0);
		if (now >= expiries[i])
			expected = KMS_ETIMEOUT;
		else if (used[i])
			expected = KMS_EREPLAY;
		assert_int_equal(
		    nonce_consume(table, nonces[i], now), expected);
		used[i] = 1;
	}
	nonce_table_free(table);
}

static void
limits(void **state)
{
	static const uint8_t key[NONCE_KEY_LEN];
	struct nonce_table *table = NULL;

	(void)state;
	assert_int_equal(nonce_table_new(key, 0, &table), KMS_EINVAL);
	assert_int_equal(
	    nonce_table_new(key, (1 << 24) + 1, &table), KMS_EINVAL);
	assert_int_equal(nonce_table_new(key, 1 << 24, &table), 0);
	nonce_table_free(table);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(single_use),
		cmocka_unit_test(expiry),
		cmocka_unit_test(not_ours),
		cmocka_unit_test(bound),
		cmocka_unit_test(bound_of_used),
		cmocka_unit_test(pauses),
		cmocka_unit_test(model),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
