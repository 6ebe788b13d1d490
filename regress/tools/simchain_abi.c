#include "regress/tools/simchain_abi.h"

#include <string.h>

#include "common/err.h"
#include "common/keccak256.h"

#define WORD ETH_WORD_LEN

static void
selector_of(const char *signature, uint8_t selector[4])
{
	uint8_t digest[KECCAK256_LEN];

	keccak256(signature, strlen(signature), digest);
	memcpy(selector, digest, 4);
}

/* ---- results ----------------------------------------------------------- */

/* Appends words; the first error sticks. */
struct writer {
	struct buf *out;
	int error;
};

static void
put(struct writer *w, const void *data, size_t len)
{
	if (w->error == 0)
		w->error = buf_append(w->out, data, len);
}

static void
put_uint(struct writer *w, uint64_t value)
{
	uint8_t word[WORD] = { 0 };

	for (size_t i = 0; i < 8; i++)
		word[WORD - 1 - i] = (uint8_t)(value >> 8 * i);
	put(w, word, sizeof(word));
}

static void
put_address(struct writer *w, const struct eth_address *address)
{
	uint8_t word[WORD] = { 0 };

	memcpy(word + WORD - ETH_ADDRESS_LEN, address->bytes, ETH_ADDRESS_LEN);
	put(w, word, sizeof(word));
}

static size_t
padded(size_t len)
{
	return (len + WORD - 1) / WORD * WORD;
}

/* The tail of a string or bytes: its length, its bytes, zeros. */
static void
put_tail(struct writer *w, const void *data, size_t len)
{
	static const uint8_t zero[WORD];

	put_uint(w, len);
	put(w, data, len);
	put(w, zero, padded(len) - len);
}

int
simchain_abi_instance(struct buf *out, const struct sim_instance *instance)
{
	static const struct sim_instance none;
	const struct sim_instance *in = instance != NULL ? instance : &none;
	struct writer w = { out, 0 };
	size_t url = strlen(in->instance_url);

	put_uint(&w, WORD);
	put_uint(&w, in->instance_id);
	put_uint(&w, in->app_id);
	put_uint(&w, in->version_id);
	put_address(&w, &in->operator_address);
	put_uint(&w, 10 * WORD);
	put_uint(&w, 11 * WORD + padded(url));
	put_address(&w, &in->tee_wallet);
	put_uint(&w, in->zk_verified);
	put_uint(&w, in->status);
	put_uint(&w, in->registered_at);
	put_tail(&w, in->instance_url, url);
	put_tail(&w, in->tee_pubkey, in->tee_pubkey_len);
	return w.error;
}

int
simchain_abi_app(struct buf *out, const struct sim_app *app)
{
	static const struct eth_address nobody;
	static const struct sim_app none;
	const struct sim_app *a = app != NULL ? app : &none;
	struct writer w = { out, 0 };

	put_uint(&w, WORD);
	put_uint(&w, a->app_id);
	put_address(&w, &nobody); /* owner */
	put_uint(&w, 0);	  /* teeArch */
	put_address(&w, &nobody); /* dappContract */
	put_uint(&w, 9 * WORD);	  /* metadataUri */
	put_uint(&w, a->latest_version_id);
	put_uint(&w, 0); /* createdAt */
	put_uint(&w, a->status);
	put_address(&w, &nobody); /* appWallet */
	put_tail(&w, "", 0);
	return w.error;
}

int
simchain_abi_version(struct buf *out, const struct sim_version *version)
{
	static const struct eth_address nobody;
	static const struct sim_version none;
	const struct sim_version *v = version != NULL ? version : &none;
	struct writer w = { out, 0 };

	put_uint(&w, WORD);
	put_uint(&w, v->version_id);
	put_uint(&w, 10 * WORD); /* versionName */
	put_uint(&w, 0);	 /* codeMeasurement */
	put_uint(&w, 11 * WORD); /* imageUri */
	put_uint(&w, 12 * WORD); /* auditUrl */
	put_uint(&w, 13 * WORD); /* auditHash */
	put_uint(&w, 14 * WORD); /* githubRunId */
	put_uint(&w, v->status);
	put_uint(&w, 0); /* enrolledAt */
	put_address(&w, &nobody);
	for (int i = 0; i < 5; i++)
		put_tail(&w, "", 0);
	return w.error;
}

