#include "common/http_field.h"

#include <string.h>

#include "common/err.h"
#include "common/http_char.h"

int
http_head_refuse(struct http_head *head, int status, const char *reason)
{
	bool too_big = status == 413 || status == 414 || status == 431;

	head->state = HEAD_REFUSED;
	head->status = head->seen & IS_REQUEST ? status : 502;
	head->reason = reason;
	head->error = too_big ? KMS_ETOOBIG : KMS_EPROTO;
	head->keep_alive = false;
	return head->error;
}

/* ---- slices ---- */

bool
http_slice_is(struct http_slice slice, const char *text)
{
	return strlen(text) == slice.len &&
	    memcmp(slice.data, text, slice.len) == 0;
}

bool
http_slice_is_nocase(struct http_slice slice, const char *text)
{
	if (strlen(text) != slice.len)
		return false;
	for (size_t i = 0; i < slice.len; i++)
		if (http_char_lower(slice.data[i]) != text[i])
			return false;
	return true;
}

unsigned
http_header_find(
    const struct http_head *head, const char *name, struct http_slice *value)
{
	size_t len = strlen(name);
	unsigned count = 0;

	for (unsigned i = 0; i < head->header_count; i++) {
		const struct http_header *header = &head->headers[i];
		if (header->name.len != len ||
		    !http_slice_is_nocase(http_text(head, header->name), name))
			continue;
		if (count++ == 0 && value != NULL)
			*value = http_text(head, header->value);
	}
	return count;
}

/*
 * Take the next token off a comma-separated list (RFC 9110 section 5.6.1; empty
 * elements are skipped). 1 with *token, 0 at the end, KMS_EINVAL on anything
 * but tokens.
 */
static int
list_next(struct http_slice *rest, struct http_slice *token)
{
	const char *p = rest->data, *end = rest->data + rest->len;

	while (p < end && (http_char_is_blank(*p) || *p == ','))
		p++;
	token->data = p;
	while (p < end && http_char_is(*p, HTTP_CHAR_TOKEN))
		p++;
	token->len = (size_t)(p - token->data);
	while (p < end && http_char_is_blank(*p))
		p++;
	if (p < end && *p != ',')
		return KMS_EINVAL;
	rest->data = p;
	rest->len = (size_t)(end - p);
	return token->len > 0;
}

/* ---- headers with a meaning ---- */

static int
read_content_length(struct http_head *head, struct http_slice value)
{
	uint64_t length = 0;

	if (head->seen & SEEN_LENGTH)
		return http_head_refuse(
		    head, 400, "expected one Content-Length");
	if (head->seen & SEEN_CODING)
		return http_head_refuse(head, 400,
		    "expected Content-Length or Transfer-Encoding, not both");
	if (value.len == 0 || value.len > HTTP_LENGTH_DIGITS)
		return http_head_refuse(
		    head, 400, "expected 1 to 19 digits as Content-Length");
	for (size_t i = 0; i < value.len; i++) {
		if (value.data[i] < '0' || value.data[i] > '9')
			return http_head_refuse(head, 400,
			    "expected only digits as Content-Length");
		length = length * 10 + (uint64_t)(value.data[i] - '0');
	}
	head->seen |= SEEN_LENGTH;
	head->content_length = length;
	return 0;
}

static int
read_transfer_encoding(struct http_head *head, struct http_slice value)
{
	struct http_slice token;
	int rc;

	if (head->minor == 0)
		return http_head_refuse(
		    head, 400, "expected no Transfer-Encoding in HTTP/1.0");
	if (head->seen & SEEN_CODING)
		return http_head_refuse(
		    head, 400, "expected one Transfer-Encoding");
	if (head->seen & SEEN_LENGTH)
		return http_head_refuse(head, 400,
		    "expected Content-Length or Transfer-Encoding, not both");
	if (http_slice_is_nocase(value, "chunked")) {
		head->seen |= SEEN_CODING;
		return 0;
	}
	while ((rc = list_next(&value, &token)) == 1)
		if (!http_slice_is_nocase(token, "chunked"))
			return http_head_refuse(head, 501,
			    "expected no transfer coding but chunked");
	return http_head_refuse(
	    head, 400, "expected exactly \"chunked\" as Transfer-Encoding");
}

