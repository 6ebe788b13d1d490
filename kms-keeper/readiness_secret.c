/* The secret and its candidate: made, submitted, installed, and wiped when a
 * contrary fact is final. */
#include "kms-keeper/readiness_internal.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "kms-keeper/authz.h"
#include "proto/msg.h"

/* ---- secrets ---- */

static bool
same_hash(const struct eth_word *a, const struct eth_word *b)
{
	return memcmp(a->bytes, b->bytes, ETH_WORD_LEN) == 0;
}

static void
drop_candidate(struct readiness *r)
{
	handover_offer_stop(r->handover);
	OPENSSL_cleanse(r->candidate, MASTER_SECRET_LEN);
	r->has_candidate = false;
}

/* The caller has seen that the chain shows this secret's hash. */
static void
install(struct readiness *r, const uint8_t *secret, enum master_state state,
    const char *url)
{
	memcpy(r->master, secret, MASTER_SECRET_LEN);
	r->master_hash = r->chain_hash;
	r->installed = r->stands = true;
	r->master_state = state;
	r->fills = state == MASTER_SYNCED;
	r->filled = false;
	(void)snprintf(r->synced_from, sizeof(r->synced_from), "%s", url);
	handover_seek_stop(r->handover);
	if (r->hooks.installed != NULL)
		r->hooks.installed(r->hooks.arg);
}

void
readiness_install_candidate(struct readiness *r)
{
	install(r, r->candidate, MASTER_GENERATED, "");
	/* Seen so late that others may have served with it, from an offer. */
	r->fills = r->now.boot_ms - r->submitted_ms >
	    (int64_t)r->config->membership_max_age;
	drop_candidate(r);
}

bool
readiness_install_found(struct readiness *r)
{
	const uint8_t *found;
	const char *url;

	if (r->installed || readiness_is_stale(r))
		return false;
	found = handover_found(r->handover, &r->chain_hash, &url);
	if (found == NULL)
		return false;
	log_info("the master secret was handed over by %s",
	    url[0] != '\0' ? url : "a former peer");
	install(r, found, MASTER_SYNCED, url);
	readiness_update_view(r);
	return true;
}

/* Wipe what is not the secret of the hash that stands for good; NULL: this
 * node is none any more. */
static void
wipe_master(struct readiness *r, const char *why, const struct eth_word *final)
{
	log_warn("wiping the master secret and the store: %s", why);
	OPENSSL_cleanse(r->master, MASTER_SECRET_LEN);
	r->installed = r->stands = false;
	r->fills = r->filled = false;
	r->synced_from[0] = '\0';
	r->view.complete = true;
	r->master_state = MASTER_UNINITIALIZED;
	r->contrary = CONTRARY_NONE;
	/* The head may be further: a candidate or an offer may stand there, or
	 * be mined yet. That race has an end of its own. */
	if (final != NULL) {
		handover_drop_offer(r->handover, &r->master_hash);
	} else {
		/* A transaction that may still be mined would need it. */
		if (!submission_open(r->submission))
			drop_candidate(r);
		handover_drop_offers(r->handover, NULL);
	}
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
	    submission_awaits(r->submission, &r->candidate_hash, r->hash_block,
		r->config->confirmations + AUTHZ_HEAD_STEP_BACK))
		return;
	r->waits_for_offers =
	    !r->candidate_sent && !handover_offered(r->handover);
	if (r->waits_for_offers)
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

bool
readiness_has_leftovers(const struct readiness *r)
{
	return handover_offers(r->handover) > 0 ||
	    (r->has_candidate && !submission_open(r->submission));
}

static void
race_is_final(
    struct readiness *r, const char *why, const struct eth_word *final)
{
	bool ours = r->installed && same_hash(final, &r->master_hash);

	if (r->has_candidate && !r->contrary_open &&
	    !submission_open(r->submission) &&
	    !same_hash(final, &r->candidate_hash)) {
		log_info("dropping the candidate secret: %s", why);
		drop_candidate(r);
	}
	handover_drop_offers(r->handover, ours ? NULL : final);
	r->contrary = CONTRARY_NONE;
}

/* Of a node that is none any more, and holds no secret. */
static void
drop_leftovers(struct readiness *r, const char *why)
{
	log_info("dropping the candidate secret and offers: %s", why);
	drop_candidate(r);
	handover_drop_offers(r->handover, NULL);
	r->contrary = CONTRARY_NONE;
}

/* Would a transaction that may still be mined need what is at stake? */
static bool
is_needed(const struct readiness *r)
{
	if (r->contrary == CONTRARY_RACE || !r->installed)
		return submission_open(r->submission);
	return submission_needs(r->submission, &r->master_hash);
}

static void
contrary_is_final(
    struct readiness *r, const char *why, const struct eth_word *final)
{
	if (r->contrary == CONTRARY_RACE) {
		race_is_final(r, why, final);
	} else if (is_needed(r) || r->contrary_open) {
		/* What has been mined since is not final. */
	} else if (r->installed) {
		wipe_master(r, why, final);
		return;
	} else {
		drop_leftovers(r, why);
	}
	readiness_tick_done(r, (int64_t)r->config->node_tick);
}

/* Does the finalized hash say what the contrary fact said? A race is over only
 * when nothing has happened since that block either. */
static bool
hash_is_contrary(const struct readiness *r, const struct eth_word *hash)
{
	if (r->contrary != CONTRARY_RACE)
		return !same_hash(hash, &r->master_hash);
	return !eth_word_is_zero(hash) && same_hash(hash, &r->chain_hash) &&
	    !(r->has_candidate && same_hash(hash, &r->candidate_hash));
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
		    "finalized block",
		    NULL);
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
		    "wipe-confirmations have passed",
		    r->contrary == CONTRARY_REGISTRATION ? NULL
							 : &r->chain_hash);
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
		    "finalized block",
		    &answer->hash);
	else
		readiness_tick_done(r, (int64_t)r->config->node_tick);
}

/*
 * From which block, and when, must it stand? From the first sighting; where a
 * transaction was open then, from its end. Hash and registration that take
 * turns are one state: what counts is what stands at a final block since.
 */
static void
note_contrary(struct readiness *r, enum contrary contrary)
{
	enum contrary before = r->contrary;
	uint64_t mined = submission_block(r->submission);
	bool goes_on = before == contrary ||
	    (before != CONTRARY_NONE && before != CONTRARY_RACE &&
		contrary != CONTRARY_RACE);
	bool open, ended;

	r->contrary = contrary;
	open = is_needed(r);
	ended = r->contrary_open && !open;
	if (!goes_on || ended)
		r->contrary_block = mined > r->block ? mined : r->block;
	if (before != contrary || ended)
		r->contrary_since_ms = r->now.boot_ms;
	r->contrary_open = open;
}

void
readiness_check_finality(struct readiness *r, enum contrary contrary)
{
	struct registry_question question = {
		.kind = REGISTRY_HASH,
		.endpoint = MSG_ENDPOINT_ANY,
		.finalized = true,
	};

	note_contrary(r, contrary);
	readiness_ask(r, STEP_FINAL_HASH, &question, on_final_hash, r);
}
