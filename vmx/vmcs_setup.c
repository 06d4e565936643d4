/* From a processor outside VMX operation to a vmcs01 that can be entered. The controls are as few as L0 needs to
 * stay in control: L1 owns its interrupts, its devices, its paging and its clock, so most of what a hypervisor
 * intercepts is not intercepted here (docs/adr/0004-l1-owns-the-machine.md). SDM 3C 24.7 "Enabling and Entering VMX
 * Operation" */
#include "vmx/vmcs_setup.h"

#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "mm/page.h"
#include "vmx/cr.h"
#include "vmx/run.h"
#include "vmx/straight.h"
#include "vmx/vmcs_exists.h"
#include "vmx/vmcs_present.h"
#include "vmx/vmx_insn.h"
#include "vmx/vpid.h"

/* The controls of vmcs01; bits that the CPU lacks are dropped, caps_missing() has refused CPUs that lack a needed one.
 * L1's interrupts, HLT, I/O, CR3, paging and TSC are its own. */
#define VMCS01_PIN (PIN_NMI | PIN_VIRTUAL_NMIS)
#define VMCS01_PROC (PROC_USE_MSR_BITMAPS | PROC_USE_IO_BITMAPS | PROC_SECONDARY)
#define VMCS01_PROC2                                                                                                   \
    (PROC2_EPT | PROC2_UNRESTRICTED | PROC2_VPID | PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES | PROC2_USER_WAIT)
#define VMCS01_PROC3 PROC3_MSR_LIST
#define VMCS01_EXIT                                                                                                    \
    (EXITC_SAVE_DEBUG | EXITC_HOST_64 | EXITC_SAVE_PAT | EXITC_LOAD_PAT | EXITC_SAVE_EFER | EXITC_LOAD_EFER)
#define VMCS01_ENTRY (ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER)

/* A page that begins with the CPU's VMCS revision, as VMXON and VMPTRLD want it. */
static void *region_alloc(const struct vmx_caps *caps)
{
    uint32_t *region = page_alloc();
    if (region)
        *region = (uint32_t)GET(caps->basic, VMX_BASIC_REVISION);
    return region;
}

/* VMXON is #GP unless the MSR is locked with VMX on. SDM 3C 24.7 "Enabling and Entering VMX Operation" */
static void lock_vmx_on(void)
{
    uint64_t control = rdmsr(IA32_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCK))
        wrmsr(IA32_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
}

/* The lock, CR4.VMXE, the fixed bits, VMXON: in this order, as each needs the one before it. */
int vmx_enable(const struct vmx_caps *caps)
{
    struct cpu *cpu = this_cpu();
    if (!cpu->vmxon_region)
        cpu->vmxon_region = region_alloc(caps);
    if (!cpu->vmxon_region)
        return -1;
    lock_vmx_on();
    uint64_t cr4 = read_cr4() | CR4_VMXE;
    if (cpuid(1, 0).ecx & BIT(26)) /* XSAVE: XSETBV is executed for L1 */
        cr4 |= CR4_OSXSAVE;
    /* VMXON wants CR0 and CR4 within the bits that the capability MSRs fix. */
    write_cr0((read_cr0() | caps->cr0_fixed0) & caps->cr0_fixed1);
    write_cr4((cr4 | caps->cr4_fixed0) & caps->cr4_fixed1);
    if (insn_vmxon(va_to_hpa(cpu->vmxon_region)))
        return 0;
    log_err("vmx", "VMXON failed: another hypervisor or the firmware holds VMX");
    write_cr4(read_cr4() & ~CR4_VMXE);
    return -1;
}

/* CR4.VMXE may be cleared only outside VMX operation: SDM 3C 24.8 "Restrictions on VMX Operation". */
void vmx_disable(void)
{
    ASSERT(insn_vmxoff());
    write_cr4(read_cr4() & ~CR4_VMXE);
}

/* For a start that failed somewhere: a VMCS that is current must be cleared before VMXOFF, or its data could be written
 * later over what the page holds then. */
void vmx_give_up(void)
{
    hpa_t current = ~0ull;
    if (!(read_cr4() & CR4_VMXE))
        return;
    __asm__ volatile("vmptrst %0" : "=m"(current) : : "cc");
    if (current != ~0ull)
        ASSERT(insn_vmclear(current));
    vmx_disable();
}

/* A fresh region must be cleared before it is first made current: VMCLEAR writes whatever the CPU keeps there. SDM 3C
 * 25.11.3 "Initializing a VMCS" */
hpa_t vmcs_alloc(const struct vmx_caps *caps)
{
    void *region = region_alloc(caps);
    if (!region)
        return 0;
    ASSERT(insn_vmclear(va_to_hpa(region)));
    return va_to_hpa(region);
}

