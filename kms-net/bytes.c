#include "kms-net/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define BYTES_MIN 1024

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
	if (budget != NULL && more > budget->max - budget->used) {
		/* Doubling is a convenience; what is needed may still fit. */
		size = bytes->len + len;
		more = size - bytes->size;
		if (more > budget->max - budget->used)
			return KMS_EBUSY;
	}
	data = realloc(bytes->data, size);
	if (data == NULL)
		return KMS_ENOMEM;
	if (budget != NULL)
		budget->used += more;
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
	if (budget != NULL)
		budget->used -= bytes->size;
	free(bytes->data);
	*bytes = (struct bytes){ 0 };
}
