/*
 * Wallet keys: secp256k1, Ethereum addresses and EIP-191 signatures
 * (PROTOCOL.md section 1).
 */
#ifndef KMS_CRYPTO_WALLET_H
#define KMS_CRYPTO_WALLET_H

#include <stddef.h>
#include <stdint.h>

#include "common/eth.h"
#include "crypto/signature.h"

#define WALLET_KEY_LEN 32
#define WALLET_DIGEST_LEN 32

/*
 * Tables and blinding of the curve library. Read-only after new: threads may
 * share one.
 */
struct wallet_context;

/*
 * Make a context blinded with 32 bytes of the caller's randomness. NULL
 * without memory. Free with wallet_context_free (NULL is fine).
 */
struct wallet_context *wallet_context_new(const uint8_t seed[32]);
void wallet_context_free(struct wallet_context *context);

/* 0 when key is a private key (1..n-1), else KMS_EINVAL. */
int wallet_key_check(
    const struct wallet_context *context, const uint8_t key[WALLET_KEY_LEN]);

/* The address of a private key. KMS_EINVAL when it is none. */
int wallet_key_address(const struct wallet_context *context,
    const uint8_t key[WALLET_KEY_LEN], struct eth_address *address);

/*
 * The address of a public key, SEC1 with 33 or 65 bytes or 64 bytes x || y.
 * KMS_EINVAL when it is not a point of the curve.
 */
int wallet_public_address(const struct wallet_context *context,
    const uint8_t *public_key, size_t len, struct eth_address *address);

/* EIP-191 digest of a personal message of len bytes. */
void eip191_digest(
    const void *message, size_t len, uint8_t digest[WALLET_DIGEST_LEN]);

/*
 * Sign a digest, or a message by EIP-191: deterministic (RFC 6979), v 0 or 1,
 * low s. KMS_EINVAL when key is no private key, KMS_ECRYPTO.
 */
int wallet_sign_digest(const struct wallet_context *context,
    const uint8_t key[WALLET_KEY_LEN], const uint8_t digest[WALLET_DIGEST_LEN],
    uint8_t signature[SIGNATURE_LEN]);
int wallet_sign_message(const struct wallet_context *context,
    const uint8_t key[WALLET_KEY_LEN], const void *message, size_t len,
    uint8_t signature[SIGNATURE_LEN]);

/*
 * The address whose key signed. The signature is one that signature_parse or
 * signature_normalise let through; anything else (v above 1, high s) and one
 * that belongs to no key is KMS_EAUTH.
 */
int wallet_recover_digest(const struct wallet_context *context,
    const uint8_t digest[WALLET_DIGEST_LEN],
    const uint8_t signature[SIGNATURE_LEN], struct eth_address *address);
int wallet_recover_message(const struct wallet_context *context,
    const void *message, size_t len, const uint8_t signature[SIGNATURE_LEN],
    struct eth_address *address);

#endif
