/*
 * A cluster of whole keepers in one thread: each node is the keeper's core as
 * main.c drives it, with real keys, on a simulated chain, network and clock,
 * all driven by one seed. The same seed gives the same trace.
 *
 * What stands around a core here: kms-net (simk_net.c at the called end, and
 * simk_app.c), kms-chain peer (simk_net.c at the calling end), kms-chain rpc
 * with its endpoints (simk_answer.c), the chain (simk_chain.c), apps
 * (simk_app.c), and whoever means harm: a man in the middle, an endpoint that
 * lies, a registered node that has turned, a stranger who wants to be one.
 */
#ifndef KMS_REGRESS_SIMK_H
#define KMS_REGRESS_SIMK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "kms-keeper/keeper.h"
#include "kms-keeper/transaction.h"
#include "regress/sim/runner.h"
#include "regress/sim/schedule.h"

#define WALL0 INT64_C(1767225600000)
#define BOOT0 INT64_C(5000000)
#define CHAIN_ID 31337
#define KMS_APP 49
#define APP0 100 /* IDs of the apps, from this one on */
#define NODES_MIN 3
#define NODES_MAX 6  /* members, or nodes that become members */
#define PLACES_MAX 7 /* and the stranger behind them */
#define APPS 2
#define KEYS 6 /* of each app */
#define KEYS_MAX (PLACES_MAX + APPS + 4)
#define ENDPOINTS 3
#define BLOCK_MS 2000
#define BLOCKS_MAX 2048
#define BLOCK0 1000 /* number of the first block */
#define TXS_MAX 512
#define ERAS_MAX 128
#define WRITES_MAX 1024
#define CAPTURED_MAX 8

/* What the keepers are told; short, so that much happens soon. */
#define TICK_MS 100
#define NODE_TICK_MS 4000
#define CACHE_TTL_MS 15000
#define MEMBERSHIP_MS 25000
#define WIPE_MS 120000
#define REPLICA_MS 2000
#define MAX_NONCES 256
#define MAX_APP_STORAGE 65536

/* Rules that are broken on purpose, around the keepers, to see that a checker
 * notices. */
enum mutation {
	MUTATE_NONE,
	MUTATE_TWO_HASHES, /* the chain shows half of the nodes another hash */
	MUTATE_FINALITY,   /* what is called finalized is not */
	MUTATE_ONE_BELIEVED, /* a quorum of one, and that one lies */
	MUTATE_UNMINED,	     /* each node sees its own transaction mined */
	MUTATE_FALSE_PEER,   /* all endpoints name the stranger as a peer */
	MUTATE_LOST,	     /* stores forget what they acknowledged */
	MUTATE_UNDONE,	     /* a deleted value comes back */
	MUTATE_MEMORY,	     /* nodes keep ten times what they may */
	MUTATE_DEAF,	     /* one node never hears of the others again */
	MUTATIONS
};

/* What a seed's run is like. */
struct profile {
	unsigned int nodes;
	unsigned int quorum; /* of ENDPOINTS, or 1 of 1 */
	bool liar;	     /* with a quorum: the last endpoint lies */
	bool wrong;	     /* without: now and then one answer is wrong */
	bool no_final;	     /* the chain knows no finalized block */
	bool reorganises, resets, revokes, joins;
	bool crashes, jumps, outages, partitions;
	bool middle;	   /* a man in the middle */
	bool hostile;	   /* node 0 has turned */
	bool stranger;	   /* an unregistered node runs, too */
	bool slow;	   /* keys are in a service that takes its time */
	unsigned int loss; /* per mille */
	int64_t delay_ms, chaos_ms;
	unsigned int final_depth; /* blocks */
};

/* ---- the chain ----------------------------------------------------------- */

enum tx_kind {
	TX_SET_HASH, /* a node's */
	TX_RESET,    /* the owner's, as the others */
	TX_NODE,     /* value: its instance's status */
	TX_VERSION,  /* value: its version's status */
	TX_APP	     /* value: the status of an app's instance */
};

