/* The development chain: its rules, history, encodings, file and methods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/abi.h"
#include "common/err.h"
#include "common/hex.h"
#include "regress/tools/simchain_abi.h"
#include "regress/tools/simchain_file.h"
#include "regress/tools/simchain_rpc.h"
#include "regress/tools/simchain_state.h"

#define APP 49
#define NOW 1767225600

static const struct sim_config config = {
	.chain_id = 31337,
	.kms_app_id = APP,
	.nova_app_registry = { { 0xaa } },
	.kms_registry = { { 0xbb } },
};

static struct eth_address
wallet(uint8_t n)
{
	struct eth_address address = { { 0 } };

	address.bytes[19] = n;
	return address;
}

static struct eth_word
word(uint8_t n)
{
	struct eth_word w = { { n } };

	return w;
}

static struct sim_instance
instance(uint64_t id, uint8_t owner)
{
	struct sim_instance in = { .instance_id = id,
		.app_id = APP,
		.version_id = 1,
		.operator_address = wallet(owner),
		.tee_wallet = wallet(owner),
		.zk_verified = true,
		.tee_pubkey_len = 3,
		.tee_pubkey = { 1, 2, 3 },
		.instance_url = "http://127.0.0.1:4000" };

	return in;
}

/* A chain at block 1 with the KMS app, its version 1, and instance 1 of
 * wallet 1. */
static struct sim_state *
chain(void)
{
	const struct sim_app app = { APP, 1, 0 };
	const struct sim_version version = { APP, 1, 0 };
	const struct sim_instance in = instance(1, 1);
	struct sim_state *sim = sim_new(&config);

	assert_non_null(sim);
	assert_int_equal(sim_set_app(sim, &app), 0);
	assert_int_equal(sim_set_version(sim, &version), 0);
	assert_int_equal(sim_set_instance(sim, &in), 0);
	sim_mine(sim, 2, NOW);
	return sim;
}

static struct sim_transaction
set_hash(uint8_t from, uint64_t nonce, uint8_t hash)
{
	static uint8_t serial;
	struct sim_transaction tx = { .from = wallet(from),
		.to = config.kms_registry,
		.nonce = nonce,
		.max_fee = 3 * (uint64_t)SIM_BASE_FEE,
		.tip = SIM_TIP,
		.gas_limit = 300000,
		.data_len = 36,
		.data = { 0x4d, 0xf7, 0xe3, 0x90, hash } };

	tx.hash = word(++serial);
	return tx;
}

/* ---- blocks ------------------------------------------------------------ */

static void
test_blocks(void **state)
{
	struct sim_state *sim = chain();
	const struct sim_block *head = sim_block(sim, 1);
	struct eth_word hash = head->hash;

	(void)state;
	assert_int_equal(sim_head(sim), 1);
	assert_int_equal(head->timestamp, NOW);
	assert_memory_equal(
	    &head->parent_hash, &sim_block(sim, 0)->hash, ETH_WORD_LEN);
	assert_ptr_equal(sim_block_by_hash(sim, &hash), head);
	assert_null(sim_block(sim, 2));
	sim_mine(sim, 1, NOW - 100); /* the clock was set back */
	assert_int_equal(sim_block(sim, 2)->timestamp, NOW);
	sim_mine(sim, SIM_HISTORY, NOW + 5);
	assert_null(sim_block(sim, 2));
	assert_null(sim_block_by_hash(sim, &hash));
	assert_false(sim_readable(sim, 2));
	assert_true(sim_readable(sim, 3));
	assert_int_equal(sim_block(sim, 3)->number, 3);
	assert_true(sim_readable(sim, sim_pending(sim)));
	assert_false(sim_readable(sim, sim_pending(sim) + 1));
	sim_free(sim);
}

/* ---- history ----------------------------------------------------------- */

