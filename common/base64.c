#include "common/base64.h"

#include "common/err.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int
digit_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

void
base64_encode(const uint8_t *data, size_t len, char *out)
{
	size_t i = 0;

	for (; i + 3 <= len; i += 3) {
		uint32_t group = (uint32_t)data[i] << 16 |
		    (uint32_t)data[i + 1] << 8 | data[i + 2];

		*out++ = alphabet[group >> 18];
		*out++ = alphabet[group >> 12 & 63];
		*out++ = alphabet[group >> 6 & 63];
		*out++ = alphabet[group & 63];
	}
	if (i < len) {
		uint32_t group = (uint32_t)data[i] << 16;

		if (i + 1 < len)
			group |= (uint32_t)data[i + 1] << 8;
		*out++ = alphabet[group >> 18];
		*out++ = alphabet[group >> 12 & 63];
		*out++ = '=';
		if (i + 1 < len)
			out[-1] = alphabet[group >> 6 & 63];
		*out++ = '=';
	}
	*out = '\0';
}

/* The last group: one or two '=' and unused bits that must be zero. */
static int
decode_tail(const char *text, uint8_t *out, size_t out_size, size_t *out_len)
{
	size_t count = text[3] != '=' ? 3 : text[2] != '=' ? 2 : 1;
	uint32_t group = 0;

	for (size_t i = 0; i <= count; i++) {
		int value = digit_value(text[i]);

		if (value < 0)
			return KMS_EINVAL;
		group |= (uint32_t)value << (18 - 6 * i);
	}
	if ((count == 1 && (group & 0xffff) != 0) ||
	    (count == 2 && (group & 0xff) != 0))
		return KMS_EINVAL;
	if (out_size < count)
		return KMS_ETOOBIG;
	for (size_t i = 0; i < count; i++)
		out[i] = (uint8_t)(group >> (16 - 8 * i));
	*out_len += count;
	return 0;
}

int
base64_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size,
    size_t *out_len)
{
	if (text_len % 4 != 0)
		return KMS_EINVAL;
	*out_len = 0;
	for (; text_len > 4; text += 4, text_len -= 4) {
		int a = digit_value(text[0]), b = digit_value(text[1]);
		int c = digit_value(text[2]), d = digit_value(text[3]);

		if ((a | b | c | d) < 0)
			return KMS_EINVAL;
		if (out_size - *out_len < 3)
			return KMS_ETOOBIG;
		out[(*out_len)++] = (uint8_t)(a << 2 | b >> 4);
		out[(*out_len)++] = (uint8_t)((b & 15) << 4 | c >> 2);
		out[(*out_len)++] = (uint8_t)((c & 3) << 6 | d);
	}
	if (text_len == 0)
		return 0;
	return decode_tail(text, out + *out_len, out_size - *out_len, out_len);
}
