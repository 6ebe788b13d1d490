/*
 * kms-keeper/peer_call: calls of a peer's /sync, with a peer in process that
 * checks every request and answers as it is told to; what is believed, what
 * is tried again, and that nothing remains of a call, however it ends.
 */
#include <ctype.h>

#include "kms-keeper/peer_call_internal.h"
#include "regress/unit/peer_rig.h"

static int
begin(void **state)
{
	(void)state;
	world_begin(false);
	return 0;
}

static int
begin_slow(void **state)
{
	(void)state;
	world_begin(true);
	return 0;
}

static int
end(void **state)
{
	(void)state;
	assert_true(is_unpinned());
	assert_int_equal(t.post_count, 0);
	world_end();
	return 0;
}

static void
ended(int error, unsigned int status, bool authentic, const char *part)
{
	const struct outcome *o = &t.outcome;

	assert_int_equal(o->calls, 1);
	assert_int_equal(o->id, t.id);
	if (o->error != error || o->status != status ||
	    strstr(o->text, part) == NULL)
		fail_msg("expected %d %u %s, got %d %u %s", error, status, part,
		    o->error, o->status, o->text);
	assert_int_equal(o->authentic, authentic);
	assert_int_equal(o->len, 0);
	assert_null(strstr(o->text, "delta"));
	assert_true(is_unpinned());
}

static void
succeeded(bool bound)
{
	const struct outcome *o = &t.outcome;

	if (o->error != 0)
		fail_msg("%d %u %s", o->error, o->status, o->text);
	assert_int_equal(o->calls, 1);
	assert_int_equal(o->id, t.id);
	assert_int_equal(o->status, 200);
	assert_string_equal(o->text, "");
	assert_string_equal(o->body, t.answer);
	assert_int_equal(o->authentic, bound);
	assert_true(is_unpinned());
}

/* So many GET /nonce and POST /sync of each form since ask. */
static void
asked(unsigned int nonces, unsigned int v2, unsigned int v1)
{
	assert_int_equal(t.nonces_asked, nonces);
	assert_int_equal(t.v2_asked, v2);
	assert_int_equal(t.v1_asked, v1);
}

static bool
ours(void)
{
	return peer_calls_is_ours(t.calls, &t.peer.wallet);
}

/* ---- success ------------------------------------------------------------- */

static void
bound(void **state)
{
	(void)state;
	assert_false(ours());
	call();
	succeeded(true);
	asked(1, 1, 0);
	assert_true(ours());
	/* Without the key there is no X-Sync-Signature. */
	t.with_key = false;
	call();
	succeeded(true);
	asked(1, 1, 0);
}

static void
slow_identity(void **state)
{
	(void)state;
	call();
	succeeded(true);
	t.deployed = false;
	call();
	succeeded(true);
	asked(1, 1, 0);
}

static void
next_nonce(void **state)
{
	struct outcome second;

	(void)state;
	t.gives_next = true;
	call();
	succeeded(true);
	asked(1, 1, 0);
	/* It saves the way there, once. */
	pass(PEER_CALLS_NONCE_MS - 1);
	t.gives_next = false;
	ask();
	assert_int_equal(ask_into(&second), 0);
	settle();
	t.id--;
	succeeded(true);
	assert_int_equal(second.error, 0);
	asked(1, 2, 0);
	/* Not when it is about to expire. */
	t.gives_next = true;
	call();
	asked(1, 1, 0);
	pass(PEER_CALLS_NONCE_MS);
	call();
	succeeded(true);
	asked(1, 1, 0);
	call();
	asked(0, 1, 0);
	/* With a signed error, too. */
	t.status = 503;
	call();
	ended(KMS_EUNAVAIL, 503, true, "503");
	t.status = 200;
	call();
	asked(0, 1, 0);
	succeeded(true);
}

static void
spoil_next_nonce(struct peer_reply *reply)
{
	if (reply->next_nonce[0] != '\0')
		reply->next_nonce[3] = ':';
}

static void
next_nonce_is_checked(void **state)
{
	(void)state;
	t.gives_next = true;
	t.tamper = spoil_next_nonce;
	call();
	succeeded(true);
	call();
	succeeded(true);
	asked(1, 1, 0);
}

static void
next_nonce_refused(void **state)
{
	(void)state;
	t.gives_next = true;
	call();
	/* The peer has restarted. */
	t.nonce_count = 0;
	call();
	succeeded(true);
	asked(1, 2, 0);
	/* A 403 that is the peer's word: once more, and that is it. */
	t.status = 403;
	call();
	ended(KMS_EUNAVAIL, 403, true, "403");
	asked(1, 2, 0);
	/* The second 403 came with a nonce. */
	t.status = 500;
	call();
	asked(0, 1, 0);
	ended(KMS_EUNAVAIL, 500, true, "500");
}

/* ---- v1 ------------------------------------------------------------------ */

