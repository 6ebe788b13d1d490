#include "kms-keeper/peer_call_internal.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/printable.h"
#include "crypto/envelope.h"
#include "crypto/pop.h"
#include "proto/metrics.h"

#define ANSWER_MIN 65536U	 /* room for the body of an error */
#define ANSWER_MAX (64U << 20)	 /* what kms-chain lets a body be */
#define ANSWER_FRAME 1024U	 /* around encrypted_data */
#define POST_TIMEOUT_MAX 600000U /* what kms-chain takes */
#define HTTP_OK 200

static void attempt(struct exchange *x);

/* ---- failing ------------------------------------------------------------- */

/* Of a 200 that is not good enough. */
static void
fail_answer(struct exchange *x, int error, const char *text)
{
	struct peer_outcome outcome = {
		.error = error,
		.status = HTTP_OK,
		.authentic = x->authentic,
		.body = "",
		.text = text,
	};

	exchange_finish(x, &outcome);
}

static void
fail_step(struct exchange *x, int error, const char *what)
{
	char text[EXCHANGE_TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%s: %s", what, kms_strerror(error));
	exchange_fail(x, error, text);
}

static void
fail_status(
    struct exchange *x, const char *request, const struct peer_reply *reply)
{
	char text[EXCHANGE_TEXT_MAX], code[65], message[513];
	struct peer_outcome outcome = { .error = KMS_EUNAVAIL,
		.status = reply->status,
		.authentic = x->authentic,
		.body = "",
		.retry_after = reply->retry_after,
		.text = text };

	printable_copy(reply->code, strlen(reply->code), code, sizeof(code));
	printable_copy(
	    reply->message, strlen(reply->message), message, sizeof(message));
	(void)snprintf(text, sizeof(text),
	    "%s: expected HTTP status 200, got %u%s%s%s%s%s", request,
	    reply->status, x->authentic ? "" : " (unsigned)",
	    code[0] != '\0' ? ", " : "", code, message[0] != '\0' ? ": " : "",
	    message);
	exchange_finish(x, &outcome);
}

static int
failure_error(enum peer_failure failure)
{
	switch (failure) {
	case PEER_FAILURE_REFUSED:
		return KMS_EINVAL;
	case PEER_FAILURE_UNREACHABLE:
		return KMS_EUNAVAIL;
	case PEER_FAILURE_TLS:
		return KMS_EAUTH;
	case PEER_FAILURE_TIMEOUT:
		return KMS_ETIMEOUT;
	case PEER_FAILURE_MALFORMED:
		return KMS_EPROTO;
	case PEER_FAILURE_TOO_BIG:
		return KMS_ETOOBIG;
	case PEER_FAILURE_BUSY:
		return KMS_EBUSY;
	}
	return KMS_EPROTO;
}

static void
fail_transport(
    struct exchange *x, const char *request, const struct peer_reply *reply)
{
	char text[EXCHANGE_TEXT_MAX], why[sizeof(reply->text)];

	if (reply->kind != PEER_REPLY_FAILED) {
		exchange_fail(x, KMS_EPROTO,
		    "expected an answer to the request, got "
		    "one to another");
		return;
	}
	printable_copy(reply->text, strlen(reply->text), why, sizeof(why));
	(void)snprintf(text, sizeof(text), "%s: %s", request, why);
	exchange_fail(x, failure_error(reply->failure), text);
}

/* ---- what an attempt rests on -------------------------------------------- */

/* Does the registry's word stand? Else text, of EXCHANGE_TEXT_MAX, says why
 * not. */
static bool
is_authorised(const struct exchange *x, char *text)
{
	const struct counterpart *peer = x->counterpart;

	if (peer->verdict != COUNTERPART_AUTHORISED) {
		(void)snprintf(text, EXCHANGE_TEXT_MAX,
		    "the registry does not authorise the peer: %s",
		    peer->refusal != NULL ? peer->refusal : "no verdict");
	} else if (peer->app_id != x->calls->config.kms_app_id) {
		(void)snprintf(text, EXCHANGE_TEXT_MAX,
		    "expected an instance of app %llu, the registry has it "
		    "as one of app %llu",
		    (unsigned long long)x->calls->config.kms_app_id,
		    (unsigned long long)peer->app_id);
	} else {
		return true;
	}
	return false;
}

/* Can what is being sent come to be sent again? */
static bool
may_go_again(const struct exchange *x)
{
	return (x->used_next && !x->retried) ||
	    (x->proof.bound && !x->must_bind);
}

static const char outdated[] =
    "expected v2 of a node that has answered it before, got v1";

/* Has another call found out meanwhile that the node speaks v2? */
static bool
is_outdated(const struct exchange *x)
{
	return !x->proof.bound && x->node->ours;
}

/*
 * Take an envelope's nonce into the peer's replay window, unless both ways are
 * bound: an answer is then signed over this request's signature and its own
 * content, so that no other can stand in for it, and nothing unbound is taken
 * from the peer. What nodes say to each other would fill any window. KMS_E*.
 */
static int
remember(const struct exchange *x, const uint8_t nonce[AEAD_NONCE_LEN])
{
	int error;

	if (x->must_bind)
		return 0;
	error = counterpart_remember(x->counterpart, nonce, x->calls->now);
	/* A v2 request can do without room, and so can what it leads to. */
	return error != KMS_EREPLAY && x->proof.bound ? 0 : error;
}

/* The next operation with this counterpart makes its agreement. */
static void
count_agreement(const struct exchange *x)
{
	if (x->counterpart->agreement == NULL)
		metrics[METRIC_KEEPER_AGREEMENTS]++;
}

static int
post(struct exchange *x, struct peer_call *request)
{
	struct peer_calls *calls = x->calls;
	int64_t left = x->deadline_ms - calls->now.boot_ms;
	int error;

	request->url = x->url;
	request->request = x->request;
	request->timeout_ms = left < 1 ? 1
	    : left > POST_TIMEOUT_MAX  ? POST_TIMEOUT_MAX
				       : (uint64_t)left;
	request->arg = x;
	error = calls->ops.post(calls->ops.arg, request, &x->post);
	if (error != 0)
		x->post = 0;
	return error;
}

/* ---- the answer ---------------------------------------------------------- */

static void
on_opened(void *arg, int error, const uint8_t *plaintext, size_t len)
{
	struct exchange *x = arg;
	struct peer_outcome outcome = { .status = HTTP_OK,
		.authentic = x->authentic,
		.body = len > 0 ? (const char *)plaintext : "",
		.len = len,
		.text = "" };
	char text[EXCHANGE_TEXT_MAX];

	if (!exchange_is_back(x))
		return;
	if (error != 0) {
		fail_answer(x, error,
		    error == KMS_EAUTH
			? "the answer's envelope: expected one under the "
			  "peer's registered key, it does not decrypt"
			: "the answer's envelope cannot be opened now");
		return;
	}
	if (!is_authorised(x, text)) {
		fail_answer(x, KMS_EAUTH, text);
		return;
	}
	if (is_outdated(x)) {
		fail_answer(x, KMS_EAUTH, outdated);
		return;
	}
	/* Only what does decrypt takes room in the window. */
	error = remember(x, x->answer_nonce);
	if (error != 0) {
		metrics[METRIC_KEEPER_REPLAYS] += error == KMS_EREPLAY;
		fail_answer(x, error,
		    error == KMS_EREPLAY
			? "the answer's envelope: expected a new one, it was "
			  "received or sent before"
			: "no room to remember the answer's envelope");
		return;
	}
	if (!x->proof.bound)
		x->node->deployed_ms =
		    x->calls->now.boot_ms + PEER_CALLS_DEPLOYED_MS;
	exchange_finish(x, &outcome);
}

static void
open_answer(struct exchange *x, const struct peer_reply *reply)
{
	struct envelope_text envelope = { reply->sender, strlen(reply->sender),
		reply->nonce, strlen(reply->nonce), reply->data,
		reply->data_len };
	char text[EXCHANGE_TEXT_MAX];
	size_t len;

	if (!is_authorised(x, text)) {
		fail_answer(x, KMS_EAUTH, text);
		return;
	}
	if (!p384_public_is_hex(
		reply->sender, envelope.sender_len, &x->counterpart->point)) {
		fail_answer(x, KMS_EAUTH,
		    "the answer's sender_tee_pubkey: expected the peer's "
		    "registered key, got another");
		return;
	}
	/* The sealed bytes take the place of their hex. */
	if (envelope_decode(&envelope, NULL, x->answer_nonce,
		(uint8_t *)reply->data, reply->data_len, &len) != 0) {
		fail_answer(x, KMS_EPROTO,
		    "the answer's envelope: expected hex, got something else");
		return;
	}
	if (len - AEAD_TAG_LEN > x->answer_max) {
		fail_answer(
		    x, KMS_ETOOBIG, "the answer is larger than its limit");
		return;
	}
	count_agreement(x);
	x->step = STEP_OPEN;
	x->busy = true;
	identity_open(x->calls->identity, &x->counterpart->agreement,
	    &x->counterpart->point, x->answer_nonce,
	    (const uint8_t *)reply->data, len, on_opened, x);
}

/* It has answered v2: its word for that is signed. */
static void
note_ours(struct exchange *x, const struct peer_reply *reply)
{
	x->authentic = true;
	x->must_bind = true;
	peer_node_note_ours(x->node, reply->next_nonce, x->calls->now);
}

static void
on_envelope(struct exchange *x, const struct peer_reply *reply)
{
	const char *reason;

	if (reply->data == NULL) {
		fail_answer(x, KMS_EPROTO,
		    "the answer's envelope: expected ciphertext, got none");
		return;
	}
	reason = peer_proof_check_envelope(
	    &x->proof, x->calls->identity->wallets, reply);
	if (reason == NULL && is_outdated(x))
		reason = outdated;
	if (reason != NULL) {
		fail_answer(x, KMS_EAUTH, reason);
		return;
	}
	if (x->proof.bound)
		note_ours(x, reply);
	open_answer(x, reply);
}

/* Another status. A refusal of v2, or of a nonce, may be the word of anybody
 * on the way: what follows from it is harmless. */
static void
on_refused(struct exchange *x, const struct peer_reply *reply)
{
	bool refused = reply->status == 400 || reply->status == 403;

	if (peer_proof_check_error(
		&x->proof, x->calls->identity->wallets, reply) == NULL)
		note_ours(x, reply);
	if (reply->status == 403 && x->used_next && !x->retried) {
		x->retried = true;
		attempt(x);
		return;
	}
	if (refused && x->proof.bound && !x->must_bind && !x->node->ours) {
		x->proof.bound = false;
		attempt(x);
		return;
	}
	/* It may have become one of ours. */
	if (refused && !x->proof.bound)
		x->node->deployed_ms = 0;
	fail_status(x, "POST /sync", reply);
}

static void
on_answer(void *arg, uint64_t id, const struct peer_reply *reply)
{
	struct exchange *x = arg;

	(void)id;
	x->post = 0;
	if (reply->kind == PEER_REPLY_ENVELOPE)
		on_envelope(x, reply);
	else if (reply->kind == PEER_REPLY_ERROR)
		on_refused(x, reply);
	else
		fail_transport(x, "POST /sync", reply);
}

/* ---- the request --------------------------------------------------------- */

static uint64_t
answer_bytes(const struct exchange *x)
{
	if (x->answer_max > ANSWER_MAX / 2 - AEAD_TAG_LEN - ANSWER_FRAME)
		return ANSWER_MAX;
	if (x->answer_max < ANSWER_MIN / 2)
		return ANSWER_MIN + ANSWER_FRAME;
	return 2 * (x->answer_max + AEAD_TAG_LEN) + ANSWER_FRAME;
}

static void
send_request(struct exchange *x)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], hash[2 * SHA256_LEN + 1];
	char timestamp[24];
	struct peer_call request = {
		.kind = PEER_SYNC,
		.answer_max = answer_bytes(x),
		.signature = x->proof.signature,
		.pop_nonce = x->proof.nonce,
		.timestamp = timestamp,
		.wallet = wallet,
		.auth = x->proof.bound ? "v2" : "",
		.content_hash = x->proof.bound ? hash : "",
		.sync_signature = x->sync_signature,
		.sender = x->calls->config.sender,
		.nonce = x->envelope_nonce,
		.data = x->data,
		.data_len = 2 * (x->len + AEAD_TAG_LEN),
		.done = on_answer,
	};
	int error;

	eth_address_format(&x->calls->identity->wallet, wallet);
	hex_encode(x->proof.content_hash, SHA256_LEN, hash);
	(void)snprintf(timestamp, sizeof(timestamp), "%lld",
	    (long long)x->proof.timestamp);
	x->step = STEP_POST;
	error = post(x, &request);
	if (error != 0) {
		fail_step(x, error, "POST /sync");
		return;
	}
	x->data = NULL; /* handed over */
}

