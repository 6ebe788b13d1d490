#include "kmsd/supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/drain.h"
#include "kmsd/figures.h"
#include "kmsd/operator.h"
#include "kmsd/supervise_internal.h"
#include "kmsd/supply.h"
#include "kmsd/trail.h"
#include "kmsd/usage.h"

#define METRICS_MS 1000

static void start_child(struct child *child);
static void stop_all(struct supervisor *s, enum phase phase);

/* ---- helpers ---- */

static const char *
label(const struct child *child)
{
	return roles[child->role].label;
}

static int
all_in(const struct supervisor *s, enum child_state state)
{
	for (size_t r = 0; r < ROLES; r++) {
		if (s->children[r].state != state)
			return 0;
	}
	return 1;
}

static void
kill_child(struct child *child)
{
	if (child->pid > 0)
		(void)kill(child->pid, SIGKILL);
}

/* A failure that the first start does not survive. */
static void
fail_start(struct supervisor *s, const char *why)
{
	if (s->phase != PHASE_FIRST_START)
		return;
	log_error("start failed: %s; no port was opened", why);
	s->status = 1;
	stop_all(s, PHASE_STOPPING);
}

uint64_t
supervise_delay(uint64_t last_ms, uint64_t lived_ms)
{
	if (last_ms == 0 || lived_ms >= RESTART_CALM_TIMES * last_ms)
		return RESTART_FIRST_MS;
	return last_ms * 2 < RESTART_LAST_MS ? last_ms * 2 : RESTART_LAST_MS;
}

/* ---- reload ---- */

static void
update_child(struct supervisor *s, struct child *child)
{
	child->outdated = 0;
	if (reload_child(child, s->reload->conf) != 0)
		log_error(
		    "reload: %s did not get its configuration", label(child));
}

static void
set_log(const struct conf *conf)
{
	enum log_level level = LOG_LEVEL_INFO;

	(void)log_level_parse(conf_text(conf, CONF_LOG_LEVEL), &level);
	logger_init(conf_is(conf, CONF_LOG_FORMAT, "json"), level);
}

static void
on_reload_signal(uv_signal_t *handle, int signum)
{
	struct supervisor *s = handle->data;

	(void)signum;
	if (reload_conf(s->reload, s->children[ROLE_NET].most_connections) != 0)
		return;
	set_log(s->reload->conf);
	for (size_t r = 0; r < ROLES; r++) {
		struct child *child = &s->children[r];

		if (child->state == CHILD_READY)
			update_child(s, child);
		else if (child->state == CHILD_STARTING)
			child->outdated = 1;
	}
	log_info("reload: done");
}

/* ---- ready ---- */

/* Give the keeper its end of the channel of a child. */
static void
pass_channel(struct supervisor *s, struct child *child)
{
	const struct channel_row *row = topology_channel(child->role);
	struct child *keeper = &s->children[ROLE_KEEPER];
	struct msg_writer w;

	if (row == NULL || child->keeper_end < 0 ||
	    keeper->state != CHILD_READY)
		return;
	chan_begin(keeper->control, &w, MSG_KMSDKEEPER_CHANNEL, 0);
	msg_put_u(&w, row->kind);
	msg_put_u(&w, child->generation);
	if (chan_end_fd(keeper->control, &w, child->keeper_end) != 0)
		log_error(
		    "the keeper did not get the channel of %s", label(child));
	child->keeper_end = -1;
	/* Only one descriptor may wait in a channel. */
	chan_flush_blocking(keeper->control, 1000);
}

/* A connection to the identity service, for the keeper. */
static int
pass_connection(void *arg, int fd)
{
	struct supervisor *s = arg;
	struct child *keeper = &s->children[ROLE_KEEPER];
	struct msg_writer w;
	int error;

	if (keeper->state != CHILD_READY) {
		(void)close(fd);
		return KMS_ECLOSED;
	}
	chan_begin(keeper->control, &w, MSG_KMSDKEEPER_DESCRIPTOR, 0);
	error = chan_end_fd(keeper->control, &w, fd);
	/* Only one descriptor may wait in a channel. */
	chan_flush_blocking(keeper->control, 1000);
	return error;
}

