/* The lists by which L1 has MSRs loaded and stored around its L2. They are not given to the CPU: an entry could name
 * an MSR of Nestor's, and L1 could change the list after the check. So each entry is copied, judged and carried out
 * here, as the CPU does it, one by one in their order. SDM 3C 27.4 "Loading MSRs" */
#include "nested/msr_area.h"

#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/x86.h"
#include "nested/nested.h"
#include "vmx/msr_guest.h"
#include "vmx/vmcs_setup.h"

/* Lists are 16-byte aligned, or the entry is refused. Where no RAM is, all is ones. */
static inline struct msr_entry read_listed(const struct gmem *gmem, gpa_t at)
{
    uint64_t words[2];
    (void)gmem_read64(gmem, at, &words[0]);
    (void)gmem_read64(gmem, at + sizeof(words[0]), &words[1]);
    return (struct msr_entry){(uint32_t)words[0], (uint32_t)(words[0] >> 32), words[1]};
}

/* Most entries that a list may have: more is L1's mistake with undefined results; here the entry fails. No CPU takes
 * fewer than 512, so that a list of `count` seldom asks. SDM 3D A.6 "Miscellaneous Data" */
#define LIST_UNIT 512u
static inline uint32_t list_limit(const struct vcpu *vcpu, uint32_t count)
{
    if (__builtin_expect(count <= LIST_UNIT, 1))
        return LIST_UNIT;
    return LIST_UNIT * (uint32_t)(GET(vcpu->vm->caps12.misc, VMX_MISC_MSR_LIST_MAX) + 1);
}

/* The rule that forbids entry `i`, of loading and of storing alike; MSR_RULES: nothing. SDM 3C 27.4 "Loading MSRs" */
static inline enum msr_rule listing_refused(const struct msr_entry *entry, uint32_t i, uint32_t limit)
{
    if (i >= limit)
        return MSR_TOO_MANY;
    if (entry->reserved)
        return MSR_RESERVED;
    return entry->index >> 8 == X2APIC_MSR_FIRST >> 8 ? MSR_OF_X2APIC : MSR_RULES;
}

/* MSRs that no list may load: fields of the VMCS have them, or SMM. SDM 3C 27.4 "Loading MSRs" */
static bool never_loaded(uint32_t index)
{
    return index == IA32_FS_BASE || index == IA32_GS_BASE || index == IA32_SMM_MONITOR_CTL ||
           index == IA32_BIOS_UPDT_TRIG || index == IA32_BIOS_SIGN_ID;
}

/* Loads one MSR as WRMSR at CPL 0 would, with the limits that a list has beside. */
static inline enum msr_rule load_entry(struct vcpu *vcpu, const struct msr_entry *entry, uint32_t i, uint32_t limit)
{
    enum msr_rule refused = listing_refused(entry, i, limit);
    if (refused != MSR_RULES)
        return refused;
    if (never_loaded(entry->index))
        return MSR_NEVER;
    return msr_guest_write(vcpu, entry->index, entry->value) ? MSR_RULES : MSR_FAULTS;
}

/* Reads one MSR as RDMSR at CPL 0 would. */
static inline enum msr_rule store_entry(struct vcpu *vcpu, struct msr_entry *entry, uint32_t i, uint32_t limit)
{
    enum msr_rule refused = listing_refused(entry, i, limit);
    if (refused != MSR_RULES)
        return refused;
    if (entry->index == IA32_SMBASE)
        return MSR_NEVER;
    return msr_guest_read(vcpu, entry->index, &entry->value) ? MSR_RULES : MSR_FAULTS;
}

/* Remembers why, for the log; the number of the entry, from 1, is what the exit qualification says. */
static uint32_t refuse(struct vcpu *vcpu, enum msr_rule rule, const struct msr_entry *entry, uint32_t i)
{
    vcpu->nested->refusal = (struct msr_refusal){rule, i + 1, entry->index, entry->value};
    return i + 1;
}

/* In the order of the list, and no further than the first entry that fails. What was loaded before stays loaded. SDM 3C
 * 27.4 "Loading MSRs" */
uint32_t msr_area_load_list(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    EXPECT_GUEST(vcpu);
    const uint32_t limit = list_limit(vcpu, count);
    for (uint32_t i = 0; i < count; i++) {
        struct msr_entry entry = read_listed(&vcpu->vm->gmem, list + i * sizeof(entry));
        enum msr_rule refused = load_entry(vcpu, &entry, i, limit);
        if (refused != MSR_RULES)
            return refuse(vcpu, refused, &entry, i);
    }
    return 0;
}

/* SDM 3C 28.4 "Saving MSRs". A failure is a VMX abort of L1; its reason is the caller's business. */
uint32_t msr_area_store_list(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    EXPECT_GUEST(vcpu);
    const uint32_t limit = list_limit(vcpu, count);
    for (uint32_t i = 0; i < count; i++) {
        gpa_t at = list + i * sizeof(struct msr_entry);
        struct msr_entry entry = read_listed(&vcpu->vm->gmem, at);
        enum msr_rule refused = store_entry(vcpu, &entry, i, limit);
        if (refused != MSR_RULES)
            return refuse(vcpu, refused, &entry, i);
        /* The value alone: index and reserved word stay as L1 wrote them. */
        gmem_write64(&vcpu->vm->gmem, at + offsetof(struct msr_entry, value), entry.value);
    }
    return 0;
}

#ifdef CHECKED
void msr_area_check_load(struct vcpu *vcpu, uint64_t head, uint64_t value)
{
    const struct msr_entry entry = {(uint32_t)head, (uint32_t)(head >> 32), value};
    uint64_t loaded;
    ASSERT(load_entry(vcpu, &entry, 0, 1) == MSR_RULES);
    ASSERT(msr_guest_read(vcpu, entry.index, &loaded) && loaded == value && rdmsr(entry.index) == value);
}

void msr_area_check_store(struct vcpu *vcpu, uint64_t head, uint64_t value)
{
    struct msr_entry entry = {(uint32_t)head, (uint32_t)(head >> 32), 0};
    ASSERT(store_entry(vcpu, &entry, 0, 1) == MSR_RULES && entry.value == value);
}
#endif
