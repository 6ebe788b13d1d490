/* Vector clocks, their interned members, and the keyed hash under them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "regress/unit/store_rig.h"

#define NAMES 8

static const uint8_t hash_key[SIPHASH_KEY_LEN] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
	10, 11, 12, 13, 14, 15 };

/* ---- siphash ------------------------------------------------------------- */

static void
test_siphash_known_answers(void **state)
{
	uint8_t message[15];

	(void)state;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)i;
	/* From the paper, appendix A, and the authors' first vector. */
	assert_int_equal(siphash(hash_key, message, 15), 0xa129ca6149be45e5);
	assert_int_equal(siphash(hash_key, message, 0), 0x726fdb47dd0e0e31);
}

static uint64_t
openssl_siphash(EVP_MAC *mac, const uint8_t *data, size_t len)
{
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
	size_t size = 8, out_len = 0;
	uint8_t out[8];
	uint64_t value = 0;
	OSSL_PARAM params[2];

	assert_non_null(ctx);
	params[0] = OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size);
	params[1] = OSSL_PARAM_construct_end();
	assert_int_equal(
	    EVP_MAC_init(ctx, hash_key, sizeof(hash_key), params), 1);
	assert_int_equal(EVP_MAC_update(ctx, data, len), 1);
	assert_int_equal(EVP_MAC_final(ctx, out, &out_len, sizeof(out)), 1);
	assert_int_equal(out_len, 8);
	EVP_MAC_CTX_free(ctx);
	for (int i = 7; i >= 0; i--)
		value = value << 8 | out[i];
	return value;
}

static void
test_siphash_agrees_with_openssl(void **state)
{
	struct rig_random random = { 1 };
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	uint8_t data[200];

	(void)state;
	assert_non_null(mac);
	for (size_t len = 0; len <= sizeof(data); len++) {
		for (size_t i = 0; i < len; i++)
			data[i] = (uint8_t)rig_next(&random);
		assert_int_equal(siphash(hash_key, data, len),
		    openssl_siphash(mac, data, len));
	}
	EVP_MAC_free(mac);
}

/* ---- members ------------------------------------------------------------- */

static void
test_members_are_shared_and_counted(void **state)
{
	struct clock_members members;
	struct clock_member *a, *b, *c;
	size_t len;

	(void)state;
	clock_members_init(&members, hash_key);
	assert_int_equal(clock_member_intern(&members, "alice", 5, &a), 0);
	assert_int_equal(clock_member_intern(&members, "alice", 5, &b), 0);
	assert_int_equal(clock_member_intern(&members, "Alice", 5, &c), 0);
	assert_ptr_equal(a, b);
	assert_ptr_not_equal(a, c);
	assert_memory_equal(clock_member_name(c, &len), "Alice", 5);
	assert_int_equal(len, 5);
	assert_int_equal(clock_members_count(&members), 2);
	clock_member_release(&members, a);
	assert_int_equal(clock_members_count(&members), 2);
	clock_member_release(&members, b);
	clock_member_release(&members, c);
	assert_int_equal(clock_members_count(&members), 0);
	clock_member_release(&members, NULL);
}

static void
test_member_names_at_their_bounds(void **state)
{
	struct clock_members members;
	struct clock_member *member;
	char name[CLOCK_MEMBER_MAX + 1];

	(void)state;
	memset(name, 'x', sizeof(name));
	clock_members_init(&members, hash_key);
	assert_int_equal(
	    clock_member_intern(&members, name, 0, &member), KMS_EINVAL);
	assert_int_equal(
	    clock_member_intern(&members, name, 65, &member), KMS_EINVAL);
	assert_int_equal(clock_member_intern(&members, name, 64, &member), 0);
	clock_member_release(&members, member);
	for (int c = 0; c < 256; c++) {
		int expected = c >= 0x20 && c <= 0x7e ? 0 : KMS_EINVAL;

		name[0] = (char)c;
		assert_int_equal(
		    clock_member_intern(&members, name, 1, &member), expected);
		if (expected == 0)
			clock_member_release(&members, member);
	}
	assert_int_equal(clock_members_count(&members), 0);
}

/* ---- clocks -------------------------------------------------------------- */

