/*
 * Comparing with one peer and exchanging what differs. One message at a time:
 *
 *   digests  the roots, then nodes of their trees  -> which nodes differ
 *   pull     the hashes of our records there       -> the records that we lack,
 *                                                     the hashes that it lacks
 *   push     those records, as a delta
 *
 * pull and push again for the next group of nodes; then the roots once more,
 * and with other short hashes, until they are equal. A deployed peer gives a
 * snapshot instead.
 */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/sync_internal.h"

#define PULL_AGAIN_MS 30000
#define SNAPSHOT_TRIES 3
/* A peer that has just started may refuse at first. */
#define FILL_TRIES 3

/* ---- beginning and end --------------------------------------------------- */

void
sync_repair_stop(struct sync_peer *peer)
{
	struct repair *repair = &peer->repair;

	sync_exchange_done(repair);
	node_list_free(&repair->open);
	node_list_free(&repair->leaves);
	free(repair->seen);
	repair->seen = NULL;
	repair->seen_count = repair->seen_size = 0;
	repair->asked = repair->next = repair->group = 0;
	repair->id = 0;
	repair->step = REPAIR_IDLE;
	repair->dropping = false;
}

/* It will not compare, or give no snapshot: send it everything instead. */
static void
repair_give_up(struct sync *sync, struct sync_peer *peer)
{
	peer->needs_repair = false;
	peer->owes_snapshot = true;
	sync_push_from(sync, peer, 0);
}

void
sync_repair_failed(struct sync *sync, struct sync_peer *peer, const char *why,
    struct kms_time now)
{
	struct repair *repair = &peer->repair;

	sync_repair_stop(peer);
	repair->failures++;
	repair->due_ms = now.boot_ms + sync_backoff(sync, repair->failures + 1);
	peer->last_error = why;
	sync_fill_failed(peer);
	if (peer->kind == SYNC_KIND_DEPLOYED && peer->needs_repair &&
	    repair->failures >= SNAPSHOT_TRIES)
		repair_give_up(sync, peer);
	sync_stale_tried(sync, peer, false);
}

void
sync_repair_send(
    struct sync *sync, struct sync_peer *peer, int error, struct kms_time now)
{
	if (error == 0)
		error = buf_append_text(&sync->body, "}");
	if (error != 0) {
		sync_repair_failed(sync, peer, "out of memory", now);
		return;
	}
	peer->repair.sent_ms = now.boot_ms;
	peer->repair.bytes = peer->repair.sent_bytes = sync->body.len;
	peer->repair.id = sync_send(sync, peer);
}

void
sync_fill_failed(struct sync_peer *peer)
{
	if (!peer->compared && peer->fill_failures < FILL_TRIES)
		peer->fill_failures++;
}

bool
sync_fill_is_vain(const struct sync_peer *peer)
{
	return peer->fill_failures >= FILL_TRIES;
}

void
sync_filled_from(struct sync *sync, struct sync_peer *peer, bool whole)
{
	peer->compared = true;
	peer->fill_failures = 0;
	if (whole)
		sync->stats.filled = true;
}

static void
repair_finish(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	bool dropping = repair->dropping;

	if (repair->passes > 1 && repair->moved == 0)
		sync->fruitless++;
	else if (repair->moved > 0)
		sync->fruitless = 0;
	sync_repair_stop(peer);
	repair->failures = 0;
	peer->repairs++;
	sync_filled_from(sync, peer, !repair->unfilled);
	if (repair->left > 0) {
		peer->needs_repair = true;
		repair->due_ms = now.boot_ms + PULL_AGAIN_MS;
	} else if (peer->needs_repair) {
		/* What stood at the beginning it holds now, in this version or
		 * a newer one. */
		peer->needs_repair = false;
		sync_push_from(sync, peer, repair->base);
	}
	if (dropping)
		sync_stale_over(sync);
}

static void
pass_begin(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	/* Another salt each time: what looked the same and was not will not
	 * look the same again. */
	repair->form.salt = repair->passes++;
	repair->form.width = SHORT_WIDTH;
	repair->differed = false;
	repair->open.count = repair->leaves.count = 0;
	repair->next = repair->group = 0;
	sync_descend_begin(sync, peer, now);
}

