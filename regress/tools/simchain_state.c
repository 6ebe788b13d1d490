#include "regress/tools/simchain_state.h"

#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "common/err.h"
#include "common/keccak256.h"

/* ---- revisions --------------------------------------------------------- */

struct revision {
	struct revision *older;
	uint64_t since; /* the first block in which it holds */
	max_align_t data[];
};

static const void *
revision_read(const struct revision *newest, uint64_t block)
{
	while (newest != NULL && newest->since > block)
		newest = newest->older;
	return newest != NULL ? newest->data : NULL;
}

static void
revision_free(struct revision *newest)
{
	while (newest != NULL) {
		struct revision *older = newest->older;

		free(newest);
		newest = older;
	}
}

/* Drop what no block from keep on can see. */
static void
revision_prune(struct revision *newest, uint64_t keep)
{
	while (newest != NULL && newest->since > keep)
		newest = newest->older;
	if (newest != NULL) {
		revision_free(newest->older);
		newest->older = NULL;
	}
}

static int
revision_write(struct revision **newest, uint64_t since, uint64_t keep,
    const void *data, size_t size)
{
	struct revision *r = *newest;

	if (r == NULL || r->since != since) {
		r = malloc(sizeof(*r) + size);
		if (r == NULL)
			return KMS_ENOMEM;
		r->older = *newest;
		r->since = since;
		*newest = r;
	}
	memcpy(r->data, data, size);
	revision_prune(r, keep);
	return 0;
}

/* ---- records ----------------------------------------------------------- */

/* Large enough for every key; the unused rest is zero. */
struct key {
	uint8_t bytes[ETH_ADDRESS_LEN];
};

struct record {
	struct key key;
	struct revision *newest;
	UT_hash_handle hh;
};

enum table {
	TABLE_APPS,	 /* app ID: struct sim_app */
	TABLE_VERSIONS,	 /* app ID, version ID: struct sim_version */
	TABLE_INSTANCES, /* wallet: struct sim_instance */
	TABLE_WALLETS,	 /* instance ID: struct eth_address */
	TABLE_SENDERS,	 /* address: uint64_t, its next nonce */
	TABLE_COUNT
};

struct sim_state {
	struct sim_config config;
	struct record *tables[TABLE_COUNT];
	struct revision *hash; /* struct eth_word */
	uint64_t base_fee;

	uint64_t next; /* number of the block to come */
	struct sim_block blocks[SIM_HISTORY];

	struct sim_transaction pool[SIM_POOL_MAX];
	size_t pool_len;
	struct sim_receipt receipts[SIM_RECEIPTS];
	uint64_t receipts_made;
};

static struct key
key_of_ids(uint64_t a, uint64_t b)
{
	struct key key = { { 0 } };

	memcpy(key.bytes, &a, sizeof(a));
	memcpy(key.bytes + sizeof(a), &b, sizeof(b));
	return key;
}

static struct key
key_of_address(const struct eth_address *address)
{
	struct key key;

	memcpy(key.bytes, address->bytes, sizeof(key.bytes));
	return key;
}

/* The oldest block that can be read. */
static uint64_t
oldest(const struct sim_state *sim)
{
	return sim->next > SIM_HISTORY ? sim->next - SIM_HISTORY : 0;
}

static const void *
table_read(const struct sim_state *sim, enum table table, struct key key,
    uint64_t block)
{
	struct record *record;

	HASH_FIND(hh, sim->tables[table], &key, sizeof(key), record);
	return record != NULL ? revision_read(record->newest, block) : NULL;
}

/* Have the key in the table, for a revision to be written. */
static int
table_record(struct sim_state *sim, enum table table, struct key key,
    struct record **out)
{
	struct record *record;

	HASH_FIND(hh, sim->tables[table], &key, sizeof(key), record);
	if (record == NULL) {
		if (HASH_COUNT(sim->tables[table]) >= SIM_RECORDS_MAX)
			return KMS_EBUSY;
		record = calloc(1, sizeof(*record));
		if (record == NULL)
			return KMS_ENOMEM;
		record->key = key;
		HASH_ADD(
		    hh, sim->tables[table], key, sizeof(record->key), record);
	}
	*out = record;
	return 0;
}

