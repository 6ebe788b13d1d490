#include "regress/tools/simchain_rpc.h"

#include <jansson.h>
#include <string.h>

#include "common/err.h"
#include "regress/tools/simchain_method.h"

/* xorshift64*: rates need no more. */
static bool
happens(struct simchain_rpc *rpc, double rate)
{
	uint64_t x = rpc->random | 1;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	rpc->random = x;
	return (double)(x * 0x2545f4914f6cdd1dULL >> 11) * 0x1p-53 < rate;
}

static bool
is_control(const json_t *request)
{
	const char *name =
	    json_string_value(json_object_get(request, "method"));

	return name != NULL && strncmp(name, "sim_", 4) == 0;
}

static bool
all_control(const json_t *root)
{
	if (!json_is_array(root))
		return is_control(root);
	for (size_t i = 0; i < json_array_size(root); i++)
		if (!is_control(json_array_get(root, i)))
			return false;
	return true;
}

static json_t *
dispatch(struct simchain_call *call, json_t *request)
{
	const char *name =
	    json_string_value(json_object_get(request, "method"));
	const json_t *id = json_object_get(request, "id");
	const struct simchain_method *method;

	call->params = json_object_get(request, "params");
	if (name == NULL || json_is_object(id) || json_is_array(id) ||
	    (call->params != NULL && !json_is_array(call->params) &&
		!json_is_object(call->params)))
		return simchain_call_error(
		    call, SIMCHAIN_REQUEST, "invalid request");
	if (!is_control(request) &&
	    happens(call->rpc, call->rpc->faults.error_rate))
		return simchain_call_error(
		    call, SIMCHAIN_SERVER, "simulated fault");
	method = simchain_method_find(name);
	if (method == NULL)
		return simchain_call_error(call, SIMCHAIN_METHOD,
		    "the method %.80s does not exist", name);
	return method->handle(call);
}

static json_t *
answer_error(json_t *id, int code, const char *message, json_t *data)
{
	json_t *error =
	    json_pack("{s:i, s:s}", "code", code, "message", message);

	if (data != NULL)
		(void)json_object_set_new(error, "data", data);
	return json_pack(
	    "{s:s, s:O?, s:o}", "jsonrpc", "2.0", "id", id, "error", error);
}

static json_t *
answer_one(struct simchain_rpc *rpc, json_t *request, int64_t wall_s)
{
	struct simchain_call call = {
		.rpc = rpc, .sim = rpc->sim, .wall_s = wall_s
	};
	json_t *id = json_object_get(request, "id");
	json_t *result = dispatch(&call, request);

	if (result != NULL)
		return json_pack("{s:s, s:O?, s:o}", "jsonrpc", "2.0", "id", id,
		    "result", result);
	if (call.code == 0)
		(void)simchain_call_error(
		    &call, SIMCHAIN_INTERNAL, "out of memory");
	if (json_is_object(id) || json_is_array(id))
		id = NULL;
	return answer_error(id, call.code, call.message, call.data);
}

static json_t *
answer_batch(struct simchain_rpc *rpc, json_t *root, int64_t wall_s)
{
	json_t *answers;

	if (json_array_size(root) == 0 ||
	    json_array_size(root) > SIMCHAIN_BATCH_MAX)
		return answer_error(NULL, SIMCHAIN_REQUEST,
		    "expected a batch of 1 to 100 requests", NULL);
	answers = json_array();
	for (size_t i = 0; i < json_array_size(root); i++)
		(void)json_array_append_new(
		    answers, answer_one(rpc, json_array_get(root, i), wall_s));
	return answers;
}

static int
append_text(const char *text, size_t len, void *arg)
{
	return buf_append(arg, text, len);
}

int
simchain_rpc_answer(struct simchain_rpc *rpc, const char *text, size_t len,
    int64_t wall_s, struct buf *out, uint64_t *delay_ms)
{
	json_t *root = json_loadb(
	    text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	bool spared = all_control(root);
	json_t *answer = NULL;
	int error = 0;

	*delay_ms = spared ? 0 : rpc->faults.latency_ms;
	if (!spared && rpc->faults.stall)
		error = KMS_EAGAIN;
	else if (!spared && happens(rpc, rpc->faults.drop_rate))
		error = KMS_ECLOSED;
	else if (root == NULL)
		answer =
		    answer_error(NULL, SIMCHAIN_PARSE, "parse error", NULL);
	else if (json_is_array(root))
		answer = answer_batch(rpc, root, wall_s);
	else
		answer = answer_one(rpc, root, wall_s);
	if (error == 0 &&
	    json_dump_callback(answer, append_text, out, JSON_COMPACT) != 0)
		error = KMS_ENOMEM;
	json_decref(answer);
	json_decref(root);
	return error;
}
