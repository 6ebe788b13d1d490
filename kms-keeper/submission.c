#include "kms-keeper/submission.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/keccak256.h"
#include "common/log.h"
#include "kms-keeper/transaction.h"
#include "proto/msg.h"

#define RETRY_MS 5000	/* after a failure */
#define RECEIPT_MS 1000 /* between looks at the receipt */
#define STUCK_MS 60000	/* until a transaction is replaced */
#define GWEI UINT64_C(1000000000)

struct submission {
	struct submission_config config;
	struct registry *registry;
	struct identity *identity;
	enum submission_state state;
	bool asking;	 /* a question is under way */
	bool replacing;	 /* the inputs asked for are for a replacement */
	int64_t next_ms; /* boot time of the next step */
	int64_t sent_ms; /* boot time of the last sending */
	struct kms_time now;
	struct eth_word secret_hash;
	struct transaction transaction; /* the last one signed */
	struct eth_word hash;		/* of it */
	uint64_t last_nonce; /* the highest of those signed for this hash */
	uint64_t mined_block;
	char problem[512];
};

struct submission *
submission_new(const struct submission_config *config,
    struct registry *registry, struct identity *identity)
{
	struct submission *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->config = *config;
	s->registry = registry;
	s->identity = identity;
	return s;
}

void
submission_free(struct submission *s)
{
	free(s);
}

enum submission_state
submission_state(const struct submission *s)
{
	return s->state;
}

bool
submission_open(const struct submission *s)
{
	return s->state == SUBMISSION_PREPARING || s->state == SUBMISSION_SENT;
}

bool
submission_needs(const struct submission *s, const struct eth_word *hash)
{
	return submission_open(s) &&
	    memcmp(hash->bytes, s->secret_hash.bytes, ETH_WORD_LEN) == 0;
}

uint64_t
submission_block(const struct submission *s)
{
	return s->mined_block;
}

bool
submission_awaits(const struct submission *s, const struct eth_word *hash,
    uint64_t block, uint64_t most)
{
	return s->state == SUBMISSION_MINED && block < s->mined_block &&
	    s->mined_block - block <= most &&
	    memcmp(hash->bytes, s->secret_hash.bytes, ETH_WORD_LEN) == 0;
}

const char *
submission_problem(const struct submission *s)
{
	return s->problem;
}

static void __attribute__((format(printf, 2, 3)))
trouble(struct submission *s, const char *format, ...)
{
	char text[sizeof(s->problem)];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(text, s->problem) != 0)
		log_warn("master secret transaction: %s", text);
	memcpy(s->problem, text, sizeof(text));
	s->next_ms = s->now.boot_ms + RETRY_MS;
}

static void
ask(struct submission *s, const struct registry_question *question,
    registry_done_fn done)
{
	int error = registry_ask(s->registry, question, s->now, done, s);

	if (error != 0)
		trouble(
		    s, "the chain cannot be asked: %s", kms_strerror(error));
	else
		s->asking = true;
}

static void
finish(struct submission *s, enum submission_state state, const char *text)
{
	log_info("master secret transaction: %s", text);
	s->state = state;
	s->problem[0] = '\0';
}

/* ---- sending ---- */

static void
on_sent(void *arg, int error, const struct registry_answer *answer)
{
	struct submission *s = arg;

	s->asking = false;
	if (error != 0) {
		trouble(s, "not accepted: %s", answer->text);
		/* It may have got through all the same: the receipt tells. */
		return;
	}
	if (memcmp(answer->hash.bytes, s->hash.bytes, ETH_WORD_LEN) != 0) {
		trouble(s, "the endpoint reports another transaction's hash");
		return;
	}
	s->problem[0] = '\0';
	s->next_ms = s->now.boot_ms + RECEIPT_MS;
}

