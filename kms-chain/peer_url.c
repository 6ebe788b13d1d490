#include "kms-chain/peer_url.h"

#include <string.h>
#include <sys/socket.h>

#include "common/err.h"

struct range {
	uint8_t bits;
	uint8_t prefix[16];
};

/* IPv4: the IANA special-purpose registry, less what is globally reachable. */
static const struct range not_public_v4[] = {
	{ 8, { 0 } },		  /* this network */
	{ 8, { 10 } },		  /* private */
	{ 10, { 100, 64 } },	  /* shared, carrier-grade NAT */
	{ 8, { 127 } },		  /* loopback */
	{ 16, { 169, 254 } },	  /* link-local */
	{ 12, { 172, 16 } },	  /* private */
	{ 24, { 192, 0, 0 } },	  /* protocol assignments */
	{ 24, { 192, 0, 2 } },	  /* documentation */
	{ 24, { 192, 31, 196 } }, /* AS112 */
	{ 24, { 192, 52, 193 } }, /* AMT */
	{ 24, { 192, 88, 99 } },  /* 6to4 relays */
	{ 16, { 192, 168 } },	  /* private */
	{ 24, { 192, 175, 48 } }, /* AS112 */
	{ 15, { 198, 18 } },	  /* benchmarking */
	{ 24, { 198, 51, 100 } }, /* documentation */
	{ 24, { 203, 0, 113 } },  /* documentation */
	{ 4, { 224 } },		  /* multicast */
	{ 4, { 240 } },		  /* reserved, broadcast */
};

/* IPv6: within 2000::/3, outside of which nothing is public. */
static const struct range not_public_v6[] = {
	{ 23, { 0x20, 0x01, 0x00 } },		  /* protocols; Teredo */
	{ 32, { 0x20, 0x01, 0x0d, 0xb8 } },	  /* documentation */
	{ 28, { 0x20, 0x01, 0x00, 0x20 } },	  /* ORCHIDv2 */
	{ 48, { 0x26, 0x20, 0x00, 0x4f, 0x80 } }, /* AS112 */
	{ 20, { 0x3f, 0xff } },			  /* documentation */
};
static const struct range global_v6 = { 3, { 0x20 } };

/* IPv6 prefixes behind which an IPv4 address stands. */
static const struct range nat64 = { 96, { 0x00, 0x64, 0xff, 0x9b } };
static const struct range six_to_four = { 16, { 0x20, 0x02 } };

static bool
in_range(const uint8_t *bytes, const struct range *range)
{
	unsigned int whole = range->bits / 8, rest = range->bits % 8;
	uint8_t mask = (uint8_t)(0xff00U >> rest);

	return memcmp(bytes, range->prefix, whole) == 0 &&
	    (rest == 0 ||
		(bytes[whole] & mask) == (range->prefix[whole] & mask));
}

static bool
v4_public(const uint8_t *bytes)
{
	size_t count = sizeof(not_public_v4) / sizeof(not_public_v4[0]);

	for (size_t i = 0; i < count; i++) {
		if (in_range(bytes, &not_public_v4[i]))
			return false;
	}
	return true;
}

/* v4-mapped and v4-compatible addresses, local NAT64, unique local, link-local
 * and multicast ones lie outside of 2000::/3. */
static bool
v6_public(const uint8_t *bytes)
{
	size_t count = sizeof(not_public_v6) / sizeof(not_public_v6[0]);

	if (in_range(bytes, &nat64))
		return v4_public(bytes + 12);
	if (in_range(bytes, &six_to_four))
		return v4_public(bytes + 2);
	if (!in_range(bytes, &global_v6))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (in_range(bytes, &not_public_v6[i]))
			return false;
	}
	return true;
}

bool
ip_address_public(const struct ip_address *address)
{
	if (address->family == AF_INET)
		return v4_public(address->bytes);
	return address->family == AF_INET6 && v6_public(address->bytes);
}

static bool
ends_in(const char *host, const char *zone)
{
	size_t len = strlen(host), zone_len = strlen(zone);

	return len >= zone_len && strcmp(host + len - zone_len, zone) == 0 &&
	    (len == zone_len || host[len - zone_len - 1] == '.');
}

bool
peer_url_is_local_name(const char *host)
{
	static const char *const zones[] = { "localhost", "localdomain",
		"local", "internal", "intranet", "private", "corp", "home",
		"lan", "home.arpa" };

	if (strchr(host, '.') == NULL)
		return true;
	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		if (ends_in(host, zones[i]))
			return true;
	}
	return false;
}

static const char *
check_rules(const struct destination *to, const struct peer_url_rules *rules)
{
	if (to->has_userinfo)
		return "has user information";
	if (strchr(to->url, '?') != NULL)
		return "has a query";
	if (!rules->enclave)
		return NULL;
	if (!to->tls)
		return "is not https";
	if (to->literal.family != 0)
		return ip_address_public(&to->literal)
		    ? NULL
		    : "has an address that is not public";
	return peer_url_is_local_name(to->host) ? "has a local name" : NULL;
}

int
peer_url_parse(const char *text, size_t len, const struct peer_url_rules *rules,
    struct destination *out, const char **reason)
{
	const char *why;
	int error = destination_parse(text, len, out, reason);

	if (error != 0)
		return error;
	why = check_rules(out, rules);
	if (reason != NULL)
		*reason = why;
	if (why != NULL) {
		memset(out, 0, sizeof(*out));
		return KMS_EINVAL;
	}
	while (out->url[len - 1] == '/')
		out->url[--len] = '\0';
	return 0;
}

bool
peer_url_through_proxy(
    const struct destination *to, const struct peer_url_rules *rules)
{
	if (rules->enclave)
		return true;
	if (to->literal.family != 0)
		return ip_address_public(&to->literal);
	return !peer_url_is_local_name(to->host);
}
