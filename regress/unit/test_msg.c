/* proto/msg: every row at its bounds, and every way to be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "proto/metrics.h"
#include "proto/msg.h"

#define TYPE_END 128
#define FRAME_MAX (MSG_PAYLOAD_MAX + FRAME_HEADER_LEN)

static uint8_t filler[MSG_PAYLOAD_MAX];

static unsigned int
fields_of(const struct msg_row *row)
{
	return row->fields[0].kind == MSG_KIND_NONE ? 0 : row->field_count;
}

/*
 * One field of len bytes. Texts are plain ASCII, so a row at all its bounds
 * may exceed its ceiling; the caller knows.
 */
static void
put_field(struct msg_writer *w, const struct msg_field *field, size_t len)
{
	switch (field->kind) {
	case MSG_KIND_U:
		msg_put_u(w, len > 0 ? UINT64_MAX : 0);
		break;
	case MSG_KIND_B:
		msg_put_b(w, len > 0);
		break;
	case MSG_KIND_S:
		msg_put_sn(w, (const char *)filler, len);
		break;
	case MSG_KIND_D:
		msg_put_d(w, filler, len);
		break;
	case MSG_KIND_NONE:
		break;
	}
}

/* A frame of the row with every field at its least or most. */
static int
compose(struct buf *out, const struct msg_row *row, int most)
{
	struct msg_writer w;

	msg_writer_begin(&w, out, row->type, 7, UINT64_MAX - 1);
	for (unsigned int i = 0; i < fields_of(row); i++) {
		const struct msg_field *field = &row->fields[i];
		uint32_t largest =
		    field->kind == MSG_KIND_U || field->kind == MSG_KIND_B
		    ? 1
		    : field->max;

		put_field(&w, field, most ? largest : field->min);
	}
	return msg_writer_end(&w);
}

static int
parse_frame(const struct buf *frame, struct msg *msg)
{
	struct frame_header header;

	if (frame_header_parse(frame->data, &header) != 0 ||
	    header.payload_len != frame->len - FRAME_HEADER_LEN)
		return KMS_EPROTO;
	return msg_parse(msg_row(header.type), frame->data + FRAME_HEADER_LEN,
	    header.payload_len, msg);
}

static void
every_row_goes_round(void **state)
{
	unsigned int seen = 0;

	(void)state;
	for (unsigned int type = 0; type < TYPE_END + 10; type++) {
		const struct msg_row *row = msg_row(type);

		if (row == NULL)
			continue;
		seen++;
		assert_true(row->ceiling <= MSG_PAYLOAD_MAX - 16);
		assert_true(msg_channel_ceiling(row->channel) >= row->ceiling);
		for (int most = 0; most < 2; most++) {
			struct msg msg = { .fd = -1 };
			struct frame_header header;
			struct buf frame;

			buf_init(&frame, FRAME_MAX);
			/* Every row can carry all its fields at their most. */
			assert_int_equal(compose(&frame, row, most), 0);
			assert_int_equal(
			    frame_header_parse(frame.data, &header), 0);
			assert_int_equal(header.type, type);
			assert_int_equal(header.generation, 7);
			assert_true(header.id == UINT64_MAX - 1);
			assert_int_equal(parse_frame(&frame, &msg), 0);
			assert_ptr_equal(msg.row, row);
			for (unsigned int i = 0; i < fields_of(row); i++) {
				const struct msg_field *f = &row->fields[i];

				if (f->kind == MSG_KIND_U)
					assert_true(msg.v[i].u ==
					    (most ? UINT64_MAX : 0));
				else if (f->kind == MSG_KIND_B)
					assert_int_equal(msg.v[i].u, most);
				else
					assert_int_equal(msg.v[i].len,
					    most ? f->max : f->min);
			}
			buf_free(&frame);
		}
	}
	assert_true(seen > 30);
}

