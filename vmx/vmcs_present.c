/* nestor.efi is called by a firmware that wants its caller back: it goes on as L1, in the middle of its own code,
 * with its own page tables, descriptor tables and interrupt handlers. So the guest state that vmcs01_reset() has
 * made, a processor after INIT, is replaced by the registers as they were at the call. */
#include "vmx/vmcs_present.h"

#include "kernel/msr.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/vmcs_setup.h"

/* A processor that never loaded TR has none that the CPU would enter with. SDM 3C 27.3.1.2 "Checks on Guest Segment
 * Registers" */
#define ACCESS_BUSY_TSS64 0x8b
#define TSS64_LIMIT 0x67

/* The encodings of the eight registers lie 2 apart, in the order of the enum in vmx/vmcs_setup.h. */
static void write_segments(const struct in_place_state *present)
{
    const struct in_place_segment no_task = {.limit = TSS64_LIMIT, .access = ACCESS_BUSY_TSS64};

    for (unsigned i = 0; i < SEGMENTS; i++) {
        const struct in_place_segment *segment = i == SEGMENT_TR && !present->tr ? &no_task : &present->segment[i];
        vmcs_write_encoding(GUEST_ES_SELECTOR.encoding + 2 * i, segment->selector);
        vmcs_write_encoding(GUEST_ES_BASE.encoding + 2 * i, segment->base);
        vmcs_write_encoding(GUEST_ES_LIMIT.encoding + 2 * i, segment->limit);
        vmcs_write_encoding(GUEST_ES_AR_BYTES.encoding + 2 * i, segment->access);
    }
}

/* SGDT and SIDT have stored a limit of 16 bits and a base of 64, without padding: hence the copy. */
static void write_tables(const struct in_place_state *present)
{
    struct descriptor_pointer gdtr, idtr;

    memcpy(&gdtr, present->gdtr, sizeof gdtr);
    memcpy(&idtr, present->idtr, sizeof idtr);
    vmcs_write(GUEST_GDTR_BASE, gdtr.base);
    vmcs_write(GUEST_GDTR_LIMIT, gdtr.limit);
    vmcs_write(GUEST_IDTR_BASE, idtr.base);
    vmcs_write(GUEST_IDTR_LIMIT, idtr.limit);
}

/* Bits of CR0 and CR4 that VMX operation fixes are added in the registers; the shadows keep what the firmware had set,
 * which is what it reads back. EFER has LMA, so the entry must be one to IA-32e mode. */
void vmcs01_go_on(const struct vcpu *vcpu, const struct in_place_state *present)
{
    const struct vmx_caps *caps = &vcpu->vm->caps;

    write_segments(present);
    write_tables(present);
    vmcs_write(GUEST_CR0, present->cr0 | (caps->cr0_fixed0 & ~(CR0_PE | CR0_PG)));
    vmcs_write(CR0_READ_SHADOW, present->cr0);
    vmcs_write(GUEST_CR4, present->cr4 | caps->cr4_fixed0);
    vmcs_write(CR4_READ_SHADOW, present->cr4);
    vmcs_write(GUEST_CR3, present->cr3);
    vmcs_write(GUEST_EFER, present->efer);
    vmcs_write(ENTRY_CONTROLS, vmcs_read(ENTRY_CONTROLS) | ENTRY_GUEST_64);
    vmcs_write(GUEST_SYSENTER_CS, rdmsr(IA32_SYSENTER_CS));
    vmcs_write(GUEST_SYSENTER_ESP, rdmsr(IA32_SYSENTER_ESP));
    vmcs_write(GUEST_SYSENTER_EIP, rdmsr(IA32_SYSENTER_EIP));
    vmcs_write(GUEST_RSP, present->rsp);
    vmcs_write(GUEST_RIP, present->rip);
}
