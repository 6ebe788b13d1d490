/* POST /sync as the keeper takes it: who is refused, in which order, and what
 * the others are answered. What serves stands in here as fake_*. */
#include "regress/unit/keeper_core.h"

#include "kms-keeper/authz.h"
#include "kms-keeper/request_sync.h"

#define DELTA "{\"type\":\"delta\"}"

static struct {
	bool has_key, ours;
	unsigned int status; /* to answer */
	size_t len;	     /* of the answer */
	unsigned int calls;
	bool hmac_holds;
	char body[64]; /* what came */
} fake;

static const uint8_t sync_key[SYNC_KEY_LEN] = { 9, 8, 7 };
static char mac_text[2 * SHA256_LEN + 1];

static const uint8_t *
fake_key(void *arg)
{
	(void)arg;
	return fake.has_key ? sync_key : NULL;
}

static bool
fake_ours(void *arg, const struct eth_address *wallet)
{
	(void)arg;
	assert_true(eth_address_equal(wallet, &client.wallet));
	return fake.ours;
}

static unsigned int
fake_serve(void *arg, const struct eth_address *wallet, bool hmac_holds,
    const char *body, size_t len, struct buf *answer, const char **message)
{
	uint8_t *space;

	(void)arg;
	assert_true(eth_address_equal(wallet, &client.wallet));
	fake.calls++;
	fake.hmac_holds = hmac_holds;
	(void)snprintf(
	    fake.body, sizeof(fake.body), "%.*s", (int)(len % 64), body);
	*message = "as the fake says";
	if (fake.status != 200)
		return fake.status;
	if (fake.len == 0)
		return buf_append_text(answer, "{\"status\":\"ok\"}") == 0
		    ? 200
		    : 503;
	if (buf_reserve(answer, fake.len, &space) != 0)
		return 503;
	memset(space, ' ', fake.len);
	memcpy(space, "{}", 2);
	buf_commit(answer, fake.len);
	return 200;
}

static int
begin_sync(void **state)
{
	static const struct sync_requests_ops ops = { fake_key, fake_ours,
		fake_serve, NULL };
	struct instance_facts *facts;

	if (begin(state) != 0)
		return -1;
	client.kind = POP_NODE;
	facts = rig_instance(&rig, &client.wallet);
	facts->app_id = facts->app_id_answered = RIG_KMS_APP;
	sync_requests_free(k->syncs);
	k->syncs = sync_requests_new(k, &ops);
	memset(&fake, 0, sizeof(fake));
	fake.has_key = true;
	fake.status = 200;
	gone = 0;
	return k->syncs == NULL;
}

static int
end_sync(void **state)
{
	assert_int_equal(sync_requests_count(k->syncs), 0);
	assert_int_equal(sync_requests_bytes(k->syncs), 0);
	return end(state);
}

static struct sync_head
head_of(const struct message *message)
{
	const struct request_head *h = &message->head;

	return (struct sync_head){ h->target, h->flags, h->signature, h->nonce,
		h->timestamp, h->wallet, h->version, h->content_hash,
		text_of(mac_text) };
}

static void
make_mac(void)
{
	struct envelope_text text = { m.sender, strlen(m.sender),
		m.envelope_nonce, strlen(m.envelope_nonce), m.data,
		strlen(m.data) };
	uint8_t mac[SHA256_LEN];

	assert_int_equal(
	    envelope_canonical_hmac(sync_key, sizeof(sync_key), &text, mac), 0);
	hex_encode(mac, sizeof(mac), mac_text);
}

static void
make_sync(const char *body, bool bound)
{
	make(METHOD_POST, "/sync", body, bound);
	make_mac();
}

static int
send_head(void)
{
	struct sync_head head = head_of(&m);

	reply.calls = 0;
	gone = 0;
	keeper_set_time(k, rig.now);
	return sync_request_begin(k->syncs, ++handle, &head);
}

static int
send_envelope(size_t piece)
{
	struct sync_envelope envelope = { m.head.sender, m.head.envelope_nonce,
		m.head.data_total, { m.head.data.text, piece } };

	return sync_request_envelope(k->syncs, handle, &envelope);
}

static void
send_all(void)
{
	assert_int_equal(send_head(), 0);
	rig_pump(&rig);
	if (reply.calls > 0)
		fail_msg("%u %s", reply.status, reply.message);
	assert_int_equal(gone, 1);
	assert_int_equal(send_envelope(m.head.data.len), 0);
}

