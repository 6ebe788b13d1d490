#include "regress/unit/vector.h"

#include "kms-keeper/target.h"

static struct target t;
static const char *message;

static unsigned int
parse(enum kms_method method, const char *text)
{
	return target_parse(method, text, strlen(text), &t, &message);
}

static void
refused(enum kms_method method, const char *text, unsigned int status,
    const char *part)
{
	assert_int_equal(parse(method, text), status);
	assert_non_null(message);
	if (strstr(message, part) == NULL)
		fail_msg(
		    "%s: expected \"%s\", got \"%s\"", text, part, message);
}

static void
is(const struct target_text *text, const char *expected, size_t len)
{
	assert_true(text->given);
	assert_int_equal(text->len, len);
	assert_memory_equal(text->text, expected, len);
}

static void
key_is(const char *target, const char *expected)
{
	if (parse(METHOD_GET, target) != 0)
		fail_msg("%s: %s", target, message);
	assert_int_equal(t.operation, OPERATION_GET);
	is(&t.key, expected, strlen(expected));
}

static void
operations(void **state)
{
	(void)state;
	assert_int_equal(parse(METHOD_POST, "/kms/derive"), 0);
	assert_int_equal(t.operation, OPERATION_DERIVE);
	assert_int_equal(parse(METHOD_GET, "/kms/data"), 0);
	assert_int_equal(t.operation, OPERATION_LIST);
	assert_false(t.prefix.given || t.after.given || t.key.given);
	assert_int_equal(t.limit, 0);
	assert_int_equal(parse(METHOD_PUT, "/kms/data"), 0);
	assert_int_equal(t.operation, OPERATION_PUT);
	assert_int_equal(parse(METHOD_DELETE, "/kms/data"), 0);
	assert_int_equal(t.operation, OPERATION_DELETE);
	assert_int_equal(
	    parse(METHOD_GET, "/kms/data?prefix=a%2F&limit=7&after=a/b"), 0);
	assert_int_equal(t.operation, OPERATION_LIST);
	is(&t.prefix, "a/", 2);
	is(&t.after, "a/b", 3);
	assert_int_equal(t.limit, 7);
	assert_int_equal(parse(METHOD_GET, "/kms/data?prefix=&after="), 0);
	assert_int_equal(t.prefix.len + t.after.len, 0);
	assert_int_equal(parse(METHOD_GET, "/kms/data?limit=999999999"), 0);
	assert_int_equal(t.limit, 999999999);
	assert_int_equal(parse(METHOD_GET, "/kms/data?"), 0);
	assert_int_equal(t.operation, OPERATION_LIST);
}

static void
keys(void **state)
{
	(void)state;
	key_is("/kms/data/a", "a");
	key_is("/kms/data?key=a", "a");
	key_is("/kms/data/a/b/c", "a/b/c");
	key_is("/kms/data/a%2fb%2Fc", "a/b/c");
	/* '+' is itself in a path, a space in a query. */
	key_is("/kms/data/a+b", "a+b");
	key_is("/kms/data?key=a+b", "a b");
	key_is("/kms/data?key=a%2Bb", "a+b");
	/* Once, not twice. */
	key_is("/kms/data/%2541", "%41");
	key_is("/kms/data?key=%25%34%31", "%41");
	/* Nothing is normalised. */
	key_is("/kms/data/./a/../b", "./a/../b");
	key_is("/kms/data//a//", "/a//");
	key_is("/kms/data/..", "..");
	key_is("/kms/data/a?", "a");
	key_is("/kms/data/%3F%23%26%3D", "?#&=");
	key_is("/kms/data?key=a=b", "a=b");
	key_is("/kms/data/%E2%82%AC", "\xe2\x82\xac");
	key_is("/kms/data/%F0%9F%94%91", "\xf0\x9f\x94\x91");
}

