/* SHA-256 (FIPS 180-4) and HMAC-SHA256 (RFC 2104) through OpenSSL. */
#ifndef KMS_CRYPTO_SHA256_H
#define KMS_CRYPTO_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN 32

/* A part of a message that is hashed without being copied together. */
struct piece {
	const void *data; /* may be NULL when len is 0 */
	size_t len;
};

/* SHA-256 of len bytes. KMS_ECRYPTO. */
int sha256(const void *data, size_t len, uint8_t digest[SHA256_LEN]);

/* SHA-256 of count pieces, one behind the other. KMS_ECRYPTO. */
int sha256_pieces(
    const struct piece *pieces, size_t count, uint8_t digest[SHA256_LEN]);

/*
 * SHA-256 of what arrives in parts: new, update as often as needed, final.
 * free(NULL) is fine; the context is the caller's until freed. final ends the
 * computation: only free may follow. new gives NULL without memory.
 */
struct sha256_stream;
struct sha256_stream *sha256_stream_new(void);
int sha256_stream_update(
    struct sha256_stream *stream, const void *data, size_t len);
int sha256_stream_final(
    struct sha256_stream *stream, uint8_t digest[SHA256_LEN]);
void sha256_stream_free(struct sha256_stream *stream);

/* HMAC-SHA256 under a key of any length. KMS_ECRYPTO. */
int hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
    uint8_t mac[SHA256_LEN]);
int hmac_sha256_pieces(const void *key, size_t key_len,
    const struct piece *pieces, size_t count, uint8_t mac[SHA256_LEN]);

#endif
