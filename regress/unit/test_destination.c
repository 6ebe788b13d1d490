/* kms-chain/destination: what is a URL, and that libcurl reads it alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <curl/curl.h>

#include "common/err.h"
#include "kms-chain/destination.h"

#define MUTATIONS 30000

static int
parse(const char *text, struct destination *out)
{
	const char *reason = NULL;
	int error = destination_parse(text, strlen(text), out, &reason);

	assert_true((error == 0) == (reason == NULL));
	return error;
}

static void
accepted(void **state)
{
	static const struct {
		const char *url, *host, *label;
		unsigned int port;
		bool tls, local, userinfo;
		int family;
	} rows[] = {
		{ "http://localhost:8545", "localhost", "http://localhost",
		    8545, false, true, false, 0 },
		{ "https://RPC.Example.com/v2/key", "rpc.example.com",
		    "https://rpc.example.com", 443, true, false, false, 0 },
		{ "HTTP://a.localhost?x", "a.localhost", "http://a.localhost",
		    80, false, true, false, 0 },
		{ "https://user:pass@h:1/", "h", "https://h", 1, true, false,
		    true, 0 },
		{ "http://127.0.0.1:65535/", "127.0.0.1", "http://127.0.0.1",
		    65535, false, false, false, AF_INET },
		{ "http://[::1]:8545/x", "::1", "http://[::1]", 8545, false,
		    false, false, AF_INET6 },
		{ "http://[2001:DB8:0::1]", "2001:db8::1",
		    "http://[2001:db8::1]", 80, false, false, false, AF_INET6 },
		{ "http://a_b-c.d1/@x:y", "a_b-c.d1", "http://a_b-c.d1", 80,
		    false, false, false, 0 },
		{ "http://notlocalhost/", "notlocalhost", "http://notlocalhost",
		    80, false, false, false, 0 },
	};
	struct destination to;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i].url, &to), 0);
		assert_string_equal(to.url, rows[i].url);
		assert_string_equal(to.host, rows[i].host);
		assert_string_equal(to.label, rows[i].label);
		assert_int_equal(to.port, rows[i].port);
		assert_int_equal(to.tls, rows[i].tls);
		assert_int_equal(to.is_local, rows[i].local);
		assert_int_equal(to.has_userinfo, rows[i].userinfo);
		assert_int_equal(to.literal.family, rows[i].family);
	}
}

static void
refused(void **state)
{
	static const char *const rows[] = { "", "http", "http:/h", "http://",
		"http:///x", "http://?x", "ftp://h/", "file:///etc/passwd",
		"//h/", "h:80", "http://h:", "http://h:0", "http://h:65536",
		"http://h:99999", "http://h:123456", "http://h:+1",
		"http://h:1x/", "http://h h/", "http://h/a b", "http://h/\t",
		"http://h/\x7f", "http://h/\xc3\xa9", "http://\xc3\xa9/",
		"http://h/#f", "http://h#f", "http://h\\x/", "http://h/\\",
		"http://a@b@c/", "http://user@/", "http://.h/", "http://h./",
		"http://a..b/", "http://h!/", "http://%68/", "http://127.1/",
		"http://2130706433/", "http://0x7f000001/", "http://1.2.3/",
		"http://1.2.3.4.5/", "http://256.1.1.1/", "http://a.0x1/",
		"http://01.2.3.4/", "http://[::1", "http://[::1]x/",
		"http://[1.2.3.4]/", "http://[fe80::1%25lo]/", "http://[]/",
		"http://::1/", "http://[::1]:/", "http://[::1]:0/" };
	struct destination to;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (parse(rows[i], &to) != KMS_EINVAL)
			fail_msg("accepted: %s", rows[i]);
		assert_int_equal(to.url[0], '\0');
	}
	assert_int_equal(
	    destination_parse("http://h/\0", 10, &to, NULL), KMS_EINVAL);
}

static void
bounds(void **state)
{
	char url[DESTINATION_URL_MAX + 2];
	struct destination to;

	(void)state;
	memset(url, 'a', sizeof(url));
	memcpy(url, "http://h/", 9);
	assert_int_equal(
	    destination_parse(url, DESTINATION_URL_MAX, &to, NULL), 0);
	assert_int_equal(strlen(to.url), DESTINATION_URL_MAX);
	assert_int_equal(
	    destination_parse(url, DESTINATION_URL_MAX + 1, &to, NULL),
	    KMS_ETOOBIG);

	/* Labels of 63, a host of 253. */
	memset(url, 'a', sizeof(url));
	memcpy(url, "http://", 7);
	url[7 + 63] = url[7 + 127] = url[7 + 191] = '.';
	assert_int_equal(destination_parse(url, 7 + 253, &to, NULL), 0);
	assert_int_equal(
	    destination_parse(url, 7 + 254, &to, NULL), KMS_EINVAL);
	assert_int_equal(destination_parse(url, 7 + 63, &to, NULL), 0);
	url[7 + 63] = 'a';
	assert_int_equal(destination_parse(url, 7 + 64, &to, NULL), KMS_EINVAL);
}

