#include "kms-net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define TEXT_MAX 46 /* INET6_ADDRSTRLEN */
#define V4_PREFIX 96

static const uint8_t v4_mapped[12] = { [10] = 0xff, [11] = 0xff };

static void
set_v4(struct address *address, const void *four)
{
	memcpy(address->bytes, v4_mapped, sizeof(v4_mapped));
	memcpy(address->bytes + sizeof(v4_mapped), four, 4);
}

static bool
is_v4(const struct address *address)
{
	return memcmp(address->bytes, v4_mapped, sizeof(v4_mapped)) == 0;
}

int
address_from_socket(
    const struct sockaddr_storage *socket, struct address *address)
{
	if (socket->ss_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, socket, sizeof(in));
		set_v4(address, &in.sin_addr);
		return 0;
	}
	if (socket->ss_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, socket, sizeof(in6));
		memcpy(address->bytes, &in6.sin6_addr, sizeof(address->bytes));
		return 0;
	}
	return KMS_EINVAL;
}

static int
parse_bare(const char *text, size_t len, struct address *address)
{
	char copy[TEXT_MAX];
	uint8_t four[4];

	if (len == 0 || len >= sizeof(copy))
		return KMS_EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET, copy, four) == 1) {
		set_v4(address, four);
		return 0;
	}
	return inet_pton(AF_INET6, copy, address->bytes) == 1 ? 0 : KMS_EINVAL;
}

static int
check_port(const char *text, size_t len)
{
	if (len < 2 || len > 6 || text[0] != ':')
		return KMS_EINVAL;
	for (size_t i = 1; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return KMS_EINVAL;
	}
	return 0;
}

int
address_parse(const char *text, size_t len, struct address *address)
{
	const char *colon, *end;
	size_t rest;

	if (len > 0 && text[0] == '[') {
		end = memchr(text, ']', len);
		if (end == NULL)
			return KMS_EINVAL;
		rest = len - (size_t)(end + 1 - text);
		if (rest > 0 && check_port(end + 1, rest) != 0)
			return KMS_EINVAL;
		return parse_bare(text + 1, (size_t)(end - text) - 1, address);
	}
	/* One colon alone is a port behind IPv4. */
	colon = len > 0 ? memchr(text, ':', len) : NULL;
	if (colon != NULL &&
	    memchr(colon + 1, ':', len - (size_t)(colon + 1 - text)) == NULL) {
		rest = len - (size_t)(colon - text);
		if (check_port(colon, rest) != 0)
			return KMS_EINVAL;
		len -= rest;
	}
	return parse_bare(text, len, address);
}

/* The byte at index i, with only the bits that the prefix covers. */
static uint8_t
masked(const struct address *address, size_t i, unsigned int prefix)
{
	if (8 * (i + 1) <= prefix)
		return address->bytes[i];
	if (8 * i >= prefix)
		return 0;
	return address->bytes[i] & (uint8_t)(0xff00U >> (prefix - 8 * i));
}

static int
parse_prefix(const char *text, unsigned int max, unsigned int *prefix)
{
	*prefix = 0;
	if (*text == '\0' || strlen(text) > 3)
		return KMS_EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return KMS_EINVAL;
		*prefix = *prefix * 10 + (unsigned int)(*text - '0');
	}
	return *prefix <= max ? 0 : KMS_EINVAL;
}

int
network_parse(const char *text, struct network *network)
{
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	unsigned int base;

	if (parse_bare(text, len, &network->base) != 0)
		return KMS_EINVAL;
	network->prefix = 128;
	if (slash == NULL)
		return 0;
	base = is_v4(&network->base) && memchr(text, ':', len) == NULL
	    ? V4_PREFIX
	    : 0;
	if (parse_prefix(slash + 1, 128 - base, &network->prefix) != 0)
		return KMS_EINVAL;
	network->prefix += base;
	for (size_t i = 0; i < sizeof(network->base.bytes); i++) {
		if (masked(&network->base, i, network->prefix) !=
		    network->base.bytes[i])
			return KMS_EINVAL;
	}
	return 0;
}

bool
network_contains(const struct network *network, const struct address *address)
{
	for (size_t i = 0; i < sizeof(address->bytes); i++) {
		if (masked(address, i, network->prefix) !=
		    network->base.bytes[i])
			return false;
	}
	return true;
}

struct address
address_client(const struct address *address)
{
	struct address client = *address;

	if (!is_v4(address))
		memset(client.bytes + 8, 0, 8);
	return client;
}

static bool
is_trusted(const struct address *address, const struct network *trusted,
    size_t trusted_count)
{
	for (size_t i = 0; i < trusted_count; i++) {
		if (network_contains(&trusted[i], address))
			return true;
	}
	return false;
}

/* Cut the last element off a comma-separated list; false when none is left. */
static bool
last_element(struct http_slice *list, struct http_slice *element)
{
	size_t start, end = list->len;

	if (list->data == NULL)
		return false;
	for (start = end; start > 0 && list->data[start - 1] != ','; start--)
		;
	list->len = start > 0 ? start - 1 : 0;
	*element = (struct http_slice){ list->data + start, end - start };
	if (start == 0)
		list->data = NULL;
	while (element->len > 0 &&
	    (element->data[0] == ' ' || element->data[0] == '\t'))
		element->data++, element->len--;
	while (element->len > 0 &&
	    (element->data[element->len - 1] == ' ' ||
		element->data[element->len - 1] == '\t'))
		element->len--;
	return true;
}

int
address_forwarded(const struct http_head *head, const struct network *trusted,
    size_t trusted_count, struct address *address)
{
	for (size_t i = head->header_count; i-- > 0;) {
		struct http_slice list, element;

		if (!http_slice_is_nocase(
			http_text(head, head->headers[i].name),
			"x-forwarded-for"))
			continue;
		list = http_text(head, head->headers[i].value);
		while (last_element(&list, &element)) {
			if (address_parse(element.data, element.len, address) !=
			    0)
				return KMS_EINVAL;
			if (!is_trusted(address, trusted, trusted_count))
				return 0;
		}
	}
	return KMS_ENOENT;
}
