#include "kmsd/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "proto/metrics.h"

#define STAT_MAX 1024
#define SECOND 1000000U /* in microseconds */

/* Fields behind the name in parentheses, the state being the first. */
#define FIELD_UTIME 11
#define FIELD_STIME 12
#define FIELD_RESIDENT 21

/* The decimal number that is field n of text. */
static int
field(const char *text, const char *end, unsigned int n, uint64_t *value)
{
	for (; n > 0; n--) {
		text = memchr(text, ' ', (size_t)(end - text));
		if (text == NULL)
			return KMS_EINVAL;
		text++;
	}
	if (text == end || *text < '0' || *text > '9')
		return KMS_EINVAL;
	for (*value = 0; text < end && *text >= '0' && *text <= '9'; text++) {
		if (*value > UINT64_MAX / 10 - 1)
			return KMS_EINVAL;
		*value = *value * 10 + (uint64_t)(*text - '0');
	}
	return 0;
}

int
usage_parse(const char *text, size_t len, uint64_t ticks, uint64_t page,
    struct usage *usage)
{
	const char *end = text + len, *from = memrchr(text, ')', len);
	uint64_t user, system, pages;

	/* The name may hold anything, also parentheses. */
	if (from == NULL || end - from < 2 || ticks == 0)
		return KMS_EINVAL;
	from += 2;
	if (field(from, end, FIELD_UTIME, &user) != 0 ||
	    field(from, end, FIELD_STIME, &system) != 0 ||
	    field(from, end, FIELD_RESIDENT, &pages) != 0)
		return KMS_EINVAL;
	if (user > UINT64_MAX / SECOND / 2 ||
	    system > UINT64_MAX / SECOND / 2 || pages > UINT64_MAX / page)
		return KMS_EINVAL;
	usage->cpu_us = (user + system) * (SECOND / ticks);
	usage->resident_bytes = pages * page;
	return 0;
}

void
usage_started(enum label_process process)
{
	metrics[METRIC_KMSD_STARTED + (int)process] =
	    (uint64_t)clock_now().wall_ms * 1000;
}

void
usage_count(enum label_process process, pid_t pid)
{
	char path[64], text[STAT_MAX];
	struct usage usage;
	ssize_t len;
	int fd;

	if (pid <= 0) {
		metrics[METRIC_KMSD_RESIDENT + (int)process] = 0;
		return;
	}
	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	len = read(fd, text, sizeof(text));
	(void)close(fd);
	if (len <= 0 ||
	    usage_parse(text, (size_t)len, (uint64_t)sysconf(_SC_CLK_TCK),
		(uint64_t)sysconf(_SC_PAGESIZE), &usage) != 0)
		return;
	metrics[METRIC_KMSD_CPU + (int)process] = usage.cpu_us;
	metrics[METRIC_KMSD_RESIDENT + (int)process] = usage.resident_bytes;
}
