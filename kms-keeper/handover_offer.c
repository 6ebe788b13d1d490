/*
 * Offers of candidate secrets, both ways: those of others stay sealed until
 * the chain shows their hash, so that what lies here is of no use before; our
 * own goes to every peer before its transaction does.
 */
#include "kms-keeper/handover_internal.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"

#define OFFERS_A_TICK 4 /* each costs two multiplications on P-384 */

/* ---- those of others ---- */

static void
remove_offer(struct handover *h, size_t i)
{
	h->offer_count--;
	memmove(&h->offers[i], &h->offers[i + 1],
	    (h->offer_count - i) * sizeof(h->offers[0]));
}

static bool
offer_has(const struct offer *offer, const struct eth_word *hash)
{
	return memcmp(offer->hash.bytes, hash->bytes, ETH_WORD_LEN) == 0;
}

/* Room for one more: the oldest goes, but a current peer's only for another
 * current peer's. */
static bool
make_room(struct handover *h, bool member)
{
	size_t victim = 0;

	if (h->offer_count < HANDOVER_OFFERS_MAX)
		return true;
	while (victim < h->offer_count && h->offers[victim].member)
		victim++;
	if (victim == h->offer_count) {
		if (!member)
			return false;
		victim = 0;
	}
	remove_offer(h, victim);
	return true;
}

unsigned int
handover_serve_offer(struct handover *h, const struct eth_address *wallet,
    const struct sync_message *message, struct buf *answer, const char **text)
{
	struct offer offer = { .wallet = *wallet };

	if (handover_read_offer(message, &offer.hash, &offer.sealed) != 0) {
		*text = "secret_offer: expected hash and sealed";
		return 400;
	}
	if (!identity_can_unseal(h->identity)) {
		*text = "this node's identity opens no offers";
		return 503;
	}
	offer.member = handover_peer_find(h, wallet) != NULL;
	for (size_t i = h->offer_count; i-- > 0;) {
		if (eth_address_equal(&h->offers[i].wallet, wallet))
			remove_offer(h, i);
	}
	if (!make_room(h, offer.member) ||
	    buf_append_text(answer, "{\"status\":\"ok\"}") != 0) {
		*text = "no room for this offer";
		return 503;
	}
	h->offers[h->offer_count++] = offer;
	return 200;
}

size_t
handover_offers(const struct handover *h)
{
	return h->offer_count;
}

void
handover_drop_offers(struct handover *h, const struct eth_word *but)
{
	for (size_t i = h->offer_count; i-- > 0;) {
		if (but == NULL || !offer_has(&h->offers[i], but))
			remove_offer(h, i);
	}
}

void
handover_drop_offer(struct handover *h, const struct eth_word *hash)
{
	for (size_t i = h->offer_count; i-- > 0;) {
		if (offer_has(&h->offers[i], hash))
			remove_offer(h, i);
	}
}

/* ---- opening one ---- */

/* The identity was asked for the secret in it. What does not open, or is
 * another, goes; when the identity could not be asked it is tried again. */
static void
opened_in_vain(struct handover *h, int error)
{
	char who[ETH_ADDRESS_TEXT_LEN + 1];
	bool is_false = error == 0 || error == KMS_EAUTH || error == KMS_EINVAL;

	eth_address_format(&h->opening_wallet, who);
	log_warn("the offer of node %s: %s", who,
	    is_false ? "it does not hold the master secret"
		     : kms_strerror(error));
	for (size_t i = h->offer_count; i-- > 0;) {
		struct offer *offer = &h->offers[i];

		if (!eth_address_equal(&offer->wallet, &h->opening_wallet) ||
		    !offer_has(offer, &h->hash))
			continue;
		if (is_false)
			remove_offer(h, i);
		else
			offer->next_ms = h->now.boot_ms + HANDOVER_RETRY_MS;
	}
}

static void
on_opened(void *arg, int error, const uint8_t *secret, size_t len)
{
	struct handover *h = arg;

	h->opening = false;
	if (h->seek != SEEK_ON || h->opening_search != h->search)
		return;
	if (error != 0 || len != MASTER_SECRET_LEN ||
	    !handover_is_secret(secret, &h->hash)) {
		opened_in_vain(h, error);
		return;
	}
	memcpy(h->secret, secret, MASTER_SECRET_LEN);
	h->found_with = h->opening_wallet;
	h->seek = SEEK_FOUND;
	handover_stop_asking(h);
}

bool
handover_open_offer(struct handover *h)
{
	for (size_t i = 0; i < h->offer_count && !h->opening; i++) {
		/* It may be replaced meanwhile. */
		struct sealed_secret sealed = h->offers[i].sealed;

		if (!offer_has(&h->offers[i], &h->hash) ||
		    h->offers[i].next_ms > h->now.boot_ms)
			continue;
		h->opening = true;
		h->opening_search = h->search;
		h->opening_wallet = h->offers[i].wallet;
		identity_unseal(h->identity, &sealed, on_opened, h);
		return true;
	}
	return false;
}

/* ---- our own ---- */