static void
fallback(void **state)
{
	(void)state;
	t.deployed = true;
	call();
	succeeded(false);
	asked(2, 1, 1);
	assert_false(ours());
	/* Remembered, for a while. */
	pass(PEER_CALLS_DEPLOYED_MS - 1);
	call();
	succeeded(false);
	asked(1, 0, 1);
	pass(PEER_CALLS_DEPLOYED_MS);
	call();
	succeeded(false);
	asked(2, 1, 1);
	/* It is replaced by one of ours. */
	pass(PEER_CALLS_DEPLOYED_MS);
	t.deployed = false;
	call();
	succeeded(true);
	asked(1, 1, 0);
	assert_true(ours());
}

static void
refuse_v2(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_ERROR && t.v1_asked == 0)
		reply->status = 400;
}

/* Deployed nodes differ in what they make of v2. */
static void
fallback_on_400(void **state)
{
	(void)state;
	t.deployed = true;
	t.tamper = refuse_v2;
	call();
	succeeded(false);
	asked(2, 1, 1);
}

static bool
is_wiped(const struct exchange *x)
{
	static const uint8_t zeros[SYNC_KEY_LEN];

	return x->body.data == NULL && x->calls->held == 0 &&
	    memcmp(x->key, zeros, sizeof(zeros)) == 0;
}

/* Plaintext and key are held no longer than another attempt can want them. */
static void
short_lived_secrets(void **state)
{
	(void)state;
	ask();
	rig_pump(&t.rig);
	answer_one();
	assert_false(is_wiped(t.posts[0].arg)); /* v1 may come */
	settle();
	assert_int_equal(t.calls->held, 0);
	t.gives_next = true;
	ask();
	answer_one();
	assert_true(is_wiped(t.posts[0].arg));
	settle();
	ask();
	assert_false(is_wiped(t.posts[0].arg)); /* its nonce may be refused */
	t.nonce_count = 0;
	answer_one();
	answer_one();
	assert_true(is_wiped(t.posts[0].arg));
	settle();
	succeeded(true);
}

/* A v1 error is forwarded, and is not the peer's word. */
static void
unbound_error(void **state)
{
	(void)state;
	t.deployed = true;
	t.status = 503;
	t.retry_after = 7;
	call();
	ended(KMS_EUNAVAIL, 503, false, "503 (unsigned)");
	assert_int_equal(t.outcome.retry_after, 7);
	asked(2, 1, 1);
	/* No verified answer, nothing remembered. */
	call();
	asked(2, 1, 1);
	t.status = 200;
	call();
	succeeded(false);
	/* v1 refused: the next call begins with v2. */
	t.status = 403;
	call();
	asked(1, 0, 1);
	ended(KMS_EUNAVAIL, 403, false, "403");
	t.status = 200;
	call();
	asked(2, 1, 1);
	succeeded(false);
}

static unsigned int tampered_status;

static void
make_unsigned_error(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_NONCE)
		return;
	free(reply->data);
	memset(reply, 0, sizeof(*reply));
	set_error(reply, tampered_status, "forbidden", "go\x1b[2J away\n");
}

static void
no_downgrade(void **state)
{
	const unsigned int statuses[] = { 400, 403 };

	(void)state;
	call();
	assert_true(ours());
	for (size_t i = 0; i < 2; i++) {
		tampered_status = statuses[i];
		t.tamper = make_unsigned_error;
		call();
		ended(KMS_EUNAVAIL, statuses[i], false, "go?[2J away?");
		asked(1, 1, 0);
		assert_true(ours());
		pass(PEER_CALLS_DEPLOYED_MS);
	}
	/* Nor does it get v1 when it has gone back to it. */
	t.tamper = NULL;
	t.deployed = true;
	call();
	ended(KMS_EUNAVAIL, 403, false, "403");
	asked(1, 1, 0);
}

/* Only 400 and 403 speak of a node that does not know v2. */
static void
other_statuses(void **state)
{
	const unsigned int statuses[] = { 401, 404, 413, 429, 500, 503, 0,
		999 };

	(void)state;
	t.tamper = make_unsigned_error;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		tampered_status = statuses[i];
		call();
		ended(KMS_EUNAVAIL, statuses[i], false, "unsigned");
		asked(1, 1, 0);
	}
	assert_false(ours());
	/* One that is signed is no reason either. */
	t.tamper = NULL;
	t.status = 403;
	t.code = "forbidden";
	t.message = "not a peer";
	call();
	ended(KMS_EUNAVAIL, 403, true, "got 403, forbidden: not a peer");
	asked(1, 1, 0);
	assert_true(ours());
}

/* Two calls at once: while one is on v1, the other finds out. */
static void
ours_meanwhile(void **state)
{
	struct posted v1;
	struct peer_reply reply = { 0 };
	struct outcome second;

	(void)state;
	t.deployed = true;
	ask();
	rig_pump(&t.rig);
	for (int i = 0; i < 3; i++)
		answer_one();
	asked(2, 1, 1);
	v1 = take_post(0);
	t.deployed = false;
	assert_int_equal(ask_into(&second), 0);
	settle();
	assert_int_equal(second.error, 0);
	assert_true(ours());
	/* What is now known of it counts. */
	answer_sync(&v1, &reply);
	deliver(&v1, &reply);
	t.id--;
	ended(KMS_EAUTH, 200, false, "expected v2");
}

