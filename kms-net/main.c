/* kms-net: speaks HTTP with clients, and hands what they ask to the keeper. */
#include <string.h>
#include <sys/random.h>

#include "common/err.h"
#include "common/log.h"
#include "kms-net/drain.h"
#include "kms-net/metrics.h"
#include "kms-net/net.h"
#include "kms-net/sandbox.h"
#include "proto/ctl_client.h"
#include "proto/fds.h"

#define ROW(name, kind, member, size)                                          \
	{                                                                      \
		name, kind, offsetof(struct net_config, member), size          \
	}

static const struct config_row rows[] = {
	ROW("role", CONFIG_TEXT, role, 16),
	ROW("generation", CONFIG_U64, generation, 0),
	ROW("log-level", CONFIG_TEXT, log_level, 8),
	ROW("environment", CONFIG_TEXT, environment, 16),
	SANDBOX_CONFIG_ROWS(struct net_config, sandbox),
	ROW("max-connections", CONFIG_U64, max_connections, 0),
	ROW("idle-timeout", CONFIG_U64, idle_timeout, 0),
	ROW("request-timeout", CONFIG_U64, request_timeout, 0),
	ROW("sync-timeout", CONFIG_U64, sync_timeout, 0),
	ROW("max-body", CONFIG_U64, max_body, 0),
	ROW("max-sync-body", CONFIG_U64, max_sync_body, 0),
	ROW("max-body-memory", CONFIG_U64, max_body_memory, 0),
	ROW("nonce-rate", CONFIG_U64, nonce_rate, 0),
	ROW("request-rate", CONFIG_U64, request_rate, 0),
	ROW("trusted-proxy", CONFIG_LIST, trusted_proxy, 0),
	ROW("metrics-separate", CONFIG_BOOL, metrics_separate, 0),
};

static struct net net = {
	.config = {
		.log_level = "info",
		.max_connections = 4096,
		.idle_timeout = 30000,
		.request_timeout = 10000,
		.sync_timeout = 60000,
		.max_body = 3U << 20,
		.max_sync_body = 50U << 20,
		.max_body_memory = 128U << 20,
		.nonce_rate = 30,
		.request_rate = 120,
	},
};

static int
on_accept(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	http_accept(arg);
	return 0;
}

static int
on_drain(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	return drain_begin(arg);
}

static int
on_metrics(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	return metrics_store(arg, msg);
}

/* ---- reload ---- */

static const struct config_row running_rows[] = {
	ROW("log-level", CONFIG_TEXT, log_level, 8),
	ROW("max-connections", CONFIG_U64, max_connections, 0),
	ROW("idle-timeout", CONFIG_U64, idle_timeout, 0),
	ROW("request-timeout", CONFIG_U64, request_timeout, 0),
	ROW("nonce-rate", CONFIG_U64, nonce_rate, 0),
	ROW("request-rate", CONFIG_U64, request_rate, 0),
	ROW("trusted-proxy", CONFIG_LIST, trusted_proxy, 0),
};

static uint64_t most_connections; /* that the limit of descriptors allows */
static struct net_config next;
static struct ctl_reload reload = {
	.rows = running_rows,
	.count = CONFIG_ROWS_COUNT(running_rows),
	.current = &net.config,
	.next = &next,
	.size = sizeof(next),
};

static int
on_config_row(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	return ctl_client_reconfig(&reload, msg);
}

/* The trusted networks of a configuration. 0 or KMS_EINVAL. */
static int
parse_trusted(const struct config_list *list)
{
	struct network trusted[CONFIG_LIST_MAX];

	for (size_t i = 0; i < list->count; i++) {
		if (network_parse(list->text[i], &trusted[i]) != 0)
			return KMS_EINVAL;
	}
	memcpy(net.trusted, trusted, list->count * sizeof(trusted[0]));
	net.trusted_count = list->count;
	return 0;
}

