#include "kms-net/limit.h"

#include <string.h>

#define TOKEN 60000 /* so that rate * milliseconds is the refill */

void
limit_init(struct limit *limit, uint64_t nonce_rate, uint64_t request_rate,
    const uint64_t key[3])
{
	memset(limit, 0, sizeof(*limit));
	limit_set_rates(limit, nonce_rate, request_rate);
	memcpy(limit->key, key, sizeof(limit->key));
}

static void
set_rate(struct limit *limit, enum limit_kind kind, uint64_t rate)
{
	if (rate > LIMIT_RATE_MAX)
		rate = LIMIT_RATE_MAX;
	if (limit->rate[kind] == rate)
		return;
	limit->rate[kind] = rate;
	for (size_t set = 0; set < LIMIT_SETS; set++) {
		for (size_t way = 0; way < LIMIT_WAYS; way++)
			limit->entries[set][way].level[kind] = rate * TOKEN;
	}
}

void
limit_set_rates(struct limit *limit, uint64_t nonce_rate, uint64_t request_rate)
{
	set_rate(limit, LIMIT_NONCE, nonce_rate);
	set_rate(limit, LIMIT_REQUEST, request_rate);
}

/* Multiply-shift with secret factors: clients do not choose their set. */
static struct limit_entry *
set_of(struct limit *limit, const struct address *client)
{
	uint64_t half[2];
	unsigned __int128 sum;

	memcpy(half, client->bytes, sizeof(half));
	sum = (unsigned __int128)(limit->key[0] + half[0]) *
	    (limit->key[1] + half[1]);
	sum = (unsigned __int128)((uint64_t)sum ^ (uint64_t)(sum >> 64)) *
	    (limit->key[2] | 1);
	return limit->entries[(uint64_t)(sum >> 54) & (LIMIT_SETS - 1)];
}

static struct limit_entry *
find(struct limit *limit, const struct address *client)
{
	struct limit_entry *set = set_of(limit, client);

	for (size_t i = 0; i < LIMIT_WAYS; i++) {
		if (set[i].used &&
		    memcmp(&set[i].client, client, sizeof(*client)) == 0)
			return &set[i];
	}
	return NULL;
}

/* A free place of the set, or that of the client seen longest ago. */
static struct limit_entry *
enter(struct limit *limit, const struct address *client, uint64_t now_ms)
{
	struct limit_entry *set = set_of(limit, client), *place = set;

	for (size_t i = 0; i < LIMIT_WAYS && place->used; i++) {
		if (!set[i].used || set[i].seen_ms < place->seen_ms)
			place = &set[i];
	}
	*place = (struct limit_entry){
		.client = *client, .used = true, .seen_ms = now_ms
	};
	for (size_t kind = 0; kind < LIMIT_KINDS; kind++)
		place->level[kind] = limit->rate[kind] * TOKEN;
	return place;
}

static void
refill(struct limit *limit, struct limit_entry *entry, uint64_t now_ms)
{
	uint64_t passed = now_ms - entry->seen_ms;

	if (passed > TOKEN)
		passed = TOKEN;
	entry->seen_ms = now_ms;
	for (size_t kind = 0; kind < LIMIT_KINDS; kind++) {
		uint64_t most = limit->rate[kind] * TOKEN;
		uint64_t level =
		    entry->level[kind] + limit->rate[kind] * passed;

		entry->level[kind] = level < most ? level : most;
	}
}

unsigned int
limit_take(struct limit *limit, const struct address *client,
    enum limit_kind kind, uint64_t now_ms)
{
	uint64_t rate = limit->rate[kind], missing;
	struct limit_entry *entry;

	if (rate == 0)
		return 0;
	entry = find(limit, client);
	if (entry == NULL)
		entry = enter(limit, client, now_ms);
	else
		refill(limit, entry, now_ms);
	if (entry->level[kind] >= TOKEN) {
		entry->level[kind] -= TOKEN;
		return 0;
	}
	missing = TOKEN - entry->level[kind];
	return (unsigned int)((missing + rate * 1000 - 1) / (rate * 1000));
}

void
limit_give(
    struct limit *limit, const struct address *client, enum limit_kind kind)
{
	struct limit_entry *entry;

	if (limit->rate[kind] == 0)
		return;
	entry = find(limit, client);
	if (entry == NULL)
		return;
	entry->level[kind] += TOKEN;
	if (entry->level[kind] > limit->rate[kind] * TOKEN)
		entry->level[kind] = limit->rate[kind] * TOKEN;
}
