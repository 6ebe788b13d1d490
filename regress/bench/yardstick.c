/*
 * The yardstick of GET /nonce: a bare libuv server that parses nothing and
 * answers every read with the same bytes, as long as the node's answer is.
 * `yardstick LENGTH` listens on a free port of 127.0.0.1 and prints it.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define HEAD "HTTP/1.1 200 OK\r\nContent-Length: "
#define BODY "{\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAA==\"}"

struct client {
	uv_tcp_t tcp;
	uv_write_t write;
};

static char answer[4096], input[65536];
static unsigned int answer_len;

static void
on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void
on_written(uv_write_t *request, int status)
{
	(void)request;
	(void)status;
}

static void
on_buffer(uv_handle_t *handle, size_t wanted, uv_buf_t *buf)
{
	(void)handle;
	(void)wanted;
	*buf = uv_buf_init(input, sizeof(input));
}

static void
on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
	struct client *client = stream->data;
	uv_buf_t out = uv_buf_init(answer, answer_len);

	(void)buf;
	if (got < 0)
		uv_close((uv_handle_t *)stream, on_closed);
	else if (got > 0)
		(void)uv_write(&client->write, stream, &out, 1, on_written);
}

static void
on_connection(uv_stream_t *server, int status)
{
	struct client *client = calloc(1, sizeof(*client));

	if (status < 0 || client == NULL)
		exit(1);
	client->tcp.data = client;
	(void)uv_tcp_init(server->loop, &client->tcp);
	if (uv_accept(server, (uv_stream_t *)&client->tcp) != 0)
		exit(1);
	(void)uv_tcp_nodelay(&client->tcp, 1);
	(void)uv_read_start((uv_stream_t *)&client->tcp, on_buffer, on_read);
}

/* An answer of exactly len bytes: a head that is filled up, and a body. */
static int
make_answer(unsigned long len)
{
	int head = snprintf(
	    answer, sizeof(answer), HEAD "%zu\r\nX-Fill: ", sizeof(BODY) - 1);
	size_t most = sizeof(answer) - 1, end = sizeof(BODY) - 1 + 4;

	if (len > most || len < (size_t)head + end)
		return -1;
	memset(answer + head, 'x', len - end - (size_t)head);
	memcpy(answer + len - end, "\r\n\r\n" BODY, end);
	answer_len = (unsigned int)len;
	return 0;
}

int
main(int argc, char **argv)
{
	uv_loop_t *loop = uv_default_loop();
	struct sockaddr_in address;
	int len = sizeof(address);
	uv_tcp_t server;

	if (argc != 2 || make_answer(strtoul(argv[1], NULL, 10)) != 0) {
		(void)fprintf(stderr, "usage: yardstick LENGTH\n");
		return 1;
	}
	if (uv_ip4_addr("127.0.0.1", 0, &address) != 0 ||
	    uv_tcp_init(loop, &server) != 0 ||
	    uv_tcp_bind(&server, (const struct sockaddr *)&address, 0) != 0 ||
	    uv_listen((uv_stream_t *)&server, 256, on_connection) != 0 ||
	    uv_tcp_getsockname(&server, (struct sockaddr *)&address, &len) != 0)
		return 1;
	(void)printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
	(void)fflush(stdout);
	return uv_run(loop, UV_RUN_DEFAULT);
}
