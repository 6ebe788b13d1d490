#include "kms-keeper/request_sync.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/err.h"
#include "common/hex.h"
#include "crypto/envelope.h"
#include "kms-keeper/arrival.h"
#include "kms-keeper/derive.h"
#include "kms-keeper/keeper.h"
#include "kms-keeper/pop.h"
#include "kms-keeper/refusal.h"
#include "kms-keeper/reply.h"
#include "proto/metrics.h"

enum stage {
	VERDICT,  /* the registry is asked */
	GONE_OUT, /* the body is wanted, and not here yet */
	BODY,	  /* its envelope is here, pieces may follow */
	DECIDED	  /* nothing more is awaited */
};

struct sync_request {
	UT_hash_handle hh; /* by handle, until it is cancelled */
	LIST_ENTRY(sync_request) link;
	struct reply reply; /* with the handle, and the counterpart, pinned */
	struct sync_requests *owner;
	struct counterpart_waiter waiter;
	enum stage stage;
	bool stranger; /* counted as one: it was no known peer at first */
	uint8_t content_hash[SHA256_LEN];
	bool has_mac;
	uint8_t mac[SHA256_LEN]; /* X-Sync-Signature */
	bool hmac_holds;

	struct arrival arrival;
};

LIST_HEAD(sync_request_list, sync_request);

struct sync_requests {
	struct keeper *keeper;
	struct sync_requests_ops ops;
	struct sync_request *table;
	struct sync_request_list all; /* also the cancelled, not done */
	size_t count;
	size_t strangers;
	size_t body_bytes;
	uint8_t hash_key[SIPHASH_KEY_LEN];
};

/* ---- life ---- */

struct sync_requests *
sync_requests_new(struct keeper *keeper, const struct sync_requests_ops *ops)
{
	struct sync_requests *rs = calloc(1, sizeof(*rs));

	if (rs == NULL)
		return NULL;
	rs->keeper = keeper;
	rs->ops = *ops;
	keeper->ops.random(keeper->ops.arg, rs->hash_key, sizeof(rs->hash_key));
	return rs;
}

static unsigned int
hash_of(const struct sync_requests *rs, uint64_t handle)
{
	return (unsigned int)siphash(rs->hash_key, &handle, sizeof(handle));
}

static struct sync_request *
find(struct sync_requests *rs, uint64_t handle)
{
	struct sync_request *r;

	HASH_FIND_BYHASHVALUE(
	    hh, rs->table, &handle, sizeof(handle), hash_of(rs, handle), r);
	return r;
}

static void
sync_request_free(struct sync_request *r)
{
	struct sync_requests *rs = r->owner;

	if (!r->reply.cancelled)
		HASH_DEL(rs->table, r);
	LIST_REMOVE(r, link);
	rs->count--;
	rs->strangers -= r->stranger;
	rs->body_bytes -= r->arrival.total;
	counterpart_cancel(r->reply.counterpart, &r->waiter);
	counterpart_unpin(r->reply.counterpart);
	arrival_free(&r->arrival);
	reply_free(&r->reply);
	OPENSSL_cleanse(r, sizeof(*r));
	free(r);
}

static void
on_done(struct reply *reply)
{
	sync_request_free((struct sync_request *)(void *)((char *)reply -
	    offsetof(struct sync_request, reply)));
}

/* The handle may serve another at once; the identity may still hold this. */
static void
cancel(struct sync_request *r)
{
	HASH_DEL(r->owner->table, r);
	r->reply.cancelled = true;
	if (r->stage != DECIDED)
		sync_request_free(r);
}

void
sync_request_cancel(struct sync_requests *rs, uint64_t handle)
{
	struct sync_request *r = find(rs, handle);

	if (r != NULL)
		cancel(r);
}

void
sync_requests_cancel_all(struct sync_requests *rs)
{
	struct sync_request *r, *next;

	HASH_ITER (hh, rs->table, r, next) {
		cancel(r);
	}
}

void
sync_requests_free(struct sync_requests *rs)
{
	struct sync_request *r;

	if (rs == NULL)
		return;
	sync_requests_cancel_all(rs);
	/* The identity goes next, and says nothing any more. */
	while ((r = LIST_FIRST(&rs->all)) != NULL)
		sync_request_free(r);
	free(rs);
}

size_t
sync_requests_count(const struct sync_requests *rs)
{
	return rs->count;
}

size_t
sync_requests_bytes(const struct sync_requests *rs)
{
	return rs->body_bytes;
}

