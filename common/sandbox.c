#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/sandbox_landlock.h"

#ifndef KMS_SANITIZER
const struct sandbox_call sandbox_sanitizer_calls[] = { { 0 } };
const size_t sandbox_sanitizer_call_count = 0;
#endif

/* The capabilities that starting a child needs. */
#define KEPT_CAPABILITIES                                                      \
	(1U << CAP_SETUID | 1U << CAP_SETGID | 1U << CAP_SYS_CHROOT |          \
	    1U << CAP_KILL)

/* One entering of the sandbox. */
struct entry {
	const struct sandbox_profile *profile;
	const struct sandbox_settings *settings;
	int required; /* a part that is refused ends it */
	int root;     /* started as root */
	char *missing;
	size_t used; /* bytes of missing */
};

/* Note that a part is not in force: KMS_ESYS when it had to be, else 0. */
static int __attribute__((format(printf, 2, 3)))
refused(struct entry *entry, const char *format, ...)
{
	char *end = entry->missing + entry->used;
	size_t room = SANDBOX_MISSING_LEN - entry->used;
	va_list args;
	int len = 0;

	if (entry->used > 0 && room > 2) {
		memcpy(end, ", ", 3);
		end += 2;
		room -= 2;
		entry->used += 2;
	}
	va_start(args, format);
	len = vsnprintf(end, room, format, args);
	va_end(args);
	if (len > 0)
		entry->used += (size_t)len < room ? (size_t)len : room - 1;
	return entry->required ? KMS_ESYS : 0;
}

/* ---- before the configuration ---- */

static void
close_from(int first_fd)
{
	struct rlimit limit;

	if (syscall(SYS_close_range, (unsigned int)first_fd, ~0U, 0) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	for (int fd = first_fd; (rlim_t)fd < limit.rlim_cur; fd++)
		(void)close(fd);
}

int
sandbox_prepare(int first_fd)
{
	struct rlimit none = { 0, 0 };

	close_from(first_fd);
	if (signal(SIGINT, SIG_IGN) == SIG_ERR ||
	    signal(SIGHUP, SIG_IGN) == SIG_ERR ||
	    signal(SIGPIPE, SIG_IGN) == SIG_ERR || clearenv() != 0 ||
	    setenv("TZ", "UTC0", 1) != 0 ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
	    setrlimit(RLIMIT_CORE, &none) != 0) {
		log_error("start: %s", strerror(errno));
		return KMS_ESYS;
	}
	tzset();
	return 0;
}

/* ---- limits, root directory, user, capabilities ---- */

static int
set_limit(struct entry *entry, __rlimit_resource_t resource, const char *name,
    uint64_t value)
{
	struct rlimit limit = { value, value };

	if (setrlimit(resource, &limit) != 0)
		return refused(entry, "limit %s: %s", name, strerror(errno));
	return 0;
}

static int
limit_resources(struct entry *entry)
{
	int error = set_limit(entry, RLIMIT_CORE, "CORE", 0);

	if (error == 0 && !entry->profile->keep_children)
		error = set_limit(entry, RLIMIT_FSIZE, "FSIZE", 0);
	if (error == 0 && !entry->profile->keep_children)
		error = set_limit(
		    entry, RLIMIT_NOFILE, "NOFILE", entry->profile->max_files);
	return error;
}

static int
change_root(struct entry *entry)
{
	const char *path = entry->settings->chroot;

	if (!entry->root || entry->profile->keep_children)
		return 0;
	if (path[0] == '\0')
		return refused(entry, "chroot: none is configured");
	if (chroot(path) != 0 || chdir("/") != 0)
		return refused(entry, "chroot %s: %s", path, strerror(errno));
	return 0;
}

static int
change_user(struct entry *entry)
{
	uid_t uid = (uid_t)entry->settings->uid;
	gid_t gid = (gid_t)entry->settings->gid;

	if (!entry->root || entry->profile->keep_children)
		return 0;
	if (uid == 0 || gid == 0)
		return refused(entry, "own user: none is configured");
	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
	    setresuid(uid, uid, uid) != 0)
		return refused(entry, "own user: %s", strerror(errno));
	/* Both are reset when the user changes. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		return refused(entry, "prctl: %s", strerror(errno));
	return 0;
}

static int
set_capabilities(uint32_t keep)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct data[2] = { { 0 } };

	if (syscall(SYS_capget, &header, data) != 0)
		return -1;
	data[0].effective = data[0].permitted = data[0].permitted & keep;
	data[1].effective = data[1].permitted = 0;
	data[0].inheritable = data[1].inheritable = 0;
	return (int)syscall(SYS_capset, &header, data);
}

/* The bounding set is shrunk where that is still allowed; without
 * no_new_privs lifted again it gives nothing in any case. */
static void
shrink_bounding_set(uint32_t keep)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (cap >= 32 || (keep >> cap & 1) == 0)
			(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	}
}

