/*
 * Role peer: the keeper's requests to other nodes. Each peer (scheme, host and
 * port) has a queue and connections of its own and a share of the places, so
 * that a slow or hostile one delays nobody else.
 */
#ifndef KMS_CHAIN_PEER_POST_H
#define KMS_CHAIN_PEER_POST_H

#include <uv.h>

#include "kms-chain/destination.h"
#include "kms-chain/peer_url.h"
#include "kms-chain/resolve.h"
#include "proto/chan.h"

#define PEER_POSTS_MAX 512     /* requests that wait or are under way */
#define PEER_QUEUE_MAX 32      /* of one peer */
#define PEER_IN_FLIGHT_MAX 256 /* under way to all peers */
#define PEER_SHARE 4	       /* to one peer */
#define PEER_SHARE_LOADED 1 /* to one peer, while half the places are taken */
#define PEER_TIMEOUT_MAX 600000U    /* ms */
#define PEER_ANSWER_MAX (64U << 20) /* bytes of a body */
#define PEER_BODY_MAX (128U << 20)  /* of encrypted_data that is sent */

struct peer_posts;

struct peer_posts_config {
	struct peer_url_rules rules;
	const struct destination *proxy; /* NULL: none; borrowed for ever */
	const uint8_t *ca_bundle;	 /* PEM, read once */
	size_t ca_len;
};

/*
 * Before the sandbox. Lives as long as the process. Errors of curl_loop_open.
 */
int peer_posts_open(uv_loop_t *loop, struct resolver *resolver,
    const struct peer_posts_config *config, struct peer_posts **out);

/* Where answers go; before the first message is handled. */
void peer_posts_attach(struct peer_posts *posts, struct chan *keeper);

/* The keeper's messages; arg is the struct peer_posts. */
int peer_post_request(struct chan *chan, struct msg *msg, void *arg);
int peer_post_body(struct chan *chan, struct msg *msg, void *arg);
int peer_post_cancel(struct chan *chan, struct msg *msg, void *arg);
int peer_post_credit(struct chan *chan, struct msg *msg, void *arg);

/* The channel takes pieces again. */
void peer_posts_drained(struct chan *chan, void *arg);

#endif
