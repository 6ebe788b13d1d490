/*
 * The channel of kms-chain rpc: the registry's questions out, one endpoint's
 * facts in. Shapes are checked by msg.def; whether an answer fits its
 * question, and what it means, is registry.c's and readiness.c's to say.
 */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/channel.h"

#define QUEUE_MAX (1u << 20)

int
channel_rpc_ask(void *arg, uint64_t id, const struct registry_question *q)
{
	static const enum msg_type types[] = {
		[REGISTRY_INSTANCE] = MSG_KEEPERCHAIN_INSTANCE,
		[REGISTRY_MEMBERS] = MSG_KEEPERCHAIN_MEMBERS,
		[REGISTRY_HASH] = MSG_KEEPERCHAIN_HASH,
		[REGISTRY_TX_INPUTS] = MSG_KEEPERCHAIN_TX_INPUTS,
		[REGISTRY_SEND] = MSG_KEEPERCHAIN_SEND,
		[REGISTRY_RECEIPT] = MSG_KEEPERCHAIN_RECEIPT,
	};
	struct channels *channels = arg;
	struct chan *chan = channels->chan[CHANNEL_RPC];
	struct msg_writer w;

	if (chan == NULL)
		return KMS_EUNAVAIL;
	chan_begin(chan, &w, types[q->kind], id);
	msg_put_u(&w, q->endpoint);
	switch (q->kind) {
	case REGISTRY_INSTANCE:
		msg_put_u(&w, q->block);
		msg_put_d(&w, q->wallet.bytes, ETH_ADDRESS_LEN);
		break;
	case REGISTRY_MEMBERS:
		msg_put_u(&w, q->block);
		msg_put_u(&w, q->app_id);
		break;
	case REGISTRY_HASH:
		msg_put_u(&w, q->block);
		msg_put_u(&w, q->confirmations);
		msg_put_b(&w, q->finalized);
		break;
	case REGISTRY_TX_INPUTS:
		msg_put_d(&w, q->wallet.bytes, ETH_ADDRESS_LEN);
		break;
	case REGISTRY_SEND:
		msg_put_d(&w, q->raw, q->raw_len);
		break;
	case REGISTRY_RECEIPT:
		msg_put_d(&w, q->hash.bytes, ETH_WORD_LEN);
		break;
	}
	return chan_end(chan, &w);
}

static int64_t
seconds(uint64_t value)
{
	return value > INT64_MAX / 1000 ? INT64_MAX / 1000 : (int64_t)value;
}

/* The row's fields behind endpoint, block and time, in its order. */
static void
take_instance(const struct msg_value *v, struct instance_facts *facts)
{
	facts->found = v[3].u != 0;
	facts->instance_id = v[4].u;
	facts->app_id = v[5].u;
	facts->version_id = v[6].u;
	memcpy(facts->operator.bytes, v[7].data, ETH_ADDRESS_LEN);
	msg_copy_text(&v[8], facts->url, sizeof(facts->url));
	facts->pubkey_len = v[9].len;
	if (v[9].len > 0)
		memcpy(facts->pubkey, v[9].data, v[9].len);
	memcpy(facts->wallet.bytes, v[10].data, ETH_ADDRESS_LEN);
	facts->zk_verified = v[11].u != 0;
	facts->status = v[12].u;
	facts->registered_at = v[13].u;
	facts->app_id_answered = v[14].u;
	facts->app_status = v[15].u;
	facts->version_id_answered = v[16].u;
	facts->version_status = v[17].u;
}

static int
take_members(const struct msg_value *value, struct registry_answer *answer)
{
	if (value->len % ETH_ADDRESS_LEN != 0 ||
	    value->len / ETH_ADDRESS_LEN > REGISTRY_MEMBERS_MAX)
		return KMS_EPROTO;
	answer->member_count = value->len / ETH_ADDRESS_LEN;
	if (value->len > 0)
		memcpy(answer->members, value->data, value->len);
	return 0;
}

