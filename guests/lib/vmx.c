#include "guests/lib/vmx.h"

#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#ifdef ENLIGHTENED
#include "guests/evmcs/evmcs.h"
#endif

/* The two flags that tell the outcome, into the first two operands: asm with two flag outputs is not safe
 * everywhere. */
#define FLAGS "; setc %b0; setz %b1"

static uint64_t on_region;
/* The region that vm_load() made current on each processor, until another VMX instruction may have changed it; 0: not
 * known. */
static uint64_t loaded[VMX_PROCESSORS];

__attribute__((weak)) unsigned vmx_processor(void)
{
    return 0;
}

/* VMfailInvalid is CF, VMfailValid is ZF and a number in the current VMCS. SDM 3C 31.2 "Conventions" */
static int outcome(bool carry, bool zero)
{
    uint64_t error = 0;

    if (carry)
        return VMFAIL_INVALID;
    if (!zero)
        return 0;
#ifdef ENLIGHTENED
    (void)vmx_vmread(VM_INSTRUCTION_ERROR, &error);
#else
    asm volatile("vmread %1, %0" : "=r"(error) : "r"((uint64_t)VM_INSTRUCTION_ERROR) : "cc");
#endif
    return (int)error;
}

#ifdef ENLIGHTENED
#define NO_LONGER(region) evmcs_cleared(region) /* of VMXON, the same: it is none */
#else
#define NO_LONGER(region) (void)0
#endif
#define VMX_WITH_ADDRESS(name, constness)                                                                              \
    int vmx_##name(constness uint64_t *region)                                                                         \
    {                                                                                                                  \
        bool carry, zero;                                                                                              \
        loaded[vmx_processor()] = 0;                                                                                   \
        asm volatile(#name " (%2)" FLAGS : "=q"(carry), "=q"(zero) : "r"(region) : "memory");                          \
        if (!carry && !zero)                                                                                           \
            NO_LONGER(*region);                                                                                        \
        return outcome(carry, zero);                                                                                   \
    }
VMX_WITH_ADDRESS(vmxon, const)
VMX_WITH_ADDRESS(vmclear, const)
#ifndef ENLIGHTENED /* else guests/evmcs/evmcs.c has these, without an instruction */
VMX_WITH_ADDRESS(vmptrld, const)
VMX_WITH_ADDRESS(vmptrst, )
#endif

int vmx_vmxoff(void)
{
    bool carry, zero;

    loaded[vmx_processor()] = 0;
    asm volatile("vmxoff" FLAGS : "=q"(carry), "=q"(zero) : : "memory");
    return outcome(carry, zero);
}

#ifndef ENLIGHTENED
int vmx_vmread(uint64_t field, uint64_t *value)
{
    bool carry, zero;
    uint64_t read = *value;

    asm volatile("vmread %3, %2" FLAGS : "=q"(carry), "=q"(zero), "+r"(read) : "r"(field) : "memory");
    *value = read;
    return outcome(carry, zero);
}

int vmx_vmread_memory(uint64_t field, uint64_t *value)
{
    bool carry, zero;

    asm volatile("vmread %3, (%2)" FLAGS : "=q"(carry), "=q"(zero) : "r"(value), "r"(field) : "memory");
    return outcome(carry, zero);
}

int vmx_vmwrite(uint64_t field, uint64_t value)
{
    bool carry, zero;

    asm volatile("vmwrite %3, %2" FLAGS : "=q"(carry), "=q"(zero) : "r"(field), "r"(value) : "memory");
    return outcome(carry, zero);
}

int vmx_vmwrite_memory(uint64_t field, const uint64_t *value)
{
    bool carry, zero;

    asm volatile("vmwrite (%3), %2" FLAGS : "=q"(carry), "=q"(zero) : "r"(field), "r"(value) : "memory");
    return outcome(carry, zero);
}

#endif

int vmx_invept(uint64_t type, const struct inv_descriptor *descriptor)
{
    bool carry, zero;

    asm volatile("invept (%3), %2" FLAGS : "=q"(carry), "=q"(zero) : "r"(type), "r"(descriptor) : "memory");
    return outcome(carry, zero);
}

int vmx_invvpid(uint64_t type, const struct inv_descriptor *descriptor)
{
    bool carry, zero;

    asm volatile("invvpid (%3), %2" FLAGS : "=q"(carry), "=q"(zero) : "r"(type), "r"(descriptor) : "memory");
    return outcome(carry, zero);
}

uint64_t vmx_get(uint64_t field)
{
    uint64_t value = 0;

    REQUIRE_EQ(vmx_vmread(field, &value), 0);
    return value;
}

void vmx_set(uint64_t field, uint64_t value)
{
    REQUIRE_EQ(vmx_vmwrite(field, value), 0);
}

uint64_t vmx_current(void)
{
    uint64_t region = 0;

    REQUIRE_EQ(vmx_vmptrst(&region), 0);
    return region;
}

void vmx_load(uint64_t region)
{
    if (loaded[vmx_processor()] == region)
        return;
    if (vmx_current() != region)
        REQUIRE_EQ(vmx_vmptrld(&region), 0);
    loaded[vmx_processor()] = region;
}

void vmx_prepare_control_registers(void)
{
    uint64_t cr0 = cpu_read_cr0() | cpu_rdmsr(IA32_VMX_CR0_FIXED0);
    uint64_t cr4 = cpu_read_cr4() | cpu_rdmsr(IA32_VMX_CR4_FIXED0);

    cpu_write_cr0(cr0 & cpu_rdmsr(IA32_VMX_CR0_FIXED1));
    cpu_write_cr4((cr4 & cpu_rdmsr(IA32_VMX_CR4_FIXED1)) | CR4_VMXE);
}

static uint64_t region_alloc(uint32_t revision)
{
    uint32_t *region = page_alloc();

    *region = revision;
    return (uint64_t)region;
}

/* Drops the translations that a former use of VMX operation left in the TLBs. SDM 3C 29.4.3.4 "Guidelines for Use of
 * the INVEPT Instruction" */
static void flush_tlbs(void)
{
    const struct inv_descriptor any = {0};
    uint64_t proc2 = vmx_control_caps(PROC_CONTROLS).may & PROC_SECONDARY ? vmx_control_caps(PROC2_CONTROLS).may : 0;

    if ((proc2 & PROC2_EPT) && (vmx_ept_vpid_cap() & EPT_CAP_INVEPT_ALL))
        REQUIRE_EQ(vmx_invept(2, &any), 0);
    if ((proc2 & PROC2_VPID) && (vmx_ept_vpid_cap() & VPID_CAP_ALL))
        REQUIRE_EQ(vmx_invvpid(2, &any), 0);
}

void vmx_start(void)
{
    vmx_prepare_control_registers();
    on_region = region_alloc(vmx_revision());
#ifdef ENLIGHTENED
    evmcs_start();
#endif
    REQUIRE_EQ(vmx_vmxon(&on_region), 0);
    flush_tlbs();
}

void vmx_stop(void)
{
    if (!(cpu_read_cr4() & CR4_VMXE))
        return;
    /* #UD says that this was not VMX operation: then there is nothing to leave. */
    (void)FAULT_OF((void)vmx_vmxoff());
    cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE);
}

