/*
 * The envelope of a request (section 2) while it comes in, piece by piece,
 * and until it is opened: an app's and a node's alike.
 */
#ifndef KMS_KEEPER_ARRIVAL_H
#define KMS_KEEPER_ARRIVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/envelope.h"
#include "kms-keeper/request.h"

#define ARRIVAL_SENDER_MAX 512 /* characters of sender_tee_pubkey */
#define ARRIVAL_NONCE_MAX 64   /* of nonce */

/* All zero: there is none. */
struct arrival {
	char sender[ARRIVAL_SENDER_MAX];
	size_t sender_len;
	char nonce[ARRIVAL_NONCE_MAX];
	size_t nonce_len;
	char *data;   /* encrypted_data as sent */
	size_t total; /* characters that it will have */
	size_t len;   /* that are here */
	size_t credited;
};

/* Are they short enough for arrival_begin? */
bool arrival_fits(const struct text *sender, const struct text *nonce);

/* Make room for it, total characters of encrypted_data. They must fit.
 * KMS_ENOMEM. */
int arrival_begin(struct arrival *arrival, const struct text *sender,
    const struct text *nonce, size_t total);

/*
 * Take the next piece in; KMS_EPROTO, and nothing taken, when it is longer than
 * what is missing. *credit: so many characters more may be sent beyond the
 * window (MSG_WINDOW), 0 when all is here.
 */
int arrival_take(
    struct arrival *arrival, const char *data, size_t len, size_t *credit);

bool arrival_is_whole(const struct arrival *arrival);

/* Borrowed, until arrival_decode takes it apart. */
struct envelope_text arrival_text(const struct arrival *arrival);

/* Is its canonical form what was promised? In constant time. */
bool arrival_has_hash(
    const struct arrival *arrival, const uint8_t hash[SHA256_LEN]);

/*
 * The sealed bytes take the place of their hex, at arrival->data. KMS_EINVAL:
 * a member is not well formed; KMS_EAUTH: the sender is well formed, and not
 * the expected one.
 */
int arrival_decode(struct arrival *arrival, const struct p384_point *expected,
    uint8_t nonce[AEAD_NONCE_LEN], size_t *sealed_len);

/* Wiped. */
void arrival_free(struct arrival *arrival);

#endif
