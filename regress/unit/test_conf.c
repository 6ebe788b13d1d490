/* kmsd.conf: values, errors by line, defaults, dump, slices; its manual. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kmsd/conf.h"
#include "kmsd/machine.h"
#include "kmsd/supervise.h"

#define BASE                                                                   \
	"kms-app-id 49\nchain-id 31337\n"                                      \
	"nova-app-registry 0x00000000000000000000000000000000000000aa\n"       \
	"kms-registry 0x00000000000000000000000000000000000000bb\n"            \
	"environment development\n"

static char reported[65536];

static void
collect(const char *message, void *arg)
{
	(void)arg;
	(void)snprintf(reported + strlen(reported),
	    sizeof(reported) - strlen(reported), "%s\n", message);
}

static void
parse(struct conf *conf, const char *text, const char *proxy)
{
	reported[0] = '\0';
	conf_init(conf, "f", collect, NULL);
	conf_parse(conf, text, strlen(text));
	conf_finish(conf, proxy);
}

static void
expect_error(const char *text, const char *message)
{
	static struct conf conf;

	parse(&conf, text, NULL);
	if (strstr(reported, message) == NULL)
		fail_msg("no \"%s\" in: %s", message, reported);
	assert_true(conf.errors > 0);
	conf_free(&conf);
}

static int
value_of(enum conf_id id, const char *text, uint64_t *number)
{
	const char *expected;

	return conf_value_parse(&conf_rows[id], text, number, &expected);
}

static void
values_are_exact(void **state)
{
	static const struct {
		enum conf_id id;
		const char *text;
		int64_t number; /* -1: refused */
	} cases[] = { { CONF_NODE_TICK, "500ms", 500 },
		{ CONF_NODE_TICK, "30s", 30000 }, { CONF_NODE_TICK, "0", 0 },
		{ CONF_NODE_TICK, "1d", 86400000 }, { CONF_NODE_TICK, "5", -1 },
		{ CONF_NODE_TICK, "5 s", -1 }, { CONF_NODE_TICK, "-5s", -1 },
		{ CONF_NODE_TICK, "18446744073709551615d", -1 },
		{ CONF_MAX_BODY, "3M", 3 << 20 }, { CONF_MAX_BODY, "1", 1 },
		{ CONF_MAX_BODY, "3m", -1 }, { CONF_MAX_BODY, "", -1 },
		{ CONF_MAX_BODY, "18446744073709551616", -1 },
		{ CONF_NONCE_RATE, "30/min", 30 }, { CONF_NONCE_RATE, "0", 0 },
		{ CONF_NONCE_RATE, "30", -1 }, { CONF_SANDBOX, "report", 0 },
		{ CONF_SANDBOX, "rep", -1 }, { CONF_SANDBOX, "report|", -1 },
		{ CONF_REQUIRE_BOUND_REQUESTS, "yes", 0 },
		{ CONF_REQUIRE_BOUND_REQUESTS, "true", -1 },
		{ CONF_LISTEN, "127.0.0.1:0", 0 },
		{ CONF_LISTEN, "[::1]:65535", 0 },
		{ CONF_LISTEN, "[::1]:65536", -1 },
		{ CONF_LISTEN, "localhost:80", -1 },
		{ CONF_LISTEN, "127.0.0.1", -1 }, { CONF_LISTEN, "::1:80", -1 },
		{ CONF_TRUSTED_PROXY, "10.0.0.0/8", 0 },
		{ CONF_TRUSTED_PROXY, "10.0.0.0/33", -1 },
		{ CONF_TRUSTED_PROXY, "10.0.0.1/8", -1 },
		{ CONF_TRUSTED_PROXY, "10.0.0.1/32", 0 },
		{ CONF_TRUSTED_PROXY, "10.0.0.1", 0 },
		{ CONF_TRUSTED_PROXY, "fd00::1/64", -1 },
		{ CONF_TRUSTED_PROXY, "::/0", 0 },
		{ CONF_TRUSTED_PROXY, "fd00::/128", 0 },
		{ CONF_TRUSTED_PROXY, "fd00::/129", -1 },
		{ CONF_TRUSTED_PROXY, "10.0.0.0/", -1 },
		{ CONF_RPC_URL, "https://a.example/x?k=1", 0 },
		{ CONF_RPC_URL, "https://u:p@a.example/", -1 },
		{ CONF_RPC_URL, "https://", -1 },
		{ CONF_RPC_URL, "https://:80/", -1 },
		{ CONF_RPC_URL, "ftp://a.example/", -1 },
		{ CONF_RPC_URL, "https://a.example/#x", -1 },
		{ CONF_KMS_REGISTRY, "00", -1 },
		{ CONF_IDENTITY, "local /etc/id", 0 },
		{ CONF_IDENTITY, "local id", -1 },
		{ CONF_IDENTITY, "capsule http://127.0.0.1:18000", 0 },
		{ CONF_IDENTITY, "capsule", -1 }, { CONF_USER_NET, "0", -1 },
		{ CONF_USER_NET, "12:13", 0 }, { CONF_USER_NET, "12:", -1 },
		{ CONF_USER_NET, "_kms-net", 0 }, { CONF_USER_NET, "a b", -1 },
		{ CONF_CHROOT, "empty", -1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t number = 0;
		int error = value_of(cases[i].id, cases[i].text, &number);

		if ((error == 0) != (cases[i].number >= 0) ||
		    (error == 0 && number != (uint64_t)cases[i].number))
			fail_msg("%s \"%s\"", conf_rows[cases[i].id].name,
			    cases[i].text);
	}
}