static void
test_history(void **state)
{
	struct sim_state *sim = chain();
	struct eth_address one = wallet(1), two = wallet(2);
	struct sim_instance in = instance(1, 1);
	struct eth_word hash = word(7), got;

	(void)state;
	in.status = 1;
	assert_int_equal(sim_set_instance(sim, &in), 0);
	assert_int_equal(sim_set_hash(sim, &hash), 0);
	/* Nothing is seen before its block. */
	assert_int_equal(sim_instance_by_wallet(sim, &one, 1)->status, 0);
	assert_int_equal(
	    sim_instance_by_wallet(sim, &one, sim_pending(sim))->status, 1);
	sim_mine(sim, 1, NOW);
	/* Another wallet for the instance: the first has none from then on. */
	in.tee_wallet = two;
	assert_int_equal(sim_set_instance(sim, &in), 0);
	sim_mine(sim, 1, NOW);

	assert_int_equal(sim_instance_by_wallet(sim, &one, 1)->status, 0);
	assert_int_equal(sim_instance_by_wallet(sim, &one, 2)->status, 1);
	assert_null(sim_instance_by_wallet(sim, &one, 3));
	assert_null(sim_instance_by_wallet(sim, &two, 2));
	assert_int_equal(sim_instance_by_wallet(sim, &two, 3)->instance_id, 1);
	got = sim_hash(sim, 1);
	assert_true(eth_word_is_zero(&got));
	got = sim_hash(sim, 2);
	assert_memory_equal(&got, &hash, sizeof(hash));
	sim_free(sim);
}

/* Thousands of changes; reads stay right at the edge of what is kept. */
static void
test_history_bound(void **state)
{
	struct sim_state *sim = chain();
	struct sim_app app = { APP, 0, 0 };

	(void)state;
	for (uint64_t i = 0; i < 3 * SIM_HISTORY; i++) {
		app.latest_version_id = sim_pending(sim);
		assert_int_equal(sim_set_app(sim, &app), 0);
		sim_mine(sim, 1, NOW);
	}
	assert_int_equal(sim_set_app(sim, &app), 0); /* for a block to come */
	for (uint64_t block = sim_pending(sim) - SIM_HISTORY;
	     block <= sim_head(sim); block++)
		assert_int_equal(
		    sim_app(sim, APP, block)->latest_version_id, block);
	assert_null(sim_app(sim, APP, 1)); /* forgotten, not wrong */
	sim_free(sim);
}

static void
test_instance_rules(void **state)
{
	struct sim_state *sim = chain();
	struct sim_instance in = instance(2, 1);

	(void)state;
	assert_int_equal(sim_set_instance(sim, &in), KMS_EEXIST);
	in.tee_wallet = wallet(2);
	assert_int_equal(sim_set_instance(sim, &in), 0);
	in.instance_id = 0;
	in.tee_wallet = wallet(3);
	assert_int_equal(sim_set_instance(sim, &in), KMS_EINVAL);
	sim_free(sim);
}

/* ---- setMasterSecretHash ----------------------------------------------- */

enum spoil {
	SPOIL_NOTHING,
	SPOIL_STRANGER,
	SPOIL_STOPPED,
	SPOIL_UNVERIFIED,
	SPOIL_APP,
	SPOIL_DEPRECATED,
	SPOIL_NO_VERSION,
	SPOIL_ZERO,
	SPOIL_VALUE,
	SPOIL_LENGTH,
	SPOIL_SELECTOR,
	SPOIL_CONTRACT,
	SPOIL_COUNT
};

static void
spoil_chain(struct sim_state *sim, enum spoil how)
{
	struct sim_version version = { APP, 1, 0 };
	struct sim_instance in = instance(1, 1);

	if (how == SPOIL_STOPPED)
		in.status = 1;
	if (how == SPOIL_UNVERIFIED)
		in.zk_verified = false;
	if (how == SPOIL_APP)
		in.app_id = APP + 1;
	if (how == SPOIL_NO_VERSION)
		in.version_id = 2;
	if (how == SPOIL_DEPRECATED)
		version.status = 1;
	assert_int_equal(sim_set_instance(sim, &in), 0);
	assert_int_equal(sim_set_version(sim, &version), 0);
}

static void
spoil_transaction(struct sim_transaction *tx, enum spoil how)
{
	if (how == SPOIL_STRANGER)
		tx->from = wallet(9);
	if (how == SPOIL_ZERO)
		tx->data[4] = 0;
	if (how == SPOIL_VALUE)
		tx->has_value = true;
	if (how == SPOIL_LENGTH)
		tx->data_len = 37;
	if (how == SPOIL_SELECTOR)
		tx->data[0] ^= 1;
	if (how == SPOIL_CONTRACT)
		tx->to = config.nova_app_registry;
}

