/* Replication in figures: counters of its own, rows of its peers. */
#include <string.h>

#include "common/eth.h"
#include "kms-keeper/channel.h"
#include "kms-keeper/sync.h"
#include "proto/metrics.h"

static void
count(const struct sync *sync)
{
	struct sync_stats stats = sync_stats(sync);
	uint64_t *records = &metrics[METRIC_KEEPER_SYNC_RECORDS];

	metrics[METRIC_KEEPER_SYNC_MESSAGES] = stats.messages;
	metrics[METRIC_KEEPER_SYNC_BYTES] = stats.bytes;
	metrics[METRIC_KEEPER_SYNC_WAITS] = stats.waits;
	metrics[METRIC_KEEPER_SYNC_STALE] = stats.stale;
	records[LABEL_result_PUSHED] = stats.records_pushed;
	records[LABEL_result_TAKEN] = stats.records_taken;
	records[LABEL_result_REJECTED] = stats.records_rejected;
	records[LABEL_result_TOO_LARGE] = stats.too_large;
	records[LABEL_result_DROPPED] = stats.dropped;
}

/* Changes behind its mark; some may have come from it. */
static uint64_t
behind(const struct channels *channels, const struct sync_peer_view *view)
{
	uint64_t sequence = store_stats(channels->keeper->store).sequence;

	return sequence > view->mark ? sequence - view->mark : 0;
}

static uint64_t
lag_ms(const struct channels *channels, const struct eth_address *wallet)
{
	struct cluster_peer_view view;

	if (!cluster_peer_of(channels->keeper->cluster, wallet, &view) ||
	    view.lag_ms < 0)
		return 0;
	return (uint64_t)view.lag_ms;
}

static void
push_peer(struct channels *channels, size_t index, size_t count,
    const struct sync_peer_view *view)
{
	struct chan *chan = channels->chan[CHANNEL_NET];
	int64_t now = channels->keeper->now.boot_ms;
	struct eth_address wallet = { { 0 } };
	struct msg_writer w;

	(void)eth_address_parse(view->wallet, strlen(view->wallet), &wallet);
	chan_begin(chan, &w, MSG_KEEPERNET_PEER, 0);
	msg_put_u(&w, channels->push_number);
	msg_put_u(&w, index);
	msg_put_u(&w, count);
	msg_put_d(&w, wallet.bytes, ETH_ADDRESS_LEN);
	msg_put_b(&w, view->level);
	msg_put_u(&w, count > 0 ? behind(channels, view) : 0);
	msg_put_u(&w,
	    view->last_contact_ms < 0 || view->last_contact_ms > now
		? UINT64_MAX
		: (uint64_t)(now - view->last_contact_ms));
	msg_put_u(&w, view->failures);
	msg_put_u(&w, view->refused);
	msg_put_u(&w, view->too_large);
	msg_put_u(&w, lag_ms(channels, &wallet));
	(void)chan_end(chan, &w);
}

void
channel_net_push_peers(struct channels *channels, const struct sync *sync)
{
	static const struct sync_peer_view nobody = { .wallet = "",
		.last_contact_ms = -1 };
	struct sync_peer_view view;
	size_t peers = 0;

	count(sync);
	if (channels->chan[CHANNEL_NET] == NULL)
		return;
	while (peers < CHANNEL_PEERS_MAX && sync_peer_at(sync, peers, &view))
		peers++;
	channels->push_number++;
	for (size_t i = 0; i < peers && sync_peer_at(sync, i, &view); i++)
		push_peer(channels, i, peers, &view);
	if (peers == 0)
		push_peer(channels, 0, 0, &nobody);
}
