/*
 * kmsd.conf and the environment: table, parsers, checks and dump. A value
 * comes from the file, else from KMS_<KEYWORD>, else it is the default.
 */
#ifndef KMS_KMSD_CONF_H
#define KMS_KMSD_CONF_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "kmsd/topology.h"

#define CONF_LIST_MAX 16   /* values of one keyword; as CONFIG_LIST_MAX */
#define CONF_LINE_MAX 4096 /* bytes of a line */
#define CONF_TEXT_MAX 2048 /* bytes of a value, as the children take it */

enum conf_id {
#define CONF(id, ...) CONF_##id,
#include "kmsd/conf.def"
#undef CONF
	CONF_COUNT
};

enum conf_kind {
	CONF_KIND_DURATION, /* 500ms 30s 10m 1h 1d, or 0 */
	CONF_KIND_SIZE,	    /* bytes, or with K, M, G (powers of 1024) */
	CONF_KIND_NUMBER,
	CONF_KIND_RATE, /* 30/min, or 0 */
	CONF_KIND_BOOL, /* yes no */
	CONF_KIND_ENUM,
	CONF_KIND_URL,	   /* http(s)://host… */
	CONF_KIND_ADDRESS, /* of a contract */
	CONF_KIND_SOCKET,  /* 127.0.0.1:8000 or [::1]:8000 */
	CONF_KIND_NETWORK, /* address, or address/prefix length */
	CONF_KIND_PATH,	   /* absolute */
	CONF_KIND_USER,	   /* name, UID or UID:GID */
	CONF_KIND_IDENTITY /* local, local FILE, capsule URL */
};

enum conf_flag {
	CONF_FLAG_LIST = 1,
	CONF_FLAG_REQUIRED = 2,
	CONF_FLAG_RELOAD = 4 /* takes effect at SIGHUP */
};

#define CONF_VARIABLE_LEN 48 /* of an environment variable's name */
#define CONF_FILE_MAX (256 * 1024)

struct conf_row {
	const char *name;
	enum conf_kind kind;
	const char *value; /* default; NULL: not set */
	uint64_t least;
	uint64_t most;
	const char *choices;
	unsigned int children; /* mask of ROLE_BIT */
	unsigned int flags;
	const char *help;
};

extern const struct conf_row conf_rows[CONF_COUNT];

struct conf_item {
	char *text;	   /* as written */
	uint64_t number;   /* in the base unit, for the kinds that count */
	unsigned int line; /* of the file; 0: from elsewhere */
};

enum conf_origin {
	CONF_ORIGIN_DEFAULT, /* or nothing at all */
	CONF_ORIGIN_FILE,
	CONF_ORIGIN_ENVIRONMENT,
	CONF_ORIGIN_OPTION /* of the command line */
};

struct conf_value {
	enum conf_origin origin; /* also when what stood there was wrong */
	unsigned int line;	 /* the latest in the file; 0: none */
	/* the variable that gave it, or that the file overrides; "" if none */
	char variable[CONF_VARIABLE_LEN];
	size_t count;
	struct conf_item items[CONF_LIST_MAX];
};

/* Gets "file:line: message" or "VARIABLE: message" of every error. */
typedef void (*conf_report_fn)(const char *message, void *arg);

struct conf {
	const char *path;
	struct conf_value values[CONF_COUNT];
	size_t secret_url_count; /* from rpc-url-file; never shown */
	char *secret_urls[CONF_LIST_MAX];
	unsigned int errors;
	conf_report_fn report;
	void *report_arg;
};

/* Start with nothing set. path is borrowed and names the file in errors. */
void conf_init(
    struct conf *conf, const char *path, conf_report_fn report, void *arg);
void conf_free(struct conf *conf);

/* Parse len bytes of text. Every error is reported and counted in errors. */
void conf_parse(struct conf *conf, const char *text, size_t len);

/*
 * Read and parse the file at conf->path. With may_lack, one that does not
 * exist is as an empty one.
 */
void conf_load(struct conf *conf, int may_lack);

/*
 * Take KMS_<KEYWORD> of an environment ("NAME=value", NULL at the end; NULL:
 * none), for keywords that the file has not set: so after conf_load. A KMS_
 * variable that is no keyword, none of kmsctl(1) and none of an orchestrator
 * is an error.
 */
