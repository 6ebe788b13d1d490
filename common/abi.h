/*
 * The Solidity contract ABI for the two registries (PROTOCOL.md section 6):
 * calldata out, results in. Pure and allocation-free.
 *
 * What a decoder takes: whole 32-byte words; offsets that are multiples of 32,
 * not inside the head, and inside the data, as is all they point to with its
 * padding; addresses with 12 zero bytes in front; booleans 0 or 1; a uint8 of
 * one byte. Anything else is KMS_EINVAL and leaves *out zeroed. A one-word
 * result is exactly one word. Behind a tuple or an array further data is
 * ignored, as Solidity's own decoders do, so that the contracts may add
 * members.
 *
 * Numbers are saturated: ABI_UINT_HUGE stands for everything from 2^64-1 up.
 * Such an ID belongs to nobody: abi_id_usable says which do. The encoders
 * refuse it, so that no question is ever asked about another number than the
 * one that was read.
 */
#ifndef KMS_COMMON_ABI_H
#define KMS_COMMON_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/eth.h"

#define ABI_SELECTOR_LEN 4
#define ABI_CALLDATA_MAX (ABI_SELECTOR_LEN + 2 * ETH_WORD_LEN)
#define ABI_UINT_HUGE UINT64_MAX

#define ABI_INSTANCE_URL_MAX 2048 /* bytes; longer is read as oversize */
#define ABI_TEE_PUBKEY_MAX 256	  /* bytes; longer is read as oversize */
#define ABI_REVERT_TEXT_MAX 160	  /* characters of abi_revert.text */

/* The calls, in the order of the table that abi_function reads. */
enum abi_call {
	ABI_GET_ACTIVE_INSTANCES,
	ABI_GET_INSTANCE_BY_WALLET,
	ABI_GET_APP,
	ABI_GET_VERSION,
	ABI_MASTER_SECRET_HASH,
	ABI_SET_MASTER_SECRET_HASH,
	ABI_KMS_APP_ID,
	ABI_GET_OPERATORS,
	ABI_IS_OPERATOR,
	ABI_CALL_COUNT
};

struct abi_function {
	const char *signature; /* "getApp(uint256)" */
	uint8_t selector[ABI_SELECTOR_LEN];
	size_t argument_words;
};

/* The row of a call; NULL when call is none. Static storage. */
const struct abi_function *abi_function(enum abi_call call);

struct abi_calldata {
	uint8_t data[ABI_CALLDATA_MAX];
	size_t len;
};

/*
 * Calldata of each call. Those with a number return KMS_ERANGE (and leave
 * out->len 0) when it is ABI_UINT_HUGE; the others cannot fail.
 */
int abi_encode_get_active_instances(uint64_t app_id, struct abi_calldata *out);
void abi_encode_get_instance_by_wallet(
    const struct eth_address *wallet, struct abi_calldata *out);
int abi_encode_get_app(uint64_t app_id, struct abi_calldata *out);
int abi_encode_get_version(
    uint64_t app_id, uint64_t version_id, struct abi_calldata *out);
void abi_encode_master_secret_hash(struct abi_calldata *out);
void abi_encode_set_master_secret_hash(
    const struct eth_word *hash, struct abi_calldata *out);
void abi_encode_kms_app_id(struct abi_calldata *out);
void abi_encode_get_operators(struct abi_calldata *out);
void abi_encode_is_operator(
    const struct eth_address *wallet, struct abi_calldata *out);

/* Values of the status members; a decoder passes unknown ones (3..255) on,
 * the authorisation refuses them. */
enum abi_instance_status {
	ABI_INSTANCE_ACTIVE = 0,
	ABI_INSTANCE_STOPPED = 1,
	ABI_INSTANCE_FAILED = 2
};
enum abi_app_status {
	ABI_APP_ACTIVE = 0,
	ABI_APP_INACTIVE = 1,
	ABI_APP_REVOKED = 2
};
enum abi_version_status {
	ABI_VERSION_ENROLLED = 0,
	ABI_VERSION_DEPRECATED = 1,
	ABI_VERSION_REVOKED = 2
};

