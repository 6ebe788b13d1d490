#include "common/json_strings.h"

#include <stdbool.h>
#include <string.h>

#include "common/err.h"

enum state {
	BEFORE_OBJECT,
	BEFORE_FIRST_NAME, /* or the end of an empty object */
	BEFORE_NAME,
	IN_NAME,
	BEFORE_COLON,
	BEFORE_VALUE,
	IN_VALUE,
	BEHIND_VALUE,
	BEHIND_OBJECT,
	REFUSED
};

static const char no_object[] = "envelope: expected a JSON object";
static const char no_name[] = "envelope: expected a member's name";
static const char no_colon[] = "envelope: expected a colon";
static const char no_end[] = "envelope: expected the end of the object";
static const char no_quote[] = "envelope: expected the end of a string";

const struct json_strings_shape json_strings_envelope_shape = {
	.unknown = "envelope: expected no member but sender_tee_pubkey, nonce "
		   "and encrypted_data",
	.count = 3,
	.members = {
		[ENVELOPE_SENDER] = JSON_STRINGS_MEMBER(
		    "sender_tee_pubkey", ENVELOPE_SENDER_MAX),
		[ENVELOPE_NONCE] =
		    JSON_STRINGS_MEMBER("nonce", ENVELOPE_NONCE_MAX),
		[ENVELOPE_DATA] = JSON_STRINGS_MEMBER("encrypted_data", SIZE_MAX),
	},
};

void
json_strings_init(
    struct json_strings *strings, const struct json_strings_shape *shape)
{
	memset(strings, 0, sizeof(*strings));
	strings->shape = shape;
}

static int
refuse(struct json_strings *s, const char *reason)
{
	s->state = REFUSED;
	s->reason = reason;
	return KMS_EINVAL;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* How many bytes of text belong to the string that is being read. */
static size_t
string_run(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && text[n] >= 0x20 && text[n] <= 0x7e &&
	    text[n] != '"' && text[n] != '\\')
		n++;
	return n;
}

/* Behind a run stands something else than the closing quote. */
static int
refuse_in_string(struct json_strings *s, char c)
{
	return refuse(s,
	    c == '\\' ? "envelope: expected strings without escapes"
		      : "envelope: expected strings of visible ASCII");
}

static int
name_ends(struct json_strings *s)
{
	const struct json_strings_shape *shape = s->shape;

	for (size_t i = 0; i < shape->count; i++) {
		const char *name = shape->members[i].name;

		if (strlen(name) != s->name_len ||
		    memcmp(name, s->name, s->name_len) != 0)
			continue;
		if (s->start[i] != 0)
			return refuse(s, shape->members[i].repeated);
		s->member = (uint8_t)i;
		s->state = BEFORE_COLON;
		return 0;
	}
	return refuse(s, shape->unknown);
}

/* Take what belongs to a name; *used counts it. */
static int
feed_name(struct json_strings *s, const char *text, size_t len, size_t *used)
{
	size_t run = string_run(text, len);

	*used = run;
	if (s->name_len + run > JSON_STRINGS_NAME_MAX)
		return refuse(s, s->shape->unknown);
	memcpy(s->name + s->name_len, text, run);
	s->name_len = (uint8_t)(s->name_len + run);
	if (run == len)
		return 0;
	if (text[run] != '"')
		return refuse_in_string(s, text[run]);
	++*used;
	return name_ends(s);
}

static int
feed_value(struct json_strings *s, const char *text, size_t len,
    json_strings_fn take, void *arg, size_t *used)
{
	const struct json_strings_member *member =
	    &s->shape->members[s->member];
	size_t run = string_run(text, len);
	int error = 0;

	*used = run;
	s->length[s->member] += run;
	if (s->length[s->member] > member->max)
		return refuse(s, member->overlong);
	if (take != NULL && run > 0)
		error = take(arg, s->member, text, run);
	if (error != 0)
		return error;
	if (run == len)
		return 0;
	if (text[run] != '"')
		return refuse_in_string(s, text[run]);
	++*used;
	s->state = BEHIND_VALUE;
	return 0;
}

