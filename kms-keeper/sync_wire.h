/*
 * What digest_request and bucket_request are made of (PROTOCOL.md section 7,
 * "Comparing"): nodes of a tree of hashes, and hashes cut short.
 */
#ifndef KMS_KEEPER_SYNC_WIRE_H
#define KMS_KEEPER_SYNC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "kms-keeper/json_slice.h"

#define TREE_FANOUT 16
#define TREE_DEPTH_MAX 16 /* hex digits of a hash */
#define SHORT_WIDTH 3	  /* bytes: four characters, no padding */
#define WHOLE_WIDTH 8

/* All hashes that begin with these hex digits. */
struct tree_node {
	uint64_t prefix; /* left-aligned, the rest 0 */
	unsigned int depth;
};

/* The largest hash in it. */
uint64_t tree_node_last(struct tree_node node);

/* Its child 0..15; the depth is below TREE_DEPTH_MAX. */
struct tree_node tree_node_child(struct tree_node node, unsigned int digit);

/* By prefix, then by depth. */
int tree_node_compare(struct tree_node a, struct tree_node b);

/* The digits as a member's name with its quotes; read: KMS_EINVAL for what is
 * not 0..16 lower-case hex digits. */
int tree_node_write(struct buf *out, struct tree_node node);
int tree_node_read(struct slice name, struct tree_node *node);

/* The parts of a message stand in ascending order and share nothing, so that
 * nobody can have the same records looked at again and again. To begin with
 * all zero. */
struct ascent {
	bool begun;
	uint64_t last; /* of what came before */
};

/* Read the name of the next node of an app, and of the next app (1..2^63-1, 0
 * for tree 0 where zero). KMS_EINVAL, also for one out of order. */
int ascent_node(
    struct ascent *ascent, struct slice name, struct tree_node *node);
int ascent_app(
    struct ascent *ascent, struct slice name, bool zero, uint64_t *app_id);

/* How hashes are cut short: mixed with a salt, so that two that look alike do
 * not do so twice, their first width bytes (1..8) kept, the others 0. */
struct short_form {
	uint64_t salt;
	unsigned int width;
};

uint64_t hash_shorten(struct short_form form, uint64_t hash);

/* Shortened hashes of this width as base64 of one behind the other. */
int shorts_write(
    struct buf *out, const uint64_t *hashes, size_t count, unsigned int width);

/* A new array in *hashes (free), at most max of them; KMS_EINVAL, KMS_ENOMEM.
 */
int shorts_read(struct slice value, unsigned int width, size_t max,
    uint64_t **hashes, size_t *count);

/* A member that is a number from 0: 0 when it is absent or another thing. */
uint64_t member_number(struct slice object, const char *name);

/* A place among records: the app's ID under one name, the hash of a key, 16
 * hex digits, under the other; *app_id 0 when there is none. KMS_EINVAL. */
int sync_place_read(struct slice object, const char *app_name,
    const char *hash_name, uint64_t *app_id, uint64_t *hash);

#endif
