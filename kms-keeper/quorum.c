#include "kms-keeper/quorum.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/quorum_internal.h"
#include "proto/msg.h"

struct quorum *
quorum_new(struct registry *registry, size_t endpoints)
{
	struct quorum *quorum = calloc(1, sizeof(*quorum));

	if (quorum == NULL)
		return NULL;
	quorum->registry = registry;
	quorum->endpoints = endpoints;
	TAILQ_INIT(&quorum->waiting);
	TAILQ_INIT(&quorum->started);
	return quorum;
}

static void
group_free(struct group *group)
{
	group->quorum->groups--;
	free(group->votes);
	free(group);
}

static void
free_list(struct group_list *list)
{
	struct group *group;

	while ((group = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, group, link);
		group_free(group);
	}
}

void
quorum_free(struct quorum *quorum)
{
	if (quorum == NULL)
		return;
	free_list(&quorum->waiting);
	free_list(&quorum->started);
	free(quorum);
}

/* ---- the end of a group ---- */

static bool
under_way(const struct group *group)
{
	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		if (group->seats[i].asked)
			return true;
	}
	return false;
}

/* Give back what is not needed any more; the group goes with its last
 * question. */
static void
conclude(struct group *group)
{
	struct quorum *quorum = group->quorum;

	for (size_t i = 0; i < quorum->endpoints; i++) {
		struct seat *seat = &group->seats[i];

		if (seat->holds && !seat->asked &&
		    (group->decided || seat->failure != 0)) {
			seat->holds = false;
			quorum->open[i]--;
		}
	}
	if (!group->decided || under_way(group))
		return;
	TAILQ_REMOVE(&quorum->started, group, link);
	group_free(group);
}

/* An error of the chain that as many report as must agree, else none. */
static unsigned int
common_failure(const struct group *group)
{
	unsigned int refused = 0;

	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		const struct seat *seat = &group->seats[i];

		refused += seat->vote_count == 0 &&
		    seat->failure == CHAIN_ERROR_REFUSED;
	}
	return refused >= group->need ? CHAIN_ERROR_REFUSED
				      : CHAIN_ERROR_UNREACHABLE;
}

static void
fail(struct group *group, int error)
{
	char line[sizeof(((struct registry_answer *)0)->text)];

	quorum_explain(group, line, sizeof(line));
	group->decided = true;
	if (group->need == 1)
		registry_forgive(group->quorum->registry);
	registry_tell_failure(group->done, group->arg, group->question.kind,
	    error,
	    error == KMS_ETIMEOUT ? CHAIN_ERROR_TIMEOUT : common_failure(group),
	    line);
}

static void
deliver(struct group *group, const struct registry_answer *answer,
    const struct vote *vote)
{
	struct registry_answer *agreed;

	group->agreed = *vote;
	group->decided = true;
	if (group->need < 2) {
		group->done(group->arg, 0, answer);
		return;
	}
	agreed = malloc(sizeof(*agreed));
	if (agreed == NULL) {
		registry_tell_failure(group->done, group->arg,
		    group->question.kind, KMS_EUNAVAIL, CHAIN_ERROR_BUSY,
		    kms_strerror(KMS_ENOMEM));
		return;
	}
	*agreed = *answer;
	agreed->endpoint = MSG_ENDPOINT_ANY;
	agreed->head = vote->block;
	agreed->head_time = vote->block_time;
	group->done(group->arg, 0, agreed);
	free(agreed);
	for (size_t i = 0; i < group->quorum->endpoints; i++)
		quorum_warn_of(&group->seats[i]);
}

/* ---- asking ---- */

static void on_answer(
    void *arg, int error, const struct registry_answer *answer);

static void
seat_failed(struct seat *seat, unsigned int failure, const char *text)
{
	size_t len;

	seat->failure = failure != 0 ? failure : CHAIN_ERROR_UNREACHABLE;
	(void)snprintf(seat->text, sizeof(seat->text), "%s", text);
	/* No character may be cut in half. */
	for (len = strlen(seat->text);
	     len > 0 && !msg_text_valid((const uint8_t *)seat->text, len);)
		seat->text[--len] = '\0';
}

static int
ask_seat(struct seat *seat, uint64_t block, const uint8_t *raw)
{
	struct group *group = seat->group;
	struct registry_question question = group->question;
	int error;

	question.endpoint = (unsigned int)seat_index(seat);
	question.block = block;
	question.raw = raw;
	/* A block that is named is as final as whoever named it says. */
	if (question.kind == REGISTRY_HASH && block != 0)
		question.finalized = false;
	error = registry_ask_one(group->quorum->registry, &question,
	    group->quorum->now, on_answer, seat);
	if (error != 0)
		seat_failed(seat, CHAIN_ERROR_UNREACHABLE, kms_strerror(error));
	else
		seat->asked = true;
	return error;
}

