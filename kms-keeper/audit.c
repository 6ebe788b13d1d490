#include "kms-keeper/audit.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"
#include "common/secmem.h"
#include "crypto/signature.h"
#include "kms-keeper/derive.h"
#include "proto/metrics.h"

#define TIME_LEN 40
#define TAIL_LEN (9 + 2 * SHA256_LEN + 2) /* ,"hash":"…"} */
#define SIGNED_TEXT_MAX 256

struct audit {
	audit_write_fn write;
	void *arg;
	struct identity *identity;
	bool open;
	uint64_t seq;	/* of the last line, the lost counted */
	uint64_t lost;	/* since the last line that was taken */
	uint64_t taken; /* seq of that line */
	uint8_t head[SHA256_LEN];
	bool signing;
	bool signs_lost; /* ... a line that is not in the file after all */
	uint64_t signing_seq;
	uint8_t signing_head[SHA256_LEN];
	int64_t signing_time; /* unix seconds */
	uint64_t signed_seq;  /* seq of the last signed head's own line */
	int64_t signed_ms;    /* boot time */
	struct kms_time now;
	bool has_key;
	uint8_t *key; /* secmem, SHA256_LEN bytes: of the hashes of paths */
};

static const char *const kind_names[AUDIT_KINDS] = {
	[AUDIT_START] = "start",
	[AUDIT_RESUME] = "resume",
	[AUDIT_REQUEST] = "request",
	[AUDIT_DERIVE] = "derive",
	[AUDIT_GET] = "get",
	[AUDIT_LIST] = "list",
	[AUDIT_PUT] = "put",
	[AUDIT_DELETE] = "delete",
	[AUDIT_SYNC] = "sync",
	[AUDIT_SECRET] = "secret",
	[AUDIT_SECRET_SENT] = "secret_sent",
	[AUDIT_SERVICE] = "service",
};

struct audit *
audit_new(audit_write_fn write, void *arg, struct identity *identity)
{
	struct audit *audit = calloc(1, sizeof(*audit));

	if (audit == NULL)
		return NULL;
	audit->key = secmem_alloc(SHA256_LEN);
	if (audit->key == NULL) {
		free(audit);
		return NULL;
	}
	audit->write = write;
	audit->arg = arg;
	audit->identity = identity;
	return audit;
}

void
audit_free(struct audit *audit)
{
	if (audit == NULL)
		return;
	secmem_free(audit->key);
	free(audit);
}

bool
audit_is_open(const struct audit *audit)
{
	return audit->open;
}

const char *
audit_verdict(unsigned int status)
{
	if (status >= 500)
		return "fail";
	/* An absent value was looked for with every right. */
	return status < 400 || status == 404 || status == 410 ? "allow"
							      : "deny";
}

/* ---- composing ---- */

/* RFC 3339 in UTC; the C library's way may open a file. Days to a date after
 * the proleptic Gregorian calendar in eras of 400 years from 1 March. */
