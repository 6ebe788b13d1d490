#include "regress/unit/vector.h"

#include "common/err.h"
#include "common/keccak256.h"
#include "crypto/eip1559.h"
#include "crypto/rlp.h"
#include "kms-keeper/transaction.h"
#include "regress/unit/crypto_setup.h"

struct vector_transaction {
	struct transaction transaction;
	struct eth_address sender;
	uint8_t key[WALLET_KEY_LEN];
	uint8_t hash[32];
	uint8_t *raw;
	size_t raw_len;
};

static struct wallet_context *
context_new(void)
{
	static const uint8_t seed[32] = { 7 };
	struct wallet_context *context = wallet_context_new(seed);

	assert_non_null(context);
	return context;
}

static struct vector_transaction
load(const json_t *vector)
{
	struct vector_transaction v = { 0 };
	uint8_t data[TRANSACTION_DATA_LEN], expected[TRANSACTION_DATA_LEN];

	v.transaction.chain_id = vector_u64(vector, "chain_id");
	v.transaction.nonce = vector_u64(vector, "nonce");
	v.transaction.max_priority_fee =
	    vector_u64(vector, "max_priority_fee_per_gas");
	v.transaction.max_fee = vector_u64(vector, "max_fee_per_gas");
	vector_exact(
	    vector, "to", v.transaction.registry.bytes, ETH_ADDRESS_LEN);
	vector_exact(vector, "data", expected, sizeof(expected));
	memcpy(v.transaction.secret_hash, expected + 4, 32);
	transaction_data(&v.transaction, data);
	assert_memory_equal(data, expected, sizeof(data));
	vector_exact(vector, "sender", v.sender.bytes, ETH_ADDRESS_LEN);
	vector_exact(vector, "private_key", v.key, sizeof(v.key));
	vector_exact(vector, "transaction_hash", v.hash, sizeof(v.hash));
	v.raw = vector_bytes(vector, "raw_transaction", &v.raw_len);
	return v;
}

/* Any field values: encode, sign, hash, decode. */
static void
generic_case(const struct wallet_context *context, const json_t *vector,
    const struct vector_transaction *v)
{
	uint8_t data[TRANSACTION_DATA_LEN], digest[32], hash[32];
	uint8_t signature[SIGNATURE_LEN], decoded_signature[SIGNATURE_LEN];
	struct eip1559 whole = {
		.chain_id = v->transaction.chain_id,
		.nonce = v->transaction.nonce,
		.max_priority_fee = v->transaction.max_priority_fee,
		.max_fee = v->transaction.max_fee,
		.gas_limit = vector_u64(vector, "gas_limit"),
		.to = v->transaction.registry,
		.data = data,
		.data_len = sizeof(data),
	};
	struct eth_address signer;
	struct eip1559 decoded;
	struct buf raw;

	buf_init(&raw, TRANSACTION_RAW_MAX);
	vector_exact(vector, "data", data, sizeof(data));
	assert_int_equal(eip1559_digest(&whole, digest), 0);
	assert_int_equal(
	    wallet_sign_digest(context, v->key, digest, signature), 0);
	assert_int_equal(eip1559_assemble(&whole, signature, &raw), 0);
	assert_int_equal(raw.len, v->raw_len);
	assert_memory_equal(raw.data, v->raw, raw.len);
	keccak256(raw.data, raw.len, hash);
	assert_memory_equal(hash, v->hash, sizeof(hash));
	assert_int_equal(
	    eip1559_decode(v->raw, v->raw_len, &decoded, decoded_signature), 0);
	assert_memory_equal(decoded_signature, signature, SIGNATURE_LEN);
	assert_int_equal(decoded.gas_limit, whole.gas_limit);
	assert_int_equal(eip1559_digest(&decoded, hash), 0);
	assert_memory_equal(hash, digest, sizeof(hash));
	assert_int_equal(
	    wallet_recover_digest(context, hash, decoded_signature, &signer),
	    0);
	assert_true(eth_address_equal(&signer, &v->sender));
	buf_free(&raw);
}

