#include "crypto/kdf.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/err.h"
#include "crypto/sha256_private.h"

#define INFO_PIECES_MAX 8

/* RFC 5869 section 2.3: T(i) = HMAC(prk, T(i-1) || info || i). */
static int
expand(EVP_MD_CTX *context, const uint8_t prk[SHA256_LEN],
    const struct piece *info, size_t info_count, uint8_t *out, size_t out_len)
{
	struct piece pieces[INFO_PIECES_MAX + 2];
	uint8_t block[SHA256_LEN], counter = 0;
	int error = 0;

	pieces[0] = (struct piece){ block, 0 };
	for (size_t i = 0; i < info_count; i++)
		pieces[1 + i] = info[i];
	pieces[1 + info_count] = (struct piece){ &counter, 1 };
	while (out_len > 0 && error == 0) {
		size_t take = out_len < SHA256_LEN ? out_len : SHA256_LEN;

		counter++;
		error = hmac_sha256_with(
		    context, prk, SHA256_LEN, pieces, info_count + 2, block);
		pieces[0].len = SHA256_LEN;
		if (error == 0)
			memcpy(out, block, take);
		out += take;
		out_len -= take;
	}
	OPENSSL_cleanse(block, sizeof(block));
	return error;
}

int
hkdf_sha256_pieces(const void *ikm, size_t ikm_len, const void *salt,
    size_t salt_len, const struct piece *info, size_t info_count, uint8_t *out,
    size_t out_len)
{
	struct piece secret = { ikm, ikm_len };
	uint8_t prk[SHA256_LEN];
	EVP_MD_CTX *context;
	int error;

	if (out_len == 0 || out_len > HKDF_OUT_MAX ||
	    info_count > INFO_PIECES_MAX)
		return KMS_EINVAL;
	context = EVP_MD_CTX_new();
	if (context == NULL)
		return KMS_ENOMEM;
	error = hmac_sha256_with(context, salt, salt_len, &secret, 1, prk);
	if (error == 0)
		error = expand(context, prk, info, info_count, out, out_len);
	if (error != 0)
		OPENSSL_cleanse(out, out_len);
	OPENSSL_cleanse(prk, sizeof(prk));
	EVP_MD_CTX_free(context);
	return error;
}

int
hkdf_sha256(const void *ikm, size_t ikm_len, const void *salt, size_t salt_len,
    const void *info, size_t info_len, uint8_t *out, size_t out_len)
{
	struct piece piece = { info, info_len };

	return hkdf_sha256_pieces(
	    ikm, ikm_len, salt, salt_len, &piece, 1, out, out_len);
}
