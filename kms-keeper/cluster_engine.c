/* The replication engine among the rest: its messages, its checks, its time. */
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "crypto/sha256.h"
#include "kms-keeper/at_rest.h"
#include "kms-keeper/cluster_internal.h"

#define BOOT_LEN 8 /* in every message between nodes */
#define RUN_AGAIN_MS 5

/* ---- what it sends ------------------------------------------------------- */

static struct cluster_peer *
peer_of(struct cluster *cluster, const char *wallet)
{
	struct eth_address address;

	if (eth_address_parse(wallet, strlen(wallet), &address) != 0)
		return NULL;
	return cluster_peer_find(cluster, &address);
}

static void
message_free(struct cluster_message *message)
{
	TAILQ_REMOVE(&message->owner->messages, message, link);
	free(message);
}

/* For people; told in the log when it is of a new kind: the text may have
 * times in it that are never the same. */
static void
note_error(struct cluster_peer *peer, const struct peer_outcome *outcome)
{
	if (peer == NULL)
		return;
	if (outcome->error == 0 && peer->last_error[0] != '\0')
		log_info("replicating to %s: it goes on", peer->url);
	else if (outcome->error != 0 &&
	    (peer->last_code != outcome->error ||
		peer->last_status != outcome->status))
		log_warn("replicating to %s: %s", peer->url, outcome->text);
	peer->last_code = outcome->error;
	peer->last_status = outcome->status;
	(void)snprintf(peer->last_error, sizeof(peer->last_error), "%s",
	    outcome->error != 0 ? outcome->text : "");
}

static void
on_outcome(void *arg, uint64_t id, const struct peer_outcome *outcome)
{
	struct cluster_message *message = arg;
	struct cluster *cluster = message->owner;
	uint64_t sync_id = message->sync_id;
	struct sync_outcome told = {
		.error = outcome->error,
		.status = outcome->status,
		.body = outcome->body,
		.len = outcome->len,
	};

	(void)id;
	/* Of one that signs its refusals, others' are worth nothing; but of
	 * the size of a body kms-net judges, which cannot sign. */
	if (outcome->error != 0 && !outcome->authentic &&
	    outcome->status != 413 &&
	    peer_calls_is_ours(cluster->calls, &message->wallet))
		told.status = 0;
	/* While the secret is locked no record can be checked: an answer of
	 * nothing but rejected ones would count as taken. */
	if (cluster_sync_key(cluster) == NULL)
		told = (struct sync_outcome){ .error = KMS_EUNAVAIL };
	note_error(cluster_peer_find(cluster, &message->wallet), outcome);
	cluster_holders_note(cluster, &message->wallet,
	    outcome->error == 0 && outcome->status == 200);
	/* The next peer may be asked for the same. */
	cluster->request = message->request;
	message_free(message);
	sync_answer(cluster->sync, sync_id, &told, cluster->now);
	cluster->request = 0;
	cluster_engine_wake(cluster);
}

static void
on_send(
    void *arg, const char *wallet, uint64_t id, const void *body, size_t len)
{
	struct cluster *cluster = arg;
	struct cluster_peer *peer = peer_of(cluster, wallet);
	struct cluster_message *message = calloc(1, sizeof(*message));
	struct peer_question question = {
		.sync_key = cluster->keys,
		.body = body,
		.len = len,
		.timeout_ms = CLUSTER_CALL_MS,
		.answer_max = cluster->keeper->config->max_sync_body / 2,
		.request = cluster->request,
	};

	/* Without memory the engine's own deadline tells it. */
	if (message == NULL)
		return;
	message->owner = cluster;
	message->sync_id = id;
	message->request = cluster->request;
	TAILQ_INSERT_TAIL(&cluster->messages, message, link);
	if (peer == NULL || cluster_sync_key(cluster) == NULL) {
		message->error = KMS_EUNAVAIL;
		return;
	}
	message->wallet = question.wallet = peer->wallet;
	question.url = peer->url;
	message->error = peer_calls_ask(cluster->calls, &question, cluster->now,
	    on_outcome, message, &message->call_id);
}

/* ---- what it asks of the rest -------------------------------------------- */

static void
tell(struct cluster *cluster, void *cookie, unsigned int k, bool met)
{
	struct cluster_wait *wait = cookie;
	struct cluster_waiter *waiter = wait->waiter;

	TAILQ_REMOVE(&cluster->waits, wait, link);
	free(wait);
	if (waiter != NULL)
		waiter->done(waiter, k, met);
}

static void
on_replicas(void *arg, void *cookie, unsigned int k, bool met)
{
	tell(arg, cookie, k, met);
}

static void
on_fetched(void *arg, void *cookie, bool found)
{
	tell(arg, cookie, 0, found);
}

static bool
is_value_ok(void *arg, uint64_t app_id, const void *stored, size_t len)
{
	struct cluster *cluster = arg;
	const uint8_t *master = readiness_secret(cluster->keeper->readiness);
	uint8_t *key = cluster->keys + SYNC_KEY_LEN, *value;
	int error = 0;

	if (master == NULL || len < AT_REST_OVERHEAD)
		return false;
	if (cluster->data_app != app_id) {
		cluster->data_app = 0;
		error = derive_data_key(master, app_id, key);
		if (error != 0)
			return false;
		cluster->data_app = app_id;
	}
	value = malloc(len);
	if (value == NULL)
		return false;
	error = at_rest_open(key, stored, len, value);
	OPENSSL_cleanse(value, len);
	free(value);
	return error == 0;
}

