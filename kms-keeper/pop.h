/*
 * The check of a proof of possession (PROTOCOL.md section 2 point 4), an app's
 * or a peer's, in the order that it prescribes. Pure.
 */
#ifndef KMS_KEEPER_POP_H
#define KMS_KEEPER_POP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/eth.h"
#include "crypto/pop.h"
#include "crypto/sha256.h"
#include "crypto/signature.h"
#include "crypto/wallet.h"
#include "kms-keeper/nonce.h"
#include "kms-keeper/request.h"

/* What a proof consists of; borrowed. */
struct pop_head {
	enum pop_kind kind; /* POP_APP: X-App-..., POP_NODE: X-KMS-... */
	enum kms_method method;
	struct text target;
	unsigned int flags; /* enum auth_flag */
	struct text signature;
	struct text nonce;
	struct text timestamp;
	struct text wallet;
	struct text version;
	struct text content_hash;
};

struct pop_result {
	struct eth_address wallet;
	bool bound;			  /* v2 */
	uint8_t content_hash[SHA256_LEN]; /* v2: the body is held to it */
};

/*
 * NULL when the proof holds, else a static text for the 403. The nonce is
 * consumed once it is reached, also when a later check fails.
 */
const char *pop_check(const struct pop_head *head,
    const struct eth_address *node, struct nonce_table *nonces,
    const struct wallet_context *wallets, uint64_t max_age_ms,
    struct kms_time now, struct pop_result *result);

#endif
