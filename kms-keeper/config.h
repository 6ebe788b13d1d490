/* What kmsd.conf tells the keeper (PROTOCOL.md section 9). */
#ifndef KMS_KEEPER_CONFIG_H
#define KMS_KEEPER_CONFIG_H

#include <stdint.h>

#include "common/eth.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "proto/chan.h"

struct keeper_config {
	struct sandbox_settings sandbox;
	char role[16];
	char log_level_name[16];
	char environment[16];
	char identity[256];
	char node_url[2049];
	char nova_app_registry_text[64];
	char kms_registry_text[64];
	char reserved_paths[16];
	char eviction[16];
	int require_bound_requests;
	uint64_t generation;
	uint64_t kms_app_id;
	uint64_t chain_id;
	uint64_t node_tick; /* times in ms */
	uint64_t sync_interval;
	uint64_t sync_batch;
	uint64_t peer_cache_ttl;
	uint64_t registry_cache_ttl;
	uint64_t membership_max_age;
	uint64_t max_head_age;
	uint64_t confirmations;
	uint64_t wipe_confirmations;
	uint64_t peer_blacklist;
	uint64_t pop_max_age;
	uint64_t max_nonces;
	uint64_t max_value_size;
	uint64_t max_app_storage;
	uint64_t max_store;
	uint64_t tombstone_retention;
	uint64_t max_tombstones;
	uint64_t max_clock_skew;
	uint64_t default_ttl;
	uint64_t replica_timeout;
	uint64_t rpc_quorum;
	uint64_t rpc_endpoints; /* kmsd's count of rpc-url lines; 0: one */
	uint64_t app_rate;
	uint64_t audit_interval; /* ms between signatures of it, 0: none */
	uint64_t max_body;
	uint64_t max_sync_body;
	/* from the texts above, by keeper_config_finish */
	struct eth_address nova_app_registry;
	struct eth_address kms_registry;
	int reserved_paths_allowed;
	int evict_lru;
	enum log_level log_level;
};

/* Read it from the control channel and check it. 0 or KMS_E* (logged). */
int keeper_config_read(struct keeper_config *config);

/*
 * KMSDCHILD_RECONFIG: a row of what can change while the keeper runs, which is
 * log-level, app-rate, require-bound-requests and default-ttl. KMS_EPROTO.
 */
int keeper_config_row(struct keeper_config *config, const struct msg *msg);

/* KMSDCHILD_APPLY: those take effect in config. KMS_EPROTO. */
int keeper_config_apply(struct keeper_config *config);

/* Parse the texts into the members below them. KMS_EINVAL (logged). */
int keeper_config_finish(struct keeper_config *config);

#endif
