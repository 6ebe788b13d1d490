/*
 * What a child is told of kmsd.conf: KMSDCHILD_CONFIG rows of (name, value)
 * before KMSDCHILD_START. kmsd has checked them; the child parses them again,
 * exactly, from its own table, and refuses a name it does not know.
 */
#ifndef KMS_PROTO_CONFIG_H
#define KMS_PROTO_CONFIG_H

#include <stddef.h>
#include <stdint.h>

enum config_kind {
	CONFIG_U64,  /* uint64_t; decimal, base unit (ms, bytes, count) */
	CONFIG_TEXT, /* char[size], NUL-terminated */
	CONFIG_BOOL, /* int; "yes" or "no" */
	CONFIG_LIST  /* struct config_list; each row appends one text */
};

#define CONFIG_LIST_MAX 16
#define CONFIG_LIST_TEXT 2049

struct config_list {
	size_t count;
	char text[CONFIG_LIST_MAX][CONFIG_LIST_TEXT];
};

struct config_row {
	const char *name;
	enum config_kind kind;
	size_t offset; /* of the member in the caller's struct */
	size_t size;   /* CONFIG_TEXT: of the array */
};

#define CONFIG_ROWS_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/*
 * Apply one (name, value) to the struct at base by the table. KMS_ENOENT for
 * an unknown name, KMS_EINVAL, KMS_ETOOBIG for a bad value.
 */
int config_apply(const struct config_row *rows, size_t count, void *base,
    const char *name, size_t name_len, const char *value, size_t value_len);

#endif
