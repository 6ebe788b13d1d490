#include "common/hex.h"

#include <endian.h>
#include <string.h>

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

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Four bytes as eight digits. */
static void
encode_four(const uint8_t data[4], char *out)
{
	uint64_t word, digits;
	uint32_t bytes;

	memcpy(&bytes, data, sizeof(bytes));
	word = le32toh(bytes);
	word = (word | word << 16) & UINT64_C(0x0000ffff0000ffff);
	word = (word | word << 8) & UINT64_C(0x00ff00ff00ff00ff);
	digits = (word >> 4 | word << 8) & EACH(0x0f);
	/* 10 to 15 are those that 6 more make 16 or more. */
	digits +=
	    EACH('0') + ((digits + EACH(6)) >> 4 & EACH(1)) * ('a' - '0' - 10);
	digits = htole64(digits);
	memcpy(out, &digits, sizeof(digits));
}

void
hex_encode(const uint8_t *data, size_t len, char *out)
{
	size_t i = 0;

	for (; len - i >= 4; i += 4)
		encode_four(data + i, out + 2 * i);
	for (; i < len; i++) {
		out[2 * i] = nibble_to_digit(data[i] >> 4);
		out[2 * i + 1] = nibble_to_digit(data[i] & 15U);
	}
	out[2 * len] = '\0';
}

/* The high bit of each byte (all below 0x80) that is at least n. */
static uint64_t
each_from(uint64_t word, unsigned int n)
{
	return ((word | EACH(0x80)) - EACH(n)) & EACH(0x80);
}

/* Eight digits as four bytes; *bad as above. */
static void
decode_eight(const char *text, uint8_t out[4], unsigned int *bad)
{
	uint64_t word, lower, digits;
	uint32_t bytes;

	memcpy(&word, text, sizeof(word));
	word = le64toh(word);
	*bad |= (word & EACH(0x80)) != 0;
	word &= EACH(0x7f);
	lower = word | EACH(0x20);
	digits = (each_from(word, '0') & ~each_from(word, '9' + 1)) |
	    (each_from(lower, 'a') & ~each_from(lower, 'f' + 1));
	*bad |= digits != EACH(0x80);
	/* '1' is 0x31, 'a' is 0x61: a letter is worth 9 more. */
	word = (word & EACH(0x0f)) + 9 * (word >> 6 & EACH(0x01));
	word = (word << 4 | word >> 8) & UINT64_C(0x00ff00ff00ff00ff);
	word = (word | word >> 8) & UINT64_C(0x0000ffff0000ffff);
	bytes = htole32((uint32_t)(word | word >> 16));
	memcpy(out, &bytes, sizeof(bytes));
}

int
hex_decode(const char *text, size_t text_len, uint8_t *out, size_t out_size,
    size_t *out_len)
{
	unsigned int bad = 0;
	size_t i = 0;

	if (text_len >= 2 && text[0] == '0' &&
	    (text[1] == 'x' || text[1] == 'X')) {
		text += 2;
		text_len -= 2;
	}
	if (text_len % 2 != 0)
		return KMS_EINVAL;
	if (text_len / 2 > out_size)
		return KMS_ETOOBIG;
	/* Decoding in place is allowed: what is read is read before. */
	for (; text_len / 2 - i >= 4; i += 4)
		decode_eight(text + 2 * i, out + i, &bad);
	for (; i < text_len / 2; i++) {
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
