#include "kmsctl/top_view.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kmsctl/client.h"

#define ROUTES_MAX 64

#define TRY(call)                                                              \
	do {                                                                   \
		int error_ = (call);                                           \
		if (error_ != 0)                                               \
			return error_;                                         \
	} while (0)

struct view {
	const struct top_reading *now;
	const struct top_reading *before;
	struct top_metrics earlier; /* before's, or none */
	double seconds;		    /* between them; 0: since the start */
	struct buf *out;
};

static double
value(const struct view *v, const char *name, const char *label)
{
	return top_metrics_sum(&v->now->metrics, name, label);
}

/* Per second, or in all. */
static double
rate(const struct view *v, const char *name, const char *label)
{
	double since =
	    value(v, name, label) - top_metrics_sum(&v->earlier, name, label);

	/* A process that was started anew counts from zero. */
	if (since < 0)
		since = value(v, name, label);
	return v->seconds > 0 ? since / v->seconds : since;
}

/* ---- forms ---- */

static const char *
duration(double seconds, char text[16])
{
	if (seconds < 0)
		(void)snprintf(text, 16, "-");
	else if (seconds < 0.0995)
		(void)snprintf(text, 16, "%.1f ms", seconds * 1e3);
	else if (seconds < 120)
		(void)snprintf(text, 16, "%.1f s", seconds);
	else if (seconds < 7200)
		(void)snprintf(text, 16, "%.0f min", seconds / 60);
	else if (seconds < 172800)
		(void)snprintf(text, 16, "%.0f h", seconds / 3600);
	else
		(void)snprintf(text, 16, "%.0f d", seconds / 86400);
	return text;
}

static const char *
bytes(double count, char text[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;

	while (count >= 10000 && unit < 4) {
		count /= 1024;
		unit++;
	}
	(void)snprintf(text, 16, "%.0f %s", count, units[unit]);
	return text;
}

/* ---- parts ---- */

static const char *
printable(const char *text, char *out, size_t size)
{
	size_t i = 0;

	for (; text != NULL && text[i] != '\0' && i + 1 < size; i++)
		out[i] = text[i] < 0x20 || text[i] > 0x7e ? '?' : text[i];
	out[i] = '\0';
	return out;
}

static int
put_node(const struct view *v, const char *name)
{
	const json_t *node = json_object_get(v->now->status, "node");
	char wallet[64], reason[120], secret[32];
	bool serves = json_is_true(json_object_get(node, "service_available"));

	TRY(buf_printf(v->out, "node      %s  %s\n", name,
	    printable(client_json_string(node, "tee_wallet"), wallet,
		sizeof(wallet))));
	return buf_printf(v->out, "serves    %s%s   secret %s\n",
	    serves ? "yes" : "no: ",
	    serves ? ""
		   : printable(client_json_string(node, "unavailable_reason"),
			 reason, sizeof(reason)),
	    printable(client_json_string(
			  json_object_get(node, "master_secret"), "state"),
		secret, sizeof(secret)));
}

static int
put_totals(const struct view *v)
{
	char size[16], most[16], age[16], p99[16];
	double max = value(v, "kms_store_max_bytes", NULL);

	TRY(buf_printf(v->out,
	    "clients   %.0f connections, %.0f requests in the keeper, %.0f "
	    "wait\n",
	    value(v, "kms_connections", NULL),
	    value(v, "kms_net_requests_in_keeper", NULL),
	    value(v, "kms_net_requests_waiting", NULL)));
	TRY(buf_printf(v->out,
	    "store     %.0f keys of %.0f apps, %s%s%s, %.0f tombstones, %.1f "
	    "evictions\n",
	    value(v, "kms_store_keys", NULL),
	    value(v, "kms_store_namespaces", NULL),
	    bytes(value(v, "kms_store_bytes", NULL), size),
	    max > 0 ? " of " : "", max > 0 ? bytes(max, most) : "",
	    value(v, "kms_store_tombstones", NULL),
	    rate(v, "kms_store_evictions_total", NULL)));
	return buf_printf(v->out,
	    "chain     block %.0f, %s old; %.1f calls, 99%% in %s, %.1f "
	    "failed; cache %.1f hits, %.1f misses\n",
	    value(v, "kms_chain_head_block", NULL),
	    duration(value(v, "kms_chain_head_age_seconds", NULL), age),
	    rate(v, "kms_chain_requests_total", NULL),
	    duration(top_quantile(&v->now->metrics, &v->earlier,
			 "kms_chain_request_duration_seconds", NULL, 0.99),
		p99),
	    rate(v, "kms_chain_failures_total", NULL),
	    rate(v, "kms_authorization_cache_total", "cache=\"hit\""),
	    rate(v, "kms_authorization_cache_total", "cache=\"miss\""));
}

static int
put_route(const struct view *v, const char *labels)
{
	static const char name[] = "kms_http_requests_total";
	static const char latency[] = "kms_http_request_duration_seconds";
	char method[16], route[64], key[128], bad[160], p50[16], p99[16];
	double all, refused = 0, failed = 0;

	top_label(labels, "method", method, sizeof(method));
	top_label(labels, "route", route, sizeof(route));
	(void)snprintf(
	    key, sizeof(key), "method=\"%s\",route=\"%s\"", method, route);
	all = rate(v, name, key);
	(void)snprintf(bad, sizeof(bad), "%s,status=\"4", key);
	refused = rate(v, name, bad);
	(void)snprintf(bad, sizeof(bad), "%s,status=\"5", key);
	failed = rate(v, name, bad);
	return buf_printf(v->out, "%-7s%-22s%10.1f%10.1f%10.1f%10s%10s\n",
	    method, route, all, refused, failed,
	    duration(
		top_quantile(&v->now->metrics, &v->earlier, latency, key, 0.5),
		p50),
	    duration(
		top_quantile(&v->now->metrics, &v->earlier, latency, key, 0.99),
		p99));
}

/* Is this the first sample of its route? */
static bool
is_first(const struct top_metrics *metrics, size_t i, size_t key_len)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(metrics->samples[k].name,
			metrics->samples[i].name) == 0 &&
		    strncmp(metrics->samples[k].labels,
			metrics->samples[i].labels, key_len) == 0)
			return false;
	}
	return true;
}

