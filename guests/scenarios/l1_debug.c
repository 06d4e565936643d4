/* Single-stepping and breakpoints of L1 across instructions that exit to whoever runs it. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"
#include "guests/scenarios/shadow.h"

#define LOG_MAX 64
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
void break_repeat(void);
extern const uint8_t break_repeat_at[], break_repeat_end[];
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

/* A breakpoint on REP INSB hits once, not before each iteration: between two of them RF is set. */
static void debug_break_repeat(void)
{
    handlers_install();
    write_dr0((uint64_t)break_repeat_at);
    write_dr1((uint64_t)break_repeat_end);
    cpu_write_dr7(DR7_G0 | DR7_G1);
    for (unsigned i = 0; i < 3; i++)
        break_repeat();
    cpu_write_dr7(0);
    handlers_restore();
    REQUIRE_EQ(debug_log_count, 6);
    for (unsigned i = 0; i < 6; i++)
        CHECK_EQ(debug_log[i].rip, (uint64_t)(i & 1 ? break_repeat_end : break_repeat_at));
}

/* Instructions with an operand in memory, or a port. */
#define WATCHED_BY(name)                                                                                               \
    void watch_##name(void *operand, uint64_t second);                                                                 \
    extern const uint8_t watch_##name##_end[];
WATCHED_BY(vmptrst)
WATCHED_BY(vmptrld)
WATCHED_BY(vmclear)
WATCHED_BY(vmread)
WATCHED_BY(vmwrite)
WATCHED_BY(invept)
WATCHED_BY(invvpid)
WATCHED_BY(insb)
WATCHED_BY(in)
WATCHED_BY(out)

enum { DR7_WRITE = 1, DR7_PORT = 2, DR7_ANY = 3 };
#define DR7_KIND(kind) PUT(kind, DR7_ACCESS0)
#define DR7_LEN8 BIT(19)
#define PORT_RESET 0xcf9
#define INVALIDATE_ALL 2 /* type of INVEPT and INVVPID */

/* The breakpoint on `at` is met `count` times, behind the instruction. */
static void check_watched(void (*code)(void *, uint64_t), const uint8_t *end, void *operand, uint64_t second,
                          uint64_t at, uint64_t dr7, unsigned count)
{
    handlers_install();
    write_dr0(at);
    cpu_write_dr7(dr7 | DR7_G0);
    code(operand, second);
    cpu_write_dr7(0);
    handlers_restore();
    CHECK_EQ(debug_log_count, count);
    if (!debug_log_count)
        return;
    CHECK_EQ(debug_log[0].rip, (uint64_t)end);
    CHECK_EQ(debug_log[0].dr6 & (DR6_BS | BITS(3, 0)), DR6_B0);
}

static void check_operand(void (*code)(void *, uint64_t), const uint8_t *end, bool writes, uint64_t *operand,
                          uint64_t second)
{
    uint64_t at = (uint64_t)operand;
    check_watched(code, end, operand, second, at, DR7_KIND(DR7_WRITE) | DR7_LEN8, writes);
    check_watched(code, end, operand, second, at, DR7_KIND(DR7_ANY), 1);
    check_watched(code, end, operand, second, at + 64, DR7_KIND(DR7_ANY) | DR7_LEN8, 0);
}

/* Data breakpoints on the operands of VMX instructions. */
static void debug_break_operands(void)
{
    static uint64_t word[2] __attribute__((aligned(16)));
    struct vm vm;

    vm_start(&vm, break_repeat, 0);
    check_operand(watch_vmptrst, watch_vmptrst_end, true, word, 0);
    CHECK_EQ(word[0], vm.vmcs);
    check_operand(watch_vmread, watch_vmread_end, true, word, MSR_BITMAP);
    CHECK_EQ(word[0], (uint64_t)vm.msr_bitmap);
    check_operand(watch_vmread, watch_vmread_end, true, word, GUEST_RIP);
    check_operand(watch_vmwrite, watch_vmwrite_end, false, word, GUEST_RIP);
    check_operand(watch_vmwrite, watch_vmwrite_end, false, word, TSC_OFFSET);
    word[0] = vm.vmcs;
    check_operand(watch_vmclear, watch_vmclear_end, false, word, 0);
    check_operand(watch_vmptrld, watch_vmptrld_end, false, word, 0);
    word[0] = word[1] = 0;
    if (vm.ept) {
        check_operand(watch_invept, watch_invept_end, false, word, INVALIDATE_ALL);
        check_watched(watch_invept, watch_invept_end, word, INVALIDATE_ALL, (uint64_t)&word[1], DR7_KIND(DR7_ANY), 1);
    }
    if (vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VPID))
        check_operand(watch_invvpid, watch_invvpid_end, false, word, INVALIDATE_ALL);
}

/* Data and I/O breakpoints on INS, IN and OUT of a port that a hypervisor keeps; the latter with CR4.DE alone. */
static void debug_break_ports(void)
{
    static uint64_t word;
    uint64_t cr4 = cpu_read_cr4();

    check_operand(watch_insb, watch_insb_end, true, &word, 0);
    cpu_write_cr4(cr4 | CR4_DE);
    check_watched(watch_in, watch_in_end, NULL, 0, PORT_RESET, DR7_KIND(DR7_PORT), 1);
    check_watched(watch_in, watch_in_end, NULL, 0, PORT_RESET - 1, DR7_KIND(DR7_PORT) | DR7_LEN2, 1);
    check_watched(watch_in, watch_in_end, NULL, 0, PORT_RESET + 1, DR7_KIND(DR7_PORT), 0);
    check_watched(watch_insb, watch_insb_end, &word, 0, PORT_RESET, DR7_KIND(DR7_PORT), 1);
    check_watched(watch_in, watch_in_end, NULL, 0, PORT_RESET, DR7_KIND(DR7_ANY), 0);
    cpu_write_cr4(cr4);
}

