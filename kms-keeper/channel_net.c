/*
 * kms-net's channel: requests in, answers out. A handle of the core is a
 * request number of the channel that is open now; when the channel goes, so
 * do its requests, and an answer cannot reach a successor.
 */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "kms-keeper/authz.h"
#include "kms-keeper/channel.h"
#include "proto/metrics.h"

#define QUEUE_MAX (4u << 20)
#define OUTGOING_MAX (256u << 20) /* bytes of answers waiting for credit */

struct outgoing {
	UT_hash_handle hh;
	uint64_t id;
	uint8_t *data;
	size_t len;
	size_t sent;
	size_t window; /* bytes that may still be sent */
};

static struct text
text_of(const struct msg_value *value)
{
	return (struct text){ (const char *)value->data, value->len };
}

/* ---- answers ---- */

static void
outgoing_free(struct channels *channels, struct outgoing *out)
{
	HASH_DEL(channels->outgoing, out);
	channels->outgoing_bytes -= out->len;
	free(out->data);
	free(out);
}

static void
send_pieces(struct channels *channels, struct outgoing *out)
{
	struct chan *chan = channels->chan[CHANNEL_NET];

	while (out->sent < out->len && out->window > 0) {
		size_t piece = out->len - out->sent;
		struct msg_writer w;

		if (piece > MSG_CHUNK_MAX)
			piece = MSG_CHUNK_MAX;
		if (piece > out->window)
			piece = out->window;
		if (chan_send_room(chan) < piece)
			return;
		chan_begin(chan, &w, MSG_KEEPERNET_BODY, out->id);
		msg_put_d(&w, out->data + out->sent, piece);
		if (chan_end(chan, &w) != 0)
			return;
		out->sent += piece;
		out->window -= piece;
	}
	if (out->sent == out->len)
		outgoing_free(channels, out);
}

static int
keep_rest(struct channels *channels, uint64_t id, const char *data, size_t len,
    size_t sent)
{
	struct outgoing *out = calloc(1, sizeof(*out));

	if (out == NULL)
		return KMS_ENOMEM;
	out->id = id;
	out->len = len;
	out->sent = sent;
	out->window = MSG_WINDOW - sent;
	out->data = malloc(len);
	if (out->data == NULL) {
		free(out);
		return KMS_ENOMEM;
	}
	memcpy(out->data, data, len);
	/* Numbers are kms-net's: sequential, not chosen by clients. */
	HASH_ADD(hh, channels->outgoing, id, sizeof(out->id), out);
	if (out->hh.tbl == NULL) {
		free(out->data);
		free(out);
		return KMS_ENOMEM;
	}
	channels->outgoing_bytes += len;
	send_pieces(channels, out);
	return 0;
}

static int
send_head(
    struct chan *chan, uint64_t id, const struct answer *answer, size_t first)
{
	struct msg_writer w;

	chan_begin(chan, &w, MSG_KEEPERNET_ANSWER, id);
	msg_put_u(&w, answer->status);
	msg_put_s(&w, answer->code);
	msg_put_s(&w, answer->message);
	msg_put_u(&w, answer->retry_after);
	msg_put_s(&w, answer->signature);
	msg_put_s(&w, answer->signature_v2);
	msg_put_s(&w, answer->next_nonce);
	msg_put_b(&w, answer->envelope);
	msg_put_s(&w, answer->sender);
	msg_put_s(&w, answer->nonce);
	msg_put_u(&w, answer->data_len);
	msg_put_d(&w, answer->data, first);
	return chan_end(chan, &w);
}

void
channel_net_answer(void *arg, uint64_t handle, const struct answer *answer)
{
	struct channels *channels = arg;
	struct chan *chan = channels->chan[CHANNEL_NET];
	size_t first =
	    answer->data_len < MSG_CHUNK_MAX ? answer->data_len : MSG_CHUNK_MAX;
	static const struct answer no_room = { .status = 503,
		.code = "service_unavailable",
		.message = "too many large answers are waiting",
		.retry_after = 1,
		.signature = "",
		.signature_v2 = "",
		.next_nonce = "",
		.sender = "",
		.nonce = "",
		.data = "" };
	int error;

	if (chan == NULL)
		return;
	if (channels->outgoing_bytes + answer->data_len > OUTGOING_MAX) {
		answer = &no_room;
		first = 0;
	}
	error = send_head(chan, handle, answer, first);
	if (error == 0 && first < answer->data_len)
		error = keep_rest(
		    channels, handle, answer->data, answer->data_len, first);
	/* kms-net does not read: it sees to its clients' deadlines. */
	if (error != 0)
		log_warn("an answer is lost: %s", kms_strerror(error));
}

