#include "kms-chain/rpc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/random.h>

#include "common/buf.h"
#include "common/err.h"
#include "proto/metrics.h"

#define BODY_MAX 8192
#define BACKOFF_MS 50U
#define BACKOFF_STEPS 5U /* doublings */
#define IN_FLIGHT_MIN 8	 /* of one endpoint, however many there are */

#define HTTP_OK 200
#define HTTP_TOO_MANY 429
#define HTTP_SERVER_ERROR 500

_Static_assert(RPC_ENDPOINTS_MAX == METRICS_ENDPOINTS,
    "/metrics has one histogram for each endpoint");

struct call {
	TAILQ_ENTRY(call) link;
	struct rpc *rpc;
	size_t endpoint;
	const char *method;
	struct buf body;
	uint64_t id;
	uint64_t deadline;
	uint64_t began_ns;    /* of the latest try */
	unsigned int retries; /* left */
	unsigned int tries;   /* made */
	bool refusal_final;
	uv_timer_t timer; /* delay before the next try, or its deadline */
	enum chain_error error;
	char text[RPC_TEXT_SIZE];
	rpc_done_fn done;
	void *arg;
};
TAILQ_HEAD(call_list, call);

struct endpoint {
	const struct destination *to;
	size_t in_flight;
	struct call_list waiting;
};

struct rpc {
	uv_loop_t *loop;
	struct fetch *fetch;
	size_t count;
	size_t in_flight_max; /* per endpoint */
	uint64_t next_id;
	struct endpoint endpoints[RPC_ENDPOINTS_MAX];
};

static void call_queue(struct call *call);

uint32_t
rpc_jitter(uint32_t bound)
{
	uint32_t value = 0;

	if (getrandom(&value, sizeof(value), GRND_NONBLOCK) < 0)
		return 0;
	return value % bound;
}

/* ---- ending -------------------------------------------------------------- */

static void
on_timer_closed(uv_handle_t *handle)
{
	struct call *call = handle->data;

	buf_free(&call->body);
	free(call);
}

static void
call_end(struct call *call, struct rpc_result *result)
{
	(void)uv_timer_stop(&call->timer);
	if (result->error != 0)
		metrics[METRIC_CHAIN_FAILURES + (int)result->error - 1]++;
	call->done(result, call->arg);
	uv_close((uv_handle_t *)&call->timer, on_timer_closed);
}

/* refusal: the JSON-RPC error; NULL when it is none. */
static void
call_fail(struct call *call, const struct rpc_answer *refusal)
{
	struct rpc_result result = { .error = call->error,
		.reverted = refusal != NULL && refusal->reverted,
		.text = call->text,
		.reason = refusal != NULL ? refusal->reason : "" };

	call_end(call, &result);
}

static void
on_retry(uv_timer_t *timer)
{
	call_queue(timer->data);
}

/* Try again when there is a try and time left. 1 when it will be. */
static int
call_retry(struct call *call)
{
	unsigned int step =
	    call->tries < BACKOFF_STEPS ? call->tries : BACKOFF_STEPS;
	uint32_t delay = BACKOFF_MS << (step > 0 ? step - 1 : 0);

	delay = delay / 2 + rpc_jitter(delay);
	if (call->retries == 0 ||
	    uv_now(call->rpc->loop) + delay >= call->deadline)
		return 0;
	call->retries--;
	metrics[METRIC_CHAIN_RETRIES]++;
	(void)uv_timer_start(&call->timer, on_retry, delay, 0);
	return 1;
}

static void
say(struct call *call, enum chain_error error, const char *text)
{
	call->error = error;
	(void)snprintf(
	    call->text, sizeof(call->text), "%s: %s", call->method, text);
	destination_scrub(call->rpc->endpoints[call->endpoint].to, call->text);
}

/* ---- answers ------------------------------------------------------------- */

/* Errors that another try may cure: "header not found" on a node that lags
 * behind its neighbour, rate limits, internal errors. */
