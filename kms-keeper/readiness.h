/*
 * Becoming ready and staying it (PROTOCOL.md section 8): one tick reads the
 * membership and the hash, decides, and installs, submits or withdraws. A
 * state machine: facts of the chain and the time in, questions and a state
 * out. Alone on this node: the hand-over between nodes comes with /sync.
 */
#ifndef KMS_KEEPER_READINESS_H
#define KMS_KEEPER_READINESS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/clock.h"
#include "kms-keeper/config.h"
#include "kms-keeper/derive.h"
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
	const char *refusal; /* NULL: valid; else why not */
};

/* What /status and /nodes tell; borrowed, valid until the next event. */
struct readiness_view {
	bool ready;
	const char *reason; /* "" when ready */
	enum master_state master_state;
	bool master_initialized;
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

struct readiness_hooks {
	/* Something in the view changed. */
	void (*changed)(void *arg);
	/* The secret was wiped: drop what hangs on it (the store). */
	void (*wiped)(void *arg);
	void *arg;
};

/*
 * NULL without memory (also secmem). Everything is borrowed for life. random
 * makes the candidate secret.
 */
struct readiness *readiness_new(const struct keeper_config *config,
    struct registry *registry, struct identity *identity,
    identity_random_fn random, void *random_arg,
    const struct readiness_hooks *hooks);
void readiness_free(struct readiness *readiness); /* wipes the secrets */

/* kms-chain can be asked now: the next readiness_tick starts a round. Nothing
 * is asked before the first. */
void readiness_kick(struct readiness *readiness);

/* Before every other input: what time it is. Membership that is too old ends
 * service here, also right after a suspension. */
void readiness_set_time(struct readiness *readiness, struct kms_time now);

/* Call at least every 100 ms. */
void readiness_tick(struct readiness *readiness, struct kms_time now);

const struct readiness_view *readiness_view(const struct readiness *readiness);

/* The master secret while the node is ready, else NULL. Borrowed. */
const uint8_t *readiness_master(const struct readiness *readiness);

/* Members that are valid peers other than this node. */
size_t readiness_peer_count(const struct readiness *readiness);

#endif