/* Cleared first, or the CPU may write what it still has of the VMCS over what the page holds next. */
void vmcs_free(hpa_t vmcs)
{
    ASSERT(insn_vmclear(vmcs));
    page_free(hpa_to_va(vmcs));
}

void vmcs_load(hpa_t vmcs)
{
    ASSERT(insn_vmptrld(vmcs));
}

#ifdef CHECKED
void vmcs_access_failed(uint64_t encoding, bool write)
{
    panic("vmx: %s of VMCS field %lx (%s) failed", write ? "VMWRITE" : "VMREAD", encoding,
          vmcs_field_name((uint32_t)encoding));
}

void vmcs_expect_current(hpa_t vmcs, const char *function)
{
    hpa_t current;
    __asm__ volatile("vmptrst %0" : "=m"(current));
    if (current != vmcs)
        panic("vmx: %s() wants the VMCS at %lx, and the one at %lx is current", function, vmcs, current);
}

void vmcs_expect_guest(const struct vcpu *vcpu, const char *function)
{
    hpa_t current;
    __asm__ volatile("vmptrst %0" : "=m"(current));
    if ((current == vcpu->vmcs01) == vcpu->in_l2)
        panic("vmx: %s() wants the VMCS of L%u, and the one at %lx is current", function, vcpu->in_l2 ? 2u : 1u,
              current);
}
#endif

/* Nestor's own accesses are not checked one by one. Current: any VMCS. */
static int require_fields(const struct vmx_caps *caps)
{
    uint64_t ignored;
    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        if (!vmcs_field_exists(caps, row) || vmread_checked(vmcs_fields[row].encoding, &ignored))
            continue;
        log_err("vmx", "the CPU lacks the VMCS field %s, which its capability MSRs promise", vmcs_fields[row].name);
        return -1;
    }
    return 0;
}

/* Constant for a processor: Nestor comes back to the same stack, descriptor tables and control registers at each
 * exit. */
void vmcs_write_host_area(const struct cpu *cpu)
{
    vmcs_write(HOST_ES_SELECTOR, SELECTOR_DATA);
    vmcs_write(HOST_CS_SELECTOR, SELECTOR_CODE);
    vmcs_write(HOST_SS_SELECTOR, SELECTOR_DATA);
    vmcs_write(HOST_DS_SELECTOR, SELECTOR_DATA);
    vmcs_write(HOST_FS_SELECTOR, 0);
    vmcs_write(HOST_GS_SELECTOR, 0);
    vmcs_write(HOST_TR_SELECTOR, SELECTOR_TSS);
    vmcs_write(HOST_PAT, rdmsr(IA32_PAT));
    vmcs_write(HOST_EFER, rdmsr(IA32_EFER));
    vmcs_write(HOST_CR0, read_cr0());
    vmcs_write(HOST_CR3, read_cr3());
    vmcs_write(HOST_CR4, options.fault == FAULT_HOST_WITHOUT_MCE ? read_cr4() & ~CR4_MCE : read_cr4());
    vmcs_write(HOST_FS_BASE, 0);
    vmcs_write(HOST_GS_BASE, (uint64_t)cpu);
    /* Each exit loads these: GS leads to the processor's own block, TR to its stacks for faults. */
    vmcs_write(HOST_TR_BASE, (uint64_t)&cpu->tss);
    vmcs_write(HOST_GDTR_BASE, (uint64_t)cpu->gdt);
    vmcs_write(HOST_IDTR_BASE, desc_idt_base());
    vmcs_write(HOST_SYSENTER_CS, 0);
    vmcs_write(HOST_SYSENTER_ESP, 0);
    vmcs_write(HOST_SYSENTER_EIP, 0);
    vmcs_write(HOST_RSP, 0); /* entry.asm has its own way to a stack */
    vmcs_write(HOST_RIP, (uint64_t)(options.trace ? vmx_exit_timed : straight_exit_l1)); /* of vmcs02: nested/prepare */
}

