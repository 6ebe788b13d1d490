#include "kmsd/reload.h"

#include <string.h>

#include "common/err.h"
#include "common/log.h"

static void
report(const char *message, void *arg)
{
	(void)arg;
	log_error("reload: %s", message);
}

static int
may_change(const struct conf *fresh, enum conf_id id, uint64_t most_connections)
{
	if ((conf_rows[id].flags & CONF_FLAG_RELOAD) == 0)
		return 0;
	/* kms-net's limit of open files was set at its start, for good. */
	return id != CONF_MAX_CONNECTIONS ||
	    conf_number(fresh, id) <= most_connections;
}

static void
swap_all(struct conf *conf, struct conf *fresh, const int *swapped)
{
	for (size_t id = 0; id < CONF_COUNT; id++) {
		if (swapped[id])
			conf_swap(conf, fresh, (enum conf_id)id);
	}
}

static void
tell(const struct conf *conf, enum conf_id id)
{
	const struct conf_value *value = &conf->values[id];
	char shown[CONF_SHOWN_LEN];

	if (value->count == 0)
		log_info("reload: %s is not set any more", conf_rows[id].name);
	for (size_t i = 0; i < value->count; i++)
		log_info("reload: %s is now %s", conf_rows[id].name,
		    conf_shown(&conf_rows[id], value->items[i].text, shown));
}

/* The whole was right; so must be the mixture of new and old. */
static int
take_over(struct conf *conf, struct conf *fresh, uint64_t most_connections)
{
	int swapped[CONF_COUNT] = { 0 };

	for (size_t i = 0; i < CONF_COUNT; i++) {
		enum conf_id id = (enum conf_id)i;

		if (conf_same(conf, fresh, id))
			continue;
		if (may_change(fresh, id, most_connections))
			swapped[id] = 1;
		else
			log_warn("reload: %s has changed, which needs a "
				 "restart",
			    conf_rows[id].name);
	}
	swap_all(conf, fresh, swapped);
	conf->report = report;
	conf->errors = 0;
	conf_check_values(conf);
	if (conf->errors > 0) {
		swap_all(conf, fresh, swapped);
		return KMS_EINVAL;
	}
	for (size_t id = 0; id < CONF_COUNT; id++) {
		if (swapped[id])
			tell(conf, (enum conf_id)id);
	}
	return 0;
}

int
reload_conf(const struct reload *reload, uint64_t most_connections)
{
	static struct conf fresh;
	unsigned int errors;
	int error = KMS_EINVAL;

	conf_init(&fresh, reload->conf->path, report, NULL);
	conf_load(&fresh, reload->may_lack);
	conf_environment(&fresh, reload->environment);
	conf_finish(&fresh, reload->https_proxy);
	if (reload->verbose)
		conf_set(&fresh, CONF_LOG_LEVEL, "debug");
	errors = fresh.errors;
	if (errors == 0) {
		error = take_over(reload->conf, &fresh, most_connections);
		errors = reload->conf->errors;
	}
	if (error != 0)
		log_error("reload: %u error%s, nothing was changed", errors,
		    errors == 1 ? "" : "s");
	conf_free(&fresh);
	return error;
}

/* ---- children ---- */

struct rows {
	struct chan *control;
	size_t sent;
};

static int
send_row(const char *name, const char *text, void *arg)
{
	struct rows *rows = arg;
	struct msg_writer w;
	enum conf_id id;

	if (conf_find(name, &id) == NULL ||
	    (conf_rows[id].flags & CONF_FLAG_RELOAD) == 0)
		return 0;
	rows->sent++;
	chan_begin(rows->control, &w, MSG_KMSDCHILD_RECONFIG, 0);
	msg_put_s(&w, name);
	msg_put_s(&w, text);
	return chan_end(rows->control, &w);
}

int
reload_child(struct child *child, const struct conf *conf)
{
	struct rows rows = { .control = child->control };
	int error = conf_slice(conf, child->role, send_row, &rows);
	struct msg_writer w;

	if (error != 0 || rows.sent == 0)
		return error;
	chan_begin(child->control, &w, MSG_KMSDCHILD_APPLY, 0);
	return chan_end(child->control, &w);
}
