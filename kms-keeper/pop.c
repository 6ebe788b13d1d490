#include "kms-keeper/pop.h"

#include <string.h>

#include "common/base64.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/hex.h"
#include "crypto/pop.h"
#include "kms-keeper/refusal.h"

/* Room for the longest text: a v2 one with the longest target. */
#define TEXT_MAX 9216

static bool
text_is(struct text text, const char *expected)
{
	return text.len == strlen(expected) &&
	    memcmp(text.text, expected, text.len) == 0;
}

static const char *
method_name(enum kms_method method)
{
	switch (method) {
	case METHOD_GET:
		return "GET";
	case METHOD_POST:
		return "POST";
	case METHOD_PUT:
		return "PUT";
	case METHOD_DELETE:
		return "DELETE";
	}
	return "";
}

struct parsed {
	uint8_t signature[SIGNATURE_LEN];
	uint8_t nonce[NONCE_LEN];
	int64_t timestamp;
	struct eth_address wallet; /* when given */
};

#define HOLDS REFUSAL_COUNT /* none */

/* All headers present, once, and well formed. */
static enum refusal
parse_headers(const struct pop_head *head, struct parsed *parsed,
    struct pop_result *result)
{
	size_t len;

	if (head->flags & AUTH_FLAG_REPEATED)
		return REFUSAL_HEADER_REPEATED;
	if (head->flags & AUTH_FLAG_OVERLONG)
		return REFUSAL_HEADER_OVERLONG;
	if (head->signature.len == 0 || head->nonce.len == 0 ||
	    head->timestamp.len == 0)
		return REFUSAL_HEADER_ABSENT;
	if (head->version.len != 0 && !text_is(head->version, "v2"))
		return REFUSAL_AUTH_VERSION;
	result->bound = head->version.len != 0;
	if (signature_parse(head->signature.text, head->signature.len,
		parsed->signature) != 0)
		return REFUSAL_SIGNATURE_FORM;
	if (base64_decode(head->nonce.text, head->nonce.len, parsed->nonce,
		NONCE_LEN, &len) != 0 ||
	    len != NONCE_LEN)
		return REFUSAL_NONCE;
	if (pop_timestamp_parse(head->timestamp.text, head->timestamp.len,
		&parsed->timestamp) != 0)
		return REFUSAL_TIMESTAMP_FORM;
	if (head->wallet.len != 0 &&
	    eth_address_parse(
		head->wallet.text, head->wallet.len, &parsed->wallet) != 0)
		return REFUSAL_WALLET_FORM;
	if (result->bound != (head->content_hash.len != 0) ||
	    (result->bound &&
		hex_decode_exact(head->content_hash.text,
		    head->content_hash.len, result->content_hash,
		    SHA256_LEN) != 0))
		return REFUSAL_CONTENT_HASH_FORM;
	return HOLDS;
}

static int
signed_text(const struct pop_head *head, const struct eth_address *node,
    const struct parsed *parsed, const struct pop_result *result,
    struct buf *text)
{
	struct pop_request request = {
		.kind = head->kind,
		.nonce = head->nonce.text,
		.nonce_len = head->nonce.len,
		.recipient = *node,
		.timestamp = parsed->timestamp,
	};
	struct pop_binding binding = {
		.method = method_name(head->method),
		.method_len = strlen(method_name(head->method)),
		.target = head->target.text,
		.target_len = head->target.len,
	};

	if (!result->bound)
		return pop_request_append(&request, text);
	memcpy(binding.content_hash, result->content_hash, SHA256_LEN);
	return pop_request_v2_append(&request, &binding, text);
}

static enum refusal
use_nonce(struct nonce_table *nonces, const struct parsed *parsed,
    struct kms_time now)
{
	switch (nonce_consume(nonces, parsed->nonce, now.boot_ms)) {
	case 0:
		return HOLDS;
	case KMS_EREPLAY:
		return REFUSAL_NONCE_USED;
	case KMS_ETIMEOUT:
		return REFUSAL_NONCE_EXPIRED;
	default:
		return REFUSAL_NONCE;
	}
}

static enum refusal
check(const struct pop_head *head, const struct eth_address *node,
    struct nonce_table *nonces, const struct wallet_context *wallets,
    uint64_t max_age_ms, struct kms_time now, struct pop_result *result)
{
	struct parsed parsed;
	enum refusal refusal = parse_headers(head, &parsed, result);
	int64_t age_s;
	struct buf text;
	int error;

	if (refusal != HOLDS)
		return refusal;
	age_s = now.wall_ms / 1000 - parsed.timestamp;
	if (age_s < 0)
		age_s = -age_s;
	if ((uint64_t)age_s > max_age_ms / 1000)
		return REFUSAL_TIMESTAMP;
	refusal = use_nonce(nonces, &parsed, now);
	if (refusal != HOLDS)
		return refusal;
	buf_init(&text, TEXT_MAX);
	error = signed_text(head, node, &parsed, result, &text);
	if (error == 0)
		error = wallet_recover_message(wallets, text.data, text.len,
		    parsed.signature, &result->wallet);
	buf_free(&text);
	if (error != 0)
		return REFUSAL_SIGNATURE;
	if (head->wallet.len != 0 &&
	    !eth_address_equal(&parsed.wallet, &result->wallet))
		return REFUSAL_WALLET;
	return HOLDS;
}

const char *
pop_check(const struct pop_head *head, const struct eth_address *node,
    struct nonce_table *nonces, const struct wallet_context *wallets,
    uint64_t max_age_ms, struct kms_time now, struct pop_result *result)
{
	enum refusal refusal =
	    check(head, node, nonces, wallets, max_age_ms, now, result);

	if (refusal == HOLDS)
		return NULL;
	return head->kind == POP_NODE ? refusal_text_peer(refusal)
				      : refusal_text(refusal);
}