static void
test_set_hash_rules(void **state)
{
	(void)state;
	for (enum spoil how = 0; how < SPOIL_COUNT; how++) {
		struct sim_state *sim = chain();
		struct sim_transaction tx = set_hash(1, 0, 7);
		struct eth_word hash;

		spoil_chain(sim, how);
		spoil_transaction(&tx, how);
		assert_int_equal(sim_submit(sim, &tx), SIM_POOL_OK);
		assert_null(sim_receipt(sim, &tx.hash));
		sim_mine(sim, 1, NOW);
		assert_non_null(sim_receipt(sim, &tx.hash));
		assert_int_equal(
		    sim_receipt(sim, &tx.hash)->success, how == SPOIL_NOTHING);
		hash = sim_hash(sim, sim_head(sim));
		assert_int_equal(eth_word_is_zero(&hash), how != SPOIL_NOTHING);
		assert_int_equal(sim_nonce(sim, &tx.from, sim_head(sim)), 1);
		sim_free(sim);
	}
}

/* Two in one block: the first one wins, the other is mined and reverted. */
static void
test_first_one_wins(void **state)
{
	struct sim_state *sim = chain();
	struct sim_instance in = instance(2, 2);
	struct sim_transaction first = set_hash(2, 0, 22),
			       second = set_hash(1, 0, 11);
	struct eth_word hash, want = word(22);
	const struct sim_receipt *receipt;

	(void)state;
	assert_int_equal(sim_set_instance(sim, &in), 0);
	assert_int_equal(sim_submit(sim, &first), SIM_POOL_OK);
	assert_int_equal(sim_submit(sim, &second), SIM_POOL_OK);
	sim_mine(sim, 1, NOW);
	hash = sim_hash(sim, 2);
	assert_memory_equal(&hash, &want, sizeof(want));
	assert_true(sim_receipt(sim, &first.hash)->success);
	receipt = sim_receipt(sim, &second.hash);
	assert_false(receipt->success);
	assert_int_equal(receipt->block_number, 2);
	assert_int_equal(receipt->index, 1);
	assert_memory_equal(&receipt->block_hash, &sim_block(sim, 2)->hash,
	    sizeof(receipt->block_hash));
	assert_int_equal(
	    sim_may_set_hash(sim, &second.from, &want, 2), SIM_ALREADY_SET);
	sim_free(sim);
}

/* ---- the pool ---------------------------------------------------------- */

static void
test_nonces(void **state)
{
	struct sim_state *sim = chain();
	struct sim_transaction tx = set_hash(5, 1, 1);

	(void)state;
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_NONCE_HIGH);
	tx = set_hash(5, 0, 1);
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_OK);
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_KNOWN);
	tx = set_hash(5, 1, 1);
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_OK);
	assert_int_equal(sim_nonce(sim, &tx.from, 1), 0);
	assert_int_equal(sim_nonce_pending(sim, &tx.from), 2);
	sim_mine(sim, 1, NOW);
	assert_int_equal(sim_nonce(sim, &tx.from, 1), 0);
	assert_int_equal(sim_nonce(sim, &tx.from, 2), 2);
	tx = set_hash(5, 1, 1);
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_NONCE_LOW);
	sim_free(sim);
}

static void
test_fees(void **state)
{
	struct sim_state *sim = chain();
	struct sim_transaction stuck = set_hash(1, 0, 7), better;

	(void)state;
	stuck.max_fee = 1000;
	stuck.tip = 1001;
	assert_int_equal(sim_submit(sim, &stuck), SIM_POOL_FEES);
	stuck.tip = 1000;
	assert_int_equal(sim_submit(sim, &stuck), SIM_POOL_OK);
	sim_mine(sim, 3, NOW);
	assert_null(sim_receipt(sim, &stuck.hash));
	assert_int_equal(sim_nonce_pending(sim, &stuck.from), 1);

	better = set_hash(1, 0, 7);
	better.tip = 1099;
	assert_int_equal(sim_submit(sim, &better), SIM_POOL_UNDERPRICED);
	better.tip = 1100;
	assert_int_equal(sim_submit(sim, &better), SIM_POOL_OK);
	sim_mine(sim, 1, NOW);
	assert_null(sim_receipt(sim, &stuck.hash));
	assert_true(sim_receipt(sim, &better.hash)->success);
	assert_int_equal(sim_receipt(sim, &better.hash)->gas_price,
	    (uint64_t)SIM_BASE_FEE + 1100);
	better = set_hash(1, 1, 7);
	better.gas_limit = 21000 + 16 * 36 - 1;
	assert_int_equal(sim_submit(sim, &better), SIM_POOL_GAS);
	better.gas_limit++;
	assert_int_equal(sim_submit(sim, &better), SIM_POOL_OK);
	sim_free(sim);
}