static int
table_write(struct sim_state *sim, enum table table, struct key key,
    const void *data, size_t size)
{
	struct record *record;
	int error = table_record(sim, table, key, &record);

	if (error != 0)
		return error;
	return revision_write(
	    &record->newest, sim->next, oldest(sim), data, size);
}

static void
table_free(struct sim_state *sim, enum table table)
{
	struct record *record, *tmp;

	HASH_ITER (hh, sim->tables[table], record, tmp) {
		HASH_DEL(sim->tables[table], record);
		revision_free(record->newest);
		free(record);
	}
}

typedef int visit_fn(const void *record, void *arg);

static int
table_each(const struct sim_state *sim, enum table table, uint64_t block,
    visit_fn *visit, void *arg)
{
	const struct record *record;
	int result = 0;

	for (record = sim->tables[table]; record != NULL && result == 0;
	     record = record->hh.next) {
		const void *data = revision_read(record->newest, block);

		if (data != NULL)
			result = visit(data, arg);
	}
	return result;
}

/* ---- life -------------------------------------------------------------- */

struct sim_state *
sim_new(const struct sim_config *config)
{
	struct sim_state *sim = calloc(1, sizeof(*sim));

	if (sim != NULL) {
		sim->config = *config;
		sim->base_fee = SIM_BASE_FEE;
	}
	return sim;
}

void
sim_free(struct sim_state *sim)
{
	if (sim == NULL)
		return;
	for (enum table t = 0; t < TABLE_COUNT; t++)
		table_free(sim, t);
	revision_free(sim->hash);
	free(sim);
}

const struct sim_config *
sim_config(const struct sim_state *sim)
{
	return &sim->config;
}

/* ---- changes ----------------------------------------------------------- */

int
sim_set_app(struct sim_state *sim, const struct sim_app *app)
{
	return table_write(
	    sim, TABLE_APPS, key_of_ids(app->app_id, 0), app, sizeof(*app));
}

int
sim_set_version(struct sim_state *sim, const struct sim_version *version)
{
	return table_write(sim, TABLE_VERSIONS,
	    key_of_ids(version->app_id, version->version_id), version,
	    sizeof(*version));
}

/* The instance leaves a wallet, which then has none. */
static int
vacate(struct sim_state *sim, const struct eth_address *wallet)
{
	static const struct sim_instance none;

	return table_write(
	    sim, TABLE_INSTANCES, key_of_address(wallet), &none, sizeof(none));
}

int
sim_set_instance(struct sim_state *sim, const struct sim_instance *instance)
{
	const struct sim_instance *before, *holder;
	int error = 0;

	if (instance->instance_id == 0)
		return KMS_EINVAL;
	holder = sim_instance_by_wallet(sim, &instance->tee_wallet, sim->next);
	if (holder != NULL && holder->instance_id != instance->instance_id)
		return KMS_EEXIST;
	before = sim_instance_by_id(sim, instance->instance_id);
	if (before != NULL &&
	    !eth_address_equal(&before->tee_wallet, &instance->tee_wallet))
		error = vacate(sim, &before->tee_wallet);
	if (error == 0)
		error = table_write(sim, TABLE_INSTANCES,
		    key_of_address(&instance->tee_wallet), instance,
		    sizeof(*instance));
	if (error == 0)
		error = table_write(sim, TABLE_WALLETS,
		    key_of_ids(instance->instance_id, 0), &instance->tee_wallet,
		    sizeof(instance->tee_wallet));
	return error;
}

int
sim_set_hash(struct sim_state *sim, const struct eth_word *hash)
{
	return revision_write(
	    &sim->hash, sim->next, oldest(sim), hash, sizeof(*hash));
}

void
sim_set_base_fee(struct sim_state *sim, uint64_t wei)
{
	sim->base_fee = wei;
}

/* ---- reads ------------------------------------------------------------- */

uint64_t
sim_head(const struct sim_state *sim)
{
	return sim->next > 0 ? sim->next - 1 : 0;
}

uint64_t
sim_pending(const struct sim_state *sim)
{
	return sim->next;
}

int
sim_readable(const struct sim_state *sim, uint64_t block)
{
	return block >= oldest(sim) && block <= sim->next;
}

