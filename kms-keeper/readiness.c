#include "kms-keeper/readiness.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "common/secmem.h"
#include "kms-keeper/authz.h"
#include "kms-keeper/submission.h"
#include "proto/msg.h"

#define LOOKUPS_AT_ONCE 16
#define RETRY_MAX_MS 30000

/* Where a tick stands. Each step asks, and the answer takes the next. */
enum step {
	STEP_IDLE,
	STEP_HASH,	    /* head and masterSecretHash */
	STEP_MEMBERS,	    /* getActiveInstances at that head */
	STEP_INSTANCES,	    /* each member at that head */
	STEP_FINAL_HASH,    /* a contrary fact: does it stand for good? */
	STEP_FINAL_INSTANCE /* the same of our own registration */
};

/* Why a node that holds a secret may not serve with it. */
enum contrary {
	CONTRARY_NONE,
	CONTRARY_HASH,
	CONTRARY_REGISTRATION,
	CONTRARY_RACE /* nothing installed: another's hash beat the candidate's
		       */
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
	enum master_state master_state;
	struct eth_word master_hash;
	uint8_t *candidate; /* secmem */
	bool has_candidate;
	bool candidate_sent; /* at least once, at submitted_ms */
	struct eth_word candidate_hash;

	enum contrary contrary;
	uint64_t contrary_block;   /* where it was first seen */
	int64_t contrary_since_ms; /* boot time */
	uint64_t final_block;

	char reason[512];
	bool ready;
	struct readiness_view view;
	struct peer *peers; /* behind view.peers */
};

static void start_tick(struct readiness *r);
static void ask_instances(struct readiness *r);
static void decide(struct readiness *r);

/* ---- state as others see it ---- */

static void
update_view(struct readiness *r)
{
	struct readiness_view *view = &r->view;

	view->ready = r->ready;
	view->reason = r->reason;
	view->master_state = r->master_state;
	view->master_initialized = r->installed;
	r->hooks.changed(r->hooks.arg);
}

static void
set_state(struct readiness *r, bool ready, const char *reason)
{
	if (r->ready == ready && strcmp(r->reason, reason) == 0)
		return;
	r->ready = ready;
	r->wait_ms = 0;
	(void)snprintf(r->reason, sizeof(r->reason), "%s", reason);
	if (ready)
		log_info("ready: serving");
	else
		log_warn("not serving: %s", reason);
	update_view(r);
}

static void __attribute__((format(printf, 2, 3)))
unavailable(struct readiness *r, const char *format, ...)
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
	set_state(r, false, text);
}

/* Facts stay good until membership-max-age even when a tick fails. */
static void
tick_failed(struct readiness *r, const char *text)
{
	uint64_t age = (uint64_t)(r->now.boot_ms - r->membership_ms);

	r->step = STEP_IDLE;
	r->retry_ms =
	    r->retry_ms == 0 ? READINESS_RETRY_MIN_MS : r->retry_ms * 2;
	if (r->retry_ms > RETRY_MAX_MS)
		r->retry_ms = RETRY_MAX_MS;
	if (r->retry_ms > (int64_t)r->config->node_tick)
		r->retry_ms = (int64_t)r->config->node_tick;
	r->next_tick_ms = r->now.boot_ms + r->retry_ms;
	log_warn("reading the chain: %s", text);
	if (!r->ready)
		unavailable(r, "the chain cannot be read: %s", text);
	else if (r->membership_ms == 0 || age > r->config->membership_max_age)
		unavailable(r,
		    "membership data is older than "
		    "membership-max-age: %s",
		    text);
}

static void
tick_done(struct readiness *r, int64_t next_ms)
{
	r->step = STEP_IDLE;
	r->retry_ms = 0;
	r->next_tick_ms = r->now.boot_ms + next_ms;
}

/* ---- asking ---- */

static void
ask(struct readiness *r, enum step step,
    const struct registry_question *question, registry_done_fn done, void *arg)
{
	int error;

	r->step = step;
	error = registry_ask(r->registry, question, r->now, done, arg);
	if (error != 0)
		tick_failed(r, kms_strerror(error));
}

