#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };

#define CLASSES 128 /* a power of two, well above the formats there are */
#define SAMPLE_LEN 80

/* Lines of one format. */
struct class
{
	const char *format; /* NULL: not used */
	enum log_level level;
	int64_t last_ms;
	int64_t spent; /* in thousandths of a line */
	int64_t noted_ms;
	uint64_t held_back; /* since the last note */
	char sample[SAMPLE_LEN];
};

static struct class classes[CLASSES];
static int limited;
static uint64_t held_back;

static struct {
	enum log_level level;
	const char *name; /* NULL: a child of kmsd */
	log_sink_fn sink;
	void *sink_arg;
	uint64_t lost;
} logger = { .level = LOG_LEVEL_INFO };

void
log_init_child(enum log_level level)
{
	logger.level = level;
	logger.name = NULL;
	limited = 1;
}

void
log_limit_classes(void)
{
	limited = 1;
}

void
log_init_tool(const char *name, enum log_level level)
{
	logger.level = level;
	logger.name = name;
}

void
log_set_sink(log_sink_fn sink, void *arg)
{
	logger.sink = sink;
	logger.sink_arg = arg;
}

static void
write_line(enum log_level level, char *text, size_t len)
{
	char line[LOG_LINE_MAX];
	int used;

	if (logger.name == NULL)
		used = snprintf(line, sizeof(line), "%d %.*s\n", (int)level,
		    (int)len, text);
	else
		used = snprintf(line, sizeof(line), "%s: %s: %.*s\n",
		    logger.name, level_names[level], (int)len, text);
	if (used < 0)
		return;
	if ((size_t)used >= sizeof(line)) {
		used = (int)sizeof(line);
		line[sizeof(line) - 1] = '\n';
	}
	if (write(STDERR_FILENO, line, (size_t)used) != used)
		logger.lost++;
}

/* ---- classes ---- */

static struct class *
class_of(const char *format)
{
	size_t at = ((uintptr_t)format >> 3) * 2654435761U % CLASSES;

	for (size_t i = 0; i < CLASSES; i++, at = (at + 1) % CLASSES) {
		if (classes[at].format == format)
			return &classes[at];
		if (classes[at].format != NULL)
			continue;
		classes[at] = (struct class){ .format = format,
			.noted_ms = -LOG_NOTE_MS };
		return &classes[at];
	}
	return &classes[at]; /* those beyond share one */
}

/* 1: write it. */
static int
admit(const char *format, enum log_level level, const char *text)
{
	struct class *class = class_of(format);
	int64_t now = clock_now().boot_ms;

	class->spent -= (now - class->last_ms) * LOG_CLASS_PER_SECOND;
	class->last_ms = now;
	if (class->spent < 0)
		class->spent = 0;
	if (class->spent + 1000 <= LOG_CLASS_BURST * 1000) {
		class->spent += 1000;
		return 1;
	}
	class->level = level;
	class->held_back++;
	held_back++;
	(void)snprintf(
	    class->sample, sizeof(class->sample), "%.*s", SAMPLE_LEN - 1, text);
	return 0;
}

/* ---- lines ---- */

static void
emit(enum log_level level, char *text, size_t len)
{
	if (logger.sink != NULL)
		logger.sink(level, text, logger.sink_arg);
	else
		write_line(level, text, len);
}

static void __attribute__((format(printf, 2, 0)))
log_at(enum log_level level, const char *format, va_list args)
{
	char text[LOG_LINE_MAX];
	int saved = errno, len;

	if (level > logger.level)
		return;
	len = vsnprintf(text, sizeof(text), format, args);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(text))
		len = (int)sizeof(text) - 1;
	for (int i = 0; i < len; i++) {
		if (text[i] == '\n')
			text[i] = ' ';
	}
	if (!limited || level > LOG_LEVEL_INFO || admit(format, level, text))
		emit(level, text, (size_t)len);
	errno = saved;
}

void
log_tick(void)
{
	int64_t now = clock_now().boot_ms;

	for (size_t i = 0; i < CLASSES; i++) {
		struct class *class = &classes[i];
		char text[SAMPLE_LEN + 64];
		int len;

		if (class->held_back == 0 ||
		    now - class->noted_ms < LOG_NOTE_MS)
			continue;
		len = snprintf(text, sizeof(text),
		    "%llu more suppressed, like: %s",
		    (unsigned long long)class->held_back, class->sample);
		class->held_back = 0;
		class->noted_ms = now;
		emit(class->level, text, (size_t)len);
	}
}

#define LOG_FUNCTION(name, level)                                              \
	void name(const char *format, ...)                                     \
	{                                                                      \
		va_list args;                                                  \
                                                                               \
		va_start(args, format);                                        \
		log_at(level, format, args);                                   \
		va_end(args);                                                  \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

const char *
log_level_name(enum log_level level)
{
	return level_names[level];
}

int
log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]);
	     i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return KMS_EINVAL;
}

uint64_t
log_lost(void)
{
	return logger.lost;
}

uint64_t
log_held_back(void)
{
	return held_back;
}
