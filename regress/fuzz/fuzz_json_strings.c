/* The envelope scanner: what it accepts is what it says it accepts. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_strings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const uint8_t *data, size_t size, struct http_slice slice, size_t max)
{
	const char *start = (const char *)data, *end = start + size;

	if (slice.data <= start || slice.data + slice.len >= end ||
	    slice.len > max)
		abort();
	if (slice.data[-1] != '"' || slice.data[slice.len] != '"')
		abort();
	for (size_t i = 0; i < slice.len; i++) {
		if (slice.data[i] < 0x20 || slice.data[i] > 0x7e ||
		    slice.data[i] == '"' || slice.data[i] == '\\')
			abort();
	}
}

static int
sum(void *arg, size_t member, const char *piece, size_t len)
{
	size_t *total = arg;

	(void)member;
	(void)piece;
	*total += len;
	return 0;
}

/* In two pieces the verdict is the same. */
static void
check_split(const uint8_t *data, size_t size, int verdict, size_t total)
{
	struct json_strings strings;
	size_t taken = 0, half = size / 2;
	int error;

	json_strings_init(&strings, &json_strings_envelope_shape);
	error =
	    json_strings_feed(&strings, (const char *)data, half, sum, &taken);
	if (error == 0)
		error = json_strings_feed(&strings, (const char *)data + half,
		    size - half, sum, &taken);
	if (error == 0)
		error = json_strings_end(&strings);
	if (error != verdict || (error == 0 && taken != total))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_envelope envelope;
	const char *reason = NULL;

	if (json_strings_envelope(data, size, &envelope, &reason) == 0) {
		check(data, size, envelope.sender, ENVELOPE_SENDER_MAX);
		check(data, size, envelope.nonce, ENVELOPE_NONCE_MAX);
		check(data, size, envelope.data, size);
		check_split(data, size, 0,
		    envelope.sender.len + envelope.nonce.len +
			envelope.data.len);
	} else if (reason == NULL || strlen(reason) == 0) {
		abort();
	} else {
		check_split(data, size, -1, 0);
	}
	return 0;
}
