#include "kms-keeper/app_body.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/json_guard.h"
#include "kms-keeper/derive.h"

/* Flat objects of at most five members and one level. */
#define BODY_TOKENS_MAX 64
#define BODY_DEPTH_MAX 2
#define NUMBER_MAX (INT64_C(1) << 53)

int
app_refuse(
    struct app_answer *answer, unsigned int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(answer->message, sizeof(answer->message), format, args);
	va_end(args);
	answer->status = status;
	return KMS_EINVAL;
}

enum member_kind { MEMBER_TEXT, MEMBER_NUMBER };

struct member_rule {
	enum operation operation;
	const char *name;
	enum member_kind kind;
	bool required;
	size_t offset;	   /* in struct app_body */
	size_t has_offset; /* MEMBER_NUMBER: of its flag */
	int64_t min, max;  /* MEMBER_NUMBER; MEMBER_TEXT: bytes up to max */
};

#define TEXT_RULE(operation, name, required, max)                              \
	{                                                                      \
		operation, #name, MEMBER_TEXT, required,                       \
		    offsetof(struct app_body, name), 0, 0, max                 \
	}
#define NUMBER_RULE(operation, name, min, max)                                 \
	{                                                                      \
		operation, #name, MEMBER_NUMBER, false,                        \
		    offsetof(struct app_body, name),                           \
		    offsetof(struct app_body, has_##name), min, max            \
	}
#define has_ttl_ms has_ttl

static const struct member_rule rules[] = {
	TEXT_RULE(OPERATION_DERIVE, path, true, DERIVE_TEXT_MAX),
	TEXT_RULE(OPERATION_DERIVE, context, false, DERIVE_TEXT_MAX),
	NUMBER_RULE(OPERATION_DERIVE, length, 1, DERIVE_LEN_MAX),
	TEXT_RULE(OPERATION_PUT, key, true, INT64_MAX),
	TEXT_RULE(OPERATION_PUT, value, true, INT64_MAX),
	NUMBER_RULE(OPERATION_PUT, ttl_ms, 0, NUMBER_MAX),
	NUMBER_RULE(OPERATION_PUT, min_replicas, 0, NUMBER_MAX),
	TEXT_RULE(OPERATION_DELETE, key, true, INT64_MAX),
	NUMBER_RULE(OPERATION_DELETE, min_replicas, 0, NUMBER_MAX),
};

#define RULE_COUNT (sizeof(rules) / sizeof(rules[0]))

static const struct member_rule *
rule_of(enum operation operation, const char *name)
{
	for (size_t i = 0; i < RULE_COUNT; i++) {
		if (rules[i].operation == operation &&
		    strcmp(rules[i].name, name) == 0)
			return &rules[i];
	}
	return NULL;
}

/* Decimal digits alone, as deployed callers send a length in a string. */
static bool
decimal(const json_t *value, int64_t *number)
{
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);

	*number = 0;
	if (len == 0 || len > 15)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		*number = *number * 10 + (text[i] - '0');
	}
	return true;
}

static bool
number_of(const struct member_rule *rule, const json_t *value, bool bound,
    int64_t *number)
{
	double real;

	if (json_is_integer(value)) {
		*number = json_integer_value(value);
		return true;
	}
	if (json_is_real(value)) {
		real = json_real_value(value);
		/* 2^53 and below are exact in a double. */
		if (real != floor(real) || fabs(real) > (double)NUMBER_MAX)
			return false;
		*number = (int64_t)real;
		return true;
	}
	if (json_is_string(value) && !bound &&
	    strcmp(rule->name, "length") == 0)
		return decimal(value, number);
	return false;
}

static int
take_member(bool bound, const struct member_rule *rule, const json_t *value,
    struct app_body *body, struct app_answer *answer)
{
	char *base = (char *)body;
	int64_t number;

	if (rule->kind == MEMBER_TEXT) {
		struct text_member *text =
		    (struct text_member *)(void *)(base + rule->offset);

		if (!json_is_string(value))
			return app_refuse(
			    answer, 400, "%s: expected a string", rule->name);
		if ((uint64_t)json_string_length(value) > (uint64_t)rule->max)
			return app_refuse(answer, 400,
			    "%s: expected at most %" PRId64 " bytes",
			    rule->name, rule->max);
		text->text = json_string_value(value);
		text->len = json_string_length(value);
		return 0;
	}
	if (!number_of(rule, value, bound, &number))
		return app_refuse(
		    answer, 400, "%s: expected an integer", rule->name);
	if (number < rule->min || number > rule->max)
		return app_refuse(answer, 400,
		    "%s: expected %" PRId64 " to %" PRId64 ", got %" PRId64,
		    rule->name, rule->min, rule->max, number);
	memcpy(base + rule->offset, &number, sizeof(number));
	*(bool *)(base + rule->has_offset) = true;
	return 0;
}

/* A member's name may be shown only when it needs no escape. */
static bool
plain_name(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++) {
		if (name[i] <= ' ' || name[i] > '~' || name[i] == '"' ||
		    name[i] == '\\')
			return false;
	}
	return len > 0 && len <= 32;
}

static int
read_members(bool bound, enum operation operation, json_t *object,
    struct app_body *body, struct app_answer *answer)
{
	const char *name;
	json_t *value;

	memset(body, 0, sizeof(*body));
	json_object_foreach(object, name, value)
	{
		const struct member_rule *rule = rule_of(operation, name);

		if (rule == NULL)
			return app_refuse(answer, 400, "%s: unknown member",
			    plain_name(name) ? name : "body");
		if (take_member(bound, rule, value, body, answer) != 0)
			return KMS_EINVAL;
	}
	for (size_t i = 0; i < RULE_COUNT; i++) {
		if (rules[i].operation == operation && rules[i].required &&
		    json_object_get(object, rules[i].name) == NULL)
			return app_refuse(
			    answer, 400, "%s: missing member", rules[i].name);
	}
	return 0;
}

static json_t *
parse_body(const uint8_t *body, size_t len, struct app_answer *answer)
{
	size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
	json_error_t where;
	json_t *object;

	if (body == NULL) {
		(void)app_refuse(answer, 400, "body: expected an envelope");
		return NULL;
	}
	if (json_guard((const char *)body, len, BODY_TOKENS_MAX,
		BODY_DEPTH_MAX) != 0) {
		(void)app_refuse(
		    answer, 400, "body: expected a flat JSON object");
		return NULL;
	}
	object = json_loadb((const char *)body, len, flags, &where);
	/* An integer beyond int64 becomes a real, which its member refuses. */
	if (object == NULL &&
	    json_error_code(&where) == json_error_numeric_overflow)
		object = json_loadb((const char *)body, len,
		    flags | JSON_DECODE_INT_AS_REAL, &where);
	if (object != NULL && json_is_object(object))
		return object;
	json_decref(object);
	if (json_error_code(&where) == json_error_duplicate_key)
		(void)app_refuse(answer, 400, "body: a member is repeated");
	else
		(void)app_refuse(
		    answer, 400, "body: expected a JSON object in UTF-8");
	return NULL;
}

int
app_body_parse(enum operation operation, bool bound, const uint8_t *body,
    size_t len, json_t **tree, struct app_body *members,
    struct app_answer *answer)
{
	int error;

	*tree = parse_body(body, len, answer);
	if (*tree == NULL)
		return KMS_EINVAL;
	error = read_members(bound, operation, *tree, members, answer);
	if (error != 0) {
		json_decref(*tree);
		*tree = NULL;
	}
	return error;
}
