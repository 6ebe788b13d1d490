#include "kms-keeper/json_slice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define REAL_MAX 9007199254740992.0 /* 2^53 */
#define NUMBER_MAX 64		    /* characters of a number we evaluate */

struct reader {
	const char *at, *end;
};

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void
skip_space(struct reader *r)
{
	while (r->at < r->end && is_space(*r->at))
		r->at++;
}

/* ---- checking ------------------------------------------------------------ */

static bool
check_escape(struct reader *r)
{
	if (r->at == r->end)
		return false;
	if (*r->at != 'u') {
		if (memchr("\"\\/bfnrt", *r->at, 8) == NULL)
			return false;
		r->at++;
		return true;
	}
	if (r->end - r->at < 5)
		return false;
	for (int i = 1; i <= 4; i++) {
		char c = r->at[i];

		if (!is_digit(c) && !(c >= 'a' && c <= 'f') &&
		    !(c >= 'A' && c <= 'F'))
			return false;
	}
	r->at += 5;
	return true;
}

/* Behind the opening quote. */
static bool
check_string(struct reader *r)
{
	while (r->at < r->end) {
		unsigned char c = (unsigned char)*r->at++;

		if (c == '"')
			return true;
		if (c < 0x20)
			return false;
		if (c == '\\' && !check_escape(r))
			return false;
	}
	return false;
}

static bool
check_digits(struct reader *r)
{
	const char *start = r->at;

	while (r->at < r->end && is_digit(*r->at))
		r->at++;
	return r->at > start;
}

static bool
check_number(struct reader *r)
{
	if (r->at < r->end && *r->at == '-')
		r->at++;
	if (r->at < r->end && *r->at == '0')
		r->at++;
	else if (!check_digits(r))
		return false;
	if (r->at < r->end && *r->at == '.') {
		r->at++;
		if (!check_digits(r))
			return false;
	}
	if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
		r->at++;
		if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
			r->at++;
		if (!check_digits(r))
			return false;
	}
	return true;
}

static bool
check_word(struct reader *r, const char *word)
{
	size_t len = strlen(word);

	if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
		return false;
	r->at += len;
	return true;
}

static bool
check_scalar(struct reader *r)
{
	switch (*r->at) {
	case '"':
		r->at++;
		return check_string(r);
	case 't':
		return check_word(r, "true");
	case 'f':
		return check_word(r, "false");
	case 'n':
		return check_word(r, "null");
	default:
		return check_number(r);
	}
}

static bool
check_name(struct reader *r)
{
	skip_space(r);
	if (r->at == r->end || *r->at != '"')
		return false;
	r->at++;
	if (!check_string(r))
		return false;
	skip_space(r);
	if (r->at == r->end || *r->at != ':')
		return false;
	r->at++;
	return true;
}

/* The containers that stand open: bit 0 of objects is the innermost's. */
struct nest {
	unsigned int depth;
	uint64_t objects;
};

/* Behind a value: pass commas and closing brackets until another value is
 * due, or all is closed. */
static bool
check_behind(struct reader *r, struct nest *nest)
{
	while (nest->depth > 0) {
		bool object = (nest->objects & 1) != 0;

		skip_space(r);
		if (r->at == r->end)
			return false;
		if (*r->at == ',') {
			r->at++;
			return !object || check_name(r);
		}
		if (*r->at != (object ? '}' : ']'))
			return false;
		r->at++;
		nest->depth--;
		nest->objects >>= 1;
	}
	return true;
}

/* A bracket opens: true with *empty when it closes at once. */
static bool
check_open(struct reader *r, struct nest *nest, bool *empty)
{
	bool object = *r->at == '{';

	*empty = false;
	if (++nest->depth > SLICE_DEPTH_MAX)
		return false;
	nest->objects = nest->objects << 1 | (object ? 1 : 0);
	r->at++;
	skip_space(r);
	if (r->at < r->end && *r->at == (object ? '}' : ']')) {
		r->at++;
		nest->depth--;
		nest->objects >>= 1;
		*empty = true;
		return true;
	}
	return !object || check_name(r);
}

static bool
check_value(struct reader *r)
{
	struct nest nest = { 0, 0 };

	do {
		skip_space(r);
		if (r->at == r->end)
			return false;
		if (*r->at == '{' || *r->at == '[') {
			bool empty;

			if (!check_open(r, &nest, &empty))
				return false;
			if (!empty)
				continue;
		} else if (!check_scalar(r)) {
			return false;
		}
		if (!check_behind(r, &nest))
			return false;
	} while (nest.depth > 0);
	return true;
}

int
slice_check(const char *text, size_t len, struct slice *value)
{
	struct reader r;

	if (text == NULL)
		return KMS_EINVAL;
	r.at = text;
	r.end = text + len;
	skip_space(&r);
	value->text = r.at;
	if (!check_value(&r))
		return KMS_EINVAL;
	value->len = (size_t)(r.at - value->text);
	skip_space(&r);
	return r.at == r.end ? 0 : KMS_EINVAL;
}

/* ---- walking what was checked -------------------------------------------- */

