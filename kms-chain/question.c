#include "kms-chain/question.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "proto/metrics.h"

#define HEAD_SHARED_MS 0U
#define CHAIN_ID_CHECKED_MS 60000U
#define RETRIES_ALONE 4U /* where no other endpoint can be asked */
#define RETRIES_ANY 1U
#define REST_MS 500U  /* of an endpoint after its first failure */
#define REST_STEPS 6U /* doublings */
#define PARAMS_MAX 4096
#define SECOND 1000000U /* in microseconds */

/* A read that several questions wait for at once. */
struct shared {
	struct questions *all;
	size_t endpoint;
	int asking;
	uint64_t asked;	     /* loop time of the call */
	uint64_t valid_till; /* loop time; 0: not valid */
	STAILQ_HEAD(question_list, question) waiters;
};

struct endpoint_state {
	struct shared chain; /* eth_chainId is as configured */
	struct shared head;
	struct rpc_block head_block;
	unsigned int failures; /* in a row */
	uint64_t rests_till;
};

struct questions {
	uv_loop_t *loop;
	struct rpc *rpc;
	const struct questions_config *config;
	size_t open;
	struct endpoint_state endpoints[RPC_ENDPOINTS_MAX];
};

static void question_run(struct question *q);

/* ---- endpoints: which to ask, how they fare ------------------------------ */

static void
endpoint_failed(struct questions *all, size_t i, const char *text)
{
	struct endpoint_state *endpoint = &all->endpoints[i];
	unsigned int step =
	    endpoint->failures < REST_STEPS ? endpoint->failures : REST_STEPS;
	uint32_t rest = REST_MS << step;

	if (endpoint->failures++ == 0)
		log_warn("rpc-url %zu (%s): %s", i + 1,
		    rpc_destination(all->rpc, i)->label, text);
	endpoint->chain.valid_till = 0; /* who knows what answers next */
	endpoint->rests_till =
	    uv_now(all->loop) + rest / 2 + rpc_jitter(rest / 2 + 1);
}

static void
endpoint_answered(struct questions *all, size_t i)
{
	struct endpoint_state *endpoint = &all->endpoints[i];

	if (endpoint->failures > 0)
		log_info("rpc-url %zu (%s): answers again", i + 1,
		    rpc_destination(all->rpc, i)->label);
	endpoint->failures = 0;
	endpoint->rests_till = 0;
}

static size_t
untried(const struct question *q)
{
	size_t count = rpc_endpoint_count(q->all->rpc), left = 0;

	for (size_t i = 0; i < count; i++)
		left += (q->tried >> i & 1) == 0;
	return q->any ? left : 0;
}

/* The first that does not rest, else the one that rested longest. */
static size_t
choose_endpoint(const struct question *q)
{
	size_t count = rpc_endpoint_count(q->all->rpc), best = count;
	uint64_t now = uv_now(q->all->loop);

	for (size_t i = 0; i < count; i++) {
		uint64_t till = q->all->endpoints[i].rests_till;

		if (q->tried >> i & 1)
			continue;
		if (till <= now)
			return i;
		if (best == count || till < q->all->endpoints[best].rests_till)
			best = i;
	}
	return best;
}

/* ---- the end ------------------------------------------------------------- */

static void
question_free(struct question *q)
{
	log_debug(LOG_REQUEST "endpoint %zu: %s in %llu ms",
	    (unsigned long long)q->id, q->endpoint + 1,
	    q->error != 0 ? q->text : "answered",
	    (unsigned long long)(uv_now(q->all->loop) - q->began));
	q->all->open--;
	free(q);
}

void
question_answer_begin(
    struct question *q, struct msg_writer *w, enum msg_type type)
{
	chan_begin(q->chan, w, type, q->id);
	msg_put_u(w, q->endpoint);
}

void
question_answer_end(struct question *q, struct msg_writer *w)
{
	int error = chan_end(q->chan, w);

	if (error != 0)
		log_warn(
		    "an answer to the keeper is lost: %s", kms_strerror(error));
}

static void
send_error(struct chan *chan, uint64_t id, uint64_t endpoint,
    enum chain_error error, const char *text)
{
	struct msg_writer w;
	int failed;

	chan_begin(chan, &w, MSG_CHAINKEEPER_ERROR, id);
	msg_put_u(&w, endpoint);
	msg_put_u(&w, error);
	msg_put_s(&w, text);
	failed = chan_end(chan, &w);
	if (failed != 0)
		log_warn("an answer to the keeper is lost: %s",
		    kms_strerror(failed));
}

