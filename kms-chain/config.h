/* What kmsd tells kms-chain, and the texts made into what they mean. */
#ifndef KMS_CHAIN_CONFIG_H
#define KMS_CHAIN_CONFIG_H

#include "common/buf.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "kms-chain/destination.h"
#include "kms-chain/question.h"
#include "proto/chan.h"
#include "proto/config.h"

struct chain_config {
	/* as told */
	char role[8];
	uint64_t generation;
	char log_level[8];
	char environment[16];
	struct sandbox_settings sandbox;
	struct config_list rpc_urls;
	uint64_t chain_id;
	char nova_app_registry[64];
	char kms_registry[64];
	struct config_list dns_servers;
	uint64_t rpc_timeout; /* ms, 0: the default */
	char egress_proxy[2049];
	struct buf ca_bundle; /* PEM */

	/* made of it */
	int is_peer;
	struct destination endpoints[RPC_ENDPOINTS_MAX];
	const char *servers[CONFIG_LIST_MAX];
	struct questions_config questions;
	int is_enclave;
	int has_proxy;
	struct destination proxy;
};

/*
 * Receive it over FD_CONTROL and check it. 0, or KMS_E* with the reason in
 * why (size bytes), which quotes no URL.
 */
int chain_config_receive(struct chain_config *config, char *why, size_t size);

/* KMSDCHILD_RECONFIG and KMSDCHILD_APPLY; arg is the struct chain_config. */
int chain_config_row(struct chan *chan, struct msg *msg, void *arg);
int chain_config_apply(struct chan *chan, struct msg *msg, void *arg);

#endif