/* "abc" means a:1 b:1 c:1, "aab" a:2 b:1. */
static struct vector_clock
clock_of(struct clock_members *members, const char *letters)
{
	struct clock_item items[26];
	struct vector_clock clock;
	size_t count = 0;

	for (; *letters != '\0'; letters++) {
		size_t i = 0;

		while (i < count && items[i].member[0] != *letters)
			i++;
		if (i == count)
			items[count++] = (struct clock_item){ letters, 1, 0 };
		items[i].counter++;
	}
	assert_int_equal(vector_clock_parse(members, items, count, &clock), 0);
	return clock;
}

static void
assert_clock_text(const struct vector_clock *clock, const char *expected)
{
	char text[200];

	rig_clock_text(clock, text, sizeof(text));
	assert_string_equal(text, expected);
}

static void
test_compare(void **state)
{
	static const struct {
		const char *a, *b;
		enum clock_order order;
	} rows[] = {
		{ "", "", CLOCK_EQUAL },
		{ "a", "a", CLOCK_EQUAL },
		{ "abb", "bba", CLOCK_EQUAL },
		{ "", "a", CLOCK_BEFORE },
		{ "a", "", CLOCK_AFTER },
		{ "a", "aa", CLOCK_BEFORE },
		{ "a", "ab", CLOCK_BEFORE },
		{ "b", "ab", CLOCK_BEFORE },
		{ "abc", "ac", CLOCK_AFTER },
		{ "a", "b", CLOCK_CONCURRENT },
		{ "aab", "abb", CLOCK_CONCURRENT },
		{ "aa", "ab", CLOCK_CONCURRENT },
		{ "abc", "abd", CLOCK_CONCURRENT },
	};
	struct clock_members members;

	(void)state;
	clock_members_init(&members, hash_key);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vector_clock a = clock_of(&members, rows[i].a);
		struct vector_clock b = clock_of(&members, rows[i].b);

		assert_int_equal(vector_clock_compare(&a, &b), rows[i].order);
		vector_clock_clear(&members, &a);
		vector_clock_clear(&members, &b);
	}
	assert_int_equal(clock_members_count(&members), 0);
}

static void
test_join_is_the_elementwise_maximum(void **state)
{
	struct clock_members members;
	struct vector_clock a, b, joined;

	(void)state;
	clock_members_init(&members, hash_key);
	a = clock_of(&members, "aaabd");
	b = clock_of(&members, "bbca");
	assert_int_equal(vector_clock_join(&joined, &a, &b), 0);
	assert_clock_text(&joined, "a:3,b:2,c:1,d:1,");
	assert_int_equal(vector_clock_compare(&a, &joined), CLOCK_BEFORE);
	assert_int_equal(vector_clock_compare(&b, &joined), CLOCK_BEFORE);
	vector_clock_clear(&members, &a);
	vector_clock_clear(&members, &b);
	assert_clock_text(&joined, "a:3,b:2,c:1,d:1,");
	vector_clock_clear(&members, &joined);
	assert_int_equal(clock_members_count(&members), 0);
}

static void
test_set_and_prune(void **state)
{
	struct clock_members members;
	struct clock_member *b;
	struct vector_clock clock;

	(void)state;
	clock_members_init(&members, hash_key);
	clock = clock_of(&members, "");
	assert_int_equal(clock_member_intern(&members, "b", 1, &b), 0);
	assert_int_equal(vector_clock_counter(&clock, b), 0);
	assert_int_equal(vector_clock_set(&clock, b, 0), KMS_ERANGE);
	assert_int_equal(
	    vector_clock_set(&clock, b, (UINT64_C(1) << 53) + 1), KMS_ERANGE);
	assert_int_equal(vector_clock_set(&clock, b, UINT64_C(1) << 53), 0);
	assert_clock_text(&clock, "b:9007199254740992,");
	assert_int_equal(vector_clock_set(&clock, b, 5), 0);
	assert_clock_text(&clock, "b:5,");
	vector_clock_clear(&members, &clock);
	clock = clock_of(&members, "ac");
	assert_int_equal(vector_clock_set(&clock, b, 7), 0);
	assert_clock_text(&clock, "a:1,b:7,c:1,");
	assert_int_equal(vector_clock_counter(&clock, b), 7);
	clock_member_release(&members, b);
	vector_clock_clear(&members, &clock);
	assert_int_equal(clock_members_count(&members), 0);
}

