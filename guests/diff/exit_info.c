#include "guests/diff/exit_info.h"

#include "guests/diff/transcript.h"
#include "guests/lib/cpu.h"

#define LENGTH BIT(0) /* also: an instruction that L1 can step over */
#define INFO BIT(1)
#define LINEAR BIT(2)
#define PHYSICAL BIT(3)

/* SDM 3C 28.2.1 to 28.2.5; for other reasons these fields are undefined. */
static const uint8_t defined[EXIT_REASON_COUNT] = {
    [EXIT_CPUID] = LENGTH,
    [EXIT_GETSEC] = LENGTH,
    [EXIT_HLT] = LENGTH,
    [EXIT_INVD] = LENGTH,
    [EXIT_INVLPG] = LENGTH,
    [EXIT_RDPMC] = LENGTH,
    [EXIT_RDTSC] = LENGTH,
    [EXIT_VMCALL] = LENGTH,
    [EXIT_VMCLEAR] = LENGTH | INFO,
    [EXIT_VMLAUNCH] = LENGTH,
    [EXIT_VMPTRLD] = LENGTH | INFO,
    [EXIT_VMPTRST] = LENGTH | INFO,
    [EXIT_VMREAD] = LENGTH | INFO,
    [EXIT_VMRESUME] = LENGTH,
    [EXIT_VMWRITE] = LENGTH | INFO,
    [EXIT_VMXOFF] = LENGTH,
    [EXIT_VMXON] = LENGTH | INFO,
    [EXIT_CR_ACCESS] = LENGTH,
    [EXIT_MOV_DR] = LENGTH,
    [EXIT_IO] = LENGTH,
    [EXIT_RDMSR] = LENGTH,
    [EXIT_WRMSR] = LENGTH,
    [EXIT_MWAIT] = LENGTH,
    [EXIT_MONITOR] = LENGTH,
    [EXIT_PAUSE] = LENGTH,
    [EXIT_GDTR_IDTR] = LENGTH | INFO,
    [EXIT_LDTR_TR] = LENGTH | INFO,
    [EXIT_EPT_VIOLATION] = PHYSICAL,
    [EXIT_SPP] = PHYSICAL,
    [EXIT_EPT_MISCONFIG] = PHYSICAL,
    [EXIT_INVEPT] = LENGTH | INFO,
    [EXIT_RDTSCP] = LENGTH,
    [EXIT_INVVPID] = LENGTH | INFO,
    [EXIT_WBINVD] = LENGTH,
    [EXIT_XSETBV] = LENGTH,
    [EXIT_RDRAND] = LENGTH | INFO,
    [EXIT_INVPCID] = LENGTH | INFO,
    [EXIT_VMFUNC] = LENGTH,
    [EXIT_RDSEED] = LENGTH | INFO,
    [EXIT_XSAVES] = LENGTH | INFO,
    [EXIT_XRSTORS] = LENGTH | INFO,
};

static bool software_event(uint32_t info)
{
    uint64_t type = GET(info, INTR_TYPE);

    return info & INTR_VALID && (type == INTR_TYPE_SOFT_INTERRUPT || type == INTR_TYPE_PRIV_SOFT_EXCEPTION ||
                                 type == INTR_TYPE_SOFT_EXCEPTION);
}

static uint8_t defined_for(const struct exit_info *e)
{
    uint8_t flags = e->reason < EXIT_REASON_COUNT ? defined[e->reason] : 0;
    bool by_task_gate = GET(e->qualification, TASK_QUAL_SOURCE) == 3;

    if (e->reason == EXIT_IO && e->qualification & IO_QUAL_STRING)
        flags |= INFO | LINEAR;
    if (e->reason == EXIT_SPP || (e->reason == EXIT_EPT_VIOLATION && e->qualification & EPT_QUAL_GLA_VALID))
        flags |= LINEAR;
    if (e->reason == EXIT_TASK_SWITCH && !by_task_gate)
        flags |= LENGTH;
    if (software_event(e->idt_info) || (e->reason == EXIT_EXCEPTION_NMI && software_event(e->intr_info)))
        flags |= LENGTH;
    return flags;
}

