/*
 * kms-keeper: the process that alone holds the master secret, the identity
 * keys and the store, and takes every decision. No network, no files.
 */
#include <jansson.h>
#include <malloc.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "common/err.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/secmem.h"
#include "crypto/aead.h"
#include "crypto/crypto.h"
#include "kms-keeper/channel.h"
#include "kms-keeper/config.h"
#include "kms-keeper/identity_capsule.h"
#include "kms-keeper/keeper.h"
#include "kms-keeper/sandbox.h"
#include "proto/ctl_client.h"
#include "proto/fds.h"
#include "proto/metrics.h"

#define KEEPER_FDS_END (FD_IDENTITY + 1)
/* Agreements of all counterparts, and what else lives long. */
#define SECMEM_BYTES (1u << 20)
#define TICK_MS 100
#define AUDIT_ROOM 65536 /* bytes of the control channel's queue */
#define PUSH_TICKS 10	 /* /status is at most a second old */

static struct keeper_config config;
static struct channels channels;
static struct identity *capsule; /* NULL: the keys are local */

static void
draw(uint8_t *out, size_t len)
{
	/* Without randomness there is no safe way on. */
	if (RAND_bytes(out, (int)len) != 1)
		ctl_client_fail(
		    channels.control, "the random generator failed");
}

/*
 * A nonce costs the generator as much as many: those, which are public, share
 * one call. Keys never come from the pool.
 */
static void
fill_random(void *arg, uint8_t *out, size_t len)
{
	static uint8_t pool[64 * AEAD_NONCE_LEN];
	static size_t left;

	(void)arg;
	if (len != AEAD_NONCE_LEN) {
		draw(out, len);
		return;
	}
	if (left == 0) {
		draw(pool, sizeof(pool));
		left = sizeof(pool);
	}
	left -= AEAD_NONCE_LEN;
	memcpy(out, pool + left, AEAD_NONCE_LEN);
	explicit_bzero(pool + left, AEAD_NONCE_LEN);
}

static void
mark_changed(void *arg)
{
	(void)arg;
	channels.state_dirty = 1;
}

static uv_timer_t waker;

static void
on_wake(uv_timer_t *timer)
{
	(void)timer;
	keeper_wake(channels.keeper, clock_now());
}

/* The earliest of the times that were asked for; not at once, which libuv
 * would do before it looks at anything else. */
static void
wake(void *arg, int64_t ms)
{
	uint64_t wanted = ms > 0 ? (uint64_t)ms : 1;

	(void)arg;
	if (channels.loop == NULL ||
	    (uv_is_active((uv_handle_t *)&waker) &&
		uv_timer_get_due_in(&waker) <= wanted))
		return;
	(void)uv_timer_start(&waker, on_wake, wanted, 0);
}

/* Room is left for what kmsd must hear in any case. */
static int
send_audit(void *arg, const struct audit_line *line)
{
	struct msg_writer w;

	(void)arg;
	if (chan_send_room(channels.control) < AUDIT_ROOM)
		return KMS_EBUSY;
	chan_begin(channels.control, &w, MSG_KEEPERKMSD_AUDIT, 0);
	msg_put_u(&w, line->seq);
	msg_put_b(&w, line->head);
	msg_put_d(&w, line->prev, SHA256_LEN);
	msg_put_d(&w, line->hash, SHA256_LEN);
	msg_put_d(&w, line->text, line->len);
	return chan_end(channels.control, &w);
}

static const struct keeper_ops ops = {
	.random = fill_random,
	.ask = channel_rpc_ask,
	.answer = channel_net_answer,
	.credit = channel_net_credit,
	.go = channel_net_go,
	.post = channel_peer_post,
	.unpost = channel_peer_cancel,
	.wake = wake,
	.changed = mark_changed,
	.audit = send_audit,
	.arg = &channels,
};

static int
compare_bytes(const void *a, const void *b)
{
	return *(const uint8_t *)a - *(const uint8_t *)b;
}

