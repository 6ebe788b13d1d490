/*
 * What an authorised app may have done (PROTOCOL.md sections 4, 5 and 7):
 * from the operation and the plaintext of its envelope to the plaintext of
 * the answer, or an error. Pure but for the store that it works on.
 */
#ifndef KMS_KEEPER_ANSWER_APP_H
#define KMS_KEEPER_ANSWER_APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "kms-keeper/audit.h"
#include "kms-keeper/identity.h"
#include "kms-keeper/store.h"
#include "kms-keeper/target.h"

#define ANSWER_MAX (24u << 20) /* bytes of an answer's plaintext */
#define ANSWER_MESSAGE_LEN 160

/* What a write or a read needs of the other nodes. */
struct app_replication {
	/* May a write of the app wait for n peers? KMS_ERANGE: there are not
	 * so many; KMS_EBUSY: too many of its writes wait. */
	int (*can_wait)(void *arg, uint64_t app_id, unsigned int n);
	/* A record was written here. With n > 0 tell when so many peers hold
	 * it, unless an error is returned. */
	int (*written)(void *arg, uint64_t app_id, const void *key,
	    size_t key_len, unsigned int n);
	/* Ask the peers for an evicted value, and tell; else KMS_E*. */
	int (*fetch)(
	    void *arg, uint64_t app_id, const void *key, size_t key_len);
	void *arg;
};

struct app_context {
	struct store *store;
	const struct app_replication *replication; /* NULL: a node alone */
	bool fetched;	       /* the peers were asked already */
	const uint8_t *master; /* MASTER_SECRET_LEN bytes */
	uint64_t app_id;
	bool bound; /* a v2 request */
	size_t peer_count;
	uint64_t max_value_size; /* decoded bytes */
	uint64_t default_ttl_ms;
	bool reserved_paths_allowed;
	struct kms_time now;
	identity_random_fn random;
	void *random_arg;
	const uint8_t *audit_key; /* of audit_path, or NULL */
};

#define APP_WAITS 0 /* no status yet: replicas, or a value, are awaited */

/*
 * An outcome: status 200 and the JSON appended to the plaintext, or a status
 * of section 5's table with a message that JSON need not escape. With
 * APP_WAITS a write goes on with answer_app_replicas, a read with answer_app
 * and context.fetched; answer_app_drop ends it otherwise.
 */
struct app_answer {
	unsigned int status;
	char message[ANSWER_MESSAGE_LEN];
	struct json_t *written;	      /* APP_WAITS: a write's answer so far */
	bool has_path;		      /* with an audit_key, once it is known: */
	uint8_t path[AUDIT_PATH_LEN]; /* what the request is about */
};

/*
 * Do it. body is the plaintext of the envelope (NULL, 0 for an operation
 * without one). On any status but 200 the store is as it was and plaintext
 * has nothing appended. plaintext holds secrets: buf_free wipes it.
 */
void answer_app(const struct app_context *context, const struct target *target,
    const uint8_t *body, size_t body_len, struct buf *plaintext,
    struct app_answer *answer);

/* The write that waited: k peers hold it. */
void answer_app_replicas(
    struct app_answer *answer, unsigned int k, bool met, struct buf *plaintext);

/* Nobody waits for it any more; the write stays. */
void answer_app_drop(struct app_answer *answer);

/* The error code of a status (section 5): "bad_request" and so on. */
const char *answer_app_code(unsigned int status);

#endif
