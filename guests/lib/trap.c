#include "guests/lib/trap.h"

#include "guests/lib/desc.h"
#include "guests/lib/irq.h"

extern const uint64_t trap_stubs[256];
void trap_handle(struct trap_frame *frame);
void user_enter(void (*code)(void), void *stack_top);

struct fault fault;
struct jump_buffer fault_jump;
volatile unsigned trap_count[256];
volatile uint64_t trap_rip;
volatile bool trap_debug_counted;
void (*volatile trap_hook)(uint64_t vector);

static bool armed;
static void (*unexpected)(const struct trap_frame *);
static uint8_t user_stack[4096] __attribute__((aligned(16)));

void trap_init(void)
{
    for (unsigned vector = 0; vector < 256; vector++)
        desc_set_gate(vector, trap_stubs[vector], vector == VECTOR_USER_RETURN ? 3 : 0);
}

void trap_set_unexpected(void (*handler)(const struct trap_frame *))
{
    unexpected = handler;
}

void fault_arm(void)
{
    fault = (struct fault){.vector = NO_FAULT};
    armed = true;
}

void fault_disarm(void)
{
    armed = false;
}

static bool is_interrupt(uint64_t vector)
{
    return vector == VECTOR_NMI || (vector == VECTOR_DB && trap_debug_counted) ||
           (vector >= 32 && vector != VECTOR_USER_RETURN);
}

void trap_handle(struct trap_frame *frame)
{
    if (is_interrupt(frame->vector)) {
        trap_count[frame->vector]++;
        trap_rip = frame->rip;
        if (frame->vector == IRQ_VECTOR_TIMER || frame->vector == IRQ_VECTOR_SELF)
            irq_eoi();
        if (trap_hook)
            trap_hook(frame->vector);
        return;
    }
    if (!armed) {
        unexpected(frame);
        return;
    }
    fault.vector = frame->vector == VECTOR_USER_RETURN ? NO_FAULT : (uint8_t)frame->vector;
    fault.error = (uint32_t)frame->error;
    fault.rip = frame->rip;
    asm volatile("mov %%cr2, %0" : "=r"(fault.cr2));
    jump_to(&fault_jump, 1);
}

uint8_t fault_of_user(void (*code)(void))
{
    return FAULT_OF(user_enter(code, user_stack + sizeof(user_stack)));
}