static void
send_number(struct channels *channels, enum msg_type type, uint64_t handle,
    size_t value)
{
	struct chan *chan = channels->chan[CHANNEL_NET];
	struct msg_writer w;

	if (chan == NULL)
		return;
	chan_begin(chan, &w, type, handle);
	msg_put_u(&w, value);
	(void)chan_end(chan, &w);
}

void
channel_net_credit(void *arg, uint64_t handle, size_t bytes)
{
	if (bytes > 0)
		send_number(arg, MSG_KEEPERNET_CREDIT, handle, bytes);
}

void
channel_net_go(void *arg, uint64_t handle, size_t most)
{
	send_number(arg, MSG_KEEPERNET_GO, handle, most);
}

/* ---- what kms-net says ---- */

static int
on_nonce(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	struct keeper *k = channels->keeper;
	struct answer busy = { .status = 503,
		.code = "service_unavailable",
		.message = "too many nonces are outstanding",
		.retry_after = 5,
		.signature = "",
		.signature_v2 = "",
		.next_nonce = "",
		.sender = "",
		.nonce = "",
		.data = "" };
	uint8_t nonce[NONCE_LEN];
	struct msg_writer w;

	keeper_set_time(k, clock_now());
	if (nonce_issue(k->nonces, k->now.boot_ms, nonce) != 0) {
		channel_net_answer(channels, msg->id, &busy);
		return 0;
	}
	metrics[METRIC_KEEPER_NONCES]++;
	chan_begin(chan, &w, MSG_KEEPERNET_NONCE, msg->id);
	msg_put_d(&w, nonce, sizeof(nonce));
	(void)chan_end(chan, &w);
	return 0;
}

static int
on_request(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	const struct msg_value *v = msg->v;
	struct request_head head = {
		.method = (enum kms_method)v[0].u,
		.target = text_of(&v[1]),
		.flags = (unsigned int)v[2].u,
		.signature = text_of(&v[3]),
		.nonce = text_of(&v[4]),
		.timestamp = text_of(&v[5]),
		.wallet = text_of(&v[6]),
		.version = text_of(&v[7]),
		.content_hash = text_of(&v[8]),
		.envelope = v[9].u != 0,
		.sender = text_of(&v[10]),
		.envelope_nonce = text_of(&v[11]),
		.data_total = v[12].u,
		.data = text_of(&v[13]),
	};

	(void)chan;
	if (v[0].u > METHOD_DELETE || v[2].u > UINT32_MAX)
		return KMS_EPROTO;
	keeper_set_time(channels->keeper, clock_now());
	return request_begin(channels->keeper->requests, msg->id, &head);
}

static int
on_sync(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	const struct msg_value *v = msg->v;
	struct sync_head head = {
		.target = text_of(&v[0]),
		.flags = (unsigned int)v[1].u,
		.signature = text_of(&v[2]),
		.nonce = text_of(&v[3]),
		.timestamp = text_of(&v[4]),
		.wallet = text_of(&v[5]),
		.version = text_of(&v[6]),
		.content_hash = text_of(&v[7]),
		.sync_signature = text_of(&v[8]),
	};

	(void)chan;
	if (v[1].u > UINT32_MAX)
		return KMS_EPROTO;
	keeper_set_time(channels->keeper, clock_now());
	return sync_request_begin(channels->keeper->syncs, msg->id, &head);
}

static int
on_envelope(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	const struct msg_value *v = msg->v;
	struct sync_envelope envelope = {
		.sender = text_of(&v[0]),
		.nonce = text_of(&v[1]),
		.data_total = v[2].u,
		.data = text_of(&v[3]),
	};

	(void)chan;
	keeper_set_time(channels->keeper, clock_now());
	return sync_request_envelope(
	    channels->keeper->syncs, msg->id, &envelope);
}

