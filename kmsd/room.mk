kmsd_SRC := kmsd/main.c kmsd/topology.c kmsd/conf.c kmsd/conf_value.c \
	kmsd/conf_parse.c kmsd/conf_env.c kmsd/conf_dump.c \
	kmsd/conf_check.c kmsd/machine.c kmsd/listen.c \
	kmsd/spawn.c kmsd/child.c kmsd/control.c kmsd/reload.c kmsd/check.c \
	kmsd/check_print.c kmsd/check_capsule.c kmsd/supervise.c \
	kmsd/drain.c kmsd/operator.c kmsd/figures.c kmsd/notify.c \
	kmsd/trail.c kmsd/supply.c kmsd/logline.c kmsd/logger.c \
	kmsd/usage.c kmsd/audit.c kmsd/sandbox.c
kmsd_USES := proto common
kmsd_LIBS := -luv -lseccomp
