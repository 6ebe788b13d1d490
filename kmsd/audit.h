/*
 * The file of the audit trail. The keeper composes its lines
 * (kms-keeper/audit.h); here they are appended, each only if it follows the
 * one that the file ends with. When the file cannot be written nothing more is
 * until it can be opened anew; the keeper is then told where it stands.
 */
#ifndef KMS_KMSD_AUDIT_H
#define KMS_KMSD_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#define AUDIT_HASH_LEN 32

struct audit_file {
	const char *path; /* NULL: there is no trail */
	int fd;		  /* -1: closed */
	int broken;	  /* nothing is written until audit_reopen */
	uint64_t seq;	  /* of the last line */
	uint8_t head[AUDIT_HASH_LEN];
};

/*
 * Open or make the file (mode 0640) and read how it ends; a torn last line is
 * cut off. path is borrowed. KMS_ESYS, KMS_EINVAL when it does not end as a
 * trail does (both logged).
 */
int audit_file_open(struct audit_file *file, const char *path);
void audit_file_close(struct audit_file *file);

/* After rotation, or a failure: KMS_EINVAL when what is there now is neither
 * empty nor the file as it was left; else as above. */
int audit_file_reopen(struct audit_file *file);

/* A line of the keeper, with the number and hash that it says it has: else
 * KMS_EPROTO. Dropped when it does not follow; KMS_ESYS (logged once) when it
 * cannot be written: the file is then as it was, and broken. */
int audit_file_append(struct audit_file *file, uint64_t seq,
    const uint8_t *prev, const uint8_t *hash, const uint8_t *line, size_t len);

/* Number and hash of a line without its newline. KMS_EINVAL. */
int audit_line_parse(
    const char *line, size_t len, uint64_t *seq, uint8_t hash[AUDIT_HASH_LEN]);

#endif
