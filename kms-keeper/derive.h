/* Keys derived from the master secret (PROTOCOL.md section 4). */
#ifndef KMS_KEEPER_DERIVE_H
#define KMS_KEEPER_DERIVE_H

#include <stddef.h>
#include <stdint.h>

#define MASTER_SECRET_LEN 32
#define DERIVE_TEXT_MAX 65536 /* bytes of path, and of context */
#define DERIVE_LEN_MAX 1024   /* bytes of an app key */
#define DATA_KEY_LEN 32
#define SYNC_KEY_LEN 32
#define AUDIT_KEY_LEN 32

/*
 * The app key of /kms/derive, key_len bytes (1..DERIVE_LEN_MAX). path and
 * context are bytes, each up to DERIVE_TEXT_MAX; an empty context is none.
 * app_id 0 is nobody's. KMS_EINVAL, KMS_ECRYPTO. Reserved paths are the
 * caller's decision: derive_is_reserved. The caller wipes key.
 */
int derive_app_key(const uint8_t master[MASTER_SECRET_LEN], uint64_t app_id,
    const char *path, size_t path_len, const char *context, size_t context_len,
    uint8_t *key, size_t key_len);

/* 1 when these would derive the app's own at-rest key, else 0. */
int derive_is_reserved(const char *path, size_t path_len, size_t context_len);

/* The key of an app's values at rest. KMS_EINVAL for app_id 0, KMS_ECRYPTO. */
int derive_data_key(const uint8_t master[MASTER_SECRET_LEN], uint64_t app_id,
    uint8_t key[DATA_KEY_LEN]);

/* The HMAC key of /sync. KMS_ECRYPTO. */
int derive_sync_key(
    const uint8_t master[MASTER_SECRET_LEN], uint8_t key[SYNC_KEY_LEN]);

/* The key under which paths stand in the audit trail (audit.h). KMS_ECRYPTO. */
int derive_audit_key(
    const uint8_t master[MASTER_SECRET_LEN], uint8_t key[AUDIT_KEY_LEN]);

/* masterSecretHash, as the registry holds it. */
void master_secret_hash(
    const uint8_t master[MASTER_SECRET_LEN], uint8_t hash[32]);

#endif
