#include "kms-keeper/target.h"

#include <string.h>

#include "common/err.h"

#define LIMIT_DIGITS_MAX 9

struct span {
	const char *text;
	size_t len;
};

static bool
span_is(struct span span, const char *text)
{
	return span.len == strlen(text) &&
	    memcmp(span.text, text, span.len) == 0;
}

const char *
key_check(const char *key, size_t len)
{
	const uint8_t *bytes = (const uint8_t *)key;

	if (len == 0)
		return "key: expected 1 to 1024 bytes, got none";
	if (len > KEY_MAX)
		return "key: expected 1 to 1024 bytes, got more";
	if (!msg_text_valid(bytes, len))
		return "key: expected UTF-8";
	for (size_t i = 0; i < len; i++) {
		bool c1 =
		    bytes[i] == 0xc2 && i + 1 < len && bytes[i + 1] < 0xa0;

		if (bytes[i] < 0x20 || bytes[i] == 0x7f || c1)
			return "key: expected no control characters";
	}
	return NULL;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent-decode once; '+' is a space in a query and itself in a path. */
static const char *
decode(struct span from, bool query, struct target_text *out)
{
	out->given = true;
	out->len = 0;
	for (size_t i = 0; i < from.len; i++) {
		char c = from.text[i];

		if (c == '%') {
			int high = -1, low = -1;

			if (from.len - i > 2) {
				high = hex_digit(from.text[i + 1]);
				low = hex_digit(from.text[i + 2]);
			}
			if (high < 0 || low < 0)
				return "target: expected two hex digits "
				       "after %";
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && query) {
			c = ' ';
		}
		if (out->len == sizeof(out->text))
			return "target: expected at most 1024 bytes in a "
			       "parameter";
		out->text[out->len++] = c;
	}
	return NULL;
}

/* A prefix or a place in the list: what a key may be, or empty. */
static const char *
check_part(const struct target_text *part)
{
	if (part->len == 0)
		return NULL;
	return key_check(part->text, part->len) == NULL
	    ? NULL
	    : "prefix, after: expected UTF-8 without control characters";
}

static const char *
parse_limit(struct span value, uint64_t *limit)
{
	*limit = 0;
	for (size_t i = 0; i < value.len && i < LIMIT_DIGITS_MAX; i++) {
		unsigned int digit = (unsigned int)(value.text[i] - '0');

		if (digit > 9)
			return "limit: expected a number from 1 to 999999999";
		*limit = *limit * 10 + digit;
	}
	if (*limit == 0 || value.len > LIMIT_DIGITS_MAX)
		return "limit: expected a number from 1 to 999999999";
	return NULL;
}

static const char *
take_parameter(struct target *target, struct span name, struct span value)
{
	struct target_text *text = NULL;
	const char *wrong;

	if (span_is(name, "limit")) {
		if (target->limit != 0)
			return "limit: given twice";
		return parse_limit(value, &target->limit);
	}
	if (span_is(name, "key"))
		text = &target->key;
	else if (span_is(name, "prefix"))
		text = &target->prefix;
	else if (span_is(name, "after"))
		text = &target->after;
	if (text == NULL)
		return "query: expected key, prefix, limit or after";
	if (text->given)
		return "query: a parameter is given twice";
	wrong = decode(value, true, text);
	if (wrong == NULL && text != &target->key)
		wrong = check_part(text);
	return wrong;
}

static const char *
parse_query(struct target *target, struct span query)
{
	while (query.len > 0) {
		const char *amp = memchr(query.text, '&', query.len);
		size_t len =
		    amp != NULL ? (size_t)(amp - query.text) : query.len;
		const char *equals = memchr(query.text, '=', len);
		struct span name = { query.text, len }, value = { "", 0 };
		const char *wrong;

		if (equals == NULL)
			return "query: expected name=value";
		name.len = (size_t)(equals - query.text);
		value.text = equals + 1;
		value.len = len - name.len - 1;
		wrong = take_parameter(target, name, value);
		if (wrong != NULL)
			return wrong;
		if (amp == NULL)
			break;
		query.text += len + 1;
		query.len -= len + 1;
		if (query.len == 0)
			return "query: expected name=value behind &";
	}
	return NULL;
}

static unsigned int
refuse(unsigned int status, const char *text, const char **message)
{
	*message = text;
	return status;
}

static unsigned int
parse_data(enum kms_method method, struct span path, struct span query,
    struct target *target, const char **message)
{
	struct span key = { path.text + strlen("/kms/data"),
		path.len - strlen("/kms/data") };
	bool other;

	*message = parse_query(target, query);
	if (*message == NULL && key.len > 0) {
		if (method != METHOD_GET)
			return refuse(
			    405, "a key in the path goes with GET", message);
		if (target->key.given)
			return refuse(400,
			    "key: given in the path and in the query", message);
		key.text++;
		key.len--;
		*message = decode(key, false, &target->key);
	}
	if (*message == NULL && target->key.given)
		*message = key_check(target->key.text, target->key.len);
	if (*message != NULL)
		return 400;
	other =
	    target->prefix.given || target->after.given || target->limit != 0;
	if (method == METHOD_GET && target->key.given && other)
		return refuse(400,
		    "query: prefix, limit and after go with the list of keys",
		    message);
	if (method != METHOD_GET && (other || target->key.given))
		return refuse(
		    400, "query: expected none with this method", message);
	switch (method) {
	case METHOD_GET:
		target->operation =
		    target->key.given ? OPERATION_GET : OPERATION_LIST;
		return 0;
	case METHOD_PUT:
		target->operation = OPERATION_PUT;
		return 0;
	case METHOD_DELETE:
		target->operation = OPERATION_DELETE;
		return 0;
	case METHOD_POST:
		break;
	}
	return refuse(405, "expected GET, PUT or DELETE", message);
}

unsigned int
target_parse(enum kms_method method, const char *text, size_t len,
    struct target *target, const char **message)
{
	struct span path = { text, len }, query = { "", 0 };
	const char *mark = memchr(text, '?', len);
	static const char data[] = "/kms/data";

	memset(target, 0, sizeof(*target));
	*message = NULL;
	if (mark != NULL) {
		path.len = (size_t)(mark - text);
		query.text = mark + 1;
		query.len = len - path.len - 1;
	}
	if (span_is(path, "/kms/derive")) {
		if (method != METHOD_POST)
			return refuse(405, "expected POST", message);
		if (query.len > 0)
			return refuse(400, "query: expected none", message);
		target->operation = OPERATION_DERIVE;
		return 0;
	}
	if (path.len >= sizeof(data) - 1 &&
	    memcmp(path.text, data, sizeof(data) - 1) == 0 &&
	    (path.len == sizeof(data) - 1 ||
		path.text[sizeof(data) - 1] == '/'))
		return parse_data(method, path, query, target, message);
	return refuse(404, "no such route", message);
}
