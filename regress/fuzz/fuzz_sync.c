/*
 * Lines that reach the replication engine of a node with some hundred records:
 * each as the answer to what it asked last, and as a request.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "crypto/crypto.h"
#include "kms-keeper/sync.h"

#define PEER "0x00000000000000000000000000000000000000b0"
#define RECORDS 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t asked; /* the last message */

static void
on_send(
    void *arg, const char *wallet, uint64_t id, const void *body, size_t len)
{
	(void)arg;
	(void)wallet;
	if (len == 0 || ((const char *)body)[len - 1] != '}')
		abort();
	asked = id;
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
	(void)arg;
	return 7;
}

static void
swallow(enum log_level level, const char *text, void *arg)
{
	(void)level;
	(void)text;
	(void)arg;
}

static struct store *
make_store(struct kms_time now)
{
	struct store_config config;
	struct store *store;
	char key[16];

	store_config_init(&config);
	store = store_new(&config);
	if (store == NULL || store_set_member(store, "self", 4) != 0)
		abort();
	for (unsigned int i = 0; i < RECORDS; i++) {
		int len = snprintf(key, sizeof(key), "k%u", i);

		if (store_put_local(store, 1 + i % 100 / 90, key, (size_t)len,
			"v:1", 3, i % 9 == 0 ? 5 : 0, now, NULL) != 0)
			abort();
	}
	return store;
}

static void
feed(struct sync *sync, const char *line, size_t len, struct kms_time now)
{
	const struct sync_outcome outcome = { 0, 200, line, len };
	struct buf answer;

	sync_answer(sync, asked, &outcome, now);
	buf_init(&answer, 16u << 20);
	if (sync_request(sync, PEER, line, len, now, &answer) == 200) {
		struct slice value;

		if (slice_check(
			(const char *)answer.data, answer.len, &value) != 0)
			abort();
	} else if (answer.len != 0) {
		abort();
	}
	buf_free(&answer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const peers[] = { PEER };
	static const char known[] =
	    "{\"status\":\"ok\",\"boot\":\"b\",\"total\":0,\"merged\":0,"
	    "\"skipped\":0,\"rejected\":0,\"extensions\":[\"digest_request\","
	    "\"bucket_request\",\"record_request\"]}";
	const struct sync_ops ops = { on_send, on_replicas, on_fetched,
		on_value, on_random, NULL };
	struct kms_time now = { INT64_C(1767225600000), 1000000 };
	const char *at = (const char *)data, *end;
	struct sync_config config;
	struct store *store;
	struct sync *sync;

	log_set_sink(swallow, NULL);
	if (crypto_init() != 0)
		abort();
	sync_config_init(&config);
	memcpy(config.wallet, PEER, sizeof(PEER));
	config.wallet[SYNC_WALLET_LEN - 1] = 'a';
	config.boot[0] = 's';
	store = make_store(now);
	sync = sync_new(&config, &ops, store, now);
	if (sync == NULL || sync_set_peers(sync, peers, 1, now) != 0)
		abort();
	sync_tick(sync, now);
	feed(sync, known, sizeof(known) - 1, now);
	while (size > 0) {
		end = memchr(at, '\n', size);
		if (end == NULL)
			end = at + size;
		now.boot_ms += 300;
		now.wall_ms += 300;
		sync_tick(sync, now);
		feed(sync, at, (size_t)(end - at), now);
		size -= (size_t)(end - at);
		at = end;
		if (size > 0) {
			at++;
			size--;
		}
	}
	if (sync_memory(sync) > 8u << 20)
		abort();
	sync_free(sync);
	store_free(store);
	return 0;
}
