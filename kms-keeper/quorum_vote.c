#include "kms-keeper/quorum_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"

static void
add_number(struct keccak256 *k, uint64_t number)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(number >> (8 * i));
	keccak256_update(k, bytes, sizeof(bytes));
}

static void
add_instance(struct keccak256 *k, const struct instance_facts *facts)
{
	size_t url_len = strlen(facts->url);

	add_number(k, facts->found);
	add_number(k, facts->instance_id);
	add_number(k, facts->app_id);
	add_number(k, facts->version_id);
	keccak256_update(k, facts->operator.bytes, ETH_ADDRESS_LEN);
	add_number(k, url_len);
	keccak256_update(k, facts->url, url_len);
	add_number(k, facts->pubkey_len);
	keccak256_update(k, facts->pubkey, facts->pubkey_len);
	keccak256_update(k, facts->wallet.bytes, ETH_ADDRESS_LEN);
	add_number(k, facts->zk_verified);
	add_number(k, facts->status);
	add_number(k, facts->registered_at);
	add_number(k, facts->app_id_answered);
	add_number(k, facts->app_status);
	add_number(k, facts->version_id_answered);
	add_number(k, facts->version_status);
}

struct vote
vote_of(const struct registry_answer *answer)
{
	struct vote vote = { .block = answer->block,
		.block_time = answer->block_time };
	struct keccak256 k;

	keccak256_init(&k);
	add_number(&k, (uint64_t)answer->kind);
	switch (answer->kind) {
	case REGISTRY_INSTANCE:
		add_instance(&k, &answer->instance);
		break;
	case REGISTRY_MEMBERS:
		add_number(&k, answer->member_count);
		keccak256_update(&k, answer->members,
		    answer->member_count * sizeof(answer->members[0]));
		break;
	case REGISTRY_HASH:
		add_number(&k, answer->chain_id);
		add_number(&k, answer->kms_app_id);
		keccak256_update(&k, answer->hash.bytes, ETH_WORD_LEN);
		break;
	case REGISTRY_RECEIPT:
		/* At the block it was mined in, or at none. */
		vote.block = answer->mined ? answer->block : 0;
		vote.block_time = 0;
		add_number(&k, answer->mined);
		add_number(&k, answer->tx_status);
		break;
	case REGISTRY_TX_INPUTS:
	case REGISTRY_SEND:
		break; /* the first answer counts */
	}
	keccak256_final(&k, vote.facts);
	return vote;
}

static bool
same_vote(const struct vote *a, const struct vote *b)
{
	return a->block == b->block && a->block_time == b->block_time &&
	    memcmp(a->facts, b->facts, sizeof(a->facts)) == 0;
}

const struct vote *
vote_at(const struct seat *seat, uint64_t block)
{
	for (size_t i = 0; i < seat->vote_count; i++) {
		if (seat->votes[i].block == block)
			return &seat->votes[i];
	}
	return NULL;
}

unsigned int
vote_support(const struct group *group, const struct vote *vote)
{
	unsigned int count = 0;

	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		const struct vote *other =
		    vote_at(&group->seats[i], vote->block);

		count += other != NULL && same_vote(vote, other);
	}
	return count;
}

bool
seat_is_in(const struct group *group, size_t i)
{
	return (group->mask >> i & 1) != 0;
}

size_t
seat_index(const struct seat *seat)
{
	return (size_t)(seat - seat->group->seats);
}

/* ---- texts ---- */

struct text {
	char *at;
	size_t size;
	size_t len;
};

static void __attribute__((format(printf, 2, 3)))
say(struct text *text, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(
	    text->at + text->len, text->size - text->len, format, args);
	va_end(args);
	if (len > 0)
		text->len += (size_t)len;
	if (text->len >= text->size)
		text->len = text->size - 1;
}

static const char *
noun(enum registry_kind kind)
{
	static const char *const nouns[] = {
		[REGISTRY_INSTANCE] = "instance",
		[REGISTRY_MEMBERS] = "list of active instances",
		[REGISTRY_HASH] = "masterSecretHash or kmsAppId",
		[REGISTRY_TX_INPUTS] = "state of the wallet",
		[REGISTRY_SEND] = "transaction",
		[REGISTRY_RECEIPT] = "receipt",
	};

	return nouns[kind];
}

/* How a seat differs from a vote; false when it does not. */
static bool
say_difference(
    struct text *text, const struct seat *seat, const struct vote *agreed)
{
	const struct vote *vote = vote_at(seat, agreed->block);
	size_t number = seat_index(seat) + 1;

