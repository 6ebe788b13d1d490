#include "regress/unit/keeper_rig.h"

#include <fcntl.h>

#include "crypto/envelope.h"
#include "kms-keeper/seal.h"
#include "kms-keeper/transaction.h"
#include "regress/unit/vector.h"

#define WALLET_KEY                                                             \
	"4646464646464646464646464646464646464646464646464646464646464646"
#define TEE_KEY                                                                \
	"0101010101010101010101010101010101010101010101010101010101010101"     \
	"01010101010101010101010101010101"
#define ORDER "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"

static struct rig rig;
static struct identity *identity;

static int
begin(void **state)
{
	(void)state;
	memset(&rig, 0, sizeof(rig));
	rig.random = 77;
	identity = NULL;
	return 0;
}

static int
end(void **state)
{
	(void)state;
	identity_free(identity);
	return 0;
}

static int
load(const char *text, size_t len)
{
	int ends[2], error;

	identity_free(identity);
	identity = NULL;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], text, len), len);
	(void)close(ends[1]);
	error = identity_local_new(ends[0], rig_random, &rig, &identity);
	(void)close(ends[0]);
	return error;
}

static int
load_text(const char *text)
{
	return load(text, strlen(text));
}

static void
loads(void **state)
{
	char text[ETH_ADDRESS_TEXT_LEN + 1];

	(void)state;
	assert_int_equal(load_text("{\"wallet_private_key\":\"0x" WALLET_KEY
				   "\",\"tee_private_key\":\"" TEE_KEY "\"}"),
	    0);
	/* The key of EIP-155's example. */
	eth_address_format(&identity->wallet, text);
	assert_string_equal(text, "0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f");
	/* What else kmsctl writes is not looked at. */
	assert_int_equal(
	    load_text("\n{ \"tee_private_key\": \"" TEE_KEY
		      "\", \"wallet\": \"0x9d\", \"wallet_private_key\": "
		      "\"" WALLET_KEY "\" }\n"),
	    0);
	eth_address_format(&identity->wallet, text);
	assert_string_equal(text, "0x9d8a62f656a8d1615c1294fd71e9cfb3e4855a4f");
}

static void
refuses(void **state)
{
	static const char *const files[] = { "x", " ", "[]", "\"a\"", "{}",
		"{\"wallet_private_key\":\"" WALLET_KEY "\"}",
		"{\"tee_private_key\":\"" TEE_KEY "\"}",
		"{\"wallet_private_key\":1,\"tee_private_key\":\"" TEE_KEY
		"\"}",
		"{\"wallet_private_key\":\"" WALLET_KEY
		"00\",\"tee_private_key\":\"" TEE_KEY "\"}",
		"{\"wallet_private_key\":\"" WALLET_KEY
		"\",\"tee_private_key\":\"" WALLET_KEY "\"}",
		"{\"wallet_private_key\":\"" WALLET_KEY
		"\",\"tee_private_key\":\"zz\"}",
		"{\"wallet_private_key\":\"" ORDER
		"\",\"tee_private_key\":\"" TEE_KEY "\"}",
		"{\"wallet_private_key\":\"" WALLET_KEY
		"\",\"wallet_private_key\":\"" WALLET_KEY
		"\",\"tee_private_key\":\"" TEE_KEY "\"}",
		"{\"wallet_private_key\":\"" WALLET_KEY
		"\",\"tee_private_key\":\"" TEE_KEY "\"",
		"{\"wallet_private_key\":\"" WALLET_KEY
		"\",\"tee_private_key\":\"" TEE_KEY "\"}x" };
	char zero[256];

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		rig_logged[0] = '\0';
		if (load_text(files[i]) != KMS_EINVAL)
			fail_msg("file %zu", i);
		assert_null(identity);
		/* It says what is wrong, and nothing of the keys. */
		assert_non_null(strstr(rig_logged, "identity file"));
		assert_null(strstr(rig_logged, "4646"));
		assert_null(strstr(rig_logged, "0101"));
	}
	(void)snprintf(zero, sizeof(zero),
	    "{\"wallet_private_key\":\"" WALLET_KEY
	    "\",\"tee_private_key\":\"%096d\"}",
	    0);
	assert_int_equal(load_text(zero), KMS_EINVAL);
	(void)snprintf(zero, sizeof(zero),
	    "{\"wallet_private_key\":\"%064d\",\"tee_private_key\":\"" TEE_KEY
	    "\"}",
	    0);
	assert_int_equal(load_text(zero), KMS_EINVAL);
}

static void
sizes(void **state)
{
	static char text[4098];
	const char *keys = "{\"wallet_private_key\":\"" WALLET_KEY
			   "\",\"tee_private_key\":\"" TEE_KEY "\"}";

	(void)state;
	memset(text, ' ', sizeof(text));
	memcpy(text, keys, strlen(keys));
	assert_int_equal(load(text, 4096), 0);
	assert_int_equal(load(text, 4097), KMS_ETOOBIG);
	identity_free(identity);
	identity = NULL;
	assert_int_equal(
	    identity_local_new(-1, rig_random, &rig, &identity), KMS_ESYS);
}

static void
made_at_start(void **state)
{
	struct identity *other = NULL;
	int fd = open("/dev/null", O_RDONLY);

	(void)state;
	assert_int_equal(load("", 0), 0);
	assert_int_equal(identity_local_new(fd, rig_random, &rig, &other), 0);
	(void)close(fd);
	assert_false(eth_address_equal(&identity->wallet, &other->wallet));
	assert_false(p384_point_equal(&identity->point, &other->point));
	identity_free(other);
}

struct result {
	unsigned int calls;
	int error;
	uint8_t out[4096];
	size_t len;
};

