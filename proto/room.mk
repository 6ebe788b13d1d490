# Shapes and channels between the processes, no policy.
proto_SRC := proto/msg.c proto/chan.c proto/config.c proto/metrics.c \
	proto/ctl_client.c
proto_USES := common
proto_LIBS := -luv -lmsgpackc
