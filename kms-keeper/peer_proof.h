/*
 * What node and peer sign for each other on POST /sync (PROTOCOL.md section
 * 2): the text of our proof of possession, and whether an answer is its node's
 * word. Pure.
 */
#ifndef KMS_KEEPER_PEER_PROOF_H
#define KMS_KEEPER_PEER_PROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "crypto/sha256.h"
#include "crypto/signature.h"
#include "crypto/wallet.h"
#include "kms-keeper/channel_peer.h"

/*
 * The target that is signed, whatever path the registered URL has: a node
 * serves /sync and nothing in front of it, so a proxy under whose path it
 * stands has taken that off the request line which the node reads.
 */
#define PEER_PROOF_TARGET "/sync"

/* Bytes of the longest text that is signed here. */
#define PEER_PROOF_TEXT_MAX 512

/* Our request, and the peer that it is for. */
struct peer_proof {
	bool bound; /* v2 */
	struct eth_address peer;
	char nonce[65];				/* as the peer gave it */
	int64_t timestamp;			/* seconds since 1970 */
	uint8_t content_hash[SHA256_LEN];	/* of our envelope */
	char signature[SIGNATURE_TEXT_LEN + 1]; /* ours, as sent */
};

/* Append the text to be signed. KMS_EINVAL when the nonce or the timestamp is
 * none that we sign; KMS_ETOOBIG, KMS_ENOMEM. */
int peer_proof_text(const struct peer_proof *proof, struct buf *out);

/*
 * Is this answer (PEER_REPLY_ENVELOPE) that of the peer to our request?
 * NULL, or a static text that says why not. Bound: its signature covers every
 * byte of the envelope; else only that the peer has seen our signature.
 */
const char *peer_proof_check_envelope(const struct peer_proof *proof,
    const struct wallet_context *wallets, const struct peer_reply *reply);

/* The same of an error (PEER_REPLY_ERROR) to a bound request: status, code and
 * message are the peer's own word. One to an unbound request never is. */
const char *peer_proof_check_error(const struct peer_proof *proof,
    const struct wallet_context *wallets, const struct peer_reply *reply);

#endif
