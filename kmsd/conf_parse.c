/*
 * The text of kmsd.conf: a line is empty, a comment ('#' first), or a keyword,
 * white space and its value, perhaps with a comment behind it ('#' after white
 * space). Keywords that take several values have them on one line, on several,
 * or both; every other keyword stands once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "kmsd/conf_internal.h"

static int
add_checked(struct conf *conf, enum conf_id id, const char *text)
{
	const struct conf_row *row = &conf_rows[id];
	struct conf_value *value = &conf->values[id];
	char shown[CONF_SHOWN_LEN], least[32], most[32], *copy;
	const char *expected;
	uint64_t number;

	if (*text == '\0') {
		(void)conf_value_parse(row, text, &number, &expected);
		conf_expected(conf, id, "expected %s, got nothing", expected);
		return KMS_EINVAL;
	}
	if (value->count == CONF_LIST_MAX) {
		conf_expected(conf, id, "expected at most %d values, got more",
		    CONF_LIST_MAX);
		return KMS_ETOOBIG;
	}
	if (strlen(text) > CONF_TEXT_MAX) {
		conf_expected(conf, id, "expected at most %d bytes, got %zu",
		    CONF_TEXT_MAX, strlen(text));
		return KMS_ETOOBIG;
	}
	if (conf_value_parse(row, text, &number, &expected) != 0) {
		conf_expected(conf, id, "expected %s, got \"%s\"", expected,
		    conf_shown(row, text, shown));
		return KMS_EINVAL;
	}
	if (row->most > 0 && (number < row->least || number > row->most)) {
		conf_amount(row->kind, row->least, least, sizeof(least));
		conf_amount(row->kind, row->most, most, sizeof(most));
		conf_expected(conf, id, "expected %s to %s, got %s", least,
		    most, conf_shown(row, text, shown));
		return KMS_ERANGE;
	}
	copy = strdup(text);
	if (copy == NULL) {
		conf_expected(conf, id, "out of memory");
		return KMS_ENOMEM;
	}
	value->items[value->count].text = copy;
	value->items[value->count++].number = number;
	return 0;
}

int
conf_add_item(
    struct conf *conf, enum conf_id id, unsigned int line, const char *text)
{
	struct conf_value *value = &conf->values[id];

	for (const char *p = text; *p != '\0'; p++) {
		if ((*p >= ' ' && *p < 0x7f) || *p == '\t')
			continue;
		conf_expected(conf, id,
		    "expected printable ASCII, got a byte "
		    "0x%02x",
		    (unsigned char)*p);
		return KMS_EINVAL;
	}
	if (value->count < CONF_LIST_MAX)
		value->items[value->count].line = line;
	return add_checked(conf, id, text);
}

static void
report_keyword(struct conf *conf, unsigned int line, const char *name)
{
	const char *similar = conf_similar(name);

	conf_error(conf, line,
	    "%.64s: expected a keyword of kmsd.conf(5)%s%s, got \"%.64s\"",
	    name, similar != NULL ? ", perhaps " : "",
	    similar != NULL ? similar : "", name);
}

static void
take_list(struct conf *conf, enum conf_id id, unsigned int line, char *text)
{
	conf->values[id].line = line;
	while (*text != '\0') {
		size_t len = strcspn(text, " \t");
		char *next = text + len + strspn(text + len, " \t");

		text[len] = '\0';
		(void)conf_add_item(conf, id, line, text);
		text = next;
	}
}

static void
parse_pair(struct conf *conf, unsigned int line, const char *name, char *text)
{
	struct conf_value *value;
	const struct conf_row *row;
	enum conf_id id;

	row = conf_find(name, &id);
	if (row == NULL) {
		report_keyword(conf, line, name);
		return;
	}
	value = &conf->values[id];
	if ((row->flags & CONF_FLAG_LIST) == 0 && value->line > 0) {
		conf_error(conf, line,
		    "%s: expected once in a file, got it in line %u already",
		    name, value->line);
		return;
	}
	value->origin = CONF_ORIGIN_FILE;
	value->line = line;
	if ((row->flags & CONF_FLAG_LIST) != 0 && *text != '\0')
		take_list(conf, id, line, text);
	else
		(void)conf_add_item(conf, id, line, text);
}

/* Cut a comment off, and white space at the end. */
static void
trim(char *text)
{
	size_t end;

	for (char *p = text; *p != '\0'; p++) {
		if (*p == '#' && (p == text || p[-1] == ' ' || p[-1] == '\t')) {
			*p = '\0';
			break;
		}
	}
	end = strlen(text);
	while (end > 0 && strchr(" \t\r", text[end - 1]) != NULL)
		text[--end] = '\0';
}

