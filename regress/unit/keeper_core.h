/* The keeper's core in process, with an app that calls it and a chain that is
 * told what to answer: what the tests of whole requests share. */
#ifndef KMS_REGRESS_KEEPER_CORE_H
#define KMS_REGRESS_KEEPER_CORE_H

#include <jansson.h>

#include "crypto/eip1559.h"
#include "kms-keeper/answer_app.h"
#include "kms-keeper/keeper.h"
#include "kms-keeper/replay.h"
#include "regress/unit/keeper_client.h"

#define APP 7

struct reply {
	unsigned int calls;
	uint64_t handle;
	unsigned int status, retry_after;
	char code[64], message[512];
	char signature[160], signature_v2[160], next_nonce[64];
	bool envelope;
	char sender[512], nonce[64];
	char *data;
	size_t data_len;
};

static struct rig rig;
static struct keeper *k;
static struct client client;
static struct message m;
static struct reply reply;
static size_t credited;
static uint64_t handle;
static unsigned int gone; /* bodies asked for */
static size_t go_most;

static inline void
on_answer(void *arg, uint64_t of, const struct answer *a)
{
	(void)arg;
	reply.calls++;
	reply.handle = of;
	reply.status = a->status;
	reply.retry_after = a->retry_after;
	reply.envelope = a->envelope;
#define COPY(member)                                                           \
	(void)snprintf(reply.member, sizeof(reply.member), "%s", a->member)
	COPY(code);
	COPY(message);
	COPY(signature);
	COPY(signature_v2);
	COPY(next_nonce);
	COPY(sender);
	COPY(nonce);
#undef COPY
	free(reply.data);
	reply.data = malloc(a->data_len + 1);
	assert_non_null(reply.data);
	memcpy(reply.data, a->data, a->data_len);
	reply.data[a->data_len] = '\0';
	reply.data_len = a->data_len;
}

static inline void
on_credit(void *arg, uint64_t of, size_t bytes)
{
	(void)arg;
	assert_int_equal(of, handle);
	assert_true(bytes > 0);
	credited += bytes;
}

static inline void
on_go(void *arg, uint64_t of, size_t most)
{
	(void)arg;
	assert_int_equal(of, handle);
	gone++;
	go_most = most;
}

static inline void
on_changed(void *arg)
{
	(void)arg;
}

/* There is no other node. */
static inline int
on_post(void *arg, const struct peer_call *call, uint64_t *id)
{
	(void)arg;
	(void)call;
	(void)id;
	return KMS_EUNAVAIL;
}

static inline void
on_unpost(void *arg, uint64_t id)
{
	(void)arg;
	(void)id;
}

static inline void
on_wake(void *arg, int64_t ms)
{
	(void)arg;
	(void)ms;
}

static inline int
make_keeper(void)
{
	struct keeper_ops ops = {
		.random = rig_random,
		.ask = rig_ask,
		.answer = on_answer,
		.credit = on_credit,
		.go = on_go,
		.post = on_post,
		.unpost = on_unpost,
		.wake = on_wake,
		.changed = on_changed,
		.arg = &rig,
	};

	if (keeper_new(&rig.config, &ops, rig.identity, rig.now, &k) != 0)
		return -1;
	rig.registry = k->registry;
	readiness_kick(k->readiness);
	return 0;
}

static inline int
begin_unready(void **state)
{
	(void)state;
	rig_init(&rig);
	client_init(&client, &rig, 1);
	(void)rig_add_instance(
	    &rig, APP, &client.wallet, p384_key_point(client.tee));
	memset(&reply, 0, sizeof(reply));
	memset(metrics, 0, sizeof(metrics));
	handle = 0;
	credited = 0;
	return make_keeper();
}

static inline void
run(int64_t ms)
{
	for (int64_t t = 0; t < ms; t += 100) {
		rig_pass(&rig, 100);
		keeper_tick(k, rig.now);
		rig_pump(&rig);
	}
}

static inline void
set_hash(void)
{
	uint8_t signature[SIGNATURE_LEN];
	struct eip1559 tx;

	assert_int_equal(
	    eip1559_decode(rig.raw, rig.raw_len, &tx, signature), 0);
	memcpy(rig.hash.bytes, tx.data + 4, 32);
	rig.mined = true;
	rig.tx_status = 1;
	rig.mined_block = rig.head;
}

static inline int
begin(void **state)
{
	if (begin_unready(state) != 0)
		return -1;
	run(1000);
	set_hash();
	run(2000);
	return readiness_master(k->readiness) == NULL;
}

static inline int
end(void **state)
{
	(void)state;
	keeper_free(k);
	client_free(&client);
	message_free(&m);
	free(reply.data);
	return 0;
}

static inline void
fresh_nonce(uint8_t nonce[NONCE_LEN])
{
	assert_int_equal(nonce_issue(k->nonces, rig.now.boot_ms, nonce), 0);
}

static inline void
make_as(const struct client *who, enum kms_method method, const char *target,
    const char *body, bool bound)
{
	uint8_t nonce[NONCE_LEN];

	fresh_nonce(nonce);
	message_free(&m);
	message_make(who, &m, nonce, method, target, body, bound);
}

