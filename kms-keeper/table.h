/*
 * uthash as this room uses it: hashes come from siphash under a boot secret
 * (the *_BYHASHVALUE macros only), and running out of memory is an error of
 * the one insertion (the element's hh.tbl is NULL) instead of the end of the
 * process. Include this instead of uthash.h.
 */
#ifndef KMS_KEEPER_TABLE_H
#define KMS_KEEPER_TABLE_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Each step along a bucket's chain is a cache miss: half of them for some
 * thirty bytes a record more. */
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 4U

#endif
