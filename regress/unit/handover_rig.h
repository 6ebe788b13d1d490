/*
 * What the tests of the hand-over share: a node with its identity, its peers
 * with their keys, and a transport that keeps every call for the test.
 */
#ifndef KMS_REGRESS_HANDOVER_RIG_H
#define KMS_REGRESS_HANDOVER_RIG_H

#include "regress/unit/keeper_rig.h"

#include "kms-keeper/handover.h"
#include "kms-keeper/seal.h"
#include "regress/unit/vector.h"

#define PEERS_MAX 24
#define CALLS_MAX 4096
#define WALLET_KEY                                                             \
	"4646464646464646464646464646464646464646464646464646464646464646"

/* One call as it was handed to the transport. */
struct sent {
	struct eth_address wallet;
	char body[HANDOVER_BODY_MAX + 1];
	peer_outcome_fn done;
	void *arg;
	bool open, cancelled;
};

static struct rig rig; /* its clock and its randomness */
static struct identity *identity;
static struct handover *h;
static struct sent sent[CALLS_MAX];
static size_t sent_count;
static int ask_error;
static struct eth_address deployed;
static struct p384_key *peer_keys[PEERS_MAX];
static struct handover_peer peers[PEERS_MAX];
static const uint8_t *next_scalar, *next_nonce; /* what is drawn, once */

static inline void
draw(void *arg, uint8_t *out, size_t len)
{
	const uint8_t **scripted = NULL;

	if (len == P384_SCALAR_LEN)
		scripted = &next_scalar;
	else if (len == AEAD_NONCE_LEN)
		scripted = &next_nonce;
	if (scripted == NULL || *scripted == NULL) {
		rig_random(arg, out, len);
		return;
	}
	memcpy(out, *scripted, len);
	*scripted = NULL;
}

static inline int
ask(void *arg, const struct handover_peer *peer, const void *body, size_t len,
    peer_outcome_fn done, void *done_arg, uint64_t *id)
{
	struct sent *call = &sent[sent_count];

	assert_ptr_equal(arg, &rig);
	if (ask_error != 0)
		return ask_error;
	assert_true(sent_count < CALLS_MAX && len <= HANDOVER_BODY_MAX);
	call->wallet = peer->wallet;
	memcpy(call->body, body, len);
	call->body[len] = '\0';
	call->done = done;
	call->arg = done_arg;
	call->open = true;
	call->cancelled = false;
	*id = ++sent_count;
	return 0;
}

static inline void
cancel(void *arg, uint64_t id)
{
	(void)arg;
	assert_in_range(id, 1, sent_count);
	assert_true(sent[id - 1].open);
	sent[id - 1].open = false;
	sent[id - 1].cancelled = true;
}

static inline bool
is_deployed(void *arg, const struct eth_address *wallet)
{
	(void)arg;
	return eth_address_equal(wallet, &deployed);
}

/* What was sent as number n (from 0) is over. */
static inline void
finish(size_t n, int error, unsigned int status, const char *body)
{
	struct peer_outcome outcome = { .error = error,
		.status = status,
		.body = body,
		.len = body != NULL ? strlen(body) : 0,
		.text = error != 0 ? "it says no" : "" };

	assert_true(n < sent_count && sent[n].open);
	sent[n].open = false;
	sent[n].done(sent[n].arg, n + 1, &outcome);
}

static inline size_t
peer_of(size_t n)
{
	for (size_t i = 0; i < PEERS_MAX; i++) {
		if (eth_address_equal(&sent[n].wallet, &peers[i].wallet))
			return i;
	}
	fail();
	return 0;
}

/* Calls that are under way. */
static inline size_t
under_way(void)
{
	size_t count = 0;

	for (size_t i = 0; i < sent_count; i++)
		count += sent[i].open;
	return count;
}

static inline void
pass(int64_t ms)
{
	for (int64_t t = 0; t < ms; t += 100) {
		rig_pass(&rig, 100);
		handover_tick(h, rig.now);
	}
}

