#include "kms-chain/destination.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"

#define PORT_MAX 65535
#define PORT_DNS 53
#define SECRET_MIN 8 /* shorter parts of a URL are ordinary words */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* No locale has a say in what is a letter. */
static bool
is_host_char(char c)
{
	return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_' ||
	    c == '.';
}

static int
parse_port(const char *text, size_t len, uint16_t *out)
{
	unsigned int port = 0;

	if (len == 0 || len > 5)
		return KMS_EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!is_digit(text[i]))
			return KMS_EINVAL;
		port = port * 10 + (unsigned int)(text[i] - '0');
	}
	if (port == 0 || port > PORT_MAX)
		return KMS_EINVAL;
	*out = (uint16_t)port;
	return 0;
}

int
ip_address_parse(const char *text, size_t len, struct ip_address *out)
{
	char copy[IP_ADDRESS_TEXT_SIZE];

	memset(out, 0, sizeof(*out));
	if (len >= sizeof(copy) || memchr(text, '\0', len) != NULL)
		return KMS_EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET, copy, out->bytes) == 1)
		out->family = AF_INET;
	else if (inet_pton(AF_INET6, copy, out->bytes) == 1)
		out->family = AF_INET6;
	else
		memset(out, 0, sizeof(*out));
	return out->family != 0 ? 0 : KMS_EINVAL;
}

void
ip_address_format(
    const struct ip_address *address, char text[IP_ADDRESS_TEXT_SIZE])
{
	if (address->family == 0 ||
	    inet_ntop(address->family, address->bytes, text,
		IP_ADDRESS_TEXT_SIZE) == NULL)
		text[0] = '\0';
}

int
destination_parse_server(
    const char *text, struct ip_address *address, uint16_t *port)
{
	size_t len = strlen(text);
	const char *end, *colon = strchr(text, ':');

	*port = PORT_DNS;
	if (ip_address_parse(text, len, address) == 0)
		return 0;
	if (text[0] == '[') {
		end = strchr(text, ']');
		if (end == NULL ||
		    ip_address_parse(
			text + 1, (size_t)(end - text) - 1, address) != 0 ||
		    address->family != AF_INET6)
			return KMS_EINVAL;
		if (end[1] == '\0')
			return 0;
		return end[1] == ':'
		    ? parse_port(end + 2, strlen(end + 2), port)
		    : KMS_EINVAL;
	}
	if (colon == NULL ||
	    ip_address_parse(text, (size_t)(colon - text), address) != 0)
		return KMS_EINVAL;
	return parse_port(colon + 1, strlen(colon + 1), port);
}

/* ---- the parts of a URL -------------------------------------------------- */

static const char *
parse_scheme(const char *text, size_t len, struct destination *out)
{
	if (len >= 8 && strncasecmp(text, "https://", 8) == 0) {
		out->tls = true;
		out->port = 443;
		return text + 8;
	}
	if (len >= 7 && strncasecmp(text, "http://", 7) == 0) {
		out->port = 80;
		return text + 7;
	}
	return NULL;
}

/* Every label has 1..63 characters. */
static bool
labels_valid(const char *host)
{
	size_t label = 0;

	for (;; host++) {
		if (*host != '.' && *host != '\0') {
			if (!is_host_char(*host) || ++label > 63)
				return false;
			continue;
		}
		if (label == 0)
			return false;
		if (*host == '\0')
			return true;
		label = 0;
	}
}

/* libcurl reads "127.1", "2130706433" and "0x7f.1" as addresses: what looks
 * like a number but is no dotted quad is nobody's name. */
static bool
looks_numeric(const char *host)
{
	const char *dot = strrchr(host, '.');

	return is_digit(dot != NULL ? dot[1] : host[0]);
}

static bool
is_local_name(const char *host)
{
	static const char name[] = "localhost";
	size_t len = strlen(host), want = sizeof(name) - 1;

	return len >= want && strcmp(host + len - want, name) == 0 &&
	    (len == want || host[len - want - 1] == '.');
}

