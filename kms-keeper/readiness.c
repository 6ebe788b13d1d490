#include "kms-keeper/readiness_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/secmem.h"
#include "proto/msg.h"

#define RETRY_MAX_MS 30000

/* ---- state as others see it ---- */

void
readiness_update_view(struct readiness *r)
{
	struct readiness_view *view = &r->view;

	/* Without the keys there is nothing that can be answered. */
	r->problem = r->identity->problem;
	view->ready = r->ready && r->problem == NULL;
	view->reason = r->problem != NULL ? r->problem : r->reason;
	view->master_state = r->master_state;
	view->master_initialized = r->installed;
	view->synced_from = r->synced_from;
	r->hooks.changed(r->hooks.arg);
}

static bool
change_state(struct readiness *r, bool ready, const char *reason)
{
	if (r->ready == ready && strcmp(r->reason, reason) == 0)
		return false;
	r->ready = ready;
	r->wait_ms = 0;
	(void)snprintf(r->reason, sizeof(r->reason), "%s", reason);
	readiness_update_view(r);
	return true;
}

static void
serve(struct readiness *r)
{
	if (change_state(r, true, ""))
		log_info("ready: serving");
}

/* Not ready, as every node that starts: nothing is wrong. */
static void
wait_for(struct readiness *r, const char *reason)
{
	if (r->ready)
		readiness_unavailable(r, "%s", reason);
	else if (change_state(r, false, reason))
		log_info("not serving yet: %s", reason);
}

void
readiness_unavailable(struct readiness *r, const char *format, ...)
{
	char text[sizeof(r->reason)];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* A character that was cut in half would break kms-net's frame. */
	for (size_t len = strlen(text);
	     len > 0 && !msg_text_valid((const uint8_t *)text, len);)
		text[--len] = '\0';
	if (change_state(r, false, text))
		log_warn("not serving: %s", text);
}

/* Facts stay good until membership-max-age even when a tick fails. */
bool
readiness_is_stale(const struct readiness *r)
{
	uint64_t age = (uint64_t)(r->now.boot_ms - r->membership_ms);

	return r->membership_ms == 0 || age > r->config->membership_max_age;
}

void
readiness_tick_failed(struct readiness *r, const char *text)
{
	r->step = STEP_IDLE;
	r->retry_ms =
	    r->retry_ms == 0 ? READINESS_RETRY_MIN_MS : r->retry_ms * 2;
	if (r->retry_ms > RETRY_MAX_MS)
		r->retry_ms = RETRY_MAX_MS;
	if (r->retry_ms > (int64_t)r->config->node_tick)
		r->retry_ms = (int64_t)r->config->node_tick;
	r->next_tick_ms = r->now.boot_ms + r->retry_ms;
	/* Nobody knows whether it still stands. */
	r->contrary_since_ms = r->now.boot_ms;
	log_warn("reading the chain: %s", text);
	if (!r->ready)
		readiness_unavailable(r, "the chain cannot be read: %s", text);
	else if (readiness_is_stale(r))
		readiness_unavailable(r,
		    "membership data is older than "
		    "membership-max-age: %s",
		    text);
}

void
readiness_tick_done(struct readiness *r, int64_t next_ms)
{
	r->step = STEP_IDLE;
	r->retry_ms = 0;
	r->next_tick_ms = r->now.boot_ms + next_ms;
}

/* ---- the decision ---- */

/* A secret that came from elsewhere brings no records: ask how far they are.
 * Nobody else has any while this node is alone. */
static void
poll_filled(struct readiness *r)
{
	bool complete = true, done = true;

	if (r->fills && r->hooks.filled != NULL && readiness_peer_count(r) > 0)
		done = r->hooks.filled(r->hooks.arg, &complete);
	if (done)
		r->filled = true;
	complete = complete && done;
	if (r->view.complete == complete)
		return;
	r->view.complete = complete;
	readiness_update_view(r);
}

void
readiness_serve_or_fill(struct readiness *r)
{
	poll_filled(r);
	if (r->filled)
		serve(r);
	else
		wait_for(r, "pulling a snapshot of the store from a peer");
}

static void
on_hash_zero(struct readiness *r)
{
	handover_seek_stop(r->handover);
	r->stands = false;
	if (r->installed) {
		handover_offer_stop(r->handover);
		readiness_unavailable(r,
		    "masterSecretHash was reset; the secret is "
		    "kept unused until that is final");
		readiness_check_finality(r, CONTRARY_HASH);
		return;
	}
	r->contrary = CONTRARY_NONE;
	readiness_make_candidate(r);
	handover_offer(r->handover, r->candidate, &r->candidate_hash);
	readiness_submit_candidate(r);
	if (submission_problem(r->submission)[0] != '\0')
		readiness_unavailable(r, "setting masterSecretHash: %s",
		    submission_problem(r->submission));
	else
		wait_for(r, "waiting for masterSecretHash to be set");
	readiness_tick_done(r, READINESS_RETRY_MIN_MS);
}

