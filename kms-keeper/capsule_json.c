#include "kms-keeper/capsule_json.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/json_guard.h"

/* An attestation beside a signature is one string; nobody needs more. */
#define ANSWER_TOKENS 256
#define ANSWER_DEPTH 8

/* ---- composing ---- */

/* Bytes of the well-formed sequence (RFC 3629) at text, 0 when there is none.
 */
static size_t
sequence(const uint8_t *text, size_t len)
{
	uint8_t c = text[0], low = 0x80, high = 0xbf;
	size_t more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

	if (c >= 0x80 && (c < 0xc2 || c > 0xf4))
		return 0;
	/* Overlong forms, surrogates, and what lies behind U+10FFFF. */
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (more >= len)
		return 0;
	for (size_t i = 1; i <= more; i++) {
		if (text[i] < low || text[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return more + 1;
}

static bool
is_plain(uint8_t c)
{
	return c >= 0x20 && c != '"' && c != '\\' && c < 0x80;
}

/* A character that cannot stand for itself. */
static int
append_escaped(struct buf *out, uint8_t c)
{
	if (c == '"' || c == '\\')
		return buf_printf(out, "\\%c", c);
	return buf_printf(out, "\\u%04x", c);
}

/* A JSON string with its quotes. */
static int
append_string(struct buf *out, const uint8_t *text, size_t len)
{
	size_t at = 0;
	int error = buf_append(out, "\"", 1);

	while (error == 0 && at < len) {
		size_t from = at, step = 1;

		while (at < len && is_plain(text[at]))
			at++;
		if (at > from) {
			error = buf_append(out, text + from, at - from);
			continue;
		}
		step = sequence(text + at, len - at);
		if (step == 0)
			return KMS_EINVAL;
		error = step > 1 ? buf_append(out, text + at, step)
				 : append_escaped(out, text[at]);
		at += step;
	}
	return error != 0 ? error : buf_append(out, "\"", 1);
}

/* "0x" and digits, with quotes. */
static int
append_hex(struct buf *out, const uint8_t *data, size_t len)
{
	uint8_t *space;
	int error = buf_append(out, "\"0x", 3);

	/* One more for the NUL, whose place the quote takes. */
	if (error == 0)
		error = buf_reserve(out, 2 * len + 1, &space);
	if (error != 0)
		return error;
	hex_encode(data, len, (char *)space);
	space[2 * len] = '"';
	buf_commit(out, 2 * len + 1);
	return 0;
}

static int
append_number(struct buf *out, const char *name, uint64_t value)
{
	return buf_printf(out, ",\"%s\":\"0x%" PRIx64 "\"", name, value);
}

static int
append_key(struct buf *out, const struct p384_point *point)
{
	uint8_t spki[P384_SPKI_LEN];
	int error = buf_append_text(out, ",\"client_public_key\":");

	p384_public_spki(point, spki);
	return error != 0 ? error : append_hex(out, spki, sizeof(spki));
}

int
capsule_json_sign(struct buf *out, const void *message, size_t len)
{
	int error = buf_append_text(out, "{\"message\":");

	if (error == 0)
		error = append_string(out, message, len);
	if (error == 0)
		error = buf_append_text(out, ",\"include_attestation\":false}");
	return error;
}

int
capsule_json_sign_tx(struct buf *out, const struct transaction *transaction)
{
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = { { "chain_id", transaction->chain_id },
		{ "nonce", transaction->nonce },
		{ "max_priority_fee_per_gas", transaction->max_priority_fee },
		{ "max_fee_per_gas", transaction->max_fee },
		{ "gas_limit", TRANSACTION_GAS }, { "value", 0 } };
	uint8_t data[TRANSACTION_DATA_LEN];
	int error =
	    buf_append_text(out, "{\"payload\":{\"kind\":\"structured\"");

	transaction_data(transaction, data);
	for (size_t i = 0;
	     error == 0 && i < sizeof(numbers) / sizeof(numbers[0]); i++)
		error = append_number(out, numbers[i].name, numbers[i].value);
	if (error == 0)
		error = buf_append_text(out, ",\"to\":");
	if (error == 0)
		error = append_hex(
		    out, transaction->registry.bytes, ETH_ADDRESS_LEN);
	if (error == 0)
		error = buf_append_text(out, ",\"data\":");
	if (error == 0)
		error = append_hex(out, data, sizeof(data));
	if (error == 0)
		error = buf_append_text(out, ",\"access_list\":[]}}");
	return error;
}

int
capsule_json_encrypt(struct buf *out, const struct p384_point *other,
    const uint8_t *plaintext, size_t len)
{
	int error = buf_append_text(out, "{\"plaintext\":");

	if (error == 0)
		error = append_string(out, plaintext, len);
	if (error == 0)
		error = append_key(out, other);
	return error != 0 ? error : buf_append(out, "}", 1);
}

int
capsule_json_decrypt(struct buf *out, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *sealed, size_t len)
{
	int error = buf_append_text(out, "{\"nonce\":");

	if (error == 0)
		error = append_hex(out, nonce, AEAD_NONCE_LEN);
	if (error == 0)
		error = append_key(out, other);
	if (error == 0)
		error = buf_append_text(out, ",\"encrypted_data\":");
	if (error == 0)
		error = append_hex(out, sealed, len);
	return error != 0 ? error : buf_append(out, "}", 1);
}

/* ---- reading ---- */

/* The object, or NULL. */
static json_t *
load(const struct buf *answer)
{
	const char *text = (const char *)answer->data;
	json_error_t where;

	if (answer->len == 0 ||
	    json_guard(text, answer->len, ANSWER_TOKENS, ANSWER_DEPTH) != 0)
		return NULL;
	/* No plaintext need be without NUL; who reads it decides. */
	return json_loadb(
	    text, answer->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
}

/* A member's bytes as hex, "0x" or not; at most size of them. */
static int
read_hex(const json_t *object, const char *name, uint8_t *out, size_t size,
    size_t *len)
{
	const json_t *member = json_object_get(object, name);

	if (!json_is_string(member) ||
	    hex_decode(json_string_value(member), json_string_length(member),
		out, size, len) != 0)
		return KMS_EPROTO;
	return 0;
}

static int
read_exactly(const json_t *object, const char *name, uint8_t *out, size_t len)
{
	size_t got;

	if (read_hex(object, name, out, len, &got) != 0 || got != len)
		return KMS_EPROTO;
	return 0;
}

int
capsule_json_address(const struct buf *answer, struct eth_address *wallet)
{
	json_t *object = load(answer);
	int error =
	    read_exactly(object, "address", wallet->bytes, ETH_ADDRESS_LEN);

	json_decref(object);
	return error;
}

int
capsule_json_public_key(const struct buf *answer, struct p384_point *point)
{
	json_t *object = load(answer);
	const json_t *member = json_object_get(object, "public_key_der");
	int error = KMS_EPROTO;

	if (json_is_string(member) &&
	    p384_public_parse_hex(json_string_value(member),
		json_string_length(member), point) == 0)
		error = 0;
	json_decref(object);
	return error;
}

int
capsule_json_random(const struct buf *answer, uint8_t bytes[CAPSULE_RANDOM_LEN])
{
	json_t *object = load(answer);
	int error =
	    read_exactly(object, "random_bytes", bytes, CAPSULE_RANDOM_LEN);

	json_decref(object);
	return error;
}

int
capsule_json_signature(
    const struct buf *answer, uint8_t signature[SIGNATURE_LEN])
{
	json_t *object = load(answer);
	int error = read_exactly(object, "signature", signature, SIGNATURE_LEN);

	json_decref(object);
	return error;
}

int
capsule_json_raw_transaction(
    const struct buf *answer, uint8_t raw[TRANSACTION_RAW_MAX], size_t *len)
{
	json_t *object = load(answer);
	int error =
	    read_hex(object, "raw_transaction", raw, TRANSACTION_RAW_MAX, len);

	json_decref(object);
	return error;
}

int
capsule_json_sealed(
    const struct buf *answer, const struct p384_point *own, struct buf *out)
{
	json_t *object = load(answer);
	const json_t *data = json_object_get(object, "encrypted_data");
	const json_t *key = json_object_get(object, "enclave_public_key");
	uint8_t nonce[AEAD_NONCE_LEN], *space;
	size_t room = json_string_length(data) / 2, len;
	int error = read_exactly(object, "nonce", nonce, sizeof(nonce));

	/* Its text alone: to check the curve again would cost more than all. */
	if (error == 0 &&
	    (!json_is_string(key) ||
		!p384_public_is_hex(
		    json_string_value(key), json_string_length(key), own)))
		error = KMS_ECRYPTO;
	if (error == 0)
		error = buf_append(out, nonce, sizeof(nonce));
	if (error == 0)
		error = buf_reserve(out, room, &space);
	if (error == 0)
		error = read_hex(object, "encrypted_data", space, room, &len);
	if (error == 0)
		buf_commit(out, len);
	json_decref(object);
	return error;
}

int
capsule_json_plaintext(const struct buf *answer, struct buf *out)
{
	json_t *object = load(answer);
	const json_t *member = json_object_get(object, "plaintext");
	int error = KMS_EPROTO;

	if (json_is_string(member))
		error = buf_append(
		    out, json_string_value(member), json_string_length(member));
	json_decref(object);
	return error;
}
