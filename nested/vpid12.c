/* L1 may use any of 65,535 VPIDs, and Nestor has its own on the same hardware. Giving each of L1's one of the CPU's
 * needs a table that is never full: here it is a small set, and two of L1's VPIDs that fall on the same hardware
 * VPID take turns, with a flush at each change. A flush too many is allowed at any time. SDM 3C 29.4.3.1 "Operations
 * that Invalidate Cached Mappings" */
#include "nested/vpid12.h"

#include "kernel/cmdline.h"
#include "kernel/ledger.h"
#include "kernel/panic.h"
#include "vmx/vmx_insn.h"
#include "vmx/vpid.h"

#define VPID_SETS ARRAY_SIZE(((struct nested *)0)->vpid_owner)

/* A hardware VPID serves one vpid12 at a time: the set is vpid12 modulo their number, and a change of owner costs a
 * flush. */
uint16_t nested_vpid(struct nested *nested, uint16_t vpid12)
{
    unsigned set = vpid12 % VPID_SETS;
    uint16_t hardware = (uint16_t)(VPID_L2_FIRST + set);
    ledger_serve_vpid(hardware, vpid12);
    if (nested->vpid_owner[set] != vpid12) {
        nested->vpid_owner[set] = vpid12;
        if (options.fault != FAULT_KEEP_VPID)
            vpid_flush(nested->vcpu, hardware);
    }
    return hardware;
}

bool nested_vpid_serves(const struct nested *nested, const struct vmcs12_slot *slot)
{
    const struct vmcs12 *v = slot->v;
    return !(vmcs12_proc2(v) & PROC2_VPID) || nested->vpid_owner[v->VPID % VPID_SETS] == v->VPID;
}

/* A VPID that no hardware VPID serves now has nothing cached: it was flushed when it lost its place. */
void nested_vpid_invalidate(struct nested *nested, unsigned type, uint16_t vpid12, gva_t address)
{
    unsigned set = vpid12 % VPID_SETS;
    ledger_owe_served(type == INVVPID_ALL ? 0 : vpid12, type, address, "INVVPID of L1");
    /* One flush for each VPID that serves an L2; L1's own translations have another tag and stay. SDM 3C 31.3 */
    if (type == INVVPID_ALL) {
        for (unsigned i = 0; i < VPID_SETS; i++)
            if (nested->vpid_owner[i])
                vpid_flush(nested->vcpu, (uint16_t)(VPID_L2_FIRST + i));
        return;
    }
    if (nested->vpid_owner[set] != vpid12)
        return; /* never used since it last served another: nothing is cached for it */
    /* The linear address is the same in vpid12 and in the hardware's VPID. */
    struct invalidate_descriptor descriptor = {.context = VPID_L2_FIRST + set, .address = address};
    ASSERT(insn_invvpid(type, descriptor));
}