static void
test_pool_bound(void **state)
{
	struct sim_state *sim = chain();
	struct sim_transaction tx;

	(void)state;
	for (uint64_t i = 0; i < SIM_POOL_MAX; i++) {
		tx = set_hash(1, i, 0);
		assert_int_equal(sim_submit(sim, &tx), SIM_POOL_OK);
	}
	tx = set_hash(1, SIM_POOL_MAX, 0);
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_FULL);
	sim_mine(sim, 1, NOW);
	assert_int_equal(sim_nonce(sim, &tx.from, 2), SIM_POOL_MAX);
	assert_int_equal(sim_submit(sim, &tx), SIM_POOL_OK);
	sim_free(sim);
}

/* ---- encodings --------------------------------------------------------- */

static json_t *
vector(const json_t *vectors, const char *function, size_t skip)
{
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(vectors, "returns"), i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "function")),
			function) == 0 &&
		    skip-- == 0)
			return row;
	}
	fail();
	return NULL;
}

/* Byte for byte what a real encoder made of the same instance. */
static void
test_encode_instance(void **state)
{
	json_t *vectors = json_load_file("regress/vectors/abi.json", 0, NULL);
	json_t *row = vector(vectors, "getInstanceByWallet", 0);
	json_t *none = vector(vectors, "getInstanceByWallet", 1);
	struct sim_state *sim = sim_new(&config);
	char error[SIMCHAIN_ERROR_MAX], text[4096] = "0x";
	json_t *fields = json_deep_copy(json_object_get(row, "fields"));
	struct buf out;

	(void)state;
	assert_int_equal(simchain_file_instance(sim, fields, error), 0);
	buf_init(&out, 4096);
	assert_int_equal(
	    simchain_abi_instance(&out, sim_instance_by_id(sim, 17)), 0);
	hex_encode(out.data, out.len, text + 2);
	assert_string_equal(
	    text, json_string_value(json_object_get(row, "data")));
	buf_clear(&out);
	assert_int_equal(simchain_abi_instance(&out, NULL), 0);
	hex_encode(out.data, out.len, text + 2);
	assert_string_equal(
	    text, json_string_value(json_object_get(none, "data")));
	buf_free(&out);
	sim_free(sim);
	json_decref(fields);
	json_decref(vectors);
}

static int
ask(const struct sim_state *sim, const struct eth_address *to,
    const struct abi_calldata *data, struct buf *out)
{
	struct eth_address from = wallet(1);

	buf_clear(out);
	return simchain_abi_call(
	    sim, sim_head(sim), &from, to, data->data, data->len, out);
}