static void
tell_not_held(struct readiness *r)
{
	static const char not_held[] =
	    "the master secret behind masterSecretHash is not held here, and "
	    "no peer has handed it over";
	const char *problem = handover_problem(r->handover);

	r->problem_told = problem[0] != '\0';
	if (r->problem_told || readiness_peer_count(r) == 0)
		readiness_unavailable(r, "%s%s%s", not_held,
		    r->problem_told ? ": " : "", problem);
	else
		wait_for(r, not_held);
}

/* The hash is not that of a secret held here. */
static void
on_hash_unknown(struct readiness *r)
{
	int64_t next_ms = (int64_t)r->config->node_tick;

	tell_not_held(r);
	/* The race is lost; the candidate may go once nothing can mine it, in
	 * another order of the last blocks either. */
	submission_abandon(r->submission);
	if (handover_doubts(r->handover)) {
		readiness_tick_done(r, 0);
	} else if (readiness_has_leftovers(r)) {
		readiness_check_finality(r, CONTRARY_RACE);
	} else {
		r->contrary = CONTRARY_NONE;
		readiness_tick_done(r, next_ms);
	}
}

static void
on_hash_ours(struct readiness *r)
{
	r->stands = true;
	readiness_serve_or_fill(r);
	if (readiness_has_leftovers(r)) {
		readiness_check_finality(r, CONTRARY_RACE);
		return;
	}
	r->contrary = CONTRARY_NONE;
	readiness_tick_done(r, (int64_t)r->config->node_tick);
}

/* Look for the secret. One that a peer got wrong is looked for again only
 * when the chain has been read since. */
static void
seek(struct readiness *r)
{
	if (handover_doubts(r->handover) && !r->rereads)
		return;
	r->rereads = false;
	handover_seek(r->handover, &r->chain_hash);
	(void)readiness_install_found(r);
}

static void
on_hash_set(struct readiness *r)
{
	const uint8_t *hash = r->chain_hash.bytes;

	r->stands = false;
	handover_offer_stop(r->handover);
	if (!r->installed && r->has_candidate &&
	    memcmp(hash, r->candidate_hash.bytes, ETH_WORD_LEN) == 0)
		readiness_install_candidate(r);
	if (!r->installed)
		seek(r);
	if (!r->installed) {
		on_hash_unknown(r);
	} else if (memcmp(hash, r->master_hash.bytes, ETH_WORD_LEN) == 0) {
		on_hash_ours(r);
	} else {
		readiness_unavailable(r,
		    "masterSecretHash is another one now; the "
		    "secret is kept unused until that is final");
		readiness_check_finality(r, CONTRARY_HASH);
	}
}

/* A node that nobody has registered yet looks less and less often. */
static void
wait_for_registration(struct readiness *r)
{
	int64_t most = (int64_t)r->config->node_tick;

	r->wait_ms = r->wait_ms == 0 ? READINESS_RETRY_MIN_MS : r->wait_ms * 2;
	if (r->wait_ms > most)
		r->wait_ms = most;
	readiness_tick_done(r, r->wait_ms);
}

/* Of the reasons not to serve, only the end of the registration may cost the
 * secret: not a revoked version, nor what could not be read. */
static void
on_refusal(struct readiness *r)
{
	const struct member_row *own = readiness_own_row(r);
	bool gone = own == NULL ||
	    (own->fetched_ms != 0 &&
		(!own->facts.found || own->facts.status != INSTANCE_ACTIVE));

	if (gone)
		submission_abandon(r->submission);
	if (gone && (r->installed || readiness_has_leftovers(r))) {
		readiness_check_finality(r, CONTRARY_REGISTRATION);
		return;
	}
	if (!r->installed) {
		wait_for_registration(r);
		return;
	}
	/* What cannot be read takes nothing back, but nor does it stand while
	 * time passes. */
	if (own->fetched_ms != 0)
		r->contrary = CONTRARY_NONE;
	r->contrary_since_ms = r->now.boot_ms;
	readiness_tick_done(r, (int64_t)r->config->node_tick);
}

void
readiness_decide(struct readiness *r)
{
	const char *refusal;

	if (r->row_failed == r->row_count && r->row_count > 0) {
		readiness_tick_failed(r, "no member's instance could be read");
		return;
	}
	readiness_publish_members(r);
	refusal = readiness_own_refusal(r);
	if (refusal != NULL) {
		r->stands = false;
		handover_seek_stop(r->handover);
		handover_offer_stop(r->handover);
		readiness_unavailable(r, "%s", refusal);
		on_refusal(r);
	} else if (eth_word_is_zero(&r->chain_hash)) {
		on_hash_zero(r);
	} else {
		on_hash_set(r);
	}
	readiness_update_view(r);
}

/* ---- life ---- */

