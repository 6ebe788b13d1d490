#include "kms-keeper/at_rest.h"

#include <string.h>

#include "common/err.h"

int
at_rest_seal(const uint8_t data_key[DATA_KEY_LEN],
    const uint8_t nonce[AEAD_NONCE_LEN], const void *value, size_t len,
    uint8_t *stored)
{
	memcpy(stored, nonce, AEAD_NONCE_LEN);
	return aead_seal(data_key, nonce, value, len, stored + AEAD_NONCE_LEN);
}

int
at_rest_open(const uint8_t data_key[DATA_KEY_LEN], const uint8_t *stored,
    size_t len, uint8_t *value)
{
	if (len < AT_REST_OVERHEAD)
		return KMS_EAUTH;
	return aead_open(data_key, stored, stored + AEAD_NONCE_LEN,
	    len - AEAD_NONCE_LEN, value);
}
