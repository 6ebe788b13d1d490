/*
 * CPU time of the computations that bound a request, and of keccak256 and the
 * modules of the keeper around them: nanoseconds an operation.
 *
 *   crypto           each of them
 *   crypto bare      what a derive cannot do without, as one sequence: a
 *                    recover, a sign (v2: two), HKDF and AES-GCM both ways,
 *                    over texts as long as the real ones, until standard input
 *                    ends (at least a second)
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/keccak256.h"
#include "crypto/crypto.h"
#include "crypto/envelope.h"
#include "crypto/kdf.h"
#include "crypto/wallet.h"
#include "kms-keeper/nonce.h"

struct bench {
	struct wallet_context *wallet;
	struct p384_key *key;
	struct nonce_table *nonces;
	struct eth_address address;
	int64_t now;
	uint8_t secret[P384_SHARED_LEN];
	uint8_t nonce[AEAD_NONCE_LEN];
	uint8_t signature[SIGNATURE_LEN];
	uint8_t text[100];
	uint8_t sealed[100 + AEAD_TAG_LEN];
	uint8_t out[100 + AEAD_TAG_LEN];
	uint8_t signature_v1[SIGNATURE_LEN];
	uint8_t signature_v2[SIGNATURE_LEN];
	uint8_t long_text[1024];
	uint8_t long_out[1024];
};

static int
run_recover(struct bench *b)
{
	return wallet_recover_message(
	    b->wallet, b->text, sizeof(b->text), b->signature, &b->address);
}

static int
run_sign(struct bench *b)
{
	return wallet_sign_message(
	    b->wallet, b->secret, b->text, sizeof(b->text), b->out);
}

static int
run_hkdf(struct bench *b)
{
	return hkdf_sha256(b->secret, 32, "nova-kms:app:49", 15, "wallet/root",
	    11, b->out, 32);
}

static int
run_envelope_key(struct bench *b)
{
	const struct p384_point *point = p384_key_point(b->key);

	return envelope_key(b->secret, point, point, b->nonce, b->out);
}

static int
run_seal(struct bench *b)
{
	return aead_seal(b->secret, b->nonce, b->text, sizeof(b->text), b->out);
}

static int
run_open(struct bench *b)
{
	return aead_open(
	    b->secret, b->nonce, b->sealed, sizeof(b->sealed), b->out);
}

static int
run_agree(struct bench *b)
{
	return p384_agree(b->key, p384_key_point(b->key), b->secret);
}

static int
run_point(struct bench *b)
{
	struct p384_point point;

	return p384_public_parse(
	    p384_key_point(b->key)->sec1, P384_SEC1_LEN, &point);
}

static int
run_keccak(struct bench *b)
{
	keccak256(b->text, sizeof(b->text), b->out);
	return 0;
}

static int
run_sha256(struct bench *b)
{
	return sha256(b->text, sizeof(b->text), b->out);
}

static int
run_hmac(struct bench *b)
{
	return hmac_sha256(b->secret, 32, b->text, sizeof(b->text), b->out);
}

static int
run_nonce(struct bench *b)
{
	uint8_t nonce[NONCE_LEN];
	int error = nonce_issue(b->nonces, b->now++, nonce);

	return error != 0 ? error : nonce_consume(b->nonces, nonce, b->now);
}

/* ---- the floor of a derive ---- */

#define V1_REQUEST_LEN 94 /* NovaKMS:AppAuth:<nonce>:<wallet>:<time> */
#define V2_REQUEST_LEN 180
#define V1_ANSWER_LEN 192 /* NovaKMS:Response:<signature>:<wallet> */
#define V2_ANSWER_LEN 264
#define BODY_LEN 22	/* {"path":"wallet/root"} */
#define CONTENT_LEN 108 /* the answer's plaintext */

static int
bare_envelope(struct bench *b, size_t len, int opens)
{
	const struct p384_point *point = p384_key_point(b->key);
	uint8_t key[AEAD_KEY_LEN];

	if (envelope_key(b->secret, point, point, b->nonce, key) != 0)
		return -1;
	if (opens)
		return aead_open(
		    b->secret, b->nonce, b->sealed, sizeof(b->sealed), b->out);
	return aead_seal(key, b->nonce, b->long_text, len, b->long_out);
}

