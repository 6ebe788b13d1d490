# Every connection the node opens; no secret-handling code.
kms-chain_SRC := kms-chain/main.c kms-chain/config.c kms-chain/sandbox.c \
	kms-chain/destination.c kms-chain/resolve.c kms-chain/trust.c \
	kms-chain/curl_loop.c kms-chain/fetch.c kms-chain/rpc_parse.c kms-chain/rpc.c \
	kms-chain/question.c kms-chain/registry_calls.c \
	kms-chain/transaction_calls.c kms-chain/peer_url.c \
	kms-chain/peer_answer.c kms-chain/peer_transfer.c kms-chain/peer_post.c
kms-chain_USES := proto common
kms-chain_LIBS := -luv -lcurl -lssl -lcares -ljansson -lseccomp
