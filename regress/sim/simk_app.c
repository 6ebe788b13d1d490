/* Apps: proofs of possession and envelopes with their own keys, and what they
 * make of the answers. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/hex.h"
#include "crypto/envelope.h"
#include "crypto/pop.h"
#include "kms-keeper/authz.h"
#include "regress/sim/simk.h"

#define VALUE_MAX 1500
#define DERIVED_LEN 32
#define CALM_KEY KEYS /* what is written when all is over */

/* A request as it is sent. */
struct parcel {
	struct request_head head;
	char signature[SIGNATURE_TEXT_LEN + 1];
	char nonce[BASE64_LEN(NONCE_LEN) + 1];
	char timestamp[24], target[64];
	char content_hash[2 * SHA256_LEN + 1];
	char sender[2 * P384_SPKI_LEN + 1];
	char envelope_nonce[2 * AEAD_NONCE_LEN + 1];
	char *data;
};

void
simk_app_begin(struct world *world)
{
	uint8_t seed[32], scalar[P384_SCALAR_LEN];

	simk_fill(&world->random, seed, sizeof(seed));
	world->wallets = wallet_context_new(seed);
	for (unsigned int i = 0; i < APPS; i++) {
		struct app *app = &world->apps[i];

		do {
			simk_fill(
			    &world->random, app->wallet_key, WALLET_KEY_LEN);
		} while (wallet_key_address(world->wallets, app->wallet_key,
			     &app->wallet) != 0);
		do {
			simk_fill(&world->random, scalar, sizeof(scalar));
		} while (p384_key_new(scalar, &app->tee) != 0);
	}
}

void
simk_app_free(struct world *world)
{
	struct op *op;

	while ((op = TAILQ_FIRST(&world->ops)) != NULL) {
		TAILQ_REMOVE(&world->ops, op, link);
		free(op);
	}
	for (unsigned int i = 0; i < APPS; i++)
		p384_key_free(world->apps[i].tee);
	wallet_context_free(world->wallets);
}

/* ---- the request --------------------------------------------------------- */

static const uint8_t *
shared_with(struct world *world, struct app *app, unsigned int node)
{
	if (!app->has_shared[node] &&
	    p384_agree(
		app->tee, &world->nodes[node].point, app->shared[node]) != 0)
		abort();
	app->has_shared[node] = true;
	return app->shared[node];
}

static struct text
text_of(const char *text)
{
	return (struct text){ text, strlen(text) };
}

static void
seal(struct world *world, const struct op *op, struct parcel *p,
    const char *body)
{
	struct app *app = &world->apps[op->app];
	uint8_t nonce[AEAD_NONCE_LEN], spki[P384_SPKI_LEN];
	size_t len = strlen(body);
	uint8_t *sealed = malloc(len + AEAD_TAG_LEN);

	p->data = malloc(2 * (len + AEAD_TAG_LEN) + 1);
	if (sealed == NULL || p->data == NULL)
		abort();
	simk_fill(&world->random, nonce, sizeof(nonce));
	if (envelope_seal(shared_with(world, app, op->node),
		p384_key_point(app->tee), &world->nodes[op->node].point, nonce,
		body, len, sealed) != 0)
		abort();
	hex_encode(sealed, len + AEAD_TAG_LEN, p->data);
	free(sealed);
	hex_encode(nonce, sizeof(nonce), p->envelope_nonce);
	p384_public_spki(p384_key_point(app->tee), spki);
	hex_encode(spki, sizeof(spki), p->sender);
	p->head.envelope = true;
	p->head.sender = text_of(p->sender);
	p->head.envelope_nonce = text_of(p->envelope_nonce);
	p->head.data = text_of(p->data);
	p->head.data_total = p->head.data.len;
}

