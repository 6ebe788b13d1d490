#include "kms-keeper/reply.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "crypto/envelope.h"
#include "crypto/pop.h"
#include "kms-keeper/audit.h"
#include "kms-keeper/keeper.h"
#include "kms-keeper/refusal.h"
#include "proto/metrics.h"

#define SIGNED_TEXT_MAX 512

static void
count_refusal(unsigned int status, const char *message)
{
	if (status == 403)
		metrics[METRIC_KEEPER_AUTH_FAILURES +
		    (int)refusal_reason(message)]++;
}

/* ---- the audit trail ---- */

static const char *
reason_of(unsigned int status, const char *message)
{
	if (status == 403)
		return label_set_reason.texts[refusal_reason(message)];
	return status == 200 ? "ok" : answer_app_code(status);
}

static void
record(const struct reply *r, unsigned int status)
{
	struct keeper *k = r->keeper;
	const struct counterpart *c = r->counterpart;
	struct audit_event event = { .kind = r->kind,
		.wallet = &c->wallet,
		.app_id = c->verdict == COUNTERPART_AUTHORISED ? c->app_id : 0,
		.path = r->path,
		.status = status,
		.request = r->handle };

	log_debug(LOG_REQUEST "%u %s", (unsigned long long)r->handle, status,
	    status == 200 ? "" : r->message);
	if (!audit_is_open(k->audit))
		return;
	event.reason = reason_of(status, r->message);
	audit_write(k->audit, &event, k->now);
}

void
reply_drop(const struct reply *r)
{
	struct audit_event event = { .kind = r->kind,
		.wallet = &r->counterpart->wallet,
		.app_id = r->counterpart->app_id,
		.path = r->path,
		.reason = "cancelled",
		.request = r->handle };

	audit_write(r->keeper->audit, &event, r->keeper->now);
}

/* A caller that did not prove who it is. */
static void
record_stranger(struct keeper *k, uint64_t handle, const char *message)
{
	struct audit_event event = {
		.kind = AUDIT_REQUEST, .status = 403, .request = handle
	};

	log_debug(LOG_REQUEST "403 %s", (unsigned long long)handle, message);
	if (!audit_is_open(k->audit))
		return;
	event.reason = reason_of(403, message);
	audit_write(k->audit, &event, k->now);
}

/* ---- errors at once ---- */

void
reply_refuse(struct keeper *k, uint64_t handle, unsigned int status,
    unsigned int retry_after, const char *message)
{
	struct answer answer = {
		.status = status,
		.code = answer_app_code(status),
		.message = message,
		.retry_after = retry_after,
		.signature = "",
		.signature_v2 = "",
		.next_nonce = "",
		.sender = "",
		.nonce = "",
		.data = "",
	};

	count_refusal(status, message);
	if (status == 403)
		record_stranger(k, handle, message);
	k->ops.answer(k->ops.arg, handle, &answer);
}

/* ---- the answer: envelope, then signatures, then out ---- */

static void
send_answer(struct reply *r)
{
	struct keeper *k = r->keeper;
	bool ok = r->status == 200;
	struct answer answer = {
		.status = r->status,
		.code = ok ? "" : answer_app_code(r->status),
		.message = ok ? "" : r->message,
		.retry_after = r->retry_after,
		.signature = r->signature,
		.signature_v2 = r->signature_v2,
		.next_nonce = r->next_nonce,
		.envelope = ok,
		.sender = ok ? k->pubkey_hex : "",
		.nonce = ok ? r->nonce : "",
		.data = ok ? (const char *)r->data.data : "",
		.data_len = ok ? r->data.len : 0,
	};

	record(r, r->status);
	if (!r->cancelled)
		k->ops.answer(k->ops.arg, r->handle, &answer);
	r->done(r);
}

/* Without its signature an answer is worth nothing to its caller. */
static void
give_up(struct reply *r, const char *what, int error)
{
	log_error(LOG_REQUEST "%s: %s", (unsigned long long)r->handle, what,
	    kms_strerror(error));
	record(r, 503);
	if (!r->cancelled)
		reply_refuse(r->keeper, r->handle, 503, REPLY_RETRY_S,
		    "the node cannot sign at the moment");
	r->done(r);
}

static void
on_signed_v2(void *arg, int error, const uint8_t *signature, size_t len)
{
	struct reply *r = arg;

	if (error != 0 || len != SIGNATURE_LEN) {
		give_up(r, "signing", error);
		return;
	}
	signature_format(signature, r->signature_v2);
	send_answer(r);
}

static int
answer_hash(const struct reply *r, uint8_t digest[SHA256_LEN])
{
	struct keeper *k = r->keeper;
	struct envelope_text text = {
		.sender = k->pubkey_hex,
		.sender_len = strlen(k->pubkey_hex),
		.nonce = r->nonce,
		.nonce_len = strlen(r->nonce),
		.data = (const char *)r->data.data,
		.data_len = r->data.len,
	};

	if (r->status != 200)
		return pop_error_hash(
		    answer_app_code(r->status), r->message, digest);
	return envelope_canonical_hash(&text, digest);
}