void conf_environment(struct conf *conf, char *const *environment);

/*
 * A copy of what conf_environment and conf_finish read of an environment, to
 * read the file again later; NULL when memory is out. Freed with free().
 */
char **conf_environment_copy(char *const *environment);

/* Whether an environment sets any keyword. */
int conf_environment_any(char *const *environment);

/* The variable of a keyword, KMS_<KEYWORD>. */
void conf_variable(enum conf_id id, char out[CONF_VARIABLE_LEN]);

/*
 * Fill in defaults, also those that follow from other values or from
 * https_proxy (may be NULL), and check what values demand of each other.
 * Reads no file.
 */
void conf_finish(struct conf *conf, const char *https_proxy);

/* Replace a value that is right by construction (a command line option). */
void conf_set(struct conf *conf, enum conf_id id, const char *text);

/* The checks of conf_finish: what values demand of each other. */
void conf_check_values(struct conf *conf);

/*
 * What start-up will need of this machine: files, users, programs in the
 * directory libexec, limits; reads rpc-url-file. Changes nothing.
 */
void conf_check_machine(struct conf *conf, const char *libexec);

/*
 * Write the effective configuration, each value with where it came from as a
 * comment; it parses back to itself.
 */
void conf_dump(const struct conf *conf, FILE *out);

/* Report an error about a line (0: about the file as a whole). */
void conf_error(struct conf *conf, unsigned int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Report that a keyword's value is not as expected; format goes on after
 * "file:line: keyword: " or "VARIABLE: ", wherever the value came from.
 */
void conf_expected(struct conf *conf, enum conf_id id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The first value: its text ("" when not set), its number. */
const char *conf_text(const struct conf *conf, enum conf_id id);
uint64_t conf_number(const struct conf *conf, enum conf_id id);
int conf_is(const struct conf *conf, enum conf_id id, const char *text);

/* The path behind "local ", or NULL. */
const char *conf_identity_file(const struct conf *conf);

/* The URL behind "capsule ", or NULL. */
const char *conf_identity_url(const struct conf *conf);

/* Whether it stands in the file, the environment or the command line. */
int conf_is_given(const struct conf *conf, enum conf_id id);

/* Whether two configurations have the same values for a keyword. */
int conf_same(const struct conf *a, const struct conf *b, enum conf_id id);

/* Exchange the values of a keyword between two configurations. */
void conf_swap(struct conf *a, struct conf *b, enum conf_id id);

/* The row of a keyword (its place in *id), or NULL. */
const struct conf_row *conf_find(const char *name, enum conf_id *id);

/* The keyword or variable that is a letter or two away, or NULL. */
const char *conf_similar(const char *name);

/*
 * What of a value may be shown: of a URL no user information, path and query,
 * which often are credentials.
 */
#define CONF_SHOWN_LEN 160
const char *conf_shown(
    const struct conf_row *row, const char *text, char out[CONF_SHOWN_LEN]);

/* A count in the units of its kind: 30s, 3M, 120/min, 7. */
void conf_amount(enum conf_kind kind, uint64_t number, char *out, size_t size);

/* Whether a URL looks like a credential: a query, or a long path segment. */
int conf_url_is_credential(const char *url);

/* Whether it names this machine by a loopback address or localhost. */
int conf_url_is_loopback(const char *url);

/* Parse one value of a kind. 0, or KMS_EINVAL with what was expected. */
int conf_value_parse(const struct conf_row *row, const char *text,
    uint64_t *number, const char **expected);

/* A SOCKET value, which conf_value_parse has accepted. */
int conf_socket_parse(
    const char *text, struct sockaddr_storage *address, socklen_t *len);

/* The URL of an identity service: "http://" and a loopback address with its
 * port, nothing else. KMS_EINVAL. */
int conf_capsule_parse(
    const char *url, struct sockaddr_storage *address, socklen_t *len);

/* User and group of a role when started as root. KMS_ENOENT: no such user. */
int conf_user(
    const struct conf *conf, enum role role, uint64_t *uid, uint64_t *gid);

/* Each (name, text) row that a role is sent, in the units of the wire. */
typedef int (*conf_row_fn)(const char *name, const char *text, void *arg);
int conf_slice(
    const struct conf *conf, enum role role, conf_row_fn fn, void *arg);

#endif
