/* What the files of readiness share. Not for others. */
#ifndef KMS_KEEPER_READINESS_INTERNAL_H
#define KMS_KEEPER_READINESS_INTERNAL_H

#include "kms-keeper/authz.h"
#include "kms-keeper/readiness.h"
#include "kms-keeper/submission.h"

/* Where a tick stands. Each step asks, and the answer takes the next. */
enum step {
	STEP_IDLE,
	STEP_HASH,	    /* head and masterSecretHash */
	STEP_MEMBERS,	    /* getActiveInstances at that head */
	STEP_INSTANCES,	    /* each member at that head */
	STEP_FINAL_HASH,    /* a contrary fact: does it stand for good? */
	STEP_FINAL_INSTANCE /* the same of our own registration */
};

/* What has to stand for good before something is wiped. */
enum contrary {
	CONTRARY_NONE,
	CONTRARY_HASH,	       /* the secret's hash is not the one on chain */
	CONTRARY_REGISTRATION, /* this node is none any more */
	CONTRARY_RACE /* nothing against the secret: a hash stands that is not
			 the candidate's, or not those of offers */
};

struct member_row {
	struct readiness *owner;
	struct eth_address wallet;
	struct instance_facts facts;
	int64_t fetched_ms; /* 0: never */
};

struct readiness {
	const struct keeper_config *config;
	struct registry *registry;
	struct identity *identity;
	identity_random_fn random;
	void *random_arg;
	struct readiness_hooks hooks;
	struct submission *submission;
	struct handover *handover;
	bool waits_for_offers; /* before the candidate is sent */
	bool problem_told;     /* handover_problem, in the reason */
	bool rereads;	       /* this tick began after the hand-over's doubt */
	enum submission_state submission_seen; /* by the last tick */
	int64_t submitted_ms; /* boot time of the last submission's start */
	struct kms_time now;
	int64_t next_tick_ms;
	int64_t retry_ms; /* next delay after a failure, 0: none failed */
	int64_t wait_ms;  /* last delay while refused; 0: the reason is new */
	enum step step;
	struct head_guard guard;

	/* this tick's facts */
	uint64_t block;
	struct eth_word chain_hash;
	uint64_t hash_block;	 /* where it was read */
	struct member_row *rows; /* being read */
	size_t row_count;
	size_t row_next; /* to be asked */
	size_t row_done;
	size_t row_failed;

	/* the last complete facts */
	int64_t membership_ms; /* boot time; 0: never */
	struct member_row *members;
	size_t member_count;

	uint8_t *master; /* secmem, MASTER_SECRET_LEN */
	bool installed;
	bool stands; /* its hash is the chain's, as of the last facts */
	bool fills;  /* it came from elsewhere: the store, too, must come */
	bool filled; /* that is done, or given up */
	char synced_from[REGISTRY_URL_MAX + 1];
	enum master_state master_state;
	struct eth_word master_hash;
	uint8_t *candidate; /* secmem */
	bool has_candidate;
	bool candidate_sent; /* at least once, at submitted_ms */
	struct eth_word candidate_hash;

	enum contrary contrary;
	uint64_t contrary_block;   /* where it was first seen */
	bool contrary_open;	   /* a transaction that would need what is
				      at stake was open at the last look */
	int64_t contrary_since_ms; /* boot time */

	char reason[512];
	bool ready;
	const char *problem; /* the identity's, as last seen */
	struct readiness_view view;
	struct peer *peers; /* behind view.peers */
};

/* ---- readiness.c: a tick's end, and the state as others see it ---- */

void readiness_update_view(struct readiness *r);
void readiness_unavailable(struct readiness *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Facts stay good until membership-max-age even when a tick fails. */
void readiness_tick_failed(struct readiness *r, const char *text);
void readiness_tick_done(struct readiness *r, int64_t next_ms);

/* Are the last complete facts too old to go by? */
bool readiness_is_stale(const struct readiness *r);

/* Serve, unless the store must be filled first. */
void readiness_serve_or_fill(struct readiness *r);

/* All facts of the tick are there. */
void readiness_decide(struct readiness *r);

/* ---- readiness_members.c ---- */

/* Ask as this step; a question that cannot go out fails the tick. */
void readiness_ask(struct readiness *r, enum step step,
    const struct registry_question *question, registry_done_fn done, void *arg);

/* Begin a tick. */
void readiness_read_chain(struct readiness *r);

/* The members that were read are the membership now. */
void readiness_publish_members(struct readiness *r);

/* This node among them, NULL when it is not. */
const struct member_row *readiness_own_row(const struct readiness *r);

/* NULL when the registry shows this node as it is. */
const char *readiness_own_refusal(struct readiness *r);

/* ---- readiness_secret.c ---- */

/* A fresh candidate if there is none. */
void readiness_make_candidate(struct readiness *r);

/* Submit it, once every peer was offered it. */
void readiness_submit_candidate(struct readiness *r);

/* The candidate is the one on chain. */
void readiness_install_candidate(struct readiness *r);

/* What the hand-over found, if it is the one on chain: true when it is
 * installed now. */
bool readiness_install_found(struct readiness *r);

/* Are there a candidate that nothing can mine, or offers? */
bool readiness_has_leftovers(const struct readiness *r);

/* A fact stands against the secret (or the candidate): wipe once it is final.
 * Ends the tick. */
void readiness_check_finality(struct readiness *r, enum contrary contrary);

#endif