/* The same before the v1 request was signed: it goes out as v2. */
static void
ours_before_signing(void **state)
{
	struct outcome second;
	struct posted v1;

	(void)state;
	t.deployed = true;
	ask();
	rig_pump(&t.rig);
	for (int i = 0; i < 2; i++)
		answer_one();
	asked(2, 1, 0);
	v1 = t.posts[0];
	t.post_count = 0;
	t.deployed = false;
	assert_int_equal(ask_into(&second), 0);
	settle();
	assert_true(ours());
	t.posts[t.post_count++] = v1;
	settle();
	t.id--;
	succeeded(true);
	assert_int_equal(t.v1_asked, 0);
}

/* ---- answers that are not believed --------------------------------------- */

static void
wrong_signer(void **state)
{
	(void)state;
	t.signer = &t.other;
	call();
	ended(KMS_EAUTH, 200, false, "X-KMS-Peer-Signature: expected the");
	t.status = 503;
	call();
	ended(KMS_EUNAVAIL, 503, false, "(unsigned)");
	assert_false(ours());
	t.status = 200;
	t.deployed = true;
	call();
	ended(KMS_EAUTH, 200, false, "X-KMS-Peer-Signature: expected the");
	asked(2, 1, 1);
}

static void
drop_v1(struct peer_reply *reply)
{
	reply->signature[0] = '\0';
}

static void
drop_v2(struct peer_reply *reply)
{
	reply->signature_v2[0] = '\0';
}

static void
cut_v2(struct peer_reply *reply)
{
	reply->signature_v2[100] = '\0';
}

static void
swap_signatures(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_ENVELOPE)
		(void)snprintf(reply->signature_v2, sizeof(reply->signature_v2),
		    "%s", reply->signature);
}

static void
missing_signatures(void **state)
{
	(void)state;
	t.tamper = drop_v1;
	call();
	ended(KMS_EAUTH, 200, false, "expected X-KMS-Peer-Signature, none");
	t.tamper = drop_v2;
	call();
	ended(KMS_EAUTH, 200, false,
	    "expected X-KMS-Response-Signature-V2, none");
	asked(1, 1, 0);
	t.tamper = cut_v2;
	call();
	ended(KMS_EAUTH, 200, false, "expected 65 bytes as hex");
	t.tamper = swap_signatures;
	call();
	ended(KMS_EAUTH, 200, false, "X-KMS-Response-Signature-V2: expected");
	assert_false(ours());
	t.deployed = true;
	t.tamper = drop_v1;
	call();
	ended(KMS_EAUTH, 200, false, "expected X-KMS-Peer-Signature, none");
}

static void
change_status(struct peer_reply *reply)
{
	reply->status = 413;
}

static void
change_message(struct peer_reply *reply)
{
	reply->message[0] ^= 1;
}

static void
change_code(struct peer_reply *reply)
{
	reply->code[0] ^= 1;
}

static void
escape_message(struct peer_reply *reply)
{
	reply->message[0] = '"';
}

static void
tampered_errors(void **state)
{
	void (*const tampers[])(struct peer_reply *) = { change_message,
		change_code, escape_message, drop_v2 };

	(void)state;
	t.status = 503;
	t.code = "unavailable";
	t.message = "not ready";
	for (size_t i = 0; i < sizeof(tampers) / sizeof(tampers[0]); i++) {
		t.tamper = tampers[i];
		call();
		ended(KMS_EUNAVAIL, 503, false, "(unsigned)");
	}
	t.tamper = change_status;
	call();
	ended(KMS_EUNAVAIL, 413, false, "(unsigned)");
	assert_false(ours());
	t.tamper = NULL;
	t.retry_after = 30;
	call();
	ended(KMS_EUNAVAIL, 503, true, "503, unavailable: not ready");
	assert_int_equal(t.outcome.retry_after, 30);
	assert_true(ours());
}

static void
plaintext(struct peer_reply *reply)
{
	if (reply->kind != PEER_REPLY_ENVELOPE)
		return;
	reply->data_len = strlen(t.answer);
	memcpy(reply->data, t.answer, reply->data_len);
}

static void
empty(struct peer_reply *reply)
{
	if (reply->kind != PEER_REPLY_ENVELOPE)
		return;
	free(reply->data);
	reply->data = NULL;
	reply->data_len = 0;
}

static void
only_a_tag(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_ENVELOPE)
		reply->data_len = 2 * AEAD_TAG_LEN - 2;
}

/* The peer's word under another key, or not under a key at all. A peer that
 * lies signs it, too: v1 does not cover it, and for v2 see tampered_bodies. */
static void
other_envelopes(void **state)
{
	(void)state;
	t.sealer = &t.other;
	call();
	ended(KMS_EAUTH, 200, true, "sender_tee_pubkey");
	t.deployed = true;
	peer_calls_keep(t.calls, NULL, 0);
	call();
	ended(KMS_EAUTH, 200, false, "sender_tee_pubkey");
	t.sealer = &t.peer;
	t.tamper = plaintext;
	call();
	ended(KMS_EPROTO, 200, false, "expected hex");
	t.tamper = only_a_tag;
	call();
	ended(KMS_EPROTO, 200, false, "expected hex");
	t.tamper = empty;
	call();
	ended(KMS_EPROTO, 200, false, "got none");
	t.tamper = NULL;
	call();
	succeeded(false);
}

