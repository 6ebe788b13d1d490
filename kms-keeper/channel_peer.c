#include "kms-keeper/channel_peer.h"

#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/channel.h"
#include "kms-keeper/table.h"

#define QUEUE_MAX (4U << 20)
#define CREDIT_STEP 65536U /* smaller debts to kms-chain wait */

/* A call's number, by which the logs of both processes name it, is one that
 * neither requests nor questions to the chain have. */
#define CALL_OWN (UINT64_C(1) << 62)

struct peer_open_call {
	UT_hash_handle hh;
	uint64_t id;
	enum peer_kind kind;
	peer_piece_fn piece;
	peer_done_fn done;
	void *arg;

	char *data; /* what is being sent */
	size_t len;
	size_t sent;
	size_t window; /* bytes that may still be sent */

	struct buf collected; /* without piece */
	uint64_t answer_max;
	uint64_t received; /* bytes of pieces */
	size_t unconsumed; /* of them, without credit given */
	size_t owed;	   /* consumed, without credit given */
};

static struct peer_open_call *
find(struct peer_client *client, uint64_t id)
{
	struct peer_open_call *call;

	HASH_FIND(hh, client->calls, &id, sizeof(id), call);
	return call;
}

static void
data_free(struct peer_client *client, struct peer_open_call *call)
{
	if (call->data == NULL)
		return;
	client->sending -= call->len;
	free(call->data);
	call->data = NULL;
}

static void
call_free(struct peer_client *client, struct peer_open_call *call)
{
	data_free(client, call);
	client->collected -= call->collected.len;
	buf_free(&call->collected);
	free(call);
}

static void
call_remove(struct peer_client *client, struct peer_open_call *call)
{
	HASH_DEL(client->calls, call);
	client->count--;
}

static void
before(struct peer_client *client)
{
	if (client->before != NULL)
		client->before(client->before_arg);
}

/* The reply is here; nothing of the call remains after it. */
static void
call_end(struct peer_client *client, struct peer_open_call *call,
    struct peer_reply *reply)
{
	call_remove(client, call);
	if (call->piece == NULL && reply->kind == PEER_REPLY_ENVELOPE) {
		reply->data = (char *)call->collected.data;
		reply->data_len = call->collected.len;
	}
	before(client);
	call->done(call->arg, call->id, reply);
	call_free(client, call);
}

static void
call_fail(struct peer_client *client, struct peer_open_call *call,
    enum peer_failure failure, const char *text)
{
	struct peer_reply reply = { .kind = PEER_REPLY_FAILED,
		.failure = failure };

	(void)snprintf(reply.text, sizeof(reply.text), "%s", text);
	call_end(client, call, &reply);
}

/* ---- sending ------------------------------------------------------------- */

static void
log_call(const struct peer_call *call, uint64_t id)
{
	static const char *const names[PEER_KINDS] = {
		[PEER_SYNC] = "POST /sync",
		[PEER_NONCE] = "GET /nonce",
		[PEER_STATUS] = "GET /status",
	};

	if (call->request != 0)
		log_debug(LOG_REQUEST "asks a peer as %016llx",
		    (unsigned long long)call->request, (unsigned long long)id);
	log_debug(LOG_REQUEST "%s to %s", (unsigned long long)id,
	    names[call->kind], call->url);
}

static void
send_pieces(struct peer_client *client, struct peer_open_call *call)
{
	while (
	    call->data != NULL && call->sent < call->len && call->window > 0) {
		size_t piece = call->len - call->sent;
		struct msg_writer w;

		if (piece > MSG_CHUNK_MAX)
			piece = MSG_CHUNK_MAX;
		if (piece > call->window)
			piece = call->window;
		if (chan_send_room(client->chan) < MSG_WINDOW)
			return; /* until it is drained */
		chan_begin(client->chan, &w, MSG_KEEPERPEER_BODY, call->id);
		msg_put_d(&w, call->data + call->sent, piece);
		if (chan_end(client->chan, &w) != 0)
			return;
		call->sent += piece;
		call->window -= piece;
	}
	if (call->sent == call->len)
		data_free(client, call);
}

static void
put_text(struct msg_writer *w, const char *text)
{
	msg_put_s(w, text != NULL ? text : "");
}