static void sign(struct exchange *x);

static void
on_signed(void *arg, int error, const uint8_t *signature, size_t len)
{
	struct exchange *x = arg;

	if (!exchange_is_back(x))
		return;
	if (error == 0 && len != SIGNATURE_LEN)
		error = KMS_ECRYPTO;
	if (error != 0) {
		fail_step(x, error, "signing the request");
		return;
	}
	if (is_outdated(x)) {
		sign(x);
		return;
	}
	signature_format(signature, x->proof.signature);
	send_request(x);
}

static void
sign(struct exchange *x)
{
	struct buf text;
	int error;

	if (is_outdated(x))
		x->proof.bound = x->must_bind = true;
	buf_init(&text, PEER_PROOF_TEXT_MAX);
	x->proof.timestamp = x->calls->now.wall_ms / 1000;
	error = peer_proof_text(&x->proof, &text);
	if (error == 0) {
		x->step = STEP_SIGN;
		x->busy = true;
		identity_sign(
		    x->calls->identity, text.data, text.len, on_signed, x);
	} else {
		fail_step(x, error, "the text to be signed");
	}
	buf_free(&text);
}

/* encrypted_data in hex, the hash of its envelope, X-Sync-Signature. */
static int
compose(struct exchange *x, const uint8_t *sealed, size_t len)
{
	size_t hex_len = 2 * (len - AEAD_NONCE_LEN);
	const char *sender = x->calls->config.sender;
	struct envelope_text text = { sender, strlen(sender), x->envelope_nonce,
		2 * AEAD_NONCE_LEN, NULL, hex_len };
	uint8_t mac[SHA256_LEN];
	int error;

	free(x->data);
	x->data = malloc(hex_len + 1);
	if (x->data == NULL)
		return KMS_ENOMEM;
	hex_encode(sealed, AEAD_NONCE_LEN, x->envelope_nonce);
	hex_encode(sealed + AEAD_NONCE_LEN, len - AEAD_NONCE_LEN, x->data);
	text.data = x->data;
	error = envelope_canonical_hash(&text, x->proof.content_hash);
	if (error != 0 || !x->has_key)
		return error;
	error = envelope_canonical_hmac(x->key, SYNC_KEY_LEN, &text, mac);
	if (error == 0)
		hex_encode(mac, SHA256_LEN, x->sync_signature);
	return error;
}