struct readiness *
readiness_new(const struct keeper_config *config, struct registry *registry,
    struct identity *identity, identity_random_fn random, void *random_arg,
    const struct readiness_hooks *hooks)
{
	struct submission_config submission = { config->chain_id,
		config->kms_registry };
	struct handover_ops ops = { hooks->ask, hooks->cancel, hooks->deployed,
		hooks->arg };
	struct readiness *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->config = config;
	r->registry = registry;
	r->identity = identity;
	r->random = random;
	r->random_arg = random_arg;
	r->hooks = *hooks;
	r->master = secmem_alloc(MASTER_SECRET_LEN);
	r->candidate = secmem_alloc(MASTER_SECRET_LEN);
	r->submission = submission_new(&submission, registry, identity);
	r->handover = handover_new(&ops, identity, random, random_arg);
	r->view.registered_url = "";
	r->view.synced_from = r->synced_from;
	r->view.complete = true;
	(void)snprintf(r->reason, sizeof(r->reason),
	    "starting: the chain has not been read yet");
	r->view.reason = r->reason;
	r->next_tick_ms = INT64_MAX; /* until readiness_kick */
	if (r->master == NULL || r->candidate == NULL ||
	    r->submission == NULL || r->handover == NULL) {
		readiness_free(r);
		return NULL;
	}
	return r;
}

void
readiness_free(struct readiness *r)
{
	if (r == NULL)
		return;
	handover_free(r->handover);
	secmem_free(r->master);
	secmem_free(r->candidate);
	submission_free(r->submission);
	free(r->rows);
	free(r->members);
	free(r->peers);
	free(r);
}

void
readiness_kick(struct readiness *r)
{
	r->next_tick_ms = 0;
}

void
readiness_retry_peers(struct readiness *r)
{
	handover_retry(r->handover);
}

void
readiness_set_time(struct readiness *r, struct kms_time now)
{
	r->now = now;
	handover_set_time(r->handover, now);
	if (r->problem != r->identity->problem)
		readiness_update_view(r);
	if (r->ready && readiness_is_stale(r))
		readiness_unavailable(
		    r, "membership data is older than membership-max-age");
}

/* A receipt, the last answer to an offer, and a peer's wrong secret are news:
 * look at the hash at once. */
static void
watch_for_news(struct readiness *r)
{
	enum submission_state state = submission_state(r->submission);

	if ((state != r->submission_seen && !submission_open(r->submission)) ||
	    (r->waits_for_offers && handover_offered(r->handover)) ||
	    (handover_doubts(r->handover) && !r->rereads &&
		r->step == STEP_IDLE))
		r->next_tick_ms = r->now.boot_ms;
	r->submission_seen = state;
}

/* What came in from peers since the last facts. */
static void
follow_handover(struct readiness *r)
{
	handover_tick(r->handover, r->now);
	if (readiness_install_found(r)) {
		readiness_serve_or_fill(r);
	} else if (r->stands && !readiness_is_stale(r)) {
		poll_filled(r);
		if (r->filled)
			serve(r);
	} else if (handover_problem(r->handover)[0] != '\0' &&
	    !r->problem_told) {
		tell_not_held(r);
	}
}

void
readiness_tick(struct readiness *r, struct kms_time now)
{
	readiness_set_time(r, now);
	submission_tick(r->submission, now);
	follow_handover(r);
	watch_for_news(r);
	/* Which instance is ours the wallet says. */
	if (r->step == STEP_IDLE && now.boot_ms >= r->next_tick_ms &&
	    r->identity->known) {
		r->waits_for_offers = false;
		r->rereads = handover_doubts(r->handover);
		readiness_read_chain(r);
	}
}

const struct readiness_view *
readiness_view(const struct readiness *r)
{
	return &r->view;
}

const uint8_t *
readiness_master(const struct readiness *r)
{
	return r->ready && r->identity->problem == NULL ? r->master : NULL;
}

const uint8_t *
readiness_secret(const struct readiness *r)
{
	/* The hash alone may be newer than the facts that were decided on. */
	bool current = memcmp(r->chain_hash.bytes, r->master_hash.bytes,
			   ETH_WORD_LEN) == 0;

	return r->stands && current && !readiness_is_stale(r) ? r->master
							      : NULL;
}

unsigned int
readiness_serve(struct readiness *r, const struct eth_address *wallet,
    const struct sync_message *message, struct buf *answer, const char **text)
{
	return handover_serve(
	    r->handover, wallet, message, readiness_secret(r), answer, text);
}

bool
readiness_fills(const struct readiness *r)
{
	return r->fills;
}

size_t
readiness_peer_count(const struct readiness *r)
{
	size_t count = 0;

	for (size_t i = 0; i < r->view.peer_count; i++) {
		if (r->view.peers[i].refusal == NULL &&
		    !eth_address_equal(
			&r->view.peers[i].facts.wallet, &r->identity->wallet))
			count++;
	}
	return count;
}
