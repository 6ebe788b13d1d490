#include "kms-keeper/cluster.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/secmem.h"
#include "kms-keeper/cluster_internal.h"
#include "kms-keeper/refusal.h"

#define SECRET_ANSWER_MAX 8192

/* ---- life ---------------------------------------------------------------- */

struct cluster *
cluster_new(struct keeper *keeper)
{
	struct peer_calls_ops ops = { keeper->ops.post, keeper->ops.unpost,
		keeper->ops.arg };
	struct peer_calls_config config = { .kms_app_id =
						keeper->config->kms_app_id };
	struct cluster *cluster = calloc(1, sizeof(*cluster));

	if (cluster == NULL)
		return NULL;
	cluster->keeper = keeper;
	cluster->now = keeper->now;
	TAILQ_INIT(&cluster->messages);
	TAILQ_INIT(&cluster->waits);
	memcpy(config.sender, keeper->pubkey_hex, sizeof(config.sender));
	cluster->calls = peer_calls_new(
	    &config, &ops, keeper->counterparts, keeper->identity);
	cluster->keys = secmem_alloc(SYNC_KEY_LEN + DATA_KEY_LEN);
	if (cluster->calls == NULL || cluster->keys == NULL) {
		cluster_free(cluster);
		return NULL;
	}
	return cluster;
}

void
cluster_free(struct cluster *cluster)
{
	if (cluster == NULL)
		return;
	cluster_engine_stop(cluster);
	cluster_peers_free(cluster);
	peer_calls_free(cluster->calls);
	secmem_free(cluster->keys);
	free(cluster);
}

void
cluster_set_time(struct cluster *cluster, struct kms_time now)
{
	cluster->now = now;
	peer_calls_set_time(cluster->calls, now);
}

void
cluster_tick(struct cluster *cluster)
{
	peer_calls_tick(cluster->calls, cluster->now);
	cluster_peers_update(cluster);
	cluster_peers_tick(cluster);
	if (cluster->sync != NULL &&
	    !readiness_fills(cluster->keeper->readiness))
		sync_set_filled(cluster->sync);
	cluster_holders_tick(cluster);
	cluster_engine_run(cluster);
}

/* ---- the secret ---------------------------------------------------------- */

void
cluster_installed(struct cluster *cluster)
{
	int error;

	cluster_engine_stop(cluster);
	error = derive_sync_key(
	    readiness_secret(cluster->keeper->readiness), cluster->keys);
	cluster->has_sync_key = error == 0;
	if (error == 0)
		error = cluster_engine_start(cluster);
	if (error != 0)
		log_error("starting replication: %s", kms_strerror(error));
}

void
cluster_wiped(struct cluster *cluster)
{
	cluster_engine_stop(cluster);
	OPENSSL_cleanse(cluster->keys, SYNC_KEY_LEN + DATA_KEY_LEN);
	cluster->has_sync_key = false;
	cluster->data_app = 0;
}

bool
cluster_filled(const struct cluster *cluster, bool *complete)
{
	struct sync_stats stats = cluster_stats(cluster);

	*complete = stats.filled;
	/* Three that are down say nothing of a fourth that is still sending:
	 * apps would be told 404 of what it holds. */
	return stats.filled || stats.fill_tried;
}

/* The secret, or a candidate for it, leaves for another node, sealed. */
static void
record_secret_sent(struct cluster *cluster, const struct eth_address *wallet,
    const char *reason)
{
	struct keeper *k = cluster->keeper;
	struct audit_event event = { .kind = AUDIT_SECRET_SENT,
		.wallet = wallet,
		.app_id = k->config->kms_app_id,
		.reason = reason };

	audit_write(k->audit, &event, k->now);
}

int
cluster_ask_secret(struct cluster *cluster, const struct handover_peer *peer,
    const void *body, size_t len, peer_outcome_fn done, void *arg, uint64_t *id)
{
	struct peer_question question = {
		.wallet = peer->wallet,
		.url = peer->url,
		.body = body,
		.len = len,
		.timeout_ms = CLUSTER_SECRET_MS,
		.answer_max = SECRET_ANSWER_MAX,
	};
	struct sync_message inner;
	int error = peer_calls_ask(
	    cluster->calls, &question, cluster->now, done, arg, id);

	if (error == 0 && sync_message_read(body, len, &inner) == 0 &&
	    inner.type == SYNC_SECRET_OFFER)
		record_secret_sent(cluster, &peer->wallet, "offered");
	return error;
}

void
cluster_cancel(struct cluster *cluster, uint64_t id)
{
	peer_calls_cancel(cluster->calls, id);
}

/* ---- requests of peers --------------------------------------------------- */

const uint8_t *
cluster_sync_key(const struct cluster *cluster)
{
	if (!cluster->has_sync_key ||
	    readiness_secret(cluster->keeper->readiness) == NULL)
		return NULL;
	return cluster->keys;
}

bool
cluster_is_ours(const struct cluster *cluster, const struct eth_address *wallet)
{
	return peer_calls_is_ours(cluster->calls, wallet);
}

