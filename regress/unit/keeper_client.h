/* An app's side of a request, for the tests of the keeper's core: proofs of
 * possession, envelopes, and the check of what comes back. */
#ifndef KMS_REGRESS_KEEPER_CLIENT_H
#define KMS_REGRESS_KEEPER_CLIENT_H

#include "common/base64.h"
#include "common/hex.h"
#include "crypto/envelope.h"
#include "crypto/pop.h"
#include "kms-keeper/nonce.h"
#include "kms-keeper/pop.h"
#include "kms-keeper/request.h"
#include "regress/unit/keeper_rig.h"

struct client {
	struct rig *rig;
	enum pop_kind kind; /* an app, or a peer */
	const struct wallet_context *wallets;
	struct eth_address node;
	struct p384_point node_point;
	uint8_t key[WALLET_KEY_LEN];
	struct eth_address wallet;
	struct p384_key *tee;
	uint8_t shared[P384_SHARED_LEN];
};

struct message {
	struct request_head head;
	char signature[SIGNATURE_TEXT_LEN + 1];
	char nonce[BASE64_LEN(NONCE_LEN) + 1];
	char timestamp[24];
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];
	char content_hash[2 * SHA256_LEN + 1];
	char sender[2 * P384_SPKI_LEN + 1];
	char envelope_nonce[2 * AEAD_NONCE_LEN + 1];
	char *data;
};

static inline struct text
text_of(const char *text)
{
	return (struct text){ text, strlen(text) };
}

/* Keys numbered n; the node is the rig's identity. */
static inline void
client_init(struct client *client, struct rig *rig, uint8_t n)
{
	uint8_t scalar[P384_SCALAR_LEN] = { 3, n };

	memset(client, 0, sizeof(*client));
	client->rig = rig;
	client->wallets = rig->identity->wallets;
	client->node = rig->identity->wallet;
	client->node_point = rig->identity->point;
	client->key[0] = 5;
	client->key[31] = n;
	assert_int_equal(
	    wallet_key_address(client->wallets, client->key, &client->wallet),
	    0);
	assert_int_equal(p384_key_new(scalar, &client->tee), 0);
	assert_int_equal(
	    p384_agree(client->tee, &client->node_point, client->shared), 0);
}

static inline void
client_free(struct client *client)
{
	p384_key_free(client->tee);
}

/* Seal body for the node as the message's envelope. */
static inline void
message_seal(const struct client *client, struct message *m, const char *body,
    size_t len)
{
	uint8_t nonce[AEAD_NONCE_LEN], spki[P384_SPKI_LEN];
	uint8_t *sealed = malloc(len + AEAD_TAG_LEN);

	rig_random(client->rig, nonce, sizeof(nonce));
	p384_public_spki(p384_key_point(client->tee), spki);
	assert_non_null(sealed);
	assert_int_equal(
	    envelope_seal(client->shared, p384_key_point(client->tee),
		&client->node_point, nonce, body, len, sealed),
	    0);
	free(m->data);
	m->data = malloc(2 * (len + AEAD_TAG_LEN) + 1);
	assert_non_null(m->data);
	hex_encode(sealed, len + AEAD_TAG_LEN, m->data);
	free(sealed);
	hex_encode(nonce, sizeof(nonce), m->envelope_nonce);
	hex_encode(spki, sizeof(spki), m->sender);
	m->head.envelope = true;
	m->head.sender = text_of(m->sender);
	m->head.envelope_nonce = text_of(m->envelope_nonce);
	m->head.data = text_of(m->data);
	m->head.data_total = m->head.data.len;
}

/* The content hash of what the message carries now. */
static inline void
message_hash(const struct message *m, uint8_t digest[SHA256_LEN])
{
	const struct request_head *h = &m->head;
	struct envelope_text text = { h->sender.text, h->sender.len,
		h->envelope_nonce.text, h->envelope_nonce.len, m->data,
		(size_t)h->data_total };

	if (h->envelope)
		assert_int_equal(envelope_canonical_hash(&text, digest), 0);
	else
		assert_int_equal(sha256("", 0, digest), 0);
}

/* Sign for a nonce at the rig's time; everything else stands already. */
static inline void
message_sign(const struct client *client, struct message *m,
    const uint8_t nonce[NONCE_LEN], const char *method, bool bound)
{
	struct pop_request request = { .kind = client->kind,
		.recipient = client->node,
		.timestamp = client->rig->now.wall_ms / 1000 };
	struct pop_binding binding = { .method = method,
		.method_len = strlen(method),
		.target = m->head.target.text,
		.target_len = m->head.target.len };
	uint8_t signature[SIGNATURE_LEN];
	struct buf text;

	base64_encode(nonce, NONCE_LEN, m->nonce);
	request.nonce = m->nonce;
	request.nonce_len = strlen(m->nonce);
	(void)snprintf(m->timestamp, sizeof(m->timestamp), "%lld",
	    (long long)request.timestamp);
	buf_init(&text, 16384);
	message_hash(m, binding.content_hash);
	if (bound) {
		hex_encode(binding.content_hash, SHA256_LEN, m->content_hash);
		assert_int_equal(
		    pop_request_v2_append(&request, &binding, &text), 0);
	} else {
		assert_int_equal(pop_request_append(&request, &text), 0);
	}
	assert_int_equal(wallet_sign_message(client->wallets, client->key,
			     text.data, text.len, signature),
	    0);
	buf_free(&text);
	signature_format(signature, m->signature);
	m->head.signature = text_of(m->signature);
	m->head.nonce = text_of(m->nonce);
	m->head.timestamp = text_of(m->timestamp);
	m->head.wallet = text_of("");
	m->head.version = text_of(bound ? "v2" : "");
	m->head.content_hash = text_of(bound ? m->content_hash : "");
}

/* What pop_check looks at. */
static inline struct pop_head
message_pop(const struct message *m, enum pop_kind kind)
{
	const struct request_head *h = &m->head;

	return (struct pop_head){ kind, h->method, h->target, h->flags,
		h->signature, h->nonce, h->timestamp, h->wallet, h->version,
		h->content_hash };
}

static inline const char *
method_text(enum kms_method method)
{
	static const char *const names[] = { "GET", "POST", "PUT", "DELETE" };

	return names[method];
}

/* The whole message; body NULL: none. message_free it. */
static inline void
message_make(const struct client *client, struct message *m,
    const uint8_t nonce[NONCE_LEN], enum kms_method method, const char *target,
    const char *body, bool bound)
{
	memset(m, 0, sizeof(*m));
	m->head.method = method;
	m->head.target = text_of(target);
	m->head.sender = m->head.envelope_nonce = m->head.data = text_of("");
	if (body != NULL)
		message_seal(client, m, body, strlen(body));
	message_sign(client, m, nonce, method_text(method), bound);
}

static inline void
message_free(struct message *m)
{
	free(m->data);
	m->data = NULL;
}

#endif