/* The n-th highest (from 1) head among those who answered, each once. */
static uint64_t
nth_head(const struct group *group, size_t n)
{
	uint64_t heads[REGISTRY_ENDPOINTS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		uint64_t head;
		size_t at = count;

		if (group->seats[i].vote_count == 0)
			continue;
		head = group->seats[i].votes[0].block;
		for (; at > 0 && heads[at - 1] < head; at--)
			heads[at] = heads[at - 1];
		heads[at] = head;
		count++;
	}
	return heads[n - 1];
}

static size_t
answered(const struct group *group)
{
	size_t count = 0;

	for (size_t i = 0; i < group->quorum->endpoints; i++)
		count += group->seats[i].vote_count > 0;
	return count;
}

/* Ask those above a block for their facts at it; false when that was done
 * before. */
static bool
ask_at(struct group *group, uint64_t block)
{
	bool asked = false;

	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		struct seat *seat = &group->seats[i];

		if (seat->vote_count == 0 || seat->votes[0].block <= block)
			continue;
		if (!seat->asked && seat->failure == 0 &&
		    seat->vote_count < group->vote_max &&
		    vote_at(seat, block) == NULL)
			asked |= ask_seat(seat, block, NULL) == 0;
	}
	return asked;
}

/* Has every endpoint said where its head is, or failed to? */
static bool
heads_known(const struct group *group)
{
	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		const struct seat *seat = &group->seats[i];

		if (seat->asked && seat->vote_count == 0)
			return false;
	}
	return true;
}

/*
 * Heads differ: meet at the highest block that need endpoints have, and if
 * they do not agree there, at the next lower head, since one that claims to
 * be ahead must not keep the others from agreeing below.
 */
static bool
ask_lower(struct group *group)
{
	size_t count = answered(group);
	uint64_t top;

	/* A receipt is of the block that it names. */
	if (count < group->need || group->question.kind == REGISTRY_RECEIPT)
		return false;
	top = nth_head(group, group->need);
	/* One that is far behind must not set the block, if others come. */
	if (!heads_known(group) && nth_head(group, 1) - top > QUORUM_LAG_MAX)
		return false;
	for (size_t n = group->need; n <= count; n++) {
		uint64_t block = nth_head(group, n);

		if (top - block > QUORUM_LAG_MAX)
			break;
		if (ask_at(group, block))
			return true;
	}
	return false;
}

static void
advance(struct group *group)
{
	int64_t now = group->quorum->now.boot_ms;
	bool settled = !under_way(group);

	if (group->patient_till == 0 && answered(group) >= group->need)
		group->patient_till = now + QUORUM_PATIENCE_MS;
	if (!settled && (group->patient_till == 0 || now < group->patient_till))
		return;
	if (ask_lower(group))
		group->patient_till = now + QUORUM_PATIENCE_MS;
	else if (settled)
		fail(group, KMS_EUNAVAIL);
}

static bool
has_room(const struct quorum *quorum, size_t i)
{
	return quorum->open[i] < QUORUM_OPEN_MAX / quorum->endpoints;
}

/* At once when every endpoint has room; those that do not answer are left
 * out after a while. */
static bool
can_start(const struct group *group)
{
	const struct quorum *quorum = group->quorum;
	unsigned int in = 0, room = 0;

	for (size_t i = 0; i < quorum->endpoints; i++) {
		in += seat_is_in(group, i);
		room += seat_is_in(group, i) && has_room(quorum, i);
	}
	return room == in ||
	    (room >= group->need &&
		quorum->now.boot_ms - group->asked_ms >= QUORUM_PATIENCE_MS);
}

/* 0 when at least one endpoint was asked. The group is on its list. */
static int
start(struct group *group, const uint8_t *raw)
{
	struct quorum *quorum = group->quorum;
	int error = KMS_EBUSY, asked = 0;

	for (size_t i = 0; i < quorum->endpoints; i++) {
		struct seat *seat = &group->seats[i];

		if (!seat_is_in(group, i))
			continue;
		if (raw == NULL && !has_room(quorum, i)) {
			seat_failed(seat, CHAIN_ERROR_BUSY,
			    "too many of its answers are outstanding");
			continue;
		}
		error = ask_seat(seat, group->question.block, raw);
		if (error != 0)
			continue;
		seat->holds = true;
		quorum->open[i]++;
		asked++;
	}
	return asked > 0 ? 0 : error;
}

