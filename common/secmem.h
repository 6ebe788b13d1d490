/*
 * Long-lived secrets: one region that is locked, excluded from dumps, and in
 * memfd_secret(2) where the kernel has it. Everything is wiped when freed.
 */
#ifndef KMS_COMMON_SECMEM_H
#define KMS_COMMON_SECMEM_H

#include <stddef.h>

/*
 * Make the region (rounded up to pages); once, before the sandbox. KMS_ESYS
 * with errno when memory cannot be locked; *hidden (may be NULL) says whether
 * memfd_secret holds it.
 */
int secmem_init(size_t bytes, int *hidden);

/*
 * Zeroed memory from the region, aligned to 16; NULL when it is used up.
 * secmem_free wipes it; NULL is fine.
 */
void *secmem_alloc(size_t len);
void secmem_free(void *p);

/*
 * Make every OpenSSL allocation and every jansson object wipe itself when it
 * is freed: malloc functions to hand to CRYPTO_set_mem_functions and
 * json_set_alloc_funcs. secmem_wipe_heaps installs OpenSSL's; call it first
 * in main, before any OpenSSL call. 0 or KMS_ESYS.
 */
int secmem_wipe_heaps(void);
void *secmem_wiping_malloc(size_t len);
void secmem_wiping_free(void *p);

#endif
