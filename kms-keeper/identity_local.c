/*
 * Keys in this process: wallet and P-384 key in locked memory. Every
 * operation completes before its call returns.
 */
#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/hex.h"
#include "common/json_guard.h"
#include "common/log.h"
#include "common/secmem.h"
#include "crypto/envelope.h"
#include "kms-keeper/identity.h"

#define IDENTITY_FILE_MAX 4096
#define READ_STEP 1024
#define IDENTITY_FILE_TOKENS 32
#define IDENTITY_FILE_DEPTH 2

struct local {
	struct identity head;
	uint8_t *wallet_key; /* in secmem */
	struct p384_key *tee_key;
	identity_random_fn random;
	void *random_arg;
};

struct agreement {
	uint8_t shared[P384_SHARED_LEN];
};

static struct local *
local_of(struct identity *identity)
{
	return (struct local *)(void *)identity;
}

static void
local_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg)
{
	struct local *local = local_of(identity);
	uint8_t signature[SIGNATURE_LEN];
	int error = wallet_sign_message(
	    identity->wallets, local->wallet_key, message, len, signature);

	done(arg, error, signature, error == 0 ? sizeof(signature) : 0);
}

/* The shared secret: once per counterpart (PROTOCOL.md section 3). */
static int
agree(struct local *local, struct agreement **agreement,
    const struct p384_point *other)
{
	struct agreement *made;
	int error;

	if (*agreement != NULL)
		return 0;
	made = secmem_alloc(sizeof(*made));
	if (made == NULL)
		return KMS_EBUSY;
	error = p384_agree(local->tee_key, other, made->shared);
	if (error != 0) {
		secmem_free(made);
		return error;
	}
	*agreement = made;
	return 0;
}

static void
local_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	struct local *local = local_of(identity);
	uint8_t *plaintext = malloc(len > 0 ? len : 1);
	int error = plaintext == NULL ? KMS_ENOMEM : 0;

	if (error == 0)
		error = agree(local, agreement, other);
	if (error == 0)
		error = envelope_open((*agreement)->shared, &identity->point,
		    other, nonce, sealed, len, plaintext);
	done(arg, error, plaintext, error == 0 ? len - AEAD_TAG_LEN : 0);
	if (plaintext != NULL)
		OPENSSL_cleanse(plaintext, len);
	free(plaintext);
}

static void
local_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	struct local *local = local_of(identity);
	size_t out_len = AEAD_NONCE_LEN + len + AEAD_TAG_LEN;
	uint8_t *out = malloc(out_len);
	int error = out == NULL ? KMS_ENOMEM : 0;

	if (error == 0)
		error = agree(local, agreement, other);
	if (error == 0) {
		local->random(local->random_arg, out, AEAD_NONCE_LEN);
		error = envelope_seal((*agreement)->shared, &identity->point,
		    other, out, plaintext, len, out + AEAD_NONCE_LEN);
	}
	done(arg, error, out, error == 0 ? out_len : 0);
	free(out);
}

static void
local_sign_transaction(struct identity *identity,
    const struct transaction *transaction, identity_done_fn done, void *arg)
{
	struct local *local = local_of(identity);
	uint8_t digest[32], hash[32], signature[SIGNATURE_LEN];
	struct buf raw;
	int error;

	buf_init(&raw, TRANSACTION_RAW_MAX);
	error = transaction_digest(transaction, digest);
	if (error == 0)
		error = wallet_sign_digest(
		    identity->wallets, local->wallet_key, digest, signature);
	if (error == 0)
		error =
		    transaction_assemble(transaction, signature, &raw, hash);
	done(arg, error, raw.data, error == 0 ? raw.len : 0);
	buf_free(&raw);
}

static void
local_unseal(struct identity *identity, const struct sealed_secret *sealed,
    identity_done_fn done, void *arg)
{
	uint8_t secret[MASTER_SECRET_LEN];
	int error =
	    sealed_secret_open(local_of(identity)->tee_key, sealed, secret);

	done(arg, error, secret, error == 0 ? sizeof(secret) : 0);
	OPENSSL_cleanse(secret, sizeof(secret));
}

static void
local_forget(struct identity *identity, struct agreement *agreement)
{
	(void)identity;
	secmem_free(agreement);
}

static void
local_free(struct identity *identity)
{
	struct local *local = local_of(identity);

	secmem_free(local->wallet_key);
	p384_key_free(local->tee_key);
	wallet_context_free(identity->wallets);
	free(local);
}

static const struct identity_ops local_ops = {
	.sign = local_sign,
	.open = local_open,
	.seal = local_seal,
	.sign_transaction = local_sign_transaction,
	.unseal = local_unseal,
	.forget = local_forget,
	.free = local_free,
};