static void
finish(struct sync_request *r, unsigned int status, const char *message)
{
	r->stage = DECIDED;
	reply_error(&r->reply, status,
	    status == 503 || status == 429 ? REPLY_RETRY_S : 0, message);
}

/* ---- the message ---- */

static void
serve(struct sync_request *r, const uint8_t *body, size_t len)
{
	struct sync_requests *rs = r->owner;
	const char *message = "";
	struct buf answer;
	unsigned int status;

	/* In hex it is twice as long, and the asker has the same bound. */
	buf_init(&answer, (size_t)rs->keeper->config->max_sync_body / 2);
	status = rs->ops.serve(rs->ops.arg, &r->reply.counterpart->wallet,
	    r->hmac_holds, (const char *)body, len, &answer, &message);
	if (status == 200)
		reply_send(&r->reply, answer.data, answer.len);
	else
		finish(r, status, message);
	buf_free(&answer);
}

static const char *judge(const struct sync_request *r);

static void
on_opened(void *arg, int error, const uint8_t *plaintext, size_t len)
{
	struct sync_request *r = arg;
	const char *refusal = judge(r);

	/* Time may have passed: nobody waits, or the verdict is another. */
	if (r->reply.cancelled)
		sync_request_free(r);
	else if (error == KMS_EAUTH)
		finish(r, 400, "the envelope does not decrypt");
	else if (error != 0)
		finish(r, 503, "the envelope cannot be opened at the moment");
	else if (refusal != NULL)
		finish(r, 403, refusal);
	else
		serve(r, plaintext, len);
}

/*
 * An unbound envelope is taken once. A node that must bind its requests can
 * repeat none, so that nothing of it is kept: it sends far too much.
 */
static bool
check_replay(struct sync_request *r, const uint8_t nonce[AEAD_NONCE_LEN])
{
	int error;

	if (r->reply.forget)
		return true;
	error = counterpart_remember(
	    r->reply.counterpart, nonce, r->owner->keeper->now);
	if (r->reply.bound || error == 0)
		return true;
	if (error == KMS_EREPLAY) {
		metrics[METRIC_KEEPER_REPLAYS]++;
		finish(r, 403, refusal_text_peer(REFUSAL_REPLAY));
	} else {
		finish(r, 429, "too many unbound requests: use X-KMS-Auth: v2");
	}
	return false;
}

/* What the head has promised of the body. False: refused. */
static bool
check_content(struct sync_request *r)
{
	struct sync_requests *rs = r->owner;
	const uint8_t *key = rs->ops.sync_key(rs->ops.arg);
	const struct envelope_text text = arrival_text(&r->arrival);
	uint8_t digest[SHA256_LEN];

	if (r->reply.bound && !arrival_has_hash(&r->arrival, r->content_hash)) {
		finish(r, 403, refusal_text_peer(REFUSAL_CONTENT));
		return false;
	}
	/* Some messages need none: what the message is decides. */
	r->hmac_holds = key != NULL && r->has_mac &&
	    envelope_canonical_hmac(key, SYNC_KEY_LEN, &text, digest) == 0 &&
	    CRYPTO_memcmp(digest, r->mac, SHA256_LEN) == 0;
	return true;
}

static void
open_envelope(struct sync_request *r)
{
	struct counterpart *c = r->reply.counterpart;
	uint8_t nonce[AEAD_NONCE_LEN];
	size_t sealed_len;
	int error;

	if (!check_content(r))
		return;
	error = arrival_decode(&r->arrival, &c->point, nonce, &sealed_len);
	if (error == KMS_EAUTH) {
		finish(r, 403, refusal_text_peer(REFUSAL_SENDER));
		return;
	}
	if (error != 0) {
		finish(r, 400, "the envelope's members are not well formed");
		return;
	}
	if (!check_replay(r, nonce))
		return;
	reply_count_agreement(c);
	identity_open(r->owner->keeper->identity, &c->agreement, &c->point,
	    nonce, (const uint8_t *)r->arrival.data, sealed_len, on_opened, r);
}

/* ---- who may ---- */

/* The verdict is there: NULL, or why this is nobody's peer. */
static const char *
judge(const struct sync_request *r)
{
	const struct counterpart *c = r->reply.counterpart;
	const struct sync_requests *rs = r->owner;

	if (c->verdict == COUNTERPART_REFUSED)
		return c->refusal;
	if (c->verdict != COUNTERPART_AUTHORISED ||
	    c->app_id != rs->keeper->config->kms_app_id)
		return refusal_text_peer(REFUSAL_NOT_A_MEMBER);
	if (r->reply.bound)
		return NULL;
	if (rs->ops.is_ours(rs->ops.arg, &c->wallet))
		return refusal_text_peer(REFUSAL_UNBOUND_BEFORE);
	if (rs->keeper->config->require_bound_requests)
		return refusal_text_peer(REFUSAL_UNBOUND);
	return NULL;
}