static int
on_config_apply(struct chan *chan, struct msg *msg, void *arg)
{
	enum log_level level;

	(void)chan;
	(void)msg;
	(void)arg;
	if (ctl_client_reconfigured(&reload) != 0 ||
	    log_level_parse(next.log_level, &level) != 0 ||
	    next.max_connections == 0 || next.idle_timeout == 0 ||
	    next.request_timeout == 0 ||
	    next.max_connections > most_connections ||
	    parse_trusted(&next.trusted_proxy) != 0)
		return KMS_EPROTO;
	net.config = next;
	log_init_child(level);
	limit_set_rates(&net.limit, next.nonce_rate, next.request_rate);
	http_reconfigured(&net);
	return 0;
}

static const struct chan_handler handlers[] = {
	{ MSG_KMSDCHILD_RECONFIG, on_config_row },
	{ MSG_KMSDCHILD_APPLY, on_config_apply },
	{ MSG_KMSDNET_ACCEPT, on_accept },
	{ MSG_KMSDNET_METRICS, on_metrics },
	{ MSG_KMSDNET_DRAIN, on_drain },
	{ 0, NULL },
};

/* What the table of names cannot check. */
static void
check_config(void)
{
	const struct net_config *config = &net.config;
	enum log_level level;

	if (log_level_parse(config->log_level, &level) != 0)
		ctl_client_fail(
		    NULL, "log-level: unknown: %s", config->log_level);
	log_init_child(level);
	if (strcmp(config->role, "net") != 0)
		ctl_client_fail(NULL, "role: expected net");
	if (config->max_connections == 0 || config->request_timeout == 0 ||
	    config->idle_timeout == 0 || config->generation > UINT32_MAX)
		ctl_client_fail(NULL,
		    "max-connections, request-timeout and idle-timeout: "
		    "expected more than 0");
	if (parse_trusted(&config->trusted_proxy) != 0)
		ctl_client_fail(
		    NULL, "trusted-proxy: expected an address or network");
	most_connections = config->max_connections;
}

/*
 * Of the bodies' memory, what one client may fill: enough for the largest
 * body, and not so much that it alone could shut out the others.
 */
static uint64_t
client_share(void)
{
	uint64_t share = net.config.max_body_memory / 4;
	uint64_t least = net.config.max_body > net.config.max_sync_body
	    ? net.config.max_body
	    : net.config.max_sync_body;

	least += HTTP_INPUT_MAX; /* the head is kept beside it */
	return share > least ? share : least;
}

static void
init_tables(void)
{
	uint64_t random[6];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		ctl_client_fail(NULL, "getrandom failed");
	limit_init(
	    &net.limit, net.config.nonce_rate, net.config.request_rate, random);
	client_init(&net.clients, &net.memory, client_share(), random + 3);
	/* So that ids of a kms-net before this one do not come again. */
	net.keeper.sequence = random[5] >> 10;
	net.memory.max = net.config.max_body_memory;
	if (state_init(&net.state) != 0)
		ctl_client_fail(NULL, "out of memory");
}

static void
open_loop(void)
{
	if (uv_loop_init(&net.loop) != 0)
		ctl_client_fail(NULL, "no event loop");
	if (ctl_client_open(&net.loop, handlers, &net, &net.ctl) != 0)
		ctl_client_fail(NULL, "no control channel");
	if (keeper_open(&net) != 0)
		ctl_client_fail(net.ctl, "no channel to the keeper");
	if (http_open(&net) != 0)
		ctl_client_fail(net.ctl, "the listening sockets are unusable");
}

int
main(void)
{
	char missing[SANDBOX_MISSING_LEN];
	struct sandbox_profile profile;

	log_init_child(LOG_LEVEL_INFO);
	if (sandbox_prepare(FD_CHILD_END) != 0)
		return 1;
	if (ctl_client_configure(
		rows, CONFIG_ROWS_COUNT(rows), &net.config, NULL, NULL) != 0)
		return 1;
	check_config();
	init_tables();
	open_loop();
	sandbox_profile_net(&profile, net.config.max_connections);
	if (sandbox_enter(&profile, &net.config.sandbox, missing) != 0)
		ctl_client_fail(net.ctl, "sandbox: %s", missing);
	if (ctl_client_ready(net.ctl, missing) != 0)
		ctl_client_fail(net.ctl, "control channel");
	return uv_run(&net.loop, UV_RUN_DEFAULT);
}
