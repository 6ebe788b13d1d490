/*
 * AES-256 on single blocks (FIPS 197): a keyed permutation of 16 bytes. Not a
 * mode of encryption: for tokens that only their maker reads.
 */
#ifndef KMS_CRYPTO_AES_BLOCK_H
#define KMS_CRYPTO_AES_BLOCK_H

#include <stdint.h>

#define AES_BLOCK_LEN 16
#define AES_BLOCK_KEY_LEN 32

/* A key schedule for both directions; one thread at a time. */
struct aes_block;

/* KMS_ENOMEM, KMS_ECRYPTO. The caller frees *block (NULL is fine); it wipes. */
int aes_block_new(
    const uint8_t key[AES_BLOCK_KEY_LEN], struct aes_block **block);
void aes_block_free(struct aes_block *block);

/* One block; out may be in. KMS_ECRYPTO. */
int aes_block_encrypt(struct aes_block *block, const uint8_t in[AES_BLOCK_LEN],
    uint8_t out[AES_BLOCK_LEN]);
int aes_block_decrypt(struct aes_block *block, const uint8_t in[AES_BLOCK_LEN],
    uint8_t out[AES_BLOCK_LEN]);

#endif
