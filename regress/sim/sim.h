/*
 * A cluster in one thread: stores and replication engines of several nodes on
 * a simulated network and clock, all driven by one seed. The same seed gives
 * the same trace.
 */
#ifndef KMS_REGRESS_SIM_H
#define KMS_REGRESS_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kms-keeper/sync.h"
#include "regress/sim/runner.h"
#include "regress/sim/schedule.h"

#define NODES_MAX 128
#define KEYS 24
#define APPS 2
#define WALL0 INT64_C(1767225600000)
#define WRITES_MAX 1024

/* Rules that are broken on purpose, to see that a checker notices. */
enum mutation {
	MUTATE_NONE,
	MUTATE_CONVERGENCE,  /* pushes are swallowed, comparisons say "equal" */
	MUTATE_ACKNOWLEDGED, /* acknowledged without having arrived */
	MUTATE_DELETION,     /* a tombstone is forgotten and the value sent */
	MUTATE_CAUSALITY,    /* an older version takes a newer one's place */
	MUTATE_MEMORY,	     /* a node keeps ten times what it may */
	MUTATE_MEMBERS,	     /* extensions are sent to a deployed peer */
	MUTATE_EVICTED,	     /* nobody takes what others have evicted */
	MUTATIONS,
};

enum role { ROLE_OURS, ROLE_DEPLOYED, ROLE_HOSTILE };

/* What a seed's run is like. */
struct profile {
	unsigned int nodes;
	bool hostile, deployed, evicting, jumps, crashes, members;
	bool away; /* short retention, one node isolated for longer */
	unsigned int loss, duplicate; /* per mille */
	int64_t delay_ms, chaos_ms;
	unsigned int writes;
};

struct node {
	enum role role;
	bool alive, member, isolated;
	uint32_t life; /* counts its starts */
	char wallet[SYNC_WALLET_LEN + 1];
	char member_name[SYNC_WALLET_LEN + 1]; /* in clocks */
	struct store *store;
	struct sync *sync;
	int64_t skew_ms; /* wall clock against the world's */
	int64_t tick_ms; /* when its next tick is due; older events are void */
	int64_t started_ms;
	/* what its record of each key said last, for monotony */
	uint64_t shadow[APPS][KEYS][NODES_MAX];
};

/* A write that somebody was told is safe. */
struct told {
	uint64_t app;
	unsigned int key, node;
	uint64_t counter;	   /* of the writer's member */
	uint64_t clock[NODES_MAX]; /* all of them */
	bool deletion, done, met, exempt;
	uint32_t life; /* of the writer */
	bool holder[NODES_MAX];
	unsigned int died; /* nodes that crashed since the write */
};

enum event_type {
	EVENT_TICK,
	EVENT_REQUEST,
	EVENT_ANSWER,
	EVENT_WORKLOAD,
	EVENT_FAULT,
	EVENT_RESTART,
	EVENT_ACTOR,
};

struct event {
	int64_t at_ms;
	enum event_type type;
	unsigned int node, from;
	uint32_t life;
	uint64_t id;
	unsigned int status;
	int error;
	char *body;
	size_t len;
};

struct world {
	uint64_t seed, random, trace;
	int64_t now_ms;
	struct profile profile;
	enum mutation mutation;
	struct schedule schedule; /* of events */
	struct node nodes[NODES_MAX];
	bool blocked[NODES_MAX][NODES_MAX];
	bool calm;
	bool forgot[APPS][KEYS]; /* retention may have passed */
	struct told told[WRITES_MAX];
	size_t told_count;
	uint64_t messages, events, writes_met;
	char reason[REASON_LEN]; /* "" while no rule is violated */
	bool verbose;
};

/* sim_world.c */
uint64_t sim_random(struct world *world);
uint64_t sim_below(struct world *world, uint64_t bound);
bool sim_chance(struct world *world, unsigned int per_mille);
void sim_fail(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sim_push(struct world *world, struct event event);
struct kms_time sim_time(const struct world *world, unsigned int node);
void sim_key(unsigned int key, char text[16]);
void sim_set_members(struct world *world);
void sim_start(struct world *world, unsigned int node);
void sim_crash(struct world *world, unsigned int node);
void sim_transmit(struct world *world, unsigned int from, unsigned int to,
    uint64_t id, const void *body, size_t len);
void sim_settle(struct world *world, unsigned int node);
bool sim_step(struct world *world);
void sim_world_free(struct world *world);

/* sim_plan.c */
void sim_plan(struct world *world, unsigned int nodes);
void sim_workload(struct world *world);
void sim_fault(struct world *world);
void sim_calm(struct world *world);

/* sim_actor.c: the nodes that are not ours */
void sim_actor_turn(struct world *world, unsigned int node);
void sim_actor_answer(
    struct world *world, unsigned int node, const char *body, size_t len);
unsigned int sim_actor_request(struct world *world, unsigned int node,
    unsigned int from, const char *body, size_t len, struct buf *answer);

/* sim_check.c */
uint64_t sim_counter(const struct world *world,
    const struct store_record *record, unsigned int node);
void sim_check_step(struct world *world, unsigned int node);
void sim_check_told(struct world *world, struct told *told, unsigned int k);
void sim_check_crash(struct world *world, unsigned int node);
bool sim_is_converged(struct world *world, bool complain);
/* What must be so when all is calm, in the end: every write that was told to
 * be safe stands on all nodes, and all hold the same. */
bool sim_told_stand(struct world *world, bool complain);

/* sim_pair.c: tables of what two nodes cost; false: a repair too much */
bool sim_repair(void);
void sim_bulk(void);

#endif
