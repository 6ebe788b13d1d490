#include "kms-chain/registry_calls.h"

#include <string.h>

#include "common/abi.h"
#include "common/err.h"
#include "kms-chain/question.h"

#define MEMBERS_MAX 1024
#define BLOCK_FINALIZED UINT64_MAX

/* ---- KEEPERCHAIN_INSTANCE ------------------------------------------------ */

struct instance_state {
	uint64_t block; /* 0: the head */
	struct eth_address wallet;
	struct abi_instance instance;
	struct abi_app app;
	struct abi_version version;
};

static void
instance_read(struct question *q, const struct msg *msg)
{
	struct instance_state *s = question_state(q);

	s->block = msg->v[1].u;
	memcpy(s->wallet.bytes, msg->v[2].data, ETH_ADDRESS_LEN);
}

static int
take_instance(struct question *q, const uint8_t *data, size_t len)
{
	struct instance_state *s = question_state(q);

	return abi_decode_instance(data, len, &s->instance) == 0 ? 0
								 : KMS_EPROTO;
}

static int
take_app(struct question *q, const uint8_t *data, size_t len)
{
	struct instance_state *s = question_state(q);

	return abi_decode_app(data, len, &s->app) == 0 ? 0 : KMS_EPROTO;
}

static int
take_version(struct question *q, const uint8_t *data, size_t len)
{
	struct instance_state *s = question_state(q);

	return abi_decode_version(data, len, &s->version) == 0 ? 0 : KMS_EPROTO;
}

static void
put_url_and_key(struct msg_writer *w, const struct abi_instance *instance)
{
	size_t url_len = instance->instance_url_len;
	size_t key_len = instance->tee_pubkey_len;

	if (instance->oversize)
		url_len = key_len = 0;
	if (!msg_text_valid((const uint8_t *)instance->instance_url, url_len))
		url_len = 0;
	msg_put_sn(w, instance->instance_url, url_len);
	msg_put_d(w, instance->tee_pubkey, key_len);
}

static void
instance_answer(struct question *q)
{
	struct instance_state *s = question_state(q);
	const struct abi_instance *instance = &s->instance;
	struct msg_writer w;

	question_answer_begin(q, &w, MSG_CHAINKEEPER_INSTANCE);
	msg_put_u(&w, q->block.number);
	msg_put_u(&w, q->block.time);
	msg_put_b(&w, instance->instance_id != 0);
	msg_put_u(&w, instance->instance_id);
	msg_put_u(&w, instance->app_id);
	msg_put_u(&w, instance->version_id);
	msg_put_d(&w, instance->operator_address.bytes, ETH_ADDRESS_LEN);
	put_url_and_key(&w, instance);
	msg_put_d(&w, instance->tee_wallet.bytes, ETH_ADDRESS_LEN);
	msg_put_b(&w, instance->zk_verified);
	msg_put_u(&w, instance->status);
	msg_put_u(&w, instance->registered_at);
	msg_put_u(&w, s->app.app_id);
	msg_put_u(&w, s->app.status);
	msg_put_u(&w, s->version.version_id);
	msg_put_u(&w, s->version.status);
	question_answer_end(q, &w);
}

static void
instance_read_app(struct question *q)
{
	struct instance_state *s = question_state(q);
	const struct eth_address *registry = &q->config->app_registry;
	uint64_t app = s->instance.app_id, version = s->instance.version_id;
	struct abi_calldata call;

	if (s->block == 0)
		q->block = q->head;
	memset(&s->app, 0, sizeof(s->app));
	memset(&s->version, 0, sizeof(s->version));
	if (s->instance.instance_id == 0)
		memset(&s->instance, 0, sizeof(s->instance));
	q->next = instance_answer;
	if (s->instance.instance_id == 0 || !abi_id_usable(app) ||
	    !abi_id_usable(version))
		return;
	if (abi_encode_get_app(app, &call) == 0)
		question_ask_view(
		    q, registry, &call, q->block.number, take_app);
	if (abi_encode_get_version(app, version, &call) == 0)
		question_ask_view(
		    q, registry, &call, q->block.number, take_version);
}

static void
instance_read_instance(struct question *q)
{
	struct instance_state *s = question_state(q);
	uint64_t block = s->block != 0 ? s->block : q->head.number;
	struct abi_calldata call;

	abi_encode_get_instance_by_wallet(&s->wallet, &call);
	question_ask_view(
	    q, &q->config->app_registry, &call, block, take_instance);
	q->next = instance_read_app;
}

/* The head must be known before anything can be read there; a given block is
 * read beside its time. */
static void
need_block_then(struct question *q, uint64_t block, question_step_fn step)
{
	if (block == 0) {
		question_need_head(q);
		q->next = step;
	} else {
		question_need_block(q, block);
		step(q);
	}
}

static void
instance_start(struct question *q)
{
	struct instance_state *s = question_state(q);

	need_block_then(q, s->block, instance_read_instance);
}

static const struct question_kind instance_kind = {
	.state_size = sizeof(struct instance_state),
	.read = instance_read,
	.start = instance_start,
};

