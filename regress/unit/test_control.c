/* The operator's socket: what the keeper tells reaches who asked, once, and
 * nobody else, whatever number it bears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/err.h"
#include "kmsd/control.h"

#define TURNS 200

static uv_loop_t loop;
static struct control *control;
static char directory[64], path[96];
static uint64_t asked;
static int refusal; /* what ask answers */

static int
on_ask(void *arg, uint64_t id, enum control_question question)
{
	(void)arg;
	assert_int_equal(question, CONTROL_CLUSTER);
	asked = id;
	return refusal;
}

static int
on_drain(void *arg, uint64_t id)
{
	(void)arg;
	(void)id;
	return KMS_EBUSY;
}

static int
on_processes(void *arg, struct buf *answer)
{
	(void)arg;
	return buf_append_text(answer, "{}");
}

static int
begin(void **state)
{
	struct control_ops ops = { on_ask, on_drain, on_processes, NULL };
	int fd;

	(void)state;
	asked = 0;
	refusal = 0;
	(void)snprintf(directory, sizeof(directory), "/tmp/kms-unit.XXXXXX");
	if (mkdtemp(directory) == NULL || uv_loop_init(&loop) != 0)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/socket", directory);
	fd = control_bind(path);
	control = fd >= 0 ? control_new(&loop, fd, &ops) : NULL;
	return control != NULL ? 0 : -1;
}

static int
end(void **state)
{
	(void)state;
	control_close(control);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	(void)unlink(path);
	(void)rmdir(directory);
	return uv_loop_close(&loop);
}

static void
turn(void)
{
	for (int i = 0; i < TURNS; i++)
		(void)uv_run(&loop, UV_RUN_NOWAIT);
}

static int
dial(const char *line)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
	turn();
	return fd;
}

/* What came, "" for the end, NULL for nothing yet. */
static const char *
heard(int fd)
{
	static char text[256];
	ssize_t got;

	turn();
	got = read(fd, text, sizeof(text) - 1);
	if (got < 0)
		return NULL;
	text[got] = '\0';
	return text;
}

static void
answer_reaches_who_asked(void **state)
{
	int fd = dial("cluster\n");

	(void)state;
	assert_int_not_equal(asked, 0);
	control_told(control, asked + 1, "{1", 2, 1);
	control_told(control, asked, "{\"a\":", 5, 0);
	assert_null(heard(fd));
	control_told(control, asked, "1}", 2, 1);
	/* It is under way: no more of it is taken. */
	control_told(control, asked, "{2}", 3, 1);
	assert_string_equal(heard(fd), "{\"a\":1}\n");
	assert_string_equal(heard(fd), "");
	(void)close(fd);
}

/* Those who wait for nothing have no number: 0 names none of them. */
static void
zero_is_nobody(void **state)
{
	int silent = dial("clus"), answered;

	(void)state;
	control_told(control, 0, "{}", 2, 1);
	assert_null(heard(silent));
	control_refused(control, 0, "no");
	assert_null(heard(silent));
	answered = dial("cluster\n");
	control_told(control, asked, "{}", 2, 1);
	/* In the same turn of the loop: its answer is with libuv. */
	control_told(control, 0, "{}", 2, 1);
	control_told(control, 0, "{}", 2, 1);
	assert_string_equal(heard(answered), "{}\n");
	assert_string_equal(heard(answered), "");
	(void)close(answered);
	(void)close(silent);
}

static void
keeper_goes(void **state)
{
	int waits = dial("cluster\n"), fd;

	(void)state;
	control_lost(control);
	control_lost(control);
	assert_string_equal(
	    heard(waits), "{\"error\":\"the keeper is gone\"}\n");
	refusal = KMS_EUNAVAIL;
	fd = dial("cluster\n");
	control_lost(control);
	assert_string_equal(
	    heard(fd), "{\"error\":\"the keeper is not running\"}\n");
	(void)close(fd);
	(void)close(waits);
}

static void
too_large(void **state)
{
	static char piece[65536];
	int fd = dial("cluster\n");
	const char *text;

	(void)state;
	memset(piece, 'x', sizeof(piece));
	for (size_t sent = 0; sent <= CONTROL_ANSWER_MAX; sent += sizeof(piece))
		control_told(control, asked, piece, sizeof(piece), 0);
	text = heard(fd);
	assert_non_null(text);
	assert_string_equal(text, "{\"error\":\"the answer is too large\"}\n");
	(void)close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answer_reaches_who_asked),
		TEST(zero_is_nobody),
		TEST(keeper_goes),
		TEST(too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
