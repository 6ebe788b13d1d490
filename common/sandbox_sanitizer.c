/*
 * What the run times of AddressSanitizer and UndefinedBehaviorSanitizer call
 * beyond a program's own profile. Linked into sanitizer builds only.
 */
#include "common/sandbox.h"

#include <sys/syscall.h>

#define CALL(name)                                                             \
	{                                                                      \
		SYS_##name, SANDBOX_ANY, 0, 0, 0                               \
	}

const struct sandbox_call sandbox_sanitizer_calls[] = { CALL(mmap),
	CALL(munmap), CALL(mprotect), CALL(madvise), CALL(mremap), CALL(getpid),
	CALL(gettid), CALL(sigaltstack), CALL(rt_sigaction),
	CALL(rt_sigprocmask), CALL(sched_yield), CALL(sched_getaffinity),
	CALL(futex), CALL(openat), CALL(open), CALL(close), CALL(readlink),
	CALL(newfstatat), CALL(fstat), CALL(read), CALL(write), CALL(getrlimit),
	CALL(prlimit64), CALL(getrusage), CALL(clock_gettime), CALL(tgkill),
	CALL(kill), CALL(exit), CALL(exit_group), CALL(brk), CALL(nanosleep),
	CALL(clock_nanosleep), CALL(getrandom) };
const size_t sandbox_sanitizer_call_count =
    sizeof(sandbox_sanitizer_calls) / sizeof(sandbox_sanitizer_calls[0]);
