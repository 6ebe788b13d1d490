#include "kms-keeper/handover_internal.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/secmem.h"

#define KEY_TRIES 8

/* ---- peers ---- */

struct known_peer *
handover_peer_find(struct handover *h, const struct eth_address *wallet)
{
	for (size_t i = 0; i < h->peer_count; i++) {
		if (eth_address_equal(&h->peers[i].peer.wallet, wallet))
			return &h->peers[i];
	}
	return NULL;
}

void
handover_attempt_failed(const struct handover *h, struct attempts *attempts)
{
	int64_t delay = HANDOVER_RETRY_MS;

	for (unsigned int i = 0;
	     i < attempts->failures && delay < HANDOVER_RETRY_MAX_MS; i++)
		delay *= 2;
	if (delay > HANDOVER_RETRY_MAX_MS)
		delay = HANDOVER_RETRY_MAX_MS;
	attempts->failures++;
	attempts->next_ms = h->now.boot_ms + delay;
}

static void
cancel_strangers(struct handover *h, struct call *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (calls[i].used &&
		    handover_peer_find(h, &calls[i].wallet) == NULL)
			handover_call_end(&calls[i]);
	}
}

/* What was known of a peer. The order hardly ever changes: look there first. */
static void
carry_over(const struct known_peer *old, size_t old_count, size_t at,
    struct known_peer *peer)
{
	for (size_t i = 0; i < old_count; i++) {
		const struct known_peer *was = &old[(at + i) % old_count];

		if (eth_address_equal(&was->peer.wallet, &peer->peer.wallet)) {
			struct handover_peer is = peer->peer;

			*peer = *was;
			peer->peer = is;
			return;
		}
	}
}

int
handover_set_peers(
    struct handover *h, const struct handover_peer *peers, size_t count)
{
	struct known_peer *old = h->peers;
	size_t old_count = h->peer_count;
	int error = 0;

	h->peers = calloc(count + 1, sizeof(*h->peers));
	if (h->peers == NULL) {
		count = 0;
		error = KMS_ENOMEM;
	}
	h->peer_count = count;
	for (size_t i = 0; i < count; i++) {
		h->peers[i].peer = peers[i];
		carry_over(old, old_count, i, &h->peers[i]);
	}
	free(old);
	cancel_strangers(h, h->asks, HANDOVER_ASKS_MAX);
	cancel_strangers(h, h->offering, HANDOVER_OFFERING_MAX);
	for (size_t i = 0; i < h->offer_count; i++)
		h->offers[i].member =
		    handover_peer_find(h, &h->offers[i].wallet) != NULL;
	return error;
}

void
handover_retry(struct handover *h)
{
	for (size_t i = 0; i < h->peer_count; i++) {
		memset(&h->peers[i].asked, 0, sizeof(h->peers[i].asked));
		memset(&h->peers[i].offered, 0, sizeof(h->peers[i].offered));
	}
}

/* ---- calls ---- */

struct p384_key *
handover_fresh_key(struct handover *h)
{
	uint8_t scalar[P384_SCALAR_LEN];
	struct p384_key *key = NULL;
	int error = KMS_EINVAL;

	for (int i = 0; i < KEY_TRIES && error == KMS_EINVAL; i++) {
		h->random(h->random_arg, scalar, sizeof(scalar));
		error = p384_key_new(scalar, &key);
	}
	OPENSSL_cleanse(scalar, sizeof(scalar));
	return error == 0 ? key : NULL;
}

int
handover_call(struct handover *h, struct call *call,
    const struct handover_peer *peer, const struct buf *body,
    peer_outcome_fn done)
{
	int error;

	call->owner = h;
	call->wallet = peer->wallet;
	call->deadline_ms = h->now.boot_ms + HANDOVER_TIMEOUT_MS;
	error = h->ops.ask(
	    h->ops.arg, peer, body->data, body->len, done, call, &call->id);
	call->used = error == 0;
	if (error != 0) {
		p384_key_free(call->key);
		call->key = NULL;
	}
	return error;
}

void
handover_call_end(struct call *call)
{
	if (call->used)
		call->owner->ops.cancel(call->owner->ops.arg, call->id);
	call->used = false;
	p384_key_free(call->key);
	call->key = NULL;
}

bool
handover_is_secret(const uint8_t *secret, const struct eth_word *hash)
{
	struct eth_word own;

	master_secret_hash(secret, own.bytes);
	return memcmp(own.bytes, hash->bytes, ETH_WORD_LEN) == 0;
}

/* ---- asking ---- */

void
handover_stop_asking(struct handover *h)
{
	for (size_t i = 0; i < HANDOVER_ASKS_MAX; i++)
		handover_call_end(&h->asks[i]);
	for (size_t i = 0; i < h->peer_count; i++)
		h->peers[i].asking = false;
}

