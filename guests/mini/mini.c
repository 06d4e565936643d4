/* A hypervisor for one guest, to copy: VMXON, a VMCS, EPT, an MSR bitmap and the loop of exits. `make mini` runs it,
 * and docs/LABS.md is made of it. Where wrong() is asked, and in spoil_vmcs(), a mistake is made on purpose, if main.c
 * was told so; Nestor's log then says what it was. */
#include "guests/mini/mini.h"

#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/lib/vm.h"

#define READS 1000 /* RDMSRs of the guest */

static uint64_t regs[16]; /* of the guest, by number */
static uint64_t *ept;
static uint8_t *bitmap; /* which RDMSRs and WRMSRs of the guest exit */

/* The guest. It shares its hypervisor's address space, reads an MSR, and asks for CPUID and to be ended. */
static void guest(void)
{
    for (unsigned i = 0; i < READS; i++)
        (void)cpu_rdmsr(IA32_LSTAR);
    (void)cpu_cpuid(0, 0);
    if (wrong("endless-guest"))
        asm volatile("1: jmp 1b");
    if (wrong("guest-without-idt"))
        asm volatile("ud2");
    asm volatile("vmcall");
}

/* SDM 3C 24.7 "Enabling and Entering VMX Operation" */
static void enter_vmx_operation(void)
{
    uint64_t region = vmx_region_alloc(); /* a zeroed page that begins with the revision identifier */

    vmx_prepare_control_registers();
    if (wrong("without-idt"))
        asm volatile("lidt %0" : : "m"((struct table_register){0, 0}));
    if (wrong("no-vmxe") || wrong("without-idt"))
        cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE);
    if (wrong("vmxon-revision"))
        *(uint32_t *)region = 0;
    REQUIRE_EQ(vmx_vmxon(&region), 0);
}

static void make_vmcs_current(void)
{
    uint64_t region = vmx_region_alloc();

    if (!wrong("no-vmclear"))
        REQUIRE_EQ(vmx_vmclear(&region), 0);
    region += wrong("unaligned-vmcs") ? 8 : 0;
    if (!wrong("no-vmptrld"))
        REQUIRE_EQ(vmx_vmptrld(&region), 0);
}

/* A control field: what is wanted, what the CPU insists on, and nothing that it does not have. */
static void write_controls(enum vmcs_field field, uint64_t wanted)
{
    struct vmx_control_caps caps = vmx_control_caps(field);

    vmx_set(field, wrong("must-be-one") ? wanted : (wanted & caps.may) | caps.must);
}

static void write_all_controls(void)
{
    ept = ept_alloc_identity(LARGE_2M);
    bitmap = page_alloc(); /* all zeros: no RDMSR and no WRMSR exits */
    write_controls(PIN_CONTROLS, 0);
    write_controls(PROC_CONTROLS, PROC_USE_MSR_BITMAPS | PROC_SECONDARY);
    write_controls(PROC2_CONTROLS, PROC2_EPT);
    write_controls(EXIT_CONTROLS, EXITC_HOST_64);
    write_controls(ENTRY_CONTROLS, ENTRY_GUEST_64);
    vmx_set(MSR_BITMAP, (uint64_t)bitmap);
    vmx_set(EPT_POINTER, ept_pointer(ept, false));
}

/* Where an exit leads to: here. What is not written is 0, as all fields are in a new VMCS here. The SDM does not
 * promise that: a real hypervisor writes each field that its controls use. */
static void write_host_state(void)
{
    for (uint64_t field = HOST_ES_SELECTOR; field <= HOST_GS_SELECTOR; field += 2)
        vmx_set(field, SEL_DATA);
    vmx_set(HOST_CS_SELECTOR, SEL_CODE64);
    vmx_set(HOST_TR_SELECTOR, SEL_TSS);
    vmx_set(HOST_TR_BASE, desc_tss_base());
    vmx_set(HOST_GDTR_BASE, desc_gdt_base());
    vmx_set(HOST_IDTR_BASE, desc_idt_base());
    vmx_set(HOST_CR0, cpu_read_cr0());
    vmx_set(HOST_CR3, cpu_read_cr3());
    vmx_set(HOST_CR4, cpu_read_cr4());
    vmx_set(HOST_RIP, (uint64_t)vm_exit_point);
}

