/* Pages of L1's that the CPU itself reads or writes while L2 runs: the virtual-APIC page, the posted-interrupt
 * descriptor and the APIC-access page. vmcs02 has their addresses in L1's memory, which are the machine's (EPT01 maps
 * each page to itself), so nothing is copied. Two things follow. The CPU's accesses do not go through EPT: the address
 * must be RAM that is L1's, and if the page is also a merged bitmap or a table of EPT12, no protection sees the stores.
 * And the APIC-access page works by its place in EPT, so its leaf must be one of 4 KBytes. SDM 3C 30.4.5 */
#include "nested/apic_pages.h"

#include "kernel/layout.h"
#include "kernel/log.h"
#include "nested/slot.h"
#include "vmx/vmcs.h"

/* Where the hardware shall read and write for L2: L1's page, or a page of Nestor's that holds nothing when L1 named no
 * RAM of its own. */
static hpa_t l1_page_or_scratch(const struct nested *nested, gpa_t page)
{
    if (gmem_is_ram(&nested->vcpu->vm->gmem, page))
        return page;
    return va_to_hpa(nested->scratch_page);
}

/* The CPU writes L1's page by its address in vmcs02, if `used`: a bitmap or table of EPT12 that is the same page cannot
 * be traced. */
static void follow_bypass(const struct nested *nested, struct ept_bypass *bypass, bool used, gpa_t page)
{
    struct vm *vm = nested->vcpu->vm;
    used = used && gmem_is_ram(&vm->gmem, page);
    if (bypass->listed && (!used || bypass->page != page))
        ept_watch_bypass_remove(vm->gmem.watch, bypass);
    if (used && !bypass->listed)
        ept_watch_bypass_add(vm->gmem.watch, page, bypass);
}

/* A leaf of EPT01 of 4 KBytes for the page. When pages run out this processor's EPT02s give theirs. */
static bool pin_apic_access(struct nested *nested, gpa_t page, struct ept_pin *pin)
{
    struct ept *ept01 = &nested->vcpu->vm->ept01;
    (void)ept_map_on_demand(ept01, page);
    if (!ept_pin(ept01, page, pin))
        return true;
    ept02_forget_all(&nested->ept02s);
    return !ept_pin(ept01, page, pin);
}

/* Without EPT12 the L2 runs on EPT01, and the control holds for 4-KByte pages only. False: there is none. SDM 3C 30.4.5
 * "Issues Pertaining to Page Size and TLB Management" */
static bool follow_apic_access(struct nested *nested, struct vmcs12_slot *slot)
{
    struct ept *ept01 = &nested->vcpu->vm->ept01;
    struct ept_pin *pin = &nested->apic_access[slot - nested->slot];
    gpa_t page = slot->v->APIC_ACCESS_ADDR;
    uint32_t proc2 = vmcs12_proc2(slot->v);
    slot->apic_access = (proc2 & PROC2_APIC_ACCESS) && !(proc2 & PROC2_EPT);
    if (pin->listed && (!slot->apic_access || pin->page != page))
        ept_unpin(ept01, pin);
    return !slot->apic_access || pin->listed || ept_is_carveout(ept01, page) || pin_apic_access(nested, page, pin);
}

/* The CPU refuses such an address, and L1 gets VMfail 7; its next try comes here again. */
static NOINLINE void refuse_entry(struct vmcs12_slot *slot)
{
    log_warn("nested",
             "APIC-access page %lx: no page is left to make it one of 4 KBytes, so L1's entry fails with error 7: "
             "give Nestor more by the option memory=MIB",
             slot->v->APIC_ACCESS_ADDR);
    vmcs_write(APIC_ACCESS_ADDR, slot->v->APIC_ACCESS_ADDR | 1);
    slot_set_dirty(slot, FIELD_INDEX_APIC_ACCESS_ADDR);
}

void apic_pages_write(struct nested *nested, struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    bool shadows = v->PROC_CONTROLS & PROC_TPR_SHADOW, posts = v->PIN_CONTROLS & PIN_POSTED_INTERRUPTS;
    gpa_t descriptor = ALIGN_DOWN(v->POSTED_DESC_ADDR, PAGE_SIZE);
    follow_bypass(nested, &nested->virtual_apic[slot - nested->slot], shadows, v->VIRTUAL_APIC_ADDR);
    if (shadows)
        vmcs_write(VIRTUAL_APIC_ADDR, l1_page_or_scratch(nested, v->VIRTUAL_APIC_ADDR));
    follow_bypass(nested, &nested->posted[slot - nested->slot], posts, descriptor);
    if (posts)
        vmcs_write(POSTED_DESC_ADDR, l1_page_or_scratch(nested, descriptor) | (v->POSTED_DESC_ADDR & PAGE_MASK));
    if (!follow_apic_access(nested, slot)) {
        refuse_entry(slot);
    } else if (vmcs12_proc2(v) & PROC2_APIC_ACCESS) {
        struct ept_leaf leaf = ept_translate(&nested->vcpu->vm->ept01, v->APIC_ACCESS_ADDR);
        vmcs_write(APIC_ACCESS_ADDR, leaf.level ? ALIGN_DOWN(leaf.hpa, PAGE_SIZE) : v->APIC_ACCESS_ADDR);
    }
}
