#include "kms-net/bytes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define BYTES_MIN 1024

/* Take so many bytes of a budget and of those it is a share of, or of none. */
static bool
take(struct budget *budget, size_t more)
{
	for (const struct budget *b = budget; b != NULL; b = b->whole) {
		if (more > b->max - b->used)
			return false;
	}
	for (struct budget *b = budget; b != NULL; b = b->whole)
		b->used += more;
	return true;
}

static void
give_back(struct budget *budget, size_t less)
{
	for (struct budget *b = budget; b != NULL; b = b->whole)
		b->used -= less;
}

static size_t
grown_size(const struct bytes *bytes, size_t need, size_t most)
{
	size_t size = bytes->size < BYTES_MIN ? BYTES_MIN : bytes->size;

	while (size < need)
		size = size > SIZE_MAX / 2 ? need : size * 2;
	return most >= need && size > most ? most : size;
}

int
bytes_reserve(
    struct bytes *bytes, struct budget *budget, size_t len, size_t most)
{
	size_t size, more;
	uint8_t *data;

	if (len > SIZE_MAX - bytes->len)
		return KMS_ETOOBIG;
	if (bytes->size - bytes->len >= len)
		return 0;
	size = grown_size(bytes, bytes->len + len, most);
	more = size - bytes->size;
	if (!take(budget, more)) {
		/* Doubling is a convenience; what is needed may still fit. */
		size = bytes->len + len;
		more = size - bytes->size;
		if (!take(budget, more))
			return KMS_EBUSY;
	}
	data = realloc(bytes->data, size);
	if (data == NULL) {
		give_back(budget, more);
		return KMS_ENOMEM;
	}
	bytes->data = data;
	bytes->size = size;
	return 0;
}

int
bytes_append(struct bytes *bytes, struct budget *budget, const void *data,
    size_t len, size_t most)
{
	int error = bytes_reserve(bytes, budget, len, most);

	if (error != 0)
		return error;
	if (len > 0)
		memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
	return 0;
}

void
bytes_consume(struct bytes *bytes, size_t len)
{
	if (len >= bytes->len) {
		bytes->len = 0;
		return;
	}
	memmove(bytes->data, bytes->data + len, bytes->len - len);
	bytes->len -= len;
}

void
bytes_free(struct bytes *bytes, struct budget *budget)
{
	give_back(budget, bytes->size);
	free(bytes->data);
	*bytes = (struct bytes){ 0 };
}
