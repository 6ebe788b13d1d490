#include "kms-keeper/keeper.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "proto/metrics.h"

#define STORE_WORK_A_TICK 2000 /* records expired or forgotten at once */

static void
record(struct keeper *k, enum audit_kind kind, const char *reason)
{
	struct audit_event event = {
		.kind = kind, .wallet = &k->identity->wallet, .reason = reason
	};

	audit_write(k->audit, &event, k->now);
}

/* Write down what has changed since it was last. */
static void
record_readiness(struct keeper *k)
{
	static const char *const states[] = { "wiped", "generated", "synced" };
	const struct readiness_view *view = readiness_view(k->readiness);

	if (view->master_state != k->seen.master_state)
		record(k, AUDIT_SECRET, states[view->master_state]);
	if (view->ready != k->seen.ready)
		record(k, AUDIT_SERVICE, view->ready ? "ready" : "not_ready");
	k->seen.master_state = view->master_state;
	k->seen.ready = view->ready;
}

static void
on_changed(void *arg)
{
	struct keeper *k = arg;

	if (k->readiness != NULL)
		record_readiness(k);
	k->ops.changed(k->ops.arg);
}

static void
on_wiped(void *arg)
{
	struct keeper *k = arg;

	cluster_wiped(k->cluster);
	audit_forget(k->audit);
	store_clear(k->store);
}

static void
on_installed(void *arg)
{
	struct keeper *k = arg;

	cluster_installed(k->cluster);
}

static bool
on_filled(void *arg, bool *complete)
{
	struct keeper *k = arg;

	return cluster_filled(k->cluster, complete);
}

static int
on_ask(void *arg, const struct handover_peer *peer, const void *body,
    size_t len, peer_outcome_fn done, void *done_arg, uint64_t *id)
{
	struct keeper *k = arg;

	return cluster_ask_secret(
	    k->cluster, peer, body, len, done, done_arg, id);
}

static void
on_unask(void *arg, uint64_t id)
{
	struct keeper *k = arg;

	cluster_cancel(k->cluster, id);
}

static bool
is_deployed(void *arg, const struct eth_address *wallet)
{
	struct keeper *k = arg;
	struct cluster_peer_view view;

	return cluster_peer_of(k->cluster, wallet, &view) &&
	    view.kind == SYNC_KIND_DEPLOYED;
}

/* Local writes drop the clock members of nodes that are gone. */
static bool
is_member(const char *name, size_t len, void *arg)
{
	struct keeper *k = arg;
	struct cluster_peer_view view;
	struct eth_address wallet;

	return eth_address_parse(name, len, &wallet) == 0 &&
	    (eth_address_equal(&wallet, &k->identity->wallet) ||
		cluster_peer_of(k->cluster, &wallet, &view));
}

static struct store *
make_store(const struct keeper_config *config, const struct keeper *k)
{
	struct store_config settings;

	store_config_init(&settings);
	settings.max_app_storage = config->max_app_storage;
	settings.max_store = config->max_store;
	settings.max_value_size = config->max_value_size;
	settings.max_tombstones = config->max_tombstones;
	settings.tombstone_retention_ms = (int64_t)config->tombstone_retention;
	settings.max_clock_skew_ms = (int64_t)config->max_clock_skew;
	settings.eviction =
	    config->evict_lru ? STORE_EVICT_LRU : STORE_EVICT_REJECT;
	k->ops.random(k->ops.arg, settings.hash_key, sizeof(settings.hash_key));
	return store_new(&settings);
}

static struct registry *
make_registry(const struct keeper_config *config, const struct keeper_ops *ops)
{
	struct registry *registry = registry_new(ops->ask, ops->arg);

	if (registry != NULL && config->rpc_endpoints > 1 &&
	    registry_set_quorum(registry, (unsigned int)config->rpc_quorum,
		(size_t)config->rpc_endpoints) != 0) {
		registry_free(registry);
		return NULL;
	}
	return registry;
}