static inline void
make(enum kms_method method, const char *target, const char *body, bool bound)
{
	make_as(&client, method, target, body, bound);
}

/* Hand over the message, whole; answers that need the chain come by pump. */
static inline void
send_it(void)
{
	reply.calls = 0;
	keeper_set_time(k, rig.now);
	assert_int_equal(request_begin(k->requests, ++handle, &m.head), 0);
}

/* The node's word for the answer to the message. */
static inline void
check_signatures(bool bound)
{
	struct envelope_text text = { reply.sender, strlen(reply.sender),
		reply.nonce, strlen(reply.nonce), reply.data, reply.data_len };
	uint8_t signature[SIGNATURE_LEN], digest[SHA256_LEN];
	struct eth_address signer;
	struct buf signed_text;

	buf_init(&signed_text, 1024);
	assert_int_equal(signature_parse(reply.signature,
			     strlen(reply.signature), signature),
	    0);
	assert_int_equal(pop_response_append(m.head.signature.text,
			     m.head.signature.len, &client.node, &signed_text),
	    0);
	assert_int_equal(
	    wallet_recover_message(client.wallets, signed_text.data,
		signed_text.len, signature, &signer),
	    0);
	assert_true(eth_address_equal(&signer, &client.node));
	buf_free(&signed_text);
	if (!bound) {
		assert_string_equal(reply.signature_v2, "");
		assert_string_equal(reply.next_nonce, "");
		return;
	}
	if (reply.status == 200)
		assert_int_equal(envelope_canonical_hash(&text, digest), 0);
	else
		assert_int_equal(
		    pop_error_hash(reply.code, reply.message, digest), 0);
	assert_int_equal(signature_parse(reply.signature_v2,
			     strlen(reply.signature_v2), signature),
	    0);
	assert_int_equal(
	    pop_response_v2_append(m.head.signature.text, m.head.signature.len,
		&client.node, reply.status, digest, &signed_text),
	    0);
	assert_int_equal(
	    wallet_recover_message(client.wallets, signed_text.data,
		signed_text.len, signature, &signer),
	    0);
	assert_true(eth_address_equal(&signer, &client.node));
	buf_free(&signed_text);
}

/* An error that was decided after the caller was authenticated. */
static inline void
signed_error(unsigned int status, const char *part, bool bound)
{
	assert_int_equal(reply.calls, 1);
	assert_int_equal(reply.handle, handle);
	if (reply.status != status || strstr(reply.message, part) == NULL)
		fail_msg("expected %u %s, got %u %s", status, part,
		    reply.status, reply.message);
	assert_string_equal(reply.code, answer_app_code(status));
	assert_false(reply.envelope);
	assert_int_equal(reply.data_len, 0);
	assert_true(
	    (reply.retry_after > 0) == (status == 503 || status == 429));
	check_signatures(bound);
	assert_int_equal(requests_count(k->requests), 0);
}

static inline void
unsigned_error(unsigned int status, const char *part)
{
	assert_int_equal(reply.calls, 1);
	if (reply.status != status || strstr(reply.message, part) == NULL)
		fail_msg("expected %u %s, got %u %s", status, part,
		    reply.status, reply.message);
	assert_string_equal(reply.signature, "");
	assert_string_equal(reply.signature_v2, "");
	assert_string_equal(reply.next_nonce, "");
	assert_false(reply.envelope);
}

/* The plaintext of the answer; json_decref it. */
static inline json_t *
open_reply(bool bound)
{
	struct envelope_text text = { reply.sender, strlen(reply.sender),
		reply.nonce, strlen(reply.nonce), reply.data, reply.data_len };
	uint8_t nonce[AEAD_NONCE_LEN], *sealed;
	struct p384_point sender;
	size_t len;
	json_t *object;

	assert_int_equal(reply.calls, 1);
	assert_int_equal(reply.handle, handle);
	if (reply.status != 200)
		fail_msg("%u %s", reply.status, reply.message);
	assert_true(reply.envelope);
	assert_string_equal(reply.code, "");
	check_signatures(bound);
	sealed = malloc(reply.data_len);
	assert_non_null(sealed);
	assert_int_equal(envelope_decode(&text, &sender, nonce, sealed,
			     reply.data_len, &len),
	    0);
	assert_true(p384_point_equal(&sender, &client.node_point));
	assert_int_equal(
	    envelope_open(client.shared, p384_key_point(client.tee), &sender,
		nonce, sealed, len, sealed),
	    0);
	object = json_loadb((const char *)sealed, len - AEAD_TAG_LEN, 0, NULL);
	free(sealed);
	assert_non_null(object);
	assert_int_equal(requests_count(k->requests), 0);
	return object;
}

static inline json_t *
call(enum kms_method method, const char *target, const char *body, bool bound)
{
	make(method, target, body, bound);
	send_it();
	rig_pump(&rig);
	return open_reply(bound);
}

static inline void
member_is(json_t *object, const char *member, const char *text)
{
	assert_string_equal(
	    json_string_value(json_object_get(object, member)), text);
}

#endif
