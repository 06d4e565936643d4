/* The guest's value of an MSR may be in four places, and they are asked in this order: with L0, where the policy
 * keeps it; in the VMCS, where entries and exits switch it; in a field that the next entry loads; in the register,
 * which is live while Nestor runs, for all others. The value that WRMSR would refuse is refused here with the same
 * #GP: an entry would fail on it later, far from the instruction that brought it in. */
#include "vmx/msr_guest.h"

#include "kernel/cmdline.h"
#include "kernel/lapic.h"
#include "kernel/log.h"
#include "kernel/msr.h"
#include "kernel/safe.h"
#include "kernel/x86.h"
#include "mm/hpt.h"
#include "mm/page.h"
#include "vmx/msr_policy.h"
#include "vmx/startup.h"
#include "vmx/straight.h"
#include "vmx/vmcs_setup.h"

/* MSRs whose value for the guest is in the VMCS: vmx/vmcs_msrs.def. */
enum value_kind { VALUE_SYSENTER_CS, VALUE_SYSENTER_ADDRESS, VALUE_CANONICAL, VALUE_PAT, VALUE_EFER, VALUE_DEBUGCTL };
#define LOADED_MSR(msr, field, control, bits)
enum {
#define VMCS_MSR(name, kind) IN_VMCS_##name,
#include "vmx/vmcs_msrs.def"
#undef VMCS_MSR
};
static const struct {
    uint32_t encoding;
    enum value_kind kind;
} vmcs_msrs[] = {
#define VMCS_MSR(name, kind) {GUEST_##name##_ENCODING, VALUE_##kind},
#include "vmx/vmcs_msrs.def"
#undef VMCS_MSR
};
#undef LOADED_MSR

static const struct loaded_msr {
    uint32_t msr, encoding;
    uint32_t control;
    uint64_t bits;
} loaded_msrs[] = {
#define VMCS_MSR(name, kind)
#define LOADED_MSR(msr, field, control, bits) {msr, field##_ENCODING, control, bits},
#include "vmx/vmcs_msrs.def"
#undef VMCS_MSR
#undef LOADED_MSR
};
#define LOADING_CONTROLS (ENTRY_LOAD_CET | ENTRY_LOAD_PKRS | ENTRY_LOAD_UINV | ENTRY_LOAD_PERF_GLOBAL)

bool msr_plain[MSR_PLAIN_COUNT], msr_acting[MSR_ACTING_COUNT];
#define MSR_POLICY(first, last, access, handler, root, reason)
#define MSR_PASSED(first, last, root, reason)
#define MSR_PLAIN(first, last, again, which)                                                                           \
    _Static_assert(MSR_PLAIN_##again == MSR_PLAIN_ACTS                                                                 \
                       ? (last) < MSR_ACTING_COUNT                                                                     \
                       : (first) >= MSR_PLAIN_FIRST && (last) < MSR_PLAIN_FIRST + MSR_PLAIN_COUNT,                     \
                   "msr_plain[] or msr_acting[] has it");
#include "vmx/msr_policy.def"
#undef MSR_POLICY
#undef MSR_PASSED

#define CPUID_EDX_DEBUG_STORE BIT(21)
#define CPUID_STATE_COMPONENTS 0xd
#define EFER_WRITABLE (EFER_SCE | EFER_LME | EFER_NXE)
#define DEBUGCTL_DEFINED (BITS(15, 6) | BITS(2, 0)) /* 2: bus-lock detection */
#define APIC_BASE_FLAGS (APIC_BASE_BSP | APIC_BASE_EXTD | APIC_BASE_EN)

/* LMA is read-only, LME changes only while paging is off. SDM 3A 2.2.1 "Extended Feature Enable Register" */
static bool efer_next(uint64_t value, uint64_t *next)
{
    uint64_t old = vmcs_read(GUEST_EFER);
    if (value & ~(EFER_WRITABLE | EFER_LMA))
        return false;
    if (((value ^ old) & EFER_LME) && (vmcs_read(GUEST_CR0) & CR0_PG))
        return false;
    *next = (value & ~EFER_LMA) | (old & EFER_LMA);
    return true;
}

/* Which of the bits a CPU has is the CPU's to say: an entry with others would fail. Each alone, before L1 runs: L1's
 * own values never act in root operation. Exits leave the register 0. */