static void
the_writer_refuses_what_is_not_in_the_row(void **state)
{
	struct msg_writer w;
	struct buf out;

	(void)state;
	buf_init(&out, FRAME_MAX);
	/* too few, too many, the wrong kind, too long, too short, no row */
	msg_writer_begin(&w, &out, MSG_KMSDCHILD_CONFIG, 0, 0);
	msg_put_s(&w, "a");
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	msg_writer_begin(&w, &out, MSG_KMSDCHILD_START, 0, 0);
	msg_put_u(&w, 1);
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	msg_writer_begin(&w, &out, MSG_KMSDCHILD_CONFIG, 0, 0);
	msg_put_s(&w, "a");
	msg_put_u(&w, 1);
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	msg_writer_begin(&w, &out, MSG_CHILDKMSD_READY, 0, 0);
	msg_put_sn(&w, (const char *)filler, 513);
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	msg_writer_begin(&w, &out, MSG_KEEPERNET_NONCE, 0, 0);
	msg_put_d(&w, filler, 15);
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	msg_writer_begin(&w, &out, MSG_CHILDKMSD_READY, 0, 0);
	msg_put_s(&w, "\xff");
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	msg_writer_begin(&w, &out, (enum msg_type)127, 0, 0);
	assert_int_equal(msg_writer_end(&w), KMS_EINVAL);
	/* and leaves nothing behind */
	assert_int_equal(out.len, 0);
	buf_free(&out);
}

#define REFUSED(type, bytes)                                                   \
	do {                                                                   \
		struct msg msg_ = { .fd = -1 };                                \
		static const uint8_t payload_[] = bytes;                       \
		assert_int_equal(msg_parse(msg_row(type), payload_,            \
				     sizeof(payload_) - 1, &msg_),             \
		    KMS_EPROTO);                                               \
	} while (0)
#define TAKEN(type, bytes)                                                     \
	do {                                                                   \
		struct msg msg_ = { .fd = -1 };                                \
		static const uint8_t payload_[] = bytes;                       \
		assert_int_equal(msg_parse(msg_row(type), payload_,            \
				     sizeof(payload_) - 1, &msg_),             \
		    0);                                                        \
	} while (0)

static void
every_violation_is_refused(void **state)
{
	(void)state;
	TAKEN(MSG_NETKEEPER_CREDIT, "\x91\x05");
	TAKEN(MSG_NETKEEPER_CREDIT, "\xdc\x00\x01\xcc\xff");
	REFUSED(MSG_NETKEEPER_CREDIT, "");
	REFUSED(MSG_NETKEEPER_CREDIT, "\x90");		   /* none of one */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x92\x05\x05");	   /* two of one */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91");		   /* cut */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xcf\x01");	   /* cut within */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\x05\x00");	   /* trailing */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xff");	   /* -1 */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xd0\x05");	   /* int 8 */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\x91\x05");	   /* nested array */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x81\x05\x05");	   /* map */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\x80");	   /* map within */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xc0");	   /* nil */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xc3");	   /* true */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xca\0\0\0\0"); /* float */
	REFUSED(MSG_NETKEEPER_CREDIT, "\x91\xa1x");	   /* text */
	REFUSED(MSG_NETKEEPER_CREDIT, "\xdd\xff\xff\xff\xff\x05"); /* 4 G */
	REFUSED(MSG_NETKEEPER_NONCE, "\x91\x01");
	TAKEN(MSG_NETKEEPER_NONCE, "\x90");

	TAKEN(MSG_CHILDKMSD_READY, "\x91\xa2\xc3\xa4");
	TAKEN(MSG_CHILDKMSD_READY, "\x91\xd9\x01x");
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xa2\xc3\x28");     /* UTF-8 */
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xa2\xc0\x80");     /* overlong */
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xa3\xed\xa0\x80"); /* surrogate */
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xa4\xf4\x90\x80\x80"); /* 110000 */
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xa1\0");		  /* NUL */
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xa3x");		  /* cut */
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xdb\xff\xff\xff\xffx");
	REFUSED(MSG_CHILDKMSD_READY, "\x91\xc4\x01x"); /* bytes for text */
	REFUSED(MSG_CHILDKMSD_METRICS, "\x91\xa1x");   /* text for bytes */
	TAKEN(MSG_CHILDKMSD_METRICS, "\x91\xc4\x01x");
	REFUSED(MSG_KMSDCHILD_BLOB, "\x92\xa1x\xc4\x00"); /* too short */
}

static void
what_is_over_its_ceiling_is_refused(void **state)
{
	const struct msg_row *row = msg_row(MSG_CHILDKMSD_READY);
	struct msg msg = { .fd = -1 };
	uint8_t *payload = calloc(1, row->ceiling + 1);

	(void)state;
	assert_non_null(payload);
	memset(payload, 'x', row->ceiling + 1);
	memcpy(payload, "\x91\xda\x02\x00", 4); /* 512 bytes of text */
	assert_int_equal(msg_parse(row, payload, 516, &msg), 0);
	memcpy(payload, "\x91\xda\x02\x01", 4);
	assert_int_equal(msg_parse(row, payload, 517, &msg), KMS_EPROTO);
	assert_int_equal(
	    msg_parse(row, payload, row->ceiling + 1, &msg), KMS_EPROTO);
	free(payload);
}

