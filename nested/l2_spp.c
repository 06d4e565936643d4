/* The CPU itself looks at sub-pages, by SPPT02, so that each store of an instruction is judged for itself. What comes
 * here is the first store to a page, and those that L1's own table does not let through.
 * SDM 3C 29.3.4 "Sub-Page Write Permissions" */
#include "nested/l2_spp.h"

#include "kernel/layout.h"
#include "kernel/panic.h"
#include "vmx/vmcs_setup.h"
#include "vmx/vmx_insn.h"

/* SDM 3C 28.2.1 "Basic VM-Exit Information", table of the exit qualification for SPPT events */
#define SPP_QUAL_MISS BIT(11)

/* The CPU may have cached SPPT02 for any EPTP. */
static void forget(void)
{
    ASSERT(insn_invept(INVEPT_ALL, (struct invalidate_descriptor){0}));
}

void l2_spp_enter(struct nested *nested, const struct vmcs12 *v)
{
    vmcs_write(SPPTP, va_to_hpa(nested->sppt02.page[0]));
    if (sppt02_use(&nested->sppt02, v->SPPTP))
        forget();
}

enum l2_spp l2_spp_store(struct vcpu *vcpu, gpa_t gpa2, uint64_t *qualification)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct nested *nested = vcpu->nested;
    uint64_t vector;
    enum sppt12_result found =
        sppt12_look(&vcpu->vm->gmem, vcpu->vm->caps12.address_bits, nested->current->v->SPPTP, gpa2, &vector);
    *qualification = found == SPPT12_MISS ? SPP_QUAL_MISS : 0;
    if (found != SPPT12_VECTOR)
        return L2_SPP_EXIT;
    if (sppt02_set(&nested->sppt02, gpa2, vector))
        forget();
    return sppt12_permits(vector, gpa2) ? L2_SPP_PERMITS : L2_SPP_DENIED;
}