static unsigned int
refuse(unsigned int status, const char *why, const char **message)
{
	*message = why;
	return status;
}

unsigned int
cluster_serve(struct cluster *cluster, const struct eth_address *wallet,
    bool hmac_holds, const char *body, size_t len, struct buf *answer,
    const char **message)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];
	struct sync_message inner;
	unsigned int status;
	int error = sync_message_read(body, len, &inner);

	*message = "";
	if (error != 0)
		return refuse(400,
		    error == KMS_ENOENT
			? "type: expected one of this node's extensions or of "
			  "the common types"
			: "expected a JSON object with a type",
		    message);
	if (inner.type == SYNC_MASTER_SECRET_REQUEST ||
	    inner.type == SYNC_SECRET_OFFER) {
		status = readiness_serve(cluster->keeper->readiness, wallet,
		    &inner, answer, message);
		if (status == 200 && inner.type == SYNC_MASTER_SECRET_REQUEST)
			record_secret_sent(cluster, wallet, "asked");
		return status;
	}
	if (cluster->sync == NULL || cluster_sync_key(cluster) == NULL)
		return refuse(503,
		    "this node does not hold the secret behind "
		    "masterSecretHash",
		    message);
	if (!hmac_holds)
		return refuse(
		    403, refusal_text_peer(REFUSAL_SYNC_HMAC), message);
	eth_address_format(wallet, text);
	sync_heard(cluster->sync, text, cluster->now);
	status =
	    sync_request(cluster->sync, text, body, len, cluster->now, answer);
	if (status == 200)
		cluster_holders_note(cluster, wallet, true);
	cluster_engine_wake(cluster);
	switch (status) {
	case 200:
		return status;
	case 403:
		return refuse(
		    status, refusal_text_peer(REFUSAL_SYNC_SENDER), message);
	case 503:
		return refuse(status, "the node is out of room", message);
	default:
		return refuse(status,
		    "the message's members are not those of its type", message);
	}
}

/* ---- requests of apps ---------------------------------------------------- */

int
cluster_can_wait(const struct cluster *cluster, uint64_t app_id, unsigned int n)
{
	return cluster->sync != NULL ? sync_can_wait(cluster->sync, app_id, n)
				     : KMS_ERANGE;
}

static struct cluster_wait *
wait_new(struct cluster *cluster, struct cluster_waiter *waiter)
{
	struct cluster_wait *wait = calloc(1, sizeof(*wait));

	if (wait == NULL)
		return NULL;
	wait->waiter = waiter;
	TAILQ_INSERT_TAIL(&cluster->waits, wait, link);
	return wait;
}

static void
wait_free(struct cluster *cluster, struct cluster_wait *wait)
{
	TAILQ_REMOVE(&cluster->waits, wait, link);
	free(wait);
}

int
cluster_written(struct cluster *cluster, uint64_t app_id, const void *key,
    size_t key_len, unsigned int n, struct cluster_waiter *waiter)
{
	struct cluster_wait *wait;
	int error = 0;

	if (cluster->sync == NULL)
		return n == 0 ? 0 : KMS_ERANGE;
	if (n == 0) {
		sync_local_change(cluster->sync, cluster->now);
	} else if ((wait = wait_new(cluster, waiter)) == NULL) {
		error = KMS_ENOMEM;
	} else {
		error = sync_wait(
		    cluster->sync, app_id, key, key_len, n, wait, cluster->now);
		if (error != 0)
			wait_free(cluster, wait);
	}
	cluster_engine_wake(cluster);
	return error;
}

int
cluster_fetch(struct cluster *cluster, uint64_t app_id, const void *key,
    size_t key_len, struct cluster_waiter *waiter)
{
	struct cluster_wait *wait;
	int error;

	if (cluster->sync == NULL)
		return KMS_ENOENT;
	wait = wait_new(cluster, waiter);
	if (wait == NULL)
		return KMS_ENOMEM;
	cluster->request = waiter->request;
	error =
	    sync_fetch(cluster->sync, app_id, key, key_len, wait, cluster->now);
	cluster->request = 0;
	if (error != 0)
		wait_free(cluster, wait);
	cluster_engine_wake(cluster);
	return error;
}

void
cluster_forget(struct cluster *cluster, struct cluster_waiter *waiter)
{
	struct cluster_wait *wait;

	TAILQ_FOREACH (wait, &cluster->waits, link) {
		if (wait->waiter == waiter)
			wait->waiter = NULL;
	}
}

/* ---- figures ------------------------------------------------------------- */

const struct sync *
cluster_engine(const struct cluster *cluster)
{
	return cluster->sync;
}

struct sync_stats
cluster_stats(const struct cluster *cluster)
{
	return cluster->sync != NULL ? sync_stats(cluster->sync)
				     : (struct sync_stats){ 0 };
}

uint64_t
cluster_probes_version(const struct cluster *cluster)
{
	return cluster->probes_version;
}
