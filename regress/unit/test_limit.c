/* kms-net/limit and address: buckets, bounds, and who a client is. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "kms-net/address.h"
#include "kms-net/bytes.h"
#include "kms-net/limit.h"

static const uint64_t key[3] = { 0x123456789abcdef1U, 0xfedcba9876543211U,
	0x0f1e2d3c4b5a6971U };

static struct limit limit;

static struct address
address(const char *text)
{
	struct address out;

	assert_int_equal(address_parse(text, strlen(text), &out), 0);
	return out;
}

static void
test_bucket(void **state)
{
	struct address a = address("192.0.2.1"), b = address("192.0.2.2");
	unsigned int wait;

	(void)state;
	limit_init(&limit, 30, 120, key);
	for (int i = 0; i < 30; i++)
		assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 0);
	wait = limit_take(&limit, &a, LIMIT_NONCE, 1000);
	assert_int_equal(wait, 2);
	assert_int_equal(limit_take(&limit, &a, LIMIT_REQUEST, 1000), 0);
	assert_int_equal(limit_take(&limit, &b, LIMIT_NONCE, 1000), 0);
	assert_int_not_equal(limit_take(&limit, &a, LIMIT_NONCE, 2999), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 3000), 0);
	assert_int_not_equal(limit_take(&limit, &a, LIMIT_NONCE, 3000), 0);
	/* Never more than a full bucket, however long the pause. */
	for (int i = 0; i < 30; i++)
		assert_int_equal(
		    limit_take(&limit, &a, LIMIT_NONCE, 1000000000), 0);
	assert_int_not_equal(
	    limit_take(&limit, &a, LIMIT_NONCE, 1000000000), 0);
}

/* A changed rate holds at once, and for known clients; another is untouched. */
static void
test_new_rates(void **state)
{
	struct address a = address("192.0.2.1");

	(void)state;
	limit_init(&limit, 0, 2, key);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_REQUEST, 1000), 0);
	limit_set_rates(&limit, 3, 2);
	for (int i = 0; i < 3; i++)
		assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 20);
	assert_int_equal(limit_take(&limit, &a, LIMIT_REQUEST, 1000), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_REQUEST, 1000), 30);
	limit_set_rates(&limit, 1, 2);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 60);
	limit_set_rates(&limit, 0, 2);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 1000), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_REQUEST, 1000), 30);
}

static void
test_rates(void **state)
{
	static const uint64_t rates[] = { 1, 7, 60, 1000, LIMIT_RATE_MAX };
	struct address a = address("192.0.2.1");

	(void)state;
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		uint64_t taken = 0;

		/* One minute of trying: the burst and one more fill. */
		limit_init(&limit, rates[i], 0, key);
		for (uint64_t ms = 0; ms <= 60000; ms += 10) {
			while (taken < 3 * rates[i]) {
				unsigned int wait =
				    limit_take(&limit, &a, LIMIT_NONCE, ms);

				if (wait > 0) {
					assert_in_range(wait, 1, 60);
					break;
				}
				taken++;
			}
		}
		assert_int_equal(taken, 2 * rates[i]);
	}
	limit_init(&limit, 0, 0, key);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 0), 0);
}

static void
test_give(void **state)
{
	struct address a = address("192.0.2.1");

	(void)state;
	limit_init(&limit, 2, 2, key);
	limit_give(&limit, &a, LIMIT_NONCE); /* unknown: nothing happens */
	for (int i = 0; i < 100; i++) {
		assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 5), 0);
		limit_give(&limit, &a, LIMIT_NONCE);
	}
	limit_give(&limit, &a, LIMIT_NONCE);
	limit_give(&limit, &a, LIMIT_NONCE);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 5), 0);
	assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, 5), 0);
	assert_int_not_equal(limit_take(&limit, &a, LIMIT_NONCE, 5), 0);
}

