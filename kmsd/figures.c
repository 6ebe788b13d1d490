#include "kmsd/figures.h"

#include <unistd.h>

#include "kmsd/supervise_internal.h"
#include "kmsd/usage.h"

enum label_process
figures_process(const struct child *child)
{
	return (enum label_process)(LABEL_process_NET + child->role);
}

uint64_t
figures_restart_delay(const struct supervisor *s, const struct child *child)
{
	if (child->state == CHILD_READY &&
	    uv_now(s->loop) - child->started_ms >=
		RESTART_CALM_TIMES * child->delay_ms)
		return 0;
	return child->delay_ms;
}

static void
count_usage(struct supervisor *s)
{
	usage_count(LABEL_process_KMSD, getpid());
	for (size_t r = 0; r < ROLES; r++)
		usage_count(
		    figures_process(&s->children[r]), s->children[r].pid);
}

static void
count_delays(struct supervisor *s)
{
	for (size_t r = 0; r < ROLES; r++)
		metrics[METRIC_KMSD_RESTART_DELAY +
		    (int)figures_process(&s->children[r])] =
		    figures_restart_delay(s, &s->children[r]) * 1000;
}

static void
send_metrics(struct chan *to, enum metrics_slot slot, const uint64_t *values)
{
	uint8_t wire[METRICS_WIRE_LEN];
	struct msg_writer w;

	metrics_encode_values(values, wire);
	chan_begin(to, &w, MSG_KMSDNET_METRICS, 0);
	msg_put_u(&w, slot);
	msg_put_d(&w, wire, sizeof(wire));
	(void)chan_end(to, &w);
}

void
figures_push(struct supervisor *s)
{
	struct chan *net = s->children[ROLE_NET].control;

	count_usage(s);
	count_delays(s);
	send_metrics(net, METRICS_SLOT_kmsd, metrics);
	for (size_t r = 0; r < ROLES; r++) {
		if (r != ROLE_NET && s->children[r].has_metrics)
			send_metrics(
			    net, roles[r].slot, s->children[r].metrics);
	}
}
