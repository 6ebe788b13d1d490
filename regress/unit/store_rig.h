/* What the tests of the store share: a generator with a seed, short ways to
 * write and merge, and a text of a record to compare. */
#ifndef KMS_REGRESS_STORE_RIG_H
#define KMS_REGRESS_STORE_RIG_H

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/err.h"
#include "kms-keeper/store.h"

#define RIG_T0 INT64_C(1767225600000)
#define RIG_SELF "0x00000000000000000000000000000000000000aa"

struct rig_random {
	uint64_t state;
};

/* splitmix64 */
static inline uint64_t
rig_next(struct rig_random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint64_t
rig_below(struct rig_random *random, uint64_t bound)
{
	return rig_next(random) % bound;
}

static inline struct kms_time
rig_time(int64_t ms)
{
	return (struct kms_time){ RIG_T0 + ms, 5000000 + ms };
}

static inline struct store *
rig_store(const struct store_config *config, const char *member)
{
	struct store *store = store_new(config);

	if (store != NULL &&
	    store_set_member(store, member, strlen(member)) != 0) {
		store_free(store);
		return NULL;
	}
	return store;
}

static inline int
rig_put(struct store *store, uint64_t app, const char *key, const char *value,
    int64_t ttl, int64_t at)
{
	return store_put_local(store, app, key, strlen(key), value,
	    strlen(value), ttl, rig_time(at), NULL);
}

static inline enum store_found
rig_get(struct store *store, uint64_t app, const char *key, int64_t at,
    struct store_record *record)
{
	return store_get(store, app, key, strlen(key), rig_time(at), record);
}

static inline bool
rig_peek(struct store *store, uint64_t app, const char *key, int64_t at,
    struct store_record *record)
{
	return store_peek(store, app, key, strlen(key), rig_time(at), record);
}

static inline struct store_incoming
rig_incoming(const char *key, const char *value, int64_t updated,
    const struct clock_item *clock, size_t count)
{
	return (struct store_incoming){
		.key = key,
		.key_len = strlen(key),
		.value = value,
		.value_len = value != NULL ? strlen(value) : 0,
		.clock = clock,
		.clock_count = count,
		.updated_at_ms = RIG_T0 + updated,
		.tombstone = value == NULL,
	};
}

/* "member:counter,…" */
static inline void
rig_clock_text(const struct vector_clock *clock, char *text, size_t size)
{
	const struct clock_entry *e = vector_clock_entries(clock);
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < vector_clock_count(clock); i++) {
		size_t len;
		const char *name = clock_member_name(e[i].member, &len);
		int n = snprintf(text + used, size - used, "%.*s:%" PRIu64 ",",
		    (int)len, name, e[i].counter);

		if (n < 0 || (size_t)n >= size - used)
			return;
		used += (size_t)n;
	}
}

/* Everything that nodes must agree on. A stub and the live record it was are
 * the same. */
static inline void
rig_record_text(const struct store_record *record, char *text, size_t size)
{
	char clock[600];
	size_t head = record->value_len < 32 ? record->value_len : 32;

	rig_clock_text(record->clock, clock, sizeof(clock));
	(void)snprintf(text, size,
	    "%.*s {%s} %" PRId64 " %s ttl %" PRId64 " '%.*s'",
	    (int)record->key_len, (const char *)record->key, clock,
	    record->updated_at_ms - RIG_T0,
	    record->state == STORE_TOMBSTONE ? "tombstone" : "value",
	    record->ttl_ms, (int)head,
	    record->value_len > 0 ? (const char *)record->value : "");
}

#endif
