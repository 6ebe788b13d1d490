#include "kmsd/trail.h"

#include "common/err.h"
#include "kmsd/supervise_internal.h"

#define SIGN_MS 500 /* longest wait of a stop for a signature */

static void
on_sign_timer(uv_timer_t *timer)
{
	supervise_stop(timer->data);
}

void
trail_tell(struct supervisor *s)
{
	struct audit_file *file = &s->machine->audit;
	struct child *keeper = &s->children[ROLE_KEEPER];
	struct msg_writer w;

	if (file->path == NULL || file->broken || keeper->state != CHILD_READY)
		return;
	chan_begin(keeper->control, &w, MSG_KMSDKEEPER_AUDIT, 0);
	msg_put_u(&w, file->seq);
	msg_put_d(&w, file->head, AUDIT_HASH_LEN);
	(void)chan_end(keeper->control, &w);
}

int
trail_on_audit(struct chan *chan, struct msg *msg, void *arg)
{
	struct child *child = arg;
	struct supervisor *s = child->owner;
	struct audit_file *file = &s->machine->audit;
	const struct msg_value *v = msg->v;
	int error;

	(void)chan;
	if (child->role != ROLE_KEEPER || file->path == NULL)
		return KMS_EPROTO;
	error = audit_file_append(
	    file, v[0].u, v[2].data, v[3].data, v[4].data, v[4].len);
	if (error == KMS_EPROTO)
		return error;
	if (error != 0)
		metrics[METRIC_KMSD_AUDIT_BROKEN] = 1;
	else if (file->seq == v[0].u)
		metrics[METRIC_KMSD_AUDIT_BROKEN] = 0;
	if (v[1].u != 0 && uv_is_active((uv_handle_t *)&s->sign_timer))
		(void)uv_timer_start(&s->sign_timer, on_sign_timer, 0, 0);
	return 0;
}

/* 1 when a signature may come. */
static int
ask_signature(struct supervisor *s)
{
	struct child *keeper = &s->children[ROLE_KEEPER];
	struct msg_writer w;

	if (s->machine->audit.path == NULL || s->machine->audit.broken ||
	    keeper->state != CHILD_READY)
		return 0;
	chan_begin(keeper->control, &w, MSG_KMSDKEEPER_AUDIT_SIGN, 0);
	return chan_end(keeper->control, &w) == 0;
}

void
trail_reopen(struct supervisor *s)
{
	struct audit_file *file = &s->machine->audit;
	int was_broken = file->broken;

	if (file->path == NULL || audit_file_reopen(file) != 0)
		return;
	if (was_broken)
		trail_tell(s);
}

void
trail_on_signal(uv_signal_t *handle, int signum)
{
	if (signum == SIGUSR1)
		trail_reopen(handle->data);
	else
		(void)ask_signature(handle->data);
}

void
trail_stop(struct supervisor *s)
{
	if (ask_signature(s))
		(void)uv_timer_start(&s->sign_timer, on_sign_timer, SIGN_MS, 0);
	else
		supervise_stop(s);
}

int
trail_is_signing(const struct supervisor *s)
{
	return uv_is_active((const uv_handle_t *)&s->sign_timer);
}