/* v2, for the node's nonce. */
static void
sign(struct world *world, const struct op *op, struct parcel *p)
{
	static const char *const methods[] = { "GET", "POST", "PUT", "DELETE" };
	const char *method = methods[p->head.method];
	struct pop_request request = { .kind = POP_APP,
		.nonce = p->nonce,
		.nonce_len = strlen(p->nonce),
		.recipient = world->nodes[op->node].wallet,
		.timestamp = simk_time(world, op->node).wall_ms / 1000 };
	struct pop_binding binding = { .method = method,
		.method_len = strlen(method),
		.target = p->target,
		.target_len = strlen(p->target) };
	const struct envelope_text text = { p->sender, strlen(p->sender),
		p->envelope_nonce, strlen(p->envelope_nonce), p->data,
		p->head.data.len };
	uint8_t signature[SIGNATURE_LEN];
	struct buf out;

	buf_init(&out, 4096);
	if ((p->data != NULL
		    ? envelope_canonical_hash(&text, binding.content_hash)
		    : sha256("", 0, binding.content_hash)) != 0 ||
	    pop_request_v2_append(&request, &binding, &out) != 0 ||
	    wallet_sign_message(world->wallets, world->apps[op->app].wallet_key,
		out.data, out.len, signature) != 0)
		abort();
	buf_free(&out);
	signature_format(signature, p->signature);
	hex_encode(binding.content_hash, SHA256_LEN, p->content_hash);
	(void)snprintf(
	    p->timestamp, sizeof(p->timestamp), "%" PRId64, request.timestamp);
	p->head.target = text_of(p->target);
	p->head.signature = text_of(p->signature);
	p->head.nonce = text_of(p->nonce);
	p->head.timestamp = text_of(p->timestamp);
	p->head.wallet = text_of("");
	p->head.version = text_of("v2");
	p->head.content_hash = text_of(p->content_hash);
}

static void
value_text(const struct op *op, char *out, size_t size)
{
	size_t len = 16 + op->value % VALUE_MAX;

	if (len >= size)
		len = size - 1;
	memset(out, 'x', len);
	out[len] = '\0';
	(void)snprintf(out, size, "%016" PRIx64, op->value);
	out[16] = len > 16 ? 'x' : '\0';
}

static void
compose(struct world *world, const struct op *op, struct parcel *p)
{
	char value[VALUE_MAX + 32], text[BASE64_LEN(sizeof(value)) + 1];
	char body[sizeof(text) + 200];

	p->head.method = METHOD_GET;
	p->head.sender = p->head.envelope_nonce = p->head.data = text_of("");
	(void)snprintf(p->target, sizeof(p->target), "/kms/data");
	switch (op->kind) {
	case OP_PUT:
		value_text(op, value, sizeof(value));
		base64_encode((uint8_t *)value, strlen(value), text);
		(void)snprintf(body, sizeof(body),
		    "{\"key\":\"key-%u\",\"value\":\"%s\","
		    "\"min_replicas\":%u}",
		    op->key, text, op->replicas);
		p->head.method = METHOD_PUT;
		seal(world, op, p, body);
		break;
	case OP_DELETE:
		(void)snprintf(body, sizeof(body),
		    "{\"key\":\"key-%u\",\"min_replicas\":%u}", op->key,
		    op->replicas);
		p->head.method = METHOD_DELETE;
		seal(world, op, p, body);
		break;
	case OP_DERIVE:
		(void)snprintf(p->target, sizeof(p->target), "/kms/derive");
		(void)snprintf(
		    body, sizeof(body), "{\"path\":\"path-%u\"}", op->key);
		p->head.method = METHOD_POST;
		seal(world, op, p, body);
		break;
	case OP_GET:
		(void)snprintf(
		    p->target, sizeof(p->target), "/kms/data/key-%u", op->key);
		break;
	case OP_LIST:
		break;
	}
	sign(world, op, p);
}

static struct op *
op_new(struct world *world, const struct op *from)
{
	struct op *op = malloc(sizeof(*op));

	if (op == NULL)
		abort();
	*op = *from;
	world->last_id += 2;
	op->handle = world->last_id + 1;
	op->life = world->nodes[op->node].life;
	TAILQ_INSERT_TAIL(&world->ops, op, link);
	return op;
}

static void
remember_value(struct world *world, const struct op *op)
{
	struct write *write;

	if (world->write_count == WRITES_MAX)
		abort();
	write = &world->writes[world->write_count++];
	memset(write, 0, sizeof(*write));
	write->app = op->app;
	write->key = op->key;
	write->node = op->node;
	write->life = op->life;
	write->begun_ms = world->now_ms;
	write->deletion = op->kind == OP_DELETE;
	write->value = op->value;
}

static void
begin(struct world *world, const struct op *op, const struct parcel *p)
{
	struct node *node = &world->nodes[op->node];

	simk_set_time(world, op->node);
	if (request_begin(node->keeper->requests, op->handle, &p->head) != 0)
		simk_fail(world, "the protocol of kms-net: a request");
}