static int
on_want(struct chan *chan, struct msg *msg, void *arg)
{
	const struct child *child = arg;
	const struct supervisor *s = child->owner;

	(void)chan;
	if (child->role != ROLE_KEEPER || s->supply == NULL)
		return KMS_EPROTO;
	return supply_want(s->supply, msg->v[0].u);
}

static void
tell_accept(struct supervisor *s)
{
	struct chan *control = s->children[ROLE_NET].control;
	struct msg_writer w;

	if (control == NULL)
		return;
	chan_begin(control, &w, MSG_KMSDNET_ACCEPT, 0);
	(void)chan_end(control, &w);
}

/* ---- ready, the ports ---- */

/* The first time every child is ready: the ports open. */
static void
open_ports(struct supervisor *s)
{
	if (listen_start(s->machine->listen_fd) != 0 ||
	    (s->machine->metrics_fd >= 0 &&
		listen_start(s->machine->metrics_fd) != 0)) {
		fail_start(s, "listen");
		return;
	}
	s->phase = PHASE_SERVING;
	log_info("serving on %s", conf_text(s->machine->conf, CONF_LISTEN));
	tell_accept(s);
}

static int
on_ready(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct supervisor *s = child->owner;

	if (child->state != CHILD_STARTING)
		return KMS_EPROTO;
	chan_set_state(chan, MSG_STATE_RUNNING);
	child->state = CHILD_READY;
	(void)uv_timer_stop(&child->timer);
	if (msg->v[0].len > 0)
		log_warn("%s runs without: %.*s", label(child),
		    (int)msg->v[0].len, (const char *)msg->v[0].data);
	if (child->outdated)
		update_child(s, child);
	if (child->role == ROLE_KEEPER) {
		for (size_t r = 0; r < ROLES; r++)
			pass_channel(s, &s->children[r]);
		trail_tell(s);
	} else {
		pass_channel(s, child);
	}
	if (s->phase == PHASE_FIRST_START && all_in(s, CHILD_READY))
		open_ports(s);
	else if (s->phase == PHASE_SERVING && child->role == ROLE_NET)
		tell_accept(s);
	return 0;
}

static int
on_failed(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct supervisor *s = child->owner;
	char why[640];

	(void)chan;
	(void)snprintf(why, sizeof(why), "%s: %.*s", label(child),
	    (int)msg->v[0].len, (const char *)msg->v[0].data);
	if (s->phase == PHASE_FIRST_START)
		fail_start(s, why);
	else
		log_error("%s", why);
	return 0;
}

static int
on_metrics(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	int error =
	    metrics_decode(msg->v[0].data, msg->v[0].len, child->metrics);

	(void)chan;
	child->has_metrics = error == 0;
	return error;
}

static int
on_serving(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct supervisor *s = child->owner;

	(void)chan;
	if (child->role != ROLE_KEEPER)
		return KMS_EPROTO;
	s->serving = msg->v[0].u != 0;
	log_info("%s", s->serving ? "ready" : "not ready");
	if (!s->serving)
		return 0;
	s->has_served = 1;
	notify_ready(s->notify);
	return 0;
}

static const struct chan_handler handlers[] = {
	{ MSG_KEEPERKMSD_TOLD, operator_on_told },
	{ MSG_KEEPERKMSD_SERVING, on_serving },
	{ MSG_NETKMSD_DRAINED, drain_on_drained },
	{ MSG_CHILDKMSD_READY, on_ready },
	{ MSG_CHILDKMSD_FAILED, on_failed },
	{ MSG_CHILDKMSD_METRICS, on_metrics },
	{ MSG_KEEPERKMSD_AUDIT, trail_on_audit },
	{ MSG_KEEPERKMSD_WANT, on_want },
	{ 0, NULL },
};

/* ---- metrics ---- */

static void
on_metrics_timer(uv_timer_t *timer)
{
	struct supervisor *s = timer->data;

	log_tick();
	metrics[METRIC_KMSD_LOG_HELD_BACK] = log_held_back();
	if (s->machine->audit.broken)
		trail_reopen(s);
	if (s->children[ROLE_NET].state == CHILD_READY &&
	    s->phase == PHASE_SERVING)
		figures_push(s);
}

/* ---- death ---- */

static void
on_kill_timer(uv_timer_t *timer)
{
	struct child *child = timer->data;

	log_warn("%s[%ld] did not exit in time: killed", label(child),
	    (long)child->pid);
	kill_child(child);
}

