/* The effective configuration as text, and what of a value may be shown. */
#include <string.h>

#include "kmsd/conf.h"

#define COMMENT_COLUMN 47

static void
write_origin(const struct conf *conf, const struct conf_value *value,
    const struct conf_item *item, FILE *out)
{
	const char *variable = value->variable;

	switch (value->origin) {
	case CONF_ORIGIN_DEFAULT:
		(void)fprintf(out, " # default");
		break;
	case CONF_ORIGIN_FILE:
		/* A file's name may hold what would end the line. */
		(void)fprintf(out, " # ");
		for (const char *p = conf->path; *p != '\0'; p++)
			(void)fputc(*p >= ' ' && *p < 0x7f ? *p : '?', out);
		(void)fprintf(out, ":%u", item->line);
		if (variable[0] != '\0')
			(void)fprintf(out, ", not %s", variable);
		break;
	case CONF_ORIGIN_ENVIRONMENT:
		(void)fprintf(out, " # environment %s", variable);
		break;
	case CONF_ORIGIN_OPTION:
		(void)fprintf(out, " # option");
		break;
	}
	(void)fputc('\n', out);
}

void
conf_dump(const struct conf *conf, FILE *out)
{
	for (size_t id = 0; id < CONF_COUNT; id++) {
		const struct conf_value *value = &conf->values[id];
		const char *name = conf_rows[id].name;

		if (value->count == 0)
			(void)fprintf(
			    out, "#%-*s # not set\n", COMMENT_COLUMN - 1, name);
		for (size_t i = 0; i < value->count; i++) {
			int used =
			    fprintf(out, "%s %s", name, value->items[i].text);

			for (; used < COMMENT_COLUMN; used++)
				(void)fputc(' ', out);
			write_origin(conf, value, &value->items[i], out);
		}
	}
}

const char *
conf_shown(
    const struct conf_row *row, const char *text, char out[CONF_SHOWN_LEN])
{
	const char *url = strstr(text, "://"), *host, *at;
	size_t len, path;

	if ((row->kind != CONF_KIND_URL && row->kind != CONF_KIND_IDENTITY) ||
	    url == NULL) {
		at = row->kind == CONF_KIND_URL ? strrchr(text, '@') : NULL;
		(void)snprintf(out, CONF_SHOWN_LEN, "%s%.120s",
		    at != NULL ? "...@" : "", at != NULL ? at + 1 : text);
		return out;
	}
	host = url + 3;
	len = strcspn(host, "/?#");
	/* User information may hold a '/' that should have been escaped. */
	at = strrchr(host, '@');
	if (at != NULL) {
		host = at + 1;
		len = strcspn(host, "/?#");
	}
	path = host[len] == '/' ? len + 1 : len;
	(void)snprintf(out, CONF_SHOWN_LEN, "%.*s://%s%.*s%s",
	    (int)(url - text < 16 ? url - text : 16), text,
	    at != NULL ? "...@" : "", (int)(path < 120 ? path : 120), host,
	    host[path] != '\0' ? "..." : "");
	return out;
}

void
conf_amount(enum conf_kind kind, uint64_t number, char *out, size_t size)
{
	static const struct {
		enum conf_kind kind;
		uint64_t factor;
		const char *name;
	} units[] = { { CONF_KIND_DURATION, 86400000, "d" },
		{ CONF_KIND_DURATION, 3600000, "h" },
		{ CONF_KIND_DURATION, 60000, "m" },
		{ CONF_KIND_DURATION, 1000, "s" },
		{ CONF_KIND_DURATION, 1, "ms" },
		{ CONF_KIND_SIZE, 1 << 30, "G" },
		{ CONF_KIND_SIZE, 1 << 20, "M" },
		{ CONF_KIND_SIZE, 1 << 10, "K" },
		{ CONF_KIND_RATE, 1, "/min" } };
	unsigned long long count = number;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (number == 0 || units[i].kind != kind ||
		    number % units[i].factor != 0)
			continue;
		(void)snprintf(out, size, "%llu%s", count / units[i].factor,
		    units[i].name);
		return;
	}
	(void)snprintf(out, size, "%llu", count);
}

/* ---- names that resemble ---- */

#define NAME_MAX_LEN 40

/* Letters to insert, delete or exchange to make b of a; 3 for more than 2. */
static size_t
distance(const char *a, const char *b)
{
	size_t row[NAME_MAX_LEN + 1], len = strlen(b), best = 0;

	if (len > NAME_MAX_LEN || strlen(a) > NAME_MAX_LEN)
		return 3;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1] != '\0'; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= len; j++) {
			size_t above = row[j];

			best = corner + (a[i - 1] != b[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
			corner = above;
		}
	}
	return row[len] < 3 ? row[len] : 3;
}

const char *
conf_similar(const char *name)
{
	static char variable[CONF_VARIABLE_LEN];
	int is_variable = strncmp(name, "KMS_", 4) == 0;
	size_t nearest = 3, place = 0;

	for (size_t id = 0; id < CONF_COUNT; id++) {
		size_t d;

		conf_variable((enum conf_id)id, variable);
		d = distance(name, is_variable ? variable : conf_rows[id].name);
		if (d < nearest) {
			nearest = d;
			place = id;
		}
	}
	if (nearest == 3)
		return NULL;
	conf_variable((enum conf_id)place, variable);
	return is_variable ? variable : conf_rows[place].name;
}
