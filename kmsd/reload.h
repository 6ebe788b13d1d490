/*
 * SIGHUP: the configuration is read again. What conf.def marks RELOAD takes
 * effect in the running processes; of other keywords that have changed the log
 * says that they need a restart. A configuration with any error changes
 * nothing.
 */
#ifndef KMS_KMSD_RELOAD_H
#define KMS_KMSD_RELOAD_H

#include "kmsd/child.h"
#include "kmsd/conf.h"

/* What a configuration is made of besides its file; borrowed. */
struct reload {
	struct conf *conf; /* in force; main and children's starts read it */
	char *const *environment; /* as conf_environment_copy gives it */
	const char *https_proxy;  /* or NULL */
	int may_lack;		  /* the file need not exist */
	int verbose;		  /* -v stays in force */
};

/*
 * Read it again and take over what may change; max-connections not above
 * most_connections, which kms-net was started for. 0 when values may have
 * changed, or KMS_EINVAL (all errors logged, nothing changed).
 */
int reload_conf(const struct reload *reload, uint64_t most_connections);

/* Send a running child what may change of its configuration. KMS_E*. */
int reload_child(struct child *child, const struct conf *conf);

#endif
