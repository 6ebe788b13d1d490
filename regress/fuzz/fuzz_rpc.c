/* A chain endpoint's answer, and a URL; byte 0 chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_guard.h"
#include "kms-chain/destination.h"
#include "kms-chain/rpc_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_result(const json_t *result)
{
	struct rpc_transaction transaction;
	struct rpc_receipt receipt;
	struct rpc_block block;
	struct eth_word word;
	uint64_t value;
	struct buf out;

	buf_init(&out, 256);
	(void)rpc_parse_data(result, &out);
	(void)rpc_parse_word(result, &word);
	(void)rpc_parse_quantity_word(result, &word);
	if (rpc_parse_quantity(result, 99, &value) == 0 && value > 99)
		abort();
	(void)rpc_parse_block(result, &block);
	(void)rpc_parse_receipt(result, &receipt);
	if (rpc_parse_transaction(result, &transaction) == 0 &&
	    transaction.input_len > RPC_INPUT_MAX)
		abort();
	buf_free(&out);
}

static void
read_answer(const char *text, size_t len)
{
	struct rpc_answer answer;

	if (rpc_answer_parse(text, len, 17, &answer) == 0 &&
	    answer.result != NULL)
		read_result(answer.result);
	if (memchr(answer.text, '\0', sizeof(answer.text)) == NULL ||
	    memchr(answer.reason, '\0', sizeof(answer.reason)) == NULL)
		abort();
	rpc_answer_free(&answer);
}

static void
read_url(const char *text, size_t len)
{
	struct destination to;
	char copy[64] = "an example text with abcdefgh in it";

	if (destination_parse(text, len, &to, NULL) != 0)
		return;
	if (strlen(to.url) != len || to.port == 0 || to.host[0] == '\0')
		abort();
	destination_scrub(&to, copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;

	if (size == 0)
		return 0;
	if (data[0] % 4 == 1)
		read_url(text, size - 1);
	else if (data[0] % 4 == 2)
		(void)json_guard(text, size - 1, 100, 10);
	else
		read_answer(text, size - 1);
	return 0;
}
