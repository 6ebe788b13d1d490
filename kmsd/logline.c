#include "kmsd/logline.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define END_MAX 3 /* "}, and the newline */

struct out {
	char *p;
	size_t len;
	size_t max;
};

static void
put(struct out *out, const char *text, size_t len)
{
	if (len > out->max - out->len) {
		out->max = out->len; /* nothing follows a gap */
		return;
	}
	memcpy(out->p + out->len, text, len);
	out->len += len;
}

static void
put_text(struct out *out, const char *text)
{
	put(out, text, strlen(text));
}

/* \xNN in text; \u00NN in JSON, which also escapes its quotes. */
static void
put_escaped(struct out *out, const char *text, size_t len, int json)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		char escape[8];

		if (c == '\\' || (json && c == '"')) {
			escape[0] = '\\';
			escape[1] = (char)c;
			put(out, escape, 2);
		} else if (c >= 0x20 && c < 0x7f) {
			put(out, &text[i], 1);
		} else {
			(void)snprintf(escape, sizeof(escape),
			    json ? "\\u%04x" : "\\x%02x", c);
			put_text(out, escape);
		}
	}
}

static void
format_time(int64_t wall_ms, char out[32])
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm tm = { 0 };
	size_t len;

	(void)gmtime_r(&seconds, &tm);
	len = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(out + len, 32 - len, ".%03dZ", (int)(wall_ms % 1000));
}

#define REQUEST "request "
#define REQUEST_ID_LEN 16
#define REQUEST_LEN (sizeof(REQUEST) - 1 + REQUEST_ID_LEN + 2) /* ": " */

/* The id of LOG_REQUEST at a line's beginning, or NULL. */
static const char *
request_id(const char *text, size_t len)
{
	const char *id = text + sizeof(REQUEST) - 1;

	if (len < REQUEST_LEN ||
	    memcmp(text, REQUEST, sizeof(REQUEST) - 1) != 0 ||
	    memcmp(id + REQUEST_ID_LEN, ": ", 2) != 0)
		return NULL;
	for (size_t i = 0; i < REQUEST_ID_LEN; i++) {
		if (strchr("0123456789abcdef", id[i]) == NULL || id[i] == '\0')
			return NULL;
	}
	return id;
}

size_t
logline_format(const struct logline *line, int json, char buffer[LOGLINE_MAX])
{
	struct out out = { buffer, 0, LOGLINE_MAX - END_MAX };
	const char *level = log_level_name(line->level);
	char when[32], head[256];
	size_t len = line->len < LOG_LINE_MAX ? line->len : LOG_LINE_MAX;
	const char *text = line->text;
	const char *id = json ? request_id(text, len) : NULL;

	format_time(line->wall_ms, when);
	if (json)
		(void)snprintf(head, sizeof(head),
		    "{\"time\":\"%s\",\"process\":\"%s\",\"pid\":%ld,"
		    "\"level\":\"%s\",%s%.*s%s\"message\":\"",
		    when, line->process, line->pid, level,
		    id != NULL ? "\"request\":\"" : "",
		    id != NULL ? REQUEST_ID_LEN : 0, id != NULL ? id : "",
		    id != NULL ? "\"," : "");
	else
		(void)snprintf(head, sizeof(head), "%s %s[%ld] %s: ", when,
		    line->process, line->pid, level);
	if (id != NULL) {
		text += REQUEST_LEN;
		len -= REQUEST_LEN;
	}
	put_text(&out, head);
	put_escaped(&out, text, len, json);
	out.max = LOGLINE_MAX - 1;
	if (json)
		put_text(&out, "\"}");
	buffer[out.len++] = '\n';
	return out.len;
}

void
logline_parse(const char *raw, size_t len, struct logline *line)
{
	line->level = LOG_LEVEL_ERROR;
	if (len >= 2 && raw[0] >= '0' && raw[0] <= '3' && raw[1] == ' ') {
		line->level = (enum log_level)(raw[0] - '0');
		raw += 2;
		len -= 2;
	}
	line->text = raw;
	line->len = len;
}

int
logline_admit(struct logline_rate *rate, int64_t boot_ms)
{
	if (boot_ms > rate->last_ms) {
		int64_t earned = boot_ms - rate->last_ms;

		if (earned > INT32_MAX)
			earned = INT32_MAX;
		rate->spent -= earned * LOGLINE_PER_SECOND;
		if (rate->spent < 0)
			rate->spent = 0;
		rate->last_ms = boot_ms;
	}
	if (rate->spent + 1000 > LOGLINE_BURST * 1000) {
		rate->dropped++;
		return 0;
	}
	rate->spent += 1000;
	return 1;
}
