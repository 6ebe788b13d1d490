/* The log: kmsd's own lines and those that children write to their pipes. */
#ifndef KMS_KMSD_LOGGER_H
#define KMS_KMSD_LOGGER_H

#include <uv.h>

#include "common/log.h"

/* Print kmsd's own lines in this form from now on. */
void logger_init(int json, enum log_level level);

/*
 * Read a child's pipe on the loop until its end (fd is taken over, and closed
 * with the pipe). logger_close prints what is still in it, and frees.
 */
struct logger_pipe;
struct logger_pipe *logger_open(
    uv_loop_t *loop, const char *process, long pid, int fd);
void logger_set_pid(struct logger_pipe *pipe, long pid);
void logger_close(struct logger_pipe *pipe);

#endif
