#include "kms-keeper/peer_call_internal.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define URL_MAX 2048

static const char *const step_texts[] = {
	[STEP_VERDICT] = "the registry's word on the peer",
	[STEP_NONCE] = "the peer's nonce",
	[STEP_SEAL] = "the request's envelope",
	[STEP_SIGN] = "the request's signature",
	[STEP_POST] = "the peer's answer to POST /sync",
	[STEP_OPEN] = "the opening of the peer's answer",
};

/* ---- the end of a call --------------------------------------------------- */

static void
exchange_free(struct exchange *x)
{
	buf_free(&x->body);
	free(x->url);
	free(x->data);
	free(x->text);
	OPENSSL_cleanse(x, sizeof(*x));
	free(x);
}

static void
exchange_release(struct exchange *x)
{
	struct peer_calls *calls = x->calls;

	TAILQ_REMOVE(&calls->list, x, link);
	calls->count--;
	if (x->counterpart != NULL)
		counterpart_unpin(x->counterpart);
	x->node->calls--;
	peer_node_release(&calls->nodes, x->node, calls->now);
	exchange_free(x);
}

/* What no further attempt will want. */
void
exchange_drop_body(struct exchange *x)
{
	x->calls->held -= x->body.len;
	buf_free(&x->body);
	OPENSSL_cleanse(x->key, sizeof(x->key));
}

/* Only the identity may still hold it: the counterpart stays pinned until it
 * has come back, for its agreement is being worked with. */
static void
exchange_end(struct exchange *x)
{
	struct peer_calls *calls = x->calls;

	x->ended = true;
	if (x->counterpart != NULL)
		counterpart_cancel(x->counterpart, &x->waiter);
	if (x->post != 0)
		calls->ops.cancel(calls->ops.arg, x->post);
	x->post = 0;
	exchange_drop_body(x);
	free(x->data);
	x->data = NULL;
	if (!x->busy)
		exchange_release(x);
}

/* Nothing of the call remains, but for a call of the identity. */
void
exchange_finish(struct exchange *x, struct peer_outcome *outcome)
{
	struct peer_calls *calls = x->calls;
	peer_outcome_fn done = x->done;
	void *arg = x->arg;
	uint64_t id = x->id;

	if (calls->asking == x) {
		x->settled = true;
		x->error = outcome->error;
		x->text = strdup(outcome->text);
		return;
	}
	outcome->elapsed_ms = (uint64_t)(calls->now.boot_ms - x->began_ms);
	exchange_end(x);
	done(arg, id, outcome);
}

void
exchange_fail(struct exchange *x, int error, const char *text)
{
	struct peer_outcome outcome = {
		.error = error,
		.body = "",
		.text = text,
	};

	exchange_finish(x, &outcome);
}

/* The identity has come back: false when nobody waits for it. */
bool
exchange_is_back(struct exchange *x)
{
	x->busy = false;
	if (x->calls == NULL)
		exchange_free(x);
	else if (x->ended)
		exchange_release(x);
	else
		return true;
	return false;
}

/* ---- asking -------------------------------------------------------------- */

static void
on_verdict(struct counterpart_waiter *waiter, int error)
{
	struct exchange *x = (struct exchange *)(void *)((char *)waiter -
	    offsetof(struct exchange, waiter));

	if (error != 0)
		exchange_fail(x, KMS_EUNAVAIL,
		    "the registry cannot be read at the moment");
	else
		exchange_begin(x);
}

static bool
is_askable(const struct peer_calls *calls, const struct peer_question *question)
{
	return question->url != NULL && question->url[0] != '\0' &&
	    strlen(question->url) <= URL_MAX && question->len > 0 &&
	    question->timeout_ms > 0 &&
	    !eth_address_equal(&question->wallet, &calls->identity->wallet);
}

/* Copies what the question only lends. */
static struct exchange *
exchange_new(const struct peer_question *question)
{
	struct exchange *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	buf_init(&x->body, question->len);
	x->url = strdup(question->url);
	if (x->url == NULL ||
	    buf_append(&x->body, question->body, question->len) != 0) {
		exchange_free(x);
		return NULL;
	}
	x->len = question->len;
	x->has_key = question->sync_key != NULL;
	if (x->has_key)
		memcpy(x->key, question->sync_key, SYNC_KEY_LEN);
	x->answer_max = question->answer_max;
	x->request = question->request;
	x->waiter.ready = on_verdict;
	x->proof.peer = question->wallet;
	return x;
}

static void
exchange_insert(struct peer_calls *calls, struct exchange *x,
    struct peer_node *node, uint64_t timeout_ms)
{
	x->calls = calls;
	x->node = node;
	x->id = ++calls->last_id;
	x->began_ms = calls->now.boot_ms;
	x->deadline_ms = timeout_ms < (uint64_t)(INT64_MAX - x->began_ms)
	    ? x->began_ms + (int64_t)timeout_ms
	    : INT64_MAX;
	TAILQ_INSERT_TAIL(&calls->list, x, link);
	calls->count++;
	calls->held += x->len;
	node->calls++;
}

