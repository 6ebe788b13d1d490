# Alone holds the master secret, the identity keys and the store. No network,
# no files: it links no HTTP client and no resolver.
kms-keeper_SRC := kms-keeper/main.c kms-keeper/sandbox.c kms-keeper/config.c \
	kms-keeper/keeper.c kms-keeper/channel_net.c kms-keeper/channel_rpc.c \
	kms-keeper/channel_peer.c kms-keeper/channel_metrics.c kms-keeper/channel_control.c \
	kms-keeper/peer_call.c kms-keeper/peer_attempt.c \
	kms-keeper/peer_node.c kms-keeper/peer_proof.c \
	kms-keeper/request.c kms-keeper/request_sync.c \
	kms-keeper/arrival.c kms-keeper/reply.c \
	kms-keeper/pop.c kms-keeper/refusal.c \
	kms-keeper/target.c kms-keeper/answer_app.c kms-keeper/app_body.c \
	kms-keeper/counterpart.c kms-keeper/authz.c \
	kms-keeper/registry.c kms-keeper/quorum.c kms-keeper/quorum_vote.c \
	kms-keeper/readiness.c kms-keeper/readiness_members.c \
	kms-keeper/readiness_secret.c kms-keeper/submission.c kms-keeper/audit.c \
	kms-keeper/handover.c kms-keeper/handover_message.c \
	kms-keeper/handover_offer.c kms-keeper/cluster.c \
	kms-keeper/cluster_engine.c kms-keeper/cluster_holders.c \
	kms-keeper/cluster_peers.c \
	kms-keeper/identity.c kms-keeper/identity_local.c \
	kms-keeper/identity_capsule.c kms-keeper/capsule_pool.c \
	kms-keeper/capsule_http.c kms-keeper/capsule_json.c \
	kms-keeper/at_rest.c kms-keeper/derive.c kms-keeper/nonce.c \
	kms-keeper/replay.c kms-keeper/seal.c kms-keeper/transaction.c \
	kms-keeper/store.c kms-keeper/store_changes.c kms-keeper/store_dead.c \
	kms-keeper/store_heap.c \
	kms-keeper/store_list.c kms-keeper/store_merge.c \
	kms-keeper/store_record.c kms-keeper/merge.c kms-keeper/vector_clock.c \
	kms-keeper/siphash.c kms-keeper/json_slice.c kms-keeper/record_json.c \
	kms-keeper/sync.c kms-keeper/sync_answer.c kms-keeper/sync_buckets.c \
	kms-keeper/sync_compare.c \
	kms-keeper/sync_descend.c kms-keeper/sync_digest.c \
	kms-keeper/sync_exchange.c kms-keeper/sync_peer.c \
	kms-keeper/sync_repair.c kms-keeper/sync_rivals.c kms-keeper/sync_tree.c kms-keeper/sync_wait.c \
	kms-keeper/sync_want.c kms-keeper/sync_wire.c
kms-keeper_USES := proto crypto common
kms-keeper_LIBS := -luv -ljansson -lseccomp -lm
