/*
 * What the processes cost, as the kernel counts it in /proc/PID/stat: kmsd
 * reads it for all of them, since its children have no files.
 */
#ifndef KMS_KMSD_USAGE_H
#define KMS_KMSD_USAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/metrics_labels.h"

struct usage {
	uint64_t cpu_us; /* user and system time */
	uint64_t resident_bytes;
};

/* A line of /proc/PID/stat (proc(5)), ticks a second and bytes of a page.
 * KMS_EINVAL. */
int usage_parse(const char *text, size_t len, uint64_t ticks, uint64_t page,
    struct usage *usage);

/* This process starts now. */
void usage_started(enum label_process process);

/* Put its figures into metrics; pid 0: there is none now. What cannot be read
 * is left as it was. */
void usage_count(enum label_process process, pid_t pid);

#endif
