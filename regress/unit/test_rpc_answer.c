/* kms-chain/rpc_parse: every way in which an answer makes no sense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/err.h"
#include "common/hex.h"
#include "kms-chain/rpc_parse.h"

#define ID 17
#define MUTATIONS 30000

static int
parse(const char *body, struct rpc_answer *answer)
{
	int error = rpc_answer_parse(body, strlen(body), ID, answer);

	if (error != 0)
		assert_null(answer->result);
	if (error != 0)
		assert_int_not_equal(answer->text[0], '\0');
	return error;
}

static void
results(void **state)
{
	static const char *const rows[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\"}",
		" {\"result\" : \"0x1\",\"id\":17, \"jsonrpc\":\"2.0\"} \n",
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\","
		 "\"error\":null,\"more\":{}}"),
	};
	struct rpc_answer answer;
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(parse(rows[i], &answer), 0);
		assert_int_equal(
		    rpc_parse_quantity(answer.result, 1, &value), 0);
		assert_int_equal(value, 1);
		rpc_answer_free(&answer);
	}
	assert_int_equal(
	    parse("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":null}", &answer),
	    0);
	assert_true(json_is_null(answer.result));
	rpc_answer_free(&answer);
}

static void
malformed(void **state)
{
	static const char *const rows[] = {
		"",
		" ",
		"<html></html>",
		"null",
		"17",
		"\"text\"",
		"[]",
		"{}",
		"{",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\"",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\"}}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\"}{}",
		"[{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\"}]",
		"{\"jsonrpc\":\"1.0\",\"id\":17,\"result\":\"0x1\"}",
		"{\"jsonrpc\":2.0,\"id\":17,\"result\":\"0x1\"}",
		"{\"id\":17,\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":16,\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":\"17\",\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":17.0,\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":17}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":null}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":\"x\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":{}}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":{\"code\":1}}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":{\"message\":\"\"}}",
		("{\"jsonrpc\":\"2.0\",\"id\":17,"
		 "\"error\":{\"code\":\"1\",\"message\":\"\"}}"),
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1\","
		 "\"error\":{\"code\":1,\"message\":\"x\"}}"),
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"id\":17,\"result\":\"0x1\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":1,\"result\":1}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"\\u0000\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"\xff\"}",
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":"
		 "[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}"),
		("{\"jsonrpc\":\"2.0\",\"id\":99999999999999999999,"
		 "\"result\":\"0x1\"}"),
	};
	struct rpc_answer answer;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (parse(rows[i], &answer) != KMS_EPROTO)
			fail_msg("accepted: %s", rows[i]);
		rpc_answer_free(&answer);
	}
}

static void
error_answer(const char *error, struct rpc_answer *answer)
{
	char body[2048];

	(void)snprintf(body, sizeof(body),
	    "{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":%s}", error);
	assert_int_equal(parse(body, answer), 0);
	assert_null(answer->result);
	rpc_answer_free(answer);
}

static void
errors(void **state)
{
	char longest[512];
	struct rpc_answer answer;

	(void)state;
	error_answer("{\"code\":-32601,\"message\":\"no\\n\\u20ac\"}", &answer);
	assert_string_equal(answer.text, "no????");
	assert_int_equal(answer.code, -32601);
	assert_false(answer.reverted);
	error_answer(
	    "{\"code\":3,\"message\":\"m\",\"data\":\"0xd7d88fdf\"}", &answer);
	assert_string_equal(answer.text, "m (MasterSecretHashAlreadySet)");
	assert_string_equal(answer.reason, "MasterSecretHashAlreadySet");
	assert_true(answer.reverted);
	error_answer(
	    "{\"code\":-32000,\"message\":\"VM Revert\",\"data\":7}", &answer);
	assert_string_equal(answer.text, "VM Revert");
	assert_string_equal(answer.reason, "");
	assert_true(answer.reverted);

	(void)snprintf(longest, sizeof(longest),
	    "{\"code\":3,\"message\":\"%0300d\",\"data\":\"0xd7d88fdf\"}", 0);
	error_answer(longest, &answer);
	assert_int_equal(strlen(answer.text), RPC_MESSAGE_MAX);

	assert_true(rpc_error_is_known_transaction("Already Known"));
	assert_true(rpc_error_is_known_transaction("x: known transaction: 1"));
	assert_false(rpc_error_is_known_transaction("nonce too low"));
}

/* ---- values -------------------------------------------------------------- */

