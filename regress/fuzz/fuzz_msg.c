/* A frame as it stands on a channel: header, then its row's payload. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct frame_header header;
	struct msg msg = { .fd = -1 };
	const struct msg_row *row;

	if (len < FRAME_HEADER_LEN || frame_header_parse(data, &header) != 0)
		return 0;
	row = msg_row(header.type);
	if (row == NULL)
		return 0;
	if (msg_parse(row, data + FRAME_HEADER_LEN, len - FRAME_HEADER_LEN,
		&msg) != 0)
		return 0;
	for (unsigned int i = 0; i < row->field_count; i++) {
		const struct msg_field *field = &row->fields[i];
		const struct msg_value *value = &msg.v[i];

		if (field->kind != MSG_KIND_S && field->kind != MSG_KIND_D)
			continue;
		/* What was let through is as the row says, and ours to read. */
		if (value->len < field->min || value->len > field->max)
			abort();
		if (value->len > 0 &&
		    (value->data < data + FRAME_HEADER_LEN ||
			value->data + value->len > data + len))
			abort();
	}
	return 0;
}