static bool
is_passing(const struct rpc_answer *answer)
{
	return !answer->reverted &&
	    (answer->code == -32000 || answer->code == -32005 ||
		answer->code == -32603);
}

static void
on_body(struct call *call, const struct fetch_result *fetched)
{
	struct rpc_result result = { .reason = "" };
	struct rpc_answer answer;

	if (rpc_answer_parse(fetched->body, fetched->len, call->id, &answer) !=
	    0) {
		say(call, CHAIN_ERROR_MALFORMED, answer.text);
		call_fail(call, NULL);
	} else if (answer.result == NULL) {
		say(call, CHAIN_ERROR_REFUSED, answer.text);
		destination_scrub(
		    call->rpc->endpoints[call->endpoint].to, answer.reason);
		if (call->refusal_final || !is_passing(&answer) ||
		    !call_retry(call))
			call_fail(call, &answer);
	} else {
		result.result = answer.result;
		call_end(call, &result);
	}
	rpc_answer_free(&answer);
}

static void
on_status(struct call *call, long status)
{
	char text[32];
	bool passing = status == HTTP_TOO_MANY || status >= HTTP_SERVER_ERROR;

	(void)snprintf(text, sizeof(text), "HTTP status %ld", status);
	say(call, passing ? CHAIN_ERROR_UNREACHABLE : CHAIN_ERROR_MALFORMED,
	    text);
	if (!passing || !call_retry(call))
		call_fail(call, NULL);
}

static enum chain_error
error_of(int error)
{
	switch (error) {
	case KMS_ETIMEOUT:
		return CHAIN_ERROR_TIMEOUT;
	case KMS_ETOOBIG:
	case KMS_EPROTO:
		return CHAIN_ERROR_MALFORMED;
	case KMS_EBUSY:
		return CHAIN_ERROR_BUSY;
	default:
		return CHAIN_ERROR_UNREACHABLE;
	}
}

static void
on_transport(struct call *call, int error, const char *text)
{
	say(call, error_of(error), text);
	if (call->error != CHAIN_ERROR_UNREACHABLE || !call_retry(call))
		call_fail(call, NULL);
}

static void endpoint_run(struct rpc *rpc, struct endpoint *endpoint);

static void
on_fetched(const struct fetch_result *fetched, void *arg)
{
	struct call *call = arg;
	struct rpc *rpc = call->rpc;
	struct endpoint *endpoint = &rpc->endpoints[call->endpoint];

	endpoint->in_flight--;
	metrics[METRIC_CHAIN_IN_FLIGHT]--;
	metrics_observe(METRIC_CHAIN_LATENCY + call->endpoint * METRICS_BUCKETS,
	    (uv_hrtime() - call->began_ns) / 1000);
	if (fetched->error != 0)
		on_transport(call, fetched->error, fetched->text);
	else if (fetched->status != HTTP_OK)
		on_status(call, fetched->status);
	else
		on_body(call, fetched);
	endpoint_run(rpc, endpoint);
}

/* ---- asking -------------------------------------------------------------- */

static void
call_start(struct call *call)
{
	struct rpc *rpc = call->rpc;
	struct endpoint *endpoint = &rpc->endpoints[call->endpoint];
	uint64_t now = uv_now(rpc->loop);
	int error = KMS_ETIMEOUT;

	(void)uv_timer_stop(&call->timer);
	call->tries++;
	call->began_ns = uv_hrtime();
	if (now < call->deadline) {
		metrics[METRIC_CHAIN_REQUESTS]++;
		error = fetch_post(rpc->fetch, endpoint->to, call->body.data,
		    call->body.len, RPC_ANSWER_MAX, call->deadline - now,
		    on_fetched, call);
	}
	if (error == 0) {
		endpoint->in_flight++;
		metrics[METRIC_CHAIN_IN_FLIGHT]++;
	} else {
		on_transport(call, error, kms_strerror(error));
	}
}

