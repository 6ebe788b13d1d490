#include "kms-keeper/identity_capsule.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "crypto/aead.h"
#include "kms-keeper/capsule_http.h"
#include "kms-keeper/capsule_json.h"
#include "kms-keeper/capsule_pool.h"

#define SMALL_BODY_MAX 4096    /* of a question that carries no content */
#define SMALL_ANSWER_MAX 65536 /* an attestation may stand beside */
#define ESCAPES 6	       /* characters that one may become in JSON */
#define LOG_MS 1000	       /* between lines about failed calls */

enum check {
	CHECK_DUE, /* at check_ms */
	CHECK_ADDRESS,
	CHECK_KEY,
	CHECK_RANDOM,
	CHECK_PASSED
};

struct capsule {
	struct identity head;
	struct identity_capsule_config config;
	struct capsule_pool *pool;
	enum check check;
	int64_t now_ms;
	int64_t check_ms;	   /* when the next one may start */
	int64_t mix_ms;		   /* when randomness is fetched again */
	int64_t log_ms;		   /* last line about a failed call */
	struct eth_address wallet; /* as this check read it */
	bool freed;
};

/* An operation that waits for its answer. */
struct operation {
	struct capsule *capsule;
	/* The result is appended to out, or an error returned. */
	int (*read)(const struct operation *operation, const struct buf *body,
	    struct buf *out);
	enum label_identity_call kind;
	const char *name; /* for the log */
	int refused;	  /* what 400 means */
	identity_done_fn done;
	void *arg;
	/* what the answer is held to */
	uint8_t digest[WALLET_DIGEST_LEN];
	struct transaction transaction;
	size_t len;
};

static const char unreachable[] = "identity service is not reachable";
static const char unusable[] = "identity service gives no usable answer";
static const char other_wallet[] =
    "identity service has another wallet than before";
static const char other_key[] =
    "identity service has another teePubkey than before";

static void ask_check(struct capsule *c);

static struct capsule *
capsule_of(struct identity *identity)
{
	return (struct capsule *)(void *)identity;
}

/* ---- wallet and key ---- */

static void
set_problem(struct capsule *c, const char *problem)
{
	if (c->head.problem == problem)
		return;
	c->head.problem = problem;
	if (problem != NULL)
		log_warn("%s", problem);
	else
		log_info("identity service is reachable");
	c->config.changed(c->config.arg);
}

static void
check_failed(struct capsule *c, const char *problem)
{
	c->check = CHECK_DUE;
	c->check_ms = c->now_ms + CAPSULE_RETRY_MS;
	set_problem(c, problem);
	capsule_pool_shut(c->pool, true);
}

static void
check_passed(struct capsule *c)
{
	c->check = CHECK_PASSED;
	c->check_ms = c->now_ms + CAPSULE_RETRY_MS;
	c->mix_ms = c->now_ms + CAPSULE_MIX_MS;
	capsule_pool_shut(c->pool, false);
	set_problem(c, NULL);
}

static const char *
read_address(struct capsule *c, const struct buf *body)
{
	if (capsule_json_address(body, &c->wallet) != 0)
		return unusable;
	if (c->head.known && !eth_address_equal(&c->wallet, &c->head.wallet))
		return other_wallet;
	return NULL;
}

static const char *
read_key(struct capsule *c, const struct buf *body)
{
	struct p384_point point;

	if (capsule_json_public_key(body, &point) != 0)
		return unusable;
	if (c->head.known && !p384_point_equal(&point, &c->head.point))
		return other_key;
	c->head.point = point;
	return NULL;
}

static int
mix_random(struct capsule *c, const struct buf *body)
{
	uint8_t bytes[CAPSULE_RANDOM_LEN];
	int error = capsule_json_random(body, bytes);

	if (error == 0)
		c->config.mix(c->config.arg, bytes, sizeof(bytes));
	OPENSSL_cleanse(bytes, sizeof(bytes));
	return error;
}

static const char *
read_random(struct capsule *c, const struct buf *body)
{
	if (mix_random(c, body) != 0)
		return unusable;
	/* Only now: a secret may be made as soon as they are known. */
	c->head.wallet = c->wallet;
	c->head.known = true;
	return NULL;
}

