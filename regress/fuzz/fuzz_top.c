/* Any /metrics, as kmsctl top shows it: nothing unprintable comes through. */
#include <stdlib.h>

#include "kmsctl/top_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct top_reading now = { .at = 3 }, before = { .at = 1 };
	struct buf out;

	if (top_metrics_parse((const char *)data, size / 2, &before.metrics) !=
		0 ||
	    top_metrics_parse((const char *)data, size, &now.metrics) != 0)
		abort();
	buf_init(&out, 1 << 20);
	if (top_view("node", &now, &before, &out) == 0) {
		for (size_t i = 0; i < out.len; i++) {
			if (out.data[i] != '\n' &&
			    (out.data[i] < 0x20 || out.data[i] > 0x7e))
				abort();
		}
	}
	buf_free(&out);
	top_metrics_free(&now.metrics);
	top_metrics_free(&before.metrics);
	return 0;
}
