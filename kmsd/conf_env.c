/*
 * The environment as a second source of configuration: KMS_<KEYWORD>, upper
 * case, '-' as '_'. Keywords that begin with "kms-" may leave out the second
 * KMS_. The file wins. Variables that are visibly meant for others are left
 * alone; any other KMS_ variable is an error, since most likely a typo.
 */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "kmsd/conf.h"
#include "kmsd/conf_internal.h"

#define PREFIX "KMS_"
#define PREFIX_LEN 4

/* Of kmsctl(1); those that it shares with keywords are not here. */
static const char *const foreign[] = { "KMS_NODE", "KMS_RPC", "KMS_CONTROL" };

static void
make_variable(const char *keyword, char out[CONF_VARIABLE_LEN])
{
	size_t at = PREFIX_LEN;

	memcpy(out, PREFIX, PREFIX_LEN);
	for (; *keyword != '\0' && at < CONF_VARIABLE_LEN - 1; keyword++) {
		char c = *keyword;

		if (c == '-')
			c = '_';
		else if (c >= 'a' && c <= 'z')
			c = (char)(c - 'a' + 'A');
		out[at++] = c;
	}
	out[at] = '\0';
}

void
conf_variable(enum conf_id id, char out[CONF_VARIABLE_LEN])
{
	make_variable(conf_rows[id].name, out);
}

static int
find_variable(const char *name, enum conf_id *id)
{
	for (size_t i = 0; i < CONF_COUNT; i++) {
		const char *keyword = conf_rows[i].name;
		char variable[CONF_VARIABLE_LEN];

		*id = (enum conf_id)i;
		make_variable(keyword, variable);
		if (strcmp(variable, name) == 0)
			return 1;
		if (strncmp(keyword, "kms-", 4) != 0)
			continue;
		make_variable(keyword + 4, variable);
		if (strcmp(variable, name) == 0)
			return 1;
	}
	return 0;
}

/*
 * An orchestrator names a service "kms" or "kms-…" to every container as
 * KMS_SERVICE_HOST, KMS_PORT, KMS_PORT_8000_TCP_ADDR and the like.
 */
static int
is_of_orchestrator(const char *name)
{
	size_t len = strlen(name);
	const char *port = strstr(name, "_PORT_");

	if (strstr(name, "_SERVICE_HOST") != NULL ||
	    strstr(name, "_SERVICE_PORT") != NULL)
		return 1;
	if (len > 5 && strcmp(name + len - 5, "_PORT") == 0)
		return 1;
	return port != NULL && port[6] >= '0' && port[6] <= '9';
}

static int
is_foreign(const char *name)
{
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		if (strcmp(name, foreign[i]) == 0)
			return 1;
	}
	return is_of_orchestrator(name);
}

/* Values of a list stand between commas or white space. */
static void
take_list(struct conf *conf, enum conf_id id, char *text)
{
	static const char between[] = ", \t\r\n";
	char *rest = text + strspn(text, between);

	while (*rest != '\0') {
		size_t len = strcspn(rest, between);
		char *next = rest + len + strspn(rest + len, between);

		rest[len] = '\0';
		(void)conf_add_item(conf, id, 0, rest);
		rest = next;
	}
}

static void
take(struct conf *conf, enum conf_id id, const char *name, const char *text)
{
	const struct conf_row *row = &conf_rows[id];
	struct conf_value *value = &conf->values[id];
	char *copy;

	if (value->variable[0] != '\0' &&
	    value->origin == CONF_ORIGIN_ENVIRONMENT) {
		conf_expected(conf, id,
		    "expected one variable for %s, got %s too", row->name,
		    name);
		return;
	}
	(void)snprintf(value->variable, sizeof(value->variable), "%s", name);
	if (value->origin != CONF_ORIGIN_DEFAULT)
		return;
	value->origin = CONF_ORIGIN_ENVIRONMENT;
	copy = strdup(text);
	if (copy == NULL) {
		conf_expected(conf, id, "out of memory");
		return;
	}
	if ((row->flags & CONF_FLAG_LIST) != 0 &&
	    text[strspn(text, ", \t\r\n")] != '\0')
		take_list(conf, id, copy);
	else
		(void)conf_add_item(conf, id, 0, copy);
	free(copy);
}

static void
report_unknown(struct conf *conf, const char *name)
{
	const char *similar = conf_similar(name);

	/* Not a keyword's: the variable alone names the place. */
	conf_report(conf,
	    "%.64s: expected KMS_<KEYWORD> of kmsd.conf(5)%s%s, got no keyword",
	    name, similar != NULL ? ", perhaps " : "",
	    similar != NULL ? similar : "");
}

void
conf_environment(struct conf *conf, char *const *environment)
{
	for (; environment != NULL && *environment != NULL; environment++) {
		const char *entry = *environment;
		size_t len = strcspn(entry, "=");
		char name[256];
		enum conf_id id;

		if (strncmp(entry, PREFIX, PREFIX_LEN) != 0 ||
		    entry[len] != '=')
			continue;
		if (len >= sizeof(name))
			len = sizeof(name) - 1;
		memcpy(name, entry, len);
		name[len] = '\0';
		if (find_variable(name, &id))
			take(conf, id, name, entry + len + 1);
		else if (!is_foreign(name))
			report_unknown(conf, name);
	}
}

int
conf_environment_any(char *const *environment)
{
	for (; environment != NULL && *environment != NULL; environment++) {
		size_t len = strcspn(*environment, "=");
		char name[CONF_VARIABLE_LEN];
		enum conf_id id;

		if (len >= sizeof(name))
			continue;
		memcpy(name, *environment, len);
		name[len] = '\0';
		if (find_variable(name, &id))
			return 1;
	}
	return 0;
}

static int
is_read(const char *entry)
{
	return strncmp(entry, PREFIX, PREFIX_LEN) == 0;
}

char **
conf_environment_copy(char *const *environment)
{
	size_t count = 0, bytes = 0, at = 0;
	char **copy, *text;

	for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
		if (!is_read(environment[i]))
			continue;
		count++;
		bytes += strlen(environment[i]) + 1;
	}
	/* The pointers, and behind them the texts. */
	copy = malloc((count + 1) * sizeof(*copy) + bytes);
	if (copy == NULL)
		return NULL;
	text = (char *)(copy + count + 1);
	for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
		size_t len = strlen(environment[i]) + 1;

		if (!is_read(environment[i]))
			continue;
		memcpy(text, environment[i], len);
		copy[at++] = text;
		text += len;
	}
	copy[at] = NULL;
	return copy;
}