static struct counterparts *
make_counterparts(const struct keeper_config *config, const struct keeper *k)
{
	struct counterparts_config settings = {
		.ttl_ms = config->registry_cache_ttl,
		.max_head_age_ms = config->max_head_age,
		.app_rate = config->app_rate,
		.kms_app_id = config->kms_app_id,
		.peer_reach_ms = config->tombstone_retention,
	};

	k->ops.random(k->ops.arg, settings.hash_key, sizeof(settings.hash_key));
	return counterparts_new(&settings, k->registry, k->identity);
}

static const uint8_t *
on_sync_key(void *arg)
{
	const struct keeper *k = arg;

	return cluster_sync_key(k->cluster);
}

static bool
on_is_ours(void *arg, const struct eth_address *wallet)
{
	const struct keeper *k = arg;

	return cluster_is_ours(k->cluster, wallet);
}

static unsigned int
on_serve(void *arg, const struct eth_address *wallet, bool hmac_holds,
    const char *body, size_t len, struct buf *answer, const char **message)
{
	struct keeper *k = arg;

	return cluster_serve(
	    k->cluster, wallet, hmac_holds, body, len, answer, message);
}

static int
make_nonces(const struct keeper_config *config, struct keeper *k)
{
	uint8_t key[NONCE_KEY_LEN];
	int error;

	k->ops.random(k->ops.arg, key, sizeof(key));
	error = nonce_table_new(key, (size_t)config->max_nonces, &k->nonces);
	OPENSSL_cleanse(key, sizeof(key));
	return error;
}

int
keeper_new(const struct keeper_config *config, const struct keeper_ops *ops,
    struct identity *identity, struct kms_time now, struct keeper **keeper)
{
	struct keeper *k = calloc(1, sizeof(*k));
	struct readiness_hooks hooks = {
		.changed = on_changed,
		.wiped = on_wiped,
		.installed = on_installed,
		.filled = on_filled,
		.ask = on_ask,
		.cancel = on_unask,
		.deployed = is_deployed,
		.arg = k,
	};
	struct sync_requests_ops sync_ops = { on_sync_key, on_is_ours, on_serve,
		k };
	uint8_t spki[P384_SPKI_LEN];
	int error;

	if (k == NULL)
		return KMS_ENOMEM;
	k->config = config;
	k->ops = *ops;
	k->identity = identity;
	k->knows_keys = identity->known;
	k->now = now;
	p384_public_spki(&identity->point, spki);
	hex_encode(spki, sizeof(spki), k->pubkey_hex);
	eth_address_format(&identity->wallet, k->wallet_text);
	k->registry = make_registry(config, ops);
	k->store = make_store(config, k);
	k->counterparts = make_counterparts(config, k);
	k->requests = requests_new(k);
	k->syncs = sync_requests_new(k, &sync_ops);
	k->audit = audit_new(ops->audit, ops->arg, identity);
	k->readiness = readiness_new(
	    config, k->registry, identity, ops->random, ops->arg, &hooks);
	error = make_nonces(config, k);
	if (error == 0 &&
	    (k->registry == NULL || k->store == NULL ||
		k->counterparts == NULL || k->requests == NULL ||
		k->syncs == NULL || k->audit == NULL || k->readiness == NULL))
		error = KMS_ENOMEM;
	if (error == 0) {
		k->cluster = cluster_new(k);
		if (k->cluster == NULL)
			error = KMS_ENOMEM;
	}
	if (error == 0)
		error = store_set_member(
		    k->store, k->wallet_text, strlen(k->wallet_text));
	if (error == 0)
		store_set_peers(k->store, is_member, k);
	if (error != 0) {
		k->identity = NULL;
		keeper_free(k);
		return error;
	}
	*keeper = k;
	return 0;
}

