/*
 * Inside the quorum: open questions, their endpoints' votes, and what is said
 * of them. For quorum.c and quorum_vote.c.
 */
#ifndef KMS_KEEPER_QUORUM_INTERNAL_H
#define KMS_KEEPER_QUORUM_INTERNAL_H

#include <sys/queue.h>

#include "common/keccak256.h"
#include "kms-keeper/quorum.h"

#define SEAT_TEXT_MAX 128

struct vote {
	uint64_t block;
	int64_t block_time;
	uint8_t facts[KECCAK256_LEN];
};

/* One endpoint's place in a group. */
struct seat {
	struct group *group;
	bool asked;	      /* a question is under way */
	bool holds;	      /* counts in quorum->open */
	unsigned int failure; /* enum chain_error, 0: none */
	size_t vote_count;
	struct vote *votes; /* the first at the block the question names */
	char text[SEAT_TEXT_MAX]; /* of the failure */
};

struct group {
	TAILQ_ENTRY(group) link;
	struct quorum *quorum;
	struct registry_question question; /* without raw */
	unsigned int mask;
	unsigned int need;
	bool decided; /* done was called; the rest only shows who dissents */
	int64_t asked_ms;     /* boot time */
	int64_t patient_till; /* with the silent; 0: too few have answered */
	struct vote agreed;
	registry_done_fn done;
	void *arg;
	size_t vote_max; /* of a seat */
	struct vote *votes;
	struct seat seats[REGISTRY_ENDPOINTS_MAX];
};

TAILQ_HEAD(group_list, group);

struct quorum {
	struct registry *registry;
	size_t endpoints;
	struct group_list waiting; /* for room at kms-chain */
	struct group_list started;
	size_t groups;
	size_t open[REGISTRY_ENDPOINTS_MAX];
	int64_t warned_ms[REGISTRY_ENDPOINTS_MAX]; /* 0: never */
	struct kms_time now;
};

/* What must be the same for two endpoints to agree: the block, its time and
 * the facts of the kind that was asked for. Of a HASH not the head, which is
 * each endpoint's own. */
struct vote vote_of(const struct registry_answer *answer);

/* The vote of a seat at a block; NULL: none. */
const struct vote *vote_at(const struct seat *seat, uint64_t block);

/* How many seats have this vote. */
unsigned int vote_support(const struct group *group, const struct vote *vote);

bool seat_is_in(const struct group *group, size_t i);
size_t seat_index(const struct seat *seat); /* of its endpoint */

/* Who agrees, differs, failed or is silent, for the one who asked. */
void quorum_explain(const struct group *group, char *text, size_t size);

/* The group is agreed: warn, once in QUORUM_WARN_MS, of a seat that says
 * something else or whose head is far from the agreed block. */
void quorum_warn_of(const struct seat *seat);

#endif
