#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "kmsd/check.h"
#include "kmsd/conf.h"
#include "kmsd/logger.h"
#include "kmsd/machine.h"
#include "kmsd/sandbox.h"
#include "kmsd/supervise.h"

#define DEFAULT_CONF "/etc/kms/kmsd.conf"
#define FIRST_FD 3
/* Descriptors of kms-net beside its connections; memory a child may lock. */
#define FILES_BESIDE 1024
#define MEMLOCK_WANTED (8 * 1024 * 1024)

struct options {
	const char *conf_path;
	const char *libexec; /* NULL: found beside this program */
	int notify_fd;	     /* -1: none */
	int has_path;
	int test; /* 1: -t, 2: -tt */
	int dump;
	int verbose;
};

static void __attribute__((noreturn)) usage(void)
{
	(void)fprintf(stderr,
	    "usage: kmsd [-t | -tt | -T] [-v] [-f kmsd.conf] [-l directory] "
	    "[-n fd]\n");
	exit(2);
}

/* An open descriptor beyond the standard ones. */
static int
parse_fd(const char *text)
{
	char *end;
	long fd = strtol(text, &end, 10);

	if (end == text || *end != '\0' || fd < FIRST_FD || fd > INT_MAX ||
	    fcntl((int)fd, F_GETFD) < 0)
		usage();
	return (int)fd;
}

static void
parse_options(int argc, char **argv, struct options *options)
{
	int option;

	while ((option = getopt(argc, argv, "f:l:n:tTv")) != -1) {
		switch (option) {
		case 'f':
			options->conf_path = optarg;
			options->has_path = 1;
			break;
		case 'l':
			options->libexec = optarg;
			break;
		case 'n':
			options->notify_fd = parse_fd(optarg);
			break;
		case 't':
			options->test++;
			break;
		case 'T':
			options->dump = 1;
			break;
		case 'v':
			options->verbose = 1;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || options->test > 2 ||
	    (options->test > 0 && options->dump))
		usage();
}

/*
 * The directory of the children: this program's own (as built), else
 * ../libexec/kms beside it (as installed). Static storage.
 */
static const char *
find_libexec(void)
{
	static char path[PATH_MAX + 32];
	char probe[PATH_MAX + 64];
	ssize_t len = readlink("/proc/self/exe", path, PATH_MAX);
	char *slash;

	if (len < 0 || len == PATH_MAX)
		return ".";
	path[len] = '\0';
	slash = strrchr(path, '/');
	if (slash == NULL)
		return ".";
	*slash = '\0';
	(void)snprintf(
	    probe, sizeof(probe), "%s/%s", path, roles[ROLE_NET].program);
	if (access(probe, X_OK) != 0)
		(void)strncat(
		    path, "/../libexec/kms", sizeof(path) - strlen(path) - 1);
	return path;
}

static void
report(const char *message, void *arg)
{
	(void)arg;
	(void)fprintf(stderr, "%s\n", message);
}

/* As root, limits that a child's start needs once capabilities are gone. */
static void
raise_limit(__rlimit_resource_t resource, rlim_t wanted)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) != 0)
		return;
	if (limit.rlim_max < wanted)
		limit.rlim_max = wanted;
	if (limit.rlim_cur < wanted)
		limit.rlim_cur = wanted;
	if (setrlimit(resource, &limit) != 0 && geteuid() == 0)
		log_warn("limit: %s", strerror(errno));
}

static int
give_up_rights(const struct machine *machine)
{
	struct sandbox_settings settings = { 0 };
	char missing[SANDBOX_MISSING_LEN];
	int error;

	(void)snprintf(settings.mode, sizeof(settings.mode), "%s",
	    conf_text(machine->conf, CONF_SANDBOX));
	error = sandbox_enter(&kmsd_profile, &settings, missing);
	if (error != 0)
		log_error("start failed: sandbox: %s", missing);
	else if (missing[0] != '\0')
		log_warn("kmsd runs without: %s", missing);
	if (error == 0 && !machine->root)
		log_warn("not started as root: the processes share this user "
			 "and have no empty root directory of their own");
	return error;
}

static int
run(const struct reload *reload, const char *libexec, int test,
    struct notify *notify)
{
	const struct conf *conf = reload->conf;
	struct machine machine;
	uv_loop_t loop;
	int status = 1;

	raise_limit(RLIMIT_NOFILE,
	    (rlim_t)conf_number(conf, CONF_MAX_CONNECTIONS) + FILES_BESIDE);
	raise_limit(RLIMIT_MEMLOCK, MEMLOCK_WANTED);
	if ((test ? machine_prepare(&machine, conf, libexec)
		  : machine_open(&machine, conf, libexec)) != 0)
		goto out;
	if (uv_loop_init(&loop) != 0) {
		log_error("the event loop: %s", strerror(errno));
		goto out;
	}
	if (give_up_rights(&machine) == 0)
		status = test ? check_run(&loop, &machine, stdout)
			      : supervise_run(&loop, &machine, reload, notify);
	(void)uv_loop_close(&loop);
out:
	machine_free(&machine);
	return status;
}

/* Everything that makes the configuration; errors are on standard error. */
static void
read_conf(
    struct conf *conf, const struct options *options, struct reload *reload)
{
	reload->conf = conf;
	reload->https_proxy = getenv("https_proxy");
	reload->environment = conf_environment_copy(environ);
	reload->verbose = options->verbose;
	/* The environment may be all there is. */
	reload->may_lack =
	    !options->has_path && conf_environment_any(reload->environment);
	conf_init(conf, options->conf_path, report, NULL);
	conf_load(conf, reload->may_lack);
	conf_environment(conf, reload->environment);
	conf_finish(conf, reload->https_proxy);
	if (options->verbose)
		conf_set(conf, CONF_LOG_LEVEL, "debug");
	else if (options->test == 2)
		conf_set(conf, CONF_LOG_LEVEL, "error");
	if (!options->dump)
		conf_check_machine(conf, options->libexec);
}

int
main(int argc, char **argv)
{
	struct options options = { .conf_path = DEFAULT_CONF, .notify_fd = -1 };
	enum log_level level = LOG_LEVEL_INFO;
	static struct conf conf;
	static struct reload reload;
	static struct notify notify;
	int status;

	parse_options(argc, argv, &options);
	if (options.libexec == NULL)
		options.libexec = find_libexec();
	read_conf(&conf, &options, &reload);
	if (conf.errors > 0)
		return 1;
	if (options.dump)
		conf_dump(&conf, stdout);
	if (options.dump || options.test == 1)
		return 0;

	(void)log_level_parse(conf_text(&conf, CONF_LOG_LEVEL), &level);
	logger_init(conf_is(&conf, CONF_LOG_FORMAT, "json"), level);
	if (notify_keep(&notify, options.notify_fd, FIRST_FD) != 0 ||
	    sandbox_prepare(FIRST_FD + (options.notify_fd >= 0)) != 0)
		return 1;
	notify_connect(&notify);
	status = run(&reload, options.libexec, options.test == 2, &notify);
	conf_free(&conf);
	/* Not exit: what a library would do then, the filter forbids. */
	_exit(status);
}
