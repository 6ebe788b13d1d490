/*
 * What the identity service is asked and what it answers, as JSON (PROTOCOL.md
 * section 10). Pure. Members that are not named there are ignored; what is
 * named must be there, once, of its kind, and exactly of its length.
 *
 * Composing: KMS_EINVAL for a text that is not UTF-8, KMS_ETOOBIG beyond the
 * buffer's ceiling, KMS_ENOMEM. Reading: KMS_EPROTO for anything but such an
 * answer, KMS_ENOMEM.
 */
#ifndef KMS_KEEPER_CAPSULE_JSON_H
#define KMS_KEEPER_CAPSULE_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "crypto/aead.h"
#include "crypto/p384.h"
#include "crypto/signature.h"
#include "kms-keeper/transaction.h"

#define CAPSULE_RANDOM_LEN 32

/* POST /v1/eth/sign */
int capsule_json_sign(struct buf *out, const void *message, size_t len);

/* POST /v1/eth/sign-tx */
int capsule_json_sign_tx(
    struct buf *out, const struct transaction *transaction);

/* POST /v1/encryption/encrypt; the plaintext becomes part of it. */
int capsule_json_encrypt(struct buf *out, const struct p384_point *other,
    const uint8_t *plaintext, size_t len);

/* POST /v1/encryption/decrypt */
int capsule_json_decrypt(struct buf *out, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *sealed, size_t len);

/* The wallet that /v1/eth/address names. */
int capsule_json_address(const struct buf *answer, struct eth_address *wallet);

/* The key of /v1/encryption/public_key: checked to be on the curve. */
int capsule_json_public_key(const struct buf *answer, struct p384_point *point);

int capsule_json_random(
    const struct buf *answer, uint8_t bytes[CAPSULE_RANDOM_LEN]);

/* As it was signed: not normalised, not verified. */
int capsule_json_signature(
    const struct buf *answer, uint8_t signature[SIGNATURE_LEN]);

/* raw_transaction, unverified. */
int capsule_json_raw_transaction(
    const struct buf *answer, uint8_t raw[TRANSACTION_RAW_MAX], size_t *len);

/* What was encrypted: appends nonce || ciphertext || tag to out. KMS_ECRYPTO
 * when that was done with another key than own. */
int capsule_json_sealed(
    const struct buf *answer, const struct p384_point *own, struct buf *out);

/* Appends the plaintext to out: UTF-8, perhaps with NULs. Secret. */
int capsule_json_plaintext(const struct buf *answer, struct buf *out);

#endif
