/* What kms-net may do once it runs. */
#ifndef KMS_NET_SANDBOX_H
#define KMS_NET_SANDBOX_H

#include "common/sandbox.h"

/* The profile, with room for max_connections descriptors. */
void sandbox_profile_net(
    struct sandbox_profile *profile, uint64_t max_connections);

#endif