/* ---- the keys ---- */

static int
make_keys(struct local *local)
{
	uint8_t scalar[P384_SCALAR_LEN];
	int error, tries = 0;

	do {
		local->random(
		    local->random_arg, local->wallet_key, WALLET_KEY_LEN);
		error =
		    wallet_key_check(local->head.wallets, local->wallet_key);
	} while (error != 0 && ++tries < 8);
	while (error == 0) {
		local->random(local->random_arg, scalar, sizeof(scalar));
		error = p384_key_new(scalar, &local->tee_key);
		if (error == 0 || error != KMS_EINVAL || ++tries >= 8)
			break;
		error = 0;
	}
	OPENSSL_cleanse(scalar, sizeof(scalar));
	return error;
}

static int
take_hex(json_t *object, const char *name, uint8_t *out, size_t len)
{
	json_t *member = json_object_get(object, name);

	if (!json_is_string(member) ||
	    hex_decode_exact(json_string_value(member),
		json_string_length(member), out, len) != 0) {
		log_error("identity file: \"%s\": expected %zu bytes as hex",
		    name, len);
		return KMS_EINVAL;
	}
	return 0;
}

static int
check_key(const char *name, int error)
{
	if (error != 0)
		log_error("identity file: \"%s\": %s", name,
		    error == KMS_EINVAL ? "expected a private key of the curve"
					: kms_strerror(error));
	return error;
}

static int
parse_keys(struct local *local, const char *text, size_t len)
{
	uint8_t scalar[P384_SCALAR_LEN];
	json_error_t where;
	json_t *object = NULL;
	int error =
	    json_guard(text, len, IDENTITY_FILE_TOKENS, IDENTITY_FILE_DEPTH);

	if (error == 0)
		object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	if (!json_is_object(object)) {
		log_error("identity file: expected the JSON object that "
			  "\"kmsctl keygen\" writes");
		error = KMS_EINVAL;
	}
	if (error == 0)
		error = take_hex(object, "wallet_private_key",
		    local->wallet_key, WALLET_KEY_LEN);
	if (error == 0)
		error =
		    take_hex(object, "tee_private_key", scalar, sizeof(scalar));
	if (error == 0)
		error = check_key(
		    "tee_private_key", p384_key_new(scalar, &local->tee_key));
	if (error == 0)
		error = check_key("wallet_private_key",
		    wallet_key_check(local->head.wallets, local->wallet_key));
	OPENSSL_cleanse(scalar, sizeof(scalar));
	json_decref(object);
	return error;
}

static int
read_file(int fd, struct buf *text)
{
	for (;;) {
		uint8_t *space;
		ssize_t got;

		if (text->len > IDENTITY_FILE_MAX ||
		    buf_reserve(text, READ_STEP, &space) != 0)
			return KMS_ETOOBIG;
		got = read(fd, space, READ_STEP);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return KMS_ESYS;
		if (got == 0)
			return 0;
		buf_commit(text, (size_t)got);
	}
}

static int
load_keys(struct local *local, int fd)
{
	struct buf text;
	int error;

	buf_init(&text, IDENTITY_FILE_MAX + READ_STEP);
	error = read_file(fd, &text);
	if (error != 0)
		log_error("identity file: %s", kms_strerror(error));
	else if (text.len == 0)
		error = make_keys(local);
	else
		error = parse_keys(local, (const char *)text.data, text.len);
	buf_free(&text);
	return error;
}

int
identity_local_new(int fd, identity_random_fn random, void *random_arg,
    struct identity **identity)
{
	struct local *local = calloc(1, sizeof(*local));
	uint8_t seed[32];
	int error = KMS_ENOMEM;

	if (local == NULL)
		return KMS_ENOMEM;
	local->head.ops = &local_ops;
	local->random = random;
	local->random_arg = random_arg;
	random(random_arg, seed, sizeof(seed));
	local->head.wallets = wallet_context_new(seed);
	OPENSSL_cleanse(seed, sizeof(seed));
	local->wallet_key = secmem_alloc(WALLET_KEY_LEN);
	if (local->head.wallets == NULL || local->wallet_key == NULL)
		goto fail;
	error = load_keys(local, fd);
	if (error == 0)
		error = wallet_key_address(local->head.wallets,
		    local->wallet_key, &local->head.wallet);
	if (error != 0)
		goto fail;
	local->head.point = *p384_key_point(local->tee_key);
	local->head.known = true;
	*identity = &local->head;
	return 0;

fail:
	local_free(&local->head);
	return error;
}
