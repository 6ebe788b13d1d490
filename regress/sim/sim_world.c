#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "regress/sim/sim.h"

#define LOST_MS 3000 /* until the transport gives a message up */

/* ---- chance -------------------------------------------------------------- */

uint64_t
sim_random(struct world *world)
{
	return chance_next(&world->random);
}

uint64_t
sim_below(struct world *world, uint64_t bound)
{
	return sim_random(world) % bound;
}

bool
sim_chance(struct world *world, unsigned int per_mille)
{
	return sim_below(world, 1000) < per_mille;
}

void
sim_fail(struct world *world, const char *format, ...)
{
	va_list args;

	if (world->reason[0] != '\0')
		return;
	va_start(args, format);
	(void)vsnprintf(world->reason, sizeof(world->reason), format, args);
	va_end(args);
}

static void
trace(struct world *world, const void *data, size_t len)
{
	static const uint8_t key[SIPHASH_KEY_LEN] = "simulator trace";

	world->trace = world->trace * 0x100000001b3 ^ siphash(key, data, len);
}

/* ---- events -------------------------------------------------------------- */

void
sim_push(struct world *world, struct event event)
{
	struct event *item = malloc(sizeof(*item));

	if (item == NULL)
		abort();
	*item = event;
	schedule_put(&world->schedule, event.at_ms, item);
}

struct kms_time
sim_time(const struct world *world, unsigned int node)
{
	return (struct kms_time){
		WALL0 + world->now_ms + world->nodes[node].skew_ms,
		1000000 + world->now_ms,
	};
}

void
sim_key(unsigned int key, char text[16])
{
	/* Most of a run is spent on looking keys up: no printf. */
	memcpy(text, "key-00", 7);
	text[4] = (char)('0' + key / 10 % 10);
	text[5] = (char)('0' + key % 10);
}

/* ---- the network --------------------------------------------------------- */

static int64_t
delay(struct world *world)
{
	int64_t most = world->calm ? 5 : world->profile.delay_ms;
	int64_t ms = 1 + (int64_t)sim_below(world, (uint64_t)most);

	/* Now and then one is overtaken by many. */
	if (!world->calm && sim_chance(world, 20))
		ms *= 20;
	return ms;
}

static bool
is_lost(struct world *world, unsigned int from, unsigned int to)
{
	if (world->blocked[from][to])
		return true;
	return !world->calm && sim_chance(world, world->profile.loss);
}

static char *
copy(const void *body, size_t len)
{
	char *made = malloc(len > 0 ? len : 1);

	if (made == NULL)
		abort();
	if (len > 0)
		memcpy(made, body, len);
	return made;
}

/* Tell the sender that nothing came back. */
static void
report_loss(struct world *world, unsigned int from, uint32_t life, uint64_t id)
{
	sim_push(world,
	    (struct event){ .at_ms = world->now_ms + LOST_MS,
		.type = EVENT_ANSWER,
		.node = from,
		.life = life,
		.id = id,
		.error = -1 });
}

/* Stubs of what was evicted, made unreadable on their way. */
static void
spoil_stubs(const struct world *world, char *body, size_t len)
{
	static const char name[] = "\"evicted\":true";
	char *at = body;

	if (world->mutation != MUTATE_EVICTED || body == NULL)
		return;
	while ((at = memmem(at, len - (size_t)(at - body), name,
		    sizeof(name) - 1)) != NULL) {
		memcpy(at + sizeof(name) - 5, "null", 4);
		at++;
	}
}

void
sim_transmit(struct world *world, unsigned int from, unsigned int to,
    uint64_t id, const void *body, size_t len)
{
	struct event event = { .type = EVENT_REQUEST,
		.node = to,
		.from = from,
		.life = world->nodes[from].life,
		.id = id,
		.len = len };

	world->messages++;
	if (is_lost(world, from, to)) {
		report_loss(world, from, event.life, id);
		return;
	}
	event.at_ms = world->now_ms + delay(world);
	event.body = copy(body, len);
	spoil_stubs(world, event.body, len);
	sim_push(world, event);
	if (!world->calm && sim_chance(world, world->profile.duplicate)) {
		event.at_ms = world->now_ms + delay(world);
		event.body = copy(body, len);
		sim_push(world, event);
	}
}

