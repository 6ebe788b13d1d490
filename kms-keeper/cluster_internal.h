/* What the cluster's files share and nobody else includes. */
#ifndef KMS_KEEPER_CLUSTER_INTERNAL_H
#define KMS_KEEPER_CLUSTER_INTERNAL_H

#include <sys/queue.h>

#include "kms-keeper/cluster.h"
#include "kms-keeper/derive.h"
#include "kms-keeper/keeper.h"

/* One of the peers, beside what the engine knows of it. */
struct cluster_peer {
	struct eth_address wallet;
	char text[ETH_ADDRESS_TEXT_LEN + 1];
	char *url; /* as registered */
	bool dialled;
	int64_t shunned_until_ms; /* boot time; peer-blacklist */
	int64_t level_ms;	  /* boot time when it last had everything */
	char last_error[160];	  /* of its last call; "" when it went well */
	int last_code;		  /* KMS_E* of the same, 0 */
	unsigned int last_status;
	int64_t shown_ms; /* boot time when it last showed that it holds the
			     secret; -1: never, or it failed since */
	int64_t heard_ms; /* of its last answer or failure; -1: never */
	/* the probe */
	struct cluster *owner;
	uint64_t probe_id; /* under way, 0: none */
	int64_t probe_due_ms;
	bool probed, reachable;
	unsigned int http_code;
	uint64_t probe_took_ms;
	int64_t probed_at_ms; /* wall */
};

#define CLUSTER_GONE_MAX 64

/* One that the chain lists no more, and until when it is not dialled. */
struct cluster_gone {
	struct eth_address wallet;
	int64_t until_ms; /* boot time; 0: free */
};

/* A message of the engine under way. */
struct cluster_message {
	TAILQ_ENTRY(cluster_message) link;
	struct cluster *owner;
	struct eth_address wallet;
	uint64_t sync_id;
	uint64_t call_id; /* 0: it could not be sent */
	uint64_t request; /* what it is sent for */
	int error;
};

TAILQ_HEAD(cluster_messages, cluster_message);

/* An app's request that waits; the engine's cookie. */
struct cluster_wait {
	TAILQ_ENTRY(cluster_wait) link;
	struct cluster_waiter *waiter; /* NULL: forgotten */
};

TAILQ_HEAD(cluster_waits, cluster_wait);

struct cluster {
	struct keeper *keeper;
	struct peer_calls *calls;
	struct sync *sync; /* NULL: no secret */
	struct kms_time now;
	uint64_t request; /* of an app, that what is sent now is for; 0: none */
	struct cluster_messages messages;
	struct cluster_waits waits;
	struct cluster_peer *peers;
	size_t peer_count;
	uint64_t peers_seen; /* readiness_view.peers_version, + 1 */
	struct cluster_gone gone[CLUSTER_GONE_MAX];
	size_t gone_next; /* the next to be overwritten */
	size_t probing;
	uint64_t probes_version;
	uint8_t *keys; /* secmem: sync key, data key of data_app */
	bool has_sync_key;
	uint64_t data_app;   /* 0: none */
	uint64_t settled[2]; /* sequence when, and a while before */
	int64_t settled_ms;  /* ... this was */
	int64_t holding_ms;  /* when holding is to be looked at again */
	int64_t greet_ms;    /* when a silent peer may be asked again */
	size_t greeted;	     /* which it was */
	struct cluster_holding holding;
};

/* ---- cluster_engine.c ---------------------------------------------------- */

/* An engine for the secret that is installed. KMS_E*. */
int cluster_engine_start(struct cluster *cluster);
void cluster_engine_stop(struct cluster *cluster);
/* Tell the engine what it may not be told from within, then let it work. */
void cluster_engine_run(struct cluster *cluster);
/* Its next deadline may have come nearer. */
void cluster_engine_wake(struct cluster *cluster);
void cluster_engine_set_peers(struct cluster *cluster);

/* ---- cluster_holders.c --------------------------------------------------- */

/* A peer answered under the secret's keys, or did not. */
void cluster_holders_note(
    struct cluster *cluster, const struct eth_address *wallet, bool shown);
/* It could not be asked, which says nothing of it. */
void cluster_holders_unsent(
    struct cluster *cluster, const struct eth_address *wallet);
/* Another secret, or none: nobody has shown anything. */
void cluster_holders_reset(struct cluster *cluster);
void cluster_holders_tick(struct cluster *cluster);

/* ---- cluster_peers.c ----------------------------------------------------- */

/* Take over the members that the chain shows, when they changed. */
void cluster_peers_update(struct cluster *cluster);
void cluster_peers_free(struct cluster *cluster);
void cluster_peers_tick(struct cluster *cluster);
struct cluster_peer *cluster_peer_find(
    const struct cluster *cluster, const struct eth_address *wallet);

#endif
