#include "crypto/crypto.h"

#include <openssl/obj_mac.h>
#include <openssl/rand.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "crypto/aead.h"
#include "crypto/aes_block.h"
#include "crypto/algorithms.h"
#include "crypto/kdf.h"
#include "crypto/p384.h"

static struct crypto_algorithms algorithms;

const struct crypto_algorithms *
crypto_algorithms(void)
{
	return &algorithms;
}

static int
fetch(void)
{
	algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	algorithms.aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	algorithms.aes_256_ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
	algorithms.p384 = EC_GROUP_new_by_curve_name(NID_secp384r1);
	if (algorithms.sha256 == NULL || algorithms.aes_256_gcm == NULL ||
	    algorithms.aes_256_ecb == NULL || algorithms.p384 == NULL)
		return KMS_ECRYPTO;
	return 0;
}

/* One throw-away agreement, so that the curve's tables and caches exist. */
static int
warm_curve(void)
{
	static const uint8_t scalar[P384_SCALAR_LEN] = { 0, [47] = 3 };
	uint8_t shared[P384_SHARED_LEN];
	struct p384_key *key = NULL;
	int error;

	error = p384_key_new(scalar, &key);
	if (error == 0)
		error = p384_agree(key, p384_key_point(key), shared);
	p384_key_free(key);
	return error;
}

static int
warm(void)
{
	static const uint8_t key[AEAD_KEY_LEN], nonce[AEAD_NONCE_LEN];
	uint8_t text[1 + AEAD_TAG_LEN] = { 0 }, derived[32];
	uint8_t block[AES_BLOCK_LEN] = { 0 };
	struct aes_block *cipher = NULL;
	int error;

	error = hkdf_sha256(
	    key, sizeof(key), NULL, 0, NULL, 0, derived, sizeof(derived));
	if (error == 0)
		error = aead_seal(key, nonce, text, 1, text);
	if (error == 0)
		error = aead_open(key, nonce, text, sizeof(text), text);
	if (error == 0)
		error = aes_block_new(key, &cipher);
	if (error == 0)
		error = aes_block_encrypt(cipher, block, block);
	if (error == 0)
		error = aes_block_decrypt(cipher, block, block);
	aes_block_free(cipher);
	/* Projective coordinates are blinded from OpenSSL's own generator. */
	if (error == 0 && RAND_priv_bytes(block, sizeof(block)) != 1)
		error = KMS_ECRYPTO;
	return error != 0 ? error : warm_curve();
}

int
crypto_init(void)
{
	int error;

	if (algorithms.p384 != NULL)
		return 0;
	error = fetch();
	if (error == 0)
		error = warm();
	if (error != 0)
		crypto_free();
	return error;
}

void
crypto_free(void)
{
	EVP_MD_free(algorithms.sha256);
	EVP_CIPHER_free(algorithms.aes_256_gcm);
	EVP_CIPHER_free(algorithms.aes_256_ecb);
	EC_GROUP_free(algorithms.p384);
	algorithms = (struct crypto_algorithms){ 0 };
}
