#include "kms-keeper/counterpart.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kms-keeper/authz.h"
#include "proto/metrics.h"
#include "proto/msg.h"

TAILQ_HEAD(counterpart_list, counterpart);

struct counterparts {
	struct counterpart *table;
	/* by share: [1] the authorised, [0] everybody else */
	struct counterpart_list lru[2];
	size_t count[2];
	size_t lookups;
	size_t replay_count; /* entries of all windows */
	int64_t swept_ms;
	struct head_guard head;
	struct counterparts_config config;
	struct registry *registry;
	struct identity *identity;
	struct kms_time now;
};

static int
share_of(const struct counterpart *c)
{
	return c->verdict == COUNTERPART_AUTHORISED;
}

static unsigned int
hash_of(const struct counterparts *cs, const struct eth_address *wallet)
{
	return (unsigned int)siphash(
	    cs->config.hash_key, wallet->bytes, ETH_ADDRESS_LEN);
}

struct counterparts *
counterparts_new(const struct counterparts_config *config,
    struct registry *registry, struct identity *identity)
{
	struct counterparts *cs = calloc(1, sizeof(*cs));

	if (cs == NULL)
		return NULL;
	cs->config = *config;
	if (cs->config.replay_max == 0)
		cs->config.replay_max = COUNTERPARTS_REPLAY_MAX;
	cs->registry = registry;
	cs->identity = identity;
	TAILQ_INIT(&cs->lru[0]);
	TAILQ_INIT(&cs->lru[1]);
	return cs;
}

static void
drop(struct counterpart *c)
{
	struct counterparts *cs = c->owner;
	int share = share_of(c);

	TAILQ_REMOVE(&cs->lru[share], c, lru);
	cs->count[share]--;
	HASH_DEL(cs->table, c);
	identity_forget(cs->identity, &c->agreement);
	cs->replay_count -= c->replay.count;
	replay_free(&c->replay);
	OPENSSL_cleanse(c, sizeof(*c));
	free(c);
}

void
counterparts_free(struct counterparts *cs)
{
	struct counterpart *c;

	if (cs == NULL)
		return;
	for (int share = 0; share < 2; share++) {
		while ((c = TAILQ_FIRST(&cs->lru[share])) != NULL)
			drop(c);
	}
	free(cs);
}

/* A peer's window must not go: its requests would pass a second time. */
static bool
is_remembered(const struct counterpart *c)
{
	return c->verdict == COUNTERPART_AUTHORISED &&
	    c->app_id == c->owner->config.kms_app_id && c->replay.count > 0;
}

/* Make room in a share; false when everybody in it is busy. */
static bool
make_room(struct counterparts *cs, int share)
{
	size_t max =
	    share ? COUNTERPARTS_AUTHORISED_MAX : COUNTERPARTS_REFUSED_MAX;
	struct counterpart *c;

	if (cs->count[share] < max)
		return true;
	TAILQ_FOREACH (c, &cs->lru[share], lru) {
		if (c->pins == 0 && !c->lookup && !is_remembered(c)) {
			drop(c);
			return true;
		}
	}
	return false;
}

static void
touch(struct counterpart *c)
{
	struct counterpart_list *list = &c->owner->lru[share_of(c)];

	TAILQ_REMOVE(list, c, lru);
	TAILQ_INSERT_TAIL(list, c, lru);
}

static struct counterpart *
add(struct counterparts *cs, const struct eth_address *wallet)
{
	struct counterpart *c;

	if (!make_room(cs, 0))
		return NULL;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->owner = cs;
	c->wallet = *wallet;
	TAILQ_INIT(&c->waiters);
	replay_init(&c->replay, COUNTERPART_REPLAY_MAX,
	    COUNTERPART_REPLAY_REACH_MS, cs->config.hash_key);
	HASH_ADD_BYHASHVALUE(
	    hh, cs->table, wallet, ETH_ADDRESS_LEN, hash_of(cs, wallet), c);
	if (c->hh.tbl == NULL) {
		free(c);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&cs->lru[0], c, lru);
	cs->count[0]++;
	return c;
}

struct counterpart *
counterpart_pin(struct counterparts *cs, const struct eth_address *wallet,
    struct kms_time now)
{
	struct counterpart *c;

	cs->now = now;
	HASH_FIND_BYHASHVALUE(
	    hh, cs->table, wallet, ETH_ADDRESS_LEN, hash_of(cs, wallet), c);
	if (c == NULL)
		c = add(cs, wallet);
	if (c == NULL)
		return NULL;
	c->pins++;
	touch(c);
	return c;
}

