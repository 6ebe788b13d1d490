/*
 * kmsd.conf and the environment: values, errors by their place, defaults,
 * dump, slices; the manual and the sample.
 */
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
parse_with(struct conf *conf, const char *text, char *const *environment,
    const char *proxy)
{
	reported[0] = '\0';
	conf_init(conf, "f", collect, NULL);
	conf_parse(conf, text, strlen(text));
	conf_environment(conf, environment);
	conf_finish(conf, proxy);
}

static void
parse(struct conf *conf, const char *text, const char *proxy)
{
	parse_with(conf, text, NULL, proxy);
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
		{ CONF_TRUSTED_PROXY, "10.0.0.0/0008", -1 },
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
		{ CONF_IDENTITY, "capsule http://[::1]:18000", 0 },
		{ CONF_IDENTITY, "capsule http://127.1.2.3:1", 0 },
		{ CONF_IDENTITY, "capsule https://127.0.0.1:18000", -1 },
		{ CONF_IDENTITY, "capsule http://127.0.0.1", -1 },
		{ CONF_IDENTITY, "capsule http://127.0.0.1:0", -1 },
		{ CONF_IDENTITY, "capsule http://127.0.0.1:18000/", -1 },
		{ CONF_IDENTITY, "capsule http://localhost:18000", -1 },
		{ CONF_IDENTITY, "capsule http://10.0.0.1:18000", -1 },
		{ CONF_IDENTITY, "capsule http://[::2]:18000", -1 },
		{ CONF_IDENTITY, "capsule http://a@127.0.0.1:18000", -1 },
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

/* ---- what is wrong, where, and what was expected ---- */

#define ENCLAVE                                                                \
	"kms-app-id 49\nchain-id 31337\n"                                      \
	"nova-app-registry 0x00000000000000000000000000000000000000aa\n"       \
	"kms-registry 0x00000000000000000000000000000000000000bb\n"
#define RPC "rpc-url https://rpc.example/\n"

static const struct broken {
	const char *text;
	const char *variables[4];
	const char *errors; /* all of them, a line each */
} broken[] = {
	{ "\n\nwhat 1\n" BASE RPC, { NULL },
	    "f:3: what: expected a keyword of kmsd.conf(5), got \"what\"\n" },
	{ BASE RPC "log-levle info\n", { NULL },
	    "f:7: log-levle: expected a keyword of kmsd.conf(5), perhaps "
	    "log-level, got \"log-levle\"\n" },
	{ BASE RPC "chain-id 1\n", { NULL },
	    "f:7: chain-id: expected once in a file, got it in line 2 "
	    "already\n" },
	{ BASE RPC "sandbox\nlisten # none\n", { NULL },
	    "f:7: sandbox: expected require|report, got nothing\n"
	    "f:8: listen: expected address:port such as 127.0.0.1:8000 or "
	    "[::]:8000, got nothing\n" },
	{ BASE RPC "log-level in\x01o\nuser-net k\xc3\xa9\n", { NULL },
	    "f:7: log-level: expected printable ASCII, got a byte 0x01\n"
	    "f:8: user-net: expected printable ASCII, got a byte 0xc3\n" },
	{ BASE RPC "rpc-quorum 17\nnode-tick 5ms\nmax-body 2G\n"
		   "max-sync-body soon\n",
	    { NULL },
	    "f:7: rpc-quorum: expected 1 to 16, got 17\n"
	    "f:8: node-tick: expected 100ms to 1h, got 5ms\n"
	    "f:9: max-body: expected 4K to 1G, got 2G\n"
	    "f:10: max-sync-body: expected bytes such as 4096, 512K, 3M or "
	    "1G, got \"soon\"\n" },
	{ "", { NULL },
	    "f: kms-app-id: expected a number, got nothing\n"
	    "f: chain-id: expected a number, got nothing\n"
	    "f: nova-app-registry: expected an address of 40 hex digits, got "
	    "nothing\n"
	    "f: kms-registry: expected an address of 40 hex digits, got "
	    "nothing\n"
	    "f: rpc-url: expected it or rpc-url-file, got neither\n" },
	{ BASE "rpc-url http://a/\nrpc-quorum 2\n", { NULL },
	    "f:7: rpc-quorum: expected at most the number of endpoints (1), "
	    "got 2\n" },
	{ BASE RPC "max-body 1M\n", { NULL },
	    "f:7: max-body: expected at least 2812592, which carries a value "
	    "of max-value-size (1M), got 1M\n" },
	{ BASE RPC "max-value-size 2M\n", { NULL },
	    "f:7: max-value-size: expected at most 1173504, which max-body "
	    "(3M) carries, got 2M\n" },
	{ BASE RPC "max-sync-body 3M\n", { NULL },
	    "f:7: max-sync-body: expected at least 4210688, which carries a "
	    "value of max-value-size (1M), got 3M\n" },
	{ BASE RPC "max-store 1M\nmax-body-memory 4M\n", { NULL },
	    "f:8: max-body-memory: expected at least max-sync-body (50M), got "
	    "4M\n"
	    "f:7: max-store: expected at least max-app-storage (10M), got "
	    "1M\n" },
	{ BASE RPC "membership-max-age 60s\nregistry-cache-ttl 90s\n", { NULL },
	    "f:8: registry-cache-ttl: expected at most membership-max-age "
	    "(60s), got 90s\n"
	    "f:7: membership-max-age: expected at least peer-cache-ttl "
	    "(180s), got 60s\n" },
	{ BASE RPC "replica-timeout 20s\n", { NULL },
	    "f:7: replica-timeout: expected at most request-timeout (10s), "
	    "got 20s\n" },
	{ BASE RPC "identity capsule http://127.0.0.1:18000\n"
		   "max-sync-body 50M\nmax-body 11M\n",
	    { NULL },
	    "f:9: max-body: expected at most 10M with a capsule identity, got "
	    "11M\n"
	    "f:8: max-sync-body: expected at most 10M with a capsule "
	    "identity, got 50M\n" },
	{ ENCLAVE "rpc-url http://10.1.1.1/\nrpc-url http://127.0.0.1.x/p/k\n"
		  "sandbox report\nnode-url http://n/\n",
	    { NULL },
	    "f:7: sandbox: expected require in an enclave, got report\n"
	    "f:8: node-url: expected an https URL in an enclave, got "
	    "http://n/\n"
	    "f:5: rpc-url: expected https, or http to loopback, in an "
	    "enclave, got http://10.1.1.1/\n"
	    "f:6: rpc-url: expected https, or http to loopback, in an "
	    "enclave, got http://127.0.0.1.x/...\n" },
	{ BASE "rpc-url https://a/x\nrpc-url https://b/ https://a/x\n",
	    { NULL },
	    "f:7: rpc-url: expected each endpoint once, got https://a/... "
	    "twice\n" },
	{ BASE "rpc-url https://me:word@a/ https://me:wo/rd@a/ ws://a/ "
	       "https://a:0/ https://a_b:99999/ https://[::1/\n",
	    { NULL },
	    "f:6: rpc-url: expected an http or https URL without "
	    "credentials, got \"https://...@a/\"\n"
	    "f:6: rpc-url: expected an http or https URL without "
	    "credentials, got \"https://...@a/\"\n"
	    "f:6: rpc-url: expected an http or https URL without "
	    "credentials, got \"ws://a/\"\n"
	    "f:6: rpc-url: expected an http or https URL without "
	    "credentials, got \"https://a:0/\"\n"
	    "f:6: rpc-url: expected an http or https URL without "
	    "credentials, got \"https://a_b:99999/\"\n"
	    "f:6: rpc-url: expected an http or https URL without "
	    "credentials, got \"https://[::1/\"\n" },
	{ BASE RPC "listen 0.0.0.0:80\nmetrics-listen 127.0.0.1:80\n", { NULL },
	    "f:8: metrics-listen: expected another address or port than "
	    "listen (0.0.0.0:80), got 127.0.0.1:80\n" },
	{ "kms-app-id 49\nchain-id 31337\n" RPC
	  "nova-app-registry 0x00000000000000000000000000000000000000AA\n"
	  "kms-registry 0x00000000000000000000000000000000000000aa\n",
	    { NULL },
	    "f:5: kms-registry: expected another contract than "
	    "nova-app-registry, got "
	    "0x00000000000000000000000000000000000000aa\n" },
	/* the environment */
	{ BASE RPC,
	    { "KMS_LOG_LEVEL=loud", "KMS_NODE_TICK=2h", "KMS_RPC_QUORUM=" },
	    "KMS_LOG_LEVEL: expected error|warn|info|debug, got \"loud\"\n"
	    "KMS_NODE_TICK: expected 100ms to 1h, got 2h\n"
	    "KMS_RPC_QUORUM: expected a number, got nothing\n" },
	{ BASE RPC, { "KMS_LISTNE=1", "KMS_MASTER_SECRET=s3cret", "KMS_=x" },
	    "KMS_LISTNE: expected KMS_<KEYWORD> of kmsd.conf(5), perhaps "
	    "KMS_LISTEN, got no keyword\n"
	    "KMS_MASTER_SECRET: expected KMS_<KEYWORD> of kmsd.conf(5), got "
	    "no keyword\n"
	    "KMS_: expected KMS_<KEYWORD> of kmsd.conf(5), got no keyword\n" },
	{ "environment development\nchain-id 1\n" RPC,
	    { "KMS_REGISTRY=0x00000000000000000000000000000000000000bb",
		"KMS_KMS_REGISTRY=0x00000000000000000000000000000000000000bb",
		"KMS_MAX_BODY=1M" },
	    "KMS_REGISTRY: expected one variable for kms-registry, got "
	    "KMS_KMS_REGISTRY too\n"
	    "f: kms-app-id: expected a number, got nothing\n"
	    "f: nova-app-registry: expected an address of 40 hex digits, got "
	    "nothing\n"
	    "KMS_MAX_BODY: expected at least 2812592, which carries a value "
	    "of max-value-size (1M), got 1M\n" },
	{ BASE,
	    { "KMS_RPC_URL=https://a/v3/0123456789abcdef,https://b/?key=k "
	      "http://c/rpc" },
	    "KMS_RPC_URL: expected a URL without query and long path, which "
	    "is no credential (else use rpc-url-file), got https://a/...\n"
	    "KMS_RPC_URL: expected a URL without query and long path, which "
	    "is no credential (else use rpc-url-file), got https://b/...\n" },
	{ BASE RPC "max-body 2M\n", { "KMS_MAX_VALUE_SIZE=900K" },
	    "f:7: max-body: expected at least 2473984, which carries a value "
	    "of max-value-size (900K), got 2M\n" },
};

static void
every_error_is_listed_with_its_place(void **state)
{
	static struct conf conf;

	(void)state;
	assert_true(sizeof(broken) / sizeof(broken[0]) > 20);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		char *environment[5] = { NULL };
		unsigned int lines = 0;

		for (size_t v = 0; v < 4 && broken[i].variables[v] != NULL; v++)
			environment[v] =
			    (char *)(uintptr_t)broken[i].variables[v];
		parse_with(&conf, broken[i].text, environment, NULL);
		if (strcmp(reported, broken[i].errors) != 0)
			fail_msg("case %zu: expected\n%sgot\n%s", i,
			    broken[i].errors, reported);
		for (const char *p = reported; *p != '\0'; p++)
			lines += *p == '\n';
		assert_int_equal(conf.errors, lines);
		conf_free(&conf);
	}
}

