#include "kms-chain/transaction_calls.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/keccak256.h"
#include "kms-chain/question.h"

#define RAW_MAX 1024
#define NONCE_MAX (UINT64_MAX - 1) /* EIP-2681 */

/* ---- KEEPERCHAIN_TX_INPUTS ----------------------------------------------- */

struct inputs_state {
	struct eth_address wallet;
	uint64_t chain_id, pending, latest, tip;
	struct eth_word balance;
};

static void
inputs_read(struct question *q, const struct msg *msg)
{
	struct inputs_state *s = question_state(q);

	memcpy(s->wallet.bytes, msg->v[1].data, ETH_ADDRESS_LEN);
}

static int
take_chain_id(struct question *q, json_t *result)
{
	struct inputs_state *s = question_state(q);
	int error = rpc_parse_quantity(result, UINT64_MAX, &s->chain_id);

	if (error == 0 && s->chain_id != q->config->chain_id)
		question_fail(q, CHAIN_ERROR_WRONG_CHAIN,
		    "eth_chainId is %llu, configured is %llu",
		    (unsigned long long)s->chain_id,
		    (unsigned long long)q->config->chain_id);
	return error;
}

static int
take_pending(struct question *q, json_t *result)
{
	struct inputs_state *s = question_state(q);

	return rpc_parse_quantity(result, NONCE_MAX, &s->pending);
}

static int
take_latest(struct question *q, json_t *result)
{
	struct inputs_state *s = question_state(q);

	return rpc_parse_quantity(result, NONCE_MAX, &s->latest);
}

static int
take_tip(struct question *q, json_t *result)
{
	struct inputs_state *s = question_state(q);

	return rpc_parse_quantity(result, UINT64_MAX, &s->tip);
}

static int
take_balance(struct question *q, json_t *result)
{
	struct inputs_state *s = question_state(q);

	return rpc_parse_quantity_word(result, &s->balance);
}

static void
inputs_answer(struct question *q)
{
	struct inputs_state *s = question_state(q);
	struct msg_writer w;

	if (!q->head.has_base_fee) {
		question_fail(q, CHAIN_ERROR_MALFORMED,
		    "eth_getBlockByNumber: a block without baseFeePerGas");
		return;
	}
	question_answer_begin(q, &w, MSG_CHAINKEEPER_TX_INPUTS);
	msg_put_u(&w, s->chain_id);
	msg_put_u(&w, s->pending);
	msg_put_u(&w, s->latest);
	msg_put_u(&w, s->tip);
	msg_put_u(&w, q->head.base_fee);
	msg_put_d(&w, s->balance.bytes, ETH_WORD_LEN);
	question_answer_end(q, &w);
}

static void
inputs_start(struct question *q)
{
	struct inputs_state *s = question_state(q);
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], pending[80], latest[80];

	eth_address_format(&s->wallet, wallet);
	(void)snprintf(
	    pending, sizeof(pending), "[\"%s\",\"pending\"]", wallet);
	(void)snprintf(latest, sizeof(latest), "[\"%s\",\"latest\"]", wallet);
	question_need_head(q);
	question_ask(q, "eth_chainId", "[]", take_chain_id);
	question_ask(q, "eth_getTransactionCount", pending, take_pending);
	question_ask(q, "eth_getTransactionCount", latest, take_latest);
	question_ask(q, "eth_maxPriorityFeePerGas", "[]", take_tip);
	question_ask(q, "eth_getBalance", latest, take_balance);
	q->next = inputs_answer;
}

static const struct question_kind inputs_kind = {
	.state_size = sizeof(struct inputs_state),
	.read = inputs_read,
	.start = inputs_start,
};

int
transaction_inputs(struct chan *chan, struct msg *msg, void *arg)
{
	return questions_take(arg, chan, msg, &inputs_kind);
}

/* ---- KEEPERCHAIN_SEND ---------------------------------------------------- */

struct send_state {
	uint8_t raw[RAW_MAX];
	size_t len;
	struct eth_word hash; /* as answered */
};

static void
send_read(struct question *q, const struct msg *msg)
{
	struct send_state *s = question_state(q);

	s->len = msg->v[1].len < RAW_MAX ? msg->v[1].len : RAW_MAX;
	memcpy(s->raw, msg->v[1].data, s->len);
}

static int
take_sent(struct question *q, json_t *result)
{
	struct send_state *s = question_state(q);

	return rpc_parse_word(result, &s->hash);
}

static int
take_refusal(struct question *q, const char *text)
{
	struct send_state *s = question_state(q);

	if (!rpc_error_is_known_transaction(text))
		return KMS_EPROTO;
	keccak256(s->raw, s->len, s->hash.bytes);
	return 0;
}

static void
send_answer(struct question *q)
{
	struct send_state *s = question_state(q);
	struct msg_writer w;

	question_answer_begin(q, &w, MSG_CHAINKEEPER_SENT);
	msg_put_d(&w, s->hash.bytes, ETH_WORD_LEN);
	question_answer_end(q, &w);
}

