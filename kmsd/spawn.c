#include "kmsd/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Copies are kept above the numbers that are given out. */
#define FD_SAFE 64

static void
complain(const char *text)
{
	(void)!write(FD_LOG, text, strlen(text));
}

/* Number 0, 1, 2, … the requested ones, whatever order they come in. */
static int
place_descriptors(const struct spawn_request *request)
{
	int copies[FD_CHILD_END];

	for (int i = 0; i < FD_CHILD_END; i++) {
		copies[i] = fcntl(request->fds[i], F_DUPFD_CLOEXEC, FD_SAFE);
		if (copies[i] < 0)
			return -1;
	}
	for (int i = 0; i < FD_CHILD_END; i++) {
		if (dup2(copies[i], i) < 0)
			return -1;
	}
	return 0;
}

static void __attribute__((noreturn))
run_program(const struct spawn_request *request, pid_t parent)
{
	char *argv[] = { (char *)(uintptr_t)request->name, NULL };
	char *environment[] = { NULL };
	int program;
	sigset_t none;

	program = fcntl(request->program_fd, F_DUPFD_CLOEXEC, FD_SAFE);
	if (program < 0 || place_descriptors(request) != 0) {
		complain("0 descriptors could not be placed\n");
		_exit(127);
	}
	/* All that exec does not close is closed by the child's own start. */
	for (int sig = 1; sig < SIGRTMIN; sig++)
		(void)signal(sig, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(127);
	(void)syscall(
	    SYS_execveat, program, "", argv, environment, AT_EMPTY_PATH);
	/* valgrind knows only paths. */
	(void)execve(request->path, argv, environment);
	complain("0 the program could not be executed\n");
	_exit(127);
}

pid_t
spawn_child(const struct spawn_request *request)
{
	sigset_t all, saved;
	pid_t parent = getpid(), pid;

	/* No handler of ours may run in the child. */
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &saved);
	pid = fork();
	if (pid == 0)
		run_program(request, parent);
	(void)sigprocmask(SIG_SETMASK, &saved, NULL);
	return pid;
}
