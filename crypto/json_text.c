#include "crypto/json_text.h"

#include <stdint.h>
#include <string.h>

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Non-zero when one of eight bytes is below n (1..128). */
static uint64_t
any_below(uint64_t word, unsigned int n)
{
	return (word - EACH(n)) & ~word & EACH(0x80);
}

int
json_text_is_plain(const char *text, size_t len)
{
	uint64_t bad = 0, word;
	size_t i;

	/* Eight at a time: the text can be megabytes of hex. */
	for (i = 0; len - i >= sizeof(word); i += sizeof(word)) {
		memcpy(&word, text + i, sizeof(word));
		bad |= any_below(word, 0x20) | any_below(word ^ EACH('"'), 1) |
		    any_below(word ^ EACH('\\'), 1);
	}
	for (; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		bad |= (uint64_t)(c < 0x20) | (uint64_t)(c == '"') |
		    (uint64_t)(c == '\\');
	}
	return bad == 0;
}