/* A flood of others leaves the table as large as it is, and spreads. */
static void
test_flood(void **state)
{
	struct address a = address("2001:db8::");
	size_t used = 0;

	(void)state;
	limit_init(&limit, 1, 0, key);
	for (uint32_t i = 0; i < 100000; i++) {
		memcpy(a.bytes + 3, &i, sizeof(i));
		assert_int_equal(limit_take(&limit, &a, LIMIT_NONCE, i), 0);
		assert_int_not_equal(limit_take(&limit, &a, LIMIT_NONCE, i), 0);
	}
	for (size_t set = 0; set < LIMIT_SETS; set++) {
		for (size_t way = 0; way < LIMIT_WAYS; way++)
			used += limit.entries[set][way].used;
	}
	assert_true(used > LIMIT_SETS * LIMIT_WAYS * 9 / 10);
}

static void
test_addresses(void **state)
{
	static const char *const good[] = { "192.0.2.1", "192.0.2.1:80", "::1",
		"2001:db8::1", "[2001:db8::1]", "[::1]:65535",
		"::ffff:192.0.2.1" };
	static const char *const bad[] = { "", "unknown", "192.0.2",
		"192.0.2.1:", "192.0.2.1:x", "192.0.2.256", "[::1", "[::1]x",
		"[::1]:", "::1:", "1.2.3.4:1234567", "_hidden", "[1.2.3.4]x",
		"2001:db8:0000:0000:0000:0000:0000:0001:0000:0000" };
	struct address out, v4 = address("192.0.2.1");

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		(void)address(good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    address_parse(bad[i], strlen(bad[i]), &out), KMS_EINVAL);
	out = address("::ffff:192.0.2.1");
	assert_memory_equal(&out, &v4, sizeof(v4));
	out = address_client(&v4);
	assert_memory_equal(&out, &v4, sizeof(v4));
	out = address("2001:db8:1:2:3:4:5:6");
	out = address_client(&out);
	v4 = address("2001:db8:1:2::");
	assert_memory_equal(&out, &v4, sizeof(v4));
}

static bool
contains(const char *network_text, const char *text)
{
	struct network network;
	struct address a = address(text);

	assert_int_equal(network_parse(network_text, &network), 0);
	return network_contains(&network, &a);
}

static void
test_networks(void **state)
{
	static const char *const bad[] = { "", "/8", "10.0.0.0/", "10.0.0.0/33",
		"10.0.0.1/8", "::/129", "::1/64", "10.0.0.0/8x",
		"10.0.0.0/0008", "x/8", "10.0.0.0:80" };
	struct network network;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(network_parse(bad[i], &network), KMS_EINVAL);
	assert_true(contains("10.0.0.0/8", "10.255.0.1"));
	assert_false(contains("10.0.0.0/8", "11.0.0.0"));
	assert_true(contains("10.0.0.128/25", "10.0.0.129"));
	assert_false(contains("10.0.0.128/25", "10.0.0.127"));
	assert_true(contains("0.0.0.0/0", "203.0.113.9"));
	assert_false(contains("0.0.0.0/0", "2001:db8::1"));
	assert_true(contains("127.0.0.1", "127.0.0.1"));
	assert_true(contains("127.0.0.1", "::ffff:127.0.0.1"));
	assert_false(contains("127.0.0.1", "127.0.0.2"));
	assert_true(contains("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(contains("2001:db8::/33", "2001:db8:8000::1"));
}

static int
forwarded(const char *headers, struct address *out)
{
	static char text[1024];
	struct http_request request;
	struct network trusted;
	size_t used;
	char *end = stpcpy(text, "GET / HTTP/1.1\r\nHost: a\r\n");

	end = stpcpy(stpcpy(end, headers), "\r\n");
	http_request_init(&request);
	assert_int_equal(http_request_parse(&request, text,
			     (size_t)(end - text), &http_limits_default, &used),
	    0);
	assert_int_equal(network_parse("10.0.0.0/8", &trusted), 0);
	return address_forwarded(&request.head, &trusted, 1, out);
}

#define XFF "X-Forwarded-For: "

static void
test_forwarded(void **state)
{
	static const struct {
		const char *headers,
		    *client; /* NULL: trusted addresses alone */
	} rows[] = {
		{ XFF "192.0.2.1\r\n", "192.0.2.1" },
		{ XFF "192.0.2.9, 192.0.2.1\r\n", "192.0.2.1" },
		{ XFF "x,192.0.2.1 ,\t10.0.0.1\r\n", "192.0.2.1" },
		{ XFF "192.0.2.1\r\n" XFF "10.2.3.4\r\n", "192.0.2.1" },
		{ XFF "192.0.2.2\r\nx-forwarded-FOR:192.0.2.1\r\n",
		    "192.0.2.1" },
		{ XFF "[2001:db8::1]:99\r\n", "2001:db8::1" },
		{ XFF "10.0.0.1\r\n", NULL },
		{ "Forwarded: for=192.0.2.1\r\n", NULL },
	};
	struct address out, expected;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int rc = forwarded(rows[i].headers, &out);

		if (rows[i].client == NULL) {
			assert_int_equal(rc, KMS_ENOENT);
			continue;
		}
		assert_int_equal(rc, 0);
		expected = address(rows[i].client);
		assert_memory_equal(&out, &expected, sizeof(out));
	}
	assert_int_equal(forwarded(XFF "192.0.2.1, x\r\n", &out), KMS_EINVAL);
	assert_int_equal(forwarded(XFF "192.0.2.1,\r\n", &out), KMS_EINVAL);
	assert_int_equal(forwarded(XFF "\r\n", &out), KMS_EINVAL);
}

static void
test_sockets(void **state)
{
	struct sockaddr_storage from = { .ss_family = AF_INET };
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(0xc0000201) };
	struct address out, expected = address("192.0.2.1");

	(void)state;
	memcpy(&from, &in, sizeof(in));
	assert_int_equal(address_from_socket(&from, &out), 0);
	assert_memory_equal(&out, &expected, sizeof(out));
	from.ss_family = AF_UNIX;
	assert_int_equal(address_from_socket(&from, &out), KMS_EINVAL);
}

