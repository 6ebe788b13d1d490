/* Who the peers are, and how they look from outside. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/cluster_internal.h"

struct cluster_peer *
cluster_peer_find(
    const struct cluster *cluster, const struct eth_address *wallet)
{
	for (size_t i = 0; i < cluster->peer_count; i++) {
		if (eth_address_equal(&cluster->peers[i].wallet, wallet))
			return &cluster->peers[i];
	}
	return NULL;
}

/* ---- probes of /status --------------------------------------------------- */

static void
on_probe(void *arg, uint64_t id, const struct peer_reply *reply)
{
	struct cluster *cluster = arg;
	struct cluster_peer *peer = NULL;

	for (size_t i = 0; i < cluster->peer_count; i++) {
		if (cluster->peers[i].probe_id == id)
			peer = &cluster->peers[i];
	}
	if (peer == NULL)
		return;
	peer->probe_id = 0;
	cluster->probing--;
	peer->probed = true;
	peer->probed_at_ms = cluster->now.wall_ms;
	peer->probe_took_ms = reply->elapsed_ms;
	peer->http_code = reply->kind == PEER_REPLY_STATUS ? 200
	    : reply->kind == PEER_REPLY_ERROR		   ? reply->status
							   : 0;
	peer->reachable = reply->kind == PEER_REPLY_STATUS;
	/* What it showed before says nothing of a node that is gone. */
	if (reply->kind == PEER_REPLY_FAILED)
		peer->shown_ms = -1;
	cluster->probes_version++;
}

static void
probe(struct cluster *cluster, struct cluster_peer *peer)
{
	struct keeper *k = cluster->keeper;
	struct peer_call call = {
		.kind = PEER_STATUS,
		.url = peer->url,
		.timeout_ms = CLUSTER_PROBE_MS,
		.answer_max = 65536,
		.done = on_probe,
		.arg = cluster,
	};

	peer->probe_due_ms =
	    cluster->now.boot_ms + (int64_t)k->config->node_tick;
	if (k->ops.post(k->ops.arg, &call, &peer->probe_id) != 0) {
		peer->probe_id = 0;
		return;
	}
	cluster->probing++;
}

static void
stop_probe(struct cluster *cluster, struct cluster_peer *peer)
{
	struct keeper *k = cluster->keeper;

	if (peer->probe_id == 0)
		return;
	k->ops.unpost(k->ops.arg, peer->probe_id);
	peer->probe_id = 0;
	cluster->probing--;
}

/* ---- the list ------------------------------------------------------------ */

static void
peer_free(struct cluster *cluster, struct cluster_peer *peer)
{
	stop_probe(cluster, peer);
	free(peer->url);
	peer->url = NULL;
}

void
cluster_peers_free(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->peer_count; i++)
		peer_free(cluster, &cluster->peers[i]);
	free(cluster->peers);
	cluster->peers = NULL;
	cluster->peer_count = 0;
}

static void
note_gone(
    struct cluster *cluster, const struct cluster_peer *peer, int64_t until_ms)
{
	struct cluster_gone *gone = &cluster->gone[cluster->gone_next];

	gone->wallet = peer->wallet;
	gone->until_ms = until_ms;
	cluster->gone_next = (cluster->gone_next + 1) % CLUSTER_GONE_MAX;
}

/* Of one that has come, 0 when it was never gone. */
static int64_t
gone_until(const struct cluster *cluster, const struct eth_address *wallet)
{
	int64_t until = 0;

	for (size_t i = 0; i < CLUSTER_GONE_MAX; i++) {
		const struct cluster_gone *gone = &cluster->gone[i];

		if (gone->until_ms > until &&
		    eth_address_equal(&gone->wallet, wallet))
			until = gone->until_ms;
	}
	return until;
}

/*
 * One that the chain shows as invalid is not dialled for peer-blacklist
 * (section 6). What could not be read is no such fact.
 */
