/* What the values of kmsd.conf demand of each other and of the machine. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "kmsd/conf_internal.h"

/* Memory that a child locks at most (common/secmem, OpenSSL's secure heap). */
#define MEMLOCK_NEEDED (2 * 1024 * 1024)
/* Descriptors of kms-net beside its connections. */
#define FILES_BESIDE 64
/* Room that JSON, the longest key and the envelope's other members take. */
#define ENVELOPE_OVERHEAD 16384
#define CAPSULE_BODY_MAX (10 * 1024 * 1024)
#define SECRET_FILE_MAX 65536

static int
is_set(const struct conf *conf, enum conf_id id)
{
	return conf->values[id].count > 0;
}

static int
is_enclave(const struct conf *conf)
{
	return conf_is(conf, CONF_ENVIRONMENT, "enclave");
}

/* ---- numbers ---- */

/*
 * One number must not exceed another. Whoever wrote one of them is told, in
 * the line of that one. A value that is wrong by itself was reported already.
 */
static void
at_most(struct conf *conf, enum conf_id smaller, enum conf_id larger)
{
	int blame_larger =
	    conf_is_given(conf, larger) && !conf_is_given(conf, smaller);
	enum conf_id blamed = blame_larger ? larger : smaller;
	enum conf_id other = blame_larger ? smaller : larger;

	if (!is_set(conf, smaller) || !is_set(conf, larger) ||
	    conf_number(conf, smaller) <= conf_number(conf, larger))
		return;
	conf_expected(conf, blamed, "expected at %s %s (%s), got %s",
	    blame_larger ? "least" : "most", conf_rows[other].name,
	    conf_text(conf, other), conf_text(conf, blamed));
}

/* Bytes of an app's body with a value of this size: base64, then hex. */
static uint64_t
body_for_value(uint64_t value)
{
	return (value + 2) / 3 * 4 * 2 + ENVELOPE_OVERHEAD;
}

/* Bytes of a /sync body with a record of this size: hex, then hex again. */
static uint64_t
sync_body_for_value(uint64_t value)
{
	return value * 4 + ENVELOPE_OVERHEAD;
}

/* What of a body is left for a value in its text. */
static uint64_t
room_in(const struct conf *conf, enum conf_id body)
{
	uint64_t size = conf_number(conf, body);

	return size > ENVELOPE_OVERHEAD ? size - ENVELOPE_OVERHEAD : 0;
}

/*
 * A body must carry the largest value: of needed bytes, or the value must be
 * one that fits.
 */
static void
carries_value(
    struct conf *conf, enum conf_id body, uint64_t needed, uint64_t fits)
{
	enum conf_id value = CONF_MAX_VALUE_SIZE;

	if (!is_set(conf, body) || !is_set(conf, value) ||
	    conf_number(conf, body) >= needed)
		return;
	if (conf_is_given(conf, body) || !conf_is_given(conf, value))
		conf_expected(conf, body,
		    "expected at least %llu, which carries a value of "
		    "max-value-size (%s), got %s",
		    (unsigned long long)needed, conf_text(conf, value),
		    conf_text(conf, body));
	else
		conf_expected(conf, value,
		    "expected at most %llu, which %s (%s) carries, got %s",
		    (unsigned long long)fits, conf_rows[body].name,
		    conf_text(conf, body), conf_text(conf, value));
}

static void
check_sizes(struct conf *conf)
{
	uint64_t value = conf_number(conf, CONF_MAX_VALUE_SIZE);

	carries_value(conf, CONF_MAX_BODY, body_for_value(value),
	    room_in(conf, CONF_MAX_BODY) / 8 * 3);
	carries_value(conf, CONF_MAX_SYNC_BODY, sync_body_for_value(value),
	    room_in(conf, CONF_MAX_SYNC_BODY) / 4);
	at_most(conf, CONF_MAX_BODY, CONF_MAX_BODY_MEMORY);
	at_most(conf, CONF_MAX_SYNC_BODY, CONF_MAX_BODY_MEMORY);
	at_most(conf, CONF_MAX_VALUE_SIZE, CONF_MAX_APP_STORAGE);
	if (conf_number(conf, CONF_MAX_STORE) != 0)
		at_most(conf, CONF_MAX_APP_STORAGE, CONF_MAX_STORE);
}