static void
errors_are_one_line_and_show_no_credential(void **state)
{
	char *environment[] = { (char[]){ "KMS_A\nB=1" },
		(char[]){ "KMS_USER_NET=a\nb" }, NULL };
	static struct conf conf;

	(void)state;
	parse_with(&conf, BASE RPC, environment, NULL);
	assert_string_equal(reported,
	    "KMS_A?B: expected KMS_<KEYWORD> of kmsd.conf(5), got no keyword\n"
	    "KMS_USER_NET: expected printable ASCII, got a byte 0x0a\n");
	conf_free(&conf);
	parse(&conf, BASE RPC "egress-proxy ftp://me:word@a/\n", NULL);
	assert_int_equal(conf.errors, 1);
	assert_null(strstr(reported, "word"));
	conf_free(&conf);
	parse(&conf, BASE "rpc-url me:word@a\n", NULL);
	assert_int_equal(conf.errors, 1);
	assert_null(strstr(reported, "word"));
	conf_free(&conf);
	parse(&conf, BASE RPC, "http://me:word@proxy:3128");
	assert_string_equal(reported,
	    "https_proxy: expected an http or https URL without credentials, "
	    "got \"http://...@proxy:3128\"\n");
	conf_free(&conf);
}

static void
the_environment_is_second(void **state)
{
	char *environment[] = { (char[]){ "KMS_LISTEN=127.0.0.1:1" },
		(char[]){ "KMS_CHAIN_ID=garbage" },
		(char[]){ "KMS_RPC_URL=https://a/ , https://b/\nhttps://c/x" },
		(char[]){ "KMS_TRUSTED_PROXY=10.0.0.0/8" },
		(char[]){ "PATH=/bin" }, (char[]){ "KMSX=1" },
		(char[]){ "KMS_NODE=http://n/" }, (char[]){ "KMS_RPC=x" },
		(char[]){ "KMS_CONTROL=s" },
		/* what an orchestrator says of services kms and kms-node */
		(char[]){ "KMS_SERVICE_HOST=10.0.0.1" },
		(char[]){ "KMS_SERVICE_PORT_HTTP=80" },
		(char[]){ "KMS_PORT=tcp://10.0.0.1:80" },
		(char[]){ "KMS_PORT_80_TCP_ADDR=10.0.0.1" },
		(char[]){ "KMS_NODE_PORT_80_TCP=x" }, NULL };
	static struct conf conf;
	char **copy;

	(void)state;
	assert_true(conf_environment_any(environment));
	assert_false(conf_environment_any(environment + 4));
	copy = conf_environment_copy(environment);
	assert_non_null(copy);
	parse_with(&conf, BASE, copy, NULL);
	assert_string_equal(reported, "");
	assert_string_equal(conf_text(&conf, CONF_LISTEN), "127.0.0.1:1");
	assert_int_equal(conf_number(&conf, CONF_CHAIN_ID), 31337);
	assert_int_equal(conf.values[CONF_RPC_URL].count, 3);
	assert_string_equal(
	    conf.values[CONF_RPC_URL].items[2].text, "https://c/x");
	assert_int_equal(conf.values[CONF_TRUSTED_PROXY].count, 1);
	conf_free(&conf);
	free(copy);
}

