/*
 * Records and the inner messages of /sync as JSON, both ways (PROTOCOL.md
 * section 7, "Reading what a peer sent"): a bad record never spoils its
 * message.
 */
#ifndef KMS_KEEPER_RECORD_JSON_H
#define KMS_KEEPER_RECORD_JSON_H

#include "common/buf.h"
#include "kms-keeper/json_slice.h"
#include "kms-keeper/store.h"

/* ---- writing ------------------------------------------------------------- */

enum record_form {
	RECORD_DEPLOYED, /* an expired stub goes as a tombstone with ttl_ms 0 */
	RECORD_OURS,	 /* and between our nodes with the member
			    "stub": {"head": hex, "ttl_ms": n} besides; an
			    evicted one with "evicted": true, "age_ms": n */
};

/* Is it one that is sent in this form at all? (Evicted stubs go to our own
 * nodes only.) */
bool record_json_is_sendable(
    const struct store_record *record, enum record_form form);

/* Append one record. KMS_ETOOBIG, KMS_ENOMEM. */
int record_json_write(
    struct buf *out, const struct store_record *record, enum record_form form);

/* At least as many bytes as record_json_write would append. */
size_t record_json_bound(const struct store_record *record);

/* Some records as the object {"<app_id>": [record, …], …}. Sorts them by
 * app_id, each app's stay in order. Nothing is written on error. */
struct record_list_item {
	struct store_record record;
	size_t order; /* set by the writer */
};
int record_json_write_data(struct buf *out, struct record_list_item *items,
    size_t count, enum record_form form);

/* ---- reading ------------------------------------------------------------- */

/* What one record is decoded into; the same for one after the other. */
struct record_reader {
	struct buf bytes;
	struct clock_item *items;
	size_t size;
};

void record_reader_init(struct record_reader *reader);
void record_reader_free(struct record_reader *reader); /* wipes */

/*
 * Decode one record into in, which borrows from the reader until the next
 * call. stubs: look at the member "stub". KMS_EINVAL for a record that is to
 * be rejected as malformed, KMS_ENOMEM. origin and revive are 0.
 */
int record_json_read(struct record_reader *reader, struct slice record,
    bool stubs, struct store_incoming *in);

/*
 * Call each with every record of {"<app_id>": [record, …], …}, in order:
 * in is NULL for one that is malformed (also when its app ID is) and for every
 * value of an app that is no list. Returns 0 when data is an object (absent
 * counts as empty), else KMS_EINVAL; KMS_ENOMEM; or what each returned when
 * not 0, which ends it.
 */
typedef int (*record_each_fn)(
    uint64_t app_id, const struct store_incoming *in, void *arg);
int record_json_each(struct record_reader *reader, struct slice data,
    bool stubs, record_each_fn each, void *arg);

/* ---- messages ------------------------------------------------------------ */

enum sync_type {
	SYNC_DELTA,
	SYNC_SNAPSHOT_REQUEST,
	SYNC_MASTER_SECRET_REQUEST,
	SYNC_SECRET_OFFER,
	SYNC_DIGEST_REQUEST,
	SYNC_BUCKET_REQUEST,
	SYNC_RECORD_REQUEST,
	SYNC_TYPES,
};

/* The wire's name of a type; borrowed forever. */
const char *sync_type_name(enum sync_type type);

/* The types that a delta answer lists in "extensions" (ours alone). */
bool sync_type_is_extension(enum sync_type type);

/*
 * An inner message: its type, sender_wallet (absent or a string) and itself as
 * an object whose members the caller reads. Everything is borrowed from text.
 */
struct sync_message {
	enum sync_type type;
	struct slice sender_wallet;
	struct slice object;
};

/* KMS_EINVAL: no JSON object, no type, a member twice; KMS_ENOENT: a type that
 * is unknown (400, too). */
int sync_message_read(
    const char *text, size_t len, struct sync_message *message);

/* Counts of a delta answer. What is not given is -1. */
struct sync_counts {
	int64_t total, merged, skipped, rejected;
};

/* An answer's common part. */
struct sync_reply {
	bool ok; /* "status": "ok" */
	struct sync_counts counts;
	struct slice boot;	     /* absent, or a string of 1..64 bytes */
	bool listed;		     /* it says what it can do besides */
	bool extensions[SYNC_TYPES]; /* that it lists */
	struct slice object;
};

/* KMS_EINVAL: no JSON object or a member that cannot be what it is. */
int sync_reply_read(const char *text, size_t len, struct sync_reply *reply);

#endif
