/* What the files of the hand-over share. Not for others. */
#ifndef KMS_KEEPER_HANDOVER_INTERNAL_H
#define KMS_KEEPER_HANDOVER_INTERNAL_H

#include "kms-keeper/handover.h"

#define HANDOVER_RETRY_MS 1000 /* of one peer, doubled each time */
#define HANDOVER_RETRY_MAX_MS 30000

/* How often something failed with one peer in a row, and when it is due. */
struct attempts {
	unsigned int failures;
	int64_t next_ms; /* boot time */
};

struct known_peer {
	struct handover_peer peer;
	struct attempts asked;
	bool asking;
	struct attempts offered; /* of the candidate that is offered now */
	bool offering;
	bool offer_answered; /* whatever it was */
	bool offer_done;     /* taken, or the type is not known there */
};

/* One call under way, in a slot of a fixed array. */
struct call {
	struct handover *owner;
	bool used;
	uint64_t id;
	struct eth_address wallet;
	int64_t deadline_ms;
	struct p384_key *key; /* the fresh one the answer is sealed to */
};

/* One of another node's, as it came. */
struct offer {
	struct eth_address wallet;
	struct eth_word hash;
	struct sealed_secret sealed;
	bool member;	 /* it comes from a current peer */
	int64_t next_ms; /* boot time before which it is not opened */
};

enum seek {
	SEEK_NONE,
	SEEK_ON,
	SEEK_DOUBT, /* until the chain was read again */
	SEEK_FOUND
};

struct handover {
	struct handover_ops ops;
	struct identity *identity;
	identity_random_fn random;
	void *random_arg;
	struct kms_time now;
	struct known_peer *peers;
	size_t peer_count;

	struct offer offers[HANDOVER_OFFERS_MAX]; /* the oldest first */
	size_t offer_count;

	const uint8_t *candidate; /* being offered; NULL: none */
	struct eth_word candidate_hash;
	int64_t offering_since_ms; /* boot time */
	struct call offering[HANDOVER_OFFERING_MAX];

	enum seek seek;
	struct eth_word hash; /* that is sought */
	bool opening;	      /* an offer, with the identity */
	uint64_t search;      /* number of this search */
	uint64_t opening_search;
	struct eth_address opening_wallet;
	int64_t asked_ms; /* boot time of the last question */
	struct call asks[HANDOVER_ASKS_MAX];
	uint8_t *secret; /* secmem, MASTER_SECRET_LEN: what was found */
	struct eth_address found_with;
	char problem[512];
};

/* ---- handover.c: peers and calls ---- */

struct known_peer *handover_peer_find(
    struct handover *h, const struct eth_address *wallet);

/* It failed: it is due again later. */
void handover_attempt_failed(
    const struct handover *h, struct attempts *attempts);

/* A fresh P-384 key; NULL when it cannot be made. */
struct p384_key *handover_fresh_key(struct handover *h);

/* Ask in this slot; the key in it is freed when that fails. */
int handover_call(struct handover *h, struct call *call,
    const struct handover_peer *peer, const struct buf *body,
    peer_outcome_fn done);

/* Empty a slot, cancelling what is under way in it. */
void handover_call_end(struct call *call);

/* Ask nobody any more. */
void handover_stop_asking(struct handover *h);

/* Is this the secret behind the hash? */
bool handover_is_secret(const uint8_t *secret, const struct eth_word *hash);

/* ---- handover_offer.c ---- */

unsigned int handover_serve_offer(struct handover *h,
    const struct eth_address *wallet, const struct sync_message *message,
    struct buf *answer, const char **text);

/* End offers that are too slow, send those that are due. */
void handover_offer_tick(struct handover *h);

/* Open an offer of the hash that is sought, which may find it before this
 * returns. False when there is none, or one is being opened already. */
bool handover_open_offer(struct handover *h);

/* ---- handover_message.c ---- */

/* Append one of ours: KMS_ETOOBIG, KMS_ENOMEM. */
int handover_write_request(struct buf *out, const struct eth_address *wallet,
    const struct p384_point *point);
int handover_write_offer(struct buf *out, const struct eth_address *wallet,
    const struct eth_word *hash, const struct sealed_secret *sealed);
int handover_write_answer(struct buf *out, const struct sealed_secret *sealed);

/* Read a peer's: KMS_EINVAL. */
bool handover_sender_is(
    const struct sync_message *message, const struct eth_address *wallet);
int handover_read_request(
    const struct sync_message *message, struct p384_point *point);
int handover_read_offer(const struct sync_message *message,
    struct eth_word *hash, struct sealed_secret *sealed);
int handover_read_answer(
    const char *text, size_t len, struct sealed_secret *sealed);

#endif
