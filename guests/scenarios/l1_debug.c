/* Single-stepping and breakpoints of L1 across instructions that exit to whoever runs it. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/scenarios/scenario.h"

#define LOG_MAX 64
#define RFLAGS_RF BIT(16)
#define DR6_BS BIT(14)
#define DR6_B0 BIT(0)
#define DR6_B1 BIT(1)
#define DR6_NONE (~0ull) /* of an entry that is a fault */
#define DR7_G0 BIT(1)
#define DR7_G1 BIT(3)
#define DR7_ACCESS0 BITS(17, 16)
#define DR7_LEN2 BIT(18)

/* For l1_debug.asm. */
struct debug_entry {
    uint64_t rip, rflags, dr6;
};
extern struct debug_entry debug_log[LOG_MAX];
extern uint32_t debug_log_count, debug_skip;
struct debug_entry debug_log[LOG_MAX];
uint32_t debug_log_count, debug_skip;
void debug_trap(void);
void debug_fault(void);

#define STEPPED(name)                                                                                                  \
    void step_##name(void);                                                                                            \
    extern const uint64_t step_##name##_points[];
STEPPED(exits)
STEPPED(io)
STEPPED(shadow)
STEPPED(fault)
extern const uint8_t step_fault_at[];
void break_code(void);
void break_data(const uint16_t *selector);
extern const uint8_t break_code_at[], break_code_end[], break_data_end[];

static uint64_t saved_db[2], saved_gp[2];

static uint64_t *gate(unsigned vector)
{
    return (uint64_t *)(desc_idt_base() + 16 * vector);
}

static void handlers_install(void)
{
    for (unsigned i = 0; i < 2; i++) {
        saved_db[i] = gate(VECTOR_DB)[i];
        saved_gp[i] = gate(VECTOR_GP)[i];
    }
    desc_set_gate(VECTOR_DB, (uint64_t)debug_trap, 0);
    desc_set_gate(VECTOR_GP, (uint64_t)debug_fault, 0);
    debug_log_count = 0;
}

static void handlers_restore(void)
{
    for (unsigned i = 0; i < 2; i++) {
        gate(VECTOR_DB)[i] = saved_db[i];
        gate(VECTOR_GP)[i] = saved_gp[i];
    }
}

/* The traps came where the points say (a list that ends with zero), no more and no less. */
static void check_points(const uint64_t *points)
{
    unsigned n = 0;

    for (; points[n] && n < debug_log_count; n++) {
        CHECK_EQ(debug_log[n].rip, points[n]);
        if (debug_log[n].dr6 != DR6_NONE)
            CHECK_EQ(debug_log[n].dr6 & (DR6_BS | BITS(3, 0)), DR6_BS);
    }
    CHECK_EQ(points[n], 0);
    CHECK_EQ(debug_log_count, n);
}

static void step(void (*code)(void), const uint64_t *points)
{
    handlers_install();
    code();
    handlers_restore();
    check_points(points);
}

static void debug_step_exits(void)
{
    step(step_exits, step_exits_points);
}

static void debug_step_io(void)
{
    step(step_io, step_io_points);
}

static void debug_step_shadow(void)
{
    step(step_shadow, step_shadow_points);
}

/* The fault comes in the place of the trap, and its saved flags have RF set like those of all faults. */
static void debug_step_fault(void)
{
    debug_skip = 2;
    step(step_fault, step_fault_points);
    CHECK_EQ(debug_log[3].rip, (uint64_t)step_fault_at);
    CHECK_EQ(debug_log[3].dr6, DR6_NONE);
    CHECK_EQ(debug_log[3].rflags & RFLAGS_RF, RFLAGS_RF);
}

static void write_dr0(uint64_t value)
{
    asm volatile("mov %0, %%dr0" : : "r"(value));
}

static void write_dr1(uint64_t value)
{
    asm volatile("mov %0, %%dr1" : : "r"(value));
}

/* Breakpoints on an instruction that exits and on the next: each once, before it. */
static void debug_break_code(void)
{
    handlers_install();
    write_dr0((uint64_t)break_code_at);
    write_dr1((uint64_t)break_code_end);
    cpu_write_dr7(DR7_G0 | DR7_G1);
    for (unsigned i = 0; i < 3; i++)
        break_code();
    cpu_write_dr7(0);
    handlers_restore();
    REQUIRE_EQ(debug_log_count, 6);
    for (unsigned i = 0; i < 6; i++) {
        CHECK_EQ(debug_log[i].rip, (uint64_t)(i & 1 ? break_code_end : break_code_at));
        CHECK_EQ(debug_log[i].dr6 & BITS(3, 0), i & 1 ? DR6_B1 : DR6_B0);
        CHECK_EQ(debug_log[i].rflags & RFLAGS_RF, 0);
    }
}

/* A data breakpoint of MOV SS waits for the instruction behind it, which exits. */
static void debug_break_data(void)
{
    static uint16_t selector __attribute__((aligned(2))) = SEL_DATA;

    handlers_install();
    write_dr0((uint64_t)&selector);
    cpu_write_dr7(DR7_G0 | DR7_ACCESS0 | DR7_LEN2);
    break_data(&selector);
    cpu_write_dr7(0);
    handlers_restore();
    REQUIRE_EQ(debug_log_count, 1);
    CHECK_EQ(debug_log[0].rip, (uint64_t)break_data_end);
    CHECK_EQ(debug_log[0].dr6 & (DR6_BS | BITS(3, 0)), DR6_B0);
}

static void user_int80(void)
{
    asm volatile("int $0x80");
}

static void user_int3(void)
{
    asm volatile("int3");
}

/* Software interrupts: the gates' DPL decides, the error code names the gate. */
static void debug_software_interrupts(void)
{
    CHECK_FAULT(asm volatile("int3"), VECTOR_BP);
    CHECK_FAULT(asm volatile(".byte 0xf1"), VECTOR_DB); /* INT1 */
    CHECK_FAULT(asm volatile(".byte 0xce"), VECTOR_UD); /* INTO is none in 64-bit mode */
    CHECK_EQ(fault_of_user(user_int80), VECTOR_GP);
    CHECK_EQ(fault.error, 0x80 * 8 + 2);
    CHECK_EQ(fault_of_user(user_int3), VECTOR_GP);
    CHECK_EQ(fault.error, VECTOR_BP * 8 + 2);
}

const struct scenario l1_debug_scenarios[] = {
    {"l1-debug-step-exits", debug_step_exits, NULL},
    {"l1-debug-step-io", debug_step_io, NULL},
    {"l1-debug-step-shadow", debug_step_shadow, NULL},
    {"l1-debug-step-fault", debug_step_fault, NULL},
    {"l1-debug-break-code", debug_break_code, NULL},
    {"l1-debug-break-data", debug_break_data, NULL},
    {"l1-debug-software-interrupts", debug_software_interrupts, NULL},
    {NULL, NULL, NULL},
};