static const struct check_row {
	enum label_identity_call kind;
	const char *target;
	const char *(*read)(struct capsule *c, const struct buf *body);
} checks[] = {
	[CHECK_ADDRESS] = { LABEL_identity_call_ADDRESS, "/v1/eth/address",
	    read_address },
	[CHECK_KEY] = { LABEL_identity_call_PUBLIC_KEY,
	    "/v1/encryption/public_key", read_key },
	[CHECK_RANDOM] = { LABEL_identity_call_RANDOM, "/v1/random",
	    read_random },
};

static void
on_check(void *arg, int error, unsigned int status, const struct buf *body)
{
	struct capsule *c = arg;
	const char *problem = unusable;

	if (c->freed)
		return;
	if (error == KMS_ETIMEOUT || error == KMS_ECLOSED)
		problem = unreachable;
	else if (error == 0 && status == 200)
		problem = checks[c->check].read(c, body);
	if (problem != NULL) {
		check_failed(c, problem);
		return;
	}
	c->check++;
	if (c->check == CHECK_PASSED)
		check_passed(c);
	else
		ask_check(c);
}

static void
ask_check(struct capsule *c)
{
	struct capsule_question question = {
		.kind = checks[c->check].kind,
		.target = checks[c->check].target,
		.answer_max = SMALL_ANSWER_MAX,
		.timeout_ms = CAPSULE_CHECK_MS,
		.repeatable = true,
		.first = true,
	};

	if (capsule_pool_ask(c->pool, &question, on_check, c) != 0)
		check_failed(c, unusable);
}

/* What is at the other end may not be who it was. */
static void
on_lost(void *arg)
{
	struct capsule *c = arg;

	if (c->check == CHECK_PASSED)
		c->check = CHECK_DUE;
}

static void
on_want(void *arg, unsigned int count)
{
	struct capsule *c = arg;

	c->config.want(c->config.arg, count);
}

static void
on_mix(void *arg, int error, unsigned int status, const struct buf *body)
{
	struct capsule *c = arg;

	if (!c->freed && error == 0 && status == 200)
		(void)mix_random(c, body);
}

static void
fetch_random(struct capsule *c)
{
	struct capsule_question question = {
		.kind = LABEL_identity_call_RANDOM,
		.target = checks[CHECK_RANDOM].target,
		.answer_max = SMALL_ANSWER_MAX,
		.timeout_ms = CAPSULE_CALL_MS,
		.repeatable = true,
	};

	c->mix_ms = c->now_ms + CAPSULE_MIX_MS;
	(void)capsule_pool_ask(c->pool, &question, on_mix, c);
}

/* ---- operations ---- */

static void
complain(const struct operation *operation, int error, unsigned int status)
{
	struct capsule *c = operation->capsule;

	if (c->log_ms != 0 && c->now_ms - c->log_ms < LOG_MS)
		return;
	c->log_ms = c->now_ms;
	if (status != 0 && status != 200)
		log_warn(
		    "identity service: %s: status %u", operation->name, status);
	else
		log_warn("identity service: %s: %s", operation->name,
		    kms_strerror(error));
}

static int
status_error(const struct operation *operation, unsigned int status)
{
	switch (status) {
	case 200:
		return 0;
	case 400:
	case 422:
		return operation->refused;
	case 413:
		return KMS_ETOOBIG;
	default:
		return KMS_EUNAVAIL;
	}
}

static void
on_answer(void *arg, int error, unsigned int status, const struct buf *body)
{
	struct operation *operation = arg;
	struct capsule *c = operation->capsule;
	struct buf out;

	buf_init(&out, CAPSULE_ANSWER_MAX);
	if (c->freed)
		goto done;
	if (error == 0)
		error = status_error(operation, status);
	if (error == 0) {
		error = operation->read(operation, body, &out);
		/* It answers, but not as the one we know would. */
		if (error != 0)
			on_lost(c);
	}
	/* That an envelope does not open is its sender's fault. */
	if (error != 0 && error != KMS_EAUTH)
		complain(operation, error, status);
	c->config.before(c->config.arg);
	operation->done(
	    operation->arg, error, out.data, error == 0 ? out.len : 0);
done:
	buf_free(&out);
	OPENSSL_cleanse(operation, sizeof(*operation));
	free(operation);
}