static void
on_instance(void *arg, int error, const struct registry_answer *answer)
{
	struct member_row *row = arg;
	struct readiness *r = row->owner;

	r->row_done++;
	if (error != 0) {
		r->row_failed++;
		log_warn("reading a member's instance: %s", answer->text);
	} else {
		row->facts = answer->instance;
		row->fetched_ms = r->now.boot_ms;
	}
	if (r->row_done == r->row_count)
		decide(r);
	else
		ask_instances(r);
}

static void
ask_instances(struct readiness *r)
{
	struct registry_question question = {
		.kind = REGISTRY_INSTANCE,
		.endpoint = MSG_ENDPOINT_ANY,
		.block = r->block,
	};

	r->step = STEP_INSTANCES;
	while (r->row_next < r->row_count &&
	    r->row_next - r->row_done < LOOKUPS_AT_ONCE) {
		struct member_row *row = &r->rows[r->row_next];

		question.wallet = row->wallet;
		if (registry_ask(r->registry, &question, r->now, on_instance,
			row) != 0) {
			if (r->row_next == r->row_done)
				tick_failed(r, "kms-chain is not reachable");
			return;
		}
		r->row_next++;
	}
}

/* What was known of a wallet before, if it is young enough to stand in. */
static void
carry_over(struct readiness *r, struct member_row *row)
{
	for (size_t i = 0; i < r->member_count; i++) {
		struct member_row *old = &r->members[i];
		int64_t age = r->now.boot_ms - old->fetched_ms;

		if (old->fetched_ms != 0 &&
		    age < (int64_t)r->config->membership_max_age &&
		    eth_address_equal(&old->wallet, &row->wallet)) {
			row->facts = old->facts;
			row->fetched_ms = old->fetched_ms;
		}
	}
}

static void
on_members(void *arg, int error, const struct registry_answer *answer)
{
	struct readiness *r = arg;

	if (r->step != STEP_MEMBERS)
		return;
	if (error != 0) {
		tick_failed(r, answer->text);
		return;
	}
	free(r->rows);
	r->rows = calloc(answer->member_count + 1, sizeof(*r->rows));
	if (r->rows == NULL) {
		tick_failed(r, kms_strerror(KMS_ENOMEM));
		return;
	}
	r->row_count = answer->member_count;
	r->row_next = r->row_done = r->row_failed = 0;
	for (size_t i = 0; i < r->row_count; i++) {
		r->rows[i].owner = r;
		r->rows[i].wallet = answer->members[i];
		carry_over(r, &r->rows[i]);
	}
	if (r->row_count == 0)
		decide(r);
	else
		ask_instances(r);
}

static const char *
hash_refusal(struct readiness *r, const struct registry_answer *answer)
{
	const char *stale = head_guard_check(&r->guard, answer->endpoint,
	    answer->head, answer->head_time, r->now, r->config->max_head_age);

	if (stale != NULL)
		return stale;
	if (answer->chain_id != r->config->chain_id)
		return "the endpoint serves another chain than chain-id says";
	if (answer->kms_app_id != r->config->kms_app_id)
		return "KMSRegistry's kmsAppId() is not the configured "
		       "kms-app-id";
	return NULL;
}

static void
on_hash(void *arg, int error, const struct registry_answer *answer)
{
	struct readiness *r = arg;
	struct registry_question question = {
		.kind = REGISTRY_MEMBERS,
		.endpoint = MSG_ENDPOINT_ANY,
		.app_id = r->config->kms_app_id,
	};
	const char *refusal;

	if (r->step != STEP_HASH)
		return;
	if (error != 0) {
		tick_failed(r, answer->text);
		return;
	}
	refusal = hash_refusal(r, answer);
	if (refusal != NULL) {
		/* Of several endpoints one may be stuck: ask the others. */
		if (registry_distrust(r->registry, answer->endpoint, r->now))
			start_tick(r);
		else
			tick_failed(r, refusal);
		return;
	}
	r->block = answer->head;
	r->chain_hash = answer->hash;
	r->hash_block = answer->block;
	question.block = r->block;
	ask(r, STEP_MEMBERS, &question, on_members, r);
}

static void
start_tick(struct readiness *r)
{
	struct registry_question question = {
		.kind = REGISTRY_HASH,
		.endpoint = MSG_ENDPOINT_ANY,
		.confirmations = r->config->confirmations,
	};

	ask(r, STEP_HASH, &question, on_hash, r);
}

/* ---- secrets ---- */

static void
drop_candidate(struct readiness *r)
{
	OPENSSL_cleanse(r->candidate, MASTER_SECRET_LEN);
	r->has_candidate = false;
}