static uint64_t debugctl_find_bits(void)
{
    uint64_t bits = 0;
    for (unsigned bit = 0; bit < 16; bit++)
        if ((DEBUGCTL_DEFINED & BIT(bit)) && wrmsr_safe(IA32_DEBUGCTL, BIT(bit)))
            bits |= BIT(bit);
    return wrmsr_safe(IA32_DEBUGCTL, 0) ? bits : 0;
}

/* Of vmcs01's the straight way thinks to know them. */
static void forget_sysenter(const struct vcpu *vcpu)
{
    if (!vcpu->in_l2)
        straight_of(vcpu->cpu)->sysenter_of = NULL;
}

/* Writes an MSR that the VMCS holds for the guest. False: the value is one that WRMSR refuses with #GP; an entry would
 * refuse it, too. */
static bool vmcs_msr_write(const struct vcpu *vcpu, unsigned row, uint64_t value)
{
    switch (vmcs_msrs[row].kind) {
    case VALUE_SYSENTER_CS:
        value = (uint32_t)value;
        forget_sysenter(vcpu);
        break;
    case VALUE_SYSENTER_ADDRESS:
        if (!x86_is_canonical(value, vcpu->vm->caps.linear_bits))
            return false;
        forget_sysenter(vcpu);
        break;
    case VALUE_CANONICAL:
        if (!x86_is_canonical(value, vcpu->vm->caps.linear_bits))
            return false;
        break;
    case VALUE_PAT:
        if (!x86_is_pat(value))
            return false;
        break;
    case VALUE_EFER:
        if (!efer_next(value, &value))
            return false;
        break;
    case VALUE_DEBUGCTL:
        if (value & ~vcpu->vm->debugctl)
            return false;
        break;
    }
    vmcs_write_encoding(vmcs_msrs[row].encoding, value);
    return true;
}

/* The row of vmcs_msrs, or -1. */
static inline int vmcs_msr_find(uint32_t msr)
{
    switch (msr) {
#define LOADED_MSR(msr, field, control, bits)
#define VMCS_MSR(name, kind)                                                                                           \
    case IA32_##name:                                                                                                  \
        return IN_VMCS_##name;
#include "vmx/vmcs_msrs.def"
#undef VMCS_MSR
#undef LOADED_MSR
    default:
        return -1;
    }
}

/* The row of loaded_msrs, where the control is on; most CPUs have none of these. */
static const struct loaded_msr *loaded_msr_find(const struct vcpu *vcpu, uint32_t msr)
{
    if (!(vcpu->vm->caps12.entry.may & LOADING_CONTROLS))
        return NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(loaded_msrs); i++)
        if (loaded_msrs[i].msr == msr && vmcs_read(ENTRY_CONTROLS) & loaded_msrs[i].control)
            return &loaded_msrs[i];
    return NULL;
}

/* The register's own bits, with those replaced that the next entry will load. */
static bool register_read(const struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    const struct loaded_msr *loaded = loaded_msr_find(vcpu, msr);
    if (!rdmsr_safe(msr, value))
        return false;
    if (loaded)
        *value = (*value & ~loaded->bits) | PUT(vmcs_read_encoding(loaded->encoding), loaded->bits);
    return true;
}

/* The CPU judges the value. */
static bool register_write(const struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    const struct loaded_msr *loaded = loaded_msr_find(vcpu, msr);
    if (!wrmsr_safe(msr, value))
        return false;
    if (loaded)
        vmcs_write_encoding(loaded->encoding, GET(value, loaded->bits));
    return true;
}

/* A CPU without the debug store says so here. SDM 4, table "IA-32 Architectural MSRs" */
#define MISC_ENABLE_NO_DEBUG_STORE (MISC_ENABLE_BTS_UNAVAILABLE | MISC_ENABLE_PEBS_UNAVAILABLE)

/* L1 sees a CPU without the debug store. */
static bool misc_enable_read(const struct vm *vm, uint64_t *value)
{
    if (!rdmsr_safe(IA32_MISC_ENABLE, value))
        return false;
    if (vm->debug_store_hidden)
        *value |= MISC_ENABLE_NO_DEBUG_STORE;
    return true;
}

