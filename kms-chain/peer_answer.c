#include "kms-chain/peer_answer.h"

#include <jansson.h>
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/json_guard.h"
#include "common/printable.h"

#define STATUS_OK 200
#define NONCE_MIN 16
#define RETRY_AFTER_MAX 86400U
#define STATUS_TOKENS_MAX 256
#define STATUS_DEPTH_MAX 8

static const struct json_strings_shape nonce_shape = {
	.unknown = "expected no member but nonce",
	.count = 1,
	.members = { JSON_STRINGS_MEMBER("nonce", ENVELOPE_NONCE_MAX) },
};

enum { ERROR_CODE, ERROR_MESSAGE };

static const struct json_strings_shape error_shape = {
	.unknown = "expected no member but code and message",
	.count = 2,
	.members = {
		[ERROR_CODE] = JSON_STRINGS_MEMBER("code", 64),
		[ERROR_MESSAGE] = JSON_STRINGS_MEMBER("message", 512),
	},
};

void
peer_answer_init(struct peer_answer *a, enum peer_kind kind,
    peer_answer_data_fn take, void *arg)
{
	memset(a, 0, sizeof(*a));
	a->kind = kind;
	a->take = take;
	a->arg = arg;
	buf_init(&a->text, PEER_OTHER_MAX);
}

void
peer_answer_free(struct peer_answer *a)
{
	buf_free(&a->text);
}

static int
refuse(struct peer_answer *a, const char *reason)
{
	a->reason = reason;
	return KMS_EPROTO;
}

/* ---- the head ------------------------------------------------------------ */

static bool
is_visible(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= 0x20 || text[i] > 0x7e)
			return false;
	}
	return true;
}

/* "HTTP/1.1 200 OK": what stood before belongs to an interim answer. */
static int
take_status_line(struct peer_answer *a, const char *line, size_t len)
{
	unsigned int status = 0;

	if (len < 12 || line[8] != ' ')
		return refuse(a, "expected a status line of HTTP/1.1");
	for (size_t i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return refuse(a, "expected a status of three digits");
		status = status * 10 + (unsigned int)(line[i] - '0');
	}
	a->status = status;
	a->retry_after = 0;
	a->signature[0] = a->signature_v2[0] = a->next_nonce[0] = '\0';
	json_strings_init(&a->strings,
	    status != STATUS_OK	       ? &error_shape
		: a->kind == PEER_SYNC ? &json_strings_envelope_shape
				       : &nonce_shape);
	a->is_error_text = true;
	return 0;
}

static int
take_text(struct peer_answer *a, const char *value, size_t len, char *out,
    size_t size)
{
	if (out[0] != '\0')
		return refuse(a, "a signature header is repeated");
	if (len >= size || !is_visible(value, len))
		return refuse(a, "a signature header is no such text");
	memcpy(out, value, len);
	out[len] = '\0';
	return 0;
}

/* Seconds; a date is as good as nothing. */
static void
take_retry_after(struct peer_answer *a, const char *value, size_t len)
{
	unsigned int seconds = 0;

	for (size_t i = 0; i < len; i++) {
		if (value[i] < '0' || value[i] > '9')
			return;
		if (seconds <= RETRY_AFTER_MAX)
			seconds = seconds * 10 + (unsigned int)(value[i] - '0');
	}
	a->retry_after = seconds < RETRY_AFTER_MAX ? seconds : RETRY_AFTER_MAX;
}

static bool
name_is(const char *line, size_t len, const char *name)
{
	return len == strlen(name) && strncasecmp(line, name, len) == 0;
}