struct abi_instance {
	uint64_t instance_id; /* 0: there is none for this wallet */
	uint64_t app_id;
	uint64_t version_id;
	uint64_t registered_at; /* seconds since 1970 */
	struct eth_address operator_address;
	struct eth_address tee_wallet;
	bool zk_verified;
	uint8_t status;
	/* instance_url or tee_pubkey was longer than its bound; that member
	 * has length 0. Such an instance is unusable, its data well formed. */
	bool oversize;
	size_t tee_pubkey_len;
	uint8_t tee_pubkey[ABI_TEE_PUBKEY_MAX]; /* as registered, unchecked */
	size_t instance_url_len;
	/* As registered: any bytes, NULs too; a NUL stands behind the last. */
	char instance_url[ABI_INSTANCE_URL_MAX + 1];
};

struct abi_app {
	uint64_t app_id; /* 0: there is none */
	uint64_t latest_version_id;
	uint64_t created_at; /* seconds since 1970 */
	struct eth_address owner;
	struct eth_address dapp_contract;
	struct eth_word tee_arch;
	uint8_t status;
	bool has_app_wallet; /* older registries have no such member */
	struct eth_address app_wallet;
};

struct abi_version {
	uint64_t version_id;  /* 0: there is none */
	uint64_t enrolled_at; /* seconds since 1970 */
	struct eth_address enrolled_by;
	struct eth_word code_measurement;
	uint8_t status;
};

/* 1 when id is 1..2^63-1, the range of instance, app and version IDs that
 * mean something to us (PROTOCOL.md section 5), else 0. */
int abi_id_usable(uint64_t id);

/*
 * Results of eth_call: data is the returned bytes, hex already decoded; out is
 * the caller's. 0 or KMS_EINVAL.
 */
int abi_decode_instance(
    const uint8_t *data, size_t len, struct abi_instance *out);
int abi_decode_app(const uint8_t *data, size_t len, struct abi_app *out);
int abi_decode_version(
    const uint8_t *data, size_t len, struct abi_version *out);
int abi_decode_word(const uint8_t *data, size_t len, struct eth_word *out);
int abi_decode_uint(const uint8_t *data, size_t len, uint64_t *out);
int abi_decode_bool(const uint8_t *data, size_t len, bool *out);

/*
 * address[]: the first *count of out, which has room for max, are set.
 * KMS_ETOOBIG when there are more (well formed, *count is 0), KMS_EINVAL.
 */
int abi_decode_addresses(const uint8_t *data, size_t len,
    struct eth_address *out, size_t max, size_t *count);

enum abi_revert_kind {
	ABI_REVERT_EMPTY,  /* no data: plain revert or out of gas */
	ABI_REVERT_ERROR,  /* Error(string) */
	ABI_REVERT_PANIC,  /* Panic(uint256) */
	ABI_REVERT_CUSTOM, /* an error that KMSRegistry declares */
	ABI_REVERT_UNKNOWN
};

struct abi_revert {
	enum abi_revert_kind kind;
	uint8_t selector[ABI_SELECTOR_LEN]; /* zero when there is none */
	/* The custom error's name ("MasterSecretHashAlreadySet"), the reason
	 * of Error(string), "panic 0x11" or "0x12345678": printable ASCII,
	 * cut, fit for a log line. */
	char text[ABI_REVERT_TEXT_MAX + 1];
};

/* What a call or transaction that reverted gave back. Never fails: data that
 * is not understood is ABI_REVERT_UNKNOWN. */
void abi_decode_revert(const uint8_t *data, size_t len, struct abi_revert *out);

/* The custom errors, for tests: row i of the table, NULL past the end. */
struct abi_error {
	const char *signature; /* "NotOwner()" */
	uint8_t selector[ABI_SELECTOR_LEN];
};
const struct abi_error *abi_error(size_t i);

#endif