/* The two bits are read-only. XD disable would make the next exit fail, which loads IA32_EFER with NXE. */
static bool misc_enable_write(const struct vcpu *vcpu, uint64_t value)
{
    uint64_t now;
    if (!rdmsr_safe(IA32_MISC_ENABLE, &now))
        return false;
    if (value & MISC_ENABLE_XD_DISABLE) {
        log_warn("msr",
                 "L1 wants the execute-disable bit off (IA32_MISC_ENABLE bit 34): Nestor needs it on, L1 gets #GP");
        return false;
    }
    if (vcpu->vm->debug_store_hidden)
        value = (value & ~MISC_ENABLE_NO_DEBUG_STORE) | (now & MISC_ENABLE_NO_DEBUG_STORE);
    return wrmsr_safe(IA32_MISC_ENABLE, value);
}

/* L1's RDMSR of an MSR that L0 keeps: the value it sees. False: #GP. */
static NOINLINE bool policy_read(struct vcpu *vcpu, const struct msr_policy_row *row, uint32_t msr, uint64_t *value)
{
    switch (row->handler) {
    case MSR_POLICY_FEATURE_CONTROL:
        *value = vcpu->feature_control;
        return true;
    case MSR_POLICY_VMX_CAPABILITY:
        return vcpu->vm->capability_msr(&vcpu->vm->caps12, msr, value);
    case MSR_POLICY_ABSENT:
        return false;
    case MSR_POLICY_MTRR:
        return mtrr_msr_read(&vcpu->mtrr, msr, value);
    case MSR_POLICY_MISC_ENABLE:
        return misc_enable_read(vcpu->vm, value);
    case MSR_POLICY_PERF_CAPABILITIES:
        if (!rdmsr_safe(msr, value))
            return false;
        *value &= ~PERF_CAPABILITIES_PEBS;
        return true;
    default:
        return rdmsr_safe(msr, value);
    }
}

/* The changes of mode that the CPU refuses. SDM 3A 11.12.5 "x2APIC State Transitions" */
static bool apic_mode_change_valid(uint64_t old, uint64_t next)
{
    bool was_x2apic = (old & APIC_BASE_EXTD) != 0, was_on = (old & APIC_BASE_EN) != 0;
    if (next & APIC_BASE_EXTD)
        return (next & APIC_BASE_EN) && was_on;
    return !was_x2apic || !(next & APIC_BASE_EN);
}

/* The page of an APIC that L1 turned off is nobody's. With more processors it is read as theirs, and Nestor makes
 * their stores. */
static int place_apic_page(struct ept_watch *watch, void *what)
{
    const struct vcpu *vcpu = what;
    gpa_t page = vcpu->apic_base & BITS(51, 12);
    ept_show(watch->ept01);
    if (!vcpu_apic_is_off(vcpu) || startup_is_trapped(vcpu->vm, page) || ept_is_carveout(watch->ept01, page))
        return 1;
    if (vcpu->vm->vcpus > 1 ? startup_trap(vcpu->vm) : ept_hide(watch->ept01, page))
        return -1;
    if (watch->protect_ept02)
        watch->protect_ept02(watch->context, page);
    return 1;
}

/* An APIC that comes back is as after a reset, and in xAPIC mode. A kick that comes meanwhile is lost, but what it was
 * for is looked at before the entry. */
static bool reset_apic(struct vcpu *vcpu, uint64_t now)
{
    vcpu->attention = true;
    return wrmsr_safe(IA32_APIC_BASE, now & ~(APIC_BASE_EN | APIC_BASE_EXTD));
}

/* The APIC stays on, whatever L1 reads, and in x2APIC mode, which no CPU leaves but by turning it off. Where it comes
 * back it is off for the moment before that. */
static bool apic_base_write_kept(struct vcpu *vcpu, uint64_t value)
{
    uint64_t known = APIC_BASE_BSP | APIC_BASE_EN | BITS(vcpu->vm->caps.address_bits - 1, 12), now;
    if (!vcpu->vm->cpuid.x2apic_broken)
        known |= APIC_BASE_EXTD;
    bool comes_back = (value & ~vcpu->apic_base & APIC_BASE_EN) && !vcpu->vm->apic_is_final;
    if ((value & ~known) || !apic_mode_change_valid(vcpu->apic_base, value) || !rdmsr_safe(IA32_APIC_BASE, &now))
        return false;
    if (comes_back && reset_apic(vcpu, now))
        now &= ~APIC_BASE_EXTD;
    if (!wrmsr_safe(IA32_APIC_BASE, value | APIC_BASE_EN | (now & APIC_BASE_EXTD)))
        return false;
    if ((now & APIC_BASE_EXTD) && (value & APIC_BASE_EN) && !(value & APIC_BASE_EXTD))
        log_warn("msr", "L1 leaves x2APIC mode, which the APIC cannot here (option apic-disable=0): L1 reaches none "
                        "until it is in that mode again");
    if (~value & vcpu->apic_base & APIC_BASE_EN)
        lapic_reset(); /* what stays on delivers nothing but NMIs, INITs and start-up IPIs */
    vcpu->apic_base = value;
    if (vcpu->vm->ept01.hidden || vcpu_apic_is_off(vcpu))
        (void)ept_revoke(&vcpu->vm->watch, place_apic_page, vcpu);
    return true;
}

