#include "kms-keeper/request.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/buf.h"
#include "common/err.h"
#include "kms-keeper/answer_app.h"
#include "kms-keeper/arrival.h"
#include "kms-keeper/keeper.h"
#include "kms-keeper/pop.h"
#include "kms-keeper/refusal.h"
#include "kms-keeper/reply.h"
#include "kms-keeper/target.h"
#include "proto/metrics.h"

struct request {
	UT_hash_handle hh; /* by handle, until it is cancelled */
	LIST_ENTRY(request) link;
	struct requests *owner;
	struct reply reply; /* with the handle, and the counterpart, pinned */
	struct counterpart_waiter waiter;
	struct target target;
	unsigned int target_status; /* 0, or the refusal of the target */
	const char *target_message;
	uint8_t content_hash[SHA256_LEN];

	bool envelope;
	struct arrival arrival;
	bool authorised; /* the verdict is there */
	bool started;	 /* being executed: nothing more of it is awaited */

	/* what its answer waits for, of the peers */
	struct cluster_waiter peers;
	struct app_answer answer;
	bool waits;
	bool fetched; /* they were asked for the value */
};

LIST_HEAD(request_list, request);

struct requests {
	struct keeper *keeper;
	struct request *table;
	struct request_list all; /* also the cancelled that are not done */
	size_t count;
	size_t body_bytes;
	uint8_t hash_key[SIPHASH_KEY_LEN];
};

static void proceed(struct request *r);

/* ---- life ---- */

struct requests *
requests_new(struct keeper *keeper)
{
	struct requests *rs = calloc(1, sizeof(*rs));

	if (rs == NULL)
		return NULL;
	rs->keeper = keeper;
	keeper->ops.random(keeper->ops.arg, rs->hash_key, sizeof(rs->hash_key));
	return rs;
}

static unsigned int
hash_of(const struct requests *rs, uint64_t handle)
{
	return (unsigned int)siphash(rs->hash_key, &handle, sizeof(handle));
}

static struct request *
find(struct requests *rs, uint64_t handle)
{
	struct request *r;

	HASH_FIND_BYHASHVALUE(
	    hh, rs->table, &handle, sizeof(handle), hash_of(rs, handle), r);
	return r;
}

static void
request_free(struct request *r)
{
	struct requests *rs = r->owner;

	if (!r->reply.cancelled)
		HASH_DEL(rs->table, r);
	LIST_REMOVE(r, link);
	rs->count--;
	rs->body_bytes -= r->arrival.total;
	if (r->reply.counterpart != NULL) {
		counterpart_cancel(r->reply.counterpart, &r->waiter);
		counterpart_unpin(r->reply.counterpart);
	}
	if (r->waits) {
		reply_drop(&r->reply);
		cluster_forget(rs->keeper->cluster, &r->peers);
		answer_app_drop(&r->answer);
	}
	arrival_free(&r->arrival);
	reply_free(&r->reply);
	OPENSSL_cleanse(r, sizeof(*r));
	free(r);
}

/* The handle may serve another at once; the identity may still hold this. */
static void
cancel(struct request *r)
{
	HASH_DEL(r->owner->table, r);
	r->reply.cancelled = true;
	if (!r->started || r->waits)
		request_free(r);
}

void
requests_cancel_all(struct requests *rs)
{
	struct request *r, *next;

	HASH_ITER (hh, rs->table, r, next) {
		cancel(r);
	}
}

void
requests_free(struct requests *rs)
{
	struct request *r;

	if (rs == NULL)
		return;
	requests_cancel_all(rs);
	/* The identity goes next, and says nothing any more. */
	while ((r = LIST_FIRST(&rs->all)) != NULL)
		request_free(r);
	free(rs);
}

size_t
requests_count(const struct requests *rs)
{
	return rs->count;
}

static void
on_done(struct reply *reply)
{
	request_free((struct request *)(void *)((char *)reply -
	    offsetof(struct request, reply)));
}

/* Nothing more is awaited: answer with an error. */
static void
finish(struct request *r, unsigned int status, unsigned int retry_after,
    const char *message)
{
	r->started = true;
	reply_error(&r->reply, status, retry_after, message);
}

/* ---- the operation ---- */

static int
on_can_wait(void *arg, uint64_t app_id, unsigned int n)
{
	const struct request *r = arg;

	return cluster_can_wait(r->owner->keeper->cluster, app_id, n);
}

