/*
 * The two contracts as eth_call sees them: calldata in, results out
 * (PROTOCOL.md section 6). The inverse of common/abi, sharing nothing with
 * it: selectors are computed from the signatures' text.
 */
#ifndef REGRESS_TOOLS_SIMCHAIN_ABI_H
#define REGRESS_TOOLS_SIMCHAIN_ABI_H

#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/eth.h"
#include "regress/tools/simchain_state.h"

/*
 * Perform a call of len bytes of calldata on contract to at a readable block,
 * from being the caller (setMasterSecretHash asks who it is, and changes
 * nothing here). The result is appended to out: 0; KMS_EAUTH when the call
 * reverts, out then has the revert's data; KMS_ENOMEM, KMS_ETOOBIG. An
 * address without code returns nothing, as on a chain.
 */
int simchain_abi_call(const struct sim_state *sim, uint64_t block,
    const struct eth_address *from, const struct eth_address *to,
    const uint8_t *data, size_t len, struct buf *out);

/*
 * Append an encoded result. NULL is the struct of zeros that the contracts
 * give for what they do not know. KMS_ENOMEM, KMS_ETOOBIG.
 */
int simchain_abi_instance(struct buf *out, const struct sim_instance *instance);
int simchain_abi_app(struct buf *out, const struct sim_app *app);
int simchain_abi_version(struct buf *out, const struct sim_version *version);

#endif