static unsigned int
node_of(const struct world *world, const char *wallet)
{
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (strcmp(world->nodes[i].wallet, wallet) == 0)
			return i;
	abort();
}

/* ---- a node's ops -------------------------------------------------------- */

struct place {
	struct world *world;
	unsigned int node;
};

static struct place places[NODES_MAX];

static void
op_send(
    void *arg, const char *wallet, uint64_t id, const void *body, size_t len)
{
	struct place *place = arg;

	sim_transmit(place->world, place->node, node_of(place->world, wallet),
	    id, body, len);
}

static void
op_replicas(void *arg, void *cookie, unsigned int k, bool met)
{
	struct place *place = arg;
	struct told *told = cookie;

	told->done = true;
	told->met = met;
	if (!met)
		return;
	place->world->writes_met++;
	sim_check_told(place->world, told, k);
}

static void
op_fetched(void *arg, void *cookie, bool found)
{
	(void)arg;
	(void)cookie;
	(void)found;
}

/* Values of the simulation begin so. */
static bool
op_value_ok(void *arg, uint64_t app_id, const void *stored, size_t len)
{
	(void)arg;
	(void)app_id;
	return len >= 2 && memcmp(stored, "v:", 2) == 0;
}

static uint64_t
op_random(void *arg)
{
	struct place *place = arg;

	return sim_random(place->world);
}

/* ---- life ---------------------------------------------------------------- */

void
sim_set_members(struct world *world)
{
	const char *wallets[NODES_MAX];
	size_t count = 0;

	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (world->nodes[i].member)
			wallets[count++] = world->nodes[i].wallet;
	for (unsigned int i = 0; i < world->profile.nodes; i++)
		if (world->nodes[i].alive && world->nodes[i].sync != NULL &&
		    world->nodes[i].member)
			(void)sync_set_peers(world->nodes[i].sync, wallets,
			    count, sim_time(world, i));
}

static void
make_sync(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct sync_config config;
	const struct sync_ops ops = { op_send, op_replicas, op_fetched,
		op_value_ok, op_random, &places[i] };

	sync_config_init(&config);
	memcpy(config.wallet, node->wallet, sizeof(config.wallet));
	(void)snprintf(config.boot, sizeof(config.boot),
	    "boot%u-%u-%016" PRIx64, i, node->life, sim_random(world));
	config.batch_records = 1 + sim_below(world, 50);
	config.interval_ms = 3000;
	config.request_timeout_ms = 5000;
	config.retention_ms = world->profile.away ? 30000 : 86400000;
	places[i] = (struct place){ world, i };
	node->sync = sync_new(&config, &ops, node->store, sim_time(world, i));
	if (node->sync == NULL)
		abort();
}

void
sim_start(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct store_config config;
	bool roomy =
	    node->role == ROLE_DEPLOYED || world->mutation == MUTATE_MEMORY;

	store_config_init(&config);
	if (world->profile.evicting)
		config.max_app_storage = roomy ? 200000 : 6000;
	if (world->profile.away)
		config.tombstone_retention_ms = 30000;
	memcpy(config.hash_key, &world->seed, sizeof(world->seed));
	node->store = store_new(&config);
	if (node->store == NULL ||
	    store_set_member(
		node->store, node->member_name, strlen(node->member_name)) != 0)
		abort();
	node->alive = true;
	node->started_ms = world->now_ms;
	node->life++;
	memset(node->shadow, 0, sizeof(node->shadow));
	if (node->role == ROLE_OURS)
		make_sync(world, i);
	else
		sim_push(world,
		    (struct event){ .at_ms = world->now_ms + 10,
			.type = EVENT_ACTOR,
			.node = i,
			.life = node->life });
	sim_set_members(world);
	sim_settle(world, i);
}

