#include "kmsctl/audit_verify.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/json_guard.h"
#include "crypto/sha256.h"
#include "crypto/signature.h"

#define TOKENS_MAX 64
#define DEPTH_MAX 2
#define HASH_TEXT_LEN ((size_t)2 * SHA256_LEN)

struct place {
	uint64_t seq;
	uint8_t hash[SHA256_LEN];
};

struct audit_verifier {
	const struct wallet_context *wallets;
	bool wanted; /* wallet must have signed */
	bool named;  /* a start has named the node's wallet */
	struct eth_address wallet;
	struct place *places; /* the line before the first, then each line */
	size_t count;
	size_t size;
	struct audit_summary summary;
	char *reason;
};

/* The members of a line that are looked at; texts are borrowed. */
struct line {
	uint64_t seq, lost;
	uint8_t prev[SHA256_LEN], hash[SHA256_LEN];
	const char *kind;
	struct eth_address wallet;
	bool has_wallet;
};

struct audit_verifier *
audit_verifier_new(
    const struct wallet_context *wallets, const struct eth_address *wallet)
{
	struct audit_verifier *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->wallets = wallets;
	if (wallet != NULL) {
		v->wallet = *wallet;
		v->wanted = true;
	}
	return v;
}

void
audit_verifier_free(struct audit_verifier *v)
{
	if (v == NULL)
		return;
	free(v->places);
	free(v);
}

const struct audit_summary *
audit_verifier_summary(const struct audit_verifier *v)
{
	return &v->summary;
}

static int __attribute__((format(printf, 2, 3)))
wrong(struct audit_verifier *v, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(v->reason, AUDIT_VERIFY_REASON_LEN, format, args);
	va_end(args);
	return KMS_EINVAL;
}

/* ---- one line's members ---- */

static int
number(struct audit_verifier *v, const json_t *object, const char *name,
    uint64_t *value)
{
	const json_t *member = json_object_get(object, name);

	if (!json_is_integer(member) || json_integer_value(member) < 0)
		return wrong(v, "%s: expected a number", name);
	*value = (uint64_t)json_integer_value(member);
	return 0;
}

static int
hash_member(struct audit_verifier *v, const json_t *object, const char *name,
    uint8_t hash[SHA256_LEN])
{
	const json_t *member = json_object_get(object, name);

	if (!json_is_string(member) ||
	    json_string_length(member) != HASH_TEXT_LEN ||
	    hex_decode_exact(json_string_value(member), HASH_TEXT_LEN, hash,
		SHA256_LEN) != 0)
		return wrong(v, "%s: expected 32 bytes as hex", name);
	return 0;
}

static int
read_line(struct audit_verifier *v, const json_t *object, struct line *line)
{
	const json_t *kind = json_object_get(object, "kind");
	const json_t *wallet = json_object_get(object, "wallet");
	int error = number(v, object, "seq", &line->seq);

	if (error == 0)
		error = number(v, object, "lost", &line->lost);
	if (error == 0)
		error = hash_member(v, object, "prev", line->prev);
	if (error == 0)
		error = hash_member(v, object, "hash", line->hash);
	if (error != 0)
		return error;
	if (!json_is_string(kind) || !json_is_string(wallet))
		return wrong(v, "kind and wallet: expected strings");
	line->kind = json_string_value(kind);
	line->has_wallet = json_string_length(wallet) > 0;
	if (line->has_wallet &&
	    eth_address_parse(json_string_value(wallet),
		json_string_length(wallet), &line->wallet) != 0)
		return wrong(v, "wallet: expected an address");
	return 0;
}

/* The hash is of the bytes before it, which end the line with it. */
static int
check_hash(struct audit_verifier *v, const char *text, size_t len,
    const struct line *line)
{
	char end[HASH_TEXT_LEN + 16], hex[HASH_TEXT_LEN + 1];
	uint8_t hash[SHA256_LEN];
	size_t end_len;

	hex_encode(line->hash, SHA256_LEN, hex);
	end_len = (size_t)snprintf(end, sizeof(end), ",\"hash\":\"%s\"}", hex);
	if (len < end_len || memcmp(text + len - end_len, end, end_len) != 0)
		return wrong(v, "expected the hash at its end");
	if (sha256(text, len - end_len, hash) != 0)
		return KMS_ENOMEM;
	if (memcmp(hash, line->hash, SHA256_LEN) != 0)
		return wrong(v, "it was changed: its hash is another");
	return 0;
}

/* ---- the chain ---- */

static int
keep_place(struct audit_verifier *v, uint64_t seq, const uint8_t *hash)
{
	if (v->count == v->size) {
		size_t size = v->size != 0 ? 2 * v->size : 1024;
		struct place *places =
		    realloc(v->places, size * sizeof(*places));

		if (places == NULL)
			return KMS_ENOMEM;
		v->places = places;
		v->size = size;
	}
	v->places[v->count].seq = seq;
	memcpy(v->places[v->count].hash, hash, SHA256_LEN);
	v->count++;
	return 0;
}

