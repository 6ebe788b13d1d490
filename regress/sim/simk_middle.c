/* A man in the middle of the network: he keeps what passes, sends it again, and
 * changes what comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "regress/sim/simk.h"

void
simk_reply_free(struct peer_reply *reply)
{
	if (reply != NULL)
		free(reply->data);
	free(reply);
}

static struct peer_reply *
reply_copy(const struct peer_reply *from)
{
	struct peer_reply *reply = malloc(sizeof(*reply));

	if (reply == NULL)
		abort();
	*reply = *from;
	if (from->data != NULL) {
		reply->data = malloc(from->data_len + 1);
		if (reply->data == NULL)
			abort();
		memcpy(reply->data, from->data, from->data_len);
	}
	return reply;
}

static struct message
message_copy(const struct message *from)
{
	struct message message = *from;

	if (from->data != NULL) {
		message.data = malloc(from->data_len + 1);
		if (message.data == NULL)
			abort();
		memcpy(message.data, from->data, from->data_len);
	}
	return message;
}

struct peer_reply *
simk_error_reply(unsigned int status, const char *code, const char *message)
{
	struct peer_reply *reply = calloc(1, sizeof(*reply));

	if (reply == NULL)
		abort();
	reply->kind = PEER_REPLY_ERROR;
	reply->status = status;
	(void)snprintf(reply->code, sizeof(reply->code), "%s", code);
	(void)snprintf(reply->message, sizeof(reply->message), "%s", message);
	return reply;
}

/* A request that had its answer may not have another. */
static void
check_repeated(struct world *world, const struct net_call *call)
{
	uint64_t id = call->original != 0 ? call->original : call->id;

	for (size_t i = 0; i < CAPTURED_MAX; i++) {
		struct captured *c = &world->captured[i];

		if (c->id != id)
			continue;
		if (c->accepted)
			simk_fail(world,
			    "replay: node %u answered a request of node %u "
			    "twice",
			    call->to, call->from);
		c->accepted = true;
	}
}

void
simk_middle_answered(struct world *world, const struct net_call *call)
{
	if (call->reply->kind == PEER_REPLY_ENVELOPE)
		check_repeated(world, call);
	for (size_t i = 0; i < CAPTURED_MAX; i++)
		if (world->captured[i].id == call->id &&
		    world->captured[i].reply == NULL)
			world->captured[i].reply = reply_copy(call->reply);
}

/* Keep a request that passes, to send it again. */
void
simk_middle_request(struct world *world, const struct net_call *call)
{
	struct captured *c = &world->captured[simk_below(world, CAPTURED_MAX)];

	if (!world->profile.middle || world->calm ||
	    call->message.kind != PEER_SYNC || call->original != 0 ||
	    !simk_chance(world, 200))
		return;
	free(c->message.data);
	simk_reply_free(c->reply);
	*c = (struct captured){ .id = call->id,
		.from = call->from,
		.to = call->to,
		.message = message_copy(&call->message) };
}

void
simk_middle_turn(struct world *world)
{
	struct captured *c = &world->captured[simk_below(world, CAPTURED_MAX)];

	if (world->calm)
		return;
	simk_push(world,
	    (struct event){
		.at_ms = world->now_ms + 200 + (int64_t)simk_below(world, 2000),
		.type = EVENT_MIDDLE });
	if (c->id != 0) {
		struct net_call *call =
		    simk_call_new(world, c->from, c->to, 60000);

		call->original = c->id;
		call->message = message_copy(&c->message);
		simk_push(world,
		    (struct event){ .at_ms = world->now_ms + 1 +
			    (int64_t)simk_below(world, 50),
			.type = EVENT_ARRIVE,
			.id = call->id });
	}
}

static void
flip(struct world *world, char *text, size_t len)
{
	if (len > 0)
		text[simk_below(world, len)] ^=
		    (char)(1U << simk_below(world, 4));
}

/* What comes back is another answer, a refusal, or a broken one. */
void
simk_middle_reply(struct world *world, struct net_call *call)
{
	const struct captured *c =
	    &world->captured[simk_below(world, CAPTURED_MAX)];
	static const unsigned int statuses[] = { 400, 403, 413, 429, 503 };
	struct peer_reply *reply = call->reply;

	if (!world->profile.middle || world->calm ||
	    call->message.kind != PEER_SYNC || !simk_chance(world, 60))
		return;
	switch (simk_below(world, 4)) {
	case 0:
		if (c->reply == NULL)
			return;
		reply = reply_copy(c->reply);
		break;
	case 1:
		reply = simk_error_reply(statuses[simk_below(world, 5)],
		    "unauthorized", "so says a man in the middle");
		break;
	case 2:
		flip(world, reply->data, reply->data_len);
		break;
	default:
		flip(world, reply->signature_v2, strlen(reply->signature_v2));
		break;
	}
	if (reply != call->reply)
		simk_reply_free(call->reply);
	call->reply = reply;
}

void
simk_middle_free(struct world *world)
{
	for (size_t i = 0; i < CAPTURED_MAX; i++) {
		free(world->captured[i].message.data);
		simk_reply_free(world->captured[i].reply);
	}
}
