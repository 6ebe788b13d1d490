/*
 * SipHash-2-4 (Aumasson, Bernstein 2012) with a 64-bit result: the keyed hash
 * of every table whose keys a client chooses. OpenSSL has it as an EVP_MAC
 * only, whose start alone costs many times the hash of a short key.
 */
#ifndef KMS_KEEPER_SIPHASH_H
#define KMS_KEEPER_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

#define SIPHASH_KEY_LEN 16

/* The hash of len bytes under key. */
uint64_t siphash(
    const uint8_t key[SIPHASH_KEY_LEN], const void *data, size_t len);

#endif