/* What libraries do once, they do before the sandbox. */
static int
warm_libraries(void)
{
	static uint8_t bytes[4096];
	uint32_t seed;
	json_t *object;
	int error = crypto_init();

	if (error != 0)
		return error;
	/* glibc's qsort asks once how much memory the machine has. */
	qsort(bytes, sizeof(bytes), 1, compare_bytes);
	fill_random(NULL, (uint8_t *)&seed, sizeof(seed));
	json_set_alloc_funcs(secmem_wiping_malloc, secmem_wiping_free);
	json_object_seed(seed != 0 ? seed : 1);
	object = json_pack("{s:f}", "warm", 0.5);
	json_decref(object);
	return object != NULL ? 0 : KMS_ENOMEM;
}

/* ---- keys in the platform's runtime ---- */

static void
want_connections(void *arg, unsigned int count)
{
	struct msg_writer w;

	(void)arg;
	chan_begin(channels.control, &w, MSG_KEEPERKMSD_WANT, 0);
	msg_put_u(&w, count);
	(void)chan_end(channels.control, &w);
}

static void
tell_time(void *arg)
{
	(void)arg;
	keeper_set_time(channels.keeper, clock_now());
}

static int
on_descriptor(struct chan *chan, struct msg *msg, void *arg)
{
	int fd = msg->fd;

	(void)chan;
	(void)arg;
	if (capsule == NULL)
		return KMS_EPROTO;
	msg->fd = -1;
	return identity_capsule_take(capsule, fd);
}

/* With no entropy counted for it: ours stands on its own. */
static void
mix_random(void *arg, const uint8_t *bytes, size_t len)
{
	(void)arg;
	RAND_add(bytes, (int)len, 0.0);
}

static void
tick_capsule(void)
{
	static bool known;

	identity_capsule_tick(capsule, clock_now().boot_ms);
	if (known || !capsule->known)
		return;
	if (keeper_renew(&channels.keeper) != 0)
		return;
	known = true;
	mark_changed(NULL);
	channels.pushed_peers = 0;
	if (channels.chan[CHANNEL_RPC] != NULL)
		readiness_kick(channels.keeper->readiness);
	log_info("wallet %s", channels.keeper->wallet_text);
}

/* ---- the loop ---- */

static void
push_figures(void)
{
	const struct sync *engine = cluster_engine(channels.keeper->cluster);

	channels.state_dirty = 1;
	if (engine != NULL)
		channel_net_push_peers(&channels, engine);
}

static void
on_tick(uv_timer_t *timer)
{
	static unsigned int ticks;

	(void)timer;
	if (capsule != NULL)
		tick_capsule();
	keeper_tick(channels.keeper, clock_now());
	if (++ticks % PUSH_TICKS == 0)
		push_figures();
	metrics[METRIC_KEEPER_LOG_LOST] = log_lost();
	metrics[METRIC_KEEPER_LOG_HELD_BACK] = log_held_back();
	channel_net_push(&channels);
	channel_control_tick(&channels);
}

static int
on_channel(struct chan *chan, struct msg *msg, void *arg)
{
	uint32_t generation = (uint32_t)msg->v[1].u;
	int error = KMS_EPROTO;

	(void)chan;
	(void)arg;
	keeper_set_time(channels.keeper, clock_now());
	if (msg->v[1].u > UINT32_MAX)
		return KMS_EPROTO;
	if (msg->v[0].u == CHANNEL_NET)
		error = channel_net_open(&channels, msg->fd, generation);
	else if (msg->v[0].u == CHANNEL_RPC)
		error = channel_rpc_open(&channels, msg->fd, generation);
	else if (msg->v[0].u == CHANNEL_PEER)
		error = channel_peer_open(&channels, msg->fd, generation);
	if (error == 0)
		msg->fd = -1;
	return error;
}

static int
on_config_row(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	return keeper_config_row(&config, msg);
}

static int
on_config_apply(struct chan *chan, struct msg *msg, void *arg)
{
	int error = keeper_config_apply(&config);

	(void)chan;
	(void)msg;
	(void)arg;
	if (error != 0)
		return error;
	log_init_child(config.log_level);
	counterparts_set_app_rate(
	    channels.keeper->counterparts, config.app_rate);
	return 0;
}