static void
install_candidate(struct readiness *r)
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
	update_view(r);
	tick_done(r, 0);
}

static void
make_candidate(struct readiness *r)
{
	if (r->has_candidate)
		return;
	r->random(r->random_arg, r->candidate, MASTER_SECRET_LEN);
	master_secret_hash(r->candidate, r->candidate_hash.bytes);
	r->has_candidate = true;
	r->candidate_sent = false;
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
	tick_done(r, (int64_t)r->config->node_tick);
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
		tick_done(r, (int64_t)r->config->node_tick);
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
		tick_done(r, (int64_t)r->config->node_tick);
		return;
	}
	if (r->contrary == CONTRARY_REGISTRATION) {
		question.block = answer->block;
		ask(r, STEP_FINAL_INSTANCE, &question, on_final_instance, r);
		return;
	}
	if (hash_is_contrary(r, &answer->hash))
		contrary_is_final(r,
		    "another masterSecretHash stands at a "
		    "finalized block");
	else
		tick_done(r, (int64_t)r->config->node_tick);
}

static void
check_finality(struct readiness *r, enum contrary contrary)
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
	ask(r, STEP_FINAL_HASH, &question, on_final_hash, r);
}

/* ---- the decision ---- */

static const struct member_row *
own_row(const struct readiness *r)
{
	for (size_t i = 0; i < r->member_count; i++) {
		if (eth_address_equal(
			&r->members[i].wallet, &r->identity->wallet))
			return &r->members[i];
	}
	return NULL;
}

static void
publish_members(struct readiness *r)
{
	struct peer *peers = calloc(r->row_count + 1, sizeof(*peers));
	struct p384_point point;

	free(r->members);
	r->members = r->rows;
	r->member_count = r->row_count;
	r->rows = NULL;
	r->membership_ms = r->now.boot_ms;
	if (peers == NULL)
		return;
	for (size_t i = 0; i < r->member_count; i++) {
		struct member_row *row = &r->members[i];

		peers[i].facts = row->facts;
		peers[i].facts.wallet = row->wallet;
		peers[i].refusal = row->fetched_ms == 0
		    ? "not read yet"
		    : authz_peer(&row->facts, &row->wallet,
			  r->config->kms_app_id, &point);
	}
	free(r->peers);
	r->peers = peers;
	r->view.peers = peers;
	r->view.peer_count = r->view.instances = r->member_count;
	r->view.peers_version++;
}

/* NULL when the registry shows this node as it is. */
static const char *
own_refusal(struct readiness *r)
{
	const struct member_row *own = own_row(r);
	uint8_t spki[P384_SPKI_LEN];
	struct p384_point point;

	r->view.is_operator = false;
	r->view.registered_pubkey = NULL;
	r->view.registered_pubkey_len = 0;
	r->view.registered_url = "";
	if (own == NULL)
		return "not a registered KMS instance";
	if (own->fetched_ms == 0)
		return "this node's instance could not be read";
	r->view.is_operator = true;
	r->view.registered_pubkey = own->facts.pubkey;
	r->view.registered_pubkey_len = own->facts.pubkey_len;
	r->view.registered_url = own->facts.url;
	p384_public_spki(&r->identity->point, spki);
	if (own->facts.pubkey_len != sizeof(spki) ||
	    memcmp(own->facts.pubkey, spki, sizeof(spki)) != 0)
		return "local teePubkey does not match the registry";
	return authz_peer(
	    &own->facts, &own->wallet, r->config->kms_app_id, &point);
}

static void
submit_candidate(struct readiness *r)
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

static void
on_hash_zero(struct readiness *r)
{
	if (r->installed) {
		unavailable(r,
		    "masterSecretHash was reset; the secret is "
		    "kept unused until that is final");
		check_finality(r, CONTRARY_HASH);
		return;
	}
	r->contrary = CONTRARY_NONE;
	make_candidate(r);
	submit_candidate(r);
	if (submission_problem(r->submission)[0] != '\0')
		unavailable(r, "setting masterSecretHash: %s",
		    submission_problem(r->submission));
	else
		unavailable(r, "waiting for masterSecretHash to be set");
	tick_done(r, READINESS_RETRY_MIN_MS);
}

