/*
 * A peer in process for the tests of calls to one: it checks every request as
 * a node does, and answers with keys of its own, as one of our nodes or as a
 * deployed one. And an identity whose results come later.
 */
#ifndef KMS_REGRESS_PEER_RIG_H
#define KMS_REGRESS_PEER_RIG_H

#include "kms-keeper/derive.h"
#include "kms-keeper/peer_call.h"
#include "regress/unit/keeper_client.h"

#define POSTS_MAX 64
#define LATER_MAX 32
#define NONCES_MAX 64

struct posted {
	uint64_t id;
	enum peer_kind kind;
	char url[64];
	uint64_t timeout_ms, answer_max;
	char signature[161], pop_nonce[129], timestamp[33], wallet[65];
	char auth[17], content_hash[129], sync_signature[129];
	char sender[513], nonce[65];
	char *data;
	size_t data_len;
	peer_done_fn done;
	void *arg;
};

/* An identity operation that waits. */
struct later {
	char kind; /* 's': sign, 'o': open, 'e': seal */
	struct agreement **agreement;
	const struct p384_point *other;
	uint8_t nonce[AEAD_NONCE_LEN];
	uint8_t *in;
	size_t len;
	identity_done_fn done;
	void *arg;
};

struct outcome {
	unsigned int calls;
	uint64_t id;
	int error;
	unsigned int status, retry_after;
	bool authentic;
	uint64_t elapsed_ms;
	char body[4096];
	size_t len;
	char text[1024];
};

static struct peer_world {
	struct rig rig;
	struct counterparts *cs;
	struct identity slow; /* answers when run_identity says so */
	struct later later[LATER_MAX];
	size_t later_count;
	struct peer_calls *calls;
	struct client peer, other;

	struct posted posts[POSTS_MAX]; /* that wait for an answer */
	size_t post_count;
	unsigned int nonces_asked, v1_asked, v2_asked, cancelled;
	int post_error; /* what the next ones end with */

	/* the peer */
	bool deployed;	 /* knows no v2 */
	bool gives_next; /* a nonce with its answer */
	unsigned int status;
	const char *code, *message;
	unsigned int retry_after;
	const char *answer;	     /* plaintext of a 200 */
	const struct client *signer; /* of its answers */
	const struct client *sealer;
	void (*tamper)(struct peer_reply *reply); /* on the way back */
	char nonces[NONCES_MAX][65];		  /* that it will take */
	size_t nonce_count;
	struct posted last; /* PEER_SYNC; its data is freed at the end */

	/* the question */
	char body[256];
	uint8_t key[SYNC_KEY_LEN];
	bool with_key;
	uint64_t timeout_ms;
	size_t answer_max;
	uint64_t id;
	struct outcome outcome;
} t;

/* ---- the identity that takes its time ------------------------------------ */

static inline void
later_add(char kind, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *nonce, const void *in,
    size_t len, identity_done_fn done, void *arg)
{
	struct later *l = &t.later[t.later_count++];

	assert_true(t.later_count <= LATER_MAX);
	*l = (struct later){ .kind = kind,
		.agreement = agreement,
		.other = other,
		.len = len,
		.done = done,
		.arg = arg };
	if (nonce != NULL)
		memcpy(l->nonce, nonce, AEAD_NONCE_LEN);
	l->in = malloc(len + 1);
	assert_non_null(l->in);
	memcpy(l->in, in, len);
}

static inline void
slow_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg)
{
	(void)identity;
	later_add('s', NULL, NULL, NULL, message, len, done, arg);
}

static inline void
slow_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	(void)identity;
	later_add('o', agreement, other, nonce, sealed, len, done, arg);
}

static inline void
slow_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	(void)identity;
	later_add('e', agreement, other, NULL, plaintext, len, done, arg);
}