static void
on_signed(void *arg, int error, const uint8_t *signature, size_t len)
{
	struct reply *r = arg;
	struct keeper *k = r->keeper;
	uint8_t digest[SHA256_LEN];
	struct buf text;

	/* It is decided, and perhaps done, whoever waits for it. */
	if (r->cancelled) {
		record(r, r->status);
		r->done(r);
		return;
	}
	if (error != 0 || len != SIGNATURE_LEN) {
		give_up(r, "signing", error);
		return;
	}
	signature_format(signature, r->signature);
	if (!r->bound) {
		send_answer(r);
		return;
	}
	buf_init(&text, SIGNED_TEXT_MAX);
	error = answer_hash(r, digest);
	if (error == 0)
		error = pop_response_v2_append(r->caller, strlen(r->caller),
		    &k->identity->wallet, r->status, digest, &text);
	if (error == 0)
		identity_sign(
		    k->identity, text.data, text.len, on_signed_v2, r);
	else
		give_up(r, "composing its signature", error);
	buf_free(&text);
}

static void
sign_answer(struct reply *r)
{
	struct keeper *k = r->keeper;
	struct buf text;
	int error;

	buf_init(&text, SIGNED_TEXT_MAX);
	error = pop_response_append(
	    r->caller, strlen(r->caller), &k->identity->wallet, &text);
	if (error == 0)
		identity_sign(k->identity, text.data, text.len, on_signed, r);
	else
		give_up(r, "composing its signature", error);
	buf_free(&text);
}

/* One nonce a wallet travels back; the newer replaces the older. */
static void
attach_next_nonce(struct reply *r)
{
	struct keeper *k = r->keeper;
	struct counterpart *c = r->counterpart;

	if (!r->bound || c->verdict != COUNTERPART_AUTHORISED)
		return;
	if (c->has_next_nonce)
		(void)nonce_consume(k->nonces, c->next_nonce, k->now.boot_ms);
	c->has_next_nonce =
	    nonce_issue_next(k->nonces, k->now.boot_ms, c->next_nonce) == 0;
	if (c->has_next_nonce)
		base64_encode(c->next_nonce, NONCE_LEN, r->next_nonce);
}

static void
finish(struct reply *r, unsigned int status, unsigned int retry_after,
    const char *message)
{
	r->status = status;
	r->retry_after = retry_after;
	(void)snprintf(r->message, sizeof(r->message), "%s", message);
	count_refusal(status, message);
	attach_next_nonce(r);
	sign_answer(r);
}

void
reply_error(struct reply *r, unsigned int status, unsigned int retry_after,
    const char *message)
{
	finish(r, status, retry_after, message);
}

static int
take_sealed(struct reply *r, const uint8_t *sealed, size_t len)
{
	size_t hex_len;
	uint8_t *space;
	int error;

	if (len < AEAD_NONCE_LEN)
		return KMS_ECRYPTO;
	hex_len = 2 * (len - AEAD_NONCE_LEN);
	/* One more for hex_encode's NUL. */
	buf_init(&r->data, hex_len + 1);
	error = buf_reserve(&r->data, hex_len + 1, &space);
	if (error != 0)
		return error;
	hex_encode(sealed, AEAD_NONCE_LEN, r->nonce);
	hex_encode(
	    sealed + AEAD_NONCE_LEN, len - AEAD_NONCE_LEN, (char *)space);
	buf_commit(&r->data, hex_len);
	return 0;
}

static void
on_sealed(void *arg, int error, const uint8_t *sealed, size_t len)
{
	struct reply *r = arg;

	if (r->cancelled) {
		reply_drop(r);
		r->done(r);
		return;
	}
	if (error == 0)
		error = take_sealed(r, sealed, len);
	if (error != 0) {
		log_error(LOG_REQUEST "sealing the answer: %s",
		    (unsigned long long)r->handle, kms_strerror(error));
		finish(r, 503, REPLY_RETRY_S, "the answer cannot be sealed");
		return;
	}
	/* The key is the same both ways: this must not come back as a
	 * request (section 2, replay window). */
	if (!r->forget)
		(void)counterpart_remember(
		    r->counterpart, sealed, r->keeper->now);
	finish(r, 200, 0, "");
}

void
reply_send(struct reply *r, const void *plaintext, size_t len)
{
	struct counterpart *c = r->counterpart;

	reply_count_agreement(c);
	identity_seal(r->keeper->identity, &c->agreement, &c->point, plaintext,
	    len, on_sealed, r);
}

void
reply_count_agreement(const struct counterpart *counterpart)
{
	if (counterpart->agreement == NULL)
		metrics[METRIC_KEEPER_AGREEMENTS]++;
}

void
reply_free(struct reply *r)
{
	buf_free(&r->data);
}
