#include "common/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"

static const char *const level_names[] = { "error", "warn", "info", "debug" };

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
	if (logger.sink != NULL)
		logger.sink(level, text, logger.sink_arg);
	else
		write_line(level, text, (size_t)len);
	errno = saved;
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
