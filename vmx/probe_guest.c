#include "vmx/probe_guest.h"

#include "kernel/layout.h"
#include "kernel/x86.h"
#include "mm/page.h"
#include "vmx/vmcs_setup.h"

#define ACCESS_DATA 0xc093
#define ACCESS_BUSY_TSS64 0x8b
#define TSS_LIMIT (sizeof(struct tss) - 1)

/* Flat 64-bit segments, as Nestor's own; those that 64-bit mode does not use are unusable. */
static void write_guest_segments(void)
{
    for (unsigned i = SEGMENT_ES; i < SEGMENTS; i++)
        vmcs_write_segment(i, 0, 0, AR_UNUSABLE);
    vmcs_write_segment(SEGMENT_CS, SELECTOR_CODE, 0xffffffff, ACCESS_CODE64);
    vmcs_write_segment(SEGMENT_SS, SELECTOR_DATA, 0xffffffff, ACCESS_DATA);
    vmcs_write_segment(SEGMENT_TR, SELECTOR_TSS, TSS_LIMIT, ACCESS_BUSY_TSS64);
    vmcs_write(GUEST_GS_BASE, vmcs_read(HOST_GS_BASE));
    vmcs_write(GUEST_TR_BASE, vmcs_read(HOST_TR_BASE));
    vmcs_write(GUEST_GDTR_BASE, vmcs_read(HOST_GDTR_BASE));
    vmcs_write(GUEST_GDTR_LIMIT, 0xffff);
    vmcs_write(GUEST_IDTR_BASE, vmcs_read(HOST_IDTR_BASE));
    vmcs_write(GUEST_IDTR_LIMIT, 0xffff);
}

/* The guest is Nestor itself, as far as registers go. */
static void write_guest(void)
{
    write_guest_segments();
    vmcs_write(GUEST_CR0, read_cr0());
    vmcs_write(GUEST_CR3, read_cr3());
    vmcs_write(GUEST_CR4, read_cr4());
    vmcs_write(CR0_GUEST_HOST_MASK, 0);
    vmcs_write(CR4_GUEST_HOST_MASK, 0);
    vmcs_write(GUEST_DR7, 0x400);
    vmcs_write(GUEST_DEBUGCTL, 0);
    vmcs_write(GUEST_RSP, 0);
    vmcs_write(GUEST_RFLAGS, RFLAGS_FIXED1);
    vmcs_write(GUEST_PENDING_DEBUG, 0);
    vmcs_write(GUEST_SYSENTER_CS, 0);
    vmcs_write(GUEST_SYSENTER_ESP, 0);
    vmcs_write(GUEST_SYSENTER_EIP, 0);
    vmcs_write(GUEST_INTERRUPTIBILITY, 0);
}

/* No control beyond what the CPU demands and what is probed. */
static void write_controls(const struct vmx_caps *caps, uint32_t proc)
{
    vmcs_write(PIN_CONTROLS, caps_settle(caps->pin, PIN_NMI));
    vmcs_write(PROC_CONTROLS, caps_settle(caps->proc, proc));
    vmcs_write(EXIT_CONTROLS, caps_settle(caps->exit, EXITC_HOST_64));
    vmcs_write(ENTRY_CONTROLS, caps_settle(caps->entry, ENTRY_GUEST_64));
    vmcs_write(EXCEPTION_BITMAP, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MASK, 0);
    vmcs_write(PAGE_FAULT_ERROR_CODE_MATCH, 0);
    vmcs_write(CR3_TARGET_COUNT, 0);
    vmcs_write(EXIT_MSR_STORE_COUNT, 0);
    vmcs_write(EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write(ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write(ENTRY_INTERRUPTION_INFO, 0);
    vmcs_write(VMCS_LINK_POINTER, LINK_POINTER_NONE);
}

bool probe_begin(struct probe_guest *probe, const struct vmx_caps *caps, uint32_t proc)
{
    *probe = (struct probe_guest){0};
    if (vmx_enable(caps))
        return false;
    probe->vmcs = vmcs_alloc(caps);
    if (!probe->vmcs) {
        vmx_disable();
        return false;
    }
    vmcs_load(probe->vmcs);
    vmcs_write_host_area(this_cpu());
    vmcs_write(HOST_RIP, (uint64_t)probe_exit);
    write_controls(caps, proc);
    write_guest();
    return true;
}

void probe_end(struct probe_guest *probe)
{
    vmcs_free(probe->vmcs);
    vmx_disable();
}

uint32_t probe_run(struct probe_guest *probe, const uint8_t *code, uint32_t activity)
{
    vmcs_write(GUEST_RIP, (uint64_t)code);
    vmcs_write(GUEST_ACTIVITY_STATE, activity);
    if (!probe_enter(probe->launched))
        return ~0u;
    probe->launched = true;
    return vmcs_read(EXIT_REASON);
}