static void
ask(const char *body, bool bound)
{
	make_sync(body, bound);
	send_all();
}

/* Refused from the head: the body is not asked for. */
static void
refused_head(unsigned int status, const char *part, bool is_signed, bool bound)
{
	assert_int_equal(send_head(), 0);
	rig_pump(&rig);
	assert_int_equal(gone, 0);
	if (is_signed)
		signed_error(status, part, bound);
	else
		unsigned_error(status, part);
	assert_int_equal(sync_requests_count(k->syncs), 0);
	assert_int_equal(fake.calls, 0);
}

static void
served(void **state)
{
	json_t *o;

	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		ask(DELTA, bound);
		o = open_reply(bound);
		member_is(o, "status", "ok");
		json_decref(o);
		assert_string_equal(fake.body, DELTA);
		assert_true(fake.hmac_holds);
		assert_true(go_most == rig.config.max_sync_body);
		assert_int_equal(reply.next_nonce[0] != '\0', bound);
	}
	assert_int_equal(fake.calls, 2);
	assert_int_equal(metrics[METRIC_KEEPER_AGREEMENTS], 1);
	assert_int_equal(metrics[METRIC_KEEPER_LOOKUPS], 1);
}

/* A call with the nonce that the answer brought. */
static void
next_nonce(void **state)
{
	uint8_t nonce[NONCE_LEN];
	size_t len;

	(void)state;
	ask(DELTA, true);
	json_decref(open_reply(true));
	assert_int_equal(base64_decode(reply.next_nonce,
			     strlen(reply.next_nonce), nonce, NONCE_LEN, &len),
	    0);
	message_free(&m);
	message_make(&client, &m, nonce, METHOD_POST, "/sync", DELTA, true);
	make_mac();
	send_all();
	json_decref(open_reply(true));
}

/* The nonce is spent, whatever the proof turns out to be. */
static void
proofs(void **state)
{
	(void)state;
	make_sync(DELTA, true);
	m.head.flags = AUTH_FLAG_REPEATED;
	refused_head(403, "repeated", false, true);
	m.head.flags = 0;
	m.head.signature = text_of("");
	refused_head(403, "expected X-KMS-Signature, X-KMS-Nonce", false, true);
	make_sync(DELTA, true);
	client.kind = POP_APP;
	make_sync(DELTA, true);
	m.head.wallet = text_of(m.wallet);
	eth_address_format(&client.wallet, m.wallet);
	m.head.wallet = text_of(m.wallet);
	/* Signed as an app: some other wallet comes out, if any. */
	refused_head(403, "X-KMS-", false, true);
	client.kind = POP_NODE;
	refused_head(403, "X-KMS-Nonce: used before", false, true);
	make_sync(DELTA, true);
	send_all();
	json_decref(open_reply(true));
	fake.calls = 0;
	refused_head(403, "X-KMS-Nonce: used before", false, true);
	assert_int_equal(metrics[METRIC_KEEPER_POP_FAILED], 5);
}

static void
strangers(void **state)
{
	struct instance_facts *facts = rig_instance(&rig, &client.wallet);

	(void)state;
	for (int bound = 0; bound < 2; bound++) {
		facts->app_id = facts->app_id_answered = APP;
		make_sync(DELTA, bound);
		refused_head(403, "not one of the KMS app", true, bound);
		/* It is a fine app all the same. */
		client.kind = POP_APP;
		make(METHOD_POST, "/kms/derive", "{\"path\":\"a\"}", bound);
		send_it();
		json_decref(open_reply(bound));
		client.kind = POP_NODE;
		facts->app_id = facts->app_id_answered = RIG_KMS_APP;
		facts->status = INSTANCE_STOPPED;
		run(400000);
		make_sync(DELTA, bound);
		refused_head(403, "not ACTIVE", true, bound);
		facts->status = INSTANCE_ACTIVE;
		run(400000);
		ask(DELTA, bound);
		json_decref(open_reply(bound));
		fake.calls = 0;
		run(400000);
	}
	rig.fail = 1U << REGISTRY_INSTANCE;
	make_sync(DELTA, true);
	refused_head(503, "registry cannot be read", true, true);
	rig.down = true;
	make_sync(DELTA, true);
	refused_head(503, "registry cannot be read", true, true);
}

