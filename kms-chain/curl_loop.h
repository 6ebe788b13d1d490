/*
 * libcurl's multi interface on the loop, and what all our transfers have in
 * common: no redirects, no proxy unless one is set, no file opened, no thread,
 * no signal, certificates checked against one bundle that was read once.
 */
#ifndef KMS_CHAIN_CURL_LOOP_H
#define KMS_CHAIN_CURL_LOOP_H

#include <curl/curl.h>
#include <uv.h>

#include "kms-chain/destination.h"
#include "kms-chain/resolve.h"

struct curl_loop;

/* A transfer ended; its handle is out of the loop again. */
typedef void (*curl_loop_done_fn)(CURL *easy, CURLcode code, void *arg);

/*
 * Before the sandbox, after OpenSSL has been told to load no configuration.
 * ca_bundle: PEM text of ca_len bytes; with ca_len 0 no certificate is
 * believed. connections: how many are kept alive. done is told of every
 * transfer that ends by itself. KMS_ENOMEM, KMS_EUNAVAIL, KMS_EINVAL for a
 * bundle that cannot be read.
 */
int curl_loop_open(uv_loop_t *loop, long connections, const uint8_t *ca_bundle,
    size_t ca_len, curl_loop_done_fn done, void *arg, struct curl_loop **out);
/* Only while no transfer is under way, before the loop runs. NULL is fine. */
void curl_loop_close(struct curl_loop *loop);

/* The options that are alike for every transfer. 0 or KMS_EUNAVAIL. */
int curl_loop_prepare(struct curl_loop *loop, CURL *easy);

/*
 * Start a transfer that may take timeout_ms (0: for ever), connecting
 * connect_ms of it (at least 1). 0 or KMS_EUNAVAIL.
 */
int curl_loop_start(struct curl_loop *loop, CURL *easy, uint64_t timeout_ms,
    uint64_t connect_ms);

/* Break a transfer off; done is not called. */
void curl_loop_stop(struct curl_loop *loop, CURL *easy);

/*
 * Make the CURLOPT_RESOLVE entry that saves libcurl asking a resolver with
 * threads and files, for a host that is a name. NULL when memory is short.
 */
struct curl_slist *curl_loop_addresses(
    const struct destination *to, const struct resolve_answer *answer);

/*
 * What a code means to us: 0, KMS_ETIMEOUT, KMS_EPROTO (what came is no HTTP),
 * KMS_EAUTH (TLS: no certificate that is believed), KMS_ENOMEM, else
 * KMS_EUNAVAIL.
 */
int curl_loop_error(CURLcode code);

#endif
