#include "kms-net/json_out.h"

#include <string.h>

static int
escape(struct buf *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	char text[6] = { '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] };

	if (c == '"' || c == '\\') {
		text[1] = (char)c;
		return buf_append(out, text, 2);
	}
	return buf_append(out, text, sizeof(text));
}

int
json_out_string(struct buf *out, const char *text, size_t len)
{
	size_t plain = 0;
	int error = buf_append(out, "\"", 1);

	for (size_t i = 0; i < len && error == 0; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		error = buf_append(out, text + plain, i - plain);
		if (error == 0)
			error = escape(out, c);
		plain = i + 1;
	}
	if (error == 0)
		error = buf_append(out, text + plain, len - plain);
	return error != 0 ? error : buf_append(out, "\"", 1);
}

int
json_out_text(struct buf *out, const char *text)
{
	return json_out_string(out, text, strlen(text));
}

int
json_out_text_or_null(struct buf *out, const char *text)
{
	return *text != '\0' ? json_out_text(out, text)
			     : buf_append_text(out, "null");
}

int
json_out_bool(struct buf *out, bool value)
{
	return buf_append_text(out, value ? "true" : "false");
}
