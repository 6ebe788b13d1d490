/* Log lines as kmsd prints them: pure text work and a rate limit. */
#ifndef KMS_KMSD_LOGLINE_H
#define KMS_KMSD_LOGLINE_H

#include <stddef.h>
#include <stdint.h>

#include "common/log.h"

/* Escaped, with its prefix; a longer one is cut. It is what a pipe takes
 * without waiting for its reader (PIPE_BUF). */
#define LOGLINE_MAX 4096
#define LOGLINE_BURST 1000     /* lines at once */
#define LOGLINE_PER_SECOND 200 /* lines on average */

struct logline {
	int64_t wall_ms;
	const char *process;
	long pid;
	enum log_level level;
	const char *text; /* any bytes */
	size_t len;
};

/*
 * One line with its newline into out, everything but printable ASCII escaped:
 *   2026-01-01T00:00:00.000Z kms-net[12] info: text
 * or with json {"time":…,"process":…,"pid":…,"level":…,"message":…}, and
 * "request":… before the message when that begins with LOG_REQUEST, whose id
 * it then has.
 * Returns its length.
 */
size_t logline_format(
    const struct logline *line, int json, char out[LOGLINE_MAX]);

/* Split "<digit> <text>" as children write it; a line without a level is an
 * error line (a sanitizer or the C library wrote it). */
void logline_parse(const char *raw, size_t len, struct logline *line);

/* A token bucket; zero at first. */
struct logline_rate {
	int64_t last_ms;
	int64_t spent; /* in thousandths of a line */
	uint64_t dropped;
};

/* 1: print it. 0: drop it, counted in dropped. */
int logline_admit(struct logline_rate *rate, int64_t boot_ms);

#endif