/* Send, and perhaps, as a man in the middle would, once more. */
static void
send_op(struct world *world, const struct op *from)
{
	struct node *node = &world->nodes[from->node];
	struct parcel *p = calloc(1, sizeof(*p));
	uint8_t nonce[NONCE_LEN];
	struct op *op;

	if (p == NULL)
		abort();
	if (nonce_issue(node->keeper->nonces,
		simk_time(world, from->node).boot_ms, nonce) == 0) {
		base64_encode(nonce, sizeof(nonce), p->nonce);
		op = op_new(world, from);
		world->apps[op->app].busy[op->key % KEYS] = true;
		if (op->kind == OP_PUT || op->kind == OP_DELETE)
			remember_value(world, op);
		compose(world, op, p);
		begin(world, op, p);
		if (!world->calm && simk_chance(world, 100)) {
			op = op_new(world, from);
			op->replay = true;
			begin(world, op, p);
		}
	}
	free(p->data);
	free(p);
	simk_settle(world, from->node);
}

/* ---- what they do -------------------------------------------------------- */

void
simk_app_work(struct world *world)
{
	struct op op = { .app = (unsigned int)simk_below(world, APPS),
		.key = (unsigned int)simk_below(world, KEYS),
		.node = (unsigned int)simk_below(world, world->profile.nodes),
		.kind = OP_PUT,
		.value = simk_random(world) };
	struct node *node = &world->nodes[op.node];
	uint64_t kind = simk_below(world, 10);
	uint8_t nonce[NONCE_LEN];

	if (world->calm)
		return;
	simk_push(world,
	    (struct event){
		.at_ms = world->now_ms + 100 + (int64_t)simk_below(world, 3000),
		.type = EVENT_WORK });
	if (!node->alive || node->hostile || world->apps[op.app].busy[op.key])
		return;
	/* Some ask for nonces that they never use. */
	for (unsigned int i = 0;
	     world->mutation == MUTATE_MEMORY && i < MAX_NONCES / 2; i++)
		(void)nonce_issue(node->keeper->nonces,
		    simk_time(world, op.node).boot_ms, nonce);
	if (kind == 6 || kind == 7 ||
	    (world->mutation == MUTATE_UNDONE && kind > 3))
		op.kind = OP_DELETE;
	else if (kind == 8)
		op.kind = simk_chance(world, 500) ? OP_GET : OP_LIST;
	else if (kind == 9)
		op.kind = OP_DERIVE;
	op.replicas = (unsigned int)simk_below(world, 3);
	send_op(world, &op);
}

void
simk_app_write(struct world *world, unsigned int node, unsigned int all)
{
	struct op op = { .key = CALM_KEY + node,
		.node = node,
		.kind = OP_PUT,
		.value = simk_random(world),
		.replicas = all };

	send_op(world, &op);
}

/* ---- what comes back ----------------------------------------------------- */

static json_t *
open_answer(struct world *world, const struct op *op, const struct answer *a)
{
	struct envelope_text text = { a->sender, strlen(a->sender), a->nonce,
		strlen(a->nonce), a->data, a->data_len };
	struct app *app = &world->apps[op->app];
	uint8_t nonce[AEAD_NONCE_LEN], *sealed = malloc(a->data_len + 1);
	struct p384_point sender;
	json_t *object = NULL;
	size_t len;

	if (sealed == NULL)
		abort();
	if (envelope_decode(&text, &sender, nonce, sealed, a->data_len, &len) !=
		0 ||
	    !p384_point_equal(&sender, &world->nodes[op->node].point) ||
	    envelope_open(shared_with(world, app, op->node),
		p384_key_point(app->tee), &sender, nonce, sealed, len,
		sealed) != 0)
		simk_fail(
		    world, "an answer of node %u does not open", op->node);
	else
		object = json_loadb(
		    (const char *)sealed, len - AEAD_TAG_LEN, 0, NULL);
	free(sealed);
	return object;
}

static struct write *
write_of(struct world *world, const struct op *op)
{
	for (size_t i = world->write_count; i > 0; i--)
		if (world->writes[i - 1].value == op->value)
			return &world->writes[i - 1];
	abort();
}