/* What the identity service could not be sent is of no use. */
static void
check_capsule_sizes(struct conf *conf)
{
	static const enum conf_id bodies[] = { CONF_MAX_BODY,
		CONF_MAX_SYNC_BODY };

	if (conf_identity_url(conf) == NULL)
		return;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		if (conf_number(conf, bodies[i]) > CAPSULE_BODY_MAX)
			conf_expected(conf, bodies[i],
			    "expected at most 10M with a capsule identity, got "
			    "%s",
			    conf_text(conf, bodies[i]));
	}
}

static void
check_times(struct conf *conf)
{
	at_most(conf, CONF_REGISTRY_CACHE_TTL, CONF_MEMBERSHIP_MAX_AGE);
	at_most(conf, CONF_PEER_CACHE_TTL, CONF_MEMBERSHIP_MAX_AGE);
	at_most(conf, CONF_NODE_TICK, CONF_MEMBERSHIP_MAX_AGE);
	at_most(conf, CONF_SYNC_INTERVAL, CONF_TOMBSTONE_RETENTION);
	at_most(conf, CONF_MAX_CLOCK_SKEW, CONF_TOMBSTONE_RETENTION);
	/* A short request-timeout alone cuts the wait short, which is fine. */
	if (conf_is_given(conf, CONF_REPLICA_TIMEOUT))
		at_most(conf, CONF_REPLICA_TIMEOUT, CONF_REQUEST_TIMEOUT);
}

/* ---- URLs, contracts, sockets ---- */

static int
is_https(const char *url)
{
	return strncmp(url, "https://", 8) == 0;
}

static void
check_enclave(struct conf *conf)
{
	const struct conf_value *rpc = &conf->values[CONF_RPC_URL];
	const char *node = conf_text(conf, CONF_NODE_URL);
	char shown[CONF_SHOWN_LEN];

	if (!is_enclave(conf))
		return;
	if (is_set(conf, CONF_SANDBOX) &&
	    !conf_is(conf, CONF_SANDBOX, "require"))
		conf_expected(conf, CONF_SANDBOX,
		    "expected require in an enclave, got %s",
		    conf_text(conf, CONF_SANDBOX));
	if (*node != '\0' && !is_https(node))
		conf_expected(conf, CONF_NODE_URL,
		    "expected an https URL in an enclave, got %s",
		    conf_shown(&conf_rows[CONF_NODE_URL], node, shown));
	for (size_t i = 0; i < rpc->count; i++) {
		const char *url = rpc->items[i].text;

		if (!is_https(url) && !conf_url_is_loopback(url))
			conf_expected_at(conf, CONF_RPC_URL, i,
			    "expected https, or http to loopback, in an "
			    "enclave, got %s",
			    conf_shown(&conf_rows[CONF_RPC_URL], url, shown));
	}
}

/*
 * The same endpoint twice would agree with itself; and what stands in an
 * environment is shown to more people than a file.
 */
static void
check_rpc_urls(struct conf *conf)
{
	const struct conf_value *rpc = &conf->values[CONF_RPC_URL];
	char shown[CONF_SHOWN_LEN];

	for (size_t i = 0; i < rpc->count; i++) {
		const char *url = rpc->items[i].text;

		(void)conf_shown(&conf_rows[CONF_RPC_URL], url, shown);
		if (rpc->origin == CONF_ORIGIN_ENVIRONMENT &&
		    conf_url_is_credential(url))
			conf_expected(conf, CONF_RPC_URL,
			    "expected a URL without query and long path, which "
			    "is no credential (else use rpc-url-file), got %s",
			    shown);
		for (size_t other = 0; other < i; other++) {
			if (strcmp(url, rpc->items[other].text) == 0)
				conf_expected_at(conf, CONF_RPC_URL, i,
				    "expected each endpoint once, got %s twice",
				    shown);
		}
	}
}

static void
check_registries(struct conf *conf)
{
	const char *apps = conf_text(conf, CONF_NOVA_APP_REGISTRY);
	const char *kms = conf_text(conf, CONF_KMS_REGISTRY);

	if (*apps != '\0' && strcasecmp(apps, kms) == 0)
		conf_expected(conf, CONF_KMS_REGISTRY,
		    "expected another contract than nova-app-registry, got %s",
		    kms);
}

