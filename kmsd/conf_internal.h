/* Between the files of conf. */
#ifndef KMS_KMSD_CONF_INTERNAL_H
#define KMS_KMSD_CONF_INTERNAL_H

#include "kmsd/conf.h"

/*
 * Check one value and append it; line 0: it is not from the file. 0, or
 * KMS_E* (reported).
 */
int conf_add_item(
    struct conf *conf, enum conf_id id, unsigned int line, const char *text);

/* As conf_expected, about one value of a list. */
void conf_expected_at(struct conf *conf, enum conf_id id, size_t item,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Count an error and hand it to whoever wants it, as it is. */
void conf_report(struct conf *conf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
