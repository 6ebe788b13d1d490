/* The nodes that are not ours: one of the deployed implementations, and one
 * that means harm. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "regress/sim/sim.h"

#define DEPLOYED_TURN_MS 3000
#define HOSTILE_TURN_MS 300
#define DEPLOYED_BODY_MAX (2u << 20)

/* ---- deployed ------------------------------------------------------------ */

struct collecting {
	struct record_list_item items[APPS * KEYS * 8];
	size_t count;
	struct kms_time now;
};

static bool
collect(const struct store_record *record, void *arg)
{
	struct collecting *c = arg;

	if (c->count == sizeof(c->items) / sizeof(c->items[0]))
		return false;
	if (record->state == STORE_LIVE || record->state == STORE_TOMBSTONE)
		c->items[c->count++].record = *record;
	return true;
}

static void
write_data(struct node *node, struct kms_time now, struct buf *out)
{
	static struct collecting c;

	c.count = 0;
	c.now = now;
	store_each(node->store, 0, collect, &c);
	(void)record_json_write_data(out, c.items, c.count, RECORD_DEPLOYED);
}

/* It sends all it has to everybody, again and again. */
static void
deployed_turn(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	struct buf body;

	buf_init(&body, 64u << 20);
	(void)buf_printf(&body,
	    "{\"type\":\"delta\",\"sender_wallet\":\"%s\",\"data\":",
	    node->wallet);
	write_data(node, sim_time(world, i), &body);
	(void)buf_append_text(&body, "}");
	for (unsigned int to = 0; to < world->profile.nodes; to++)
		if (to != i && world->nodes[to].member)
			sim_transmit(world, i, to, 0, body.data, body.len);
	buf_free(&body);
}

/* Now and then, and when it starts, it asks somebody for everything. */
static void
deployed_ask(struct world *world, unsigned int i)
{
	static const char body[] = "{\"type\":\"snapshot_request\"}";
	unsigned int to = (unsigned int)sim_below(world, world->profile.nodes);

	if (to != i && world->nodes[to].role == ROLE_OURS)
		sim_transmit(world, i, to, 1, body, sizeof(body) - 1);
}

struct merging {
	struct node *node;
	struct kms_time now;
	size_t total, merged, skipped, rejected;
};

static int
merge_one(uint64_t app_id, const struct store_incoming *in, void *arg)
{
	struct merging *m = arg;
	struct store_merge_result result = { STORE_REJECTED, "", false };

	if (in != NULL &&
	    (in->tombstone ||
		(in->value_len >= 2 && memcmp(in->value, "v:", 2) == 0)))
		result = store_merge(m->node->store, app_id, in, m->now);
	m->total++;
	m->merged += result.outcome == STORE_MERGED;
	m->skipped += result.outcome == STORE_SKIPPED;
	m->rejected += result.outcome == STORE_REJECTED;
	return 0;
}

void
sim_actor_answer(
    struct world *world, unsigned int i, const char *body, size_t len)
{
	struct merging m = { .node = &world->nodes[i],
		.now = sim_time(world, i) };
	struct record_reader reader;
	struct sync_reply reply;
	struct slice data;

	if (m.node->role != ROLE_DEPLOYED ||
	    sync_reply_read(body, len, &reply) != 0 ||
	    slice_member(reply.object, "data", &data) != 0)
		return;
	record_reader_init(&reader);
	(void)record_json_each(&reader, data, false, merge_one, &m);
	record_reader_free(&reader);
}

static unsigned int
deployed_delta(struct world *world, unsigned int i, struct slice object,
    struct buf *answer)
{
	struct merging m = { .node = &world->nodes[i],
		.now = sim_time(world, i) };
	struct record_reader reader;
	struct slice data;

	record_reader_init(&reader);
	if (slice_member(object, "data", &data) != 0 ||
	    record_json_each(&reader, data, false, merge_one, &m) != 0) {
		record_reader_free(&reader);
		return 400;
	}
	record_reader_free(&reader);
	/* Older ones say "merged" alone. */
	(void)buf_printf(answer, "{\"status\":\"ok\",\"merged\":%zu", m.merged);
	if (i % 2 == 0)
		(void)buf_printf(answer,
		    ",\"total\":%zu,\"skipped\":%zu,\"rejected\":%zu", m.total,
		    m.skipped, m.rejected);
	if (world->mutation == MUTATE_MEMBERS)
		(void)buf_append_text(answer,
		    ",\"extensions\":[\"digest_request\",\"bucket_request\"]");
	(void)buf_append_text(answer, "}");
	return 200;
}