void
counterpart_unpin(struct counterpart *c)
{
	c->pins--;
}

/* ---- look-ups ---- */

/* Move between the shares when the verdict does. */
static void
set_verdict(struct counterpart *c, enum counterpart_verdict verdict)
{
	struct counterparts *cs = c->owner;
	int from = share_of(c);

	c->verdict = verdict;
	if (share_of(c) == from)
		return;
	TAILQ_REMOVE(&cs->lru[from], c, lru);
	cs->count[from]--;
	/* A full share of busy callers grows by those already at work. */
	(void)make_room(cs, !from);
	TAILQ_INSERT_TAIL(&cs->lru[!from], c, lru);
	cs->count[!from]++;
}

/* What a peer sent matters for as long as the oldest record may come back. */
static void
reach_back(struct counterpart *c)
{
	const struct counterparts_config *config = &c->owner->config;

	if (c->app_id == config->kms_app_id &&
	    c->replay.reach_ms < (int64_t)config->peer_reach_ms)
		c->replay.reach_ms = (int64_t)config->peer_reach_ms;
}

static void
take_facts(struct counterpart *c, const struct instance_facts *facts)
{
	struct p384_point point;
	const char *refusal = authz_app(facts, &c->wallet, &point);

	c->fetched_ms = c->owner->now.boot_ms;
	c->refusal = refusal;
	if (refusal != NULL) {
		set_verdict(c, COUNTERPART_REFUSED);
		return;
	}
	if (c->verdict != COUNTERPART_AUTHORISED ||
	    !p384_point_equal(&c->point, &point))
		identity_forget(c->owner->identity, &c->agreement);
	c->point = point;
	c->app_id = facts->app_id;
	reach_back(c);
	set_verdict(c, COUNTERPART_AUTHORISED);
}

static void
wake(struct counterpart *c, int error)
{
	struct counterpart_waiter *waiter;

	/* A waiter may end its request and so unpin; hold the entry. */
	c->pins++;
	while ((waiter = TAILQ_FIRST(&c->waiters)) != NULL) {
		TAILQ_REMOVE(&c->waiters, waiter, link);
		c->waiting--;
		waiter->waiting = false;
		waiter->ready(waiter, error);
	}
	c->pins--;
}

static void on_instance(
    void *arg, int error, const struct registry_answer *answer);

static int
ask(struct counterpart *c)
{
	struct registry_question question = {
		.kind = REGISTRY_INSTANCE,
		.endpoint = MSG_ENDPOINT_ANY,
		.wallet = c->wallet,
		.request = c->request,
	};
	struct counterparts *cs = c->owner;

	return registry_ask(cs->registry, &question, cs->now, on_instance, c);
}

/* The head was not believable: of several endpoints another may do, each
 * tried once. True when it is being asked. */
static bool
ask_another(struct counterpart *c, unsigned int endpoint)
{
	if (!registry_distrust(c->owner->registry, endpoint, c->owner->now) ||
	    c->tried++ >= REGISTRY_ENDPOINTS_MAX)
		return false;
	return ask(c) == 0;
}

static void
on_instance(void *arg, int error, const struct registry_answer *answer)
{
	struct counterpart *c = arg;
	struct counterparts *cs = c->owner;

	if (error == 0 &&
	    head_guard_check(&cs->head, answer->endpoint, answer->block,
		answer->block_time, cs->now,
		cs->config.max_head_age_ms) != NULL) {
		if (ask_another(c, answer->endpoint))
			return;
		error = KMS_EUNAVAIL;
	}
	c->lookup = false;
	cs->lookups--;
	if (error == 0)
		take_facts(c, &answer->instance);
	wake(c, error == 0 ? 0 : KMS_EUNAVAIL);
}

static int
look_up(struct counterpart *c, uint64_t request)
{
	struct counterparts *cs = c->owner;
	int error;

	if (c->lookup)
		return 0;
	/* Strangers leave room for those that the registry knows. */
	if (cs->lookups >= (c->verdict == COUNTERPART_AUTHORISED
				   ? COUNTERPART_LOOKUPS_MAX
				   : COUNTERPART_LOOKUPS_MAX * 3 / 4))
		return KMS_EBUSY;
	c->request = request;
	error = ask(c);
	if (error != 0)
		return error == KMS_EBUSY ? KMS_EBUSY : KMS_EUNAVAIL;
	metrics[METRIC_KEEPER_LOOKUPS]++;
	c->lookup = true;
	c->tried = 0;
	c->asked_ms = cs->now.boot_ms;
	cs->lookups++;
	return 0;
}

