/*
 * Becoming ready and staying it (PROTOCOL.md section 8): one tick reads the
 * membership and the hash, decides, and installs, submits or withdraws. A
 * state machine: facts of the chain and the time in, questions and a state
 * out. The secret itself travels by handover.h, which is driven from here.
 */
#ifndef KMS_KEEPER_READINESS_H
#define KMS_KEEPER_READINESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "kms-keeper/config.h"
#include "kms-keeper/derive.h"
#include "kms-keeper/handover.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/registry.h"

#define READINESS_PEERS_MAX REGISTRY_MEMBERS_MAX
#define READINESS_RETRY_MIN_MS 1000
#define READINESS_RECEIPT_MS 1000 /* between looks at a receipt */
#define READINESS_STUCK_MS 60000  /* until a transaction is replaced */

enum master_state { MASTER_UNINITIALIZED, MASTER_GENERATED, MASTER_SYNCED };

/* One member of the cluster as the chain shows it; ourselves among them. */
struct peer {
	struct instance_facts facts;
	bool read;	     /* the facts are the chain's, not a gap */
	const char *refusal; /* NULL: valid; else why not */
};

/* What /status and /nodes tell; borrowed, valid until the next event. */
struct readiness_view {
	bool ready;
	const char *reason; /* "" when ready */
	enum master_state master_state;
	bool master_initialized;
	const char *synced_from; /* URL of the peer that gave it, "": none */
	bool complete; /* false: a synced node lacks what peers hold */
	bool is_operator;
	const uint8_t *registered_pubkey; /* as the registry has it */
	size_t registered_pubkey_len;
	const char *registered_url; /* "" before it is known */
	size_t instances;
	const struct peer *peers;
	size_t peer_count;
	uint64_t peers_version; /* changes with the list */
};

struct readiness;

/* All but the first two may be NULL: a node without peers. */
struct readiness_hooks {
	/* Something in the view changed. */
	void (*changed)(void *arg);
	/* The secret was wiped: drop what hangs on it (the store). */
	void (*wiped)(void *arg);
	/* A secret whose hash stands on chain is there, or another than
	 * before: what hangs on it can be made. */
	void (*installed)(void *arg);
	/* Polled after a secret came from elsewhere: is the store filled? True
	 * once a peer's records were taken whole, or, with *complete false,
	 * once so many peers failed that the node is to serve without; later
	 * calls set *complete when they were taken after all. */
	bool (*filled)(void *arg, bool *complete);
	/* As in struct handover_ops. */
	int (*ask)(void *arg, const struct handover_peer *peer,
	    const void *body, size_t len, peer_outcome_fn done, void *done_arg,
	    uint64_t *id);
	void (*cancel)(void *arg, uint64_t id);
	bool (*deployed)(void *arg, const struct eth_address *wallet);
	void *arg;
};

/*
 * NULL without memory (also secmem). Everything but the hooks is borrowed for
 * life. random makes the candidate secret and the hand-over's keys.
 */
struct readiness *readiness_new(const struct keeper_config *config,
    struct registry *registry, struct identity *identity,
    identity_random_fn random, void *random_arg,
    const struct readiness_hooks *hooks);
void readiness_free(struct readiness *readiness); /* wipes the secrets */

/* kms-chain can be asked now: the next readiness_tick starts a round. Nothing
 * is asked before the first. */
void readiness_kick(struct readiness *readiness);

/* Peers can be called now, after a time when none could. */
void readiness_retry_peers(struct readiness *readiness);

/* Before every other input: what time it is. Membership that is too old ends
 * service here, also right after a suspension. */
void readiness_set_time(struct readiness *readiness, struct kms_time now);

/* Call at least every 100 ms. */
void readiness_tick(struct readiness *readiness, struct kms_time now);

const struct readiness_view *readiness_view(const struct readiness *readiness);

/* The master secret while the node is ready, else NULL. Borrowed. */
const uint8_t *readiness_master(const struct readiness *readiness);

/*
 * The master secret while its hash is the one on chain and the registry shows
 * this node as it is, else NULL: what /sync hangs on, also while the node is
 * not ready for another reason (two that wait for each other would wait for
 * ever). Borrowed until the next input.
 */
const uint8_t *readiness_secret(const struct readiness *readiness);

/*
 * Answer a master_secret_request or a secret_offer of an authenticated peer;
 * as handover_serve.
 */
unsigned int readiness_serve(struct readiness *readiness,
    const struct eth_address *wallet, const struct sync_message *message,
    struct buf *answer, const char **text);

/* Must this node get the records of others before it serves? Not when it made
 * the secret. False without a secret. */
bool readiness_fills(const struct readiness *readiness);

/* Members that are valid peers other than this node. */
size_t readiness_peer_count(const struct readiness *readiness);

#endif