/* Each keyword's variable is taken, and says so in the dump. */
static void
every_keyword_has_a_variable(void **state)
{
	static struct conf conf;

	(void)state;
	for (size_t i = 0; i < CONF_COUNT; i++) {
		enum conf_id id = (enum conf_id)i;
		char name[CONF_VARIABLE_LEN], entry[256];
		char *environment[] = { entry, NULL };

		conf_variable(id, name);
		assert_true(strlen(name) < CONF_VARIABLE_LEN - 1);
		(void)snprintf(entry, sizeof(entry), "%s=\x01", name);
		parse_with(&conf, "", environment, NULL);
		assert_int_equal(
		    conf.values[id].origin, CONF_ORIGIN_ENVIRONMENT);
		(void)snprintf(entry, sizeof(entry),
		    "%s: expected printable ASCII, got a byte 0x01\n", name);
		assert_ptr_equal(strstr(reported, entry), reported);
		conf_free(&conf);
	}
}

static void
a_reload_knows_what_changed(void **state)
{
	static struct conf conf, other;

	(void)state;
	parse(&conf, BASE RPC "trusted-proxy ::1\n", NULL);
	parse(&other, BASE RPC "trusted-proxy ::1 10.0.0.1\nnonce-rate 1/min\n",
	    NULL);
	assert_true(conf_same(&conf, &other, CONF_RPC_URL));
	assert_true(conf_same(&conf, &other, CONF_NODE_URL));
	assert_false(conf_same(&conf, &other, CONF_TRUSTED_PROXY));
	assert_false(conf_same(&conf, &other, CONF_NONCE_RATE));
	conf_swap(&conf, &other, CONF_TRUSTED_PROXY);
	assert_int_equal(conf.values[CONF_TRUSTED_PROXY].count, 2);
	assert_int_equal(other.values[CONF_TRUSTED_PROXY].count, 1);
	conf_free(&conf);
	conf_free(&other);
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

/* One blank for many. */
static void
squeeze(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		if (from == text || *from != ' ' || from[-1] != ' ')
			*to++ = *from;
	}
	*to = '\0';
}

