/*
 * A nonce is AES-256(key, expiry in ms (8 bytes) || counter (8 bytes)), big
 * endian. Who has not the key cannot make 16 bytes that decrypt to a counter
 * and an expiry that belong together: one guess in 2^64 or so hits.
 */
#include "kms-keeper/nonce.h"

#include <stdlib.h>

#include "common/err.h"
#include "crypto/aes_block.h"

/* A nonce's second of issue is one of the last 121, with the current one. */
#define SECONDS (NONCE_LIFE_MS / 1000 + 2)
#define ISSUED_PER_MAX 64
#define MAX_NONCES ((size_t)1 << 24)

/* In the counter: made by nonce_issue_next. */
#define OUTSIDE ((uint64_t)1 << 63)

/* The nonces that were issued within one second of boot time. */
struct second {
	int64_t at;	 /* seconds of boot time; -1: free */
	uint64_t first;	 /* counter of its first nonce */
	uint64_t issued; /* counters first..first+issued-1 are its */
	uint64_t open;	 /* unused ones that count against max_nonces */
	uint64_t *used;	 /* bitmap over issued */
	size_t words;	 /* of used */
};

struct nonce_table {
	struct aes_block *block;
	struct second seconds[SECONDS]; /* by at modulo SECONDS */
	uint64_t next;			/* counter of the next nonce */
	uint64_t issued;		/* sum over seconds */
	uint64_t open;			/* sum over seconds */
	uint64_t max;
	int64_t latest_ms; /* boot time never seems to go back */
};

int
nonce_table_new(const uint8_t key[NONCE_KEY_LEN], size_t max_nonces,
    struct nonce_table **table)
{
	struct nonce_table *made;
	int error;

	if (max_nonces == 0 || max_nonces > MAX_NONCES)
		return KMS_EINVAL;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return KMS_ENOMEM;
	made->max = max_nonces;
	for (size_t i = 0; i < SECONDS; i++)
		made->seconds[i].at = -1;
	error = aes_block_new(key, &made->block);
	if (error != 0) {
		nonce_table_free(made);
		return error;
	}
	*table = made;
	return 0;
}

void
nonce_table_free(struct nonce_table *table)
{
	if (table == NULL)
		return;
	for (size_t i = 0; i < SECONDS; i++)
		free(table->seconds[i].used);
	aes_block_free(table->block);
	free(table);
}

static void
second_release(struct nonce_table *table, struct second *second)
{
	table->issued -= second->issued;
	table->open -= second->open;
	free(second->used);
	*second = (struct second){ .at = -1 };
}

/* Step the time on and release the seconds whose nonces have all expired. */
static void
advance(struct nonce_table *table, int64_t boot_ms)
{
	int64_t from = table->latest_ms / 1000, to;

	if (boot_ms <= table->latest_ms)
		return;
	table->latest_ms = boot_ms;
	/* The last nonce of a second s dies at (s + 1) * 1000 - 1 + life. */
	to = (boot_ms - NONCE_LIFE_MS) / 1000;
	from -= SECONDS;
	if (from < to - SECONDS)
		from = to - SECONDS;
	for (; from < to; from++) {
		struct second *second =
		    from < 0 ? NULL : &table->seconds[from % SECONDS];

		if (second != NULL && second->at >= 0 && second->at <= from)
			second_release(table, second);
	}
}

static int
second_grow(struct second *second)
{
	size_t words = second->words == 0 ? 1 : second->words * 2;
	uint64_t *used;

	if (second->issued < second->words * 64)
		return 0;
	used = reallocarray(second->used, words, sizeof(*used));
	if (used == NULL)
		return KMS_ENOMEM;
	for (size_t i = second->words; i < words; i++)
		used[i] = 0;
	second->used = used;
	second->words = words;
	return 0;
}

static void
put_u64(uint8_t *out, uint64_t value)
{
	for (size_t i = 0; i < 8; i++)
		out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static uint64_t
get_u64(const uint8_t *in)
{
	uint64_t value = 0;

	for (size_t i = 0; i < 8; i++)
		value = value << 8 | in[i];
	return value;
}

static int
issue(struct nonce_table *table, int outside, uint8_t nonce[NONCE_LEN])
{
	int64_t at = table->latest_ms / 1000;
	struct second *second = &table->seconds[at % SECONDS];
	uint64_t counter = table->next;
	uint8_t plain[NONCE_LEN];
	int error;

	if (table->issued >= table->max * ISSUED_PER_MAX)
		return KMS_EBUSY;
	if (second->at != at) {
		second_release(table, second);
		second->at = at;
		second->first = counter;
	}
	error = second_grow(second);
	if (error != 0)
		return error;
	put_u64(plain, (uint64_t)(table->latest_ms + NONCE_LIFE_MS));
	put_u64(plain + 8, outside ? counter | OUTSIDE : counter);
	error = aes_block_encrypt(table->block, plain, nonce);
	if (error != 0)
		return error;
	table->next++;
	table->issued++;
	second->issued++;
	if (!outside) {
		second->open++;
		table->open++;
	}
	return 0;
}

int
nonce_issue(
    struct nonce_table *table, int64_t boot_ms, uint8_t nonce[NONCE_LEN])
{
	advance(table, boot_ms);
	if (table->open >= table->max)
		return KMS_EBUSY;
	return issue(table, 0, nonce);
}

int
nonce_issue_next(
    struct nonce_table *table, int64_t boot_ms, uint8_t nonce[NONCE_LEN])
{
	advance(table, boot_ms);
	return issue(table, 1, nonce);
}

int
nonce_consume(
    struct nonce_table *table, const uint8_t nonce[NONCE_LEN], int64_t boot_ms)
{
	uint8_t plain[NONCE_LEN];
	uint64_t expiry, counter, place, bit;
	struct second *second;
	int64_t at;

	advance(table, boot_ms);
	if (aes_block_decrypt(table->block, nonce, plain) != 0)
		return KMS_ECRYPTO;
	expiry = get_u64(plain);
	counter = get_u64(plain + 8) & ~OUTSIDE;
	if (counter >= table->next || expiry < NONCE_LIFE_MS ||
	    expiry > (uint64_t)(table->latest_ms + NONCE_LIFE_MS))
		return KMS_ENOENT;
	if (expiry <= (uint64_t)table->latest_ms)
		return KMS_ETIMEOUT;
	at = (int64_t)(expiry - NONCE_LIFE_MS) / 1000;
	second = &table->seconds[at % SECONDS];
	if (second->at != at || counter < second->first ||
	    counter - second->first >= second->issued)
		return KMS_ENOENT;
	place = counter - second->first;
	bit = (uint64_t)1 << (place % 64);
	if ((second->used[place / 64] & bit) != 0)
		return KMS_EREPLAY;
	second->used[place / 64] |= bit;
	if ((plain[8] & 0x80) == 0) {
		second->open--;
		table->open--;
	}
	return 0;
}

size_t
nonce_outstanding(struct nonce_table *table, int64_t boot_ms)
{
	advance(table, boot_ms);
	return (size_t)table->open;
}
