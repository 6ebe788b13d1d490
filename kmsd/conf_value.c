/* Values of kmsd.conf, one kind at a time. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "common/err.h"
#include "common/eth.h"
#include "kmsd/conf.h"

/* Digits at the start of text; *end is what follows them. */
static int
parse_digits(const char *text, uint64_t *value, const char **end)
{
	uint64_t n = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (n > (UINT64_MAX - digit) / 10)
			return KMS_EINVAL;
		n = n * 10 + digit;
	}
	*value = n;
	*end = p;
	return p > text ? 0 : KMS_EINVAL;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit duration_units[] = { { "ms", 1 }, { "s", 1000 },
	{ "m", 60000 }, { "h", 3600000 }, { "d", 86400000 }, { NULL, 0 } };
static const struct unit size_units[] = { { "", 1 }, { "K", 1 << 10 },
	{ "M", 1 << 20 }, { "G", 1 << 30 }, { NULL, 0 } };
static const struct unit number_units[] = { { "", 1 }, { NULL, 0 } };
static const struct unit rate_units[] = { { "/min", 1 }, { NULL, 0 } };

static int
parse_amount(const char *text, const struct unit *units, uint64_t *value)
{
	const char *unit;
	uint64_t n;

	if (parse_digits(text, &n, &unit) != 0)
		return KMS_EINVAL;
	*value = 0;
	if (n == 0 && *unit == '\0')
		return 0;
	for (; units->name != NULL; units++) {
		if (strcmp(units->name, unit) != 0)
			continue;
		if (n > UINT64_MAX / units->factor)
			return KMS_EINVAL;
		*value = n * units->factor;
		return 0;
	}
	return KMS_EINVAL;
}

static int
is_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	for (const char *p = choices; len > 0; p++) {
		size_t choice = strcspn(p, "|");

		if (choice == len && memcmp(p, text, len) == 0)
			return 1;
		p += choice;
		if (*p == '\0')
			return 0;
	}
	return 0;
}

static int
parse_port(const char *text, uint16_t *port)
{
	const char *end;
	uint64_t value;

	if (parse_digits(text, &value, &end) != 0 || *end != '\0' ||
	    value > 65535)
		return KMS_EINVAL;
	*port = htons((uint16_t)value);
	return 0;
}

/* A name, an IPv4 address or a bracketed IPv6 address, perhaps with a port. */
static int
is_authority(const char *text, size_t len)
{
	char host[280];
	uint8_t address[16];
	char *end = host;
	uint16_t port;

	if (len == 0 || len >= sizeof(host))
		return 0;
	memcpy(host, text, len);
	host[len] = '\0';
	if (host[0] == '[') {
		end = strchr(host, ']');
		if (end == NULL)
			return 0;
		*end++ = '\0';
		if (inet_pton(AF_INET6, host + 1, address) != 1)
			return 0;
	} else {
		end += strspn(host,
		    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		    "0123456789_.-");
		if (end == host || host[0] == '.')
			return 0;
	}
	return *end == '\0' ||
	    (*end == ':' && parse_port(end + 1, &port) == 0 && port != 0);
}

/* Behind the scheme; NULL when it is neither http nor https. */
static const char *
url_rest(const char *text)
{
	if (strncmp(text, "https://", 8) == 0)
		return text + 8;
	return strncmp(text, "http://", 7) == 0 ? text + 7 : NULL;
}

static int
is_url(const char *text)
{
	const char *rest = url_rest(text);

	return rest != NULL && is_authority(rest, strcspn(rest, "/?#")) &&
	    strchr(rest, '#') == NULL &&
	    strpbrk(rest, " \t\"<>\\^`{|}") == NULL;
}

int
conf_url_is_loopback(const char *url)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost",
		"[::1]" };
	const char *rest = url_rest(url);

	for (size_t i = 0; rest != NULL && i < sizeof(hosts) / sizeof(hosts[0]);
	     i++) {
		size_t len = strlen(hosts[i]);

		if (strncmp(rest, hosts[i], len) == 0 &&
		    strchr("/:?", rest[len]) != NULL)
			return 1;
	}
	return 0;
}

#define KEY_LEN 16 /* a path segment from here on may be an API key */

int
conf_url_is_credential(const char *url)
{
	const char *rest = url_rest(url);

	if (rest == NULL || strpbrk(rest, "?@") != NULL)
		return 1;
	rest += strcspn(rest, "/");
	while (*rest == '/') {
		size_t len = strcspn(++rest, "/");

		if (len >= KEY_LEN)
			return 1;
		rest += len;
	}
	return 0;
}

int
conf_socket_parse(
    const char *text, struct sockaddr_storage *address, socklen_t *len)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)address;
	const char *colon = strrchr(text, ':');
	char host[64];
	size_t host_len;

	memset(address, 0, sizeof(*address));
	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		return KMS_EINVAL;
	host_len = (size_t)(colon - text);
	memcpy(host, text, host_len);
	host[host_len] = '\0';
	if (host_len > 2 && host[0] == '[' && host[host_len - 1] == ']') {
		host[host_len - 1] = '\0';
		v6->sin6_family = AF_INET6;
		*len = sizeof(*v6);
		if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
			return KMS_EINVAL;
		return parse_port(colon + 1, &v6->sin6_port);
	}
	v4->sin_family = AF_INET;
	*len = sizeof(*v4);
	if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
		return KMS_EINVAL;
	return parse_port(colon + 1, &v4->sin_port);
}

