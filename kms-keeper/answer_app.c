#include "kms-keeper/answer_app.h"

#include <inttypes.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/err.h"
#include "crypto/json_text.h"
#include "kms-keeper/app_body.h"
#include "kms-keeper/at_rest.h"
#include "kms-keeper/derive.h"
#include "proto/metrics.h"

#define LENGTH_DEFAULT 32
#define STORED_MAX (UINT64_C(1) << 30)

const char *
answer_app_code(unsigned int status)
{
	static const struct {
		unsigned int status;
		const char *code;
	} codes[] = {
		{ 400, "bad_request" },
		{ 403, "unauthorized" },
		{ 404, "not_found" },
		{ 405, "method_not_allowed" },
		{ 410, "evicted" },
		{ 413, "too_large" },
		{ 429, "rate_limited" },
		{ 500, "internal_error" },
		{ 503, "service_unavailable" },
	};

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		if (codes[i].status == status)
			return codes[i].code;
	}
	return "internal_error";
}

/* A KMS_E* of the store or the cryptography as a client's status. */
static int
refuse_error(struct app_answer *answer, int error)
{
	switch (error) {
	case KMS_ETOOBIG:
		return app_refuse(answer, 413,
		    "the value does not fit: over max-value-size or the app's "
		    "storage");
	case KMS_ENOENT:
		return app_refuse(answer, 404, "no such key");
	case KMS_ENOMEM:
	case KMS_ERANGE:
		return app_refuse(answer, 503, "the node is out of room");
	default:
		return app_refuse(answer, 500, "the operation failed");
	}
}

/* ---- writing the answer ---- */

static int
append_dump(const char *text, size_t len, void *arg)
{
	return buf_append(arg, text, len) == 0 ? 0 : -1;
}

/* Takes over object (may be NULL: out of memory). */
static int
write_answer(json_t *object, struct buf *plaintext, struct app_answer *answer)
{
	size_t start = plaintext->len;
	int failed;

	/* Not a 4xx: a write may have been done. */
	if (object == NULL)
		return refuse_error(answer, KMS_ENOMEM);
	failed =
	    json_dump_callback(object, append_dump, plaintext, JSON_COMPACT);
	json_decref(object);
	if (failed != 0) {
		plaintext->len = start;
		return app_refuse(answer, 413,
		    "the answer is too large: use limit and after");
	}
	answer->status = 200;
	return 0;
}

/* A string of bytes as base64 text. NULL without memory. */
static json_t *
base64_json(const uint8_t *bytes, size_t len)
{
	char *text = malloc(BASE64_LEN(len) + 1);
	json_t *string;

	if (text == NULL)
		return NULL;
	base64_encode(bytes, len, text);
	string = json_stringn_nocheck(text, BASE64_LEN(len));
	OPENSSL_cleanse(text, BASE64_LEN(len));
	free(text);
	return string;
}

static bool
blank(const struct text_member *text)
{
	for (size_t i = 0; i < text->len; i++) {
		if (strchr(" \t\r\n\v\f", text->text[i]) == NULL ||
		    text->text[i] == '\0')
			return false;
	}
	return true;
}

/* ---- the operations ---- */

static const struct text_member no_text = { "", 0 };

/* A JSON string of a body's text, which is UTF-8. */
static int
append_string(struct buf *out, const struct text_member *text)
{
	json_t *string;
	int error;

	if (json_text_is_plain(text->text, text->len)) {
		error = buf_append(out, "\"", 1);
		if (error == 0)
			error = buf_append(out, text->text, text->len);
		return error == 0 ? buf_append(out, "\"", 1) : error;
	}
	string = json_stringn(text->text, text->len);
	error = string == NULL ||
		json_dump_callback(string, append_dump, out, JSON_ENCODE_ANY) !=
		    0
	    ? KMS_ENOMEM
	    : 0;
	json_decref(string);
	return error;
}

