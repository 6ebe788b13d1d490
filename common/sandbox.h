/*
 * Giving up rights, in one visible order (ARCHITECTURE.md, Invariants). A
 * process calls sandbox_enter once, single-threaded, after it has read its
 * configuration, locked its secret memory and warmed its libraries.
 */
#ifndef KMS_COMMON_SANDBOX_H
#define KMS_COMMON_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

#define SANDBOX_MISSING_LEN 512

/* One allowed system call, perhaps only with one argument as stated. */
struct sandbox_call {
	int number; /* SYS_… */
	enum { SANDBOX_ANY, SANDBOX_ARG_EQUAL, SANDBOX_ARG_MASKED } test;
	unsigned int arg; /* 0..5 */
	uint64_t mask;	  /* SANDBOX_ARG_MASKED: (argument & mask) == value */
	uint64_t value;
};

/*
 * What a program needs once it runs; everything else kills the process. A
 * child's mmap and mprotect never include PROT_EXEC, whatever the row says.
 * A child's profile that names a call which could undo the sandbox (execve,
 * ptrace, prctl, io_uring, chroot, ...) makes sandbox_enter fail.
 */
struct sandbox_profile {
	const char *name;
	const struct sandbox_call *calls;
	size_t call_count;
	uint64_t max_files; /* RLIMIT_NOFILE */
	int connects;	    /* may connect over TCP: kms-chain only */
	int keep_children;  /* kmsd only: no NPROC limit, no Landlock, and the
			       filter is the union that its children need */
};

/* What kmsd.conf says; filled through SANDBOX_CONFIG_ROWS. */
struct sandbox_settings {
	uint64_t uid; /* 0: not started as root, stay who we are */
	uint64_t gid;
	char chroot[1024]; /* "" : none */
	char mode[8];	   /* "require" or "report" */
};

#define SANDBOX_CONFIG_ROWS(type, member)                                      \
	{ "uid", CONFIG_U64, offsetof(type, member.uid), 0 },                  \
	    { "gid", CONFIG_U64, offsetof(type, member.gid), 0 },              \
	    { "chroot", CONFIG_TEXT, offsetof(type, member.chroot), 1024 },    \
	{                                                                      \
		"sandbox", CONFIG_TEXT, offsetof(type, member.mode), 8         \
	}

/*
 * The first thing in main, before any configuration: close every descriptor
 * from first_fd up, ignore SIGINT, SIGHUP and SIGPIPE, clear the environment,
 * set TZ=UTC0, PR_SET_DUMPABLE 0, RLIMIT_CORE 0. 0 or KMS_ESYS (logged).
 */
int sandbox_prepare(int first_fd);

/*
 * In this order: rlimits except NPROC, chroot, gid and uid, capabilities,
 * no_new_privs, Landlock (no file system, no TCP bind, TCP connect only where
 * the profile says so, no abstract sockets, no signals to others), NPROC 0,
 * seccomp (kill by default, TSYNC, x32 and i386 die, no executable memory).
 * Then proves that none comes back. In mode "require" a part that the kernel
 * refuses is KMS_ESYS with its reason in missing; in mode "report" it goes on
 * and missing names what is not in force. chroot and uid are only missing when
 * the process is root. missing is "" when all is in force. KMS_EINVAL for a
 * profile that is itself at fault.
 *
 * With profile->keep_children: no chroot, uid, Landlock or NPROC; the
 * capabilities that children's start needs stay (SETUID, SETGID, SYS_CHROOT,
 * KILL), and the bounding set shrinks to them. What the filter refuses is
 * ENOSYS then, as on a kernel that lacks it: a child's start runs under it.
 */
int sandbox_enter(const struct sandbox_profile *profile,
    const struct sandbox_settings *settings, char missing[SANDBOX_MISSING_LEN]);

/* Further calls that sanitizer run times make; empty in a release build. */
extern const struct sandbox_call sandbox_sanitizer_calls[];
extern const size_t sandbox_sanitizer_call_count;

#endif
