/*
 * kms-chain/peer_url: which addresses are public, range by range at both ends,
 * and which URLs of peers are taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/socket.h>

#include "common/err.h"
#include "kms-chain/peer_url.h"

#define MUTATIONS 40000

static const struct peer_url_rules enclave = { .enclave = true };
static const struct peer_url_rules development = { .enclave = false };

static bool
is_public(const char *text)
{
	struct ip_address address;

	if (ip_address_parse(text, strlen(text), &address) != 0)
		fail_msg("no address: %s", text);
	return ip_address_public(&address);
}

/* The first and last address of each range, and their public neighbours. */
static const struct {
	const char *first, *last;    /* not public */
	const char *before, *behind; /* public, or NULL */
} ranges[] = {
	{ "0.0.0.0", "0.255.255.255", NULL, "1.0.0.0" },
	{ "10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0" },
	{ "100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0" },
	{ "127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0" },
	{ "169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0" },
	{ "172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0" },
	{ "192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0" },
	{ "192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0" },
	{ "192.31.196.0", "192.31.196.255", "192.31.195.255", "192.31.197.0" },
	{ "192.52.193.0", "192.52.193.255", "192.52.192.255", "192.52.194.0" },
	{ "192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0" },
	{ "192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0" },
	{ "192.175.48.0", "192.175.48.255", "192.175.47.255", "192.175.49.0" },
	{ "198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0" },
	{ "198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0" },
	{ "203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0" },
	{ "224.0.0.0", "239.255.255.255", "223.255.255.255", NULL },
	{ "240.0.0.0", "255.255.255.255", NULL, NULL },

	{ "::", "::1", NULL, NULL },
	{ "::127.0.0.1", "::9.9.9.9", NULL, NULL },
	{ "::ffff:0.0.0.0", "::ffff:255.255.255.255", NULL, NULL },
	{ "::ffff:9.9.9.9", "::ffff:127.0.0.1", NULL, NULL },
	{ "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", NULL, NULL },
	{ "100::", "100::ffff:ffff:ffff:ffff", NULL, NULL },
	{ "::2", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, "2000::" },
	{ "2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
	    "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:200::" },
	{ "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", NULL, NULL },
	{ "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
	    "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::" },
	{ "2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
	    "2620:4f:7fff:ffff:ffff:ffff:ffff:ffff", "2620:4f:8001::" },
	{ "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
	    "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "3fff:1000::" },
	{ "4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	    "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL },
	{ "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, NULL },
	{ "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, NULL },
	{ "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, NULL },
	{ "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NULL, NULL },
};

static void
check(const char *text, bool want)
{
	if (is_public(text) != want)
		fail_msg("%s is %spublic", text, want ? "not " : "");
}

static void
every_range(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		check(ranges[i].first, false);
		check(ranges[i].last, false);
		if (ranges[i].before != NULL)
			check(ranges[i].before, true);
		if (ranges[i].behind != NULL)
			check(ranges[i].behind, true);
	}
	check("1.1.1.1", true);
	check("9.9.9.9", true);
	check("2606:4700::1111", true);
	check("2a00:1450::1", true);
}

/* What stands for an IPv4 address is as public as that is. */
static void
twins(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		const char *const four[] = { ranges[i].first, ranges[i].last,
			ranges[i].before, ranges[i].behind };

		for (size_t k = 0; k < 4; k++) {
			struct ip_address v4, v6 = { .family = AF_INET6 };
			bool want;

			if (four[k] == NULL || strchr(four[k], ':') != NULL)
				continue;
			assert_int_equal(
			    ip_address_parse(four[k], strlen(four[k]), &v4), 0);
			want = ip_address_public(&v4);
			memcpy(v6.bytes, "\x00\x64\xff\x9b", 4);
			memcpy(v6.bytes + 12, v4.bytes, 4);
			assert_int_equal(ip_address_public(&v6), want);
			v6 = (struct ip_address){ .family = AF_INET6 };
			memcpy(v6.bytes, "\x20\x02", 2);
			memcpy(v6.bytes + 2, v4.bytes, 4);
			assert_int_equal(ip_address_public(&v6), want);
			v6 = (struct ip_address){ .family = AF_INET6 };
			memset(v6.bytes + 10, 0xff, 2);
			memcpy(v6.bytes + 12, v4.bytes, 4);
			assert_false(ip_address_public(&v6));
		}
	}
	assert_false(ip_address_public(&(struct ip_address){ .family = 0 }));
}

static int
parse(const char *text, const struct peer_url_rules *rules,
    struct destination *out)
{
	const char *reason = NULL;
	int error = peer_url_parse(text, strlen(text), rules, out, &reason);

	assert_true((error == 0) == (reason == NULL));
	if (error != 0)
		assert_int_equal(out->url[0], '\0');
	return error;
}

static void
urls(void **state)
{
	static const struct {
		const char *url, *base; /* NULL: refused everywhere */
		bool in_enclave;
	} rows[] = {
		{ "https://peer.example.net", "https://peer.example.net",
		    true },
		{ "https://peer.example.net/", "https://peer.example.net",
		    true },
		{ "https://peer.example.net:8443/a/b//",
		    "https://peer.example.net:8443/a/b", true },
		{ "HTTPS://Peer.Example.NET/", "HTTPS://Peer.Example.NET",
		    true },
		{ "https://9.9.9.9/", "https://9.9.9.9", true },
		{ "https://[2606:4700::1111]", "https://[2606:4700::1111]",
		    true },
		{ "https://[64:ff9b::909:909]", "https://[64:ff9b::909:909]",
		    true },
		{ "http://peer.example.net", "http://peer.example.net", false },
		{ "http://127.0.0.1:4000/", "http://127.0.0.1:4000", false },
		{ "http://localhost:4000", "http://localhost:4000", false },
		{ "https://127.0.0.1", "https://127.0.0.1", false },
		{ "https://[::1]:4000/", "https://[::1]:4000", false },
		{ "https://[::ffff:7f00:1]", "https://[::ffff:7f00:1]", false },
		{ "https://169.254.169.254/latest",
		    "https://169.254.169.254/latest", false },
		{ "https://node", "https://node", false },
		{ "https://a.localhost", "https://a.localhost", false },
		{ "https://db.internal", "https://db.internal", false },
		{ "https://printer.local", "https://printer.local", false },
		{ "https://notlocal.example", "https://notlocal.example",
		    true },
		{ "https://internal.example.net",
		    "https://internal.example.net", true },
		{ "https://user@peer.example.net", NULL, false },
		{ "https://user:pw@peer.example.net/", NULL, false },
		{ "https://@peer.example.net/", NULL, false },
		{ "https://peer.example.net?", NULL, false },
		{ "https://peer.example.net/?a=b", NULL, false },
		{ "https://peer.example.net/#f", NULL, false },
		{ "https://", NULL, false },
		{ "", NULL, false },
		{ "ftp://peer.example.net", NULL, false },
		{ "https://127.1", NULL, false },
		{ "https://2130706433", NULL, false },
		{ "https://0177.0.0.1", NULL, false },
		{ "https://peer.example.net./", NULL, false },
	};
	struct destination to;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		bool taken = parse(rows[i].url, &development, &to) == 0;

		if (taken != (rows[i].base != NULL))
			fail_msg("%s in development", rows[i].url);
		if (taken)
			assert_string_equal(to.url, rows[i].base);
		if ((parse(rows[i].url, &enclave, &to) == 0) !=
		    rows[i].in_enclave)
			fail_msg("%s in an enclave", rows[i].url);
	}
}

static void
bounds(void **state)
{
	char url[DESTINATION_URL_MAX + 2];
	struct destination to;
	const char *reason;

	(void)state;
	memset(url, 'a', sizeof(url));
	memcpy(url, "https://h.example/", 18);
	assert_int_equal(
	    peer_url_parse(url, DESTINATION_URL_MAX, &enclave, &to, &reason),
	    0);
	assert_int_equal(peer_url_parse(url, DESTINATION_URL_MAX + 1, &enclave,
			     &to, &reason),
	    KMS_ETOOBIG);
	assert_int_equal(
	    peer_url_parse("https://h.example\0", 18, &enclave, &to, &reason),
	    KMS_EINVAL);
}

static bool
proxied(const char *url, const struct peer_url_rules *rules)
{
	struct destination to;

	assert_int_equal(parse(url, rules, &to), 0);
	return peer_url_through_proxy(&to, rules);
}

static void
proxy(void **state)
{
	(void)state;
	assert_true(proxied("https://peer.example.net", &enclave));
	assert_true(proxied("https://9.9.9.9", &enclave));
	assert_true(proxied("https://peer.example.net", &development));
	assert_true(proxied("http://9.9.9.9", &development));
	assert_false(proxied("http://127.0.0.1:4000", &development));
	assert_false(proxied("http://[::1]:4000", &development));
	assert_false(proxied("http://localhost", &development));
	assert_false(proxied("http://node1:4000", &development));
}

/* Whatever an enclave takes keeps every rule. */
static void
mutations(void **state)
{
	static const char *const seeds[] = { "https://127.0.0.1:8545/x",
		"https://peer.example.net:443/a/", "https://[2001:db8::1]:80/",
		"https://[::ffff:10.0.0.1]", "http://9.9.9.9" };
	static const char letters[] = ":/@[].?#%\\aZ0912fx_- \x01\xff";
	uint64_t seed = 88172645463325252U;
	size_t good = 0;

	(void)state;
	for (size_t n = 0; n < MUTATIONS; n++) {
		const char *from = seeds[n % 5], *reason;
		size_t len = strlen(from);
		char *text = malloc(len);
		struct destination to;

		assert_non_null(text);
		memcpy(text, from, len);
		for (size_t k = 0; k < 1 + n % 3; k++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			text[seed % len] =
			    letters[(seed >> 32) % (sizeof(letters) - 1)];
		}
		if (peer_url_parse(text, len, &enclave, &to, &reason) == 0) {
			good++;
			assert_true(to.tls && !to.has_userinfo);
			assert_null(strpbrk(to.url, "?#\\ "));
			assert_true(to.url[strlen(to.url) - 1] != '/');
			if (to.literal.family != 0)
				assert_true(ip_address_public(&to.literal));
			else
				assert_non_null(strchr(to.host, '.'));
		} else {
			assert_non_null(reason);
		}
		free(text);
	}
	assert_in_range(good, MUTATIONS / 50, MUTATIONS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_range),
		cmocka_unit_test(twins),
		cmocka_unit_test(urls),
		cmocka_unit_test(bounds),
		cmocka_unit_test(proxy),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests_name("peer_url", tests, NULL, NULL);
}
