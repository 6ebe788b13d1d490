/*
 * The check of an app's proof of possession (PROTOCOL.md section 2 point 4),
 * in the order that it prescribes. Pure.
 */
#ifndef KMS_KEEPER_POP_H
#define KMS_KEEPER_POP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/eth.h"
#include "crypto/sha256.h"
#include "crypto/signature.h"
#include "crypto/wallet.h"
#include "kms-keeper/nonce.h"
#include "kms-keeper/request.h"

struct pop_result {
	struct eth_address wallet;
	bool bound;			  /* v2 */
	uint8_t content_hash[SHA256_LEN]; /* v2: the body is held to it */
};

/*
 * NULL when the proof holds, else a static text for the 403. The nonce is
 * consumed once it is reached, also when a later check fails.
 */
const char *pop_check(const struct request_head *head,
    const struct eth_address *node, struct nonce_table *nonces,
    const struct wallet_context *wallets, uint64_t max_age_ms,
    struct kms_time now, struct pop_result *result);

#endif