static bool
keep_vowels(const char *name, size_t len, void *arg)
{
	(void)arg;
	return len == 1 && strchr("aeiou", name[0]) != NULL;
}

static void
test_prune_drops_and_releases(void **state)
{
	struct clock_members members;
	struct vector_clock clock;

	(void)state;
	clock_members_init(&members, hash_key);
	clock = clock_of(&members, "abcde");
	vector_clock_prune(&members, &clock, keep_vowels, NULL);
	assert_clock_text(&clock, "a:1,e:1,");
	assert_int_equal(clock_members_count(&members), 2);
	vector_clock_clear(&members, &clock);
	clock = clock_of(&members, "abcdd");
	vector_clock_prune(&members, &clock, keep_vowels, NULL);
	assert_clock_text(&clock, "a:1,");
	vector_clock_clear(&members, &clock);
	clock = clock_of(&members, "b");
	vector_clock_prune(&members, &clock, keep_vowels, NULL);
	assert_clock_text(&clock, "");
	assert_int_equal(clock_members_count(&members), 0);
}

static void
test_parse_bounds(void **state)
{
	static struct clock_item items[CLOCK_MEMBERS_MAX + 1];
	static char names[CLOCK_MEMBERS_MAX + 1][8];
	struct clock_members members;
	struct vector_clock clock, more, joined;
	struct clock_member *extra;

	(void)state;
	clock_members_init(&members, hash_key);
	for (int i = 0; i <= CLOCK_MEMBERS_MAX; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "m%d", i);
		items[i] =
		    (struct clock_item){ names[i], strlen(names[i]), i + 1 };
	}
	assert_int_equal(
	    vector_clock_parse(&members, items, CLOCK_MEMBERS_MAX + 1, &clock),
	    KMS_ERANGE);
	assert_int_equal(
	    vector_clock_parse(&members, items, CLOCK_MEMBERS_MAX, &clock), 0);
	assert_int_equal(vector_clock_count(&clock), CLOCK_MEMBERS_MAX);
	/* Neither a join nor a set makes a clock that no peer would take. */
	assert_int_equal(
	    vector_clock_parse(&members, items + 1, CLOCK_MEMBERS_MAX, &more),
	    0);
	assert_int_equal(vector_clock_join(&joined, &clock, &more), KMS_ERANGE);
	assert_int_equal(clock_member_intern(&members, "z", 1, &extra), 0);
	assert_int_equal(vector_clock_set(&clock, extra, 1), KMS_ERANGE);
	clock_member_release(&members, extra);
	vector_clock_clear(&members, &more);
	vector_clock_clear(&members, &clock);

	items[0].counter = CLOCK_COUNTER_MAX;
	assert_int_equal(vector_clock_parse(&members, items, 1, &clock), 0);
	vector_clock_clear(&members, &clock);
	items[0].counter = CLOCK_COUNTER_MAX + 1;
	assert_int_equal(
	    vector_clock_parse(&members, items, 1, &clock), KMS_ERANGE);
	items[0].counter = -1;
	assert_int_equal(
	    vector_clock_parse(&members, items, 1, &clock), KMS_EINVAL);
	items[0].counter = 1;
	items[1] = items[0];
	assert_int_equal(
	    vector_clock_parse(&members, items, 3, &clock), KMS_EINVAL);
	items[1].member_len = 0;
	assert_int_equal(
	    vector_clock_parse(&members, items, 3, &clock), KMS_EINVAL);
	assert_int_equal(clock_members_count(&members), 0);
}

