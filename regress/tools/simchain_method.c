#include "regress/tools/simchain_method.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/keccak256.h"
#include "crypto/eip1559.h"
#include "regress/tools/simchain_abi.h"
#include "regress/tools/simchain_file.h"

#define CALLDATA_MAX 131072
#define RESULT_MAX (16 << 20) /* of one eth_call: getOperators of them all */
#define MINE_MAX 100000	      /* blocks at once */

json_t *
simchain_call_error(
    struct simchain_call *call, int code, const char *format, ...)
{
	va_list ap;

	call->code = code;
	va_start(ap, format);
	(void)vsnprintf(call->message, sizeof(call->message), format, ap);
	va_end(ap);
	return NULL;
}

/* ---- values ------------------------------------------------------------ */

static json_t *
quantity(uint64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
	return json_string(text);
}

static json_t *
word_text(const struct eth_word *word)
{
	char text[2 + 2 * ETH_WORD_LEN + 1] = "0x";

	hex_encode(word->bytes, sizeof(word->bytes), text + 2);
	return json_string(text);
}

static json_t *
address_text(const struct eth_address *address)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(address, text);
	return json_string(text);
}

static json_t *
bytes_text(const struct buf *bytes)
{
	size_t len = 2 + 2 * bytes->len;
	struct buf text;
	uint8_t *space;
	json_t *json = NULL;

	buf_init(&text, len + 1);
	if (buf_reserve(&text, len + 1, &space) == 0) {
		memcpy(space, "0x", 3);
		if (bytes->len > 0)
			hex_encode(bytes->data, bytes->len, (char *)space + 2);
		json = json_stringn((const char *)space, len);
	}
	buf_free(&text);
	return json;
}

static json_t *
param(const struct simchain_call *call, size_t i)
{
	return json_array_get(call->params, i);
}

static int
parse_prefixed(const json_t *json, uint8_t *out, size_t len)
{
	const char *text = json_string_value(json);

	if (text == NULL || strncmp(text, "0x", 2) != 0)
		return KMS_EINVAL;
	return hex_decode_exact(text, json_string_length(json), out, len);
}

/* "0x" and hex digits without leading zeros (EIP-1474). */
static int
parse_quantity(const char *text, uint64_t *value)
{
	size_t digits = strlen(text) - (strlen(text) >= 2 ? 2 : 0);

	if (strncmp(text, "0x", 2) != 0 || digits < 1 || digits > 16 ||
	    (text[2] == '0' && digits > 1))
		return KMS_EINVAL;
	*value = 0;
	for (const char *p = text + 2; *p != '\0'; p++) {
		const char *hex = "0123456789abcdef";
		const char *at =
		    strchr(hex, *p >= 'A' && *p <= 'F' ? *p - 'A' + 'a' : *p);

		if (at == NULL)
			return KMS_EINVAL;
		*value = *value << 4 | (uint64_t)(at - hex);
	}
	return 0;
}

static uint64_t
below_head(const struct sim_state *sim, uint64_t depth)
{
	return sim_head(sim) > depth ? sim_head(sim) - depth : 0;
}

/* The block a text names, whether it exists or not. */
static int
parse_tag(const struct sim_state *sim, const char *text, uint64_t *block)
{
	if (strcmp(text, "latest") == 0)
		*block = sim_head(sim);
	else if (strcmp(text, "pending") == 0)
		*block = sim_pending(sim);
	else if (strcmp(text, "safe") == 0)
		*block = below_head(sim, SIM_SAFE_DEPTH);
	else if (strcmp(text, "finalized") == 0)
		*block = below_head(sim, SIM_FINALIZED_DEPTH);
	else if (strcmp(text, "earliest") == 0)
		*block = 0;
	else
		return parse_quantity(text, block);
	return 0;
}

/* A block's state to read: a tag, a number, or EIP-1898's object; latest
 * when absent. */