static void
on_hash_set(struct readiness *r)
{
	const uint8_t *hash = r->chain_hash.bytes;

	if (!r->installed && r->has_candidate &&
	    memcmp(hash, r->candidate_hash.bytes, ETH_WORD_LEN) == 0)
		install_candidate(r);
	if (r->installed &&
	    memcmp(hash, r->master_hash.bytes, ETH_WORD_LEN) == 0) {
		r->contrary = CONTRARY_NONE;
		set_state(r, true, "");
		tick_done(r, (int64_t)r->config->node_tick);
		return;
	}
	if (r->installed) {
		unavailable(r,
		    "masterSecretHash is another one now; the "
		    "secret is kept unused until that is final");
		check_finality(r, CONTRARY_HASH);
		return;
	}
	unavailable(r,
	    "the master secret behind masterSecretHash is not held "
	    "here, and no peer has handed it over");
	/* The race is lost; the candidate may go once nothing can mine it, in
	 * another order of the last blocks either. */
	submission_abandon(r->submission);
	if (r->has_candidate && !submission_open(r->submission))
		check_finality(r, CONTRARY_RACE);
	else
		tick_done(r, (int64_t)r->config->node_tick);
}

/* A node that nobody has registered yet looks less and less often. */
static void
wait_for_registration(struct readiness *r)
{
	int64_t most = (int64_t)r->config->node_tick;

	r->wait_ms = r->wait_ms == 0 ? READINESS_RETRY_MIN_MS : r->wait_ms * 2;
	if (r->wait_ms > most)
		r->wait_ms = most;
	tick_done(r, r->wait_ms);
}

/* Of the reasons not to serve, only the end of the registration may cost the
 * secret: not a revoked version, nor what could not be read. */
static void
on_refusal(struct readiness *r)
{
	const struct member_row *own = own_row(r);

	if (!r->installed) {
		wait_for_registration(r);
	} else if (own == NULL ||
	    (own->fetched_ms != 0 &&
		(!own->facts.found || own->facts.status != INSTANCE_ACTIVE))) {
		check_finality(r, CONTRARY_REGISTRATION);
	} else {
		r->contrary = CONTRARY_NONE;
		tick_done(r, (int64_t)r->config->node_tick);
	}
}

static void
decide(struct readiness *r)
{
	const char *refusal;

	if (r->row_failed == r->row_count && r->row_count > 0) {
		tick_failed(r, "no member's instance could be read");
		return;
	}
	publish_members(r);
	refusal = own_refusal(r);
	if (refusal != NULL) {
		unavailable(r, "%s", refusal);
		on_refusal(r);
	} else if (eth_word_is_zero(&r->chain_hash)) {
		on_hash_zero(r);
	} else {
		on_hash_set(r);
	}
	update_view(r);
}

/* ---- life ---- */

struct readiness *
readiness_new(const struct keeper_config *config, struct registry *registry,
    struct identity *identity, identity_random_fn random, void *random_arg,
    const struct readiness_hooks *hooks)
{
	struct submission_config submission = { config->chain_id,
		config->kms_registry };
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
	r->view.registered_url = "";
	(void)snprintf(r->reason, sizeof(r->reason),
	    "starting: the chain has not been read yet");
	r->view.reason = r->reason;
	r->next_tick_ms = INT64_MAX; /* until readiness_kick */
	if (r->master == NULL || r->candidate == NULL ||
	    r->submission == NULL) {
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
readiness_set_time(struct readiness *r, struct kms_time now)
{
	uint64_t age = (uint64_t)(now.boot_ms - r->membership_ms);

	r->now = now;
	if (r->ready && age > r->config->membership_max_age)
		unavailable(
		    r, "membership data is older than membership-max-age");
}

void
readiness_tick(struct readiness *r, struct kms_time now)
{
	enum submission_state state;

	readiness_set_time(r, now);
	submission_tick(r->submission, now);
	/* A receipt is news: look at the hash at once. */
	state = submission_state(r->submission);
	if (state != r->submission_seen && !submission_open(r->submission))
		r->next_tick_ms = now.boot_ms;
	r->submission_seen = state;
	if (r->step == STEP_IDLE && now.boot_ms >= r->next_tick_ms)
		start_tick(r);
}

const struct readiness_view *
readiness_view(const struct readiness *r)
{
	return &r->view;
}

const uint8_t *
readiness_master(const struct readiness *r)
{
	return r->ready ? r->master : NULL;
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
