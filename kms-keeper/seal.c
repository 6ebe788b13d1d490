#include "kms-keeper/seal.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/kdf.h"

static const char seal_salt[] = "nova-kms:sealed-master-secret";
static const char seal_info[] = "aes-gcm-key";

static int
seal_key(const uint8_t shared[P384_SHARED_LEN], uint8_t key[AEAD_KEY_LEN])
{
	return hkdf_sha256(shared, P384_SHARED_LEN, seal_salt,
	    sizeof(seal_salt) - 1, seal_info, sizeof(seal_info) - 1, key,
	    AEAD_KEY_LEN);
}

int
sealed_secret_seal(const uint8_t secret[MASTER_SECRET_LEN],
    const struct p384_key *ephemeral, const struct p384_point *recipient,
    const uint8_t nonce[AEAD_NONCE_LEN], struct sealed_secret *sealed)
{
	uint8_t shared[P384_SHARED_LEN], key[AEAD_KEY_LEN];
	int error = p384_agree(ephemeral, recipient, shared);

	if (error == 0)
		error = seal_key(shared, key);
	if (error == 0) {
		sealed->ephemeral = *p384_key_point(ephemeral);
		memcpy(sealed->nonce, nonce, AEAD_NONCE_LEN);
		error = aead_seal(
		    key, nonce, secret, MASTER_SECRET_LEN, sealed->data);
	}
	OPENSSL_cleanse(shared, sizeof(shared));
	OPENSSL_cleanse(key, sizeof(key));
	return error;
}

int
sealed_secret_open_shared(const uint8_t shared[P384_SHARED_LEN],
    const struct sealed_secret *sealed, uint8_t secret[MASTER_SECRET_LEN])
{
	uint8_t key[AEAD_KEY_LEN];
	int error = seal_key(shared, key);

	if (error == 0)
		error = aead_open(
		    key, sealed->nonce, sealed->data, SEALED_DATA_LEN, secret);
	OPENSSL_cleanse(key, sizeof(key));
	return error;
}

int
sealed_secret_open(const struct p384_key *own,
    const struct sealed_secret *sealed, uint8_t secret[MASTER_SECRET_LEN])
{
	uint8_t shared[P384_SHARED_LEN];
	int error = p384_agree(own, &sealed->ephemeral, shared);

	if (error == 0)
		error = sealed_secret_open_shared(shared, sealed, secret);
	OPENSSL_cleanse(shared, sizeof(shared));
	return error;
}

int
sealed_secret_parse(const char *ephemeral, size_t ephemeral_len,
    const char *nonce, size_t nonce_len, const char *data, size_t data_len,
    struct sealed_secret *sealed)
{
	int error;

	error =
	    hex_decode_exact(nonce, nonce_len, sealed->nonce, AEAD_NONCE_LEN);
	if (error == 0)
		error = hex_decode_exact(
		    data, data_len, sealed->data, SEALED_DATA_LEN);
	if (error == 0)
		error = p384_public_parse_hex(
		    ephemeral, ephemeral_len, &sealed->ephemeral);
	return error;
}