/* Close control and see that the process goes. */
static void
end_child(struct child *child)
{
	const struct supervisor *s = child->owner;

	(void)uv_timer_stop(&child->timer);
	if (child->role == ROLE_KEEPER)
		supply_reset(s->supply);
	if (child->pid <= 0)
		return;
	child_end(child);
	(void)uv_timer_start(&child->timer, on_kill_timer, STOP_MS, 0);
}

static void
on_control_closed(struct chan *chan, int error, void *arg)
{
	struct child *child = arg;

	(void)chan;
	end_child(child);
	/* A child that breaks the protocol is not asked, it is killed. */
	if (error != KMS_ECLOSED)
		kill_child(child);
}

static void
on_start_timer(uv_timer_t *timer)
{
	struct child *child = timer->data;

	metrics[METRIC_KMSD_RESTARTS + (int)figures_process(child)]++;
	child->restarts++;
	start_child(child);
}

static void
on_ready_timer(uv_timer_t *timer)
{
	struct child *child = timer->data;
	struct supervisor *s = child->owner;
	char why[128];

	(void)snprintf(why, sizeof(why), "%s was not ready within %d s",
	    label(child), READY_MS / 1000);
	if (s->phase == PHASE_FIRST_START)
		fail_start(s, why);
	else
		log_error("%s: killed", why);
	kill_child(child);
}

static void
schedule_start(struct child *child)
{
	const struct supervisor *s = child->owner;
	uint64_t lived = uv_now(s->loop) - child->started_ms;

	child->delay_ms = supervise_delay(child->delay_ms, lived);
	log_warn("%s starts again in %llu ms, for the %u. time", label(child),
	    (unsigned long long)child->delay_ms, child->restarts + 1);
	(void)uv_timer_start(&child->timer, on_start_timer, child->delay_ms, 0);
}

/* The whole set: it was the keeper that died, and the others did no wrong. */
static void
schedule_all(struct supervisor *s)
{
	const struct child *keeper = &s->children[ROLE_KEEPER];

	schedule_start(&s->children[ROLE_KEEPER]);
	for (size_t r = 0; r < ROLES; r++)
		(void)uv_timer_start(
		    &s->children[r].timer, on_start_timer, keeper->delay_ms, 0);
}

static void
start_child(struct child *child)
{
	struct supervisor *s = child->owner;

	if (child_start(
		child, s->loop, s->machine, handlers, on_control_closed) == 0) {
		usage_started(figures_process(child));
		(void)uv_timer_start(
		    &child->timer, on_ready_timer, READY_MS, 0);
		return;
	}
	if (s->phase == PHASE_FIRST_START) {
		fail_start(s, "a process could not be started");
		return;
	}
	schedule_start(child);
}

static void
close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle) &&
	    (handle->type == UV_TIMER || handle->type == UV_SIGNAL))
		uv_close(handle, NULL);
}

/* Everything is down: come up again, or end. */
static void
all_down(struct supervisor *s)
{
	if (s->phase == PHASE_STOPPING) {
		operator_close(s);
		uv_walk(s->loop, close_handle, NULL);
		return;
	}
	s->phase = PHASE_SERVING;
	schedule_all(s);
}

static void
child_died(struct child *child, int status)
{
	struct supervisor *s = child->owner;
	char what[160];

	child_describe_end(child, status, what, sizeof(what));
	/* FAILED may still be unread in the channel: it says more. */
	if (s->phase == PHASE_FIRST_START && child->control != NULL)
		chan_read_last(child->control);
	(void)uv_timer_stop(&child->timer);
	(void)snprintf(child->last_end, sizeof(child->last_end), "%s", what);
	child_reaped(child);
	if (child->role == ROLE_KEEPER) {
		supply_reset(s->supply);
		s->serving = s->has_served = 0;
	}
	if (s->phase == PHASE_FIRST_START)
		fail_start(s, what);
	if (s->phase == PHASE_STOPPING || s->phase == PHASE_REPLACING) {
		if (all_in(s, CHILD_DOWN))
			all_down(s);
		return;
	}
	log_error("%s", what);
	if (child->role == ROLE_KEEPER && s->control != NULL)
		control_lost(s->control);
	if (s->phase == PHASE_DRAINING && drain_child_died(s, child->role))
		return;
	if (child->role == ROLE_KEEPER) {
		log_warn("the keeper is gone: all processes start again");
		stop_all(s, PHASE_REPLACING);
	} else {
		schedule_start(child);
	}
}

