/* kmsd's own profile. */
#ifndef KMS_KMSD_SANDBOX_H
#define KMS_KMSD_SANDBOX_H

#include "common/sandbox.h"

extern const struct sandbox_profile kmsd_profile;

#endif
