#include "kmsctl/top_metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

#define BUCKETS_MAX 64

/* ---- parsing ---- */

static bool
copy_printable(const char *from, size_t len, char *to, size_t size)
{
	if (len >= size)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (from[i] < 0x20 || from[i] > 0x7e)
			return false;
		to[i] = from[i];
	}
	to[len] = '\0';
	return true;
}

/* The brace that closes the labels: not one in a quoted value. */
static const char *
labels_end(const char *at, const char *end)
{
	bool quoted = false;

	for (; at < end; at++) {
		if (quoted && *at == '\\' && at + 1 < end)
			at++;
		else if (*at == '"')
			quoted = !quoted;
		else if (*at == '}' && !quoted)
			return at;
	}
	return NULL;
}

/* A finite number to the end of the line; a time behind it is not expected. */
static bool
parse_value(const char *from, const char *end, double *value)
{
	char text[64], *stop;
	size_t len = (size_t)(end - from);

	if (len == 0 || len >= sizeof(text))
		return false;
	memcpy(text, from, len);
	text[len] = '\0';
	*value = strtod(text, &stop);
	return *stop == '\0' && isfinite(*value);
}

static bool
parse_line(const char *line, size_t len, struct top_sample *sample)
{
	const char *end = line + len, *at = line, *close;

	while (at < end && *at != '{' && *at != ' ')
		at++;
	if (at == line || at == end ||
	    !copy_printable(
		line, (size_t)(at - line), sample->name, sizeof(sample->name)))
		return false;
	sample->labels[0] = '\0';
	if (*at == '{') {
		close = labels_end(at + 1, end);
		if (close == NULL ||
		    !copy_printable(at + 1, (size_t)(close - at - 1),
			sample->labels, sizeof(sample->labels)))
			return false;
		at = close + 1;
	}
	return at < end && *at == ' ' &&
	    parse_value(at + 1, end, &sample->value);
}

int
top_metrics_parse(const char *text, size_t len, struct top_metrics *out)
{
	const char *end = text + len;

	out->count = 0;
	out->samples = calloc(TOP_SAMPLES_MAX, sizeof(*out->samples));
	if (out->samples == NULL)
		return KMS_ENOMEM;
	while (text < end && out->count < TOP_SAMPLES_MAX) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t line =
		    (size_t)((newline != NULL ? newline : end) - text);

		if (line > 0 && *text != '#' &&
		    parse_line(text, line, &out->samples[out->count]))
			out->count++;
		text += line + (newline != NULL);
	}
	return 0;
}

void
top_metrics_free(struct top_metrics *metrics)
{
	free(metrics->samples);
	metrics->samples = NULL;
	metrics->count = 0;
}

/* ---- asking ---- */

double
top_metrics_sum(
    const struct top_metrics *metrics, const char *name, const char *label)
{
	double sum = 0;

	for (size_t i = 0; i < metrics->count; i++) {
		const struct top_sample *sample = &metrics->samples[i];

		if (strcmp(sample->name, name) == 0 &&
		    (label == NULL || strstr(sample->labels, label) != NULL))
			sum += sample->value;
	}
	return sum;
}

void
top_label(const char *labels, const char *name, char *out, size_t size)
{
	size_t len = strlen(name);

	out[0] = '\0';
	for (const char *at = strstr(labels, name); at != NULL;
	     at = strstr(at + 1, name)) {
		const char *value = at + len + 2;
		size_t n;

		if ((at != labels && at[-1] != ',') || at[len] != '=' ||
		    at[len + 1] != '"')
			continue;
		n = strcspn(value, "\"");
		(void)snprintf(out, size, "%.*s", (int)n, value);
		return;
	}
}

struct bucket {
	double bound;
	double count;
};

static void
add_buckets(const struct top_metrics *metrics, const char *name,
    const char *label, double sign, struct bucket *buckets, size_t *count)
{
	for (size_t i = 0; i < metrics->count; i++) {
		const struct top_sample *sample = &metrics->samples[i];
		char text[32];
		double bound;
		size_t b = 0;

		if (strcmp(sample->name, name) != 0 ||
		    (label != NULL && strstr(sample->labels, label) == NULL))
			continue;
		top_label(sample->labels, "le", text, sizeof(text));
		bound = strtod(text, NULL); /* "+Inf" as well */
		while (b < *count && buckets[b].bound != bound)
			b++;
		if (b == BUCKETS_MAX)
			continue;
		if (b == *count)
			buckets[(*count)++] = (struct bucket){ .bound = bound };
		buckets[b].count += sign * sample->value;
	}
}

static int
by_bound(const void *a, const void *b)
{
	const struct bucket *x = a, *y = b;

	return (x->bound > y->bound) - (x->bound < y->bound);
}

double
top_quantile(const struct top_metrics *now, const struct top_metrics *before,
    const char *name, const char *label, double q)
{
	struct bucket buckets[BUCKETS_MAX];
	char full[TOP_NAME_MAX + 8];
	size_t count = 0, i = 0;
	double rank, low, in_bucket;

	(void)snprintf(full, sizeof(full), "%s_bucket", name);
	add_buckets(now, full, label, 1, buckets, &count);
	add_buckets(before, full, label, -1, buckets, &count);
	if (count < 2)
		return -1;
	qsort(buckets, count, sizeof(buckets[0]), by_bound);
	if (!(buckets[count - 1].count > 0))
		return -1;
	rank = q * buckets[count - 1].count;
	while (i < count - 1 && buckets[i].count < rank)
		i++;
	/* Beyond the last bound nothing is known but that. */
	if (i == count - 1)
		return buckets[count - 2].bound;
	low = i > 0 ? buckets[i - 1].bound : 0;
	in_bucket = buckets[i].count - (i > 0 ? buckets[i - 1].count : 0);
	if (!(in_bucket > 0))
		return buckets[i].bound;
	return low +
	    (buckets[i].bound - low) *
	    (rank - (i > 0 ? buckets[i - 1].count : 0)) / in_bucket;
}