static int
read_block(struct simchain_call *call, const json_t *tag, uint64_t *block)
{
	const json_t *by_hash = json_object_get(tag, "blockHash");
	const json_t *by_number = json_object_get(tag, "blockNumber");
	const char *text =
	    json_string_value(by_number != NULL ? by_number : tag);
	const struct sim_block *found;
	struct eth_word hash;

	if (tag == NULL)
		text = "latest";
	if (by_hash != NULL) {
		if (parse_prefixed(by_hash, hash.bytes, ETH_WORD_LEN) != 0)
			goto invalid;
		found = sim_block_by_hash(call->sim, &hash);
		if (found == NULL)
			goto absent;
		*block = found->number;
		return 0;
	}
	if (text == NULL || parse_tag(call->sim, text, block) != 0)
		goto invalid;
	if (!sim_readable(call->sim, *block) ||
	    (*block == sim_pending(call->sim) && strcmp(text, "pending") != 0))
		goto absent;
	return 0;

invalid:
	(void)simchain_call_error(
	    call, SIMCHAIN_PARAMS, "expected a block tag or number");
	return KMS_EINVAL;
absent:
	(void)simchain_call_error(call, SIMCHAIN_SERVER, "header not found");
	return KMS_ENOENT;
}

static int
read_address(
    struct simchain_call *call, const json_t *json, struct eth_address *address)
{
	if (parse_prefixed(json, address->bytes, ETH_ADDRESS_LEN) == 0)
		return 0;
	(void)simchain_call_error(
	    call, SIMCHAIN_PARAMS, "expected an address, 0x and 40 hex digits");
	return KMS_EINVAL;
}

/* Hex text of any length to bytes; buf_free them. */
static int
read_bytes(struct simchain_call *call, const json_t *json, struct buf *bytes)
{
	const char *text = json_string_value(json);
	size_t text_len = json_string_length(json), len;
	uint8_t *space;

	buf_init(bytes, CALLDATA_MAX);
	if (text == NULL || strncmp(text, "0x", 2) != 0 ||
	    buf_reserve(bytes, text_len / 2, &space) != 0 ||
	    hex_decode(text, text_len, space, text_len / 2, &len) != 0) {
		(void)simchain_call_error(call, SIMCHAIN_PARAMS,
		    "expected 0x and hex digits of at most %d bytes",
		    CALLDATA_MAX);
		return KMS_EINVAL;
	}
	buf_commit(bytes, len);
	return 0;
}

/* ---- the chain --------------------------------------------------------- */

static json_t *
eth_chain_id(struct simchain_call *call)
{
	return quantity(sim_config(call->sim)->chain_id);
}

static json_t *
net_version(struct simchain_call *call)
{
	return json_sprintf(
	    "%llu", (unsigned long long)sim_config(call->sim)->chain_id);
}

static json_t *
web3_client_version(struct simchain_call *call)
{
	(void)call;
	return json_string("simchain/1");
}

static json_t *
eth_block_number(struct simchain_call *call)
{
	return quantity(sim_head(call->sim));
}

static json_t *
eth_gas_price(struct simchain_call *call)
{
	return quantity(sim_base_fee(call->sim) + SIM_TIP);
}

static json_t *
eth_max_priority_fee(struct simchain_call *call)
{
	(void)call;
	return quantity(SIM_TIP);
}

static json_t *
eth_get_block_by_number(struct simchain_call *call)
{
	const char *text = json_string_value(param(call, 0));
	const struct sim_block *block;
	uint64_t number;

	if (text == NULL || parse_tag(call->sim, text, &number) != 0)
		return simchain_call_error(
		    call, SIMCHAIN_PARAMS, "expected a block tag or number");
	block = sim_block(call->sim, number);
	if (block == NULL)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "number",
	    quantity(block->number), "hash", word_text(&block->hash),
	    "parentHash", word_text(&block->parent_hash), "timestamp",
	    quantity(block->timestamp), "baseFeePerGas",
	    quantity(block->base_fee), "gasLimit", quantity(SIM_GAS_LIMIT),
	    "gasUsed", quantity(block->gas_used));
}

static json_t *
eth_get_transaction_count(struct simchain_call *call)
{
	const char *tag = json_string_value(param(call, 1));
	struct eth_address address;
	uint64_t block;

	if (read_address(call, param(call, 0), &address) != 0 ||
	    read_block(call, param(call, 1), &block) != 0)
		return NULL;
	if (tag != NULL && strcmp(tag, "pending") == 0)
		return quantity(sim_nonce_pending(call->sim, &address));
	return quantity(sim_nonce(call->sim, &address, block));
}

/* Everybody has 10 000 ether, for gas is paid by nobody here. */
static json_t *
eth_get_balance(struct simchain_call *call)
{
	struct eth_address address;
	uint64_t block;

	if (read_address(call, param(call, 0), &address) != 0 ||
	    read_block(call, param(call, 1), &block) != 0)
		return NULL;
	return json_string("0x21e19e0c9bab2400000");
}