static void
must_bind(void **state)
{
	(void)state;
	fake.ours = true;
	make_sync(DELTA, false);
	refused_head(403, "X-KMS-Auth: v2", true, false);
	ask(DELTA, true);
	json_decref(open_reply(true));
	/* What such a node sends is not kept: it could not come back. */
	assert_int_equal(counterparts_replay_count(k->counterparts), 0);
	fake.ours = false;
	fake.calls = 0;
	rig.config.require_bound_requests = 1;
	make_sync(DELTA, false);
	refused_head(403, "bound requests only", true, false);
	ask(DELTA, true);
	json_decref(open_reply(true));
	assert_int_equal(counterparts_replay_count(k->counterparts), 2);
}

static void
content(void **state)
{
	struct client other;

	(void)state;
	make_sync(DELTA, true);
	m.data[3] = m.data[3] == '0' ? '1' : '0';
	send_all();
	signed_error(403, "X-KMS-Content-SHA256", true);
	for (int bound = 0; bound < 2; bound++) {
		uint8_t nonce[NONCE_LEN];

		client_init(&other, &rig, 2);
		make_sync(DELTA, bound);
		message_seal(&other, &m, DELTA, strlen(DELTA));
		fresh_nonce(nonce);
		message_sign(&client, &m, nonce, "POST", bound);
		send_all();
		signed_error(403, "sender_tee_pubkey", bound);
		client_free(&other);
		make_sync(DELTA, bound);
		m.data[0] = 'x';
		fresh_nonce(nonce);
		message_sign(&client, &m, nonce, "POST", bound);
		send_all();
		signed_error(400, "not well formed", bound);
		make_sync(DELTA, bound);
		m.data[0] = m.data[0] == '0' ? '1' : '0';
		fresh_nonce(nonce);
		message_sign(&client, &m, nonce, "POST", bound);
		send_all();
		signed_error(400, "does not decrypt", bound);
		make_sync(DELTA, bound);
		m.head.data_total = m.head.data.len = 0;
		fresh_nonce(nonce);
		message_sign(&client, &m, nonce, "POST", bound);
		send_all();
		signed_error(400, "not well formed", bound);
	}
	assert_int_equal(fake.calls, 0);
}

/* Whether it is needed the message decides: it comes to whoever serves. */
static void
hmac(void **state)
{
	static const char zeros[] = "00000000000000000000000000000000"
				    "00000000000000000000000000000000";
	static const char *const wrong[] = { "", "00", zeros, "x" };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		make_sync(DELTA, true);
		(void)snprintf(mac_text, sizeof(mac_text), "%s", wrong[i]);
		send_all();
		json_decref(open_reply(true));
		assert_false(fake.hmac_holds);
	}
	make_sync(DELTA, true);
	mac_text[63] = mac_text[63] == '0' ? '1' : '0';
	send_all();
	json_decref(open_reply(true));
	assert_false(fake.hmac_holds);
	/* Of another envelope. */
	make_sync(DELTA, true);
	make(METHOD_POST, "/sync", DELTA, true);
	send_all();
	json_decref(open_reply(true));
	assert_false(fake.hmac_holds);
	ask(DELTA, true);
	json_decref(open_reply(true));
	assert_true(fake.hmac_holds);
	fake.status = 403;
	ask(DELTA, true);
	signed_error(403, "as the fake says", true);
	fake.status = 503;
	ask(DELTA, false);
	signed_error(503, "as the fake says", false);
}

/* Then only the little that hands the secret over is read. */
static void
without_a_key(void **state)
{
	char *large = malloc(SYNC_KEYLESS_BODY_MAX);

	(void)state;
	fake.has_key = false;
	ask(DELTA, true);
	assert_true(go_most == SYNC_KEYLESS_BODY_MAX);
	json_decref(open_reply(true));
	assert_false(fake.hmac_holds);
	assert_non_null(large);
	memset(large, ' ', SYNC_KEYLESS_BODY_MAX);
	large[SYNC_KEYLESS_BODY_MAX / 2] = '\0';
	ask(large, true);
	signed_error(503, "no large requests", true);
	large[SYNC_KEYLESS_BODY_MAX / 2 - AEAD_TAG_LEN] = '\0';
	ask(large, true);
	json_decref(open_reply(true));
	free(large);
}

static void
resign(bool bound)
{
	uint8_t nonce[NONCE_LEN];

	fresh_nonce(nonce);
	message_sign(&client, &m, nonce, "POST", bound);
}

