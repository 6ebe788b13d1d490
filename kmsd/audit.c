#include "kmsd/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/err.h"
#include "common/hex.h"
#include "common/log.h"

#define LINE_MAX_LEN 1000 /* AUDIT_LINE_MAX of the keeper */
#define TAIL_MAX (2 * (LINE_MAX_LEN + 1))

static const char front[] = "{\"seq\":";
static const char before_hash[] = ",\"hash\":\"";
static const char behind_hash[] = "\"}";

int
audit_line_parse(
    const char *line, size_t len, uint64_t *seq, uint8_t hash[AUDIT_HASH_LEN])
{
	const size_t end_len = sizeof(before_hash) - 1 + 2 * AUDIT_HASH_LEN +
	    sizeof(behind_hash) - 1;
	const char *at, *end;

	if (len < sizeof(front) - 1 + end_len || len > LINE_MAX_LEN ||
	    memcmp(line, front, sizeof(front) - 1) != 0)
		return KMS_EINVAL;
	end = line + len - end_len;
	if (memcmp(end, before_hash, sizeof(before_hash) - 1) != 0 ||
	    memcmp(line + len - (sizeof(behind_hash) - 1), behind_hash,
		sizeof(behind_hash) - 1) != 0)
		return KMS_EINVAL;
	*seq = 0;
	for (at = line + sizeof(front) - 1;
	     at < end && *at >= '0' && *at <= '9'; at++) {
		if (*seq > UINT64_MAX / 10 - 1)
			return KMS_EINVAL;
		*seq = *seq * 10 + (uint64_t)(*at - '0');
	}
	if (*seq == 0 || at == end || *at != ',')
		return KMS_EINVAL;
	return hex_decode_exact(end + sizeof(before_hash) - 1,
	    2 * AUDIT_HASH_LEN, hash, AUDIT_HASH_LEN);
}

/*
 * How the file ends. A last line without its newline was torn by a crash and
 * is cut off, as if it had not been written. *seq 0: the file is empty.
 */
static int
read_end(int fd, const char *path, uint64_t *seq, uint8_t *head)
{
	char tail[TAIL_MAX];
	struct stat st;
	off_t from;
	ssize_t got;
	const char *last, *newline, *torn;
	size_t torn_len;

	*seq = 0;
	memset(head, 0, AUDIT_HASH_LEN);
	if (fstat(fd, &st) != 0)
		return KMS_ESYS;
	if (!S_ISREG(st.st_mode))
		return KMS_EINVAL;
	from = st.st_size > TAIL_MAX ? st.st_size - TAIL_MAX : 0;
	got = pread(fd, tail, sizeof(tail), from);
	if (got < 0)
		return KMS_ESYS;
	newline = memrchr(tail, '\n', (size_t)got);
	torn = newline != NULL ? newline + 1 : tail;
	torn_len = (size_t)(tail + got - torn);
	/* Nobody else's file is cut. */
	if (torn_len > LINE_MAX_LEN ||
	    memcmp(torn, front,
		torn_len < sizeof(front) - 1 ? torn_len : sizeof(front) - 1) !=
		0)
		return KMS_EINVAL;
	if (torn_len > 0) {
		log_warn("audit-file: %s: the last line was torn, and is cut "
			 "off",
		    path);
		if (ftruncate(fd, from + (torn - tail)) != 0)
			return KMS_ESYS;
	}
	if (newline == NULL)
		return 0;
	last = memrchr(tail, '\n', (size_t)(newline - tail));
	last = last != NULL ? last + 1 : tail;
	if (last == tail && from > 0)
		return KMS_EINVAL;
	return audit_line_parse(last, (size_t)(newline - last), seq, head);
}

static int
open_and_read(
    const char *path, int *fd, uint64_t *seq, uint8_t head[AUDIT_HASH_LEN])
{
	int error = KMS_ESYS;

	*fd = open(path,
	    O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	    0640);
	if (*fd >= 0)
		error = read_end(*fd, path, seq, head);
	if (error == 0)
		return 0;
	if (error == KMS_EINVAL)
		log_error("audit-file: %s: expected a file that ends as an "
			  "audit trail does",
		    path);
	else
		log_error("audit-file: %s: %s", path, strerror(errno));
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	return error;
}

int
audit_file_open(struct audit_file *file, const char *path)
{
	file->path = path;
	file->broken = 0;
	return open_and_read(path, &file->fd, &file->seq, file->head);
}

void
audit_file_close(struct audit_file *file)
{
	if (file->path != NULL && file->fd >= 0)
		(void)close(file->fd);
	file->fd = -1;
}

int
audit_file_reopen(struct audit_file *file)
{
	uint8_t head[AUDIT_HASH_LEN];
	uint64_t seq;
	int fd, error = open_and_read(file->path, &fd, &seq, head);

	if (error != 0)
		return error;
	if (seq != 0 &&
	    (seq != file->seq || memcmp(head, file->head, sizeof(head)) != 0)) {
		log_error("audit-file: %s does not end with line %llu, which "
			  "was the last: move it away",
		    file->path, (unsigned long long)file->seq);
		(void)close(fd);
		return KMS_EINVAL;
	}
	audit_file_close(file);
	file->fd = fd;
	file->broken = 0;
	return 0;
}

int
audit_file_append(struct audit_file *file, uint64_t seq, const uint8_t *prev,
    const uint8_t *hash, const uint8_t *line, size_t len)
{
	static const char newline[1] = "\n";
	struct iovec iov[] = { { (void *)(uintptr_t)line, len },
		{ (void *)(uintptr_t)newline, 1 } };
	uint8_t own[AUDIT_HASH_LEN];
	uint64_t number;
	off_t before;
	ssize_t wrote;

	/* What is written down must be found again at the next start. */
	if (memchr(line, '\n', len) != NULL ||
	    audit_line_parse((const char *)line, len, &number, own) != 0 ||
	    number != seq || memcmp(own, hash, AUDIT_HASH_LEN) != 0)
		return KMS_EPROTO;
	if (file->fd < 0 || file->broken || seq <= file->seq ||
	    memcmp(prev, file->head, AUDIT_HASH_LEN) != 0)
		return 0;
	before = lseek(file->fd, 0, SEEK_END);
	wrote = writev(file->fd, iov, 2);
	if (wrote == (ssize_t)len + 1) {
		file->seq = seq;
		memcpy(file->head, hash, AUDIT_HASH_LEN);
		return 0;
	}
	log_error("audit-file: %s: %s: nothing is written down until this "
		  "ends",
	    file->path, wrote < 0 ? strerror(errno) : "no room");
	if (wrote > 0 && before >= 0 && ftruncate(file->fd, before) != 0)
		log_error("audit-file: %s: %s", file->path, strerror(errno));
	file->broken = 1;
	return KMS_ESYS;
}