static unsigned int
deployed_request(struct world *world, unsigned int i, bool ours,
    const char *body, size_t len, struct buf *answer)
{
	static const char *const known[] = { "type", "sender_wallet", "data" };
	struct sync_message message;
	struct slice name, value;
	struct slice_walk walk;

	if (len > DEPLOYED_BODY_MAX)
		return 413;
	if (sync_message_read(body, len, &message) != 0)
		return 403;
	slice_walk_begin(&walk, message.object);
	while (slice_walk_next(&walk, &name, &value)) {
		bool found = false;

		for (size_t k = 0; k < 3; k++)
			found |= slice_is(name, known[k]);
		if (!found && ours)
			sim_fail(world,
			    "a deployed peer was sent the member %.*s",
			    (int)name.len, name.text);
	}
	if (ours && memmem(body, len, "\"stub\"", 6) != NULL)
		sim_fail(world, "a deployed peer was sent a stub");
	switch (message.type) {
	case SYNC_DELTA:
		return deployed_delta(world, i, message.object, answer);
	case SYNC_SNAPSHOT_REQUEST:
		(void)buf_append_text(answer, "{\"status\":\"ok\",\"data\":");
		write_data(&world->nodes[i], sim_time(world, i), answer);
		(void)buf_append_text(answer, "}");
		return 200;
	default:
		if (ours)
			sim_fail(world, "a deployed peer was sent a %s",
			    sync_type_name(message.type));
		return 403;
	}
}

/* ---- hostile ------------------------------------------------------------- */

static void
garbage(struct world *world, struct buf *out)
{
	static const char *const bits[] = { "{", "}", "[", "]", "\"", ":", ",",
		"null", "1e999", "-0", "\"status\"", "\"ok\"", "\"boot\"",
		"\\u0000", "\xff\xfe", "9223372036854775808", "true",
		"\"differ\"", "\"data\"", "\"want\"" };
	size_t count = sim_below(world, 60);

	while (count-- > 0)
		(void)buf_append_text(out,
		    bits[sim_below(world, sizeof(bits) / sizeof(bits[0]))]);
}

/* A record at or past some limit. */
static void
odd_record(struct world *world, struct buf *out)
{
	static const char *const counters[] = { "9007199254740992",
		"9007199254740993", "1", "0", "-1", "9223372036854775808",
		"1.5", "null", "1767225600000" };
	int64_t stamps[] = { 0, -1, WALL0 + world->now_ms,
		WALL0 + world->now_ms + 14000, WALL0 + world->now_ms + 16000,
		INT64_MAX, WALL0 - 100000000 };
	struct node *victim =
	    &world->nodes[sim_below(world, world->profile.nodes)];
	bool tombstone = sim_chance(world, 300);
	char key[16];

	sim_key((unsigned int)sim_below(world, KEYS + 3), key);
	(void)buf_printf(out,
	    "{\"key\":\"%s%s\",\"value\":%s,\"version\":{\"%s\":%s,\"evil\":%u}"
	    ","
	    "\"updated_at_ms\":%" PRId64 ",\"tombstone\":%s,\"ttl_ms\":%s%s}",
	    key, sim_chance(world, 100) ? "\\ud800" : "",
	    tombstone			 ? "null"
		: sim_chance(world, 800) ? "\"763a6576696c\""
					 : "\"00\"",
	    sim_chance(world, 300) ? victim->member_name : "evil2",
	    counters[sim_below(world, sizeof(counters) / sizeof(counters[0]))],
	    (unsigned int)sim_below(world, 1000000),
	    stamps[sim_below(world, sizeof(stamps) / sizeof(stamps[0]))],
	    tombstone ? "true" : "false",
	    sim_chance(world, 200)	 ? "-5"
		: sim_chance(world, 200) ? "1000"
					 : "0",
	    tombstone && sim_chance(world, 500)
		? ",\"stub\":{\"head\":\"763a6576696c\",\"ttl_ms\":1}"
		: "");
}

static void
odd_data(struct world *world, struct buf *out)
{
	size_t count = world->calm ? 0 : sim_below(world, 5);

	(void)buf_append_text(out, "{\"1\":[");
	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			(void)buf_append_text(out, ",");
		odd_record(world, out);
	}
	(void)buf_printf(out, "],\"%s\":[7]}",
	    sim_chance(world, 500) ? "0" : "99999999999999999999");
}

/* Hashes as base64: three bytes are four characters. */
static void
odd_hashes(struct world *world, size_t count, struct buf *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"
				     "ghijklmnopqrstuvwxyz0123456789+/";

	(void)buf_append_text(out, "\"");
	for (size_t i = 0; i < 4 * count; i++)
		(void)buf_append(out, &digits[sim_below(world, 64)], 1);
	(void)buf_append_text(out, "\"");
}

/* Nodes of an app's tree with digests or lists, right and wrong. */
static void
odd_nodes(struct world *world, struct buf *out)
{
	static const char *const names[] = { "", "0", "f", "a3", "zz",
		"0123456789abcdef", "0123456789abcdef0" };
	static const size_t counts[] = { 0, 1, 16, 16, 16, 15, 200 };
	size_t count = sim_below(world, 5);

	(void)buf_append_text(out, "{");
	for (size_t i = 0; i < count; i++) {
		(void)buf_printf(out, "%s\"%s\":", i > 0 ? "," : "",
		    names[sim_below(world, 7)]);
		odd_hashes(world, counts[sim_below(world, 7)], out);
	}
	(void)buf_append_text(out, "}");
}

