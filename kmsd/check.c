#include "kmsd/check_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/hex.h"
#include "kmsd/supervise.h"

#define MARGIN_MS 2000
#define CAPSULE_MS 3000
#define RPC_QUEUE_MAX 65536

static void advance(struct check *check);

/* ---- questions ---- */

static uint64_t
question_id(size_t endpoint, enum check_kind kind)
{
	return endpoint * CHECK_KINDS + kind + 1;
}

/* The open question that a message answers; NULL: none. */
static struct check_reply *
reply_of(struct check *check, const struct msg *msg, enum check_kind kind,
    struct check_endpoint **endpoint)
{
	uint64_t at = msg->id - 1;
	struct check_reply *reply;

	if (msg->id == 0 || at / CHECK_KINDS >= check->endpoint_count ||
	    (kind != CHECK_KINDS && at % CHECK_KINDS != kind))
		return NULL;
	*endpoint = &check->endpoints[at / CHECK_KINDS];
	reply = &(*endpoint)->replies[at % CHECK_KINDS];
	if (!reply->asked || reply->done)
		return NULL;
	reply->done = 1;
	reply->took_ms = uv_now(check->loop) - reply->asked_ms;
	return reply;
}

static int
on_hash(struct chan *chan, struct msg *msg, void *arg)
{
	static const uint8_t zero[32];
	struct check_endpoint *e;

	(void)chan;
	if (reply_of(arg, msg, CHECK_HASH, &e) == NULL)
		return KMS_EPROTO;
	e->head = msg->v[2].u;
	e->head_time = msg->v[3].u;
	e->hash_is_zero = memcmp(msg->v[6].data, zero, sizeof(zero)) == 0;
	e->kms_app_id = msg->v[7].u;
	advance(arg);
	return 0;
}

static int
on_members(struct chan *chan, struct msg *msg, void *arg)
{
	struct check_endpoint *e;

	(void)chan;
	if (reply_of(arg, msg, CHECK_MEMBERS, &e) == NULL)
		return KMS_EPROTO;
	e->head = msg->v[1].u;
	e->head_time = msg->v[2].u;
	e->members = msg->v[3].len / ETH_ADDRESS_LEN;
	advance(arg);
	return 0;
}

static int
on_instance(struct chan *chan, struct msg *msg, void *arg)
{
	struct check_endpoint *e;

	(void)chan;
	if (reply_of(arg, msg, CHECK_INSTANCE, &e) == NULL)
		return KMS_EPROTO;
	e->found = msg->v[3].u != 0;
	e->app_id = msg->v[5].u;
	hex_encode(msg->v[9].data, msg->v[9].len, e->pubkey);
	e->zk_verified = msg->v[11].u != 0;
	e->status = msg->v[12].u;
	e->app_status = msg->v[15].u;
	e->version_status = msg->v[17].u;
	advance(arg);
	return 0;
}

static int
on_tx_inputs(struct chan *chan, struct msg *msg, void *arg)
{
	struct check_endpoint *e;

	(void)chan;
	if (reply_of(arg, msg, CHECK_TX, &e) == NULL)
		return KMS_EPROTO;
	e->tip = msg->v[4].u;
	e->base_fee = msg->v[5].u;
	memcpy(e->balance, msg->v[6].data, sizeof(e->balance));
	advance(arg);
	return 0;
}

static int
on_error(struct chan *chan, struct msg *msg, void *arg)
{
	struct check_endpoint *e;
	struct check_reply *reply = reply_of(arg, msg, CHECK_KINDS, &e);

	(void)chan;
	if (reply == NULL || msg->v[1].u == 0 || msg->v[1].u > 255)
		return KMS_EPROTO;
	reply->error = (unsigned int)msg->v[1].u;
	(void)snprintf(reply->text, sizeof(reply->text), "%.*s",
	    (int)msg->v[2].len, (const char *)msg->v[2].data);
	advance(arg);
	return 0;
}

