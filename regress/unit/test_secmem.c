/* common/secmem: locked memory that is wiped, heaps that wipe. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/secmem.h"

#define REGION 65536

static int
is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != 0)
			return 0;
	}
	return 1;
}

/* Many sizes at once, in a fixed pseudo-random order, never overlapping. */
static void
blocks_are_zeroed_aligned_and_apart(void **state)
{
	uint8_t *held[64] = { NULL };
	size_t len[64] = { 0 };
	uint32_t seed = 12345;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t i;

		seed = seed * 1664525 + 1013904223;
		i = seed >> 8 & 63;
		if (held[i] != NULL) {
			for (size_t b = 0; b < len[i]; b++)
				assert_int_equal(held[i][b], i + 1);
			secmem_free(held[i]);
			held[i] = NULL;
			continue;
		}
		len[i] = 1 + (seed >> 16) % 700;
		held[i] = secmem_alloc(len[i]);
		assert_non_null(held[i]);
		assert_int_equal((uintptr_t)held[i] % 16, 0);
		assert_true(is_zero(held[i], len[i]));
		memset(held[i], (int)i + 1, len[i]);
	}
	for (size_t i = 0; i < 64; i++)
		secmem_free(held[i]);
}

static void
freed_memory_is_wiped_and_joined(void **state)
{
	uint8_t *a = secmem_alloc(100), *b = secmem_alloc(100), *all;

	(void)state;
	memset(a, 0xaa, 100);
	memset(b, 0xbb, 100);
	secmem_free(a);
	assert_true(is_zero(a, 100));
	secmem_free(b);
	/* The region is whole again, and every byte of it zero. */
	all = secmem_alloc(REGION - 16);
	assert_non_null(all);
	assert_true(is_zero(all, REGION - 16));
	assert_null(secmem_alloc(1));
	secmem_free(all);
	assert_null(secmem_alloc(REGION - 15));
	assert_null(secmem_alloc(0));
	assert_null(secmem_alloc(SIZE_MAX));
}

static void
freeing_twice_aborts(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		void *p;

		/* The parent's region is not here. */
		(void)signal(SIGABRT, SIG_DFL);
		(void)signal(SIGSEGV, SIG_DFL);
		p = secmem_alloc(16);
		secmem_free(p);
		secmem_free(p);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* "VmFlags: … lo … dc …" of the mapping that holds p; 1 when all are there. */
static int
has_flags(const void *p, const char *const *flags)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	char line[512];
	int inside = 0, found = 1;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = (uintptr_t)p >= from && (uintptr_t)p < to;
		if (!inside || strncmp(line, "VmFlags:", 8) != 0)
			continue;
		for (; *flags != NULL; flags++)
			found = found && strstr(line, *flags) != NULL;
		break;
	}
	(void)fclose(maps);
	return found;
}

static void
memory_is_locked_undumped_and_not_inherited(void **state)
{
	void *p = secmem_alloc(16);

	(void)state;
	assert_true(
	    has_flags(p, (const char *const[]){ " lo", " dd", " dc", NULL }));
	secmem_free(p);
}

static void
capture(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)snprintf(arg, 512, "%s", text);
}

static int
heaps_without_lock_right(void)
{
	struct rlimit none = { 0, 0 };
	char text[512] = "";

	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		return 1;
	log_set_sink(capture, text);
	if (setrlimit(RLIMIT_MEMLOCK, &none) != 0)
		return 2;
	if (secmem_wipe_heaps() == 0)
		return 3;
	return strstr(text, "RLIMIT_MEMLOCK") != NULL ? 0 : 4;
}

/* Without the right to lock, the reason is logged. */
static void
a_small_lock_limit_is_an_error(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (pid == 0)
		_exit(heaps_without_lock_right());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* What OpenSSL frees is wiped: looked at through a block that is kept. */
static void
wiping_heap_wipes(void **state)
{
#ifndef KMS_SANITIZER
	uint8_t *p = OPENSSL_malloc(4096);
	uint8_t *volatile look = p;

	memset(p, 0xcc, 4096);
	OPENSSL_free(p);
	/* The allocator's own links stand at the front; the rest is zero. */
	assert_true(is_zero(look + 64, 4096 - 64));
#endif
	(void)state;
	assert_int_equal(CRYPTO_secure_malloc_initialized(), 1);
}

static void
realloc_keeps_the_contents(void **state)
{
	uint8_t *p = OPENSSL_malloc(10);

	(void)state;
	memset(p, 7, 10);
	for (size_t len = 20; len < 100000; len *= 3) {
		p = OPENSSL_realloc(p, len);
		assert_non_null(p);
		for (size_t i = 0; i < 10; i++)
			assert_int_equal(p[i], 7);
	}
	p = OPENSSL_realloc(p, 5);
	assert_int_equal(p[4], 7);
	OPENSSL_free(p);
}

static int
set_up(void **state)
{
	(void)state;
	if (secmem_wipe_heaps() != 0)
		return -1;
	return secmem_init(REGION, NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_zeroed_aligned_and_apart),
		cmocka_unit_test(freed_memory_is_wiped_and_joined),
		cmocka_unit_test(freeing_twice_aborts),
		cmocka_unit_test(memory_is_locked_undumped_and_not_inherited),
		cmocka_unit_test(wiping_heap_wipes),
		cmocka_unit_test(realloc_keeps_the_contents),
	};
	const struct CMUnitTest before[] = {
		cmocka_unit_test(a_small_lock_limit_is_an_error),
	};

	return cmocka_run_group_tests(before, NULL, NULL) +
	    cmocka_run_group_tests(tests, set_up, NULL);
}
