/*
 * inject [-i] TID NUMBER [ARGUMENT ...]: has a running thread make one system
 * call, by ptrace, and prints how that ended:
 *   returned VALUE    the kernel carried it out; the thread goes on unharmed
 *   signal NUMBER     the process died of it
 *   exit STATUS       the process ended
 * -i makes it an i386 call (int 0x80). An argument is a number as strtoull
 * reads it, "sp" (an address whose 256 bytes below the stack are zero), or
 * "@TEXT" (the address of that text there). Exit status 0 when it was tried.
 */
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#define ARGUMENTS 6
/* Below the red zone of the interrupted function. */
#define SCRATCH_BELOW 4096
#define SCRATCH_LEN 256

static __attribute__((noreturn)) void
die(const char *what)
{
	(void)fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void
poke(pid_t tid, uint64_t address, const void *data, size_t len)
{
	const uint8_t *from = data;

	for (size_t i = 0; i < len; i += sizeof(long)) {
		size_t step = len - i < sizeof(long) ? len - i : sizeof(long);
		long word;

		errno = 0;
		word = ptrace(
		    PTRACE_PEEKDATA, tid, (void *)(uintptr_t)(address + i), 0);
		if (errno != 0)
			die("reading memory");
		memcpy(&word, from + i, step);
		if (ptrace(PTRACE_POKEDATA, tid,
			(void *)(uintptr_t)(address + i), (void *)word) != 0)
			die("writing memory");
	}
}

/* The end of a process, or 0 when it merely stopped. */
static int
report_end(int status)
{
	if (WIFSIGNALED(status))
		(void)printf("signal %d\n", WTERMSIG(status));
	else if (WIFEXITED(status))
		(void)printf("exit %d\n", WEXITSTATUS(status));
	else
		return 0;
	return 1;
}

static int
wait_for(pid_t tid)
{
	int status;

	if (waitpid(tid, &status, __WALL) != tid)
		die("waitpid");
	return status;
}

static uint64_t
argument(pid_t tid, const char *text, uint64_t scratch)
{
	char buffer[SCRATCH_LEN] = { 0 };

	if (text[0] != '@' && strcmp(text, "sp") != 0)
		return strtoull(text, NULL, 0);
	if (text[0] == '@')
		(void)snprintf(buffer, sizeof(buffer), "%s", text + 1);
	poke(tid, scratch, buffer, sizeof(buffer));
	return scratch;
}

static void
set_arguments(pid_t tid, struct user_regs_struct *regs, char **argv, int i386)
{
	unsigned long long *const places[ARGUMENTS] = { &regs->rdi, &regs->rsi,
		&regs->rdx, &regs->r10, &regs->r8, &regs->r9 };
	unsigned long long *const places_i386[ARGUMENTS] = { &regs->rbx,
		&regs->rcx, &regs->rdx, &regs->rsi, &regs->rdi, &regs->rbp };
	uint64_t scratch = (regs->rsp - SCRATCH_BELOW) & ~UINT64_C(15);

	for (int i = 0; i < ARGUMENTS; i++) {
		uint64_t value =
		    argv[i] == NULL ? 0 : argument(tid, argv[i], scratch);

		*(i386 ? places_i386[i] : places[i]) = value;
		if (argv[i] == NULL) {
			for (; i < ARGUMENTS; i++)
				*(i386 ? places_i386[i] : places[i]) = 0;
			break;
		}
	}
}

/*
 * One instruction at rip: the system call. What the thread was doing there is
 * put back before it goes on.
 */
static int
inject(pid_t tid, uint64_t number, char **arguments, int i386)
{
	static const uint8_t code_amd64[2] = { 0x0f, 0x05 };
	static const uint8_t code_i386[2] = { 0xcd, 0x80 };
	struct user_regs_struct saved, regs;
	long instruction;
	int status;

	if (ptrace(PTRACE_GETREGS, tid, 0, &saved) != 0)
		die("registers");
	regs = saved;
	errno = 0;
	instruction =
	    ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)saved.rip, 0);
	if (errno != 0)
		die("reading text");
	set_arguments(tid, &regs, arguments, i386);
	regs.rax = number;
	/* No interrupted call is to be restarted. */
	regs.orig_rax = ~0ULL;
	poke(tid, saved.rip, i386 ? code_i386 : code_amd64, 2);
	if (ptrace(PTRACE_SETREGS, tid, 0, &regs) != 0 ||
	    ptrace(PTRACE_SINGLESTEP, tid, 0, 0) != 0)
		die("stepping");
	status = wait_for(tid);
	if (report_end(status))
		return 0;
	if (WSTOPSIG(status) != SIGTRAP) {
		/* Let the signal have its effect: it is the answer. */
		if (ptrace(PTRACE_CONT, tid, 0, WSTOPSIG(status)) != 0)
			die("continuing");
		status = wait_for(tid);
		if (report_end(status))
			return 0;
	}
	if (ptrace(PTRACE_GETREGS, tid, 0, &regs) != 0)
		die("registers");
	(void)printf("returned %lld\n", (long long)regs.rax);
	poke(tid, saved.rip, &instruction, sizeof(instruction));
	if (ptrace(PTRACE_SETREGS, tid, 0, &saved) != 0 ||
	    ptrace(PTRACE_DETACH, tid, 0, 0) != 0)
		die("letting go");
	return 0;
}

int
main(int argc, char **argv)
{
	int i386 = argc > 1 && strcmp(argv[1], "-i") == 0;
	pid_t tid;
	int status;

	argv += 1 + i386;
	argc -= 1 + i386;
	if (argc < 2 || argc > 2 + ARGUMENTS) {
		(void)fprintf(
		    stderr, "usage: inject [-i] TID NUMBER [ARGUMENT ...]\n");
		return 2;
	}
	tid = (pid_t)strtol(argv[0], NULL, 10);
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) != 0 ||
	    ptrace(PTRACE_INTERRUPT, tid, 0, 0) != 0)
		die("tracing");
	status = wait_for(tid);
	if (report_end(status))
		return 2;
	return inject(tid, strtoull(argv[1], NULL, 0), argv + 2, i386);
}
