/* Keccak-256 as Ethereum uses it (original padding 0x01, not SHA-3's 0x06). */
#ifndef KMS_COMMON_KECCAK256_H
#define KMS_COMMON_KECCAK256_H

#include <stddef.h>
#include <stdint.h>

#define KECCAK256_LEN 32

struct keccak256 {
	uint64_t state[25];
	uint8_t block[136]; /* the rate of a 256-bit digest, in bytes */
	size_t used;	    /* bytes waiting in block */
};

void keccak256_init(struct keccak256 *k);
void keccak256_update(struct keccak256 *k, const void *data, size_t len);
/* Writes the digest and wipes the context. */
void keccak256_final(struct keccak256 *k, uint8_t digest[KECCAK256_LEN]);

/* One call for all of it. */
void keccak256(const void *data, size_t len, uint8_t digest[KECCAK256_LEN]);

#endif