static const struct chan_handler rpc_handlers[] = {
	{ MSG_CHAINKEEPER_HASH, on_hash },
	{ MSG_CHAINKEEPER_MEMBERS, on_members },
	{ MSG_CHAINKEEPER_INSTANCE, on_instance },
	{ MSG_CHAINKEEPER_TX_INPUTS, on_tx_inputs },
	{ MSG_CHAINKEEPER_ERROR, on_error },
	{ 0, NULL },
};

static void
ask(struct check *check, size_t endpoint, enum check_kind kind)
{
	static const enum msg_type types[CHECK_KINDS] = {
		[CHECK_HASH] = MSG_KEEPERCHAIN_HASH,
		[CHECK_MEMBERS] = MSG_KEEPERCHAIN_MEMBERS,
		[CHECK_INSTANCE] = MSG_KEEPERCHAIN_INSTANCE,
		[CHECK_TX] = MSG_KEEPERCHAIN_TX_INPUTS
	};
	struct check_reply *reply = &check->endpoints[endpoint].replies[kind];
	struct msg_writer w;

	if (reply->asked)
		return;
	reply->asked = 1;
	reply->asked_ms = uv_now(check->loop);
	chan_begin(check->rpc, &w, types[kind], question_id(endpoint, kind));
	msg_put_u(&w, endpoint);
	if (kind != CHECK_TX)
		msg_put_u(&w, 0); /* the head */
	if (kind == CHECK_HASH) {
		msg_put_u(&w, conf_number(check->conf, CONF_CONFIRMATIONS));
		msg_put_b(&w, 0);
	} else if (kind == CHECK_MEMBERS) {
		msg_put_u(&w, conf_number(check->conf, CONF_KMS_APP_ID));
	} else {
		msg_put_d(&w, check->wallet.bytes, ETH_ADDRESS_LEN);
	}
	(void)chan_end(check->rpc, &w);
}

static int
open_endpoint_questions(struct check *check, size_t i)
{
	struct check_endpoint *e = &check->endpoints[i];
	const struct check_reply *hash = &e->replies[CHECK_HASH];
	int open = 0;

	ask(check, i, CHECK_HASH);
	ask(check, i, CHECK_MEMBERS);
	if (check->wallet_state == CHECK_WALLET_KNOWN) {
		ask(check, i, CHECK_INSTANCE);
		if (hash->done && hash->error == 0 && e->hash_is_zero)
			ask(check, i, CHECK_TX);
	}
	for (size_t kind = 0; kind < CHECK_KINDS; kind++)
		open |= e->replies[kind].asked && !e->replies[kind].done;
	return open;
}

/* After each event: ask what can be asked now; stop when all is known. */
static void
advance(struct check *check)
{
	int open = check->wallet_state == CHECK_WALLET_WAIT;

	if (check->failed[ROLE_RPC][0] == '\0') {
		open |= check->rpc == NULL;
		for (size_t i = 0;
		     check->rpc != NULL && i < check->endpoint_count; i++)
			open |= open_endpoint_questions(check, i);
	}
	if (!open)
		uv_stop(check->loop);
}

/* ---- children ---- */

static void
child_failed(struct child *child, const char *why)
{
	struct check *check = child->owner;
	char *text = check->failed[child->role];

	/* What it said itself says more than how it ended. */
	if (text[0] == '\0')
		(void)snprintf(text, CHECK_TEXT_LEN, "%s", why);
	if (child->role == ROLE_KEEPER &&
	    check->wallet_state == CHECK_WALLET_WAIT) {
		check->wallet_state = CHECK_WALLET_FAILED;
		(void)snprintf(check->wallet_why, CHECK_TEXT_LEN, "%s", text);
	}
	advance(check);
}

static void
on_rpc_closed(struct chan *chan, int error, void *arg)
{
	struct check *check = arg;

	(void)chan;
	child_failed(&check->children[ROLE_RPC], kms_strerror(error));
}

