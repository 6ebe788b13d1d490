/*
 * The master secret between nodes (PROTOCOL.md section 8): candidates offered
 * before their transaction, offers of others kept sealed until the chain shows
 * their hash, and the secret asked of one peer after the other. Nothing is
 * believed but a secret whose hash is the one on chain. Pure: it is told what
 * the chain says, who the peers are and what time it is, and is asked what
 * came of it.
 */
#ifndef KMS_KEEPER_HANDOVER_H
#define KMS_KEEPER_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/eth.h"
#include "kms-keeper/derive.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/peer_call.h"
#include "kms-keeper/record_json.h"

#define HANDOVER_OFFERS_MAX 16	    /* kept; one a peer */
#define HANDOVER_BODY_MAX 2048	    /* bytes of a message or an answer */
#define HANDOVER_TIMEOUT_MS 10000   /* of one call */
#define HANDOVER_PATIENCE_MS 2000   /* then another peer is asked besides */
#define HANDOVER_ASKS_MAX 4	    /* peers asked at once */
#define HANDOVER_OFFERING_MAX 16    /* offers on their way at once */
#define HANDOVER_OFFER_WAIT_MS 5000 /* for the answers to offers */

/* One verified peer, borrowed for the call. */
struct handover_peer {
	struct eth_address wallet;
	struct p384_point point; /* its registered teePubkey */
	const char *url;
};

struct handover_ops {
	/* As peer_calls_ask without X-Sync-Signature. NULL: this node is
	 * alone. */
	int (*ask)(void *arg, const struct handover_peer *peer,
	    const void *body, size_t len, peer_outcome_fn done, void *done_arg,
	    uint64_t *id);
	void (*cancel)(void *arg, uint64_t id);
	/* Is it known to take deployed types only? NULL: nothing is known. */
	bool (*deployed)(void *arg, const struct eth_address *wallet);
	void *arg;
};

struct handover;

/* NULL without memory (also secmem). identity is borrowed for life; random
 * makes keys and the order of asking. */
struct handover *handover_new(const struct handover_ops *ops,
    struct identity *identity, identity_random_fn random, void *random_arg);
void handover_free(struct handover *handover); /* cancels, wipes */

/* Before every other input: what time it is. */
void handover_set_time(struct handover *handover, struct kms_time now);

/* At least every 100 ms: deadlines, and what is due. */
void handover_tick(struct handover *handover, struct kms_time now);

/*
 * The verified peers, without this node. They are copied, but for their URLs:
 * those are borrowed until the next call. What is known of one is kept; calls
 * to others are cancelled. KMS_ENOMEM: there are none then.
 */
int handover_set_peers(
    struct handover *handover, const struct handover_peer *peers, size_t count);

/* There is a way to peers again (kms-chain is back): whoever could not be
 * asked or offered for want of it is due now. */
void handover_retry(struct handover *handover);

/* ---- what peers ask ------------------------------------------------------ */

/*
 * Answer a master_secret_request or a secret_offer of an authenticated peer.
 * secret: the installed one whose hash stands on chain, or NULL (503); never a
 * candidate. Returns the HTTP status: 200 with the answer's plaintext
 * appended; 400, 403 or 503 with nothing appended and *text (static, needs no
 * escape) saying why. An offer is kept as it came, sealed.
 */
unsigned int handover_serve(struct handover *handover,
    const struct eth_address *wallet, const struct sync_message *message,
    const uint8_t *secret, struct buf *answer, const char **text);

/* Offers that are kept. */
size_t handover_offers(const struct handover *handover);

/* It is final that this hash stands (NULL: nothing that was offered ever
 * will): forget the offers of others. */
void handover_drop_offers(
    struct handover *handover, const struct eth_word *but);

/* Forget the offers of one hash. */
void handover_drop_offer(
    struct handover *handover, const struct eth_word *hash);

/* ---- our own candidate --------------------------------------------------- */

/*
 * Offer it to every peer, those that come later or could not be reached
 * included, until handover_offer_stop: candidate (MASTER_SECRET_LEN bytes) is
 * borrowed until then. Again with the same hash changes nothing.
 */
void handover_offer(struct handover *handover, const uint8_t *candidate,
    const struct eth_word *hash);
void handover_offer_stop(struct handover *handover);

/* Has every peer answered, or HANDOVER_OFFER_WAIT_MS passed? */
bool handover_offered(const struct handover *handover);

/* ---- the secret behind a hash on chain ----------------------------------- */

/*
 * Look for it: in offers, then with one peer after the other, for as long as
 * it takes. Again with the same hash goes on, also after a doubt; another hash
 * starts anew.
 */
void handover_seek(struct handover *handover, const struct eth_word *hash);
void handover_seek_stop(struct handover *handover); /* wipes what was found */

/*
 * The secret, if one was found whose hash is this, else NULL; borrowed until
 * the next call. *url: of the peer it came from, "" when that is not known;
 * borrowed until handover_set_peers.
 */
const uint8_t *handover_found(const struct handover *handover,
    const struct eth_word *hash, const char **url);

/* A peer handed over another secret: the search waits for the chain to be
 * read again, and for handover_seek. */
bool handover_doubts(const struct handover *handover);

/* What came of it when every peer was asked in vain, for people; else "". */
const char *handover_problem(const struct handover *handover);

#endif