/* The product's codec reads what the chain answers, to every call. */
static void
test_calls(void **state)
{
	struct sim_state *sim = chain();
	const struct eth_address *nova = &config.nova_app_registry;
	const struct eth_address *kms = &config.kms_registry;
	struct eth_address one = wallet(1), two = wallet(2), list[4];
	struct abi_calldata data;
	struct abi_instance in;
	struct abi_version version;
	struct abi_app app;
	struct eth_word hash;
	uint64_t number;
	size_t count;
	bool flag;
	struct buf out;

	(void)state;
	buf_init(&out, 65536);
	abi_encode_get_instance_by_wallet(&one, &data);
	assert_int_equal(ask(sim, nova, &data, &out), 0);
	assert_int_equal(abi_decode_instance(out.data, out.len, &in), 0);
	assert_int_equal(in.instance_id, 1);
	assert_string_equal(in.instance_url, "http://127.0.0.1:4000");
	assert_int_equal(in.tee_pubkey_len, 3);
	assert_true(in.zk_verified);
	abi_encode_get_instance_by_wallet(&two, &data);
	assert_int_equal(ask(sim, nova, &data, &out), 0);
	assert_int_equal(abi_decode_instance(out.data, out.len, &in), 0);
	assert_int_equal(in.instance_id, 0);

	assert_int_equal(abi_encode_get_app(APP, &data), 0);
	assert_int_equal(ask(sim, nova, &data, &out), 0);
	assert_int_equal(abi_decode_app(out.data, out.len, &app), 0);
	assert_int_equal(app.app_id, APP);
	assert_true(app.has_app_wallet);
	assert_int_equal(abi_encode_get_version(APP, 1, &data), 0);
	assert_int_equal(ask(sim, nova, &data, &out), 0);
	assert_int_equal(abi_decode_version(out.data, out.len, &version), 0);
	assert_int_equal(version.version_id, 1);
	assert_int_equal(abi_encode_get_version(APP, 2, &data), 0);
	assert_int_equal(ask(sim, nova, &data, &out), 0);
	assert_int_equal(abi_decode_version(out.data, out.len, &version), 0);
	assert_int_equal(version.version_id, 0);

	assert_int_equal(abi_encode_get_active_instances(APP, &data), 0);
	assert_int_equal(ask(sim, nova, &data, &out), 0);
	assert_int_equal(
	    abi_decode_addresses(out.data, out.len, list, 4, &count), 0);
	assert_int_equal(count, 1);
	assert_true(eth_address_equal(&list[0], &one));
	abi_encode_get_operators(&data);
	assert_int_equal(ask(sim, kms, &data, &out), 0);
	assert_int_equal(
	    abi_decode_addresses(out.data, out.len, list, 4, &count), 0);
	assert_int_equal(count, 1);

	abi_encode_is_operator(&one, &data);
	assert_int_equal(ask(sim, kms, &data, &out), 0);
	assert_int_equal(abi_decode_bool(out.data, out.len, &flag), 0);
	assert_true(flag);
	abi_encode_kms_app_id(&data);
	assert_int_equal(ask(sim, kms, &data, &out), 0);
	assert_int_equal(abi_decode_uint(out.data, out.len, &number), 0);
	assert_int_equal(number, APP);
	abi_encode_master_secret_hash(&data);
	assert_int_equal(ask(sim, kms, &data, &out), 0);
	assert_int_equal(abi_decode_word(out.data, out.len, &hash), 0);
	assert_true(eth_word_is_zero(&hash));
	buf_free(&out);
	sim_free(sim);
}

static void
test_call_reverts(void **state)
{
	struct sim_state *sim = chain();
	struct eth_word hash = word(7), zero = word(0);
	struct eth_address nobody = wallet(77);
	struct abi_calldata data;
	struct abi_revert revert;
	struct buf out;

	(void)state;
	buf_init(&out, 65536);
	abi_encode_set_master_secret_hash(&hash, &data);
	assert_int_equal(ask(sim, &config.kms_registry, &data, &out), 0);
	assert_int_equal(out.len, 0);
	abi_encode_set_master_secret_hash(&zero, &data);
	assert_int_equal(
	    ask(sim, &config.kms_registry, &data, &out), KMS_EAUTH);
	abi_decode_revert(out.data, out.len, &revert);
	assert_int_equal(revert.kind, ABI_REVERT_ERROR);
	assert_string_equal(revert.text, "zero hash");
	assert_int_equal(sim_set_hash(sim, &hash), 0);
	sim_mine(sim, 1, NOW);
	assert_int_equal(
	    ask(sim, &config.kms_registry, &data, &out), KMS_EAUTH);
	abi_decode_revert(out.data, out.len, &revert);
	assert_string_equal(revert.text, "MasterSecretHashAlreadySet");
	/* Unknown functions revert; where there is no code nothing comes. */
	assert_int_equal(
	    ask(sim, &config.nova_app_registry, &data, &out), KMS_EAUTH);
	assert_int_equal(out.len, 0);
	assert_int_equal(ask(sim, &nobody, &data, &out), 0);
	assert_int_equal(out.len, 0);
	data.len = 35; /* an argument cut short */
	assert_int_equal(
	    ask(sim, &config.kms_registry, &data, &out), KMS_EAUTH);
	buf_free(&out);
	sim_free(sim);
}

/* ---- the file ---------------------------------------------------------- */

