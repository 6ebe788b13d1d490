/* The master secret sealed to another node's key (PROTOCOL.md section 7). */
#ifndef KMS_KEEPER_SEAL_H
#define KMS_KEEPER_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/aead.h"
#include "crypto/p384.h"
#include "kms-keeper/derive.h"

#define SEALED_DATA_LEN (MASTER_SECRET_LEN + AEAD_TAG_LEN)

/* Public: it may travel. */
struct sealed_secret {
	struct p384_point ephemeral; /* the sealing side's fresh key */
	uint8_t nonce[AEAD_NONCE_LEN];
	uint8_t data[SEALED_DATA_LEN]; /* encrypted_data: ciphertext || tag */
};

/*
 * Seal to recipient. ephemeral is a fresh key that serves only this once (the
 * caller frees it), nonce 12 fresh random bytes. KMS_EINVAL, KMS_ECRYPTO,
 * KMS_ENOMEM.
 */
int sealed_secret_seal(const uint8_t secret[MASTER_SECRET_LEN],
    const struct p384_key *ephemeral, const struct p384_point *recipient,
    const uint8_t nonce[AEAD_NONCE_LEN], struct sealed_secret *sealed);

/*
 * Open with the private key it was sealed to. KMS_EAUTH when it does not
 * authenticate (secret is zeroed), else as above. The caller wipes secret, and
 * believes it only when its hash is the registry's.
 */
int sealed_secret_open(const struct p384_key *own,
    const struct sealed_secret *sealed, uint8_t secret[MASTER_SECRET_LEN]);

/* The same for a caller that has the agreement with sealed->ephemeral. */
int sealed_secret_open_shared(const uint8_t shared[P384_SHARED_LEN],
    const struct sealed_secret *sealed, uint8_t secret[MASTER_SECRET_LEN]);

/*
 * From the three hex strings of the wire (any case, "0x" optional; the key as
 * p384_public_parse takes it). KMS_EINVAL.
 */
int sealed_secret_parse(const char *ephemeral, size_t ephemeral_len,
    const char *nonce, size_t nonce_len, const char *data, size_t data_len,
    struct sealed_secret *sealed);

#endif