/* The oldest operation is done now, through the local keys. */
static inline void
run_identity(void)
{
	struct later l = t.later[0];
	struct identity *local = t.rig.identity;

	assert_true(t.later_count > 0);
	t.later_count--;
	memmove(t.later, t.later + 1, t.later_count * sizeof(t.later[0]));
	if (l.kind == 's')
		identity_sign(local, l.in, l.len, l.done, l.arg);
	else if (l.kind == 'o')
		identity_open(local, l.agreement, l.other, l.nonce, l.in, l.len,
		    l.done, l.arg);
	else
		identity_seal(
		    local, l.agreement, l.other, l.in, l.len, l.done, l.arg);
	free(l.in);
}

/* ---- between node and peer ----------------------------------------------- */

static inline int
rig_post(void *arg, const struct peer_call *call, uint64_t *id)
{
	struct posted *p = &t.posts[t.post_count];
	static uint64_t last;

	(void)arg;
	if (t.post_error != 0)
		return t.post_error;
	assert_in_range(call->timeout_ms, 1, 600000);
	assert_in_range(call->answer_max, 65536, 64 << 20);
	assert_true(t.post_count < POSTS_MAX);
	memset(p, 0, sizeof(*p));
	p->id = *id = ++last;
	p->kind = call->kind;
	p->timeout_ms = call->timeout_ms;
	p->answer_max = call->answer_max;
#define COPY(member)                                                           \
	(void)snprintf(p->member, sizeof(p->member), "%s",                     \
	    call->member != NULL ? call->member : "")
	COPY(url);
	COPY(signature);
	COPY(pop_nonce);
	COPY(timestamp);
	COPY(wallet);
	COPY(auth);
	COPY(content_hash);
	COPY(sync_signature);
	COPY(sender);
	COPY(nonce);
#undef COPY
	p->data = call->data;
	p->data_len = call->data_len;
	p->done = call->done;
	p->arg = call->arg;
	t.post_count++;
	if (call->kind == PEER_NONCE)
		t.nonces_asked++;
	else if (p->auth[0] != '\0')
		t.v2_asked++;
	else
		t.v1_asked++;
	return 0;
}

static inline struct posted
take_post(size_t at)
{
	struct posted p = t.posts[at];

	assert_true(at < t.post_count);
	t.post_count--;
	memmove(&t.posts[at], &t.posts[at + 1],
	    (t.post_count - at) * sizeof(t.posts[0]));
	return p;
}

static inline void
rig_cancel(void *arg, uint64_t id)
{
	(void)arg;
	for (size_t i = 0; i < t.post_count; i++) {
		if (t.posts[i].id == id) {
			free(take_post(i).data);
			t.cancelled++;
			return;
		}
	}
	fail_msg("a post that is not under way was cancelled");
}

/* ---- the peer ------------------------------------------------------------ */

static inline void
make_nonce(char out[65])
{
	uint8_t nonce[NONCE_LEN];

	rig_random(&t.rig, nonce, sizeof(nonce));
	base64_encode(nonce, sizeof(nonce), out);
	assert_true(t.nonce_count < NONCES_MAX);
	memcpy(t.nonces[t.nonce_count++], out, BASE64_LEN(NONCE_LEN) + 1);
}

static inline bool
use_nonce(const char *nonce)
{
	for (size_t i = 0; i < t.nonce_count; i++) {
		if (strcmp(t.nonces[i], nonce) == 0) {
			memcpy(t.nonces[i], t.nonces[--t.nonce_count], 65);
			return true;
		}
	}
	return false;
}

static inline void
sign_text(const struct client *by, const struct buf *text, char out[161])
{
	uint8_t signature[SIGNATURE_LEN];

	assert_int_equal(wallet_sign_message(by->wallets, by->key, text->data,
			     text->len, signature),
	    0);
	signature_format(signature, out);
}

