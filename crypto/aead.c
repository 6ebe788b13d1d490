#include "crypto/aead.h"

#include <openssl/crypto.h>

#include "common/err.h"
#include "crypto/algorithms.h"

int
aead_seal(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN],
    const void *plaintext, size_t len, uint8_t *out)
{
	EVP_CIPHER_CTX *context;
	int error = KMS_ECRYPTO, used = 0;

	if (len > AEAD_TEXT_MAX)
		return KMS_ETOOBIG;
	context = EVP_CIPHER_CTX_new();
	if (context == NULL)
		return KMS_ENOMEM;
	if (EVP_EncryptInit_ex2(context, crypto_algorithms()->aes_256_gcm, key,
		nonce, NULL) != 1)
		goto free_context;
	if (len > 0 &&
	    EVP_EncryptUpdate(context, out, &used, plaintext, (int)len) != 1)
		goto free_context;
	if (EVP_EncryptFinal_ex(context, out + len, &used) != 1)
		goto free_context;
	if (EVP_CIPHER_CTX_ctrl(
		context, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, out + len) != 1)
		goto free_context;
	error = 0;
free_context:
	EVP_CIPHER_CTX_free(context);
	return error;
}

int
aead_open(const uint8_t key[AEAD_KEY_LEN], const uint8_t nonce[AEAD_NONCE_LEN],
    const uint8_t *sealed, size_t len, uint8_t *out)
{
	uint8_t tag[AEAD_TAG_LEN], nothing[AEAD_TAG_LEN];
	EVP_CIPHER_CTX *context;
	int error = KMS_ECRYPTO, used = 0;

	if (len < AEAD_TAG_LEN)
		return KMS_EAUTH;
	len -= AEAD_TAG_LEN;
	if (len > AEAD_TEXT_MAX)
		return KMS_ETOOBIG;
	for (size_t i = 0; i < AEAD_TAG_LEN; i++)
		tag[i] = sealed[len + i];
	context = EVP_CIPHER_CTX_new();
	if (context == NULL)
		return KMS_ENOMEM;
	if (EVP_DecryptInit_ex2(context, crypto_algorithms()->aes_256_gcm, key,
		nonce, NULL) != 1)
		goto free_context;
	if (len > 0 &&
	    EVP_DecryptUpdate(context, out, &used, sealed, (int)len) != 1)
		goto free_context;
	if (EVP_CIPHER_CTX_ctrl(
		context, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, tag) != 1)
		goto free_context;
	error =
	    EVP_DecryptFinal_ex(context, nothing, &used) == 1 ? 0 : KMS_EAUTH;
free_context:
	EVP_CIPHER_CTX_free(context);
	if (error != 0)
		OPENSSL_cleanse(out, len);
	return error;
}
