/* Start a child as a fresh image with exactly the descriptors of fds.h. */
#ifndef KMS_KMSD_SPAWN_H
#define KMS_KMSD_SPAWN_H

#include <sys/types.h>

#include "proto/fds.h"

struct spawn_request {
	int program_fd;	  /* of the executable (O_PATH) */
	const char *path; /* the same, for where the descriptor is no use */
	const char *name; /* argv[0] */
	/* What becomes descriptor 0, 1, 2, …; all stay the caller's. */
	int fds[FD_CHILD_END];
};

/*
 * Fork and exec, with an empty environment, default signal handling and
 * death with its parent. The child's pid, or -1 and errno. That exec failed
 * is seen as exit status 127.
 */
pid_t spawn_child(const struct spawn_request *request);

#endif