static int
on_audit(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)arg;
	keeper_set_time(channels.keeper, clock_now());
	keeper_audit_open(channels.keeper, msg->v[0].u, msg->v[1].data);
	return 0;
}

static int
on_audit_sign(struct chan *chan, struct msg *msg, void *arg)
{
	(void)chan;
	(void)msg;
	(void)arg;
	audit_sign(channels.keeper->audit, clock_now());
	return 0;
}

static const struct chan_handler control_handlers[] = {
	{ MSG_KMSDCHILD_RECONFIG, on_config_row },
	{ MSG_KMSDCHILD_APPLY, on_config_apply },
	{ MSG_KMSDKEEPER_AUDIT, on_audit },
	{ MSG_KMSDKEEPER_AUDIT_SIGN, on_audit_sign },
	{ MSG_KMSDKEEPER_CHANNEL, on_channel },
	{ MSG_KMSDKEEPER_DESCRIPTOR, on_descriptor },
	{ MSG_KMSDKEEPER_ASK, channel_control_ask },
	{ 0, NULL },
};

static int
make_identity(uv_loop_t *loop, struct identity **identity)
{
	static const char prefix[] = "capsule http://";
	const struct identity_capsule_config settings = {
		.host = config.identity + strlen(prefix),
		.loop = loop,
		.want = want_connections,
		.changed = mark_changed,
		.before = tell_time,
		.mix = mix_random,
		.random = fill_random,
	};
	int error;

	if (strncmp(config.identity, prefix, strlen(prefix)) != 0)
		return identity_local_new(
		    FD_IDENTITY, fill_random, NULL, identity);
	error = identity_capsule_new(&settings, identity);
	capsule = error == 0 ? *identity : NULL;
	return error;
}

static void
make_keeper(uv_loop_t *loop)
{
	struct identity *identity;
	int error = make_identity(loop, &identity);

	if (error == 0)
		error = keeper_new(
		    &config, &ops, identity, clock_now(), &channels.keeper);
	if (error != 0)
		ctl_client_fail(
		    NULL, "making the keeper: %s", kms_strerror(error));
	(void)close(FD_IDENTITY);
	if (identity->known)
		log_info("wallet %s", channels.keeper->wallet_text);
}

static void
start_loop(uv_loop_t *loop)
{
	static uv_timer_t tick;

	channels.loop = loop;
	(void)uv_timer_init(loop, &waker);
	(void)uv_timer_init(loop, &tick);
	(void)uv_timer_start(&tick, on_tick, 1, TICK_MS);
	if (ctl_client_open(
		loop, control_handlers, &channels, &channels.control) != 0)
		ctl_client_fail(NULL, "the control channel cannot be opened");
}

/* Messages of megabytes come in rows: that the kernel clears their pages for
 * each of them anew would be a tenth of what they cost. */
static void
keep_pages(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
}

int
main(void)
{
	char missing[SANDBOX_MISSING_LEN];
	uv_loop_t loop;
	int hidden;

	keep_pages();
	log_init_child(LOG_LEVEL_INFO);
	if (secmem_wipe_heaps() != 0 || sandbox_prepare(KEEPER_FDS_END) != 0)
		ctl_client_fail(NULL, "preparing the process failed");
	if (keeper_config_read(&config) != 0)
		ctl_client_fail(NULL, "the configuration was not understood");
	log_init_child(config.log_level);
	if (secmem_init(SECMEM_BYTES, &hidden) != 0)
		ctl_client_fail(NULL,
		    "memory cannot be locked: RLIMIT_MEMLOCK "
		    "must be at least %u KiB",
		    SECMEM_BYTES / 1024 * 2);
	if (warm_libraries() != 0)
		ctl_client_fail(NULL,
		    "the cryptographic library does not "
		    "start");
	if (uv_loop_init(&loop) != 0)
		ctl_client_fail(NULL, "the event loop cannot be made");
	make_keeper(&loop);
	start_loop(&loop);
	if (sandbox_enter(&keeper_sandbox, &config.sandbox, missing) != 0)
		ctl_client_fail(channels.control, "sandbox: %s", missing);
	(void)ctl_client_ready(channels.control, missing);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	return 1;
}