/* Without its comments. */
static void
strip(char *text)
{
	char *to = text;
	int comment = 0;

	for (const char *from = text; *from != '\0'; from++) {
		comment = *from == '#' || (comment && *from != '\n');
		if (!comment)
			*to++ = *from;
	}
	*to = '\0';
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
	squeeze(text);
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
	strip(first);
	strip(second);
	assert_string_equal(first, second);
	free(first);
	free(second);
	conf_free(&conf);
	conf_free(&again);
}

/* Where a value came from, and what else there was. */
static void
the_dump_tells_origins(void **state)
{
	char *environment[] = { (char[]){ "KMS_NODE_TICK=7s" },
		(char[]){ "KMS_LISTEN=127.0.0.1:1" }, NULL };
	static struct conf conf;
	char *text;

	(void)state;
	parse_with(&conf,
	    BASE "listen 127.0.0.1:2 # here\nrpc-url http://a/\n\n"
		 "rpc-url http://b/\n",
	    environment, "http://proxy:3128");
	conf_set(&conf, CONF_LOG_LEVEL, "debug");
	assert_string_equal(reported, "");
	text = dump(&conf);
	for (const char *const *want =
		 (const char *const[]){ "\nsync-batch 500 # default\n",
		     "\nlog-level debug # option\n", "\n#node-url # not set\n",
		     "\nnode-tick 7s # environment KMS_NODE_TICK\n",
		     "\nrpc-url http://a/ # f:7\nrpc-url http://b/ # f:9\n",
		     "\negress-proxy http://proxy:3128 # environment "
		     "https_proxy\n",
		     NULL };
	     *want != NULL; want++) {
		if (strstr(text, *want) == NULL)
			fail_msg("no \"%s\" in %s", *want, text);
	}
	assert_ptr_equal(
	    strstr(text, "listen 127.0.0.1:2 # f:6, not KMS_LISTEN\n"), text);
	free(text);
	conf_free(&conf);
}

