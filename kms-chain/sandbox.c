#include "kms-chain/sandbox.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* RPC_IN_FLIGHT_MAX for each endpoint at worst, those kept alive, c-ares'. */
#define FILES_MAX 1024

#define CALL(name)                                                             \
	{                                                                      \
		SYS_##name, SANDBOX_ANY, 0, 0, 0                               \
	}
#define CALL_IF(name, arg, value)                                              \
	{                                                                      \
		SYS_##name, SANDBOX_ARG_EQUAL, arg, 0, value                   \
	}

/*
 * Missing on purpose: bind, listen, accept, socketpair, whatever opens a file
 * or starts a thread or a process. A socket is an IPv4 or IPv6 one.
 */
static const struct sandbox_call calls[] = {
	/* memory */
	CALL(brk),
	{ SYS_mmap, SANDBOX_ARG_MASKED, 2, PROT_EXEC, 0 },
	{ SYS_mprotect, SANDBOX_ARG_MASKED, 2, PROT_EXEC, 0 },
	CALL(munmap),
	CALL(mremap),
	CALL(madvise),
	/* the loop and the clocks */
	CALL(epoll_wait),
	CALL(epoll_pwait),
	CALL(epoll_ctl),
	CALL(poll),
	CALL(clock_gettime),
	CALL(gettimeofday),
	CALL(restart_syscall),
	/* descriptors that are open: channels, log pipe, sockets */
	CALL(read),
	CALL(write),
	CALL(close),
	CALL_IF(fcntl, 1, F_GETFL),
	CALL_IF(fcntl, 1, F_SETFL),
	CALL_IF(fcntl, 1, F_GETFD),
	CALL_IF(fcntl, 1, F_SETFD),
	CALL_IF(ioctl, 1, FIONBIO),
	/* sockets that connect */
	CALL_IF(socket, 0, AF_INET),
	CALL_IF(socket, 0, AF_INET6),
	CALL(connect),
	CALL(getsockname),
	CALL(getpeername),
	CALL(getsockopt),
	CALL(setsockopt),
	CALL(sendto),
	CALL(recvfrom),
	CALL(sendmsg),
	CALL(recvmsg),
	CALL(shutdown),
	/* the rest */
	CALL(getrandom),
	CALL(getpid),
	CALL(futex),
	CALL(rt_sigreturn),
	CALL(rt_sigprocmask),
	CALL(exit),
	CALL(exit_group),
};

const struct sandbox_profile chain_sandbox_profile = {
	.name = "kms-chain",
	.calls = calls,
	.call_count = sizeof(calls) / sizeof(calls[0]),
	.max_files = FILES_MAX,
	.connects = 1,
};