/* Sign what the reply says, as an answer to p. */
static inline void
sign_reply(const struct posted *p, struct peer_reply *reply)
{
	struct envelope_text envelope = { reply->sender, strlen(reply->sender),
		reply->nonce, strlen(reply->nonce), reply->data,
		reply->data_len };
	bool ok = reply->kind == PEER_REPLY_ENVELOPE;
	uint8_t hash[SHA256_LEN];
	struct buf text;

	buf_init(&text, 1024);
	assert_int_equal(pop_response_append(p->signature, strlen(p->signature),
			     &t.peer.wallet, &text),
	    0);
	sign_text(t.signer, &text, reply->signature);
	reply->signature_v2[0] = '\0';
	if (!t.deployed && strcmp(p->auth, "v2") == 0) {
		buf_clear(&text);
		assert_int_equal(ok
			? envelope_canonical_hash(&envelope, hash)
			: pop_error_hash(reply->code, reply->message, hash),
		    0);
		assert_int_equal(
		    pop_response_v2_append(p->signature, strlen(p->signature),
			&t.peer.wallet, ok ? 200 : reply->status, hash, &text),
		    0);
		sign_text(t.signer, &text, reply->signature_v2);
	}
	buf_free(&text);
}

/* As the peer reads the headers: is the proof one, in the form it knows? */
static inline bool
proof_holds(const struct posted *p)
{
	struct pop_request request = { .kind = POP_NODE,
		.nonce = p->pop_nonce,
		.nonce_len = strlen(p->pop_nonce),
		.recipient = t.peer.wallet };
	struct pop_binding binding = { "POST", 4, "/sync", 5, { 0 } };
	bool bound = !t.deployed && strcmp(p->auth, "v2") == 0;
	uint8_t signature[SIGNATURE_LEN];
	struct eth_address signer;
	struct buf text;

	buf_init(&text, 1024);
	assert_int_equal(pop_timestamp_parse(p->timestamp, strlen(p->timestamp),
			     &request.timestamp),
	    0);
	assert_in_range(request.timestamp, t.rig.now.wall_ms / 1000 - 120,
	    t.rig.now.wall_ms / 1000);
	assert_int_equal(
	    signature_parse(p->signature, strlen(p->signature), signature), 0);
	if (bound) {
		assert_int_equal(
		    hex_decode_exact(p->content_hash, strlen(p->content_hash),
			binding.content_hash, SHA256_LEN),
		    0);
		assert_int_equal(
		    pop_request_v2_append(&request, &binding, &text), 0);
	} else {
		assert_int_equal(pop_request_append(&request, &text), 0);
	}
	assert_int_equal(wallet_recover_message(t.peer.wallets, text.data,
			     text.len, signature, &signer),
	    0);
	buf_free(&text);
	return eth_address_equal(&signer, &t.rig.identity->wallet);
}

/* The body is what the headers say, and holds what was to be sent. */
static inline void
check_body(const struct posted *p)
{
	struct envelope_text text = { p->sender, strlen(p->sender), p->nonce,
		strlen(p->nonce), p->data, p->data_len };
	uint8_t digest[SHA256_LEN], nonce[AEAD_NONCE_LEN], *sealed;
	char hex[2 * SHA256_LEN + 1];
	struct p384_point sender;
	size_t len;

	assert_int_equal(envelope_canonical_hash(&text, digest), 0);
	hex_encode(digest, SHA256_LEN, hex);
	assert_string_equal(p->content_hash, p->auth[0] != '\0' ? hex : "");
	assert_int_equal(
	    envelope_canonical_hmac(t.key, SYNC_KEY_LEN, &text, digest), 0);
	hex_encode(digest, SHA256_LEN, hex);
	assert_string_equal(p->sync_signature, t.with_key ? hex : "");
	sealed = malloc(p->data_len);
	assert_non_null(sealed);
	assert_int_equal(
	    envelope_decode(&text, &sender, nonce, sealed, p->data_len, &len),
	    0);
	assert_true(p384_point_equal(&sender, &t.rig.identity->point));
	assert_int_equal(
	    envelope_open(t.peer.shared, p384_key_point(t.peer.tee), &sender,
		nonce, sealed, len, sealed),
	    0);
	assert_int_equal(len - AEAD_TAG_LEN, strlen(t.body));
	assert_memory_equal(sealed, t.body, strlen(t.body));
	free(sealed);
}

