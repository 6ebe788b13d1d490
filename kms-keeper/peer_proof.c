#include "kms-keeper/peer_proof.h"

#include <string.h>

#include "crypto/envelope.h"
#include "crypto/pop.h"

struct reasons {
	const char *missing, *malformed, *wrong;
};

#define REASONS(header)                                                        \
	{                                                                      \
		"expected " header ", none came",                              \
		    header ": expected 65 bytes as hex with a low s",          \
		    header ": expected the peer's wallet over this answer"     \
	}

static const struct reasons reasons_v1 = REASONS("X-KMS-Peer-Signature");
static const struct reasons reasons_v2 = REASONS("X-KMS-Response-Signature-V2");

int
peer_proof_text(const struct peer_proof *proof, struct buf *out)
{
	struct pop_request request = {
		.kind = POP_NODE,
		.nonce = proof->nonce,
		.nonce_len = strlen(proof->nonce),
		.recipient = proof->peer,
		.timestamp = proof->timestamp,
	};
	struct pop_binding binding = {
		.method = "POST",
		.method_len = strlen("POST"),
		.target = PEER_PROOF_TARGET,
		.target_len = strlen(PEER_PROOF_TARGET),
	};

	if (!proof->bound)
		return pop_request_append(&request, out);
	memcpy(binding.content_hash, proof->content_hash, SHA256_LEN);
	return pop_request_v2_append(&request, &binding, out);
}

/* Did the peer sign that message? A signature of anything else recovers
 * another wallet. */
static const char *
check_signature(const struct peer_proof *proof,
    const struct wallet_context *wallets, const char *signature,
    const struct buf *message, const struct reasons *reasons)
{
	uint8_t bytes[SIGNATURE_LEN];
	struct eth_address signer;

	if (signature[0] == '\0')
		return reasons->missing;
	if (signature_parse(signature, strlen(signature), bytes) != 0)
		return reasons->malformed;
	if (wallet_recover_message(
		wallets, message->data, message->len, bytes, &signer) != 0 ||
	    !eth_address_equal(&signer, &proof->peer))
		return reasons->wrong;
	return NULL;
}

static const char *
check_v1(const struct peer_proof *proof, const struct wallet_context *wallets,
    const struct peer_reply *reply)
{
	const char *reason = reasons_v1.wrong;
	struct buf text;

	buf_init(&text, PEER_PROOF_TEXT_MAX);
	if (pop_response_append(proof->signature, strlen(proof->signature),
		&proof->peer, &text) == 0)
		reason = check_signature(
		    proof, wallets, reply->signature, &text, &reasons_v1);
	buf_free(&text);
	return reason;
}

static const char *
check_v2(const struct peer_proof *proof, const struct wallet_context *wallets,
    const struct peer_reply *reply, unsigned int status,
    const uint8_t hash[SHA256_LEN])
{
	const char *reason = reasons_v2.wrong;
	struct buf text;

	buf_init(&text, PEER_PROOF_TEXT_MAX);
	if (pop_response_v2_append(proof->signature, strlen(proof->signature),
		&proof->peer, status, hash, &text) == 0)
		reason = check_signature(
		    proof, wallets, reply->signature_v2, &text, &reasons_v2);
	buf_free(&text);
	return reason;
}

const char *
peer_proof_check_envelope(const struct peer_proof *proof,
    const struct wallet_context *wallets, const struct peer_reply *reply)
{
	struct envelope_text envelope = { reply->sender, strlen(reply->sender),
		reply->nonce, strlen(reply->nonce), reply->data,
		reply->data_len };
	const char *reason = check_v1(proof, wallets, reply);
	uint8_t hash[SHA256_LEN];

	if (reason != NULL || !proof->bound)
		return reason;
	if (envelope_canonical_hash(&envelope, hash) != 0)
		return "expected an envelope without escapes";
	return check_v2(proof, wallets, reply, 200, hash);
}

const char *
peer_proof_check_error(const struct peer_proof *proof,
    const struct wallet_context *wallets, const struct peer_reply *reply)
{
	uint8_t hash[SHA256_LEN];

	if (!proof->bound)
		return "an unbound request's error is nobody's word";
	if (pop_error_hash(reply->code, reply->message, hash) != 0)
		return "expected code and message without escapes";
	return check_v2(proof, wallets, reply, reply->status, hash);
}