void
keeper_free(struct keeper *k)
{
	if (k == NULL)
		return;
	requests_free(k->requests);
	sync_requests_free(k->syncs);
	/* It cancels calls of the cluster's. */
	readiness_free(k->readiness);
	cluster_free(k->cluster);
	counterparts_free(k->counterparts);
	registry_free(k->registry);
	nonce_table_free(k->nonces);
	store_free(k->store);
	audit_free(k->audit);
	identity_free(k->identity);
	free(k);
}

int
keeper_renew(struct keeper **keeper)
{
	struct keeper *old = *keeper, *made;
	int error =
	    keeper_new(old->config, &old->ops, old->identity, old->now, &made);

	if (error != 0)
		return error;
	/* The trail goes on where it is. */
	audit_free(made->audit);
	made->audit = old->audit;
	made->seen = old->seen;
	old->audit = NULL;
	old->identity = NULL;
	if (old->trail.waits)
		keeper_audit_open(made, old->trail.seq, old->trail.head);
	keeper_free(old);
	*keeper = made;
	return 0;
}

void
keeper_audit_open(struct keeper *k, uint64_t seq, const uint8_t *head)
{
	if (!k->identity->known) {
		k->trail.waits = true;
		k->trail.seq = seq;
		memcpy(k->trail.head, head, SHA256_LEN);
		return;
	}
	if (!audit_is_open(k->audit))
		k->seen =
		    (struct readiness_seen){ MASTER_UNINITIALIZED, false };
	audit_open(k->audit, seq, head, k->now);
	record_readiness(k);
}

void
keeper_set_time(struct keeper *k, struct kms_time now)
{
	k->now = now;
	counterparts_set_time(k->counterparts, now);
	cluster_set_time(k->cluster, now);
	readiness_set_time(k->readiness, now);
}

static void
count_store(struct keeper *k)
{
	struct store_stats stats = store_stats(k->store);
	struct cluster_holding holding = cluster_holding_lately(k->cluster);

	metrics[METRIC_KEEPER_READY] = readiness_master(k->readiness) != NULL;
	metrics[METRIC_KEEPER_LAST_HOLDER + LABEL_held_SECRET] =
	    holding.last_of_secret;
	metrics[METRIC_KEEPER_LAST_HOLDER + LABEL_held_DATA] =
	    holding.last_of_data;
	metrics[METRIC_KEEPER_NAMESPACES] = stats.namespaces;
	metrics[METRIC_KEEPER_KEYS] = stats.live_keys;
	metrics[METRIC_KEEPER_DEAD_KEYS] = stats.dead_keys;
	metrics[METRIC_KEEPER_BYTES] = stats.charged_bytes;
	metrics[METRIC_KEEPER_BYTES_MAX] = k->config->max_store;
	metrics[METRIC_KEEPER_EVICTIONS] = stats.evictions;
	metrics[METRIC_KEEPER_EXPIRIES] = stats.expirations;
	metrics[METRIC_KEEPER_REQUESTS] = requests_count(k->requests);
	metrics[METRIC_KEEPER_COUNTERPARTS] =
	    counterparts_count(k->counterparts);
	metrics[METRIC_KEEPER_REPLAY_ENTRIES] =
	    counterparts_replay_count(k->counterparts);
	metrics[METRIC_KEEPER_LOOKUPS_OPEN] =
	    counterparts_lookups(k->counterparts);
}

void
keeper_tick(struct keeper *k, struct kms_time now)
{
	keeper_set_time(k, now);
	registry_tick(k->registry, now);
	counterparts_tick(k->counterparts, now);
	readiness_tick(k->readiness, now);
	cluster_tick(k->cluster);
	audit_tick(k->audit, k->config->audit_interval, now);
	(void)store_tick(k->store, now, STORE_WORK_A_TICK);
	count_store(k);
}

void
keeper_wake(struct keeper *k, struct kms_time now)
{
	keeper_set_time(k, now);
	cluster_tick(k->cluster);
}
