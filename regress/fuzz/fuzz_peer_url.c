/*
 * URLs of peers: what an enclave takes keeps every rule, and means the same
 * to libcurl.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kms-chain/peer_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct destination *to)
{
	CURLU *url = curl_url();
	char *host = NULL;

	if (!to->tls || to->has_userinfo || strpbrk(to->url, "?#") != NULL)
		abort();
	if (to->literal.family != 0 && !ip_address_public(&to->literal))
		abort();
	if (to->literal.family == 0 && peer_url_is_local_name(to->host))
		abort();
	if (url == NULL ||
	    curl_url_set(url, CURLUPART_URL, to->url, 0) != CURLUE_OK ||
	    curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		abort();
	if (to->literal.family != AF_INET6 && strcasecmp(host, to->host) != 0)
		abort();
	curl_free(host);
	curl_url_cleanup(url);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct peer_url_rules enclave = { .enclave = true };
	const char *reason = NULL;
	struct destination to;

	if (peer_url_parse((const char *)data, size, &enclave, &to, &reason) ==
	    0)
		check(&to);
	else if (reason == NULL || to.url[0] != '\0')
		abort();
	return 0;
}
