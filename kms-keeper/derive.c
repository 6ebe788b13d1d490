#include "kms-keeper/derive.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/keccak256.h"
#include "crypto/kdf.h"

#define SALT_SIZE 48 /* "nova-kms:app:" and 20 digits */

static const char data_key_info[] = "data_key";
static const char sync_key_info[] = "sync_hmac_key";
static const char audit_key_info[] = "audit_path_key";

static int
derive(const uint8_t *master, uint64_t app_id, const struct piece *info,
    size_t info_count, uint8_t *key, size_t key_len)
{
	char salt[SALT_SIZE];
	int len = snprintf(salt, sizeof(salt), "nova-kms:app:%" PRIu64, app_id);

	return hkdf_sha256_pieces(master, MASTER_SECRET_LEN, salt, (size_t)len,
	    info, info_count, key, key_len);
}

int
derive_app_key(const uint8_t master[MASTER_SECRET_LEN], uint64_t app_id,
    const char *path, size_t path_len, const char *context, size_t context_len,
    uint8_t *key, size_t key_len)
{
	const struct piece info[] = {
		{ path, path_len },
		{ ":", 1 },
		{ context, context_len },
	};

	if (app_id == 0 || path_len > DERIVE_TEXT_MAX ||
	    context_len > DERIVE_TEXT_MAX || key_len == 0 ||
	    key_len > DERIVE_LEN_MAX)
		return KMS_EINVAL;
	return derive(
	    master, app_id, info, context_len == 0 ? 1 : 3, key, key_len);
}

int
derive_is_reserved(const char *path, size_t path_len, size_t context_len)
{
	return context_len == 0 && path_len == sizeof(data_key_info) - 1 &&
	    memcmp(path, data_key_info, path_len) == 0;
}

int
derive_data_key(const uint8_t master[MASTER_SECRET_LEN], uint64_t app_id,
    uint8_t key[DATA_KEY_LEN])
{
	const struct piece info = { data_key_info, sizeof(data_key_info) - 1 };

	if (app_id == 0)
		return KMS_EINVAL;
	return derive(master, app_id, &info, 1, key, DATA_KEY_LEN);
}

int
derive_sync_key(
    const uint8_t master[MASTER_SECRET_LEN], uint8_t key[SYNC_KEY_LEN])
{
	const struct piece info = { sync_key_info, sizeof(sync_key_info) - 1 };

	return derive(master, 0, &info, 1, key, SYNC_KEY_LEN);
}

int
derive_audit_key(
    const uint8_t master[MASTER_SECRET_LEN], uint8_t key[AUDIT_KEY_LEN])
{
	const struct piece info = { audit_key_info,
		sizeof(audit_key_info) - 1 };

	return derive(master, 0, &info, 1, key, AUDIT_KEY_LEN);
}

void
master_secret_hash(const uint8_t master[MASTER_SECRET_LEN], uint8_t hash[32])
{
	keccak256(master, MASTER_SECRET_LEN, hash);
}