static size_t
body_max(const struct sync_requests *rs)
{
	size_t most = (size_t)rs->keeper->config->max_sync_body;

	if (rs->ops.sync_key(rs->ops.arg) == NULL &&
	    most > SYNC_KEYLESS_BODY_MAX)
		return SYNC_KEYLESS_BODY_MAX;
	return most;
}

static void
proceed(struct sync_request *r)
{
	struct sync_requests *rs = r->owner;
	struct keeper *k = rs->keeper;
	const char *refusal = judge(r);

	if (refusal != NULL) {
		metrics[METRIC_KEEPER_DENIED]++;
		finish(r, 403, refusal);
		return;
	}
	if (r->stranger) {
		r->stranger = false;
		rs->strangers--;
	}
	r->reply.forget =
	    rs->ops.is_ours(rs->ops.arg, &r->reply.counterpart->wallet);
	if (r->stage == VERDICT) {
		r->stage = GONE_OUT;
		k->ops.go(k->ops.arg, r->reply.handle, body_max(rs));
	} else {
		r->stage = DECIDED;
		open_envelope(r);
	}
}

static void
on_verdict(struct counterpart_waiter *waiter, int error)
{
	struct sync_request *r =
	    (struct sync_request *)(void *)((char *)waiter -
		offsetof(struct sync_request, waiter));

	if (error == 0)
		proceed(r);
	else
		finish(r, 503, "the registry cannot be read at the moment");
}

static void
authorise(struct sync_request *r)
{
	int error = counterpart_authorise(
	    r->reply.counterpart, &r->waiter, r->owner->keeper->now);

	if (error == 0)
		proceed(r);
	else if (error == KMS_EBUSY)
		finish(r, 503, "too many registry look-ups are under way");
	else if (error != KMS_EAGAIN)
		finish(r, 503, "the registry cannot be read at the moment");
}

/* ---- what comes in ---- */

static const char *
check_proof(
    struct keeper *k, const struct sync_head *head, struct pop_result *result)
{
	struct pop_head pop = {
		.kind = POP_NODE,
		.method = METHOD_POST,
		.target = head->target,
		.flags = head->flags,
		.signature = head->signature,
		.nonce = head->nonce,
		.timestamp = head->timestamp,
		.wallet = head->wallet,
		.version = head->version,
		.content_hash = head->content_hash,
	};

	return pop_check(&pop, &k->identity->wallet, k->nonces,
	    k->identity->wallets, k->config->pop_max_age, k->now, result);
}

static struct sync_request *
sync_request_new(struct sync_requests *rs, uint64_t handle,
    const struct sync_head *head, const struct pop_result *pop)
{
	struct sync_request *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->owner = rs;
	r->reply.keeper = rs->keeper;
	r->reply.handle = handle;
	r->reply.bound = pop->bound;
	r->reply.done = on_done;
	r->reply.kind = AUDIT_SYNC;
	r->waiter.ready = on_verdict;
	r->waiter.request = handle;
	memcpy(r->content_hash, pop->content_hash, SHA256_LEN);
	memcpy(r->reply.caller, head->signature.text, head->signature.len);
	r->has_mac = hex_decode_exact(head->sync_signature.text,
			 head->sync_signature.len, r->mac, SHA256_LEN) == 0;
	HASH_ADD_BYHASHVALUE(hh, rs->table, reply.handle, sizeof(handle),
	    hash_of(rs, handle), r);
	if (r->hh.tbl == NULL) {
		free(r);
		return NULL;
	}
	LIST_INSERT_HEAD(&rs->all, r, link);
	rs->count++;
	return r;
}

/* Room for one more of this wallet? NULL, or what there is too much of. */
static const char *
check_room(
    const struct sync_requests *rs, const struct counterpart *c, bool stranger)
{
	const struct sync_request *r;
	size_t same = 0;

	/* What was cancelled takes room until the identity is done with it. */
	LIST_FOREACH (r, &rs->all, link)
		same += r->reply.counterpart == c;
	if (same >= SYNC_REQUESTS_PEER_MAX)
		return "too many requests of this node are under way";
	if (stranger && rs->strangers >= SYNC_REQUESTS_STRANGERS_MAX)
		return "too many requests of unknown nodes are under way";
	return NULL;
}

