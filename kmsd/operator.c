#include "kmsd/operator.h"

#include <string.h>

#include "common/err.h"
#include "kmsd/drain.h"
#include "kmsd/figures.h"
#include "kmsd/supervise_internal.h"
#include "kmsd/trail.h"

/* ---- the keeper's word --------------------------------------------------- */

int
operator_ask(struct supervisor *s, uint64_t id, enum control_question question)
{
	struct child *keeper = &s->children[ROLE_KEEPER];
	struct msg_writer w;

	if (keeper->state != CHILD_READY || keeper->control == NULL)
		return KMS_EUNAVAIL;
	chan_begin(keeper->control, &w, MSG_KMSDKEEPER_ASK, id);
	msg_put_u(&w, question);
	return chan_end(keeper->control, &w);
}

int
operator_on_told(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct supervisor *s = child->owner;

	(void)chan;
	if (child->role != ROLE_KEEPER)
		return KMS_EPROTO;
	if (msg->id == DRAIN_QUESTION)
		drain_told(s, msg);
	else if (s->control != NULL)
		control_told(s->control, msg->id, msg->v[1].data, msg->v[1].len,
		    msg->v[0].u != 0);
	return 0;
}

/* ---- the processes ------------------------------------------------------- */

static const char *
state_name(enum child_state state)
{
	static const char *const names[] = {
		[CHILD_DOWN] = "down",
		[CHILD_STARTING] = "starting",
		[CHILD_READY] = "running",
		[CHILD_ENDING] = "ending",
	};

	return names[state];
}

/* Everything in last_end is kmsd's own words, which need no escape. */
static int
describe_child(
    const struct supervisor *s, const struct child *child, struct buf *out)
{
	uint64_t now = uv_now(s->loop);
	int waits = child->state == CHILD_DOWN &&
	    uv_is_active((const uv_handle_t *)&child->timer);

	return buf_printf(out,
	    "{\"name\":\"%s\",\"pid\":%ld,\"state\":\"%s\",\"up_ms\":%llu,"
	    "\"restarts\":%u,\"delay_ms\":%llu,\"next_start_ms\":%lld,"
	    "\"last_end\":\"%s\"}",
	    roles[child->role].label, (long)child->pid,
	    state_name(child->state),
	    (unsigned long long)(child->pid > 0 ? now - child->started_ms : 0),
	    child->restarts,
	    (unsigned long long)figures_restart_delay(s, child),
	    waits ? (long long)uv_timer_get_due_in(&child->timer) : -1,
	    child->last_end);
}

static int
on_processes(void *arg, struct buf *answer)
{
	const struct supervisor *s = arg;
	int error =
	    buf_printf(answer, "{\"ready\":%s,\"draining\":%s,\"processes\":[",
		s->serving ? "true" : "false",
		s->phase == PHASE_DRAINING ? "true" : "false");

	for (size_t r = 0; error == 0 && r < ROLES; r++) {
		if (r > 0)
			error = buf_append_text(answer, ",");
		if (error == 0)
			error = describe_child(s, &s->children[r], answer);
	}
	return error == 0 ? buf_append_text(answer, "]}") : error;
}

/* ---- the socket ---------------------------------------------------------- */

static int
on_ask(void *arg, uint64_t id, enum control_question question)
{
	return operator_ask(arg, id, question);
}

static int
on_drain(void *arg, uint64_t id)
{
	struct supervisor *s = arg;

	if (s->phase != PHASE_SERVING || trail_is_signing(s))
		return KMS_EBUSY;
	if (drain_begin(s, id) == 0)
		return 0;
	control_refused(s->control, id,
	    "stopped at once: drain-timeout is 0, or this node has not served");
	trail_stop(s);
	return 0;
}

int
operator_open(struct supervisor *s)
{
	struct control_ops ops = { on_ask, on_drain, on_processes, s };

	if (s->machine->control_fd < 0)
		return 0;
	s->control = control_new(s->loop, s->machine->control_fd, &ops);
	s->machine->control_fd = -1;
	return s->control != NULL ? 0 : KMS_ENOMEM;
}

void
operator_close(struct supervisor *s)
{
	control_close(s->control);
	s->control = NULL;
}
