/*
 * Carrying the one transaction, setMasterSecretHash(hash), to the chain
 * (PROTOCOL.md section 8): inputs, signature, submission, receipt, and a
 * replacement when it is stuck. Pure: questions to the registry, time in.
 */
#ifndef KMS_KEEPER_SUBMISSION_H
#define KMS_KEEPER_SUBMISSION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/registry.h"

/* The most that a unit of gas may cost, in wei: beyond it nothing is signed,
 * whatever an endpoint says of the fees. 2000 gwei: 0.6 ether in all. */
#define SUBMISSION_MAX_FEE UINT64_C(2000000000000)

enum submission_state {
	SUBMISSION_IDLE,      /* nothing under way */
	SUBMISSION_PREPARING, /* inputs, signature, sending */
	SUBMISSION_SENT,      /* waits for its receipt */
	SUBMISSION_MINED,     /* final: it succeeded */
	SUBMISSION_REVERTED,  /* final: another's hash stands, as a rule */
	SUBMISSION_REPLACED   /* final: its nonce was spent by another */
};

struct submission_config {
	uint64_t chain_id;
	struct eth_address registry; /* KMSRegistry */
};

struct submission;

/* NULL without memory; everything is borrowed for life. */
struct submission *submission_new(const struct submission_config *config,
    struct registry *registry, struct identity *identity);
void submission_free(struct submission *submission);

/*
 * Submit this hash. Only from IDLE or a final state (KMS_EBUSY). What goes
 * wrong is told by submission_problem and tried again with the next tick.
 */
int submission_start(struct submission *submission, const struct eth_word *hash,
    struct kms_time now);

/* Give up what was not sent yet: the hash is set. What was sent is followed
 * on. */
void submission_abandon(struct submission *submission);

/* Go on: call at least every second. */
void submission_tick(struct submission *submission, struct kms_time now);

enum submission_state submission_state(const struct submission *submission);

/* 1 while a transaction may still be mined. */
bool submission_open(const struct submission *submission);

/* The same for this hash alone. */
bool submission_needs(
    const struct submission *submission, const struct eth_word *hash);

/* The block that the last receipt names, 0: none. */
uint64_t submission_block(const struct submission *submission);

/* Was the transaction for this hash mined above the block that was read, by so
 * many blocks at most? Then there is nothing to do but wait for confirmations.
 * (What is said to be mined further up is not.) */
bool submission_awaits(const struct submission *submission,
    const struct eth_word *hash, uint64_t block, uint64_t most);

/* Why it does not go on, for /status; "" while all is well. */
const char *submission_problem(const struct submission *submission);

#endif