static void
begin(struct sync_requests *rs, uint64_t handle, const struct sync_head *head,
    const struct pop_result *pop)
{
	struct keeper *k = rs->keeper;
	struct counterpart *c =
	    counterpart_pin(k->counterparts, &pop->wallet, k->now);
	const char *busy = "the node has no room for this request";
	struct sync_request *r = NULL;
	bool stranger;

	if (c == NULL) {
		reply_refuse(k, handle, 503, REPLY_RETRY_S, busy);
		return;
	}
	stranger = c->verdict != COUNTERPART_AUTHORISED ||
	    c->app_id != k->config->kms_app_id;
	if (check_room(rs, c, stranger) != NULL)
		busy = check_room(rs, c, stranger);
	else
		r = sync_request_new(rs, handle, head, pop);
	if (r == NULL) {
		counterpart_unpin(c);
		reply_refuse(k, handle, 503, REPLY_RETRY_S, busy);
		return;
	}
	r->reply.counterpart = c;
	r->stranger = stranger;
	rs->strangers += stranger;
	authorise(r);
}

int
sync_request_begin(
    struct sync_requests *rs, uint64_t handle, const struct sync_head *head)
{
	struct keeper *k = rs->keeper;
	struct pop_result pop = { 0 };
	const char *refusal;

	if (find(rs, handle) != NULL)
		return KMS_EPROTO;
	/* keeper_renew, which is next, has nothing under way to end. */
	if (!k->knows_keys) {
		reply_refuse(k, handle, 503, REPLY_RETRY_S,
		    "the node has only just learnt its keys");
		return 0;
	}
	if (rs->count >= SYNC_REQUESTS_MAX) {
		reply_refuse(k, handle, 503, REPLY_RETRY_S, "the node is busy");
		return 0;
	}
	refusal = check_proof(k, head, &pop);
	if (refusal != NULL) {
		metrics[METRIC_KEEPER_POP_FAILED]++;
		reply_refuse(k, handle, 403, 0, refusal);
		return 0;
	}
	begin(rs, handle, head, &pop);
	return 0;
}

static int
take_body(struct sync_request *r, const char *data, size_t len)
{
	struct keeper *k = r->owner->keeper;
	size_t credit;
	int error = arrival_take(&r->arrival, data, len, &credit);

	if (error != 0)
		return error;
	if (credit > 0)
		k->ops.credit(k->ops.arg, r->reply.handle, credit);
	/* The verdict may have run out while the body came. */
	if (arrival_is_whole(&r->arrival))
		authorise(r);
	return 0;
}

/* Room for the whole body; false: refused. */
static bool
make_room(struct sync_request *r, const struct sync_envelope *envelope)
{
	struct sync_requests *rs = r->owner;
	uint64_t total = envelope->data_total;

	if (total > rs->keeper->config->max_sync_body) {
		finish(r, 413, "the body is larger than max-sync-body");
		return false;
	}
	if (total > body_max(rs)) {
		finish(r, 503, "the node takes no large requests now");
		return false;
	}
	if (rs->body_bytes + total > SYNC_BODY_MAX ||
	    arrival_begin(&r->arrival, &envelope->sender, &envelope->nonce,
		(size_t)total) != 0) {
		finish(r, 503, "too many bodies are being read");
		return false;
	}
	rs->body_bytes += r->arrival.total;
	return true;
}

int
sync_request_envelope(struct sync_requests *rs, uint64_t handle,
    const struct sync_envelope *envelope)
{
	struct sync_request *r = find(rs, handle);

	if (r == NULL)
		return 0;
	if (r->stage != GONE_OUT || envelope->data.len > envelope->data_total ||
	    !arrival_fits(&envelope->sender, &envelope->nonce))
		return KMS_EPROTO;
	r->stage = BODY;
	if (!make_room(r, envelope))
		return 0;
	return take_body(r, envelope->data.text, envelope->data.len);
}

int
sync_request_body(
    struct sync_requests *rs, uint64_t handle, const char *data, size_t len)
{
	struct sync_request *r = find(rs, handle);
	int error;

	if (r == NULL)
		return 0;
	if (r->stage == VERDICT || r->stage == GONE_OUT)
		return KMS_EPROTO;
	if (r->stage == DECIDED)
		return 1;
	error = take_body(r, data, len);
	return error != 0 ? error : 1;
}