static void
servers(void **state)
{
	static const char *const bad[] = { "", "name", "1.2.3",
		"1.2.3.4:", "1.2.3.4:0", "1.2.3.4:53x", "[::1]:", "[::1]x",
		"[::1", "[1.2.3.4]:53", "::1:x", ":53" };
	struct ip_address address;
	char text[IP_ADDRESS_TEXT_SIZE];
	uint16_t port;

	(void)state;
	assert_int_equal(
	    destination_parse_server("8.8.4.4", &address, &port), 0);
	assert_int_equal(port, 53);
	assert_int_equal(
	    destination_parse_server("127.0.0.1:5353", &address, &port), 0);
	assert_int_equal(port, 5353);
	ip_address_format(&address, text);
	assert_string_equal(text, "127.0.0.1");
	assert_int_equal(destination_parse_server("::1", &address, &port), 0);
	assert_int_equal(port, 53);
	assert_int_equal(
	    destination_parse_server("[fd00::1]:54", &address, &port), 0);
	assert_int_equal(port, 54);
	ip_address_format(&address, text);
	assert_string_equal(text, "fd00::1");
	assert_int_equal(
	    destination_parse_server("[fd00::1]", &address, &port), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    destination_parse_server(bad[i], &address, &port),
		    KMS_EINVAL);
}

static void
scrubbing(void **state)
{
	struct destination to;
	char text[128];

	(void)state;
	assert_int_equal(parse("https://user:longpassword@rpc.example.com/v2/"
			       "abcdefgh12?token=zyxwvuts98",
			     &to),
	    0);
	strncpy(text,
	    "v2: abcdefgh12, longpassword at rpc.example.com, "
	    "zyxwvuts98zyxwvuts98",
	    sizeof(text));
	destination_scrub(&to, text);
	assert_string_equal(text,
	    "v2: **********, ************ at "
	    "rpc.example.com, ********************");
	assert_int_equal(parse("http://example.com:8545", &to), 0);
	strncpy(text, "connect to example.com:8545", sizeof(text));
	destination_scrub(&to, text);
	assert_string_equal(text, "connect to example.com:8545");
}

static uint64_t
next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* libcurl connects where we say it does. */
static void
compare_with_curl(const struct destination *to, CURLU *url)
{
	char *host = NULL, *port = NULL, want[8];
	size_t len;

	assert_int_equal(
	    curl_url_set(url, CURLUPART_URL, to->url, 0), CURLUE_OK);
	assert_int_equal(
	    curl_url_get(url, CURLUPART_HOST, &host, 0), CURLUE_OK);
	assert_int_equal(
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT),
	    CURLUE_OK);
	len = strlen(host);
	if (to->literal.family == AF_INET6) {
		struct ip_address address;

		assert_int_equal(
		    ip_address_parse(host + 1, len - 2, &address), 0);
		assert_memory_equal(address.bytes, to->literal.bytes, 16);
	} else {
		assert_int_equal(strcasecmp(host, to->host), 0);
	}
	(void)snprintf(want, sizeof(want), "%u", to->port);
	assert_string_equal(port, want);
	curl_free(host);
	curl_free(port);
}

static void
mutations(void **state)
{
	static const char *const seeds[] = { "http://127.0.0.1:8545/",
		"https://user:pw@rpc.example.com:443/v2/key?a=b@c",
		"http://[2001:db8::1]:80/x", "http://localhost" };
	static const char letters[] = ":/@[].?#%\\aZ09-_ x\x01\xff";
	uint64_t seed = 362436069362436069U;
	CURLU *url = curl_url();
	size_t good = 0;

	(void)state;
	assert_non_null(url);
	for (size_t n = 0; n < MUTATIONS; n++) {
		const char *from = seeds[n % 4];
		size_t len = strlen(from);
		struct destination to;
		char *text = malloc(len);

		assert_non_null(text);
		memcpy(text, from, len);
		for (uint64_t i = 1 + next_random(&seed) % 3; i > 0; i--)
			text[next_random(&seed) % len] =
			    letters[next_random(&seed) % (sizeof(letters) - 1)];
		if (destination_parse(text, len, &to, NULL) == 0) {
			good++;
			compare_with_curl(&to, url);
		}
		free(text);
	}
	curl_url_cleanup(url);
	assert_in_range(good, MUTATIONS / 20, MUTATIONS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(bounds),
		cmocka_unit_test(servers),
		cmocka_unit_test(scrubbing),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests_name("destination", tests, NULL, NULL);
}