static int
drop_capabilities(struct entry *entry)
{
	uint32_t keep = entry->profile->keep_children && entry->root
	    ? KEPT_CAPABILITIES
	    : 0;

	shrink_bounding_set(keep);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (set_capabilities(keep) != 0)
		return refused(entry, "capabilities: %s", strerror(errno));
	return 0;
}

static int
forbid_privileges(struct entry *entry)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return refused(entry, "no_new_privs: %s", strerror(errno));
	return 0;
}

static int
forbid_files(struct entry *entry)
{
	if (entry->profile->keep_children)
		return 0;
	if (sandbox_landlock(entry->profile->connects) != 0)
		return refused(entry, "Landlock: %s", strerror(errno));
	return 0;
}

static int
forbid_processes(struct entry *entry)
{
	if (entry->profile->keep_children)
		return 0;
	return set_limit(entry, RLIMIT_NPROC, "NPROC", 0);
}

/* ---- proofs, while a refusal is an error and not yet a death ---- */

static int
capabilities_held(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct data[2] = { { 0 } };

	if (syscall(SYS_capget, &header, data) != 0)
		return 1;
	return (data[0].effective | data[0].permitted | data[0].inheritable |
		   data[1].effective | data[1].permitted |
		   data[1].inheritable) != 0;
}

static int
can_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return 0;
	(void)waitpid(pid, NULL, 0);
	return 1;
}

static int
can_open(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

/* Whether anything that was given up can be had back; NULL: nothing. */
static const char *
regained(void)
{
	struct rlimit one = { 1, 1 };

	if (setresuid(0, 0, 0) == 0 || seteuid(0) == 0)
		return "the root user came back";
	if (setresgid(0, 0, 0) == 0 || setegid(0) == 0)
		return "the root group came back";
	if (capabilities_held())
		return "capabilities are left";
	if (chroot("/") == 0)
		return "chroot is still possible";
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return "no_new_privs is off";
	if (setrlimit(RLIMIT_NPROC, &one) == 0 ||
	    setrlimit(RLIMIT_FSIZE, &one) == 0 ||
	    setrlimit(RLIMIT_CORE, &one) == 0)
		return "a limit can be raised";
	if (can_open("/") || can_open("."))
		return "the file system can be read";
	if (can_fork())
		return "processes can be started";
	return NULL;
}

static int
prove(struct entry *entry)
{
	const char *what;

	if (entry->profile->keep_children || entry->used > 0)
		return 0;
	what = regained();
	return what != NULL ? refused(entry, "proof: %s", what) : 0;
}

/* ---- system calls ---- */

/* A child that needs one of these is not a child of this house. */
static const int never[] = { SYS_execve, SYS_execveat, SYS_fork, SYS_vfork,
	SYS_clone3, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
	SYS_prctl, SYS_seccomp, SYS_setuid, SYS_setgid, SYS_setresuid,
	SYS_setresgid, SYS_setreuid, SYS_setregid, SYS_setgroups, SYS_capset,
	SYS_chroot, SYS_pivot_root, SYS_mount, SYS_unshare, SYS_setns, SYS_bpf,
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_memfd_create, SYS_pkey_mprotect, SYS_perf_event_open,
	SYS_userfaultfd, SYS_keyctl, SYS_personality, SYS_kexec_load,
	SYS_init_module, SYS_finit_module, SYS_open_by_handle_at,
	SYS_pidfd_getfd };

static int
is_allowable(const struct entry *entry, int number)
{
	if (entry->profile->keep_children)
		return 1;
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (never[i] == number)
			return 0;
	}
	return 1;
}

