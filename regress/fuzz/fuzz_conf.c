/*
 * kmsd.conf and the environment: the file, a NUL, then NAME=value texts with
 * a NUL behind each. What is accepted survives its own dump, and no report is
 * more than a line.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmsd/conf.h"

#define VARIABLES 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned int reports;

static void
count(const char *message, void *arg)
{
	(void)arg;
	reports++;
	for (; *message != '\0'; message++) {
		if ((unsigned char)*message < ' ' || *message == 0x7f)
			abort();
	}
}

static int
take_row(const char *name, const char *text, void *arg)
{
	(void)arg;
	if (*name == '\0' || strlen(text) > CONF_TEXT_MAX)
		abort();
	return 0;
}

/* What it says of itself is itself. */
static void
check_dump(const struct conf *conf)
{
	static struct conf again;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		abort();
	conf_dump(conf, out);
	(void)fclose(out);
	conf_init(&again, "again", count, NULL);
	conf_parse(&again, text, len);
	conf_finish(&again, NULL);
	for (size_t id = 0; id < CONF_COUNT; id++) {
		/* Only in the environment is it an error. */
		if (!conf_same(conf, &again, (enum conf_id)id))
			abort();
	}
	if (again.errors != 0)
		abort();
	conf_free(&again);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf conf;
	char *variables[VARIABLES + 1] = { NULL };
	char *text = malloc(size + 1), *rest;
	size_t len, variable_count = 0;

	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	len = strlen(text);
	for (rest = text + len;
	     rest < text + size && variable_count < VARIABLES;
	     rest += strlen(rest)) {
		if (*++rest != '\0')
			variables[variable_count++] = rest;
	}
	reports = 0;
	conf_init(&conf, "fuzz", count, NULL);
	conf_parse(&conf, text, len);
	conf_environment(&conf, variables);
	conf_finish(&conf, NULL);
	if (conf.errors != reports)
		abort();
	for (size_t role = 0; role < ROLES; role++)
		(void)conf_slice(&conf, (enum role)role, take_row, NULL);
	if (conf.errors == 0)
		check_dump(&conf);
	conf_free(&conf);
	free(text);
	return 0;
}