/* As far as it goes without waiting. */
static int
exchange_start(struct exchange *x)
{
	struct peer_calls *calls = x->calls;
	int error = KMS_EBUSY;

	x->counterpart =
	    counterpart_pin(calls->counterparts, &x->proof.peer, calls->now);
	if (x->counterpart != NULL)
		error = counterpart_authorise(
		    x->counterpart, &x->waiter, calls->now);
	if (error == KMS_EAGAIN)
		return 0;
	if (error != 0)
		return error;
	calls->asking = x;
	exchange_begin(x);
	calls->asking = NULL;
	/* There is somebody to tell at once what is no word of the peer. */
	if (x->settled &&
	    (x->error == KMS_EBUSY || x->error == KMS_ENOMEM ||
		x->error == KMS_EUNAVAIL))
		return x->error;
	return 0;
}

int
peer_calls_ask(struct peer_calls *calls, const struct peer_question *question,
    struct kms_time now, peer_outcome_fn done, void *arg, uint64_t *id)
{
	struct peer_node *node;
	struct exchange *x;
	int error;

	calls->now = now;
	if (!is_askable(calls, question))
		return KMS_EINVAL;
	if (calls->count >= PEER_CALLS_MAX ||
	    question->len > PEER_CALLS_BODIES_MAX - calls->held)
		return KMS_EBUSY;
	node = peer_node_get(&calls->nodes, &question->wallet);
	if (node == NULL || node->calls >= PEER_CALLS_A_PEER)
		return KMS_EBUSY;
	x = exchange_new(question);
	if (x == NULL) {
		peer_node_release(&calls->nodes, node, now);
		return KMS_ENOMEM;
	}
	x->done = done;
	x->arg = arg;
	exchange_insert(calls, x, node, question->timeout_ms);
	error = exchange_start(x);
	if (error != 0) {
		exchange_end(x);
		return error;
	}
	*id = x->id;
	return 0;
}

/* ---- life ---------------------------------------------------------------- */

struct peer_calls *
peer_calls_new(const struct peer_calls_config *config,
    const struct peer_calls_ops *ops, struct counterparts *counterparts,
    struct identity *identity)
{
	struct peer_calls *calls = calloc(1, sizeof(*calls));

	if (calls == NULL)
		return NULL;
	calls->config = *config;
	calls->ops = *ops;
	calls->counterparts = counterparts;
	calls->identity = identity;
	TAILQ_INIT(&calls->list);
	peer_nodes_init(&calls->nodes, PEER_CALLS_NODES_MAX);
	return calls;
}

/* What the identity works on is freed when it comes back. */
static void
orphan(struct exchange *x)
{
	TAILQ_REMOVE(&x->calls->list, x, link);
	counterpart_unpin(x->counterpart);
	x->counterpart = NULL;
	x->calls = NULL;
}

void
peer_calls_free(struct peer_calls *calls)
{
	struct exchange *x, *next;

	if (calls == NULL)
		return;
	for (x = TAILQ_FIRST(&calls->list); x != NULL; x = next) {
		next = TAILQ_NEXT(x, link);
		if (!x->ended)
			exchange_end(x);
	}
	while ((x = TAILQ_FIRST(&calls->list)) != NULL)
		orphan(x);
	peer_nodes_free(&calls->nodes);
	free(calls);
}

void
peer_calls_cancel(struct peer_calls *calls, uint64_t id)
{
	struct exchange *x;

	TAILQ_FOREACH (x, &calls->list, link) {
		if (x->id == id && !x->ended) {
			exchange_end(x);
			return;
		}
	}
}

void
peer_calls_set_time(struct peer_calls *calls, struct kms_time now)
{
	calls->now = now;
}

/* The oldest call up to that number whose end has come. */
static struct exchange *
find_due(const struct peer_calls *calls, uint64_t last_id)
{
	struct exchange *x;

	TAILQ_FOREACH (x, &calls->list, link) {
		if (x->id > last_id)
			return NULL;
		if (!x->ended &&
		    (x->settled || calls->now.boot_ms >= x->deadline_ms))
			return x;
	}
	return NULL;
}

static void
tell_end(struct exchange *x)
{
	char text[EXCHANGE_TEXT_MAX];

	if (x->settled) {
		(void)snprintf(text, sizeof(text), "%s",
		    x->text != NULL ? x->text : kms_strerror(x->error));
		exchange_fail(x, x->error, text);
		return;
	}
	(void)snprintf(text, sizeof(text), "expected %s within %lld ms",
	    step_texts[x->step], (long long)(x->deadline_ms - x->began_ms));
	exchange_fail(x, KMS_ETIMEOUT, text);
}

void
peer_calls_tick(struct peer_calls *calls, struct kms_time now)
{
	uint64_t last_id = calls->last_id;
	struct exchange *x;

	calls->now = now;
	/* done may end others, and begin new ones. */
	while ((x = find_due(calls, last_id)) != NULL)
		tell_end(x);
}

bool
peer_calls_is_ours(
    const struct peer_calls *calls, const struct eth_address *wallet)
{
	const struct peer_node *node = peer_node_find(&calls->nodes, wallet);

	return node != NULL && node->ours;
}

void
peer_calls_keep(
    struct peer_calls *calls, const struct eth_address *wallets, size_t count)
{
	peer_nodes_keep(&calls->nodes, wallets, count, calls->now);
}
