#include "nested/resume.h"

#include "nested/nested.h"
#include "nested/prepare.h"
#include "nested/slot.h"
#include "vmx/event.h"
#include "vmx/vmcs_setup.h"

bool nested_resume_l2(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    /* Two things that the exit interrupted go on: the blocking that an IRET had ended, and the event whose delivery
     * exited. */
    event_restore_nmi_blocking(vcpu);
    event_requeue(vcpu);
    /* L0 may have taken translations away: they are flushed before L2 can use them again. */
    prepare_sync_ept02(vcpu->nested, vcpu->nested->current);
    slot_suspend_bitmaps(vcpu->nested, vcpu->nested->current);
    return true;
}