static void
build_case(
    const struct wallet_context *context, const struct vector_transaction *v)
{
	uint8_t digest[32], signature[SIGNATURE_LEN], hash[32];
	uint8_t decoded_signature[SIGNATURE_LEN];
	struct eip1559 decoded;
	struct buf raw;

	buf_init(&raw, TRANSACTION_RAW_MAX);
	assert_int_equal(transaction_digest(&v->transaction, digest), 0);
	assert_int_equal(
	    wallet_sign_digest(context, v->key, digest, signature), 0);
	assert_int_equal(
	    transaction_assemble(&v->transaction, signature, &raw, hash), 0);
	assert_int_equal(raw.len, v->raw_len);
	assert_memory_equal(raw.data, v->raw, raw.len);
	assert_memory_equal(hash, v->hash, sizeof(hash));
	assert_int_equal(
	    eip1559_decode(raw.data, raw.len, &decoded, decoded_signature), 0);
	assert_memory_equal(decoded_signature, signature, SIGNATURE_LEN);
	assert_int_equal(decoded.chain_id, v->transaction.chain_id);
	assert_int_equal(decoded.gas_limit, TRANSACTION_GAS);
	assert_int_equal(decoded.data_len, TRANSACTION_DATA_LEN);
	memset(hash, 0, sizeof(hash));
	assert_int_equal(transaction_check(context, &v->transaction, &v->sender,
			     raw.data, raw.len, hash),
	    0);
	assert_memory_equal(hash, v->hash, sizeof(hash));
	signature[64] = 2;
	assert_int_equal(
	    transaction_assemble(&v->transaction, signature, &raw, hash),
	    KMS_EINVAL);
	buf_free(&raw);
}

/* Each field that differs is found. */
static void
check_case(
    const struct wallet_context *context, const struct vector_transaction *v)
{
	struct eth_address other = v->sender;
	uint8_t hash[32];

#define DIFFERS(change)                                                        \
	do {                                                                   \
		struct transaction expected = v->transaction;                  \
		change;                                                        \
		assert_int_equal(transaction_check(context, &expected,         \
				     &v->sender, v->raw, v->raw_len, hash),    \
		    KMS_EPROTO);                                               \
	} while (0)
	DIFFERS(expected.chain_id++);
	DIFFERS(expected.nonce++);
	DIFFERS(expected.max_priority_fee++);
	DIFFERS(expected.max_fee++);
	DIFFERS(expected.registry.bytes[19] ^= 1);
	DIFFERS(expected.secret_hash[31] ^= 1);
#undef DIFFERS
	other.bytes[0] ^= 1;
	assert_int_equal(transaction_check(context, &v->transaction, &other,
			     v->raw, v->raw_len, hash),
	    KMS_EAUTH);
	for (size_t len = 0; len < v->raw_len; len++)
		assert_int_equal(transaction_check(context, &v->transaction,
				     &v->sender, v->raw, len, hash),
		    KMS_EINVAL);
}

static void
transaction_vectors(void **state)
{
	json_t *root = vector_load("regress/vectors/eip1559.json");
	struct wallet_context *context = context_new();
	const json_t *vector;
	size_t i, ours = 0;

	(void)state;
	json_array_foreach(root, i, vector)
	{
		struct vector_transaction v = load(vector);

		generic_case(context, vector, &v);
		if (vector_u64(vector, "gas_limit") == TRANSACTION_GAS) {
			build_case(context, &v);
			check_case(context, &v);
			ours++;
		}
		free(v.raw);
	}
	assert_int_equal(i, 3);
	assert_int_equal(ours, 2);
	wallet_context_free(context);
	json_decref(root);
}

/* The value and gas fields cannot be in struct transaction: forge them. */
static void
foreign_fields(void **state)
{
	json_t *root = vector_load("regress/vectors/eip1559.json");
	struct wallet_context *context = context_new();
	struct vector_transaction v = load(json_array_get(root, 0));
	uint8_t digest[32], signature[SIGNATURE_LEN], hash[32];

	(void)state;
	for (int field = 0; field < 3; field++) {
		struct eip1559 forged;
		struct buf raw;

		buf_init(&raw, 4096);
		assert_int_equal(
		    eip1559_decode(v.raw, v.raw_len, &forged, signature), 0);
		forged.value.bytes[31] = field == 0;
		forged.gas_limit += field == 1;
		forged.data_len -= field == 2;
		assert_int_equal(eip1559_digest(&forged, digest), 0);
		assert_int_equal(
		    wallet_sign_digest(context, v.key, digest, signature), 0);
		assert_int_equal(eip1559_assemble(&forged, signature, &raw), 0);
		assert_int_equal(transaction_check(context, &v.transaction,
				     &v.sender, raw.data, raw.len, hash),
		    KMS_EPROTO);
		buf_free(&raw);
	}
	free(v.raw);
	wallet_context_free(context);
	json_decref(root);
}

