/*
 * Log lines. A child writes "<digit> <text>\n" (digit: the level) in one
 * write(2) to descriptor 2, a non-blocking pipe to kmsd, which escapes,
 * prefixes, rate-limits and prints. A line that finds the pipe full is lost
 * and counted. Stand-alone tools print "name: level: text" instead.
 *
 * Lines of one format are a class, of which no more than LOG_CLASS_BURST and
 * then LOG_CLASS_PER_SECOND are written; a line then says how many more there
 * were. Lines at level debug are not held back.
 *
 * A line that is about one request begins with LOG_REQUEST and its id, which
 * all processes and X-Request-Id share.
 *
 * Never pass a secret, a plaintext or a client's bytes unbounded: use %.*s.
 */
#ifndef KMS_COMMON_LOG_H
#define KMS_COMMON_LOG_H

#include <stdarg.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG
};

#define LOG_REQUEST "request %016llx: "

#define LOG_CLASS_BURST 50
#define LOG_CLASS_PER_SECOND 5
#define LOG_NOTE_MS 10000 /* between two notes about a class */

#define LOG_LINE_MAX 1024 /* bytes of a line with its newline; more is cut */

/* Children of kmsd: levelled lines on descriptor 2. */
void log_init_child(enum log_level level);

/* Tools and kmsd before it logs by itself: readable lines on stderr. */
void log_init_tool(const char *name, enum log_level level);

/* The sink may be replaced (kmsd formats its own lines; tests capture). */
typedef void (*log_sink_fn)(enum log_level level, const char *text, void *arg);
void log_set_sink(log_sink_fn sink, void *arg);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "error", "warn", "info" or "debug"; parse gives KMS_EINVAL on others. */
const char *log_level_name(enum log_level level);
int log_level_parse(const char *name, enum log_level *level);

/* Hold classes back from now on; log_init_child does, and kmsd. */
void log_limit_classes(void);

/* Once a second: write what is to be said about lines held back. */
void log_tick(void);

/* Lines lost so far because the pipe was full, or held back. */
uint64_t log_lost(void);
uint64_t log_held_back(void);

#endif
