#include "kmsctl/client.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "crypto/crypto.h"

#define TIMEOUT_DEFAULT_MS 30000L

/* The addresses of a chain's first deployments by its first account. */
const char client_sim_nova_app_registry[] =
    "0x5fbdb2315678afecb367f032d93f642f64180aa3";
const char client_sim_kms_registry[] =
    "0xe7f1725e7734ce288f8367e1bb143e90bb3f0512";

int
client_fail(struct kms_client *client, enum kms_client_result result,
    const char *format, ...)
{
	va_list args;
	char *p;

	va_start(args, format);
	vsnprintf(client->reason, sizeof(client->reason), format, args);
	va_end(args);
	/* It may quote what others sent: one line, nothing for a terminal. */
	for (p = client->reason; *p != '\0'; p++)
		if (*p < 0x20 || *p > 0x7e)
			*p = '?';
	return (int)result;
}

static int
complain(char *reason, const char *text)
{
	snprintf(reason, KMS_CLIENT_REASON_LEN, "%s", text);
	return KMS_CLIENT_USAGE;
}

static int
node_set(struct kms_client *client, const char *url, char *reason)
{
	struct buf text;
	int rc;

	if (client_origin_parse(url, &client->node) != 0)
		return complain(reason,
		    "the node's URL must be http://HOST:PORT or https://HOST, "
		    "without a path or credentials");
	buf_init(&text, sizeof(client->node_url) - 1);
	rc = client_origin_append(&client->node, &text);
	if (rc == 0)
		memcpy(client->node_url, text.data, text.len);
	buf_free(&text);
	return rc == 0 ? 0 : complain(reason, kms_strerror(rc));
}

/* An RPC URL may have a path and hold a credential: it is never printed. */
static int
rpc_set(struct kms_client *client, const char *url, char *reason)
{
	struct client_origin origin;
	char *base;
	size_t n;

	if (strncasecmp(url, "http://", 7) != 0 &&
	    strncasecmp(url, "https://", 8) != 0)
		return complain(
		    reason, "the RPC URL must start with http:// or https://");
	client->rpc_url = strdup(url);
	n = (size_t)(strstr(url, "//") - url) + 2;
	n += strcspn(url + n, "/?#");
	base = strndup(url, n);
	if (base != NULL && client_origin_parse(base, &origin) == 0)
		client->rpc_direct = client_origin_is_loopback(&origin) != 0;
	free(base);
	return client->rpc_url != NULL ? 0 : complain(reason, "out of memory");
}

static int
registry_set(struct eth_address *address, const char *text,
    const char *fallback, char *reason)
{
	if (text == NULL)
		text = fallback;
	if (eth_address_parse(text, strlen(text), address) != 0)
		return complain(reason,
		    "a registry's address must be 0x and 40 hex digits");
	return 0;
}

static int
options_apply(struct kms_client *client,
    const struct kms_client_options *options, char *reason)
{
	client->any_url = options->any_url;
	client->timeout_ms =
	    options->timeout_ms > 0 ? options->timeout_ms : TIMEOUT_DEFAULT_MS;
	if (node_set(client,
		options->node_url != NULL ? options->node_url
					  : KMS_CLIENT_NODE_DEFAULT,
		reason) != 0 ||
	    rpc_set(client,
		options->rpc_url != NULL ? options->rpc_url
					 : KMS_CLIENT_RPC_DEFAULT,
		reason) != 0 ||
	    registry_set(&client->nova_app_registry, options->nova_app_registry,
		client_sim_nova_app_registry, reason) != 0 ||
	    registry_set(&client->kms_registry, options->kms_registry,
		client_sim_kms_registry, reason) != 0)
		return KMS_CLIENT_USAGE;
	if (options->identity_file == NULL)
		return 0;
	if (client_identity_load(options->identity_file, client->wallets,
		&client->identity, reason) != 0)
		return KMS_CLIENT_USAGE;
	client->has_identity = true;
	return 0;
}

/* Libraries and what needs randomness. */
static int
parts_make(struct kms_client *client)
{
	uint8_t seed[32];

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    crypto_init() != 0 || RAND_priv_bytes(seed, sizeof(seed)) != 1)
		return KMS_ECRYPTO;
	client->wallets = wallet_context_new(seed);
	OPENSSL_cleanse(seed, sizeof(seed));
	if (client->wallets == NULL ||
	    client_http_init(&client->node_http) != 0 ||
	    client_http_init(&client->rpc_http) != 0)
		return KMS_ENOMEM;
	return 0;
}

int
kms_client_open(const struct kms_client_options *options,
    struct kms_client **client, char reason[KMS_CLIENT_REASON_LEN])
{
	struct kms_client *made;
	int rc;

	*client = NULL;
	reason[0] = '\0';
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return complain(reason, "out of memory");
	rc = parts_make(made);
	if (rc != 0)
		rc = complain(reason, kms_strerror(rc));
	else
		rc = options_apply(made, options, reason);
	if (rc != 0) {
		kms_client_close(made);
		return rc;
	}
	*client = made;
	return KMS_CLIENT_OK;
}

void
kms_client_close(struct kms_client *client)
{
	if (client == NULL)
		return;
	client_identity_free(&client->identity);
	client_http_free(&client->node_http);
	client_http_free(&client->rpc_http);
	wallet_context_free(client->wallets);
	free(client->rpc_url);
	OPENSSL_cleanse(client, sizeof(*client));
	free(client);
}

const char *
kms_client_reason(const struct kms_client *client)
{
	return client->reason;
}

uint64_t
kms_client_app_id(const struct kms_client *client)
{
	return client->app_id;
}
