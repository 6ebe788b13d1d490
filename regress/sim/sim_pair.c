/*
 * Two nodes on a perfect network: what it costs to repair what differs among
 * many records, in bytes, and to catch up with a large backlog, in time.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "kms-keeper/sync_internal.h"
#include "regress/sim/sim.h"

#define RECORDS 100000
#define VALUE_LEN 228 /* 200 bytes, nonce and tag */
#define LETTERS 64
#define END_MS 600000
#define REPAIR_TIMES 3.0

struct pair;

struct half {
	struct pair *pair;
	unsigned int number;
	char wallet[SYNC_WALLET_LEN + 1];
	struct store *store;
	struct sync *sync;
	int64_t cpu_ns; /* of its engine */
};

struct letter {
	unsigned int from;
	uint64_t id;
	char *body;
	size_t len;
};

struct pair {
	struct half half[2];
	struct letter letters[LETTERS];
	size_t count;
	int64_t ms;
	bool cut;
	uint64_t random;
	/* what went over, in both directions; greetings apart */
	uint64_t bytes, greeting_bytes, messages, records;
};

static void
must(bool condition)
{
	if (!condition) {
		(void)fprintf(stderr, "sim: the pair does not work\n");
		exit(1);
	}
}

static int64_t
cpu_now(void)
{
	struct timespec t;

	must(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static struct kms_time
now_of(const struct pair *pair)
{
	return (struct kms_time){ WALL0 + pair->ms, 1000000 + pair->ms };
}

/* ---- ops ----------------------------------------------------------------- */

static void
on_send(
    void *arg, const char *wallet, uint64_t id, const void *body, size_t len)
{
	struct half *half = arg;
	struct pair *pair = half->pair;
	struct letter *letter = &pair->letters[pair->count++];

	(void)wallet;
	must(pair->count < LETTERS);
	*letter = (struct letter){ half->number, id, malloc(len + 1), len };
	must(letter->body != NULL);
	memcpy(letter->body, body, len);
	letter->body[len] = '\0';
}

static void
on_replicas(void *arg, void *cookie, unsigned int k, bool met)
{
	(void)arg;
	(void)cookie;
	(void)k;
	(void)met;
}

static void
on_fetched(void *arg, void *cookie, bool found)
{
	(void)arg;
	(void)cookie;
	(void)found;
}

static bool
on_value(void *arg, uint64_t app_id, const void *stored, size_t len)
{
	(void)arg;
	(void)app_id;
	(void)stored;
	return len > 0;
}

static uint64_t
on_random(void *arg)
{
	struct half *half = arg;

	return half->pair->random =
		   half->pair->random * UINT64_C(6364136223846793005) +
	    1442695040888963407;
}

/* ---- life ---------------------------------------------------------------- */

static void
half_start(struct pair *pair, unsigned int i)
{
	struct half *half = &pair->half[i];
	const struct sync_ops ops = { on_send, on_replicas, on_fetched,
		on_value, on_random, half };
	struct store_config store;
	struct sync_config config;

	half->pair = pair;
	half->number = i;
	(void)snprintf(half->wallet, sizeof(half->wallet), "0x%040x", 0xa0 + i);
	store_config_init(&store);
	store.max_app_storage = UINT64_C(1) << 40;
	half->store = store_new(&store);
	must(half->store != NULL);
	must(store_set_member(
		 half->store, half->wallet, strlen(half->wallet)) == 0);
	sync_config_init(&config);
	memcpy(config.wallet, half->wallet, sizeof(config.wallet));
	(void)snprintf(config.boot, sizeof(config.boot), "%016x", 0xb0 + i);
	half->sync = sync_new(&config, &ops, half->store, now_of(pair));
	must(half->sync != NULL);
}

static void
meet(struct pair *pair, bool known)
{
	for (unsigned int i = 0; i < 2; i++) {
		const char *other = pair->half[1 - i].wallet;

		must(sync_set_peers(pair->half[i].sync, &other, known ? 1 : 0,
			 now_of(pair)) == 0);
	}
}

static struct pair *
pair_new(void)
{
	struct pair *pair = calloc(1, sizeof(*pair));

	must(pair != NULL);
	half_start(pair, 0);
	half_start(pair, 1);
	meet(pair, true);
	return pair;
}

static void
pair_free(struct pair *pair)
{
	for (unsigned int i = 0; i < 2; i++) {
		sync_free(pair->half[i].sync);
		store_free(pair->half[i].store);
	}
	for (size_t i = 0; i < pair->count; i++)
		free(pair->letters[i].body);
	free(pair);
}

/* ---- time ---------------------------------------------------------------- */

static void
count_letter(struct pair *pair, const struct letter *letter, size_t answer)
{
	bool greeting = strstr(letter->body, "\"data\":{}}") != NULL;

	pair->messages++;
	if (greeting)
		pair->greeting_bytes += letter->len + answer;
	else
		pair->bytes += letter->len + answer;
}

static void
carry(struct pair *pair, const struct letter *letter)
{
	struct half *from = &pair->half[letter->from];
	struct half *to = &pair->half[1 - letter->from];
	struct sync_outcome outcome = { .error = KMS_ETIMEOUT };
	struct buf answer;
	int64_t start;

	buf_init(&answer, 64u << 20);
	if (!pair->cut) {
		start = cpu_now();
		outcome.error = 0;
		outcome.status = sync_request(to->sync, from->wallet,
		    letter->body, letter->len, now_of(pair), &answer);
		to->cpu_ns += cpu_now() - start;
		outcome.body = (const char *)answer.data;
		outcome.len = answer.len;
		count_letter(pair, letter, answer.len);
	}
	start = cpu_now();
	sync_answer(from->sync, letter->id, &outcome, now_of(pair));
	from->cpu_ns += cpu_now() - start;
	buf_free(&answer);
}

static void
step(struct pair *pair)
{
	struct letter letters[LETTERS];
	size_t count;
	int64_t start;

	for (unsigned int i = 0; i < 2; i++) {
		start = cpu_now();
		sync_tick(pair->half[i].sync, now_of(pair));
		pair->half[i].cpu_ns += cpu_now() - start;
	}
	count = pair->count;
	memcpy(letters, pair->letters, count * sizeof(letters[0]));
	pair->count = 0;
	for (size_t i = 0; i < count; i++) {
		carry(pair, &letters[i]);
		free(letters[i].body);
	}
	pair->ms++;
}

static bool
is_level(struct pair *pair)
{
	struct sync_peer_view view;

	for (unsigned int i = 0; i < 2; i++)
		if (!sync_peer_at(pair->half[i].sync, 0, &view) ||
		    !view.level ||
		    view.mark < store_stats(pair->half[i].store).sequence)
			return false;
	return true;
}

static void
level(struct pair *pair)
{
	int64_t end = pair->ms + END_MS;

	while (pair->ms < end && !is_level(pair))
		step(pair);
	must(is_level(pair));
}

static void
put(struct pair *pair, unsigned int i, uint64_t n)
{
	uint8_t value[VALUE_LEN];
	char key[32];
	int len = snprintf(key, sizeof(key), "record-%08" PRIu64, n);

	memset(
	    value, (int)('a' + (n + (uint64_t)pair->ms) % 26), sizeof(value));
	must(store_put_local(pair->half[i].store, 1, key, (size_t)len, value,
		 sizeof(value), 0, now_of(pair), NULL) == 0);
}

static void
reset(struct pair *pair)
{
	pair->bytes = pair->greeting_bytes = pair->messages = 0;
	pair->half[0].cpu_ns = pair->half[1].cpu_ns = 0;
}

/* ---- repair -------------------------------------------------------------- */

static uint64_t
record_bytes(struct pair *pair)
{
	struct store_record record;
	struct buf out;
	uint64_t bytes;

	buf_init(&out, 10000);
	must(store_peek(pair->half[0].store, 1, "record-00000000", 15,
		 now_of(pair), &record) &&
	    record_json_write(&out, &record, RECORD_OURS) == 0);
	bytes = out.len + 1;
	buf_free(&out);
	return bytes;
}

/* Who has the newer versions: 0, 1, or each of every other one. */
enum writer { FIRST, SECOND, BOTH };

static bool
repair_one(struct pair *pair, uint64_t differ, enum writer writer)
{
	static const char *const names[] = { "the asker", "the answerer",
		"both" };
	int64_t start;
	uint64_t wanted;
	double times;

	pair->cut = true;
	for (uint64_t n = 0; n < differ; n++)
		put(pair, writer == BOTH ? n % 2 : (unsigned int)writer,
		    n * (RECORDS / differ));
	step(pair);
	/* No marks are left that would say what it is. */
	meet(pair, false);
	meet(pair, true);
	pair->cut = false;
	reset(pair);
	start = pair->ms;
	level(pair);
	wanted = differ * record_bytes(pair);
	times = (double)pair->bytes / (double)wanted;
	(void)printf("%8" PRIu64 "  %-12s %10" PRIu64 " %10" PRIu64
		     " %6.2f %9" PRIu64 " %9" PRIu64 " %7" PRId64 "\n",
	    differ, names[writer], wanted, pair->bytes, times,
	    pair->greeting_bytes, pair->messages, pair->ms - start);
	return times <= REPAIR_TIMES;
}

bool
sim_repair(void)
{
	static const uint64_t counts[] = { 1, 10, 100, 1000, 10000 };
	struct pair *pair = pair_new();
	bool good = true;

	for (uint64_t n = 0; n < RECORDS; n++)
		put(pair, 0, n);
	level(pair);
	(void)printf("of %d records, without common marks:\n"
		     " differing  newer at      as JSON  exchanged  times "
		     "greetings  messages      ms\n",
	    RECORDS);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for (enum writer w = FIRST; w <= BOTH; w++)
			if (w != BOTH || counts[i] > 1)
				good &= repair_one(pair, counts[i], w);
	pair_free(pair);
	return good;
}

/* ---- bulk ---------------------------------------------------------------- */

static void
bulk_print(struct pair *pair, const char *name, int64_t start)
{
	(void)printf("%-28s %8" PRIu64 " %10.1f %9" PRIu64 " %9" PRIu64
		     " %7" PRId64 "\n",
	    name, pair->messages, (double)pair->bytes / 1e6,
	    (uint64_t)pair->half[0].cpu_ns / RECORDS,
	    (uint64_t)pair->half[1].cpu_ns / RECORDS, pair->ms - start);
}

void
sim_bulk(void)
{
	struct pair *pair = pair_new();
	int64_t start;

	(void)printf("%d records of 200 bytes, engines without cryptography:\n"
		     "%-28s %8s %10s %9s %9s %7s\n",
	    RECORDS, "", "messages", "MB", "ns sent", "ns taken", "ms");
	level(pair);
	pair->cut = true;
	for (uint64_t n = 0; n < RECORDS; n++)
		put(pair, 0, n);
	pair->cut = false;
	reset(pair);
	start = pair->ms;
	level(pair);
	bulk_print(pair, "a node was away", start);
	pair->cut = true;
	for (uint64_t n = 0; n < RECORDS; n++)
		put(pair, 0, n);
	pair->cut = false;
	reset(pair);
	start = pair->ms;
	level(pair);
	bulk_print(pair, "all have changed", start);
	sync_free(pair->half[1].sync);
	store_free(pair->half[1].store);
	half_start(pair, 1);
	meet(pair, false);
	meet(pair, true);
	reset(pair);
	start = pair->ms;
	level(pair);
	bulk_print(pair, "a node begins with nothing", start);
	pair_free(pair);
}