struct tx {
	enum tx_kind kind;
	unsigned int who;
	uint64_t nonce; /* TX_SET_HASH */
	uint64_t fee;
	struct eth_word id;   /* its hash */
	struct eth_word hash; /* that it sets */
	uint8_t value;
	bool dead;	/* it can never be mined */
	uint64_t block; /* 0: it waits */
	bool ok;	/* it was mined and not reverted */
};

/* The state behind a block. */
struct block {
	int64_t time_s;
	struct eth_word hash;
	uint8_t status[PLACES_MAX]; /* enum instance_status, or ABSENT */
	uint8_t version[2];	    /* of even and odd nodes */
	uint8_t app[APPS];
	uint64_t nonce[PLACES_MAX];
};

#define ABSENT 255

/* A hash that was on chain, in a branch that was given up later perhaps; and
 * every secret that any node ever made. */
struct era {
	struct eth_word hash;
	bool on_chain;
	int64_t seen_ms; /* when it was last at the head */
	bool known;
	uint8_t secret[MASTER_SECRET_LEN];
};

struct chain {
	struct block blocks[BLOCKS_MAX];
	uint64_t head;
	uint64_t final; /* never goes back */
	struct tx txs[TXS_MAX];
	size_t tx_count;
	struct era eras[ERAS_MAX];
	size_t era_count;
	int64_t active_ms[PLACES_MAX]; /* when it was last a valid member */
	int64_t app_ms[APPS];
};

/* ---- nodes --------------------------------------------------------------- */

struct world;

struct node {
	struct world *world;
	unsigned int index;
	bool alive, hostile, stranger;
	uint32_t life; /* counts its starts */
	struct keeper_config config;
	struct keeper *keeper;
	struct identity *identity; /* the keeper's */
	const struct identity_ops *identity_ops;
	struct known_key { /* agreements, when the identity is slow */
		struct p384_point point;
		struct agreement *agreement;
	} keys[KEYS_MAX];
	size_t key_count;
	struct eth_address wallet;
	struct p384_point point;
	uint8_t wallet_key[WALLET_KEY_LEN];
	uint8_t tee_key[P384_SCALAR_LEN];
	char url[32];
	uint64_t random;
	int64_t skew_ms;	 /* wall clock against the world's */
	int64_t wake_ms;	 /* when keeper_wake is due, 0: not */
	int64_t chain_down_ms;	 /* kms-chain rpc answers nothing until then */
	int64_t kept_ms;	 /* since when it holds what it should wipe */
	uint64_t contrary_block; /* since when the chain is against it */
	int64_t contrary_ms, contrary_seen_ms; /* the same as times */
	int64_t peer_down_ms;		       /* likewise kms-chain peer */
	int64_t wrong_ms; /* when it last got a wrong answer */
	size_t posts;	  /* calls of it under way */
	int64_t second;	  /* of the world's time, and wakes in it */
	unsigned int wakes;

	/* what the checkers saw last */
	bool installed, has_candidate;
	uint8_t master[MASTER_SECRET_LEN];
	struct eth_word master_hash, candidate_hash;
	uint64_t installed_block;
	int64_t lost_ms; /* when it last started, or lost its store */
};

/* ---- calls between nodes ------------------------------------------------- */

struct message {
	enum peer_kind kind;
	char signature[161], pop_nonce[129], timestamp[33], wallet[65];
	char auth[17], content_hash[129], sync_signature[129];
	char sender[513], nonce[65];
	char *data;
	size_t data_len;
};

struct net_call {
	TAILQ_ENTRY(net_call) link;
	uint64_t id;	   /* the caller's, and the handle at the called end */
	uint64_t original; /* of a replay: the call that it repeats */
	unsigned int from, to;
	uint32_t from_life, to_life;
	bool wanted; /* the caller waits for the reply */
	bool arrived, answered;
	int64_t begun_ms, deadline_ms;
	struct message message;
	peer_done_fn done;
	void *arg;
	struct peer_reply *reply; /* on its way back */
};

TAILQ_HEAD(net_calls, net_call);