/* Without a tree, which would cost as much as the derivation. */
static int
write_derived(const struct app_context *c, const struct app_body *body,
    const uint8_t *key, size_t len, struct buf *plaintext)
{
	char key_text[BASE64_LEN(DERIVE_LEN_MAX) + 1];
	size_t start = plaintext->len;
	int error;

	base64_encode(key, len, key_text);
	error = buf_printf(
	    plaintext, "{\"app_id\":%" PRIu64 ",\"path\":", c->app_id);
	if (error == 0)
		error = append_string(plaintext, &body->path);
	if (error == 0)
		error = buf_append_text(plaintext, ",\"key\":\"");
	if (error == 0)
		error = buf_append(plaintext, key_text, BASE64_LEN(len));
	if (error == 0)
		error = buf_printf(plaintext, "\",\"length\":%zu", len);
	if (error == 0 && c->bound) {
		error = buf_append_text(plaintext, ",\"context\":");
		if (error == 0)
			error = append_string(plaintext,
			    body->context.text != NULL ? &body->context
						       : &no_text);
	}
	if (error == 0)
		error = buf_append_text(plaintext, "}");
	OPENSSL_cleanse(key_text, BASE64_LEN(len));
	if (error != 0)
		plaintext->len = start;
	return error;
}

static int
do_derive(const struct app_context *c, const struct app_body *body,
    struct buf *plaintext, struct app_answer *answer)
{
	size_t len = body->has_length ? (size_t)body->length : LENGTH_DEFAULT;
	uint8_t key[DERIVE_LEN_MAX];
	int error;

	if (blank(&body->path))
		return app_refuse(answer, 400,
		    "path: expected one that is not "
		    "blank");
	if (!c->reserved_paths_allowed &&
	    derive_is_reserved(
		body->path.text, body->path.len, body->context.len))
		return app_refuse(answer, 400,
		    "path: this one is reserved for "
		    "the node's own use");
	error = derive_app_key(c->master, c->app_id, body->path.text,
	    body->path.len, body->context.text, body->context.len, key, len);
	if (error != 0)
		return refuse_error(answer, error);
	error = write_derived(c, body, key, len, plaintext);
	OPENSSL_cleanse(key, sizeof(key));
	if (error != 0)
		return refuse_error(answer, KMS_ENOMEM);
	metrics[METRIC_KEEPER_DERIVES]++;
	answer->status = 200;
	return 0;
}

static int
check_key(const struct text_member *key, struct app_answer *answer)
{
	const char *wrong = key_check(key->text, key->len);

	return wrong == NULL ? 0 : app_refuse(answer, 400, "%s", wrong);
}

static int
check_replicas(const struct app_context *c, const struct app_body *body,
    struct app_answer *answer)
{
	uint64_t n = body->has_min_replicas ? (uint64_t)body->min_replicas : 0;
	int error = 0;

	if (n == 0)
		return 0;
	if (n > c->peer_count)
		error = KMS_ERANGE;
	else if (c->replication != NULL)
		error = c->replication->can_wait(
		    c->replication->arg, c->app_id, (unsigned int)n);
	if (error == KMS_ERANGE)
		return app_refuse(answer, 400,
		    "min_replicas: expected at most %zu, the number of "
		    "current peers",
		    c->peer_count);
	if (error != 0)
		return app_refuse(
		    answer, 429, "too many writes of this app wait for peers");
	return 0;
}

/* base64 -> value -> stored form; *stored is the caller's to free. */
static int
seal_value(const struct app_context *c, const struct text_member *text,
    uint8_t **stored, size_t *stored_len, struct app_answer *answer)
{
	size_t room = BASE64_DECODED_MAX(text->len), len = 0;
	uint8_t nonce[AEAD_NONCE_LEN], data_key[DATA_KEY_LEN];
	uint8_t *value;
	int error;

	if (room > c->max_value_size + 3)
		return app_refuse(answer, 413,
		    "value: expected at most %" PRIu64 " bytes decoded",
		    c->max_value_size);
	value = malloc(room + 1);
	*stored = malloc(room + AT_REST_OVERHEAD);
	error = value == NULL || *stored == NULL ? KMS_ENOMEM : 0;
	if (error == 0) {
		error = base64_decode(text->text, text->len, value, room, &len);
		if (error != 0)
			(void)app_refuse(answer, 400,
			    "value: expected standard base64 with padding");
		else if (len > c->max_value_size)
			error = app_refuse(answer, 413,
			    "value: expected at most %" PRIu64 " bytes decoded",
			    c->max_value_size);
	} else {
		(void)refuse_error(answer, error);
	}
	if (error == 0) {
		c->random(c->random_arg, nonce, sizeof(nonce));
		error = derive_data_key(c->master, c->app_id, data_key);
		if (error == 0)
			error =
			    at_rest_seal(data_key, nonce, value, len, *stored);
		if (error != 0)
			(void)refuse_error(answer, error);
	}
	OPENSSL_cleanse(data_key, sizeof(data_key));
	if (value != NULL)
		OPENSSL_cleanse(value, room + 1);
	free(value);
	*stored_len = len + AT_REST_OVERHEAD;
	return error == 0 ? 0 : KMS_EINVAL;
}