enum slice_kind
slice_kind(struct slice value)
{
	if (value.text == NULL)
		return SLICE_ABSENT;
	switch (value.text[0]) {
	case '{':
		return SLICE_OBJECT;
	case '[':
		return SLICE_ARRAY;
	case '"':
		return SLICE_STRING;
	case 't':
		return SLICE_TRUE;
	case 'f':
		return SLICE_FALSE;
	case 'n':
		return SLICE_NULL;
	default:
		return SLICE_NUMBER;
	}
}

/* Long strings are most of what a peer sends, and are passed over more than
 * once: from quote to quote. One behind an odd number of backslashes does not
 * end it. */
static const char *
past_string(const char *at, const char *end)
{
	const char *start = at + 1, *quote, *p;

	while ((quote = memchr(start, '"', (size_t)(end - start))) != NULL) {
		for (p = quote; p > start && p[-1] == '\\'; p--)
			;
		if ((quote - p) % 2 == 0)
			return quote + 1;
		start = quote + 1;
	}
	return end;
}

static const char *
past_container(const char *at, const char *end)
{
	unsigned int depth = 0;

	while (at < end) {
		if (*at == '"') {
			at = past_string(at, end);
			continue;
		}
		if (*at == '{' || *at == '[')
			depth++;
		if ((*at == '}' || *at == ']') && --depth == 0)
			return at + 1;
		at++;
	}
	return end;
}

static const char *
past_value(const char *at, const char *end)
{
	if (*at == '"')
		return past_string(at, end);
	if (*at == '{' || *at == '[')
		return past_container(at, end);
	while (at < end && !is_space(*at) && *at != ',' && *at != ']' &&
	    *at != '}')
		at++;
	return at;
}

void
slice_walk_begin(struct slice_walk *walk, struct slice container)
{
	enum slice_kind kind = slice_kind(container);

	memset(walk, 0, sizeof(*walk));
	if (kind != SLICE_OBJECT && kind != SLICE_ARRAY)
		return;
	walk->object = kind == SLICE_OBJECT;
	walk->at = container.text + 1;
	walk->end = container.text + container.len - 1;
}

static void
walk_space(struct slice_walk *walk)
{
	while (walk->at < walk->end &&
	    (is_space(*walk->at) || *walk->at == ',' || *walk->at == ':'))
		walk->at++;
}

static struct slice
walk_value(struct slice_walk *walk)
{
	struct slice value = { walk->at, 0 };

	walk->at = past_value(walk->at, walk->end);
	value.len = (size_t)(walk->at - value.text);
	return value;
}

bool
slice_walk_next(
    struct slice_walk *walk, struct slice *name, struct slice *value)
{
	if (walk->at == NULL)
		return false;
	walk_space(walk);
	if (walk->at >= walk->end)
		return false;
	if (walk->object) {
		*name = walk_value(walk);
		walk_space(walk);
	}
	*value = walk_value(walk);
	return true;
}

bool
slice_is(struct slice value, const char *text)
{
	size_t len = strlen(text);

	return slice_kind(value) == SLICE_STRING && value.len == len + 2 &&
	    memcmp(value.text + 1, text, len) == 0;
}

int
slice_member(struct slice object, const char *member, struct slice *value)
{
	struct slice name, found;
	struct slice_walk walk;

	memset(value, 0, sizeof(*value));
	if (slice_kind(object) != SLICE_OBJECT)
		return 0;
	slice_walk_begin(&walk, object);
	while (slice_walk_next(&walk, &name, &found)) {
		if (!slice_is(name, member))
			continue;
		if (value->text != NULL)
			return KMS_EINVAL;
		*value = found;
	}
	return 0;
}

/* ---- numbers ------------------------------------------------------------- */

static int
real_integer(struct slice value, int64_t *out)
{
	char text[NUMBER_MAX + 1];
	double real;

	memcpy(text, value.text, value.len);
	text[value.len] = '\0';
	real = strtod(text, NULL);
	if (isnan(real) || real != trunc(real))
		return KMS_EINVAL;
	if (real > REAL_MAX || real < -REAL_MAX)
		return KMS_ERANGE;
	*out = (int64_t)real;
	return 0;
}

int
slice_integer(struct slice value, int64_t *out)
{
	bool negative;
	int64_t n = 0;
	size_t i;

	if (slice_kind(value) != SLICE_NUMBER)
		return KMS_EINVAL;
	if (value.len > NUMBER_MAX)
		return KMS_ERANGE;
	for (i = 0; i < value.len; i++)
		if (value.text[i] == '.' || value.text[i] == 'e' ||
		    value.text[i] == 'E')
			return real_integer(value, out);
	negative = value.text[0] == '-';
	for (i = negative ? 1 : 0; i < value.len; i++) {
		int digit = value.text[i] - '0';

		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, negative ? -digit : digit, &n))
			return KMS_ERANGE;
	}
	*out = n;
	return 0;
}

