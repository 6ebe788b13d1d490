/*
 * Where a request goes: the URL of an endpoint, taken apart and checked. What
 * passes here means the same to us and to libcurl, so that a name which was
 * resolved and checked is the name that is connected to. Pure.
 *
 * The URL itself may be a credential (its path or user information often
 * is): only the label may be logged.
 */
#ifndef KMS_CHAIN_DESTINATION_H
#define KMS_CHAIN_DESTINATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DESTINATION_URL_MAX 2048
#define DESTINATION_HOST_MAX 253

/* An IPv4 (the first 4 bytes) or IPv6 address. */
struct ip_address {
	int family; /* AF_INET, AF_INET6; 0: none */
	uint8_t bytes[16];
};

#define IP_ADDRESS_TEXT_SIZE 46

struct destination {
	char url[DESTINATION_URL_MAX + 1];
	char host[DESTINATION_HOST_MAX + 1]; /* lower case, no brackets */
	uint16_t port;
	bool tls;
	bool has_userinfo;
	bool is_local;		   /* "localhost" or below it */
	struct ip_address literal; /* family 0 when host is a name */
	char label[DESTINATION_HOST_MAX + 12]; /* scheme://host, for logs */
};

/*
 * Take apart "http[s]://[userinfo@]host[:port][/path][?query]" of len bytes.
 * The host is a DNS name of letters, digits, '-', '_' (no empty label, no
 * last label that is a number), a dotted IPv4 address, or a bracketed IPv6
 * address without a zone; port 1..65535; visible ASCII throughout, no '\\',
 * no fragment. KMS_EINVAL, KMS_ETOOBIG; *reason (may be NULL) then says what
 * is wrong without quoting the URL, in static storage.
 */
int destination_parse(
    const char *text, size_t len, struct destination *out, const char **reason);

/*
 * Overwrite with '*' what text quotes of the URL's user information, path and
 * query: endpoints repeat a wrong key in their error messages.
 */
void destination_scrub(const struct destination *destination, char *text);

/* "1.2.3.4" or "2001:db8::1" exactly. KMS_EINVAL. */
int ip_address_parse(const char *text, size_t len, struct ip_address *out);

void ip_address_format(
    const struct ip_address *address, char text[IP_ADDRESS_TEXT_SIZE]);

/*
 * A dns-server: an address, or address:port with an IPv6 address in brackets;
 * port 53 when absent. KMS_EINVAL.
 */
int destination_parse_server(
    const char *text, struct ip_address *address, uint16_t *port);

#endif
