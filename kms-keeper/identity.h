/*
 * The node's two keys (PROTOCOL.md section 1) behind an asynchronous
 * interface: with a platform's identity service an operation is a call to
 * another process. Results arrive by callback, with the local identity
 * before the call returns.
 *
 * What an operation is handed is borrowed for its call, the agreement's place
 * too; arg must live until done. identity_free ends the operations that are
 * open without a word: who frees it frees what waits for it before.
 */
#ifndef KMS_KEEPER_IDENTITY_H
#define KMS_KEEPER_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/eth.h"
#include "crypto/p384.h"
#include "crypto/wallet.h"
#include "kms-keeper/seal.h"
#include "kms-keeper/transaction.h"

struct identity;

/*
 * A result: error 0 and len bytes at out, borrowed for the call and wiped
 * after it; or KMS_E* and nothing.
 */
typedef void (*identity_done_fn)(
    void *arg, int error, const uint8_t *out, size_t len);

/*
 * The agreement with one counterpart, kept by the caller beside what it knows
 * of it. Start with NULL; given back by identity_forget.
 */
struct agreement;

/* Fills len bytes with randomness fit for keys. */
typedef void (*identity_random_fn)(void *arg, uint8_t *out, size_t len);

struct identity_ops {
	void (*sign)(struct identity *identity, const void *message, size_t len,
	    identity_done_fn done, void *arg);
	void (*open)(struct identity *identity, struct agreement **agreement,
	    const struct p384_point *other, const uint8_t nonce[12],
	    const uint8_t *sealed, size_t len, identity_done_fn done,
	    void *arg);
	void (*seal)(struct identity *identity, struct agreement **agreement,
	    const struct p384_point *other, const uint8_t *plaintext,
	    size_t len, identity_done_fn done, void *arg);
	void (*sign_transaction)(struct identity *identity,
	    const struct transaction *transaction, identity_done_fn done,
	    void *arg);
	/* NULL: this kind of identity cannot. */
	void (*unseal)(struct identity *identity,
	    const struct sealed_secret *sealed, identity_done_fn done,
	    void *arg);
	void (*forget)(struct identity *identity, struct agreement *agreement);
	void (*free)(struct identity *identity);
};

/* The head of every kind of identity. */
struct identity {
	const struct identity_ops *ops;
	struct eth_address wallet;
	struct p384_point point;
	struct wallet_context *wallets; /* to recover and to check with */
	/* wallet and point are there. They never change after that. */
	bool known;
	/* Why no operation can succeed now, static text for /status; or NULL */
	const char *problem;
};

/*
 * Local keys: from the identity file behind fd (JSON of kmsctl keygen), or,
 * when fd is empty or /dev/null, made now. The file's bytes are wiped. Keys
 * lie in secmem. KMS_EINVAL (logged) for a bad file, KMS_ENOMEM,
 * KMS_ECRYPTO.
 */
int identity_local_new(int fd, identity_random_fn random, void *random_arg,
    struct identity **identity);

/* EIP-191 over a message that the keeper composed: 65 bytes, v 0 or 1. */
void identity_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg);

/*
 * Open an envelope from other: the plaintext. KMS_EAUTH when it does not
 * authenticate.
 */
void identity_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg);

/* Seal for other: nonce (12) || ciphertext || tag (16). */
void identity_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg);

/* Sign exactly this transaction: the raw one, checked field by field. */
void identity_sign_transaction(struct identity *identity,
    const struct transaction *transaction, identity_done_fn done, void *arg);

/*
 * Open a secret that was sealed to the node's P-384 key: MASTER_SECRET_LEN
 * bytes. KMS_EAUTH when it does not authenticate; KMS_EUNAVAIL from a kind
 * that cannot, which identity_can_unseal tells before: a platform's service
 * that opens nothing but envelopes.
 */
void identity_unseal(struct identity *identity,
    const struct sealed_secret *sealed, identity_done_fn done, void *arg);
bool identity_can_unseal(const struct identity *identity);

/* Wipe an agreement (a counterpart is forgotten or changed its key). */
void identity_forget(struct identity *identity, struct agreement **agreement);

void identity_free(struct identity *identity);

#endif
