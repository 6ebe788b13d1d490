/* Between sha256.c and kdf.c: HMAC on a context that is used again. */
#ifndef KMS_CRYPTO_SHA256_PRIVATE_H
#define KMS_CRYPTO_SHA256_PRIVATE_H

#include <openssl/evp.h>

#include "crypto/sha256.h"

/* HMAC-SHA256 with context as scratch. mac may be a piece's data. */
int hmac_sha256_with(EVP_MD_CTX *context, const void *key, size_t key_len,
    const struct piece *pieces, size_t count, uint8_t mac[SHA256_LEN]);

#endif