static void
test_file_round_trip(void **state)
{
	json_t *sample =
	    json_load_file("regress/tools/state-sample.json", 0, NULL);
	char error[SIMCHAIN_ERROR_MAX];
	struct sim_state *sim;
	struct sim_instance in = instance(3, 3);
	json_t *dump, *again;

	(void)state;
	assert_non_null(sample);
	assert_int_equal(simchain_file_load(sample, &sim, error), 0);
	sim_mine(sim, 1, NOW);
	dump = simchain_file_dump(sim);
	assert_true(json_equal(dump, sample));
	json_decref(dump);
	in.app_id = UINT64_MAX;
	in.status = 200;
	assert_int_equal(sim_set_instance(sim, &in), 0);
	sim_mine(sim, 1, NOW);
	dump = simchain_file_dump(sim);
	sim_free(sim);
	assert_int_equal(simchain_file_load(dump, &sim, error), 0);
	sim_mine(sim, 1, NOW);
	again = simchain_file_dump(sim);
	assert_true(json_equal(dump, again));
	assert_true(sim_instance_by_id(sim, 3)->app_id == UINT64_MAX);
	json_decref(again);
	json_decref(dump);
	sim_free(sim);
	json_decref(sample);
}

static void
test_file_errors(void **state)
{
#define REGISTRIES                                                             \
	"\"nova_app_registry\":\"aa00000000000000000000000000000000000000\","  \
	"\"kms_registry\":\"bb00000000000000000000000000000000000000\""
#define GOOD "{\"chain_id\":1,\"kms_app_id\":49," REGISTRIES
	static const char *const cases[] = {
		"[]",
		"{}",
		GOOD ",\"unknown\":1}",
		"{\"chain_id\":-1,\"kms_app_id\":49," REGISTRIES "}",
		"{\"chain_id\":1.5,\"kms_app_id\":49," REGISTRIES "}",
		"{\"chain_id\":\"18446744073709551616\",\"kms_app_id\":"
		"49," REGISTRIES "}",
		GOOD ",\"master_secret_hash\":\"0x00\"}",
		GOOD ",\"apps\":{}}",
		GOOD ",\"apps\":[1]}",
		GOOD ",\"apps\":[{}]}",
		GOOD ",\"apps\":[{\"app_id\":1,\"status\":\"active\"}]}",
		GOOD ",\"apps\":[{\"app_id\":1,\"status\":256}]}",
		GOOD ",\"apps\":[{\"app_id\":1,\"x\":256}]}",
		GOOD ",\"versions\":[{\"app_id\":1}]}",
		GOOD ",\"instances\":[{\"instance_id\":1}]}",
		GOOD ",\"instances\":[{\"instance_id\":0,\"app_id\":1,"
		     "\"version_id\":1,\"tee_pubkey\":\"\",\"tee_wallet\":"
		     "\"bb00000000000000000000000000000000000000\"}]}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *root = json_loads(cases[i], 0, NULL);
		char error[SIMCHAIN_ERROR_MAX] = "";
		struct sim_state *sim;

		assert_non_null(root);
		assert_int_not_equal(simchain_file_load(root, &sim, error), 0);
		assert_null(sim);
		assert_string_not_equal(error, "");
		json_decref(root);
	}
}

/* ---- methods ----------------------------------------------------------- */

static json_t *
rpc(struct simchain_rpc *r, const char *text)
{
	uint64_t delay;
	struct buf out;
	json_t *answer;

	buf_init(&out, 1 << 20);
	assert_int_equal(
	    simchain_rpc_answer(r, text, strlen(text), NOW, &out, &delay), 0);
	answer = json_loadb((char *)out.data, out.len, 0, NULL);
	assert_non_null(answer);
	buf_free(&out);
	return answer;
}

/* Call one method; its result must be that text, or its error that code. */
static void
check(struct simchain_rpc *r, const char *method, const char *params,
    const char *result, int code)
{
	json_t *request = json_pack("{s:s, s:s, s:i, s:o}", "jsonrpc", "2.0",
	    "method", method, "id", 7, "params", json_loads(params, 0, NULL));
	char *text = json_dumps(request, 0);
	json_t *answer = rpc(r, text);
	json_t *error = json_object_get(answer, "error");

	assert_int_equal(json_integer_value(json_object_get(answer, "id")), 7);
	assert_int_equal(
	    json_integer_value(json_object_get(error, "code")), code);
	if (result != NULL)
		assert_string_equal(
		    json_string_value(json_object_get(answer, "result")),
		    result);
	json_decref(answer);
	json_decref(request);
	free(text);
}

