/*
 * The master secret between nodes (PROTOCOL.md section 8): candidates offered
 * before their transaction, offers of others kept sealed until the chain shows
 * their hash, and the secret asked of one peer after the other. Nothing is
 * believed but a secret whose hash is the one on chain. Pure.
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

#define HANDOVER_OFFERS_MAX 16 /* kept; one a peer */

/* One verified peer, borrowed for the call. */
struct handover_peer {
	struct eth_address wallet;
	struct p384_point point; /* its registered teePubkey */
	const char *url;
};

struct handover_ops {
	/* As peer_calls_ask without X-Sync-Signature. */
	int (*ask)(void *arg, const struct handover_peer *peer,
	    const void *body, size_t len, peer_outcome_fn done, void *done_arg,
	    uint64_t *id);
	void (*cancel)(void *arg, uint64_t id);
	void *arg;
};

#endif
