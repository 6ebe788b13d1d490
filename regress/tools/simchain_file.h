/* The chain's state as JSON: the file that simchain starts from. */
#ifndef REGRESS_TOOLS_SIMCHAIN_FILE_H
#define REGRESS_TOOLS_SIMCHAIN_FILE_H

#include <jansson.h>
#include <stddef.h>

#include "regress/tools/simchain_state.h"

#define SIMCHAIN_ERROR_MAX 160

/*
 * Each reads one JSON object and sets that record for the block to come:
 * creates it, or replaces it; a member that is absent keeps the value that an
 * existing record has. Members are named as in the file; unknown ones are
 * refused. Statuses are names or numbers 0..255; IDs integers or, from 2^63
 * on, decimal text. 0, or a KMS_E* and its text for people in error (room for
 * SIMCHAIN_ERROR_MAX bytes).
 */
int simchain_file_app(struct sim_state *sim, json_t *object, char *error);
int simchain_file_version(struct sim_state *sim, json_t *object, char *error);
int simchain_file_instance(struct sim_state *sim, json_t *object, char *error);

/* 64 hex digits, "0x" optional. */
int simchain_file_hash(const json_t *text, struct eth_word *hash);

/*
 * A chain from a file's JSON, its block 0 still to be made. *sim is the
 * caller's to free. 0, or a KMS_E* and its text.
 */
int simchain_file_load(json_t *root, struct sim_state **sim, char *error);

/* The state at the head in the file's format; NULL when out of memory. The
 * caller's reference. */
json_t *simchain_file_dump(const struct sim_state *sim);

#endif