static int
quantity(const char *text, uint64_t max, uint64_t *out)
{
	json_t *value = json_string(text);
	int error = rpc_parse_quantity(value, max, out);

	json_decref(value);
	return error;
}

static void
quantities(void **state)
{
	static const char *const bad[] = { "", "0", "0x", "0x00", "0x01", "0X1",
		"1", "-0x1", "0x-1", "0x1 ", " 0x1", "0xg", "0x1g", "x1" };
	uint64_t value;
	json_t *number = json_integer(1), *word_text;
	struct eth_word word;

	(void)state;
	assert_int_equal(quantity("0x0", 0, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(quantity("0xfF", 255, &value), 0);
	assert_int_equal(value, 255);
	assert_int_equal(quantity("0xff", 254, &value), KMS_ERANGE);
	assert_int_equal(value, 0);
	assert_int_equal(quantity("0xffffffffffffffff", UINT64_MAX, &value), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(
	    quantity("0x10000000000000000", UINT64_MAX, &value), KMS_ERANGE);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
		    quantity(bad[i], UINT64_MAX, &value), KMS_EPROTO);
	assert_int_equal(rpc_parse_quantity(number, 9, &value), KMS_EPROTO);
	assert_int_equal(rpc_parse_quantity(NULL, 9, &value), KMS_EPROTO);
	json_decref(number);

	word_text = json_string("0xf0000000000000000000000000000000000000000000"
				"00000000000000000001");
	assert_int_equal(rpc_parse_quantity_word(word_text, &word), 0);
	assert_int_equal(word.bytes[0], 0xf0);
	assert_int_equal(word.bytes[31], 1);
	json_decref(word_text);
	word_text =
	    json_string("0x100000000000000000000000000000000000000000000"
			"00000000000000000001");
	assert_int_equal(rpc_parse_quantity_word(word_text, &word), KMS_ERANGE);
	json_decref(word_text);
}

static void
data_and_words(void **state)
{
	static const char *const bad[] = { "", "0", "0x0", "ab", "0xabc",
		"0xzz", "0x 1" };
	char text[2 + 2 * ETH_WORD_LEN + 3] = "0x";
	struct eth_word word;
	struct buf out;
	json_t *value;

	(void)state;
	buf_init(&out, 2);
	value = json_string("0x");
	assert_int_equal(rpc_parse_data(value, &out), 0);
	assert_int_equal(out.len, 0);
	json_decref(value);
	value = json_string("0xAb01");
	assert_int_equal(rpc_parse_data(value, &out), 0);
	assert_int_equal(out.len, 2);
	assert_memory_equal(out.data, "\xab\x01", 2);
	assert_int_equal(rpc_parse_data(value, &out), KMS_ETOOBIG);
	json_decref(value);
	buf_free(&out);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		value = json_string(bad[i]);
		assert_int_equal(rpc_parse_data(value, &out), KMS_EPROTO);
		assert_int_equal(rpc_parse_word(value, &word), KMS_EPROTO);
		json_decref(value);
	}
	memset(text + 2, 'e', 2 * ETH_WORD_LEN + 2);
	for (size_t digits = 62; digits <= 66; digits++) {
		value = json_stringn(text, 2 + digits);
		assert_int_equal(rpc_parse_word(value, &word),
		    digits == 64 ? 0 : KMS_EPROTO);
		json_decref(value);
	}
	buf_free(&out);
}

#define HASH                                                                   \
	"0xabababababababababababababababababababababababababababababababab"

static int
block(const char *text, struct rpc_block *out)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
	int error;

	assert_non_null(value);
	error = rpc_parse_block(value, out);
	json_decref(value);
	return error;
}

static int
receipt(const char *text, struct rpc_receipt *out)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
	int error;

	assert_non_null(value);
	error = rpc_parse_receipt(value, out);
	json_decref(value);
	return error;
}

