/* HKDF with SHA-256 (RFC 5869). */
#ifndef KMS_CRYPTO_KDF_H
#define KMS_CRYPTO_KDF_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/sha256.h"

#define HKDF_OUT_MAX (255 * SHA256_LEN) /* RFC 5869 section 2.3 */

/*
 * Derive out_len bytes (1..HKDF_OUT_MAX) from ikm, salt and info. salt and
 * info may be empty and have any length; info is given in info_count pieces
 * that count as one string. KMS_EINVAL for an out_len out of range,
 * KMS_ECRYPTO; out is wiped on error.
 */
int hkdf_sha256_pieces(const void *ikm, size_t ikm_len, const void *salt,
    size_t salt_len, const struct piece *info, size_t info_count, uint8_t *out,
    size_t out_len);

/* As above with info in one piece. */
int hkdf_sha256(const void *ikm, size_t ikm_len, const void *salt,
    size_t salt_len, const void *info, size_t info_len, uint8_t *out,
    size_t out_len);

#endif
