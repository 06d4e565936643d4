#include "nested/msr_area.h"

#include "kernel/msr.h"
#include "vmx/msr.h"

struct msr_entry {
    uint32_t index;
    uint32_t reserved;
    uint64_t value;
};

/* Most entries that a list may have: more is the L1's mistake with undefined results; here the entry fails.
 * SDM 3D A.6 "Miscellaneous Data" */
static uint32_t list_limit(const struct vcpu *vcpu)
{
    return 512 * (uint32_t)(GET(vcpu->vm->caps12.misc, VMX_MISC_MSR_LIST_MAX) + 1);
}

/* MSRs that no list may name, for loading and for storing. SDM 3C 27.4 "Loading MSRs" */
static bool never_listed(const struct msr_entry *entry)
{
    return entry->reserved || (entry->index >> 8) == X2APIC_MSR_FIRST >> 8;
}

static bool never_loaded(uint32_t index)
{
    return index == IA32_FS_BASE || index == IA32_GS_BASE || index == IA32_SMM_MONITOR_CTL ||
           index == IA32_BIOS_UPDT_TRIG || index == IA32_BIOS_SIGN_ID;
}

uint32_t msr_area_load_list(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    struct msr_entry entry;
    for (uint32_t i = 0; i < count; i++) {
        gmem_read(&vcpu->vm->gmem, list + i * sizeof(entry), &entry, sizeof(entry));
        if (i >= list_limit(vcpu) || never_listed(&entry) || never_loaded(entry.index) ||
            !msr_guest_write(vcpu, entry.index, entry.value))
            return i + 1;
    }
    return 0;
}

uint32_t msr_area_store_list(struct vcpu *vcpu, gpa_t list, uint32_t count)
{
    struct msr_entry entry;
    for (uint32_t i = 0; i < count; i++) {
        gpa_t at = list + i * sizeof(entry);
        gmem_read(&vcpu->vm->gmem, at, &entry, sizeof(entry));
        if (i >= list_limit(vcpu) || never_listed(&entry) || entry.index == IA32_SMBASE ||
            !msr_guest_read(vcpu, entry.index, &entry.value))
            return i + 1;
        gmem_write(&vcpu->vm->gmem, at + offsetof(struct msr_entry, value), &entry.value, sizeof(entry.value));
    }
    return 0;
}
