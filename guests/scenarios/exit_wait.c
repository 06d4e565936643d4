/* UMONITOR, UMWAIT and TPAUSE, and IA32_SPEC_CTRL virtualized, which CPUs since 2020 have; and PAUSE in a loop. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/scenarios/scenario.h"

#define CPUID7_ECX_WAITPKG BIT(5)

/* Until a time that has passed. EBX: the state to wait in. */
#define UMONITOR "mov %%rsp, %%rbx; .byte 0xf3, 0x0f, 0xae, 0xf3"
#define UMWAIT "xor %%ebx, %%ebx; .byte 0xf2, 0x0f, 0xae, 0xf3"
#define TPAUSE "xor %%ebx, %%ebx; .byte 0x66, 0x0f, 0xae, 0xf3"

static void execute_umonitor(void)
{
    asm volatile(UMONITOR : : : "rbx", "memory");
}

static void execute_umwait(void)
{
    asm volatile(UMWAIT : : "a"(0), "d"(0) : "rbx", "cc", "memory");
}

static void execute_tpause(void)
{
    asm volatile(TPAUSE : : "a"(0), "d"(0) : "rbx", "cc", "memory");
}

static const struct {
    void (*code)(void);
    uint16_t reason; /* 0: never exits */
} waits[] = {{execute_umonitor, 0}, {execute_umwait, EXIT_UMWAIT}, {execute_tpause, EXIT_TPAUSE}};

static const char *without_waits(void)
{
    bool has = cpu_cpuid(7, 0).ecx & CPUID7_ECX_WAITPKG;

    if (has && vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_USER_WAIT))
        return NULL;
    return has ? "no user wait and pause" : "no WAITPKG";
}

static unsigned tried;
static volatile unsigned l2_fault;

static void l2_try(void)
{
    l2_fault = FAULT_OF(waits[tried].code());
}

/* #UD in an L2 without the control, an exit in one with RDTSC exiting, and L1 has them as the bare CPU. SDM 3C 26.1.3
 * "Instructions That Cause VM Exits Conditionally", 26.3 "Changes to Instruction Behavior" */
static void user_wait(void)
{
    struct vm vm;

    vm_start(&vm, l2_try, 0);
    for (tried = 0; tried < ARRAY_SIZE(waits); tried++) {
        CHECK_EQ(FAULT_OF(waits[tried].code()), NO_FAULT);
        for (unsigned controls = 0; controls < 4; controls++) {
            uint64_t proc = vmx_get(PROC_CONTROLS);
            if (controls & 1)
                vm_secondary_set((uint32_t)PROC2_USER_WAIT);
            if (controls & 2)
                vm_control_set(PROC_CONTROLS, (uint32_t)PROC_RDTSC);
            vm_set_code(&vm, l2_try);
            if (controls == 3 && waits[tried].reason) {
                EXPECT_EXIT_SKIP(&vm, waits[tried].reason);
                CHECK_EQ(vm.exit.length, 4);
                CHECK_EQ(vm.exit.qualification, 0);
            }
            EXPECT_DONE(&vm);
            CHECK_EQ(l2_fault, controls & 1 ? NO_FAULT : VECTOR_UD);
            if (controls & 1)
                vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_USER_WAIT);
            vmx_set(PROC_CONTROLS, proc);
        }
    }
}

static bool has_tertiary(uint64_t bits)
{
    return vm_control_offered(PROC_CONTROLS, (uint32_t)PROC_TERTIARY) &&
           (cpu_rdmsr(IA32_VMX_PROCBASED_CTLS3) & bits) == bits;
}

static const char *without_spec_ctrl(void)
{
    return has_tertiary(PROC3_SPEC_CTRL) ? NULL : "no virtualization of IA32_SPEC_CTRL";
}

#define SHADOW_VALUE BIT(1)
#define OWN_VALUE BIT(0)     /* of L1, and kept */
#define WRITTEN_VALUE BIT(2) /* by L2 */

static volatile uint64_t l2_read[2];

