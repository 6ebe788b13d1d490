#include "crypto/eip1559.h"

#include <string.h>

#include "common/err.h"
#include "common/keccak256.h"
#include "crypto/rlp.h"

#define TYPE 0x02
#define OVERHEAD_MAX 512 /* bytes of all but the call data */

/* The fields that are signed, as items without the list around them. */
static int
append_fields(const struct eip1559 *transaction, struct buf *out)
{
	const uint64_t numbers[] = { transaction->chain_id, transaction->nonce,
		transaction->max_priority_fee, transaction->max_fee,
		transaction->gas_limit };
	int error = 0;

	if (transaction->data_len > EIP1559_DATA_MAX)
		return KMS_ETOOBIG;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		error = rlp_append_u64(out, numbers[i]);
		if (error != 0)
			return error;
	}
	error = rlp_append_bytes(out, transaction->to.bytes, ETH_ADDRESS_LEN);
	if (error == 0)
		error = rlp_append_uint(
		    out, transaction->value.bytes, ETH_WORD_LEN);
	if (error == 0)
		error = rlp_append_bytes(
		    out, transaction->data, transaction->data_len);
	if (error == 0)
		error = rlp_append_list(out, 0); /* access list */
	return error;
}

/* 0x02 || rlp(list of the items in fields) */
static int
append_typed_list(const struct buf *fields, struct buf *out)
{
	static const uint8_t type = TYPE;
	size_t start = out->len;
	int error;

	error = buf_append(out, &type, 1);
	if (error == 0)
		error = rlp_append_list(out, fields->len);
	if (error == 0)
		error = buf_append(out, fields->data, fields->len);
	if (error != 0)
		out->len = start;
	return error;
}

int
eip1559_digest(const struct eip1559 *transaction, uint8_t digest[32])
{
	struct buf fields, text;
	int error;

	buf_init(&fields, EIP1559_DATA_MAX + OVERHEAD_MAX);
	buf_init(&text, EIP1559_DATA_MAX + OVERHEAD_MAX);
	error = append_fields(transaction, &fields);
	if (error == 0)
		error = append_typed_list(&fields, &text);
	if (error == 0)
		keccak256(text.data, text.len, digest);
	buf_free(&text);
	buf_free(&fields);
	return error;
}

int
eip1559_assemble(const struct eip1559 *transaction,
    const uint8_t signature[SIGNATURE_LEN], struct buf *raw)
{
	uint8_t checked[SIGNATURE_LEN];
	struct buf fields;
	int error;

	memcpy(checked, signature, sizeof(checked));
	if (signature[64] > 1 || signature_check(checked) != 0)
		return KMS_EINVAL;
	buf_init(&fields, EIP1559_DATA_MAX + OVERHEAD_MAX);
	error = append_fields(transaction, &fields);
	if (error == 0)
		error = rlp_append_u64(&fields, signature[64]);
	if (error == 0)
		error = rlp_append_uint(&fields, signature, 32);
	if (error == 0)
		error = rlp_append_uint(&fields, signature + 32, 32);
	if (error == 0)
		error = append_typed_list(&fields, raw);
	buf_free(&fields);
	return error;
}

static int
read_fields(struct rlp_reader *list, struct eip1559 *transaction)
{
	uint64_t *const numbers[] = { &transaction->chain_id,
		&transaction->nonce, &transaction->max_priority_fee,
		&transaction->max_fee, &transaction->gas_limit };
	struct rlp_reader item;
	int error;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		error = rlp_read_u64(list, numbers[i]);
		if (error != 0)
			return error;
	}
	if (rlp_read_bytes(list, &item) != 0 || item.len != ETH_ADDRESS_LEN)
		return KMS_EINVAL;
	memcpy(transaction->to.bytes, item.data, ETH_ADDRESS_LEN);
	error = rlp_read_uint(list, transaction->value.bytes, ETH_WORD_LEN);
	if (error != 0)
		return error;
	if (rlp_read_bytes(list, &item) != 0)
		return KMS_EINVAL;
	if (item.len > EIP1559_DATA_MAX)
		return KMS_ETOOBIG;
	transaction->data = item.data;
	transaction->data_len = item.len;
	if (rlp_read_list(list, &item) != 0 || item.len != 0)
		return KMS_EINVAL;
	return 0;
}

static int
read_signature(struct rlp_reader *list, uint8_t signature[SIGNATURE_LEN])
{
	uint64_t parity;
	int error = rlp_read_u64(list, &parity);

	if (error == 0)
		error = rlp_read_uint(list, signature, 32);
	if (error == 0)
		error = rlp_read_uint(list, signature + 32, 32);
	if (error != 0)
		return error;
	if (parity > 1)
		return KMS_EINVAL;
	signature[64] = (uint8_t)parity;
	return signature_check(signature);
}

int
eip1559_decode(const uint8_t *raw, size_t len, struct eip1559 *transaction,
    uint8_t signature[SIGNATURE_LEN])
{
	struct rlp_reader reader, list;
	int error;

	if (len > EIP1559_DATA_MAX + OVERHEAD_MAX)
		return KMS_ETOOBIG;
	if (len == 0 || raw[0] != TYPE)
		return KMS_EINVAL;
	reader = (struct rlp_reader){ raw + 1, len - 1 };
	if (rlp_read_list(&reader, &list) != 0 || reader.len != 0)
		return KMS_EINVAL;
	error = read_fields(&list, transaction);
	if (error == 0)
		error = read_signature(&list, signature);
	if (error != 0)
		return error;
	return list.len == 0 ? 0 : KMS_EINVAL;
}
