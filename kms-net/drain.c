#include "kms-net/drain.h"

#include "common/err.h"
#include "common/log.h"
#include "kms-net/net.h"
#include "kms-net/route.h"

#define LOOK_MS 10

/* A peer asks again elsewhere, or later; an app's request is answered. */
static bool
is_under_way(const struct conn *conn)
{
	const struct route *route = conn->request.route;

	if (conn->state == CONN_HEAD || conn->state == CONN_LINGER)
		return false;
	return route == NULL || (route->flags & ROUTE_SYNC) == 0;
}

static bool
is_drained(const struct net *net)
{
	const struct conn *conn;

	for (size_t due = 0; due < DUES; due++) {
		TAILQ_FOREACH (conn, &net->http.due[due], in_due) {
			if (is_under_way(conn))
				return false;
		}
	}
	return true;
}

static void
look(struct net *net)
{
	struct msg_writer w;

	if (!is_drained(net))
		return;
	(void)uv_timer_stop(&net->drain_timer);
	chan_begin(net->ctl, &w, MSG_NETKMSD_DRAINED, 0);
	(void)chan_end(net->ctl, &w);
}

static void
on_timer(uv_timer_t *timer)
{
	look(timer->data);
}

int
drain_begin(struct net *net)
{
	int error;

	if (net->state.draining)
		return KMS_EPROTO;
	error = state_drain(&net->state);
	if (error != 0)
		return error;
	(void)uv_timer_init(&net->loop, &net->drain_timer);
	net->drain_timer.data = net;
	(void)uv_timer_start(&net->drain_timer, on_timer, LOOK_MS, LOOK_MS);
	look(net);
	return 0;
}