static void l2_use_spec_ctrl(void)
{
    l2_read[0] = cpu_rdmsr(IA32_SPEC_CTRL);
    (void)cpu_rdmsr(IA32_MTRR_DEF_TYPE);
    cpu_wrmsr(IA32_SPEC_CTRL, WRITTEN_VALUE);
    (void)cpu_rdmsr(IA32_MTRR_DEF_TYPE);
    l2_read[1] = cpu_rdmsr(IA32_SPEC_CTRL);
}

/* L2 reads the shadow, and changes of the register what the mask lets it. An emulated CPU leaves the shadow as it
 * was. */
static void spec_ctrl(void)
{
    uint64_t own = cpu_rdmsr(IA32_SPEC_CTRL), shadow;
    struct vm vm;

    vm_start(&vm, l2_use_spec_ctrl, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TERTIARY);
    for (unsigned on = 0; on < 2; on++) {
        vmx_set(PROC3_CONTROLS, on ? PROC3_SPEC_CTRL : 0);
        vmx_set(SPEC_CTRL_MASK, OWN_VALUE);
        vmx_set(SPEC_CTRL_SHADOW, SHADOW_VALUE);
        cpu_wrmsr(IA32_SPEC_CTRL, OWN_VALUE);
        vm_set_code(&vm, l2_use_spec_ctrl);
        EXPECT_DONE(&vm);
        shadow = vmx_get(SPEC_CTRL_SHADOW);
        CHECK_EQ(vmx_get(SPEC_CTRL_MASK), OWN_VALUE);
        CHECK(shadow == SHADOW_VALUE || (on && shadow == WRITTEN_VALUE));
        CHECK_EQ(l2_read[0], on ? SHADOW_VALUE : OWN_VALUE);
        CHECK_EQ(l2_read[1], on ? shadow : WRITTEN_VALUE);
        CHECK_EQ(cpu_rdmsr(IA32_SPEC_CTRL), on ? OWN_VALUE | WRITTEN_VALUE : WRITTEN_VALUE);
    }
    cpu_wrmsr(IA32_SPEC_CTRL, own);
}

static void l2_nothing(void)
{
}

/* Each tertiary control that is not offered is refused, by name in Nestor's log. */
static void tertiary_reserved(void)
{
    uint64_t offered = cpu_rdmsr(IA32_VMX_PROCBASED_CTLS3);
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TERTIARY);
    for (unsigned bit = 0; bit < 64; bit++) {
        vmx_set(PROC3_CONTROLS, BIT(bit));
        vm_set_code(&vm, l2_nothing);
        if (offered & BIT(bit))
            EXPECT_DONE(&vm);
        else
            CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
    }
}

static const char *without_tertiary(void)
{
    return has_tertiary(0) ? NULL : "no tertiary controls";
}

#define SECONDARY (uint32_t) EXITC_SECONDARY

static uint64_t secondary_exit_controls(void)
{
    return vm_control_offered(EXIT_CONTROLS, SECONDARY) ? cpu_rdmsr(IA32_VMX_EXIT_CTLS2) : 0;
}

static const char *without_host_spec_ctrl(void)
{
    return secondary_exit_controls() & EXIT2_LOAD_SPEC_CTRL ? NULL : "no exit that loads IA32_SPEC_CTRL";
}

static volatile uint64_t *volatile l2_place;

/* With an exit in between that an L0 may make for itself. */
static void l2_write_spec_ctrl(void)
{
    l2_read[0] = cpu_rdmsr(IA32_SPEC_CTRL);
    cpu_wrmsr(IA32_SPEC_CTRL, WRITTEN_VALUE);
    *l2_place = 1;
    l2_read[1] = cpu_rdmsr(IA32_SPEC_CTRL);
}

