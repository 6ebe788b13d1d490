/* A node's keys, watched: what it seals is looked at, what one that has turned
 * seals is something else, and results come at once, as with local keys, or
 * later, and perhaps not at all, as from a platform's service. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "regress/sim/simk.h"

#define HOSTILE_PER_MILLE 300
#define FAILS_PER_MILLE 5

enum work_kind {
	WORK_SIGN,
	WORK_OPEN,
	WORK_SEAL,
	WORK_TRANSACTION,
	WORK_UNSEAL
};

struct work {
	enum work_kind kind;
	struct p384_point other;
	uint8_t nonce[AEAD_NONCE_LEN];
	struct transaction transaction;
	struct sealed_secret sealed;
	uint8_t *in;
	size_t len;
	identity_done_fn done;
	void *arg;
};

static struct node *watched; /* the world's first node */

static struct node *
owner_of(const struct identity *identity)
{
	for (unsigned int i = 0; i < PLACES_MAX; i++)
		if (watched[i].identity == identity)
			return &watched[i];
	abort();
}

/* ---- what leaves --------------------------------------------------------- */

/* One that has turned says what it likes, well sealed and signed. */
static void
twist(struct world *world, uint8_t *text, size_t *len)
{
	uint64_t at = simk_below(world, *len);

	switch (simk_below(world, 4)) {
	case 0:
		*len = at;
		break;
	case 1:
		text[at] = (uint8_t)simk_random(world);
		break;
	case 2: /* another digit, so that it stays what it is */
		for (size_t i = 0; i < *len; i++, at = (at + 1) % *len)
			if (text[at] >= '0' && text[at] <= '9')
				break;
		text[at] = (uint8_t)('0' + simk_below(world, 10));
		break;
	default:
		memset(text, ' ', *len);
		text[0] = '{';
		text[*len - 1] = '}';
		break;
	}
}

static void
look(struct node *node, const struct p384_point *other, uint8_t *text,
    size_t *len)
{
	static const char sealed[] = "\"sealed\"", offer[] = "secret_offer";
	struct world *world = node->world;

	/* A secret leaves the node, as an answer or as an offer. */
	if (memmem(text, *len, sealed, sizeof(sealed) - 1) != NULL)
		simk_check_given(world, node->index, other,
		    memmem(text, *len, offer, sizeof(offer) - 1) != NULL);
	if (node->hostile && *len > 2 && simk_chance(world, HOSTILE_PER_MILLE))
		twist(world, text, len);
}

/* ---- later --------------------------------------------------------------- */

static struct work *
later(struct node *node, enum work_kind kind, const void *in, size_t len,
    identity_done_fn done, void *arg)
{
	struct world *world = node->world;
	struct work *work = calloc(1, sizeof(*work));
	int64_t ms = 1 + (int64_t)simk_below(world, 20);

	if (work == NULL || (work->in = malloc(len + 1)) == NULL)
		abort();
	if (len > 0)
		memcpy(work->in, in, len);
	work->kind = kind;
	work->len = len;
	work->done = done;
	work->arg = arg;
	if (!world->calm && simk_chance(world, 10))
		ms += (int64_t)simk_below(world, 3000);
	simk_push(world,
	    (struct event){ .at_ms = world->now_ms + ms,
		.type = EVENT_IDENTITY,
		.node = node->index,
		.life = node->life,
		.work = work });
	return work;
}

void
simk_work_free(struct work *work)
{
	if (work != NULL)
		free(work->in);
	free(work);
}

static struct agreement **
agreement_with(struct node *node, const struct p384_point *other)
{
	struct known_key *key;

	for (size_t i = 0; i < node->key_count; i++)
		if (p384_point_equal(&node->keys[i].point, other))
			return &node->keys[i].agreement;
	if (node->key_count == KEYS_MAX)
		abort();
	key = &node->keys[node->key_count++];
	key->point = *other;
	key->agreement = NULL;
	return &key->agreement;
}

static void
carry_out(struct node *node, struct work *work)
{
	const struct identity_ops *ops = node->identity_ops;
	struct identity *identity = node->identity;

	switch (work->kind) {
	case WORK_SIGN:
		ops->sign(identity, work->in, work->len, work->done, work->arg);
		break;
	case WORK_OPEN:
		ops->open(identity, agreement_with(node, &work->other),
		    &work->other, work->nonce, work->in, work->len, work->done,
		    work->arg);
		break;
	case WORK_SEAL:
		ops->seal(identity, agreement_with(node, &work->other),
		    &work->other, work->in, work->len, work->done, work->arg);
		break;
	case WORK_TRANSACTION:
		ops->sign_transaction(
		    identity, &work->transaction, work->done, work->arg);
		break;
	case WORK_UNSEAL:
		ops->unseal(identity, &work->sealed, work->done, work->arg);
		break;
	}
}

void
simk_identity_done(struct world *world, struct event *event)
{
	struct node *node = &world->nodes[event->node];
	struct work *work = event->work;

	if (!node->alive || node->life != event->life)
		return;
	simk_set_time(world, event->node);
	if (!world->calm && simk_chance(world, FAILS_PER_MILLE))
		work->done(work->arg, KMS_EUNAVAIL, NULL, 0);
	else
		carry_out(node, work);
	simk_settle(world, event->node);
}

/* ---- identity_ops -------------------------------------------------------- */

static void
op_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg)
{
	(void)later(owner_of(identity), WORK_SIGN, message, len, done, arg);
}

static void
op_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[AEAD_NONCE_LEN],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	struct work *work =
	    later(owner_of(identity), WORK_OPEN, sealed, len, done, arg);

	(void)agreement;
	work->other = *other;
	memcpy(work->nonce, nonce, AEAD_NONCE_LEN);
}

static void
op_seal_later(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	struct node *node = owner_of(identity);
	struct work *work = later(node, WORK_SEAL, plaintext, len, done, arg);

	(void)agreement;
	work->other = *other;
	look(node, other, work->in, &work->len);
}

static void
op_sign_transaction(struct identity *identity,
    const struct transaction *transaction, identity_done_fn done, void *arg)
{
	struct work *work =
	    later(owner_of(identity), WORK_TRANSACTION, "", 0, done, arg);

	work->transaction = *transaction;
}

static void
op_unseal(struct identity *identity, const struct sealed_secret *sealed,
    identity_done_fn done, void *arg)
{
	struct work *work =
	    later(owner_of(identity), WORK_UNSEAL, "", 0, done, arg);

	work->sealed = *sealed;
}

static void
op_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	struct node *node = owner_of(identity);
	uint8_t *text = malloc(len + 1);

	if (text == NULL)
		abort();
	memcpy(text, plaintext, len);
	look(node, other, text, &len);
	node->identity_ops->seal(
	    identity, agreement, other, text, len, done, arg);
	free(text);
}

/* ---- life ---------------------------------------------------------------- */

void
simk_identity_watch(struct node *node)
{
	static struct identity_ops at_once, slow;

	watched = node->world->nodes;
	node->key_count = 0;
	node->identity_ops = node->identity->ops;
	at_once = slow = *node->identity_ops;
	at_once.seal = op_seal;
	slow.sign = op_sign;
	slow.open = op_open;
	slow.seal = op_seal_later;
	slow.sign_transaction = op_sign_transaction;
	slow.unseal = op_unseal;
	node->identity->ops = node->world->profile.slow ? &slow : &at_once;
}

void
simk_identity_end(struct node *node)
{
	for (size_t i = 0; i < node->key_count; i++)
		if (node->keys[i].agreement != NULL)
			node->identity_ops->forget(
			    node->identity, node->keys[i].agreement);
	node->key_count = 0;
}
