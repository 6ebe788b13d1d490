#include "common/secmem.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif

#define SECURE_HEAP_BYTES (256 * 1024)
#define SECURE_HEAP_SMALLEST 16

/* Stands before each block, free or used; blocks lie end to end. */
struct block {
	size_t size; /* of what follows, a multiple of 16 */
	size_t used; /* 0 or USED */
};

#define USED ((size_t)0x55534544)
#define ALIGNMENT sizeof(struct block)

static struct {
	uint8_t *base;
	size_t size;
} region;

static struct block *
first_block(void)
{
	return (struct block *)(void *)region.base;
}

/* The block behind b, or NULL at the end of the region. */
static struct block *
next_block(struct block *b)
{
	uint8_t *next = (uint8_t *)(b + 1) + b->size;

	return next < region.base + region.size ? (struct block *)(void *)next
						: NULL;
}

static void
log_lock_limit(size_t bytes)
{
	struct rlimit limit = { 0, 0 };
	int saved = errno;

	(void)getrlimit(RLIMIT_MEMLOCK, &limit);
	log_error("locking %zu bytes of memory: %s; RLIMIT_MEMLOCK is %llu "
		  "bytes, raise it to 8 MiB",
	    bytes, strerror(saved), (unsigned long long)limit.rlim_cur);
	errno = saved;
}

/* NULL where the kernel lacks memfd_secret or refuses it. */
static void *
map_hidden(size_t size)
{
	long fd = syscall(SYS_memfd_secret, 0);
	void *p = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (ftruncate((int)fd, (off_t)size) == 0)
		p = mmap(
		    NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
	(void)close((int)fd);
	return p == MAP_FAILED ? NULL : p;
}

static void *
map_plain(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int saved;

	if (p == MAP_FAILED)
		return NULL;
	if (mlock(p, size) == 0 && madvise(p, size, MADV_DONTDUMP) == 0)
		return p;
	saved = errno;
	(void)munmap(p, size);
	errno = saved;
	return NULL;
}

int
secmem_init(size_t bytes, int *hidden)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t size = (bytes + page - 1) / page * page;
	void *p;
	int is_hidden;

	if (region.base != NULL || bytes == 0 || size < bytes) {
		errno = EINVAL;
		return KMS_ESYS;
	}
	p = map_hidden(size);
	is_hidden = p != NULL;
	if (p == NULL)
		p = map_plain(size);
	/* A child process would have no use for it. */
	if (p == NULL || madvise(p, size, MADV_DONTFORK) != 0) {
		log_lock_limit(size);
		if (p != NULL)
			(void)munmap(p, size);
		return KMS_ESYS;
	}
	region.base = p;
	region.size = size;
	*first_block() = (struct block){ size - sizeof(struct block), 0 };
	if (hidden != NULL)
		*hidden = is_hidden;
	return 0;
}

static void
join_following(struct block *b)
{
	struct block *next;

	while ((next = next_block(b)) != NULL && !next->used) {
		b->size += sizeof(*next) + next->size;
		*next = (struct block){ 0, 0 };
	}
}

static void
split(struct block *b, size_t len)
{
	struct block *rest;

	if (b->size - len < sizeof(struct block) + ALIGNMENT)
		return;
	rest = (struct block *)(void *)((uint8_t *)(b + 1) + len);
	*rest = (struct block){ b->size - len - sizeof(*rest), 0 };
	b->size = len;
}

void *
secmem_alloc(size_t len)
{
	size_t rounded = (len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

	if (region.base == NULL || rounded < len || len == 0)
		return NULL;
	for (struct block *b = first_block(); b != NULL; b = next_block(b)) {
		if (b->used)
			continue;
		join_following(b);
		if (b->size < rounded)
			continue;
		split(b, rounded);
		b->used = USED;
		/* Free memory is always zero: wiped when it was freed. */
		return b + 1;
	}
	return NULL;
}

void
secmem_free(void *p)
{
	struct block *b = p;

	if (p == NULL)
		return;
	b--;
	if ((uint8_t *)p < region.base + sizeof(*b) ||
	    (uint8_t *)p >= region.base + region.size || b->used != USED)
		abort();
	OPENSSL_cleanse(p, b->size);
	b->used = 0;
}

/* ---- heaps that wipe ---- */

void *
secmem_wiping_malloc(size_t len)
{
	return malloc(len);
}

void
secmem_wiping_free(void *p)
{
	if (p == NULL)
		return;
	/* Several times as fast as OPENSSL_cleanse, and it is called for every
	 * context and string of a request. */
	explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static void *
openssl_malloc(size_t len, const char *file, int line)
{
	(void)file;
	(void)line;
	return malloc(len);
}

static void
openssl_free(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	secmem_wiping_free(p);
}

static void *
openssl_realloc(void *p, size_t len, const char *file, int line)
{
	size_t old = p == NULL ? 0 : malloc_usable_size(p);
	void *moved;

	if (len == 0) {
		openssl_free(p, file, line);
		return NULL;
	}
	/* What fits stays; realloc would move it and leave a copy behind. */
	if (len <= old)
		return p;
	moved = malloc(len);
	if (moved == NULL || p == NULL)
		return moved;
	memcpy(moved, p, old);
	secmem_wiping_free(p);
	return moved;
}

int
secmem_wipe_heaps(void)
{
	if (!CRYPTO_set_mem_functions(
		openssl_malloc, openssl_realloc, openssl_free)) {
		log_error("OpenSSL was used before its memory functions were "
			  "set");
		return KMS_ESYS;
	}
	/* 2: it works, but could not be locked or guarded. */
	if (CRYPTO_secure_malloc_init(
		SECURE_HEAP_BYTES, SECURE_HEAP_SMALLEST) != 1) {
		log_lock_limit(SECURE_HEAP_BYTES);
		return KMS_ESYS;
	}
	return 0;
}