void
question_fail(
    struct question *q, enum chain_error error, const char *format, ...)
{
	va_list args;

	if (q->error != 0)
		return;
	q->error = error;
	va_start(args, format);
	(void)vsnprintf(q->text, sizeof(q->text), format, args);
	va_end(args);
}

/* ---- running ------------------------------------------------------------- */

static void share(struct question *q, struct shared *shared);

static void
question_attempt(struct question *q)
{
	uint64_t now = uv_now(q->all->loop);

	if (q->any)
		q->endpoint = choose_endpoint(q);
	q->tried |= 1U << q->endpoint;
	q->attempt_deadline = q->deadline;
	if (untried(q) > 0 && now < q->deadline)
		q->attempt_deadline = now + (q->deadline - now) / 2;
	q->error = 0;
	q->reverted = 0;
	q->next = q->kind->start;
	share(q, &q->all->endpoints[q->endpoint].chain);
}

/* 1 when the question goes on at another endpoint. */
static int
question_failed(struct question *q)
{
	if (q->error != CHAIN_ERROR_REFUSED && q->error != CHAIN_ERROR_BUSY)
		endpoint_failed(q->all, q->endpoint, q->text);
	if (!q->reverted && untried(q) > 0 &&
	    uv_now(q->all->loop) < q->deadline) {
		question_attempt(q);
		return 1;
	}
	send_error(q->chan, q->id, q->endpoint, q->error, q->text);
	return 0;
}

/* Everything asked for is there: the next step, or the end. */
static void
question_run(struct question *q)
{
	if (q->running)
		return;
	q->running = 1;
	while (q->pending == 0) {
		question_step_fn step = q->next;

		if (q->error != 0) {
			if (question_failed(q))
				continue;
			question_free(q);
			return;
		}
		if (step == NULL) {
			endpoint_answered(q->all, q->endpoint);
			question_free(q);
			return;
		}
		q->next = NULL;
		step(q);
	}
	q->running = 0;
}

int
questions_take(struct questions *all, struct chan *chan, const struct msg *msg,
    const struct question_kind *kind)
{
	uint64_t endpoint = msg->v[0].u;
	struct question *q;

	if (endpoint != MSG_ENDPOINT_ANY &&
	    endpoint >= rpc_endpoint_count(all->rpc)) {
		send_error(chan, msg->id, endpoint, CHAIN_ERROR_UNREACHABLE,
		    "there is no such endpoint");
		return 0;
	}
	q = all->open < QUESTIONS_MAX ? calloc(1, sizeof(*q) + kind->state_size)
				      : NULL;
	if (q == NULL) {
		send_error(chan, msg->id, endpoint, CHAIN_ERROR_BUSY,
		    "too many questions are open");
		return 0;
	}
	all->open++;
	q->all = all;
	q->config = all->config;
	q->kind = kind;
	q->chan = chan;
	q->id = msg->id;
	q->began = uv_now(all->loop);
	q->deadline = q->began + all->config->timeout_ms;
	q->any = endpoint == MSG_ENDPOINT_ANY;
	q->endpoint = q->any ? 0 : (size_t)endpoint;
	kind->read(q, msg);
	question_attempt(q);
	question_run(q);
	return 0;
}

/* ---- calls --------------------------------------------------------------- */

/* One call of one question. */
struct asked {
	struct question *q;
	question_result_fn result;
	question_data_fn data; /* instead of result: of eth_call */
	question_refused_fn refused;
	question_extra_fn extra; /* instead of result */
	const char *what;	 /* method, for the log */
};

static int
take_data(struct asked *asked, json_t *result)
{
	struct buf bytes;
	int error;

	buf_init(&bytes, RPC_ANSWER_MAX / 2);
	error = rpc_parse_data(result, &bytes);
	if (error == 0 && bytes.len == 0)
		question_fail(asked->q, CHAIN_ERROR_MALFORMED,
		    "eth_call: no contract at the registry's address");
	else if (error == 0)
		error = asked->data(asked->q, bytes.data, bytes.len);
	buf_free(&bytes);
	return error;
}