void
sync_repair_begin(
    struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	sync_repair_stop(peer);
	repair->started_ms = sync->repair_started_ms = now.boot_ms;
	repair->base = store_stats(sync->store).sequence;
	repair->moved = repair->left = 0;
	repair->passes = 0;
	repair->unfilled = false;
	if (peer->kind != SYNC_KIND_DEPLOYED) {
		pass_begin(sync, peer, now);
		return;
	}
	repair->step = REPAIR_SNAPSHOT;
	sync_repair_send(sync, peer,
	    sync_body_begin(sync, SYNC_SNAPSHOT_REQUEST, false), now);
}

/* ---- one step after the other -------------------------------------------- */

void
sync_repair_next(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (repair->step == REPAIR_PUSH) {
		if (sync_want_send(sync, peer, now) ||
		    repair->step == REPAIR_IDLE)
			return;
		sync_exchange_done(repair);
	}
	if (repair->open.count > 0) {
		sync_descend_send(sync, peer, now);
		return;
	}
	if (repair->next < repair->leaves.count) {
		sync_exchange_begin(sync, repair);
		sync_exchange_pull(sync, peer, now);
		return;
	}
	if (repair->differed && !repair->dropping && repair->left == 0 &&
	    repair->passes < PASSES_MAX) {
		pass_begin(sync, peer, now);
		return;
	}
	repair_finish(sync, peer, now);
}

static void
repair_go_on(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (repair->step == REPAIR_PULL) {
		if (repair->page_app != 0 ||
		    (repair->chosen_count > 0 && !repair->choosing)) {
			repair->choosing =
			    repair->page_app == 0 || repair->choosing;
			sync_exchange_pull(sync, peer, now);
			return;
		}
		repair->step = REPAIR_PUSH;
	}
	sync_repair_next(sync, peer, now);
}

static void
repair_rest(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	repair->rest_ms =
	    now.boot_ms + sync_rest_ms(repair->bytes, repair->sent_ms, now);
	if (repair->rest_ms <= now.boot_ms)
		repair_go_on(sync, peer, now);
}

bool
sync_repair_rests(const struct sync_peer *peer)
{
	const struct repair *repair = &peer->repair;

	return repair->step != REPAIR_IDLE && repair->id == 0;
}

void
sync_repair_tick(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	if (sync_repair_rests(peer) && peer->repair.rest_ms <= now.boot_ms)
		repair_go_on(sync, peer, now);
}

/* ---- answers ------------------------------------------------------------- */

/*
 * We were away too long. Was this peer in touch all the time? Then what is old
 * here and in no form there was deleted. Else it cannot say.
 */
static bool
may_judge(struct sync *sync, struct sync_peer *peer, struct slice object,
    struct kms_time now)
{
	uint64_t touch = member_number(object, "touch_ms");

	if (touch >= (uint64_t)(now.boot_ms - sync->stale_since_ms)) {
		peer->repair.dropping = true;
		return true;
	}
	sync_repair_stop(peer);
	peer->repair.due_ms = now.boot_ms + BACKOFF_MIN_MS;
	sync_stale_tried(sync, peer, true);
	return false;
}

static void
digests_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct slice unfilled;

	if (sync->stale && !repair->dropping &&
	    !may_judge(sync, peer, reply->object, now))
		return;
	if (slice_member(reply->object, "unfilled", &unfilled) != 0 ||
	    sync_descend_answer(sync, peer, reply, now) != 0) {
		sync_repair_failed(sync, peer, "an answer that is none", now);
		return;
	}
	repair->unfilled |= slice_kind(unfilled) == SLICE_TRUE;
	if (repair->open.count == 0)
		node_list_sort(repair->leaves.nodes, repair->leaves.count);
	sync_repair_next(sync, peer, now);
}

static void
pull_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	if (sync_exchange_answer(sync, peer, reply, now) != 0) {
		sync_repair_failed(sync, peer, "an answer that is none", now);
		return;
	}
	repair_rest(sync, peer, now);
}