/* Whether all bits of an address behind its prefix are zero. */
static int
is_base(const uint8_t *address, size_t len, uint64_t prefix)
{
	for (uint64_t bit = prefix; bit < 8 * len; bit++) {
		if (address[bit / 8] & (0x80 >> bit % 8))
			return 0;
	}
	return 1;
}

static int
is_network(const char *text)
{
	const char *slash = strchr(text, '/'), *end = "";
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	uint8_t address[16];
	uint64_t bits = 0;
	char host[64];

	if (len >= sizeof(host))
		return 0;
	memcpy(host, text, len);
	host[len] = '\0';
	if (slash != NULL &&
	    (parse_digits(slash + 1, &bits, &end) != 0 || *end != '\0' ||
		end - slash > 4))
		return 0;
	if (inet_pton(AF_INET, host, address) == 1)
		return slash == NULL ||
		    (bits <= 32 && is_base(address, 4, bits));
	return inet_pton(AF_INET6, host, address) == 1 &&
	    (slash == NULL || (bits <= 128 && is_base(address, 16, bits)));
}

int
conf_capsule_parse(
    const char *url, struct sockaddr_storage *address, socklen_t *len)
{
	const struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)address;
	const struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)address;

	if (strncmp(url, "http://", 7) != 0 ||
	    conf_socket_parse(url + 7, address, len) != 0)
		return KMS_EINVAL;
	if (address->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) &&
			v6->sin6_port != 0
		    ? 0
		    : KMS_EINVAL;
	return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET &&
		v4->sin_port != 0
	    ? 0
	    : KMS_EINVAL;
}

static int
is_identity(const char *text)
{
	struct sockaddr_storage address;
	socklen_t len;

	if (strcmp(text, "local") == 0)
		return 1;
	if (strncmp(text, "local /", 7) == 0)
		return 1;
	return strncmp(text, "capsule ", 8) == 0 &&
	    conf_capsule_parse(text + 8, &address, &len) == 0;
}

static int
is_user(const char *text)
{
	const char *end;
	uint64_t id;

	if (*text >= '0' && *text <= '9') {
		if (parse_digits(text, &id, &end) != 0 || id == 0 ||
		    id >= UINT32_MAX)
			return 0;
		if (*end == '\0')
			return 1;
		return *end == ':' && parse_digits(end + 1, &id, &end) == 0 &&
		    *end == '\0' && id > 0 && id < UINT32_MAX;
	}
	return text[strspn(text,
		   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		   "0123456789_.-")] == '\0';
}

static int
is_address(const char *text)
{
	struct eth_address address;

	return eth_address_parse(text, strlen(text), &address) == 0;
}

int
conf_value_parse(const struct conf_row *row, const char *text, uint64_t *number,
    const char **expected)
{
	struct sockaddr_storage address;
	socklen_t len;

	*number = 0;
	switch (row->kind) {
	case CONF_KIND_DURATION:
		*expected = "a duration such as 500ms, 30s, 10m, 1h or 1d";
		return parse_amount(text, duration_units, number);
	case CONF_KIND_SIZE:
		*expected = "bytes such as 4096, 512K, 3M or 1G";
		return parse_amount(text, size_units, number);
	case CONF_KIND_NUMBER:
		*expected = "a number";
		return parse_amount(text, number_units, number);
	case CONF_KIND_RATE:
		*expected = "a rate such as 30/min, or 0";
		return parse_amount(text, rate_units, number);
	case CONF_KIND_BOOL:
		*expected = "yes or no";
		return is_choice("yes|no", text) ? 0 : KMS_EINVAL;
	case CONF_KIND_ENUM:
		*expected = row->choices;
		return is_choice(row->choices, text) ? 0 : KMS_EINVAL;
	case CONF_KIND_URL:
		*expected = "an http or https URL without credentials";
		return is_url(text) ? 0 : KMS_EINVAL;
	case CONF_KIND_ADDRESS:
		*expected = "an address of 40 hex digits";
		return is_address(text) ? 0 : KMS_EINVAL;
	case CONF_KIND_SOCKET:
		*expected = "address:port such as 127.0.0.1:8000 or [::]:8000";
		return conf_socket_parse(text, &address, &len);
	case CONF_KIND_NETWORK:
		*expected = "an address or a network such as 10.0.0.0/8";
		return is_network(text) ? 0 : KMS_EINVAL;
	case CONF_KIND_PATH:
		*expected = "an absolute path";
		return text[0] == '/' ? 0 : KMS_EINVAL;
	case CONF_KIND_USER:
		*expected = "a user's name, a UID or UID:GID other than root's";
		return is_user(text) ? 0 : KMS_EINVAL;
	case CONF_KIND_IDENTITY:
		*expected = "local, local /FILE or capsule "
			    "http://127.0.0.1:PORT (a loopback address)";
		return is_identity(text) ? 0 : KMS_EINVAL;
	}
	return KMS_EINVAL;
}
