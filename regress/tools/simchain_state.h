/*
 * The development chain's state: two registries, accounts, blocks, a pool of
 * transactions. Pure: time comes in as an argument.
 *
 * Every record is kept as a chain of revisions, each with the block from which
 * it holds, so that a read at a block sees that block whatever happened since.
 * Revisions, blocks and receipts older than SIM_HISTORY blocks are dropped,
 * as are reads of them. A change is written for the block to come and is seen
 * once sim_mine has made it.
 */
#ifndef REGRESS_TOOLS_SIMCHAIN_STATE_H
#define REGRESS_TOOLS_SIMCHAIN_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/eth.h"

#define SIM_HISTORY 1024      /* blocks that can be read */
#define SIM_RECEIPTS 1024     /* transactions whose receipt is kept */
#define SIM_POOL_MAX 64	      /* transactions that wait for a block */
#define SIM_RECORDS_MAX 65536 /* apps, versions, instances, senders: each */
#define SIM_INSTANCE_URL_MAX 512
#define SIM_TEE_PUBKEY_MAX 256
#define SIM_SAFE_DEPTH 32 /* blocks below the head, as anvil has it */
#define SIM_FINALIZED_DEPTH 64
#define SIM_BASE_FEE 1000000000 /* wei */
#define SIM_TIP 1000000000
#define SIM_GAS_LIMIT 30000000
#define SIM_GAS_USED 50000 /* of setMasterSecretHash, about */

struct sim_app {
	uint64_t app_id;
	uint64_t latest_version_id;
	uint8_t status;
};

struct sim_version {
	uint64_t app_id;
	uint64_t version_id;
	uint8_t status;
};

struct sim_instance {
	uint64_t instance_id; /* 0: none, as the contract answers */
	uint64_t app_id;
	uint64_t version_id;
	uint64_t registered_at;
	struct eth_address operator_address;
	struct eth_address tee_wallet;
	bool zk_verified;
	uint8_t status;
	uint16_t tee_pubkey_len;
	uint8_t tee_pubkey[SIM_TEE_PUBKEY_MAX];
	char instance_url[SIM_INSTANCE_URL_MAX + 1];
};

struct sim_block {
	uint64_t number;
	uint64_t timestamp; /* seconds since 1970 */
	uint64_t base_fee;  /* wei */
	uint64_t gas_used;
	struct eth_word hash;
	struct eth_word parent_hash;
};

/* A transaction as it was signed; the caller has checked the signature. */
struct sim_transaction {
	struct eth_word hash;
	struct eth_address from;
	struct eth_address to;
	uint64_t nonce;
	uint64_t max_fee; /* wei, 0 < max_fee; saturated */
	uint64_t tip;
	uint64_t gas_limit;
	bool has_value;
	size_t data_len; /* of all the calldata; what does not fit below is
			    no call that the contract knows */
	uint8_t data[4 + ETH_WORD_LEN];
};

struct sim_receipt {
	struct eth_word hash;
	struct eth_address from;
	struct eth_address to;
	uint64_t block_number;
	struct eth_word block_hash;
	uint64_t index; /* in its block */
	uint64_t gas_used;
	uint64_t gas_price;
	uint64_t nonce;
	size_t data_len; /* as of the transaction, with what fits of data */
	uint8_t data[4 + ETH_WORD_LEN];
	bool success;
};

/* What the registry's setMasterSecretHash said. */
enum sim_verdict {
	SIM_DONE,
	SIM_ALREADY_SET,    /* MasterSecretHashAlreadySet() */
	SIM_NOT_AUTHORIZED, /* NotAuthorizedToSetHash() */
	SIM_ZERO_HASH	    /* Error("zero hash") */
};

/* Why a transaction was not taken. */
enum sim_pool_error {
	SIM_POOL_OK,
	SIM_POOL_KNOWN,
	SIM_POOL_NONCE_LOW,
	SIM_POOL_NONCE_HIGH,
	SIM_POOL_UNDERPRICED, /* a replacement needs 10 % more of both fees */
	SIM_POOL_FEES,	      /* the tip is above the maximum fee */
	SIM_POOL_GAS,	      /* below the intrinsic cost, above a block's */
	SIM_POOL_FULL
};