static void
endpoint_run(struct rpc *rpc, struct endpoint *endpoint)
{
	struct call *call;

	while (endpoint->in_flight < rpc->in_flight_max &&
	    (call = TAILQ_FIRST(&endpoint->waiting)) != NULL) {
		TAILQ_REMOVE(&endpoint->waiting, call, link);
		metrics[METRIC_CHAIN_WAITING]--;
		call_start(call);
	}
}

/* Its turn did not come in time. */
static void
on_waited_too_long(uv_timer_t *timer)
{
	struct call *call = timer->data;
	struct endpoint *endpoint = &call->rpc->endpoints[call->endpoint];

	TAILQ_REMOVE(&endpoint->waiting, call, link);
	metrics[METRIC_CHAIN_WAITING]--;
	say(call, CHAIN_ERROR_TIMEOUT, "too many requests before it");
	call_fail(call, NULL);
}

/* Always through the loop, so that done never runs inside rpc_call. */
static void
on_turn(uv_timer_t *timer)
{
	struct call *call = timer->data;
	struct rpc *rpc = call->rpc;
	struct endpoint *endpoint = &rpc->endpoints[call->endpoint];
	uint64_t now = uv_now(rpc->loop);

	if (endpoint->in_flight < rpc->in_flight_max &&
	    TAILQ_EMPTY(&endpoint->waiting)) {
		call_start(call);
		return;
	}
	TAILQ_INSERT_TAIL(&endpoint->waiting, call, link);
	metrics[METRIC_CHAIN_WAITING]++;
	(void)uv_timer_start(&call->timer, on_waited_too_long,
	    call->deadline > now ? call->deadline - now : 0, 0);
}

static void
call_queue(struct call *call)
{
	(void)uv_timer_start(&call->timer, on_turn, 0, 0);
}

int
rpc_call(struct rpc *rpc, const struct rpc_request *request, rpc_done_fn done,
    void *arg)
{
	struct call *call = calloc(1, sizeof(*call));
	int error;

	if (call == NULL)
		return KMS_ENOMEM;
	call->rpc = rpc;
	call->endpoint = request->endpoint;
	call->method = request->method;
	call->id = rpc->next_id++;
	call->deadline = request->deadline;
	call->retries = request->retries;
	call->refusal_final = request->refusal_final;
	call->done = done;
	call->arg = arg;
	buf_init(&call->body, BODY_MAX);
	error = buf_printf(&call->body,
	    "{\"jsonrpc\":\"2.0\",\"id\":%llu,\"method\":\"%s\","
	    "\"params\":%s}",
	    (unsigned long long)call->id, request->method, request->params);
	if (error != 0) {
		buf_free(&call->body);
		free(call);
		return error;
	}
	(void)uv_timer_init(rpc->loop, &call->timer);
	call->timer.data = call;
	call_queue(call);
	return 0;
}

int
rpc_open(uv_loop_t *loop, struct fetch *fetch,
    const struct destination *endpoints, size_t count, struct rpc **out)
{
	struct rpc *rpc;

	if (count == 0 || count > RPC_ENDPOINTS_MAX)
		return KMS_EINVAL;
	rpc = calloc(1, sizeof(*rpc));
	if (rpc == NULL)
		return KMS_ENOMEM;
	rpc->loop = loop;
	rpc->fetch = fetch;
	rpc->count = count;
	rpc->in_flight_max = RPC_IN_FLIGHT_MAX / count;
	if (rpc->in_flight_max < IN_FLIGHT_MIN)
		rpc->in_flight_max = IN_FLIGHT_MIN;
	rpc->next_id = 1;
	for (size_t i = 0; i < count; i++) {
		rpc->endpoints[i].to = &endpoints[i];
		TAILQ_INIT(&rpc->endpoints[i].waiting);
	}
	*out = rpc;
	return 0;
}

size_t
rpc_endpoint_count(const struct rpc *rpc)
{
	return rpc->count;
}

const struct destination *
rpc_destination(const struct rpc *rpc, size_t i)
{
	return rpc->endpoints[i].to;
}