static void
spoil_data(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_ENVELOPE)
		reply->data[5] = reply->data[5] == '0' ? '1' : '0';
}

static void
other_sender(struct peer_reply *reply)
{
	uint8_t spki[P384_SPKI_LEN];

	if (reply->kind != PEER_REPLY_ENVELOPE)
		return;
	p384_public_spki(p384_key_point(t.peer.tee), spki);
	hex_encode(spki, sizeof(spki), reply->sender);
}

static void
tampered_bodies(void **state)
{
	(void)state;
	t.tamper = spoil_data;
	call();
	ended(KMS_EAUTH, 200, false, "X-KMS-Response-Signature-V2: expected");
	t.tamper = other_sender;
	t.sealer = &t.other;
	call();
	ended(KMS_EAUTH, 200, false, "X-KMS-Response-Signature-V2: expected");
	/* v1 leaves it to the envelope. */
	t.deployed = true;
	call();
	ended(KMS_EAUTH, 200, false, "does not decrypt");
	t.sealer = &t.peer;
	t.tamper = spoil_data;
	call();
	ended(KMS_EAUTH, 200, false, "does not decrypt");
}

/* The envelope of an earlier answer, or of our own request. */
static struct {
	char *data, nonce[65];
	size_t len;
	bool reflect;
	const struct posted *request;
} old;

static void
keep_envelope(struct peer_reply *reply)
{
	if (reply->kind != PEER_REPLY_ENVELOPE)
		return;
	free(old.data);
	old.data = malloc(reply->data_len);
	assert_non_null(old.data);
	memcpy(old.data, reply->data, reply->data_len);
	old.len = reply->data_len;
	(void)snprintf(old.nonce, sizeof(old.nonce), "%s", reply->nonce);
}

/* Answer the request that waits with that envelope, under a fresh signature of
 * the peer: a v1 one says nothing of the envelope. */
static void
answer_with_old(void)
{
	struct posted p = take_post(0);
	struct peer_reply reply = { 0 };

	assert_int_equal(p.kind, PEER_SYNC);
	seal_reply(&t.peer, "", &reply);
	free(reply.data);
	reply.data = malloc(p.data_len + old.len);
	assert_non_null(reply.data);
	reply.data_len = old.reflect ? p.data_len : old.len;
	memcpy(reply.data, old.reflect ? p.data : old.data, reply.data_len);
	(void)snprintf(reply.nonce, sizeof(reply.nonce), "%s",
	    old.reflect ? p.nonce : old.nonce);
	sign_reply(&p, &reply);
	deliver(&p, &reply);
}

static void
repeated_v1(bool reflect)
{
	t.deployed = true;
	t.tamper = keep_envelope;
	call();
	succeeded(false);
	t.tamper = NULL;
	old.reflect = reflect;
	metrics[METRIC_KEEPER_REPLAYS] = 0;
	ask();
	answer_one();
	answer_with_old();
	ended(KMS_EREPLAY, 200, false, "received or sent before");
	assert_int_equal(metrics[METRIC_KEEPER_REPLAYS], 1);
	free(old.data);
	memset(&old, 0, sizeof(old));
}

static void
replayed_answer_v1(void **state)
{
	(void)state;
	repeated_v1(false);
}

static void
reflected_request_v1(void **state)
{
	(void)state;
	repeated_v1(true);
}

static struct peer_reply kept;

static void
keep_reply(struct peer_reply *reply)
{
	if (reply->kind != PEER_REPLY_ENVELOPE)
		return;
	free(kept.data);
	kept = *reply;
	kept.data = malloc(reply->data_len);
	assert_non_null(kept.data);
	memcpy(kept.data, reply->data, reply->data_len);
}

/* Of the signatures of a bound answer neither holds for another request. */
static void
repeat_reply(struct peer_reply *reply)
{
	char fresh[sizeof(reply->signature)];

	if (reply->kind != PEER_REPLY_ENVELOPE)
		return;
	memcpy(fresh, reply->signature, sizeof(fresh));
	free(reply->data);
	*reply = kept;
	kept.data = NULL;
	if (old.reflect)
		memcpy(reply->signature, fresh, sizeof(fresh));
}

static void
replayed_answer(void **state)
{
	static const char *const parts[] = { "X-KMS-Peer-Signature: expected",
		"X-KMS-Response-Signature-V2: expected" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		t.tamper = keep_reply;
		call();
		succeeded(true);
		old.reflect = i > 0;
		t.tamper = repeat_reply;
		call();
		ended(KMS_EAUTH, 200, false, parts[i]);
	}
	memset(&old, 0, sizeof(old));
}

/* The request itself in the place of the envelope that was signed. */
static void
reflected_request(void **state)
{
	struct peer_reply reply = { 0 };
	struct posted p;

	(void)state;
	call();
	succeeded(true);
	ask();
	answer_one();
	p = take_post(0);
	assert_int_equal(p.kind, PEER_SYNC);
	seal_reply(&t.peer, t.answer, &reply);
	sign_reply(&p, &reply);
	free(reply.data);
	reply.data = malloc(p.data_len);
	assert_non_null(reply.data);
	memcpy(reply.data, p.data, p.data_len);
	reply.data_len = p.data_len;
	(void)snprintf(reply.nonce, sizeof(reply.nonce), "%s", p.nonce);
	deliver(&p, &reply);
	ended(KMS_EAUTH, 200, false, "X-KMS-Response-Signature-V2: expected");
}

