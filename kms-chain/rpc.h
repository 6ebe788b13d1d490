/*
 * JSON-RPC 2.0 calls to the configured endpoints: numbering, a bounded number
 * under way per endpoint, retries of what may pass, the check of what comes
 * back. Which endpoint to ask is decided in question.c.
 */
#ifndef KMS_CHAIN_RPC_H
#define KMS_CHAIN_RPC_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "kms-chain/destination.h"
#include "kms-chain/fetch.h"
#include "kms-chain/rpc_parse.h"
#include "proto/msg.h"

#define RPC_ENDPOINTS_MAX 16 /* METRICS_ENDPOINTS */
#define RPC_IN_FLIGHT_MAX 64 /* of all endpoints, but 8 of each at least */
#define RPC_ANSWER_MAX (1U << 20)
#define RPC_TEXT_SIZE 320

struct rpc;

struct rpc_result {
	enum chain_error error; /* 0: result is set */
	bool reverted;		/* CHAIN_ERROR_REFUSED by a contract */
	json_t *result;		/* borrowed until the callback returns */
	const char *text;	/* of the error */
	const char *reason;	/* of a revert, decoded; or "" */
};

/* Called once per rpc_call that returned 0, never from within it. */
typedef void (*rpc_done_fn)(const struct rpc_result *result, void *arg);

/*
 * endpoints: count of them, 1..RPC_ENDPOINTS_MAX, borrowed for ever. Lives as
 * long as the process. KMS_EINVAL, KMS_ENOMEM.
 */
int rpc_open(uv_loop_t *loop, struct fetch *fetch,
    const struct destination *endpoints, size_t count, struct rpc **out);

size_t rpc_endpoint_count(const struct rpc *rpc);
const struct destination *rpc_destination(const struct rpc *rpc, size_t i);

struct rpc_request {
	size_t endpoint;      /* index */
	const char *method;   /* static */
	const char *params;   /* JSON array, copied */
	uint64_t deadline;    /* loop time in ms */
	unsigned int retries; /* further tries after a passing failure */
	bool refusal_final;   /* a JSON-RPC error is never a passing one */
};

/*
 * Ask. Waits its turn when the endpoint has enough under way. A try that
 * fails in transport, with HTTP 429 or 5xx, or with a passing JSON-RPC error
 * is repeated after a growing delay with jitter while the deadline allows.
 * KMS_ENOMEM.
 */
int rpc_call(struct rpc *rpc, const struct rpc_request *request,
    rpc_done_fn done, void *arg);

/* A random number below bound (1..2^31), for jitter only. */
uint32_t rpc_jitter(uint32_t bound);

#endif
