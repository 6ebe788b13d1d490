#include "proto/msg.h"

#include <msgpack.h>
#include <string.h>

#include "common/err.h"

#define U                                                                      \
	{                                                                      \
		MSG_KIND_U, 0, 0                                               \
	}
#define B                                                                      \
	{                                                                      \
		MSG_KIND_B, 0, 0                                               \
	}
#define S(max)                                                                 \
	{                                                                      \
		MSG_KIND_S, 0, max                                             \
	}
#define D(min, max)                                                            \
	{                                                                      \
		MSG_KIND_D, min, max                                           \
	}
#define NONE                                                                   \
	{                                                                      \
		MSG_KIND_NONE, 0, 0                                            \
	}
#define CONFIGURING MSG_STATE_CONFIGURING
#define RUNNING MSG_STATE_RUNNING

#define FIELD_COUNT(...)                                                       \
	(sizeof((const struct msg_field[]){ __VA_ARGS__ }) /                   \
	    sizeof(struct msg_field))

/* NONE counts as a field in the initialiser; msg_row_fields corrects it. */
static const struct msg_row rows[] = {
#define MSG(name, number, channel, states, ceiling, with_fd, ...)              \
	{ #name, MSG_##name, MSG_CHANNEL_##channel, states, ceiling, with_fd,  \
		FIELD_COUNT(__VA_ARGS__), { __VA_ARGS__ } },
#include "proto/msg.def"
#undef MSG
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))
#define TYPE_END 128

enum row_index {
#define MSG(name, ...) INDEX_##name,
#include "proto/msg.def"
#undef MSG
};

/* type -> index in rows + 1; 0: no such type */
static const uint8_t index_of[TYPE_END] = {
#define MSG(name, number, ...) [number] = INDEX_##name + 1,
#include "proto/msg.def"
#undef MSG
};

const struct msg_row *
msg_row(unsigned int type)
{
	if (type >= TYPE_END || index_of[type] == 0)
		return NULL;
	return &rows[index_of[type] - 1];
}

static unsigned int
field_count(const struct msg_row *row)
{
	return row->fields[0].kind == MSG_KIND_NONE ? 0 : row->field_count;
}

uint32_t
msg_channel_ceiling(enum msg_channel channel)
{
	uint32_t ceiling = 0;

	for (size_t i = 0; i < ROW_COUNT; i++) {
		if (rows[i].channel == channel && rows[i].ceiling > ceiling)
			ceiling = rows[i].ceiling;
	}
	return ceiling;
}

/* 1 when eight bytes are ASCII other than NUL. */
static int
eight_ascii(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return ((word | (word - UINT64_C(0x0101010101010101))) &
		   UINT64_C(0x8080808080808080)) == 0;
}