int
slice_app_id(struct slice name, uint64_t *app_id)
{
	uint64_t n = 0;

	if (slice_kind(name) != SLICE_STRING || name.len < 3 ||
	    name.len > 2 + 19 || name.text[1] == '0')
		return KMS_EINVAL;
	for (size_t i = 1; i < name.len - 1; i++) {
		if (!is_digit(name.text[i]))
			return KMS_EINVAL;
		n = n * 10 + (uint64_t)(name.text[i] - '0');
	}
	if (n > INT64_MAX)
		return KMS_EINVAL;
	*app_id = n;
	return 0;
}

/* ---- strings ------------------------------------------------------------- */

static unsigned int
hex_unit(const char *p)
{
	unsigned int unit = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i];

		unit = unit << 4 |
		    (unsigned int)(is_digit(c) ? c - '0'
					       : (c | 0x20) - 'a' + 10);
	}
	return unit;
}

static int
append_code(struct buf *out, unsigned int code)
{
	uint8_t utf8[4];
	size_t len;

	if (code < 0x80) {
		utf8[0] = (uint8_t)code;
		len = 1;
	} else if (code < 0x800) {
		utf8[0] = (uint8_t)(0xc0 | code >> 6);
		len = 2;
	} else if (code < 0x10000) {
		utf8[0] = (uint8_t)(0xe0 | code >> 12);
		len = 3;
	} else {
		utf8[0] = (uint8_t)(0xf0 | code >> 18);
		len = 4;
	}
	for (size_t i = 1; i < len; i++)
		utf8[i] = (uint8_t)(0x80 | (code >> 6 * (len - 1 - i) & 0x3f));
	return buf_append(out, utf8, len);
}

/* Behind a backslash. */
static int
append_escape(struct reader *r, struct buf *out)
{
	static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
	unsigned int code, low;
	char c = *r->at++;

	if (c != 'u')
		return buf_append(out, bytes + (strchr(names, c) - names), 1);
	code = hex_unit(r->at);
	r->at += 4;
	if (code >= 0xd800 && code < 0xdc00) {
		if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
			return KMS_EINVAL;
		low = hex_unit(r->at + 2);
		if (low < 0xdc00 || low > 0xdfff)
			return KMS_EINVAL;
		r->at += 6;
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	if (code == 0 || (code >= 0xd800 && code <= 0xdfff))
		return KMS_EINVAL;
	return append_code(out, code);
}

/* Bytes of the well-formed UTF-8 sequence at p (RFC 3629); 0: there is none. */
static size_t
utf8_sequence(const unsigned char *p, size_t left)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return p[0] != 0 ? 1 : 0;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < len)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	if (p[0] == 0xed)
		high = 0x9f;
	if (p[0] == 0xf0)
		low = 0x90;
	if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* Has one of the eight bytes this value? */
static bool
has_byte(uint64_t eight, uint8_t byte)
{
	uint64_t ones = UINT64_C(0x0101010101010101), x = eight ^ ones * byte;

	return ((x - ones) & ~x & ones << 7) != 0;
}

/* Step over ASCII without NUL or backslash, eight bytes at a time. */
static void
pass_plain(struct reader *r)
{
	uint64_t eight;

	for (; r->end - r->at >= 8; r->at += 8) {
		memcpy(&eight, r->at, sizeof(eight));
		if ((eight & UINT64_C(0x8080808080808080)) != 0 ||
		    has_byte(eight, 0) || has_byte(eight, '\\'))
			return;
	}
}

/* Append what stands up to the next escape. */
static int
append_run(struct reader *r, struct buf *out)
{
	const char *start = r->at;

	pass_plain(r);
	while (r->at < r->end && *r->at != '\\') {
		size_t n = utf8_sequence(
		    (const unsigned char *)r->at, (size_t)(r->end - r->at));

		if (n == 0)
			return KMS_EINVAL;
		r->at += n;
	}
	return buf_append(out, start, (size_t)(r->at - start));
}

int
slice_string(struct slice value, struct buf *out)
{
	struct reader r;
	int error = 0;

	if (slice_kind(value) != SLICE_STRING)
		return KMS_EINVAL;
	r.at = value.text + 1;
	r.end = value.text + value.len - 1;
	while (error == 0 && r.at < r.end) {
		if (*r.at == '\\') {
			r.at++;
			error = append_escape(&r, out);
		} else {
			error = append_run(&r, out);
		}
	}
	return error;
}

static bool
is_plain(char c)
{
	return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

int
slice_write_string(struct buf *out, const char *text, size_t len)
{
	size_t start = 0;
	int error = buf_append(out, "\"", 1);

	for (size_t i = 0; i < len && error == 0; i++) {
		if (is_plain(text[i]))
			continue;
		error = buf_append(out, text + start, i - start);
		if (error == 0)
			error = buf_printf(out, "\\u%04x",
			    (unsigned int)(unsigned char)text[i]);
		start = i + 1;
	}
	if (error == 0)
		error = buf_append(out, text + start, len - start);
	if (error == 0)
		error = buf_append(out, "\"", 1);
	return error;
}

size_t
slice_string_length(const char *text, size_t len)
{
	size_t length = 2 + len;

	for (size_t i = 0; i < len; i++)
		if (!is_plain(text[i]))
			length += 5;
	return length;
}
