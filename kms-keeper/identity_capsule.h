/*
 * The identity whose keys stay in the platform's runtime (PROTOCOL.md section
 * 10): every operation is a call to it, checked when it comes back.
 *
 * Wallet and key are read before the first operation, and again whenever a
 * connection was lost. While they cannot be read, or are others than before,
 * identity->problem says so and every operation fails with KMS_EUNAVAIL: there
 * are no other keys to fall back to.
 */
#ifndef KMS_KEEPER_IDENTITY_CAPSULE_H
#define KMS_KEEPER_IDENTITY_CAPSULE_H

#include <stdint.h>
#include <uv.h>

#include "kms-keeper/identity.h"

#define CAPSULE_CALL_MS 5000  /* an operation may take */
#define CAPSULE_CHECK_MS 2000 /* each call that reads wallet and key */
#define CAPSULE_RETRY_MS 500  /* between attempts to read them */
#define CAPSULE_MIX_MS 60000  /* between pieces of its randomness */

struct identity_capsule_config {
	const char *host; /* address and port; borrowed for life */
	uv_loop_t *loop;
	/* So many connections more, by identity_capsule_take. */
	void (*want)(void *arg, unsigned int count);
	/* known or problem changed. */
	void (*changed)(void *arg);
	/* An operation's done is about to be called: what time is it? */
	void (*before)(void *arg);
	/* Randomness of the service, to be mixed into our own. */
	void (*mix)(void *arg, const uint8_t *bytes, size_t len);
	identity_random_fn random; /* to blind the curve library with */
	void *arg;
};

/* KMS_ENOMEM. Nothing is known of it then: see identity.h. After
 * identity_free the loop must run once more. */
int identity_capsule_new(
    const struct identity_capsule_config *config, struct identity **identity);

/* A connection that was wanted; takes over fd in every case. As
 * capsule_pool_take. */
int identity_capsule_take(struct identity *identity, int fd);

/* At least every 100 ms, with the time since boot. */
void identity_capsule_tick(struct identity *identity, int64_t now_ms);

#endif