uint64_t
sim_base_fee(const struct sim_state *sim)
{
	return sim->base_fee;
}

const struct sim_app *
sim_app(const struct sim_state *sim, uint64_t app_id, uint64_t block)
{
	return table_read(sim, TABLE_APPS, key_of_ids(app_id, 0), block);
}

const struct sim_version *
sim_version(const struct sim_state *sim, uint64_t app_id, uint64_t version_id,
    uint64_t block)
{
	return table_read(
	    sim, TABLE_VERSIONS, key_of_ids(app_id, version_id), block);
}

const struct sim_instance *
sim_instance_by_wallet(const struct sim_state *sim,
    const struct eth_address *wallet, uint64_t block)
{
	const struct sim_instance *instance =
	    table_read(sim, TABLE_INSTANCES, key_of_address(wallet), block);

	return instance != NULL && instance->instance_id != 0 ? instance : NULL;
}

const struct sim_instance *
sim_instance_by_id(const struct sim_state *sim, uint64_t instance_id)
{
	const struct eth_address *wallet = table_read(
	    sim, TABLE_WALLETS, key_of_ids(instance_id, 0), sim->next);

	return wallet != NULL ? sim_instance_by_wallet(sim, wallet, sim->next)
			      : NULL;
}

struct eth_word
sim_hash(const struct sim_state *sim, uint64_t block)
{
	const struct eth_word *hash = revision_read(sim->hash, block);
	static const struct eth_word zero;

	return hash != NULL ? *hash : zero;
}

uint64_t
sim_nonce(const struct sim_state *sim, const struct eth_address *sender,
    uint64_t block)
{
	const uint64_t *nonce =
	    table_read(sim, TABLE_SENDERS, key_of_address(sender), block);

	return nonce != NULL ? *nonce : 0;
}

/* The visitors below differ in their argument's type alone. */
struct visitor {
	int (*app)(const struct sim_app *, void *);
	int (*version)(const struct sim_version *, void *);
	int (*instance)(const struct sim_instance *, void *);
	void *arg;
};

static int
visit_app(const void *record, void *arg)
{
	const struct visitor *visitor = arg;

	return visitor->app(record, visitor->arg);
}

static int
visit_version(const void *record, void *arg)
{
	const struct visitor *visitor = arg;

	return visitor->version(record, visitor->arg);
}

static int
visit_instance(const void *record, void *arg)
{
	const struct visitor *visitor = arg;
	const struct sim_instance *instance = record;

	if (instance->instance_id == 0)
		return 0;
	return visitor->instance(instance, visitor->arg);
}

int
sim_each_app(const struct sim_state *sim, uint64_t block,
    int (*visit)(const struct sim_app *, void *), void *arg)
{
	struct visitor visitor = { .app = visit, .arg = arg };

	return table_each(sim, TABLE_APPS, block, visit_app, &visitor);
}

int
sim_each_version(const struct sim_state *sim, uint64_t block,
    int (*visit)(const struct sim_version *, void *), void *arg)
{
	struct visitor visitor = { .version = visit, .arg = arg };

	return table_each(sim, TABLE_VERSIONS, block, visit_version, &visitor);
}

int
sim_each_instance(const struct sim_state *sim, uint64_t block,
    int (*visit)(const struct sim_instance *, void *), void *arg)
{
	struct visitor visitor = { .instance = visit, .arg = arg };

	return table_each(
	    sim, TABLE_INSTANCES, block, visit_instance, &visitor);
}

/* ---- blocks ------------------------------------------------------------ */

const struct sim_block *
sim_block(const struct sim_state *sim, uint64_t number)
{
	if (number >= sim->next || number < oldest(sim))
		return NULL;
	return &sim->blocks[number % SIM_HISTORY];
}

const struct sim_block *
sim_block_by_hash(const struct sim_state *sim, const struct eth_word *hash)
{
	for (uint64_t n = sim->next; n > oldest(sim); n--) {
		const struct sim_block *block = sim_block(sim, n - 1);

		if (memcmp(&block->hash, hash, sizeof(*hash)) == 0)
			return block;
	}
	return NULL;
}

