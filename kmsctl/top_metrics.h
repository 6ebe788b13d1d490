/* Prometheus' text format, as far as kmsctl top reads it. Pure. */
#ifndef KMSCTL_TOP_METRICS_H
#define KMSCTL_TOP_METRICS_H

#include <stddef.h>

#define TOP_SAMPLES_MAX 8192
#define TOP_NAME_MAX 96	   /* with the NUL */
#define TOP_LABELS_MAX 192 /* likewise; as they stand between { and } */

struct top_sample {
	char name[TOP_NAME_MAX];
	char labels[TOP_LABELS_MAX]; /* printable ASCII */
	double value;
};

struct top_metrics {
	struct top_sample *samples;
	size_t count;
};

/*
 * Read len bytes. Lines that are no sample, or too long, are passed over.
 * KMS_ENOMEM. Free with top_metrics_free in any case.
 */
int top_metrics_parse(const char *text, size_t len, struct top_metrics *out);
void top_metrics_free(struct top_metrics *metrics);

/* Sum of the values with this name and this text in the labels (NULL: any). */
double top_metrics_sum(
    const struct top_metrics *metrics, const char *name, const char *label);

/* The value of a label, copied; "" when there is none. */
void top_label(const char *labels, const char *name, char *out, size_t size);

/*
 * The quantile q of what a histogram with this text in its labels has counted
 * between two readings (before may be empty), in its unit; negative: nothing.
 */
double top_quantile(const struct top_metrics *now,
    const struct top_metrics *before, const char *name, const char *label,
    double q);

#endif