static void
push_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (!sync_counts_are_whole(&reply->counts, repair->sent))
		repair->left++;
	else if (repair->sent_bytes > peer->push.taken)
		peer->push.taken = repair->sent_bytes;
	if (reply->counts.merged > 0)
		repair->moved += (uint64_t)reply->counts.merged;
	repair_rest(sync, peer, now);
}

static void
snapshot_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_reply *reply, struct kms_time now)
{
	if (sync_exchange_take(sync, peer, reply, false, now) != 0) {
		sync_repair_failed(sync, peer, "a snapshot that is none", now);
		return;
	}
	sync_repair_stop(peer);
	peer->repair.failures = 0;
	peer->repairs++;
	sync_filled_from(sync, peer, true);
	if (peer->needs_repair) {
		peer->needs_repair = false;
		sync_push_from(sync, peer, 0);
	}
	peer->owes_snapshot = false;
}

/* It listed what it does not do: ask again what it does. */
static void
not_supported(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	sync_repair_failed(sync, peer, "it refuses an extension", now);
	peer->unsupported++;
	peer->kind = SYNC_KIND_UNKNOWN;
	peer->needs_repair = true;
	peer->push.greeted = false;
}

/* As of a push: it is tried again, and holds up nothing. */
static bool
one_is_too_large(struct sync *sync, struct sync_peer *peer, struct kms_time now)
{
	const struct repair *repair = &peer->repair;

	if (repair->sent != 1 || repair->one_len == 0 ||
	    !sync_may_be_too_large(peer, repair->sent_bytes))
		return false;
	peer->too_large++;
	sync->stats.too_large++;
	if (!sync_refused_keep(peer, repair->one_app, repair->one,
		repair->one_len, "refuses as too large", now))
		log_warn("sync: %s refuses too many as too large: skipped",
		    peer->wallet);
	return true;
}

static void
repair_refused(struct sync *sync, struct sync_peer *peer, unsigned int status,
    struct kms_time now)
{
	struct repair *repair = &peer->repair;

	if (status == 413 && repair->step == REPAIR_PUSH) {
		if (one_is_too_large(sync, peer, now)) {
			sync_repair_next(sync, peer, now);
			return;
		}
		peer->push.limit = repair->sent / 2;
	} else if ((status == 400 || status == 403 || status == 503) &&
	    (repair->step == REPAIR_DIGESTS || repair->step == REPAIR_PULL)) {
		not_supported(sync, peer, now);
		return;
	}
	sync_repair_failed(sync, peer, "no verified answer", now);
}

void
sync_repair_answer(struct sync *sync, struct sync_peer *peer,
    const struct sync_outcome *outcome, struct kms_time now)
{
	struct repair *repair = &peer->repair;
	struct sync_reply reply;

	repair->id = 0;
	repair->bytes += outcome->len;
	if (outcome->error != 0 || outcome->status != 200) {
		repair_refused(sync, peer, outcome->status, now);
		return;
	}
	if (sync_reply_read(outcome->body, outcome->len, &reply) != 0) {
		sync_repair_failed(sync, peer, "an answer that is none", now);
		return;
	}
	sync_contact(sync, peer, now);
	sync_note_boot(sync, peer, reply.boot, now);
	if (repair->step == REPAIR_IDLE)
		return;
	if (!reply.ok) {
		/* It was away too long itself. */
		sync_repair_failed(sync, peer, "it is busy", now);
		sync_stale_tried(sync, peer, true);
		return;
	}
	switch (repair->step) {
	case REPAIR_DIGESTS:
		digests_answer(sync, peer, &reply, now);
		return;
	case REPAIR_PULL:
		pull_answer(sync, peer, &reply, now);
		return;
	case REPAIR_PUSH:
		push_answer(sync, peer, &reply, now);
		return;
	case REPAIR_SNAPSHOT:
		snapshot_answer(sync, peer, &reply, now);
		return;
	case REPAIR_IDLE:
		return;
	}
}