/* What is said to one of ours, and by it, takes no room in its window. */
static void
windows_of_ours(void **state)
{
	size_t begun;

	(void)state;
	call();
	succeeded(true);
	assert_true(ours());
	begun = counterparts_replay_count(t.cs);
	assert_in_range(begun, 0, 1); /* it was not known to be ours then */
	for (int i = 0; i < 20; i++) {
		call();
		succeeded(true);
	}
	assert_int_equal(counterparts_replay_count(t.cs), begun);
	/* Of one that is not, both are kept. */
	peer_calls_keep(t.calls, NULL, 0);
	t.deployed = true;
	call();
	succeeded(false);
	begun = counterparts_replay_count(t.cs);
	call();
	succeeded(false);
	assert_int_equal(counterparts_replay_count(t.cs), begun + 2);
}

/* ---- nonces, failures, bounds -------------------------------------------- */

static const char *bad_nonce;

static void
replace_nonce(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_NONCE)
		(void)snprintf(
		    reply->nonce, sizeof(reply->nonce), "%s", bad_nonce);
}

static void
malformed_nonces(void **state)
{
	static const char *const nonces[] = { "", "AAAAAAAAAAAAAAA",
		"AAAAAAAAAAAAAAA:", "AAAAAAAA=AAAAAAA",
		"AAAAAAAAAAAAA===", "0x0123456789abcdef:0x",
		"AAAAAAAAAAAAAAA\n" };

	(void)state;
	t.tamper = replace_nonce;
	for (size_t i = 0; i < sizeof(nonces) / sizeof(nonces[0]); i++) {
		bad_nonce = nonces[i];
		call();
		ended(KMS_EPROTO, 0, false, "GET /nonce: expected 16 to 64");
		asked(1, 0, 0);
	}
}

/* Answer what waits with a failure of kms-chain, or what is of no kind. */
static void
fail_post(enum peer_reply_kind kind, enum peer_failure failure)
{
	struct posted p = take_post(0);
	struct peer_reply reply = { .kind = kind,
		.failure = failure,
		.status = 429,
		.retry_after = 9,
		.text = "no route\x07" };

	deliver(&p, &reply);
}

static void
failures(void **state)
{
	static const struct {
		enum peer_failure failure;
		int error;
	} rows[] = {
		{ PEER_FAILURE_REFUSED, KMS_EINVAL },
		{ PEER_FAILURE_UNREACHABLE, KMS_EUNAVAIL },
		{ PEER_FAILURE_TLS, KMS_EAUTH },
		{ PEER_FAILURE_TIMEOUT, KMS_ETIMEOUT },
		{ PEER_FAILURE_MALFORMED, KMS_EPROTO },
		{ PEER_FAILURE_TOO_BIG, KMS_ETOOBIG },
		{ PEER_FAILURE_BUSY, KMS_EBUSY },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ask();
		rig_pump(&t.rig);
		fail_post(PEER_REPLY_FAILED, rows[i].failure);
		ended(rows[i].error, 0, false, "GET /nonce: no route?");
		ask();
		answer_one();
		fail_post(PEER_REPLY_FAILED, rows[i].failure);
		ended(rows[i].error, 0, false, "POST /sync: no route?");
	}
	ask();
	fail_post(PEER_REPLY_ERROR, 0);
	ended(KMS_EUNAVAIL, 429, false, "GET /nonce: expected HTTP status 200");
	assert_int_equal(t.outcome.retry_after, 9);
	ask();
	fail_post(PEER_REPLY_STATUS, 0);
	ended(KMS_EPROTO, 0, false, "to another");
	ask();
	answer_one();
	fail_post(PEER_REPLY_NONCE, 0);
	ended(KMS_EPROTO, 0, false, "to another");
}

static void
no_kms_chain(void **state)
{
	struct outcome outcome;

	(void)state;
	call();
	t.post_error = KMS_EUNAVAIL;
	assert_int_equal(ask_into(&outcome), KMS_EUNAVAIL);
	t.post_error = KMS_EBUSY;
	assert_int_equal(ask_into(&outcome), KMS_EBUSY);
	/* What is no matter of now is told by the next tick. */
	t.post_error = KMS_EPROTO;
	ask();
	pass(0);
	ended(KMS_EPROTO, 0, false, "GET /nonce");
	/* Gone in the middle of it. */
	t.post_error = 0;
	ask();
	t.post_error = KMS_EUNAVAIL;
	answer_one();
	ended(KMS_EUNAVAIL, 0, false, "POST /sync");
}

