/* Whole, by single bytes and shaken: the HTTP reader's verdict is the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "regress/fuzz/http_drive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
compare(const struct http_limits *limits, bool answers, const uint8_t *data,
    size_t size)
{
	struct http_drive whole = { .limits = limits, .answers = answers };
	struct http_drive bytes = {
		.limits = limits, .answers = answers, .first = 1, .step = 1
	};
	struct http_drive shaken = {
		.limits = limits, .answers = answers, .shake = 1
	};

	for (size_t i = 0; i < size; i++)
		shaken.shake = shaken.shake * 31 + data[i];
	shaken.shake |= 1;
	http_drive(&whole, data, size);
	http_drive(&bytes, data, size);
	http_drive(&shaken, data, size);
	if (whole.record.len != bytes.record.len ||
	    whole.record.len != shaken.record.len ||
	    whole.consumed != bytes.consumed ||
	    whole.consumed != shaken.consumed)
		abort();
	if (whole.record.len > 0 &&
	    (memcmp(whole.record.data, bytes.record.data, whole.record.len) !=
		    0 ||
		memcmp(whole.record.data, shaken.record.data,
		    whole.record.len) != 0))
		abort();
	buf_free(&whole.record);
	buf_free(&bytes.record);
	buf_free(&shaken.record);
}

/* Limits that short inputs can reach, and the real ones. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct http_limits tight = { .target = 24,
		.head = 160,
		.headers = 5,
		.body = 20,
		.extension = 6,
		.trailer = 16 };

	if (size > 4096)
		return 0;
	compare(&http_limits_default, false, data, size);
	compare(&tight, false, data, size);
	compare(&http_limits_default, true, data, size);
	compare(&tight, true, data, size);
	return 0;
}