static int
on_body(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	const char *data = (const char *)msg->v[0].data;
	int result;

	(void)chan;
	keeper_set_time(channels->keeper, clock_now());
	result = sync_request_body(
	    channels->keeper->syncs, msg->id, data, msg->v[0].len);
	if (result != 0)
		return result > 0 ? 0 : result;
	return request_body(
	    channels->keeper->requests, msg->id, data, msg->v[0].len);
}

static struct outgoing *
find_outgoing(struct channels *channels, uint64_t id)
{
	struct outgoing *out;

	HASH_FIND(hh, channels->outgoing, &id, sizeof(id), out);
	return out;
}

static int
on_cancel(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	struct outgoing *out = find_outgoing(channels, msg->id);

	(void)chan;
	if (out != NULL)
		outgoing_free(channels, out);
	request_cancel(channels->keeper->requests, msg->id);
	sync_request_cancel(channels->keeper->syncs, msg->id);
	return 0;
}

static int
on_credit(struct chan *chan, struct msg *msg, void *arg)
{
	struct channels *channels = arg;
	struct outgoing *out = find_outgoing(channels, msg->id);

	(void)chan;
	if (out == NULL)
		return 0;
	/* Credit is for what was sent, no more. */
	if (msg->v[0].u > MSG_WINDOW - out->window)
		return KMS_EPROTO;
	out->window += (size_t)msg->v[0].u;
	send_pieces(channels, out);
	return 0;
}

static const struct chan_handler handlers[] = {
	{ MSG_NETKEEPER_NONCE, on_nonce },
	{ MSG_NETKEEPER_REQUEST, on_request },
	{ MSG_NETKEEPER_SYNC, on_sync },
	{ MSG_NETKEEPER_ENVELOPE, on_envelope },
	{ MSG_NETKEEPER_BODY, on_body },
	{ MSG_NETKEEPER_CANCEL, on_cancel },
	{ MSG_NETKEEPER_CREDIT, on_credit },
	{ 0, NULL },
};

/* ---- state for /status and /nodes ---- */

static const char *
master_state_name(enum master_state state)
{
	static const char *const names[] = { "uninitialized", "generated",
		"synced" };

	return names[state];
}

static void
push_state(struct channels *channels)
{
	struct keeper *k = channels->keeper;
	const struct readiness_view *view = readiness_view(k->readiness);
	struct store_stats stats = store_stats(k->store);
	struct cluster_holding holding = cluster_holding_lately(k->cluster);
	char pubkey[2 * REGISTRY_PUBKEY_MAX + 1];
	char registry[ETH_ADDRESS_TEXT_LEN + 1];
	struct msg_writer w;

	/* Exactly the registered bytes, once they are known. */
	(void)snprintf(pubkey, sizeof(pubkey), "%s", k->pubkey_hex);
	if (view->registered_pubkey_len > 0)
		hex_encode(view->registered_pubkey, view->registered_pubkey_len,
		    pubkey);
	eth_address_format(&k->config->kms_registry, registry);
	chan_begin(channels->chan[CHANNEL_NET], &w, MSG_KEEPERNET_STATE, 0);
	msg_put_b(&w, view->ready);
	msg_put_s(&w, view->reason);
	msg_put_s(&w, k->identity->known ? k->wallet_text : "");
	msg_put_s(&w, k->identity->known ? pubkey : "");
	msg_put_s(&w,
	    k->config->node_url[0] != '\0' ? k->config->node_url
					   : view->registered_url);
	msg_put_b(&w, view->is_operator);
	msg_put_s(&w, master_state_name(view->master_state));
	msg_put_s(&w, view->synced_from);
	msg_put_b(&w, view->master_initialized);
	msg_put_u(&w, k->config->kms_app_id);
	msg_put_s(&w, registry);
	msg_put_u(&w, view->instances);
	msg_put_u(&w, stats.namespaces);
	msg_put_u(&w, stats.live_keys);
	msg_put_u(&w, stats.live_bytes);
	msg_put_b(&w, view->complete);
	msg_put_b(&w, holding.last_of_secret);
	msg_put_b(&w, holding.last_of_data);
	(void)chan_end(channels->chan[CHANNEL_NET], &w);
}

static void
put_probe(const struct keeper *k, const struct eth_address *wallet,
    struct msg_writer *w)
{
	struct cluster_peer_view view;
	bool probed = cluster_peer_of(k->cluster, wallet, &view) && view.probed;