static int
send_request(struct peer_client *client, const struct peer_call *call,
    uint64_t id, size_t first)
{
	struct msg_writer w;
	int error;

	chan_begin(client->chan, &w, MSG_KEEPERPEER_REQUEST, id);
	msg_put_u(&w, call->kind);
	put_text(&w, call->url);
	msg_put_u(&w, call->timeout_ms);
	msg_put_u(&w, call->answer_max);
	put_text(&w, call->signature);
	put_text(&w, call->pop_nonce);
	put_text(&w, call->timestamp);
	put_text(&w, call->wallet);
	put_text(&w, call->auth);
	put_text(&w, call->content_hash);
	put_text(&w, call->sync_signature);
	put_text(&w, call->sender);
	put_text(&w, call->nonce);
	msg_put_u(&w, call->data_len);
	msg_put_d(&w, call->data, first);
	error = chan_end(client->chan, &w);
	return error == KMS_ETOOBIG ? KMS_EBUSY
	    : error == KMS_ECLOSED  ? KMS_EUNAVAIL
				    : error;
}

static struct peer_open_call *
call_new(struct peer_client *client, const struct peer_call *from)
{
	struct peer_open_call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return NULL;
	call->id = CALL_OWN | (client->last_id + 1);
	call->kind = from->kind;
	call->piece = from->piece;
	call->done = from->done;
	call->arg = from->arg;
	call->len = from->data_len;
	call->sent =
	    from->data_len < MSG_CHUNK_MAX ? from->data_len : MSG_CHUNK_MAX;
	call->window = MSG_WINDOW - call->sent;
	call->answer_max = from->answer_max;
	buf_init(&call->collected, (size_t)from->answer_max);
	HASH_ADD(hh, client->calls, id, sizeof(call->id), call);
	if (call->hh.tbl == NULL) {
		free(call);
		return NULL;
	}
	client->count++;
	client->last_id++;
	return call;
}

int
peer_client_post(
    struct peer_client *client, const struct peer_call *from, uint64_t *id)
{
	struct peer_open_call *call;
	int error;

	if (client->chan == NULL)
		return KMS_EUNAVAIL;
	if (client->count == PEER_CALLS_MAX ||
	    from->data_len > PEER_SENDING_MAX - client->sending)
		return KMS_EBUSY;
	call = call_new(client, from);
	if (call == NULL)
		return KMS_ENOMEM;
	error = send_request(client, from, call->id, call->sent);
	if (error != 0) {
		call_remove(client, call);
		call_free(client, call);
		return error;
	}
	log_call(from, call->id);
	*id = call->id;
	call->data = from->data;
	client->sending += call->data != NULL ? call->len : 0;
	send_pieces(client, call);
	return 0;
}

/* While the calls of a lost channel fail there is none. */
static void
say_cancel(struct peer_client *client, uint64_t id)
{
	struct msg_writer w;

	if (client->chan == NULL)
		return;
	chan_begin(client->chan, &w, MSG_KEEPERPEER_CANCEL, id);
	(void)chan_end(client->chan, &w);
}

void
peer_client_cancel(struct peer_client *client, uint64_t id)
{
	struct peer_open_call *call = find(client, id);

	if (call == NULL)
		return;
	say_cancel(client, id);
	call_remove(client, call);
	call_free(client, call);
}

void
peer_client_consumed(struct peer_client *client, uint64_t id, size_t bytes)
{
	struct peer_open_call *call = find(client, id);
	struct msg_writer w;

	if (call == NULL)
		return;
	call->owed += bytes;
	if (call->owed > call->unconsumed)
		call->owed = call->unconsumed;
	if (call->owed < CREDIT_STEP || client->chan == NULL)
		return;
	chan_begin(client->chan, &w, MSG_KEEPERPEER_CREDIT, id);
	msg_put_u(&w, call->owed);
	if (chan_end(client->chan, &w) != 0)
		return;
	call->unconsumed -= call->owed;
	call->owed = 0;
}

/* ---- what kms-chain says ------------------------------------------------- */

static int
collect(struct peer_client *client, struct peer_open_call *call,
    const struct msg_value *v)
{
	if (v->len > PEER_COLLECTED_MAX - client->collected)
		return KMS_EBUSY;
	if (buf_append(&call->collected, v->data, v->len) != 0)
		return KMS_ENOMEM;
	client->collected += v->len;
	return 0;
}