static void
open_rpc(struct check *check, struct child *child)
{
	struct chan_config config = { .name = "kms-chain-rpc",
		.in = MSG_CHANNEL_RPC_KEEPER,
		.out = MSG_CHANNEL_KEEPER_RPC,
		.generation = child->generation,
		.handlers = rpc_handlers,
		.closed = on_rpc_closed,
		.arg = check,
		.queue_max = RPC_QUEUE_MAX };

	if (chan_open(check->loop, child->keeper_end, &config, &check->rpc) !=
	    0)
		child_failed(child, "no channel");
	else
		child->keeper_end = -1;
}

/* kms-net's view of the keeper names the wallet. */
static int
on_state(struct chan *chan, struct msg *msg, void *arg)
{
	struct check *check = arg;

	(void)chan;
	if (check->wallet_state != CHECK_WALLET_WAIT || msg->v[2].len == 0)
		return 0;
	if (eth_address_parse((const char *)msg->v[2].data, msg->v[2].len,
		&check->wallet) != 0)
		return KMS_EPROTO;
	(void)snprintf(check->pubkey, sizeof(check->pubkey), "%.*s",
	    (int)msg->v[3].len, (const char *)msg->v[3].data);
	check->wallet_state = CHECK_WALLET_KNOWN;
	advance(check);
	return 0;
}

static int
on_node(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	(void)arg;
	return 0;
}

static const struct chan_handler net_handlers[] = {
	{ MSG_KEEPERNET_STATE, on_state },
	{ MSG_KEEPERNET_NODE, on_node },
	{ 0, NULL },
};

static void
on_net_closed(struct chan *chan, int error, void *arg)
{
	struct check *check = arg;

	(void)chan;
	child_failed(&check->children[ROLE_KEEPER], kms_strerror(error));
}

static void
open_net(struct check *check, struct child *child)
{
	struct chan_config config = { .name = "keeper",
		.in = MSG_CHANNEL_KEEPER_NET,
		.out = MSG_CHANNEL_NET_KEEPER,
		.generation = 1,
		.handlers = net_handlers,
		.closed = on_net_closed,
		.arg = check,
		.queue_max = RPC_QUEUE_MAX };
	struct msg_writer w;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
		child_failed(child, "no channel");
		return;
	}
	if (chan_open(check->loop, pair[0], &config, &check->net) != 0) {
		(void)close(pair[0]);
		(void)close(pair[1]);
		child_failed(child, "no channel");
		return;
	}
	chan_begin(child->control, &w, MSG_KMSDKEEPER_CHANNEL, 0);
	msg_put_u(&w, CHANNEL_NET);
	msg_put_u(&w, 1);
	if (chan_end_fd(child->control, &w, pair[1]) != 0)
		child_failed(child, "no channel");
}

static int
on_ready(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct check *check = child->owner;

	(void)msg;
	if (child->state != CHILD_STARTING)
		return KMS_EPROTO;
	chan_set_state(chan, MSG_STATE_RUNNING);
	child->state = CHILD_READY;
	if (child->role == ROLE_RPC)
		open_rpc(check, child);
	else
		open_net(check, child);
	advance(check);
	return 0;
}

static int
on_failed(struct chan *chan, struct msg *msg, void *arg)
{
	char why[CHECK_TEXT_LEN];

	(void)chan;
	(void)snprintf(why, sizeof(why), "%.*s", (int)msg->v[0].len,
	    (const char *)msg->v[0].data);
	child_failed(arg, why);
	return 0;
}

static int
on_metrics(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	(void)arg;
	return 0;
}

static const struct chan_handler control_handlers[] = {
	{ MSG_CHILDKMSD_READY, on_ready },
	{ MSG_CHILDKMSD_FAILED, on_failed },
	{ MSG_CHILDKMSD_METRICS, on_metrics },
	{ 0, NULL },
};

static void
on_control_closed(struct chan *chan, int error, void *arg)
{
	struct child *child = arg;

	(void)chan;
	(void)error;
	child_failed(child, "it ended");
}

