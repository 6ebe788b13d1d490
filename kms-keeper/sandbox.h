/* What kms-keeper may still call once it runs. */
#ifndef KMS_KEEPER_SANDBOX_H
#define KMS_KEEPER_SANDBOX_H

#include "common/sandbox.h"

extern const struct sandbox_profile keeper_sandbox;

#endif
