/*
 * The keeper's core: what connects the pure modules. Inputs are requests,
 * facts of the chain and the time; outputs go through keeper_ops. The process
 * around it is main.c with channel_{net,rpc}.c; a simulator can stand in.
 */
#ifndef KMS_KEEPER_KEEPER_H
#define KMS_KEEPER_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "kms-keeper/audit.h"
#include "kms-keeper/channel_peer.h"
#include "kms-keeper/cluster.h"
#include "kms-keeper/config.h"
#include "kms-keeper/counterpart.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/nonce.h"
#include "kms-keeper/readiness.h"
#include "kms-keeper/registry.h"
#include "kms-keeper/request.h"
#include "kms-keeper/request_sync.h"
#include "kms-keeper/store.h"
#include "proto/msg.h"

struct keeper_ops {
	/* Randomness fit for keys. */
	identity_random_fn random;
	/* A question for kms-chain rpc. */
	registry_ask_fn ask;
	/* The answer of a request; borrowed for the call. */
	void (*answer)(void *arg, uint64_t handle, const struct answer *answer);
	/* Request body consumed: the sender's window moves on. */
	void (*credit)(void *arg, uint64_t handle, size_t bytes);
	/* The body of a sync request is wanted, if it has at most so many
	 * bytes. */
	void (*go)(void *arg, uint64_t handle, size_t most);
	/* kms-chain peer, as peer_client_post and peer_client_cancel. */
	int (*post)(void *arg, const struct peer_call *call, uint64_t *id);
	void (*unpost)(void *arg, uint64_t id);
	/* keeper_wake is wanted in so many milliseconds, or earlier. */
	void (*wake)(void *arg, int64_t ms);
	/* What /status or /nodes shows has changed. */
	void (*changed)(void *arg);
	/* A line of the audit trail (audit_write_fn); NULL: there is none. */
	audit_write_fn audit;
	void *arg;
};

struct keeper {
	const struct keeper_config *config;
	struct keeper_ops ops;
	struct identity *identity;
	struct registry *registry;
	struct readiness *readiness;
	struct counterparts *counterparts;
	struct nonce_table *nonces;
	struct store *store;
	struct requests *requests;
	struct sync_requests *syncs;
	struct cluster *cluster;
	struct audit *audit;
	struct readiness_seen {
		enum master_state master_state;
		bool ready;
	} seen; /* as the audit trail has it */
	struct {
		bool waits; /* for the wallet that it is to name */
		uint64_t seq;
		uint8_t head[SHA256_LEN];
	} trail;
	char pubkey_hex[2 * P384_SPKI_LEN + 1]; /* sender_tee_pubkey */
	char wallet_text[ETH_ADDRESS_TEXT_LEN + 1];
	bool knows_keys; /* the identity's, since it was made */
	struct kms_time now;
};

/*
 * Make the core. identity becomes the keeper's. KMS_ENOMEM, KMS_ECRYPTO; the
 * identity is then still the caller's.
 */
int keeper_new(const struct keeper_config *config, const struct keeper_ops *ops,
    struct identity *identity, struct kms_time now, struct keeper **keeper);
void keeper_free(struct keeper *keeper);

/* The audit trail goes on behind this line (audit_open), when the node's wallet
 * is known. */
void keeper_audit_open(
    struct keeper *keeper, uint64_t seq, const uint8_t *head);

/*
 * Exchange a core that was made before its identity was known for one that
 * knows it: nothing was asked, answered or stored by the old one. KMS_ENOMEM,
 * KMS_ECRYPTO; then it stays.
 */
int keeper_renew(struct keeper **keeper);

/* Before every input: what time it is. */
void keeper_set_time(struct keeper *keeper, struct kms_time now);

/* At least every 100 ms. */
void keeper_tick(struct keeper *keeper, struct kms_time now);

/* When keeper_ops.wake asked for it. */
void keeper_wake(struct keeper *keeper, struct kms_time now);

#endif
