/*
 * Reading what an Ethereum endpoint answered: JSON-RPC 2.0 and the encodings
 * of the execution API ("0x" hex quantities and data). Pure. What is not
 * exactly as it should be is an error, never a guess.
 */
#ifndef KMS_CHAIN_RPC_PARSE_H
#define KMS_CHAIN_RPC_PARSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/abi.h"
#include "common/buf.h"
#include "common/eth.h"

#define RPC_TOKENS_MAX 24000 /* a block with its transactions' hashes */
#define RPC_DEPTH_MAX 16
#define RPC_MESSAGE_MAX 200 /* characters of an error's text */

struct rpc_answer {
	json_t *root;	/* owns the rest; rpc_answer_free */
	json_t *result; /* borrowed; NULL when the answer is an error */
	int64_t code;	/* of the error */
	bool reverted;	/* the error says that a contract reverted */
	/* The error's message and, of a revert, its decoded reason: printable
	 * ASCII, cut; or why the answer is malformed. */
	char text[RPC_MESSAGE_MAX + 1];
	char reason[ABI_REVERT_TEXT_MAX + 1]; /* the revert's alone; or "" */
};

/*
 * Parse the body of an answer to request id: one object, "jsonrpc" "2.0", the
 * same integer id, exactly one of result and error, the error an object with
 * an integer code and a text message; no member twice. 0, KMS_EPROTO (text
 * says why), KMS_ENOMEM. The caller frees out in every case.
 */
int rpc_answer_parse(
    const char *body, size_t len, uint64_t id, struct rpc_answer *out);
void rpc_answer_free(struct rpc_answer *answer);

/*
 * "0x" and 1..16 hex digits without leading zeros ("0x0" is zero). KMS_EPROTO
 * when it is no such text, KMS_ERANGE when above max.
 */
int rpc_parse_quantity(const json_t *value, uint64_t max, uint64_t *out);

/* The same with up to 64 digits, as a big-endian word. */
int rpc_parse_quantity_word(const json_t *value, struct eth_word *out);

/* "0x" and an even number of hex digits, appended to out. KMS_EPROTO,
 * KMS_ETOOBIG beyond out's ceiling, KMS_ENOMEM. */
int rpc_parse_data(const json_t *value, struct buf *out);

/* "0x" and exactly 64 hex digits. */
int rpc_parse_word(const json_t *value, struct eth_word *out);

struct rpc_block {
	uint64_t number;
	uint64_t time; /* seconds since 1970 */
	bool has_base_fee;
	uint64_t base_fee; /* wei */
};

/* A block object; KMS_ENOENT when value is null: there is none. */
int rpc_parse_block(const json_t *value, struct rpc_block *out);

struct rpc_receipt {
	struct eth_word hash; /* of the transaction */
	uint64_t status;      /* 1: success, 0: reverted */
	uint64_t block;
};

/* A receipt object; KMS_ENOENT when value is null: not mined. */
int rpc_parse_receipt(const json_t *value, struct rpc_receipt *out);

#define RPC_INPUT_MAX ABI_CALLDATA_MAX

/* What of a transaction it takes to call the same again. */
struct rpc_transaction {
	struct eth_word hash;
	struct eth_address from;
	struct eth_address to;
	uint8_t input[RPC_INPUT_MAX];
	size_t input_len;
};

/* A transaction object; KMS_ENOENT when value is null: not known. KMS_EPROTO
 * also when it creates a contract, KMS_ETOOBIG beyond RPC_INPUT_MAX. */
int rpc_parse_transaction(const json_t *value, struct rpc_transaction *out);

/* 1 when the text of an error of eth_sendRawTransaction says that the
 * endpoint has this very transaction already. */
int rpc_error_is_known_transaction(const char *text);

#endif