static void
on_signed(void *arg, int error, const uint8_t *raw, size_t len)
{
	struct submission *s = arg;
	struct registry_question question = {
		.kind = REGISTRY_SEND,
		.endpoint = MSG_ENDPOINT_ANY,
		.raw = raw,
		.raw_len = len,
	};
	char text[2 * ETH_WORD_LEN + 1];

	s->asking = false;
	if (!submission_open(s))
		return;
	if (error != 0) {
		trouble(s, "signing failed: %s", kms_strerror(error));
		return;
	}
	if (s->transaction.nonce > s->last_nonce)
		s->last_nonce = s->transaction.nonce;
	keccak256(raw, len, s->hash.bytes);
	hex_encode(s->hash.bytes, ETH_WORD_LEN, text);
	log_info("sending setMasterSecretHash, transaction 0x%s", text);
	s->state = SUBMISSION_SENT;
	s->sent_ms = s->now.boot_ms;
	ask(s, &question, on_sent);
}

/* Does balance (wei, 256 bits) cover gas * max fee? */
static bool
can_pay(const struct eth_word *balance, uint64_t max_fee)
{
	unsigned __int128 need = (unsigned __int128)max_fee * TRANSACTION_GAS,
			  have = 0;

	for (size_t i = 0; i < 16; i++) {
		if (balance->bytes[i] != 0)
			return true;
	}
	for (size_t i = 16; i < ETH_WORD_LEN; i++)
		have = have << 8 | balance->bytes[i];
	return have >= need;
}

static int
set_fees(struct submission *s, const struct registry_answer *inputs,
    struct transaction *transaction)
{
	int error =
	    transaction_set_fees(transaction, inputs->base_fee, inputs->tip);

	if (error == 0 && s->replacing)
		error = transaction_raise_fees(transaction, &s->transaction);
	if (error == 0 && transaction->max_fee > SUBMISSION_MAX_FEE)
		error = KMS_ERANGE;
	return error;
}

/* A replacement takes the place of the last one; or a lower one, for a nonce
 * that was told too high would wait for ever; but none that is spent. */
static uint64_t
choose_nonce(const struct submission *s, const struct registry_answer *inputs)
{
	uint64_t nonce = inputs->nonce_pending;

	if (!s->replacing)
		return nonce;
	if (nonce > s->transaction.nonce)
		nonce = s->transaction.nonce;
	return nonce < inputs->nonce_latest ? inputs->nonce_latest : nonce;
}

static void
on_inputs(void *arg, int error, const struct registry_answer *inputs)
{
	struct submission *s = arg;
	struct transaction transaction = {
		.chain_id = s->config.chain_id,
		.registry = s->config.registry,
	};
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	s->asking = false;
	if (!submission_open(s))
		return;
	if (error != 0) {
		trouble(s, "its inputs are unknown: %s", inputs->text);
		return;
	}
	if (inputs->chain_id != s->config.chain_id) {
		trouble(s, "expected chain ID %" PRIu64 ", got %" PRIu64,
		    s->config.chain_id, inputs->chain_id);
		return;
	}
	/* Each of them may be mined while its nonce is free. */
	if (s->replacing && inputs->nonce_latest > s->last_nonce) {
		finish(s, SUBMISSION_REPLACED,
		    "its nonce was spent by another transaction");
		return;
	}
	memcpy(transaction.secret_hash, s->secret_hash.bytes, ETH_WORD_LEN);
	transaction.nonce = choose_nonce(s, inputs);
	if (set_fees(s, inputs, &transaction) != 0) {
		trouble(s,
		    "fees beyond the limit of %" PRIu64
		    " gwei per gas: base fee %" PRIu64 " wei, tip %" PRIu64
		    " wei%s",
		    SUBMISSION_MAX_FEE / GWEI, inputs->base_fee, inputs->tip,
		    s->replacing ? ", to replace a stuck transaction" : "");
		return;
	}
	if (!can_pay(&inputs->balance, transaction.max_fee)) {
		eth_address_format(&s->identity->wallet, wallet);
		trouble(s,
		    "no funds for gas: send at least %" PRIu64
		    " gwei to wallet %s",
		    (uint64_t)((unsigned __int128)transaction.max_fee *
			    TRANSACTION_GAS / GWEI +
			1),
		    wallet);
		return;
	}
	s->transaction = transaction;
	s->replacing = false;
	s->asking = true;
	identity_sign_transaction(s->identity, &transaction, on_signed, s);
}