static void
on_result(const struct rpc_result *result, void *arg)
{
	struct asked *asked = arg;
	struct question *q = asked->q;
	int error = 0;

	if (asked->extra != NULL) {
		asked->extra(q, result->error == 0 ? result->result : NULL,
		    result->reason);
	} else if (result->error == CHAIN_ERROR_REFUSED &&
	    asked->refused != NULL && asked->refused(q, result->text) == 0) {
		error = 0;
	} else if (result->error != 0) {
		if (q->error == 0)
			q->reverted = result->reverted;
		question_fail(q, result->error, "%s", result->text);
	} else if (asked->data != NULL) {
		error = take_data(asked, result->result);
	} else {
		error = asked->result(q, result->result);
	}
	if (error != 0)
		question_fail(q, CHAIN_ERROR_MALFORMED, "%s: %s", asked->what,
		    kms_strerror(error));
	free(asked);
	q->pending--;
	question_run(q);
}

static void
ask(struct question *q, const char *method, const char *params,
    const struct asked *how)
{
	struct rpc_request request = { .endpoint = q->endpoint,
		.method = method,
		.params = params,
		.deadline = q->attempt_deadline,
		.retries = untried(q) > 0 ? RETRIES_ANY : RETRIES_ALONE,
		.refusal_final = how->refused != NULL };
	struct asked *asked = malloc(sizeof(*asked));
	uint64_t now = uv_now(q->all->loop);

	if (how->extra != NULL && now < request.deadline) {
		request.deadline = now + (request.deadline - now) / 2;
		request.retries = RETRIES_ANY;
	}
	if (asked != NULL) {
		*asked = *how;
		asked->q = q;
		asked->what = method;
	}
	if (asked == NULL ||
	    rpc_call(q->all->rpc, &request, on_result, asked) != 0) {
		free(asked);
		if (how->extra == NULL)
			question_fail(q, CHAIN_ERROR_BUSY, "out of memory");
		return;
	}
	q->pending++;
}

void
question_ask(struct question *q, const char *method, const char *params,
    question_result_fn result)
{
	ask(q, method, params, &(struct asked){ .result = result });
}

void
question_ask_once(struct question *q, const char *method, const char *params,
    question_result_fn result, question_refused_fn refused)
{
	ask(q, method, params,
	    &(struct asked){ .result = result, .refused = refused });
}

void
question_ask_extra(struct question *q, const char *method, const char *params,
    question_extra_fn extra)
{
	ask(q, method, params, &(struct asked){ .extra = extra });
}

void
question_ask_view(struct question *q, const struct eth_address *to,
    const struct abi_calldata *call, uint64_t block, question_data_fn result)
{
	char address[ETH_ADDRESS_TEXT_LEN + 1];
	char data[2 * ABI_CALLDATA_MAX + 1];
	char params[512];

	eth_address_format(to, address);
	hex_encode(call->data, call->len, data);
	(void)snprintf(params, sizeof(params),
	    "[{\"to\":\"%s\",\"data\":\"0x%s\"},\"0x%llx\"]", address, data,
	    (unsigned long long)block);
	ask(q, "eth_call", params, &(struct asked){ .data = result });
}

static int
take_block(struct question *q, json_t *result)
{
	uint64_t wanted = q->block.number;
	int error = rpc_parse_block(result, &q->block);

	if (error == KMS_ENOENT) {
		question_fail(q, CHAIN_ERROR_REFUSED,
		    "eth_getBlockByNumber: the block is not known");
		return 0;
	}
	if (error == 0 && wanted != UINT64_MAX && q->block.number != wanted)
		error = KMS_EPROTO;
	return error;
}

void
question_need_block(struct question *q, uint64_t number)
{
	char params[64];

	q->block.number = number;
	if (number == UINT64_MAX)
		(void)snprintf(params, sizeof(params), "[\"finalized\",false]");
	else
		(void)snprintf(params, sizeof(params), "[\"0x%llx\",false]",
		    (unsigned long long)number);
	question_ask(q, "eth_getBlockByNumber", params, take_block);
}

/* ---- shared reads -------------------------------------------------------- */

static int
take_chain_id(struct shared *shared, json_t *result, struct question *said)
{
	uint64_t configured = shared->all->config->chain_id, id;
	int error = rpc_parse_quantity(result, UINT64_MAX, &id);

	if (error == 0 && id != configured)
		question_fail(said, CHAIN_ERROR_WRONG_CHAIN,
		    "eth_chainId is %llu, configured is %llu",
		    (unsigned long long)id, (unsigned long long)configured);
	return error;
}