static void
send_start(struct question *q)
{
	struct send_state *s = question_state(q);
	char hex[2 * RAW_MAX + 1], params[2 * RAW_MAX + 8];

	hex_encode(s->raw, s->len, hex);
	(void)snprintf(params, sizeof(params), "[\"0x%s\"]", hex);
	question_ask_once(
	    q, "eth_sendRawTransaction", params, take_sent, take_refusal);
	q->next = send_answer;
}

static const struct question_kind send_kind = {
	.state_size = sizeof(struct send_state),
	.read = send_read,
	.start = send_start,
};

int
transaction_send(struct chan *chan, struct msg *msg, void *arg)
{
	return questions_take(arg, chan, msg, &send_kind);
}

/* ---- KEEPERCHAIN_RECEIPT ------------------------------------------------- */

struct receipt_state {
	struct eth_word hash;
	struct rpc_receipt receipt;
	int mined;
	char reason[ABI_REVERT_TEXT_MAX + 1]; /* of the revert; or "" */
};

static void
receipt_read(struct question *q, const struct msg *msg)
{
	struct receipt_state *s = question_state(q);

	memcpy(s->hash.bytes, msg->v[1].data, ETH_WORD_LEN);
}

static int
take_receipt(struct question *q, json_t *result)
{
	struct receipt_state *s = question_state(q);
	int error = rpc_parse_receipt(result, &s->receipt);

	s->mined = error == 0;
	if (error == KMS_ENOENT)
		return 0;
	if (error == 0 &&
	    memcmp(s->receipt.hash.bytes, s->hash.bytes, ETH_WORD_LEN) != 0)
		error = KMS_EPROTO;
	return error;
}

static void
receipt_answer(struct question *q)
{
	struct receipt_state *s = question_state(q);
	struct msg_writer w;

	question_answer_begin(q, &w, MSG_CHAINKEEPER_RECEIPT);
	msg_put_b(&w, s->mined);
	msg_put_u(&w, s->receipt.status);
	msg_put_u(&w, s->receipt.block);
	msg_put_s(&w, s->reason);
	question_answer_end(q, &w);
}

static void
take_reason(struct question *q, json_t *result, const char *reason)
{
	struct receipt_state *s = question_state(q);

	if (result == NULL)
		(void)snprintf(s->reason, sizeof(s->reason), "%s", reason);
}

/* The same call once more, on the state that the transaction left behind. */
static void
take_reverted(struct question *q, json_t *result, const char *reason)
{
	struct receipt_state *s = question_state(q);
	char from[ETH_ADDRESS_TEXT_LEN + 1], to[ETH_ADDRESS_TEXT_LEN + 1];
	char input[2 * RPC_INPUT_MAX + 1], params[512];
	struct rpc_transaction tx;

	(void)reason;
	if (result == NULL || rpc_parse_transaction(result, &tx) != 0 ||
	    memcmp(tx.hash.bytes, s->hash.bytes, ETH_WORD_LEN) != 0 ||
	    !eth_address_equal(&tx.to, &q->config->kms_registry))
		return;
	eth_address_format(&tx.from, from);
	eth_address_format(&tx.to, to);
	hex_encode(tx.input, tx.input_len, input);
	(void)snprintf(params, sizeof(params),
	    "[{\"from\":\"%s\",\"to\":\"%s\",\"data\":\"0x%s\"},\"0x%llx\"]",
	    from, to, input, (unsigned long long)s->receipt.block);
	question_ask_extra(q, "eth_call", params, take_reason);
}

static void
receipt_explain(struct question *q)
{
	struct receipt_state *s = question_state(q);
	char hex[2 * ETH_WORD_LEN + 1], params[2 * ETH_WORD_LEN + 8];

	q->next = receipt_answer;
	if (!s->mined || s->receipt.status != 0)
		return;
	hex_encode(s->hash.bytes, ETH_WORD_LEN, hex);
	(void)snprintf(params, sizeof(params), "[\"0x%s\"]", hex);
	question_ask_extra(
	    q, "eth_getTransactionByHash", params, take_reverted);
}

static void
receipt_start(struct question *q)
{
	struct receipt_state *s = question_state(q);
	char hex[2 * ETH_WORD_LEN + 1], params[2 * ETH_WORD_LEN + 8];

	hex_encode(s->hash.bytes, ETH_WORD_LEN, hex);
	(void)snprintf(params, sizeof(params), "[\"0x%s\"]", hex);
	question_ask(q, "eth_getTransactionReceipt", params, take_receipt);
	q->next = receipt_explain;
}

static const struct question_kind receipt_kind = {
	.state_size = sizeof(struct receipt_state),
	.read = receipt_read,
	.start = receipt_start,
};

int
transaction_receipt(struct chan *chan, struct msg *msg, void *arg)
{
	return questions_take(arg, chan, msg, &receipt_kind);
}
