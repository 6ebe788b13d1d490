#include "crypto/pop.h"

#include <stdarg.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/json_text.h"
#include "crypto/signature.h"

#define POP_DECIMAL_LEN 19 /* digits of an int64_t */

int
pop_timestamp_parse(const char *text, size_t len, int64_t *timestamp)
{
	int64_t value = 0;

	if (len == 0 || len > 13 || (len > 1 && text[0] == '0'))
		return KMS_EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return KMS_EINVAL;
		value = value * 10 + (text[i] - '0');
	}
	*timestamp = value;
	return 0;
}

static int
is_base64_digit(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9') || c == '+' || c == '/';
}

int
pop_nonce_check(const char *text, size_t len)
{
	size_t digits = len;

	if (len < POP_NONCE_TEXT_MIN || len > POP_NONCE_TEXT_MAX)
		return KMS_EINVAL;
	while (len - digits < 2 && text[digits - 1] == '=')
		digits--;
	for (size_t i = 0; i < digits; i++) {
		if (!is_base64_digit(text[i]))
			return KMS_EINVAL;
	}
	return 0;
}

static int
binding_check(const struct pop_binding *binding)
{
	if (binding->method_len == 0 || binding->method_len > POP_METHOD_MAX ||
	    binding->target_len == 0)
		return KMS_EINVAL;
	for (size_t i = 0; i < binding->method_len; i++) {
		if (binding->method[i] < 'A' || binding->method[i] > 'Z')
			return KMS_EINVAL;
	}
	for (size_t i = 0; i < binding->target_len; i++) {
		if (binding->target[i] <= 0x20 || binding->target[i] > 0x7e)
			return KMS_EINVAL;
	}
	return 0;
}

/* Take back what was appended since len when error says so. */
static int
keep_or_undo(struct buf *out, size_t len, int error)
{
	if (error != 0)
		out->len = len;
	return error;
}

/* Append the texts up to a NULL: printf would cost more than a hash of them. */
static int
append_texts(struct buf *out, const char *text, ...)
{
	size_t start = out->len;
	va_list args;
	int error = 0;

	va_start(args, text);
	for (; error == 0 && text != NULL; text = va_arg(args, const char *))
		error = buf_append_text(out, text);
	va_end(args);
	return keep_or_undo(out, start, error);
}

static void
decimal(int64_t value, char text[POP_DECIMAL_LEN + 1])
{
	char digits[POP_DECIMAL_LEN];
	size_t count = 0;

	do
		digits[count++] = (char)('0' + value % 10);
	while ((value /= 10) > 0 && count < sizeof(digits));
	while (count > 0)
		*text++ = digits[--count];
	*text = '\0';
}

static int
append_request(
    const struct pop_request *request, const char *version, struct buf *out)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];
	char nonce[POP_NONCE_TEXT_MAX + 1], timestamp[POP_DECIMAL_LEN + 1];

	if (pop_nonce_check(request->nonce, request->nonce_len) != 0 ||
	    request->timestamp < 0 || request->timestamp > POP_TIMESTAMP_MAX)
		return KMS_EINVAL;
	memcpy(nonce, request->nonce, request->nonce_len);
	nonce[request->nonce_len] = '\0';
	eth_address_format(&request->recipient, wallet);
	decimal(request->timestamp, timestamp);
	return append_texts(out, "NovaKMS:",
	    request->kind == POP_APP ? "AppAuth:" : "Auth:", version, nonce,
	    ":", wallet, ":", timestamp, NULL);
}

int
pop_request_append(const struct pop_request *request, struct buf *out)
{
	return append_request(request, "", out);
}

int
pop_request_v2_append(const struct pop_request *request,
    const struct pop_binding *binding, struct buf *out)
{
	char hash[2 * SHA256_LEN + 1];
	size_t start = out->len;
	int error = binding_check(binding);

	if (error == 0)
		error = append_request(request, "v2:", out);
	if (error != 0)
		return error;
	hex_encode(binding->content_hash, SHA256_LEN, hash);
	error = buf_append(out, ":", 1);
	if (error == 0)
		error = buf_append(out, binding->method, binding->method_len);
	if (error == 0)
		error = buf_append(out, ":", 1);
	if (error == 0)
		error = buf_append(out, binding->target, binding->target_len);
	if (error == 0)
		error = append_texts(out, ":", hash, NULL);
	return keep_or_undo(out, start, error);
}

/* The signature as sent, as a text of its own. */
static int
signature_text(const char *text, size_t len, char copy[SIGNATURE_TEXT_LEN + 1])
{
	uint8_t bytes[SIGNATURE_LEN];
	int error = hex_decode_exact(text, len, bytes, sizeof(bytes));

	if (error != 0)
		return error;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return 0;
}

int
pop_response_append(const char *signature, size_t signature_len,
    const struct eth_address *node, struct buf *out)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], sent[SIGNATURE_TEXT_LEN + 1];

	if (signature_text(signature, signature_len, sent) != 0)
		return KMS_EINVAL;
	eth_address_format(node, wallet);
	return append_texts(out, "NovaKMS:Response:", sent, ":", wallet, NULL);
}

int
pop_response_v2_append(const char *signature, size_t signature_len,
    const struct eth_address *node, unsigned int status,
    const uint8_t content_hash[SHA256_LEN], struct buf *out)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], sent[SIGNATURE_TEXT_LEN + 1];
	char hash[2 * SHA256_LEN + 1], number[POP_DECIMAL_LEN + 1];

	if (signature_text(signature, signature_len, sent) != 0 ||
	    status < 100 || status > 599)
		return KMS_EINVAL;
	eth_address_format(node, wallet);
	hex_encode(content_hash, SHA256_LEN, hash);
	decimal((int64_t)status, number);
	return append_texts(out, "NovaKMS:Response:v2:", sent, ":", wallet, ":",
	    number, ":", hash, NULL);
}

int
pop_error_hash(
    const char *code, const char *message, uint8_t digest[SHA256_LEN])
{
	const struct piece pieces[] = {
		{ "{\"code\":\"", 9 },
		{ code, strlen(code) },
		{ "\",\"message\":\"", 13 },
		{ message, strlen(message) },
		{ "\"}", 2 },
	};

	if (!json_text_is_plain(code, strlen(code)) ||
	    !json_text_is_plain(message, strlen(message)))
		return KMS_EINVAL;
	return sha256_pieces(
	    pieces, sizeof(pieces) / sizeof(pieces[0]), digest);
}
