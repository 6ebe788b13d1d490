#include "kmsctl/client.h"

#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/pop.h"

#define SIGNED_TEXT_MAX 1024

void
client_answer_init(struct client_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	buf_init(&answer->body, CLIENT_ANSWER_MAX);
}

void
client_answer_free(struct client_answer *answer)
{
	buf_free(&answer->body);
	client_answer_init(answer);
}

static int
is_success(const struct client_answer *answer)
{
	return answer->status >= 200 && answer->status < 300;
}

/* The three strings of an envelope; exactly these. */
static int
envelope_members(const json_t *json, struct envelope_text *text)
{
	text->sender = client_json_string(json, "sender_tee_pubkey");
	text->nonce = client_json_string(json, "nonce");
	text->data = client_json_string(json, "encrypted_data");
	if (json_object_size(json) != 3 || text->sender == NULL ||
	    text->nonce == NULL || text->data == NULL)
		return KMS_EPROTO;
	text->sender_len = strlen(text->sender);
	text->nonce_len = strlen(text->nonce);
	text->data_len = strlen(text->data);
	return 0;
}

static int
envelope_hash(const json_t *json, const struct client_peer *peer,
    uint8_t hash[SHA256_LEN], const char **why)
{
	struct envelope_text text;
	struct p384_point sender;

	*why = "it is not an envelope";
	if (envelope_members(json, &text) != 0 ||
	    envelope_canonical_hash(&text, hash) != 0)
		return KMS_EAUTH;
	*why = "its envelope is not from the node's registered key";
	if (p384_public_parse_hex(text.sender, text.sender_len, &sender) != 0 ||
	    !p384_point_equal(&sender, &peer->tee_point))
		return KMS_EAUTH;
	return 0;
}

static int
error_hash(const json_t *json, uint8_t hash[SHA256_LEN], const char **why)
{
	const char *code = client_json_string(json, "code");
	const char *message = client_json_string(json, "message");

	*why = "it is neither an envelope nor an error";
	if (code == NULL || message == NULL ||
	    pop_error_hash(code, message, hash) != 0)
		return KMS_EAUTH;
	return 0;
}

/* Whether text is the peer's signature of the message. */
static int
signature_verify(const struct wallet_context *wallets,
    const struct client_peer *peer, const char *text, const struct buf *message)
{
	uint8_t signature[SIGNATURE_LEN];
	struct eth_address signer;

	if (signature_parse(text, strlen(text), signature) != 0 ||
	    wallet_recover_message(wallets, message->data, message->len,
		signature, &signer) != 0 ||
	    !eth_address_equal(&signer, &peer->wallet))
		return KMS_EAUTH;
	return 0;
}

static int
signatures_verify(const struct wallet_context *wallets,
    const struct client_peer *peer, const char *caller_signature,
    const struct client_answer *answer, const uint8_t hash[SHA256_LEN],
    const char **why)
{
	size_t caller_len = strlen(caller_signature);
	struct buf message;
	int rc;

	buf_init(&message, SIGNED_TEXT_MAX);
	*why = "X-KMS-Response-Signature is not the node's for this request";
	rc = pop_response_append(
	    caller_signature, caller_len, &peer->wallet, &message);
	if (rc == 0)
		rc = signature_verify(
		    wallets, peer, answer->signature, &message);
	if (rc == 0) {
		*why = "X-KMS-Response-Signature-V2 is not the node's for "
		       "this answer";
		buf_clear(&message);
		rc = pop_response_v2_append(caller_signature, caller_len,
		    &peer->wallet, answer->status, hash, &message);
	}
	if (rc == 0)
		rc = signature_verify(
		    wallets, peer, answer->signature_v2, &message);
	buf_free(&message);
	return rc == KMS_ENOMEM || rc == 0 ? rc : KMS_EAUTH;
}

