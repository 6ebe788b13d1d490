/*
 * HMAC is put together from two digests here: OpenSSL 3.0's EVP_MAC looks its
 * digest up at every start, which costs four times what the hash does.
 */
#include "crypto/sha256.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "crypto/algorithms.h"
#include "crypto/sha256_private.h"

#define BLOCK_LEN 64 /* bytes SHA-256 takes at a time */

struct sha256_stream {
	EVP_MD_CTX *context;
};

/* SHA-256 of head (may be NULL) and the pieces. */
static int
digest_with(EVP_MD_CTX *context, const uint8_t *head, size_t head_len,
    const struct piece *pieces, size_t count, uint8_t digest[SHA256_LEN])
{
	if (EVP_DigestInit_ex2(context, crypto_algorithms()->sha256, NULL) != 1)
		return KMS_ECRYPTO;
	if (head_len > 0 && EVP_DigestUpdate(context, head, head_len) != 1)
		return KMS_ECRYPTO;
	for (size_t i = 0; i < count; i++) {
		if (pieces[i].len > 0 &&
		    EVP_DigestUpdate(context, pieces[i].data, pieces[i].len) !=
			1)
			return KMS_ECRYPTO;
	}
	return EVP_DigestFinal_ex(context, digest, NULL) == 1 ? 0 : KMS_ECRYPTO;
}

int
sha256_pieces(
    const struct piece *pieces, size_t count, uint8_t digest[SHA256_LEN])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int error;

	if (context == NULL)
		return KMS_ENOMEM;
	error = digest_with(context, NULL, 0, pieces, count, digest);
	EVP_MD_CTX_free(context);
	return error;
}

int
sha256(const void *data, size_t len, uint8_t digest[SHA256_LEN])
{
	struct piece piece = { data, len };

	return sha256_pieces(&piece, 1, digest);
}

struct sha256_stream *
sha256_stream_new(void)
{
	struct sha256_stream *stream = malloc(sizeof(*stream));

	if (stream == NULL)
		return NULL;
	stream->context = EVP_MD_CTX_new();
	if (stream->context == NULL ||
	    EVP_DigestInit_ex2(
		stream->context, crypto_algorithms()->sha256, NULL) != 1) {
		sha256_stream_free(stream);
		return NULL;
	}
	return stream;
}

int
sha256_stream_update(struct sha256_stream *stream, const void *data, size_t len)
{
	if (len > 0 && EVP_DigestUpdate(stream->context, data, len) != 1)
		return KMS_ECRYPTO;
	return 0;
}

int
sha256_stream_final(struct sha256_stream *stream, uint8_t digest[SHA256_LEN])
{
	return EVP_DigestFinal_ex(stream->context, digest, NULL) == 1
	    ? 0
	    : KMS_ECRYPTO;
}

void
sha256_stream_free(struct sha256_stream *stream)
{
	if (stream == NULL)
		return;
	EVP_MD_CTX_free(stream->context);
	free(stream);
}

static void
xor_pad(uint8_t block[BLOCK_LEN], uint8_t pad)
{
	for (size_t i = 0; i < BLOCK_LEN; i++)
		block[i] ^= pad;
}

int
hmac_sha256_with(EVP_MD_CTX *context, const void *key, size_t key_len,
    const struct piece *pieces, size_t count, uint8_t mac[SHA256_LEN])
{
	uint8_t block[BLOCK_LEN] = { 0 }, inner[SHA256_LEN];
	struct piece whole = { inner, sizeof(inner) };
	int error = 0;

	if (key_len > BLOCK_LEN)
		error = digest_with(context, key, key_len, NULL, 0, block);
	else if (key_len > 0)
		memcpy(block, key, key_len);
	if (error == 0) {
		xor_pad(block, 0x36);
		error = digest_with(
		    context, block, sizeof(block), pieces, count, inner);
	}
	if (error == 0) {
		xor_pad(block, 0x36 ^ 0x5c);
		error =
		    digest_with(context, block, sizeof(block), &whole, 1, mac);
	}
	OPENSSL_cleanse(block, sizeof(block));
	OPENSSL_cleanse(inner, sizeof(inner));
	return error;
}

int
hmac_sha256_pieces(const void *key, size_t key_len, const struct piece *pieces,
    size_t count, uint8_t mac[SHA256_LEN])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int error;

	if (context == NULL)
		return KMS_ENOMEM;
	error = hmac_sha256_with(context, key, key_len, pieces, count, mac);
	EVP_MD_CTX_free(context);
	return error;
}

int
hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
    uint8_t mac[SHA256_LEN])
{
	struct piece piece = { data, len };

	return hmac_sha256_pieces(key, key_len, &piece, 1, mac);
}