/* The record stands; its answer may have to wait. Takes over object. */
static int
answer_written(const struct app_context *c, const struct app_body *body,
    json_t *object, struct buf *plaintext, struct app_answer *answer)
{
	unsigned int n =
	    body->has_min_replicas ? (unsigned int)body->min_replicas : 0;
	int error = n > 0 ? KMS_EUNAVAIL : 0;

	metrics[METRIC_KEEPER_WRITES]++;
	if (c->replication != NULL)
		error = c->replication->written(c->replication->arg, c->app_id,
		    body->key.text, body->key.len, object != NULL ? n : 0);
	if (object != NULL && n > 0 && error == 0) {
		answer->status = APP_WAITS;
		answer->written = object;
		return 0;
	}
	if (object != NULL) {
		json_object_set_new(object, "replicas", json_integer(0));
		if (body->has_min_replicas)
			json_object_set_new(
			    object, "replicas_met", json_boolean(n == 0));
	}
	return write_answer(object, plaintext, answer);
}

void
answer_app_replicas(
    struct app_answer *answer, unsigned int k, bool met, struct buf *plaintext)
{
	json_t *object = answer->written;

	answer->written = NULL;
	json_object_set_new(object, "replicas", json_integer(k));
	json_object_set_new(object, "replicas_met", json_boolean(met));
	(void)write_answer(object, plaintext, answer);
}

void
answer_app_drop(struct app_answer *answer)
{
	json_decref(answer->written);
	answer->written = NULL;
}

static int
do_put(const struct app_context *c, const struct app_body *body,
    struct buf *plaintext, struct app_answer *answer)
{
	int64_t ttl = body->has_ttl ? body->ttl_ms : (int64_t)c->default_ttl_ms;
	int64_t updated_at_ms;
	uint8_t *stored = NULL;
	size_t stored_len = 0;
	json_t *object;
	int error = check_key(&body->key, answer);

	if (error == 0)
		error = check_replicas(c, body, answer);
	if (error == 0)
		error =
		    seal_value(c, &body->value, &stored, &stored_len, answer);
	if (error == 0) {
		error = store_put_local(c->store, c->app_id, body->key.text,
		    body->key.len, stored, stored_len, ttl, c->now,
		    &updated_at_ms);
		if (error != 0)
			(void)refuse_error(answer, error);
	}
	free(stored);
	if (error != 0)
		return error;
	object = json_pack("{s:I,s:s%,s:I}", "app_id", (json_int_t)c->app_id,
	    "key", body->key.text, body->key.len, "updated_at_ms",
	    (json_int_t)updated_at_ms);
	return answer_written(c, body, object, plaintext, answer);
}

static int
do_delete(const struct app_context *c, const struct app_body *body,
    struct buf *plaintext, struct app_answer *answer)
{
	json_t *object;
	int error = check_key(&body->key, answer);

	if (error == 0)
		error = check_replicas(c, body, answer);
	if (error != 0)
		return error;
	error = store_delete_local(
	    c->store, c->app_id, body->key.text, body->key.len, c->now);
	if (error != 0)
		return refuse_error(answer, error);
	object = json_pack("{s:I,s:s%,s:b}", "app_id", (json_int_t)c->app_id,
	    "key", body->key.text, body->key.len, "deleted", 1);
	return answer_written(c, body, object, plaintext, answer);
}

static int
open_value(const struct app_context *c, const struct store_record *record,
    uint8_t **value, size_t *len)
{
	uint8_t data_key[DATA_KEY_LEN];
	int error;

	if (record->value_len < AT_REST_OVERHEAD)
		return KMS_ECRYPTO;
	*len = record->value_len - AT_REST_OVERHEAD;
	*value = malloc(*len + 1);
	if (*value == NULL)
		return KMS_ENOMEM;
	error = derive_data_key(c->master, c->app_id, data_key);
	if (error == 0)
		error = at_rest_open(
		    data_key, record->value, record->value_len, *value);
	OPENSSL_cleanse(data_key, sizeof(data_key));
	return error;
}

static int
do_get(const struct app_context *c, const struct target *target,
    struct buf *plaintext, struct app_answer *answer)
{
	const struct target_text *key = &target->key;
	struct store_record record;
	uint8_t *value = NULL;
	size_t len = 0;
	json_t *object = NULL;
	int error;