/* Remember it for people once nobody is left who was not asked. */
static void
note_problem(
    struct handover *h, const struct known_peer *peer, const char *text)
{
	for (size_t i = 0; i < h->peer_count; i++) {
		if (h->peers[i].asked.failures == 0)
			return;
	}
	(void)snprintf(
	    h->problem, sizeof(h->problem), "%s: %s", peer->peer.url, text);
}

/* A failed attempt, not a verdict: a third party could have caused it. */
static void
ask_failed(
    struct handover *h, const struct eth_address *wallet, const char *text)
{
	struct known_peer *peer = handover_peer_find(h, wallet);
	char who[ETH_ADDRESS_TEXT_LEN + 1];

	eth_address_format(wallet, who);
	/* Once for people; what came of it last is in the reason. */
	if (peer == NULL || peer->asked.failures > 0)
		log_debug(
		    "asking node %s for the master secret: %s", who, text);
	else
		log_warn("asking node %s for the master secret: %s", who, text);
	if (peer == NULL)
		return;
	peer->asking = false;
	handover_attempt_failed(h, &peer->asked);
	note_problem(h, peer, text);
}

static void
take_answer(struct handover *h, const struct eth_address *wallet,
    const struct p384_key *key, const struct peer_outcome *outcome)
{
	struct sealed_secret sealed;

	if (handover_read_answer(outcome->body, outcome->len, &sealed) != 0 ||
	    sealed_secret_open(key, &sealed, h->secret) != 0) {
		OPENSSL_cleanse(h->secret, MASTER_SECRET_LEN);
		ask_failed(h, wallet,
		    "its answer is no secret sealed to the key of the request");
		return;
	}
	if (!handover_is_secret(h->secret, &h->hash)) {
		OPENSSL_cleanse(h->secret, MASTER_SECRET_LEN);
		h->seek = SEEK_DOUBT;
		ask_failed(h, wallet,
		    "its secret is not the one behind masterSecretHash");
		return;
	}
	h->seek = SEEK_FOUND;
	h->found_with = *wallet;
	handover_stop_asking(h);
}

static void
on_asked(void *arg, uint64_t id, const struct peer_outcome *outcome)
{
	struct call *call = arg;
	struct handover *h = call->owner;
	struct p384_key *key = call->key;

	(void)id;
	call->used = false;
	call->key = NULL;
	if (outcome->error != 0)
		ask_failed(h, &call->wallet, outcome->text);
	else
		take_answer(h, &call->wallet, key, outcome);
	p384_key_free(key);
}

/* One of those that failed least, at random: every one has its turn, and not
 * all nodes ask the same one first. */
static struct known_peer *
choose_peer(struct handover *h)
{
	unsigned int least = UINT_MAX;
	size_t count = 0;
	uint64_t random;

	for (size_t i = 0; i < h->peer_count; i++) {
		struct known_peer *peer = &h->peers[i];

		if (peer->asking || peer->asked.next_ms > h->now.boot_ms)
			continue;
		if (peer->asked.failures < least) {
			least = peer->asked.failures;
			count = 0;
		}
		count += peer->asked.failures == least;
	}
	if (count == 0)
		return NULL;
	h->random(h->random_arg, (uint8_t *)&random, sizeof(random));
	random %= count;
	for (size_t i = 0;; i++) {
		struct known_peer *peer = &h->peers[i];

		if (!peer->asking && peer->asked.next_ms <= h->now.boot_ms &&
		    peer->asked.failures == least && random-- == 0)
			return peer;
	}
}

static void
ask_peer(struct handover *h, struct call *call, struct known_peer *peer)
{
	struct buf body;
	int error = KMS_ECRYPTO;

	buf_init(&body, HANDOVER_BODY_MAX);
	call->key = handover_fresh_key(h);
	if (call->key != NULL)
		error = handover_write_request(
		    &body, &h->identity->wallet, p384_key_point(call->key));
	if (error == 0)
		error = handover_call(h, call, &peer->peer, &body, on_asked);
	else
		handover_call_end(call);
	buf_free(&body);
	h->asked_ms = h->now.boot_ms;
	if (error == 0)
		peer->asking = true;
	else if (error == KMS_EUNAVAIL) /* kms-chain's, not the peer's fault */
		peer->asked.next_ms = h->now.boot_ms + HANDOVER_RETRY_MS;
	else
		ask_failed(h, &peer->peer.wallet, kms_strerror(error));
}

/* The next peer, when none is being asked or those are slow. */
static void
ask_next(struct handover *h)
{
	struct call *slot = NULL;
	struct known_peer *peer;
	size_t asking = 0;

	if (h->ops.ask == NULL)
		return;
	for (size_t i = 0; i < HANDOVER_ASKS_MAX; i++) {
		if (h->asks[i].used)
			asking++;
		else
			slot = &h->asks[i];
	}
	if (slot == NULL ||
	    (asking > 0 && h->now.boot_ms - h->asked_ms < HANDOVER_PATIENCE_MS))
		return;
	peer = choose_peer(h);
	if (peer != NULL)
		ask_peer(h, slot, peer);
}

