#include "kmsctl/client.h"

#include <string.h>
#include <strings.h>

#include "common/err.h"

#define CONNECT_TIMEOUT_MS 5000L

int
client_http_init(struct client_http *http)
{
	http->error[0] = '\0';
	http->curl = curl_easy_init();
	return http->curl != NULL ? 0 : KMS_ENOMEM;
}

void
client_http_free(struct client_http *http)
{
	if (http->curl != NULL)
		curl_easy_cleanup(http->curl);
	http->curl = NULL;
}

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
	struct client_answer *answer = arg;

	return buf_append(&answer->body, data, size * count) == 0 ? size * count
								  : 0;
}

/* Copy a header's value into out; a second one or a long one is remembered. */
static void
header_take(struct client_answer *answer, char out[CLIENT_HEADER_MAX],
    const char *value, size_t len)
{
	while (len > 0 && (*value == ' ' || *value == '\t')) {
		value++;
		len--;
	}
	while (len > 0 && strchr(" \t\r\n", value[len - 1]) != NULL)
		len--;
	if (out[0] != '\0' || len >= CLIENT_HEADER_MAX ||
	    memchr(value, '\0', len) != NULL) {
		answer->repeated = true;
		return;
	}
	memcpy(out, value, len);
	out[len] = '\0';
}

static size_t
take_header(char *data, size_t size, size_t count, void *arg)
{
	struct client_answer *answer = arg;
	size_t len = size * count, i;
	const struct {
		const char *name;
		char *out;
	} rows[] = {
		{ "X-KMS-Response-Signature:", answer->signature },
		{ "X-KMS-Response-Signature-V2:", answer->signature_v2 },
		{ "X-KMS-Next-Nonce:", answer->next_nonce },
	};

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = strlen(rows[i].name);

		if (len >= n && strncasecmp(data, rows[i].name, n) == 0)
			header_take(answer, rows[i].out, data + n, len - n);
	}
	return len;
}

/*
 * Reset keeps connections and drops everything else, so that no request
 * inherits from the one before.
 */
static int
request_set(struct client_http *http, const struct client_http_request *request,
    struct client_answer *answer)
{
	CURL *curl = http->curl;
	int bad = 0;

	curl_easy_reset(curl);
#define SET(option, value) bad |= curl_easy_setopt(curl, option, value) != 0
	SET(CURLOPT_ERRORBUFFER, http->error);
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	SET(CURLOPT_TIMEOUT_MS, request->timeout_ms);
	SET(CURLOPT_USERAGENT, "kmsclient");
	SET(CURLOPT_HTTPHEADER, request->headers);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, answer);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, answer);
	if (request->direct)
		SET(CURLOPT_PROXY, "");
	if (request->body != NULL) {
		SET(CURLOPT_POSTFIELDS, (const char *)request->body->data);
		SET(CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)request->body->len);
	}
	SET(CURLOPT_CUSTOMREQUEST, request->method);
#undef SET
	return bad ? KMS_ENOMEM : 0;
}

int
client_http_perform(struct client_http *http,
    const struct client_http_request *request, struct client_answer *answer)
{
	CURLcode code;
	long status = 0;

	client_answer_free(answer);
	http->error[0] = '\0';
	if (request_set(http, request, answer) != 0)
		return KMS_ENOMEM;
	code = curl_easy_perform(http->curl);
	if (code == CURLE_WRITE_ERROR)
		return KMS_ETOOBIG;
	if (code != CURLE_OK) {
		if (http->error[0] == '\0')
			strncpy(http->error, curl_easy_strerror(code),
			    sizeof(http->error) - 1);
		return KMS_EUNAVAIL;
	}
	curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 599)
		return KMS_EPROTO;
	answer->status = (unsigned int)status;
	return 0;
}