/* One character outside of strings that is no white space. */
static int
feed_mark(struct json_strings *s, char c)
{
	switch ((enum state)s->state) {
	case BEFORE_OBJECT:
		s->state = BEFORE_FIRST_NAME;
		return c == '{' ? 0 : refuse(s, no_object);
	case BEFORE_FIRST_NAME:
	case BEFORE_NAME:
		if (c == '}' && s->state == BEFORE_FIRST_NAME) {
			s->state = BEHIND_OBJECT;
			return 0;
		}
		s->state = IN_NAME;
		s->name_len = 0;
		return c == '"' ? 0 : refuse(s, no_name);
	case BEFORE_COLON:
		s->state = BEFORE_VALUE;
		return c == ':' ? 0 : refuse(s, no_colon);
	case BEFORE_VALUE:
		s->state = IN_VALUE;
		s->start[s->member] = s->at + 1;
		return c == '"' ? 0
				: refuse(s, s->shape->members[s->member].kind);
	case BEHIND_VALUE:
		s->state = c == ',' ? BEFORE_NAME : BEHIND_OBJECT;
		return c == ',' || c == '}' ? 0 : refuse(s, no_end);
	default:
		return refuse(
		    s, "envelope: expected nothing behind the object");
	}
}

int
json_strings_feed(struct json_strings *s, const char *text, size_t len,
    json_strings_fn take, void *arg)
{
	const char *end = text + len;

	while (text < end) {
		size_t left = (size_t)(end - text), used = 1;
		int error = 0;

		if (s->state == REFUSED)
			return KMS_EINVAL;
		if (s->state == IN_VALUE)
			error = feed_value(s, text, left, take, arg, &used);
		else if (s->state == IN_NAME)
			error = feed_name(s, text, left, &used);
		else if (!is_space(*text))
			error = feed_mark(s, *text);
		if (error != 0)
			return error;
		s->at += used;
		text += used;
	}
	return s->state == REFUSED ? KMS_EINVAL : 0;
}

int
json_strings_end(struct json_strings *s)
{
	switch ((enum state)s->state) {
	case BEFORE_OBJECT:
		return refuse(s, no_object);
	case BEFORE_FIRST_NAME:
	case BEFORE_NAME:
		return refuse(s, no_name);
	case IN_NAME:
	case IN_VALUE:
		return refuse(s, no_quote);
	case BEFORE_COLON:
		return refuse(s, no_colon);
	case BEFORE_VALUE:
		return refuse(s, s->shape->members[s->member].kind);
	case BEHIND_VALUE:
		return refuse(s, no_end);
	case BEHIND_OBJECT:
		break;
	case REFUSED:
		return KMS_EINVAL;
	}
	for (size_t i = 0; i < s->shape->count; i++) {
		if (s->start[i] == 0)
			return refuse(s, s->shape->members[i].missing);
	}
	return 0;
}

static struct http_slice
slice_of(const struct json_strings *s, const char *text, size_t member)
{
	return (struct http_slice){ text + s->start[member],
		(size_t)s->length[member] };
}

int
json_strings_envelope(const uint8_t *bytes, size_t len,
    struct json_envelope *envelope, const char **reason)
{
	const char *text = (const char *)bytes;
	struct json_strings s;
	int error;

	json_strings_init(&s, &json_strings_envelope_shape);
	error = json_strings_feed(&s, text, len, NULL, NULL);
	if (error == 0)
		error = json_strings_end(&s);
	*reason = s.reason;
	if (error != 0)
		return error;
	envelope->sender = slice_of(&s, text, ENVELOPE_SENDER);
	envelope->nonce = slice_of(&s, text, ENVELOPE_NONCE);
	envelope->data = slice_of(&s, text, ENVELOPE_DATA);
	return 0;
}
