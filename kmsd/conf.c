#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kmsd/conf_internal.h"

#define NET ROLE_BIT(ROLE_NET)
#define KEEPER ROLE_BIT(ROLE_KEEPER)
#define RPC ROLE_BIT(ROLE_RPC)
#define PEER ROLE_BIT(ROLE_PEER)
#define ALL (NET | KEEPER | RPC | PEER)
#define LIST CONF_FLAG_LIST
#define RELOAD CONF_FLAG_RELOAD
#define REQUIRED CONF_FLAG_REQUIRED

const struct conf_row conf_rows[CONF_COUNT] = {
#define CONF(                                                                  \
    id, name, kind, value, least, most, choices, children, flags, help)        \
	[CONF_##id] = { name, CONF_KIND_##kind, value, least, most, choices,   \
		children, flags, help },
#include "kmsd/conf.def"
#undef CONF
};

void
conf_init(struct conf *conf, const char *path, conf_report_fn report, void *arg)
{
	memset(conf, 0, sizeof(*conf));
	conf->path = path;
	conf->report = report;
	conf->report_arg = arg;
}

void
conf_free(struct conf *conf)
{
	for (size_t id = 0; id < CONF_COUNT; id++) {
		for (size_t i = 0; i < conf->values[id].count; i++)
			free(conf->values[id].items[i].text);
		conf->values[id].count = 0;
	}
	for (size_t i = 0; i < conf->secret_url_count; i++) {
		explicit_bzero(
		    conf->secret_urls[i], strlen(conf->secret_urls[i]));
		free(conf->secret_urls[i]);
	}
	conf->secret_url_count = 0;
}

static void __attribute__((format(printf, 2, 0)))
report(struct conf *conf, const char *format, va_list args)
{
	char message[1400];

	(void)vsnprintf(message, sizeof(message), format, args);
	/* What was quoted may hold anything; a report is one line. */
	for (char *p = message; *p != '\0'; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
	conf->errors++;
	if (conf->report != NULL)
		conf->report(message, conf->report_arg);
}

void
conf_report(struct conf *conf, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	report(conf, format, args);
	va_end(args);
}

void
conf_error(struct conf *conf, unsigned int line, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (line > 0)
		conf_report(conf, "%s:%u: %s", conf->path, line, text);
	else
		conf_report(conf, "%s: %s", conf->path, text);
}

static void __attribute__((format(printf, 4, 0))) expected_in(struct conf *conf,
    enum conf_id id, unsigned int line, const char *format, va_list args)
{
	const struct conf_value *value = &conf->values[id];
	char text[1024];

	(void)vsnprintf(text, sizeof(text), format, args);
	if (value->origin == CONF_ORIGIN_ENVIRONMENT)
		conf_report(conf, "%s: %s", value->variable, text);
	else
		conf_error(conf, line, "%s: %s", conf_rows[id].name, text);
}

void
conf_expected(struct conf *conf, enum conf_id id, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	expected_in(conf, id, conf->values[id].line, format, args);
	va_end(args);
}

void
conf_expected_at(
    struct conf *conf, enum conf_id id, size_t item, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	expected_in(conf, id, conf->values[id].items[item].line, format, args);
	va_end(args);
}

const char *
conf_text(const struct conf *conf, enum conf_id id)
{
	const struct conf_value *value = &conf->values[id];

	return value->count > 0 ? value->items[0].text : "";
}

uint64_t
conf_number(const struct conf *conf, enum conf_id id)
{
	const struct conf_value *value = &conf->values[id];

	return value->count > 0 ? value->items[0].number : 0;
}

int
conf_is(const struct conf *conf, enum conf_id id, const char *text)
{
	return strcmp(conf_text(conf, id), text) == 0;
}

const char *
conf_identity_file(const struct conf *conf)
{
	const char *text = conf_text(conf, CONF_IDENTITY);

	return strncmp(text, "local /", 7) == 0 ? text + 6 : NULL;
}

const char *
conf_identity_url(const struct conf *conf)
{
	const char *text = conf_text(conf, CONF_IDENTITY);

	return strncmp(text, "capsule ", 8) == 0 ? text + 8 : NULL;
}

int
conf_is_given(const struct conf *conf, enum conf_id id)
{
	return conf->values[id].origin != CONF_ORIGIN_DEFAULT;
}

int
conf_same(const struct conf *a, const struct conf *b, enum conf_id id)
{
	const struct conf_value *one = &a->values[id], *other = &b->values[id];

	if (one->count != other->count)
		return 0;
	for (size_t i = 0; i < one->count; i++) {
		if (strcmp(one->items[i].text, other->items[i].text) != 0)
			return 0;
	}
	return 1;
}

void
conf_swap(struct conf *a, struct conf *b, enum conf_id id)
{
	struct conf_value value = a->values[id];

	a->values[id] = b->values[id];
	b->values[id] = value;
}

const struct conf_row *
conf_find(const char *name, enum conf_id *id)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		if (strcmp(conf_rows[i].name, name) == 0) {
			*id = (enum conf_id)i;
			return &conf_rows[i];
		}
	}
	return NULL;
}

/* ---- what the children are told ---- */

static int
counts(enum conf_kind kind)
{
	return kind == CONF_KIND_DURATION || kind == CONF_KIND_SIZE ||
	    kind == CONF_KIND_NUMBER || kind == CONF_KIND_RATE;
}

static int
slice_item(
    enum conf_id id, const struct conf_item *item, conf_row_fn fn, void *arg)
{
	const struct conf_row *row = &conf_rows[id];
	const char *text = item->text;
	char number[24];

	if (counts(row->kind)) {
		(void)snprintf(number, sizeof(number), "%llu",
		    (unsigned long long)item->number);
		text = number;
	} else if (id == CONF_IDENTITY && strncmp(text, "local", 5) == 0) {
		/* The file is handed over as a descriptor. */
		text = "local";
	}
	return fn(row->name, text, arg);
}

int
conf_slice(const struct conf *conf, enum role role, conf_row_fn fn, void *arg)
{
	int error = fn("role", roles[role].name, arg);

	for (size_t id = 0; error == 0 && id < CONF_COUNT; id++) {
		const struct conf_value *value = &conf->values[id];

		if ((conf_rows[id].children & ROLE_BIT(role)) == 0)
			continue;
		for (size_t i = 0; error == 0 && i < value->count; i++)
			error = slice_item(
			    (enum conf_id)id, &value->items[i], fn, arg);
	}
	if (role == ROLE_RPC) {
		for (size_t i = 0; error == 0 && i < conf->secret_url_count;
		     i++)
			error = fn("rpc-url", conf->secret_urls[i], arg);
	}
	if (error == 0 && role == ROLE_KEEPER) {
		char count[24];

		(void)snprintf(count, sizeof(count), "%zu",
		    conf->values[CONF_RPC_URL].count + conf->secret_url_count);
		error = fn("rpc-endpoints", count, arg);
	}
	if (error == 0 && role == ROLE_NET)
		error = fn("metrics-separate",
		    conf->values[CONF_METRICS_LISTEN].count > 0 ? "yes" : "no",
		    arg);
	return error;
}