static void
on_sealed(void *arg, int error, const uint8_t *sealed, size_t len)
{
	struct exchange *x = arg;

	if (!exchange_is_back(x))
		return;
	if (error == 0 && len != AEAD_NONCE_LEN + x->len + AEAD_TAG_LEN)
		error = KMS_ECRYPTO;
	if (error == 0)
		error = compose(x, sealed, len);
	if (!may_go_again(x))
		exchange_drop_body(x);
	if (error != 0) {
		fail_step(x, error, "sealing the request");
		return;
	}
	/* The key is the same both ways: this must not come back as an answer
	 * (section 2, replay window). */
	error = remember(x, sealed);
	if (error != 0) {
		fail_step(x, error, "remembering the request's envelope");
		return;
	}
	sign(x);
}

static void
seal(struct exchange *x)
{
	char text[EXCHANGE_TEXT_MAX];

	/* Time may have passed since it was looked up. */
	if (!is_authorised(x, text)) {
		exchange_fail(x, KMS_EAUTH, text);
		return;
	}
	count_agreement(x);
	x->step = STEP_SEAL;
	x->busy = true;
	identity_seal(x->calls->identity, &x->counterpart->agreement,
	    &x->counterpart->point, x->body.data, x->body.len, on_sealed, x);
}

/* ---- the nonce ----------------------------------------------------------- */