/* The data is malloc'd. */
static inline void
seal_reply(
    const struct client *by, const char *answer, struct peer_reply *reply)
{
	size_t len = strlen(answer);
	uint8_t nonce[AEAD_NONCE_LEN], spki[P384_SPKI_LEN];
	uint8_t *sealed = malloc(len + AEAD_TAG_LEN);

	assert_non_null(sealed);
	reply->kind = PEER_REPLY_ENVELOPE;
	rig_random(&t.rig, nonce, sizeof(nonce));
	assert_int_equal(
	    envelope_seal(by->shared, p384_key_point(by->tee),
		&t.rig.identity->point, nonce, answer, len, sealed),
	    0);
	reply->data_len = 2 * (len + AEAD_TAG_LEN);
	reply->data = malloc(reply->data_len + 1);
	assert_non_null(reply->data);
	hex_encode(sealed, len + AEAD_TAG_LEN, reply->data);
	free(sealed);
	hex_encode(nonce, sizeof(nonce), reply->nonce);
	p384_public_spki(p384_key_point(by->tee), spki);
	hex_encode(spki, sizeof(spki), reply->sender);
}

static inline void
set_error(struct peer_reply *reply, unsigned int status, const char *code,
    const char *message)
{
	reply->kind = PEER_REPLY_ERROR;
	reply->status = status;
	reply->retry_after = t.retry_after;
	(void)snprintf(reply->code, sizeof(reply->code), "%s", code);
	(void)snprintf(reply->message, sizeof(reply->message), "%s", message);
}

static inline void
answer_sync(const struct posted *p, struct peer_reply *reply)
{
	if (!use_nonce(p->pop_nonce)) {
		set_error(reply, 403, "forbidden", "X-KMS-Nonce: not ours");
		return;
	}
	if (!proof_holds(p)) {
		set_error(reply, 403, "", "");
		return;
	}
	check_body(p);
	if (t.status == 200)
		seal_reply(t.sealer, t.answer, reply);
	else
		set_error(reply, t.status, t.code, t.message);
	sign_reply(p, reply);
	if (reply->signature_v2[0] != '\0' && t.gives_next)
		make_nonce(reply->next_nonce);
}

static inline void
deliver(struct posted *p, struct peer_reply *reply)
{
	if (t.tamper != NULL)
		t.tamper(reply);
	peer_calls_set_time(t.calls, t.rig.now);
	p->done(p->arg, p->id, reply);
	free(reply->data);
	if (p->kind == PEER_SYNC) {
		free(t.last.data);
		t.last = *p;
	}
}

/* The peer answers what was asked first. */
static inline void
answer_one(void)
{
	struct posted p = take_post(0);
	struct peer_reply reply = { .kind = PEER_REPLY_NONCE };

	assert_string_equal(p.url, "https://peer.example/base");
	if (p.kind == PEER_NONCE)
		make_nonce(reply.nonce);
	else
		answer_sync(&p, &reply);
	deliver(&p, &reply);
}

/* Everything that can happen without time does. */
static inline void
settle(void)
{
	rig_pump(&t.rig);
	while (t.post_count > 0 || t.later_count > 0) {
		if (t.later_count > 0)
			run_identity();
		else
			answer_one();
	}
}

/* ---- asking -------------------------------------------------------------- */

static inline void
on_outcome(void *arg, uint64_t id, const struct peer_outcome *o)
{
	struct outcome *to = arg;

	to->calls++;
	to->id = id;
	to->error = o->error;
	to->status = o->status;
	to->retry_after = o->retry_after;
	to->authentic = o->authentic;
	to->elapsed_ms = o->elapsed_ms;
	assert_true(o->len < sizeof(to->body));
	memcpy(to->body, o->body, o->len);
	to->body[o->len] = '\0';
	to->len = o->len;
	(void)snprintf(to->text, sizeof(to->text), "%s", o->text);
}

