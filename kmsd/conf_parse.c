/*
 * The text of kmsd.conf: a line is empty, a comment ('#' first), or a keyword,
 * white space and its value. Keywords that take several values have them on
 * one line, on several, or both; every other keyword stands once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "kmsd/conf.h"

#define CONF_FILE_MAX (256 * 1024)

static int
add_item(struct conf *conf, enum conf_id id, unsigned int line, char *text)
{
	const struct conf_row *row = &conf_rows[id];
	struct conf_value *value = &conf->values[id];
	struct conf_item *item = &value->items[value->count];
	const char *expected;

	if (value->count == CONF_LIST_MAX) {
		conf_error(conf, line, "%s: more than %d values", row->name,
		    CONF_LIST_MAX);
		return KMS_ETOOBIG;
	}
	if (conf_value_parse(row, text, &item->number, &expected) != 0 ||
	    strlen(text) > CONF_TEXT_MAX) {
		conf_error(conf, line, "%s: expected %s, got \"%.200s\"",
		    row->name, expected, text);
		return KMS_EINVAL;
	}
	if (row->most > 0 &&
	    (item->number < row->least || item->number > row->most)) {
		conf_error(conf, line,
		    "%s: expected %llu to %llu in the base unit, got %s",
		    row->name, (unsigned long long)row->least,
		    (unsigned long long)row->most, text);
		return KMS_ERANGE;
	}
	item->text = strdup(text);
	if (item->text == NULL) {
		conf_error(conf, line, "out of memory");
		return KMS_ENOMEM;
	}
	value->count++;
	return 0;
}

static const struct conf_row *
find_row(const char *name, enum conf_id *id)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		if (strcmp(conf_rows[i].name, name) == 0) {
			*id = (enum conf_id)i;
			return &conf_rows[i];
		}
	}
	return NULL;
}

static void
parse_pair(struct conf *conf, unsigned int line, char *name, char *text)
{
	const struct conf_row *row;
	enum conf_id id;
	char *rest = text;

	row = find_row(name, &id);
	if (row == NULL) {
		conf_error(conf, line, "unknown keyword \"%.64s\"", name);
		return;
	}
	if (*text == '\0') {
		conf_error(conf, line, "%s: a value is missing", name);
		return;
	}
	if ((row->flags & CONF_FLAG_LIST) == 0) {
		if (conf->values[id].line > 0) {
			conf_error(conf, line, "%s: stands already in line %u",
			    name, conf->values[id].line);
			return;
		}
		conf->values[id].line = line;
		(void)add_item(conf, id, line, text);
		return;
	}
	conf->values[id].line = line;
	while (*rest != '\0') {
		size_t len = strcspn(rest, " \t");
		char *next = rest + len + strspn(rest + len, " \t");

		rest[len] = '\0';
		if (add_item(conf, id, line, rest) != 0)
			return;
		rest = next;
	}
}

static void
parse_line(struct conf *conf, unsigned int line, char *text)
{
	size_t len, end = strlen(text);
	char *value;

	while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\t'))
		text[--end] = '\0';
	text += strspn(text, " \t");
	if (*text == '\0' || *text == '#')
		return;
	for (const char *p = text; *p != '\0'; p++) {
		if ((*p < ' ' && *p != '\t') || *p == 0x7f) {
			conf_error(conf, line, "a control character");
			return;
		}
	}
	len = strcspn(text, " \t");
	value = text + len + strspn(text + len, " \t");
	text[len] = '\0';
	parse_pair(conf, line, text, value);
}

void
conf_parse(struct conf *conf, const char *text, size_t len)
{
	char buffer[CONF_LINE_MAX + 1];
	unsigned int line = 0;

	if (memchr(text, '\0', len) != NULL) {
		conf_error(conf, 0, "holds a NUL byte");
		return;
	}
	while (len > 0) {
		const char *newline = memchr(text, '\n', len);
		size_t used = newline != NULL ? (size_t)(newline - text) : len;

		line++;
		if (used > CONF_LINE_MAX) {
			conf_error(
			    conf, line, "longer than %d bytes", CONF_LINE_MAX);
		} else {
			memcpy(buffer, text, used);
			buffer[used] = '\0';
			parse_line(conf, line, buffer);
		}
		used += newline != NULL;
		text += used;
		len -= used;
	}
}

void
conf_load(struct conf *conf)
{
	char *text = malloc(CONF_FILE_MAX);
	size_t len = 0;
	ssize_t got = 1;
	int fd = open(conf->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || text == NULL) {
		conf_error(conf, 0, "%s",
		    text == NULL ? "out of memory" : strerror(errno));
		goto out;
	}
	while (got > 0 && len < CONF_FILE_MAX) {
		got = read(fd, text + len, CONF_FILE_MAX - len);
		if (got > 0)
			len += (size_t)got;
	}
	if (got < 0)
		conf_error(conf, 0, "%s", strerror(errno));
	else if (len == CONF_FILE_MAX)
		conf_error(conf, 0, "larger than %d bytes", CONF_FILE_MAX);
	else
		conf_parse(conf, text, len);
out:
	free(text);
	if (fd >= 0)
		(void)close(fd);
}

/* Defaults that are written in the table, then those that follow. */
static void
set_default(struct conf *conf, enum conf_id id, const char *text)
{
	char copy[CONF_TEXT_MAX + 1];

	if (conf->values[id].count > 0 || conf->values[id].line > 0)
		return;
	if (strlen(text) >= sizeof(copy)) {
		conf_error(
		    conf, 0, "%s: the default is too long", conf_rows[id].name);
		return;
	}
	memcpy(copy, text, strlen(text) + 1);
	(void)add_item(conf, id, 0, copy);
}

void
conf_set(struct conf *conf, enum conf_id id, const char *text)
{
	struct conf_value *value = &conf->values[id];

	while (value->count > 0)
		free(value->items[--value->count].text);
	value->line = 0;
	set_default(conf, id, text);
}

void
conf_finish(struct conf *conf, const char *https_proxy)
{
	for (size_t id = 0; id < CONF_COUNT; id++) {
		if (conf_rows[id].value != NULL)
			set_default(
			    conf, (enum conf_id)id, conf_rows[id].value);
	}
	if (https_proxy != NULL && https_proxy[0] != '\0')
		set_default(conf, CONF_EGRESS_PROXY, https_proxy);
	if (conf_is(conf, CONF_ENVIRONMENT, "enclave") &&
	    conf->values[CONF_TRUSTED_PROXY].count == 0) {
		char v4[] = "127.0.0.0/8", v6[] = "::1";

		(void)add_item(conf, CONF_TRUSTED_PROXY, 0, v4);
		(void)add_item(conf, CONF_TRUSTED_PROXY, 0, v6);
	}
	conf_check_values(conf);
}