/* No real header's hash, but one that commits to what a block says. */
static void
block_hash(struct sim_state *sim, struct sim_block *block)
{
	struct keccak256 k;

	keccak256_init(&k);
	keccak256_update(&k, "simchain", 8);
	keccak256_update(&k, &sim->config.chain_id, sizeof(uint64_t));
	keccak256_update(&k, &block->parent_hash, sizeof(block->parent_hash));
	keccak256_update(&k, &block->number, sizeof(block->number));
	keccak256_update(&k, &block->timestamp, sizeof(block->timestamp));
	keccak256_update(&k, &block->gas_used, sizeof(block->gas_used));
	keccak256_final(&k, block->hash.bytes);
}

static struct sim_block *
block_start(struct sim_state *sim, int64_t wall_s)
{
	struct sim_block *block = &sim->blocks[sim->next % SIM_HISTORY];
	const struct sim_block *parent =
	    sim->next > 0 ? sim_block(sim, sim->next - 1) : NULL;

	memset(block, 0, sizeof(*block));
	block->number = sim->next;
	block->timestamp = wall_s > 0 ? (uint64_t)wall_s : 0;
	block->base_fee = sim->base_fee;
	if (parent != NULL) {
		block->parent_hash = parent->hash;
		if (block->timestamp < parent->timestamp)
			block->timestamp = parent->timestamp;
	}
	return block;
}

/* ---- transactions ------------------------------------------------------ */

enum sim_verdict
sim_may_set_hash(const struct sim_state *sim, const struct eth_address *sender,
    const struct eth_word *hash, uint64_t block)
{
	const struct sim_instance *instance =
	    sim_instance_by_wallet(sim, sender, block);
	const struct sim_version *version;
	struct eth_word now = sim_hash(sim, block);

	if (!eth_word_is_zero(&now))
		return SIM_ALREADY_SET;
	if (instance == NULL || instance->app_id != sim->config.kms_app_id ||
	    instance->status != 0 || !instance->zk_verified)
		return SIM_NOT_AUTHORIZED;
	version =
	    sim_version(sim, instance->app_id, instance->version_id, block);
	if (version == NULL || version->status != 0)
		return SIM_NOT_AUTHORIZED;
	return eth_word_is_zero(hash) ? SIM_ZERO_HASH : SIM_DONE;
}

/* Execute in the block to come. Returns whether it succeeded. */
static bool
execute(struct sim_state *sim, const struct sim_transaction *tx)
{
	static const uint8_t selector[4] = { 0x4d, 0xf7, 0xe3, 0x90 };
	struct eth_word hash;

	if (eth_address_equal(&tx->to, &sim->config.nova_app_registry))
		return false;
	if (!eth_address_equal(&tx->to, &sim->config.kms_registry))
		return true; /* no code there: nothing but a transfer */
	if (tx->has_value || tx->data_len != sizeof(tx->data) ||
	    memcmp(tx->data, selector, sizeof(selector)) != 0)
		return false;
	memcpy(hash.bytes, tx->data + sizeof(selector), ETH_WORD_LEN);
	if (sim_may_set_hash(sim, &tx->from, &hash, sim->next) != SIM_DONE)
		return false;
	return sim_set_hash(sim, &hash) == 0;
}

static int
include_transaction(struct sim_state *sim, struct sim_block *block,
    const struct sim_transaction *tx, uint64_t index)
{
	struct sim_receipt *receipt =
	    &sim->receipts[sim->receipts_made % SIM_RECEIPTS];
	uint64_t nonce = tx->nonce + 1;
	uint64_t tip = tx->max_fee - sim->base_fee;
	int error = table_write(sim, TABLE_SENDERS, key_of_address(&tx->from),
	    &nonce, sizeof(nonce));

	if (error != 0)
		return error;
	memset(receipt, 0, sizeof(*receipt));
	receipt->hash = tx->hash;
	receipt->from = tx->from;
	receipt->to = tx->to;
	receipt->nonce = tx->nonce;
	receipt->data_len = tx->data_len;
	memcpy(receipt->data, tx->data, sizeof(receipt->data));
	receipt->block_number = block->number;
	receipt->index = index;
	receipt->success = execute(sim, tx);
	receipt->gas_used =
	    tx->gas_limit < SIM_GAS_USED ? tx->gas_limit : SIM_GAS_USED;
	receipt->gas_price = sim->base_fee + (tip < tx->tip ? tip : tx->tip);
	block->gas_used += receipt->gas_used;
	sim->receipts_made++;
	return 0;
}

