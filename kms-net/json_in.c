#include "kms-net/json_in.h"

#include <stdbool.h>
#include <string.h>

#include "common/err.h"

struct scan {
	const char *p;
	const char *end;
	const char *reason;
};

static int
refuse(struct scan *scan, const char *reason)
{
	scan->reason = reason;
	return KMS_EINVAL;
}

static void
skip_space(struct scan *scan)
{
	while (scan->p < scan->end &&
	    (*scan->p == ' ' || *scan->p == '\t' || *scan->p == '\n' ||
		*scan->p == '\r'))
		scan->p++;
}

/* Skip white space, then take the character if it stands there. */
static bool
take(struct scan *scan, char c)
{
	skip_space(scan);
	if (scan->p == scan->end || *scan->p != c)
		return false;
	scan->p++;
	return true;
}

/* What stands behind an opening quote, and the closing one. */
static int
take_string(struct scan *scan, struct http_slice *string)
{
	const char *start = scan->p;

	while (scan->p < scan->end && *scan->p != '"') {
		unsigned char c = (unsigned char)*scan->p;

		if (c == '\\')
			return refuse(
			    scan, "envelope: expected strings without escapes");
		if (c < 0x20 || c > 0x7e)
			return refuse(scan,
			    "envelope: expected strings of visible ASCII");
		scan->p++;
	}
	if (scan->p == scan->end)
		return refuse(scan, "envelope: expected the end of a string");
	*string = (struct http_slice){ start, (size_t)(scan->p - start) };
	scan->p++;
	return 0;
}

enum { MEMBER_SENDER, MEMBER_NONCE, MEMBER_DATA, MEMBERS };

static const struct member {
	const char *name;
	size_t max;
	const char *repeated, *missing, *kind, *overlong;
} members[MEMBERS] = {
#define MEMBER(name, max)                                                      \
	{                                                                      \
		name, max, name ": repeated", name ": missing",                \
		    name ": expected a string", name ": too long"              \
	}
	[MEMBER_SENDER] = MEMBER("sender_tee_pubkey", JSON_IN_SENDER_MAX),
	[MEMBER_NONCE] = MEMBER("nonce", JSON_IN_NONCE_MAX),
	[MEMBER_DATA] = MEMBER("encrypted_data", SIZE_MAX),
#undef MEMBER
};

static const struct member *
member_find(struct http_slice name)
{
	for (size_t i = 0; i < MEMBERS; i++) {
		if (http_slice_is(name, members[i].name))
			return &members[i];
	}
	return NULL;
}

static int
take_member(struct scan *scan, struct http_slice found[MEMBERS])
{
	const struct member *member;
	struct http_slice name, *value;
	int error;

	if (!take(scan, '"'))
		return refuse(scan, "envelope: expected a member's name");
	error = take_string(scan, &name);
	if (error != 0)
		return error;
	member = member_find(name);
	if (member == NULL)
		return refuse(scan,
		    "envelope: expected no member but sender_tee_pubkey, nonce "
		    "and encrypted_data");
	value = &found[member - members];
	if (value->data != NULL)
		return refuse(scan, member->repeated);
	if (!take(scan, ':'))
		return refuse(scan, "envelope: expected a colon");
	if (!take(scan, '"'))
		return refuse(scan, member->kind);
	error = take_string(scan, value);
	if (error != 0)
		return error;
	return value->len > member->max ? refuse(scan, member->overlong) : 0;
}

static int
take_object(struct scan *scan, struct http_slice found[MEMBERS])
{
	int error;

	if (!take(scan, '{'))
		return refuse(scan, "envelope: expected a JSON object");
	if (!take(scan, '}')) {
		do {
			error = take_member(scan, found);
			if (error != 0)
				return error;
		} while (take(scan, ','));
		if (!take(scan, '}'))
			return refuse(
			    scan, "envelope: expected the end of the object");
	}
	skip_space(scan);
	if (scan->p != scan->end)
		return refuse(
		    scan, "envelope: expected nothing behind the object");
	for (size_t i = 0; i < MEMBERS; i++) {
		if (found[i].data == NULL)
			return refuse(scan, members[i].missing);
	}
	return 0;
}

int
json_in_envelope(const uint8_t *text, size_t len,
    struct json_envelope *envelope, const char **reason)
{
	struct scan scan = { (const char *)text, (const char *)text + len,
		NULL };
	struct http_slice found[MEMBERS] = { 0 };
	int error = len == 0 ? refuse(&scan, "envelope: expected a JSON object")
			     : take_object(&scan, found);

	*reason = scan.reason;
	if (error != 0)
		return error;
	envelope->sender = found[MEMBER_SENDER];
	envelope->nonce = found[MEMBER_NONCE];
	envelope->data = found[MEMBER_DATA];
	return 0;
}
