/*
 * Client addresses: what a socket says, what a trusted proxy says, and which
 * of them is the client that a limit counts. Pure.
 */
#ifndef KMS_NET_ADDRESS_H
#define KMS_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/http.h"

/* IPv6 in network order; IPv4 a.b.c.d is ::ffff:a.b.c.d. */
struct address {
	uint8_t bytes[16];
};

/* The first prefix bits of base; prefix 0..128 counts as for IPv6. */
struct network {
	struct address base;
	unsigned int prefix;
};

/* KMS_EINVAL for a family that is neither AF_INET nor AF_INET6. */
int address_from_socket(
    const struct sockaddr_storage *socket, struct address *address);

/*
 * Parse "192.0.2.1", "2001:db8::1", either with a port ("192.0.2.1:80",
 * "[2001:db8::1]:80") as proxies write them. KMS_EINVAL.
 */
int address_parse(const char *text, size_t len, struct address *address);

/* Parse an address or "address/prefix" (of the family's length). KMS_EINVAL
 * also when bits beyond the prefix are set. */
int network_parse(const char *text, struct network *network);

bool network_contains(
    const struct network *network, const struct address *address);

/* What a limit counts: an IPv4 address, or an IPv6 /64. */
struct address address_client(const struct address *address);

/*
 * The last address in the request's X-Forwarded-For lines that is in none of
 * the networks. 0; KMS_ENOENT when there is none (no such header, or trusted
 * addresses alone); KMS_EINVAL when something else than an address stands
 * there before one was found, reading from the end.
 */
int address_forwarded(const struct http_head *head,
    const struct network *trusted, size_t trusted_count,
    struct address *address);

#endif