/* Whether binding one address leaves no room for the other. */
static int
collide(const char *one, const char *other)
{
	struct sockaddr_storage a, b;
	const struct sockaddr_in *a4 = (const void *)&a, *b4 = (const void *)&b;
	const struct sockaddr_in6 *a6 = (const void *)&a;
	const struct sockaddr_in6 *b6 = (const void *)&b;
	static const struct in6_addr any6;
	socklen_t len;

	if (conf_socket_parse(one, &a, &len) != 0 ||
	    conf_socket_parse(other, &b, &len) != 0 ||
	    a.ss_family != b.ss_family)
		return 0;
	if (a.ss_family == AF_INET)
		return a4->sin_port == b4->sin_port && a4->sin_port != 0 &&
		    (a4->sin_addr.s_addr == b4->sin_addr.s_addr ||
			a4->sin_addr.s_addr == INADDR_ANY ||
			b4->sin_addr.s_addr == INADDR_ANY);
	return a6->sin6_port == b6->sin6_port && a6->sin6_port != 0 &&
	    (memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(any6)) == 0 ||
		memcmp(&a6->sin6_addr, &any6, sizeof(any6)) == 0 ||
		memcmp(&b6->sin6_addr, &any6, sizeof(any6)) == 0);
}

static void
check_sockets(struct conf *conf)
{
	const char *other = conf_text(conf, CONF_METRICS_LISTEN);

	if (collide(conf_text(conf, CONF_LISTEN), other))
		conf_expected(conf, CONF_METRICS_LISTEN,
		    "expected another address or port than listen (%s), got %s",
		    conf_text(conf, CONF_LISTEN), other);
}

static void
check_required(struct conf *conf)
{
	const char *expected;
	uint64_t number;

	for (size_t id = 0; id < CONF_COUNT; id++) {
		if ((conf_rows[id].flags & CONF_FLAG_REQUIRED) == 0 ||
		    conf_is_given(conf, (enum conf_id)id))
			continue;
		(void)conf_value_parse(&conf_rows[id], "", &number, &expected);
		conf_error(conf, 0, "%s: expected %s, got nothing",
		    conf_rows[id].name, expected);
	}
	if (!conf_is_given(conf, CONF_RPC_URL) &&
	    !conf_is_given(conf, CONF_RPC_URL_FILE))
		conf_error(conf, 0,
		    "rpc-url: expected it or rpc-url-file, got neither");
}

static void
check_quorum(struct conf *conf)
{
	size_t count =
	    conf->values[CONF_RPC_URL].count + conf->secret_url_count;

	if (count > CONF_LIST_MAX)
		conf_expected(conf, CONF_RPC_URL_FILE,
		    "expected at most %d endpoints with those of rpc-url, got "
		    "%zu",
		    CONF_LIST_MAX, count);
	else if (count > 0 && conf_number(conf, CONF_RPC_QUORUM) > count)
		conf_expected(conf, CONF_RPC_QUORUM,
		    "expected at most the number of endpoints (%zu), got %s",
		    count, conf_text(conf, CONF_RPC_QUORUM));
}

void
conf_check_values(struct conf *conf)
{
	check_required(conf);
	check_sizes(conf);
	check_capsule_sizes(conf);
	check_times(conf);
	check_enclave(conf);
	check_rpc_urls(conf);
	check_registries(conf);
	check_sockets(conf);
	if (!conf_is_given(conf, CONF_RPC_URL_FILE))
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
			conf_expected(conf, id,
			    "expected an existing user other than root, got %s",
			    conf_text(conf, id));
			continue;
		}
		for (unsigned int other = 0; other < r; other++) {
			if (uid[other] == uid[r])
				conf_expected(conf, id,
				    "expected another user than that of %s, "
				    "got UID %llu",
				    roles[other].label,
				    (unsigned long long)uid[r]);
		}
	}
}

