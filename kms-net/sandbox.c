#include "kms-net/sandbox.h"

#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define FILES_OF_OURS 64 /* descriptors beside the connections */

#define ANY(name)                                                              \
	{                                                                      \
		SYS_##name, SANDBOX_ANY, 0, 0, 0                               \
	}

/*
 * Accept, but nothing that makes, names or joins a socket: no socket, bind,
 * listen, connect. No file is opened, nothing is executed.
 */
static const struct sandbox_call calls[] = {
	/* connections */
	ANY(accept4),
	ANY(read),
	ANY(write),
	ANY(writev),
	ANY(close),
	{ SYS_shutdown, SANDBOX_ARG_EQUAL, 1, 0, SHUT_WR },
	{ SYS_ioctl, SANDBOX_ARG_EQUAL, 1, 0, FIONBIO },
	/* channels */
	/* with fdpass_send's flags: no MSG_FASTOPEN, which connects */
	{ SYS_sendmsg, SANDBOX_ARG_EQUAL, 2, 0, MSG_NOSIGNAL | MSG_DONTWAIT },
	ANY(recvmsg),
	ANY(poll),
	/* the loop */
	ANY(epoll_ctl),
	ANY(epoll_wait),
	ANY(epoll_pwait),
	ANY(clock_gettime),
	ANY(restart_syscall),
	/* memory */
	ANY(brk),
	{ SYS_mmap, SANDBOX_ARG_MASKED, 2, PROT_EXEC, 0 },
	ANY(mremap),
	ANY(munmap),
	ANY(madvise),
	/* the end */
	ANY(exit_group),
	ANY(rt_sigreturn),
	ANY(rt_sigprocmask),
	ANY(getpid),
};

void
sandbox_profile_net(struct sandbox_profile *profile, uint64_t max_connections)
{
	*profile = (struct sandbox_profile){ .name = "kms-net",
		.calls = calls,
		.call_count = sizeof(calls) / sizeof(calls[0]),
		.max_files = max_connections + FILES_OF_OURS };
}
