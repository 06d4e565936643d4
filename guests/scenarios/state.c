/* State that goes between L1 and L2, through the VMCS or because nobody switches it; and many VMCSs at once. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define N_VMS 20
#define FXSAVE_XMM0 160 /* offset in the area of FXSAVE */

static volatile uint64_t l2_value;

/* MSRs that the hardware does not switch. */
static const uint32_t unswitched[] = {IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK, IA32_KERNEL_GS_BASE};

static void l2_write_unswitched(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(unswitched); i++)
        cpu_wrmsr(unswitched[i], 0x10000 + i);
}

static void l2_read_unswitched(void)
{
    l2_value = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(unswitched); i++)
        l2_value += cpu_rdmsr(unswitched[i]) == 0x20000 + i;
}

static void msrs_not_switched(void)
{
    struct vm vm;

    vm_start(&vm, l2_write_unswitched, 0);
    EXPECT_DONE(&vm);
    for (unsigned i = 0; i < ARRAY_SIZE(unswitched); i++) {
        CHECK_EQ(cpu_rdmsr(unswitched[i]), 0x10000 + i);
        cpu_wrmsr(unswitched[i], 0x20000 + i);
    }
    vm_set_code(&vm, l2_read_unswitched);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, ARRAY_SIZE(unswitched));
}

static void l2_write_cr2(void)
{
    asm volatile("mov %0, %%cr2" : : "r"(0xabcdef000ull));
}

static void l2_write_debug_registers(void)
{
    asm volatile("mov %0, %%dr0; mov %1, %%dr3" : : "r"(0x111ull), "r"(0x333ull));
}

/* CR2 and the debug address registers are everybody's too. */
static void registers_not_switched(void)
{
    uint64_t cr2, dr0, dr3;
    struct vm vm;

    vm_start(&vm, l2_write_cr2, 0);
    EXPECT_DONE(&vm);
    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    CHECK_EQ(cr2, 0xabcdef000);
    vm_set_code(&vm, l2_write_debug_registers);
    EXPECT_DONE(&vm);
    asm volatile("mov %%dr0, %0; mov %%dr3, %1" : "=r"(dr0), "=r"(dr3));
    CHECK_EQ(dr0, 0x111);
    CHECK_EQ(dr3, 0x333);
}

static void l2_change_xmm(void)
{
    asm volatile("paddb %xmm0, %xmm0");
}

/* Vector registers pass from L1 to L2 and back untouched. */
static void vector_registers(void)
{
    uint8_t *area;
    struct vm vm;

    vm_start(&vm, l2_change_xmm, 0);
    area = page_alloc();
    asm volatile("fxsave (%0)" : : "r"(area) : "memory");
    memset(area + FXSAVE_XMM0, 0x11, 256);
    asm volatile("fxrstor (%0)" : : "r"(area) : "memory");
    EXPECT_DONE(&vm);
    asm volatile("fxsave (%0)" : : "r"(area) : "memory");
    CHECK_EQ(area[FXSAVE_XMM0], 0x22);
    CHECK_EQ(area[FXSAVE_XMM0 + 16], 0x11);
    CHECK_EQ(area[FXSAVE_XMM0 + 255], 0x11);
}

/* Adds 1 to every general register but RSP, by way of a VMCALL each time. */
void state_l2_registers(void);
asm(".text; state_l2_registers: vmcall;"
    "inc %rax; inc %rcx; inc %rdx; inc %rbx; inc %rbp; inc %rsi; inc %rdi;"
    "inc %r8; inc %r9; inc %r10; inc %r11; inc %r12; inc %r13; inc %r14; inc %r15;"
    "jmp state_l2_registers");

static void general_registers(void)
{
    struct vm vm;

    vm_start(&vm, state_l2_registers, 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_VMCALL);
    for (uint64_t i = 0; i < ARRAY_SIZE(vm.regs); i++)
        vm.regs[i] = i << 56 | 0x1000 * i;
    EXPECT_EXIT_SKIP(&vm, EXIT_VMCALL);
    EXPECT_EXIT_SKIP(&vm, EXIT_VMCALL);
    for (uint64_t i = 0; i < ARRAY_SIZE(vm.regs); i++)
        if (i != RSP)
            CHECK_EQ(vm.regs[i], (i << 56 | 0x1000 * i) + 2);
}