int
msg_text_valid(const uint8_t *p, size_t len)
{
	const uint8_t *end = p + len;

	while (p < end) {
		unsigned int follow;

		/* Most texts are ASCII throughout: eight at a time. */
		while ((size_t)(end - p) >= 8 && eight_ascii(p))
			p += 8;
		if (p == end)
			break;
		uint32_t c = *p++, min;

		if (c != 0 && c < 0x80)
			continue;
		if (c >= 0xc2 && c <= 0xdf)
			follow = 1, c &= 0x1f, min = 0x80;
		else if (c >= 0xe0 && c <= 0xef)
			follow = 2, c &= 0x0f, min = 0x800;
		else if (c >= 0xf0 && c <= 0xf4)
			follow = 3, c &= 0x07, min = 0x10000;
		else
			return 0;
		if ((size_t)(end - p) < follow)
			return 0;
		for (; follow > 0; follow--) {
			if ((*p & 0xc0) != 0x80)
				return 0;
			c = c << 6 | (*p++ & 0x3fU);
		}
		if (c < min || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return 0;
	}
	return 1;
}

/* A cursor over raw msgpack: just enough to prove that the shape is flat. */
struct walk {
	const uint8_t *p;
	const uint8_t *end;
};

static int
walk_number(struct walk *w, size_t bytes, uint64_t *value)
{
	if ((size_t)(w->end - w->p) < bytes)
		return KMS_EPROTO;
	*value = 0;
	while (bytes-- > 0)
		*value = *value << 8 | *w->p++;
	return 0;
}

static int
walk_count(struct walk *w, uint64_t *count)
{
	if (w->p == w->end)
		return KMS_EPROTO;
	if ((*w->p & 0xf0) == 0x90) {
		*count = *w->p++ & 0x0fU;
		return 0;
	}
	if (*w->p++ != 0xdc)
		return KMS_EPROTO;
	return walk_number(w, 2, count);
}

static int
walk_unsigned(struct walk *w, uint8_t head)
{
	uint64_t ignored;

	if (head < 0x80)
		return 0;
	if (head < 0xcc || head > 0xcf)
		return KMS_EPROTO;
	return walk_number(w, (size_t)1 << (head - 0xcc), &ignored);
}

/* str 8/16/32 begin at 0xd9, bin 8/16/32 at 0xc4; fixstr is 0xa0..0xbf. */
static int
walk_bytes(struct walk *w, uint8_t head, const struct msg_field *field)
{
	uint8_t first = field->kind == MSG_KIND_S ? 0xd9 : 0xc4;
	uint64_t len;

	if (field->kind == MSG_KIND_S && (head & 0xe0) == 0xa0)
		len = head & 0x1fU;
	else if (head < first || head > first + 2 ||
	    walk_number(w, (size_t)1 << (head - first), &len) != 0)
		return KMS_EPROTO;
	if (len < field->min || len > field->max ||
	    len > (uint64_t)(w->end - w->p))
		return KMS_EPROTO;
	if (field->kind == MSG_KIND_S && !msg_text_valid(w->p, (size_t)len))
		return KMS_EPROTO;
	w->p += len;
	return 0;
}

static int
walk_field(struct walk *w, const struct msg_field *field)
{
	uint8_t head;

	if (w->p == w->end)
		return KMS_EPROTO;
	head = *w->p++;
	switch (field->kind) {
	case MSG_KIND_U:
		return walk_unsigned(w, head);
	case MSG_KIND_B:
		return head == 0xc2 || head == 0xc3 ? 0 : KMS_EPROTO;
	case MSG_KIND_S:
	case MSG_KIND_D:
		return walk_bytes(w, head, field);
	case MSG_KIND_NONE:
		break;
	}
	return KMS_EPROTO;
}

static int
check_shape(const struct msg_row *row, const uint8_t *payload, size_t len)
{
	struct walk w = { payload, payload + len };
	uint64_t count;

	if (len > row->ceiling || walk_count(&w, &count) != 0 ||
	    count != field_count(row))
		return KMS_EPROTO;
	for (unsigned int i = 0; i < count; i++) {
		if (walk_field(&w, &row->fields[i]) != 0)
			return KMS_EPROTO;
	}
	return w.p == w.end ? 0 : KMS_EPROTO;
}

static int
take_value(const msgpack_object *object, struct msg_value *value)
{
	*value = (struct msg_value){ 0 };
	switch (object->type) {
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		value->u = object->via.u64;
		return 0;
	case MSGPACK_OBJECT_BOOLEAN:
		value->u = object->via.boolean ? 1 : 0;
		return 0;
	case MSGPACK_OBJECT_STR:
		value->data = (const uint8_t *)object->via.str.ptr;
		value->len = object->via.str.size;
		return 0;
	case MSGPACK_OBJECT_BIN:
		value->data = (const uint8_t *)object->via.bin.ptr;
		value->len = object->via.bin.size;
		return 0;
	default:
		return KMS_EPROTO;
	}
}

int
msg_parse(const struct msg_row *row, const uint8_t *payload, size_t len,
    struct msg *msg)
{
	/* Reused, so that a message costs no allocation. */
	static msgpack_zone zone;
	static int zone_ready;
	msgpack_object object;
	size_t offset = 0;
	int error = 0;

	if (check_shape(row, payload, len) != 0)
		return KMS_EPROTO;
	if (!zone_ready && !msgpack_zone_init(&zone, 1024))
		return KMS_ENOMEM;
	zone_ready = 1;
	if (msgpack_unpack((const char *)payload, len, &offset, &zone,
		&object) != MSGPACK_UNPACK_SUCCESS ||
	    offset != len || object.type != MSGPACK_OBJECT_ARRAY ||
	    object.via.array.size != field_count(row))
		error = KMS_EPROTO;
	for (uint32_t i = 0; error == 0 && i < field_count(row); i++)
		error = take_value(&object.via.array.ptr[i], &msg->v[i]);
	msgpack_zone_clear(&zone);
	msg->row = row;
	return error;
}

/* ---- writing ---- */

static int
write_bytes(void *arg, const char *bytes, size_t len)
{
	struct msg_writer *w = arg;

	if (w->error == 0)
		w->error = buf_append(w->out, bytes, len);
	return w->error == 0 ? 0 : -1;
}

static void
put_u16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void
put_u32(uint8_t *p, uint32_t value)
{
	put_u16(p, value >> 16);
	put_u16(p + 2, value);
}

static uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

void
msg_writer_begin(struct msg_writer *w, struct buf *out, enum msg_type type,
    uint32_t generation, uint64_t id)
{
	uint8_t header[FRAME_HEADER_LEN] = { 0 };
	msgpack_packer packer;

	*w = (struct msg_writer){
		.row = msg_row(type), .out = out, .start = out->len
	};
	put_u16(header + 4, type);
	put_u32(header + 8, generation);
	put_u32(header + 12, (uint32_t)(id >> 32));
	put_u32(header + 16, (uint32_t)id);
	w->error = buf_append(out, header, sizeof(header));
	if (w->row == NULL)
		w->error = KMS_EINVAL;
	if (w->error != 0)
		return;
	msgpack_packer_init(&packer, w, write_bytes);
	msgpack_pack_array(&packer, field_count(w->row));
}

/* The row's next field, if a value of this kind and length fits it. */
static int
next_field(struct msg_writer *w, enum msg_kind kind, size_t len)
{
	const struct msg_field *field;

	if (w->error != 0)
		return 0;
	if (w->next >= field_count(w->row)) {
		w->error = KMS_EINVAL;
		return 0;
	}
	field = &w->row->fields[w->next++];
	if (field->kind != kind || len < field->min ||
	    (len > field->max && (kind == MSG_KIND_S || kind == MSG_KIND_D)))
		w->error = KMS_EINVAL;
	return w->error == 0;
}

void
msg_put_u(struct msg_writer *w, uint64_t value)
{
	msgpack_packer packer;

	if (!next_field(w, MSG_KIND_U, 0))
		return;
	msgpack_packer_init(&packer, w, write_bytes);
	msgpack_pack_uint64(&packer, value);
}

void
msg_put_b(struct msg_writer *w, int value)
{
	msgpack_packer packer;

	if (!next_field(w, MSG_KIND_B, 0))
		return;
	msgpack_packer_init(&packer, w, write_bytes);
	if (value)
		msgpack_pack_true(&packer);
	else
		msgpack_pack_false(&packer);
}

void
msg_put_sn(struct msg_writer *w, const char *text, size_t len)
{
	msgpack_packer packer;

	if (!next_field(w, MSG_KIND_S, len))
		return;
	/* The receiver would end the channel over it. */
	if (!msg_text_valid((const uint8_t *)text, len)) {
		w->error = KMS_EINVAL;
		return;
	}
	msgpack_packer_init(&packer, w, write_bytes);
	msgpack_pack_str(&packer, len);
	msgpack_pack_str_body(&packer, text, len);
}

void
msg_put_s(struct msg_writer *w, const char *text)
{
	msg_put_sn(w, text, strlen(text));
}

void
msg_put_d(struct msg_writer *w, const void *data, size_t len)
{
	msgpack_packer packer;

	if (!next_field(w, MSG_KIND_D, len))
		return;
	msgpack_packer_init(&packer, w, write_bytes);
	msgpack_pack_bin(&packer, len);
	if (len > 0)
		msgpack_pack_bin_body(&packer, data, len);
}

int
msg_writer_end(struct msg_writer *w)
{
	size_t len = w->out->len - w->start;

	if (w->error == 0 && w->next != field_count(w->row))
		w->error = KMS_EINVAL;
	if (w->error == 0 && len - FRAME_HEADER_LEN > w->row->ceiling)
		w->error = KMS_ETOOBIG;
	if (w->error != 0) {
		w->out->len = w->start;
		return w->error;
	}
	put_u32(w->out->data + w->start, (uint32_t)(len - FRAME_LENGTH_LEN));
	return 0;
}

int
frame_header_parse(const uint8_t *bytes, struct frame_header *header)
{
	uint32_t length = get_u32(bytes);

	if (length < FRAME_HEADER_LEN - FRAME_LENGTH_LEN ||
	    length > MSG_PAYLOAD_MAX || bytes[6] != 0 || bytes[7] != 0)
		return KMS_EPROTO;
	header->payload_len = length - (FRAME_HEADER_LEN - FRAME_LENGTH_LEN);
	header->type = (unsigned int)bytes[4] << 8 | bytes[5];
	header->generation = get_u32(bytes + 8);
	header->id = (uint64_t)get_u32(bytes + 12) << 32 | get_u32(bytes + 16);
	return 0;
}

void
msg_copy_text(const struct msg_value *value, char *out, size_t size)
{
	size_t len = value->len < size - 1 ? value->len : size - 1;

	if (len > 0)
		memcpy(out, value->data, len);
	out[len] = '\0';
}
