#include "kmsctl/cmd.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/err.h"
#include "common/hex.h"

/* Digits at *text, which is moved behind them. */
static int
digits_take(const char **text, uint64_t max, uint64_t *value)
{
	const char *p = *text;
	uint64_t n = 0, digit;

	for (; *p >= '0' && *p <= '9'; p++) {
		digit = (uint64_t)(*p - '0');
		if (digit > max || n > (max - digit) / 10)
			return KMS_EINVAL;
		n = n * 10 + digit;
	}
	if (p == *text)
		return KMS_EINVAL;
	*text = p;
	*value = n;
	return 0;
}

int
cmd_number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	uint64_t n;

	if (digits_take(&text, max, &n) != 0 || *text != '\0' || n < min)
		return KMS_EINVAL;
	*value = n;
	return 0;
}

int
cmd_duration_parse(const char *text, int64_t *ms)
{
	static const struct {
		const char *unit;
		uint64_t factor;
	} rows[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 },
		{ "h", 3600000 }, { "d", 86400000 } };
	uint64_t value;
	size_t i;

	if (digits_take(&text, (uint64_t)KMS_CLIENT_TTL_MAX, &value) != 0)
		return KMS_EINVAL;
	if (*text == '\0' && value == 0) {
		*ms = 0;
		return 0;
	}
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(text, rows[i].unit) != 0)
			continue;
		if (value > (uint64_t)KMS_CLIENT_TTL_MAX / rows[i].factor)
			return KMS_EINVAL;
		*ms = (int64_t)(value * rows[i].factor);
		return 0;
	}
	return KMS_EINVAL;
}

int
cmd_is_text(const uint8_t *data, size_t len)
{
	json_t *json;
	size_t i;

	for (i = 0; i < len; i++) {
		if ((data[i] < 0x20 && data[i] != '\t' && data[i] != '\n') ||
		    data[i] == 0x7f)
			return 0;
		/* U+0080..U+009F, which terminals obey */
		if (data[i] == 0xc2 && i + 1 < len && data[i + 1] < 0xa0)
			return 0;
	}
	json = json_stringn(data != NULL ? (const char *)data : "", len);
	if (json == NULL)
		return 0;
	json_decref(json);
	return 1;
}

enum cmd_form
cmd_form(int option)
{
	switch (option) {
	case 'x':
		return CMD_FORM_HEX;
	case 'b':
		return CMD_FORM_BASE64;
	case 'r':
		return CMD_FORM_RAW;
	default:
		return CMD_FORM_NONE;
	}
}

char *
cmd_text(const uint8_t *data, size_t len, enum cmd_form form)
{
	char *text;

	text = malloc(form == CMD_FORM_HEX ? 2 * len + 1 : BASE64_LEN(len) + 1);
	if (text == NULL)
		return NULL;
	if (form == CMD_FORM_HEX)
		hex_encode(data, len, text);
	else
		base64_encode(data, len, text);
	return text;
}

void
cmd_text_free(char *text)
{
	if (text != NULL)
		OPENSSL_cleanse(text, strlen(text));
	free(text);
}