static void
test_parse_drops_zero_counters(void **state)
{
	const struct clock_item items[] = { { "c", 1, 0 }, { "b", 1, 4 },
		{ "a", 1, 0 } };
	struct clock_members members;
	struct vector_clock clock;

	(void)state;
	clock_members_init(&members, hash_key);
	assert_int_equal(vector_clock_parse(&members, items, 3, &clock), 0);
	assert_clock_text(&clock, "b:4,");
	vector_clock_clear(&members, &clock);
	assert_int_equal(vector_clock_parse(&members, items, 1, &clock), 0);
	assert_clock_text(&clock, "");
	vector_clock_clear(&members, &clock);
	assert_int_equal(vector_clock_parse(&members, NULL, 0, &clock), 0);
	assert_int_equal(vector_clock_count(&clock), 0);
	assert_int_equal(clock_members_count(&members), 0);
}

static struct vector_clock
random_clock(struct clock_members *members, struct rig_random *random,
    int64_t counters[NAMES])
{
	static const char *const names[NAMES] = { "n1", "n", "0xab", "0xaB",
		"z", "zz", "n2", "a" };
	struct clock_item items[NAMES];
	struct vector_clock clock;
	size_t count = 0, start = rig_below(random, NAMES);

	for (size_t k = 0; k < NAMES; k++) {
		size_t i = (start + k * 3) % NAMES;

		counters[i] = rig_below(random, 2) == 0
		    ? 0
		    : (int64_t)rig_below(random, 3);
		if (counters[i] > 0 || rig_below(random, 4) == 0)
			items[count++] = (struct clock_item){ names[i],
				strlen(names[i]), counters[i] };
	}
	assert_int_equal(vector_clock_parse(members, items, count, &clock), 0);
	return clock;
}

static enum clock_order
naive_compare(const int64_t a[NAMES], const int64_t b[NAMES])
{
	bool more = false, less = false;

	for (size_t i = 0; i < NAMES; i++) {
		more |= a[i] > b[i];
		less |= a[i] < b[i];
	}
	if (more && less)
		return CLOCK_CONCURRENT;
	if (!more && !less)
		return CLOCK_EQUAL;
	return more ? CLOCK_AFTER : CLOCK_BEFORE;
}

static void
test_random_clocks_against_arrays(void **state)
{
	struct rig_random random = { 7 };
	struct clock_members members;

	(void)state;
	clock_members_init(&members, hash_key);
	for (int round = 0; round < 20000; round++) {
		int64_t x[NAMES], y[NAMES], max[NAMES];
		struct vector_clock a = random_clock(&members, &random, x);
		struct vector_clock b = random_clock(&members, &random, y);
		struct vector_clock ab, ba, copy;

		for (size_t i = 0; i < NAMES; i++)
			max[i] = x[i] > y[i] ? x[i] : y[i];
		assert_int_equal(
		    vector_clock_compare(&a, &b), naive_compare(x, y));
		assert_int_equal(vector_clock_join(&ab, &a, &b), 0);
		assert_int_equal(vector_clock_join(&ba, &b, &a), 0);
		assert_int_equal(vector_clock_copy(&copy, &ab), 0);
		assert_int_equal(vector_clock_compare(&ab, &ba), CLOCK_EQUAL);
		assert_int_equal(vector_clock_compare(&copy, &ab), CLOCK_EQUAL);
		assert_int_equal(
		    vector_clock_compare(&a, &ab), naive_compare(x, max));
		vector_clock_clear(&members, &a);
		vector_clock_clear(&members, &b);
		vector_clock_clear(&members, &ab);
		vector_clock_clear(&members, &ba);
		vector_clock_clear(&members, &copy);
	}
	assert_int_equal(clock_members_count(&members), 0);
}

static void
test_a_clock_of_one_is_sixteen_bytes(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct vector_clock), 16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_siphash_known_answers),
		cmocka_unit_test(test_siphash_agrees_with_openssl),
		cmocka_unit_test(test_members_are_shared_and_counted),
		cmocka_unit_test(test_member_names_at_their_bounds),
		cmocka_unit_test(test_compare),
		cmocka_unit_test(test_join_is_the_elementwise_maximum),
		cmocka_unit_test(test_set_and_prune),
		cmocka_unit_test(test_prune_drops_and_releases),
		cmocka_unit_test(test_parse_bounds),
		cmocka_unit_test(test_parse_drops_zero_counters),
		cmocka_unit_test(test_random_clocks_against_arrays),
		cmocka_unit_test(test_a_clock_of_one_is_sixteen_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