/* Those whose turn and price it is, in order of arrival; the rest waits. */
static uint64_t
include_pool(struct sim_state *sim, struct sim_block *block)
{
	uint64_t included = 0;
	size_t left = 0;

	for (size_t i = 0; i < sim->pool_len; i++) {
		const struct sim_transaction *tx = &sim->pool[i];

		if (tx->max_fee < sim->base_fee ||
		    tx->nonce != sim_nonce(sim, &tx->from, sim->next))
			sim->pool[left++] = *tx;
		else if (include_transaction(sim, block, tx, included) == 0)
			included++;
	}
	sim->pool_len = left;
	return included;
}

void
sim_mine(struct sim_state *sim, uint64_t n, int64_t wall_s)
{
	for (uint64_t i = 0; i < n; i++) {
		struct sim_block *block = block_start(sim, wall_s);
		uint64_t included = include_pool(sim, block);

		block_hash(sim, block);
		for (uint64_t j = 1; j <= included; j++)
			sim->receipts[(sim->receipts_made - j) % SIM_RECEIPTS]
			    .block_hash = block->hash;
		sim->next++;
	}
}

uint64_t
sim_nonce_pending(const struct sim_state *sim, const struct eth_address *sender)
{
	uint64_t nonce = sim_nonce(sim, sender, sim->next);

	for (size_t i = 0; i < sim->pool_len; i++)
		if (eth_address_equal(&sim->pool[i].from, sender))
			nonce++;
	return nonce;
}

/* What the EVM takes before the first instruction (EIP-2028). */
static uint64_t
intrinsic_gas(const struct sim_transaction *tx)
{
	return 21000 + 16 * (uint64_t)tx->data_len;
}

/* 10 % more, as geth demands; halves are in the old one's favour. */
static bool
outbids(uint64_t now, uint64_t before)
{
	return now >= before && now - before >= before / 10 + (before % 10 > 0);
}

static enum sim_pool_error
replace(struct sim_transaction *old, const struct sim_transaction *tx)
{
	if (!outbids(tx->max_fee, old->max_fee) || !outbids(tx->tip, old->tip))
		return SIM_POOL_UNDERPRICED;
	*old = *tx;
	return SIM_POOL_OK;
}

enum sim_pool_error
sim_submit(struct sim_state *sim, const struct sim_transaction *tx)
{
	uint64_t next = sim_nonce_pending(sim, &tx->from);

	for (size_t i = 0; i < sim->pool_len; i++)
		if (memcmp(&sim->pool[i].hash, &tx->hash, ETH_WORD_LEN) == 0)
			return SIM_POOL_KNOWN;
	if (tx->tip > tx->max_fee)
		return SIM_POOL_FEES;
	if (tx->gas_limit < intrinsic_gas(tx) || tx->gas_limit > SIM_GAS_LIMIT)
		return SIM_POOL_GAS;
	if (tx->nonce < sim_nonce(sim, &tx->from, sim->next))
		return SIM_POOL_NONCE_LOW;
	if (tx->nonce > next)
		return SIM_POOL_NONCE_HIGH;
	for (size_t i = 0; i < sim->pool_len; i++)
		if (sim->pool[i].nonce == tx->nonce &&
		    eth_address_equal(&sim->pool[i].from, &tx->from))
			return replace(&sim->pool[i], tx);
	if (sim->pool_len == SIM_POOL_MAX)
		return SIM_POOL_FULL;
	sim->pool[sim->pool_len++] = *tx;
	return SIM_POOL_OK;
}

const struct sim_receipt *
sim_receipt(const struct sim_state *sim, const struct eth_word *hash)
{
	for (uint64_t i = 0; i < SIM_RECEIPTS && i < sim->receipts_made; i++) {
		const struct sim_receipt *receipt =
		    &sim->receipts[(sim->receipts_made - 1 - i) % SIM_RECEIPTS];

		if (memcmp(&receipt->hash, hash, sizeof(*hash)) == 0)
			return receipt;
	}
	return NULL;
}