/* What the man in the middle has kept. */
struct captured {
	uint64_t id; /* of the call, 0: none */
	unsigned int from, to;
	bool accepted; /* it has had its answer */
	struct message message;
	struct peer_reply *reply;
};

/* ---- apps ---------------------------------------------------------------- */

enum op_kind { OP_PUT, OP_DELETE, OP_GET, OP_DERIVE, OP_LIST };

/* A request of an app under way. */
struct op {
	TAILQ_ENTRY(op) link;
	uint64_t handle;
	unsigned int app, key, node;
	uint32_t life;
	enum op_kind kind;
	uint64_t value;
	unsigned int replicas;
	bool replay;
};

TAILQ_HEAD(op_list, op);

struct app {
	struct eth_address wallet;
	uint8_t wallet_key[WALLET_KEY_LEN];
	struct p384_key *tee;
	bool busy[KEYS];
	uint8_t shared[PLACES_MAX][P384_SHARED_LEN]; /* with each node */
	bool has_shared[PLACES_MAX];
};

/* A value that an app sent, and what it was told. */
struct write {
	unsigned int app, key, node;
	uint32_t life;
	int64_t begun_ms;
	bool deletion;
	uint64_t value;
	uint64_t clock[PLACES_MAX]; /* of the record then; 0s: untold */
	struct eth_word era;	    /* hash of the secret it is under */
	bool told;		    /* acknowledged with replicas */
	bool exempt;		    /* whoever held it is gone */
};

/* ---- the world ----------------------------------------------------------- */

enum event_type {
	EVENT_TICK,
	EVENT_WAKE,
	EVENT_QUESTION, /* of the chain */
	EVENT_ARRIVE,	/* a call at its target */
	EVENT_BODY,	/* its body */
	EVENT_REPLY,	/* its answer at the caller */
	EVENT_CUT,	/* no connection, or no more */
	EVENT_DEADLINE, /* of a call */
	EVENT_IDENTITY, /* a result of the keys' service */
	EVENT_BLOCK,
	EVENT_WORK, /* of an app */
	EVENT_FAULT,
	EVENT_OWNER, /* of the registries */
	EVENT_RESTART,
	EVENT_MIDDLE
};

struct question {
	uint64_t id;
	struct registry_question q;
	uint8_t raw[TRANSACTION_RAW_MAX];
};

struct work;

struct event {
	int64_t at_ms;
	enum event_type type;
	unsigned int node;
	uint32_t life;
	uint64_t id;
	struct question *question; /* EVENT_QUESTION */
	struct work *work;	   /* EVENT_IDENTITY */
};

struct world {
	uint64_t seed, random, trace;
	int64_t now_ms;
	struct profile profile;
	enum mutation mutation;
	struct schedule schedule; /* of events */
	uint64_t last_id;
	struct chain chain;
	struct node nodes[PLACES_MAX];
	bool blocked[PLACES_MAX][PLACES_MAX];
	bool calm;
	int64_t rescued_ms; /* when the owner last reset a lost hash */
	struct wallet_context *wallets; /* the apps' */
	struct app apps[APPS];
	struct op_list ops;
	struct net_calls calls;
	struct captured captured[CAPTURED_MAX];
	struct write writes[WRITES_MAX];
	size_t write_count;
	uint64_t messages, events, met;
	unsigned int served;	 /* requests of apps answered with 200 */
	char reason[REASON_LEN]; /* "" while no rule is violated */
	bool verbose;
};