static void
verdicts(void **state)
{
	struct instance_facts *facts = rig_instance(&t.rig, &t.peer.wallet);
	struct outcome outcome;

	(void)state;
	t.rig.down = true;
	assert_int_equal(ask_into(&outcome), KMS_EUNAVAIL);
	t.rig.down = false;
	t.rig.fail = 1U << REGISTRY_INSTANCE;
	call();
	ended(KMS_EUNAVAIL, 0, false, "registry cannot be read");
	asked(0, 0, 0);
	t.rig.fail = 0;
	facts->app_id = facts->app_id_answered = RIG_KMS_APP + 1;
	call();
	ended(KMS_EAUTH, 0, false, "expected an instance of app 49, the regis");
	asked(0, 0, 0);
	/* Now it is known: told by a tick. */
	ask();
	assert_int_equal(t.outcome.calls, 0);
	pass(100);
	ended(KMS_EAUTH, 0, false, "app 50");
	pass(200000);
	facts->status = 1;
	call();
	ended(KMS_EAUTH, 0, false, "not ACTIVE");
	pass(200000);
	facts->status = 0;
	facts->app_id = facts->app_id_answered = RIG_KMS_APP;
	call();
	succeeded(true);
}

/* The registry changes its mind during a call: at each step that reads it. */
static void
revoked_meanwhile(void **state)
{
	struct counterpart *c =
	    counterpart_pin(t.cs, &t.peer.wallet, t.rig.now);

	(void)state;
	counterpart_unpin(c);
	for (int steps = 0; steps < 2; steps++) {
		ask();
		rig_pump(&t.rig);
		for (int i = 0; i < steps; i++)
			answer_one();
		c->app_id++;
		answer_one();
		ended(KMS_EAUTH, steps == 0 ? 0 : 200, steps == 1,
		    "expected an instance of app");
		c->app_id--;
	}
}

static void
bounds(void **state)
{
	struct outcome outcomes[PEER_CALLS_A_PEER], more;
	struct peer_question q = question();
	char url[2050];
	uint64_t id;

	(void)state;
	for (size_t i = 0; i < PEER_CALLS_A_PEER; i++)
		assert_int_equal(ask_into(&outcomes[i]), 0);
	assert_int_equal(ask_into(&more), KMS_EBUSY);
	peer_calls_cancel(t.calls, t.id);
	assert_int_equal(ask_into(&more), 0);
	settle();
	for (size_t i = 0; i < PEER_CALLS_A_PEER - 1; i++)
		assert_int_equal(outcomes[i].error, 0);
	assert_int_equal(outcomes[PEER_CALLS_A_PEER - 1].calls, 0);
	assert_int_equal(more.calls, 1);
	memset(url, 'a', sizeof(url));
	url[2049] = '\0';
#define REFUSED(error)                                                         \
	assert_int_equal(                                                      \
	    peer_calls_ask(t.calls, &q, t.rig.now, on_outcome, &more, &id),    \
	    error);                                                            \
	q = question()
	q.url = url;
	REFUSED(KMS_EINVAL);
	q.url = "";
	REFUSED(KMS_EINVAL);
	q.url = NULL;
	REFUSED(KMS_EINVAL);
	q.len = 0;
	REFUSED(KMS_EINVAL);
	q.timeout_ms = 0;
	REFUSED(KMS_EINVAL);
	q.wallet = t.rig.identity->wallet;
	REFUSED(KMS_EINVAL);
	q.len = PEER_CALLS_BODIES_MAX + 1;
	REFUSED(KMS_EBUSY);
#undef REFUSED
	url[2048] = '\0';
	q.url = url;
	q.timeout_ms = UINT64_MAX;
	q.answer_max = SIZE_MAX;
	assert_int_equal(
	    peer_calls_ask(t.calls, &q, t.rig.now, on_outcome, &more, &id), 0);
	assert_int_equal(t.posts[0].timeout_ms, 600000);
	pass(INT64_C(1) << 40);
	peer_calls_cancel(t.calls, id);
	peer_calls_cancel(t.calls, id);
	peer_calls_cancel(t.calls, 0);
}

static void
answer_size(void **state)
{
	(void)state;
	t.answer_max = strlen(t.answer);
	call();
	succeeded(true);
	t.answer_max--;
	call();
	ended(KMS_ETOOBIG, 200, true, "larger than its limit");
	t.answer_max = SIZE_MAX;
	ask();
	answer_one();
	assert_int_equal(t.posts[0].answer_max, 64 << 20);
	settle();
	t.answer_max = 1 << 20;
	ask();
	answer_one();
	assert_in_range(
	    t.posts[0].answer_max, (2 << 20) + 32 + 600, (2 << 20) + 2000);
	settle();
	succeeded(true);
}

/* ---- time, and ends in the middle ---------------------------------------- */

/* As far as this step with a slow identity: 0 verdict, 1 nonce, 2 seal, 3
 * sign, 4 post, 5 open. */
static void
advance(int step)
{
	t.cancelled = 0;
	t.rig.stall = 1U << REGISTRY_INSTANCE;
	ask();
	if (step >= 1) {
		t.rig.stall = 0;
		rig_pump(&t.rig);
	}
	if (step >= 2)
		answer_one();
	for (int i = 3; i <= step && i <= 4; i++)
		run_identity();
	if (step >= 5)
		answer_one();
	assert_int_equal(t.post_count, step == 1 || step == 4);
	assert_int_equal(t.later_count, step == 2 || step == 3 || step == 5);
	assert_int_equal(t.rig.queued, step == 0);
	assert_int_equal(t.outcome.calls, 0);
}