static void
start_waiting(struct quorum *quorum)
{
	struct group *group;

	while ((group = TAILQ_FIRST(&quorum->waiting)) != NULL &&
	    can_start(group)) {
		TAILQ_REMOVE(&quorum->waiting, group, link);
		TAILQ_INSERT_TAIL(&quorum->started, group, link);
		if (start(group, NULL) != 0) {
			fail(group, KMS_EUNAVAIL);
			conclude(group);
		}
	}
}

/* A transaction's hash is ours to know. */
static bool
is_our_transaction(
    const struct group *group, const struct registry_answer *answer)
{
	return group->question.kind != REGISTRY_SEND ||
	    memcmp(answer->hash.bytes, group->question.hash.bytes,
		ETH_WORD_LEN) == 0;
}

static void
on_answer(void *arg, int error, const struct registry_answer *answer)
{
	struct seat *seat = arg;
	struct group *group = seat->group;
	struct quorum *quorum = group->quorum;
	struct vote *vote = NULL;

	seat->asked = false;
	if (error != 0) {
		seat_failed(seat, answer->failure, answer->text);
	} else if (!is_our_transaction(group, answer)) {
		seat_failed(seat, CHAIN_ERROR_MALFORMED,
		    "reports another transaction's hash");
	} else {
		vote = &seat->votes[seat->vote_count++];
		*vote = vote_of(answer);
	}
	if (group->decided && vote != NULL)
		quorum_warn_of(seat);
	else if (!group->decided && vote != NULL &&
	    vote_support(group, vote) >= group->need)
		deliver(group, answer, vote);
	else if (!group->decided)
		advance(group);
	conclude(group);
	start_waiting(quorum);
}

static struct group *
group_new(struct quorum *quorum, const struct registry_question *question,
    unsigned int mask, unsigned int need)
{
	struct group *group = calloc(1, sizeof(*group));

	if (group == NULL)
		return NULL;
	/* its head, and each lower one at which they may meet */
	group->vote_max = quorum->endpoints - need + 2;
	group->votes =
	    calloc(quorum->endpoints * group->vote_max, sizeof(*group->votes));
	if (group->votes == NULL) {
		free(group);
		return NULL;
	}
	group->quorum = quorum;
	group->question = *question;
	group->question.raw = NULL;
	group->mask = mask;
	group->need = need;
	for (size_t i = 0; i < quorum->endpoints; i++) {
		group->seats[i].group = group;
		group->seats[i].votes = group->votes + i * group->vote_max;
	}
	quorum->groups++;
	return group;
}

int
quorum_ask(struct quorum *quorum, const struct registry_question *question,
    unsigned int mask, unsigned int need, struct kms_time now,
    registry_done_fn done, void *arg)
{
	struct group *group;
	int error;

	quorum->now = now;
	if (quorum->groups >= QUORUM_GROUPS_MAX)
		return KMS_EBUSY;
	group = group_new(quorum, question, mask, need);
	if (group == NULL)
		return KMS_ENOMEM;
	group->asked_ms = now.boot_ms;
	group->done = done;
	group->arg = arg;
	if (question->kind == REGISTRY_SEND) {
		keccak256(question->raw, question->raw_len,
		    group->question.hash.bytes);
	} else if (!TAILQ_EMPTY(&quorum->waiting) || !can_start(group)) {
		TAILQ_INSERT_TAIL(&quorum->waiting, group, link);
		return 0;
	}
	error = start(group, question->raw);
	if (error != 0) {
		group_free(group);
		return error;
	}
	TAILQ_INSERT_TAIL(&quorum->started, group, link);
	return 0;
}

void
quorum_tick(struct quorum *quorum, struct kms_time now)
{
	struct group *group, *next;

	quorum->now = now;
	start_waiting(quorum);
	while ((group = TAILQ_FIRST(&quorum->waiting)) != NULL &&
	    now.boot_ms - group->asked_ms >= REGISTRY_TIMEOUT_MS) {
		TAILQ_REMOVE(&quorum->waiting, group, link);
		TAILQ_INSERT_TAIL(&quorum->started, group, link);
		fail(group, KMS_ETIMEOUT);
		conclude(group);
	}
	for (group = TAILQ_FIRST(&quorum->started); group != NULL;
	     group = next) {
		next = TAILQ_NEXT(group, link);
		if (group->decided)
			continue;
		if (now.boot_ms - group->asked_ms >= REGISTRY_TIMEOUT_MS)
			fail(group, KMS_ETIMEOUT);
		else
			advance(group);
		conclude(group);
	}
}