/* Also for each vmcs02, whose owner then changes what is different there. */
void vmcs_write_common(const struct vcpu *vcpu)
{
    vmcs_write_host_area(vcpu->cpu);
    vmcs_write(EPT_POINTER, ept_pointer(&vcpu->vm->ept01));
    vmcs_write(IO_BITMAP_A, va_to_hpa(vcpu->vm->io_bitmap_a));
    vmcs_write(IO_BITMAP_B, va_to_hpa(vcpu->vm->io_bitmap_b));
    vmcs_write(MSR_BITMAP, va_to_hpa(vcpu->vm->msr_bitmap01));
    vmcs_write(VMCS_LINK_POINTER, LINK_POINTER_NONE);
    vmcs_write(EXIT_MSR_STORE_COUNT, 0);
    vmcs_write(EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write(ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write(ENTRY_INTERRUPTION_INFO, 0);
    if (vcpu->vm->caps.proc2.may & PROC2_VPID)
        vmcs_write(VPID, VPID_L1);
    if (vcpu->vm->caps.proc2.may & PROC2_XSAVES)
        vmcs_write(XSS_EXITING_BITMAP, 0);
}

/* Exits from L1: no more than L0 needs to stay in control. */
static void write_controls(const struct vmx_caps *caps)
{
    vmcs_write(PIN_CONTROLS, caps_settle(caps->pin, VMCS01_PIN));
    uint64_t proc3 = caps->proc3 & VMCS01_PROC3;
    vmcs_write(PROC_CONTROLS, caps_settle(caps->proc, VMCS01_PROC | (proc3 ? PROC_TERTIARY : 0)));
    if (caps->proc.may & PROC_TERTIARY)
        vmcs_write(PROC3_CONTROLS, proc3);
    vmcs_write(PROC2_CONTROLS, caps_settle(caps->proc2, VMCS01_PROC2));
    vmcs_write(EXIT_CONTROLS, caps_settle(caps->exit, VMCS01_EXIT));
    vmcs_write(ENTRY_CONTROLS, caps_settle(caps->entry, VMCS01_ENTRY));
    vmcs_write(EXCEPTION_BITMAP, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MASK, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
    vmcs_write(CR3_TARGET_COUNT, 0);
}

/* The fields of one segment register lie at the same place of four groups. */
void vmcs_write_segment(unsigned segment, uint16_t selector, uint32_t limit, uint32_t access)
{
    vmcs_write_encoding(GUEST_ES_SELECTOR.encoding + 2 * segment, selector);
    vmcs_write_encoding(GUEST_ES_BASE.encoding + 2 * segment, 0);
    vmcs_write_encoding(GUEST_ES_LIMIT.encoding + 2 * segment, limit);
    vmcs_write_encoding(GUEST_ES_AR_BYTES.encoding + 2 * segment, access);
}

#define ACCESS_CODE32 0xc09b
#define ACCESS_DATA32 0xc093
#define ACCESS_BUSY_TSS32 0x8b

/* The flat segments with which a multiboot or Linux loader starts a kernel. */
static void write_segments(const struct l1_start *entry)
{
    vmcs_write_segment(SEGMENT_CS, entry->cs, 0xffffffff, ACCESS_CODE32);
    for (unsigned segment = 0; segment < SEGMENT_LDTR; segment++)
        if (segment != SEGMENT_CS)
            vmcs_write_segment(segment, entry->ds, 0xffffffff, ACCESS_DATA32);
    vmcs_write_segment(SEGMENT_LDTR, 0, 0, AR_UNUSABLE);
    vmcs_write_segment(SEGMENT_TR, 0, 0xffff, ACCESS_BUSY_TSS32);
    vmcs_write(GUEST_GDTR_BASE, entry->gdt);
    vmcs_write(GUEST_GDTR_LIMIT, entry->gdt_limit);
    vmcs_write(GUEST_IDTR_BASE, 0);
    vmcs_write(GUEST_IDTR_LIMIT, 0xffff);
}

/* Registers that start alike however L1 starts. Bits that VMX operation fixes are set, and hidden by the shadows. */
static void write_guest_registers(const struct vcpu *vcpu, uint64_t cr0, uint64_t rip)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;
    vmcs_write(GUEST_CR0, cr0 | (caps->cr0_fixed0 & ~(CR0_PE | CR0_PG)));
    vmcs_write(GUEST_CR4, caps->cr4_fixed0);
    vmcs_write(GUEST_CR3, 0);
    /* All bits are Nestor's until cr_update_masks() gives L1 its own. */
    vmcs_write(CR0_GUEST_HOST_MASK, ~0ull);
    vmcs_write(CR4_GUEST_HOST_MASK, ~0ull);
    vmcs_write(CR0_READ_SHADOW, cr0);
    vmcs_write(CR4_READ_SHADOW, 0);
    vmcs_write(GUEST_DR7, 0x400);
    vmcs_write(GUEST_DEBUGCTL, 0);
    vmcs_write(GUEST_RSP, 0);
    vmcs_write(GUEST_RIP, rip);
    vmcs_write(GUEST_RFLAGS, RFLAGS_FIXED1);
    vmcs_write(GUEST_PENDING_DEBUG, 0);
    straight_of(vcpu->cpu)->sysenter_of = NULL;
    vmcs_write(GUEST_SYSENTER_CS, 0);
    vmcs_write(GUEST_SYSENTER_ESP, 0);
    vmcs_write(GUEST_SYSENTER_EIP, 0);
    vmcs_write(GUEST_EFER, 0);
    vmcs_write(GUEST_INTERRUPTIBILITY, 0);
    vmcs_write(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
}

#define RESET_CS 0xf000
#define RESET_CS_BASE 0xffff0000u
#define RESET_RIP 0xfff0
#define RESET_DR6 0xffff0ff0
#define ACCESS_CODE16 0x9b
#define ACCESS_DATA16 0x93
#define ACCESS_LDT 0x82

/* CD and NW of CR0 stay, which are the processor's own; so does PAT. SDM 3A table "IA-32 and Intel 64 Processor States
 * Following Power-up, Reset, or INIT" */
void vmcs01_reset(struct vcpu *vcpu)
{
    memset(vcpu->regs, 0, sizeof vcpu->regs);
    vcpu->regs[RDX] = cpuid(1, 0).eax;
    vcpu->inject_info = 0;
    vmcs_write(ENTRY_INTERRUPTION_INFO, 0);
    vmcs_write(ENTRY_CONTROLS, vmcs_read(ENTRY_CONTROLS) & ~(uint32_t)ENTRY_GUEST_64);
    write_guest_registers(vcpu, CR0_ET | (read_cr0() & (CR0_CD | CR0_NW)), RESET_RIP);
    for (unsigned segment = 0; segment < SEGMENT_LDTR; segment++)
        vmcs_write_segment(segment, 0, 0xffff, segment == SEGMENT_CS ? ACCESS_CODE16 : ACCESS_DATA16);
    vmcs_write_segment(SEGMENT_LDTR, 0, 0xffff, ACCESS_LDT);
    vmcs_write_segment(SEGMENT_TR, 0, 0xffff, ACCESS_BUSY_TSS32);
    vmcs_write(GUEST_CS_SELECTOR, RESET_CS);
    vmcs_write(GUEST_CS_BASE, RESET_CS_BASE);
    vmcs_write(GUEST_GDTR_BASE, 0);
    vmcs_write(GUEST_GDTR_LIMIT, 0xffff);
    vmcs_write(GUEST_IDTR_BASE, 0);
    vmcs_write(GUEST_IDTR_LIMIT, 0xffff);
    write_cr2(0);
    write_dr6(RESET_DR6);
    cr_update_masks(vcpu);
    vpid_flush(vcpu, VPID_L1);
}

/* A start-up IPI's vector is the page where the processor begins, in real-address mode. */
void vmcs01_start(uint8_t vector)
{
    vmcs_write(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    vmcs_write(GUEST_INTERRUPTIBILITY, 0);
    vmcs_write(GUEST_CS_SELECTOR, (uint16_t)(vector << 8));
    vmcs_write(GUEST_CS_BASE, (uint64_t)vector << 12);
    vmcs_write(GUEST_RIP, 0);
}

/* A boot sector in real mode as after a start-up IPI to its page; other images in flat protected mode. */
static void start_at(struct vcpu *vcpu, const struct l1_start *entry)
{
    if (entry->present) {
        vmcs01_reset(vcpu);
        vmcs01_go_on(vcpu, entry->present);
        return;
    }
    if (entry->real_page) {
        vmcs01_reset(vcpu);
        vmcs01_start((uint8_t)(entry->real_page / PAGE_SIZE));
        return;
    }
    write_segments(entry);
    write_guest_registers(vcpu, CR0_PE | CR0_ET, entry->rip);
    cr_update_masks(vcpu);
}

/* Host area and controls first, then the guest as L1's image wants to be started. */
int vmcs01_create(struct vcpu *vcpu, const struct l1_start *entry)
{
    vcpu->vmcs01 = vmcs_alloc(&vcpu->vm->caps);
    if (!vcpu->vmcs01)
        return -1;
    vmcs_load(vcpu->vmcs01);
    /* Before the first write: from here on no access is looked at, except in the CHECKED build. */
    if (require_fields(&vcpu->vm->caps))
        return -1;
    vmcs_write_common(vcpu);
    write_controls(&vcpu->vm->caps);
    vmcs_write(GUEST_PAT, rdmsr(IA32_PAT));
    start_at(vcpu, entry);
    vcpu->regs[RAX] = entry->eax;
    vcpu->regs[RBX] = entry->ebx;
    vcpu->regs[RCX] = entry->ecx;
    vcpu->regs[RSI] = entry->esi;
    vcpu->ept01_generation = vcpu->vm->ept01.generation - 1; /* the first entry passes an INVEPT */
    return 0;
}
