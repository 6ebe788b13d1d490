#include "kms-chain/rpc_parse.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/json_guard.h"
#include "common/printable.h"

#define REVERT_CODE 3 /* geth's code for a revert with data */
#define REVERT_DATA_MAX 4096

static int
malformed(struct rpc_answer *out, const char *why)
{
	(void)snprintf(out->text, sizeof(out->text), "%s", why);
	out->result = NULL;
	return KMS_EPROTO;
}

/* ---- the answer ---------------------------------------------------------- */

/* The reason that the contract gave, alone and behind the endpoint's message.
 */
static void
append_reason(struct rpc_answer *out, const json_t *data)
{
	size_t used = strlen(out->text);
	struct abi_revert revert;
	struct buf bytes;

	buf_init(&bytes, REVERT_DATA_MAX);
	if (rpc_parse_data(data, &bytes) == 0 && bytes.len > 0) {
		abi_decode_revert(bytes.data, bytes.len, &revert);
		(void)snprintf(
		    out->reason, sizeof(out->reason), "%s", revert.text);
		(void)snprintf(out->text + used, sizeof(out->text) - used,
		    " (%s)", revert.text);
	}
	buf_free(&bytes);
}

static int
take_error(struct rpc_answer *out, const json_t *error)
{
	const json_t *code = json_object_get(error, "code");
	const json_t *message = json_object_get(error, "message");

	if (!json_is_integer(code) || !json_is_string(message))
		return malformed(out, "an error without code and message");
	out->code = json_integer_value(code);
	printable_copy(json_string_value(message), json_string_length(message),
	    out->text, sizeof(out->text));
	out->reverted =
	    out->code == REVERT_CODE || strcasestr(out->text, "revert") != NULL;
	if (out->reverted)
		append_reason(out, json_object_get(error, "data"));
	return 0;
}

static int
take_root(struct rpc_answer *out, uint64_t id)
{
	const json_t *answer_id = json_object_get(out->root, "id");
	const json_t *error = json_object_get(out->root, "error");
	const json_t *version = json_object_get(out->root, "jsonrpc");

	if (!json_is_object(out->root))
		return malformed(out, "no JSON object");
	if (!json_is_string(version) ||
	    strcmp(json_string_value(version), "2.0") != 0)
		return malformed(out, "not JSON-RPC 2.0");
	if (!json_is_integer(answer_id) ||
	    json_integer_value(answer_id) != (json_int_t)id)
		return malformed(out, "the id of another request");
	out->result = json_object_get(out->root, "result");
	/* Some endpoints send the other member as null. */
	if (json_is_null(error))
		error = NULL;
	else if (error != NULL && json_is_null(out->result))
		out->result = NULL;
	if ((out->result == NULL) == (error == NULL))
		return malformed(out, "not exactly one of result and error");
	if (error == NULL)
		return 0;
	if (!json_is_object(error))
		return malformed(out, "an error that is no object");
	return take_error(out, error);
}

int
rpc_answer_parse(
    const char *body, size_t len, uint64_t id, struct rpc_answer *out)
{
	json_error_t error;
	int guard;

	memset(out, 0, sizeof(*out));
	guard = json_guard(body, len, RPC_TOKENS_MAX, RPC_DEPTH_MAX);
	if (guard == KMS_ETOOBIG)
		return malformed(out, "too many or too deep JSON values");
	if (guard == 0 && len > 0)
		out->root =
		    json_loadb(body, len, JSON_REJECT_DUPLICATES, &error);
	if (out->root == NULL)
		return malformed(out, "no JSON");
	return take_root(out, id);
}

void
rpc_answer_free(struct rpc_answer *answer)
{
	json_decref(answer->root);
	answer->root = answer->result = NULL;
}

/* ---- values -------------------------------------------------------------- */

/* The digits behind "0x"; NULL when value is no such text. */
static const char *
hex_digits(const json_t *value, size_t *count)
{
	const char *text = json_string_value(value);
	size_t len = text != NULL ? json_string_length(value) : 0;

	if (len < 2 || text[0] != '0' || text[1] != 'x')
		return NULL;
	for (size_t i = 2; i < len; i++) {
		if (strchr("0123456789abcdefABCDEF", text[i]) == NULL ||
		    text[i] == '\0')
			return NULL;
	}
	*count = len - 2;
	return text + 2;
}