static void
test_methods(void **state)
{
	struct simchain_rpc r = { .sim = chain(), .random = 1 };

	(void)state;
	check(&r, "eth_chainId", "[]", "0x7a69", 0);
	check(&r, "net_version", "[]", "31337", 0);
	check(&r, "eth_blockNumber", "[]", "0x1", 0);
	check(&r, "eth_maxPriorityFeePerGas", "[]", "0x3b9aca00", 0);
	check(&r, "eth_gasPrice", "[]", "0x77359400", 0);
	check(&r, "eth_nothing", "[]", NULL, -32601);
	check(&r, "eth_getBlockByNumber", "[\"0x01\", false]", NULL, -32602);
	check(&r, "eth_getBlockByNumber", "[\"newest\", false]", NULL, -32602);
	check(&r, "eth_getBlockByNumber", "[1, false]", NULL, -32602);
	check(&r, "eth_getBlockByNumber", "[\"0xffffffffffffffff\"]", NULL, 0);
	check(&r, "eth_getTransactionCount",
	    "[\"0x0000000000000000000000000000000000000001\", \"latest\"]",
	    "0x0", 0);
	check(&r, "eth_getTransactionCount", "[\"0x01\", \"latest\"]", NULL,
	    -32602);
	check(&r, "eth_call",
	    "[{\"to\": \"0xbb00000000000000000000000000000000000000\","
	    "\"data\": \"0xabd851f1\"}, \"0x1\"]",
	    "0x000000000000000000000000000000000000000000000000000000000000003"
	    "1",
	    0);
	check(&r, "eth_call",
	    "[{\"to\": \"0xbb00000000000000000000000000000000000000\","
	    "\"data\": \"0xabd851f1\"}, \"0x2\"]",
	    NULL, -32000);
	check(&r, "eth_call",
	    "[{\"to\": \"0xbb00000000000000000000000000000000000000\","
	    "\"data\": \"0xabd851f2\"}, \"latest\"]",
	    NULL, 3);
	check(&r, "eth_sendRawTransaction", "[\"0x02\"]", NULL, -32000);
	check(&r, "eth_sendRawTransaction", "[\"02\"]", NULL, -32602);
	check(&r, "sim_mine", "[3]", "0x4", 0);
	check(&r, "sim_mine", "[0]", NULL, -32602);
	check(&r, "sim_setApp", "[{\"app_id\": 50}]", "0x5", 0);
	check(&r, "sim_setApp", "{\"app_id\": 50, \"status\": \"REVOKED\"}",
	    "0x6", 0);
	assert_int_equal(sim_app(r.sim, 50, 5)->status, 0);
	assert_int_equal(sim_app(r.sim, 50, 6)->status, 2);
	check(&r, "sim_setApp", "[{\"app\": 50}]", NULL, -32602);
	check(&r, "sim_setVersion", "[]", NULL, -32602);
	check(&r, "sim_setInstance",
	    "[{\"instance_id\": 1, \"status\": \"FAILED\"}]", "0x7", 0);
	assert_int_equal(sim_instance_by_id(r.sim, 1)->status, 2);
	assert_int_equal(sim_instance_by_id(r.sim, 1)->version_id, 1);
	check(&r, "sim_setMasterSecretHash", "[\"0x07\"]", NULL, -32602);
	sim_free(r.sim);
}

static void
test_requests(void **state)
{
	struct simchain_rpc r = { .sim = chain(), .random = 1 };
	static const struct {
		const char *text;
		int code;
	} cases[] = {
		{ "", -32700 },
		{ "{", -32700 },
		{ "1", -32600 },
		{ "{}", -32600 },
		{ "[]", -32600 },
		{ "{\"method\": \"eth_chainId\", \"id\": {}}", -32600 },
		{ "{\"method\": \"eth_chainId\", \"params\": 1}", -32600 },
		{ "{\"method\": \"eth_call\", \"method\": \"x\"}", -32700 },
	};
	json_t *answer;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		answer = rpc(&r, cases[i].text);
		assert_int_equal(json_integer_value(json_object_get(
				     json_object_get(answer, "error"), "code")),
		    cases[i].code);
		json_decref(answer);
	}
	answer = rpc(&r,
	    "[{\"method\": \"eth_chainId\", \"id\": 1}, 5,"
	    "{\"method\": \"eth_blockNumber\", \"id\": \"x\"}]");
	assert_int_equal(json_array_size(answer), 3);
	assert_string_equal(json_string_value(json_object_get(
				json_array_get(answer, 2), "result")),
	    "0x1");
	json_decref(answer);
	sim_free(r.sim);
}