static void l2_count(void)
{
    for (uint64_t i = 0;; i++)
        asm volatile("vmcall" : : "a"(i));
}

/* Many VMCSs take turns; some are cleared and launched again; each goes on where it was. */
static void many_vmcs(void)
{
    static struct vm vms[N_VMS];

    vmx_start();
    for (unsigned i = 0; i < N_VMS; i++) {
        vm_create(&vms[i], l2_count, VM_NO_EPT);
        vmx_set(CR0_READ_SHADOW, 0x1000 + i);
    }
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < N_VMS; i++) {
            EXPECT_EXIT_SKIP(&vms[i], EXIT_VMCALL);
            CHECK_EQ(vms[i].regs[RAX], round);
            CHECK_EQ(vmx_get(CR0_READ_SHADOW), 0x1000 + i);
            if (i % 3 == round)
                vm_clear(&vms[i]);
        }
    }
}

static void l2_rdtsc(void)
{
    l2_value = cpu_rdtsc();
}

static void tsc_offset(void)
{
    const uint64_t offset = 1ull << 50;
    uint64_t first, last;
    struct vm vm;

    vm_start(&vm, l2_rdtsc, 0);
    vmx_set(TSC_OFFSET, offset);
    first = cpu_rdtsc();
    EXPECT_DONE(&vm);
    last = cpu_rdtsc();
    CHECK(l2_value >= first && l2_value <= last);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TSC_OFFSETTING);
    vm_set_code(&vm, l2_rdtsc);
    first = cpu_rdtsc();
    EXPECT_DONE(&vm);
    last = cpu_rdtsc();
    CHECK(l2_value >= first + offset && l2_value <= last + offset);
    vmx_set(TSC_OFFSET, -first);
    vm_set_code(&vm, l2_rdtsc);
    EXPECT_DONE(&vm);
    CHECK(l2_value <= cpu_rdtsc() - first);
}

static void tsc_multiplier(void)
{
    uint64_t first, last;
    struct vm vm;

    vm_start(&vm, l2_rdtsc, 0);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_TSC_OFFSETTING);
    vm_secondary_set((uint32_t)PROC2_TSC_SCALING);
    vmx_set(TSC_MULTIPLIER, 4ull << 48);
    vmx_set(TSC_OFFSET, 1000);
    first = cpu_rdtsc();
    EXPECT_DONE(&vm);
    last = cpu_rdtsc();
    CHECK(l2_value >= first * 4 + 1000 && l2_value <= last * 4 + 1000);
}

static const char *without_tsc_scaling(void)
{
    return vm_control_offered(PROC2_CONTROLS, (uint32_t)PROC2_TSC_SCALING) ? NULL : "no TSC scaling";
}

static void l2_read_pat(void)
{
    l2_value = cpu_rdmsr(IA32_PAT);
}

static void l2_write_pat(void)
{
    cpu_wrmsr(IA32_PAT, 0x0606060606060600);
}

static void pat_switched(void)
{
    const uint64_t guest = 0x0007040600070405;
    uint64_t own = cpu_rdmsr(IA32_PAT);
    struct vm vm;

    vm_start(&vm, l2_read_pat, 0);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_PAT);
    vm_control_set(EXIT_CONTROLS, (uint32_t)(EXITC_LOAD_PAT | EXITC_SAVE_PAT));
    vmx_set(GUEST_PAT, guest);
    vmx_set(HOST_PAT, own);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, guest);
    CHECK_EQ(cpu_rdmsr(IA32_PAT), own);
    vm_set_code(&vm, l2_write_pat);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_PAT), 0x0606060606060600);
    CHECK_EQ(cpu_rdmsr(IA32_PAT), own);
}