void
sim_crash(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];

	if (!node->alive)
		return;
	node->alive = false;
	sync_free(node->sync);
	store_free(node->store);
	node->sync = NULL;
	node->store = NULL;
	sim_check_crash(world, i);
}

void
sim_settle(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct kms_time now = sim_time(world, i);
	int64_t wait;

	if (!node->alive)
		return;
	(void)store_tick(node->store, now, 1000);
	if (node->sync == NULL)
		return;
	sync_tick(node->sync, now);
	sim_check_step(world, i);
	wait = sync_next(node->sync, now);
	node->tick_ms = world->now_ms + (wait > 0 ? wait : 1);
	sim_push(world,
	    (struct event){ .at_ms = node->tick_ms,
		.type = EVENT_TICK,
		.node = i,
		.life = node->life });
}

/* ---- rules broken on purpose --------------------------------------------- */

static bool
has_text(const struct event *event, const char *text)
{
	return memmem(event->body, event->len, text, strlen(text)) != NULL;
}

/* Does the network lie in the node's place? Then *answer is the lie. */
static bool
mutate(struct world *world, const struct event *event, struct buf *answer)
{
	bool delta = has_text(event, "\"type\":\"delta\"");
	bool roots = has_text(event, "\"type\":\"digest_request\"");
	size_t sent = 0;

	if (world->mutation != MUTATE_CONVERGENCE &&
	    world->mutation != MUTATE_ACKNOWLEDGED)
		return false;
	if (world->mutation == MUTATE_ACKNOWLEDGED && roots)
		return false;
	for (size_t at = 0; delta && at + 9 < event->len; at++)
		if (memcmp(event->body + at, "\"version\"", 9) == 0)
			sent++;
	if (delta && sent > 0) {
		(void)buf_printf(answer,
		    "{\"status\":\"ok\",\"merged\":%zu,\"skipped\":0}", sent);
		return true;
	}
	if (roots)
		(void)buf_printf(answer, "{\"status\":\"ok\",\"trees\":{}}");
	return roots;
}

/* A node whose merging is broken: it loses what it had. */
static void
mutate_store(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct kms_time now = sim_time(world, i);
	struct store_record record;
	struct clock_item old = { "broken", 6, 1 };
	struct store_incoming in = { .value = "v:broken",
		.value_len = 8,
		.clock = &old,
		.clock_count = 1,
		.updated_at_ms = WALL0 };
	bool deletion = world->mutation == MUTATE_DELETION;
	const struct clock_entry *entry;
	size_t len;
	char key[16];

	if ((!deletion && world->mutation != MUTATE_CAUSALITY) ||
	    !sim_chance(world, 100))
		return;
	sim_key((unsigned int)sim_below(world, KEYS), key);
	if (!store_peek(node->store, 1, key, strlen(key), now, &record) ||
	    vector_clock_count(record.clock) == 0 ||
	    (record.state == STORE_TOMBSTONE) != deletion)
		return;
	entry = vector_clock_entries(record.clock);
	old.member = clock_member_name(entry->member, &len);
	old.member_len = len;
	old.counter = (int64_t)entry->counter - 1;
	in.key = key;
	in.key_len = strlen(key);
	/* The name lives with some other clock that has it, our own's. */
	if (strncmp(old.member, node->member_name, len) != 0)
		return;
	old.member = node->member_name;
	(void)store_drop(node->store, 1, key, strlen(key));
	(void)store_merge(node->store, 1, &in, now);
	if (deletion)
		memset(node->shadow, 0, sizeof(node->shadow));
}

/* ---- one event ----------------------------------------------------------- */