int
client_answer_verify(const struct wallet_context *wallets,
    const struct client_peer *peer, const char *caller_signature,
    const struct client_answer *answer, json_t **json, const char **why)
{
	uint8_t hash[SHA256_LEN];
	int rc;

	*json = NULL;
	*why = "one of its signature headers is repeated or too long";
	if (answer->repeated)
		return KMS_EAUTH;
	*why = "it bears no signature";
	if (answer->signature[0] == '\0' && answer->signature_v2[0] == '\0')
		return is_success(answer) ? KMS_EAUTH : KMS_ENOENT;
	*why = "it lacks X-KMS-Response-Signature-V2, which binds it to this "
	       "request";
	if (answer->signature_v2[0] == '\0')
		return KMS_EAUTH;
	*why = "its body is not a JSON object of bounded size";
	if (client_json_parse(answer->body.data, answer->body.len, json) != 0)
		return KMS_EAUTH;
	rc = is_success(answer) ? envelope_hash(*json, peer, hash, why)
				: error_hash(*json, hash, why);
	if (rc == 0)
		rc = signatures_verify(
		    wallets, peer, caller_signature, answer, hash, why);
	if (rc != 0) {
		client_json_free(*json);
		*json = NULL;
	}
	return rc;
}

int
client_envelope_open(const json_t *envelope,
    const uint8_t shared[P384_SHARED_LEN], const struct p384_point *own,
    const struct p384_point *other, struct buf *out)
{
	uint8_t nonce[AEAD_NONCE_LEN], *space;
	struct envelope_text text;
	struct p384_point sender;
	struct buf sealed;
	size_t sealed_len;
	int rc;

	buf_init(&sealed, CLIENT_ANSWER_MAX);
	if ((rc = envelope_members(envelope, &text)) != 0)
		goto done;
	if ((rc = buf_reserve(&sealed, text.data_len / 2 + 1, &space)) != 0)
		goto done;
	rc = envelope_decode(
	    &text, &sender, nonce, space, text.data_len / 2 + 1, &sealed_len);
	if (rc != 0)
		goto done;
	buf_commit(&sealed, sealed_len);
	if ((rc = buf_reserve(out, sealed_len, &space)) != 0)
		goto done;
	rc = envelope_open(
	    shared, own, other, nonce, sealed.data, sealed.len, space);
	if (rc == 0)
		buf_commit(out, sealed_len - AEAD_TAG_LEN);
done:
	buf_free(&sealed);
	return rc;
}

/* data as hex text with its NUL, appended. */
static int
append_hex(struct buf *out, const uint8_t *data, size_t len)
{
	uint8_t *space;
	int rc;

	if ((rc = buf_reserve(out, 2 * len + 1, &space)) != 0)
		return rc;
	hex_encode(data, len, (char *)space);
	buf_commit(out, 2 * len + 1);
	return 0;
}

int
client_envelope_seal(const uint8_t shared[P384_SHARED_LEN],
    const struct p384_point *own, const struct p384_point *other,
    const uint8_t nonce[AEAD_NONCE_LEN], const struct buf *plaintext,
    struct buf *out, uint8_t hash[SHA256_LEN])
{
	char sender_hex[2 * P384_SPKI_LEN + 1];
	char nonce_hex[2 * AEAD_NONCE_LEN + 1];
	uint8_t spki[P384_SPKI_LEN], *space;
	struct buf sealed, data;
	struct envelope_text text;
	int rc;

	buf_init(&sealed, CLIENT_ANSWER_MAX);
	buf_init(&data, CLIENT_ANSWER_MAX);
	rc = buf_reserve(&sealed, plaintext->len + AEAD_TAG_LEN, &space);
	if (rc != 0)
		goto done;
	rc = envelope_seal(
	    shared, own, other, nonce, plaintext->data, plaintext->len, space);
	if (rc != 0)
		goto done;
	buf_commit(&sealed, plaintext->len + AEAD_TAG_LEN);
	if ((rc = append_hex(&data, sealed.data, sealed.len)) != 0)
		goto done;
	p384_public_spki(own, spki);
	hex_encode(spki, sizeof(spki), sender_hex);
	hex_encode(nonce, AEAD_NONCE_LEN, nonce_hex);
	text = (struct envelope_text){ sender_hex, sizeof(sender_hex) - 1,
		nonce_hex, sizeof(nonce_hex) - 1, (const char *)data.data,
		data.len - 1 };
	if ((rc = envelope_canonical_hash(&text, hash)) == 0)
		rc = envelope_canonical_append(&text, out);
done:
	buf_free(&sealed);
	buf_free(&data);
	return rc;
}
