/* What the values of kmsd.conf demand of each other and of the machine. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "kmsd/conf.h"

/* Memory that a child locks at most (common/secmem, OpenSSL's secure heap). */
#define MEMLOCK_NEEDED (2 * 1024 * 1024)
/* Descriptors of kms-net beside its connections. */
#define FILES_BESIDE 64
/* Room that JSON, the longest key and the envelope's other members take. */
#define ENVELOPE_OVERHEAD 16384
#define CAPSULE_BODY_MAX (10 * 1024 * 1024)
#define SECRET_FILE_MAX 65536

static unsigned int
line_of(const struct conf *conf, enum conf_id id)
{
	return conf->values[id].line;
}

static int
is_set(const struct conf *conf, enum conf_id id)
{
	return conf->values[id].count > 0;
}

/* Bytes of a body that carries a value of this size: base64, then hex. */
static uint64_t
body_for_value(uint64_t value)
{
	return (value + 2) / 3 * 4 * 2 + ENVELOPE_OVERHEAD;
}

/* Report when one number must not exceed another. */
static void
at_most(struct conf *conf, enum conf_id smaller, enum conf_id larger)
{
	if (conf_number(conf, smaller) <= conf_number(conf, larger))
		return;
	conf_error(conf, line_of(conf, smaller),
	    "%s: expected at most %s (%s), got %s", conf_rows[smaller].name,
	    conf_rows[larger].name, conf_text(conf, larger),
	    conf_text(conf, smaller));
}

static void
check_sizes(struct conf *conf)
{
	uint64_t needed =
	    body_for_value(conf_number(conf, CONF_MAX_VALUE_SIZE));

	if (conf_number(conf, CONF_MAX_BODY) < needed)
		conf_error(conf, line_of(conf, CONF_MAX_BODY),
		    "max-body: %s cannot carry a value of max-value-size (%s): "
		    "expected at least %llu",
		    conf_text(conf, CONF_MAX_BODY),
		    conf_text(conf, CONF_MAX_VALUE_SIZE),
		    (unsigned long long)needed);
	at_most(conf, CONF_MAX_BODY, CONF_MAX_BODY_MEMORY);
	at_most(conf, CONF_MAX_SYNC_BODY, CONF_MAX_BODY_MEMORY);
	at_most(conf, CONF_MAX_VALUE_SIZE, CONF_MAX_APP_STORAGE);
	if (conf_number(conf, CONF_MAX_STORE) != 0)
		at_most(conf, CONF_MAX_APP_STORAGE, CONF_MAX_STORE);
	if (strncmp(conf_text(conf, CONF_IDENTITY), "capsule ", 8) == 0 &&
	    conf_number(conf, CONF_MAX_SYNC_BODY) > CAPSULE_BODY_MAX)
		conf_error(conf, line_of(conf, CONF_MAX_SYNC_BODY),
		    "max-sync-body: with a capsule identity expected at most "
		    "10M, got %s",
		    conf_text(conf, CONF_MAX_SYNC_BODY));
}

static int
is_https(const char *url)
{
	return strncmp(url, "https://", 8) == 0;
}

static int
is_loopback(const char *url)
{
	static const char *const hosts[] = { "http://127.0.0.1",
		"http://localhost", "http://[::1]" };

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		size_t len = strlen(hosts[i]);

		if (strncmp(url, hosts[i], len) == 0 &&
		    strchr("/:?", url[len]) != NULL)
			return 1;
	}
	return 0;
}

static void
check_enclave(struct conf *conf)
{
	const struct conf_value *rpc = &conf->values[CONF_RPC_URL];

	if (!conf_is(conf, CONF_ENVIRONMENT, "enclave"))
		return;
	if (!conf_is(conf, CONF_SANDBOX, "require"))
		conf_error(conf, line_of(conf, CONF_SANDBOX),
		    "sandbox: in an enclave expected require, got %s",
		    conf_text(conf, CONF_SANDBOX));
	if (is_set(conf, CONF_NODE_URL) &&
	    !is_https(conf_text(conf, CONF_NODE_URL)))
		conf_error(conf, line_of(conf, CONF_NODE_URL),
		    "node-url: in an enclave expected an https URL, got %s",
		    conf_text(conf, CONF_NODE_URL));
	for (size_t i = 0; i < rpc->count; i++) {
		if (!is_https(rpc->items[i].text) &&
		    !is_loopback(rpc->items[i].text))
			conf_error(conf, rpc->line,
			    "rpc-url: in an enclave expected https, or http to "
			    "loopback, got %s",
			    rpc->items[i].text);
	}
}