static int
take_head(struct shared *shared, json_t *result)
{
	struct rpc_block *head =
	    &shared->all->endpoints[shared->endpoint].head_block;
	int error = rpc_parse_block(result, head);

	if (error == 0 && head->number >= metrics[METRIC_CHAIN_HEAD]) {
		metrics[METRIC_CHAIN_HEAD] = head->number;
		metrics[METRIC_CHAIN_HEAD_TIME] =
		    head->time < UINT64_MAX / SECOND ? head->time * SECOND : 0;
	}
	return error;
}

static int
is_chain(const struct shared *shared)
{
	return shared == &shared->all->endpoints[shared->endpoint].chain;
}

static void
wake(struct shared *shared, const struct question *said)
{
	STAILQ_HEAD(question_list, question)
	waiters = STAILQ_HEAD_INITIALIZER(waiters);
	struct question *q;

	STAILQ_CONCAT(&waiters, &shared->waiters);
	while ((q = STAILQ_FIRST(&waiters)) != NULL) {
		STAILQ_REMOVE_HEAD(&waiters, next_waiter);
		if (said->error != 0)
			question_fail(q, said->error, "%s", said->text);
		else if (!is_chain(shared))
			q->head =
			    shared->all->endpoints[q->endpoint].head_block;
		q->pending--;
		question_run(q);
	}
}

static void
on_shared(const struct rpc_result *result, void *arg)
{
	struct shared *shared = arg;
	struct question said = { 0 }; /* carries the error alone */
	int chain = is_chain(shared), error = 0;

	shared->asking = 0;
	if (result->error != 0)
		question_fail(&said, result->error, "%s", result->text);
	else if (chain)
		error = take_chain_id(shared, result->result, &said);
	else
		error = take_head(shared, result->result);
	if (error != 0)
		question_fail(&said, CHAIN_ERROR_MALFORMED, "%s: %s",
		    chain ? "eth_chainId" : "eth_getBlockByNumber",
		    kms_strerror(error));
	if (said.error == 0)
		shared->valid_till = shared->asked +
		    (chain ? CHAIN_ID_CHECKED_MS : HEAD_SHARED_MS);
	wake(shared, &said);
}

/* Wait for a shared read; start it when nobody has. Nothing when it is valid
 * still. */
static void
share(struct question *q, struct shared *shared)
{
	struct rpc_request request = { .endpoint = q->endpoint,
		.method = "eth_chainId",
		.params = "[]",
		.deadline = q->attempt_deadline,
		.retries = untried(q) > 0 ? RETRIES_ANY : RETRIES_ALONE };
	uint64_t now = uv_now(q->all->loop);
	uint64_t half = now + q->config->timeout_ms / 2;

	/* Who joins later must have time left for another endpoint. */
	if (request.deadline > half)
		request.deadline = half;
	if (now < shared->valid_till) {
		if (!is_chain(shared))
			q->head = q->all->endpoints[q->endpoint].head_block;
		return;
	}
	shared->valid_till = 0;
	if (!is_chain(shared)) {
		request.method = "eth_getBlockByNumber";
		request.params = "[\"latest\",false]";
	}
	if (!shared->asking &&
	    rpc_call(q->all->rpc, &request, on_shared, shared) != 0) {
		question_fail(q, CHAIN_ERROR_BUSY, "out of memory");
		return;
	}
	if (!shared->asking) {
		shared->asking = 1;
		shared->asked = now;
	}
	STAILQ_INSERT_TAIL(&shared->waiters, q, next_waiter);
	q->pending++;
}

void
question_need_head(struct question *q)
{
	share(q, &q->all->endpoints[q->endpoint].head);
}

int
questions_open(uv_loop_t *loop, struct rpc *rpc,
    const struct questions_config *config, struct questions **out)
{
	struct questions *all = calloc(1, sizeof(*all));

	if (all == NULL)
		return KMS_ENOMEM;
	all->loop = loop;
	all->rpc = rpc;
	all->config = config;
	for (size_t i = 0; i < RPC_ENDPOINTS_MAX; i++) {
		struct endpoint_state *endpoint = &all->endpoints[i];

		endpoint->chain.all = endpoint->head.all = all;
		endpoint->chain.endpoint = endpoint->head.endpoint = i;
		STAILQ_INIT(&endpoint->chain.waiters);
		STAILQ_INIT(&endpoint->head.waiters);
	}
	*out = all;
	return 0;
}
