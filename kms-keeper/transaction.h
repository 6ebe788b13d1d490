/*
 * The one transaction a node sends, setMasterSecretHash(hash) to KMSRegistry
 * (PROTOCOL.md section 8): there is no way to build another here.
 */
#ifndef KMS_KEEPER_TRANSACTION_H
#define KMS_KEEPER_TRANSACTION_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "crypto/wallet.h"

#define TRANSACTION_GAS 300000
#define TRANSACTION_DATA_LEN 36 /* selector || hash */
#define TRANSACTION_RAW_MAX 256 /* bytes of a signed one, at most */

struct transaction {
	uint64_t chain_id;
	uint64_t nonce;
	uint64_t max_priority_fee; /* wei per gas */
	uint64_t max_fee;	   /* wei per gas */
	struct eth_address registry;
	uint8_t secret_hash[32];
};

/* The call data: selector of setMasterSecretHash(bytes32) || hash. */
void transaction_data(
    const struct transaction *transaction, uint8_t data[TRANSACTION_DATA_LEN]);

/* maxFee = 2 * base fee + tip. KMS_ERANGE beyond 64 bits. */
int transaction_set_fees(
    struct transaction *transaction, uint64_t base_fee, uint64_t tip);

/*
 * Fees of a replacement: both at least 12.5 % (rounded up) above previous, and
 * at least what transaction holds already (today's fees). KMS_ERANGE.
 */
int transaction_raise_fees(
    struct transaction *transaction, const struct transaction *previous);

/* The digest the wallet signs. KMS_ENOMEM. */
int transaction_digest(
    const struct transaction *transaction, uint8_t digest[32]);

/*
 * Append the signed transaction to raw and set its hash. The signature is
 * canonical (KMS_EINVAL). KMS_ENOMEM, KMS_ETOOBIG.
 */
int transaction_assemble(const struct transaction *transaction,
    const uint8_t signature[SIGNATURE_LEN], struct buf *raw, uint8_t hash[32]);

/*
 * Check that raw is exactly this transaction, field by field, signed by
 * sender, and set its hash: what an identity service returned is sent only
 * then. KMS_EINVAL when it does not decode, KMS_EPROTO when a field differs,
 * KMS_EAUTH when another key signed.
 */
int transaction_check(const struct wallet_context *context,
    const struct transaction *expected, const struct eth_address *sender,
    const uint8_t *raw, size_t len, uint8_t hash[32]);

#endif
