#include "kms-keeper/sandbox.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define FILES_MAX 64

#define CALL(name)                                                             \
	{                                                                      \
		SYS_##name, SANDBOX_ANY, 0, 0, 0                               \
	}
#define CALL_IF(name, arg, value)                                              \
	{                                                                      \
		SYS_##name, SANDBOX_ARG_EQUAL, arg, 0, value                   \
	}

/*
 * Missing on purpose: socket, connect, accept, bind, listen, whatever opens a
 * file, makes a descriptor, or starts a thread or a process.
 */
static const struct sandbox_call calls[] = {
	/* memory */
	CALL(brk),
	{ SYS_mmap, SANDBOX_ARG_MASKED, 2, PROT_EXEC, 0 },
	CALL(munmap),
	CALL(mremap),
	CALL(madvise),
	/* the loop and the clocks */
	CALL(epoll_wait),
	CALL(epoll_pwait),
	CALL(epoll_ctl),
	CALL(poll),
	CALL(clock_gettime),
	CALL(restart_syscall),
	/* channels, descriptors that come through control, the log pipe */
	CALL(read),
	CALL(write),
	CALL(recvmsg),
	/* with fdpass_send's flags: no MSG_FASTOPEN, which connects */
	CALL_IF(sendmsg, 2, MSG_NOSIGNAL | MSG_DONTWAIT),
	CALL(close),
	CALL_IF(fcntl, 1, F_GETFL),
	CALL_IF(fcntl, 1, F_SETFL),
	CALL_IF(ioctl, 1, FIONBIO),
	/* randomness, identity of the process for OpenSSL's generator */
	CALL(getrandom),
	CALL(getpid),
	/* the end */
	CALL(exit),
	CALL(exit_group),
	CALL(rt_sigreturn),
	CALL(rt_sigprocmask),
};

const struct sandbox_profile keeper_sandbox = {
	.name = "kms-keeper",
	.calls = calls,
	.call_count = sizeof(calls) / sizeof(calls[0]),
	.max_files = FILES_MAX,
};