static void
on_sigchld(uv_signal_t *handle, int signum)
{
	struct supervisor *s = handle->data;
	int status;
	pid_t pid;

	(void)signum;
	/* As PID 1 it inherits orphans, of health checks say: reaped, too. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t r = 0; r < ROLES; r++) {
			if (s->children[r].pid == pid) {
				child_died(&s->children[r], status);
				break;
			}
		}
	}
}

/* ---- stop ---- */

static void
stop_all(struct supervisor *s, enum phase phase)
{
	if (s->phase == PHASE_STOPPING)
		return;
	s->phase = phase;
	for (size_t r = 0; r < ROLES; r++)
		end_child(&s->children[r]);
	if (all_in(s, CHILD_DOWN))
		all_down(s);
}

void
supervise_stop(struct supervisor *s)
{
	stop_all(s, PHASE_STOPPING);
}

/* A second signal does not wait. */
static void
on_stop_signal(uv_signal_t *handle, int signum)
{
	struct supervisor *s = handle->data;

	if (s->phase == PHASE_SERVING && !trail_is_signing(s) &&
	    drain_begin(s, 0) == 0) {
		log_info("signal %d: draining", signum);
		return;
	}
	log_info("signal %d: stopping", signum);
	if (s->phase == PHASE_SERVING && !trail_is_signing(s))
		trail_stop(s);
	else
		supervise_stop(s);
}

static int
open_supply(struct supervisor *s)
{
	const char *url = conf_identity_url(s->machine->conf);

	return url == NULL
	    ? 0
	    : supply_new(s->loop, url, pass_connection, s, &s->supply);
}

static int
open_handles(struct supervisor *s)
{
	struct {
		uv_signal_t *handle;
		uv_signal_cb fn;
		int signum;
	} const signals[] = { { &s->on_child, on_sigchld, SIGCHLD },
		{ &s->on_term, on_stop_signal, SIGTERM },
		{ &s->on_int, on_stop_signal, SIGINT },
		{ &s->on_hup, on_reload_signal, SIGHUP },
		{ &s->on_usr1, trail_on_signal, SIGUSR1 },
		{ &s->on_usr2, trail_on_signal, SIGUSR2 } };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (uv_signal_init(s->loop, signals[i].handle) != 0)
			return KMS_ESYS;
		signals[i].handle->data = s;
		if (uv_signal_start(signals[i].handle, signals[i].fn,
			signals[i].signum) != 0)
			return KMS_ESYS;
	}
	for (size_t r = 0; r < ROLES; r++) {
		struct child *child = &s->children[r];

		child->role = (enum role)r;
		child->owner = s;
		child->keeper_end = -1;
		(void)uv_timer_init(s->loop, &child->timer);
		child->timer.data = child;
	}
	(void)uv_timer_init(s->loop, &s->sign_timer);
	s->sign_timer.data = s;
	(void)uv_timer_init(s->loop, &s->drain_timer);
	s->drain_timer.data = s;
	(void)uv_timer_init(s->loop, &s->metrics_timer);
	s->metrics_timer.data = s;
	return uv_timer_start(&s->metrics_timer, on_metrics_timer, METRICS_MS,
		   METRICS_MS) == 0
	    ? 0
	    : KMS_ESYS;
}

int
supervise_run(uv_loop_t *loop, struct machine *machine,
    const struct reload *reload, struct notify *notify)
{
	static struct supervisor supervisor;
	struct supervisor *s = &supervisor;

	s->loop = loop;
	s->machine = machine;
	s->notify = notify;
	usage_started(LABEL_process_KMSD);
	s->reload = reload;
	if (open_handles(s) != 0 || operator_open(s) != 0 ||
	    open_supply(s) != 0) {
		log_error("the event loop: %s", strerror(errno));
		return 1;
	}
	for (size_t r = 0; r < ROLES && s->phase == PHASE_FIRST_START; r++)
		start_child(&s->children[r]);
	(void)uv_run(loop, UV_RUN_DEFAULT);
	supply_free(s->supply);
	return s->status;
}
