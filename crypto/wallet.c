#include "crypto/wallet.h"

#include <secp256k1.h>
#include <secp256k1_recovery.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/keccak256.h"

#define PUBLIC_LEN 65

struct wallet_context {
	secp256k1_context *curve;
};

struct wallet_context *
wallet_context_new(const uint8_t seed[32])
{
	struct wallet_context *context = malloc(sizeof(*context));

	if (context == NULL)
		return NULL;
	context->curve = secp256k1_context_create(SECP256K1_CONTEXT_NONE);
	if (context->curve == NULL ||
	    secp256k1_context_randomize(context->curve, seed) != 1) {
		wallet_context_free(context);
		return NULL;
	}
	return context;
}

void
wallet_context_free(struct wallet_context *context)
{
	if (context == NULL)
		return;
	if (context->curve != NULL)
		secp256k1_context_destroy(context->curve);
	free(context);
}

int
wallet_key_check(
    const struct wallet_context *context, const uint8_t key[WALLET_KEY_LEN])
{
	return secp256k1_ec_seckey_verify(context->curve, key) == 1
	    ? 0
	    : KMS_EINVAL;
}

/* The last 20 bytes of keccak256(x || y). */
static void
address_of(const struct wallet_context *context,
    const secp256k1_pubkey *public_key, struct eth_address *address)
{
	uint8_t bytes[PUBLIC_LEN], digest[KECCAK256_LEN];
	size_t len = sizeof(bytes);

	(void)secp256k1_ec_pubkey_serialize(
	    context->curve, bytes, &len, public_key, SECP256K1_EC_UNCOMPRESSED);
	keccak256(bytes + 1, PUBLIC_LEN - 1, digest);
	memcpy(address->bytes, digest + KECCAK256_LEN - ETH_ADDRESS_LEN,
	    ETH_ADDRESS_LEN);
}

int
wallet_key_address(const struct wallet_context *context,
    const uint8_t key[WALLET_KEY_LEN], struct eth_address *address)
{
	secp256k1_pubkey public_key;

	if (secp256k1_ec_pubkey_create(context->curve, &public_key, key) != 1)
		return KMS_EINVAL;
	address_of(context, &public_key, address);
	return 0;
}

int
wallet_public_address(const struct wallet_context *context,
    const uint8_t *public_key, size_t len, struct eth_address *address)
{
	uint8_t bytes[PUBLIC_LEN] = { 0x04 };
	secp256k1_pubkey parsed;

	if (len == PUBLIC_LEN - 1) {
		memcpy(bytes + 1, public_key, len);
		public_key = bytes;
		len = PUBLIC_LEN;
	}
	/* The library also takes the hybrid form, which nobody sends. */
	if (len == PUBLIC_LEN && public_key[0] != 0x04)
		return KMS_EINVAL;
	if (secp256k1_ec_pubkey_parse(
		context->curve, &parsed, public_key, len) != 1)
		return KMS_EINVAL;
	address_of(context, &parsed, address);
	return 0;
}

void
eip191_digest(
    const void *message, size_t len, uint8_t digest[WALLET_DIGEST_LEN])
{
	static const char prefix[] = "\x19"
				     "Ethereum Signed Message:\n";
	char decimal[24];
	struct keccak256 k;
	int digits = snprintf(decimal, sizeof(decimal), "%zu", len);

	keccak256_init(&k);
	keccak256_update(&k, prefix, sizeof(prefix) - 1);
	keccak256_update(&k, decimal, (size_t)digits);
	keccak256_update(&k, message, len);
	keccak256_final(&k, digest);
}

int
wallet_sign_digest(const struct wallet_context *context,
    const uint8_t key[WALLET_KEY_LEN], const uint8_t digest[WALLET_DIGEST_LEN],
    uint8_t signature[SIGNATURE_LEN])
{
	secp256k1_ecdsa_recoverable_signature made;
	int v = 0;

	if (wallet_key_check(context, key) != 0)
		return KMS_EINVAL;
	if (secp256k1_ecdsa_sign_recoverable(
		context->curve, &made, digest, key, NULL, NULL) != 1)
		return KMS_ECRYPTO;
	(void)secp256k1_ecdsa_recoverable_signature_serialize_compact(
	    context->curve, signature, &v, &made);
	signature[64] = (uint8_t)v;
	/* r above the order (v 2, 3) takes 2^127 signatures to meet. */
	return signature_check(signature) == 0 ? 0 : KMS_ECRYPTO;
}

int
wallet_sign_message(const struct wallet_context *context,
    const uint8_t key[WALLET_KEY_LEN], const void *message, size_t len,
    uint8_t signature[SIGNATURE_LEN])
{
	uint8_t digest[WALLET_DIGEST_LEN];

	eip191_digest(message, len, digest);
	return wallet_sign_digest(context, key, digest, signature);
}

int
wallet_recover_digest(const struct wallet_context *context,
    const uint8_t digest[WALLET_DIGEST_LEN],
    const uint8_t signature[SIGNATURE_LEN], struct eth_address *address)
{
	secp256k1_ecdsa_recoverable_signature parsed;
	secp256k1_pubkey public_key;
	uint8_t copy[SIGNATURE_LEN];

	memcpy(copy, signature, sizeof(copy));
	if (signature[64] > 1 || signature_check(copy) != 0)
		return KMS_EAUTH;
	if (secp256k1_ecdsa_recoverable_signature_parse_compact(
		context->curve, &parsed, signature, signature[64]) != 1 ||
	    secp256k1_ecdsa_recover(
		context->curve, &public_key, &parsed, digest) != 1)
		return KMS_EAUTH;
	address_of(context, &public_key, address);
	return 0;
}

int
wallet_recover_message(const struct wallet_context *context,
    const void *message, size_t len, const uint8_t signature[SIGNATURE_LEN],
    struct eth_address *address)
{
	uint8_t digest[WALLET_DIGEST_LEN];

	eip191_digest(message, len, digest);
	return wallet_recover_digest(context, digest, signature, address);
}
