#include "crypto/aes_block.h"

#include <stdlib.h>

#include "common/err.h"
#include "crypto/algorithms.h"

struct aes_block {
	EVP_CIPHER_CTX *encrypt;
	EVP_CIPHER_CTX *decrypt;
};

static EVP_CIPHER_CTX *
context_new(const uint8_t *key, int encrypt)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

	if (context == NULL)
		return NULL;
	if (EVP_CipherInit_ex2(context, crypto_algorithms()->aes_256_ecb, key,
		NULL, encrypt, NULL) != 1 ||
	    EVP_CIPHER_CTX_set_padding(context, 0) != 1) {
		EVP_CIPHER_CTX_free(context);
		return NULL;
	}
	return context;
}

int
aes_block_new(const uint8_t key[AES_BLOCK_KEY_LEN], struct aes_block **block)
{
	struct aes_block *made = calloc(1, sizeof(*made));

	if (made == NULL)
		return KMS_ENOMEM;
	made->encrypt = context_new(key, 1);
	made->decrypt = context_new(key, 0);
	if (made->encrypt == NULL || made->decrypt == NULL) {
		aes_block_free(made);
		return KMS_ECRYPTO;
	}
	*block = made;
	return 0;
}

void
aes_block_free(struct aes_block *block)
{
	if (block == NULL)
		return;
	EVP_CIPHER_CTX_free(block->encrypt);
	EVP_CIPHER_CTX_free(block->decrypt);
	free(block);
}

static int
transform(EVP_CIPHER_CTX *context, const uint8_t *in, uint8_t *out)
{
	int len = 0;

	if (EVP_CipherUpdate(context, out, &len, in, AES_BLOCK_LEN) != 1 ||
	    len != AES_BLOCK_LEN)
		return KMS_ECRYPTO;
	return 0;
}

int
aes_block_encrypt(struct aes_block *block, const uint8_t in[AES_BLOCK_LEN],
    uint8_t out[AES_BLOCK_LEN])
{
	return transform(block->encrypt, in, out);
}

int
aes_block_decrypt(struct aes_block *block, const uint8_t in[AES_BLOCK_LEN],
    uint8_t out[AES_BLOCK_LEN])
{
	return transform(block->decrypt, in, out);
}
