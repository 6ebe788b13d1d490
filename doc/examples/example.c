/*
 * An app that keeps its keys in the KMS, on libkmsclient (kmsclient(3)), which
 * does all that doc/guide-apps.md explains. Compile with
 *
 *	cc -o example example.c $(pkg-config --cflags --libs kmsclient)
 *
 * Exit status: enum kms_client_result, as kmsctl(1) has it.
 */
#include <kmsclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ATTEMPTS 3 /* of a call that is answered with "later" */

/* Whether a call is worth another attempt, after a moment. */
static int
later(int result, int *attempt)
{
	if (result != KMS_CLIENT_UNAVAILABLE || ++*attempt == ATTEMPTS)
		return 0;
	sleep((unsigned int)*attempt);
	return 1;
}

static int
derive(struct kms_client *kms, uint8_t key[32])
{
	int attempt = 0, result;

	do
		result =
		    kms_client_derive(kms, "example/wallet", NULL, key, 32);
	while (later(result, &attempt));
	return result;
}

static int
get(struct kms_client *kms, struct kms_client_value *value)
{
	int attempt = 0, result;

	do
		result = kms_client_get(kms, "example/greeting", value);
	while (later(result, &attempt));
	return result;
}

static int
put(struct kms_client *kms, const char *value)
{
	int attempt = 0, result;

	do
		result = kms_client_put(kms, "example/greeting", value,
		    strlen(value), 600000, 0, NULL);
	while (later(result, &attempt));
	return result;
}

/*
 * Only KMS_CLIENT_NOT_FOUND means that there is none. KMS_CLIENT_EVICTED does
 * not: there was a value, and to write another over it would lose it.
 */
static int
greeting(struct kms_client *kms)
{
	struct kms_client_value value;
	int result;

	result = get(kms, &value);
	if (result == KMS_CLIENT_OK) {
		kms_client_value_free(&value);
		puts("example/greeting is there");
	} else if (result == KMS_CLIENT_NOT_FOUND) {
		if ((result = put(kms, "hello")) != KMS_CLIENT_OK)
			return result;
		puts("example/greeting was not there; stored it");
	} else {
		return result;
	}
	if ((result = get(kms, &value)) != KMS_CLIENT_OK)
		return result;
	printf("example/greeting: %.*s\n", (int)value.len,
	    (const char *)value.data);
	kms_client_value_free(&value);
	result = kms_client_delete(kms, "example/greeting", 0, NULL);
	if (result != KMS_CLIENT_OK)
		return result;
	result = get(kms, &value);
	if (result != KMS_CLIENT_NOT_FOUND)
		return result;
	puts("example/greeting is deleted");
	return KMS_CLIENT_OK;
}

static int
use(struct kms_client *kms)
{
	struct kms_client_node node;
	uint8_t key[32];
	int result;

	/* Done by the first call at the latest; here to say who it is. */
	if ((result = kms_client_confirm(kms, &node)) != KMS_CLIENT_OK)
		return result;
	printf("node %s is instance %llu of app %llu\n", node.wallet,
	    (unsigned long long)node.instance_id,
	    (unsigned long long)node.app_id);

	/* The same bytes from every node, today and next year. */
	if ((result = derive(kms, key)) != KMS_CLIENT_OK)
		return result;
	printf("derived example/wallet: %zu bytes\n", sizeof(key));
	explicit_bzero(key, sizeof(key));
	return greeting(kms);
}

int
main(void)
{
	/* What is not set is the simulation's. */
	struct kms_client_options options = { .node_url = getenv("KMS_NODE"),
		.rpc_url = getenv("KMS_RPC"),
		.identity_file = getenv("KMS_IDENTITY"),
		.nova_app_registry = getenv("KMS_NOVA_APP_REGISTRY"),
		.kms_registry = getenv("KMS_REGISTRY") };
	char reason[KMS_CLIENT_REASON_LEN];
	struct kms_client *kms;
	int result;

	if (options.identity_file == NULL)
		options.identity_file = "kms-identity.json";
	result = kms_client_open(&options, &kms, reason);
	if (result != KMS_CLIENT_OK) {
		fprintf(stderr, "example: %s\n", reason);
		return result;
	}
	result = use(kms);
	if (result != KMS_CLIENT_OK)
		fprintf(stderr, "example: %s\n", kms_client_reason(kms));
	kms_client_close(kms);
	return result;
}
