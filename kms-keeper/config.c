#include "kms-keeper/config.h"

#include <stddef.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/registry.h"
#include "proto/ctl_client.h"

#define NUMBER(name, member)                                                   \
	{                                                                      \
		name, CONFIG_U64, offsetof(struct keeper_config, member), 0    \
	}
#define TEXT(name, member)                                                     \
	{                                                                      \
		name, CONFIG_TEXT, offsetof(struct keeper_config, member),     \
		    sizeof(((struct keeper_config *)0)->member)                \
	}

static const struct config_row rows[] = {
	SANDBOX_CONFIG_ROWS(struct keeper_config, sandbox),
	TEXT("role", role),
	TEXT("log-level", log_level_name),
	TEXT("environment", environment),
	TEXT("identity", identity),
	TEXT("node-url", node_url),
	TEXT("nova-app-registry", nova_app_registry_text),
	TEXT("kms-registry", kms_registry_text),
	TEXT("reserved-paths", reserved_paths),
	TEXT("eviction", eviction),
	{ "require-bound-requests", CONFIG_BOOL,
	    offsetof(struct keeper_config, require_bound_requests), 0 },
	NUMBER("generation", generation),
	NUMBER("kms-app-id", kms_app_id),
	NUMBER("chain-id", chain_id),
	NUMBER("node-tick", node_tick),
	NUMBER("sync-interval", sync_interval),
	NUMBER("sync-batch", sync_batch),
	NUMBER("peer-cache-ttl", peer_cache_ttl),
	NUMBER("registry-cache-ttl", registry_cache_ttl),
	NUMBER("membership-max-age", membership_max_age),
	NUMBER("max-head-age", max_head_age),
	NUMBER("confirmations", confirmations),
	NUMBER("wipe-confirmations", wipe_confirmations),
	NUMBER("peer-blacklist", peer_blacklist),
	NUMBER("pop-max-age", pop_max_age),
	NUMBER("max-nonces", max_nonces),
	NUMBER("max-value-size", max_value_size),
	NUMBER("max-app-storage", max_app_storage),
	NUMBER("max-store", max_store),
	NUMBER("tombstone-retention", tombstone_retention),
	NUMBER("max-tombstones", max_tombstones),
	NUMBER("max-clock-skew", max_clock_skew),
	NUMBER("default-ttl", default_ttl),
	NUMBER("replica-timeout", replica_timeout),
	NUMBER("rpc-quorum", rpc_quorum),
	NUMBER("rpc-endpoints", rpc_endpoints),
	NUMBER("app-rate", app_rate),
	NUMBER("max-body", max_body),
	NUMBER("max-sync-body", max_sync_body),
	NUMBER("audit-interval", audit_interval),
};

int
keeper_config_read(struct keeper_config *config)
{
	int error;

	memset(config, 0, sizeof(*config));
	error = ctl_client_configure(
	    rows, CONFIG_ROWS_COUNT(rows), config, NULL, NULL);
	if (error != 0)
		return error;
	return keeper_config_finish(config);
}

static int
parse_address(const char *keyword, const char *text, struct eth_address *out)
{
	if (eth_address_parse(text, strlen(text), out) == 0)
		return 0;
	log_error("%s: expected an address of 40 hex digits, got \"%.64s\"",
	    keyword, text);
	return KMS_EINVAL;
}

int
keeper_config_finish(struct keeper_config *config)
{
	if (log_level_parse(config->log_level_name, &config->log_level) != 0)
		config->log_level = LOG_LEVEL_INFO;
	if (parse_address("nova-app-registry", config->nova_app_registry_text,
		&config->nova_app_registry) != 0 ||
	    parse_address("kms-registry", config->kms_registry_text,
		&config->kms_registry) != 0)
		return KMS_EINVAL;
	if (config->kms_app_id == 0 || config->kms_app_id > INT64_MAX) {
		log_error("kms-app-id: expected 1 to 2^63-1");
		return KMS_EINVAL;
	}
	if (config->rpc_endpoints > REGISTRY_ENDPOINTS_MAX ||
	    (config->rpc_quorum > 1 &&
		config->rpc_quorum > config->rpc_endpoints)) {
		log_error("rpc-quorum: expected at most the number of "
			  "endpoints");
		return KMS_EINVAL;
	}
	config->reserved_paths_allowed =
	    strcmp(config->reserved_paths, "allow") == 0;
	config->evict_lru = strcmp(config->eviction, "reject") != 0;
	return 0;
}

/* ---- while it runs ---- */

static const struct config_row running_rows[] = {
	TEXT("log-level", log_level_name),
	{ "require-bound-requests", CONFIG_BOOL,
	    offsetof(struct keeper_config, require_bound_requests), 0 },
	NUMBER("app-rate", app_rate),
	NUMBER("default-ttl", default_ttl),
};

static struct keeper_config next;
static struct ctl_reload reload = { .rows = running_rows,
	.count = CONFIG_ROWS_COUNT(running_rows),
	.next = &next,
	.size = sizeof(next) };

int
keeper_config_row(struct keeper_config *config, const struct msg *msg)
{
	reload.current = config;
	return ctl_client_reconfig(&reload, msg);
}

int
keeper_config_apply(struct keeper_config *config)
{
	if (ctl_client_reconfigured(&reload) != 0 ||
	    log_level_parse(next.log_level_name, &next.log_level) != 0)
		return KMS_EPROTO;
	*config = next;
	return 0;
}