static void
format_time(int64_t wall_ms, char out[TIME_LEN])
{
	int64_t seconds = wall_ms > 0 ? wall_ms / 1000 : 0;
	int64_t days = seconds / 86400 + 719468, of_day = seconds % 86400;
	int64_t era = days / 146097, of_era = days % 146097;
	int64_t year_of_era =
	    (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	int64_t of_year =
	    of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int64_t shifted = (5 * of_year + 2) / 153;
	int64_t month = shifted < 10 ? shifted + 3 : shifted - 9;

	(void)snprintf(out, TIME_LEN, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
	    (int)(year_of_era + era * 400 + (month <= 2)) % 10000, (int)month,
	    (int)(of_year - (153 * shifted + 2) / 5 + 1), (int)(of_day / 3600),
	    (int)(of_day / 60 % 60), (int)(of_day % 60),
	    wall_ms > 0 ? (int)(wall_ms % 1000) : 0);
}

/*
 * The end of a line whose beginning stands in text: what was lost, prev, hash.
 * Then out with it; what is not taken is lost, and the chain stays.
 */
static void
put_line(struct audit *audit, char text[AUDIT_LINE_MAX + 1], size_t len,
    uint64_t seq, bool head)
{
	uint8_t hash[SHA256_LEN];
	char prev[2 * SHA256_LEN + 1], own[2 * SHA256_LEN + 1];
	struct audit_line line = {
		.seq = seq, .head = head, .prev = audit->head, .hash = hash
	};
	int more;

	hex_encode(audit->head, SHA256_LEN, prev);
	more = snprintf(text + len, AUDIT_LINE_MAX + 1 - len,
	    ",\"lost\":%" PRIu64 ",\"prev\":\"%s\"", audit->lost, prev);
	audit->seq = seq;
	if (more < 0 || len + (size_t)more + TAIL_LEN > AUDIT_LINE_MAX ||
	    sha256(text, len + (size_t)more, hash) != 0)
		goto lost;
	len += (size_t)more;
	hex_encode(hash, SHA256_LEN, own);
	len += (size_t)snprintf(
	    text + len, AUDIT_LINE_MAX + 1 - len, ",\"hash\":\"%s\"}", own);
	line.text = text;
	line.len = len;
	if (audit->write(audit->arg, &line) != 0)
		goto lost;
	memcpy(audit->head, hash, SHA256_LEN);
	audit->taken = seq;
	audit->lost = 0;
	metrics[METRIC_KEEPER_AUDIT_ENTRIES]++;
	return;
lost:
	audit->lost++;
	metrics[METRIC_KEEPER_AUDIT_LOST]++;
}

static void
wallet_text(
    const struct eth_address *wallet, char out[ETH_ADDRESS_TEXT_LEN + 1])
{
	out[0] = '\0';
	if (wallet != NULL)
		eth_address_format(wallet, out);
}

void
audit_write(
    struct audit *audit, const struct audit_event *event, struct kms_time now)
{
	char text[AUDIT_LINE_MAX + 1], when[TIME_LEN];
	char wallet[ETH_ADDRESS_TEXT_LEN + 1], path[2 * AUDIT_PATH_LEN + 1];
	char request[17] = "";
	uint64_t seq = audit->seq + 1;
	int len;

	if (!audit->open)
		return;
	format_time(now.wall_ms, when);
	wallet_text(event->wallet, wallet);
	path[0] = '\0';
	if (event->path != NULL)
		hex_encode(event->path, AUDIT_PATH_LEN, path);
	if (event->request != 0)
		(void)snprintf(
		    request, sizeof(request), "%016" PRIx64, event->request);
	len = snprintf(text, sizeof(text),
	    "{\"seq\":%" PRIu64 ",\"time\":\"%s\",\"kind\":\"%s\","
	    "\"wallet\":\"%s\",\"app\":%" PRIu64 ",\"path\":\"%s\","
	    "\"verdict\":\"%s\",\"reason\":\"%.64s\",\"status\":%u,"
	    "\"request\":\"%s\"",
	    seq, when, kind_names[event->kind], wallet, event->app_id, path,
	    event->status != 0 ? audit_verdict(event->status) : "",
	    event->reason, event->status, request);
	if (len > 0)
		put_line(audit, text, (size_t)len, seq, false);
}

void
audit_open(struct audit *audit, uint64_t seq, const uint8_t head[SHA256_LEN],
    struct kms_time now)
{
	struct audit_event event = { .kind = audit->open ? AUDIT_RESUME
							 : AUDIT_START,
		.wallet = &audit->identity->wallet,
		.reason = "ok" };

	/* Lines that were taken from here, and are not in the file. */
	if (audit->open && audit->seq > seq) {
		metrics[METRIC_KEEPER_AUDIT_LOST] +=
		    audit->seq - seq - audit->lost;
		audit->lost = audit->seq - seq;
	} else {
		audit->seq = seq;
		audit->lost = 0;
	}
	audit->signs_lost = audit->signing && audit->signing_seq > seq;
	memcpy(audit->head, head, SHA256_LEN);
	audit->taken = seq;
	audit->open = true;
	audit->signed_ms = now.boot_ms;
	audit_write(audit, &event, now);
}

/* ---- signing ---- */

static void
on_signed(void *arg, int error, const uint8_t *signature, size_t len)
{
	struct audit *audit = arg;
	char text[AUDIT_LINE_MAX + 1], when[TIME_LEN];
	char wallet[ETH_ADDRESS_TEXT_LEN + 1];
	char hash[2 * SHA256_LEN + 1], hex[SIGNATURE_TEXT_LEN + 1];
	uint64_t seq = audit->seq + 1;
	int used;

	audit->signing = false;
	if (error != 0 || len != SIGNATURE_LEN) {
		log_warn("signing the audit trail: %s",
		    kms_strerror(error != 0 ? error : KMS_ECRYPTO));
		return;
	}
	/* Whoever verifies the trail would take it for a forged one. */
	if (audit->signs_lost)
		return;
	format_time(audit->now.wall_ms, when);
	eth_address_format(&audit->identity->wallet, wallet);
	hex_encode(audit->signing_head, SHA256_LEN, hash);
	signature_format(signature, hex);
	used = snprintf(text, sizeof(text),
	    "{\"seq\":%" PRIu64 ",\"time\":\"%s\",\"kind\":\"head\","
	    "\"wallet\":\"%s\",\"signed_seq\":%" PRIu64
	    ",\"signed_hash\":\"%s\",\"signed_time\":%" PRId64
	    ",\"signature\":\"%s\"",
	    seq, when, wallet, audit->signing_seq, hash, audit->signing_time,
	    hex);
	if (used > 0)
		put_line(audit, text, (size_t)used, seq, true);
	audit->signed_seq = audit->seq;
}

void
audit_sign(struct audit *audit, struct kms_time now)
{
	char hash[2 * SHA256_LEN + 1], text[SIGNED_TEXT_MAX];
	int len;

	if (!audit->open || audit->signing)
		return;
	audit->now = now;
	audit->signing = true;
	audit->signs_lost = false;
	audit->signed_ms = now.boot_ms;
	audit->signing_seq = audit->taken;
	audit->signing_time = now.wall_ms / 1000;
	memcpy(audit->signing_head, audit->head, SHA256_LEN);
	hex_encode(audit->head, SHA256_LEN, hash);
	len = snprintf(text, sizeof(text),
	    "NovaKMS:Audit:%" PRIu64 ":%s:%" PRId64, audit->signing_seq, hash,
	    audit->signing_time);
	identity_sign(audit->identity, text, (size_t)len, on_signed, audit);
}

void
audit_tick(struct audit *audit, uint64_t interval_ms, struct kms_time now)
{
	audit->now = now;
	if (audit->open && interval_ms != 0 &&
	    audit->seq != audit->signed_seq &&
	    now.boot_ms - audit->signed_ms >= (int64_t)interval_ms)
		audit_sign(audit, now);
}

/* ---- paths ---- */

const uint8_t *
audit_path_key(struct audit *audit, const uint8_t *master)
{
	if (!audit->open || master == NULL)
		return NULL;
	if (!audit->has_key)
		audit->has_key = derive_audit_key(master, audit->key) == 0;
	return audit->has_key ? audit->key : NULL;
}

void
audit_forget(struct audit *audit)
{
	OPENSSL_cleanse(audit->key, SHA256_LEN);
	audit->has_key = false;
}

void
audit_path(const uint8_t *key, uint64_t app_id, enum audit_text kind,
    const void *text, size_t len, uint8_t path[AUDIT_PATH_LEN])
{
	uint8_t front[9] = { (uint8_t)kind }, mac[SHA256_LEN];
	const struct piece pieces[] = { { front, sizeof(front) },
		{ text, len } };

	for (size_t i = 0; i < 8; i++)
		front[1 + i] = (uint8_t)(app_id >> (56 - 8 * i));
	memset(path, 0, AUDIT_PATH_LEN);
	if (key != NULL &&
	    hmac_sha256_pieces(key, SHA256_LEN, pieces, 2, mac) == 0)
		memcpy(path, mac, AUDIT_PATH_LEN);
}