/* ---- calls and transactions -------------------------------------------- */

static json_t *
reverted(struct simchain_call *call, const struct buf *data)
{
	call->data = bytes_text(data);
	return simchain_call_error(call, SIMCHAIN_REVERT, "execution reverted");
}

/* Perform the call of params[0] on the block of params[1]; 0 or after
 * call_error a KMS_E*. */
static int
perform(struct simchain_call *call, struct buf *result)
{
	json_t *object = param(call, 0);
	json_t *data = json_object_get(object, "input");
	json_t *sender = json_object_get(object, "from");
	struct eth_address from = { { 0 } }, to;
	struct buf calldata;
	uint64_t block;
	int error;

	if (data == NULL)
		data = json_object_get(object, "data");
	if (read_address(call, json_object_get(object, "to"), &to) != 0 ||
	    (sender != NULL && read_address(call, sender, &from) != 0) ||
	    read_block(call, param(call, 1), &block) != 0)
		return KMS_EINVAL;
	buf_init(&calldata, 0);
	error = data != NULL ? read_bytes(call, data, &calldata) : 0;
	if (error == 0) {
		error = simchain_abi_call(call->sim, block, &from, &to,
		    calldata.data, calldata.len, result);
		if (error == KMS_EAUTH)
			(void)reverted(call, result);
		else if (error != 0)
			(void)simchain_call_error(
			    call, SIMCHAIN_INTERNAL, "%s", kms_strerror(error));
	}
	buf_free(&calldata);
	return error;
}

static json_t *
eth_call(struct simchain_call *call)
{
	struct buf result;
	json_t *json = NULL;

	buf_init(&result, RESULT_MAX);
	if (perform(call, &result) == 0)
		json = bytes_text(&result);
	buf_free(&result);
	return json;
}

static json_t *
eth_estimate_gas(struct simchain_call *call)
{
	struct buf result;
	json_t *json = NULL;

	buf_init(&result, RESULT_MAX);
	if (perform(call, &result) == 0)
		json = quantity(SIM_GAS_USED);
	buf_free(&result);
	return json;
}

/* From the signed bytes to what the state takes, with its sender. */
static int
open_transaction(struct simchain_call *call, const struct buf *raw,
    struct sim_transaction *out)
{
	uint8_t signature[SIGNATURE_LEN], digest[KECCAK256_LEN];
	struct eip1559 tx;
	int error = eip1559_decode(raw->data, raw->len, &tx, signature);

	memset(out, 0, sizeof(*out));
	if (error == 0)
		error = eip1559_digest(&tx, digest);
	if (error == 0)
		error = wallet_recover_digest(
		    call->rpc->wallets, digest, signature, &out->from);
	if (error != 0) {
		(void)simchain_call_error(call, SIMCHAIN_SERVER,
		    "expected a signed EIP-1559 transaction: %s",
		    kms_strerror(error));
		return error;
	}
	if (tx.chain_id != sim_config(call->sim)->chain_id) {
		(void)simchain_call_error(call, SIMCHAIN_SERVER,
		    "invalid chain id: have %llu want %llu",
		    (unsigned long long)tx.chain_id,
		    (unsigned long long)sim_config(call->sim)->chain_id);
		return KMS_EINVAL;
	}
	keccak256(raw->data, raw->len, out->hash.bytes);
	out->to = tx.to;
	out->nonce = tx.nonce;
	out->max_fee = tx.max_fee;
	out->tip = tx.max_priority_fee;
	out->gas_limit = tx.gas_limit;
	out->has_value = !eth_word_is_zero(&tx.value);
	out->data_len = tx.data_len;
	if (tx.data_len <= sizeof(out->data) && tx.data_len > 0)
		memcpy(out->data, tx.data, tx.data_len);
	return 0;
}