/* A file that only its owner may read. */
static void
check_private_file(struct conf *conf, enum conf_id id, const char *path)
{
	struct stat st;

	if (access(path, R_OK) != 0 || stat(path, &st) != 0)
		conf_expected(conf, id, "expected a readable file, got %s: %s",
		    path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		conf_expected(conf, id, "expected a file, got %s", path);
	else if ((st.st_mode & 077) != 0)
		conf_expected(conf, id,
		    "expected a file that only its owner may read (chmod 600), "
		    "got %s with mode %03o",
		    path, (unsigned int)st.st_mode & 0777);
}

/* An existing file, or a place for one. */
static void
check_audit_file(struct conf *conf)
{
	const char *path = conf_text(conf, CONF_AUDIT_FILE);
	char directory[CONF_TEXT_MAX + 1];
	struct stat st;

	if (*path == '\0')
		return;
	(void)snprintf(directory, sizeof(directory), "%s", path);
	*(strrchr(directory, '/') + 1) = '\0';
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		conf_expected(
		    conf, CONF_AUDIT_FILE, "expected a file, got %s", path);
	else if (access(path, R_OK | W_OK) != 0 &&
	    (errno != ENOENT || access(directory, W_OK | X_OK) != 0))
		conf_expected(conf, CONF_AUDIT_FILE,
		    "expected a file that can be written, got %s: %s", path,
		    strerror(errno));
}

/* NULL, or what an endpoint of that file should be. */
static const char *
secret_url_expected(const struct conf *conf, const char *text)
{
	const char *expected;
	uint64_t number;

	for (const char *p = text; *p != '\0'; p++) {
		if (*p <= ' ' || *p > '~')
			return "URLs of visible ASCII, one a line";
	}
	if (strlen(text) > CONF_TEXT_MAX)
		return "URLs of at most 2048 bytes";
	if (conf_value_parse(
		&conf_rows[CONF_RPC_URL], text, &number, &expected) != 0)
		return expected;
	if (is_enclave(conf) && !is_https(text) && !conf_url_is_loopback(text))
		return "https, or http to loopback, in an enclave";
	for (size_t i = 0; i < conf->secret_url_count; i++) {
		if (strcmp(conf->secret_urls[i], text) == 0)
			return "each endpoint once";
	}
	if (conf->secret_url_count == CONF_LIST_MAX)
		return "at most 16 endpoints";
	return NULL;
}

/* What stands in that file is never quoted. */
static void
add_secret_url(struct conf *conf, const char *text, unsigned int line)
{
	const char *expected = secret_url_expected(conf, text);
	char *copy;

	if (expected != NULL) {
		conf_expected(conf, CONF_RPC_URL_FILE,
		    "expected %s, got something else in %s:%u", expected,
		    conf_text(conf, CONF_RPC_URL_FILE), line);
		return;
	}
	copy = strdup(text);
	if (copy != NULL)
		conf->secret_urls[conf->secret_url_count++] = copy;
}

static void
parse_secret_urls(struct conf *conf, char *text)
{
	for (unsigned int line = 1; *text != '\0'; line++) {
		size_t len = strcspn(text, "\n"), end = len;
		char *next = text + len + (text[len] == '\n');

		while (end > 0 && strchr(" \t\r", text[end - 1]) != NULL)
			end--;
		text[end] = '\0';
		text += strspn(text, " \t");
		if (*text != '\0' && *text != '#')
			add_secret_url(conf, text, line);
		text = next;
	}
}

static void
read_secret_urls(struct conf *conf, const char *path)
{
	char *text = calloc(1, SECRET_FILE_MAX);
	unsigned int before = conf->errors;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = -1;

	if (fd >= 0 && text != NULL)
		got = read(fd, text, SECRET_FILE_MAX - 1);
	if (got < 0)
		conf_expected(conf, CONF_RPC_URL_FILE,
		    "expected a readable file, got %s: %s", path,
		    strerror(errno));
	else if (got == SECRET_FILE_MAX - 1)
		conf_expected(conf, CONF_RPC_URL_FILE,
		    "expected less than %d bytes, got more in %s",
		    SECRET_FILE_MAX - 1, path);
	else
		parse_secret_urls(conf, text);
	if (got >= 0 && conf->errors == before && conf->secret_url_count == 0)
		conf_expected(conf, CONF_RPC_URL_FILE,
		    "expected an endpoint a line, got none in %s", path);
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
			conf_error(conf, 0,
			    "program: expected an executable, got %s/%s: %s",
			    libexec, roles[r].program, strerror(errno));
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
		conf_expected(conf, CONF_MAX_CONNECTIONS,
		    "expected a limit of at least %llu open files, got %llu "
		    "(ulimit -n)",
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
	const struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (*path == '\0')
		return;
	dir = opendir(path);
	if (dir == NULL || fstat(dirfd(dir), &st) != 0) {
		conf_expected(conf, CONF_CHROOT,
		    "expected a directory, got %s: %s", path, strerror(errno));
		if (dir != NULL)
			(void)closedir(dir);
		return;
	}
	if (st.st_uid != 0 || (st.st_mode & 022) != 0)
		conf_expected(conf, CONF_CHROOT,
		    "expected a directory of root's that nobody else may write "
		    "to, got %s of UID %u with mode %03o",
		    path, (unsigned int)st.st_uid,
		    (unsigned int)st.st_mode & 0777);
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0) {
			conf_expected(conf, CONF_CHROOT,
			    "expected an empty directory, got %s", path);
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
	check_audit_file(conf);
	if (identity != NULL)
		check_private_file(conf, CONF_IDENTITY, identity);
	if (*urls != '\0') {
		check_private_file(conf, CONF_RPC_URL_FILE, urls);
		read_secret_urls(conf, urls);
		check_quorum(conf);
	}
}