static inline struct peer_question
question(void)
{
	return (struct peer_question){ .wallet = t.peer.wallet,
		.url = "https://peer.example/base",
		.sync_key = t.with_key ? t.key : NULL,
		.body = t.body,
		.len = strlen(t.body),
		.timeout_ms = t.timeout_ms,
		.answer_max = t.answer_max };
}

static inline int
ask_into(struct outcome *outcome)
{
	struct peer_question q = question();
	int error;

	/* What was lent must not be needed later. */
	q.url = strdup(q.url);
	q.body = strdup(t.body);
	assert_true(q.url != NULL && q.body != NULL);
	memset(outcome, 0, sizeof(*outcome));
	error =
	    peer_calls_ask(t.calls, &q, t.rig.now, on_outcome, outcome, &t.id);
	assert_int_equal(outcome->calls, 0);
	free((char *)(uintptr_t)q.url);
	free((char *)(uintptr_t)q.body);
	return error;
}

static inline void
ask(void)
{
	t.nonces_asked = t.v1_asked = t.v2_asked = 0;
	assert_int_equal(ask_into(&t.outcome), 0);
}

static inline void
call(void)
{
	ask();
	settle();
}

/* ---- beginning and end --------------------------------------------------- */

/* slow: the identity's results come when run_identity says so. */
static inline void
world_begin(bool slow)
{
	static const struct identity_ops slow_ops = {
		.sign = slow_sign, .open = slow_open, .seal = slow_seal
	};
	struct counterparts_config cc = {
		.ttl_ms = 180000, .max_head_age_ms = 120000, .hash_key = { 1 }
	};
	struct peer_calls_config config = { .kms_app_id = RIG_KMS_APP };
	struct peer_calls_ops ops = { rig_post, rig_cancel, NULL };
	uint8_t spki[P384_SPKI_LEN];

	memset(&t, 0, sizeof(t));
	rig_init(&t.rig);
	t.rig.registry = registry_new(rig_ask, &t.rig);
	t.cs = counterparts_new(&cc, t.rig.registry, t.rig.identity);
	client_init(&t.peer, &t.rig, 1);
	client_init(&t.other, &t.rig, 2);
	(void)rig_add_instance(
	    &t.rig, RIG_KMS_APP, &t.peer.wallet, p384_key_point(t.peer.tee));
	t.slow = *t.rig.identity;
	t.slow.ops = &slow_ops;
	p384_public_spki(&t.rig.identity->point, spki);
	hex_encode(spki, sizeof(spki), config.sender);
	t.calls = peer_calls_new(
	    &config, &ops, t.cs, slow ? &t.slow : t.rig.identity);
	assert_non_null(t.calls);
	(void)snprintf(t.body, sizeof(t.body), "{\"type\":\"delta\"}");
	memset(t.key, 0x5a, sizeof(t.key));
	t.with_key = true;
	t.timeout_ms = 10000;
	t.answer_max = 2000;
	t.status = 200;
	t.code = t.message = "";
	t.answer = "{\"status\":\"ok\"}";
	t.signer = t.sealer = &t.peer;
}

static inline void
world_end(void)
{
	peer_calls_free(t.calls);
	while (t.later_count > 0)
		run_identity();
	counterparts_free(t.cs);
	registry_free(t.rig.registry);
	identity_free(t.rig.identity);
	client_free(&t.peer);
	client_free(&t.other);
	free(t.last.data);
}

/* Nobody holds the peer's entry. */
static inline bool
is_unpinned(void)
{
	struct counterpart *c =
	    counterpart_pin(t.cs, &t.peer.wallet, t.rig.now);
	bool unpinned = c->pins == 1 && c->waiting == 0;

	counterpart_unpin(c);
	return unpinned;
}

static inline void
pass(int64_t ms)
{
	rig_pass(&t.rig, ms);
	counterparts_set_time(t.cs, t.rig.now);
	peer_calls_tick(t.calls, t.rig.now);
}

#endif
