#include "proto/config.h"

#include <string.h>

#include "common/err.h"

static int
parse_u64(const char *text, size_t len, uint64_t *out)
{
	uint64_t value = 0;

	if (len == 0 || len > 20)
		return KMS_EINVAL;
	for (size_t i = 0; i < len; i++) {
		unsigned int digit = (unsigned int)(text[i] - '0');

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return KMS_EINVAL;
		value = value * 10 + digit;
	}
	*out = value;
	return 0;
}

static int
copy_text(const char *text, size_t len, char *out, size_t size)
{
	if (len >= size)
		return KMS_ETOOBIG;
	memcpy(out, text, len);
	out[len] = '\0';
	return 0;
}

static int
apply(const struct config_row *row, void *member, const char *value, size_t len)
{
	struct config_list *list;
	int *flag;

	switch (row->kind) {
	case CONFIG_U64:
		return parse_u64(value, len, member);
	case CONFIG_TEXT:
		return copy_text(value, len, member, row->size);
	case CONFIG_BOOL:
		flag = member;
		*flag = len == 3 && memcmp(value, "yes", 3) == 0;
		if (*flag || (len == 2 && memcmp(value, "no", 2) == 0))
			return 0;
		return KMS_EINVAL;
	case CONFIG_LIST:
		list = member;
		if (list->count == CONFIG_LIST_MAX)
			return KMS_ETOOBIG;
		return copy_text(
		    value, len, list->text[list->count++], CONFIG_LIST_TEXT);
	}
	return KMS_EINVAL;
}

int
config_apply(const struct config_row *rows, size_t count, void *base,
    const char *name, size_t name_len, const char *value, size_t value_len)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(rows[i].name) == name_len &&
		    memcmp(rows[i].name, name, name_len) == 0)
			return apply(&rows[i], (char *)base + rows[i].offset,
			    value, value_len);
	}
	return KMS_ENOENT;
}
