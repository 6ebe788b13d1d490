#include "kmsd/machine.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/control.h"

#define CA_BUNDLE "/etc/ssl/certs/ca-certificates.crt"
#define CA_BUNDLE_MAX (4 * 1024 * 1024)
#define RESOLV_CONF "/etc/resolv.conf"
#define RUN_EMPTY "/run/kms-empty"
#define RESOLV_CONF_MAX 65536

static int
read_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
	ssize_t got = 1;
	uint8_t *space;

	if (fd < 0)
		return KMS_ESYS;
	while (error == 0 && got > 0) {
		error = buf_reserve(out, 4096, &space);
		if (error != 0)
			break;
		got = read(fd, space, 4096);
		if (got < 0)
			error = KMS_ESYS;
		else
			buf_commit(out, (size_t)got);
	}
	(void)close(fd);
	return error;
}

void
machine_parse_resolv(struct machine *machine, char *text)
{
	char *rest = text;

	while (*rest != '\0' && machine->dns_count < MACHINE_DNS_MAX) {
		size_t len = strcspn(rest, "\n");
		char *next = rest + len + (rest[len] == '\n');
		char *word = rest + strspn(rest, " \t");
		uint8_t address[16];

		rest[len] = '\0';
		rest = next;
		if (strncmp(word, "nameserver", 10) != 0)
			continue;
		word += 10;
		if (*word != ' ' && *word != '\t')
			continue;
		word += strspn(word, " \t");
		word[strcspn(word, " \t\r#;")] = '\0';
		/* A zone ("%eth0") would need the interface list later. */
		if (inet_pton(AF_INET, word, address) != 1 &&
		    inet_pton(AF_INET6, word, address) != 1)
			continue;
		(void)snprintf(machine->dns[machine->dns_count++],
		    sizeof(machine->dns[0]), "%s", word);
	}
}

static void
read_resolv(struct machine *machine)
{
	struct buf text;

	buf_init(&text, RESOLV_CONF_MAX);
	if (read_file(RESOLV_CONF, &text) == 0 && buf_append(&text, "", 1) == 0)
		machine_parse_resolv(machine, (char *)text.data);
	buf_free(&text);
	if (machine->dns_count == 0)
		log_warn("no nameserver in %s: only URLs with addresses can be "
			 "reached",
		    RESOLV_CONF);
}

static int
open_programs(struct machine *machine, const char *libexec)
{
	for (size_t r = 0; r < ROLES; r++) {
		char *path = machine->program_paths[r];

		(void)snprintf(path, sizeof(machine->program_paths[r]), "%s/%s",
		    libexec, roles[r].program);
		machine->program_fds[r] = open(path, O_PATH | O_CLOEXEC);
		if (machine->program_fds[r] < 0) {
			log_error("program %s: %s", path, strerror(errno));
			return KMS_ESYS;
		}
	}
	return 0;
}

static int
open_identity(struct machine *machine)
{
	const char *path = conf_identity_file(machine->conf);

	if (path == NULL)
		return 0;
	machine->identity_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (machine->identity_fd >= 0)
		return 0;
	log_error("identity: %s: %s", path, strerror(errno));
	return KMS_ESYS;
}

/* Whether path is a directory of root's that nobody else can fill. */
static int
is_safe_directory(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == 0 &&
	    (st.st_mode & 022) == 0;
}

/*
 * An empty directory of root's. The usual one stays, as sshd's does: another
 * kmsd may need it. Where there is no /run, one is made for this run.
 */
static int
make_chroot(struct machine *machine)
{
	const char *configured = conf_text(machine->conf, CONF_CHROOT);
	size_t size = sizeof(machine->chroot);

	(void)snprintf(machine->chroot, size, "%s",
	    *configured != '\0' ? configured : RUN_EMPTY);
	if (*configured != '\0')
		return 0;
	if ((mkdir(RUN_EMPTY, 0555) == 0 || errno == EEXIST) &&
	    is_safe_directory(RUN_EMPTY))
		return 0;
	(void)snprintf(machine->chroot, size, "/tmp/kms-empty.XXXXXX");
	machine->chroot_made = mkdtemp(machine->chroot) != NULL;
	if (machine->chroot_made && chmod(machine->chroot, 0555) == 0)
		return 0;
	log_error("chroot: making an empty directory: %s", strerror(errno));
	return KMS_ESYS;
}

static int
find_users(struct machine *machine)
{
	for (unsigned int r = 0; r < ROLES; r++) {
		if (conf_user(machine->conf, (enum role)r, &machine->uids[r],
			&machine->gids[r]) != 0) {
			log_error("no user for %s", roles[r].label);
			return KMS_ESYS;
		}
	}
	return 0;
}

static int
open_audit(struct machine *machine)
{
	const char *path = conf_text(machine->conf, CONF_AUDIT_FILE);

	return *path != '\0' ? audit_file_open(&machine->audit, path) : 0;
}

static int
open_sockets(struct machine *machine)
{
	const char *text = conf_text(machine->conf, CONF_METRICS_LISTEN);
	const char *control = conf_text(machine->conf, CONF_CONTROL_SOCKET);

	if (*control != '\0') {
		machine->control_fd = control_bind(control);
		if (machine->control_fd < 0)
			return KMS_ESYS;
	}
	machine->listen_fd = listen_bind(conf_text(machine->conf, CONF_LISTEN));
	if (machine->listen_fd < 0)
		return KMS_ESYS;
	if (*text == '\0')
		return 0;
	machine->metrics_fd = listen_bind(text);
	return machine->metrics_fd < 0 ? KMS_ESYS : 0;
}

int
machine_prepare(
    struct machine *machine, const struct conf *conf, const char *libexec)
{
	int error;

	memset(machine, 0, sizeof(*machine));
	machine->conf = conf;
	machine->root = geteuid() == 0;
	machine->listen_fd = machine->metrics_fd = machine->identity_fd = -1;
	machine->control_fd = -1;
	machine->audit.fd = -1;
	for (size_t r = 0; r < ROLES; r++)
		machine->program_fds[r] = -1;
	buf_init(&machine->ca_bundle, CA_BUNDLE_MAX);
	machine->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (machine->null_fd < 0) {
		log_error("/dev/null: %s", strerror(errno));
		return KMS_ESYS;
	}
	if (read_file(CA_BUNDLE, &machine->ca_bundle) != 0)
		log_warn("%s: %s: no https URL can be reached", CA_BUNDLE,
		    strerror(errno));
	read_resolv(machine);
	error = open_programs(machine, libexec);
	if (error == 0)
		error = open_identity(machine);
	if (error == 0 && machine->root)
		error = find_users(machine);
	if (error == 0 && machine->root)
		error = make_chroot(machine);
	return error;
}

int
machine_open(
    struct machine *machine, const struct conf *conf, const char *libexec)
{
	int error = machine_prepare(machine, conf, libexec);

	if (error == 0)
		error = open_audit(machine);
	return error == 0 ? open_sockets(machine) : error;
}

static void
close_if_open(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

void
machine_free(struct machine *machine)
{
	if (machine->chroot_made)
		(void)rmdir(machine->chroot);
	for (size_t r = 0; r < ROLES; r++)
		close_if_open(machine->program_fds[r]);
	close_if_open(machine->listen_fd);
	close_if_open(machine->metrics_fd);
	close_if_open(machine->identity_fd);
	close_if_open(machine->control_fd);
	close_if_open(machine->null_fd);
	audit_file_close(&machine->audit);
	buf_free(&machine->ca_bundle);
}
