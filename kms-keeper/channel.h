/*
 * The keeper's ends of its channels: frames to typed inputs of the core and
 * back. channel_net.c speaks with kms-net, channel_rpc.c with kms-chain rpc,
 * channel_peer.c with kms-chain peer.
 */
#ifndef KMS_KEEPER_CHANNEL_H
#define KMS_KEEPER_CHANNEL_H

#include <uv.h>

#include "kms-keeper/channel_peer.h"
#include "kms-keeper/keeper.h"
#include "proto/chan.h"

/* A body that is being sent under its credit; see channel_net.c. */
struct outgoing;

/* A question of kmsd's whose answer takes time; id 0: none. */
struct control_wait {
	uint64_t id;
	int64_t since_ms;
};

struct channels {
	uv_loop_t *loop;
	struct keeper *keeper;
	/* of kms-net and kms-chain rpc; NULL while there is none */
	struct chan *chan[CHANNEL_PEER];
	struct peer_client peers;
	struct outgoing *outgoing; /* table by request number */
	size_t outgoing_bytes;
	int state_dirty;       /* /status or /nodes is to be pushed */
	uint64_t pushed_peers; /* version of the list last pushed, + 1 */
	uint64_t push_number;
	struct chan *control; /* kmsd's */
	bool told_serving;
	struct control_wait holders, flush;
};

/* A new end came from kmsd; takes over fd. KMS_E*. */
int channel_net_open(struct channels *channels, int fd, uint32_t generation);
int channel_rpc_open(struct channels *channels, int fd, uint32_t generation);
int channel_peer_open(struct channels *channels, int fd, uint32_t generation);

/* KMSDKEEPER_ASK; arg is struct channels. */
int channel_control_ask(struct chan *chan, struct msg *msg, void *arg);

/* Tell kmsd whether /kms is served, and what it waits for; at every tick. */
void channel_control_tick(struct channels *channels);

/* keeper_ops */
void channel_net_answer(
    void *arg, uint64_t handle, const struct answer *answer);
void channel_net_credit(void *arg, uint64_t handle, size_t bytes);
void channel_net_go(void *arg, uint64_t handle, size_t most);
int channel_rpc_ask(
    void *arg, uint64_t id, const struct registry_question *question);
int channel_peer_post(void *arg, const struct peer_call *call, uint64_t *id);
void channel_peer_cancel(void *arg, uint64_t id);

/* Push what /status and /nodes show, when it changed. */
void channel_net_push(struct channels *channels);

/*
 * Once a second: count what replication has done, and push its figures of each
 * peer (at most CHANNEL_PEERS_MAX, in the order of sync_peer_at) for /metrics.
 */
#define CHANNEL_PEERS_MAX 64
struct sync;
void channel_net_push_peers(struct channels *channels, const struct sync *sync);

#endif