int
registry_instance(struct chan *chan, struct msg *msg, void *arg)
{
	return questions_take(arg, chan, msg, &instance_kind);
}

/* ---- KEEPERCHAIN_MEMBERS ------------------------------------------------- */

struct members_state {
	uint64_t block; /* 0: the head */
	uint64_t app_id;
	size_t count;
	struct eth_address wallets[MEMBERS_MAX];
};

static void
members_read(struct question *q, const struct msg *msg)
{
	struct members_state *s = question_state(q);

	s->block = msg->v[1].u;
	s->app_id = msg->v[2].u;
}

static int
take_members(struct question *q, const uint8_t *data, size_t len)
{
	struct members_state *s = question_state(q);

	return abi_decode_addresses(
		   data, len, s->wallets, MEMBERS_MAX, &s->count) == 0
	    ? 0
	    : KMS_EPROTO;
}

static void
members_answer(struct question *q)
{
	struct members_state *s = question_state(q);
	struct msg_writer w;

	if (s->block == 0)
		q->block = q->head;
	question_answer_begin(q, &w, MSG_CHAINKEEPER_MEMBERS);
	msg_put_u(&w, q->block.number);
	msg_put_u(&w, q->block.time);
	msg_put_d(&w, s->wallets, s->count * ETH_ADDRESS_LEN);
	question_answer_end(q, &w);
}

static void
members_read_wallets(struct question *q)
{
	struct members_state *s = question_state(q);
	uint64_t block = s->block != 0 ? s->block : q->head.number;
	struct abi_calldata call;

	if (abi_encode_get_active_instances(s->app_id, &call) != 0) {
		question_fail(q, CHAIN_ERROR_REFUSED, "no such app ID");
		return;
	}
	question_ask_view(
	    q, &q->config->app_registry, &call, block, take_members);
	q->next = members_answer;
}

static void
members_start(struct question *q)
{
	struct members_state *s = question_state(q);

	need_block_then(q, s->block, members_read_wallets);
}

static const struct question_kind members_kind = {
	.state_size = sizeof(struct members_state),
	.read = members_read,
	.start = members_start,
};

int
registry_members(struct chan *chan, struct msg *msg, void *arg)
{
	return questions_take(arg, chan, msg, &members_kind);
}

/* ---- KEEPERCHAIN_HASH ---------------------------------------------------- */

struct hash_state {
	uint64_t block; /* 0: by the two below */
	uint64_t confirmations;
	int finalized;
	struct eth_word hash;
	uint64_t app_id;
};

static void
hash_read(struct question *q, const struct msg *msg)
{
	struct hash_state *s = question_state(q);

	s->block = msg->v[1].u;
	s->confirmations = msg->v[2].u;
	s->finalized = s->block == 0 && msg->v[3].u != 0;
}

static int
take_hash(struct question *q, const uint8_t *data, size_t len)
{
	struct hash_state *s = question_state(q);

	return abi_decode_word(data, len, &s->hash) == 0 ? 0 : KMS_EPROTO;
}

static int
take_app_id(struct question *q, const uint8_t *data, size_t len)
{
	struct hash_state *s = question_state(q);

	return abi_decode_uint(data, len, &s->app_id) == 0 ? 0 : KMS_EPROTO;
}

static void
hash_answer(struct question *q)
{
	struct hash_state *s = question_state(q);
	struct msg_writer w;

	question_answer_begin(q, &w, MSG_CHAINKEEPER_HASH);
	msg_put_u(&w, q->config->chain_id);
	msg_put_u(&w, q->head.number);
	msg_put_u(&w, q->head.time);
	msg_put_u(&w, q->block.number);
	msg_put_u(&w, q->block.time);
	msg_put_d(&w, s->hash.bytes, ETH_WORD_LEN);
	msg_put_u(&w, s->app_id);
	question_answer_end(q, &w);
}

static void
hash_read_registry(struct question *q)
{
	struct hash_state *s = question_state(q);
	const struct eth_address *registry = &q->config->kms_registry;
	uint64_t head = q->head.number;
	uint64_t depth = s->confirmations < head ? s->confirmations : head;
	uint64_t block = s->finalized ? q->block.number : head - depth;
	struct abi_calldata call;

	if (s->block != 0)
		block = s->block;
	if (!s->finalized && block == head)
		q->block = q->head;
	else if (!s->finalized)
		question_need_block(q, block);
	abi_encode_master_secret_hash(&call);
	question_ask_view(q, registry, &call, block, take_hash);
	abi_encode_kms_app_id(&call);
	question_ask_view(q, registry, &call, block, take_app_id);
	q->next = hash_answer;
}

static void
hash_start(struct question *q)
{
	struct hash_state *s = question_state(q);

	question_need_head(q);
	if (s->finalized)
		question_need_block(q, BLOCK_FINALIZED);
	q->next = hash_read_registry;
}

static const struct question_kind hash_kind = {
	.state_size = sizeof(struct hash_state),
	.read = hash_read,
	.start = hash_start,
};

int
registry_hash(struct chan *chan, struct msg *msg, void *arg)
{
	return questions_take(arg, chan, msg, &hash_kind);
}