	msg_put_u(w, probed ? (uint64_t)view.probed_at_ms : 0);
	msg_put_b(w, probed && view.reachable);
	msg_put_u(w, probed ? view.http_code : 0);
	msg_put_u(w, probed ? view.probe_ms : 0);
}

static void
push_node(struct channels *channels, const struct peer *peer, size_t index,
    size_t count)
{
	const struct instance_facts *facts = &peer->facts;
	struct msg_writer w;

	chan_begin(channels->chan[CHANNEL_NET], &w, MSG_KEEPERNET_NODE, 0);
	msg_put_u(&w, channels->push_number);
	msg_put_u(&w, index);
	msg_put_u(&w, count);
	msg_put_u(&w, facts->instance_id);
	msg_put_u(&w, facts->app_id);
	msg_put_u(&w, facts->version_id);
	msg_put_d(&w, facts->operator.bytes, ETH_ADDRESS_LEN);
	msg_put_s(&w, facts->url);
	msg_put_d(&w, facts->wallet.bytes, ETH_ADDRESS_LEN);
	msg_put_b(&w, facts->zk_verified);
	msg_put_u(&w, facts->status);
	msg_put_u(&w, facts->registered_at);
	msg_put_b(&w, peer->refusal == NULL);
	msg_put_s(&w, peer->refusal == NULL ? "valid" : "invalid");
	put_probe(channels->keeper, &facts->wallet, &w);
	(void)chan_end(channels->chan[CHANNEL_NET], &w);
}

/* Changes with the rows of /nodes; never 0. */
static uint64_t
nodes_version(const struct keeper *k)
{
	return readiness_view(k->readiness)->peers_version +
	    cluster_probes_version(k->cluster) + 1;
}

static void
push_nodes(struct channels *channels)
{
	const struct readiness_view *view =
	    readiness_view(channels->keeper->readiness);
	static const struct peer nobody;

	channels->push_number++;
	for (size_t i = 0; i < view->peer_count; i++)
		push_node(channels, &view->peers[i], i, view->peer_count);
	if (view->peer_count == 0)
		push_node(channels, &nobody, 0, 0);
	channels->pushed_peers = nodes_version(channels->keeper);
}

void
channel_net_push(struct channels *channels)
{
	if (channels->chan[CHANNEL_NET] == NULL)
		return;
	if (channels->state_dirty)
		push_state(channels);
	channels->state_dirty = 0;
	if (channels->pushed_peers != nodes_version(channels->keeper))
		push_nodes(channels);
}

/* ---- life ---- */

static void
drop_everything(struct channels *channels)
{
	struct outgoing *out, *next;

	requests_cancel_all(channels->keeper->requests);
	sync_requests_cancel_all(channels->keeper->syncs);
	HASH_ITER (hh, channels->outgoing, out, next) {
		outgoing_free(channels, out);
	}
}

static void
on_closed(struct chan *chan, int error, void *arg)
{
	struct channels *channels = arg;

	log_warn("kms-net is gone (%s): its requests are dropped",
	    kms_strerror(error));
	drop_everything(channels);
	channels->chan[CHANNEL_NET] = NULL;
	chan_free(chan);
}

static void
on_drained(struct chan *chan, void *arg)
{
	struct channels *channels = arg;
	struct outgoing *out, *next;

	(void)chan;
	HASH_ITER (hh, channels->outgoing, out, next) {
		send_pieces(channels, out);
	}
}

int
channel_net_open(struct channels *channels, int fd, uint32_t generation)
{
	struct chan_config config = {
		.name = "kms-net",
		.in = MSG_CHANNEL_NET_KEEPER,
		.out = MSG_CHANNEL_KEEPER_NET,
		.generation = generation,
		.handlers = handlers,
		.closed = on_closed,
		.drained = on_drained,
		.arg = channels,
		.queue_max = QUEUE_MAX,
	};
	int error;

	if (channels->chan[CHANNEL_NET] != NULL) {
		drop_everything(channels);
		chan_free(channels->chan[CHANNEL_NET]);
		channels->chan[CHANNEL_NET] = NULL;
	}
	error = chan_open(
	    channels->loop, fd, &config, &channels->chan[CHANNEL_NET]);
	if (error != 0)
		return error;
	channels->state_dirty = 1;
	channels->pushed_peers = 0;
	channel_net_push(channels);
	return 0;
}