	if (vote != NULL && vote->block_time != agreed->block_time)
		say(text, "rpc-url %zu reports another time of block %" PRIu64,
		    number, vote->block);
	else if (vote != NULL && !same_vote(vote, agreed))
		say(text, "rpc-url %zu reports another %s at block %" PRIu64,
		    number, noun(seat->group->question.kind), vote->block);
	else
		return false;
	return true;
}

static void
say_supporters(
    struct text *text, const struct group *group, const struct vote *best)
{
	const char *before = "rpc-url ";
	unsigned int count = vote_support(group, best);

	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		const struct vote *vote =
		    vote_at(&group->seats[i], best->block);

		if (vote == NULL || !same_vote(vote, best))
			continue;
		say(text, "%s%zu", before, i + 1);
		before = " and ";
	}
	if (group->question.kind == REGISTRY_RECEIPT && best->block == 0)
		say(text, count > 1 ? " know no receipt" : " knows no receipt");
	else
		say(text,
		    count > 1 ? " agree at block %" PRIu64
			      : " answers at block %" PRIu64,
		    best->block);
}

static const struct vote *
best_vote(const struct group *group)
{
	const struct vote *best = NULL;
	unsigned int most = 0;

	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		const struct seat *seat = &group->seats[i];

		for (size_t v = 0; v < seat->vote_count; v++) {
			unsigned int count =
			    vote_support(group, &seat->votes[v]);

			if (count > most) {
				most = count;
				best = &seat->votes[v];
			}
		}
	}
	return best;
}

static void
say_seat(struct text *text, const struct seat *seat, const struct vote *best)
{
	size_t number = seat_index(seat) + 1;

	if (seat->vote_count == 0 && seat->failure != 0)
		say(text, "rpc-url %zu: %s", number, seat->text);
	else if (seat->vote_count == 0)
		say(text, "rpc-url %zu is silent", number);
	else if (vote_at(seat, best->block) != NULL)
		(void)say_difference(text, seat, best);
	else if (seat->failure != 0)
		say(text, "rpc-url %zu at block %" PRIu64 ": %s", number,
		    seat->votes[0].block, seat->text);
	else if (seat->group->question.kind == REGISTRY_RECEIPT &&
	    seat->votes[0].block == 0)
		say(text, "rpc-url %zu knows no receipt", number);
	else
		say(text, "rpc-url %zu is at block %" PRIu64, number,
		    seat->votes[0].block);
}

void
quorum_explain(const struct group *group, char *out, size_t size)
{
	struct text whole = { out, size, 0 }, *text = &whole;
	const struct vote *best = best_vote(group);
	const char *before = "";

	if (group->need > 1)
		say(text, "rpc-quorum %u is not reached: ", group->need);
	if (best != NULL) {
		say_supporters(text, group, best);
		before = ", ";
	}
	for (size_t i = 0; i < group->quorum->endpoints; i++) {
		const struct seat *seat = &group->seats[i];
		const struct vote *vote =
		    best != NULL ? vote_at(seat, best->block) : NULL;

		if (!seat_is_in(group, i) ||
		    (vote != NULL && same_vote(vote, best)))
			continue;
		say(text, "%s", before);
		say_seat(text, seat, best);
		before = ", ";
	}
}

void
quorum_warn_of(const struct seat *seat)
{
	const struct group *group = seat->group;
	struct quorum *quorum = group->quorum;
	int64_t *warned = &quorum->warned_ms[seat_index(seat)];
	uint64_t agreed = group->agreed.block, own;
	char line[256];
	struct text text = { line, sizeof(line), 0 };

	/* Who knows no receipt yet is no liar. */
	if (group->need < 2 || seat->vote_count == 0 ||
	    (group->question.kind == REGISTRY_RECEIPT &&
		seat->votes[0].block != agreed))
		return;
	own = seat->votes[0].block;
	if (!say_difference(&text, seat, &group->agreed)) {
		if ((own > agreed ? own - agreed : agreed - own) <=
		    QUORUM_LAG_MAX)
			return;
		say(&text, "rpc-url %zu is at block %" PRIu64,
		    seat_index(seat) + 1, own);
	}
	if (*warned != 0 && quorum->now.boot_ms - *warned < QUORUM_WARN_MS)
		return;
	*warned = quorum->now.boot_ms;
	log_warn("%s; %u others agree at block %" PRIu64, line,
	    vote_support(group, &group->agreed), agreed);
}
