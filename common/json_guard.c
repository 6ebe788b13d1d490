#include "common/json_guard.h"

#include "common/err.h"

/* The index behind the string that opens at text[i]; 0 when it never ends. */
static size_t
skip_string(const char *text, size_t len, size_t i)
{
	for (i++; i < len; i++) {
		if (text[i] == '\0')
			return 0;
		if (text[i] == '"')
			return i + 1;
		if (text[i] == '\\')
			i++;
	}
	return 0;
}

static int
is_delimiter(char c)
{
	switch (c) {
	case ' ':
	case '\t':
	case '\r':
	case '\n':
	case ',':
	case ':':
	case '"':
	case '[':
	case ']':
	case '{':
	case '}':
	case '\0':
		return 1;
	default:
		return 0;
	}
}

static size_t
skip_scalar(const char *text, size_t len, size_t i)
{
	while (i < len && !is_delimiter(text[i]))
		i++;
	return i;
}

int
json_guard(const char *text, size_t len, size_t max_tokens, size_t max_depth)
{
	size_t tokens = 0, depth = 0, i = 0;

	while (i < len) {
		size_t token = 1;

		switch (text[i]) {
		case '"':
			i = skip_string(text, len, i);
			if (i == 0)
				return KMS_EINVAL;
			break;
		case '[':
		case '{':
			if (++depth > max_depth)
				return KMS_ETOOBIG;
			i++;
			break;
		case ']':
		case '}':
			if (depth-- == 0)
				return KMS_EINVAL;
			token = 0;
			i++;
			break;
		case '\0':
			return KMS_EINVAL;
		default:
			token = !is_delimiter(text[i]);
			i = token ? skip_scalar(text, len, i) : i + 1;
			break;
		}
		tokens += token;
		if (tokens > max_tokens)
			return KMS_ETOOBIG;
	}
	return depth == 0 ? 0 : KMS_EINVAL;
}
