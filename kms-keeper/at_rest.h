/*
 * Stored values (PROTOCOL.md section 4):
 *   nonce (12) || AES-256-GCM(data key, nonce, value) || tag (16)
 */
#ifndef KMS_KEEPER_AT_REST_H
#define KMS_KEEPER_AT_REST_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/aead.h"
#include "kms-keeper/derive.h"

#define AT_REST_OVERHEAD (AEAD_NONCE_LEN + AEAD_TAG_LEN)

/*
 * Write the stored form, len + AT_REST_OVERHEAD bytes, to stored, which does
 * not overlap value. nonce: 12 fresh random bytes. KMS_ETOOBIG, KMS_ECRYPTO.
 */
int at_rest_seal(const uint8_t data_key[DATA_KEY_LEN],
    const uint8_t nonce[AEAD_NONCE_LEN], const void *value, size_t len,
    uint8_t *stored);

/*
 * Read the stored form (len bytes): len - AT_REST_OVERHEAD bytes to value,
 * which does not overlap stored. KMS_EAUTH when it was not sealed under this
 * key or is shorter than the overhead. KMS_ETOOBIG, KMS_ECRYPTO.
 */
int at_rest_open(const uint8_t data_key[DATA_KEY_LEN], const uint8_t *stored,
    size_t len, uint8_t *value);

#endif