static void
errors_name_their_line(void **state)
{
	(void)state;
	expect_error("\n\nwhat 1\n", "f:3: unknown keyword \"what\"");
	expect_error("chain-id 1\nchain-id 1\n", "f:2: chain-id: stands");
	expect_error("chain-id\n", "f:1: chain-id: a value is missing");
	expect_error("chain-id 1\x01\n", "f:1: a control character");
	expect_error("chain-id 0\n", "f:1: chain-id: expected 1 to");
	expect_error("rpc-quorum 17\n", "f:1: rpc-quorum: expected 1 to 16");
	expect_error("", "f: kms-app-id is not set");
	expect_error(BASE, "neither rpc-url nor rpc-url-file");
	expect_error(BASE "rpc-url http://a/\nrpc-quorum 2\n",
	    "f:7: rpc-quorum: expected at most the number of endpoints (1)");
	expect_error("max-value-size 2M\n", "max-body: 3M cannot carry");
	expect_error("max-store 1M\n", "max-app-storage: expected at most");
	expect_error("max-body-memory 4M\n", "max-sync-body: expected at most");
	expect_error("identity capsule http://127.0.0.1:18000\n",
	    "max-sync-body: with a capsule");
	expect_error("sandbox report\n", "f:1: sandbox: in an enclave");
	expect_error("rpc-url http://10.1.1.1/\n", "rpc-url: in an enclave");
	expect_error(
	    "rpc-url http://127.0.0.1.example/\n", "rpc-url: in an enclave");
	expect_error("listen 127.0.0.1:1\nmetrics-listen 127.0.0.1:1\n",
	    "f:2: metrics-listen: expected another");
}

static void
defaults_follow(void **state)
{
	static struct conf conf;

	(void)state;
	parse(&conf, BASE "rpc-url http://a/ http://b/\nrpc-url http://c/\n",
	    "http://proxy:3128");
	assert_string_equal(reported, "");
	assert_int_equal(conf.values[CONF_RPC_URL].count, 3);
	assert_string_equal(
	    conf_text(&conf, CONF_EGRESS_PROXY), "http://proxy:3128");
	assert_int_equal(conf.values[CONF_TRUSTED_PROXY].count, 0);
	assert_int_equal(conf_number(&conf, CONF_MAX_VALUE_SIZE), 1 << 20);
	conf_set(&conf, CONF_LOG_LEVEL, "debug");
	assert_true(conf_is(&conf, CONF_LOG_LEVEL, "debug"));
	conf_free(&conf);
	parse(&conf, "rpc-url http://localhost:1/\n", NULL);
	assert_int_equal(conf.values[CONF_TRUSTED_PROXY].count, 2);
	conf_free(&conf);
}

struct slice {
	char text[16384];
};

static int
add_row(const char *name, const char *text, void *arg)
{
	struct slice *slice = arg;
	size_t used = strlen(slice->text);

	(void)snprintf(slice->text + used, sizeof(slice->text) - used,
	    "%s=%s\n", name, text);
	return 0;
}

static void
children_get_their_own(void **state)
{
	static struct conf conf;
	static struct slice slices[ROLES];

	(void)state;
	parse(&conf, BASE "rpc-url http://a/\nidentity local /etc/id\n", NULL);
	for (size_t r = 0; r < ROLES; r++)
		assert_int_equal(
		    conf_slice(&conf, (enum role)r, add_row, &slices[r]), 0);
	assert_non_null(strstr(slices[ROLE_NET].text, "role=net\n"));
	assert_non_null(strstr(slices[ROLE_NET].text, "max-body=3145728\n"));
	assert_non_null(strstr(slices[ROLE_NET].text, "metrics-separate=no\n"));
	assert_non_null(strstr(slices[ROLE_KEEPER].text, "identity=local\n"));
	assert_non_null(strstr(slices[ROLE_KEEPER].text, "node-tick=30000\n"));
	assert_null(strstr(slices[ROLE_KEEPER].text, "rpc-url"));
	assert_non_null(strstr(slices[ROLE_KEEPER].text, "rpc-endpoints=1\n"));
	assert_non_null(strstr(slices[ROLE_RPC].text, "rpc-url=http://a/\n"));
	assert_null(strstr(slices[ROLE_PEER].text, "rpc-url"));
	assert_null(strstr(slices[ROLE_NET].text, "chain-id"));
	conf_free(&conf);
}

