/*
 * What crypto_init fetched, for this room's own sources. Fields are NULL before
 * it; everything is read-only after it.
 */
#ifndef KMS_CRYPTO_ALGORITHMS_H
#define KMS_CRYPTO_ALGORITHMS_H

#include <openssl/ec.h>
#include <openssl/evp.h>

struct crypto_algorithms {
	EVP_MD *sha256;
	EVP_CIPHER *aes_256_gcm;
	EVP_CIPHER *aes_256_ecb; /* single blocks only: aes_block.h */
	EC_GROUP *p384;
};

const struct crypto_algorithms *crypto_algorithms(void);

#endif