static int
on_written(
    void *arg, uint64_t app_id, const void *key, size_t key_len, unsigned int n)
{
	struct request *r = arg;

	return cluster_written(
	    r->owner->keeper->cluster, app_id, key, key_len, n, &r->peers);
}

static int
on_fetch(void *arg, uint64_t app_id, const void *key, size_t key_len)
{
	struct request *r = arg;

	return cluster_fetch(
	    r->owner->keeper->cluster, app_id, key, key_len, &r->peers);
}

/* The outcome is there, or has to be waited for. */
static void
conclude(struct request *r, const struct buf *plaintext)
{
	const struct app_answer *answer = &r->answer;

	r->waits = answer->status == APP_WAITS;
	if (r->waits)
		return;
	if (answer->status == 200)
		reply_send(&r->reply, plaintext->data, plaintext->len);
	else
		finish(r, answer->status,
		    answer->status == 503 ? REPLY_RETRY_S : 0, answer->message);
}

static void
execute(struct request *r, const uint8_t *body, size_t body_len)
{
	struct keeper *k = r->owner->keeper;
	struct app_replication replication = { on_can_wait, on_written,
		on_fetch, r };
	struct app_context context = {
		.store = k->store,
		.replication = &replication,
		.fetched = r->fetched,
		.master = readiness_master(k->readiness),
		.app_id = r->reply.counterpart->app_id,
		.bound = r->reply.bound,
		.peer_count = readiness_peer_count(k->readiness),
		.max_value_size = k->config->max_value_size,
		.default_ttl_ms = k->config->default_ttl,
		.reserved_paths_allowed = k->config->reserved_paths_allowed,
		.now = k->now,
		.random = k->ops.random,
		.random_arg = k->ops.arg,
	};
	struct buf plaintext;

	/* Time may have passed since the head was checked. */
	if (context.master == NULL) {
		finish(r, 503, REPLY_RETRY_S, "the node is not ready");
		return;
	}
	context.audit_key = audit_path_key(k->audit, context.master);
	buf_init(&plaintext, ANSWER_MAX);
	answer_app(
	    &context, &r->target, body, body_len, &plaintext, &r->answer);
	r->reply.path = r->answer.has_path ? r->answer.path : NULL;
	conclude(r, &plaintext);
	buf_free(&plaintext);
}

/* So many peers hold the write; or they were asked for the value. */
static void
on_peers(struct cluster_waiter *waiter, unsigned int k, bool met)
{
	struct request *r = (struct request *)(void *)((char *)waiter -
	    offsetof(struct request, peers));
	struct buf plaintext;

	r->waits = false;
	if (r->answer.written == NULL) {
		r->fetched = true;
		execute(r, NULL, 0);
		return;
	}
	buf_init(&plaintext, ANSWER_MAX);
	answer_app_replicas(&r->answer, k, met, &plaintext);
	conclude(r, &plaintext);
	buf_free(&plaintext);
}

static void
on_opened(void *arg, int error, const uint8_t *plaintext, size_t len)
{
	struct request *r = arg;
	const struct counterpart *c = r->reply.counterpart;

	/* Time may have passed: nobody waits, or the verdict is another. */
	if (r->reply.cancelled)
		request_free(r);
	else if (error == KMS_EAUTH)
		finish(r, 400, 0, "the envelope does not decrypt");
	else if (error != 0)
		finish(r, 503, REPLY_RETRY_S,
		    "the envelope cannot be opened at the moment");
	else if (c->verdict != COUNTERPART_AUTHORISED)
		finish(r, 403, 0, c->refusal);
	else
		execute(r, plaintext, len);
}

/* An unbound envelope is taken once. True when it may go on. */
static bool
check_replay(struct request *r, const uint8_t nonce[AEAD_NONCE_LEN])
{
	struct keeper *k = r->owner->keeper;
	int error = counterpart_remember(r->reply.counterpart, nonce, k->now);

	if (r->reply.bound || error == 0)
		return true;
	if (error == KMS_EREPLAY) {
		metrics[METRIC_KEEPER_REPLAYS]++;
		finish(r, 403, 0, refusal_text(REFUSAL_REPLAY));
	} else {
		finish(r, 429, 60,
		    "too many unbound requests: use "
		    "X-App-Auth: v2");
	}
	return false;
}