static void l2_read_efer(void)
{
    l2_value = cpu_rdmsr(IA32_EFER);
}

static void efer_switched(void)
{
    uint64_t own = cpu_rdmsr(IA32_EFER);
    struct vm vm;

    vm_start(&vm, l2_read_efer, 0);
    vm_control_set(ENTRY_CONTROLS, (uint32_t)ENTRY_LOAD_EFER);
    vm_control_set(EXIT_CONTROLS, (uint32_t)(EXITC_LOAD_EFER | EXITC_SAVE_EFER));
    vmx_set(GUEST_EFER, own ^ EFER_SCE);
    vmx_set(HOST_EFER, own);
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, own ^ EFER_SCE);
    CHECK_EQ(cpu_rdmsr(IA32_EFER), own);
    CHECK_EQ(vmx_get(GUEST_EFER), own ^ EFER_SCE);
}

static void l2_nothing(void)
{
}

/* SDM 3C 28.5 "Loading Host State" */
static void host_state_loaded(void)
{
    struct table_register gdtr, idtr;
    uint64_t cr4 = cpu_read_cr4();
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    vmx_set(HOST_SYSENTER_CS, 0x44);
    vmx_set(HOST_SYSENTER_ESP, 0x5000);
    vmx_set(HOST_SYSENTER_EIP, 0x6000);
    vmx_set(HOST_FS_BASE, 0x7000);
    vmx_set(HOST_GS_BASE, 0x8000);
    vmx_set(HOST_CR4, vmx_get(HOST_CR4) | CR4_DE);
    EXPECT_DONE(&vm);
    CHECK_EQ(cpu_rdmsr(IA32_SYSENTER_CS), 0x44);
    CHECK_EQ(cpu_rdmsr(IA32_SYSENTER_ESP), 0x5000);
    CHECK_EQ(cpu_rdmsr(IA32_SYSENTER_EIP), 0x6000);
    CHECK_EQ(cpu_rdmsr(IA32_FS_BASE), 0x7000);
    CHECK_EQ(cpu_rdmsr(IA32_GS_BASE), 0x8000);
    CHECK_EQ(cpu_read_cr4() & CR4_DE, CR4_DE);
    CHECK_EQ(vmx_get(GUEST_CR4) & CR4_DE, 0);
    asm volatile("sgdt %0; sidt %1" : "=m"(gdtr), "=m"(idtr));
    CHECK_EQ(gdtr.limit, 0xffff);
    CHECK_EQ(idtr.limit, 0xffff);
    CHECK_EQ(cpu_flags() & (RFLAGS_IF | RFLAGS_TF), 0);
    cpu_wrmsr(IA32_FS_BASE, 0);
    cpu_wrmsr(IA32_GS_BASE, 0);
    cpu_write_cr4(cr4 | CR4_VMXE);
}

static void l2_change_segments(void)
{
    struct table_register gdtr = {0x47, desc_gdt_base()};

    asm volatile("lgdt %0; mov %w1, %%es; mov %w2, %%fs" : : "m"(gdtr), "r"(0), "r"(SEL_USER_DATA));
}

/* L2's changes of its segments and tables are in the VMCS after the exit. */
static void guest_segments_saved(void)
{
    struct vm vm;

    vm_start(&vm, l2_change_segments, 0);
    EXPECT_DONE(&vm);
    CHECK_EQ(vmx_get(GUEST_ES_SELECTOR), 0);
    CHECK_EQ(vmx_get(GUEST_ES_AR_BYTES) & AR_UNUSABLE, AR_UNUSABLE);
    CHECK_EQ(vmx_get(GUEST_FS_SELECTOR), SEL_USER_DATA);
    CHECK_EQ(vmx_get(GUEST_GDTR_LIMIT), 0x47);
    CHECK_EQ(vmx_get(GUEST_GDTR_BASE), desc_gdt_base());
    CHECK_EQ(vmx_get(GUEST_TR_SELECTOR), SEL_TSS);
}