static const char *
take_name(const char *text, size_t len, struct destination *out)
{
	if (len == 0)
		return "has no host";
	if (len > DESTINATION_HOST_MAX)
		return "has a host that is too long";
	for (size_t i = 0; i < len; i++)
		out->host[i] = text[i] >= 'A' && text[i] <= 'Z'
		    ? (char)(text[i] - 'A' + 'a')
		    : text[i];
	out->host[len] = '\0';
	if (!labels_valid(out->host))
		return "has a host that is no name";
	if (!looks_numeric(out->host))
		out->is_local = is_local_name(out->host);
	else if (ip_address_parse(out->host, len, &out->literal) != 0)
		return "has a host that is neither a name nor an address";
	return NULL;
}

static const char *
take_bracketed(const char *text, size_t len, struct destination *out)
{
	if (ip_address_parse(text, len, &out->literal) != 0 ||
	    out->literal.family != AF_INET6)
		return "has no IPv6 address between its brackets";
	ip_address_format(&out->literal, out->host);
	return NULL;
}

/* [userinfo@]host[:port] */
static const char *
take_authority(const char *text, size_t len, struct destination *out)
{
	const char *at = memchr(text, '@', len), *end = text + len, *host_end;
	const char *reason;

	if (at != NULL) {
		out->has_userinfo = true;
		text = at + 1;
		if (memchr(text, '@', (size_t)(end - text)) != NULL)
			return "has more than one '@' before its path";
	}
	if (text < end && *text == '[') {
		host_end = memchr(text, ']', (size_t)(end - text));
		if (host_end == NULL)
			return "has an opening bracket only";
		reason = take_bracketed(
		    text + 1, (size_t)(host_end - text) - 1, out);
		host_end++;
	} else {
		host_end = memchr(text, ':', (size_t)(end - text));
		if (host_end == NULL)
			host_end = end;
		reason = take_name(text, (size_t)(host_end - text), out);
	}
	if (reason != NULL || host_end == end)
		return reason;
	if (*host_end != ':' ||
	    parse_port(
		host_end + 1, (size_t)(end - host_end) - 1, &out->port) != 0)
		return "has a port that is not 1..65535";
	return NULL;
}

static const char *
take_apart(const char *text, size_t len, struct destination *out)
{
	const char *authority, *end = text + len, *p;

	for (size_t i = 0; i < len; i++) {
		if (text[i] <= 0x20 || text[i] >= 0x7f || text[i] == '\\')
			return "has a character that no URL has";
		if (text[i] == '#')
			return "has a fragment";
	}
	authority = parse_scheme(text, len, out);
	if (authority == NULL)
		return "does not begin with http:// or https://";
	for (p = authority; p < end && *p != '/' && *p != '?'; p++)
		continue;
	return take_authority(authority, (size_t)(p - authority), out);
}

int
destination_parse(
    const char *text, size_t len, struct destination *out, const char **reason)
{
	const char *why;
	int error = KMS_EINVAL;

	memset(out, 0, sizeof(*out));
	if (len > DESTINATION_URL_MAX) {
		why = "is longer than 2048 characters";
		error = KMS_ETOOBIG;
	} else {
		why = take_apart(text, len, out);
	}
	if (reason != NULL)
		*reason = why;
	if (why != NULL) {
		memset(out, 0, sizeof(*out));
		return error;
	}
	memcpy(out->url, text, len);
	(void)snprintf(out->label, sizeof(out->label),
	    out->literal.family == AF_INET6 ? "%s://[%s]" : "%s://%s",
	    out->tls ? "https" : "http", out->host);
	return 0;
}

static void
scrub_part(const char *part, size_t len, char *text)
{
	size_t text_len = strlen(text);
	char *found;

	if (len < SECRET_MIN)
		return;
	while ((found = memmem(text, text_len, part, len)) != NULL)
		memset(found, '*', len);
}

void
destination_scrub(const struct destination *destination, char *text)
{
	const char *authority = strstr(destination->url, "://");
	const char *part, *path;
	size_t len;

	if (authority == NULL)
		return;
	authority += 3;
	path = authority + strcspn(authority, "/?");
	part = destination->has_userinfo ? authority : path;
	while (*part != '\0') {
		/* Behind the user information stands the host, no secret. */
		if (*part == '@' && part < path)
			part = path;
		len = strcspn(part, "/?&=:@");
		scrub_part(part, len, text);
		part += len;
		if (*part != '\0' && !(*part == '@' && part < path))
			part++;
	}
}
