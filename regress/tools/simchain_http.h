/* The development chain's HTTP connections: POST / with JSON-RPC. */
#ifndef REGRESS_TOOLS_SIMCHAIN_HTTP_H
#define REGRESS_TOOLS_SIMCHAIN_HTTP_H

#include <stddef.h>
#include <uv.h>

#include "regress/tools/simchain_rpc.h"

#define SIMCHAIN_CONNECTIONS_MAX 512
#define SIMCHAIN_BODY_MAX (1 << 20)    /* bytes of a request's body */
#define SIMCHAIN_ANSWER_MAX (64 << 20) /* bytes of an answer's */
#define SIMCHAIN_IDLE_MS 120000	       /* between requests */
#define SIMCHAIN_REQUEST_MS 30000      /* for one request; for one answer */
#define SIMCHAIN_STALL_MS 50	       /* between looks whether a stall ended */

struct simchain_http;

/*
 * Listen on address, "HOST:PORT" with a numeric host ("[::1]:0" works too);
 * port 0 chooses a free one. url (url_size bytes) is set to where it listens.
 * loop and rpc are borrowed. 0; KMS_EINVAL for the address, KMS_ESYS, then
 * errno says why; KMS_ENOMEM.
 */
int simchain_http_start(uv_loop_t *loop, struct simchain_rpc *rpc,
    const char *address, char *url, size_t url_size,
    struct simchain_http **out);

/* Close all; once the loop has ended, simchain_http_free. */
void simchain_http_stop(struct simchain_http *http);
void simchain_http_free(struct simchain_http *http);

#endif