static void
bad_keys(void **state)
{
	static const char *const controls[] = { "%01", "%1f", "%0A", "%7f",
		"%C2%80", "a%C2%9f" };
	static const char *const not_utf8[] = { "%ff", "%C3", "%C3%28",
		"%E2%82", "%ED%A0%80", "%C0%AF", "%F4%90%80%80", "%00",
		"a%00b" };
	char text[64];

	(void)state;
	refused(METHOD_GET, "/kms/data/", 400, "got none");
	refused(METHOD_GET, "/kms/data?key=", 400, "got none");
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
		(void)snprintf(text, sizeof(text), "/kms/data/%s", controls[i]);
		refused(METHOD_GET, text, 400, "control characters");
		(void)snprintf(
		    text, sizeof(text), "/kms/data?prefix=%s", controls[i]);
		refused(METHOD_GET, text, 400, "control characters");
	}
	for (size_t i = 0; i < sizeof(not_utf8) / sizeof(not_utf8[0]); i++) {
		(void)snprintf(text, sizeof(text), "/kms/data/%s", not_utf8[i]);
		refused(METHOD_GET, text, 400, "UTF-8");
		(void)snprintf(
		    text, sizeof(text), "/kms/data?after=%s", not_utf8[i]);
		refused(METHOD_GET, text, 400, "UTF-8");
	}
	key_is("/kms/data/%C2%A0", "\xc2\xa0");
	refused(METHOD_GET, "/kms/data/%", 400, "hex digits");
	refused(METHOD_GET, "/kms/data/%4", 400, "hex digits");
	refused(METHOD_GET, "/kms/data/a%4g", 400, "hex digits");
	refused(METHOD_GET, "/kms/data/%zz", 400, "hex digits");
	refused(METHOD_GET, "/kms/data?key=%4", 400, "hex digits");
}

static void
bad_queries(void **state)
{
	(void)state;
	refused(METHOD_GET, "/kms/data?x=1", 400, "expected key, prefix");
	refused(METHOD_GET, "/kms/data?Key=1", 400, "expected key, prefix");
	refused(METHOD_GET, "/kms/data?%6Bey=1", 400, "expected key, prefix");
	refused(METHOD_GET, "/kms/data?=1", 400, "expected key, prefix");
	refused(METHOD_GET, "/kms/data?key", 400, "name=value");
	refused(METHOD_GET, "/kms/data?key=a&", 400, "behind &");
	refused(METHOD_GET, "/kms/data?&key=a", 400, "name=value");
	refused(METHOD_GET, "/kms/data?key=a&key=a", 400, "twice");
	refused(METHOD_GET, "/kms/data?prefix=a&prefix=", 400, "twice");
	refused(METHOD_GET, "/kms/data?limit=1&limit=1", 400, "twice");
	refused(METHOD_GET, "/kms/data/a?key=a", 400, "path and in the query");
	refused(METHOD_GET, "/kms/data/a?limit=1", 400, "list of keys");
	refused(METHOD_GET, "/kms/data?key=a&prefix=a", 400, "list of keys");
	refused(METHOD_GET, "/kms/data?limit=", 400, "limit");
	refused(METHOD_GET, "/kms/data?limit=0", 400, "limit");
	refused(METHOD_GET, "/kms/data?limit=-1", 400, "limit");
	refused(METHOD_GET, "/kms/data?limit=1x", 400, "limit");
	refused(METHOD_GET, "/kms/data?limit=1000000000", 400, "limit");
	refused(
	    METHOD_GET, "/kms/data?limit=18446744073709551617", 400, "limit");
	refused(METHOD_PUT, "/kms/data?key=a", 400, "expected none");
	refused(METHOD_DELETE, "/kms/data?key=a", 400, "expected none");
	refused(METHOD_DELETE, "/kms/data?limit=1", 400, "expected none");
	refused(METHOD_POST, "/kms/derive?a=b", 400, "expected none");
}

