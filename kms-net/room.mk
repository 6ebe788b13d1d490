# Speaks HTTP with clients. Parses nothing but HTTP and envelopes, holds no
# secret, links no cryptography of its own.
kms-net_SRC := kms-net/main.c kms-net/sandbox.c kms-net/http.c kms-net/drain.c \
	kms-net/request.c kms-net/route.c kms-net/answer.c kms-net/keeper.c \
	kms-net/pop.c kms-net/state.c kms-net/client.c kms-net/limit.c \
	kms-net/address.c kms-net/bytes.c kms-net/json_out.c \
	kms-net/metrics.c kms-net/routes_info.c kms-net/routes_kms.c \
	kms-net/routes_sync.c kms-net/openapi.c
kms-net_USES := proto common
kms-net_LIBS := -luv -lseccomp

# openapi.c contains the bytes of this file.
$(foreach v,$(VARIANTS),$(B)/$(v)/kms-net/openapi.o): proto/openapi.json