static void
replays(void **state)
{
	(void)state;
	ask(DELTA, false);
	json_decref(open_reply(false));
	/* Its answer, reflected. */
	free(m.data);
	m.data = strdup(reply.data);
	memcpy(m.envelope_nonce, reply.nonce, strlen(reply.nonce) + 1);
	m.head.data = text_of(m.data);
	m.head.data_total = m.head.data.len;
	resign(false);
	send_all();
	signed_error(403, "used before", false);
	/* An old one, as long as a record may come back. */
	ask(DELTA, false);
	json_decref(open_reply(false));
	for (int i = 0; i < 23; i++) {
		rig_pass(&rig, 3600000);
		run(1000);
		resign(false);
		send_all();
		signed_error(403, "used before", false);
	}
	assert_int_equal(metrics[METRIC_KEEPER_REPLAYS], 24);
	rig_pass(&rig, 2 * 3600000);
	run(1000);
	resign(false);
	send_all();
	json_decref(open_reply(false));
	/* A bound one may come again: its proof covers it. */
	resign(true);
	send_all();
	json_decref(open_reply(true));
}

static void
pieces(void **state)
{
	size_t len = 400000, at;
	char *body = malloc(len + 1);

	(void)state;
	assert_non_null(body);
	memset(body, ' ', len);
	memcpy(body, "{}", 2);
	body[len] = '\0';
	for (int bound = 0; bound < 2; bound++) {
		make_sync(body, bound);
		assert_int_equal(send_head(), 0);
		rig_pump(&rig);
		credited = 0;
		assert_int_equal(send_envelope(MSG_CHUNK_MAX), 0);
		for (at = MSG_CHUNK_MAX; at < m.head.data_total;) {
			size_t piece = m.head.data_total - at;

			if (piece > MSG_CHUNK_MAX)
				piece = MSG_CHUNK_MAX;
			assert_true(at <= credited + MSG_WINDOW);
			assert_int_equal(reply.calls, 0);
			assert_int_equal(sync_request_body(k->syncs, handle,
					     m.data + at, piece),
			    1);
			at += piece;
		}
		json_decref(open_reply(bound));
		assert_true(fake.hmac_holds);
	}
	free(body);
	/* A long answer. */
	fake.len = 3000000;
	ask(DELTA, true);
	json_decref(open_reply(true));
	/* One that no asker would take. */
	rig.config.max_sync_body = 65536;
	fake.len = 32769;
	ask(DELTA, true);
	signed_error(503, "as the fake says", true);
	fake.len = 32768;
	ask(DELTA, true);
	json_decref(open_reply(true));
}

static void
too_much(void **state)
{
	struct sync_head head;
	uint64_t first;

	(void)state;
	make_sync(DELTA, true);
	m.head.data_total = (50 << 20) + 1;
	assert_int_equal(send_head(), 0);
	rig_pump(&rig);
	assert_int_equal(send_envelope(1), 0);
	signed_error(413, "max-sync-body", true);
	/* What comes of it now is nobody's. */
	assert_int_equal(sync_request_body(k->syncs, handle, "00", 2), 0);
	/* Two bodies of that size are kept, not three. */
	first = handle + 1;
	for (int i = 0; i < 3; i++) {
		make_sync(DELTA, true);
		m.head.data_total = 50 << 20;
		assert_int_equal(send_head(), 0);
		rig_pump(&rig);
		assert_int_equal(send_envelope(1), 0);
		assert_int_equal(reply.calls, i == 2);
	}
	signed_error(503, "too many bodies", true);
	assert_true(sync_requests_bytes(k->syncs) == 100 << 20);
	/* Of one node, four are under way. */
	for (int i = 0; i < 3; i++) {
		make_sync(DELTA, true);
		assert_int_equal(send_head(), 0);
	}
	unsigned_error(503, "too many requests of this node");
	assert_int_equal(sync_requests_count(k->syncs), 4);
	for (uint64_t h = first; h < first + 6; h++)
		sync_request_cancel(k->syncs, h);
	assert_int_equal(sync_requests_count(k->syncs), 0);
	head = head_of(&m);
	reply.calls = 0;
	assert_int_equal(sync_request_begin(k->syncs, first + 20, &head), 0);
	unsigned_error(403, "used before");
}