static int
put_routes(const struct view *v)
{
	const struct top_metrics *metrics = &v->now->metrics;
	size_t shown = 0;

	TRY(buf_printf(v->out, "\n%-29s%10s%10s%10s%10s%10s\n", "ROUTE",
	    v->seconds > 0 ? "REQ/S" : "REQUESTS",
	    v->seconds > 0 ? "4XX/S" : "4XX", v->seconds > 0 ? "5XX/S" : "5XX",
	    "50%", "99%"));
	for (size_t i = 0; i < metrics->count && shown < ROUTES_MAX; i++) {
		const struct top_sample *sample = &metrics->samples[i];
		const char *status = strstr(sample->labels, ",status=");

		if (strcmp(sample->name, "kms_http_requests_total") != 0 ||
		    status == NULL ||
		    !is_first(metrics, i, (size_t)(status - sample->labels)))
			continue;
		TRY(put_route(v, sample->labels));
		shown++;
	}
	return 0;
}

static int
put_processes(const struct view *v)
{
	const struct top_metrics *metrics = &v->now->metrics;

	TRY(buf_printf(v->out, "\n%-29s%10s%10s%10s%10s\n", "PROCESS",
	    v->seconds > 0 ? "CPU %" : "CPU S", "MEMORY", "UP", "RESTARTS"));
	for (size_t i = 0; i < metrics->count; i++) {
		const struct top_sample *sample = &metrics->samples[i];
		char size[16], up[16], process[32];
		double cpu;

		if (strcmp(sample->name, "kms_process_resident_memory_bytes") !=
		    0)
			continue;
		cpu = rate(v, "kms_process_cpu_seconds_total", sample->labels);
		top_label(sample->labels, "process", process, sizeof(process));
		TRY(buf_printf(v->out, "%-29s%10.1f%10s%10s%10.0f\n", process,
		    v->seconds > 0 ? 100 * cpu : cpu,
		    bytes(sample->value, size),
		    duration(v->now->wall -
			    value(v, "kms_process_start_time_seconds",
				sample->labels),
			up),
		    value(v, "kms_child_restarts_total", sample->labels)));
	}
	return 0;
}

static int
put_refusals(const struct view *v)
{
	const struct top_metrics *metrics = &v->now->metrics;
	bool any = false;

	for (size_t i = 0; i < metrics->count; i++) {
		const struct top_sample *sample = &metrics->samples[i];
		char reason[40];

		if (strcmp(sample->name, "kms_auth_failures_total") != 0 ||
		    !(sample->value > 0))
			continue;
		top_label(sample->labels, "reason", reason, sizeof(reason));
		TRY(buf_printf(v->out, "%s%s %.1f", any ? ", " : "\nREFUSED   ",
		    reason,
		    rate(v, "kms_auth_failures_total", sample->labels)));
		any = true;
	}
	return any ? buf_append_text(v->out, "\n") : 0;
}

static int
put_peers(const struct view *v)
{
	static const char name[] = "kms_replication_lag_records";
	const struct top_metrics *metrics = &v->now->metrics;
	bool any = false;

	for (size_t i = 0; i < metrics->count; i++) {
		const struct top_sample *sample = &metrics->samples[i];
		char peer[48], age[16];

		if (strcmp(sample->name, name) != 0)
			continue;
		if (!any)
			TRY(buf_printf(v->out, "\n%-45s%10s%12s%8s\n", "PEER",
			    "BEHIND", "HEARD", "FAILED"));
		any = true;
		top_label(sample->labels, "peer", peer, sizeof(peer));
		TRY(buf_printf(v->out, "%-45s%10.0f%12s%8.0f\n", peer,
		    sample->value,
		    duration(value(v, "kms_replication_contact_age_seconds",
				 sample->labels),
			age),
		    value(v, "kms_replication_failed_pushes", sample->labels)));
	}
	return 0;
}

static int
put_losses(const struct view *v)
{
	double audit = value(v, "kms_audit_lost_total", NULL);
	double dropped = value(v, "kms_log_lines_dropped_total", NULL);

	if (value(v, "kms_audit_broken", NULL) > 0)
		TRY(buf_append_text(
		    v->out, "\nthe audit trail cannot be written\n"));
	if (audit > 0 || dropped > 0)
		TRY(buf_printf(v->out,
		    "\nlost      %.0f lines of the audit trail, %.0f of the "
		    "log\n",
		    audit, dropped));
	return 0;
}

int
top_view(const char *node, const struct top_reading *now,
    const struct top_reading *before, struct buf *out)
{
	struct view v = { .now = now, .before = before, .out = out };

	if (before != NULL) {
		v.earlier = before->metrics;
		v.seconds = now->at - before->at;
	}
	TRY(put_node(&v, node));
	TRY(put_totals(&v));
	TRY(put_routes(&v));
	TRY(put_processes(&v));
	TRY(put_peers(&v));
	TRY(put_refusals(&v));
	return put_losses(&v);
}