static void
judge(const struct cluster *cluster, struct cluster_peer *peer,
    const struct peer *member)
{
	int64_t now = cluster->now.boot_ms;

	if (member->refusal != NULL && member->read)
		peer->shunned_until_ms =
		    now + (int64_t)cluster->keeper->config->peer_blacklist;
	peer->dialled =
	    member->refusal == NULL && now >= peer->shunned_until_ms;
}

static bool
take_member(struct cluster *cluster, struct cluster_peer *peer,
    const struct peer *member)
{
	struct cluster_peer *old =
	    cluster_peer_find(cluster, &member->facts.wallet);

	peer->owner = cluster;
	peer->wallet = member->facts.wallet;
	peer->level_ms = cluster->now.boot_ms;
	peer->shown_ms = peer->heard_ms = -1;
	eth_address_format(&peer->wallet, peer->text);
	if (old != NULL) {
		char *url = old->url;

		*peer = *old;
		peer->url = NULL;
		old->probe_id = 0; /* moved: not to be cancelled with old */
		if (strcmp(url, member->facts.url) != 0)
			peer->probe_due_ms = 0;
	} else {
		peer->shunned_until_ms = gone_until(cluster, &peer->wallet);
	}
	peer->url = strdup(member->facts.url);
	if (peer->url == NULL) {
		stop_probe(cluster, peer);
		return false;
	}
	judge(cluster, peer, member);
	return true;
}

static bool
is_listed(const struct eth_address *wallet, const struct readiness_view *view)
{
	for (size_t i = 0; i < view->peer_count; i++) {
		if (eth_address_equal(&view->peers[i].facts.wallet, wallet))
			return true;
	}
	return false;
}

/*
 * To be listed no more is the same as being invalid. A list without this node
 * is more likely wrong than right: nobody is judged by it, nor let off.
 */
static void
note_all_gone(struct cluster *cluster, const struct readiness_view *view)
{
	bool judged = is_listed(&cluster->keeper->identity->wallet, view);
	int64_t now = cluster->now.boot_ms;

	for (size_t i = 0; i < cluster->peer_count; i++) {
		const struct cluster_peer *peer = &cluster->peers[i];
		int64_t until_ms = judged
		    ? now + (int64_t)cluster->keeper->config->peer_blacklist
		    : peer->shunned_until_ms;

		if (until_ms > now && !is_listed(&peer->wallet, view))
			note_gone(cluster, peer, until_ms);
	}
}

static void
replace(struct cluster *cluster, struct cluster_peer *peers, size_t count)
{
	struct eth_address *wallets = calloc(count + 1, sizeof(*wallets));

	for (size_t i = 0; i < cluster->peer_count; i++)
		peer_free(cluster, &cluster->peers[i]);
	free(cluster->peers);
	cluster->peers = peers;
	cluster->peer_count = count;
	for (size_t i = 0; wallets != NULL && i < count; i++)
		wallets[i] = peers[i].wallet;
	if (wallets != NULL)
		peer_calls_keep(cluster->calls, wallets, count);
	free(wallets);
}

void
cluster_peers_update(struct cluster *cluster)
{
	struct keeper *k = cluster->keeper;
	const struct readiness_view *view = readiness_view(k->readiness);
	struct cluster_peer *peers;
	size_t count = 0;

	if (cluster->peers_seen == view->peers_version + 1)
		return;
	peers = calloc(view->peer_count + 1, sizeof(*peers));
	if (peers == NULL)
		return;
	for (size_t i = 0; i < view->peer_count; i++) {
		const struct peer *member = &view->peers[i];

		if (!eth_address_equal(
			&member->facts.wallet, &k->identity->wallet) &&
		    take_member(cluster, &peers[count], member))
			count++;
	}
	note_all_gone(cluster, view);
	replace(cluster, peers, count);
	cluster->peers_seen = view->peers_version + 1;
	cluster->probes_version++;
	cluster_engine_set_peers(cluster);
}

