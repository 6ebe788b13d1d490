/* Reading the chain for one tick: hash, members, each one's instance; and what
 * is then known of the cluster and of this node in it. */
#include "kms-keeper/readiness_internal.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "proto/msg.h"

#define LOOKUPS_AT_ONCE 16

static void ask_instances(struct readiness *r);

/* ---- asking ---- */

void
readiness_ask(struct readiness *r, enum step step,
    const struct registry_question *question, registry_done_fn done, void *arg)
{
	int error;

	r->step = step;
	error = registry_ask(r->registry, question, r->now, done, arg);
	if (error != 0)
		readiness_tick_failed(r, kms_strerror(error));
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
		readiness_decide(r);
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
				readiness_tick_failed(
				    r, "kms-chain is not reachable");
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
		readiness_tick_failed(r, answer->text);
		return;
	}
	free(r->rows);
	r->rows = calloc(answer->member_count + 1, sizeof(*r->rows));
	if (r->rows == NULL) {
		readiness_tick_failed(r, kms_strerror(KMS_ENOMEM));
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
		readiness_decide(r);
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
		readiness_tick_failed(r, answer->text);
		return;
	}
	refusal = hash_refusal(r, answer);
	if (refusal != NULL) {
		/* Of several endpoints one may be stuck: ask the others. */
		if (registry_distrust(r->registry, answer->endpoint, r->now))
			readiness_read_chain(r);
		else
			readiness_tick_failed(r, refusal);
		return;
	}
	r->block = answer->head;
	r->chain_hash = answer->hash;
	r->hash_block = answer->block;
	/* Contrary to what is served: at once, though the rest of this block's
	 * facts may not come. */
	if (r->stands &&
	    memcmp(r->chain_hash.bytes, r->master_hash.bytes, ETH_WORD_LEN) !=
		0) {
		r->stands = false;
		readiness_unavailable(r, "masterSecretHash is another one now");
	}
	question.block = r->block;
	readiness_ask(r, STEP_MEMBERS, &question, on_members, r);
}

void
readiness_read_chain(struct readiness *r)
{
	struct registry_question question = {
		.kind = REGISTRY_HASH,
		.endpoint = MSG_ENDPOINT_ANY,
		.confirmations = r->config->confirmations,
	};

	readiness_ask(r, STEP_HASH, &question, on_hash, r);
}

/* ---- the facts of a tick that is complete ---- */

const struct member_row *
readiness_own_row(const struct readiness *r)
{
	for (size_t i = 0; i < r->member_count; i++) {
		if (eth_address_equal(
			&r->members[i].wallet, &r->identity->wallet))
			return &r->members[i];
	}
	return NULL;
}

/* The peers that may be dialled: the valid ones but this node. */
static void
publish_peers(struct readiness *r, const struct peer *peers,
    const struct p384_point *points)
{
	struct handover_peer *valid =
	    calloc(r->member_count + 1, sizeof(*valid));
	size_t count = 0;

	for (size_t i = 0; valid != NULL && i < r->member_count; i++) {
		const struct instance_facts *facts = &peers[i].facts;

		if (peers[i].refusal != NULL ||
		    eth_address_equal(&facts->wallet, &r->identity->wallet))
			continue;
		valid[count].wallet = facts->wallet;
		valid[count].point = points[i];
		valid[count++].url = facts->url;
	}
	if (handover_set_peers(r->handover, valid, count) != 0)
		log_warn("no memory for the list of peers");
	free(valid);
}

void
readiness_publish_members(struct readiness *r)
{
	struct peer *peers = calloc(r->row_count + 1, sizeof(*peers));
	struct p384_point *points = calloc(r->row_count + 1, sizeof(*points));

	free(r->members);
	r->members = r->rows;
	r->member_count = r->row_count;
	r->rows = NULL;
	r->membership_ms = r->now.boot_ms;
	if (peers == NULL || points == NULL) {
		free(peers);
		free(points);
		return;
	}
	for (size_t i = 0; i < r->member_count; i++) {
		struct member_row *row = &r->members[i];

		peers[i].facts = row->facts;
		peers[i].facts.wallet = row->wallet;
		peers[i].read = row->fetched_ms != 0;
		peers[i].refusal = row->fetched_ms == 0
		    ? "not read yet"
		    : authz_peer(&row->facts, &row->wallet,
			  r->config->kms_app_id, &points[i]);
	}
	publish_peers(r, peers, points);
	free(points);
	free(r->peers);
	r->peers = peers;
	r->view.peers = peers;
	r->view.peer_count = r->view.instances = r->member_count;
	r->view.peers_version++;
}

/* NULL when the registry shows this node as it is. */
const char *
readiness_own_refusal(struct readiness *r)
{
	const struct member_row *own = readiness_own_row(r);
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
