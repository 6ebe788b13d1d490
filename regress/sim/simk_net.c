/* Calls between nodes: kms-chain peer at one end, kms-net at the other, and a
 * network between them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/err.h"
#include "proto/msg.h"
#include "regress/sim/simk.h"

#define PIECE 700	/* bytes of a body at once */
#define CONNECT_MS 5000 /* as kms-chain */

/* ---- calls --------------------------------------------------------------- */

static struct net_call *
find(struct world *world, uint64_t id)
{
	struct net_call *call;

	TAILQ_FOREACH (call, &world->calls, link) {
		if (call->id == id)
			return call;
	}
	return NULL;
}

/* Nobody waits for it any more. */
static void
settled(struct world *world, struct net_call *call)
{
	if (call->wanted)
		world->nodes[call->from].posts--;
	call->wanted = false;
}

static void
call_free(struct world *world, struct net_call *call)
{
	settled(world, call);
	TAILQ_REMOVE(&world->calls, call, link);
	free(call->message.data);
	simk_reply_free(call->reply);
	free(call);
}

static int64_t
delay(struct world *world)
{
	int64_t most = world->calm ? 5 : world->profile.delay_ms;
	int64_t ms = 1 + (int64_t)simk_below(world, (uint64_t)most);

	if (!world->calm && simk_chance(world, 20))
		ms *= 20;
	return ms;
}

static void
push(struct world *world, const struct net_call *call, enum event_type type,
    int64_t ms)
{
	simk_push(world,
	    (struct event){
		.at_ms = world->now_ms + ms, .type = type, .id = call->id });
}

/* The next step of a call, if the network lets it through: else it stalls, in
 * a partition, or its connection breaks. */
static void
pass(struct world *world, const struct net_call *call, enum event_type type,
    unsigned int from, unsigned int to)
{
	bool blocked = world->blocked[from][to];
	bool lost = !world->calm && simk_chance(world, world->profile.loss);

	if (!blocked)
		push(world, call, lost ? EVENT_CUT : type, delay(world));
	else if (type == EVENT_ARRIVE)
		push(world, call, EVENT_CUT, CONNECT_MS);
}

struct net_call *
simk_call_new(
    struct world *world, unsigned int from, unsigned int to, int64_t ms)
{
	struct net_call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		abort();
	world->last_id += 2;
	call->id = world->last_id;
	call->from = from;
	call->from_life = world->nodes[from].life;
	call->to = to;
	call->begun_ms = world->now_ms;
	call->deadline_ms = world->now_ms + ms;
	TAILQ_INSERT_TAIL(&world->calls, call, link);
	push(world, call, EVENT_DEADLINE, ms);
	world->messages++;
	return call;
}

/* ---- the calling end: keeper_ops ----------------------------------------- */

static int
place_of(const struct world *world, const char *url)
{
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		if (strcmp(world->nodes[i].url, url) == 0)
			return (int)i;
	return -1;
}

#define COPY(member)                                                           \
	(void)snprintf(m->member, sizeof(m->member), "%s",                     \
	    from->member != NULL ? from->member : "")

static void
take_message(struct message *m, const struct peer_call *from)
{
	m->kind = from->kind;
	COPY(signature);
	COPY(pop_nonce);
	COPY(timestamp);
	COPY(wallet);
	COPY(auth);
	COPY(content_hash);
	COPY(sync_signature);
	COPY(sender);
	COPY(nonce);
	m->data = from->data;
	m->data_len = from->data_len;
}

#undef COPY

int
simk_post(void *arg, const struct peer_call *from, uint64_t *id)
{
	struct node *node = arg;
	struct world *world = node->world;
	int to = place_of(world, from->url);
	struct net_call *call;

	if (node->peer_down_ms > world->now_ms)
		return KMS_EUNAVAIL;
	if (to < 0)
		return KMS_EINVAL;
	call = simk_call_new(
	    world, node->index, (unsigned int)to, (int64_t)from->timeout_ms);
	take_message(&call->message, from);
	call->done = from->done;
	call->arg = from->arg;
	call->wanted = true;
	node->posts++;
	*id = call->id;
	pass(world, call, EVENT_ARRIVE, call->from, call->to);
	return 0;
}

void
simk_unpost(void *arg, uint64_t id)
{
	struct node *node = arg;
	struct net_call *call = find(node->world, id);

	/* The other end goes on, as it does when it has the request. */
	if (call != NULL)
		settled(node->world, call);
}