static struct scmp_arg_cmp
masked(unsigned int arg, uint64_t mask, uint64_t value)
{
	return (struct scmp_arg_cmp){ .arg = arg,
		.op = SCMP_CMP_MASKED_EQ,
		.datum_a = mask,
		.datum_b = value };
}

static int
allow(scmp_filter_ctx filter, const struct sandbox_call *call, int executable)
{
	int maps = call->number == SYS_mmap || call->number == SYS_mprotect;
	struct scmp_arg_cmp compare[2];
	unsigned int count = 0;

	/* Of mmap and mprotect the protection (argument 2) is ours to test. */
	if (call->test == SANDBOX_ARG_EQUAL && !(maps && call->arg == 2))
		compare[count++] = masked(call->arg, UINT64_MAX, call->value);
	else if (call->test == SANDBOX_ARG_MASKED && !(maps && call->arg == 2))
		compare[count++] = masked(call->arg, call->mask, call->value);
	if (maps && !executable)
		compare[count++] = masked(2, PROT_EXEC, 0);
	return seccomp_rule_add_array(
	    filter, SCMP_ACT_ALLOW, call->number, count, compare);
}

static int
allow_all(struct entry *entry, scmp_filter_ctx filter,
    const struct sandbox_call *calls, size_t count)
{
	int executable = entry->profile->keep_children, error;

	for (size_t i = 0; i < count; i++) {
		if (!is_allowable(entry, calls[i].number)) {
			(void)refused(entry,
			    "profile: call %d is never allowed",
			    calls[i].number);
			return KMS_EINVAL;
		}
		error = allow(filter, &calls[i], executable);
		if (error != 0 && error != -EEXIST) {
			(void)refused(entry, "profile: call %d: %s",
			    calls[i].number, strerror(-error));
			return KMS_EINVAL;
		}
	}
	return 0;
}

/*
 * What libseccomp adds by itself: another architecture's call (i386), and an
 * x32 one, takes the bad-architecture action.
 */
static int
filter_calls(struct entry *entry)
{
	/* A child's libraries may ask for newer calls, and fall back. */
	uint32_t action = entry->profile->keep_children ? SCMP_ACT_ERRNO(ENOSYS)
							: SCMP_ACT_KILL_PROCESS;
	scmp_filter_ctx filter;
	int error;

	/* It is inherited: no valgrind could start below it. */
	if (entry->profile->keep_children && !entry->required)
		return refused(entry, "seccomp: left out for the children");
	filter = seccomp_init(action);
	if (filter == NULL)
		return refused(entry, "seccomp: not available");
	error = seccomp_attr_set(
	    filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (error == 0)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (error == 0)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
	if (error == 0)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (error != 0) {
		error = refused(entry, "seccomp: %s", strerror(-error));
		goto out;
	}
	error = allow_all(
	    entry, filter, entry->profile->calls, entry->profile->call_count);
	if (error == 0)
		error = allow_all(entry, filter, sandbox_sanitizer_calls,
		    sandbox_sanitizer_call_count);
	if (error != 0)
		goto out;
	error = seccomp_load(filter);
	if (error != 0)
		error = refused(entry, "seccomp: %s", strerror(-error));
out:
	seccomp_release(filter);
	return error;
}

int
sandbox_enter(const struct sandbox_profile *profile,
    const struct sandbox_settings *settings, char missing[SANDBOX_MISSING_LEN])
{
	static int (*const steps[])(struct entry *) = { limit_resources,
		change_root, change_user, drop_capabilities, forbid_privileges,
		forbid_files, forbid_processes, prove, filter_calls };
	struct entry entry = { .profile = profile,
		.settings = settings,
		.required = strcmp(settings->mode, "report") != 0,
		.root = geteuid() == 0,
		.missing = missing };
	int error = 0;

	missing[0] = '\0';
	for (size_t i = 0; error == 0 && i < sizeof(steps) / sizeof(steps[0]);
	     i++)
		error = steps[i](&entry);
	return error;
}