static void
headers_are_checked(void **state)
{
	uint8_t header[FRAME_HEADER_LEN] = { 0, 0, 0, 16, 0, 1 };
	struct frame_header parsed;

	(void)state;
	assert_int_equal(frame_header_parse(header, &parsed), 0);
	assert_int_equal(parsed.payload_len, 0);
	header[3] = 15;
	assert_int_equal(frame_header_parse(header, &parsed), KMS_EPROTO);
	header[3] = 16;
	header[7] = 1;
	assert_int_equal(frame_header_parse(header, &parsed), KMS_EPROTO);
	header[7] = 0;
	header[0] = 1;
	assert_int_equal(frame_header_parse(header, &parsed), KMS_EPROTO);
	assert_null(msg_row(0));
	assert_null(msg_row(TYPE_END));
	assert_null(msg_row(UINT32_MAX));
}

/* Mutated payloads never do worse than being refused. */
static void
mutations_are_survived(void **state)
{
	uint32_t seed = 1;
	unsigned int taken = 0;

	(void)state;
	for (int round = 0; round < 30000; round++) {
		const struct msg_row *row;
		struct msg msg = { .fd = -1 };
		struct buf frame;

		seed = seed * 1664525 + 1013904223;
		row = msg_row(seed >> 8 & 127);
		if (row == NULL || row->ceiling > 9000)
			continue;
		buf_init(&frame, FRAME_MAX);
		assert_int_equal(compose(&frame, row, round & 1), 0);
		for (int i = 0; i < 3 && frame.len > FRAME_HEADER_LEN; i++) {
			size_t at;

			seed = seed * 1664525 + 1013904223;
			at = FRAME_HEADER_LEN +
			    (seed >> 8) % (frame.len - FRAME_HEADER_LEN);
			if (i > 0 && at > FRAME_HEADER_LEN + 40)
				at = FRAME_HEADER_LEN;
			frame.data[at] = (uint8_t)(seed >> 4);
		}
		if (seed & 1)
			frame.len -= frame.len > FRAME_HEADER_LEN;
		if (msg_parse(row, frame.data + FRAME_HEADER_LEN,
			frame.len - FRAME_HEADER_LEN, &msg) == 0) {
			taken++;
			for (unsigned int i = 0; i < fields_of(row); i++)
				assert_true(msg.v[i].len <= row->ceiling);
		}
		buf_free(&frame);
	}
	assert_true(taken > 0);
}

static void
metrics_go_round(void **state)
{
	uint64_t values[METRIC_COUNT], back[METRIC_COUNT];
	uint8_t wire[METRICS_WIRE_LEN];

	(void)state;
	for (size_t i = 0; i < METRIC_COUNT; i++)
		values[i] = UINT64_C(0x0102030405060708) * i;
	metrics_encode_values(values, wire);
	assert_int_equal(metrics_decode(wire, sizeof(wire), back), 0);
	assert_memory_equal(values, back, sizeof(values));
	assert_int_equal(
	    metrics_decode(wire, sizeof(wire) - 1, back), KMS_EPROTO);
	assert_true(METRICS_WIRE_LEN <= 16000);
}

/* The document is written by hand: it names every row with its number. */
static void
every_row_is_described(void **state)
{
	static char document[65536];
	FILE *in = fopen("proto/PROTOCOL", "r");

	(void)state;
	assert_non_null(in);
	assert_true(fread(document, 1, sizeof(document) - 1, in) > 0);
	(void)fclose(in);
	for (unsigned int type = 0; type < TYPE_END; type++) {
		const struct msg_row *row = msg_row(type);
		char want[64];

		if (row == NULL)
			continue;
		(void)snprintf(want, sizeof(want), "%s %u", row->name, type);
		if (strstr(document, want) == NULL)
			fail_msg("%s is not described", want);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_row_goes_round),
		cmocka_unit_test(the_writer_refuses_what_is_not_in_the_row),
		cmocka_unit_test(every_violation_is_refused),
		cmocka_unit_test(what_is_over_its_ceiling_is_refused),
		cmocka_unit_test(headers_are_checked),
		cmocka_unit_test(mutations_are_survived),
		cmocka_unit_test(metrics_go_round),
		cmocka_unit_test(every_row_is_described),
	};

	memset(filler, 'x', sizeof(filler));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
