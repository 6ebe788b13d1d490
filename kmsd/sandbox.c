/*
 * kmsd's filter is inherited by its children, so it is the union of what kmsd
 * does after its start and what children do until their own filter stands:
 * loading the program, locking memory, warming libraries, giving up rights.
 * What is absent here is ENOSYS for kmsd and all below it, for ever: tracing
 * and reading other processes, io_uring, bpf, namespaces, mounts, modules,
 * keys, clocks, devices, linking, renaming and making files of any kind.
 */
#include "kmsd/sandbox.h"

#include <sys/syscall.h>

#define CALL(name)                                                             \
	{                                                                      \
		SYS_##name, SANDBOX_ANY, 0, 0, 0                               \
	}

static const struct sandbox_call calls[] = {
	/* memory, threads of a library's start, time */
	CALL(brk), CALL(mmap), CALL(munmap), CALL(mprotect), CALL(mremap),
	CALL(madvise), CALL(mlock), CALL(mlock2), CALL(munlock),
	CALL(memfd_secret), CALL(futex), CALL(set_robust_list),
	CALL(set_tid_address), CALL(rseq), CALL(arch_prctl), CALL(membarrier),
	CALL(clock_gettime), CALL(clock_getres), CALL(clock_nanosleep),
	CALL(nanosleep), CALL(gettimeofday), CALL(time), CALL(getrandom),
	CALL(sched_yield), CALL(sched_getaffinity), CALL(getcpu),
	/* descriptors */
	CALL(read), CALL(write), CALL(readv), CALL(writev), CALL(pread64),
	CALL(close), CALL(close_range), CALL(dup), CALL(dup2), CALL(dup3),
	CALL(fcntl), CALL(ioctl), CALL(lseek), CALL(pipe2), CALL(eventfd2),
	CALL(poll), CALL(ppoll), CALL(select), CALL(pselect6),
	CALL(epoll_create1), CALL(epoll_ctl), CALL(epoll_wait),
	CALL(epoll_pwait), CALL(epoll_pwait2), CALL(timerfd_create),
	CALL(timerfd_settime),
	/* files, to read; and kmsd removes its empty directory */
	CALL(open), CALL(openat), CALL(stat), CALL(fstat), CALL(lstat),
	CALL(newfstatat), CALL(statx), CALL(statfs), CALL(fstatfs),
	CALL(access), CALL(faccessat), CALL(faccessat2), CALL(readlink),
	CALL(readlinkat), CALL(getcwd), CALL(getdents64), CALL(ftruncate),
	CALL(chdir), CALL(rmdir), CALL(fadvise64),
	/* sockets: kms-net accepts, kms-chain connects */
	CALL(socketpair), CALL(socket), CALL(connect), CALL(accept4),
	CALL(listen), CALL(sendto), CALL(recvfrom), CALL(sendmsg),
	CALL(recvmsg), CALL(sendmmsg), CALL(shutdown), CALL(getsockopt),
	CALL(setsockopt), CALL(getsockname), CALL(getpeername), CALL(bind),
	/* processes */
	CALL(clone), CALL(clone3), CALL(fork), CALL(vfork), CALL(execve),
	CALL(execveat), CALL(wait4), CALL(waitid), CALL(exit), CALL(exit_group),
	CALL(kill), CALL(tgkill), CALL(getpid), CALL(getppid), CALL(gettid),
	CALL(rt_sigaction), CALL(rt_sigprocmask), CALL(rt_sigreturn),
	CALL(rt_sigpending), CALL(sigaltstack), CALL(restart_syscall),
	CALL(uname), CALL(sysinfo), CALL(getrusage), CALL(getrlimit),
	CALL(setrlimit), CALL(prlimit64),
	/* rights, to give up and to look at */
	CALL(getuid), CALL(geteuid), CALL(getgid), CALL(getegid),
	CALL(getresuid), CALL(getresgid), CALL(getgroups), CALL(setuid),
	CALL(setgid), CALL(setresuid), CALL(setresgid), CALL(setgroups),
	CALL(capget), CALL(capset), CALL(chroot), CALL(prctl), CALL(seccomp),
	CALL(landlock_create_ruleset), CALL(landlock_restrict_self)
};

const struct sandbox_profile kmsd_profile = { .name = "kmsd",
	.calls = calls,
	.call_count = sizeof(calls) / sizeof(calls[0]),
	.keep_children = 1 };