	switch (store_get(
	    c->store, c->app_id, key->text, key->len, c->now, &record)) {
	case STORE_ABSENT:
		return app_refuse(answer, 404, "no such key");
	case STORE_GONE:
		if (!c->fetched && c->replication != NULL) {
			error = c->replication->fetch(c->replication->arg,
			    c->app_id, key->text, key->len);
			if (error == 0) {
				answer->status = APP_WAITS;
				return 0;
			}
			/* What nobody was asked for may be there. */
			if (error != KMS_ENOENT)
				return app_refuse(answer, 503,
				    "the node cannot ask its peers for the "
				    "value at the moment");
		}
		return app_refuse(answer, 410,
		    "the value was evicted to make room, and no peer has it");
	case STORE_FOUND:
		break;
	}
	error = open_value(c, &record, &value, &len);
	if (error == 0)
		object = json_pack("{s:I,s:s%,s:o,s:I}", "app_id",
		    (json_int_t)c->app_id, "key", key->text, key->len, "value",
		    base64_json(value, len), "updated_at_ms",
		    (json_int_t)record.updated_at_ms);
	if (value != NULL)
		OPENSSL_cleanse(value, len);
	free(value);
	if (error != 0)
		return refuse_error(answer, error);
	metrics[METRIC_KEEPER_READS]++;
	return write_answer(object, plaintext, answer);
}

static int
do_list(const struct app_context *c, const struct target *target,
    struct buf *plaintext, struct app_answer *answer)
{
	struct store_keys found;
	json_t *object, *keys;
	int error = store_list(c->store, c->app_id, target->prefix.text,
	    target->prefix.len, target->after.text, target->after.len,
	    (size_t)target->limit, c->now, &found);

	if (error != 0)
		return refuse_error(answer, error);
	keys = json_array();
	for (size_t i = 0; keys != NULL && i < found.count; i++)
		json_array_append_new(keys,
		    json_stringn(
			(const char *)found.keys[i].bytes, found.keys[i].len));
	object = json_pack("{s:I,s:o,s:I}", "app_id", (json_int_t)c->app_id,
	    "keys", keys, "count", (json_int_t)found.count);
	store_keys_free(&found);
	return write_answer(object, plaintext, answer);
}

/* What the request is about, for the audit trail. */
static void
note_path(const struct app_context *c, enum audit_text kind, const char *text,
    size_t len, struct app_answer *answer)
{
	if (c->audit_key == NULL)
		return;
	audit_path(c->audit_key, c->app_id, kind, text, len, answer->path);
	answer->has_path = true;
}

static int
with_body(const struct app_context *c, enum operation operation,
    const uint8_t *body, size_t len, struct buf *plaintext,
    struct app_answer *answer)
{
	json_t *object;
	struct app_body members;
	int error = app_body_parse(
	    operation, c->bound, body, len, &object, &members, answer);

	if (error != 0)
		return error;
	if (operation == OPERATION_DERIVE)
		note_path(c, AUDIT_TEXT_PATH, members.path.text,
		    members.path.len, answer);
	else
		note_path(c, AUDIT_TEXT_KEY, members.key.text, members.key.len,
		    answer);
	if (operation == OPERATION_DERIVE)
		error = do_derive(c, &members, plaintext, answer);
	else if (operation == OPERATION_PUT)
		error = do_put(c, &members, plaintext, answer);
	else
		error = do_delete(c, &members, plaintext, answer);
	json_decref(object);
	return error;
}

void
answer_app(const struct app_context *context, const struct target *target,
    const uint8_t *body, size_t body_len, struct buf *plaintext,
    struct app_answer *answer)
{
	*answer = (struct app_answer){ .status = 500 };
	switch (target->operation) {
	case OPERATION_GET:
		note_path(context, AUDIT_TEXT_KEY, target->key.text,
		    target->key.len, answer);
		(void)do_get(context, target, plaintext, answer);
		return;
	case OPERATION_LIST:
		note_path(context, AUDIT_TEXT_KEY, target->prefix.text,
		    target->prefix.len, answer);
		(void)do_list(context, target, plaintext, answer);
		return;
	case OPERATION_DERIVE:
	case OPERATION_PUT:
	case OPERATION_DELETE:
		(void)with_body(context, target->operation, body, body_len,
		    plaintext, answer);
		return;
	}
}
