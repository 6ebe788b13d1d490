/* kmsctl top: a node, live, on a terminal. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/clock.h"
#include "kmsctl/client.h"
#include "kmsctl/cmd.h"
#include "kmsctl/top_view.h"

#define VIEW_MAX (1U << 20)

static const char usage[] =
    "top [-1] [--interval DURATION] [--metrics URL] [URL]";

static volatile sig_atomic_t stopped;

struct top {
	struct cmd *cmd;
	struct kms_client *node;
	struct kms_client *metrics; /* node, or of --metrics */
	int interval_ms;
	struct kms_client *failed; /* the one that did, when one has */
	struct top_reading readings[2];
};

static void
on_signal(int signum)
{
	(void)signum;
	stopped = 1;
}

/* ---- the terminal ---- */

static struct termios saved;
static bool changed;

static void
terminal_restore(void)
{
	if (changed)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	changed = false;
	fputs("\033[?25h", stdout);
	(void)fflush(stdout);
}

static void
terminal_prepare(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct termios quiet;

	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	if (tcgetattr(STDIN_FILENO, &saved) == 0) {
		quiet = saved;
		quiet.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		changed = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
	}
	fputs("\033[?25l\033[2J", stdout);
}

/* Lines that do not fit are cut, on the right and below. */
static void
terminal_show(const struct buf *view)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };
	const char *at = (const char *)view->data, *end = at + view->len;
	size_t row = 0;

	(void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	fputs("\033[H", stdout);
	while (at < end && row + 1 < size.ws_row) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((newline != NULL ? newline : end) - at);

		(void)fwrite(
		    at, 1, len < size.ws_col ? len : size.ws_col, stdout);
		fputs("\033[K\r\n", stdout);
		at += len + (newline != NULL);
		row++;
	}
	fputs("\033[Jq quits", stdout);
	(void)fflush(stdout);
}

/* Wait; true: it is to end. */
static bool
terminal_wait(int interval_ms)
{
	struct pollfd in = { .fd = changed ? STDIN_FILENO : -1,
		.events = POLLIN };
	char key = 0;

	if (stopped)
		return true;
	if (poll(&in, 1, interval_ms) > 0 &&
	    (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q' ||
		key == 3))
		return true;
	return stopped != 0;
}

/* ---- reading a node ---- */

static void
reading_free(struct top_reading *reading)
{
	top_metrics_free(&reading->metrics);
	client_json_free(reading->status);
	reading->status = NULL;
}

/* The reason is that of whichever client failed. */
static int
reading_take(struct top *top, struct top_reading *reading)
{
	struct client_answer answer;
	struct kms_time now;
	char *text;
	int rc;

	reading_free(reading);
	client_answer_init(&answer);
	top->failed = top->metrics;
	rc = client_get(top->metrics, "/metrics", &answer);
	if (rc == 0 && answer.status != 200)
		rc = client_fail(top->metrics, KMS_CLIENT_UNAVAILABLE,
		    "/metrics: HTTP status %u", answer.status);
	if (rc == 0 &&
	    top_metrics_parse((const char *)answer.body.data, answer.body.len,
		&reading->metrics) != 0)
		rc = client_fail(
		    top->metrics, KMS_CLIENT_USAGE, "out of memory");
	client_answer_free(&answer);
	if (rc != 0)
		return rc;
	now = clock_now();
	reading->at = (double)now.boot_ms / 1000;
	reading->wall = (double)now.wall_ms / 1000;
	top->failed = top->node;
	rc = kms_client_status(top->node, &text);
	if (rc != 0)
		return rc;
	(void)client_json_parse(text, strlen(text), &reading->status);
	free(text);
	return 0;
}

static int
show_once(struct top *top)
{
	struct buf view;
	int rc = reading_take(top, &top->readings[0]);

	if (rc != 0)
		return cmd_fail(
		    top->cmd, rc, "%s", kms_client_reason(top->failed));
	buf_init(&view, VIEW_MAX);
	if (top_view(top->node->node_url, &top->readings[0], NULL, &view) == 0)
		rc = cmd_print_bytes(top->cmd, view.data, view.len);
	else
		rc = cmd_fail(top->cmd, KMS_CLIENT_USAGE, "out of memory");
	buf_free(&view);
	return rc;
}

/* A node that does not answer is asked on: it may be starting again. */
static int
show_live(struct top *top)
{
	struct top_reading *now, *before;
	bool has_before = false;
	unsigned int turn = 0;
	struct buf view;
	int rc;

	terminal_prepare();
	do {
		now = &top->readings[turn];
		before = &top->readings[!turn];
		buf_init(&view, VIEW_MAX);
		if (reading_take(top, now) == 0) {
			rc = top_view(top->node->node_url, now,
			    has_before ? before : NULL, &view);
			has_before = true;
			turn = !turn;
		} else {
			rc = buf_printf(&view, "%s: %s\n", top->node->node_url,
			    kms_client_reason(top->failed));
			has_before = false;
		}
		if (rc == 0)
			terminal_show(&view);
		buf_free(&view);
	} while (!terminal_wait(top->interval_ms));
	terminal_restore();
	fputs("\n", stdout);
	return KMS_CLIENT_OK;
}

/* ---- the command ---- */

static int
open_client(struct cmd *cmd, const char *url, struct kms_client **client)
{
	struct kms_client_options options = cmd->options;
	char reason[KMS_CLIENT_REASON_LEN];
	int rc;

	options.identity_file = NULL;
	options.node_url = url;
	rc = kms_client_open(&options, client, reason);
	return rc == 0 ? 0 : cmd_fail(cmd, rc, "%s", reason);
}

int
cmd_top(struct cmd *cmd, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "interval", required_argument, NULL, 'i' },
		{ "metrics", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	struct top top = { .cmd = cmd, .interval_ms = 2000 };
	const char *metrics = NULL;
	bool once = !isatty(STDOUT_FILENO);
	int64_t ms;
	int c, rc;

	while ((c = getopt_long(argc, argv, "+1", longs, NULL)) != -1) {
		if (c == '1')
			once = true;
		else if (c == 'm')
			metrics = optarg;
		else if (c == 'i' && cmd_duration_parse(optarg, &ms) == 0 &&
		    ms >= 100 && ms <= 3600000)
			top.interval_ms = (int)ms;
		else
			return cmd_usage(cmd, usage);
	}
	if (argc - optind > 1)
		return cmd_usage(cmd, usage);
	rc = open_client(cmd,
	    optind < argc ? argv[optind] : cmd->options.node_url, &top.node);
	if (rc != 0)
		return rc;
	top.metrics = top.node;
	if (metrics != NULL)
		rc = open_client(cmd, metrics, &top.metrics);
	if (rc == 0)
		rc = once ? show_once(&top) : show_live(&top);
	reading_free(&top.readings[0]);
	reading_free(&top.readings[1]);
	if (top.metrics != top.node)
		kms_client_close(top.metrics);
	kms_client_close(top.node);
	return rc;
}
