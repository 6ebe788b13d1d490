/* Who else holds the secret and the data that are here. */
#include <string.h>

#include "kms-keeper/cluster_internal.h"

#define LOOK_MS 1000
#define QUIET_MS                                                               \
	30000	      /* so long after the latest proof another is asked for   \
		       */
#define GREET_MS 5000 /* ... of one peer after the other */

void
cluster_holders_note(
    struct cluster *cluster, const struct eth_address *wallet, bool shown)
{
	struct cluster_peer *peer = cluster_peer_find(cluster, wallet);

	if (peer == NULL)
		return;
	peer->heard_ms = cluster->now.boot_ms;
	peer->shown_ms = shown ? cluster->now.boot_ms : -1;
}

void
cluster_holders_unsent(
    struct cluster *cluster, const struct eth_address *wallet)
{
	struct cluster_peer *peer = cluster_peer_find(cluster, wallet);

	if (peer != NULL)
		peer->heard_ms = cluster->now.boot_ms;
}

void
cluster_holders_reset(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->peer_count; i++)
		cluster->peers[i].shown_ms = cluster->peers[i].heard_ms = -1;
	memset(cluster->settled, 0, sizeof(cluster->settled));
	cluster->settled_ms = cluster->now.boot_ms;
	cluster->holding_ms = cluster->greet_ms = cluster->now.boot_ms;
}

/* ---- who shows it -------------------------------------------------------- */

static bool
has_shown(const struct cluster *cluster, const struct cluster_peer *peer,
    int64_t since_ms)
{
	return peer->dialled && peer->shown_ms >= 0 &&
	    peer->shown_ms >= since_ms &&
	    cluster->now.boot_ms - peer->shown_ms <= CLUSTER_SHOWN_MS;
}

static bool
has_changes(
    const struct cluster *cluster, const char *wallet, uint64_t sequence)
{
	struct sync_peer_view view;

	for (size_t i = 0; sync_peer_at(cluster->sync, i, &view); i++) {
		if (strcmp(view.wallet, wallet) == 0)
			return view.level && view.mark >= sequence;
	}
	return false;
}

struct cluster_holding
cluster_holding(const struct cluster *cluster, int64_t since_ms)
{
	struct cluster_holding holding = { .heard = true };
	bool data;

	if (cluster->sync == NULL)
		return holding;
	data = store_stats(cluster->keeper->store).live_keys > 0;
	holding.last_of_secret = true;
	holding.last_of_data = data;
	for (size_t i = 0; i < cluster->peer_count; i++) {
		const struct cluster_peer *peer = &cluster->peers[i];

		if (peer->dialled && peer->heard_ms < since_ms)
			holding.heard = false;
		if (!has_shown(cluster, peer, since_ms))
			continue;
		holding.last_of_secret = false;
		if (holding.last_of_data &&
		    has_changes(cluster, peer->text, cluster->settled[0]))
			holding.last_of_data = false;
	}
	return holding;
}

struct cluster_holding
cluster_holding_lately(const struct cluster *cluster)
{
	return cluster->holding;
}

/* ---- asking -------------------------------------------------------------- */

void
cluster_greet(struct cluster *cluster)
{
	if (cluster->sync == NULL)
		return;
	for (size_t i = 0; i < cluster->peer_count; i++) {
		if (cluster->peers[i].dialled)
			sync_greet(cluster->sync, cluster->peers[i].text,
			    cluster->now);
	}
	cluster_engine_wake(cluster);
}

/*
 * Where nothing is written peers have nothing to say to each other, for longer
 * than their word stands: one is asked, and if it is silent the next one.
 */
static void
greet_one(struct cluster *cluster)
{
	int64_t now = cluster->now.boot_ms, latest = -1;
	const struct cluster_peer *peer;

	if (now < cluster->greet_ms || cluster->peer_count == 0)
		return;
	for (size_t i = 0; i < cluster->peer_count; i++) {
		if (cluster->peers[i].dialled &&
		    cluster->peers[i].shown_ms > latest)
			latest = cluster->peers[i].shown_ms;
	}
	if (latest >= 0 && now - latest < QUIET_MS)
		return;
	cluster->greeted = (cluster->greeted + 1) % cluster->peer_count;
	peer = &cluster->peers[cluster->greeted];
	if (!peer->dialled)
		return;
	cluster->greet_ms = now + GREET_MS;
	sync_greet(cluster->sync, peer->text, cluster->now);
}

static void
settle(struct cluster *cluster)
{
	if (cluster->now.boot_ms - cluster->settled_ms < CLUSTER_SETTLE_MS)
		return;
	cluster->settled[0] = cluster->settled[1];
	cluster->settled[1] = store_stats(cluster->keeper->store).sequence;
	cluster->settled_ms = cluster->now.boot_ms;
}

void
cluster_holders_tick(struct cluster *cluster)
{
	if (cluster->sync == NULL) {
		memset(&cluster->holding, 0, sizeof(cluster->holding));
		return;
	}
	settle(cluster);
	if (cluster_sync_key(cluster) != NULL)
		greet_one(cluster);
	if (cluster->now.boot_ms < cluster->holding_ms)
		return;
	cluster->holding_ms = cluster->now.boot_ms + LOOK_MS;
	cluster->holding = cluster_holding(cluster, 0);
}

/* ---- flushing ------------------------------------------------------------ */

enum cluster_flush
cluster_flush(const struct cluster *cluster, uint64_t *behind)
{
	uint64_t sequence = store_stats(cluster->keeper->store).sequence;
	struct sync_peer_view view;
	bool any = false;

	*behind = cluster->sync != NULL ? sequence : 0;
	if (cluster->sync == NULL || sequence == 0)
		return CLUSTER_FLUSHED;
	for (size_t i = 0; sync_peer_at(cluster->sync, i, &view); i++) {
		uint64_t lag = view.mark < sequence ? sequence - view.mark : 0;

		any = true;
		/* Of what lies below another's mark it has part only. */
		if (view.level && lag < *behind)
			*behind = lag;
		if (*behind == 0)
			return CLUSTER_FLUSHED;
	}
	return any && cluster_sync_key(cluster) != NULL ? CLUSTER_FLUSHING
							: CLUSTER_CANNOT_FLUSH;
}
