#include "kms-chain/trust.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include "common/err.h"

/* Reading ends where no further certificate begins, and nowhere else. */
static int
add_all(X509_STORE *store, BIO *text)
{
	X509 *certificate;
	unsigned long last;
	int added = 1;

	while (added == 1 &&
	    (certificate = PEM_read_bio_X509(text, NULL, NULL, NULL)) != NULL) {
		added = X509_STORE_add_cert(store, certificate);
		X509_free(certificate);
	}
	last = ERR_peek_last_error();
	ERR_clear_error();
	return added == 1 && ERR_GET_LIB(last) == ERR_LIB_PEM &&
		ERR_GET_REASON(last) == PEM_R_NO_START_LINE
	    ? 0
	    : KMS_EINVAL;
}

int
trust_read(const uint8_t *text, size_t len, X509_STORE **out)
{
	X509_STORE *store = X509_STORE_new();
	BIO *bio = NULL;
	int error = 0;

	*out = NULL;
	if (store == NULL)
		return KMS_ENOMEM;
	if (len > INT_MAX) {
		error = KMS_EINVAL;
	} else if (len > 0) {
		bio = BIO_new_mem_buf(text, (int)len);
		error = bio != NULL ? add_all(store, bio) : KMS_ENOMEM;
	}
	BIO_free(bio);
	if (error != 0) {
		X509_STORE_free(store);
		return error;
	}
	*out = store;
	return 0;
}
