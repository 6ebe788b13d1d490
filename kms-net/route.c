#include "kms-net/route.h"

#include <stdio.h>
#include <string.h>

#include "kms-net/metrics.h"
#include "kms-net/routes_info.h"
#include "kms-net/routes_kms.h"
#include "kms-net/routes_sync.h"

const struct route route_table[] = {
	{ METHOD_GET, "/nonce", ROUTE_NONCE, "none",
	    "A single-use nonce for a proof of possession", routes_kms_nonce },
	{ METHOD_POST, "/kms/derive", ROUTE_BODY | ROUTE_READY, "app",
	    "Derive a key", routes_kms_request },
	{ METHOD_GET, "/kms/data", ROUTE_READY, "app",
	    "List keys, or read ?key=", routes_kms_request },
	{ METHOD_GET, "/kms/data/{key}", ROUTE_READY, "app", "Read a value",
	    routes_kms_request },
	{ METHOD_PUT, "/kms/data", ROUTE_BODY | ROUTE_READY, "app",
	    "Write a value", routes_kms_request },
	{ METHOD_DELETE, "/kms/data", ROUTE_BODY | ROUTE_READY, "app",
	    "Delete a value", routes_kms_request },
	{ METHOD_GET, "/", 0, "none", "This overview", routes_info_overview },
	{ METHOD_GET, "/health", ROUTE_UNCOUNTED, "none",
	    "Whether the process lives", routes_info_health },
	{ METHOD_GET, "/ready", ROUTE_UNCOUNTED, "none",
	    "Whether /kms/* is served", routes_info_ready },
	{ METHOD_GET, "/status", ROUTE_UNCOUNTED, "none",
	    "State of the node and its cluster", routes_info_status },
	{ METHOD_GET, "/nodes", 0, "none", "The instances of the cluster",
	    routes_info_nodes },
	{ METHOD_GET, "/metrics", ROUTE_METRICS, "none",
	    "Counters in Prometheus text format", metrics_answer },
	{ METHOD_GET, "/openapi.json", 0, "none", "OpenAPI description",
	    routes_info_openapi },
	{ METHOD_POST, "/sync", ROUTE_SYNC, "peer", "Replication between nodes",
	    routes_sync_request },
};

const size_t route_count = sizeof(route_table) / sizeof(route_table[0]);
_Static_assert(sizeof(route_table) / sizeof(route_table[0]) < METRICS_ROUTES,
    "/metrics has no room for so many routes");

#define METHODS 4

static const char *const method_names[METHODS] = {
	[METHOD_GET] = "GET",
	[METHOD_POST] = "POST",
	[METHOD_PUT] = "PUT",
	[METHOD_DELETE] = "DELETE",
};

const char *
route_method_name(enum kms_method method)
{
	return method_names[method];
}

static bool
path_matches(const char *pattern, const char *path, size_t len)
{
	const char *open = strchr(pattern, '{');
	size_t fixed;

	if (open == NULL)
		return strlen(pattern) == len &&
		    memcmp(pattern, path, len) == 0;
	fixed = (size_t)(open - pattern);
	return len >= fixed && memcmp(pattern, path, fixed) == 0;
}

const struct route *
route_find(
    struct http_slice method, struct http_slice target, unsigned int *allowed)
{
	const char *query = memchr(target.data, '?', target.len);
	size_t len = query != NULL ? (size_t)(query - target.data) : target.len;

	*allowed = 0;
	for (size_t i = 0; i < route_count; i++) {
		const struct route *route = &route_table[i];

		if (!path_matches(route->path, target.data, len))
			continue;
		if (http_slice_is(method, method_names[route->method]))
			return route;
		*allowed |= 1U << route->method;
	}
	return NULL;
}

void
route_allow(unsigned int allowed, char text[ROUTE_ALLOW_MAX])
{
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < METHODS; i++) {
		if ((allowed & 1U << i) == 0)
			continue;
		at += (size_t)snprintf(text + at, ROUTE_ALLOW_MAX - at, "%s%s",
		    at > 0 ? ", " : "", method_names[i]);
	}
}