static void
on_nonce(void *arg, uint64_t id, const struct peer_reply *reply)
{
	struct exchange *x = arg;

	(void)id;
	x->post = 0;
	if (reply->kind == PEER_REPLY_ERROR) {
		fail_status(x, "GET /nonce", reply);
	} else if (reply->kind != PEER_REPLY_NONCE) {
		fail_transport(x, "GET /nonce", reply);
	} else if (pop_nonce_check(reply->nonce, strlen(reply->nonce)) != 0) {
		exchange_fail(x, KMS_EPROTO,
		    "GET /nonce: expected 16 to 64 characters of base64, got "
		    "something else");
	} else {
		(void)snprintf(
		    x->proof.nonce, sizeof(x->proof.nonce), "%s", reply->nonce);
		seal(x);
	}
}

static void
attempt(struct exchange *x)
{
	struct peer_call request = {
		.kind = PEER_NONCE, .answer_max = ANSWER_MIN, .done = on_nonce
	};
	int error;

	x->authentic = false;
	x->used_next = x->proof.bound && !x->retried &&
	    peer_node_take_nonce(x->node, x->calls->now, x->proof.nonce);
	if (x->used_next) {
		seal(x);
		return;
	}
	x->step = STEP_NONCE;
	error = post(x, &request);
	if (error != 0)
		fail_step(x, error, "GET /nonce");
}

void
exchange_begin(struct exchange *x)
{
	const struct peer_node *node = x->node;
	char text[EXCHANGE_TEXT_MAX];

	if (!is_authorised(x, text)) {
		exchange_fail(x, KMS_EAUTH, text);
		return;
	}
	x->must_bind = node->ours;
	x->proof.bound =
	    node->ours || node->deployed_ms <= x->calls->now.boot_ms;
	attempt(x);
}
