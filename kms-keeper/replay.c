#include "kms-keeper/replay.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define SIZE_MIN 8 /* places of the first ring; sizes are powers of two */

struct replay_entry {
	uint8_t nonce[AEAD_NONCE_LEN];
	uint32_t expiry; /* seconds of boot time, rounded up */
};

void
replay_init(struct replay_window *window, uint32_t max, int64_t reach_ms,
    const uint8_t key[SIPHASH_KEY_LEN])
{
	*window = (struct replay_window){
		.max = max > REPLAY_MAX ? REPLAY_MAX : max,
		.reach_ms = reach_ms,
	};
	memcpy(window->key, key, SIPHASH_KEY_LEN);
}

void
replay_free(struct replay_window *window)
{
	free(window->ring);
	free(window->index);
	window->ring = NULL;
	window->index = NULL;
	window->size = window->head = window->count = 0;
}

size_t
replay_memory(const struct replay_window *window)
{
	return window->size *
	    (sizeof(struct replay_entry) + 2 * sizeof(uint32_t));
}

/* Where a nonce's search begins; mask is the index's size less one. */
static uint32_t
home(const struct replay_window *window, const uint8_t *nonce, uint32_t mask)
{
	return (uint32_t)siphash(window->key, nonce, AEAD_NONCE_LEN) & mask;
}

static void
index_add(struct replay_window *window, uint32_t place)
{
	uint32_t mask = 2 * window->size - 1;
	uint32_t at = home(window, window->ring[place].nonce, mask);

	while (window->index[at] != 0)
		at = (at + 1) & mask;
	window->index[at] = place + 1;
}

/* Remove a place and close the gap, so that every search still ends. */
static void
index_remove(struct replay_window *window, uint32_t place)
{
	uint32_t mask = 2 * window->size - 1;
	uint32_t gap = home(window, window->ring[place].nonce, mask), at;

	while (window->index[gap] != place + 1)
		gap = (gap + 1) & mask;
	for (at = (gap + 1) & mask; window->index[at] != 0;
	     at = (at + 1) & mask) {
		uint32_t other = window->index[at] - 1;
		uint32_t start = home(window, window->ring[other].nonce, mask);

		/* Its search must pass the gap on the way to it. */
		if (((at - start) & mask) >= ((at - gap) & mask)) {
			window->index[gap] = window->index[at];
			gap = at;
		}
	}
	window->index[gap] = 0;
}

static int
index_find(const struct replay_window *window, const uint8_t *nonce)
{
	uint32_t mask = 2 * window->size - 1, at;

	if (window->size == 0)
		return 0;
	for (at = home(window, nonce, mask); window->index[at] != 0;
	     at = (at + 1) & mask) {
		if (memcmp(window->ring[window->index[at] - 1].nonce, nonce,
			AEAD_NONCE_LEN) == 0)
			return 1;
	}
	return 0;
}

/* Move to a ring of size places, at least count. */
static int
resize(struct replay_window *window, uint32_t size)
{
	struct replay_entry *ring = calloc(size, sizeof(*ring));
	uint32_t *index = calloc((size_t)size * 2, sizeof(*index));

	if (ring == NULL || index == NULL) {
		free(ring);
		free(index);
		return KMS_ENOMEM;
	}
	for (uint32_t i = 0; i < window->count; i++)
		ring[i] = window->ring[(window->head + i) & (window->size - 1)];
	free(window->ring);
	free(window->index);
	window->ring = ring;
	window->index = index;
	window->size = size;
	window->head = 0;
	for (uint32_t i = 0; i < window->count; i++)
		index_add(window, i);
	return 0;
}

void
replay_expire(struct replay_window *window, int64_t boot_ms)
{
	if (boot_ms > window->latest_ms)
		window->latest_ms = boot_ms;
	while (window->count > 0 &&
	    (int64_t)window->ring[window->head].expiry * 1000 <=
		window->latest_ms) {
		index_remove(window, window->head);
		window->head = (window->head + 1) & (window->size - 1);
		window->count--;
	}
	if (window->count == 0)
		replay_free(window);
	else if (window->size > SIZE_MIN && window->count < window->size / 8)
		(void)resize(window, window->size / 4); /* or stay large */
}

int
replay_check_and_add(struct replay_window *window,
    const uint8_t nonce[AEAD_NONCE_LEN], int64_t boot_ms)
{
	struct replay_entry *entry;
	uint32_t place;
	int error;

	replay_expire(window, boot_ms);
	if (index_find(window, nonce))
		return KMS_EREPLAY;
	if (window->count >= window->max)
		return KMS_EBUSY;
	if (window->count == window->size) {
		error = resize(
		    window, window->size == 0 ? SIZE_MIN : 2 * window->size);
		if (error != 0)
			return error;
	}
	place = (window->head + window->count) & (window->size - 1);
	entry = &window->ring[place];
	memcpy(entry->nonce, nonce, AEAD_NONCE_LEN);
	entry->expiry =
	    (uint32_t)((window->latest_ms + window->reach_ms + 999) / 1000);
	window->count++;
	index_add(window, place);
	return 0;
}