/* simk_world.c */
uint64_t simk_random(struct world *world);
uint64_t simk_below(struct world *world, uint64_t bound);
bool simk_chance(struct world *world, unsigned int per_mille);
void simk_fill(uint64_t *state, uint8_t *out, size_t len);
void simk_fail(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void simk_note(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void simk_trace(struct world *world, const void *data, size_t len);
void simk_push(struct world *world, struct event event);
bool simk_step(struct world *world);
void simk_run_until(struct world *world, int64_t at_ms);
void simk_world_free(struct world *world);

/* simk_plan.c */
void simk_plan(struct world *world, unsigned int nodes);
void simk_fault(struct world *world);
void simk_owner(struct world *world);
void simk_calm(struct world *world);
/* What is done for a cluster that has lost its secret. */
void simk_rescue(struct world *world);

/* simk_chain.c */
void simk_chain_begin(struct world *world);
void simk_chain_block(struct world *world);
void simk_chain_reorganise(struct world *world, unsigned int depth);
void simk_chain_owner(
    struct world *world, enum tx_kind kind, unsigned int who, uint8_t value);
bool simk_chain_send(struct world *world, unsigned int who, const uint8_t *raw,
    size_t len, struct eth_word *id);
struct tx *simk_chain_tx(struct world *world, const struct eth_word *id);
struct block *simk_block(struct world *world, uint64_t number);
struct era *simk_era(struct world *world, const struct eth_word *hash);
bool simk_is_member(const struct block *block, unsigned int node);

/* simk_answer.c */
int simk_ask(void *arg, uint64_t id, const struct registry_question *question);
void simk_answer(struct world *world, struct event *event);

/* simk_node.c */
struct kms_time simk_time(const struct world *world, unsigned int node);
void simk_set_time(struct world *world, unsigned int node);
void simk_node_keys(struct world *world, unsigned int node);
void simk_start(struct world *world, unsigned int node);
void simk_crash(struct world *world, unsigned int node);
/* After every input to a node. */
void simk_settle(struct world *world, unsigned int node);
void simk_node_wake(struct world *world, struct event *event);

/* simk_identity.c */
void simk_identity_watch(struct node *node);
void simk_identity_end(struct node *node);
void simk_identity_done(struct world *world, struct event *event);
void simk_work_free(struct work *work);

/* simk_net.c */
int simk_post(void *arg, const struct peer_call *call, uint64_t *id);
void simk_unpost(void *arg, uint64_t id);
void simk_net_answer(
    struct world *world, uint64_t handle, const struct answer *answer);
void simk_net_go(struct world *world, uint64_t handle, size_t most);
void simk_net_event(struct world *world, const struct event *event);
void simk_net_crash(struct world *world, unsigned int node);
void simk_net_cut(struct world *world, unsigned int node); /* the caller's */
struct net_call *simk_call_new(
    struct world *world, unsigned int from, unsigned int to, int64_t ms);
void simk_net_free(struct world *world);

/* simk_middle.c */
void simk_reply_free(struct peer_reply *reply);
struct peer_reply *simk_error_reply(
    unsigned int status, const char *code, const char *message);
void simk_middle_request(struct world *world, const struct net_call *call);
void simk_middle_answered(struct world *world, const struct net_call *call);
void simk_middle_reply(struct world *world, struct net_call *call);
void simk_middle_turn(struct world *world);
void simk_middle_free(struct world *world);

/* simk_app.c */
void simk_app_begin(struct world *world);
void simk_app_work(struct world *world);
/* A write under a fresh key that is to be acknowledged by all others; the
 * answer is in world->met. */
void simk_app_write(struct world *world, unsigned int node, unsigned int all);
void simk_app_answer(
    struct world *world, uint64_t handle, const struct answer *answer);
void simk_app_crash(struct world *world, unsigned int node);
void simk_app_free(struct world *world);

/* simk_check.c */
void simk_check_node(struct world *world, unsigned int node);
/* It seals a secret to somebody, as an offer or as an answer. */
void simk_check_given(struct world *world, unsigned int node,
    const struct p384_point *other, bool offer);
void simk_check_told(struct world *world, struct write *write, unsigned int k);
void simk_check_holders(struct world *world);
bool simk_is_held(struct world *world);
bool simk_is_level(struct world *world, bool complain);
void simk_check_end(struct world *world);
uint64_t simk_counter(const struct world *world,
    const struct store_record *record, unsigned int node);
bool simk_look(const struct world *world, unsigned int node, unsigned int app,
    unsigned int key, struct store_record *record);

#endif
