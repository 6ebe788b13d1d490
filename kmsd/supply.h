/*
 * Connections to the identity service, for the keeper, which cannot make any:
 * to one loopback address, one at a time, tried again with growing delays.
 * Nothing is read from them here, and nothing written.
 */
#ifndef KMS_KMSD_SUPPLY_H
#define KMS_KMSD_SUPPLY_H

#include <stdint.h>
#include <uv.h>

#define SUPPLY_FIRST_MS 100    /* after a failure; doubled at each */
#define SUPPLY_LAST_MS 5000    /* up to this */
#define SUPPLY_CONNECT_MS 2000 /* an attempt may take */

struct supply;

/* A connection is there; the descriptor goes to the callee in every case. On
 * an error it is still owed. */
typedef int (*supply_give_fn)(void *arg, int fd);

/*
 * url is as conf_capsule_parse takes it. KMS_EINVAL, KMS_ENOMEM. *supply lives
 * as long as the loop; its handles are closed with supply_reset and by
 * whoever closes all timers of the loop.
 */
int supply_new(uv_loop_t *loop, const char *url, supply_give_fn give, void *arg,
    struct supply **supply);

/* After the loop has ended; NULL is fine. */
void supply_free(struct supply *supply);

/* count further connections are wanted. KMS_EPROTO when more than MSG_WANT_MAX
 * are owed then. */
int supply_want(struct supply *supply, uint64_t count);

/* Nobody wants any. NULL is fine. */
void supply_reset(struct supply *supply);

#endif