/* The base may move anywhere but over Nestor's memory; the CPU judges the rest. Nestor sends kicks by the APIC's
 * registers, so its own tables must lead there, too. */
static bool apic_base_write(struct vcpu *vcpu, uint64_t value)
{
    gpa_t base = value & ~APIC_BASE_FLAGS;
    if (ept_is_carveout(&vcpu->vm->ept01, ALIGN_DOWN(base, PAGE_SIZE)) &&
        ALIGN_DOWN(base, PAGE_SIZE) != vcpu->vm->ept01.hidden_page)
        return false;
    if (!(base >> vcpu->vm->caps.address_bits) && hpt_reach(ALIGN_DOWN(base, PAGE_SIZE), PAGE_SIZE)) {
        log_warn("msr", "L1 moves its APIC to %lx, which Nestor cannot reach: L1 gets #GP", base);
        return false;
    }
    if (vcpu->vm->startup_trapped && ALIGN_DOWN(base, PAGE_SIZE) != vcpu->vm->apic_page)
        return false;
    if (vcpu->vm->apic_stays_on)
        return apic_base_write_kept(vcpu, value);
    return wrmsr_safe(IA32_APIC_BASE, value);
}

/* L1's WRMSR of an MSR that L0 keeps. False: #GP. */
static NOINLINE bool policy_write(struct vcpu *vcpu, const struct msr_policy_row *row, uint32_t msr, uint64_t value)
{
    switch (row->handler) {
    case MSR_POLICY_IGNORED:
        return true;
    case MSR_POLICY_APIC_BASE:
        return apic_base_write(vcpu, value);
    case MSR_POLICY_MISC_ENABLE:
        return misc_enable_write(vcpu, value);
    case MSR_POLICY_MTRR: /* EPT01 keeps the types that the firmware set; docs/LIMITS.md says why. */
        return mtrr_msr_write(&vcpu->mtrr, msr, value);
    case MSR_POLICY_XSS: /* the CPU judges the rest */
        return !(value & XSS_PROCESSOR_TRACE) && wrmsr_safe(msr, value);
    default: /* capability MSRs are read-only, IA32_FEATURE_CONTROL is locked, others do not exist */
        return false;
    }
}

/* The policy's row; each has its bit in L0's bitmap, so most look-ups end there. */
static const struct msr_policy_row *find_row(const struct vcpu *vcpu, uint32_t msr, enum msr_access access)
{
    return msr_bitmap_test(vcpu->vm->msr_bitmap, msr, access) ? msr_policy_find(msr, access) : NULL;
}

/* In this order: L0's policy, the APIC's base if L1 sees another, the VMCS, and for all the rest the CPU itself, whose
 * #GP is the guest's. */
bool msr_guest_read(struct vcpu *vcpu, uint32_t msr, uint64_t *value)
{
    EXPECT_GUEST(vcpu);
    const struct msr_policy_row *row = find_row(vcpu, msr, MSR_READ);
    int in_vmcs = vmcs_msr_find(msr);
    if (row)
        return policy_read(vcpu, row, msr, value);
    if (__builtin_expect(hyperv_has_msr(vcpu, msr), 0))
        return hyperv_read(vcpu, msr, value);
    if (msr == IA32_APIC_BASE && vcpu->vm->apic_stays_on) {
        *value = vcpu->apic_base;
        return true;
    }
    if (in_vmcs >= 0) {
        *value = vmcs_read_encoding(vmcs_msrs[in_vmcs].encoding);
        return true;
    }
    return register_read(vcpu, msr, value);
}

/* The same order as for reads. With trapped start-up IPIs a write to the x2APIC's command register is an IPI to be
 * made. */
