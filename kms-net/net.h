/*
 * What the one kms-net process holds. Everything hangs off one struct net, so
 * that no module has state of its own.
 */
#ifndef KMS_NET_NET_H
#define KMS_NET_NET_H

#include <sys/queue.h>
#include <uv.h>

#include "common/sandbox.h"
#include "kms-net/address.h"
#include "kms-net/bytes.h"
#include "kms-net/client.h"
#include "kms-net/http.h"
#include "kms-net/keeper.h"
#include "kms-net/limit.h"
#include "kms-net/metrics.h"
#include "kms-net/state.h"
#include "proto/chan.h"
#include "proto/config.h"
#include "proto/metrics.h"

/* Times in milliseconds, sizes in bytes, rates a minute. */
struct net_config {
	char role[16];
	char log_level[8];
	char environment[16];
	uint64_t generation;
	struct sandbox_settings sandbox;
	uint64_t max_connections;
	uint64_t idle_timeout;
	uint64_t request_timeout;
	uint64_t sync_timeout;
	uint64_t max_body;
	uint64_t max_sync_body;
	uint64_t max_body_memory;
	uint64_t nonce_rate;
	uint64_t request_rate;
	struct config_list trusted_proxy;
	int metrics_separate;
};

struct net {
	uv_loop_t loop;
	struct net_config config;
	struct network trusted[CONFIG_LIST_MAX];
	size_t trusted_count;
	struct chan *ctl;
	struct http http;
	struct keeper keeper;
	struct state state;
	struct limit limit;
	struct client_table clients;
	struct budget memory; /* bodies, waiting requests, unsent answers */
	uint64_t metrics_sets[METRICS_SLOTS][METRIC_COUNT];
	struct metrics_peers peers;
	uv_timer_t drain_timer;
};

#endif
