/*
 * common/sandbox: what a child gave up is really gone. Each case enters the
 * sandbox in a process of its own and reports by its exit or its death.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/sandbox.h"
#include "common/sandbox_landlock.h"

#define CALL(name)                                                             \
	{                                                                      \
		SYS_##name, SANDBOX_ANY, 0, 0, 0                               \
	}

/* Like a child of this house, and the calls that the tests look at. */
static const struct sandbox_call base_calls[] = { CALL(read), CALL(write),
	CALL(close), CALL(exit_group), CALL(mmap), CALL(mprotect), CALL(munmap),
	CALL(brk), CALL(rt_sigreturn), CALL(openat), CALL(getpid),
	{ SYS_fcntl, SANDBOX_ARG_EQUAL, 1, 0, F_GETFL },
	{ SYS_socket, SANDBOX_ARG_MASKED, 0, ~UINT64_C(3), 0 } };

static const struct sandbox_profile base_profile = { .name = "test",
	.calls = base_calls,
	.call_count = sizeof(base_calls) / sizeof(base_calls[0]),
	.max_files = 64 };

static struct sandbox_settings settings;
static char empty_dir[] = "/tmp/sandbox-XXXXXX";

typedef int (*case_fn)(void);

/* Wait status of a process that entered the sandbox and ran fn. */
static int
run_in(const struct sandbox_profile *profile, case_fn fn)
{
	char missing[SANDBOX_MISSING_LEN];
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		if (sandbox_prepare(64) != 0)
			_exit(100);
		if (sandbox_enter(profile, &settings, missing) != 0)
			_exit(101);
		_exit(fn());
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
expect_death(case_fn fn)
{
	int status = run_in(&base_profile, fn);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void
expect_exit(case_fn fn, int code)
{
	int status = run_in(&base_profile, fn);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), code);
}

/* ---- what must still work ---- */

static int
allowed_calls_work(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p, 4096, PROT_READ) != 0)
		return 1;
	if (fcntl(2, F_GETFL) < 0)
		return 2;
	return munmap(p, 4096) == 0 ? 0 : 3;
}

/* ---- what must kill ---- */

#define DEADLY(name, call)                                                     \
	static int do_##name(void)                                             \
	{                                                                      \
		(void)call;                                                    \
		return 0;                                                      \
	}

#define X32_BIT 0x40000000

DEADLY(execve, execl("/bin/true", "true", (char *)NULL))
DEADLY(fork, syscall(SYS_fork))
DEADLY(clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
DEADLY(clone3, syscall(SYS_clone3, NULL, 0))
DEADLY(ptrace, syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0))
DEADLY(prctl, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
DEADLY(setuid, syscall(SYS_setuid, 0))
DEADLY(chroot, syscall(SYS_chroot, "/"))
DEADLY(unshare, syscall(SYS_unshare, CLONE_NEWUSER))
DEADLY(io_uring, syscall(SYS_io_uring_setup, 8, NULL))
DEADLY(listen, syscall(SYS_listen, 0, 1))
DEADLY(bind, syscall(SYS_bind, 0, NULL, 0))
DEADLY(connect, syscall(SYS_connect, 0, NULL, 0))
DEADLY(seccomp, syscall(SYS_seccomp, 0, 0, NULL))
DEADLY(memfd, syscall(SYS_memfd_create, "x", 0))
DEADLY(unlisted_fcntl, syscall(SYS_fcntl, 2, F_DUPFD, 5))
DEADLY(mmap_executable,
    syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC,
	MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
DEADLY(mprotect_executable,
    syscall(SYS_mprotect, (uintptr_t)do_memfd & ~UINT64_C(4095), 4096,
	PROT_READ | PROT_EXEC))
DEADLY(x32, syscall(X32_BIT | SYS_getpid))

static int
do_i386(void)
{
	/* int 0x80 with i386's getpid */
	long number = 20;

	__asm__ volatile("int $0x80" : "+a"(number) : : "memory");
	return 0;
}

static void
forbidden_calls_kill(void **state)
{
	static const case_fn deadly[] = { do_execve, do_fork, do_clone,
		do_clone3, do_ptrace, do_prctl, do_setuid, do_chroot,
		do_unshare, do_io_uring, do_listen, do_bind, do_connect,
		do_seccomp, do_memfd, do_unlisted_fcntl, do_mmap_executable,
		do_mprotect_executable, do_x32, do_i386 };

	(void)state;
	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		expect_death(deadly[i]);
}

static void
listed_calls_live(void **state)
{
	(void)state;
	expect_exit(allowed_calls_work, 0);
}

/* ---- Landlock, where seccomp lets the call through ---- */

static int
open_is_refused(void)
{
	if (open("/", O_RDONLY | O_DIRECTORY) >= 0)
		return 1;
	return errno == EACCES ? 0 : 2;
}

static void
landlock_denies_files(void **state)
{
	(void)state;
	expect_exit(open_is_refused, 0);
}

/* 0: as it should be; 77: the kernel's Landlock knows no TCP. */
static int
tcp_under_landlock(int connects)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) },
		.sin_port = htons(9) };
	struct sockaddr_in any = { .sin_family = AF_INET };
	int fd;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 4)
		return 77;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    sandbox_landlock(connects) != 0)
		return 1;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0)
		return 2;
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) == 0 ||
	    errno != EACCES)
		return 3;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return 4;
	return (errno == EACCES) == !connects ? 0 : 5;
}