static int64_t
lifetime(const struct counterpart *c)
{
	int64_t ttl = (int64_t)c->owner->config.ttl_ms;

	if (c->verdict == COUNTERPART_REFUSED &&
	    ttl > COUNTERPART_REFUSED_TTL_MS)
		return COUNTERPART_REFUSED_TTL_MS;
	return ttl;
}

static void
count(enum label_cache outcome)
{
	metrics[METRIC_KEEPER_AUTHORIZATIONS + (int)outcome]++;
}

int
counterpart_authorise(struct counterpart *c, struct counterpart_waiter *waiter,
    struct kms_time now)
{
	int64_t age = now.boot_ms - c->fetched_ms;
	bool renew;
	int error;

	c->owner->now = now;
	if (c->verdict != COUNTERPART_UNKNOWN && age < lifetime(c)) {
		/* In use: renew it while it still holds. */
		renew = c->verdict == COUNTERPART_AUTHORISED &&
		    age > lifetime(c) / 2 &&
		    now.boot_ms - c->asked_ms >= COUNTERPART_RETRY_MS;
		if (renew)
			(void)look_up(c, waiter->request);
		count(renew ? LABEL_cache_REFRESH : LABEL_cache_HIT);
		return 0;
	}
	error = c->waiting >= COUNTERPART_WAITING_MAX
	    ? KMS_EBUSY
	    : look_up(c, waiter->request);
	count(error == KMS_EBUSY ? LABEL_cache_BUSY : LABEL_cache_MISS);
	if (error != 0)
		return error;
	waiter->waiting = true;
	TAILQ_INSERT_TAIL(&c->waiters, waiter, link);
	c->waiting++;
	return KMS_EAGAIN;
}

void
counterpart_cancel(struct counterpart *c, struct counterpart_waiter *waiter)
{
	if (!waiter->waiting)
		return;
	TAILQ_REMOVE(&c->waiters, waiter, link);
	c->waiting--;
	waiter->waiting = false;
}

bool
counterpart_take_token(
    struct counterpart *c, struct kms_time now, unsigned int *retry_s)
{
	double rate = (double)c->owner->config.app_rate / 60000.0;
	double full = (double)c->owner->config.app_rate;

	*retry_s = 0;
	if (c->owner->config.app_rate == 0)
		return true;
	if (c->tokens_ms == 0)
		c->tokens = full;
	else
		c->tokens += (double)(now.boot_ms - c->tokens_ms) * rate;
	if (c->tokens > full)
		c->tokens = full;
	c->tokens_ms = now.boot_ms;
	if (c->tokens >= 1.0) {
		c->tokens -= 1.0;
		return true;
	}
	*retry_s = 1 + (unsigned int)((1.0 - c->tokens) / rate / 1000.0);
	return false;
}

void
counterparts_set_app_rate(struct counterparts *cs, uint64_t app_rate)
{
	cs->config.app_rate = app_rate;
}

void
counterparts_set_time(struct counterparts *cs, struct kms_time now)
{
	cs->now = now;
}

/* The window changed from so many entries. */
static void
recount(struct counterpart *c, uint32_t before)
{
	c->owner->replay_count += c->replay.count;
	c->owner->replay_count -= before;
}

int
counterpart_remember(struct counterpart *c, const uint8_t nonce[AEAD_NONCE_LEN],
    struct kms_time now)
{
	uint32_t before = c->replay.count;
	int error = KMS_EBUSY;

	replay_expire(&c->replay, now.boot_ms);
	recount(c, before);
	before = c->replay.count;
	if (c->owner->replay_count < c->owner->config.replay_max)
		error = replay_check_and_add(&c->replay, nonce, now.boot_ms);
	recount(c, before);
	return error;
}

void
counterparts_tick(struct counterparts *cs, struct kms_time now)
{
	struct counterpart *c;

	cs->now = now;
	if (now.boot_ms - cs->swept_ms < COUNTERPARTS_TICK_MS)
		return;
	cs->swept_ms = now.boot_ms;
	for (int share = 0; share < 2; share++) {
		TAILQ_FOREACH (c, &cs->lru[share], lru) {
			uint32_t before = c->replay.count;

			if (before == 0)
				continue;
			replay_expire(&c->replay, now.boot_ms);
			recount(c, before);
		}
	}
}

size_t
counterparts_replay_count(const struct counterparts *cs)
{
	return cs->replay_count;
}

size_t
counterparts_lookups(const struct counterparts *cs)
{
	return cs->lookups;
}

size_t
counterparts_count(const struct counterparts *cs)
{
	return cs->count[0] + cs->count[1];
}