static void
open_envelope(struct request *r)
{
	struct counterpart *c = r->reply.counterpart;
	uint8_t nonce[AEAD_NONCE_LEN];
	size_t sealed_len;
	int error;

	if (r->reply.bound && !arrival_has_hash(&r->arrival, r->content_hash)) {
		finish(r, 403, 0, refusal_text(REFUSAL_CONTENT));
		return;
	}
	error = arrival_decode(&r->arrival, &c->point, nonce, &sealed_len);
	if (error == KMS_EAUTH) {
		finish(r, 403, 0, refusal_text(REFUSAL_SENDER));
		return;
	}
	if (error != 0) {
		finish(r, 400, 0, "the envelope's members are not well formed");
		return;
	}
	if (!check_replay(r, nonce))
		return;
	reply_count_agreement(c);
	identity_open(r->owner->keeper->identity, &c->agreement, &c->point,
	    nonce, (const uint8_t *)r->arrival.data, sealed_len, on_opened, r);
}

static bool
wants_envelope(const struct request *r)
{
	return r->target.operation == OPERATION_DERIVE ||
	    r->target.operation == OPERATION_PUT ||
	    r->target.operation == OPERATION_DELETE;
}

/* Verdict and body are there. */
static void
proceed(struct request *r)
{
	struct keeper *k = r->owner->keeper;
	struct counterpart *c = r->reply.counterpart;
	static const char nothing[1] = "";
	uint8_t digest[SHA256_LEN];
	unsigned int retry_s;

	r->started = true;
	if (c->verdict != COUNTERPART_AUTHORISED) {
		metrics[METRIC_KEEPER_DENIED]++;
		finish(r, 403, 0, c->refusal);
	} else if (k->config->require_bound_requests && !r->reply.bound) {
		finish(r, 403, 0, refusal_text(REFUSAL_UNBOUND));
	} else if (!counterpart_take_token(c, k->now, &retry_s)) {
		finish(r, 429, retry_s, "too many requests of this wallet");
	} else if (r->target_status != 0) {
		finish(r, r->target_status, 0, r->target_message);
	} else if (r->envelope != wants_envelope(r)) {
		finish(r, 400, 0,
		    r->envelope ? "expected no body"
				: "expected an envelope as the body");
	} else if (r->envelope) {
		open_envelope(r);
	} else if (r->reply.bound &&
	    (sha256(nothing, 0, digest) != 0 ||
		CRYPTO_memcmp(digest, r->content_hash, SHA256_LEN) != 0)) {
		finish(r, 403, 0, refusal_text(REFUSAL_CONTENT_NONE));
	} else {
		execute(r, NULL, 0);
	}
}

static void
on_authorised(struct request *r)
{
	r->authorised = true;
	/* Nobody's body is worth waiting for. */
	if (arrival_is_whole(&r->arrival) ||
	    r->reply.counterpart->verdict != COUNTERPART_AUTHORISED)
		proceed(r);
}

static void
on_verdict(struct counterpart_waiter *waiter, int error)
{
	struct request *r = (struct request *)(void *)((char *)waiter -
	    offsetof(struct request, waiter));

	if (error != 0) {
		finish(r, 503, REPLY_RETRY_S,
		    "the registry cannot be read at the moment");
		return;
	}
	on_authorised(r);
}

/* ---- what comes in ---- */

/* Copy what outlives the call. */
static struct request *
request_new(struct requests *rs, uint64_t handle,
    const struct request_head *head, const struct pop_result *pop)
{
	struct request *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->owner = rs;
	r->reply.keeper = rs->keeper;
	r->reply.handle = handle;
	r->reply.bound = pop->bound;
	r->reply.done = on_done;
	r->waiter.ready = on_verdict;
	r->waiter.request = handle;
	r->peers.done = on_peers;
	r->peers.request = r->reply.handle;
	memcpy(r->content_hash, pop->content_hash, SHA256_LEN);
	memcpy(r->reply.caller, head->signature.text, head->signature.len);
	r->envelope = head->envelope;
	if (head->envelope &&
	    arrival_begin(&r->arrival, &head->sender, &head->envelope_nonce,
		(size_t)head->data_total) != 0) {
		free(r);
		return NULL;
	}
	HASH_ADD_BYHASHVALUE(hh, rs->table, reply.handle, sizeof(handle),
	    hash_of(rs, handle), r);
	if (r->hh.tbl == NULL) {
		arrival_free(&r->arrival);
		free(r);
		return NULL;
	}
	LIST_INSERT_HEAD(&rs->all, r, link);
	rs->count++;
	rs->body_bytes += r->arrival.total;
	return r;
}

