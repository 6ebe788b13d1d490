#include "common/clock.h"

#include <time.h>

static int64_t
read_ms(clockid_t id)
{
	struct timespec ts = { 0 };

	(void)clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct kms_time
clock_now(void)
{
	return (struct kms_time){
		.wall_ms = read_ms(CLOCK_REALTIME),
		.boot_ms = read_ms(CLOCK_BOOTTIME),
	};
}
