/*
 * One question of the keeper: from its message to the answer, by steps of
 * JSON-RPC calls that all go to one endpoint. When the keeper left the choice
 * to us and the endpoint fails, the whole question starts again at the next
 * one, so that an answer is never patched together from two.
 *
 * A kind of question (registry_calls.c, transaction_calls.c) is a step
 * function: it asks what it needs, names the next step, and returns; the next
 * step runs when all is there. The last step answers.
 */
#ifndef KMS_CHAIN_QUESTION_H
#define KMS_CHAIN_QUESTION_H

#include <jansson.h>
#include <sys/queue.h>
#include <uv.h>

#include "common/abi.h"
#include "common/eth.h"
#include "kms-chain/rpc.h"
#include "proto/chan.h"

#define QUESTIONS_MAX 320 /* open at once; more are CHAIN_ERROR_BUSY */

struct question;
struct questions;

typedef void (*question_step_fn)(struct question *q);

/* The result of one call. 0, or KMS_E*: the answer is malformed. */
typedef int (*question_result_fn)(struct question *q, json_t *result);

/* The bytes that a view returned. As question_result_fn. */
typedef int (*question_data_fn)(
    struct question *q, const uint8_t *data, size_t len);

struct question_kind {
	size_t state_size;
	/* Copy the fields behind the endpoint into question_state(q). */
	void (*read)(struct question *q, const struct msg *msg);
	question_step_fn start;
};

struct questions_config {
	uint64_t chain_id;
	uint64_t timeout_ms; /* of a question, all its tries together */
	struct eth_address app_registry;
	struct eth_address kms_registry;
};

struct question {
	struct questions *all;
	const struct questions_config *config;
	const struct question_kind *kind;
	question_step_fn next;
	struct rpc_block head;	/* after question_need_head */
	struct rpc_block block; /* after question_need_block */

	/* the rest belongs to question.c */
	struct chan *chan;
	uint64_t id;
	uint64_t began;		   /* loop time */
	uint64_t deadline;	   /* of the answer, loop time */
	uint64_t attempt_deadline; /* of this endpoint's attempt */
	size_t endpoint;
	unsigned int tried; /* mask of endpoints */
	int any;	    /* the endpoint is ours to choose */
	int running;	    /* question_run is on the stack */
	unsigned int pending;
	enum chain_error error;
	int reverted;
	STAILQ_ENTRY(question) next_waiter;
	char text[RPC_TEXT_SIZE];
	_Alignas(16) uint8_t state[];
};

/* It lives as long as the process; config is borrowed. KMS_ENOMEM. */
int questions_open(uv_loop_t *loop, struct rpc *rpc,
    const struct questions_config *config, struct questions **out);

/* A message whose first field is the endpoint. Always 0: what goes wrong is
 * answered with CHAINKEEPER_ERROR. */
int questions_take(struct questions *all, struct chan *chan,
    const struct msg *msg, const struct question_kind *kind);

static inline void *
question_state(struct question *q)
{
	return q->state;
}

/* The first failure is the one that counts. */
void question_fail(struct question *q, enum chain_error error,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Call method with params (a JSON array, copied). */
void question_ask(struct question *q, const char *method, const char *params,
    question_result_fn result);

/* eth_sendRawTransaction: as question_ask; refused is asked about a JSON-RPC
 * error's text and returns 0 when that is as good as a result. */
typedef int (*question_refused_fn)(struct question *q, const char *text);
void question_ask_once(struct question *q, const char *method,
    const char *params, question_result_fn result, question_refused_fn refused);

/*
 * A call that the answer can do without: what fails in it is no failure of the
 * question, and it takes half of the time left at most. result is NULL when
 * there is none; reason is then why a contract reverted, decoded, or "".
 */
typedef void (*question_extra_fn)(
    struct question *q, json_t *result, const char *reason);
void question_ask_extra(struct question *q, const char *method,
    const char *params, question_extra_fn extra);

/* eth_call of a view at a block. */
void question_ask_view(struct question *q, const struct eth_address *to,
    const struct abi_calldata *call, uint64_t block, question_data_fn result);

/* The head, at most half a second old, shared with other questions. One at a
 * time. */
void question_need_head(struct question *q);

/* A block by number, or "finalized" with UINT64_MAX. */
void question_need_block(struct question *q, uint64_t number);

/* Begin and send the answer: the endpoint is put already. */
void question_answer_begin(
    struct question *q, struct msg_writer *w, enum msg_type type);
void question_answer_end(struct question *q, struct msg_writer *w);

#endif