int
peer_answer_header(struct peer_answer *a, const char *line, size_t len)
{
	const char *colon, *value;
	size_t name_len, left;

	a->head_len += len;
	if (a->head_len > PEER_HEAD_MAX) {
		a->reason = "expected fewer header lines";
		return KMS_ETOOBIG;
	}
	/* Trailers say nothing. */
	if (a->body_len > 0)
		return 0;
	while (len > 0 &&
	    (line[len - 1] == '\n' || line[len - 1] == '\r' ||
		line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		return take_status_line(a, line, len);
	colon = len > 0 ? memchr(line, ':', len) : NULL;
	if (colon == NULL)
		return 0;
	name_len = (size_t)(colon - line);
	value = colon + 1;
	left = len - name_len - 1;
	while (left > 0 && (*value == ' ' || *value == '\t'))
		value++, left--;
	if (name_is(line, name_len, "x-kms-peer-signature"))
		return take_text(
		    a, value, left, a->signature, sizeof(a->signature));
	if (name_is(line, name_len, "x-kms-response-signature-v2"))
		return take_text(
		    a, value, left, a->signature_v2, sizeof(a->signature_v2));
	if (name_is(line, name_len, "x-kms-next-nonce"))
		return take_text(
		    a, value, left, a->next_nonce, sizeof(a->next_nonce));
	if (name_is(line, name_len, "retry-after"))
		take_retry_after(a, value, left);
	return 0;
}

/* ---- the body ------------------------------------------------------------ */

/* The scanner has checked the length against what the arrays hold. */
static void
append(char *out, const char *piece, size_t len)
{
	size_t at = strlen(out);

	memcpy(out + at, piece, len);
	out[at + len] = '\0';
}

static int
take_envelope(void *arg, size_t member, const char *piece, size_t len)
{
	struct peer_answer *a = arg;

	if (member == ENVELOPE_SENDER)
		append(a->sender, piece, len);
	else if (member == ENVELOPE_NONCE)
		append(a->nonce, piece, len);
	else {
		a->data_len += len;
		return a->take(a->arg, piece, len);
	}
	return 0;
}

static int
take_nonce(void *arg, size_t member, const char *piece, size_t len)
{
	struct peer_answer *a = arg;

	(void)member;
	append(a->nonce, piece, len);
	return 0;
}

static int
take_error(void *arg, size_t member, const char *piece, size_t len)
{
	struct peer_answer *a = arg;

	append(member == ERROR_CODE ? a->code : a->message, piece, len);
	return 0;
}

static int
scan(struct peer_answer *a, const char *text, size_t len, json_strings_fn take)
{
	int error = json_strings_feed(&a->strings, text, len, take, a);

	return error == KMS_EINVAL ? refuse(a, a->strings.reason) : error;
}

int
peer_answer_body(struct peer_answer *a, const char *text, size_t len)
{
	a->body_len += len;
	if (a->status == STATUS_OK && a->kind == PEER_SYNC)
		return scan(a, text, len, take_envelope);
	if (a->body_len > PEER_OTHER_MAX)
		return KMS_ETOOBIG;
	if (a->status != STATUS_OK) {
		/* Others have errors of another form: the status is told. */
		if (a->is_error_text)
			a->is_error_text = scan(a, text, len, take_error) == 0;
		return 0;
	}
	if (a->kind == PEER_NONCE)
		return scan(a, text, len, take_nonce);
	return buf_append(&a->text, text, len);
}

/* ---- its end ------------------------------------------------------------- */

static bool
is_base64_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=';
}

static int
check_nonce(struct peer_answer *a)
{
	if (strlen(a->nonce) < NONCE_MIN)
		return refuse(a, "expected a nonce of 16 characters at least");
	for (const char *p = a->nonce; *p != '\0'; p++) {
		if (!is_base64_char(*p))
			return refuse(a, "expected a nonce in base64");
	}
	return 0;
}

/* What a peer says of itself. */
static void
copy_text(const json_t *from, char *out, size_t size)
{
	const char *text = json_is_string(from) ? json_string_value(from) : "";

	printable_copy(text, strlen(text), out, size);
}

static int
read_status(struct peer_answer *a)
{
	const char *text = (const char *)a->text.data;
	const json_t *node;
	json_t *root = NULL;

	if (a->text.len > 0 &&
	    json_guard(
		text, a->text.len, STATUS_TOKENS_MAX, STATUS_DEPTH_MAX) == 0)
		root =
		    json_loadb(text, a->text.len, JSON_REJECT_DUPLICATES, NULL);
	node = json_object_get(root, "node");
	if (!json_is_object(node)) {
		json_decref(root);
		return refuse(a, "expected an object with a node");
	}
	copy_text(
	    json_object_get(node, "tee_wallet"), a->wallet, sizeof(a->wallet));
	copy_text(json_object_get(node, "unavailable_reason"), a->unavailable,
	    sizeof(a->unavailable));
	a->available = json_is_true(json_object_get(node, "service_available"));
	json_decref(root);
	return 0;
}

int
peer_answer_end(struct peer_answer *a)
{
	if (a->status == STATUS_OK && a->kind == PEER_STATUS)
		return read_status(a);
	if (a->status == 0)
		return refuse(a, "expected an answer");
	if (a->status != STATUS_OK) {
		if (!a->is_error_text || json_strings_end(&a->strings) != 0)
			a->code[0] = a->message[0] = '\0';
		return 0;
	}
	if (json_strings_end(&a->strings) != 0)
		return refuse(a, a->strings.reason);
	return a->kind == PEER_NONCE ? check_nonce(a) : 0;
}