static void
objects(void **state)
{
	struct rpc_receipt r;
	struct rpc_block b;

	(void)state;
	assert_int_equal(
	    block("{\"number\":\"0x5\",\"timestamp\":\"0x6\"}", &b), 0);
	assert_int_equal(b.number, 5);
	assert_int_equal(b.time, 6);
	assert_false(b.has_base_fee);
	assert_int_equal(block("{\"number\":\"0x5\",\"timestamp\":\"0x6\","
			       "\"baseFeePerGas\":\"0x0\"}",
			     &b),
	    0);
	assert_true(b.has_base_fee);
	assert_int_equal(block("null", &b), KMS_ENOENT);
	assert_int_equal(block("[]", &b), KMS_EPROTO);
	assert_int_equal(block("\"x\"", &b), KMS_EPROTO);
	assert_int_equal(block("{\"number\":\"0x5\"}", &b), KMS_EPROTO);
	assert_int_equal(
	    block("{\"number\":5,\"timestamp\":\"0x6\"}", &b), KMS_EPROTO);
	assert_int_equal(
	    block("{\"number\":null,\"timestamp\":\"0x6\"}", &b), KMS_EPROTO);
	assert_int_equal(block("{\"number\":\"0x5\",\"timestamp\":\"0x6\","
			       "\"baseFeePerGas\":\"\"}",
			     &b),
	    KMS_EPROTO);
	assert_int_equal(block("{\"number\":\"0xffffffffffffffff\","
			       "\"timestamp\":\"0x6\"}",
			     &b),
	    KMS_ERANGE);

	assert_int_equal(receipt("{\"transactionHash\":\"" HASH "\","
				 "\"status\":\"0x1\",\"blockNumber\":\"0x9\"}",
			     &r),
	    0);
	assert_int_equal(r.status, 1);
	assert_int_equal(r.block, 9);
	assert_int_equal(r.hash.bytes[31], 0xab);
	assert_int_equal(receipt("null", &r), KMS_ENOENT);
	assert_int_equal(receipt("{}", &r), KMS_EPROTO);
	assert_int_equal(receipt("{\"transactionHash\":\"" HASH "\","
				 "\"status\":\"0x2\",\"blockNumber\":\"0x9\"}",
			     &r),
	    KMS_ERANGE);
	assert_int_equal(receipt("{\"transactionHash\":\"" HASH "\","
				 "\"status\":\"0x1\"}",
			     &r),
	    KMS_EPROTO);
}

static int
transaction(const char *from, const char *to, const char *input,
    struct rpc_transaction *out)
{
	char text[1024];
	json_t *value;
	int error;

	(void)snprintf(text, sizeof(text),
	    "{\"hash\":\"" HASH "\",\"from\":%s,\"to\":%s,\"input\":%s}", from,
	    to, input);
	value = json_loads(text, 0, NULL);
	assert_non_null(value);
	error = rpc_parse_transaction(value, out);
	json_decref(value);
	return error;
}

#define ADDRESS "\"0xABabababababababababababababababababab01\""

static void
transactions(void **state)
{
	static const char *const bad[] = { "null", "1", "\"\"", "\"0x\"",
		"\"0xababababababababababababababababababab\"",
		"\"0xababababababababababababababababababababab\"",
		"\"abababababababababababababababababababab\"" };
	char input[2 * RPC_INPUT_MAX + 16] = "\"0x";
	struct rpc_transaction t;
	json_t *null = json_null();

	(void)state;
	assert_int_equal(transaction(ADDRESS, ADDRESS, "\"0x\"", &t), 0);
	assert_int_equal(t.hash.bytes[0], 0xab);
	assert_int_equal(t.from.bytes[19], 1);
	assert_int_equal(t.to.bytes[0], 0xab);
	assert_int_equal(t.input_len, 0);
	assert_int_equal(transaction(ADDRESS, ADDRESS, "\"0x1F02\"", &t), 0);
	assert_int_equal(t.input_len, 2);
	assert_memory_equal(t.input, "\x1f\x02", 2);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
		    transaction(bad[i], ADDRESS, "\"0x\"", &t), KMS_EPROTO);
		assert_int_equal(
		    transaction(ADDRESS, bad[i], "\"0x\"", &t), KMS_EPROTO);
	}
	assert_int_equal(transaction(ADDRESS, ADDRESS, "7", &t), KMS_EPROTO);
	assert_int_equal(
	    transaction(ADDRESS, ADDRESS, "\"0x1\"", &t), KMS_EPROTO);
	for (size_t len = RPC_INPUT_MAX; len <= RPC_INPUT_MAX + 1; len++) {
		memset(input + 3, 'c', 2 * len);
		memcpy(input + 3 + 2 * len, "\"", 2);
		assert_int_equal(transaction(ADDRESS, ADDRESS, input, &t),
		    len == RPC_INPUT_MAX ? 0 : KMS_ETOOBIG);
	}
	assert_int_equal(rpc_parse_transaction(null, &t), KMS_ENOENT);
	assert_int_equal(rpc_parse_transaction(NULL, &t), KMS_EPROTO);
}

