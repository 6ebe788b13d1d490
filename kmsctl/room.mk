# The operator's and apps' client: the library is client*.c with kmsclient.h,
# the program main.c with cmd*.c.
kmsctl_SRC := kmsctl/client.c kmsctl/client_answer.c kmsctl/client_app.c \
	kmsctl/client_call.c kmsctl/client_http.c kmsctl/client_identity.c \
	kmsctl/client_json.c kmsctl/client_registry.c kmsctl/client_url.c \
	kmsctl/main.c kmsctl/cmd_app.c kmsctl/cmd_chain.c kmsctl/cmd_control.c kmsctl/cmd_keygen.c \
	kmsctl/cmd_node.c kmsctl/cmd_parse.c kmsctl/cmd_print.c \
	kmsctl/cmd_sim.c kmsctl/cmd_audit.c kmsctl/audit_verify.c \
	kmsctl/cmd_top.c kmsctl/top_metrics.c kmsctl/top_view.c
kmsctl_USES := crypto common
kmsctl_LIBS := -lcurl -ljansson
