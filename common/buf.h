/*
 * A growable byte buffer with a ceiling. What it held is wiped whenever
 * memory is given back or moved, so that it may carry secrets.
 */
#ifndef KMS_COMMON_BUF_H
#define KMS_COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data; /* NULL while nothing was ever appended */
	size_t len;    /* bytes in use */
	size_t size;   /* bytes allocated */
	size_t max;    /* ceiling of len; appending beyond it is KMS_ETOOBIG */
};

/* Start empty with a ceiling of max bytes. Allocates nothing. */
void buf_init(struct buf *buf, size_t max);

/* Wipe, free and start again empty with the same ceiling. */
void buf_free(struct buf *buf);

/* Wipe the contents; keep the memory. */
void buf_clear(struct buf *buf);

/*
 * Make room for len further bytes and return where they go in *space (valid
 * until the next call); buf_commit then counts those that were written.
 * KMS_ETOOBIG beyond the ceiling, KMS_ENOMEM.
 */
int buf_reserve(struct buf *buf, size_t len, uint8_t **space);
void buf_commit(struct buf *buf, size_t len);

/* Append. KMS_ETOOBIG, KMS_ENOMEM; on error the buffer is unchanged. */
int buf_append(struct buf *buf, const void *data, size_t len);
int buf_append_text(struct buf *buf, const char *text);

/* Append formatted text (no NUL is counted). */
int buf_printf(struct buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Drop the first len bytes (at most buf->len), moving the rest forward. */
void buf_consume(struct buf *buf, size_t len);

#endif