static char *
dump(const struct conf *conf)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	conf_dump(conf, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void
the_dump_parses_back_to_itself(void **state)
{
	static struct conf conf, again;
	char *first, *second;

	(void)state;
	parse(&conf, BASE "rpc-url http://a/ http://b/\ntrusted-proxy ::1\n",
	    "http://proxy:3128");
	first = dump(&conf);
	parse(&again, first, NULL);
	assert_string_equal(reported, "");
	second = dump(&again);
	assert_string_equal(first, second);
	free(first);
	free(second);
	conf_free(&conf);
	conf_free(&again);
}

/* Whatever stands in the file, it ends in errors or in a configuration. */
static void
mutations_are_survived(void **state)
{
	static struct conf conf;
	char text[sizeof(BASE) + 64];
	uint32_t seed = 7;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		(void)snprintf(
		    text, sizeof(text), "%srpc-url http://a/ b\n", BASE);
		for (int i = 0; i < 4; i++) {
			seed = seed * 1664525 + 1013904223;
			text[(seed >> 8) % (sizeof(BASE) + 20)] =
			    (char)(seed >> 3);
		}
		reported[0] = '\0';
		conf_init(&conf, "f", collect, NULL);
		conf_parse(&conf, text, sizeof(BASE) + 20);
		conf_finish(&conf, NULL);
		conf_free(&conf);
	}
}

static void
the_manual_has_every_keyword_and_default(void **state)
{
	static char manual[65536];
	FILE *in = fopen("kmsd/kmsd.conf.5", "r");

	(void)state;
	assert_non_null(in);
	assert_true(fread(manual, 1, sizeof(manual) - 1, in) > 0);
	(void)fclose(in);
	for (size_t id = 0; id < CONF_COUNT; id++) {
		const struct conf_row *row = &conf_rows[id];
		char want[128];
		const char *at;

		(void)snprintf(want, sizeof(want), ".It Ic %s ", row->name);
		at = strstr(manual, want);
		if (at == NULL)
			fail_msg("%s is not in the manual", row->name);
		if (row->value == NULL)
			continue;
		(void)snprintf(want, sizeof(want), ".Cm %s .\n", row->value);
		at = strstr(at, "The default is\n");
		if (at == NULL || strncmp(at + 15, want, strlen(want)) != 0)
			fail_msg("%s: another default", row->name);
	}
}

static void
name_servers_are_found(void **state)
{
	static struct machine machine;
	char text[] = "# nameserver 9.9.9.9\nsearch a\nnameserver 1.2.3.4 # x\n"
		      "nameserver\t::1\nnameserver fe80::1%eth0\n"
		      "nameserverx 5.5.5.5\nnameserver 300.1.1.1\n"
		      "nameserver 2.2.2.2\nnameserver 3.3.3.3\n"
		      "nameserver 4.4.4.4";

	(void)state;
	machine_parse_resolv(&machine, text);
	assert_int_equal(machine.dns_count, 4);
	assert_string_equal(machine.dns[0], "1.2.3.4");
	assert_string_equal(machine.dns[1], "::1");
	assert_string_equal(machine.dns[3], "3.3.3.3");
}

static void
restarts_grow_slower(void **state)
{
	uint64_t delay = 0;

	(void)state;
	delay = supervise_delay(delay, 10);
	assert_int_equal(delay, 100);
	delay = supervise_delay(delay, 10);
	assert_int_equal(delay, 200);
	for (int i = 0; i < 10; i++)
		delay = supervise_delay(delay, 10);
	assert_int_equal(delay, 5000);
	assert_int_equal(supervise_delay(delay, 59999), 5000);
	assert_int_equal(supervise_delay(delay, 60000), 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_exact),
		cmocka_unit_test(errors_name_their_line),
		cmocka_unit_test(defaults_follow),
		cmocka_unit_test(children_get_their_own),
		cmocka_unit_test(the_dump_parses_back_to_itself),
		cmocka_unit_test(mutations_are_survived),
		cmocka_unit_test(the_manual_has_every_keyword_and_default),
		cmocka_unit_test(name_servers_are_found),
		cmocka_unit_test(restarts_grow_slower),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
