/*
 * The app's operations. An answer that was verified must still be the answer
 * to this question: what it echoes is compared.
 */
#include "kmsctl/client.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/err.h"

/* Room for a value in base64 and every other member, escapes included. */
#define PLAINTEXT_MAX ((size_t)4 << 20)

static int
answer_fail(struct kms_client *client, const char *what)
{
	return client_fail(client, KMS_CLIENT_UNVERIFIED,
	    "the node's answer does not fit the question: %s", what);
}

static int
argument_fail(struct kms_client *client, const char *what)
{
	return client_fail(client, KMS_CLIENT_USAGE, "%s", what);
}

static int
key_check(struct kms_client *client, const char *key)
{
	const char *p;

	for (p = key; *p != '\0'; p++)
		if ((uint8_t)*p < 0x20 || *p == 0x7f)
			break;
	if (*p != '\0' || client_text_check(key, 1, KMS_CLIENT_KEY_MAX) != 0)
		return argument_fail(client,
		    "a key is 1 to 1024 bytes of UTF-8 without control "
		    "characters");
	return 0;
}

static int
memory_fail(struct kms_client *client, struct buf *plaintext, int error)
{
	buf_free(plaintext);
	return client_fail(client, KMS_CLIENT_USAGE,
	    "the request cannot be composed: %s", kms_strerror(error));
}

/* {"name":"value" */
static int
object_start(struct buf *out, const char *name, const char *value)
{
	int rc;

	buf_init(out, PLAINTEXT_MAX);
	if ((rc = buf_printf(out, "{\"%s\":", name)) != 0)
		return rc;
	return client_json_append_string(out, value);
}

/* Seal, send, verify; plaintext is wiped and freed. */
static int
object_send(struct kms_client *client, const char *method, const char *target,
    struct buf *plaintext, json_t **json)
{
	int rc = buf_append_text(plaintext, "}");

	if (rc != 0)
		return memory_fail(client, plaintext, rc);
	rc = client_call(client, method, target, plaintext, json);
	buf_free(plaintext);
	return rc;
}

/* A base64 member, decoded to a buffer of its own. */
static int
base64_member(const json_t *json, const char *name, uint8_t **data, size_t *len)
{
	const char *text = client_json_string(json, name);
	size_t text_len, size;
	int rc;

	*data = NULL;
	if (text == NULL)
		return KMS_EPROTO;
	text_len = strlen(text);
	size = BASE64_DECODED_MAX(text_len) + 1;
	if ((*data = malloc(size)) == NULL)
		return KMS_ENOMEM;
	rc = base64_decode(text, text_len, *data, size, len);
	if (rc != 0) {
		OPENSSL_cleanse(*data, size);
		free(*data);
		*data = NULL;
	}
	return rc;
}

static int
echoes(const json_t *json, const char *name, const char *value)
{
	const char *text = client_json_string(json, name);

	return text != NULL && strcmp(text, value) == 0;
}

/* ---- derive ---- */

static int
derive_compose(
    struct buf *out, const char *path, const char *context, size_t length)
{
	int rc;

	if ((rc = object_start(out, "path", path)) != 0)
		return rc;
	if (context != NULL) {
		if ((rc = buf_append_text(out, ",\"context\":")) != 0 ||
		    (rc = client_json_append_string(out, context)) != 0)
			return rc;
	}
	return buf_printf(out, ",\"length\":%zu", length);
}

/* An empty context is none, and need not be named. */
static int
context_echoes(const json_t *json, const char *context)
{
	const json_t *echo = json_object_get(json, "context");

	if (context == NULL)
		context = "";
	if (echo == NULL || json_is_null(echo))
		return context[0] == '\0';
	return echoes(json, "context", context);
}

static int
derive_read(struct kms_client *client, const json_t *json, const char *path,
    const char *context, uint8_t *key, size_t key_len)
{
	uint8_t *data;
	size_t len;
	int rc;

	if (!echoes(json, "path", path))
		return answer_fail(client, "another path");
	if (!context_echoes(json, context))
		return answer_fail(client, "another context");
	if (base64_member(json, "key", &data, &len) != 0)
		return answer_fail(client, "no key in base64");
	rc = len == key_len ? 0 : answer_fail(client, "another length");
	if (rc == 0)
		memcpy(key, data, len);
	OPENSSL_cleanse(data, len);
	free(data);
	return rc;
}

