/*
 * The audit trail: one line for each security decision, chained by hashes and
 * signed by the node's wallet now and then. Pure: lines go out by a callback
 * that may refuse them, which the next line that is taken then says.
 *
 * A line is one JSON object without spaces, its members in this order:
 *
 *   {"seq":7,"time":"2026-01-01T00:00:00.000Z","kind":"derive",
 *    "wallet":"0x…","app":100,"path":"<32 hex>","verdict":"allow",
 *    "reason":"ok","status":200,"request":"<16 hex>","lost":0,
 *    "prev":"<64 hex>","hash":"<64 hex>"}
 *
 * hash is SHA-256 of the line's bytes before ,"hash": and prev the hash of the
 * line before. seq is that of the line before, plus one, plus lost: decisions
 * that could not be written. What does not apply is "" or 0.
 *
 * A signed head (kind "head") has, between wallet and lost, instead
 * "signed_seq", "signed_hash", "signed_time" (unix seconds) and "signature":
 * EIP-191 of NovaKMS:Audit:<signed_seq>:<signed_hash>:<signed_time>.
 *
 * path stands for the path of a derivation, or a key or its prefix: the first
 * 16 bytes of an HMAC, since a plain hash of a text that can be guessed is as
 * good as the text. The key is derived from the master secret: the same path
 * is the same value on every node and after every start, and nobody outside
 * the keepers can compute it.
 */
#ifndef KMS_KEEPER_AUDIT_H
#define KMS_KEEPER_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"
#include "common/eth.h"
#include "crypto/sha256.h"
#include "kms-keeper/identity.h"

#define AUDIT_LINE_MAX 1000 /* bytes without the newline */
#define AUDIT_PATH_LEN 16

enum audit_kind {
	AUDIT_START,   /* a trail is begun, or gone on with after a restart */
	AUDIT_RESUME,  /* ... or after its file could not be written */
	AUDIT_REQUEST, /* refused before it was known what is wanted */
	AUDIT_DERIVE,
	AUDIT_GET,
	AUDIT_LIST,
	AUDIT_PUT,
	AUDIT_DELETE,
	AUDIT_SYNC,   /* a message of another node */
	AUDIT_SECRET, /* reason: generated, synced or wiped, from here on */
	AUDIT_SECRET_SENT, /* the master secret was sealed for another node */
	AUDIT_SERVICE,	   /* reason: ready or not_ready */
	AUDIT_KINDS
};

/* What may be hashed as a path: kept apart. */
enum audit_text { AUDIT_TEXT_PATH = 'p', AUDIT_TEXT_KEY = 'k' };

struct audit_event {
	enum audit_kind kind;
	const struct eth_address *wallet; /* NULL: not proved, or none */
	uint64_t app_id;		  /* 0: none */
	const uint8_t *path;		  /* AUDIT_PATH_LEN bytes, or NULL */
	unsigned int status;		  /* of the answer, 0: none */
	const char *reason; /* a word of a-z and _, never a text of a caller */
	uint64_t request;   /* 0: none */
};

/* A line on its way. */
struct audit_line {
	uint64_t seq;
	bool head; /* a signed one */
	const uint8_t *prev;
	const uint8_t *hash;
	const char *text; /* without a newline */
	size_t len;
};

/* 0, or KMS_E* when it is not taken. Must not wait. */
typedef int (*audit_write_fn)(void *arg, const struct audit_line *line);

struct audit;

/* Off until audit_open. identity is borrowed for life. NULL without memory. */
struct audit *audit_new(
    audit_write_fn write, void *arg, struct identity *identity);
void audit_free(struct audit *audit);

/*
 * There is a file, and it ends with this line (seq 0 and zeros: it is empty).
 * Called again when lines were lost behind that one.
 */
void audit_open(struct audit *audit, uint64_t seq,
    const uint8_t head[SHA256_LEN], struct kms_time now);

bool audit_is_open(const struct audit *audit);

/* Write an event down; nothing while the trail is off. */
void audit_write(
    struct audit *audit, const struct audit_event *event, struct kms_time now);

/* Sign the latest line and write the signature down, once it is there. */
void audit_sign(struct audit *audit, struct kms_time now);

/* Sign when interval_ms have passed since the last time and something was
 * written since; 0: never. */
void audit_tick(struct audit *audit, uint64_t interval_ms, struct kms_time now);

/* The key of paths under a master secret: kept until audit_forget. NULL while
 * the trail is off, or when it cannot be computed. */
const uint8_t *audit_path_key(struct audit *audit, const uint8_t *master);
void audit_forget(struct audit *audit);

/* What stands for a text of an app; zeros without a key or cryptography. */
void audit_path(const uint8_t *key, uint64_t app_id, enum audit_text kind,
    const void *text, size_t len, uint8_t path[AUDIT_PATH_LEN]);

/* "allow", "deny" or "fail" for a status. */
const char *audit_verdict(unsigned int status);

#endif