/* ---- mutations ----------------------------------------------------------- */

static uint64_t
next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void
check_result(const json_t *result)
{
	struct rpc_transaction t;
	struct rpc_receipt r;
	struct rpc_block b;
	struct eth_word word;
	uint64_t value;
	struct buf out;

	buf_init(&out, 64);
	(void)rpc_parse_data(result, &out);
	assert_true(out.len <= 64);
	(void)rpc_parse_word(result, &word);
	(void)rpc_parse_quantity(result, 1000, &value);
	assert_in_range(value, 0, 1000);
	(void)rpc_parse_block(result, &b);
	if (rpc_parse_receipt(result, &r) == 0)
		assert_in_range(r.status, 0, 1);
	if (rpc_parse_transaction(result, &t) == 0)
		assert_in_range(t.input_len, 0, RPC_INPUT_MAX);
	buf_free(&out);
}

static void
mutations(void **state)
{
	static const char *const seeds[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":\"0x1a2b\"}",
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":{\"number\":"
		 "\"0x5\","
		 "\"timestamp\":\"0x6\",\"baseFeePerGas\":\"0x7\"}}"),
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"error\":{\"code\":3,"
		 "\"message\":\"reverted\",\"data\":\"0xd7d88fdf\"}}"),
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":{\"status\":"
		 "\"0x1\","
		 "\"transactionHash\":\"" HASH "\",\"blockNumber\":\"0x1\"}}"),
		("{\"jsonrpc\":\"2.0\",\"id\":17,\"result\":{\"hash\":\"" HASH
		 "\",\"from\":" ADDRESS ",\"to\":" ADDRESS
		 ",\"input\":\"0x1a\"}}"),
	};
	static const char letters[] = "[]{}\",:\\ 017xaf\n\xff";
	uint64_t seed = 521288629546311U;
	size_t good = 0;

	(void)state;
	for (size_t n = 0; n < MUTATIONS; n++) {
		const char *seed_text =
		    seeds[n % (sizeof(seeds) / sizeof(seeds[0]))];
		size_t len = strlen(seed_text);
		struct rpc_answer answer;
		char *text = malloc(len + 1);

		assert_non_null(text);
		memcpy(text, seed_text, len);
		for (uint64_t i = next_random(&seed) % 4; i > 0; i--)
			text[next_random(&seed) % len] =
			    letters[next_random(&seed) % (sizeof(letters) - 1)];
		if (next_random(&seed) % 16 == 0)
			len = next_random(&seed) % len;
		if (rpc_answer_parse(text, len, ID, &answer) == 0) {
			good++;
			assert_true(strlen(answer.text) <= RPC_MESSAGE_MAX);
			if (answer.result != NULL)
				check_result(answer.result);
		} else {
			assert_null(answer.result);
		}
		rpc_answer_free(&answer);
		free(text);
	}
	assert_in_range(good, MUTATIONS / 10, MUTATIONS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(results),
		cmocka_unit_test(malformed),
		cmocka_unit_test(errors),
		cmocka_unit_test(quantities),
		cmocka_unit_test(data_and_words),
		cmocka_unit_test(objects),
		cmocka_unit_test(transactions),
		cmocka_unit_test(mutations),
	};

	return cmocka_run_group_tests_name("rpc_answer", tests, NULL, NULL);
}