/* The question's body is wiped and freed in every case. */
static void
ask(struct capsule *c, const struct operation *what, const char *target,
    struct buf *body, int error, size_t answer_max, bool repeatable)
{
	struct capsule_question question = {
		.kind = what->kind,
		.target = target,
		.body = body,
		.answer_max = answer_max,
		.timeout_ms = CAPSULE_CALL_MS,
		.repeatable = repeatable,
	};
	struct operation *operation = NULL;

	if (error == 0 && c->head.problem != NULL)
		error = KMS_EUNAVAIL;
	if (error == 0) {
		operation = malloc(sizeof(*operation));
		error = operation == NULL ? KMS_ENOMEM : 0;
	}
	if (error == 0) {
		*operation = *what;
		operation->capsule = c;
		error =
		    capsule_pool_ask(c->pool, &question, on_answer, operation);
		if (error != 0)
			free(operation);
	}
	buf_free(body);
	if (error != 0)
		what->done(what->arg, error, NULL, 0);
}

static int
read_signature(
    const struct operation *operation, const struct buf *body, struct buf *out)
{
	struct identity *head = &operation->capsule->head;
	uint8_t signature[SIGNATURE_LEN];
	struct eth_address signer;
	int error = capsule_json_signature(body, signature);

	if (error == 0 && signature_normalise(signature) != 0)
		error = KMS_EPROTO;
	if (error == 0 &&
	    (wallet_recover_digest(
		 head->wallets, operation->digest, signature, &signer) != 0 ||
		!eth_address_equal(&signer, &head->wallet)))
		error = KMS_ECRYPTO;
	return error != 0 ? error
			  : buf_append(out, signature, sizeof(signature));
}

static void
capsule_sign(struct identity *identity, const void *message, size_t len,
    identity_done_fn done, void *arg)
{
	struct operation operation = { .read = read_signature,
		.kind = LABEL_identity_call_SIGN,
		.name = "sign",
		.refused = KMS_EUNAVAIL,
		.done = done,
		.arg = arg };
	struct buf body;

	buf_init(&body, SMALL_BODY_MAX);
	eip191_digest(message, len, operation.digest);
	ask(capsule_of(identity), &operation, "/v1/eth/sign", &body,
	    capsule_json_sign(&body, message, len), SMALL_ANSWER_MAX, true);
}

static int
read_transaction(
    const struct operation *operation, const struct buf *body, struct buf *out)
{
	struct identity *head = &operation->capsule->head;
	uint8_t raw[TRANSACTION_RAW_MAX], hash[32];
	size_t len;
	int error = capsule_json_raw_transaction(body, raw, &len);

	if (error == 0)
		error = transaction_check(head->wallets,
		    &operation->transaction, &head->wallet, raw, len, hash);
	/* KMS_EAUTH means an envelope that does not open, elsewhere. */
	if (error == KMS_EAUTH)
		error = KMS_ECRYPTO;
	return error != 0 ? error : buf_append(out, raw, len);
}

static void
capsule_sign_transaction(struct identity *identity,
    const struct transaction *transaction, identity_done_fn done, void *arg)
{
	struct operation operation = { .read = read_transaction,
		.kind = LABEL_identity_call_SIGN_TX,
		.name = "sign-tx",
		.refused = KMS_EUNAVAIL,
		.done = done,
		.arg = arg,
		.transaction = *transaction };
	struct buf body;

	buf_init(&body, SMALL_BODY_MAX);
	ask(capsule_of(identity), &operation, "/v1/eth/sign-tx", &body,
	    capsule_json_sign_tx(&body, transaction), SMALL_ANSWER_MAX, true);
}

static int
read_plaintext(
    const struct operation *operation, const struct buf *body, struct buf *out)
{
	int error = capsule_json_plaintext(body, out);

	if (error == 0 && out->len + AEAD_TAG_LEN != operation->len)
		error = KMS_EPROTO;
	return error;
}