static void
done(void *arg, int error, const uint8_t *out, size_t len)
{
	struct result *result = arg;

	result->calls++;
	result->error = error;
	result->len = len;
	assert_true(len <= sizeof(result->out));
	if (len > 0)
		memcpy(result->out, out, len);
}

static void
operations(void **state)
{
	struct agreement *ours = NULL, *theirs = NULL;
	struct result a = { 0 }, b = { 0 };
	struct identity *other;
	struct eth_address signer;

	(void)state;
	assert_int_equal(load("", 0), 0);
	other = identity;
	identity = NULL;
	assert_int_equal(load("", 0), 0);
	identity_sign(identity, "hello", 5, done, &a);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.len, SIGNATURE_LEN);
	assert_int_equal(
	    wallet_recover_message(other->wallets, "hello", 5, a.out, &signer),
	    0);
	assert_true(eth_address_equal(&signer, &identity->wallet));
	/* Sealed by one, opened by the other. */
	identity_seal(identity, &ours, &other->point, (const uint8_t *)"secret",
	    6, done, &a);
	assert_int_equal(a.error, 0);
	assert_int_equal(a.len, 12 + 6 + 16);
	identity_open(other, &theirs, &identity->point, a.out, a.out + 12,
	    a.len - 12, done, &b);
	assert_int_equal(b.error, 0);
	assert_int_equal(b.len, 6);
	assert_memory_equal(b.out, "secret", 6);
	/* Under another nonce each time. */
	identity_seal(identity, &ours, &other->point, (const uint8_t *)"secret",
	    6, done, &b);
	assert_memory_not_equal(a.out, b.out, 12);
	a.out[20] ^= 1;
	identity_open(other, &theirs, &identity->point, a.out, a.out + 12,
	    a.len - 12, done, &b);
	assert_int_equal(b.error, KMS_EAUTH);
	assert_int_equal(b.len, 0);
	for (size_t len = 0; len < 16; len++) {
		identity_open(other, &theirs, &identity->point, a.out,
		    a.out + 12, len, done, &b);
		assert_int_equal(b.error, KMS_EAUTH);
	}
	identity_forget(identity, &ours);
	assert_null(ours);
	identity_forget(identity, &ours);
	identity_forget(other, &theirs);
	identity_free(other);
}

/* A secret sealed to the node's own key. */
static void
unseals(void **state)
{
	uint8_t scalar[P384_SCALAR_LEN] = { 3 }, nonce[AEAD_NONCE_LEN] = { 1 };
	uint8_t secret[MASTER_SECRET_LEN] = { 7, 8, 9 };
	struct sealed_secret sealed;
	struct p384_key *key;
	struct result a;

	(void)state;
	assert_int_equal(load_text(""), 0);
	assert_int_equal(p384_key_new(scalar, &key), 0);
	assert_int_equal(
	    sealed_secret_seal(secret, key, &identity->point, nonce, &sealed),
	    0);
	assert_true(identity_can_unseal(identity));
	identity_unseal(identity, &sealed, done, &a);
	assert_int_equal(a.error, 0);
	assert_int_equal(a.len, sizeof(secret));
	assert_memory_equal(a.out, secret, sizeof(secret));
	/* To another's, or changed. */
	assert_int_equal(sealed_secret_seal(
			     secret, key, p384_key_point(key), nonce, &sealed),
	    0);
	identity_unseal(identity, &sealed, done, &a);
	assert_int_equal(a.error, KMS_EAUTH);
	assert_int_equal(a.len, 0);
	p384_key_free(key);
}

static void
transactions(void **state)
{
	struct transaction tx = { .chain_id = 31337,
		.nonce = 3,
		.max_priority_fee = 1,
		.max_fee = 9 };
	struct result a = { 0 };
	uint8_t hash[32];

	(void)state;
	assert_int_equal(load("", 0), 0);
	identity_sign_transaction(identity, &tx, done, &a);
	assert_int_equal(a.calls, 1);
	assert_int_equal(transaction_check(identity->wallets, &tx,
			     &identity->wallet, a.out, a.len, hash),
	    0);
}

/* No room for secrets is an error, not a crash. */
static void
out_of_secure_memory(void **state)
{
	struct agreement *agreement = NULL;
	struct result a = { 0 };
	struct p384_point point;
	static void *taken[100000];
	size_t count = 0;

	(void)state;
	assert_int_equal(load("", 0), 0);
	point = identity->point;
	while (count < 100000 && (taken[count] = secmem_alloc(48)) != NULL)
		count++;
	identity_seal(
	    identity, &agreement, &point, (const uint8_t *)"a", 1, done, &a);
	assert_int_equal(a.calls, 1);
	assert_int_equal(a.error, KMS_EBUSY);
	assert_null(agreement);
	while (count > 0)
		secmem_free(taken[--count]);
}

/* Changed files: refused, or keys that work. */
static void
mutations(void **state)
{
	static const char seed[] = "{\"wallet_private_key\":\"" WALLET_KEY
				   "\",\"tee_private_key\":\"" TEE_KEY "\"}";
	uint64_t random = 0x082efa98ec4e6c89;
	unsigned int good = 0;

	(void)state;
	for (int i = 0; i < 600; i++) {
		uint8_t text[sizeof(seed)];
		int error;

		memcpy(text, seed, sizeof(seed));
		vector_mutate(&random, text, sizeof(seed) - 1);
		error = load((const char *)text, sizeof(seed) - 1);
		assert_true(error == 0 || error == KMS_EINVAL);
		good += error == 0;
	}
	assert_true(good > 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(loads),
		TEST(refuses),
		TEST(sizes),
		TEST(made_at_start),
		TEST(operations),
		TEST(unseals),
		TEST(transactions),
		TEST(out_of_secure_memory),
		TEST(mutations),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
