#include "kms-keeper/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-keeper/quorum.h"
#include "proto/msg.h"

#define QUESTION_OWN (UINT64_C(1) << 63)

struct pending {
	TAILQ_ENTRY(pending) link; /* in order of deadline */
	uint64_t id;
	uint64_t serial;
	struct registry_question question; /* without raw */
	int64_t deadline_ms;		   /* boot time */
	registry_done_fn done;
	void *arg;
};

TAILQ_HEAD(pending_list, pending);

struct registry {
	struct pending_list pending;
	size_t count;
	uint64_t last_serial;
	registry_ask_fn ask;
	void *ask_arg;
	struct quorum *quorum; /* NULL with one endpoint */
	unsigned int need;
	size_t endpoints;
	int64_t distrust_till[REGISTRY_ENDPOINTS_MAX]; /* boot time */
};

struct registry *
registry_new(registry_ask_fn ask, void *arg)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (registry == NULL)
		return NULL;
	TAILQ_INIT(&registry->pending);
	registry->ask = ask;
	registry->ask_arg = arg;
	return registry;
}

void
registry_free(struct registry *registry)
{
	struct pending *pending;

	if (registry == NULL)
		return;
	while ((pending = TAILQ_FIRST(&registry->pending)) != NULL) {
		TAILQ_REMOVE(&registry->pending, pending, link);
		free(pending);
	}
	quorum_free(registry->quorum);
	free(registry);
}

int
registry_set_quorum(
    struct registry *registry, unsigned int need, size_t endpoints)
{
	if (need < 1 || need > endpoints || endpoints > REGISTRY_ENDPOINTS_MAX)
		return KMS_EINVAL;
	registry->need = need;
	registry->endpoints = endpoints;
	if (endpoints == 1 || registry->quorum != NULL)
		return 0;
	registry->quorum = quorum_new(registry, endpoints);
	return registry->quorum != NULL ? 0 : KMS_ENOMEM;
}

/* ---- asking ---- */

/* The endpoints that are not distrusted; all of them rather than none. */
static unsigned int
trusted(const struct registry *registry, struct kms_time now)
{
	unsigned int all = (1U << registry->endpoints) - 1, mask = 0;

	for (size_t i = 0; i < registry->endpoints; i++)
		mask |=
		    (unsigned int)(registry->distrust_till[i] <= now.boot_ms)
		    << i;
	return mask != 0 ? mask : all;
}

bool
registry_distrust(
    struct registry *registry, unsigned int endpoint, struct kms_time now)
{
	size_t left = 0;

	if (registry->quorum == NULL || endpoint >= registry->endpoints)
		return false;
	if (registry->distrust_till[endpoint] <= now.boot_ms)
		log_warn("rpc-url %u is not believed; the others are asked",
		    endpoint + 1);
	registry->distrust_till[endpoint] = now.boot_ms + REGISTRY_DISTRUST_MS;
	for (size_t i = 0; i < registry->endpoints; i++)
		left += registry->distrust_till[i] <= now.boot_ms;
	return left > 0;
}

void
registry_forgive(struct registry *registry)
{
	memset(registry->distrust_till, 0, sizeof(registry->distrust_till));
}

static bool
needs_agreement(enum registry_kind kind)
{
	return kind == REGISTRY_INSTANCE || kind == REGISTRY_MEMBERS ||
	    kind == REGISTRY_HASH;
}

int
registry_ask(struct registry *registry,
    const struct registry_question *question, struct kms_time now,
    registry_done_fn done, void *arg)
{
	unsigned int all, mask;

	if (question->endpoint != MSG_ENDPOINT_ANY || registry->quorum == NULL)
		return registry_ask_one(registry, question, now, done, arg);
	all = (1U << registry->endpoints) - 1;
	mask = trusted(registry, now);
	if (registry->need > 1 &&
	    (needs_agreement(question->kind) ||
		question->kind == REGISTRY_RECEIPT))
		return quorum_ask(registry->quorum, question, all,
		    registry->need, now, done, arg);
	if (registry->need > 1 && question->kind == REGISTRY_SEND)
		return quorum_ask(
		    registry->quorum, question, all, 1, now, done, arg);
	if (mask != all)
		return quorum_ask(
		    registry->quorum, question, mask, 1, now, done, arg);
	return registry_ask_one(registry, question, now, done, arg);
}

static struct pending *find(struct registry *registry, uint64_t id);

/*
 * The number of a question is that of the request behind it, so that the log
 * of kms-chain can be searched for it; a second question of one request, and
 * those that come from none, have numbers of their own, which requests do not
 * have.
 */