/* L1 comes back from L2 on the page tables that it named as the host's. */
static void host_page_tables(void)
{
    uint64_t own = cpu_read_cr3();
    uint64_t *tables, *page;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    tables = paging_alloc_identity();
    page = page_alloc();
    page[0] = 0x4321;
    *paging_entry(tables, GIB, PAGE_SIZE) = (uint64_t)page | PTE_P | PTE_W;
    vmx_set(HOST_CR3, (uint64_t)tables);
    EXPECT_DONE(&vm);
    CHECK_EQ(cpu_read_cr3(), (uint64_t)tables);
    CHECK_EQ(*(volatile uint64_t *)GIB, 0x4321);
    *(volatile uint64_t *)(GIB + 8) = (uint64_t)&vm;
    CHECK_EQ(page[1], (uint64_t)&vm);
    cpu_write_cr3(own);
}

static void l2_cpuid(void)
{
    (void)cpu_cpuid(0, 0);
    for (;;)
        asm volatile("vmcall");
}

/* L2 is entered at CPL 3. */
static void user_mode_entry(void)
{
    struct vm vm;

    vm_start(&vm, l2_cpuid, 0);
    vmx_set(GUEST_CS_SELECTOR, SEL_USER_CODE);
    vmx_set(GUEST_CS_AR_BYTES, vmx_get(GUEST_CS_AR_BYTES) | AR_DPL);
    vmx_set(GUEST_SS_SELECTOR, SEL_USER_DATA);
    vmx_set(GUEST_SS_AR_BYTES, vmx_get(GUEST_SS_AR_BYTES) | AR_DPL);
    EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
    EXPECT_EXIT(&vm, EXIT_VMCALL);
    CHECK_EQ(vmx_get(GUEST_CS_SELECTOR), SEL_USER_CODE);
    CHECK_EQ(GET(vmx_get(GUEST_SS_AR_BYTES), AR_DPL), 3);
}

/* Bases of 57 bits, of L2 and of L1 itself after its exit: what the entry takes is in force, and all else is refused as
 * bases are; nobody is left with what the CPU does not take. */
static void wide_bases(void)
{
    uint64_t before = cpu_rdmsr(IA32_GS_BASE);
    uint16_t reason;
    struct vm vm;
    int error;

    vm_start(&vm, l2_nothing, 0);
    vmx_set(GUEST_FS_BASE, BIT(53));
    reason = vm_run(&vm);
    CHECK(reason == EXIT_VMCALL || reason == EXIT_INVALID_GUEST_STATE);
    vm_set_code(&vm, l2_nothing);
    vmx_set(GUEST_FS_BASE, 0);
    vmx_set(HOST_GS_BASE, BIT(53));
    error = vm_enter(&vm);
    CHECK(error == 0 || error == VMXERR_ENTRY_HOST_STATE);
    CHECK_EQ(cpu_rdmsr(IA32_GS_BASE), error ? before : BIT(53));
    print("# transcript %x %lx\n", reason, (uint64_t)error);
    cpu_wrmsr(IA32_GS_BASE, before);
}

const struct scenario state_scenarios[] = {
    {"state-wide-bases", wide_bases, NULL},
    {"state-msrs-not-switched", msrs_not_switched, NULL},
    {"state-registers-not-switched", registers_not_switched, NULL},
    {"state-vector-registers", vector_registers, NULL},
    {"state-general-registers", general_registers, NULL},
    {"state-many-vmcs", many_vmcs, NULL},
    {"state-tsc-offset", tsc_offset, NULL},
    {"state-tsc-multiplier", tsc_multiplier, without_tsc_scaling},
    {"state-pat-switched", pat_switched, NULL},
    {"state-efer-switched", efer_switched, NULL},
    {"state-host-state-loaded", host_state_loaded, NULL},
    {"state-guest-segments-saved", guest_segments_saved, NULL},
    {"state-host-page-tables", host_page_tables, NULL},
    {"state-user-mode-entry", user_mode_entry, NULL},
    {0},
};
