/*
 * Calls to the identity service over connections that kmsd makes: several in
 * flight, one on a connection at a time, each with a deadline. What a call
 * means is identity_capsule.c's business.
 *
 * A call is sent again only if nothing can have come of it: its connection
 * ended before a byte of it was written, or, when it may be repeated, before
 * a byte of an answer came.
 */
#ifndef KMS_KEEPER_CAPSULE_POOL_H
#define KMS_KEEPER_CAPSULE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/buf.h"
#include "proto/metrics.h"
#include "proto/msg.h"

#define CAPSULE_CONNECTIONS MSG_WANT_MAX
#define CAPSULE_CALLS_MAX 256		/* waiting and under way */
#define CAPSULE_CALLS_BYTES (64u << 20) /* of their requests together */
#define CAPSULE_TRIES 3
#define CAPSULE_BARREN_FIRST_MS 100 /* after a connection that gave nothing */
#define CAPSULE_BARREN_LAST_MS 5000

struct capsule_pool;

struct capsule_pool_ops {
	/* So many further connections, please. */
	void (*want)(void *arg, unsigned int count);
	/* A connection ended that had not announced it. */
	void (*lost)(void *arg);
	void *arg;
};

/* The answer with its status and body; or KMS_ETIMEOUT, KMS_ECLOSED (cut
 * off), KMS_EPROTO, KMS_ETOOBIG, KMS_EUNAVAIL, and neither. Borrowed. */
typedef void (*capsule_done_fn)(
    void *arg, int error, unsigned int status, const struct buf *body);

struct capsule_question {
	enum label_identity_call kind; /* to be counted as */
	const char *target;
	const struct buf *body; /* JSON, copied; NULL: a GET */
	size_t answer_max;	/* bytes of the answer's body */
	int64_t timeout_ms;	/* from now to the end of the answer */
	bool repeatable;	/* twice is as good as once */
	bool first;		/* before all others, and while shut */
};

/* NULL without memory. host is the Host header's value, borrowed for life. */
struct capsule_pool *capsule_pool_new(
    uv_loop_t *loop, const char *host, const struct capsule_pool_ops *ops);

/* Calls that are open end with KMS_ECLOSED. The loop must still run once. */
void capsule_pool_free(struct capsule_pool *pool);

/* A connection that was wanted; takes over fd in every case. KMS_EPROTO when
 * none was, KMS_ENOMEM, KMS_ESYS. */
int capsule_pool_take(struct capsule_pool *pool, int fd);

/*
 * Ask. done is called exactly once, perhaps before this returns. On KMS_EBUSY
 * (at a bound), KMS_ETOOBIG, KMS_ENOMEM it is not called.
 */
int capsule_pool_ask(struct capsule_pool *pool,
    const struct capsule_question *question, capsule_done_fn done, void *arg);

/* While shut, calls wait but for those with first set. Shutting ends those
 * that wait with KMS_EUNAVAIL. */
void capsule_pool_shut(struct capsule_pool *pool, bool shut);

/* At least every 100 ms, with the time since boot: deadlines, and connections
 * that are wanted. Nothing is wanted before the first. */
void capsule_pool_tick(struct capsule_pool *pool, int64_t now_ms);

/* Connections there are. */
size_t capsule_pool_count(const struct capsule_pool *pool);

#endif
