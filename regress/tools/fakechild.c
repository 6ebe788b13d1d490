/*
 * Stands in for every child of kmsd in the tests of kmsd itself: takes any
 * configuration, says READY, keeps what it is handed. An rpc-url that ends in
 * /fail makes it say FAILED instead, one that ends in /hang say nothing.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sandbox.h"
#include "proto/ctl_client.h"
#include "proto/fds.h"

struct fake_config {
	struct sandbox_settings sandbox;
	char any[2049];
	char role[16];
	char rpc_url[2049];
	uint64_t generation;
};

static struct fake_config config;
static size_t blob_bytes;

#define ANY(name)                                                              \
	{                                                                      \
		name, CONFIG_TEXT, offsetof(struct fake_config, any),          \
		    sizeof(config.any)                                         \
	}

static const struct config_row rows[] = {
	{ "uid", CONFIG_U64, offsetof(struct fake_config, sandbox.uid), 0 },
	{ "gid", CONFIG_U64, offsetof(struct fake_config, sandbox.gid), 0 },
	{ "role", CONFIG_TEXT, offsetof(struct fake_config, role), 16 },
	{ "rpc-url", CONFIG_TEXT, offsetof(struct fake_config, rpc_url), 2049 },
	{ "generation", CONFIG_U64, offsetof(struct fake_config, generation),
	    0 },
	ANY("dns-server"),
	ANY("chroot"),
	ANY("metrics-separate"),
	ANY("rpc-endpoints"),
#define CONF(id, name, ...) ANY(name),
#include "kmsd/conf.def"
#undef CONF
};

static int
take_blob(const char *name, size_t name_len, const uint8_t *piece, size_t len,
    void *arg)
{
	(void)name;
	(void)name_len;
	(void)piece;
	(void)arg;
	blob_bytes += len;
	return 0;
}

static int
take_channel(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	log_info("channel kind %d generation %d", (int)msg->v[0].u,
	    (int)msg->v[1].u);
	msg->fd = -1; /* kept for ever */
	return 0;
}

static int
take_accept(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	(void)arg;
	log_info("accepting");
	return 0;
}

static int
take_metrics(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	log_debug("metrics of slot %d", (int)msg->v[0].u);
	return 0;
}

static int
take_row(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	log_info("reconfig %.*s=%.*s", (int)msg->v[0].len,
	    (const char *)msg->v[0].data, (int)msg->v[1].len,
	    (const char *)msg->v[1].data);
	return 0;
}

static int
take_apply(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	(void)arg;
	log_info("applied");
	return 0;
}

static const struct chan_handler handlers[] = {
	{ MSG_KMSDCHILD_RECONFIG, take_row },
	{ MSG_KMSDCHILD_APPLY, take_apply },
	{ MSG_KMSDKEEPER_CHANNEL, take_channel },
	{ MSG_KMSDNET_ACCEPT, take_accept },
	{ MSG_KMSDNET_METRICS, take_metrics },
	{ 0, NULL },
};

static int
ends_in(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

int
main(void)
{
	struct chan *ctl;
	uv_loop_t loop;

	log_init_child(LOG_LEVEL_DEBUG);
	if (sandbox_prepare(FD_CHILD_END) != 0 ||
	    ctl_client_configure(
		rows, CONFIG_ROWS_COUNT(rows), &config, take_blob, NULL) != 0)
		return 1;
	if (ends_in(config.rpc_url, "/fail"))
		ctl_client_fail(NULL, "as the test wants it");
	if (ends_in(config.rpc_url, "/exit"))
		_exit(3);
	log_info("role %s generation %d, %zu bytes of certificates",
	    config.role, (int)config.generation, blob_bytes);
	if (uv_loop_init(&loop) != 0 ||
	    ctl_client_open(&loop, handlers, NULL, &ctl) != 0)
		return 1;
	if (!ends_in(config.rpc_url, "/hang"))
		(void)ctl_client_ready(ctl, "everything: it is no real child");
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	return 0;
}
