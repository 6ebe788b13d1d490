#include "crypto/rlp.h"

#include <string.h>

#include "common/err.h"

#define SHORT_STRING 0x80 /* + length, up to 55 */
#define LONG_STRING 0xb7  /* + bytes of the length that follows */
#define SHORT_LIST 0xc0
#define LONG_LIST 0xf7
#define SHORT_MAX 55

/* head: room for 9 bytes; returns how many are used. */
static size_t
encode_head(uint8_t *head, uint8_t short_base, uint8_t long_base, size_t len)
{
	size_t bytes = 0;

	if (len <= SHORT_MAX) {
		head[0] = (uint8_t)(short_base + len);
		return 1;
	}
	while (bytes < sizeof(len) && len >> (8 * bytes) != 0)
		bytes++;
	head[0] = (uint8_t)(long_base + bytes);
	for (size_t i = 0; i < bytes; i++)
		head[1 + i] = (uint8_t)(len >> (8 * (bytes - 1 - i)));
	return 1 + bytes;
}

int
rlp_append_bytes(struct buf *out, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	uint8_t head[9], *space;
	size_t head_len;
	int error;

	if (len == 1 && bytes[0] < SHORT_STRING)
		return buf_append(out, bytes, 1);
	head_len = encode_head(head, SHORT_STRING, LONG_STRING, len);
	if (len > SIZE_MAX - head_len)
		return KMS_ETOOBIG;
	error = buf_reserve(out, head_len + len, &space);
	if (error != 0)
		return error;
	memcpy(space, head, head_len);
	if (len > 0)
		memcpy(space + head_len, bytes, len);
	buf_commit(out, head_len + len);
	return 0;
}

int
rlp_append_uint(struct buf *out, const uint8_t *big_endian, size_t len)
{
	while (len > 0 && *big_endian == 0) {
		big_endian++;
		len--;
	}
	return rlp_append_bytes(out, big_endian, len);
}

int
rlp_append_u64(struct buf *out, uint64_t value)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> (56 - 8 * i));
	return rlp_append_uint(out, bytes, sizeof(bytes));
}

int
rlp_append_list(struct buf *out, size_t len)
{
	uint8_t head[9];

	return buf_append(
	    out, head, encode_head(head, SHORT_LIST, LONG_LIST, len));
}

/* A long form's length: shortest, above SHORT_MAX, within the data. */
static int
read_long_length(const struct rlp_reader *reader, size_t bytes, size_t *len)
{
	size_t value = 0;

	if (bytes > sizeof(value) || reader->len - 1 < bytes ||
	    reader->data[1] == 0)
		return KMS_EINVAL;
	for (size_t i = 0; i < bytes; i++)
		value = value << 8 | reader->data[1 + i];
	if (value <= SHORT_MAX || value > reader->len - 1 - bytes)
		return KMS_EINVAL;
	*len = value;
	return 0;
}

/* An item whose first byte is base + length, or base + 55 + length's bytes. */
static int
read_item(struct rlp_reader *reader, uint8_t base, struct rlp_reader *item)
{
	size_t first = (size_t)(reader->data[0] - base), head = 1, len = first;

	if (first > SHORT_MAX) {
		head = 1 + first - SHORT_MAX;
		if (read_long_length(reader, head - 1, &len) != 0)
			return KMS_EINVAL;
	}
	if (len > reader->len - head)
		return KMS_EINVAL;
	*item = (struct rlp_reader){ reader->data + head, len };
	reader->data += head + len;
	reader->len -= head + len;
	return 0;
}

int
rlp_read_bytes(struct rlp_reader *reader, struct rlp_reader *item)
{
	struct rlp_reader rest = *reader;

	if (reader->len == 0 || reader->data[0] >= SHORT_LIST)
		return KMS_EINVAL;
	if (reader->data[0] < SHORT_STRING) {
		*item = (struct rlp_reader){ reader->data, 1 };
		reader->data++;
		reader->len--;
		return 0;
	}
	if (read_item(&rest, SHORT_STRING, item) != 0)
		return KMS_EINVAL;
	/* A single low byte is its own encoding. */
	if (item->len == 1 && item->data[0] < SHORT_STRING)
		return KMS_EINVAL;
	*reader = rest;
	return 0;
}

int
rlp_read_list(struct rlp_reader *reader, struct rlp_reader *item)
{
	if (reader->len == 0 || reader->data[0] < SHORT_LIST)
		return KMS_EINVAL;
	return read_item(reader, SHORT_LIST, item);
}

int
rlp_read_uint(struct rlp_reader *reader, uint8_t *big_endian, size_t size)
{
	struct rlp_reader rest = *reader, item;

	if (rlp_read_bytes(&rest, &item) != 0)
		return KMS_EINVAL;
	if (item.len > 0 && item.data[0] == 0)
		return KMS_EINVAL;
	if (item.len > size)
		return KMS_ERANGE;
	memset(big_endian, 0, size - item.len);
	if (item.len > 0)
		memcpy(big_endian + size - item.len, item.data, item.len);
	*reader = rest;
	return 0;
}

int
rlp_read_u64(struct rlp_reader *reader, uint64_t *value)
{
	uint8_t bytes[8];
	int error = rlp_read_uint(reader, bytes, sizeof(bytes));

	if (error != 0)
		return error;
	*value = 0;
	for (size_t i = 0; i < sizeof(bytes); i++)
		*value = *value << 8 | bytes[i];
	return 0;
}
