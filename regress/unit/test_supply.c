/* Connections that kmsd makes for the keeper: as many as are owed, to one
 * address, tried again ever more slowly while nobody listens. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/supply.h"
#include "proto/msg.h"

#define WAIT_MS 10000

static uv_loop_t loop;
static struct supply *supply;
static int given[2 * MSG_WANT_MAX];
static unsigned int count;
static int refuse; /* how often give fails */

static int
give(void *arg, int fd)
{
	assert_ptr_equal(arg, &loop);
	if (refuse > 0) {
		refuse--;
		(void)close(fd);
		return KMS_EBUSY;
	}
	assert_true(count < 2 * MSG_WANT_MAX);
	given[count++] = fd;
	return 0;
}

/* A socket of a free port of the loopback, listening or not yet. */
static int
service(int listening, char url[64])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	(void)snprintf(url, 64, "http://127.0.0.1:%d", ntohs(address.sin_port));
	if (listening)
		assert_int_equal(listen(fd, 64), 0);
	return fd;
}

static void
run_until(unsigned int wanted)
{
	uint64_t end;

	uv_update_time(&loop);
	end = uv_now(&loop) + WAIT_MS;
	while (count < wanted && uv_now(&loop) < end)
		(void)uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(count, wanted);
}

static int
begin(void **state)
{
	(void)state;
	count = 0;
	refuse = 0;
	log_init_tool("test", LOG_LEVEL_ERROR);
	return uv_loop_init(&loop);
}

static void
close_timer(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static int
end(void **state)
{
	(void)state;
	supply_reset(supply);
	uv_walk(&loop, close_timer, NULL);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	supply_free(supply);
	while (count > 0)
		(void)close(given[--count]);
	return uv_loop_close(&loop);
}

static void
gives_what_is_owed(void **state)
{
	char url[64];
	int fd = service(1, url), peer;

	(void)state;
	assert_int_equal(supply_new(&loop, url, give, &loop, &supply), 0);
	assert_int_equal(supply_want(supply, 0), 0);
	assert_int_equal(supply_want(supply, MSG_WANT_MAX + 1), KMS_EPROTO);
	assert_int_equal(supply_want(supply, UINT64_MAX), KMS_EPROTO);
	assert_int_equal(supply_want(supply, MSG_WANT_MAX), 0);
	run_until(MSG_WANT_MAX);
	assert_int_equal(supply_want(supply, 1), 0);
	run_until(MSG_WANT_MAX + 1);
	/* They are connections to there. */
	for (unsigned int i = 0; i < count; i++) {
		char byte = 'x';

		peer = accept(fd, NULL, NULL);
		assert_true(peer >= 0);
		assert_int_equal(write(given[i], &byte, 1), 1);
		assert_int_equal(read(peer, &byte, 1), 1);
		(void)close(peer);
	}
	(void)close(fd);
}

static void
tries_again(void **state)
{
	char url[64];
	int fd = service(0, url);

	(void)state;
	assert_int_equal(supply_new(&loop, url, give, &loop, &supply), 0);
	assert_int_equal(supply_want(supply, 3), 0);
	for (int i = 0; i < 20; i++)
		(void)uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(count, 0);
	/* What is owed is bounded also while nothing comes. */
	assert_int_equal(supply_want(supply, MSG_WANT_MAX - 2), KMS_EPROTO);
	assert_int_equal(listen(fd, 64), 0);
	refuse = 2;
	run_until(3);
	/* Nobody wants any: none is made. */
	assert_int_equal(close(fd), 0);
	assert_int_equal(supply_want(supply, 2), 0);
	supply_reset(supply);
	assert_int_equal(supply_want(supply, MSG_WANT_MAX), 0);
	supply_reset(supply);
	assert_false(uv_run(&loop, UV_RUN_NOWAIT));
	assert_int_equal(count, 3);
}

static void
addresses(void **state)
{
	static const char *const bad[] = { "", "http://", "http://1.2.3.4:5",
		"https://127.0.0.1:5", "http://127.0.0.1:5/x", "127.0.0.1:5" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    supply_new(&loop, bad[i], give, &loop, &supply),
		    KMS_EINVAL);
	assert_int_equal(
	    supply_new(&loop, "http://[::1]:5", give, &loop, &supply), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(gives_what_is_owed, begin, end),
		cmocka_unit_test_setup_teardown(tries_again, begin, end),
		cmocka_unit_test_setup_teardown(addresses, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