int
rpc_parse_quantity_word(const json_t *value, struct eth_word *out)
{
	char padded[2 * ETH_WORD_LEN];
	size_t count;
	const char *digits = hex_digits(value, &count);

	memset(out, 0, sizeof(*out));
	if (digits == NULL || count == 0 || (digits[0] == '0' && count > 1))
		return KMS_EPROTO;
	if (count > sizeof(padded))
		return KMS_ERANGE;
	memset(padded, '0', sizeof(padded));
	memcpy(padded + sizeof(padded) - count, digits, count);
	return hex_decode_exact(
		   padded, sizeof(padded), out->bytes, ETH_WORD_LEN) == 0
	    ? 0
	    : KMS_EPROTO;
}

int
rpc_parse_quantity(const json_t *value, uint64_t max, uint64_t *out)
{
	struct eth_word word;
	int error = rpc_parse_quantity_word(value, &word);

	*out = 0;
	if (error == 0)
		error = eth_word_to_u64(&word, out);
	if (error == 0 && *out > max)
		error = KMS_ERANGE;
	if (error != 0)
		*out = 0;
	return error;
}

int
rpc_parse_data(const json_t *value, struct buf *out)
{
	size_t count, len;
	const char *digits = hex_digits(value, &count);
	uint8_t *space;
	int error;

	if (digits == NULL || count % 2 != 0)
		return KMS_EPROTO;
	if (count == 0)
		return 0;
	error = buf_reserve(out, count / 2, &space);
	if (error == 0)
		error = hex_decode(digits, count, space, count / 2, &len);
	if (error == 0)
		buf_commit(out, len);
	return error == KMS_EINVAL ? KMS_EPROTO : error;
}

int
rpc_parse_word(const json_t *value, struct eth_word *out)
{
	size_t count;
	const char *digits = hex_digits(value, &count);

	memset(out, 0, sizeof(*out));
	if (digits == NULL || count != 2 * (size_t)ETH_WORD_LEN)
		return KMS_EPROTO;
	return hex_decode_exact(digits, count, out->bytes, ETH_WORD_LEN) == 0
	    ? 0
	    : KMS_EPROTO;
}

static int
member_quantity(const json_t *object, const char *name, uint64_t *out)
{
	return rpc_parse_quantity(
	    json_object_get(object, name), UINT64_MAX - 1, out);
}

int
rpc_parse_block(const json_t *value, struct rpc_block *out)
{
	int error;

	memset(out, 0, sizeof(*out));
	if (json_is_null(value))
		return KMS_ENOENT;
	if (!json_is_object(value))
		return KMS_EPROTO;
	error = member_quantity(value, "number", &out->number);
	if (error == 0)
		error = member_quantity(value, "timestamp", &out->time);
	if (error == 0 && json_object_get(value, "baseFeePerGas") != NULL) {
		out->has_base_fee = true;
		error = member_quantity(value, "baseFeePerGas", &out->base_fee);
	}
	return error;
}

int
rpc_parse_receipt(const json_t *value, struct rpc_receipt *out)
{
	int error;

	memset(out, 0, sizeof(*out));
	if (json_is_null(value))
		return KMS_ENOENT;
	if (!json_is_object(value))
		return KMS_EPROTO;
	error = rpc_parse_word(
	    json_object_get(value, "transactionHash"), &out->hash);
	if (error == 0)
		error = rpc_parse_quantity(
		    json_object_get(value, "status"), 1, &out->status);
	if (error == 0)
		error = member_quantity(value, "blockNumber", &out->block);
	return error;
}

static int
member_address(const json_t *object, const char *name, struct eth_address *out)
{
	size_t count;
	const char *digits = hex_digits(json_object_get(object, name), &count);

	if (digits == NULL ||
	    hex_decode_exact(digits, count, out->bytes, ETH_ADDRESS_LEN) != 0)
		return KMS_EPROTO;
	return 0;
}

int
rpc_parse_transaction(const json_t *value, struct rpc_transaction *out)
{
	struct buf input;
	int error;

	memset(out, 0, sizeof(*out));
	if (json_is_null(value))
		return KMS_ENOENT;
	if (!json_is_object(value))
		return KMS_EPROTO;
	buf_init(&input, RPC_INPUT_MAX);
	error = rpc_parse_word(json_object_get(value, "hash"), &out->hash);
	if (error == 0)
		error = member_address(value, "from", &out->from);
	if (error == 0)
		error = member_address(value, "to", &out->to);
	if (error == 0)
		error = rpc_parse_data(json_object_get(value, "input"), &input);
	if (error == 0 && input.len > 0) {
		memcpy(out->input, input.data, input.len);
		out->input_len = input.len;
	}
	buf_free(&input);
	return error;
}

int
rpc_error_is_known_transaction(const char *text)
{
	static const char *const known[] = { "already known",
		"known transaction", "already imported", "already exists" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcasestr(text, known[i]) != NULL)
			return 1;
	}
	return 0;
}