static void
answer_back(struct world *world, const struct event *request,
    unsigned int status, const struct buf *answer)
{
	struct event event = { .type = EVENT_ANSWER,
		.node = request->from,
		.from = request->node,
		.life = request->life,
		.id = request->id,
		.status = status,
		.len = answer->len };

	if (is_lost(world, request->node, request->from)) {
		report_loss(world, request->from, request->life, request->id);
		return;
	}
	event.at_ms = world->now_ms + delay(world);
	event.body = copy(answer->data, answer->len);
	spoil_stubs(world, event.body, answer->len);
	sim_push(world, event);
}

static void
deliver(struct world *world, const struct event *event)
{
	struct node *node = &world->nodes[event->node];
	unsigned int status;
	struct buf answer;

	if (!node->alive || !node->member) {
		report_loss(world, event->from, event->life, event->id);
		return;
	}
	buf_init(&answer, 64u << 20);
	if (mutate(world, event, &answer))
		status = 200;
	else if (node->role == ROLE_OURS)
		status = sync_request(node->sync,
		    world->nodes[event->from].wallet, event->body, event->len,
		    sim_time(world, event->node), &answer);
	else
		status = sim_actor_request(world, event->node, event->from,
		    event->body, event->len, &answer);
	/* Status 0: it never answers. */
	if (status != 0)
		answer_back(world, event, status, &answer);
	buf_free(&answer);
	mutate_store(world, event->node);
	sim_settle(world, event->node);
}

static void
take_answer(struct world *world, const struct event *event)
{
	struct node *node = &world->nodes[event->node];
	const struct sync_outcome outcome = {
		event->error,
		event->status,
		event->body,
		event->len,
	};

	if (!node->alive || node->life != event->life)
		return;
	if (node->sync == NULL) {
		if (event->body != NULL)
			sim_actor_answer(
			    world, event->node, event->body, event->len);
		return;
	}
	sync_answer(
	    node->sync, event->id, &outcome, sim_time(world, event->node));
	sim_settle(world, event->node);
}

static void
event_free(struct event *event)
{
	free(event->body);
	free(event);
}

bool
sim_step(struct world *world)
{
	struct event *event = schedule_take(&world->schedule);
	uint64_t note[4];

	if (event == NULL)
		return false;
	if (event->at_ms > world->now_ms)
		world->now_ms = event->at_ms;
	world->events++;
	note[0] = (uint64_t)event->at_ms;
	note[1] = (uint64_t)event->type << 32 | event->node;
	note[2] = event->id << 16 | event->status;
	note[3] = event->len;
	trace(world, note, sizeof(note));
	if (event->len > 0)
		trace(world, event->body, event->len);
	switch (event->type) {
	case EVENT_TICK:
		if (world->nodes[event->node].life == event->life &&
		    world->nodes[event->node].tick_ms == event->at_ms)
			sim_settle(world, event->node);
		break;
	case EVENT_REQUEST:
		deliver(world, event);
		break;
	case EVENT_ANSWER:
		take_answer(world, event);
		break;
	case EVENT_WORKLOAD:
		sim_workload(world);
		break;
	case EVENT_FAULT:
		sim_fault(world);
		break;
	case EVENT_RESTART:
		if (!world->nodes[event->node].alive &&
		    world->nodes[event->node].member)
			sim_start(world, event->node);
		break;
	case EVENT_ACTOR:
		if (world->nodes[event->node].alive &&
		    world->nodes[event->node].life == event->life)
			sim_actor_turn(world, event->node);
		break;
	}
	event_free(event);
	return true;
}

void
sim_world_free(struct world *world)
{
	struct event *event;

	for (unsigned int i = 0; i < world->profile.nodes; i++) {
		sync_free(world->nodes[i].sync);
		store_free(world->nodes[i].store);
	}
	while ((event = schedule_take(&world->schedule)) != NULL)
		event_free(event);
	schedule_free(&world->schedule);
}