static void
hostile_turn(struct world *world, unsigned int i)
{
	struct node *node = &world->nodes[i];
	unsigned int to = (unsigned int)sim_below(world, world->profile.nodes);
	struct buf body;

	buf_init(&body, 64u << 20);
	switch (sim_below(world, 6)) {
	case 0:
		garbage(world, &body);
		break;
	case 1:
		(void)buf_printf(&body,
		    "{\"type\":\"digest_request\",\"boot\":\"%" PRIx64
		    "\",\"root\":\"%s\",\"apps\":{\"%s\":{\"1\":\"AAAA\"}},"
		    "\"trees\":{\"%u\":",
		    sim_random(world),
		    sim_chance(world, 800) ? "AAAAAAAAAAA=" : "AAAA",
		    sim_chance(world, 500) ? "" : "7",
		    (unsigned int)sim_below(world, 3));
		odd_nodes(world, &body);
		(void)buf_append_text(&body, "}}");
		break;
	case 2:
		(void)buf_printf(&body,
		    "{\"type\":\"bucket_request\",\"boot\":\"x\","
		    "\"stale\":%s,\"apps\":{\"1\":",
		    sim_chance(world, 200) ? "true" : "false");
		odd_nodes(world, &body);
		(void)buf_append_text(&body, "}}");
		break;
	case 3:
		(void)buf_append_text(&body, "{\"type\":\"snapshot_request\"}");
		break;
	default:
		(void)buf_printf(&body,
		    "{\"type\":\"delta\",\"sender_wallet\":\"%s\",\"boot\":"
		    "\"%u\",\"data\":",
		    node->wallet, (unsigned int)sim_below(world, 3));
		odd_data(world, &body);
		(void)buf_append_text(&body, "}");
		break;
	}
	if (to != i)
		sim_transmit(world, i, to, 0, body.data, body.len);
	buf_free(&body);
}

static void
lie(struct world *world, size_t records, struct buf *answer)
{
	(void)buf_printf(answer, "{\"status\":\"ok\",\"boot\":\"b%u\"",
	    (unsigned int)sim_below(world, 2));
	if (sim_chance(world, 700))
		(void)buf_append_text(answer,
		    ",\"extensions\":[\"digest_request\",\"bucket_request\"]");
	switch (sim_below(world, 4)) {
	case 0:
		(void)buf_printf(answer, ",\"merged\":%zu", records);
		break;
	case 1:
		(void)buf_printf(answer,
		    ",\"total\":%zu,\"merged\":%" PRIu64
		    ",\"skipped\":0,\"rejected\":1",
		    records, sim_below(world, 5));
		break;
	default:
		(void)buf_append_text(
		    answer, ",\"merged\":0,\"skipped\":0,\"rejected\":99");
		break;
	}
	(void)buf_printf(answer,
	    ",\"touch_ms\":%" PRIu64 ",\"unfilled\":%s,\"trees\":{\"%u\":",
	    sim_random(world) >> 8, sim_chance(world, 500) ? "true" : "false",
	    (unsigned int)sim_below(world, 3));
	odd_nodes(world, answer);
	if (sim_chance(world, 300))
		(void)buf_append_text(answer, ",\"77\":{\"\":\"\"}");
	(void)buf_append_text(answer, "},\"want\":{\"1\":");
	odd_hashes(world, sim_below(world, 100), answer);
	(void)buf_append_text(answer, "},\"data\":");
	odd_data(world, answer);
	(void)buf_append_text(answer, "}");
}

static unsigned int
hostile_request(
    struct world *world, const char *body, size_t len, struct buf *answer)
{
	static const unsigned int statuses[] = { 400, 403, 413, 500, 503, 0 };
	size_t records = 0;

	for (size_t at = 0; at + 9 < len; at++)
		if (memcmp(body + at, "\"version\"", 9) == 0)
			records++;
	switch (sim_below(world, 5)) {
	case 0:
		return statuses[sim_below(world, 6)];
	case 1:
		garbage(world, answer);
		return 200;
	default:
		lie(world, records, answer);
		return 200;
	}
}

/* ---- either -------------------------------------------------------------- */

void
sim_actor_turn(struct world *world, unsigned int i)
{
	bool deployed = world->nodes[i].role == ROLE_DEPLOYED;

	if (deployed) {
		deployed_ask(world, i);
		deployed_turn(world, i);
	} else {
		hostile_turn(world, i);
	}
	sim_push(world,
	    (struct event){ .at_ms = world->now_ms +
		    (deployed ? DEPLOYED_TURN_MS : HOSTILE_TURN_MS),
		.type = EVENT_ACTOR,
		.node = i,
		.life = world->nodes[i].life });
}

unsigned int
sim_actor_request(struct world *world, unsigned int i, unsigned int from,
    const char *body, size_t len, struct buf *answer)
{
	if (world->nodes[i].role == ROLE_DEPLOYED)
		return deployed_request(world, i,
		    world->nodes[from].role == ROLE_OURS, body, len, answer);
	return hostile_request(world, body, len, answer);
}