static void
take_written(struct world *world, const struct op *op, const json_t *object)
{
	struct write *write = write_of(world, op);
	struct node *node = &world->nodes[op->node];
	json_t *met = json_object_get(object, "replicas_met");
	json_int_t k = json_integer_value(json_object_get(object, "replicas"));
	struct store_record record;

	/* It may have been wiped while the answer was being signed. */
	if (node->lost_ms >= write->begun_ms)
		return;
	if (!simk_look(world, op->node, op->app, op->key, &record)) {
		simk_fail(world, "acknowledged by node %u, which has nothing",
		    op->node);
		return;
	}
	for (unsigned int n = 0; n < world->profile.nodes; n++)
		write->clock[n] = simk_counter(world, &record, n);
	write->era = node->master_hash;
	if (op->replicas > 0)
		simk_note(world, "node %u: %d replicas of %u", op->node, (int)k,
		    op->replicas);
	if (op->replicas == 0 || !json_is_true(met))
		return;
	write->told = true;
	world->met++;
	simk_check_told(world, write, (unsigned int)k);
}

static void
take_value(struct world *world, const struct op *op, const json_t *object)
{
	const char *text = json_string_value(json_object_get(object, "value"));
	uint8_t value[VALUE_MAX + 64] = { 0 };
	uint64_t number;
	size_t len;

	if (text == NULL ||
	    base64_decode(text, strlen(text), value, sizeof(value) - 1, &len) !=
		0) {
		simk_fail(world, "a value of node %u is none", op->node);
		return;
	}
	value[16] = '\0';
	number = strtoull((const char *)value, NULL, 16);
	for (size_t i = 0; i < world->write_count; i++)
		if (world->writes[i].value == number &&
		    world->writes[i].app == op->app &&
		    world->writes[i].key == op->key)
			return;
	simk_fail(world, "node %u shows a value that nobody wrote", op->node);
}

/* Every key comes from a secret whose hash was on chain. */
static void
take_key(struct world *world, const struct op *op, const json_t *object)
{
	const char *text = json_string_value(json_object_get(object, "key"));
	uint8_t key[DERIVED_LEN], wanted[DERIVED_LEN];
	char path[16];
	size_t len = 0;

	(void)snprintf(path, sizeof(path), "path-%u", op->key);
	if (text == NULL ||
	    base64_decode(text, strlen(text), key, sizeof(key), &len) != 0)
		len = 0;
	for (size_t i = 0; i < world->chain.era_count; i++) {
		const struct era *era = &world->chain.eras[i];

		if (!era->known || !era->on_chain)
			continue;
		if (derive_app_key(era->secret, APP0 + op->app, path,
			strlen(path), NULL, 0, wanted, DERIVED_LEN) != 0)
			abort();
		if (len == DERIVED_LEN && memcmp(key, wanted, len) == 0)
			return;
	}
	simk_fail(world,
	    "node %u derives keys from a secret that was never "
	    "on chain",
	    op->node);
}

static void
take_200(struct world *world, const struct op *op, const struct answer *answer)
{
	int64_t revoked = world->now_ms - world->chain.app_ms[op->app];
	json_t *object;

	world->served++;
	if (op->replay) {
		simk_fail(
		    world, "replay: node %u answered an app twice", op->node);
		return;
	}
	if (revoked > CACHE_TTL_MS + 30000)
		simk_fail(world,
		    "node %u serves an app that was revoked "
		    "%" PRId64 " ms ago",
		    op->node, revoked);
	object = open_answer(world, op, answer);
	if (object != NULL) {
		if (op->kind == OP_PUT || op->kind == OP_DELETE)
			take_written(world, op, object);
		else if (op->kind == OP_GET)
			take_value(world, op, object);
		else if (op->kind == OP_DERIVE)
			take_key(world, op, object);
	}
	json_decref(object);
}

static void
op_end(struct world *world, struct op *op)
{
	if (!op->replay)
		world->apps[op->app].busy[op->key % KEYS] = false;
	TAILQ_REMOVE(&world->ops, op, link);
	free(op);
}

void
simk_app_answer(
    struct world *world, uint64_t handle, const struct answer *answer)
{
	struct op *op;

	TAILQ_FOREACH (op, &world->ops, link) {
		if (op->handle == handle)
			break;
	}
	if (op == NULL)
		return;
	simk_trace(world, &answer->status, sizeof(answer->status));
	if (world->calm || answer->status != 503)
		simk_note(world, "node %u answers app %u: %u %s", op->node,
		    op->app, answer->status, answer->message);
	/* Some answers are lost on their way. */
	if (answer->status == 200 && (world->calm || !simk_chance(world, 20)))
		take_200(world, op, answer);
	op_end(world, op);
}

void
simk_app_crash(struct world *world, unsigned int node)
{
	struct op *op, *next;

	for (op = TAILQ_FIRST(&world->ops); op != NULL; op = next) {
		next = TAILQ_NEXT(op, link);
		if (op->node == node)
			op_end(world, op);
	}
}