/* Wallets that nobody knows cannot take the peers' places. */
static void
room(void **state)
{
	struct client who[SYNC_REQUESTS_MAX];
	struct eth_address wallet = client.wallet;
	unsigned int i;

	(void)state;
	ask(DELTA, true);
	json_decref(open_reply(true));
	rig.stall = 1U << REGISTRY_INSTANCE;
	for (i = 0; i <= SYNC_REQUESTS_STRANGERS_MAX; i++) {
		client_init(&who[i], &rig, (uint8_t)(10 + i));
		who[i].kind = POP_NODE;
		make_as(&who[i], METHOD_POST, "/sync", DELTA, true);
		assert_int_equal(send_head(), 0);
		assert_int_equal(reply.calls, i == SYNC_REQUESTS_STRANGERS_MAX);
		client_free(&who[i]);
	}
	unsigned_error(503, "unknown nodes");
	assert_true(eth_address_equal(&wallet, &client.wallet));
	ask(DELTA, true);
	assert_int_equal(reply.calls, 1);
	assert_int_equal(reply.status, 200);
	rig.stall = 0;
	rig_pump(&rig);
	assert_int_equal(reply.status, 403);
	assert_int_equal(sync_requests_count(k->syncs), 0);
}

static void
protocol(void **state)
{
	struct sync_head head;

	(void)state;
	/* Before it was asked for. */
	rig.stall = 1U << REGISTRY_INSTANCE;
	make_sync(DELTA, true);
	assert_int_equal(send_head(), 0);
	assert_int_equal(send_envelope(1), KMS_EPROTO);
	assert_int_equal(
	    sync_request_body(k->syncs, handle, "0", 1), KMS_EPROTO);
	head = head_of(&m);
	assert_int_equal(
	    sync_request_begin(k->syncs, handle, &head), KMS_EPROTO);
	rig.stall = 0;
	rig_pump(&rig);
	assert_int_equal(gone, 1);
	assert_int_equal(
	    sync_request_body(k->syncs, handle, "0", 1), KMS_EPROTO);
	/* More than was announced, twice, more again. */
	assert_int_equal(send_envelope(m.head.data.len + 1), KMS_EPROTO);
	assert_int_equal(send_envelope(3), 0);
	assert_int_equal(send_envelope(3), KMS_EPROTO);
	assert_int_equal(
	    sync_request_body(k->syncs, handle, m.data, m.head.data.len - 2),
	    KMS_EPROTO);
	assert_int_equal(sync_request_body(
			     k->syncs, handle, m.data + 3, m.head.data.len - 3),
	    1);
	json_decref(open_reply(true));
	/* Numbers that are gone, or never were. */
	assert_int_equal(send_envelope(3), 0);
	assert_int_equal(sync_request_body(k->syncs, handle, "0", 1), 0);
	sync_request_cancel(k->syncs, handle + 7);
}

static void
cancels(void **state)
{
	(void)state;
	for (int stage = 0; stage < 4; stage++) {
		for (int all = 0; all < 2; all++) {
			/* Without a verdict, the look-up must go first. */
			rig.stall = 1U << REGISTRY_INSTANCE;
			run(400000);
			make_sync(DELTA, true);
			assert_int_equal(send_head(), 0);
			assert_int_equal(sync_requests_count(k->syncs), 1);
			if (stage > 0) {
				rig.stall = 0;
				rig_pump(&rig);
				assert_int_equal(gone, 1);
			}
			if (stage > 1)
				assert_int_equal(send_envelope(3), 0);
			if (stage > 2) {
				/* ... all is here, the verdict is stale */
				rig.stall = 1U << REGISTRY_INSTANCE;
				run(400000);
				assert_int_equal(
				    sync_request_body(k->syncs, handle,
					m.data + 3, m.head.data.len - 3),
				    1);
			}
			if (all)
				sync_requests_cancel_all(k->syncs);
			else
				sync_request_cancel(k->syncs, handle);
			assert_int_equal(sync_requests_count(k->syncs), 0);
			assert_int_equal(sync_requests_bytes(k->syncs), 0);
			rig.stall = 0;
			rig_pump(&rig);
			assert_int_equal(reply.calls, 0);
		}
	}
	assert_int_equal(fake.calls, 0);
}

/* An identity that takes its time to open, as a platform's service does. */
static struct {
	identity_done_fn done;
	void *arg;
	unsigned int calls;
} opening;

static void
hold_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	(void)identity;
	(void)agreement;
	(void)other;
	(void)nonce;
	(void)sealed;
	(void)len;
	opening.calls++;
	opening.done = done;
	opening.arg = arg;
}