static json_t *
eth_send_raw_transaction(struct simchain_call *call)
{
	static const char *const reasons[] = {
		[SIM_POOL_OK] = NULL,
		[SIM_POOL_KNOWN] = "already known",
		[SIM_POOL_NONCE_LOW] = "nonce too low",
		[SIM_POOL_NONCE_HIGH] = "nonce too high",
		[SIM_POOL_UNDERPRICED] = "replacement transaction underpriced",
		[SIM_POOL_FEES] = "max priority fee per gas higher than max "
				  "fee per gas",
		[SIM_POOL_GAS] = "intrinsic gas too low, or above the block's",
		[SIM_POOL_FULL] = "txpool is full",
	};
	struct sim_transaction tx;
	const char *reason;
	struct buf raw;
	int error = read_bytes(call, param(call, 0), &raw);

	if (error == 0)
		error = open_transaction(call, &raw, &tx);
	buf_free(&raw);
	if (error != 0)
		return NULL;
	reason = reasons[sim_submit(call->sim, &tx)];
	if (reason != NULL)
		return simchain_call_error(call, SIMCHAIN_SERVER, "%s", reason);
	return word_text(&tx.hash);
}

static json_t *
eth_get_transaction_receipt(struct simchain_call *call)
{
	const struct sim_receipt *receipt;
	struct eth_word hash;

	if (parse_prefixed(param(call, 0), hash.bytes, ETH_WORD_LEN) != 0)
		return simchain_call_error(call, SIMCHAIN_PARAMS,
		    "expected a hash, 0x and 64 hex digits");
	receipt = sim_receipt(call->sim, &hash);
	if (receipt == NULL)
		return json_null();
	return json_pack(
	    "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:n, "
	    "s:[]}",
	    "transactionHash", word_text(&receipt->hash), "transactionIndex",
	    quantity(receipt->index), "blockNumber",
	    quantity(receipt->block_number), "blockHash",
	    word_text(&receipt->block_hash), "from",
	    address_text(&receipt->from), "to", address_text(&receipt->to),
	    "status", quantity(receipt->success), "gasUsed",
	    quantity(receipt->gas_used), "cumulativeGasUsed",
	    quantity(receipt->gas_used), "effectiveGasPrice",
	    quantity(receipt->gas_price), "type", "0x2", "contractAddress",
	    "logs");
}

/* Of mined ones alone. */
static json_t *
eth_get_transaction_by_hash(struct simchain_call *call)
{
	char input[2 + 2 * sizeof(((struct sim_receipt *)0)->data) + 1] = "0x";
	const struct sim_receipt *receipt;
	struct eth_word hash;

	if (parse_prefixed(param(call, 0), hash.bytes, ETH_WORD_LEN) != 0)
		return simchain_call_error(call, SIMCHAIN_PARAMS,
		    "expected a hash, 0x and 64 hex digits");
	receipt = sim_receipt(call->sim, &hash);
	if (receipt == NULL)
		return json_null();
	if (receipt->data_len > sizeof(receipt->data))
		return simchain_call_error(
		    call, SIMCHAIN_SERVER, "its input was not kept");
	hex_encode(receipt->data, receipt->data_len, input + 2);
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:s}",
	    "hash", word_text(&receipt->hash), "transactionIndex",
	    quantity(receipt->index), "blockNumber",
	    quantity(receipt->block_number), "blockHash",
	    word_text(&receipt->block_hash), "from",
	    address_text(&receipt->from), "to", address_text(&receipt->to),
	    "nonce", quantity(receipt->nonce), "input", input, "value", "0x0",
	    "type", "0x2");
}

/* ---- development ------------------------------------------------------- */

/* The block from which a change holds; it is made at once, unless blocks are
 * frozen. */
static json_t *
changed(struct simchain_call *call)
{
	uint64_t block = sim_pending(call->sim);

	if (!call->rpc->faults.freeze_head)
		sim_mine(call->sim, 1, call->wall_s);
	return quantity(block);
}

/* The one object argument: alone, or in an array of one. */
static json_t *
object_param(const struct simchain_call *call)
{
	return json_is_object(call->params) ? call->params : param(call, 0);
}

static json_t *
set_record(struct simchain_call *call,
    int (*read)(struct sim_state *, json_t *, char *))
{
	char reason[SIMCHAIN_ERROR_MAX];

	if (read(call->sim, object_param(call), reason) != 0)
		return simchain_call_error(call, SIMCHAIN_PARAMS, "%s", reason);
	return changed(call);
}

static json_t *
sim_set_app_method(struct simchain_call *call)
{
	return set_record(call, simchain_file_app);
}

static json_t *
sim_set_version_method(struct simchain_call *call)
{
	return set_record(call, simchain_file_version);
}

static json_t *
sim_set_instance_method(struct simchain_call *call)
{
	return set_record(call, simchain_file_instance);
}