/* ---- reverts ----------------------------------------------------------- */

static int
revert_custom(struct buf *out, const char *signature)
{
	uint8_t selector[4];
	int error;

	selector_of(signature, selector);
	error = buf_append(out, selector, sizeof(selector));
	return error != 0 ? error : KMS_EAUTH;
}

static int
revert_reason(struct buf *out, const char *reason)
{
	struct writer w = { out, 0 };
	uint8_t selector[4];

	selector_of("Error(string)", selector);
	put(&w, selector, sizeof(selector));
	put_uint(&w, WORD);
	put_tail(&w, reason, strlen(reason));
	return w.error != 0 ? w.error : KMS_EAUTH;
}

/* ---- calls ------------------------------------------------------------- */

struct call {
	const struct sim_state *sim;
	uint64_t block;
	const struct eth_address *from;
	const uint8_t *args; /* whole words, as many as the row says */
	struct buf *out;
};

/* A number above 64 bits is nobody's: 0 is as good, and is nobody's either. */
static uint64_t
arg_uint(const struct call *call, size_t i)
{
	struct eth_word word;
	uint64_t value;

	memcpy(word.bytes, call->args + i * WORD, WORD);
	return eth_word_to_u64(&word, &value) == 0 ? value : 0;
}

static int
arg_address(const struct call *call, size_t i, struct eth_address *address)
{
	const uint8_t *word = call->args + i * WORD;

	for (size_t j = 0; j < WORD - ETH_ADDRESS_LEN; j++)
		if (word[j] != 0)
			return KMS_EAUTH; /* as Solidity's decoder: revert */
	memcpy(address->bytes, word + WORD - ETH_ADDRESS_LEN, ETH_ADDRESS_LEN);
	return 0;
}

/* The wallets of an app's active instances. */
struct listing {
	struct writer wallets;
	uint64_t app_id;
	uint64_t count;
};

static int
list_wallet(const struct sim_instance *instance, void *arg)
{
	struct listing *listing = arg;

	if (instance->app_id == listing->app_id && instance->status == 0) {
		put_address(&listing->wallets, &instance->tee_wallet);
		listing->count++;
	}
	return listing->wallets.error;
}

static int
put_active_wallets(const struct call *call, uint64_t app_id)
{
	struct writer w = { call->out, 0 };
	struct listing listing = { .app_id = app_id };
	struct buf wallets;

	buf_init(&wallets, (size_t)SIM_RECORDS_MAX * WORD);
	listing.wallets.out = &wallets;
	w.error =
	    sim_each_instance(call->sim, call->block, list_wallet, &listing);
	put_uint(&w, WORD);
	put_uint(&w, listing.count);
	put(&w, wallets.data, wallets.len);
	buf_free(&wallets);
	return w.error;
}

static int
get_active_instances(const struct call *call)
{
	return put_active_wallets(call, arg_uint(call, 0));
}

static int
get_operators(const struct call *call)
{
	return put_active_wallets(call, sim_config(call->sim)->kms_app_id);
}

static int
get_instance_by_wallet(const struct call *call)
{
	struct eth_address wallet;
	int error = arg_address(call, 0, &wallet);

	if (error != 0)
		return error;
	return simchain_abi_instance(
	    call->out, sim_instance_by_wallet(call->sim, &wallet, call->block));
}

static int
get_app(const struct call *call)
{
	return simchain_abi_app(
	    call->out, sim_app(call->sim, arg_uint(call, 0), call->block));
}