/* Its answer is no longer wanted, and no memory is left for it. */
static void
give_up(struct peer_client *client, struct peer_open_call *call, int error)
{
	say_cancel(client, call->id);
	call_fail(client, call, PEER_FAILURE_BUSY, kms_strerror(error));
}

/* More than the window or the limit allows is a violation. */
static int
check_piece(struct peer_open_call *call, size_t len)
{
	if (call->kind != PEER_SYNC || len > MSG_WINDOW - call->unconsumed ||
	    call->received + len > call->answer_max)
		return KMS_EPROTO;
	call->received += len;
	call->unconsumed += len;
	return 0;
}

static int
on_body(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);
	const struct msg_value *v = &msg->v[0];
	int error;

	(void)chan;
	if (call == NULL)
		return 0; /* cancelled */
	error = check_piece(call, v->len);
	if (error != 0)
		return error;
	if (call->piece != NULL) {
		before(client);
		call->piece(call->arg, call->id, (const char *)v->data, v->len);
		return 0;
	}
	error = collect(client, call, v);
	if (error != 0)
		give_up(client, call, error);
	else
		peer_client_consumed(client, msg->id, v->len);
	return 0;
}

static int
on_answer(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);
	const struct msg_value *v = msg->v;
	struct peer_reply reply = { .kind = PEER_REPLY_ENVELOPE,
		.elapsed_ms = v[0].u };
	int error;

	(void)chan;
	if (call == NULL)
		return 0;
	error = check_piece(call, v[7].len);
	if (error != 0 || v[6].u != call->received)
		return KMS_EPROTO;
	msg_copy_text(&v[1], reply.signature, sizeof(reply.signature));
	msg_copy_text(&v[2], reply.signature_v2, sizeof(reply.signature_v2));
	msg_copy_text(&v[3], reply.next_nonce, sizeof(reply.next_nonce));
	msg_copy_text(&v[4], reply.sender, sizeof(reply.sender));
	msg_copy_text(&v[5], reply.nonce, sizeof(reply.nonce));
	if (call->piece == NULL) {
		error = collect(client, call, &v[7]);
	} else if (v[7].len > 0) {
		before(client);
		call->piece(
		    call->arg, call->id, (const char *)v[7].data, v[7].len);
		call = find(client, msg->id); /* it may have been cancelled */
	}
	if (error != 0)
		call_fail(client, call, PEER_FAILURE_BUSY, kms_strerror(error));
	else if (call != NULL)
		call_end(client, call, &reply);
	return 0;
}

static int
on_credit(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);

	(void)chan;
	if (call == NULL)
		return 0;
	/* Credit is for what was sent, no more. */
	if (msg->v[0].u > MSG_WINDOW - call->window)
		return KMS_EPROTO;
	call->window += (size_t)msg->v[0].u;
	send_pieces(client, call);
	return 0;
}

static int
on_error(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);
	const struct msg_value *v = msg->v;
	struct peer_reply reply = { .kind = PEER_REPLY_ERROR,
		.status = (unsigned int)v[0].u,
		.elapsed_ms = v[1].u,
		.retry_after = (unsigned int)v[2].u };

	(void)chan;
	if (v[0].u > 999 || v[0].u == 200 || v[2].u > UINT32_MAX)
		return KMS_EPROTO;
	if (call == NULL)
		return 0;
	msg_copy_text(&v[3], reply.signature, sizeof(reply.signature));
	msg_copy_text(&v[4], reply.signature_v2, sizeof(reply.signature_v2));
	msg_copy_text(&v[5], reply.next_nonce, sizeof(reply.next_nonce));
	msg_copy_text(&v[6], reply.code, sizeof(reply.code));
	msg_copy_text(&v[7], reply.message, sizeof(reply.message));
	call_end(client, call, &reply);
	return 0;
}

static int
on_nonce(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);
	struct peer_reply reply = { .kind = PEER_REPLY_NONCE,
		.elapsed_ms = msg->v[0].u };

	(void)chan;
	if (call == NULL)
		return 0;
	if (call->kind != PEER_NONCE)
		return KMS_EPROTO;
	msg_copy_text(&msg->v[1], reply.nonce, sizeof(reply.nonce));
	call_end(client, call, &reply);
	return 0;
}

