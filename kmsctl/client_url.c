#include "kmsctl/client.h"

#include <string.h>
#include <strings.h>

#include "common/err.h"

static int
host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* The length of the host at the start of text, 0 when it is none. */
static size_t
host_length(const char *text)
{
	size_t n;

	if (text[0] != '[') {
		for (n = 0; host_char(text[n]); n++)
			continue;
		return n;
	}
	n = 1 + strspn(text + 1, "0123456789abcdefABCDEF:.");
	return n > 1 && text[n] == ']' ? n + 1 : 0;
}

/* ":port" or nothing; *text is moved behind it. */
static int
port_parse(const char **text, bool tls, uint16_t *port)
{
	const char *p = *text;
	unsigned int value = 0, digits = 0;

	*port = tls ? 443 : 80;
	if (*p != ':')
		return 0;
	for (p++; *p >= '0' && *p <= '9' && digits < 6; p++, digits++)
		value = value * 10 + (unsigned int)(*p - '0');
	if (digits == 0 || value == 0 || value > UINT16_MAX)
		return KMS_EINVAL;
	*port = (uint16_t)value;
	*text = p;
	return 0;
}

int
client_origin_parse(const char *url, struct client_origin *origin)
{
	const char *p = url;
	size_t n, i;

	memset(origin, 0, sizeof(*origin));
	if (strncasecmp(p, "https://", 8) == 0) {
		origin->tls = true;
		p += 8;
	} else if (strncasecmp(p, "http://", 7) == 0) {
		p += 7;
	} else {
		return KMS_EINVAL;
	}
	n = host_length(p);
	if (n == 0 || n > CLIENT_HOST_MAX)
		return KMS_EINVAL;
	for (i = 0; i < n; i++)
		origin->host[i] =
		    (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20 : p[i]);
	p += n;
	if (port_parse(&p, origin->tls, &origin->port) != 0)
		return KMS_EINVAL;
	if (*p == '/')
		p++;
	return *p == '\0' ? 0 : KMS_EINVAL;
}

int
client_origin_append(const struct client_origin *origin, struct buf *out)
{
	return buf_printf(out, "%s://%s:%u", origin->tls ? "https" : "http",
	    origin->host, (unsigned int)origin->port);
}

int
client_origin_equal(
    const struct client_origin *a, const struct client_origin *b)
{
	return a->tls == b->tls && a->port == b->port &&
	    strcmp(a->host, b->host) == 0;
}

/* Only the exact text of an address counts: 127.evil.example is a name. */
int
client_origin_is_loopback(const struct client_origin *origin)
{
	const char *host = origin->host;

	if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return 1;
	return strncmp(host, "127.", 4) == 0 &&
	    strspn(host, "0123456789.") == strlen(host);
}

int
client_percent_append(struct buf *out, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *p;
	size_t start = out->len;
	char escape[3] = { '%' };
	int rc;

	for (p = text; *p != '\0'; p++) {
		if ((host_char(*p) || *p == '~')) {
			rc = buf_append(out, p, 1);
		} else {
			escape[1] = digits[(uint8_t)*p >> 4];
			escape[2] = digits[(uint8_t)*p & 15];
			rc = buf_append(out, escape, sizeof(escape));
		}
		if (rc != 0) {
			out->len = start;
			return rc;
		}
	}
	return 0;
}

int
client_target_build(const char *path, const struct client_parameter *parameters,
    size_t count, struct buf *out)
{
	const char *mark = "?";
	size_t i;
	int rc;

	buf_free(out);
	buf_init(out, CLIENT_TARGET_MAX + 1);
	if ((rc = buf_append_text(out, path)) != 0)
		return rc;
	for (i = 0; i < count; i++) {
		if (parameters[i].value == NULL)
			continue;
		if ((rc = buf_printf(out, "%s%s=", mark, parameters[i].name)) !=
		    0)
			return rc;
		if ((rc = client_percent_append(out, parameters[i].value)) != 0)
			return rc;
		mark = "&";
	}
	if ((rc = buf_append(out, "", 1)) != 0)
		return rc;
	out->len--;
	return 0;
}