/* The node's identity, with a P-384 key of this scalar. */
static inline void
make_identity(const char *scalar)
{
	char text[512];
	int ends[2],
	    len = snprintf(text, sizeof(text),
		"{\"wallet_private_key\":\"%s\","
		"\"tee_private_key\":\"%s\"}",
		WALLET_KEY, scalar);

	identity_free(identity);
	identity = NULL;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], text, (size_t)len), len);
	(void)close(ends[1]);
	assert_int_equal(
	    identity_local_new(ends[0], rig_random, &rig, &identity), 0);
	(void)close(ends[0]);
}

static inline void
make_handover(void)
{
	struct handover_ops ops = { ask, cancel, is_deployed, &rig };

	handover_free(h);
	h = handover_new(&ops, identity, draw, &rig);
	assert_non_null(h);
	handover_set_time(h, rig.now);
}

static inline int
begin(void **state)
{
	static char urls[PEERS_MAX][32];
	char scalar[2 * P384_SCALAR_LEN + 1];

	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.now = (struct kms_time){ RIG_WALL, RIG_BOOT };
	rig.random = 0x1234567;
	sent_count = 0;
	ask_error = 0;
	memset(&deployed, 0, sizeof(deployed));
	next_scalar = next_nonce = NULL;
	memset(scalar, '1', sizeof(scalar) - 1);
	scalar[sizeof(scalar) - 1] = '\0';
	make_identity(scalar);
	make_handover();
	for (size_t i = 0; i < PEERS_MAX; i++) {
		uint8_t bytes[P384_SCALAR_LEN] = { 7 };

		bytes[P384_SCALAR_LEN - 1] = (uint8_t)i;
		assert_int_equal(p384_key_new(bytes, &peer_keys[i]), 0);
		memset(
		    &peers[i].wallet, 0x20 + (int)i, sizeof(peers[i].wallet));
		peers[i].point = *p384_key_point(peer_keys[i]);
		(void)snprintf(urls[i], sizeof(urls[i]), "http://peer%zu", i);
		peers[i].url = urls[i];
	}
	return 0;
}

static inline int
end(void **state)
{
	(void)state;
	handover_free(h);
	h = NULL;
	identity_free(identity);
	identity = NULL;
	for (size_t i = 0; i < PEERS_MAX; i++)
		p384_key_free(peer_keys[i]);
	return 0;
}

/* ---- messages, written by hand ---- */

static inline void
secret_of(
    uint8_t which, uint8_t secret[MASTER_SECRET_LEN], struct eth_word *hash)
{
	memset(secret, which, MASTER_SECRET_LEN);
	master_secret_hash(secret, hash->bytes);
}

static inline struct eth_word
hash_of(uint8_t which)
{
	uint8_t secret[MASTER_SECRET_LEN];
	struct eth_word hash;

	secret_of(which, secret, &hash);
	return hash;
}

static inline void
print_sealed(char *out, size_t size, const char *head,
    const struct sealed_secret *sealed)
{
	uint8_t spki[P384_SPKI_LEN];
	char key[2 * P384_SPKI_LEN + 1], nonce[25], data[97];

	p384_public_spki(&sealed->ephemeral, spki);
	hex_encode(spki, sizeof(spki), key);
	hex_encode(sealed->nonce, 12, nonce);
	hex_encode(sealed->data, 48, data);
	(void)snprintf(out, size,
	    "{%s,\"sealed\":{\"ephemeral_pubkey\":\"%s\",\"nonce\":\"%s\","
	    "\"encrypted_data\":\"%s\"}}",
	    head, key, nonce, data);
}

