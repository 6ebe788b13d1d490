#include "kmsd/logger.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "kmsd/logline.h"
#include "proto/metrics.h"

struct logger_pipe {
	uv_poll_t poll;
	const char *process;
	long pid;
	int fd;
	size_t len;
	char line[LOG_LINE_MAX]; /* the beginning of the next line */
	struct logline_rate rate;
	uint64_t told; /* lost lines that were already reported */
};

static int as_json;
static long own_pid;

/* Never waits for whoever reads our standard error. */
static void
print(const struct logline *line)
{
	char out[LOGLINE_MAX];
	struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };
	size_t len = logline_format(line, as_json, out);

	if (poll(&pfd, 1, 0) < 1 || write(STDERR_FILENO, out, len) < 0)
		metrics[METRIC_KMSD_LOG_DROPPED]++;
}

static void
print_own(enum log_level level, const char *text, void *arg)
{
	(void)arg;
	print(&(struct logline){ .wall_ms = clock_now().wall_ms,
	    .process = "kmsd",
	    .pid = own_pid,
	    .level = level,
	    .text = text,
	    .len = strlen(text) });
}

void
logger_init(int json, enum log_level level)
{
	as_json = json;
	own_pid = (long)getpid();
	log_init_tool("kmsd", level);
	log_set_sink(print_own, NULL);
	log_limit_classes();
}

static void
print_child(struct logger_pipe *p, const char *text, size_t len)
{
	struct kms_time now = clock_now();
	struct logline line = {
		.wall_ms = now.wall_ms, .process = p->process, .pid = p->pid
	};
	char note[96];

	if (!logline_admit(&p->rate, now.boot_ms)) {
		metrics[METRIC_KMSD_LOG_DROPPED]++;
		return;
	}
	if (p->rate.dropped > p->told) {
		line.level = LOG_LEVEL_WARN;
		line.text = note;
		line.len = (size_t)snprintf(note, sizeof(note),
		    "%llu log lines dropped by the rate limit",
		    (unsigned long long)(p->rate.dropped - p->told));
		p->told = p->rate.dropped;
		print(&line);
	}
	logline_parse(text, len, &line);
	print(&line);
}

/* Print whole lines; keep the beginning of the next. */
static void
split_lines(struct logger_pipe *p, int at_end)
{
	size_t from = 0;

	for (;;) {
		char *newline = memchr(p->line + from, '\n', p->len - from);
		size_t len;

		if (newline == NULL)
			break;
		len = (size_t)(newline - (p->line + from));
		if (len > 0)
			print_child(p, p->line + from, len);
		from += len + 1;
	}
	/* A line that fills everything is cut here. */
	if (p->len > from &&
	    (at_end || (from == 0 && p->len == LOG_LINE_MAX))) {
		print_child(p, p->line + from, p->len - from);
		from = p->len;
	}
	memmove(p->line, p->line + from, p->len - from);
	p->len -= from;
}

/* Read what is there. 1: the pipe has ended. */
static int
drain(struct logger_pipe *p)
{
	/* Bounded, so that one noisy child cannot keep the loop. */
	for (int i = 0; i < 64; i++) {
		ssize_t got =
		    read(p->fd, p->line + p->len, sizeof(p->line) - p->len);

		if (got == 0)
			return 1;
		if (got < 0)
			return errno != EAGAIN && errno != EINTR;
		p->len += (size_t)got;
		split_lines(p, 0);
	}
	return 0;
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
	struct logger_pipe *p = poll->data;

	(void)events;
	if (status < 0 || drain(p))
		(void)uv_poll_stop(poll);
}

struct logger_pipe *
logger_open(uv_loop_t *loop, const char *process, long pid, int fd)
{
	struct logger_pipe *p = calloc(1, sizeof(*p));

	if (p == NULL || uv_poll_init(loop, &p->poll, fd) != 0) {
		free(p);
		return NULL;
	}
	p->poll.data = p;
	p->process = process;
	p->pid = pid;
	p->fd = fd;
	(void)uv_poll_start(&p->poll, UV_READABLE, on_poll);
	return p;
}

void
logger_set_pid(struct logger_pipe *p, long pid)
{
	p->pid = pid;
}

static void
on_closed(uv_handle_t *handle)
{
	struct logger_pipe *p = handle->data;

	(void)close(p->fd);
	free(p);
}

void
logger_close(struct logger_pipe *p)
{
	if (p == NULL)
		return;
	(void)drain(p);
	split_lines(p, 1);
	if (p->rate.dropped > p->told)
		log_warn("%s[%ld]: %llu log lines dropped by the rate limit",
		    p->process, p->pid,
		    (unsigned long long)(p->rate.dropped - p->told));
	uv_close((uv_handle_t *)&p->poll, on_closed);
}
