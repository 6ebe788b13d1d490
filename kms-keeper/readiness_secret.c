/* The secret and its candidate: made, submitted, installed, and wiped when a
 * contrary fact is final. */
#include "kms-keeper/readiness_internal.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/log.h"
#include "proto/msg.h"

/* ---- secrets ---- */

static void
drop_candidate(struct readiness *r)
{
	OPENSSL_cleanse(r->candidate, MASTER_SECRET_LEN);
	r->has_candidate = false;
}

void
readiness_install_candidate(struct readiness *r)
{
	memcpy(r->master, r->candidate, MASTER_SECRET_LEN);
	r->master_hash = r->candidate_hash;
	r->installed = true;
	r->master_state = MASTER_GENERATED;
	drop_candidate(r);
}

static void
wipe_master(struct readiness *r, const char *why)
{
	log_warn("wiping the master secret and the store: %s", why);
	OPENSSL_cleanse(r->master, MASTER_SECRET_LEN);
	r->installed = false;
	r->master_state = MASTER_UNINITIALIZED;
	r->contrary = CONTRARY_NONE;
	r->hooks.wiped(r->hooks.arg);
	readiness_update_view(r);
	readiness_tick_done(r, 0);
}

void
readiness_make_candidate(struct readiness *r)
{
	if (r->has_candidate)
		return;
	r->random(r->random_arg, r->candidate, MASTER_SECRET_LEN);
	master_secret_hash(r->candidate, r->candidate_hash.bytes);
	r->has_candidate = true;
	r->candidate_sent = false;
}

void
readiness_submit_candidate(struct readiness *r)
{
	if (submission_open(r->submission) ||
	    submission_awaits(r->submission, &r->candidate_hash, r->hash_block))
		return;
	/* One that was mined in vain costs gas: do not repeat it at once. */
	if (r->candidate_sent &&
	    submission_state(r->submission) != SUBMISSION_IDLE &&
	    r->now.boot_ms - r->submitted_ms < READINESS_STUCK_MS)
		return;
	if (submission_start(r->submission, &r->candidate_hash, r->now) == 0) {
		r->candidate_sent = true;
		r->submitted_ms = r->now.boot_ms;
	}
}

/* ---- a contrary fact: stop at once, wipe only what is final ---- */

static void
contrary_is_final(struct readiness *r, const char *why)
{
	if (r->contrary == CONTRARY_RACE) {
		log_info("dropping the candidate secret: %s", why);
		drop_candidate(r);
		r->contrary = CONTRARY_NONE;
	} else if (!submission_open(r->submission)) {
		wipe_master(r, why);
		return;
	}
	/* A transaction that may still be mined would need the secret. */
	readiness_tick_done(r, (int64_t)r->config->node_tick);
}

/* Does the finalized hash say what the contrary fact said? */
static bool
hash_is_contrary(const struct readiness *r, const struct eth_word *hash)
{
	const struct eth_word *own = &r->master_hash;

	if (r->contrary == CONTRARY_RACE) {
		if (eth_word_is_zero(hash))
			return false;
		own = &r->candidate_hash;
	}
	return memcmp(hash->bytes, own->bytes, ETH_WORD_LEN) != 0;
}

static void
on_final_instance(void *arg, int error, const struct registry_answer *answer)
{
	struct readiness *r = arg;

	if (r->step != STEP_FINAL_INSTANCE)
		return;
	/* A version revoked by mistake is no reason. */
	if (error == 0 &&
	    (!answer->instance.found ||
		answer->instance.status != INSTANCE_ACTIVE))
		contrary_is_final(r,
		    "this node's registration ended at a "
		    "finalized block");
	else
		readiness_tick_done(r, (int64_t)r->config->node_tick);
}

static void
on_final_hash(void *arg, int error, const struct registry_answer *answer)
{
	struct readiness *r = arg;
	struct registry_question question = {
		.kind = REGISTRY_INSTANCE,
		.endpoint = MSG_ENDPOINT_ANY,
		.wallet = r->identity->wallet,
	};
	bool waited = r->now.boot_ms - r->contrary_since_ms >=
	    (int64_t)r->config->wipe_confirmations;

	if (r->step != STEP_FINAL_HASH)
		return;
	if (error != 0 && answer->failure == CHAIN_ERROR_REFUSED && waited) {
		contrary_is_final(r,
		    "the chain has no finalized block, and "
		    "wipe-confirmations have passed");
		return;
	}
	if (error != 0 || answer->chain_id != r->config->chain_id ||
	    answer->block < r->contrary_block) {
		readiness_tick_done(r, (int64_t)r->config->node_tick);
		return;
	}
	if (r->contrary == CONTRARY_REGISTRATION) {
		question.block = answer->block;
		readiness_ask(
		    r, STEP_FINAL_INSTANCE, &question, on_final_instance, r);
		return;
	}
	if (hash_is_contrary(r, &answer->hash))
		contrary_is_final(r,
		    "another masterSecretHash stands at a "
		    "finalized block");
	else
		readiness_tick_done(r, (int64_t)r->config->node_tick);
}

void
readiness_check_finality(struct readiness *r, enum contrary contrary)
{
	struct registry_question question = {
		.kind = REGISTRY_HASH,
		.endpoint = MSG_ENDPOINT_ANY,
		.finalized = true,
	};

	if (r->contrary != contrary) {
		r->contrary = contrary;
		r->contrary_block = r->block;
		r->contrary_since_ms = r->now.boot_ms;
	}
	readiness_ask(r, STEP_FINAL_HASH, &question, on_final_hash, r);
}
