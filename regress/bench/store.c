/*
 * What the store costs.
 *
 *   store                  memory per record at a million records of a
 *                          thousand apps, CPU of put and get there and with
 *                          a thousand records, bare: here a million are
 *                          dearer by their cache misses, about a microsecond
 *                          of a whole call's hundred
 *   store N OPS [APPS]     N records of APPS (1000) apps, then OPS puts and
 *                          OPS gets: for callgrind, which counts them with
 *                          --toggle-collect=measured_puts (or _gets)
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kms-keeper/store.h"

#define STORED_LEN 128 /* 100 bytes with their nonce and tag */
#define NOW_MS INT64_C(1767225600000)

void measured_puts(
    struct store *store, uint64_t count, uint64_t apps, uint64_t ops);
void measured_gets(
    struct store *store, uint64_t count, uint64_t apps, uint64_t ops);

static void
die(const char *what)
{
	(void)fprintf(stderr, "store: %s\n", what);
	exit(1);
}

static struct kms_time
at(uint64_t n)
{
	int64_t ms = (int64_t)(n / 100);

	return (struct kms_time){ NOW_MS + ms, ms };
}

static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

#define KEY_LEN 20

/* Record n: its app, and its key. Without printf, which would cost more than
 * what is measured. */
static uint64_t
address(uint64_t n, uint64_t apps, char key[KEY_LEN])
{
	uint64_t number = n / apps;

	memcpy(key, "users/00000000/token", KEY_LEN);
	for (int i = 13; number > 0; i--, number /= 10)
		key[i] = (char)('0' + number % 10);
	return 1 + n % apps;
}

static void
put(struct store *store, uint64_t n, uint64_t apps, struct kms_time now)
{
	static uint8_t value[STORED_LEN];
	char key[KEY_LEN];
	uint64_t app = address(n, apps, key);

	value[0] = (uint8_t)n;
	if (store_put_local(store, app, key, KEY_LEN, value, sizeof(value),
		n % 2 == 0 ? 0 : 86400000, now, NULL) != 0)
		die("a put failed");
}

void
measured_puts(struct store *store, uint64_t count, uint64_t apps, uint64_t ops)
{
	for (uint64_t i = 0; i < ops; i++)
		put(store, mix(i) % count, apps, at(i));
}

void
measured_gets(struct store *store, uint64_t count, uint64_t apps, uint64_t ops)
{
	struct store_record record;
	char key[KEY_LEN];

	for (uint64_t i = 0; i < ops; i++) {
		uint64_t app = address(mix(i) % count, apps, key);

		if (store_get(store, app, key, KEY_LEN, at(i), &record) !=
		    STORE_FOUND)
			die("a get failed");
	}
}

static struct store *
filled(uint64_t count, uint64_t apps)
{
	struct store_config config;
	struct store *store;

	store_config_init(&config);
	config.max_app_storage = UINT64_C(1) << 40;
	for (size_t i = 0; i < sizeof(config.hash_key); i++)
		config.hash_key[i] = (uint8_t)(mix(i + 1) >> 8);
	store = store_new(&config);
	if (store == NULL ||
	    store_set_member(
		store, "0x00000000000000000000000000000000000000aa", 42) != 0)
		die("no store");
	for (uint64_t n = 0; n < count; n++)
		put(store, n, apps, at(0));
	return store;
}

static double
cpu_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double
resident_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long size = 0, resident = 0;

	if (f == NULL || fscanf(f, "%lu %lu", &size, &resident) != 2)
		die("no /proc/self/statm");
	(void)fclose(f);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double
heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return (double)(info.uordblks + info.hblkhd);
}

struct figures {
	double put_ns, get_ns;
};

static struct figures
measure(struct store *store, uint64_t count, uint64_t apps, uint64_t ops)
{
	struct figures figures;
	double start = cpu_ns();

	measured_puts(store, count, apps, ops);
	figures.put_ns = (cpu_ns() - start) / (double)ops;
	start = cpu_ns();
	measured_gets(store, count, apps, ops);
	figures.get_ns = (cpu_ns() - start) / (double)ops;
	return figures;
}

static void
report(void)
{
	const uint64_t many = 1000000, few = 1000, ops = 1000000;
	double resident = resident_bytes(), heap = heap_bytes(), live;
	struct figures large, small;
	struct store *store = filled(many, 1000);

	live = (double)store_stats(store).live_bytes;
	(void)printf("store_overhead_bytes_per_record %.0f (malloc) %.0f "
		     "(resident), charged %d\n",
	    (heap_bytes() - heap - live) / (double)many,
	    (resident_bytes() - resident - live) / (double)many,
	    STORE_RECORD_OVERHEAD);
	large = measure(store, many, 1000, ops);
	store_free(store);
	store = filled(few, 1000);
	small = measure(store, few, 1000, ops);
	store_free(store);
	(void)printf("store_put_ns %.0f at %" PRIu64 " records, %.0f at "
		     "%" PRIu64 ": ratio %.2f\n",
	    small.put_ns, few, large.put_ns, many, large.put_ns / small.put_ns);
	(void)printf("store_get_ns %.0f at %" PRIu64 " records, %.0f at "
		     "%" PRIu64 ": ratio %.2f\n",
	    small.get_ns, few, large.get_ns, many, large.get_ns / small.get_ns);
}

static uint64_t
number(const char *text)
{
	char *end;
	unsigned long long value = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0')
		die("usage: store [records operations [apps]]");
	return value;
}

int
main(int argc, char **argv)
{
	uint64_t count, ops, apps;
	struct store *store;

	if (argc == 1) {
		report();
		return 0;
	}
	if (argc < 3 || argc > 4)
		die("usage: store [records operations [apps]]");
	count = number(argv[1]);
	ops = number(argv[2]);
	apps = argc == 4 ? number(argv[3]) : 1000;
	if (count == 0 || apps == 0 || count / apps >= 100000000)
		die("out of range");
	store = filled(count, apps);
	measured_puts(store, count, apps, ops);
	measured_gets(store, count, apps, ops);
	store_free(store);
	return 0;
}
