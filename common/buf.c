#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define BUF_MIN 256

void
buf_init(struct buf *buf, size_t max)
{
	*buf = (struct buf){ .max = max };
}

void
buf_free(struct buf *buf)
{
	if (buf->data != NULL)
		explicit_bzero(buf->data, buf->size);
	free(buf->data);
	buf_init(buf, buf->max);
}

void
buf_clear(struct buf *buf)
{
	if (buf->len > 0)
		explicit_bzero(buf->data, buf->len);
	buf->len = 0;
}

/* realloc would leave an unwiped copy behind, so move by hand. */
static int
grow(struct buf *buf, size_t need)
{
	size_t size = buf->size < BUF_MIN ? BUF_MIN : buf->size;
	uint8_t *data;

	while (size < need)
		size = size > SIZE_MAX / 2 ? need : size * 2;
	if (size > buf->max && need <= buf->max)
		size = buf->max;
	data = malloc(size);
	if (data == NULL)
		return KMS_ENOMEM;
	if (buf->data != NULL) {
		memcpy(data, buf->data, buf->len);
		explicit_bzero(buf->data, buf->size);
		free(buf->data);
	}
	buf->data = data;
	buf->size = size;
	return 0;
}

int
buf_reserve(struct buf *buf, size_t len, uint8_t **space)
{
	int error;

	if (len > buf->max || buf->len > buf->max - len)
		return KMS_ETOOBIG;
	if (buf->data == NULL || buf->size - buf->len < len) {
		error = grow(buf, buf->len + len);
		if (error != 0)
			return error;
	}
	*space = buf->data + buf->len;
	return 0;
}

void
buf_commit(struct buf *buf, size_t len)
{
	buf->len += len;
}

int
buf_append(struct buf *buf, const void *data, size_t len)
{
	uint8_t *space;
	int error = buf_reserve(buf, len, &space);

	if (error != 0)
		return error;
	if (len > 0)
		memcpy(space, data, len);
	buf->len += len;
	return 0;
}

int
buf_append_text(struct buf *buf, const char *text)
{
	return buf_append(buf, text, strlen(text));
}

int
buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	uint8_t *space;
	int len, error;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return KMS_EINVAL;
	if ((size_t)len > buf->max || buf->len > buf->max - (size_t)len)
		return KMS_ETOOBIG;
	/* One byte beyond the ceiling is lent to vsnprintf's NUL. */
	buf->max++;
	error = buf_reserve(buf, (size_t)len + 1, &space);
	buf->max--;
	if (error != 0)
		return error;
	va_start(args, format);
	(void)vsnprintf((char *)space, (size_t)len + 1, format, args);
	va_end(args);
	buf->len += (size_t)len;
	return 0;
}

void
buf_consume(struct buf *buf, size_t len)
{
	if (len >= buf->len) {
		buf_clear(buf);
		return;
	}
	memmove(buf->data, buf->data + len, buf->len - len);
	explicit_bzero(buf->data + buf->len - len, len);
	buf->len -= len;
}