static void
deliver(struct world *world, struct net_call *call, struct peer_reply *reply)
{
	struct node *node = &world->nodes[call->from];
	peer_done_fn done = call->done;
	void *arg = call->arg;

	if (!call->wanted)
		return;
	settled(world, call);
	reply->elapsed_ms = (uint64_t)(world->now_ms - call->begun_ms);
	simk_set_time(world, node->index);
	done(arg, call->id, reply);
	simk_settle(world, node->index);
}

static void
fail_call(struct world *world, struct net_call *call, enum peer_failure failure)
{
	struct peer_reply reply = { .kind = PEER_REPLY_FAILED,
		.failure = failure };

	(void)snprintf(reply.text, sizeof(reply.text), "failure %d", failure);
	deliver(world, call, &reply);
}

/* kms-chain peer was replaced: all it had under way has failed. */
void
simk_net_cut(struct world *world, unsigned int node)
{
	struct net_call *call, *next;

	for (call = TAILQ_FIRST(&world->calls); call != NULL; call = next) {
		next = TAILQ_NEXT(call, link);
		if (call->from == node && call->wanted)
			fail_call(world, call, PEER_FAILURE_UNREACHABLE);
	}
}

/* ---- the way back -------------------------------------------------------- */

static void
send_back(struct world *world, struct net_call *call, struct peer_reply *reply)
{
	call->answered = true;
	simk_reply_free(call->reply);
	call->reply = reply;
	pass(world, call, EVENT_REPLY, call->to, call->from);
}

void
simk_net_answer(
    struct world *world, uint64_t handle, const struct answer *answer)
{
	struct net_call *call = find(world, handle);
	struct peer_reply *reply;

	if (call == NULL || call->answered)
		return;
	reply = simk_error_reply(answer->status, answer->code, answer->message);
	(void)snprintf(reply->signature, sizeof(reply->signature), "%s",
	    answer->signature);
	(void)snprintf(reply->signature_v2, sizeof(reply->signature_v2), "%s",
	    answer->signature_v2);
	(void)snprintf(reply->next_nonce, sizeof(reply->next_nonce), "%s",
	    answer->next_nonce);
	reply->retry_after = answer->retry_after;
	if (answer->status == 200) {
		reply->kind = PEER_REPLY_ENVELOPE;
		(void)snprintf(
		    reply->sender, sizeof(reply->sender), "%s", answer->sender);
		(void)snprintf(
		    reply->nonce, sizeof(reply->nonce), "%s", answer->nonce);
		reply->data = malloc(answer->data_len + 1);
		if (reply->data == NULL)
			abort();
		memcpy(reply->data, answer->data, answer->data_len);
		reply->data_len = answer->data_len;
	}
	send_back(world, call, reply);
	simk_middle_answered(world, call);
}

/* ---- the called end ------------------------------------------------------ */

static struct text
text_of(const char *text)
{
	return (struct text){ text, strlen(text) };
}

static void
answer_nonce(struct world *world, struct net_call *call, struct node *node)
{
	struct peer_reply *reply;
	uint8_t nonce[NONCE_LEN];

	if (nonce_issue(node->keeper->nonces,
		simk_time(world, call->to).boot_ms, nonce) != 0) {
		send_back(world, call,
		    simk_error_reply(503, "service_unavailable", "no nonces"));
		return;
	}
	reply = simk_error_reply(200, "", "");
	reply->kind = PEER_REPLY_NONCE;
	base64_encode(nonce, sizeof(nonce), reply->nonce);
	send_back(world, call, reply);
}

static void
answer_status(
    struct world *world, struct net_call *call, const struct node *node)
{
	const struct readiness_view *view =
	    readiness_view(node->keeper->readiness);
	struct peer_reply *reply = simk_error_reply(200, "", "");

	reply->kind = PEER_REPLY_STATUS;
	(void)snprintf(reply->wallet, sizeof(reply->wallet), "%s",
	    node->keeper->wallet_text);
	reply->available = view->ready;
	(void)snprintf(
	    reply->unavailable, sizeof(reply->unavailable), "%s", view->reason);
	send_back(world, call, reply);
}

