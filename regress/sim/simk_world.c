/* Chance, events, and their order. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "kms-keeper/siphash.h"
#include "regress/sim/simk.h"

/* ---- chance -------------------------------------------------------------- */

uint64_t
simk_random(struct world *world)
{
	return chance_next(&world->random);
}

uint64_t
simk_below(struct world *world, uint64_t bound)
{
	return simk_random(world) % bound;
}

bool
simk_chance(struct world *world, unsigned int per_mille)
{
	return simk_below(world, 1000) < per_mille;
}

void
simk_fill(uint64_t *state, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(chance_next(state) >> 32);
}

/* ---- words --------------------------------------------------------------- */

void
simk_fail(struct world *world, const char *format, ...)
{
	va_list args;

	if (world->reason[0] != '\0')
		return;
	va_start(args, format);
	(void)vsnprintf(world->reason, sizeof(world->reason), format, args);
	va_end(args);
}

/* What happens in the world, for who looks at one seed. */
void
simk_note(struct world *world, const char *format, ...)
{
	va_list args;

	if (!world->verbose)
		return;
	(void)printf("%8.1f s  ", (double)world->now_ms / 1000.0);
	va_start(args, format);
	(void)vprintf(format, args);
	va_end(args);
	(void)printf("\n");
}

void
simk_trace(struct world *world, const void *data, size_t len)
{
	static const uint8_t key[SIPHASH_KEY_LEN] = "simulator trace";

	world->trace = world->trace * 0x100000001b3 ^ siphash(key, data, len);
}

/* ---- events -------------------------------------------------------------- */

void
simk_push(struct world *world, struct event event)
{
	struct event *item = malloc(sizeof(*item));

	if (item == NULL)
		abort();
	*item = event;
	schedule_put(&world->schedule, event.at_ms, item);
}

static void
handle(struct world *world, struct event *event)
{
	struct node *node = &world->nodes[event->node];

	switch (event->type) {
	case EVENT_TICK:
	case EVENT_WAKE:
		simk_node_wake(world, event);
		break;
	case EVENT_QUESTION:
		simk_answer(world, event);
		break;
	case EVENT_ARRIVE:
	case EVENT_BODY:
	case EVENT_REPLY:
	case EVENT_CUT:
	case EVENT_DEADLINE:
		simk_net_event(world, event);
		break;
	case EVENT_IDENTITY:
		simk_identity_done(world, event);
		break;
	case EVENT_BLOCK:
		simk_chain_block(world);
		break;
	case EVENT_WORK:
		simk_app_work(world);
		break;
	case EVENT_FAULT:
		simk_fault(world);
		break;
	case EVENT_OWNER:
		simk_owner(world);
		break;
	case EVENT_RESTART:
		if (!node->alive && !(world->calm && node->hostile))
			simk_start(world, event->node);
		break;
	case EVENT_MIDDLE:
		simk_middle_turn(world);
		break;
	}
}

static void
event_free(struct event *event)
{
	free(event->question);
	simk_work_free(event->work);
	free(event);
}

bool
simk_step(struct world *world)
{
	struct event *event = schedule_take(&world->schedule);
	uint64_t note[3];

	if (event == NULL)
		return false;
	if (event->at_ms > world->now_ms)
		world->now_ms = event->at_ms;
	world->events++;
	note[0] = (uint64_t)event->at_ms;
	note[1] = (uint64_t)event->type << 32 | event->node;
	note[2] = event->id;
	simk_trace(world, note, sizeof(note));
	handle(world, event);
	event_free(event);
	return true;
}

void
simk_run_until(struct world *world, int64_t at_ms)
{
	while (world->reason[0] == '\0' &&
	    schedule_next_ms(&world->schedule) <= at_ms)
		(void)simk_step(world);
	if (world->now_ms < at_ms)
		world->now_ms = at_ms;
}

void
simk_world_free(struct world *world)
{
	struct event *event;

	for (unsigned int i = 0; i < PLACES_MAX; i++)
		if (world->nodes[i].alive)
			simk_crash(world, i);
	simk_net_free(world);
	simk_middle_free(world);
	simk_app_free(world);
	while ((event = schedule_take(&world->schedule)) != NULL)
		event_free(event);
	schedule_free(&world->schedule);
}
