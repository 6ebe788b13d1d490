/* The methods of the development chain, for simchain_rpc. */
#ifndef REGRESS_TOOLS_SIMCHAIN_METHOD_H
#define REGRESS_TOOLS_SIMCHAIN_METHOD_H

#include <jansson.h>
#include <stdint.h>

#include "regress/tools/simchain_file.h"
#include "regress/tools/simchain_rpc.h"

/* Error codes of JSON-RPC 2.0 and EIP-1474, and 3 as geth has it. */
enum {
	SIMCHAIN_REVERT = 3, /* data: what the contract gave back */
	SIMCHAIN_PARSE = -32700,
	SIMCHAIN_REQUEST = -32600,
	SIMCHAIN_METHOD = -32601,
	SIMCHAIN_PARAMS = -32602,
	SIMCHAIN_INTERNAL = -32603,
	SIMCHAIN_SERVER = -32000
};

/* One call being answered. */
struct simchain_call {
	struct simchain_rpc *rpc;
	struct sim_state *sim;
	json_t *params; /* array, object or NULL; borrowed */
	int64_t wall_s; /* seconds since 1970 */
	int code;	/* 0 until simchain_call_error */
	char message[SIMCHAIN_ERROR_MAX];
	json_t *data; /* of the error; NULL if none */
};

struct simchain_method {
	const char *name;
	/* The result, the caller's reference; NULL after an error (code is
	 * set) or without memory (code is 0). */
	json_t *(*handle)(struct simchain_call *);
};

/* NULL when there is none of that name. */
const struct simchain_method *simchain_method_find(const char *name);

/* Note an error and return NULL, so that a handler can return it. */
json_t *simchain_call_error(struct simchain_call *call, int code,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