static void
begin_sync(struct world *world, struct net_call *call, struct node *node)
{
	const struct message *m = &call->message;
	struct sync_head head = {
		.target = text_of("/sync"),
		.signature = text_of(m->signature),
		.nonce = text_of(m->pop_nonce),
		.timestamp = text_of(m->timestamp),
		.wallet = text_of(m->wallet),
		.version = text_of(m->auth),
		.content_hash = text_of(m->content_hash),
		.sync_signature = text_of(m->sync_signature),
	};

	if (sync_request_begin(node->keeper->syncs, call->id, &head) != 0)
		simk_fail(world, "the protocol of kms-net: a head");
}

static void
arrive(struct world *world, struct net_call *call)
{
	struct node *node = &world->nodes[call->to];

	if (!node->alive) {
		if (call->wanted)
			fail_call(world, call, PEER_FAILURE_UNREACHABLE);
		return;
	}
	call->arrived = true;
	call->to_life = node->life;
	simk_set_time(world, call->to);
	if (call->message.kind == PEER_NONCE)
		answer_nonce(world, call, node);
	else if (call->message.kind == PEER_STATUS)
		answer_status(world, call, node);
	else
		begin_sync(world, call, node);
	simk_settle(world, call->to);
}

void
simk_net_go(struct world *world, uint64_t handle, size_t most)
{
	struct net_call *call = find(world, handle);

	if (call == NULL)
		return;
	if (call->message.data_len <= most) {
		pass(world, call, EVENT_BODY, call->from, call->to);
		return;
	}
	/* kms-net's own word; the keeper is told by and by. */
	send_back(world, call,
	    simk_error_reply(
		503, "service_unavailable", "the body is too large"));
}

/* The body, as kms-net passes it on. */
static void
pass_body(struct world *world, struct net_call *call)
{
	struct node *node = &world->nodes[call->to];
	const struct message *m = &call->message;
	size_t len = m->data_len < PIECE ? m->data_len : PIECE, next;
	struct sync_envelope envelope = {
		.sender = text_of(m->sender),
		.nonce = text_of(m->nonce),
		.data_total = m->data_len,
		.data = { m->data, len },
	};
	int error;

	if (!node->alive || node->life != call->to_life || call->answered)
		return;
	simk_set_time(world, call->to);
	error = sync_request_envelope(node->keeper->syncs, call->id, &envelope);
	for (size_t at = len; error >= 0 && at < m->data_len; at += next) {
		next = m->data_len - at < PIECE ? m->data_len - at : PIECE;
		error = sync_request_body(
		    node->keeper->syncs, call->id, m->data + at, next);
	}
	if (error < 0)
		simk_fail(world, "the protocol of kms-net: a body");
	simk_settle(world, call->to);
}

/* Its connection has gone, at both ends. */
static void
cut(struct world *world, struct net_call *call, enum peer_failure failure)
{
	struct node *to = &world->nodes[call->to];

	if (call->arrived && to->alive && to->life == call->to_life)
		sync_request_cancel(to->keeper->syncs, call->id);
	call->answered = true;
	fail_call(world, call, failure);
}

/* ---- events -------------------------------------------------------------- */

void
simk_net_event(struct world *world, const struct event *event)
{
	struct net_call *call = find(world, event->id);

	if (call == NULL)
		return;
	switch (event->type) {
	case EVENT_ARRIVE:
		simk_middle_request(world, call);
		arrive(world, call);
		break;
	case EVENT_BODY:
		pass_body(world, call);
		break;
	case EVENT_REPLY:
		if (call->reply->data != NULL)
			simk_trace(
			    world, call->reply->data, call->reply->data_len);
		simk_middle_reply(world, call);
		deliver(world, call, call->reply);
		break;
	case EVENT_CUT:
		cut(world, call, PEER_FAILURE_UNREACHABLE);
		break;
	default:
		cut(world, call, PEER_FAILURE_TIMEOUT);
		call_free(world, call);
		break;
	}
}

/* Its calls are forgotten, and those to it are cut. */
void
simk_net_crash(struct world *world, unsigned int node)
{
	struct net_call *call, *next;

	for (call = TAILQ_FIRST(&world->calls); call != NULL; call = next) {
		next = TAILQ_NEXT(call, link);
		if (call->from == node) {
			settled(world, call);
		} else if (call->to == node && call->arrived &&
		    !call->answered && call->wanted) {
			send_back(world, call,
			    simk_error_reply(502, "", "the connection is cut"));
		}
	}
}

void
simk_net_free(struct world *world)
{
	struct net_call *call;

	while ((call = TAILQ_FIRST(&world->calls)) != NULL)
		call_free(world, call);
}
