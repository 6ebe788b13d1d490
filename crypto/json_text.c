#include "crypto/json_text.h"

int
json_text_is_plain(const char *text, size_t len)
{
	unsigned int bad = 0;

	/* Without a branch per byte: the text can be megabytes of hex. */
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		bad |= (unsigned int)(c < 0x20) | (unsigned int)(c == '"') |
		    (unsigned int)(c == '\\');
	}
	return bad == 0;
}
