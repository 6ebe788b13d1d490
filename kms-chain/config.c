#include "kms-chain/config.h"

#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/eth.h"
#include "proto/ctl_client.h"

#define CA_BUNDLE_MAX (4U << 20)
#define TIMEOUT_DEFAULT 5000
#define TIMEOUT_MIN 100
#define TIMEOUT_MAX 60000

#define MEMBER(member) offsetof(struct chain_config, member)
#define TEXT(name, member)                                                     \
	{                                                                      \
		name, CONFIG_TEXT, MEMBER(member),                             \
		    sizeof(((struct chain_config *)0)->member)                 \
	}

static const struct config_row rows[] = {
	TEXT("role", role),
	{ "generation", CONFIG_U64, MEMBER(generation), 0 },
	TEXT("log-level", log_level),
	TEXT("environment", environment),
	SANDBOX_CONFIG_ROWS(struct chain_config, sandbox),
	{ "rpc-url", CONFIG_LIST, MEMBER(rpc_urls), 0 },
	{ "chain-id", CONFIG_U64, MEMBER(chain_id), 0 },
	TEXT("nova-app-registry", nova_app_registry),
	TEXT("kms-registry", kms_registry),
	{ "dns-server", CONFIG_LIST, MEMBER(dns_servers), 0 },
	{ "rpc-timeout", CONFIG_U64, MEMBER(rpc_timeout), 0 },
	TEXT("egress-proxy", egress_proxy),
};

static int
on_blob(const char *name, size_t name_len, const uint8_t *piece, size_t len,
    void *arg)
{
	struct chain_config *config = arg;

	if (name_len != 9 || memcmp(name, "ca-bundle", 9) != 0)
		return KMS_ENOENT;
	return buf_append(&config->ca_bundle, piece, len);
}

static int
check_endpoints(struct chain_config *config, char *why, size_t size)
{
	const char *reason;

	if (config->rpc_urls.count == 0) {
		(void)snprintf(why, size, "no rpc-url is configured");
		return KMS_EINVAL;
	}
	for (size_t i = 0; i < config->rpc_urls.count; i++) {
		const char *url = config->rpc_urls.text[i];
		int error = destination_parse(
		    url, strlen(url), &config->endpoints[i], &reason);

		if (error != 0) {
			(void)snprintf(
			    why, size, "rpc-url %zu %s", i + 1, reason);
			return error;
		}
		if (config->endpoints[i].tls && config->ca_bundle.len == 0)
			log_warn("rpc-url %zu (%s): there is no CA bundle",
			    i + 1, config->endpoints[i].label);
	}
	return 0;
}

static int
check_registry(const char *name, const char *text, struct eth_address *out,
    char *why, size_t size)
{
	int error = eth_address_parse(text, strlen(text), out);

	if (error != 0)
		(void)snprintf(why, size, "%s is no address", name);
	return error;
}

static int
check_rpc(struct chain_config *config, char *why, size_t size)
{
	struct questions_config *q = &config->questions;
	int error = check_endpoints(config, why, size);

	if (error == 0)
		error = check_registry("nova-app-registry",
		    config->nova_app_registry, &q->app_registry, why, size);
	if (error == 0)
		error = check_registry("kms-registry", config->kms_registry,
		    &q->kms_registry, why, size);
	if (error == 0 && config->chain_id == 0) {
		(void)snprintf(why, size, "no chain-id is configured");
		error = KMS_EINVAL;
	}
	q->chain_id = config->chain_id;
	q->timeout_ms =
	    config->rpc_timeout != 0 ? config->rpc_timeout : TIMEOUT_DEFAULT;
	if (error == 0 &&
	    (q->timeout_ms < TIMEOUT_MIN || q->timeout_ms > TIMEOUT_MAX)) {
		(void)snprintf(
		    why, size, "rpc-timeout is not within 100 ms and 60 s");
		error = KMS_ERANGE;
	}
	return error;
}

/* The proxy's URL may hold a password. */
static int
check_peer(struct chain_config *config, char *why, size_t size)
{
	const char *reason = NULL, *url = config->egress_proxy;
	int error;

	if (config->ca_bundle.len == 0 && config->is_enclave)
		log_warn("there is no CA bundle: no https peer is believed");
	if (url[0] == '\0')
		return 0;
	error = destination_parse(url, strlen(url), &config->proxy, &reason);
	if (error != 0)
		(void)snprintf(why, size, "egress-proxy %s", reason);
	config->has_proxy = 1;
	return error;
}

int
chain_config_receive(struct chain_config *config, char *why, size_t size)
{
	enum log_level level = LOG_LEVEL_INFO;
	int error;

	memset(config, 0, sizeof(*config));
	buf_init(&config->ca_bundle, CA_BUNDLE_MAX);
	error = ctl_client_configure(
	    rows, CONFIG_ROWS_COUNT(rows), config, on_blob, config);
	if (error != 0) {
		(void)snprintf(
		    why, size, "configuration: %s", kms_strerror(error));
		return error;
	}
	for (size_t i = 0; i < config->dns_servers.count; i++)
		config->servers[i] = config->dns_servers.text[i];
	if (config->log_level[0] != '\0' &&
	    log_level_parse(config->log_level, &level) != 0) {
		(void)snprintf(why, size, "log-level is unknown");
		return KMS_EINVAL;
	}
	log_init_child(level);
	config->is_peer = strcmp(config->role, "peer") == 0;
	config->is_enclave = strcmp(config->environment, "development") != 0;
	if (config->is_peer)
		return check_peer(config, why, size);
	if (strcmp(config->role, "rpc") != 0) {
		(void)snprintf(why, size, "role is neither rpc nor peer");
		return KMS_EINVAL;
	}
	return check_rpc(config, why, size);
}

/* ---- while it runs ---- */

struct running {
	char log_level[8];
};

static const struct config_row running_rows[] = { { "log-level", CONFIG_TEXT,
    offsetof(struct running, log_level),
    sizeof(((struct running *)0)->log_level) } };

static struct running current, next;
static struct ctl_reload reload = { .rows = running_rows,
	.count = CONFIG_ROWS_COUNT(running_rows),
	.current = &current,
	.next = &next,
	.size = sizeof(current) };

int
chain_config_row(struct chan *chan, struct msg *msg, void *arg)
{
	const struct chain_config *config = arg;

	(void)chan;
	memcpy(current.log_level, config->log_level, sizeof(current.log_level));
	return ctl_client_reconfig(&reload, msg);
}

int
chain_config_apply(struct chan *chan, struct msg *msg, void *arg)
{
	struct chain_config *config = arg;
	enum log_level level;

	(void)chan;
	(void)msg;
	if (ctl_client_reconfigured(&reload) != 0 ||
	    log_level_parse(next.log_level, &level) != 0)
		return KMS_EPROTO;
	memcpy(config->log_level, next.log_level, sizeof(config->log_level));
	log_init_child(level);
	return 0;
}