static int
take_facts(const struct msg *msg, struct registry_answer *answer)
{
	const struct msg_value *v = msg->v;

	answer->endpoint = (unsigned int)v[0].u;
	switch (msg->row->type) {
	case MSG_CHAINKEEPER_INSTANCE:
		answer->kind = REGISTRY_INSTANCE;
		answer->block = v[1].u;
		answer->block_time = seconds(v[2].u);
		take_instance(v, &answer->instance);
		return 0;
	case MSG_CHAINKEEPER_MEMBERS:
		answer->kind = REGISTRY_MEMBERS;
		answer->block = v[1].u;
		answer->block_time = seconds(v[2].u);
		return take_members(&v[3], answer);
	case MSG_CHAINKEEPER_HASH:
		answer->kind = REGISTRY_HASH;
		answer->chain_id = v[1].u;
		answer->head = v[2].u;
		answer->head_time = seconds(v[3].u);
		answer->block = v[4].u;
		answer->block_time = seconds(v[5].u);
		memcpy(answer->hash.bytes, v[6].data, ETH_WORD_LEN);
		answer->kms_app_id = v[7].u;
		return 0;
	case MSG_CHAINKEEPER_TX_INPUTS:
		answer->kind = REGISTRY_TX_INPUTS;
		answer->chain_id = v[1].u;
		answer->nonce_pending = v[2].u;
		answer->nonce_latest = v[3].u;
		answer->tip = v[4].u;
		answer->base_fee = v[5].u;
		memcpy(answer->balance.bytes, v[6].data, ETH_WORD_LEN);
		return 0;
	case MSG_CHAINKEEPER_SENT:
		answer->kind = REGISTRY_SEND;
		memcpy(answer->hash.bytes, v[1].data, ETH_WORD_LEN);
		return 0;
	case MSG_CHAINKEEPER_RECEIPT:
		answer->kind = REGISTRY_RECEIPT;
		answer->mined = v[1].u != 0;
		answer->tx_status = v[2].u;
		answer->block = v[3].u;
		msg_copy_text(&v[4], answer->text, sizeof(answer->text));
		return 0;
	default:
		return KMS_EPROTO;
	}
}

static int
on_facts(struct chan *chan, struct msg *msg, void *arg)
{
	/* Too large for the stack of a callback, and one at a time is used. */
	static struct registry_answer answer;
	struct channels *channels = arg;
	int error;

	(void)chan;
	keeper_set_time(channels->keeper, clock_now());
	memset(&answer, 0, sizeof(answer));
	error = take_facts(msg, &answer);
	if (error == 0)
		registry_answered(
		    channels->keeper->registry, msg->id, 0, &answer);
	return error;
}

static int
on_error(struct chan *chan, struct msg *msg, void *arg)
{
	static struct registry_answer answer;
	struct channels *channels = arg;

	(void)chan;
	keeper_set_time(channels->keeper, clock_now());
	memset(&answer, 0, sizeof(answer));
	answer.endpoint = (unsigned int)msg->v[0].u;
	answer.failure = (unsigned int)msg->v[1].u;
	msg_copy_text(&msg->v[2], answer.text, sizeof(answer.text));
	registry_answered(
	    channels->keeper->registry, msg->id, KMS_EUNAVAIL, &answer);
	return 0;
}

static const struct chan_handler rpc_handlers[] = {
	{ MSG_CHAINKEEPER_INSTANCE, on_facts },
	{ MSG_CHAINKEEPER_MEMBERS, on_facts },
	{ MSG_CHAINKEEPER_HASH, on_facts },
	{ MSG_CHAINKEEPER_TX_INPUTS, on_facts },
	{ MSG_CHAINKEEPER_SENT, on_facts },
	{ MSG_CHAINKEEPER_RECEIPT, on_facts },
	{ MSG_CHAINKEEPER_ERROR, on_error },
	{ 0, NULL },
};

static void
on_rpc_closed(struct chan *chan, int error, void *arg)
{
	struct channels *channels = arg;

	log_warn("kms-chain rpc is gone (%s)", kms_strerror(error));
	channels->chan[CHANNEL_RPC] = NULL;
	chan_free(chan);
	registry_lost(channels->keeper->registry);
}

int
channel_rpc_open(struct channels *channels, int fd, uint32_t generation)
{
	struct chan_config config = {
		.name = "kms-chain rpc",
		.in = MSG_CHANNEL_RPC_KEEPER,
		.out = MSG_CHANNEL_KEEPER_RPC,
		.generation = generation,
		.handlers = rpc_handlers,
		.closed = on_rpc_closed,
		.arg = channels,
		.queue_max = QUEUE_MAX,
	};
	int error;

	chan_free(channels->chan[CHANNEL_RPC]);
	channels->chan[CHANNEL_RPC] = NULL;
	registry_lost(channels->keeper->registry);
	error = chan_open(
	    channels->loop, fd, &config, &channels->chan[CHANNEL_RPC]);
	if (error == 0)
		readiness_kick(channels->keeper->readiness);
	return error;
}