/* What decodes encodes to the same bytes: there is one form only. */
static void
mutations(void **state)
{
	json_t *root = vector_load("regress/vectors/eip1559.json");
	struct vector_transaction v = load(json_array_get(root, 1));
	uint64_t random = 0x452821e638d01377;
	size_t accepted = 0;

	(void)state;
	for (size_t i = 0; i < 50000; i++) {
		uint8_t raw[512], signature[SIGNATURE_LEN];
		size_t len = v.raw_len;
		struct eip1559 decoded;
		struct buf again;

		memcpy(raw, v.raw, len);
		vector_mutate(&random, raw, i % 2 == 0 ? 24 : len);
		if (i % 16 == 0)
			len = vector_random(&random) % (len + 1);
		if (eip1559_decode(raw, len, &decoded, signature) != 0)
			continue;
		accepted++;
		buf_init(&again, sizeof(raw));
		assert_int_equal(
		    eip1559_assemble(&decoded, signature, &again), 0);
		assert_int_equal(again.len, len);
		assert_memory_equal(again.data, raw, len);
		buf_free(&again);
	}
	assert_true(accepted > 1000 && accepted < 49000);
	free(v.raw);
	json_decref(root);
}

/* Put bytes into a transaction at a place, and correct its list's length. */
static int
decode_with(const struct vector_transaction *v, size_t at, size_t drop,
    const char *put, size_t put_len)
{
	uint8_t raw[512], signature[SIGNATURE_LEN];
	struct eip1559 decoded;
	size_t len = v->raw_len - drop + put_len;

	assert_int_equal(v->raw[1], 0xf8);
	memcpy(raw, v->raw, at);
	memcpy(raw + at, put, put_len);
	memcpy(raw + at + put_len, v->raw + at + drop, v->raw_len - at - drop);
	raw[2] = (uint8_t)(len - 3);
	return eip1559_decode(raw, len, &decoded, signature);
}

static void
strict_shape(void **state)
{
	json_t *root = vector_load("regress/vectors/eip1559.json");
	struct vector_transaction v = load(json_array_get(root, 0));
	/* 02 f8 len, then chain_id (4), nonce (1), fees (4, 4), gas (4), to. */
	const size_t to = 3 + 4 + 1 + 4 + 4 + 4;
	const size_t access_list = to + 21 + 1 + 37;
	uint8_t longer[512], signature[SIGNATURE_LEN];
	struct eip1559 decoded;

	(void)state;
	assert_int_equal(v.raw[to], 0x94);
	assert_int_equal(v.raw[access_list], 0xc0);
	assert_int_equal(decode_with(&v, to, 0, "", 0), 0);
	/* No address; one of 19 bytes. */
	assert_int_equal(decode_with(&v, to, 21, "\x80", 1), KMS_EINVAL);
	assert_int_equal(decode_with(&v, to, 2, "\x93", 1), KMS_EINVAL);
	/* An access list with an item; none at all. */
	assert_int_equal(
	    decode_with(&v, access_list, 1, "\xc1\xc0", 2), KMS_EINVAL);
	assert_int_equal(decode_with(&v, access_list, 1, "", 0), KMS_EINVAL);
	/* A field too many inside the list, or a byte behind it. */
	assert_int_equal(decode_with(&v, v.raw_len, 0, "\x01", 1), KMS_EINVAL);
	memcpy(longer, v.raw, v.raw_len);
	longer[v.raw_len] = 0;
	assert_int_equal(
	    eip1559_decode(longer, v.raw_len + 1, &decoded, signature),
	    KMS_EINVAL);
	/* Another type. */
	longer[0] = 1;
	assert_int_equal(
	    eip1559_decode(longer, v.raw_len, &decoded, signature), KMS_EINVAL);
	free(v.raw);
	json_decref(root);
}