static void
check_required(struct conf *conf)
{
	for (size_t id = 0; id < CONF_COUNT; id++) {
		if ((conf_rows[id].flags & CONF_FLAG_REQUIRED) != 0 &&
		    !is_set(conf, (enum conf_id)id) &&
		    line_of(conf, (enum conf_id)id) == 0)
			conf_error(
			    conf, 0, "%s is not set", conf_rows[id].name);
	}
	if (!is_set(conf, CONF_RPC_URL) && !is_set(conf, CONF_RPC_URL_FILE) &&
	    line_of(conf, CONF_RPC_URL) == 0)
		conf_error(conf, 0, "neither rpc-url nor rpc-url-file is set");
}

static void
check_quorum(struct conf *conf)
{
	size_t count =
	    conf->values[CONF_RPC_URL].count + conf->secret_url_count;

	if (count > CONF_LIST_MAX)
		conf_error(conf, line_of(conf, CONF_RPC_URL_FILE),
		    "rpc-url and rpc-url-file: more than %d endpoints",
		    CONF_LIST_MAX);
	else if (count > 0 && conf_number(conf, CONF_RPC_QUORUM) > count)
		conf_error(conf, line_of(conf, CONF_RPC_QUORUM),
		    "rpc-quorum: expected at most the number of endpoints "
		    "(%zu), got %s",
		    count, conf_text(conf, CONF_RPC_QUORUM));
}

void
conf_check_values(struct conf *conf)
{
	check_required(conf);
	check_sizes(conf);
	check_enclave(conf);
	at_most(conf, CONF_REGISTRY_CACHE_TTL, CONF_MEMBERSHIP_MAX_AGE);
	at_most(conf, CONF_PEER_CACHE_TTL, CONF_MEMBERSHIP_MAX_AGE);
	if (is_set(conf, CONF_METRICS_LISTEN) &&
	    strcmp(conf_text(conf, CONF_METRICS_LISTEN),
		conf_text(conf, CONF_LISTEN)) == 0)
		conf_error(conf, line_of(conf, CONF_METRICS_LISTEN),
		    "metrics-listen: expected another address than listen");
	if (!is_set(conf, CONF_RPC_URL_FILE))
		check_quorum(conf);
}

/* ---- the machine ---- */

static enum conf_id
user_keyword(enum role role)
{
	static const enum conf_id ids[ROLES] = { [ROLE_NET] = CONF_USER_NET,
		[ROLE_KEEPER] = CONF_USER_KEEPER,
		[ROLE_RPC] = CONF_USER_RPC,
		[ROLE_PEER] = CONF_USER_PEER };

	return ids[role];
}

int
conf_user(const struct conf *conf, enum role role, uint64_t *uid, uint64_t *gid)
{
	const char *text = conf_text(conf, user_keyword(role));
	const char *name = text[0] != '\0' ? text : roles[role].user;
	const struct passwd *entry;
	char *end;

	if (text[0] >= '0' && text[0] <= '9') {
		*uid = *gid = strtoull(text, &end, 10);
		if (*end == ':')
			*gid = strtoull(end + 1, NULL, 10);
		return 0;
	}
	entry = getpwnam(name);
	if (entry != NULL) {
		*uid = entry->pw_uid;
		*gid = entry->pw_gid;
		return *uid != 0 && *gid != 0 ? 0 : KMS_EINVAL;
	}
	if (text[0] != '\0')
		return KMS_ENOENT;
	*uid = *gid = roles[role].uid;
	return 0;
}

static void
check_users(struct conf *conf)
{
	uint64_t uid[ROLES] = { 0 }, gid;

	for (unsigned int r = 0; r < ROLES; r++) {
		enum conf_id id = user_keyword((enum role)r);

		if (conf_user(conf, (enum role)r, &uid[r], &gid) != 0) {
			conf_error(conf, line_of(conf, id),
			    "%s: expected an existing user other than root, "
			    "got %s",
			    conf_rows[id].name, conf_text(conf, id));
			continue;
		}
		for (unsigned int other = 0; other < r; other++) {
			if (uid[other] == uid[r])
				conf_error(conf, line_of(conf, id),
				    "%s: expected another user than that of %s",
				    conf_rows[id].name, roles[other].label);
		}
	}
}