static inline void
seal_to(
    const struct p384_point *point, uint8_t which, struct sealed_secret *sealed)
{
	uint8_t secret[MASTER_SECRET_LEN], scalar[P384_SCALAR_LEN];
	uint8_t nonce[AEAD_NONCE_LEN];
	struct p384_key *key;
	struct eth_word hash;

	secret_of(which, secret, &hash);
	rig_random(&rig, scalar, sizeof(scalar));
	scalar[0] &= 0x7f;
	rig_random(&rig, nonce, sizeof(nonce));
	assert_int_equal(p384_key_new(scalar, &key), 0);
	assert_int_equal(
	    sealed_secret_seal(secret, key, point, nonce, sealed), 0);
	p384_key_free(key);
}

static inline void
print_offer(char *out, size_t size, uint8_t hash, uint8_t secret)
{
	struct eth_word word = hash_of(hash);
	struct sealed_secret sealed;
	char head[160], digits[65];

	hex_encode(word.bytes, 32, digits);
	(void)snprintf(head, sizeof(head),
	    "\"type\":\"secret_offer\",\"hash\":\"%s\"", digits);
	seal_to(&identity->point, secret, &sealed);
	print_sealed(out, size, head, &sealed);
}

/* The key that call n wants its answer sealed to. */
static inline struct p384_point
asked_key(size_t n)
{
	json_t *body = json_loads(sent[n].body, JSON_REJECT_DUPLICATES, NULL);
	char own[ETH_ADDRESS_TEXT_LEN + 1];
	struct p384_point point;
	const char *text;
	size_t len;

	assert_non_null(body);
	assert_int_equal(json_object_size(body), 3);
	assert_string_equal(
	    vector_text(body, "type", &len), "master_secret_request");
	eth_address_format(&identity->wallet, own);
	assert_string_equal(vector_text(body, "sender_wallet", &len), own);
	text = vector_text(body, "ecdh_pubkey", &len);
	assert_int_equal(len, 2 * P384_SPKI_LEN);
	assert_int_equal(p384_public_parse_hex(text, len, &point), 0);
	json_decref(body);
	return point;
}

/* Peer n hands over this secret. */
static inline void
hand_over(size_t n, uint8_t which)
{
	struct p384_point point = asked_key(n);
	struct sealed_secret sealed;
	char text[HANDOVER_BODY_MAX];

	seal_to(&point, which, &sealed);
	print_sealed(text, sizeof(text), "\"status\":\"ok\"", &sealed);
	finish(n, 0, 200, text);
}

static inline unsigned int
serve(const struct eth_address *wallet, const uint8_t *secret, const char *text,
    struct buf *answer)
{
	struct sync_message message;
	const char *why = NULL;
	size_t before = answer->len;
	unsigned int status;

	if (sync_message_read(text, strlen(text), &message) != 0)
		return 400;
	status = handover_serve(h, wallet, &message, secret, answer, &why);
	if (status != 200) {
		assert_int_equal(answer->len, before);
		assert_non_null(why);
	}
	return status;
}

static inline unsigned int
serve_quietly(
    const struct eth_address *wallet, const uint8_t *secret, const char *text)
{
	struct buf answer;
	unsigned int status;

	buf_init(&answer, HANDOVER_BODY_MAX);
	status = serve(wallet, secret, text, &answer);
	buf_free(&answer);
	return status;
}

static inline unsigned int
take_offer(size_t peer, uint8_t hash, uint8_t secret)
{
	char text[HANDOVER_BODY_MAX];

	print_offer(text, sizeof(text), hash, secret);
	return serve_quietly(&peers[peer].wallet, NULL, text);
}

static inline bool
found(uint8_t which)
{
	uint8_t secret[MASTER_SECRET_LEN];
	const uint8_t *got;
	const char *url = NULL;
	struct eth_word hash;

	secret_of(which, secret, &hash);
	got = handover_found(h, &hash, &url);
	if (got == NULL)
		return false;
	assert_memory_equal(got, secret, sizeof(secret));
	assert_non_null(url);
	return true;
}

static inline void
seek(uint8_t which)
{
	struct eth_word hash = hash_of(which);

	handover_seek(h, &hash);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

#endif
