/*
 * kms-chain: every connection the node opens. As role rpc it answers the
 * keeper's questions about the chain; as role peer it carries the keeper's
 * messages to other nodes. It only connects, and holds no secret.
 */
#include <curl/curl.h>
#include <jansson.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "kms-chain/config.h"
#include "kms-chain/fetch.h"
#include "kms-chain/peer_post.h"
#include "kms-chain/question.h"
#include "kms-chain/registry_calls.h"
#include "kms-chain/resolve.h"
#include "kms-chain/rpc.h"
#include "kms-chain/sandbox.h"
#include "kms-chain/transaction_calls.h"
#include "proto/ctl_client.h"
#include "proto/fds.h"
#include "proto/metrics.h"

#define KEEPER_QUEUE_MAX (4U << 20)
#define COUNT_PERIOD_MS 1000

static struct chain_config config;
static uv_timer_t count_timer;

static const struct chan_handler control_handlers[] = {
	{ MSG_KMSDCHILD_RECONFIG, chain_config_row },
	{ MSG_KMSDCHILD_APPLY, chain_config_apply },
	{ 0, NULL },
};

static const struct chan_handler rpc_handlers[] = {
	{ MSG_KEEPERCHAIN_INSTANCE, registry_instance },
	{ MSG_KEEPERCHAIN_MEMBERS, registry_members },
	{ MSG_KEEPERCHAIN_HASH, registry_hash },
	{ MSG_KEEPERCHAIN_TX_INPUTS, transaction_inputs },
	{ MSG_KEEPERCHAIN_SEND, transaction_send },
	{ MSG_KEEPERCHAIN_RECEIPT, transaction_receipt },
	{ 0, NULL },
};

static const struct chan_handler peer_handlers[] = {
	{ MSG_KEEPERPEER_REQUEST, peer_post_request },
	{ MSG_KEEPERPEER_BODY, peer_post_body },
	{ MSG_KEEPERPEER_CANCEL, peer_post_cancel },
	{ MSG_KEEPERPEER_CREDIT, peer_post_credit },
	{ 0, NULL },
};

/* Everything that a library opens or reads once must be behind us when the
 * sandbox closes. */
static int
warm_libraries(void)
{
	size_t seed;

	(void)mallopt(M_ARENA_MAX, 1);
	if (OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1)
		return KMS_ECRYPTO;
	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return KMS_ESYS;
	json_object_seed(seed != 0 ? seed : 1);
	return 0;
}

/* kmsd starts us anew with a new channel. */
static void
on_keeper_closed(struct chan *chan, int error, void *arg)
{
	(void)chan;
	(void)arg;
	if (error == KMS_ECLOSED)
		log_info("the keeper's channel ended; exiting");
	else
		log_error("the keeper's channel ended: %s; exiting",
		    kms_strerror(error));
	_exit(error == KMS_ECLOSED ? 0 : 1);
}

static int
open_keeper_rpc(
    uv_loop_t *loop, struct questions *questions, struct chan **chan)
{
	const struct chan_config keeper = {
		.name = "keeper",
		.in = MSG_CHANNEL_KEEPER_RPC,
		.out = MSG_CHANNEL_RPC_KEEPER,
		.generation = (uint32_t)config.generation,
		.handlers = rpc_handlers,
		.closed = on_keeper_closed,
		.arg = questions,
		.queue_max = KEEPER_QUEUE_MAX,
	};

	return chan_open(loop, FD_KEEPER, &keeper, chan);
}

static int
open_keeper_peer(uv_loop_t *loop, struct peer_posts *posts, struct chan **chan)
{
	const struct chan_config keeper = {
		.name = "keeper",
		.in = MSG_CHANNEL_KEEPER_PEER,
		.out = MSG_CHANNEL_PEER_KEEPER,
		.generation = (uint32_t)config.generation,
		.handlers = peer_handlers,
		.closed = on_keeper_closed,
		.drained = peer_posts_drained,
		.arg = posts,
		.queue_max = KEEPER_QUEUE_MAX,
	};
	int error = chan_open(loop, FD_KEEPER, &keeper, chan);

	if (error == 0)
		peer_posts_attach(posts, *chan);
	return error;
}

