/* The interface by which an L1 asks for an enlightened VMCS, with the option evmcs=1: as much of what Microsoft's
 * hypervisor shows to its guests ("Hv#1") as leads there, and nothing else of it.
 * Source: Hypervisor Top-Level Functional Specification (TLFS), "Feature Discovery", "Hypercall Interface", "Virtual
 * Processors", "Nested Virtualization". Its CPUID leaves: vmx/hyperv_cpuid.h.
 * Current: the VMCS of the guest that asks, L1's. vmx/msr_guest and nested/ use it. */
#ifndef VMX_HYPERV_H
#define VMX_HYPERV_H

#include "kernel/base.h"

struct vcpu;
struct vm;

/* The synthetic MSRs that all processors share, as L1 wrote them. Written without a lock: a guest that writes one from
 * two processors at once gets either value. */
struct hyperv {
    uint64_t guest_os;  /* HV_X64_MSR_GUEST_OS_ID */
    uint64_t hypercall; /* HV_X64_MSR_HYPERCALL */
};

/* Of both MSRs that name a page: the page is in use. */
#define HYPERV_ENABLE BIT(0)

/* The VP assist page, and what is in it: offsets. TLFS, "HV_VP_ASSIST_PAGE" */
enum {
    VP_ASSIST_ENLIGHTEN_ENTRY = 40, /* 8 bits: entries take ... */
    VP_ASSIST_CURRENT_VMCS = 48,    /* ... the enlightened VMCS at this gpa, 64 bits */
};

/* True if the MSR is one of the interface's, and there is the interface. */
bool hyperv_has_msr(const struct vcpu *vcpu, uint32_t msr);
/* RDMSR and WRMSR of such an MSR. False: #GP. */
MUST_CHECK bool hyperv_read(const struct vcpu *vcpu, uint32_t msr, uint64_t *value);
MUST_CHECK bool hyperv_write(struct vcpu *vcpu, uint32_t msr, uint64_t value);
/* True if VMCALL of L1 is a hypercall, VMX operation or not. */
bool hyperv_takes_vmcall(const struct vm *vm);
/* VMCALL as a hypercall: there is none that it could ask for. */
void hyperv_call(struct vcpu *vcpu);

#endif