static void report_event(struct l2 *l2, uint32_t info, const char *name, unsigned error_index)
{
    tr(name, info & INTR_VALID ? info : 0);
    if (info & INTR_VALID && info & INTR_ERROR_CODE)
        tr("error", l2_read(l2, error_index));
}

/* Has no memory operand, and so no displacement. */
static bool register_form(const struct exit_info *e, uint32_t info)
{
    switch (e->reason) {
    case EXIT_LDTR_TR:
    case EXIT_VMREAD:
    case EXIT_VMWRITE:
        return info & INSN_INFO_IS_REGISTER;
    default:
        return false;
    }
}

/* The part about L2's own paging is left out: CPUs have it, and Nestor does not offer it to L1.
 * BOCHS 20: with mode-based execute control, bit 6 is left out where the access was no fetch, and bit 13 stands for it.
 * BOCHS: with A/D flags of EPT on, reads of L2's page tables count as writes, and Bochs forgets that they are reads
 * too. SDM 3C table "Exit Qualification for EPT Violations", the note on bit 0 */
uint64_t exit_info_canonical(uint32_t reason, uint64_t qualification)
{
    const uint64_t kind = EPT_QUAL_WRITE | EPT_QUAL_GLA_VALID | EPT_QUAL_NOT_WALK;

    if (reason == EXIT_EPT_VIOLATION)
        qualification &= ~(EPT_QUAL_USER_PAGE | EPT_QUAL_WRITABLE_PAGE | EPT_QUAL_NO_EXECUTE_PAGE);
    if (reason == EXIT_EPT_VIOLATION && !(qualification & EPT_QUAL_FETCH))
        qualification &= ~(EPT_QUAL_ALLOWED_USER_EXEC | EPT_QUAL_SHADOW_STACK);
    if (reason == EXIT_EPT_VIOLATION && (qualification & kind) == (EPT_QUAL_WRITE | EPT_QUAL_GLA_VALID))
        return qualification | EPT_QUAL_READ;
    return qualification;
}

void exit_info_report(struct l2 *l2, struct exit_info *e)
{
    uint32_t info = 0;
    uint8_t flags;

    e->reason = (uint32_t)l2_read(l2, F_EXIT_REASON);
    e->qualification = l2_read(l2, F_EXIT_QUALIFICATION);
    e->idt_info = e->intr_info = 0;
    tr("reason", e->reason);
    if (e->reason & EXIT_REASON_ENTRY_FAILURE) {
        if (e->one_cause) /* which of several causes is named is the processor's choice */
            tr("qual", e->qualification);
        return; /* the other fields are as the last exit left them; Bochs overwrites them */
    }
    e->intr_info = (uint32_t)l2_read(l2, F_EXIT_INTERRUPTION_INFO);
    e->idt_info = (uint32_t)l2_read(l2, F_IDT_VECTORING_INFO);
    report_event(l2, e->intr_info, "intr", F_EXIT_INTERRUPTION_ERROR_CODE);
    /* BOCHS 10: real-address mode has no error codes, which Nestor knows when it delivers the event again. */
    if (!(l2_read(l2, F_GUEST_CR0) & CR0_PE))
        e->idt_info &= ~(uint32_t)INTR_ERROR_CODE;
    report_event(l2, e->idt_info, "idt", F_IDT_VECTORING_ERROR_CODE);
    flags = defined_for(e);
    if (flags & LENGTH)
        tr("length", e->length = (uint32_t)l2_read(l2, F_EXIT_INSTRUCTION_LENGTH));
    if (flags & INFO)
        tr("info", info = (uint32_t)l2_read(l2, F_EXIT_INSTRUCTION_INFO));
    /* BOCHS: without a displacement the qualification is zero, and Bochs leaves junk. SDM 3C 28.2.1 */
    tr("qual", register_form(e, info) ? 0 : exit_info_canonical(e->reason, e->qualification));
    if (flags & LINEAR)
        tr("gla", l2_read(l2, F_GUEST_LINEAR_ADDRESS));
    if (flags & PHYSICAL)
        tr("gpa", l2_read(l2, F_GUEST_PHYSICAL_ADDRESS));
}

bool exit_info_is_instruction(const struct exit_info *e)
{
    return e->reason < EXIT_REASON_COUNT && defined[e->reason] & LENGTH && e->reason != EXIT_VMCALL;
}