static void
count_each_second(uv_timer_t *timer)
{
	uint64_t now = (uint64_t)clock_now().wall_ms * 1000;
	uint64_t head = metrics[METRIC_CHAIN_HEAD_TIME];

	(void)timer;
	metrics[config.is_peer ? METRIC_PEER_LOG_LOST : METRIC_CHAIN_LOG_LOST] =
	    log_lost();
	metrics[config.is_peer ? METRIC_PEER_LOG_HELD_BACK
			       : METRIC_CHAIN_LOG_HELD_BACK] = log_held_back();
	if (head != 0)
		metrics[METRIC_CHAIN_HEAD_AGE] = now > head ? now - head : 0;
}

/* resolve, fetch, rpc, questions: each upon the one before. */
static int
open_rpc(uv_loop_t *loop, struct resolver *resolver, struct chan **keeper)
{
	struct questions *questions = NULL;
	struct fetch *fetch;
	struct rpc *rpc;
	int error = fetch_open(loop, resolver, config.ca_bundle.data,
	    config.ca_bundle.len, &fetch);

	if (error == 0)
		error = rpc_open(
		    loop, fetch, config.endpoints, config.rpc_urls.count, &rpc);
	if (error == 0)
		error =
		    questions_open(loop, rpc, &config.questions, &questions);
	if (error == 0)
		error = open_keeper_rpc(loop, questions, keeper);
	return error;
}

static int
open_peer(uv_loop_t *loop, struct resolver *resolver, struct chan **keeper)
{
	const struct peer_posts_config posts_config = {
		.rules = { .enclave = config.is_enclave != 0 },
		.proxy = config.has_proxy ? &config.proxy : NULL,
		.ca_bundle = config.ca_bundle.data,
		.ca_len = config.ca_bundle.len,
	};
	struct peer_posts *posts;
	int error = peer_posts_open(loop, resolver, &posts_config, &posts);

	if (error == 0)
		error = open_keeper_peer(loop, posts, keeper);
	return error;
}

static int
open_role(uv_loop_t *loop, struct chan **keeper)
{
	struct resolver *resolver;
	int error = resolve_open(
	    loop, config.servers, config.dns_servers.count, &resolver);

	if (error != 0)
		return error;
	return config.is_peer ? open_peer(loop, resolver, keeper)
			      : open_rpc(loop, resolver, keeper);
}

int
main(void)
{
	char missing[SANDBOX_MISSING_LEN] = "", why[256] = "";
	struct chan *control = NULL, *keeper = NULL;
	uv_loop_t loop;

	log_init_child(LOG_LEVEL_INFO);
	if (sandbox_prepare(FD_KEEPER + 1) != 0)
		return 1;
	if (chain_config_receive(&config, why, sizeof(why)) != 0)
		ctl_client_fail(NULL, "%s", why);
	if (warm_libraries() != 0 || uv_loop_init(&loop) != 0)
		ctl_client_fail(NULL, "libraries cannot be initialised");
	if (open_role(&loop, &keeper) != 0)
		ctl_client_fail(NULL, "the %s client cannot be set up",
		    config.is_peer ? "peer" : "RPC");
	if (ctl_client_open(&loop, control_handlers, &config, &control) != 0)
		ctl_client_fail(NULL, "the control channel cannot be opened");
	(void)uv_timer_init(&loop, &count_timer);
	(void)uv_timer_start(
	    &count_timer, count_each_second, COUNT_PERIOD_MS, COUNT_PERIOD_MS);
	if (sandbox_enter(&chain_sandbox_profile, &config.sandbox, missing) !=
	    0)
		ctl_client_fail(control, "sandbox: %s", missing);
	if (ctl_client_ready(control, missing) != 0)
		return 1;
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	return 0;
}