static void
parse_line(struct conf *conf, unsigned int line, char *text)
{
	size_t len;
	char *value;

	trim(text);
	text += strspn(text, " \t");
	if (*text == '\0')
		return;
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
		conf_error(conf, 0, "expected text, got a NUL byte");
		return;
	}
	while (len > 0) {
		const char *newline = memchr(text, '\n', len);
		size_t used = newline != NULL ? (size_t)(newline - text) : len;

		line++;
		if (used > CONF_LINE_MAX) {
			conf_error(conf, line,
			    "line: expected at most %d bytes, got %zu",
			    CONF_LINE_MAX, used);
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

static void
read_and_parse(struct conf *conf, int fd, char *text)
{
	size_t len = 0;
	ssize_t got = 1;

	while (got > 0 && len < CONF_FILE_MAX) {
		got = read(fd, text + len, CONF_FILE_MAX - len);
		if (got > 0)
			len += (size_t)got;
	}
	if (got < 0)
		conf_error(conf, 0, "%s", strerror(errno));
	else if (len == CONF_FILE_MAX)
		conf_error(conf, 0, "expected less than %d bytes, got more",
		    CONF_FILE_MAX);
	else
		conf_parse(conf, text, len);
}

void
conf_load(struct conf *conf, int may_lack)
{
	char *text = malloc(CONF_FILE_MAX);
	int fd = open(conf->path, O_RDONLY | O_CLOEXEC);

	if (text == NULL)
		conf_error(conf, 0, "out of memory");
	else if (fd >= 0)
		read_and_parse(conf, fd, text);
	else if (errno != ENOENT || !may_lack)
		conf_error(
		    conf, 0, "expected a file, got: %s", strerror(errno));
	free(text);
	if (fd >= 0)
		(void)close(fd);
}

/* ---- defaults ---- */

static void
set_default(struct conf *conf, enum conf_id id, const char *text)
{
	if (conf->values[id].count == 0 && !conf_is_given(conf, id))
		(void)conf_add_item(conf, id, 0, text);
}

void
conf_set(struct conf *conf, enum conf_id id, const char *text)
{
	struct conf_value *value = &conf->values[id];

	while (value->count > 0)
		free(value->items[--value->count].text);
	memset(value, 0, sizeof(*value));
	value->origin = CONF_ORIGIN_OPTION;
	(void)conf_add_item(conf, id, 0, text);
}

/* https_proxy is the platform's way to say egress-proxy. */
static void
take_https_proxy(struct conf *conf, const char *text)
{
	struct conf_value *value = &conf->values[CONF_EGRESS_PROXY];

	if (conf_is_given(conf, CONF_EGRESS_PROXY) || text == NULL ||
	    *text == '\0')
		return;
	value->origin = CONF_ORIGIN_ENVIRONMENT;
	(void)snprintf(value->variable, sizeof(value->variable), "https_proxy");
	(void)conf_add_item(conf, CONF_EGRESS_PROXY, 0, text);
}

void
conf_finish(struct conf *conf, const char *https_proxy)
{
	/* The identity service takes requests of 10 MiB. */
	if (conf_identity_url(conf) != NULL)
		set_default(conf, CONF_MAX_SYNC_BODY, "10M");
	for (size_t id = 0; id < CONF_COUNT; id++) {
		if (conf_rows[id].value != NULL)
			set_default(
			    conf, (enum conf_id)id, conf_rows[id].value);
	}
	take_https_proxy(conf, https_proxy);
	if (conf_is(conf, CONF_ENVIRONMENT, "enclave") &&
	    !conf_is_given(conf, CONF_TRUSTED_PROXY)) {
		(void)conf_add_item(conf, CONF_TRUSTED_PROXY, 0, "127.0.0.0/8");
		(void)conf_add_item(conf, CONF_TRUSTED_PROXY, 0, "::1");
	}
	conf_check_values(conf);
}
