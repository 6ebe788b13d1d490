/*
 * kmsd's questions for the operator: what the keeper knows of its cluster, as
 * JSON. Nothing in it is secret.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/secmem.h"
#include "kms-keeper/channel.h"

#define PIECE_MAX 65536
#define HOLDERS_MS 5000 /* longest wait for what peers say */

static const char *
kind_name(enum sync_kind kind)
{
	switch (kind) {
	case SYNC_KIND_OURS:
		return "extended";
	case SYNC_KIND_DEPLOYED:
		return "deployed";
	case SYNC_KIND_UNKNOWN:
		break;
	}
	return "unknown";
}

static json_t *
peer_json(const struct cluster_peer_view *view)
{
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(&view->wallet, wallet);
	return json_pack("{s:s,s:s,s:s,s:b,s:b,s:I,s:I,s:I,s:I,s:i,s:s,s:b,s:i,"
			 "s:I,s:I}",
	    "wallet", wallet, "url", view->url, "kind", kind_name(view->kind),
	    "dialled", view->dialled, "level", view->level, "mark",
	    (json_int_t)view->mark, "lag_records",
	    (json_int_t)view->lag_records, "lag_ms", (json_int_t)view->lag_ms,
	    "contact_ago_ms", (json_int_t)view->contact_ago_ms, "failures",
	    (int)view->failures, "last_error", view->last_error, "reachable",
	    view->probed && view->reachable, "http_code", (int)view->http_code,
	    "probe_ms", (json_int_t)view->probe_ms, "probed_at_ms",
	    (json_int_t)view->probed_at_ms);
}

static json_t *
holding_json(struct cluster_holding holding)
{
	return json_pack("{s:b,s:b}", "secret", holding.last_of_secret, "data",
	    holding.last_of_data);
}

static json_t *
cluster_json(struct keeper *k)
{
	const struct readiness_view *ready = readiness_view(k->readiness);
	struct sync_stats stats = cluster_stats(k->cluster);
	struct store_stats store = store_stats(k->store);
	json_t *peers = json_array();
	struct cluster_peer_view view;

	for (size_t i = 0; cluster_peer_at(k->cluster, i, &view); i++)
		json_array_append_new(peers, peer_json(&view));
	return json_pack("{s:s,s:b,s:s,s:I,s:I,s:o,s:b,s:b,s:{s:I,s:I,s:I,s:I,"
			 "s:I,s:I,s:I},s:o}",
	    "wallet", k->wallet_text, "ready", ready->ready, "reason",
	    ready->reason, "sequence", (json_int_t)store.sequence, "keys",
	    (json_int_t)store.live_keys, "last_holder",
	    holding_json(cluster_holding(k->cluster, 0)), "filled",
	    stats.filled, "stale", stats.stale, "sent", "messages",
	    (json_int_t)stats.messages, "bytes", (json_int_t)stats.bytes,
	    "records", (json_int_t)stats.records_pushed, "taken",
	    (json_int_t)stats.records_taken, "rejected",
	    (json_int_t)stats.records_rejected, "too_large",
	    (json_int_t)stats.too_large, "dropped", (json_int_t)stats.dropped,
	    "peers", peers);
}

static void
tell(struct chan *chan, uint64_t id, const char *text, size_t len)
{
	do {
		size_t piece = len < PIECE_MAX ? len : PIECE_MAX;
		struct msg_writer w;

		chan_begin(chan, &w, MSG_KEEPERKMSD_TOLD, id);
		msg_put_b(&w, piece == len);
		msg_put_d(&w, text, piece);
		if (chan_end(chan, &w) != 0) {
			log_warn("an answer for the operator is lost");
			return;
		}
		text += piece;
		len -= piece;
	} while (len > 0);
}

/* Takes over json. */
static int
tell_json(struct chan *chan, uint64_t id, json_t *json)
{
	char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (text == NULL)
		return KMS_ENOMEM;
	tell(chan, id, text, strlen(text));
	secmem_wiping_free(text);
	return 0;
}

/* ---- questions that take time -------------------------------------------- */

/* As soon as a peer has shown what there is to show, or all were heard. */
static void
answer_holders(struct channels *channels)
{
	struct control_wait *wait = &channels->holders;
	struct keeper *k = channels->keeper;
	struct cluster_holding holding =
	    cluster_holding(k->cluster, wait->since_ms);

	if ((holding.last_of_secret || holding.last_of_data) &&
	    !holding.heard && k->now.boot_ms - wait->since_ms < HOLDERS_MS)
		return;
	(void)tell_json(channels->control, wait->id, holding_json(holding));
	wait->id = 0;
}

static void
answer_flush(struct channels *channels)
{
	struct control_wait *wait = &channels->flush;
	uint64_t behind;
	enum cluster_flush flush =
	    cluster_flush(channels->keeper->cluster, &behind);

	if (flush == CLUSTER_FLUSHING)
		return;
	if (flush == CLUSTER_CANNOT_FLUSH)
		log_warn("draining: %llu changes are with no peer, and there "
			 "is none to send them to",
		    (unsigned long long)behind);
	(void)tell_json(channels->control, wait->id,
	    json_pack("{s:b,s:I}", "flushed", flush == CLUSTER_FLUSHED,
		"behind", (json_int_t)behind));
	wait->id = 0;
}

static void
wait_begin(struct channels *channels, struct control_wait *wait, uint64_t id)
{
	wait->id = id;
	wait->since_ms = channels->keeper->now.boot_ms;
}

void
channel_control_tick(struct channels *channels)
{
	bool ready = readiness_view(channels->keeper->readiness)->ready;
	struct msg_writer w;

	if (ready != channels->told_serving) {
		chan_begin(channels->control, &w, MSG_KEEPERKMSD_SERVING, 0);
		msg_put_b(&w, ready);
		if (chan_end(channels->control, &w) == 0)
			channels->told_serving = ready;
	}
	if (channels->holders.id != 0)
		answer_holders(channels);
	if (channels->flush.id != 0)
		answer_flush(channels);
}

int
channel_control_ask(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	struct keeper *k = channels->keeper;

	if (msg->id == 0)
		return KMS_EPROTO;
	keeper_set_time(k, clock_now());
	switch (msg->v[0].u) {
	case CONTROL_CLUSTER:
		return tell_json(chan, msg->id, cluster_json(k));
	case CONTROL_HOLDERS:
		/* The first who asked has an answer under way; this one has
		 * the same in a moment. */
		if (channels->holders.id != 0)
			(void)tell_json(chan, channels->holders.id,
			    holding_json(cluster_holding(k->cluster, 0)));
		wait_begin(channels, &channels->holders, msg->id);
		cluster_greet(k->cluster);
		break;
	case CONTROL_FLUSH:
		wait_begin(channels, &channels->flush, msg->id);
		answer_flush(channels);
		if (channels->flush.id != 0)
			cluster_greet(k->cluster);
		break;
	default:
		return KMS_EPROTO;
	}
	channel_control_tick(channels);
	return 0;
}