static int
get_version(const struct call *call)
{
	return simchain_abi_version(call->out,
	    sim_version(
		call->sim, arg_uint(call, 0), arg_uint(call, 1), call->block));
}

static int
master_secret_hash(const struct call *call)
{
	struct eth_word hash = sim_hash(call->sim, call->block);

	return buf_append(call->out, hash.bytes, sizeof(hash.bytes));
}

static int
set_master_secret_hash(const struct call *call)
{
	struct eth_word hash;

	memcpy(hash.bytes, call->args, WORD);
	switch (sim_may_set_hash(call->sim, call->from, &hash, call->block)) {
	case SIM_ALREADY_SET:
		return revert_custom(call->out, "MasterSecretHashAlreadySet()");
	case SIM_NOT_AUTHORIZED:
		return revert_custom(call->out, "NotAuthorizedToSetHash()");
	case SIM_ZERO_HASH:
		return revert_reason(call->out, "zero hash");
	case SIM_DONE:
		break;
	}
	return 0;
}

static int
kms_app_id(const struct call *call)
{
	struct writer w = { call->out, 0 };

	put_uint(&w, sim_config(call->sim)->kms_app_id);
	return w.error;
}

static int
is_operator(const struct call *call)
{
	const struct sim_instance *instance;
	struct writer w = { call->out, 0 };
	struct eth_address wallet;
	int error = arg_address(call, 0, &wallet);

	if (error != 0)
		return error;
	instance = sim_instance_by_wallet(call->sim, &wallet, call->block);
	put_uint(&w,
	    instance != NULL && instance->status == 0 &&
		instance->app_id == sim_config(call->sim)->kms_app_id);
	return w.error;
}

struct function {
	const char *signature;
	size_t words; /* of arguments */
	int (*handle)(const struct call *);
	uint8_t selector[4]; /* computed once */
};

static struct function nova_functions[] = {
	{ "getActiveInstances(uint256)", 1, get_active_instances, { 0 } },
	{ "getInstanceByWallet(address)", 1, get_instance_by_wallet, { 0 } },
	{ "getApp(uint256)", 1, get_app, { 0 } },
	{ "getVersion(uint256,uint256)", 2, get_version, { 0 } },
	{ NULL, 0, NULL, { 0 } },
};

static struct function kms_functions[] = {
	{ "masterSecretHash()", 0, master_secret_hash, { 0 } },
	{ "setMasterSecretHash(bytes32)", 1, set_master_secret_hash, { 0 } },
	{ "kmsAppId()", 0, kms_app_id, { 0 } },
	{ "getOperators()", 0, get_operators, { 0 } },
	{ "isOperator(address)", 1, is_operator, { 0 } },
	{ NULL, 0, NULL, { 0 } },
};

static const struct function *
function_find(struct function *table, const uint8_t *data, size_t len)
{
	if (len < 4)
		return NULL;
	for (struct function *f = table; f->signature != NULL; f++) {
		static const uint8_t unset[4];

		if (memcmp(f->selector, unset, 4) == 0)
			selector_of(f->signature, f->selector);
		if (memcmp(f->selector, data, 4) == 0)
			return len - 4 >= f->words * WORD ? f : NULL;
	}
	return NULL;
}

int
simchain_abi_call(const struct sim_state *sim, uint64_t block,
    const struct eth_address *from, const struct eth_address *to,
    const uint8_t *data, size_t len, struct buf *out)
{
	struct call call = { sim, block, from, NULL, out };
	const struct function *f;
	struct function *table;

	if (eth_address_equal(to, &sim_config(sim)->nova_app_registry))
		table = nova_functions;
	else if (eth_address_equal(to, &sim_config(sim)->kms_registry))
		table = kms_functions;
	else
		return 0;
	f = function_find(table, data, len);
	if (f == NULL)
		return KMS_EAUTH; /* no such function: an empty revert */
	call.args = data + 4;
	return f->handle(&call);
}