static void
routes(void **state)
{
	static const char *const unknown[] = { "", "/", "/kms", "/kms/",
		"/kms/deriv", "/kms/derivee", "/kms/derive/", "/kms/dat",
		"/kms/datax", "/kms/Data", "/kms//data", "/kms/./data",
		"/kms/%64ata", "kms/data", "/kms/data%2Fa", "?", "/sync" };

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		refused(METHOD_GET, unknown[i], 404, "no such route");
	refused(METHOD_GET, "/kms/derive", 405, "POST");
	refused(METHOD_PUT, "/kms/derive", 405, "POST");
	refused(METHOD_DELETE, "/kms/derive", 405, "POST");
	refused(METHOD_POST, "/kms/data", 405, "GET, PUT or DELETE");
	refused(METHOD_POST, "/kms/data/a", 405, "GET");
	refused(METHOD_PUT, "/kms/data/a", 405, "GET");
	refused(METHOD_DELETE, "/kms/data/a", 405, "GET");
}

/* 1024 bytes of a key, decoded, and no more. */
static void
bounds(void **state)
{
	static const char *const before[] = { "/kms/data/",
		"/kms/data?key=", "/kms/data?prefix=", "/kms/data?after=" };
	static const char *const unit[] = { "k", "%6B" };
	static char text[8192];

	(void)state;
	for (size_t i = 0; i < 8; i++) {
		const char *one = unit[i & 1];
		size_t at = strlen(before[i / 2]);

		memcpy(text, before[i / 2], at);
		for (int k = 0; k < 1024; k++, at += strlen(one))
			memcpy(text + at, one, strlen(one));
		assert_int_equal(
		    target_parse(METHOD_GET, text, at, &t, &message), 0);
		memcpy(text + at, one, strlen(one));
		at += strlen(one);
		assert_int_equal(
		    target_parse(METHOD_GET, text, at, &t, &message), 400);
		assert_non_null(strstr(message, "1024"));
	}
	assert_null(key_check(text + 20, 1024));
	assert_non_null(key_check(text + 20, 1025));
	assert_non_null(key_check("", 0));
}

/* Whatever comes: an answer with a text, or what section 5 allows. */
static void
mutations(void **state)
{
	static const char *const seeds[] = { "/kms/derive",
		"/kms/data?prefix=a%2F&limit=12&after=%E2%82%AC",
		"/kms/data/a%2Fb+c", "/kms/data?key=%F0%9F%94%91+x" };
	uint64_t random = 0x452821e638d01377;
	unsigned int good = 0;

	(void)state;
	for (int i = 0; i < 40000; i++) {
		const char *seed = seeds[i % 4];
		size_t len = strlen(seed), cut;
		uint8_t *text = malloc(len);
		unsigned int status;

		assert_non_null(text);
		memcpy(text, seed, len);
		/* Mostly behind the route, or little would come that far. */
		if (i % 16 < 4)
			vector_mutate(&random, text, len);
		else
			vector_mutate(&random, text + 10, len - 10);
		cut = vector_random(&random) % 4 == 0
		    ? vector_random(&random) % (len + 1)
		    : len;
		/* A copy of just this length, for the sanitizer. */
		text = realloc(text, cut > 0 ? cut : 1);
		status = target_parse(i % 8 < 7
			? (i % 4 == 0 ? METHOD_POST : METHOD_GET)
			: (enum kms_method)(vector_random(&random) % 4),
		    (const char *)text, cut, &t, &message);
		free(text);
		assert_true(status == 0 || status == 400 || status == 404 ||
		    status == 405);
		assert_true((status == 0) == (message == NULL));
		good += status == 0;
		if (status != 0)
			continue;
		if (t.operation == OPERATION_GET)
			assert_null(key_check(t.key.text, t.key.len));
		if (t.prefix.len > 0)
			assert_null(key_check(t.prefix.text, t.prefix.len));
	}
	assert_true(good > 2000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(operations),
		cmocka_unit_test(keys),
		cmocka_unit_test(bad_keys),
		cmocka_unit_test(bad_queries),
		cmocka_unit_test(routes),
		cmocka_unit_test(bounds),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