static json_t *
sim_set_hash_method(struct simchain_call *call)
{
	struct eth_word hash;

	if (simchain_file_hash(param(call, 0), &hash) != 0)
		return simchain_call_error(
		    call, SIMCHAIN_PARAMS, "expected 64 hex digits");
	if (sim_set_hash(call->sim, &hash) != 0)
		return simchain_call_error(
		    call, SIMCHAIN_INTERNAL, "out of memory");
	return changed(call);
}

static json_t *
sim_set_base_fee_method(struct simchain_call *call)
{
	json_int_t wei = json_integer_value(param(call, 0));

	if (!json_is_integer(param(call, 0)) || wei < 0)
		return simchain_call_error(
		    call, SIMCHAIN_PARAMS, "expected wei, from 0 on");
	sim_set_base_fee(call->sim, (uint64_t)wei);
	return changed(call);
}

static json_t *
sim_mine_method(struct simchain_call *call)
{
	json_t *n = param(call, 0);
	json_int_t blocks = n != NULL ? json_integer_value(n) : 1;

	if ((n != NULL && !json_is_integer(n)) || blocks < 1 ||
	    blocks > MINE_MAX)
		return simchain_call_error(
		    call, SIMCHAIN_PARAMS, "expected 1 to %d blocks", MINE_MAX);
	sim_mine(call->sim, (uint64_t)blocks, call->wall_s);
	return quantity(sim_head(call->sim));
}

/* Members that are not given are off, so that {} ends all faults. */
static json_t *
sim_set_fault_method(struct simchain_call *call)
{
	struct simchain_faults faults = { 0 };
	json_t *object = object_param(call);
	json_int_t latency = 0;
	int stall = 0, freeze = 0;
	json_error_t error;

	if (json_unpack_ex(object, &error, JSON_STRICT,
		"{s?I, s?F, s?F, s?b, s?b}", "latency_ms", &latency,
		"error_rate", &faults.error_rate, "drop_rate",
		&faults.drop_rate, "stall", &stall, "freeze_head",
		&freeze) != 0)
		return simchain_call_error(
		    call, SIMCHAIN_PARAMS, "%s", error.text);
	if (latency < 0 || latency > 600000 || !(faults.error_rate >= 0) ||
	    !(faults.error_rate <= 1) || !(faults.drop_rate >= 0) ||
	    !(faults.drop_rate <= 1))
		return simchain_call_error(call, SIMCHAIN_PARAMS,
		    "expected rates of 0 to 1, a latency of 0 to 600000");
	faults.latency_ms = (uint64_t)latency;
	faults.stall = stall != 0;
	faults.freeze_head = freeze != 0;
	call->rpc->faults = faults;
	return json_true();
}

static json_t *
sim_state_method(struct simchain_call *call)
{
	json_t *dump = simchain_file_dump(call->sim);

	return dump != NULL
	    ? dump
	    : simchain_call_error(call, SIMCHAIN_INTERNAL, "out of memory");
}

/* ---- the table --------------------------------------------------------- */

static const struct simchain_method methods[] = {
	{ "eth_blockNumber", eth_block_number },
	{ "eth_call", eth_call },
	{ "eth_chainId", eth_chain_id },
	{ "eth_estimateGas", eth_estimate_gas },
	{ "eth_gasPrice", eth_gas_price },
	{ "eth_getBalance", eth_get_balance },
	{ "eth_getBlockByNumber", eth_get_block_by_number },
	{ "eth_getTransactionByHash", eth_get_transaction_by_hash },
	{ "eth_getTransactionCount", eth_get_transaction_count },
	{ "eth_getTransactionReceipt", eth_get_transaction_receipt },
	{ "eth_maxPriorityFeePerGas", eth_max_priority_fee },
	{ "eth_sendRawTransaction", eth_send_raw_transaction },
	{ "net_version", net_version },
	{ "sim_mine", sim_mine_method },
	{ "sim_setApp", sim_set_app_method },
	{ "sim_setBaseFee", sim_set_base_fee_method },
	{ "sim_setFault", sim_set_fault_method },
	{ "sim_setInstance", sim_set_instance_method },
	{ "sim_setMasterSecretHash", sim_set_hash_method },
	{ "sim_setVersion", sim_set_version_method },
	{ "sim_state", sim_state_method },
	{ "web3_clientVersion", web3_client_version },
};

const struct simchain_method *
simchain_method_find(const char *name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(methods[i].name, name) == 0)
			return &methods[i];
	return NULL;
}
