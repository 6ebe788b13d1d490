/* The envelope scanner: what it accepts is what it says it accepts. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kms-net/json_in.h"

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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_envelope envelope;
	const char *reason = NULL;

	if (json_in_envelope(data, size, &envelope, &reason) == 0) {
		check(data, size, envelope.sender, JSON_IN_SENDER_MAX);
		check(data, size, envelope.nonce, JSON_IN_NONCE_MAX);
		check(data, size, envelope.data, size);
	} else if (reason == NULL || strlen(reason) == 0) {
		abort();
	}
	return 0;
}