static enum audit_kind
kind_of(const struct request *r)
{
	static const enum audit_kind kinds[] = {
		[OPERATION_DERIVE] = AUDIT_DERIVE,
		[OPERATION_LIST] = AUDIT_LIST,
		[OPERATION_GET] = AUDIT_GET,
		[OPERATION_PUT] = AUDIT_PUT,
		[OPERATION_DELETE] = AUDIT_DELETE,
	};

	return r->target_status != 0 ? AUDIT_REQUEST
				     : kinds[r->target.operation];
}

static bool
head_fits(const struct request_head *head)
{
	return head->signature.len <= SIGNATURE_TEXT_LEN &&
	    arrival_fits(&head->sender, &head->envelope_nonce) &&
	    (head->envelope || head->data_total == 0);
}

static int
take_body(struct request *r, const char *data, size_t len)
{
	struct keeper *k = r->owner->keeper;
	size_t credit;
	int error = arrival_take(&r->arrival, data, len, &credit);

	if (error == 0 && credit > 0)
		k->ops.credit(k->ops.arg, r->reply.handle, credit);
	return error;
}

static void
authorise(struct request *r)
{
	struct keeper *k = r->owner->keeper;
	int error =
	    counterpart_authorise(r->reply.counterpart, &r->waiter, k->now);

	if (error == KMS_EAGAIN)
		return;
	if (error != 0) {
		finish(r, 503, REPLY_RETRY_S,
		    error == KMS_EBUSY
			? "too many registry look-ups are under way"
			: "the registry cannot be read at the moment");
		return;
	}
	on_authorised(r);
}

static const char *
check_proof(struct keeper *k, const struct request_head *head,
    struct pop_result *result)
{
	struct pop_head pop = {
		.kind = POP_APP,
		.method = head->method,
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

int
request_begin(
    struct requests *rs, uint64_t handle, const struct request_head *head)
{
	struct keeper *k = rs->keeper;
	struct pop_result pop = { 0 };
	const char *refusal;
	struct request *r;

	if (head->data.len > head->data_total || find(rs, handle) != NULL)
		return KMS_EPROTO;
	if (readiness_master(k->readiness) == NULL) {
		reply_refuse(
		    k, handle, 503, REPLY_RETRY_S, "the node is not ready");
		return 0;
	}
	if (rs->count >= REQUESTS_MAX) {
		reply_refuse(k, handle, 503, REPLY_RETRY_S, "the node is busy");
		return 0;
	}
	refusal = check_proof(k, head, &pop);
	if (refusal == NULL && !head_fits(head))
		refusal = refusal_text(REFUSAL_ENVELOPE_LONG);
	if (refusal != NULL) {
		metrics[METRIC_KEEPER_POP_FAILED]++;
		reply_refuse(k, handle, 403, 0, refusal);
		return 0;
	}
	r = NULL;
	if (head->data_total <= 2 * (k->config->max_body + 16) &&
	    rs->body_bytes + head->data_total <= REQUESTS_BODY_MAX)
		r = request_new(rs, handle, head, &pop);
	if (r != NULL)
		r->reply.counterpart =
		    counterpart_pin(k->counterparts, &pop.wallet, k->now);
	if (r == NULL || r->reply.counterpart == NULL) {
		if (r != NULL)
			request_free(r);
		reply_refuse(k, handle, 503, REPLY_RETRY_S,
		    "the node has no room for this request");
		return 0;
	}
	r->target_status = target_parse(head->method, head->target.text,
	    head->target.len, &r->target, &r->target_message);
	r->reply.kind = kind_of(r);
	(void)take_body(r, head->data.text, head->data.len);
	authorise(r);
	return 0;
}

int
request_body(struct requests *rs, uint64_t handle, const char *data, size_t len)
{
	struct request *r = find(rs, handle);
	int error;

	if (r == NULL || r->started)
		return 0;
	error = take_body(r, data, len);
	/* The verdict may have run out while the body came. */
	if (error == 0 && r->authorised && arrival_is_whole(&r->arrival))
		authorise(r);
	return error;
}

void
request_cancel(struct requests *rs, uint64_t handle)
{
	struct request *r = find(rs, handle);

	if (r != NULL)
		cancel(r);
}
