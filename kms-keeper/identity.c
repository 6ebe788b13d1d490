#include "kms-keeper/identity.h"

#include "common/err.h"

void
identity_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg)
{
	identity->ops->sign(identity, message, len, done, arg);
}

void
identity_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	identity->ops->open(
	    identity, agreement, other, nonce, sealed, len, done, arg);
}

void
identity_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	identity->ops->seal(
	    identity, agreement, other, plaintext, len, done, arg);
}

void
identity_sign_transaction(struct identity *identity,
    const struct transaction *transaction, identity_done_fn done, void *arg)
{
	identity->ops->sign_transaction(identity, transaction, done, arg);
}

bool
identity_can_unseal(const struct identity *identity)
{
	return identity->ops->unseal != NULL;
}

void
identity_unseal(struct identity *identity, const struct sealed_secret *sealed,
    identity_done_fn done, void *arg)
{
	if (identity->ops->unseal == NULL)
		done(arg, KMS_EUNAVAIL, NULL, 0);
	else
		identity->ops->unseal(identity, sealed, done, arg);
}

void
identity_forget(struct identity *identity, struct agreement **agreement)
{
	if (*agreement == NULL)
		return;
	identity->ops->forget(identity, *agreement);
	*agreement = NULL;
}

void
identity_free(struct identity *identity)
{
	if (identity != NULL)
		identity->ops->free(identity);
}
