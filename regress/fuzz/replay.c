/*
 * Runs a fuzz target over the files named, without libFuzzer: what was once
 * found, or is worth trying, is tried in every run of the tests.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(INPUT_MAX);
	uint8_t *exact = NULL;
	size_t len = 0;
	int error = 1;

	if (file == NULL || data == NULL)
		goto out;
	len = fread(data, 1, INPUT_MAX, file);
	/* Of exactly its size, so that the sanitizer sees one byte more. */
	exact = malloc(len > 0 ? len : 1);
	if (exact == NULL)
		goto out;
	for (size_t i = 0; i < len; i++)
		exact[i] = data[i];
	(void)LLVMFuzzerTestOneInput(exact, len);
	error = 0;
out:
	if (error != 0)
		fprintf(stderr, "cannot read %s\n", path);
	if (file != NULL)
		(void)fclose(file);
	free(data);
	free(exact);
	return error;
}

int
main(int argc, char **argv)
{
	int failed = argc < 2;

	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]);
	printf("%d inputs\n", argc - 1);
	return failed;
}
