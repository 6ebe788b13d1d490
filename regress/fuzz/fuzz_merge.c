/*
 * Bytes as a sequence of store operations, those of peers above all. After
 * each the quotas hold and the figures add up, what was merged is known, and
 * cursors see changes in order.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kms-keeper/store.h"

#define APPS 2
#define QUOTA (4 * (STORE_RECORD_OVERHEAD + 64))
#define TOMBSTONES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at, *end;
};

static uint8_t
take(struct input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

/* A length and a borrowed stretch of at most so many bytes. */
static const uint8_t *
take_bytes(struct input *input, size_t max, size_t *len)
{
	const uint8_t *bytes = input->at;
	size_t left = (size_t)(input->end - input->at);

	*len = take(input) % (max + 1);
	if (left > 0) {
		bytes++;
		left--;
	}
	if (*len > left)
		*len = left;
	input->at += *len;
	return bytes;
}

static int64_t
take_number(struct input *input)
{
	static const int64_t odd[] = { 0, -1, INT64_MAX, INT64_MIN,
		CLOCK_COUNTER_MAX, CLOCK_COUNTER_MAX + 1, 15000, 15001 };
	uint8_t b = take(input);

	return b < 128 ? b : odd[b % (sizeof(odd) / sizeof(odd[0]))];
}

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
merge_one(
    struct store *store, struct input *input, uint64_t app, struct kms_time now)
{
	struct store_incoming in = { 0 };
	struct clock_item items[4];
	struct store_merge_result result;
	uint64_t sequence = store_stats(store).sequence;

	in.key = take_bytes(input, 2, &in.key_len);
	in.value = take_bytes(input, 200, &in.value_len);
	in.clock_count = take(input) % 5;
	for (size_t i = 0; i < in.clock_count; i++) {
		items[i].member =
		    (const char *)take_bytes(input, 2, &items[i].member_len);
		items[i].counter = take_number(input);
	}
	in.clock = items;
	in.updated_at_ms = take_number(input);
	in.ttl_ms = take_number(input);
	in.tombstone = take(input) % 4 == 0;
	in.revive = take(input) % 4 == 0;
	result = store_merge(store, app, &in, now);
	require((result.reason == NULL) == (result.outcome == STORE_MERGED));
	if (result.outcome != STORE_MERGED) {
		require(store_stats(store).sequence == sequence);
		return;
	}
	in.revive = false;
	result = store_merge(store, app, &in, now);
	require(result.outcome == STORE_SKIPPED ||
	    store_stats(store).dead_keys > 0);
}

static void
operate(struct store *store, struct input *input, struct kms_time *now)
{
	uint64_t app = 1 + take(input) % APPS;
	struct store_record record;
	const uint8_t *key, *value;
	size_t key_len, value_len;

	switch (take(input) % 8) {
	case 0:
		key = take_bytes(input, 2, &key_len);
		value = take_bytes(input, 200, &value_len);
		(void)store_put_local(store, app, key, key_len, value,
		    value_len, take_number(input), *now, NULL);
		break;
	case 1:
		key = take_bytes(input, 2, &key_len);
		(void)store_delete_local(store, app, key, key_len, *now);
		break;
	case 2:
		key = take_bytes(input, 2, &key_len);
		(void)store_get(store, app, key, key_len, *now, &record);
		break;
	case 3:
		now->wall_ms += take(input);
		now->boot_ms += take(input);
		(void)store_tick(store, *now, take(input));
		break;
	default:
		merge_one(store, input, app, *now);
		break;
	}
}

struct sum {
	uint64_t live, dead, charged;
};

static bool
add_record(const struct store_record *record, void *arg)
{
	struct sum *sum = arg;

	if (record->state == STORE_LIVE) {
		sum->live++;
		sum->charged +=
		    record->key_len + record->value_len + STORE_RECORD_OVERHEAD;
	} else {
		sum->dead++;
		require(record->value_len <= MERGE_HEAD_LEN);
	}
	return true;
}

static void
check(const struct store *store)
{
	struct store_stats stats = store_stats(store);
	struct sum all = { 0, 0, 0 };

	for (uint64_t app = 1; app <= APPS; app++) {
		struct sum sum = { 0, 0, 0 };

		store_each(store, app, add_record, &sum);
		require(sum.charged == store_app_charged(store, app));
		require(sum.charged <= QUOTA && sum.dead <= TOMBSTONES);
		all.live += sum.live;
		all.dead += sum.dead;
		all.charged += sum.charged;
	}
	require(all.live == stats.live_keys && all.dead == stats.dead_keys);
	require(all.charged == stats.charged_bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	struct store_config config;
	struct store_cursor cursor;
	struct store_record record;
	struct store *store;
	struct kms_time now = { 100, 100 };
	uint64_t last = 0;

	store_config_init(&config);
	config.max_app_storage = QUOTA;
	config.max_tombstones = TOMBSTONES;
	config.tombstone_retention_ms = 300;
	config.eviction =
	    take(&input) % 4 == 0 ? STORE_EVICT_REJECT : STORE_EVICT_LRU;
	store = store_new(&config);
	require(store != NULL && store_set_member(store, "me", 2) == 0);
	store_cursor_open(store, &cursor, 0);
	while (input.at < input.end) {
		operate(store, &input, &now);
		check(store);
		if (size % 2 == 0 && store_cursor_next(&cursor, now, &record)) {
			require(record.sequence > last);
			last = record.sequence;
		}
	}
	while (store_cursor_next(&cursor, now, &record)) {
		require(record.sequence > last);
		last = record.sequence;
	}
	store_cursor_close(&cursor);
	store_free(store);
	return 0;
}