static uint64_t
choose_id(struct registry *registry, uint64_t request)
{
	uint64_t own = QUESTION_OWN | registry->last_serial;

	if (request != 0 && (request & QUESTION_OWN) == 0 &&
	    find(registry, request) == NULL)
		return request;
	if (request != 0)
		log_debug(LOG_REQUEST "asks the chain as %016llx",
		    (unsigned long long)request, (unsigned long long)own);
	return own;
}

int
registry_ask_one(struct registry *registry,
    const struct registry_question *question, struct kms_time now,
    registry_done_fn done, void *arg)
{
	struct pending *pending;
	int error;

	if (registry->count >= REGISTRY_PENDING_MAX)
		return KMS_EBUSY;
	pending = calloc(1, sizeof(*pending));
	if (pending == NULL)
		return KMS_ENOMEM;
	pending->serial = ++registry->last_serial;
	pending->id = choose_id(registry, question->request);
	pending->question = *question;
	pending->question.raw = NULL;
	pending->deadline_ms = now.boot_ms + REGISTRY_TIMEOUT_MS;
	pending->done = done;
	pending->arg = arg;
	error = registry->ask(registry->ask_arg, pending->id, question);
	if (error != 0) {
		free(pending);
		return error;
	}
	TAILQ_INSERT_TAIL(&registry->pending, pending, link);
	registry->count++;
	return 0;
}

static void
finish(struct registry *registry, struct pending *pending, int error,
    const struct registry_answer *answer)
{
	TAILQ_REMOVE(&registry->pending, pending, link);
	registry->count--;
	pending->done(pending->arg, error, answer);
	free(pending);
}

void
registry_tell_failure(registry_done_fn done, void *arg, enum registry_kind kind,
    int error, unsigned int failure, const char *text)
{
	struct registry_answer *answer = calloc(1, sizeof(*answer));
	static const struct registry_answer no_memory;

	if (answer != NULL) {
		answer->kind = kind;
		answer->failure = failure;
		(void)snprintf(answer->text, sizeof(answer->text), "%s", text);
	}
	done(arg, error, answer != NULL ? answer : &no_memory);
	free(answer);
}

static void
fail(struct registry *registry, struct pending *pending, int error,
    unsigned int failure, const char *text)
{
	TAILQ_REMOVE(&registry->pending, pending, link);
	registry->count--;
	registry_tell_failure(pending->done, pending->arg,
	    pending->question.kind, error, failure, text);
	free(pending);
}

/* Does the answer speak of what was asked? */
static const char *
mismatch(const struct registry_question *question,
    const struct registry_answer *answer)
{
	if (answer->kind != question->kind)
		return "kms-chain answered another question";
	if (question->endpoint != MSG_ENDPOINT_ANY &&
	    answer->endpoint != question->endpoint)
		return "kms-chain answered for another endpoint";
	if (needs_agreement(answer->kind) && question->block != 0 &&
	    answer->block != question->block)
		return "kms-chain answered for another block";
	return NULL;
}

static struct pending *
find(struct registry *registry, uint64_t id)
{
	struct pending *pending;

	TAILQ_FOREACH (pending, &registry->pending, link) {
		if (pending->id == id)
			return pending;
	}
	return NULL;
}

void
registry_answered(struct registry *registry, uint64_t id, int error,
    struct registry_answer *answer)
{
	struct pending *pending = find(registry, id);
	const char *wrong;

	if (pending == NULL)
		return;
	if (error != 0) {
		finish(registry, pending, error, answer);
		return;
	}
	wrong = mismatch(&pending->question, answer);
	if (wrong != NULL)
		fail(registry, pending, KMS_EUNAVAIL, CHAIN_ERROR_MALFORMED,
		    wrong);
	else
		finish(registry, pending, 0, answer);
}

void
registry_tick(struct registry *registry, struct kms_time now)
{
	struct pending *pending;

	while ((pending = TAILQ_FIRST(&registry->pending)) != NULL &&
	    pending->deadline_ms <= now.boot_ms)
		fail(registry, pending, KMS_ETIMEOUT, CHAIN_ERROR_TIMEOUT,
		    "the chain did not answer in time");
	if (registry->quorum != NULL)
		quorum_tick(registry->quorum, now);
}

void
registry_lost(struct registry *registry)
{
	/* Only those of now: done may ask again, in vain or on a new channel.
	 */
	uint64_t last = registry->last_serial;
	struct pending *pending;

	while ((pending = TAILQ_FIRST(&registry->pending)) != NULL &&
	    pending->serial <= last)
		fail(registry, pending, KMS_EUNAVAIL, CHAIN_ERROR_UNREACHABLE,
		    "kms-chain is being restarted");
}