/* Digits of a port, 1..65535. */
static bool
port_valid(const char *p, const char *end)
{
	unsigned port = 0;

	if (p == end || end - p > 5)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		port = port * 10 + (unsigned)(*p - '0');
	}
	return port >= 1 && port <= 65535;
}

static bool
host_valid(struct http_slice host)
{
	const char *p = host.data, *end = host.data + host.len, *start = p;

	if (p < end && *p == '[') {
		p++;
		while (p < end &&
		    (http_char_hex(*p) >= 0 || *p == ':' || *p == '.'))
			p++;
		if (p == end || *p != ']' || p - start < 3)
			return false;
		p++;
	} else {
		while (p < end && http_char_is(*p, HTTP_CHAR_HOST))
			p++;
		if (p == start)
			return false;
	}
	if (p - start > 255)
		return false;
	return p == end || (*p == ':' && port_valid(p + 1, end));
}

static int
read_host(struct http_head *head, struct http_slice value)
{
	if (!(head->seen & IS_REQUEST))
		return 0;
	if (head->seen & SEEN_HOST)
		return http_head_refuse(head, 400, "expected one Host");
	if (!host_valid(value))
		return http_head_refuse(head, 400,
		    "expected a name or address with an optional port as Host");
	head->seen |= SEEN_HOST;
	return 0;
}

static int
read_connection(struct http_head *head, struct http_slice value)
{
	struct http_slice token;
	int rc;

	while ((rc = list_next(&value, &token)) == 1) {
		if (http_slice_is_nocase(token, "close"))
			head->seen |= SEEN_CLOSE;
		else if (http_slice_is_nocase(token, "keep-alive"))
			head->seen |= SEEN_KEEP_ALIVE;
	}
	if (rc < 0)
		return http_head_refuse(
		    head, 400, "expected a list of tokens as Connection");
	return 0;
}

static int
read_expect(struct http_head *head, struct http_slice value)
{
	if (!(head->seen & IS_REQUEST))
		return 0;
	if (head->seen & SEEN_EXPECT)
		return http_head_refuse(head, 400, "expected one Expect");
	if (!http_slice_is_nocase(value, "100-continue"))
		return http_head_refuse(
		    head, 417, "expected 100-continue as Expect");
	head->seen |= SEEN_EXPECT;
	return 0;
}

/* Whether the letters of name, whatever stands between, spell that word. */
static bool
letters_spell(struct http_slice name, const char *word)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = http_char_lower(name.data[i]);
		if (c < 'a' || c > 'z')
			continue;
		if (c != *word)
			return false;
		word++;
	}
	return *word == '\0';
}

int
http_field_read(
    struct http_head *head, struct http_slice name, struct http_slice value)
{
	/* Lengths first: most headers are none of these. */
	switch (name.len) {
	case sizeof("host") - 1:
		if (http_slice_is_nocase(name, "host"))
			return read_host(head, value);
		break;
	case sizeof("expect") - 1:
		if (http_slice_is_nocase(name, "expect"))
			return read_expect(head, value);
		break;
	case sizeof("connection") - 1:
		if (http_slice_is_nocase(name, "connection"))
			return read_connection(head, value);
		break;
	case sizeof("content-length") - 1:
		if (http_slice_is_nocase(name, "content-length"))
			return read_content_length(head, value);
		break;
	case sizeof("transfer-encoding") - 1:
		if (http_slice_is_nocase(name, "transfer-encoding"))
			return read_transfer_encoding(head, value);
		break;
	}
	if (letters_spell(name, "contentlength") ||
	    letters_spell(name, "transferencoding"))
		return http_head_refuse(head, 400,
		    "expected no name that resembles a framing header");
	return 0;
}