static int
on_status(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);
	const struct msg_value *v = msg->v;
	struct peer_reply reply = { .kind = PEER_REPLY_STATUS,
		.elapsed_ms = v[0].u,
		.available = v[2].u != 0 };

	(void)chan;
	if (call == NULL)
		return 0;
	if (call->kind != PEER_STATUS)
		return KMS_EPROTO;
	msg_copy_text(&v[1], reply.wallet, sizeof(reply.wallet));
	msg_copy_text(&v[3], reply.unavailable, sizeof(reply.unavailable));
	call_end(client, call, &reply);
	return 0;
}

static int
on_failed(struct chan *chan, struct msg *msg, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call = find(client, msg->id);
	char text[321];

	(void)chan;
	if (msg->v[0].u < PEER_FAILURE_REFUSED ||
	    msg->v[0].u > PEER_FAILURE_BUSY)
		return KMS_EPROTO;
	if (call == NULL)
		return 0;
	msg_copy_text(&msg->v[1], text, sizeof(text));
	call_fail(client, call, (enum peer_failure)msg->v[0].u, text);
	return 0;
}

static const struct chan_handler handlers[] = {
	{ MSG_PEERKEEPER_ANSWER, on_answer },
	{ MSG_PEERKEEPER_BODY, on_body },
	{ MSG_PEERKEEPER_CREDIT, on_credit },
	{ MSG_PEERKEEPER_ERROR, on_error },
	{ MSG_PEERKEEPER_NONCE, on_nonce },
	{ MSG_PEERKEEPER_STATUS, on_status },
	{ MSG_PEERKEEPER_FAILED, on_failed },
	{ 0, NULL },
};

/* ---- life ---------------------------------------------------------------- */

/* There is no channel now, so none can be added meanwhile. */
static void
fail_all(struct peer_client *client)
{
	while (client->calls != NULL)
		call_fail(client, client->calls, PEER_FAILURE_UNREACHABLE,
		    "kms-chain is gone");
}

static void
on_closed(struct chan *chan, int error, void *arg)
{
	struct peer_client *client = arg;

	log_warn("kms-chain peer is gone (%s)", kms_strerror(error));
	client->chan = NULL;
	chan_free(chan);
	fail_all(client);
}

static void
on_drained(struct chan *chan, void *arg)
{
	struct peer_client *client = arg;
	struct peer_open_call *call, *next;

	(void)chan;
	HASH_ITER (hh, client->calls, call, next) {
		send_pieces(client, call);
	}
}

int
peer_client_open(
    struct peer_client *client, uv_loop_t *loop, int fd, uint32_t generation)
{
	struct chan_config config = {
		.name = "kms-chain peer",
		.in = MSG_CHANNEL_PEER_KEEPER,
		.out = MSG_CHANNEL_KEEPER_PEER,
		.generation = generation,
		.handlers = handlers,
		.closed = on_closed,
		.drained = on_drained,
		.arg = client,
		.queue_max = QUEUE_MAX,
	};

	chan_free(client->chan);
	client->chan = NULL;
	fail_all(client);
	return chan_open(loop, fd, &config, &client->chan);
}

void
peer_client_close(struct peer_client *client)
{
	struct peer_open_call *call, *next;

	chan_free(client->chan);
	client->chan = NULL;
	HASH_ITER (hh, client->calls, call, next) {
		call_remove(client, call);
		call_free(client, call);
	}
}

static void
tell_time(void *arg)
{
	struct channels *channels = arg;

	keeper_set_time(channels->keeper, clock_now());
}

int
channel_peer_post(void *arg, const struct peer_call *call, uint64_t *id)
{
	struct channels *channels = arg;

	return peer_client_post(&channels->peers, call, id);
}

void
channel_peer_cancel(void *arg, uint64_t id)
{
	struct channels *channels = arg;

	peer_client_cancel(&channels->peers, id);
}

int
channel_peer_open(struct channels *channels, int fd, uint32_t generation)
{
	int error;

	channels->peers.before = tell_time;
	channels->peers.before_arg = channels;
	error =
	    peer_client_open(&channels->peers, channels->loop, fd, generation);
	if (error == 0)
		readiness_retry_peers(channels->keeper->readiness);
	return error;
}