/* A file that only its owner may read. */
static void
check_private_file(struct conf *conf, enum conf_id id, const char *path)
{
	const char *name = conf_rows[id].name;
	unsigned int line = line_of(conf, id);
	struct stat st;

	if (access(path, R_OK) != 0 || stat(path, &st) != 0)
		conf_error(
		    conf, line, "%s: %s: %s", name, path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		conf_error(conf, line, "%s: %s: expected a file", name, path);
	else if ((st.st_mode & 077) != 0)
		conf_error(conf, line,
		    "%s: %s: expected that only its owner may read it "
		    "(chmod 600)",
		    name, path);
}

static void
add_secret_url(struct conf *conf, char *text)
{
	unsigned int line = line_of(conf, CONF_RPC_URL_FILE);
	const char *expected;
	uint64_t number;

	if (conf->secret_url_count == CONF_LIST_MAX) {
		conf_error(conf, line, "rpc-url-file: more than %d endpoints",
		    CONF_LIST_MAX);
		return;
	}
	if (conf_value_parse(
		&conf_rows[CONF_RPC_URL], text, &number, &expected) != 0 ||
	    strlen(text) > CONF_TEXT_MAX) {
		conf_error(conf, line,
		    "rpc-url-file: expected an http or https URL in each line");
		return;
	}
	if (conf_is(conf, CONF_ENVIRONMENT, "enclave") && !is_https(text) &&
	    !is_loopback(text)) {
		conf_error(conf, line,
		    "rpc-url-file: in an enclave expected https URLs");
		return;
	}
	conf->secret_urls[conf->secret_url_count] = strdup(text);
	if (conf->secret_urls[conf->secret_url_count] != NULL)
		conf->secret_url_count++;
}

static void
read_secret_urls(struct conf *conf, const char *path)
{
	char *text = calloc(1, SECRET_FILE_MAX), *rest = text;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0 && text != NULL)
		got = read(fd, text, SECRET_FILE_MAX - 1);
	if (got < 0)
		conf_error(conf, line_of(conf, CONF_RPC_URL_FILE),
		    "rpc-url-file: %s: %s", path, strerror(errno));
	while (got > 0 && *rest != '\0') {
		size_t len = strcspn(rest, "\r\n");
		char *next = rest + len + strspn(rest + len, "\r\n");

		rest[len] = '\0';
		if (*rest != '\0' && *rest != '#')
			add_secret_url(conf, rest);
		rest = next;
	}
	if (text != NULL)
		explicit_bzero(text, SECRET_FILE_MAX);
	free(text);
	if (fd >= 0)
		(void)close(fd);
}

static void
check_programs(struct conf *conf, const char *libexec)
{
	for (size_t r = 0; r < ROLES; r++) {
		char path[4096];

		if (snprintf(path, sizeof(path), "%s/%s", libexec,
			roles[r].program) >= (int)sizeof(path) ||
		    access(path, X_OK) != 0)
			conf_error(conf, 0, "program %s/%s: %s", libexec,
			    roles[r].program, strerror(errno));
	}
}

static void
check_limits(struct conf *conf)
{
	struct rlimit files = { 0, 0 }, locked = { 0, 0 };
	uint64_t needed =
	    conf_number(conf, CONF_MAX_CONNECTIONS) + FILES_BESIDE;

	(void)getrlimit(RLIMIT_NOFILE, &files);
	(void)getrlimit(RLIMIT_MEMLOCK, &locked);
	if (geteuid() != 0 && files.rlim_max < needed)
		conf_error(conf, line_of(conf, CONF_MAX_CONNECTIONS),
		    "max-connections: needs a limit of %llu open files, this "
		    "process may have %llu (ulimit -n)",
		    (unsigned long long)needed,
		    (unsigned long long)files.rlim_max);
	if (geteuid() != 0 && locked.rlim_max < MEMLOCK_NEEDED)
		conf_error(conf, 0,
		    "locked memory: expected a limit of at least 2 MiB, got "
		    "%llu bytes (ulimit -l)",
		    (unsigned long long)locked.rlim_max);
}

static void
check_chroot(struct conf *conf)
{
	const char *path = conf_text(conf, CONF_CHROOT);
	unsigned int line = line_of(conf, CONF_CHROOT);
	const struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (*path == '\0')
		return;
	dir = opendir(path);
	if (dir == NULL || fstat(dirfd(dir), &st) != 0) {
		conf_error(conf, line, "chroot: %s: %s", path, strerror(errno));
		if (dir != NULL)
			(void)closedir(dir);
		return;
	}
	if (st.st_uid != 0 || (st.st_mode & 022) != 0)
		conf_error(conf, line,
		    "chroot: %s: expected a directory of root's that nobody "
		    "else may write to",
		    path);
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0) {
			conf_error(conf, line, "chroot: %s is not empty", path);
			break;
		}
	}
	(void)closedir(dir);
}

void
conf_check_machine(struct conf *conf, const char *libexec)
{
	const char *identity = conf_identity_file(conf);
	const char *urls = conf_text(conf, CONF_RPC_URL_FILE);

	check_programs(conf, libexec);
	check_users(conf);
	check_chroot(conf);
	check_limits(conf);
	if (identity != NULL)
		check_private_file(conf, CONF_IDENTITY, identity);
	if (*urls != '\0') {
		check_private_file(conf, CONF_RPC_URL_FILE, urls);
		read_secret_urls(conf, urls);
		check_quorum(conf);
	}
}
