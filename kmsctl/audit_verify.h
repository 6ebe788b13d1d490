/*
 * A node's audit trail, checked line by line (kms-keeper/audit.h says how one
 * is made): each hash, the chain from line to line, the numbers, and the
 * signatures of heads. Pure.
 */
#ifndef KMSCTL_AUDIT_VERIFY_H
#define KMSCTL_AUDIT_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/eth.h"
#include "crypto/wallet.h"

#define AUDIT_VERIFY_LINE_MAX 1000 /* bytes without the newline */
#define AUDIT_VERIFY_REASON_LEN 160

struct audit_summary {
	uint64_t lines;
	uint64_t first, last;  /* numbers */
	uint64_t lost;	       /* decisions that are missing, by the trail */
	uint64_t gaps;	       /* lines that say so */
	uint64_t starts;       /* of a keeper */
	uint64_t heads;	       /* signatures that were checked */
	uint64_t heads_before; /* ... of lines before the first one here */
	uint64_t signed_seq;   /* the last line that is signed, 0: none */
	int64_t signed_time;   /* unix seconds */
	struct eth_address wallet; /* that signed last */
};

struct audit_verifier;

/*
 * wallet: who must have signed, or NULL: whoever the trail names as its node.
 * wallets is borrowed for life. NULL without memory.
 */
struct audit_verifier *audit_verifier_new(
    const struct wallet_context *wallets, const struct eth_address *wallet);
void audit_verifier_free(struct audit_verifier *verifier);

/*
 * The next line, without its newline. KMS_EINVAL: reason says what is wrong
 * with it, and the verifier is of no more use. KMS_ENOMEM.
 */
int audit_verifier_line(struct audit_verifier *verifier, const char *line,
    size_t len, char reason[AUDIT_VERIFY_REASON_LEN]);

const struct audit_summary *audit_verifier_summary(
    const struct audit_verifier *verifier);

#endif
