/*
 * The replay window of one counterpart (PROTOCOL.md section 2): the envelope
 * nonces received from it and sent to it within the time it reaches back.
 * Exact: the 12 bytes are kept, found by a keyed hash, oldest first out.
 */
#ifndef KMS_KEEPER_REPLAY_H
#define KMS_KEEPER_REPLAY_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/aead.h"
#include "kms-keeper/siphash.h"

#define REPLAY_MAX 16777216 /* entries of one window, at most */

/* In the caller's memory, 64 bytes; holds heap memory only with entries. */
struct replay_window {
	struct replay_entry *ring; /* oldest first, from head */
	uint32_t *index;	   /* open addressing: ring place + 1 */
	uint32_t size;		   /* places in ring; index has twice as many */
	uint32_t head;
	uint32_t count;
	uint32_t max;
	int64_t reach_ms;
	int64_t latest_ms;
	uint8_t key[SIPHASH_KEY_LEN];
};

/*
 * An empty window of at most max entries (1..REPLAY_MAX, else it is cut to
 * that), each remembered for reach_ms. key: random, made at this start.
 * Allocates nothing.
 */
void replay_init(struct replay_window *window, uint32_t max, int64_t reach_ms,
    const uint8_t key[SIPHASH_KEY_LEN]);

/* Free the memory; the window is empty then and can be used on. */
void replay_free(struct replay_window *window);

/*
 * Remember a nonce at boot_ms (struct kms_time; a step back counts as standing
 * still). 0: it is new. KMS_EREPLAY: it is known. KMS_EBUSY: the window is full
 * of entries that still count, and nothing was forgotten for this one.
 * KMS_ENOMEM.
 */
int replay_check_and_add(struct replay_window *window,
    const uint8_t nonce[AEAD_NONCE_LEN], int64_t boot_ms);

/* Forget what is older than the reach; frees the memory of an empty window. */
void replay_expire(struct replay_window *window, int64_t boot_ms);

/* Bytes of heap memory in use. */
size_t replay_memory(const struct replay_window *window);

#endif
