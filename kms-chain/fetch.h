/*
 * HTTP POST by libcurl's multi interface on the loop: kept-alive connections,
 * no redirects, no proxy, no file opened, no thread, no signal, answers
 * bounded while they arrive.
 */
#ifndef KMS_CHAIN_FETCH_H
#define KMS_CHAIN_FETCH_H

#include <uv.h>

#include "kms-chain/destination.h"
#include "kms-chain/resolve.h"

#define FETCH_BUFFERED_MAX (4U << 20) /* bytes of all answers under way */
#define FETCH_HEAD_MAX 32768	      /* bytes of one answer's header lines */

struct fetch;

struct fetch_result {
	/*
	 * 0: an answer came, whatever its status. KMS_EUNAVAIL: no connection,
	 * no name, no TLS, cut off. KMS_ETIMEOUT. KMS_ETOOBIG: longer than
	 * asked for. KMS_EPROTO: what came is no HTTP. KMS_EBUSY: the answers
	 * under way fill FETCH_BUFFERED_MAX.
	 */
	int error;
	long status;	  /* HTTP status, 0 without an answer */
	const char *body; /* len bytes, until the callback returns */
	size_t len;
	const char *text; /* of the error, fit for a log line; "" without */
};

/* Called once per fetch_post that returned 0, never from within it. */
typedef void (*fetch_done_fn)(const struct fetch_result *result, void *arg);

/*
 * Before the sandbox, after OpenSSL has been told to load no configuration.
 * ca_bundle: PEM text of ca_len bytes, read once; with ca_len 0 no https
 * endpoint is believed. KMS_ENOMEM, KMS_EUNAVAIL, KMS_EINVAL for a bundle that
 * cannot be read. It lives as long as the process.
 */
int fetch_open(uv_loop_t *loop, struct resolver *resolver,
    const uint8_t *ca_bundle, size_t ca_len, struct fetch **out);

/*
 * POST len bytes of JSON (copied). The answer's body is at most answer_max
 * bytes, and all of it is there within timeout_ms or not at all. KMS_ENOMEM,
 * KMS_EUNAVAIL, KMS_EBUSY; done is then not called.
 */
int fetch_post(struct fetch *fetch, const struct destination *to,
    const void *body, size_t len, size_t answer_max, uint64_t timeout_ms,
    fetch_done_fn done, void *arg);

#endif
