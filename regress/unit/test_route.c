/* kms-net/route and pop: which row, which methods, which headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kms-net/pop.h"
#include "kms-net/route.h"

static const struct route *
find(const char *method, const char *target, unsigned int *allowed)
{
	return route_find((struct http_slice){ method, strlen(method) },
	    (struct http_slice){ target, strlen(target) }, allowed);
}

/* Every row is found by its own method and path, and by no other. */
static void
test_every_row(void **state)
{
	(void)state;
	for (size_t i = 0; i < route_count; i++) {
		const struct route *row = &route_table[i];
		unsigned int allowed;

		assert_ptr_equal(
		    find(route_method_name(row->method), row->path, &allowed),
		    row);
		assert_null(find("PATCH", row->path, &allowed));
		assert_true(allowed & 1U << row->method);
		assert_non_null(row->answer);
	}
}

static void
test_paths(void **state)
{
	static const struct {
		const char *method, *target, *path; /* NULL: none */
		const char *allow;
	} rows[] = {
		{ "GET", "/kms/data", "/kms/data", "" },
		{ "GET", "/kms/data?key=a/b", "/kms/data", "" },
		{ "GET", "/kms/data/", "/kms/data/{key}", "" },
		{ "GET", "/kms/data/a/../b?x", "/kms/data/{key}", "" },
		{ "GET", "/kms/data%2Fa", NULL, "" },
		{ "GET", "/kms/dat", NULL, "" },
		{ "GET", "/kms/datas", NULL, "" },
		{ "GET", "/?", "/", "" },
		{ "GET", "//", NULL, "" },
		{ "GET", "/health?", "/health", "" },
		{ "GET", "/health#", NULL, "" },
		{ "HEAD", "/health", NULL, "GET" },
		{ "get", "/health", NULL, "GET" },
		{ "GETT", "/health", NULL, "GET" },
		{ "PATCH", "/kms/data", NULL, "GET, PUT, DELETE" },
		{ "POST", "/kms/data/x", NULL, "GET" },
		{ "GET", "/sync", NULL, "POST" },
	};
	char allow[ROUTE_ALLOW_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned int allowed;
		const struct route *row =
		    find(rows[i].method, rows[i].target, &allowed);

		if (rows[i].path != NULL) {
			assert_non_null(row);
			assert_string_equal(row->path, rows[i].path);
			continue;
		}
		assert_null(row);
		route_allow(allowed, allow);
		assert_string_equal(allow, rows[i].allow);
	}
	route_allow(0xf, allow);
	assert_string_equal(allow, "GET, POST, PUT, DELETE");
}

static struct pop
read_pop(const char *headers)
{
	static char text[4096];
	static struct http_request request;
	struct pop pop;
	size_t used;
	char *end = stpcpy(text, "GET / HTTP/1.1\r\nHost: a\r\n");

	end = stpcpy(stpcpy(end, headers), "\r\n");
	http_request_init(&request);
	assert_int_equal(http_request_parse(&request, text,
			     (size_t)(end - text), &http_limits_default, &used),
	    0);
	pop_read(&request.head, POP_OF_APP, &pop);
	return pop;
}

static void
test_pop(void **state)
{
	struct pop pop =
	    read_pop("x-APP-signature: 0xaa\r\nX-App-Nonce:b \r\n"
		     "X-App-Timestamp: 1\r\nX-App-Wallet: w\r\n"
		     "X-App-Auth: v2\r\nX-App-Content-SHA256: c\r\n"
		     "X-App-Signature2: no\r\nX_App_Auth: v1\r\n");

	(void)state;
	assert_int_equal(pop.flags, 0);
	assert_true(http_slice_is(pop.value[POP_SIGNATURE], "0xaa"));
	assert_true(http_slice_is(pop.value[POP_NONCE], "b"));
	assert_true(http_slice_is(pop.value[POP_TIMESTAMP], "1"));
	assert_true(http_slice_is(pop.value[POP_WALLET], "w"));
	assert_true(http_slice_is(pop.value[POP_AUTH], "v2"));
	assert_true(http_slice_is(pop.value[POP_CONTENT], "c"));
	pop = read_pop("");
	assert_int_equal(pop.flags, 0);
	assert_int_equal(pop.value[POP_WALLET].len, 0);
	pop = read_pop("X-App-Auth: v2\r\nx-app-auth: v1\r\n");
	assert_int_equal(pop.flags, AUTH_FLAG_REPEATED);
	assert_true(http_slice_is(pop.value[POP_AUTH], "v2"));
	pop = read_pop("X-App-Auth:\r\nx-app-auth: v1\r\n");
	assert_int_equal(pop.flags, AUTH_FLAG_REPEATED);
	pop = read_pop("X-App-Auth: 0123456789abcdef\r\n");
	assert_int_equal(pop.flags, 0);
	assert_int_equal(pop.value[POP_AUTH].len, 16);
	pop = read_pop("X-App-Auth: 0123456789abcdefg\r\n");
	assert_int_equal(pop.flags, AUTH_FLAG_OVERLONG);
	assert_int_equal(pop.value[POP_AUTH].len, 0);
	pop = read_pop("X-App-Wallet: \xff\r\n");
	assert_int_equal(pop.flags, AUTH_FLAG_OVERLONG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_pop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