/* The verdict is forgotten, the identity comes back; nothing comes of it. */
static void
late(int step)
{
	unsigned int calls = t.outcome.calls;

	assert_int_equal(t.cancelled, step == 1 || step == 4);
	assert_int_equal(is_unpinned(), t.later_count == 0);
	settle();
	t.rig.stall = 0;
	rig_pump(&t.rig);
	assert_int_equal(t.outcome.calls, calls);
	assert_int_equal(t.post_count, 0);
	assert_true(is_unpinned());
	world_end();
	world_begin(true);
}

static void
timeouts(void **state)
{
	static const char *const texts[] = { "registry's word", "nonce",
		"envelope", "request's signature", "answer to POST",
		"opening" };

	(void)state;
	for (int step = 0; step <= 5; step++) {
		advance(step);
		pass(9999);
		assert_int_equal(t.outcome.calls, 0);
		pass(1);
		assert_int_equal(t.outcome.calls, 1);
		assert_int_equal(t.outcome.error, KMS_ETIMEOUT);
		assert_int_equal(t.outcome.elapsed_ms, 10000);
		assert_non_null(strstr(t.outcome.text, texts[step]));
		assert_non_null(strstr(t.outcome.text, "10000 ms"));
		pass(10000);
		late(step);
	}
}

/* Each post gets what is left of the time. */
static void
time_left(void **state)
{
	(void)state;
	ask();
	rig_pump(&t.rig);
	assert_int_equal(t.posts[0].timeout_ms, 10000);
	pass(4000);
	answer_one();
	assert_int_equal(t.posts[0].timeout_ms, 6000);
	pass(1000);
	settle();
	succeeded(true);
	assert_int_equal(t.outcome.elapsed_ms, 5000);
}

static void
cancelled(void **state)
{
	(void)state;
	for (int step = 0; step <= 5; step++) {
		advance(step);
		peer_calls_cancel(t.calls, t.id);
		pass(20000);
		late(step);
	}
}

/* An operation that hangs holds its place: memory stays bounded. */
static void
hanging_identity(void **state)
{
	struct outcome more;

	(void)state;
	for (int i = 0; i < PEER_CALLS_A_PEER; i++) {
		ask();
		rig_pump(&t.rig);
		answer_one();
		peer_calls_cancel(t.calls, t.id);
	}
	assert_int_equal(t.later_count, PEER_CALLS_A_PEER);
	assert_int_equal(ask_into(&more), KMS_EBUSY);
	run_identity();
	assert_int_equal(ask_into(&more), 0);
	settle();
	assert_int_equal(more.calls, 1);
	assert_int_equal(more.error, 0);
}

static void
freed(void **state)
{
	(void)state;
	for (int step = 0; step <= 5; step++) {
		advance(step);
		world_end();
		world_begin(true);
	}
}

static uint64_t victim;
static unsigned int chain;

static void
on_chain(void *arg, uint64_t id, const struct peer_outcome *outcome)
{
	struct peer_question q = question();
	uint64_t next;

	assert_ptr_equal(arg, &chain);
	assert_int_equal(outcome->error, 0);
	peer_calls_cancel(t.calls, id);
	peer_calls_cancel(t.calls, victim);
	if (++chain < 20)
		assert_int_equal(peer_calls_ask(t.calls, &q, t.rig.now,
				     on_chain, arg, &next),
		    0);
}

/* done may ask again and end others; a tick comes to its end all the same. */
static void
from_within(void **state)
{
	struct peer_question q = question();
	uint64_t id;

	(void)state;
	chain = 0;
	ask();
	victim = t.id;
	assert_int_equal(
	    peer_calls_ask(t.calls, &q, t.rig.now, on_chain, &chain, &id), 0);
	rig_pump(&t.rig);
	for (int i = 0; i < 2; i++) {
		struct posted first = t.posts[0];

		t.posts[0] = t.posts[1];
		t.posts[1] = first;
		answer_one();
	}
	settle();
	assert_int_equal(chain, 20);
	assert_in_range(t.outcome.calls, 0, 1);
}

static void
keep(void **state)
{
	struct eth_address wallets[2] = { t.other.wallet, t.peer.wallet };

	(void)state;
	t.gives_next = true;
	call();
	peer_calls_keep(t.calls, wallets, 2);
	assert_true(ours());
	assert_false(peer_calls_is_ours(t.calls, &t.other.wallet));
	/* One under way is held to what it began with. */
	ask();
	peer_calls_keep(t.calls, wallets, 1);
	assert_false(ours());
	tampered_status = 400;
	t.tamper = make_unsigned_error;
	settle();
	ended(KMS_EUNAVAIL, 400, false, "400");
	asked(0, 1, 0);
	t.tamper = NULL;
	call();
	asked(1, 1, 0);
	succeeded(true);
}

/* ---- faults -------------------------------------------------------------- */

static struct {
	uint64_t random;
	bool hit;
	struct peer_reply before;
	char *data;
} fault;

static uint64_t
draw(uint64_t below)
{
	fault.random ^= fault.random << 13;
	fault.random ^= fault.random >> 7;
	fault.random ^= fault.random << 17;
	return (fault.random >> 11) % below;
}