static int
answer_error(struct simchain_rpc *r, const char *text)
{
	uint64_t delay;
	struct buf out;
	int error;

	buf_init(&out, 1 << 20);
	error = simchain_rpc_answer(r, text, strlen(text), NOW, &out, &delay);
	buf_free(&out);
	return error;
}

static void
test_faults(void **state)
{
	static const char ask_head[] =
	    "{\"method\": \"eth_blockNumber\", \"id\": 1}";
	struct simchain_rpc r = { .sim = chain(), .random = 1 };

	(void)state;
	check(&r, "sim_setFault", "[{\"error_rate\": 1}]", NULL, 0);
	check(&r, "eth_blockNumber", "[]", NULL, -32000);
	check(&r, "sim_setFault", "[{\"drop_rate\": 1.0}]", NULL, 0);
	assert_int_equal(answer_error(&r, ask_head), KMS_ECLOSED);
	check(&r, "sim_setFault", "[{\"stall\": true}]", NULL, 0);
	assert_int_equal(answer_error(&r, ask_head), KMS_EAGAIN);
	check(&r, "sim_setFault", "[{\"drop_rate\": 1.5}]", NULL, -32602);
	check(&r, "sim_setFault", "[{\"other\": 1.5}]", NULL, -32602);
	check(&r, "sim_setFault", "[{\"freeze_head\": true}]", NULL, 0);
	check(&r, "sim_setApp", "[{\"app_id\": 50}]", "0x2", 0);
	check(&r, "eth_blockNumber", "[]", "0x1", 0);
	assert_null(sim_app(r.sim, 50, 1));
	check(&r, "sim_mine", "[]", "0x2", 0);
	assert_non_null(sim_app(r.sim, 50, 2));
	check(&r, "sim_setFault", "[{}]", NULL, 0);
	assert_false(r.faults.freeze_head);
	sim_free(r.sim);
}

static uint64_t seed = 0x73696d636861696e;

static uint32_t
rnd(void)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33);
}

/* Every answer is JSON, whatever was asked. */
static void
test_mutations(void **state)
{
	static const char *const requests[] = {
		"{\"method\":\"eth_call\",\"id\":1,\"params\":[{\"to\":"
		"\"0xaa00000000000000000000000000000000000000\",\"data\":"
		"\"0x6987b0750000000000000000000000000000000000000000000000000"
		"0000000000000310000000000000000000000000000000000000000000000"
		"000000000000000003\"},\"latest\"]}",
		"[{\"method\":\"eth_getBlockByNumber\",\"id\":1,\"params\":["
		"\"finalized\",false]},{\"method\":\"sim_setFault\",\"params\":"
		"[{\"latency_ms\":0,\"error_rate\":0.0}]}]",
		"{\"method\":\"sim_setInstance\",\"params\":[{\"instance_id\":"
		"2,\"app_id\":49,\"version_id\":1,\"tee_wallet\":"
		"\"0x0000000000000000000000000000000000000002\",\"tee_pubkey\":"
		"\"0102\",\"status\":\"ACTIVE\"}]}",
		"{\"method\":\"eth_sendRawTransaction\",\"params\":[\"0x02f891"
		"827a6907843b9aca008477359400830493e094934744f9d931ef72d7fa10b0"
		"\"]}",
	};
	struct simchain_rpc r = { .sim = chain(), .random = 1 };

	(void)state;
	for (int round = 0; round < 10000; round++) {
		const char *request = requests[rnd() % 4];
		size_t len = strlen(request);
		char *text = strdup(request);

		for (uint32_t n = rnd() % 3 + 1; n > 0; n--)
			text[rnd() % len] = rnd() % 4 == 0
			    ? (char)(rnd() % 255 + 1)
			    : "0123456789\"{}[],:x"[rnd() % 18];
		r.faults = (struct simchain_faults){ 0 };
		json_decref(rpc(&r, text));
		free(text);
	}
	sim_free(r.sim);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_history),
		cmocka_unit_test(test_history_bound),
		cmocka_unit_test(test_instance_rules),
		cmocka_unit_test(test_set_hash_rules),
		cmocka_unit_test(test_first_one_wins),
		cmocka_unit_test(test_nonces),
		cmocka_unit_test(test_fees),
		cmocka_unit_test(test_pool_bound),
		cmocka_unit_test(test_encode_instance),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_call_reverts),
		cmocka_unit_test(test_file_round_trip),
		cmocka_unit_test(test_file_errors),
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