static void
fees(void **state)
{
	struct transaction now = { 0 }, before = { 0 };

	(void)state;
	assert_int_equal(transaction_set_fees(&now, 1000, 7), 0);
	assert_int_equal(now.max_fee, 2007);
	assert_int_equal(now.max_priority_fee, 7);
	assert_int_equal(transaction_set_fees(&now, UINT64_MAX / 2, 1), 0);
	assert_true(now.max_fee == UINT64_MAX);
	assert_int_equal(
	    transaction_set_fees(&now, UINT64_MAX / 2, 2), KMS_ERANGE);
	assert_int_equal(
	    transaction_set_fees(&now, UINT64_MAX / 2 + 1, 0), KMS_ERANGE);
	before = (struct transaction){ .max_fee = 800, .max_priority_fee = 9 };
	now = (struct transaction){ .max_fee = 10, .max_priority_fee = 100 };
	assert_int_equal(transaction_raise_fees(&now, &before), 0);
	assert_int_equal(now.max_fee, 900);
	assert_int_equal(now.max_priority_fee, 100);
	now.max_priority_fee = 0;
	assert_int_equal(transaction_raise_fees(&now, &before), 0);
	assert_int_equal(now.max_priority_fee, 11);
	before.max_priority_fee = 0;
	now.max_priority_fee = 0;
	assert_int_equal(transaction_raise_fees(&now, &before), 0);
	assert_int_equal(now.max_priority_fee, 1);
	before.max_fee = UINT64_MAX - 1;
	assert_int_equal(transaction_raise_fees(&now, &before), KMS_ERANGE);
}

static void
assert_rlp(const struct buf *out, const char *hex)
{
	char text[256];

	assert_true(out->len < 100);
	hex_encode(out->data, out->len, text);
	assert_string_equal(text, hex);
}

static void
rlp_forms(void **state)
{
	uint8_t fives[56];
	struct rlp_reader reader, item;
	struct buf out;
	uint64_t value;

	(void)state;
	buf_init(&out, 1000);
	memset(fives, 5, sizeof(fives));
	assert_int_equal(rlp_append_u64(&out, 0), 0);
	assert_int_equal(rlp_append_u64(&out, 127), 0);
	assert_int_equal(rlp_append_u64(&out, 128), 0);
	assert_int_equal(rlp_append_u64(&out, UINT64_MAX), 0);
	assert_int_equal(rlp_append_list(&out, 0), 0);
	assert_rlp(&out, "807f818088ffffffffffffffffc0");
	buf_clear(&out);
	assert_int_equal(rlp_append_list(&out, 55), 0);
	assert_int_equal(rlp_append_list(&out, 56), 0);
	assert_int_equal(rlp_append_list(&out, 0x10000), 0);
	assert_rlp(&out, "f7f838fa010000");
	buf_clear(&out);
	assert_int_equal(rlp_append_bytes(&out, fives, 55), 0);
	assert_int_equal(out.data[0], 0xb7);
	assert_int_equal(rlp_append_bytes(&out, fives, 56), 0);
	assert_int_equal(out.data[56], 0xb8);
	assert_int_equal(out.data[57], 56);
	reader = (struct rlp_reader){ out.data, out.len };
	assert_int_equal(rlp_read_bytes(&reader, &item), 0);
	assert_int_equal(item.len, 55);
	assert_int_equal(rlp_read_u64(&reader, &value), KMS_ERANGE);
	assert_int_equal(rlp_read_bytes(&reader, &item), 0);
	assert_int_equal(item.len, 56);
	assert_int_equal(reader.len, 0);
	assert_int_equal(rlp_read_bytes(&reader, &item), KMS_EINVAL);
	buf_free(&out);
}

static void
rlp_refusals(void **state)
{
	/* Not shortest, leading zero, beyond the data, the other kind. */
	static const char *const bad[] = { "", "8105", "8100", "00", "820001",
		"81", "83ffff", "b801ff", "b80101", "b90001ff",
		"bfffffffffffffffff", "b8", "b900", "c0", "c101" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t bytes[16];
		struct rlp_reader reader;
		uint64_t value;

		assert_int_equal(hex_decode(bad[i], strlen(bad[i]), bytes,
				     sizeof(bytes), &reader.len),
		    0);
		reader.data = bytes;
		assert_int_equal(rlp_read_u64(&reader, &value), KMS_EINVAL);
		assert_ptr_equal(reader.data, bytes);
	}
	for (unsigned int first = 0; first < 0xc0; first++) {
		uint8_t byte = (uint8_t)first;
		struct rlp_reader reader = { &byte, 1 }, item;

		assert_int_equal(rlp_read_list(&reader, &item), KMS_EINVAL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transaction_vectors),
		cmocka_unit_test(foreign_fields),
		cmocka_unit_test(strict_shape),
		cmocka_unit_test(mutations),
		cmocka_unit_test(fees),
		cmocka_unit_test(rlp_forms),
		cmocka_unit_test(rlp_refusals),
	};

	return cmocka_run_group_tests(tests, crypto_setup, crypto_teardown);
}