static void
flip(char *text, size_t len)
{
	if (len > 0)
		text[draw(len)] ^= (char)(1U << draw(8));
}

static void
inject(struct peer_reply *reply)
{
	if (reply->kind == PEER_REPLY_NONCE)
		return;
	fault.hit = true;
	fault.before = *reply;
	free(fault.data);
	fault.data = malloc(reply->data_len + 1);
	assert_non_null(fault.data);
	if (reply->data_len > 0)
		memcpy(fault.data, reply->data, reply->data_len);
	switch (draw(reply->kind == PEER_REPLY_ENVELOPE ? 6 : 4)) {
	case 0:
		flip(reply->signature, strlen(reply->signature));
		break;
	case 1:
		flip(reply->signature_v2, strlen(reply->signature_v2));
		break;
	case 2:
		if (reply->kind == PEER_REPLY_ERROR)
			flip(reply->code, strlen(reply->code));
		else
			flip(reply->sender, strlen(reply->sender));
		break;
	case 3:
		if (reply->kind == PEER_REPLY_ERROR)
			flip(reply->message, strlen(reply->message));
		else
			flip(reply->nonce, strlen(reply->nonce));
		break;
	case 4:
		flip(reply->data, reply->data_len);
		break;
	default:
		reply->data_len -= draw(3);
		break;
	}
	memcpy(fault.before.text, reply->signature, 161);
	memcpy(fault.before.unavailable, reply->signature_v2, 161);
}

static bool
same_text(const char *a, const char *b)
{
	while (*a != '\0' &&
	    tolower((unsigned char)*a) == tolower((unsigned char)*b))
		a++, b++;
	return *a == *b;
}

/* Were the signatures, as they came, those that were sent, but for case? */
static bool
signatures_stand(bool v1, bool v2)
{
	return (!v1 || same_text(fault.before.signature, fault.before.text)) &&
	    (!v2 ||
		same_text(fault.before.signature_v2, fault.before.unavailable));
}

static void
faulty_answers(bool deployed, int rounds)
{
	int good = 0;

	t.deployed = deployed;
	t.tamper = inject;
	for (int i = 0; i < rounds; i++) {
		fault.hit = false;
		call();
		assert_true(fault.hit);
		assert_int_equal(t.outcome.calls, 1);
		if (t.outcome.error == 0) {
			assert_string_equal(t.outcome.body, t.answer);
			assert_true(signatures_stand(true, !deployed));
			good++;
		} else {
			assert_int_equal(t.outcome.len, 0);
		}
		assert_true(is_unpinned());
	}
	/* Case in signatures; in v1 in the envelope, and V2's is not read. */
	assert_in_range(good, 1, rounds / 2);
}

static void
faults_v2(void **state)
{
	(void)state;
	fault.random = 0x13198a2e03707344;
	faulty_answers(false, 400);
}

static void
faults_v1(void **state)
{
	(void)state;
	fault.random = 0xa4093822299f31d0;
	faulty_answers(true, 400);
}

/* Of an error only the signature of v1 does not count. */
static void
faults_of_errors(void **state)
{
	(void)state;
	call();
	fault.random = 0x082efa98ec4e6c89;
	t.tamper = inject;
	t.status = 503;
	t.code = "unavailable";
	t.message = "the node is not ready";
	for (int i = 0; i < 300; i++) {
		call();
		assert_int_equal(t.outcome.calls, 1);
		assert_int_equal(t.outcome.error, KMS_EUNAVAIL);
		if (t.outcome.authentic) {
			assert_true(signatures_stand(false, true));
			assert_non_null(strstr(t.outcome.text, t.message));
			assert_non_null(strstr(t.outcome.text, t.code));
		}
	}
	free(fault.data);
	fault.data = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
#define SLOW(name) cmocka_unit_test_setup_teardown(name, begin_slow, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(bound),
		SLOW(slow_identity),
		TEST(next_nonce),
		TEST(next_nonce_is_checked),
		TEST(next_nonce_refused),
		TEST(fallback),
		SLOW(fallback),
		TEST(fallback_on_400),
		TEST(short_lived_secrets),
		TEST(unbound_error),
		TEST(no_downgrade),
		TEST(other_statuses),
		TEST(ours_meanwhile),
		TEST(ours_before_signing),
		TEST(wrong_signer),
		TEST(missing_signatures),
		TEST(tampered_errors),
		TEST(other_envelopes),
		TEST(tampered_bodies),
		TEST(replayed_answer),
		TEST(replayed_answer_v1),
		TEST(reflected_request),
		TEST(reflected_request_v1),
		TEST(windows_of_ours),
		TEST(malformed_nonces),
		TEST(failures),
		TEST(no_kms_chain),
		TEST(verdicts),
		TEST(revoked_meanwhile),
		TEST(bounds),
		TEST(answer_size),
		SLOW(timeouts),
		TEST(time_left),
		SLOW(cancelled),
		SLOW(hanging_identity),
		SLOW(freed),
		TEST(from_within),
		TEST(keep),
		TEST(faults_v2),
		TEST(faults_v1),
		TEST(faults_of_errors),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