int
kms_client_derive(struct kms_client *client, const char *path,
    const char *context, uint8_t *key, size_t key_len)
{
	struct buf plaintext;
	json_t *json;
	int rc;

	if (client_text_check(path, 1, KMS_CLIENT_TEXT_MAX) != 0)
		return argument_fail(
		    client, "a path is 1 to 65536 bytes of UTF-8");
	if (context != NULL &&
	    client_text_check(context, 0, KMS_CLIENT_TEXT_MAX) != 0)
		return argument_fail(
		    client, "a context is at most 65536 bytes of UTF-8");
	if (key_len < 1 || key_len > KMS_CLIENT_DERIVE_MAX)
		return argument_fail(client, "a length is 1 to 1024");
	rc = derive_compose(&plaintext, path, context, key_len);
	if (rc != 0)
		return memory_fail(client, &plaintext, rc);
	rc = object_send(client, "POST", "/kms/derive", &plaintext, &json);
	if (rc == 0)
		rc = derive_read(client, json, path, context, key, key_len);
	client_json_free(json);
	return rc;
}

/* ---- values ---- */

static int
put_compose(struct buf *out, const char *key, const void *value, size_t len,
    int64_t ttl_ms)
{
	uint8_t *space;
	int rc;

	if ((rc = object_start(out, "key", key)) != 0 ||
	    (rc = buf_append_text(out, ",\"value\":\"")) != 0 ||
	    (rc = buf_reserve(out, BASE64_LEN(len) + 1, &space)) != 0)
		return rc;
	base64_encode(value, len, (char *)space);
	buf_commit(out, BASE64_LEN(len));
	if ((rc = buf_append_text(out, "\"")) != 0)
		return rc;
	if (ttl_ms < 0)
		return 0;
	return buf_printf(out, ",\"ttl_ms\":%lld", (long long)ttl_ms);
}

static int
write_read(struct kms_client *client, const json_t *json, const char *key,
    bool is_delete, struct kms_client_write *result)
{
	struct kms_client_write read = { 0, 0, true };
	const json_t *met = json_object_get(json, "replicas_met");

	if (!echoes(json, "key", key))
		return answer_fail(client, "another key");
	if (is_delete ? !json_is_true(json_object_get(json, "deleted"))
		      : client_json_integer(json, "updated_at_ms", 0, INT64_MAX,
			    &read.updated_at_ms) != 0)
		return answer_fail(client, "it does not say what was done");
	if (json_object_get(json, "replicas") != NULL &&
	    client_json_integer(
		json, "replicas", 0, INT64_MAX, &read.replicas) != 0)
		return answer_fail(client, "replicas is not a count");
	if (met != NULL)
		read.replicas_met = json_is_true(met);
	if (result != NULL)
		*result = read;
	return 0;
}

/* min_replicas, send, and what became of it. */
static int
write_send(struct kms_client *client, const char *method, struct buf *plaintext,
    const char *key, unsigned int min_replicas, struct kms_client_write *result)
{
	json_t *json;
	int rc = 0;

	if (min_replicas > 0)
		rc =
		    buf_printf(plaintext, ",\"min_replicas\":%u", min_replicas);
	if (rc != 0)
		return memory_fail(client, plaintext, rc);
	rc = object_send(client, method, "/kms/data", plaintext, &json);
	if (rc == 0)
		rc = write_read(
		    client, json, key, strcmp(method, "DELETE") == 0, result);
	client_json_free(json);
	return rc;
}

int
kms_client_put(struct kms_client *client, const char *key, const void *value,
    size_t len, int64_t ttl_ms, unsigned int min_replicas,
    struct kms_client_write *result)
{
	struct buf plaintext;
	int rc;

	if ((rc = key_check(client, key)) != 0)
		return rc;
	if (len > KMS_CLIENT_VALUE_MAX)
		return argument_fail(client,
		    "a value is at most 1572864 bytes "
		    "(a node may allow less)");
	if (ttl_ms > KMS_CLIENT_TTL_MAX)
		return argument_fail(client, "a ttl is at most 2^53 ms");
	rc = put_compose(&plaintext, key, value, len, ttl_ms);
	if (rc != 0)
		return memory_fail(client, &plaintext, rc);
	return write_send(client, "PUT", &plaintext, key, min_replicas, result);
}

int
kms_client_delete(struct kms_client *client, const char *key,
    unsigned int min_replicas, struct kms_client_write *result)
{
	struct buf plaintext;
	int rc;

	if ((rc = key_check(client, key)) != 0)
		return rc;
	if ((rc = object_start(&plaintext, "key", key)) != 0)
		return memory_fail(client, &plaintext, rc);
	return write_send(
	    client, "DELETE", &plaintext, key, min_replicas, result);
}

