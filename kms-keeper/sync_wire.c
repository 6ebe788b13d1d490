#include "kms-keeper/sync_wire.h"

#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/err.h"
#include "common/hex.h"

#define HASH_DIGITS 16
#define PIECE 3072 /* bytes: whole hashes of any width, whole base64 groups */

/* ---- nodes --------------------------------------------------------------- */

uint64_t
tree_node_last(struct tree_node node)
{
	if (node.depth == 0)
		return UINT64_MAX;
	if (node.depth == TREE_DEPTH_MAX)
		return node.prefix;
	return node.prefix | UINT64_MAX >> 4 * node.depth;
}

struct tree_node
tree_node_child(struct tree_node node, unsigned int digit)
{
	return (struct tree_node){
		node.prefix | (uint64_t)digit << (60 - 4 * node.depth),
		node.depth + 1,
	};
}

int
tree_node_compare(struct tree_node a, struct tree_node b)
{
	if (a.prefix != b.prefix)
		return a.prefix < b.prefix ? -1 : 1;
	return (a.depth > b.depth) - (a.depth < b.depth);
}

int
tree_node_write(struct buf *out, struct tree_node node)
{
	char text[TREE_DEPTH_MAX + 2];

	text[0] = '"';
	for (unsigned int i = 0; i < node.depth; i++)
		text[1 + i] =
		    "0123456789abcdef"[node.prefix >> (60 - 4 * i) & 15];
	text[1 + node.depth] = '"';
	return buf_append(out, text, node.depth + 2);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int
tree_node_read(struct slice name, struct tree_node *node)
{
	int digit;

	*node = (struct tree_node){ 0, 0 };
	if (slice_kind(name) != SLICE_STRING || name.len > TREE_DEPTH_MAX + 2)
		return KMS_EINVAL;
	for (size_t i = 1; i < name.len - 1; i++) {
		digit = hex_digit(name.text[i]);
		if (digit < 0)
			return KMS_EINVAL;
		*node = tree_node_child(*node, (unsigned int)digit);
	}
	return 0;
}

/* ---- order --------------------------------------------------------------- */

/* From first to last, both in it, wholly behind the part before? */
static int
ascent_step(struct ascent *ascent, uint64_t first, uint64_t last)
{
	if (ascent->begun && first <= ascent->last)
		return KMS_EINVAL;
	ascent->begun = true;
	ascent->last = last;
	return 0;
}

int
ascent_node(struct ascent *ascent, struct slice name, struct tree_node *node)
{
	int error = tree_node_read(name, node);

	if (error != 0)
		return error;
	return ascent_step(ascent, node->prefix, tree_node_last(*node));
}

int
ascent_app(
    struct ascent *ascent, struct slice name, bool zero, uint64_t *app_id)
{
	int error = 0;

	*app_id = 0;
	if (!zero || !slice_is(name, "0"))
		error = slice_app_id(name, app_id);
	return error != 0 ? error : ascent_step(ascent, *app_id, *app_id);
}

/* ---- hashes cut short ---------------------------------------------------- */

/* The last steps of splitmix64: every bit of the hash counts in each that is
 * kept. */
uint64_t
hash_shorten(struct short_form form, uint64_t hash)
{
	uint64_t z = hash + (form.salt + 1) * 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return z & UINT64_MAX << (64 - 8 * form.width);
}

static int
write_piece(
    struct buf *out, const uint64_t *hashes, size_t count, unsigned int width)
{
	uint8_t bytes[PIECE], *space;
	size_t len = 0;
	int error;

	for (size_t i = 0; i < count; i++)
		for (unsigned int b = 0; b < width; b++)
			bytes[len++] = (uint8_t)(hashes[i] >> (56 - 8 * b));
	error = buf_reserve(out, BASE64_LEN(len) + 1, &space);
	if (error != 0)
		return error;
	base64_encode(bytes, len, (char *)space);
	buf_commit(out, BASE64_LEN(len));
	return 0;
}

int
shorts_write(
    struct buf *out, const uint64_t *hashes, size_t count, unsigned int width)
{
	/* A multiple of three: only the last piece is padded. */
	size_t most = PIECE / 3 / width * 3, n;
	int error = buf_append_text(out, "\"");

	for (; count > 0 && error == 0; hashes += n, count -= n) {
		n = count < most ? count : most;
		error = write_piece(out, hashes, n, width);
	}
	return error == 0 ? buf_append_text(out, "\"") : error;
}

int
shorts_read(struct slice value, unsigned int width, size_t max,
    uint64_t **hashes, size_t *count)
{
	uint64_t *made;
	uint8_t *bytes;
	size_t len, room;

	*hashes = NULL;
	*count = 0;
	if (slice_kind(value) != SLICE_STRING ||
	    BASE64_DECODED_MAX(value.len) / width > max + 1)
		return KMS_EINVAL;
	room = BASE64_DECODED_MAX(value.len) + 1;
	made = malloc((room / width + 1) * sizeof(*made) + room);
	if (made == NULL)
		return KMS_ENOMEM;
	bytes = (uint8_t *)(made + room / width + 1);
	if (base64_decode(value.text + 1, value.len - 2, bytes, room, &len) !=
		0 ||
	    len % width != 0 || len / width > max) {
		free(made);
		return KMS_EINVAL;
	}
	for (size_t i = 0; i < len / width; i++) {
		made[i] = 0;
		for (unsigned int b = 0; b < width; b++)
			made[i] |= (uint64_t)bytes[i * width + b]
			    << (56 - 8 * b);
	}
	*hashes = made;
	*count = len / width;
	return 0;
}

/* ---- places -------------------------------------------------------------- */

uint64_t
member_number(struct slice object, const char *name)
{
	struct slice value;
	int64_t number;

	if (slice_member(object, name, &value) != 0 ||
	    slice_integer(value, &number) != 0 || number < 0)
		return 0;
	return (uint64_t)number;
}

int
sync_place_read(struct slice object, const char *app_name,
    const char *hash_name, uint64_t *app_id, uint64_t *hash)
{
	struct slice app, digits;
	uint8_t bytes[8];
	int64_t number;

	*app_id = *hash = 0;
	if (slice_member(object, app_name, &app) != 0 ||
	    slice_member(object, hash_name, &digits) != 0)
		return KMS_EINVAL;
	if (app.text == NULL)
		return 0;
	if (slice_integer(app, &number) != 0 || number < 1 ||
	    slice_kind(digits) != SLICE_STRING ||
	    digits.len != HASH_DIGITS + 2 ||
	    hex_decode_exact(
		digits.text + 1, HASH_DIGITS, bytes, sizeof(bytes)) != 0)
		return KMS_EINVAL;
	for (int b = 0; b < 8; b++)
		*hash = *hash << 8 | bytes[b];
	*app_id = (uint64_t)number;
	return 0;
}