bool msr_guest_write(struct vcpu *vcpu, uint32_t msr, uint64_t value)
{
    EXPECT_GUEST(vcpu);
    const struct msr_policy_row *row = find_row(vcpu, msr, MSR_WRITE);
    int in_vmcs = vmcs_msr_find(msr);
    if (row)
        return policy_write(vcpu, row, msr, value);
    if (__builtin_expect(hyperv_has_msr(vcpu, msr), 0))
        return hyperv_write(vcpu, msr, value);
    if (msr == X2APIC_ICR && vcpu->vm->startup_trapped)
        return startup_write_icr(vcpu, value);
    if (in_vmcs >= 0)
        return vmcs_msr_write(vcpu, (unsigned)in_vmcs, value);
    return register_write(vcpu, msr, value);
}

/* Clears an MSR that the firmware may have left on; a CPU without it has nothing to clear. */
static void turn_off(uint32_t msr)
{
    uint64_t value;
    if (rdmsr_safe(msr, &value) && value && !wrmsr_safe(msr, 0))
        log_warn("msr", "MSR %x cannot be cleared", msr);
}

/* A firmware may hand over with these on. L1 sees a CPU without them, so nobody would turn them off later. */
void msr_prepare_processor(const struct vm *vm)
{
    if (vm->debug_store_hidden) {
        turn_off(IA32_PEBS_ENABLE);
        turn_off(IA32_DS_AREA);
    }
    if (cpuid(CPUID_STATE_COMPONENTS, 1).ecx & XSS_PROCESSOR_TRACE)
        turn_off(IA32_XSS);
}

static bool is_plain_here(uint32_t msr)
{
    uint64_t ignored;
    return msr_policy_is_plain(msr) && rdmsr_safe(msr, &ignored);
}

static void find_plain(void)
{
    for (uint32_t i = 0; i < MSR_PLAIN_COUNT; i++)
        msr_plain[i] = is_plain_here(MSR_PLAIN_FIRST + i);
    for (uint32_t i = 0; i < MSR_ACTING_COUNT; i++)
        msr_acting[i] = is_plain_here(i);
}

int msr_policy_init(struct vm *vm)
{
    spinlock_init(&vm->msr_policy_lock, LOCK_MSR_POLICY);
    vm->msr_bitmap = page_alloc();
    vm->msr_bitmap01 = page_alloc();
    if (!vm->msr_bitmap || !vm->msr_bitmap01)
        return -1;
    msr_policy_build(vm->msr_bitmap);
    find_plain();
    vm->debugctl = debugctl_find_bits();
    vm->debug_store_hidden = cpuid(1, 0).edx & CPUID_EDX_DEBUG_STORE;
    if (vm->startup_trapped)
        msr_bitmap_set(vm->msr_bitmap, X2APIC_ICR, MSR_WRITE);
    if (vm->apic_stays_on)
        msr_bitmap_set(vm->msr_bitmap, IA32_APIC_BASE, MSR_READ);
    msr_policy_build_l1(vm->msr_bitmap01, vm->msr_bitmap);
    /* Not 0, which in a merged bitmap means that nothing was merged yet. */
    vm->msr_policy_generation = 1;
    return 0;
}

/* A row of the policy is kept in any case; other MSRs as the test asks. */
static void set_kept(uint8_t *bitmap, uint32_t msr, enum msr_access access, bool kept)
{
    if (kept || msr_policy_find(msr, access))
        msr_bitmap_set(bitmap, msr, access);
    else
        msr_bitmap_clear(bitmap, msr, access);
}

/* The page first, its generation after: a merge in between reads the new page and is done once more. */
void msr_policy_change(struct vm *vm, uint32_t msr, bool read, bool write)
{
    bool shown = msr == IA32_APIC_BASE && vm->apic_stays_on;
    spinlock_lock(&vm->msr_policy_lock);
    set_kept(vm->msr_bitmap, msr, MSR_READ, read || shown);
    set_kept(vm->msr_bitmap, msr, MSR_WRITE, write);
    set_kept(vm->msr_bitmap01, msr, MSR_READ, read || shown);
    set_kept(vm->msr_bitmap01, msr, MSR_WRITE, write || msr_policy_watches(msr));
    if (options.fault != FAULT_FORGET_GENERATION)
        __atomic_add_fetch(&vm->msr_policy_generation, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < vm->vcpus; i++)
        straight_disturb(vm->vcpu[i]->cpu);
    spinlock_unlock(&vm->msr_policy_lock);
    count(COUNT_POLICY_CHANGES);
}