struct sim_state;

/* Fixed for a chain's life. */
struct sim_config {
	uint64_t chain_id;
	uint64_t kms_app_id;
	struct eth_address nova_app_registry;
	struct eth_address kms_registry;
};

/*
 * A chain with block 0 to come: set the records of its genesis, then call
 * sim_mine. NULL when out of memory. sim_free takes NULL too.
 */
struct sim_state *sim_new(const struct sim_config *config);
void sim_free(struct sim_state *sim);
const struct sim_config *sim_config(const struct sim_state *sim);

/*
 * Create or replace, from the next block on. KMS_EBUSY beyond SIM_RECORDS_MAX,
 * KMS_EEXIST when the wallet of an instance is another's, KMS_EINVAL without
 * an instance ID, KMS_ENOMEM.
 */
int sim_set_app(struct sim_state *sim, const struct sim_app *app);
int sim_set_version(struct sim_state *sim, const struct sim_version *version);
int sim_set_instance(
    struct sim_state *sim, const struct sim_instance *instance);
int sim_set_hash(struct sim_state *sim, const struct eth_word *hash);
void sim_set_base_fee(struct sim_state *sim, uint64_t wei);

/*
 * Make n blocks at the given time (seconds; a block is never older than its
 * parent). The first takes the waiting transactions whose fee suffices.
 */
void sim_mine(struct sim_state *sim, uint64_t n, int64_t wall_s);

/* The head's number, and the number of the block to come. */
uint64_t sim_head(const struct sim_state *sim);
uint64_t sim_pending(const struct sim_state *sim);
/* 1 when state at this block can be read (the pending one's too), else 0. */
int sim_readable(const struct sim_state *sim, uint64_t block);
/* NULL when it is not or no longer known; valid until the next sim_mine. */
const struct sim_block *sim_block(const struct sim_state *sim, uint64_t number);
const struct sim_block *sim_block_by_hash(
    const struct sim_state *sim, const struct eth_word *hash);
uint64_t sim_base_fee(const struct sim_state *sim);

/* Reads at a readable block. NULL: there is none. Valid until the next
 * change. */
const struct sim_app *sim_app(
    const struct sim_state *sim, uint64_t app_id, uint64_t block);
const struct sim_version *sim_version(const struct sim_state *sim,
    uint64_t app_id, uint64_t version_id, uint64_t block);
const struct sim_instance *sim_instance_by_wallet(const struct sim_state *sim,
    const struct eth_address *wallet, uint64_t block);
/* Of the block to come: what a change starts from. */
const struct sim_instance *sim_instance_by_id(
    const struct sim_state *sim, uint64_t instance_id);
struct eth_word sim_hash(const struct sim_state *sim, uint64_t block);
uint64_t sim_nonce(const struct sim_state *sim,
    const struct eth_address *sender, uint64_t block);
/* With the waiting transactions counted. */
uint64_t sim_nonce_pending(
    const struct sim_state *sim, const struct eth_address *sender);

/* Every record at a block, in order of creation. A visitor that does not
 * return 0 ends it, and that is returned. */
int sim_each_app(const struct sim_state *sim, uint64_t block,
    int (*visit)(const struct sim_app *, void *), void *arg);
int sim_each_version(const struct sim_state *sim, uint64_t block,
    int (*visit)(const struct sim_version *, void *), void *arg);
int sim_each_instance(const struct sim_state *sim, uint64_t block,
    int (*visit)(const struct sim_instance *, void *), void *arg);

/*
 * The registry's rule for setMasterSecretHash by that sender at a block:
 * unset so far, the sender is the wallet of an ACTIVE, verified instance of
 * the KMS app with an ENROLLED version, the hash is not zero.
 */
enum sim_verdict sim_may_set_hash(const struct sim_state *sim,
    const struct eth_address *sender, const struct eth_word *hash,
    uint64_t block);

/* Let a transaction wait for the next block. */
enum sim_pool_error sim_submit(
    struct sim_state *sim, const struct sim_transaction *transaction);
/* NULL when it waits or is not (or no longer) known. */
const struct sim_receipt *sim_receipt(
    const struct sim_state *sim, const struct eth_word *hash);

#endif