static int
check_place(struct audit_verifier *v, const struct line *line)
{
	const struct place *before;

	if (line->seq == 0 || line->lost >= line->seq)
		return wrong(v, "seq and lost do not fit");
	if (v->count == 0) {
		v->summary.first = line->seq;
		return keep_place(v, line->seq - 1 - line->lost, line->prev);
	}
	before = &v->places[v->count - 1];
	if (memcmp(before->hash, line->prev, SHA256_LEN) != 0)
		return wrong(v,
		    "it does not follow line %" PRIu64
		    ": one was removed, inserted or replaced",
		    before->seq);
	if (line->seq - 1 - line->lost != before->seq)
		return wrong(v,
		    "seq %" PRIu64 " with %" PRIu64
		    " lost does not follow %" PRIu64,
		    line->seq, line->lost, before->seq);
	return 0;
}

/* Numbers grow. NULL: not among the lines here. */
static const struct place *
find_place(const struct audit_verifier *v, uint64_t seq)
{
	size_t low = 0, high = v->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (v->places[middle].seq < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low < v->count && v->places[low].seq == seq ? &v->places[low]
							   : NULL;
}

/* ---- signatures ---- */

static int
check_signer(struct audit_verifier *v, const struct line *line)
{
	char expected[ETH_ADDRESS_TEXT_LEN + 1];

	if (!line->has_wallet)
		return wrong(v, "wallet: expected the node's");
	if ((v->wanted || v->named) &&
	    !eth_address_equal(&line->wallet, &v->wallet)) {
		eth_address_format(&v->wallet, expected);
		return wrong(v, "it is not of the wallet %s", expected);
	}
	return 0;
}

static int
check_head(
    struct audit_verifier *v, const json_t *object, const struct line *line)
{
	const json_t *text = json_object_get(object, "signature");
	uint8_t hash[SHA256_LEN], signature[SIGNATURE_LEN];
	char hex[HASH_TEXT_LEN + 1], message[160];
	struct eth_address signer;
	const struct place *place;
	uint64_t seq, time;
	int len, error = check_signer(v, line);

	if (error == 0)
		error = number(v, object, "signed_seq", &seq);
	if (error == 0)
		error = number(v, object, "signed_time", &time);
	if (error == 0)
		error = hash_member(v, object, "signed_hash", hash);
	if (error != 0)
		return error;
	if (!json_is_string(text) ||
	    signature_parse(json_string_value(text), json_string_length(text),
		signature) != 0)
		return wrong(v, "signature: expected 65 bytes as hex");
	hex_encode(hash, SHA256_LEN, hex);
	len = snprintf(message, sizeof(message),
	    "NovaKMS:Audit:%" PRIu64 ":%s:%" PRIu64, seq, hex, time);
	if (wallet_recover_message(
		v->wallets, message, (size_t)len, signature, &signer) != 0 ||
	    !eth_address_equal(&signer, &line->wallet))
		return wrong(v, "its signature is not of its wallet");
	if (seq < v->places[0].seq) {
		v->summary.heads_before++;
		return 0;
	}
	place = find_place(v, seq);
	if (place == NULL || memcmp(place->hash, hash, SHA256_LEN) != 0)
		return wrong(
		    v, "line %" PRIu64 " is not the one that was signed", seq);
	v->summary.heads++;
	v->summary.signed_seq = seq;
	v->summary.signed_time = (int64_t)time;
	v->summary.wallet = line->wallet;
	return 0;
}

static int
check_kind(
    struct audit_verifier *v, const json_t *object, const struct line *line)
{
	int error;

	if (strcmp(line->kind, "head") == 0)
		return check_head(v, object, line);
	if (strcmp(line->kind, "start") != 0 &&
	    strcmp(line->kind, "resume") != 0)
		return 0;
	/* A node without an identity file has another wallet each time. */
	if (!v->wanted && strcmp(line->kind, "start") == 0)
		v->named = false;
	error = check_signer(v, line);
	v->wallet = line->wallet;
	v->named = true;
	v->summary.starts += strcmp(line->kind, "start") == 0;
	return error;
}

int
audit_verifier_line(struct audit_verifier *v, const char *text, size_t len,
    char reason[AUDIT_VERIFY_REASON_LEN])
{
	json_t *object = NULL;
	struct line line;
	int error;

	v->reason = reason;
	reason[0] = '\0';
	if (len == 0 || len > AUDIT_VERIFY_LINE_MAX)
		return wrong(
		    v, "expected 1 to %d bytes", AUDIT_VERIFY_LINE_MAX);
	if (json_guard(text, len, TOKENS_MAX, DEPTH_MAX) == 0)
		object = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(object)) {
		json_decref(object);
		return wrong(v, "expected a JSON object");
	}
	error = read_line(v, object, &line);
	if (error == 0)
		error = check_hash(v, text, len, &line);
	if (error == 0)
		error = check_place(v, &line);
	if (error == 0)
		error = check_kind(v, object, &line);
	if (error == 0)
		error = keep_place(v, line.seq, line.hash);
	if (error == 0) {
		v->summary.lines++;
		v->summary.last = line.seq;
		v->summary.lost += line.lost;
		v->summary.gaps += line.lost > 0;
	}
	json_decref(object);
	return error;
}
