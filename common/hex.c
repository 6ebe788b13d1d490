#include "common/hex.h"

#include "common/err.h"

/* '0'..'9' or 'a'..'f' for 0..15, without a table look-up or a branch. */
static char
nibble_to_digit(unsigned int n)
{
	return (char)(n + '0' + ((9U - n) >> 8 & ('a' - '0' - 10U)));
}

static int
digit_to_nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

void
hex_encode(const uint8_t *data, size_t len, char *out)
{
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = nibble_to_digit(data[i] >> 4);
		out[2 * i + 1] = nibble_to_digit(data[i] & 15U);
	}
	out[2 * len] = '\0';
}

int
hex_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size,
    size_t *out_len)
{
	if (text_len >= 2 && text[0] == '0' &&
	    (text[1] == 'x' || text[1] == 'X')) {
		text += 2;
		text_len -= 2;
	}
	if (text_len % 2 != 0)
		return KMS_EINVAL;
	if (text_len / 2 > out_size)
		return KMS_ETOOBIG;
	for (size_t i = 0; i < text_len / 2; i++) {
		int high = digit_to_nibble(text[2 * i]);
		int low = digit_to_nibble(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return KMS_EINVAL;
		out[i] = (uint8_t)(high << 4 | low);
	}
	*out_len = text_len / 2;
	return 0;
}

int
hex_decode_exact(
    const char *text, size_t text_len, uint8_t *out, size_t out_len)
{
	size_t got;
	int error = hex_decode(text, text_len, out, out_len, &got);

	if (error == KMS_ETOOBIG)
		return KMS_EINVAL;
	if (error != 0)
		return error;
	return got == out_len ? 0 : KMS_EINVAL;
}