static void
go_on(struct handover *h)
{
	while (h->seek == SEEK_ON && handover_open_offer(h))
		;
	if (h->seek == SEEK_ON && !h->opening)
		ask_next(h);
}

void
handover_seek(struct handover *h, const struct eth_word *hash)
{
	if (h->seek != SEEK_NONE &&
	    memcmp(h->hash.bytes, hash->bytes, ETH_WORD_LEN) != 0)
		handover_seek_stop(h);
	if (h->seek == SEEK_NONE) {
		h->hash = *hash;
		h->search++;
		h->problem[0] = '\0';
		for (size_t i = 0; i < h->peer_count; i++)
			memset(
			    &h->peers[i].asked, 0, sizeof(h->peers[i].asked));
	}
	if (h->seek != SEEK_FOUND)
		h->seek = SEEK_ON;
	go_on(h);
}

void
handover_seek_stop(struct handover *h)
{
	handover_stop_asking(h);
	OPENSSL_cleanse(h->secret, MASTER_SECRET_LEN);
	h->seek = SEEK_NONE;
	h->problem[0] = '\0';
}

const uint8_t *
handover_found(
    const struct handover *h, const struct eth_word *hash, const char **url)
{
	if (h->seek != SEEK_FOUND ||
	    memcmp(h->hash.bytes, hash->bytes, ETH_WORD_LEN) != 0)
		return NULL;
	*url = "";
	for (size_t i = 0; i < h->peer_count; i++) {
		if (eth_address_equal(&h->peers[i].peer.wallet, &h->found_with))
			*url = h->peers[i].peer.url;
	}
	return h->secret;
}

bool
handover_doubts(const struct handover *h)
{
	return h->seek == SEEK_DOUBT;
}

const char *
handover_problem(const struct handover *h)
{
	return h->problem;
}

/* ---- answering ---- */

static unsigned int
serve_request(struct handover *h, const struct sync_message *message,
    const uint8_t *secret, struct buf *answer, const char **text)
{
	uint8_t nonce[AEAD_NONCE_LEN];
	struct sealed_secret sealed;
	struct p384_point point;
	struct p384_key *key;
	int error = KMS_ECRYPTO;

	if (handover_read_request(message, &point) != 0) {
		*text = "ecdh_pubkey: expected a P-384 public key as hex";
		return 400;
	}
	if (secret == NULL) {
		*text = "no master secret whose hash is the one on chain";
		return 503;
	}
	key = handover_fresh_key(h);
	if (key != NULL) {
		h->random(h->random_arg, nonce, sizeof(nonce));
		error = sealed_secret_seal(secret, key, &point, nonce, &sealed);
	}
	p384_key_free(key);
	if (error == 0)
		error = handover_write_answer(answer, &sealed);
	if (error == 0)
		return 200;
	*text = "the master secret could not be sealed";
	return 503;
}

unsigned int
handover_serve(struct handover *h, const struct eth_address *wallet,
    const struct sync_message *message, const uint8_t *secret,
    struct buf *answer, const char **text)
{
	size_t before = answer->len;
	unsigned int status = 400;

	if (!handover_sender_is(message, wallet)) {
		*text = "sender_wallet is not the authenticated wallet";
		return 403;
	}
	*text = "not a message of the hand-over";
	if (message->type == SYNC_MASTER_SECRET_REQUEST)
		status = serve_request(h, message, secret, answer, text);
	else if (message->type == SYNC_SECRET_OFFER)
		status = handover_serve_offer(h, wallet, message, answer, text);
	if (status != 200)
		answer->len = before;
	return status;
}

/* ---- life ---- */

struct handover *
handover_new(const struct handover_ops *ops, struct identity *identity,
    identity_random_fn random, void *random_arg)
{
	struct handover *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->ops = *ops;
	h->identity = identity;
	h->random = random;
	h->random_arg = random_arg;
	h->secret = secmem_alloc(MASTER_SECRET_LEN);
	if (h->secret == NULL) {
		free(h);
		return NULL;
	}
	return h;
}

void
handover_free(struct handover *h)
{
	if (h == NULL)
		return;
	handover_seek_stop(h);
	handover_offer_stop(h);
	secmem_free(h->secret);
	free(h->peers);
	free(h);
}

void
handover_set_time(struct handover *h, struct kms_time now)
{
	h->now = now;
}

void
handover_tick(struct handover *h, struct kms_time now)
{
	h->now = now;
	for (size_t i = 0; i < HANDOVER_ASKS_MAX; i++) {
		struct call *call = &h->asks[i];

		if (!call->used || now.boot_ms < call->deadline_ms)
			continue;
		handover_call_end(call);
		ask_failed(h, &call->wallet, kms_strerror(KMS_ETIMEOUT));
	}
	go_on(h);
	handover_offer_tick(h);
}