static void
on_sigchld(uv_signal_t *handle, int signum)
{
	struct check *check = handle->data;

	(void)signum;
	for (size_t r = 0; r < ROLES; r++) {
		struct child *child = &check->children[r];
		int status;

		if (child->pid <= 0 ||
		    waitpid(child->pid, &status, WNOHANG) != child->pid)
			continue;
		if (child->control != NULL)
			chan_read_last(child->control);
		child_reaped(child);
		child_failed(child, "it ended");
	}
}

static void
start(struct check *check, enum role role)
{
	struct child *child = &check->children[role];

	child->role = role;
	child->owner = check;
	child->keeper_end = -1;
	if (child_start(child, check->loop, check->machine, control_handlers,
		on_control_closed) != 0)
		child_failed(child, "it could not be started");
}

static void
stop(struct check *check)
{
	chan_free(check->rpc);
	chan_free(check->net);
	for (size_t r = 0; r < ROLES; r++) {
		struct child *child = &check->children[r];

		if (child->pid <= 0)
			continue;
		child_end(child);
		(void)kill(child->pid, SIGKILL);
		(void)waitpid(child->pid, NULL, 0);
		child_reaped(child);
	}
}

/* ---- the whole ---- */

/* What has no answer by now will have none. */
static void
on_deadline(uv_timer_t *timer)
{
	struct check *check = timer->data;

	for (size_t i = 0; i < check->endpoint_count; i++) {
		for (size_t kind = 0; kind < CHECK_KINDS; kind++) {
			struct check_reply *reply =
			    &check->endpoints[i].replies[kind];

			if (!reply->asked || reply->done)
				continue;
			reply->done = 1;
			reply->error = CHAIN_ERROR_TIMEOUT;
			(void)snprintf(
			    reply->text, sizeof(reply->text), "no answer");
		}
	}
	for (size_t r = 0; r < ROLES; r++) {
		if (check->children[r].state == CHILD_STARTING)
			child_failed(&check->children[r],
			    "it was not ready in "
			    "time");
	}
	uv_stop(check->loop);
}

static void
find_wallet(struct check *check)
{
	const char *identity = conf_text(check->conf, CONF_IDENTITY);

	check->wallet_state = CHECK_WALLET_NONE;
	if (strncmp(identity, "capsule ", 8) == 0) {
		check->wallet_state =
		    check_capsule(identity + 8, CAPSULE_MS, &check->wallet,
			check->wallet_why) == 0
		    ? CHECK_WALLET_KNOWN
		    : CHECK_WALLET_FAILED;
	} else if (conf_identity_file(check->conf) != NULL) {
		check->wallet_state = CHECK_WALLET_WAIT;
		start(check, ROLE_KEEPER);
	}
}

static void
close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle) &&
	    (handle->type == UV_TIMER || handle->type == UV_SIGNAL))
		uv_close(handle, NULL);
}

int
check_run(uv_loop_t *loop, struct machine *machine, FILE *out)
{
	static struct check state;
	struct check *check = &state;
	size_t failed;

	check->loop = loop;
	check->machine = machine;
	check->conf = machine->conf;
	check->endpoint_count = check->conf->values[CONF_RPC_URL].count +
	    check->conf->secret_url_count;
	(void)uv_signal_init(loop, &check->on_child);
	check->on_child.data = check;
	(void)uv_signal_start(&check->on_child, on_sigchld, SIGCHLD);
	(void)uv_timer_init(loop, &check->deadline);
	check->deadline.data = check;
	(void)uv_timer_start(&check->deadline, on_deadline,
	    READY_MS + 2 * conf_number(check->conf, CONF_RPC_TIMEOUT) +
		MARGIN_MS,
	    0);
	start(check, ROLE_RPC);
	find_wallet(check);
	(void)uv_run(loop, UV_RUN_DEFAULT);
	stop(check);
	if (check->wallet_state == CHECK_WALLET_KNOWN)
		eth_address_format(&check->wallet, check->wallet_text);
	check->wall_ms = clock_now().wall_ms;
	failed = check_print(check, out);
	uv_walk(loop, close_handle, NULL);
	(void)uv_run(loop, UV_RUN_DEFAULT);
	return failed > 0;
}
