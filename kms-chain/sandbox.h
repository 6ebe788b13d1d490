/* What kms-chain may ask of the kernel once it runs. */
#ifndef KMS_CHAIN_SANDBOX_H
#define KMS_CHAIN_SANDBOX_H

#include "common/sandbox.h"

extern const struct sandbox_profile chain_sandbox_profile;

#endif