static void
test_budget(void **state)
{
	struct budget budget = { .max = 10000 };
	struct bytes a = { 0 }, b = { 0 };
	static const char data[10000];

	(void)state;
	assert_int_equal(bytes_append(&a, &budget, data, 5000, 5000), 0);
	assert_int_equal(budget.used, 5000);
	assert_int_equal(bytes_append(&b, &budget, data, 5001, 0), KMS_EBUSY);
	assert_int_equal(b.len, 0);
	assert_int_equal(bytes_append(&b, &budget, data, 5000, 0), 0);
	assert_int_equal(budget.used, 10000);
	assert_int_equal(bytes_append(&a, &budget, data, 1, 0), KMS_EBUSY);
	bytes_consume(&b, 4999);
	assert_int_equal(b.len, 1);
	assert_int_equal(bytes_append(&b, &budget, data, 4999, 0), 0);
	bytes_free(&a, &budget);
	bytes_free(&b, &budget);
	assert_int_equal(budget.used, 0);
}

static void
test_budget_share(void **state)
{
	struct budget all = { 0, 10000, NULL };
	struct budget one = { 0, 6000, &all }, two = { 0, 6000, &all };
	struct bytes a = { 0 }, b = { 0 };
	static const char data[10000];

	(void)state;
	assert_int_equal(bytes_append(&a, &one, data, 6001, 0), KMS_EBUSY);
	assert_int_equal(one.used, 0);
	assert_int_equal(all.used, 0);
	assert_int_equal(bytes_append(&a, &one, data, 6000, 6000), 0);
	assert_int_equal(all.used, 6000);
	/* Its own share would allow it, that of all does not. */
	assert_int_equal(bytes_append(&b, &two, data, 4001, 4001), KMS_EBUSY);
	assert_int_equal(two.used, 0);
	assert_int_equal(bytes_append(&b, &two, data, 4000, 4000), 0);
	bytes_free(&a, &one);
	assert_int_equal(one.used, 0);
	assert_int_equal(all.used, 4000);
	bytes_free(&b, &two);
	assert_int_equal(all.used, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bucket),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_new_rates),
		cmocka_unit_test(test_give),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_networks),
		cmocka_unit_test(test_forwarded),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_budget_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