/* A guest in the same 64-bit mode. The fields of the segments follow each other: ES, CS, SS, DS, FS, GS, LDTR, TR. */
static void write_guest_state(void)
{
    static const uint32_t rights[] = {0xc093, 0xa09b, 0xc093, 0xc093, 0xc093, 0xc093, AR_UNUSABLE, 0x8b};
    static const uint16_t selectors[] = {SEL_DATA, SEL_CODE64, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA, 0, SEL_TSS};

    for (uint64_t i = 0; i < ARRAY_SIZE(rights); i++) {
        vmx_set(GUEST_ES_SELECTOR + 2 * i, selectors[i]);
        vmx_set(GUEST_ES_AR_BYTES + 2 * i, rights[i]);
        vmx_set(GUEST_ES_LIMIT + 2 * i, rights[i] == 0x8b ? 0x67 : UINT32_MAX);
    }
    vmx_set(GUEST_TR_BASE, desc_tss_base());
    vmx_set(GUEST_GDTR_BASE, desc_gdt_base());
    vmx_set(GUEST_GDTR_LIMIT, UINT16_MAX);
    vmx_set(GUEST_IDTR_BASE, desc_idt_base());
    vmx_set(GUEST_IDTR_LIMIT, UINT16_MAX);
    vmx_set(GUEST_CR0, cpu_read_cr0());
    vmx_set(GUEST_CR3, cpu_read_cr3());
    vmx_set(GUEST_CR4, cpu_read_cr4());
    vmx_set(GUEST_DR7, 0x400);
    vmx_set(GUEST_RIP, (uint64_t)guest);
    vmx_set(GUEST_RSP, (uint64_t)page_alloc() + PAGE_SIZE - 8);
    vmx_set(GUEST_RFLAGS, RFLAGS_FIXED1);
    vmx_set(VMCS_LINK_POINTER, UINT64_MAX);
}

/* One exit, answered. False: the guest is done. */
static bool handle_exit(uint64_t reason)
{
    struct cpuid id;
    uint64_t value;

    switch (reason) {
    case EXIT_CPUID:
        id = cpu_cpuid((uint32_t)regs[RAX], (uint32_t)regs[RCX]);
        if (wrong("no-invept")) /* the guest's stack is read-only from here on */
            *paging_entry(ept, ALIGN_DOWN(vmx_get(GUEST_RSP), LARGE_2M), LARGE_2M) &= ~EPT_W;
        regs[RAX] = id.eax, regs[RBX] = id.ebx, regs[RCX] = id.ecx, regs[RDX] = id.edx;
        break;
    case EXIT_RDMSR:
        value = cpu_rdmsr((uint32_t)regs[RCX]);
        regs[RAX] = (uint32_t)value, regs[RDX] = value >> 32;
        break;
    case EXIT_VMCALL:
        return false;
    default:
        check_report("exit %u, qualification %lx", (unsigned)(uint16_t)reason, vmx_get(EXIT_QUALIFICATION));
        check_abort();
    }
    vmx_set(GUEST_RIP, vmx_get(GUEST_RIP) + vmx_get(EXIT_INSTRUCTION_LENGTH));
    return true;
}

static void run_guest(void)
{
    uint64_t reason, exits = 0, start = cpu_rdtsc();
    bool launched = wrong("resume-first");

    do {
        int failed = vm_enter_raw(regs, launched);
        REQUIRE_EQ(failed ? vmx_get(VM_INSTRUCTION_ERROR) : 0, 0);
        launched = true;
        reason = vmx_get(EXIT_REASON);
        exits++;
    } while (handle_exit(reason));
    print("mini: %u RDMSRs, CPUID, VMCALL: %lu exits, %lu ticks\n", READS, exits, cpu_rdtsc() - start);
}

static void run_new_guest(void)
{
    make_vmcs_current();
    write_all_controls();
    write_host_state();
    write_guest_state();
    spoil_vmcs(ept, (uint64_t)guest);
    run_guest();
}

void mini_run(void)
{
    enter_vmx_operation();
    run_new_guest();
    if (wrong("no-invvpid")) /* another guest with the VPID of the first */
        run_new_guest();
}