static void
landlock_denies_tcp(void **state)
{
	(void)state;
	for (int connects = 0; connects < 2; connects++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(tcp_under_landlock(connects));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77)
			skip();
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* ---- faults ---- */

static void
a_profile_cannot_ask_for_the_world(void **state)
{
	static const struct sandbox_call calls[] = { CALL(exit_group),
		CALL(execve) };
	struct sandbox_profile profile = base_profile;
	int status;

	(void)state;
	profile.calls = calls;
	profile.call_count = 2;
	status = run_in(&profile, allowed_calls_work);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 101);
}

/* As root, no user and no root directory of its own is a missing part. */
static void
root_must_change_user(void **state)
{
	struct sandbox_settings saved = settings;
	int status;

	(void)state;
	if (geteuid() != 0)
		return;
	settings.uid = 0;
	status = run_in(&base_profile, allowed_calls_work);
	settings = saved;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 101);
	settings.chroot[0] = '\0';
	status = run_in(&base_profile, allowed_calls_work);
	settings = saved;
	assert_int_equal(WEXITSTATUS(status), 101);
}

/* In report mode it goes on, and says what is not in force. */
static int
report_names_what_is_missing(void)
{
	struct sandbox_settings none = { .mode = "report" };
	char missing[SANDBOX_MISSING_LEN];

	if (sandbox_enter(&base_profile, &none, missing) != 0)
		return 1;
	if (geteuid() == 0)
		return 2;
	return 0;
}

static int
root_report(void)
{
	struct sandbox_settings none = { .mode = "report" };
	static const struct sandbox_call more[] = { CALL(read), CALL(write),
		CALL(exit_group) };
	struct sandbox_profile profile = base_profile;
	char missing[SANDBOX_MISSING_LEN];

	profile.calls = more;
	profile.call_count = 3;
	if (sandbox_enter(&profile, &none, missing) != 0)
		return 1;
	if (strstr(missing, "own user") == NULL ||
	    strstr(missing, "chroot") == NULL)
		return 2;
	return strlen(missing) < SANDBOX_MISSING_LEN ? 0 : 3;
}

static void
report_mode_goes_on(void **state)
{
	int (*fn)(void) =
	    geteuid() == 0 ? root_report : report_names_what_is_missing;
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (geteuid() == 0) {
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* ---- preparation ---- */

static int
preparation(void)
{
	int fd = dup2(2, 70);
	struct rlimit core;

	if (fd != 70 || setenv("SECRET", "x", 1) != 0)
		return 1;
	if (sandbox_prepare(64) != 0)
		return 2;
	if (fcntl(70, F_GETFD) >= 0 || getenv("SECRET") != NULL)
		return 3;
	if (strcmp(getenv("TZ"), "UTC0") != 0)
		return 4;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 5;
	if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0)
		return 6;
	(void)raise(SIGINT);
	(void)raise(SIGPIPE);
	return 0;
}

static void
preparation_clears_what_was_inherited(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(preparation());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int
set_up(void **state)
{
	(void)state;
	memcpy(settings.mode, "require", 8);
	if (mkdtemp(empty_dir) == NULL)
		return -1;
	if (geteuid() == 0) {
		settings.uid = 64101;
		settings.gid = 64101;
		(void)chmod(empty_dir, 0755);
		memcpy(settings.chroot, empty_dir, sizeof(empty_dir));
	}
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	return rmdir(empty_dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(listed_calls_live),
		cmocka_unit_test(forbidden_calls_kill),
		cmocka_unit_test(landlock_denies_files),
		cmocka_unit_test(landlock_denies_tcp),
		cmocka_unit_test(a_profile_cannot_ask_for_the_world),
		cmocka_unit_test(root_must_change_user),
		cmocka_unit_test(report_mode_goes_on),
		cmocka_unit_test(preparation_clears_what_was_inherited),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
