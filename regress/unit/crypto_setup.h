/* Start and end of a test group that computes. */
#ifndef KMS_REGRESS_CRYPTO_SETUP_H
#define KMS_REGRESS_CRYPTO_SETUP_H

#include "crypto/crypto.h"

static int
crypto_setup(void **state)
{
	(void)state;
	return crypto_init();
}

static int
crypto_teardown(void **state)
{
	(void)state;
	crypto_free();
	return 0;
}

#endif