/* ---- time ---------------------------------------------------------------- */

static void
note_level(struct cluster *cluster)
{
	uint64_t sequence = store_stats(cluster->keeper->store).sequence;
	struct sync_peer_view view;
	struct eth_address wallet;
	struct cluster_peer *peer;

	for (size_t i = 0; sync_peer_at(cluster->sync, i, &view); i++) {
		if (view.mark < sequence || !view.level ||
		    eth_address_parse(
			view.wallet, strlen(view.wallet), &wallet) != 0)
			continue;
		peer = cluster_peer_find(cluster, &wallet);
		if (peer != NULL)
			peer->level_ms = cluster->now.boot_ms;
	}
}

void
cluster_peers_tick(struct cluster *cluster)
{
	bool changed = false;

	for (size_t i = 0; i < cluster->peer_count; i++) {
		struct cluster_peer *peer = &cluster->peers[i];

		if (!peer->dialled && peer->shunned_until_ms != 0 &&
		    cluster->now.boot_ms >= peer->shunned_until_ms) {
			/* Once: it may be one that cannot be read now. */
			peer->shunned_until_ms = 0;
			changed = true;
		}
		if (peer->dialled && peer->probe_id == 0 &&
		    cluster->now.boot_ms >= peer->probe_due_ms &&
		    cluster->probing < CLUSTER_PROBES_AT_ONCE)
			probe(cluster, peer);
	}
	/* Whom the chain shows as valid again is dialled again. */
	if (changed)
		cluster->peers_seen = 0;
	if (cluster->sync != NULL)
		note_level(cluster);
}

/* ---- figures ------------------------------------------------------------- */

static bool
engine_view(const struct cluster *cluster, const struct cluster_peer *peer,
    struct sync_peer_view *view)
{
	if (cluster->sync == NULL || !peer->dialled)
		return false;
	for (size_t i = 0; sync_peer_at(cluster->sync, i, view); i++) {
		if (strcmp(view->wallet, peer->text) == 0)
			return true;
	}
	return false;
}

static void
view_of(const struct cluster *cluster, const struct cluster_peer *peer,
    struct cluster_peer_view *view)
{
	struct sync_peer_view engine;
	uint64_t sequence = store_stats(cluster->keeper->store).sequence;
	int64_t now = cluster->now.boot_ms;

	*view = (struct cluster_peer_view){
		.wallet = peer->wallet,
		.url = peer->url,
		.dialled = peer->dialled,
		.contact_ago_ms = -1,
		.last_error = peer->last_error,
		.probed = peer->probed,
		.reachable = peer->reachable,
		.http_code = peer->http_code,
		.probe_ms = peer->probe_took_ms,
		.probed_at_ms = peer->probed_at_ms,
	};
	if (!engine_view(cluster, peer, &engine))
		return;
	view->kind = engine.kind;
	view->level = engine.level;
	view->mark = engine.mark;
	view->lag_records = engine.mark < sequence ? sequence - engine.mark : 0;
	view->lag_ms =
	    view->lag_records > 0 || !engine.level ? now - peer->level_ms : 0;
	if (engine.last_contact_ms >= 0)
		view->contact_ago_ms = now - engine.last_contact_ms;
	view->failures = engine.failures;
	if (peer->last_error[0] == '\0')
		view->last_error = engine.last_error;
}

bool
cluster_peer_at(
    const struct cluster *cluster, size_t n, struct cluster_peer_view *view)
{
	if (n >= cluster->peer_count)
		return false;
	view_of(cluster, &cluster->peers[n], view);
	return true;
}

bool
cluster_peer_of(const struct cluster *cluster, const struct eth_address *wallet,
    struct cluster_peer_view *view)
{
	const struct cluster_peer *peer = cluster_peer_find(cluster, wallet);

	if (peer != NULL)
		view_of(cluster, peer, view);
	return peer != NULL;
}