static void
on_offered(void *arg, uint64_t id, const struct peer_outcome *outcome)
{
	struct call *call = arg;
	struct handover *h = call->owner;
	struct known_peer *peer = handover_peer_find(h, &call->wallet);
	struct sync_reply reply;
	char who[ETH_ADDRESS_TEXT_LEN + 1];
	bool taken = outcome->error == 0 &&
	    sync_reply_read(outcome->body, outcome->len, &reply) == 0 &&
	    reply.ok;

	(void)id;
	call->used = false;
	if (peer == NULL)
		return;
	eth_address_format(&call->wallet, who);
	log_info("offering the candidate secret to node %s: %s", who,
	    taken ? "taken" : outcome->text);
	peer->offering = false;
	peer->offer_answered = true;
	/* 400: it knows no offers. The rest may change. */
	if (taken || outcome->status == 400)
		peer->offer_done = true;
	else
		handover_attempt_failed(h, &peer->offered);
}

static int
seal_candidate(struct handover *h, const struct p384_point *point,
    struct sealed_secret *sealed)
{
	struct p384_key *key = handover_fresh_key(h);
	uint8_t nonce[AEAD_NONCE_LEN];
	int error;

	if (key == NULL)
		return KMS_ECRYPTO;
	h->random(h->random_arg, nonce, sizeof(nonce));
	error = sealed_secret_seal(h->candidate, key, point, nonce, sealed);
	p384_key_free(key);
	return error;
}

static void
offer_to(struct handover *h, struct call *call, struct known_peer *peer)
{
	struct sealed_secret sealed;
	struct buf body;
	int error;

	buf_init(&body, HANDOVER_BODY_MAX);
	error = seal_candidate(h, &peer->peer.point, &sealed);
	if (error == 0)
		error = handover_write_offer(
		    &body, &h->identity->wallet, &h->candidate_hash, &sealed);
	if (error == 0)
		error = handover_call(h, call, &peer->peer, &body, on_offered);
	buf_free(&body);
	if (error == 0) {
		peer->offering = true;
	} else if (error == KMS_EUNAVAIL) {
		peer->offered.next_ms = h->now.boot_ms + HANDOVER_RETRY_MS;
	} else {
		peer->offer_answered = true;
		handover_attempt_failed(h, &peer->offered);
	}
}

static bool
wants_offer(const struct handover *h, const struct known_peer *peer)
{
	return !peer->offer_done && !peer->offering &&
	    (h->ops.deployed == NULL ||
		!h->ops.deployed(h->ops.arg, &peer->peer.wallet));
}

static struct call *
free_slot(struct handover *h)
{
	for (size_t i = 0; i < HANDOVER_OFFERING_MAX; i++) {
		if (!h->offering[i].used)
			return &h->offering[i];
	}
	return NULL;
}

static void
end_slow_offers(struct handover *h)
{
	static const struct peer_outcome timeout = { .error = KMS_ETIMEOUT,
		.text = "timed out" };

	for (size_t i = 0; i < HANDOVER_OFFERING_MAX; i++) {
		struct call *call = &h->offering[i];

		if (!call->used || h->now.boot_ms < call->deadline_ms)
			continue;
		handover_call_end(call);
		on_offered(call, call->id, &timeout);
	}
}

void
handover_offer_tick(struct handover *h)
{
	unsigned int begun = 0;

	end_slow_offers(h);
	if (h->candidate == NULL || h->ops.ask == NULL)
		return;
	for (size_t i = 0; i < h->peer_count && begun < OFFERS_A_TICK; i++) {
		struct known_peer *peer = &h->peers[i];
		struct call *slot = free_slot(h);

		if (slot == NULL)
			return;
		if (peer->offered.next_ms > h->now.boot_ms ||
		    !wants_offer(h, peer))
			continue;
		offer_to(h, slot, peer);
		begun++;
	}
}

void
handover_offer(
    struct handover *h, const uint8_t *candidate, const struct eth_word *hash)
{
	if (h->candidate != NULL &&
	    memcmp(h->candidate_hash.bytes, hash->bytes, ETH_WORD_LEN) == 0)
		return;
	handover_offer_stop(h);
	h->candidate = candidate;
	h->candidate_hash = *hash;
	h->offering_since_ms = h->now.boot_ms;
	handover_offer_tick(h);
}

void
handover_offer_stop(struct handover *h)
{
	h->candidate = NULL;
	for (size_t i = 0; i < HANDOVER_OFFERING_MAX; i++)
		handover_call_end(&h->offering[i]);
	for (size_t i = 0; i < h->peer_count; i++) {
		struct known_peer *peer = &h->peers[i];

		memset(&peer->offered, 0, sizeof(peer->offered));
		peer->offering = peer->offer_answered = false;
		peer->offer_done = false;
	}
}

bool
handover_offered(const struct handover *h)
{
	if (h->ops.ask == NULL ||
	    h->now.boot_ms - h->offering_since_ms >= HANDOVER_OFFER_WAIT_MS)
		return true;
	for (size_t i = 0; i < h->peer_count; i++) {
		const struct known_peer *peer = &h->peers[i];

		if (!peer->offer_answered &&
		    (peer->offering || wants_offer(h, peer)))
			return false;
	}
	return true;
}