static int
bare_derive(struct bench *b, int bound)
{
	if (wallet_recover_message(b->wallet, b->long_text,
		bound ? V2_REQUEST_LEN : V1_REQUEST_LEN,
		bound ? b->signature_v2 : b->signature_v1, &b->address) != 0 ||
	    bare_envelope(b, BODY_LEN, 1) != 0 || run_hkdf(b) != 0 ||
	    bare_envelope(b, CONTENT_LEN, 0) != 0 ||
	    wallet_sign_message(b->wallet, b->secret, b->long_text,
		V1_ANSWER_LEN, b->long_out) != 0)
		return -1;
	if (!bound)
		return 0;
	return wallet_sign_message(
	    b->wallet, b->secret, b->long_text, V2_ANSWER_LEN, b->long_out);
}

static const struct {
	const char *name;
	int (*run)(struct bench *b);
	int count;
} rows[] = {
	{ "secp256k1 recover", run_recover, 5000 },
	{ "secp256k1 sign", run_sign, 5000 },
	{ "HKDF 32", run_hkdf, 100000 },
	{ "envelope key", run_envelope_key, 100000 },
	{ "GCM seal 100 B", run_seal, 100000 },
	{ "GCM open 100 B", run_open, 100000 },
	{ "HMAC 100 B", run_hmac, 100000 },
	{ "SHA-256 100 B", run_sha256, 100000 },
	{ "keccak256 100 B", run_keccak, 100000 },
	{ "nonce issue and use", run_nonce, 100000 },
	{ "P-384 point check", run_point, 10000 },
	{ "P-384 agree", run_agree, 500 },
};

static double
cpu_ns(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts) != 0)
		abort();
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
measure(struct bench *b, size_t row)
{
	double start = cpu_ns();

	for (int i = 0; i < rows[row].count; i++) {
		if (rows[row].run(b) != 0) {
			fprintf(stderr, "%s: failed\n", rows[row].name);
			exit(1);
		}
	}
	printf("%-20s %10.0f ns\n", rows[row].name,
	    (cpu_ns() - start) / rows[row].count);
}

/* Whether standard input has ended, without waiting for it. */
static int
told_to_end(void)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };

	return poll(&input, 1, 0) > 0;
}

/* Both kinds in turn, so that both meet the same machine. */
static void
measure_bare(struct bench *b)
{
	double ns[2] = { 0, 0 };
	long count = 0;

	do {
		for (int bound = 0; bound < 2; bound++) {
			double start = cpu_ns();

			for (int i = 0; i < 200; i++) {
				if (bare_derive(b, bound) != 0)
					exit(1);
			}
			ns[bound] += cpu_ns() - start;
		}
		count += 200;
	} while (count < 5000 || !told_to_end());
	printf("bare_v1_ns %.0f bare_v2_ns %.0f\n", ns[0] / (double)count,
	    ns[1] / (double)count);
}

static int
prepare(struct bench *b)
{
	if (crypto_init() != 0)
		return -1;
	b->secret[31] = 7;
	b->wallet = wallet_context_new(b->secret);
	if (b->wallet == NULL || p384_key_new(b->secret, &b->key) != 0 ||
	    nonce_table_new(b->secret, 65536, &b->nonces) != 0)
		return -1;
	if (wallet_sign_message(b->wallet, b->secret, b->text, sizeof(b->text),
		b->signature) != 0)
		return -1;
	if (wallet_sign_message(b->wallet, b->secret, b->long_text,
		V1_REQUEST_LEN, b->signature_v1) != 0 ||
	    wallet_sign_message(b->wallet, b->secret, b->long_text,
		V2_REQUEST_LEN, b->signature_v2) != 0)
		return -1;
	return aead_seal(
	    b->secret, b->nonce, b->text, sizeof(b->text), b->sealed);
}

int
main(int argc, char **argv)
{
	static struct bench b;

	if (prepare(&b) != 0)
		return 1;
	if (argc == 2 && strcmp(argv[1], "bare") == 0)
		measure_bare(&b);
	for (size_t row = 0; argc == 1 && row < sizeof(rows) / sizeof(rows[0]);
	     row++)
		measure(&b, row);
	nonce_table_free(b.nonces);
	p384_key_free(b.key);
	wallet_context_free(b.wallet);
	crypto_free();
	return 0;
}