uint64_t vmx_region_alloc(void)
{
#ifdef ENLIGHTENED
    return region_alloc(EVMCS_VERSION);
#else
    return region_alloc(vmx_revision());
#endif
}

uint64_t vmx_on_region(void)
{
    return on_region;
}

struct vmx_control_caps vmx_control_caps(enum vmcs_field controls)
{
    bool has_true = cpu_rdmsr(IA32_VMX_BASIC) & VMX_BASIC_TRUE_CONTROLS;
    uint32_t msr;
    uint64_t caps;

    switch (controls) {
    case PIN_CONTROLS:
        msr = has_true ? IA32_VMX_TRUE_PINBASED_CTLS : IA32_VMX_PINBASED_CTLS;
        break;
    case PROC_CONTROLS:
        msr = has_true ? IA32_VMX_TRUE_PROCBASED_CTLS : IA32_VMX_PROCBASED_CTLS;
        break;
    case EXIT_CONTROLS:
        msr = has_true ? IA32_VMX_TRUE_EXIT_CTLS : IA32_VMX_EXIT_CTLS;
        break;
    case ENTRY_CONTROLS:
        msr = has_true ? IA32_VMX_TRUE_ENTRY_CTLS : IA32_VMX_ENTRY_CTLS;
        break;
    default:
        msr = IA32_VMX_PROCBASED_CTLS2;
    }
    caps = cpu_rdmsr(msr);
    return (struct vmx_control_caps){(uint32_t)caps, (uint32_t)(caps >> 32)};
}

uint32_t vmx_revision(void)
{
    return (uint32_t)GET(cpu_rdmsr(IA32_VMX_BASIC), VMX_BASIC_REVISION);
}

uint64_t vmx_ept_vpid_cap(void)
{
    return cpu_rdmsr(IA32_VMX_EPT_VPID_CAP);
}

uint64_t vmx_ept_advanced(void)
{
    return vmx_ept_vpid_cap() & EPT_CAP_ADVANCED_INFO ? EPT_QUAL_USER_PAGE | EPT_QUAL_WRITABLE_PAGE : 0;
}
