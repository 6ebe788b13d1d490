#include "kms-keeper/transaction.h"

#include <string.h>

#include "common/err.h"
#include "common/keccak256.h"
#include "crypto/eip1559.h"

/* setMasterSecretHash(bytes32) */
static const uint8_t selector[4] = { 0x4d, 0xf7, 0xe3, 0x90 };

void
transaction_data(
    const struct transaction *transaction, uint8_t data[TRANSACTION_DATA_LEN])
{
	memcpy(data, selector, sizeof(selector));
	memcpy(data + sizeof(selector), transaction->secret_hash,
	    sizeof(transaction->secret_hash));
}

int
transaction_set_fees(
    struct transaction *transaction, uint64_t base_fee, uint64_t tip)
{
	if (base_fee > UINT64_MAX / 2 || tip > UINT64_MAX - 2 * base_fee)
		return KMS_ERANGE;
	transaction->max_priority_fee = tip;
	transaction->max_fee = 2 * base_fee + tip;
	return 0;
}

/* 12.5 % more, rounded up, and more in any case: nodes ask for that. */
static int
raise(uint64_t previous, uint64_t *fee)
{
	uint64_t more = previous / 8 + (previous % 8 != 0 || previous == 0);

	if (previous > UINT64_MAX - more)
		return KMS_ERANGE;
	if (*fee < previous + more)
		*fee = previous + more;
	return 0;
}

int
transaction_raise_fees(
    struct transaction *transaction, const struct transaction *previous)
{
	int error =
	    raise(previous->max_priority_fee, &transaction->max_priority_fee);

	if (error == 0)
		error = raise(previous->max_fee, &transaction->max_fee);
	return error;
}

/* data is what the result's data points to. */
static struct eip1559
to_eip1559(
    const struct transaction *transaction, uint8_t data[TRANSACTION_DATA_LEN])
{
	transaction_data(transaction, data);
	return (struct eip1559){
		.chain_id = transaction->chain_id,
		.nonce = transaction->nonce,
		.max_priority_fee = transaction->max_priority_fee,
		.max_fee = transaction->max_fee,
		.gas_limit = TRANSACTION_GAS,
		.to = transaction->registry,
		.data = data,
		.data_len = TRANSACTION_DATA_LEN,
	};
}

int
transaction_digest(const struct transaction *transaction, uint8_t digest[32])
{
	uint8_t data[TRANSACTION_DATA_LEN];
	struct eip1559 whole = to_eip1559(transaction, data);

	return eip1559_digest(&whole, digest);
}

int
transaction_assemble(const struct transaction *transaction,
    const uint8_t signature[SIGNATURE_LEN], struct buf *raw, uint8_t hash[32])
{
	uint8_t data[TRANSACTION_DATA_LEN];
	struct eip1559 whole = to_eip1559(transaction, data);
	size_t start = raw->len;
	int error = eip1559_assemble(&whole, signature, raw);

	if (error == 0)
		keccak256(raw->data + start, raw->len - start, hash);
	return error;
}

static int
same(const struct eip1559 *a, const struct eip1559 *b)
{
	return a->chain_id == b->chain_id && a->nonce == b->nonce &&
	    a->max_priority_fee == b->max_priority_fee &&
	    a->max_fee == b->max_fee && a->gas_limit == b->gas_limit &&
	    eth_address_equal(&a->to, &b->to) &&
	    memcmp(a->value.bytes, b->value.bytes, ETH_WORD_LEN) == 0 &&
	    a->data_len == b->data_len &&
	    memcmp(a->data, b->data, a->data_len) == 0;
}

int
transaction_check(const struct wallet_context *context,
    const struct transaction *expected, const struct eth_address *sender,
    const uint8_t *raw, size_t len, uint8_t hash[32])
{
	uint8_t data[TRANSACTION_DATA_LEN], digest[32];
	uint8_t signature[SIGNATURE_LEN];
	struct eip1559 whole = to_eip1559(expected, data), got;
	struct eth_address signer;
	int error;

	error = eip1559_decode(raw, len, &got, signature);
	if (error != 0)
		return KMS_EINVAL;
	if (!same(&got, &whole))
		return KMS_EPROTO;
	error = eip1559_digest(&whole, digest);
	if (error == 0)
		error =
		    wallet_recover_digest(context, digest, signature, &signer);
	if (error != 0)
		return error;
	if (!eth_address_equal(&signer, sender))
		return KMS_EAUTH;
	keccak256(raw, len, hash);
	return 0;
}
