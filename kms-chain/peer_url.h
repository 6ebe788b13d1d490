/*
 * Which URLs and addresses of peers may be connected to (PROTOCOL.md section
 * 6, "Peer URLs"). A peer's URL is whatever its operator has registered: this
 * is what keeps it from naming the services of our own machine and network.
 * Pure.
 */
#ifndef KMS_CHAIN_PEER_URL_H
#define KMS_CHAIN_PEER_URL_H

#include <stdbool.h>

#include "kms-chain/destination.h"

struct peer_url_rules {
	bool enclave; /* https to public addresses only */
};

/*
 * Whether an address is one of the public Internet: not unspecified, loopback,
 * private, shared (RFC 6598), link-local, multicast, documentation,
 * benchmarking or otherwise reserved (the registries of RFC 6890), nor an IPv6
 * address that stands for such an IPv4 one: v4-mapped, v4-compatible, NAT64
 * (RFC 6052; RFC 8215's prefix altogether), 6to4 or Teredo. Of IPv6 only
 * 2000::/3 is public, and of 64:ff9b::/96 what stands for a public address.
 */
bool ip_address_public(const struct ip_address *address);

/* The host needs no name server of the Internet: localhost, *.local, … or a
 * name without a dot. */
bool peer_url_is_local_name(const char *host);

/*
 * Take a registered URL apart: as destination_parse, and without user
 * information, query or fragment; slashes at its end are dropped. In an
 * enclave it is https, and its host is no local name and no literal address
 * that is not public. What a name resolves to is checked when it is connected
 * to. KMS_EINVAL, KMS_ETOOBIG; *reason as there.
 */
int peer_url_parse(const char *text, size_t len,
    const struct peer_url_rules *rules, struct destination *out,
    const char **reason);

/*
 * Whether to go through the egress proxy where there is one: always in an
 * enclave; in development not to hosts that only this machine or its network
 * has.
 */
bool peer_url_through_proxy(
    const struct destination *to, const struct peer_url_rules *rules);

#endif