/*
 * Whatever stands in the file and the environment, it ends in errors of a line
 * each or in a configuration that its own dump gives again.
 */
static void
mutations_are_survived(void **state)
{
	static struct conf conf, again;
	static const char start[] =
	    BASE "rpc-url http://a/ http://b/\nlisten [::1]:4000 # here\n"
		 "trusted-proxy 10.0.0.0/8\nmax-value-size 900K\n";
	unsigned int good = 0;
	uint32_t seed = 7;

	(void)state;
	for (int round = 0; round < 12000; round++) {
		char text[sizeof(start)], variable[] = "KMS_NODE_TICK=30s";
		char *environment[] = { variable, NULL };
		int changes = round % 4;

		memcpy(text, start, sizeof(text));
		for (int i = 0; i < changes; i++) {
			seed = seed * 1664525 + 1013904223;
			text[(seed >> 8) % (sizeof(text) - 1)] =
			    (char)(seed >> 3);
			variable[4 + (seed >> 6) % 13] = (char)(seed >> 12 | 1);
		}
		reported[0] = '\0';
		conf_init(&conf, "f", collect, NULL);
		conf_parse(&conf, text, sizeof(text) - 1);
		conf_environment(&conf, environment);
		conf_finish(&conf, NULL);
		for (const char *p = reported; *p != '\0';
		     p = strchr(p, '\n') + 1)
			assert_true(strncmp(p, "f:", 2) == 0 ||
			    strncmp(p, "KMS_", 4) == 0);
		if (conf.errors == 0) {
			char *shown = dump(&conf);

			good++;
			parse(&again, shown, NULL);
			assert_string_equal(reported, "");
			for (size_t id = 0; id < CONF_COUNT; id++)
				assert_true(
				    conf_same(&conf, &again, (enum conf_id)id));
			conf_free(&again);
			free(shown);
		}
		conf_free(&conf);
	}
	assert_true(good > 100);
}

