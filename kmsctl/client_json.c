#include "kmsctl/client.h"

#include <openssl/crypto.h>
#include <string.h>

#include "common/err.h"
#include "common/json_guard.h"

int
client_json_parse(const void *text, size_t len, json_t **json)
{
	*json = NULL;
	if (len == 0 || len > CLIENT_ANSWER_MAX ||
	    json_guard(text, len, CLIENT_JSON_TOKENS, CLIENT_JSON_DEPTH) != 0)
		return KMS_EPROTO;
	*json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (*json == NULL)
		return KMS_EPROTO;
	if (!json_is_object(*json)) {
		client_json_free(*json);
		*json = NULL;
		return KMS_EPROTO;
	}
	return 0;
}

/* Depth is bounded by the parser. */
static void
wipe(json_t *json)
{
	void *iter;
	size_t i;

	switch (json_typeof(json)) {
	case JSON_OBJECT:
		for (iter = json_object_iter(json); iter != NULL;
		     iter = json_object_iter_next(json, iter))
			wipe(json_object_iter_value(iter));
		break;
	case JSON_ARRAY:
		for (i = 0; i < json_array_size(json); i++)
			wipe(json_array_get(json, i));
		break;
	case JSON_STRING:
		/* The tree is ours alone; only its type says const. */
		OPENSSL_cleanse((void *)(uintptr_t)json_string_value(json),
		    json_string_length(json));
		break;
	default:
		break;
	}
}

void
client_json_free(json_t *json)
{
	if (json == NULL)
		return;
	wipe(json);
	json_decref(json);
}

int
client_json_append_string(struct buf *out, const char *text)
{
	size_t start = out->len;
	const char *p;
	int rc;

	rc = buf_append(out, "\"", 1);
	for (p = text; rc == 0 && *p != '\0'; p++) {
		if (*p == '"' || *p == '\\') {
			rc = buf_append(out, "\\", 1);
			if (rc == 0)
				rc = buf_append(out, p, 1);
		} else if ((uint8_t)*p < 0x20) {
			rc = buf_printf(
			    out, "\\u%04x", (unsigned int)(uint8_t)*p);
		} else {
			rc = buf_append(out, p, 1);
		}
	}
	if (rc == 0)
		rc = buf_append(out, "\"", 1);
	if (rc != 0)
		out->len = start;
	return rc;
}

int
client_text_check(const char *text, size_t min, size_t max)
{
	size_t len = strlen(text);
	json_t *json;

	if (len < min || len > max)
		return KMS_EINVAL;
	json = json_stringn(text, len); /* NULL on ill-formed UTF-8 */
	if (json == NULL)
		return KMS_EINVAL;
	json_decref(json);
	return 0;
}

const char *
client_json_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

int
client_json_integer(const json_t *object, const char *name, int64_t min,
    int64_t max, int64_t *value)
{
	const json_t *member = json_object_get(object, name);
	int64_t number;

	if (!json_is_integer(member))
		return KMS_EPROTO;
	number = json_integer_value(member);
	if (number < min || number > max)
		return KMS_EPROTO;
	*value = number;
	return 0;
}