static void
ask_inputs(struct submission *s, bool replacing)
{
	struct registry_question question = {
		.kind = REGISTRY_TX_INPUTS,
		.endpoint = MSG_ENDPOINT_ANY,
		.wallet = s->identity->wallet,
	};

	s->replacing = replacing;
	ask(s, &question, on_inputs);
}

/* ---- following ---- */

static const char already_set[] = "MasterSecretHashAlreadySet";

/* What the contract's errors mean here; they are KMSRegistry's. */
static const char *
meaning(const char *reason)
{
	if (strcmp(reason, already_set) == 0)
		return " (another node won the race)";
	if (strcmp(reason, "NotAuthorizedToSetHash") == 0)
		return " (this node's instance may not set it)";
	return "";
}

/* reason: an endpoint's word, for people only; "" when it is not known. */
static void
reverted(struct submission *s, const char *reason)
{
	char text[sizeof(s->problem)];

	if (reason[0] == '\0')
		(void)snprintf(text, sizeof(text),
		    "reverted: the hash was set before, or this node may not "
		    "set it");
	else
		(void)snprintf(text, sizeof(text), "reverted: %s%s", reason,
		    meaning(reason));
	finish(s, SUBMISSION_REVERTED, text);
	/* To lose the race is no problem. */
	if (strcmp(reason, already_set) != 0)
		memcpy(s->problem, text, sizeof(text));
}

static void
on_receipt(void *arg, int error, const struct registry_answer *receipt)
{
	struct submission *s = arg;

	s->asking = false;
	s->next_ms = s->now.boot_ms + RECEIPT_MS;
	if (error != 0) {
		trouble(s, "its receipt is unknown: %s", receipt->text);
		/* Whether it can still be mined its nonce tells, too. */
		if (s->now.boot_ms - s->sent_ms >= STUCK_MS)
			ask_inputs(s, true);
		return;
	}
	s->mined_block = receipt->mined ? receipt->block : 0;
	if (receipt->mined && receipt->tx_status == 1)
		finish(s, SUBMISSION_MINED, "mined");
	else if (receipt->mined)
		reverted(s, receipt->text);
	else if (s->now.boot_ms - s->sent_ms >= STUCK_MS)
		ask_inputs(s, true);
}

int
submission_start(
    struct submission *s, const struct eth_word *hash, struct kms_time now)
{
	if (submission_open(s) || s->asking)
		return KMS_EBUSY;
	s->now = now;
	s->secret_hash = *hash;
	s->state = SUBMISSION_PREPARING;
	s->replacing = false;
	s->last_nonce = s->mined_block = 0;
	s->problem[0] = '\0';
	s->next_ms = now.boot_ms;
	submission_tick(s, now);
	return 0;
}

void
submission_abandon(struct submission *s)
{
	if (s->state != SUBMISSION_PREPARING)
		return;
	s->state = SUBMISSION_IDLE;
	s->problem[0] = '\0';
}

void
submission_tick(struct submission *s, struct kms_time now)
{
	struct registry_question receipt = {
		.kind = REGISTRY_RECEIPT,
		.endpoint = MSG_ENDPOINT_ANY,
		.hash = s->hash,
	};

	s->now = now;
	if (s->asking || now.boot_ms < s->next_ms)
		return;
	if (s->state == SUBMISSION_PREPARING)
		ask_inputs(s, false);
	else if (s->state == SUBMISSION_SENT)
		ask(s, &receipt, on_receipt);
}