static uint64_t
on_random(void *arg)
{
	struct cluster *cluster = arg;
	uint64_t number;

	cluster->keeper->ops.random(
	    cluster->keeper->ops.arg, (uint8_t *)&number, sizeof(number));
	return number;
}

/* ---- life ---------------------------------------------------------------- */

static int
make_config(struct cluster *cluster, struct sync_config *config)
{
	static const char label[] = "nova-kms:digest-key";
	struct keeper *k = cluster->keeper;
	uint8_t boot[BOOT_LEN];

	sync_config_init(config);
	memcpy(config->wallet, k->wallet_text, sizeof(config->wallet));
	k->ops.random(k->ops.arg, boot, sizeof(boot));
	hex_encode(boot, sizeof(boot), config->boot);
	config->batch_records = (size_t)k->config->sync_batch;
	config->interval_ms = (int64_t)k->config->sync_interval;
	config->retention_ms = (int64_t)k->config->tombstone_retention;
	config->replica_timeout_ms = (int64_t)k->config->replica_timeout;
	/* Each call has its own deadline, which comes first. */
	config->request_timeout_ms = 2 * CLUSTER_CALL_MS;
	return hmac_sha256(cluster->keys, SYNC_KEY_LEN, label,
	    sizeof(label) - 1, config->digest_key);
}

int
cluster_engine_start(struct cluster *cluster)
{
	struct sync_ops ops = {
		.send = on_send,
		.replicas_done = on_replicas,
		.fetched = on_fetched,
		.value_ok = is_value_ok,
		.random = on_random,
		.arg = cluster,
	};
	struct sync_config config;
	int error = make_config(cluster, &config);

	cluster->data_app = 0;
	cluster_holders_reset(cluster);
	if (error == 0) {
		cluster->sync = sync_new(
		    &config, &ops, cluster->keeper->store, cluster->now);
		if (cluster->sync == NULL)
			error = KMS_ENOMEM;
	}
	OPENSSL_cleanse(&config, sizeof(config));
	if (error != 0)
		return error;
	cluster_engine_set_peers(cluster);
	cluster_engine_wake(cluster);
	return 0;
}

void
cluster_engine_stop(struct cluster *cluster)
{
	struct cluster_message *message, *next;
	struct cluster_wait *wait;

	for (message = TAILQ_FIRST(&cluster->messages); message != NULL;
	     message = next) {
		next = TAILQ_NEXT(message, link);
		if (message->call_id != 0)
			peer_calls_cancel(cluster->calls, message->call_id);
		message_free(message);
	}
	sync_free(cluster->sync);
	cluster->sync = NULL;
	/* The engine forgets them silently: their callers must not wait. */
	while ((wait = TAILQ_FIRST(&cluster->waits)) != NULL)
		tell(cluster, wait, 0, false);
}

void
cluster_engine_wake(struct cluster *cluster)
{
	struct keeper *k = cluster->keeper;

	if (cluster->sync != NULL)
		k->ops.wake(k->ops.arg, sync_next(cluster->sync, cluster->now));
}

/* What could not be sent has failed, which is told from here. */
static void
tell_unsent(struct cluster *cluster)
{
	struct cluster_message *message, *next;
	struct sync_outcome outcome = { 0 };

	for (message = TAILQ_FIRST(&cluster->messages); message != NULL;
	     message = next) {
		uint64_t sync_id = message->sync_id;

		next = TAILQ_NEXT(message, link);
		if (message->call_id != 0)
			continue;
		outcome.error = message->error;
		cluster_holders_unsent(cluster, &message->wallet);
		message_free(message);
		sync_answer(cluster->sync, sync_id, &outcome, cluster->now);
		/* The answer may have queued others: not those of this pass. */
	}
}

void
cluster_engine_run(struct cluster *cluster)
{
	struct keeper *k = cluster->keeper;
	int64_t next;

	if (cluster->sync == NULL)
		return;
	tell_unsent(cluster);
	/* A contrary fact locks the secret: the store rests, too. Who waits is
	 * told in time all the same. */
	if (cluster_sync_key(cluster) == NULL) {
		sync_waits_tick(cluster->sync, cluster->now);
		return;
	}
	sync_tick(cluster->sync, cluster->now);
	/* What is due again at once waits for something else. */
	next = sync_next(cluster->sync, cluster->now);
	k->ops.wake(k->ops.arg, next > RUN_AGAIN_MS ? next : RUN_AGAIN_MS);
}

void
cluster_engine_set_peers(struct cluster *cluster)
{
	const char **wallets;
	size_t count = 0;
	int error;

	if (cluster->sync == NULL)
		return;
	wallets = calloc(cluster->peer_count + 1, sizeof(*wallets));
	error = wallets == NULL ? KMS_ENOMEM : 0;
	for (size_t i = 0; error == 0 && i < cluster->peer_count; i++) {
		if (cluster->peers[i].dialled)
			wallets[count++] = cluster->peers[i].text;
	}
	if (error == 0)
		error =
		    sync_set_peers(cluster->sync, wallets, count, cluster->now);
	free(wallets);
	if (error != 0)
		log_error(
		    "taking over the list of peers: %s", kms_strerror(error));
}
