/*
 * A development chain: the two registries of PROTOCOL.md section 6 behind
 * JSON-RPC, from a JSON file (ARCHITECTURE.md, "Simulation and devnet").
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <jansson.h>
#include <uv.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/log.h"
#include "crypto/crypto.h"
#include "regress/tools/simchain_file.h"
#include "regress/tools/simchain_http.h"
#include "regress/tools/simchain_rpc.h"

static const char usage[] =
    "usage: simchain [--listen HOST:PORT] [--block-time SECONDS]\n"
    "                [--state-out FILE] FILE.json\n"
    "  --listen      a numeric address, 127.0.0.1:18545 if not given; port 0\n"
    "                chooses a free one\n"
    "  --block-time  between blocks, 2 if not given; 0: only sim_mine and\n"
    "                changes make blocks\n"
    "  --state-out   where to write the state at the end\n";

struct program {
	const char *listen;
	const char *state_in;
	const char *state_out;
	uint64_t block_ms;

	uv_loop_t loop;
	uv_timer_t blocks;
	uv_signal_t interrupt;
	uv_signal_t terminate;
	struct simchain_rpc rpc;
	struct wallet_context *wallets;
	struct simchain_http *http;
};

static int
parse_block_time(const char *text, uint64_t *ms)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' || !(seconds >= 0) ||
	    !(seconds <= 86400))
		return KMS_EINVAL;
	*ms = (uint64_t)(seconds * 1000);
	return 0;
}

static int
parse_options(struct program *p, int argc, char **argv)
{
	static const struct option options[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "block-time", required_argument, NULL, 'b' },
		{ "state-out", required_argument, NULL, 'o' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			p->listen = optarg;
		else if (option == 'o')
			p->state_out = optarg;
		else if (option == 'h') {
			(void)fputs(usage, stdout);
			exit(0);
		} else if (option != 'b' ||
		    parse_block_time(optarg, &p->block_ms) != 0)
			return KMS_EINVAL;
	}
	if (optind != argc - 1)
		return KMS_EINVAL;
	p->state_in = argv[optind];
	return 0;
}

static int
load_state(struct program *p)
{
	char reason[SIMCHAIN_ERROR_MAX];
	json_error_t syntax;
	json_t *root =
	    json_load_file(p->state_in, JSON_REJECT_DUPLICATES, &syntax);
	int64_t now = clock_now().wall_ms / 1000;
	int error;

	if (root == NULL) {
		log_error("%s:%d: %s", p->state_in, syntax.line, syntax.text);
		return KMS_EINVAL;
	}
	error = simchain_file_load(root, &p->rpc.sim, reason);
	json_decref(root);
	if (error != 0) {
		log_error("%s: %s", p->state_in, reason);
		return error;
	}
	sim_mine(p->rpc.sim, 2, now); /* the file's, and one to stand on */
	return 0;
}

static int
save_state(struct program *p)
{
	json_t *dump;
	int error = 0;

	if (p->state_out == NULL)
		return 0;
	dump = simchain_file_dump(p->rpc.sim);
	if (dump == NULL || json_dump_file(dump, p->state_out, JSON_INDENT(1)))
		error = KMS_ESYS;
	json_decref(dump);
	if (error != 0)
		log_error("%s: %s", p->state_out, strerror(errno));
	return error;
}

static int
start_crypto(struct program *p)
{
	uint8_t seed[32];

	if (crypto_init() != 0 ||
	    getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return KMS_ECRYPTO;
	p->wallets = wallet_context_new(seed);
	p->rpc.wallets = p->wallets;
	memcpy(&p->rpc.random, seed, sizeof(p->rpc.random));
	return p->wallets != NULL ? 0 : KMS_ENOMEM;
}

static void
on_block_time(uv_timer_t *timer)
{
	struct program *p = timer->data;

	if (!p->rpc.faults.freeze_head)
		sim_mine(p->rpc.sim, 1, clock_now().wall_ms / 1000);
}

static void
close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void
stop(struct program *p)
{
	simchain_http_stop(p->http);
	close_handle((uv_handle_t *)&p->blocks, NULL);
	close_handle((uv_handle_t *)&p->interrupt, NULL);
	close_handle((uv_handle_t *)&p->terminate, NULL);
}

static void
on_signal(uv_signal_t *handle, int number)
{
	(void)number;
	stop(handle->data);
}

static void
start_handles(struct program *p)
{
	(void)uv_loop_init(&p->loop);
	(void)uv_timer_init(&p->loop, &p->blocks);
	(void)uv_signal_init(&p->loop, &p->interrupt);
	(void)uv_signal_init(&p->loop, &p->terminate);
	p->blocks.data = p->interrupt.data = p->terminate.data = p;
	(void)uv_signal_start(&p->interrupt, on_signal, SIGINT);
	(void)uv_signal_start(&p->terminate, on_signal, SIGTERM);
	if (p->block_ms > 0)
		(void)uv_timer_start(
		    &p->blocks, on_block_time, p->block_ms, p->block_ms);
}

static int
start_http(struct program *p)
{
	char url[96];
	int error = simchain_http_start(
	    &p->loop, &p->rpc, p->listen, url, sizeof(url), &p->http);

	if (error == KMS_EINVAL)
		log_error("--listen: expected HOST:PORT with a numeric host, "
			  "got %.100s",
		    p->listen);
	else if (error != 0)
		log_error("%s: %s", p->listen, strerror(errno));
	else {
		(void)printf(
		    "simchain: listening on %s, chain id %llu, block %llu\n",
		    url, (unsigned long long)sim_config(p->rpc.sim)->chain_id,
		    (unsigned long long)sim_head(p->rpc.sim));
		(void)fflush(stdout);
	}
	return error;
}

static int
run(struct program *p)
{
	int error;

	start_handles(p);
	error = start_http(p);
	if (error != 0)
		stop(p);
	(void)uv_run(&p->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&p->loop);
	simchain_http_free(p->http);
	return error;
}

int
main(int argc, char **argv)
{
	struct program p = { .listen = "127.0.0.1:18545", .block_ms = 2000 };
	int error;

	log_init_tool("simchain", LOG_LEVEL_INFO);
	if (parse_options(&p, argc, argv) != 0) {
		(void)fputs(usage, stderr);
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	error = start_crypto(&p);
	if (error != 0)
		log_error("cryptography: %s", kms_strerror(error));
	if (error == 0)
		error = load_state(&p);
	if (error == 0)
		error = run(&p);
	if (error == 0)
		error = save_state(&p);
	sim_free(p.rpc.sim);
	wallet_context_free(p.wallets);
	crypto_free();
	return error == 0 ? 0 : 1;
}