/* A whole file, with a NUL behind it. */
static char *
read_text(const char *path)
{
	static char text[65536];
	FILE *in = fopen(path, "r");
	size_t len;

	assert_non_null(in);
	len = fread(text, 1, sizeof(text) - 1, in);
	(void)fclose(in);
	assert_true(len > 0 && len < sizeof(text) - 1);
	text[len] = '\0';
	return text;
}

/* The paragraph of each keyword is made of what conf.def says of it. */
static void
the_manual_is_as_the_table(void **state)
{
	const char *manual = read_text("kmsd/kmsd.conf.5"), *last = manual;

	(void)state;
	for (size_t id = 0; id < CONF_COUNT; id++) {
		const struct conf_row *row = &conf_rows[id];
		char want[512];
		const char *at, *end;
		int len;

		(void)snprintf(want, sizeof(want), ".It Ic %s ", row->name);
		at = strstr(manual, want);
		if (at == NULL || at < last)
			fail_msg("%s is not in its place", row->name);
		last = at;
		len = snprintf(want, sizeof(want), "\n%s\n%s%s%s%s%s",
		    row->help, row->value != NULL ? "The default is\n.Cm " : "",
		    row->value != NULL ? row->value : "",
		    row->value != NULL ? " .\n" : "",
		    (row->flags & CONF_FLAG_REQUIRED) != 0 ? "Required.\n" : "",
		    (row->flags & CONF_FLAG_RELOAD) != 0 ? "Reloadable.\n"
							 : "");
		end = strchr(at, '\n');
		assert_non_null(end);
		if (strncmp(end, want, (size_t)len) != 0 ||
		    (strncmp(end + len, ".It", 3) != 0 &&
			strncmp(end + len, ".El", 3) != 0))
			fail_msg(
			    "%s: expected%sin the manual", row->name, want);
	}
}

/* It has every keyword in order, with its help and default, and what stands
 * there as an example is right. */
static void
the_sample_is_as_the_table(void **state)
{
	static struct conf conf;
	char *sample = read_text("kmsd/sample.conf"), *at = sample;

	(void)state;
	for (size_t id = 0; id < CONF_COUNT; id++) {
		const struct conf_row *row = &conf_rows[id];
		char want[512];

		(void)snprintf(want, sizeof(want), "\n# %s\n", row->help);
		at = strstr(at, want);
		if (at == NULL)
			fail_msg("%s is not in its place", row->name);
		(void)snprintf(want, sizeof(want), "\n#%s %s%s", row->name,
		    row->value != NULL ? row->value : "",
		    row->value != NULL ? "\n" : "");
		at = strstr(at, want);
		if (at == NULL)
			fail_msg("%s: another default", row->name);
		at[1] = ' ';
	}
	parse(&conf, sample, NULL);
	assert_string_equal(reported, "");
	for (size_t id = 0; id < CONF_COUNT; id++)
		assert_true(conf.values[id].origin == CONF_ORIGIN_FILE);
	conf_free(&conf);
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
	/* A life that is long beside the delay is no loop of deaths. */
	assert_int_equal(supervise_delay(200, 2399), 400);
	assert_int_equal(supervise_delay(200, 2400), 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_are_exact),
		cmocka_unit_test(every_error_is_listed_with_its_place),
		cmocka_unit_test(errors_are_one_line_and_show_no_credential),
		cmocka_unit_test(the_environment_is_second),
		cmocka_unit_test(every_keyword_has_a_variable),
		cmocka_unit_test(a_reload_knows_what_changed),
		cmocka_unit_test(defaults_follow),
		cmocka_unit_test(children_get_their_own),
		cmocka_unit_test(the_dump_parses_back_to_itself),
		cmocka_unit_test(the_dump_tells_origins),
		cmocka_unit_test(mutations_are_survived),
		cmocka_unit_test(the_manual_is_as_the_table),
		cmocka_unit_test(the_sample_is_as_the_table),
		cmocka_unit_test(name_servers_are_found),
		cmocka_unit_test(restarts_grow_slower),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