/* L1 gets the host's value at each exit, L2 starts with what L1 has. */
static void host_spec_ctrl(void)
{
    uint64_t own = cpu_rdmsr(IA32_SPEC_CTRL);
    struct vm vm;

    vm_start(&vm, l2_write_spec_ctrl, VM_EPT);
    for (unsigned on = 0; on < 3; on++) {
        if (on)
            vm_control_set(EXIT_CONTROLS, SECONDARY);
        vmx_set(EXIT2_CONTROLS, on == 1 ? 0 : EXIT2_LOAD_SPEC_CTRL);
        vmx_set(HOST_SPEC_CTRL, SHADOW_VALUE);
        cpu_wrmsr(IA32_SPEC_CTRL, OWN_VALUE);
        vm_set_code(&vm, l2_write_spec_ctrl);
        l2_place = page_alloc();
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_read[0], OWN_VALUE);
        CHECK_EQ(l2_read[1], WRITTEN_VALUE);
        CHECK_EQ(cpu_rdmsr(IA32_SPEC_CTRL), on == 2 ? SHADOW_VALUE : WRITTEN_VALUE);
        CHECK_EQ(vmx_get(HOST_SPEC_CTRL), SHADOW_VALUE);
    }
    /* A failed entry is an exit, too. */
    cpu_wrmsr(IA32_SPEC_CTRL, OWN_VALUE);
    vm_set_code(&vm, l2_write_spec_ctrl);
    vmx_set(GUEST_RFLAGS, 0);
    CHECK_EQ(vm_enter(&vm), 0);
    CHECK_EQ(vm.exit.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_INVALID_GUEST_STATE);
    CHECK_EQ(cpu_rdmsr(IA32_SPEC_CTRL), SHADOW_VALUE);
    cpu_wrmsr(IA32_SPEC_CTRL, own);
}

static void host_spec_ctrl_checks(void)
{
    uint64_t offered = secondary_exit_controls();
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vm_control_set(EXIT_CONTROLS, SECONDARY);
    for (unsigned bit = 0; bit < 32; bit++) /* Bochs 3.1 does not look at the others */
        if (!(offered & BIT(bit))) {
            vmx_set(EXIT2_CONTROLS, BIT(bit));
            CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_CONTROLS);
        }
    vmx_set(EXIT2_CONTROLS, EXIT2_LOAD_SPEC_CTRL);
    for (unsigned i = 0; i < 3; i++) {
        static const uint64_t wrong[] = {BIT(9), BIT(32), BIT(63)};
        vmx_set(HOST_SPEC_CTRL, wrong[i]);
        CHECK_EQ(vm_enter(&vm), VMXERR_ENTRY_HOST_STATE);
    }
    vmx_set(EXIT2_CONTROLS, 0);
    EXPECT_DONE(&vm);
    vm_control_clear(EXIT_CONTROLS, SECONDARY);
    vmx_set(EXIT2_CONTROLS, UINT64_MAX);
    vm_set_code(&vm, l2_nothing);
    EXPECT_DONE(&vm);
}

static void l2_pause_often(void)
{
    for (unsigned i = 0; i < 2000; i++)
        cpu_pause();
}

static void pause_loop(void)
{
    struct vm vm;

    vm_start(&vm, l2_pause_often, 0);
    vm_secondary_set((uint32_t)PROC2_PAUSE_LOOP);
    vmx_set(PLE_GAP, 100);
    vmx_set(PLE_WINDOW, 1000);
    EXPECT_EXIT_SKIP(&vm, EXIT_PAUSE);
    vm_control_clear(PROC2_CONTROLS, (uint32_t)PROC2_PAUSE_LOOP);
    EXPECT_DONE(&vm);
}

static const char *without_pause_loop(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_PAUSE_LOOP) ? NULL : "no PAUSE-loop exiting";
}

const struct scenario exit_wait_scenarios[] = {
    {"option-pause-loop", pause_loop, without_pause_loop},
    {"exit-user-wait", user_wait, without_waits},
    {"spec-ctrl-virtual", spec_ctrl, without_spec_ctrl},
    {"entry-tertiary-reserved", tertiary_reserved, without_tertiary},
    {"spec-ctrl-host", host_spec_ctrl, without_host_spec_ctrl},
    {"spec-ctrl-host-checks", host_spec_ctrl_checks, without_host_spec_ctrl},
    {0},
};
