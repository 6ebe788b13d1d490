/*
 * JSON-RPC on a chain's state: the method table, and simulated faults.
 *
 * Beside what a node has (eth_*, net_version, web3_clientVersion) there are,
 * to change things while it runs: sim_setApp, sim_setVersion and
 * sim_setInstance (one object, simchain_file.h); sim_setMasterSecretHash (64
 * hex digits, also zeros); sim_setBaseFee (wei); sim_mine (how many blocks, 1
 * if not given); sim_setFault (one object with the members below; what is not
 * given is off); sim_state (the state in the file's format).
 *
 * A sim_set* that changes the state answers with the number of the block from
 * which the change holds. That block is made at once, unless freeze_head: then
 * it comes with the next sim_mine, or when blocks go on. Transactions always
 * wait for a block. Everybody has ether enough.
 */
#ifndef REGRESS_TOOLS_SIMCHAIN_RPC_H
#define REGRESS_TOOLS_SIMCHAIN_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "crypto/wallet.h"
#include "regress/tools/simchain_state.h"

#define SIMCHAIN_BATCH_MAX 100

/* What sim_setFault sets; methods named sim_* are spared. */
struct simchain_faults {
	uint64_t latency_ms; /* before every answer */
	double error_rate;   /* of calls answered with an error, 0..1 */
	double drop_rate;    /* of requests whose connection is closed */
	bool stall;	     /* no answers until it is lifted */
	bool freeze_head;    /* no blocks but those of sim_mine */
};

struct simchain_rpc {
	struct sim_state *sim;
	const struct wallet_context *wallets; /* to recover senders */
	struct simchain_faults faults;
	uint64_t random; /* state of the generator behind the rates */
};

/*
 * Answer the JSON-RPC text of one HTTP body (an object or a batch) at the
 * given time: 0, the text is appended to out, to be sent after *delay_ms.
 * KMS_ECLOSED: close the connection without an answer. KMS_EAGAIN: stalled,
 * nothing was done, ask again later. KMS_ENOMEM, KMS_ETOOBIG.
 */
int simchain_rpc_answer(struct simchain_rpc *rpc, const char *text, size_t len,
    int64_t wall_s, struct buf *out, uint64_t *delay_ms);

#endif