/* --- L2 --- */

void trap_l2(void);
extern const uint64_t trap_l2_points[];
void trap_vmfunc(void);
void trap_vmread(void);
extern const uint8_t trap_vmfunc_end[], trap_vmread_end[];
STEPPED(fill)

static void trap_start(struct vm *vm, void (*code)(void), unsigned options)
{
    vm_start(vm, code, options);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_MONITOR_TRAP);
}

/* The monitor trap flag, behind instructions that whoever runs L1 executes for L2 as behind others. */
static void debug_monitor_trap(void)
{
    struct vm vm;

    trap_start(&vm, trap_l2, 0);
    for (unsigned n = 0; trap_l2_points[n]; n++) {
        EXPECT_EXIT(&vm, EXIT_MONITOR_TRAP);
        CHECK_EQ(vmx_get(GUEST_RIP), trap_l2_points[n]);
        CHECK_EQ(vm.exit.qualification, 0);
    }
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_MONITOR_TRAP);
    EXPECT_DONE(&vm);
}

static void debug_monitor_trap_vmfunc(void)
{
    uint64_t *list;
    struct vm vm;

    trap_start(&vm, trap_vmfunc, VM_EPT);
    list = page_alloc();
    list[0] = vmx_get(EPT_POINTER);
    vm_secondary_set((uint32_t)PROC2_VMFUNC);
    vmx_set(VM_FUNCTION_CONTROLS, 1);
    vmx_set(EPTP_LIST_ADDRESS, (uint64_t)list);
    vm.regs[RAX] = vm.regs[RCX] = 0;
    EXPECT_EXIT(&vm, EXIT_MONITOR_TRAP);
    CHECK_EQ(vmx_get(GUEST_RIP), (uint64_t)trap_vmfunc_end);
}

static void debug_monitor_trap_shadow(void)
{
    struct shadowed s;

    shadow_start(&s);
    shadow_run(&s, trap_vmread, GUEST_RSP, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_MONITOR_TRAP);
    s.vm.regs[RSI] = GUEST_RSP;
    EXPECT_EXIT(&s.vm, EXIT_MONITOR_TRAP);
    CHECK_EQ(vmx_get(GUEST_RIP), (uint64_t)trap_vmread_end);
}

/* L2 steps over stores to pages that it touches for the first time: one trap for each instruction. */
static void debug_step_fill(void)
{
    struct vm vm;

    vm_start(&vm, step_fill, 0);
    vm.regs[RDI] = (uint64_t)page_alloc_run(3, PAGE_SIZE);
    for (unsigned i = 0; vm.ept && i < 3; i++) /* small pages, so that each is filled for itself */
        (void)paging_entry(vm.ept, vm.regs[RDI] + i * PAGE_SIZE, PAGE_SIZE);
    handlers_install();
    EXPECT_DONE(&vm);
    handlers_restore();
    check_points(step_fill_points);
}

/* L2 steps over instructions that whoever runs L1 executes for it. */
static void debug_step_l2(void)
{
    struct vm vm;

    vm_start(&vm, step_io, 0);
    handlers_install();
    EXPECT_DONE(&vm);
    handlers_restore();
    check_points(step_io_points);
}

/* Bochs 2.7 advertises the flag and does nothing about it. */
static const char *without_monitor_trap(void)
{
    static bool known, works;
    uint64_t mark = page_mark();
    struct vm vm;

    if (!known && vm_control_offered(PROC_CONTROLS, (uint32_t)PROC_MONITOR_TRAP)) {
        trap_start(&vm, trap_l2, 0);
        works = vm_run(&vm) == EXIT_MONITOR_TRAP;
        vmx_stop();
        page_release(mark);
    }
    known = true;
    return works ? NULL : "no monitor trap flag";
}

static const char *without_trap_and_vmfunc(void)
{
    bool vmfunc = vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_VMFUNC) && !without_ept();
    return vmfunc ? without_monitor_trap() : "no VMFUNC";
}

static const char *without_trap_and_shadowing(void)
{
    const char *reason = without_shadowing();
    return reason ? reason : without_monitor_trap();
}

const struct scenario l1_debug_scenarios[] = {
    {"l1-debug-step-exits", debug_step_exits, NULL},
    {"l1-debug-step-io", debug_step_io, NULL},
    {"l1-debug-step-shadow", debug_step_shadow, NULL},
    {"l1-debug-step-fault", debug_step_fault, NULL},
    {"l1-debug-break-code", debug_break_code, NULL},
    {"l1-debug-break-data", debug_break_data, NULL},
    {"l1-debug-break-repeat", debug_break_repeat, NULL},
    {"l1-debug-break-operands", debug_break_operands, NULL},
    {"l1-debug-break-ports", debug_break_ports, NULL},
    {"l1-debug-step-l2", debug_step_l2, NULL},
    {"l1-debug-step-fill", debug_step_fill, NULL},
    {"l1-debug-monitor-trap", debug_monitor_trap, without_monitor_trap},
    {"l1-debug-monitor-trap-vmfunc", debug_monitor_trap_vmfunc, without_trap_and_vmfunc},
    {"l1-debug-monitor-trap-shadow", debug_monitor_trap_shadow, without_trap_and_shadowing},
    {"l1-debug-software-interrupts", debug_software_interrupts, NULL},
    {NULL, NULL, NULL},
};