int
kms_client_get(
    struct kms_client *client, const char *key, struct kms_client_value *value)
{
	const struct client_parameter parameter = { "key", key };
	struct buf target;
	json_t *json = NULL;
	int rc;

	memset(value, 0, sizeof(*value));
	if ((rc = key_check(client, key)) != 0)
		return rc;
	buf_init(&target, CLIENT_TARGET_MAX);
	if (client_target_build("/kms/data", &parameter, 1, &target) != 0)
		rc = argument_fail(client, "the key makes too long a target");
	if (rc == 0)
		rc = client_call(
		    client, "GET", (const char *)target.data, NULL, &json);
	if (rc == 0 &&
	    (!echoes(json, "key", key) ||
		client_json_integer(json, "updated_at_ms", 0, INT64_MAX,
		    &value->updated_at_ms) != 0 ||
		base64_member(json, "value", &value->data, &value->len) != 0))
		rc = answer_fail(client, "another key, or no value in base64");
	client_json_free(json);
	buf_free(&target);
	return rc;
}

void
kms_client_value_free(struct kms_client_value *value)
{
	if (value->data != NULL)
		OPENSSL_cleanse(value->data, value->len);
	free(value->data);
	memset(value, 0, sizeof(*value));
}

/* ---- list ---- */

/* Each with the prefix, behind the one before and behind after. */
static int
keys_take(const json_t *array, const char *prefix, const char *after,
    struct kms_client_keys *keys)
{
	size_t i, count = json_array_size(array);
	const char *key, *previous = after;

	if (count == 0)
		return 0;
	keys->keys = calloc(count, sizeof(*keys->keys));
	if (keys->keys == NULL)
		return KMS_ENOMEM;
	for (i = 0; i < count; i++) {
		key = json_string_value(json_array_get(array, i));
		if (key == NULL ||
		    strncmp(key, prefix != NULL ? prefix : "",
			prefix != NULL ? strlen(prefix) : 0) != 0 ||
		    (previous != NULL && strcmp(key, previous) <= 0))
			return KMS_EPROTO;
		keys->keys[i] = strdup(key);
		if (keys->keys[i] == NULL)
			return KMS_ENOMEM;
		previous = keys->keys[i];
		keys->count++;
	}
	return 0;
}

static int
list_send(struct kms_client *client, const char *prefix, const char *after,
    unsigned int limit, json_t **json)
{
	char limit_text[16];
	const struct client_parameter parameters[] = { { "prefix", prefix },
		{ "limit", limit_text }, { "after", after } };
	struct buf target;
	int rc;

	snprintf(limit_text, sizeof(limit_text), "%u", limit);
	buf_init(&target, CLIENT_TARGET_MAX);
	if (client_target_build("/kms/data", parameters, 3, &target) != 0)
		rc = argument_fail(client, "prefix and after are too long");
	else
		rc = client_call(
		    client, "GET", (const char *)target.data, NULL, json);
	buf_free(&target);
	return rc;
}

int
kms_client_list(struct kms_client *client, const char *prefix,
    const char *after, unsigned int limit, struct kms_client_keys *keys)
{
	const json_t *array;
	json_t *json = NULL;
	int rc;

	memset(keys, 0, sizeof(*keys));
	if (limit < 1 || limit > KMS_CLIENT_LIMIT_MAX)
		return argument_fail(client, "a limit is 1 to 10000");
	if (prefix != NULL && prefix[0] == '\0')
		prefix = NULL;
	if (after != NULL && after[0] == '\0')
		after = NULL;
	if ((prefix != NULL && (rc = key_check(client, prefix)) != 0) ||
	    (after != NULL && (rc = key_check(client, after)) != 0))
		return rc;
	rc = list_send(client, prefix, after, limit, &json);
	array = json_object_get(json, "keys");
	if (rc == 0 &&
	    (!json_is_array(array) || json_array_size(array) > limit ||
		keys_take(array, prefix, after, keys) != 0)) {
		kms_client_keys_free(keys);
		rc = answer_fail(client, "its keys are not those asked for");
	}
	client_json_free(json);
	return rc;
}

void
kms_client_keys_free(struct kms_client_keys *keys)
{
	size_t i;

	for (i = 0; i < keys->count; i++)
		free(keys->keys[i]);
	free(keys->keys);
	memset(keys, 0, sizeof(*keys));
}
