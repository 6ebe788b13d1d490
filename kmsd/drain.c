#include "kmsd/drain.h"

#include <stdio.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/operator.h"
#include "kmsd/supervise_internal.h"
#include "kmsd/trail.h"

static void
finish(struct supervisor *s)
{
	s->drained = 1;
	log_info("drained in %llu ms",
	    (unsigned long long)(uv_now(s->loop) - s->drain_ms));
	(void)uv_timer_stop(&s->drain_timer);
	trail_stop(s);
}

/* Stop without what was waited for. */
static void
give_up(struct supervisor *s, const char *why)
{
	s->drained = 1;
	log_warn("draining: %s", why);
	if (s->drain_asker != 0 && s->control != NULL)
		control_refused(s->control, s->drain_asker, why);
	(void)uv_timer_stop(&s->drain_timer);
	trail_stop(s);
}

static void on_timeout(uv_timer_t *timer);

static void
flush(struct supervisor *s)
{
	uint64_t most = conf_number(s->reload->conf, CONF_DRAIN_TIMEOUT);
	uint64_t spent = uv_now(s->loop) - s->drain_ms;

	s->flushing = 1;
	(void)uv_timer_start(
	    &s->drain_timer, on_timeout, spent < most ? most - spent : 0, 0);
	if (operator_ask(s, DRAIN_QUESTION, CONTROL_FLUSH) != 0)
		give_up(s, "the keeper is not running");
}

static void
on_timeout(uv_timer_t *timer)
{
	struct supervisor *s = timer->data;

	if (s->flushing) {
		give_up(s,
		    "drain-timeout has passed before a peer had every change");
		return;
	}
	log_warn("draining: half of drain-timeout has passed before every "
		 "request was answered: what a peer lacks goes first");
	flush(s);
}

/* kms-net's last requests; without one there are none. */
static void
end_requests(struct supervisor *s)
{
	struct child *net = &s->children[ROLE_NET];
	struct msg_writer w;

	if (net->state == CHILD_READY && net->control != NULL) {
		chan_begin(net->control, &w, MSG_KMSDNET_DRAIN, 0);
		if (chan_end(net->control, &w) == 0)
			return;
	}
	flush(s);
}

int
drain_begin(struct supervisor *s, uint64_t asker)
{
	uint64_t most = conf_number(s->reload->conf, CONF_DRAIN_TIMEOUT);

	if (most == 0 || !s->has_served)
		return KMS_EUNAVAIL;
	s->phase = PHASE_DRAINING;
	s->drain_asker = asker;
	s->drain_ms = uv_now(s->loop);
	notify_stopping(s->notify);
	/* Who does not read an answer must not cost what no peer has. */
	(void)uv_timer_start(&s->drain_timer, on_timeout, most / 2, 0);
	end_requests(s);
	return 0;
}

int
drain_on_drained(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct supervisor *s = child->owner;

	(void)chan;
	(void)msg;
	if (child->role != ROLE_NET)
		return KMS_EPROTO;
	/* It may come when half of the time was over. */
	if (s->phase == PHASE_DRAINING && !s->flushing)
		flush(s);
	return 0;
}

void
drain_told(struct supervisor *s, const struct msg *msg)
{
	int last = msg->v[0].u != 0;

	if (s->phase != PHASE_DRAINING || !s->flushing || s->drained)
		return;
	if (s->drain_asker != 0 && s->control != NULL)
		control_told(s->control, s->drain_asker, msg->v[1].data,
		    msg->v[1].len, last);
	if (last)
		finish(s);
}

int
drain_child_died(struct supervisor *s, enum role role)
{
	if (role == ROLE_KEEPER)
		give_up(s, "the keeper is gone");
	else if (role == ROLE_NET && !s->flushing)
		flush(s);
	/* The changes go out through kms-chain: that one is needed. */
	return role == ROLE_KEEPER || role == ROLE_NET;
}
