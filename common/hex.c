#include "common/hex.h"

#include "common/err.h"

/* '0'..'9' or 'a'..'f' for 0..15, without a table look-up or a branch. */
static char
nibble_to_digit(unsigned int n)
{
	return (char)(n + '0' + ((9U - n) >> 8 & ('a' - '0' - 10U)));
}

/*
 * The value of a digit; *bad becomes non-zero for another character. Without
 * branches, which random digits would mispredict, and which secrets forbid.
 */
static unsigned int
digit_to_nibble(char c, unsigned int *bad)
{
	unsigned int byte = (unsigned char)c;
	unsigned int number = byte - '0', letter = (byte | 0x20) - 'a';
	unsigned int is_number = number < 10, is_letter = letter < 6;

	*bad |= (is_number | is_letter) ^ 1U;
	return (number & (0U - is_number)) | ((letter + 10) & (0U - is_letter));
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
	unsigned int bad = 0;

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
		unsigned int high = digit_to_nibble(text[2 * i], &bad);
		unsigned int low = digit_to_nibble(text[2 * i + 1], &bad);

		out[i] = (uint8_t)(high << 4 | low);
	}
	if (bad != 0)
		return KMS_EINVAL;
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
