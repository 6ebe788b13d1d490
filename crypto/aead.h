/* AES-256-GCM with 12-byte nonces and no additional data (SP 800-38D). */
#ifndef KMS_CRYPTO_AEAD_H
#define KMS_CRYPTO_AEAD_H

#include <stddef.h>
#include <stdint.h>

#define AEAD_KEY_LEN 32
#define AEAD_NONCE_LEN 12
#define AEAD_TAG_LEN 16
#define AEAD_TEXT_MAX ((size_t)1 << 30) /* plaintext bytes of one call */

/*
 * Write ciphertext || tag, len + AEAD_TAG_LEN bytes, to out. out may be
 * plaintext itself. The caller never uses a nonce twice under a key.
 * KMS_ETOOBIG, KMS_ECRYPTO.
 */
int aead_seal(const uint8_t key[AEAD_KEY_LEN],
    const uint8_t nonce[AEAD_NONCE_LEN], const void *plaintext, size_t len,
    uint8_t *out);

/*
 * Open sealed (len bytes, ciphertext || tag) and write len - AEAD_TAG_LEN
 * bytes to out, which may be sealed itself. KMS_EAUTH when the tag does not
 * fit (also when len is below AEAD_TAG_LEN); out then holds only zeros.
 * KMS_ETOOBIG, KMS_ECRYPTO.
 */
int aead_open(const uint8_t key[AEAD_KEY_LEN],
    const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *sealed, size_t len,
    uint8_t *out);

#endif