/* A repeated nonce is refused by the service: sent once or not at all. */
static void
capsule_open(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t nonce[12],
    const uint8_t *sealed, size_t len, identity_done_fn done, void *arg)
{
	struct operation operation = { .read = read_plaintext,
		.kind = LABEL_identity_call_DECRYPT,
		.name = "decrypt",
		.refused = KMS_EAUTH,
		.done = done,
		.arg = arg,
		.len = len };
	struct buf body;
	int error;

	(void)agreement;
	buf_init(&body, CAPSULE_REQUEST_MAX);
	error = len < AEAD_TAG_LEN
	    ? KMS_EAUTH
	    : capsule_json_decrypt(&body, other, nonce, sealed, len);
	ask(capsule_of(identity), &operation, "/v1/encryption/decrypt", &body,
	    error, ESCAPES * len + SMALL_BODY_MAX, false);
}

static int
read_sealed(
    const struct operation *operation, const struct buf *body, struct buf *out)
{
	int error =
	    capsule_json_sealed(body, &operation->capsule->head.point, out);

	if (error == 0 &&
	    out->len != AEAD_NONCE_LEN + operation->len + AEAD_TAG_LEN)
		error = KMS_EPROTO;
	return error;
}

static void
capsule_seal(struct identity *identity, struct agreement **agreement,
    const struct p384_point *other, const uint8_t *plaintext, size_t len,
    identity_done_fn done, void *arg)
{
	struct operation operation = { .read = read_sealed,
		.kind = LABEL_identity_call_ENCRYPT,
		.name = "encrypt",
		.refused = KMS_EUNAVAIL,
		.done = done,
		.arg = arg,
		.len = len };
	struct buf body;

	(void)agreement;
	buf_init(&body, CAPSULE_REQUEST_MAX);
	ask(capsule_of(identity), &operation, "/v1/encryption/encrypt", &body,
	    capsule_json_encrypt(&body, other, plaintext, len),
	    2 * len + SMALL_BODY_MAX, true);
}

/* There are no agreements here: the service makes one for each call. */
static void
capsule_forget(struct identity *identity, struct agreement *agreement)
{
	(void)identity;
	(void)agreement;
}

static void
capsule_free(struct identity *identity)
{
	struct capsule *c = capsule_of(identity);

	c->freed = true;
	capsule_pool_free(c->pool);
	wallet_context_free(identity->wallets);
	free(c);
}

static const struct identity_ops capsule_ops = {
	.sign = capsule_sign,
	.open = capsule_open,
	.seal = capsule_seal,
	.sign_transaction = capsule_sign_transaction,
	.forget = capsule_forget,
	.free = capsule_free,
};

/* ---- life ---- */

int
identity_capsule_new(
    const struct identity_capsule_config *config, struct identity **identity)
{
	struct capsule_pool_ops ops = { on_want, on_lost, NULL };
	struct capsule *c = calloc(1, sizeof(*c));
	uint8_t seed[32];

	if (c == NULL)
		return KMS_ENOMEM;
	c->head.ops = &capsule_ops;
	c->head.problem = unreachable;
	c->config = *config;
	ops.arg = c;
	config->random(config->arg, seed, sizeof(seed));
	c->head.wallets = wallet_context_new(seed);
	OPENSSL_cleanse(seed, sizeof(seed));
	c->pool = capsule_pool_new(config->loop, config->host, &ops);
	if (c->head.wallets == NULL || c->pool == NULL) {
		capsule_free(&c->head);
		return KMS_ENOMEM;
	}
	capsule_pool_shut(c->pool, true);
	*identity = &c->head;
	return 0;
}

int
identity_capsule_take(struct identity *identity, int fd)
{
	struct capsule *c = capsule_of(identity);

	/* Somebody is there again: who? */
	if (c->head.problem == unreachable && c->check == CHECK_DUE)
		c->check_ms = c->now_ms;
	return capsule_pool_take(c->pool, fd);
}

void
identity_capsule_tick(struct identity *identity, int64_t now_ms)
{
	struct capsule *c = capsule_of(identity);

	c->now_ms = now_ms;
	capsule_pool_tick(c->pool, now_ms);
	if (c->check == CHECK_DUE && now_ms >= c->check_ms) {
		c->check = CHECK_ADDRESS;
		ask_check(c);
	} else if (c->check == CHECK_PASSED && now_ms >= c->mix_ms) {
		fetch_random(c);
	}
}
