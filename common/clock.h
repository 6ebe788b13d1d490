/*
 * The two clocks. Pure modules never read them: they are handed a
 * struct kms_time by their caller, so that a simulator can replay them.
 */
#ifndef KMS_COMMON_CLOCK_H
#define KMS_COMMON_CLOCK_H

#include <stdint.h>

struct kms_time {
	int64_t wall_ms; /* milliseconds since 1970, CLOCK_REALTIME */
	int64_t boot_ms; /* milliseconds since boot, also while suspended
			    (CLOCK_BOOTTIME): every age and timeout */
};

/* Read both clocks now. Cannot fail on a supported kernel. */
struct kms_time clock_now(void);

#endif