/* What is cancelled while it is opened leaves its handle at once, and comes to
 * nothing; what is left of it in the end goes with the rest. */
static void
cancelled_while_opening(void **state)
{
	const struct identity_ops *ops = k->identity->ops;
	struct identity_ops slow = *ops;
	identity_done_fn done;
	void *arg;

	(void)state;
	memset(&opening, 0, sizeof(opening));
	slow.open = hold_open;
	k->identity->ops = &slow;
	ask(DELTA, true);
	assert_int_equal(opening.calls, 1);
	sync_request_cancel(k->syncs, handle);
	assert_int_equal(sync_requests_count(k->syncs), 1);
	done = opening.done;
	arg = opening.arg;
	handle--;
	ask(DELTA, true);
	assert_int_equal(opening.calls, 2);
	assert_int_equal(sync_requests_count(k->syncs), 2);
	done(arg, 0, (const uint8_t *)"{}", 2);
	assert_int_equal(sync_requests_count(k->syncs), 1);
	assert_int_equal(fake.calls, 0);
	opening.done(opening.arg, KMS_EUNAVAIL, NULL, 0);
	signed_error(503, "cannot be opened", true);
	/* A verdict that turned meanwhile. */
	ask(DELTA, true);
	rig_instance(&rig, &client.wallet)->zk_verified = false;
	run(400000);
	make_sync(DELTA, true);
	assert_int_equal(send_head(), 0);
	rig_pump(&rig);
	handle--;
	opening.done(opening.arg, 0, (const uint8_t *)"{}", 2);
	assert_int_equal(reply.status, 403);
	assert_int_equal(fake.calls, 0);
	k->identity->ops = ops;
}

/* The verdict may turn while the body comes. */
static void
revoked_meanwhile(void **state)
{
	(void)state;
	make_sync(DELTA, true);
	assert_int_equal(send_head(), 0);
	rig_pump(&rig);
	assert_int_equal(send_envelope(3), 0);
	rig_instance(&rig, &client.wallet)->version_status = VERSION_REVOKED;
	run(400000);
	assert_int_equal(sync_request_body(
			     k->syncs, handle, m.data + 3, m.head.data.len - 3),
	    1);
	assert_int_equal(reply.calls, 0);
	rig_pump(&rig);
	signed_error(403, "neither ENROLLED nor DEPRECATED", true);
	assert_int_equal(fake.calls, 0);
}

/* Whatever kms-net says: no crash, no leak, never a request served that was
 * not proved. */
static void
mutations(void **state)
{
	(void)state;
	for (int i = 0; i < 2000; i++) {
		uint8_t dice[5];
		bool bound;
		char *in[7], *at;
		size_t len;

		rig_pass(&rig, 500);
		rig_random(&rig, dice, sizeof(dice));
		bound = dice[3] & 1;
		make_sync(DELTA, bound);
		in[0] = m.data;
		in[1] = m.sender;
		in[2] = m.envelope_nonce;
		in[3] = m.signature;
		in[4] = m.nonce;
		in[5] = m.timestamp;
		in[6] = m.content_hash;
		len = strlen(in[dice[0] % 7]);
		at = len > 0 ? in[dice[0] % 7] + dice[1] % len : in[0];
		*at ^= (char)(1 << dice[2] % 7);
		/* Half of the time the proof is of the changed envelope. */
		if (dice[0] % 7 < 3 && dice[4] & 1 && *at >= '0' &&
		    *at <= 'z' && *at != '\\')
			resign(bound);
		assert_int_equal(send_head(), 0);
		rig_pump(&rig);
		if (gone > 0)
			assert_int_equal(send_envelope(m.head.data.len), 0);
		assert_int_equal(reply.calls, 1);
		assert_int_equal(sync_requests_count(k->syncs), 0);
		if (reply.status == 200)
			assert_string_equal(fake.body, DELTA);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_sync, end_sync)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(served),
		TEST(next_nonce),
		TEST(proofs),
		TEST(strangers),
		TEST(must_bind),
		TEST(content),
		TEST(hmac),
		TEST(without_a_key),
		TEST(replays),
		TEST(pieces),
		TEST(too_much),
		TEST(room),
		TEST(protocol),
		TEST(cancels),
		TEST(cancelled_while_opening),
		TEST(revoked_meanwhile),
		TEST(mutations),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
