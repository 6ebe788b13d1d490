/*
 * Names to addresses by c-ares on the loop: servers given before the sandbox,
 * no file read afterwards, A and AAAA. Answers are kept for their TTL, within
 * bounds; when the servers are silent an old one serves on for an hour.
 */
#ifndef KMS_CHAIN_RESOLVE_H
#define KMS_CHAIN_RESOLVE_H

#include <uv.h>

#include "kms-chain/destination.h"

#define RESOLVE_ADDRESSES_MAX 16

struct resolver;

struct resolve_answer {
	size_t count; /* at least 1 */
	struct ip_address addresses[RESOLVE_ADDRESSES_MAX];
};

/* answer is NULL when there is none (text then says why, for a log line);
 * both live until the callback returns. Never called from resolve_name. */
typedef void (*resolve_done_fn)(
    const struct resolve_answer *answer, const char *text, void *arg);

/*
 * Servers are texts as destination_parse_server takes them; none is fine:
 * then only literal addresses and localhost resolve. Reads files: call it
 * before the sandbox. KMS_EINVAL for a bad server (logged), KMS_ENOMEM,
 * KMS_EUNAVAIL. It lives as long as the process.
 */
int resolve_open(uv_loop_t *loop, const char *const *servers,
    size_t server_count, struct resolver **out);

/*
 * The addresses of a destination. 0: done will be called, once. 1: they were
 * known and are in *answer; done will not be called. KMS_EUNAVAIL when there
 * is no server to ask, KMS_EBUSY, KMS_ENOMEM.
 */
int resolve_name(struct resolver *resolver, const struct destination *to,
    struct resolve_answer *answer, resolve_done_fn done, void *arg);

#endif
