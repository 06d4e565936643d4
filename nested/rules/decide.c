/* Whose exit is it? vmcs02 has the controls of both L0 and L1, so an exit of L2 may be due to either, and the CPU
 * does not say to which. The question is therefore put to vmcs12: on a CPU with L1's controls alone, would this have
 * been an exit? If so it is L1's. If not, only L0 can have wanted it, and L1 must never learn of it.
 *
 * Each basic exit reason is one row of `rules`. Most are answered by a control bit; those that depend on an operand,
 * a bitmap or a mask have a function, named wants_ after what it decides. SDM 3C 26.1.3 "Instructions That Cause VM
 * Exits Conditionally" */
#include "nested/rules/decide.h"

#include "kernel/x86_bits.h"
#include "vmx/msr_bitmap.h"

/* True if L1 set one of these controls for this L2. */
static bool has_pin(const struct decide_input *in, uint32_t bits)
{
    return in->v->PIN_CONTROLS & bits;
}

static bool has_proc(const struct decide_input *in, uint32_t bits)
{
    return in->v->PROC_CONTROLS & bits;
}

static bool has_proc2(const struct decide_input *in, uint32_t bits)
{
    return vmcs12_proc2(in->v) & bits;
}

/* A general register of L2 as its instruction saw it: RSP lives in the VMCS, and outside 64-bit mode the upper half
 * does not count. */
static uint64_t register_value(const struct decide_input *in, unsigned number)
{
    uint64_t value = number == RSP ? in->rsp : in->regs[number];

    return in->narrow ? (uint32_t)value : value;
}

/* A page that is no RAM reads as all-ones. */
static bool bitmap_bit(const uint8_t *bitmap, unsigned bit)
{
    return !bitmap || bitmap[bit / 8] >> bit % 8 & 1;
}

/* The exit for exceptions is also that for NMIs; the interruption type tells them apart. */
static bool is_nmi(const struct decide_input *in)
{
    return GET(in->exit->interruption_info, INTR_TYPE) == INTR_TYPE_NMI;
}

/* L1 lets NMIs through to its L2: then they are L0's to deliver. */
static bool own_nmi(const struct decide_input *in)
{
    return is_nmi(in) && in->l0_nmi;
}

/* SDM 3C 26.2 "Other Causes of VM Exits" (exceptions), 25.6.3 "Exception Bitmap": a page fault whose masked error code
 * differs from the match value is judged by the bit's opposite. */
static bool wants_exception(const struct decide_input *in)
{
    const struct vmcs12 *v = in->v;
    unsigned vector = (unsigned)GET(in->exit->interruption_info, INTR_VECTOR);
    bool wanted = vector < 32 && v->EXCEPTION_BITMAP & BIT(vector);
    uint32_t code = in->exit->interruption_error_code & (uint32_t)v->PAGE_FAULT_ERROR_CODE_MASK;

    if (is_nmi(in))
        return has_pin(in, PIN_NMI);
    if (vector == VECTOR_PF && code != (uint32_t)v->PAGE_FAULT_ERROR_CODE_MATCH)
        return !wanted;
    return wanted;
}

/* MOV to CR3 with one of these values does not exit. The count may not exceed the fields there are, and the checks saw
 * to that. */
static bool in_cr3_targets(const struct decide_input *in, uint64_t value)
{
    const uint64_t *targets = &in->v->field[FIELD_INDEX_CR3_TARGET_VALUE0];
    unsigned room = FIELD_INDEX_CR3_TARGET_VALUE3 - FIELD_INDEX_CR3_TARGET_VALUE0 + 1;

    for (unsigned i = 0; i < MIN(in->v->CR3_TARGET_COUNT, room); i++)
        if (targets[i] == value)
            return true;
    return false;
}

/* CR0 and CR4 exit when a bit that L1 owns (its mask) would differ from what L2 reads (the shadow); CR3 and CR8 by a
 * control. SDM 3C 26.1.3 "Instructions That Cause VM Exits Conditionally" */
static bool wants_mov_to_cr(const struct decide_input *in, unsigned number, uint64_t value)
{
    const struct vmcs12 *v = in->v;

    switch (number) {
    case 0:
        return (value ^ v->CR0_READ_SHADOW) & v->CR0_GUEST_HOST_MASK;
    case 3:
        return has_proc(in, PROC_CR3_LOAD) && !in_cr3_targets(in, value);
    case 4:
        return (value ^ v->CR4_READ_SHADOW) & v->CR4_GUEST_HOST_MASK;
    default:
        return has_proc(in, PROC_CR8_LOAD);
    }
}

/* LMSW writes bits 3:0 and cannot clear CR0.PE. SDM 3C 26.1.3 "Instructions That Cause VM Exits Conditionally" */
static bool wants_lmsw(const struct decide_input *in, uint64_t source)
{
    uint64_t mask = in->v->CR0_GUEST_HOST_MASK;
    uint64_t shadow = in->v->CR0_READ_SHADOW;

    if (mask & source & ~shadow & CR0_PE)
        return true;
    return (source ^ shadow) & mask & (CR0_MP | CR0_EM | CR0_TS);
}

/* The four accesses of the exit qualification: MOV to, MOV from, CLTS, LMSW. */
static bool wants_cr_access(const struct decide_input *in)
{
    uint64_t qualification = in->exit->qualification;
    unsigned number = (unsigned)GET(qualification, CR_QUAL_NUMBER);

    switch (GET(qualification, CR_QUAL_TYPE)) {
    case CR_QUAL_TYPE_MOV_TO:
        return wants_mov_to_cr(in, number, register_value(in, (unsigned)GET(qualification, CR_QUAL_REGISTER)));
    case CR_QUAL_TYPE_MOV_FROM:
        return has_proc(in, number == 8 ? PROC_CR8_STORE : PROC_CR3_STORE);
    case CR_QUAL_TYPE_CLTS:
        return in->v->CR0_GUEST_HOST_MASK & in->v->CR0_READ_SHADOW & CR0_TS;
    default:
        return wants_lmsw(in, GET(qualification, CR_QUAL_LMSW_SOURCE));
    }
}

/* Each port that the access touches has its bit; one that wraps past FFFFH always exits. SDM 3C 26.1.3 */
static bool wants_io(const struct decide_input *in)
{
    unsigned first = (unsigned)GET(in->exit->qualification, IO_QUAL_PORT);
    unsigned last = first + (unsigned)GET(in->exit->qualification, IO_QUAL_SIZE);

    if (!has_proc(in, PROC_USE_IO_BITMAPS))
        return has_proc(in, PROC_UNCOND_IO);
    if (last > UINT16_MAX)
        return true;
    for (unsigned port = first; port <= last; port++)
        if (bitmap_bit(port < 0x8000 ? in->io_bitmap_a : in->io_bitmap_b, port & 0x7fff))
            return true;
    return false;
}

/* By L1's own bitmap, not by the merged one: an access that only L0 intercepts is L0's. */
static bool wants_msr(const struct decide_input *in, enum msr_access access)
{
    if (!has_proc(in, PROC_USE_MSR_BITMAPS) || !in->msr_bitmap)
        return true;
    return msr_bitmap_test(in->msr_bitmap, decide_msr(in->exit, in->regs), access);
}

/* The rows need a function for each direction; lists and immediate forms ask the same two. */
static bool wants_rdmsr(const struct decide_input *in)
{
    return wants_msr(in, MSR_READ);
}

static bool wants_wrmsr(const struct decide_input *in)
{
    return wants_msr(in, MSR_WRITE);
}

/* With VMCS shadowing, the register that holds the field's number is tried on the bitmap. SDM 3C 26.1.3 */
static bool wants_vmcs_access(const struct decide_input *in, const uint8_t *bitmap)
{
    uint64_t encoding = register_value(in, (unsigned)GET(in->exit->instruction_info, INSN_INFO_REG2));

    if (!has_proc2(in, PROC2_VMCS_SHADOWING) || encoding >> 15)
        return true;
    return bitmap_bit(bitmap, (unsigned)encoding);
}

/* Two bitmaps: a field may be open for reads and closed for writes. */
static bool wants_vmread(const struct decide_input *in)
{
    return wants_vmcs_access(in, in->vmread_bitmap);
}

static bool wants_vmwrite(const struct decide_input *in)
{
    return wants_vmcs_access(in, in->vmwrite_bitmap);
}

/* With PAUSE-loop exiting L0 cannot tell which of the two caused the exit, nor need it: it passes the control on as it
 * is. */
static bool wants_pause(const struct decide_input *in)
{
    return has_proc(in, PROC_PAUSE) || has_proc2(in, PROC2_PAUSE_LOOP);
}

/* Two controls: one makes the instruction exist, the other makes it exit. SDM 3C 26.1.3 "Instructions That Cause VM
 * Exits Conditionally" */
static bool wants_invpcid(const struct decide_input *in)
{
    return has_proc2(in, PROC2_INVPCID) && has_proc(in, PROC_INVLPG);
}

/* UMWAIT and TPAUSE: as with INVPCID, one control for being there, RDTSC exiting for the exit. */
static bool wants_user_wait(const struct decide_input *in)
{
    return has_proc2(in, PROC2_USER_WAIT) && has_proc(in, PROC_RDTSC);
}

/* XSAVES and XRSTORS exit for the state components named by EDX:EAX, IA32_XSS and the bitmap; that they exited says
 * that IA32_XSS has one of them. SDM 3C 26.1.3 */
static bool wants_xsaves(const struct decide_input *in)
{
    uint64_t components = (uint64_t)(uint32_t)in->regs[RDX] << 32 | (uint32_t)in->regs[RAX];

    return has_proc2(in, PROC2_XSAVES) && components & in->v->XSS_EXITING_BITMAP;
}

/* When L1 wants the exit: at any time, with a bit of one of the control words, or as a function says. */
enum when { ALWAYS, IF_PIN, IF_PROC, IF_PROC2, ASK };

/* L0's question, where it has one; then L1's. A reason without a row, or beyond the list, is L1's: nothing of L0's
 * causes it, and bare it would have come to L1. */
static const struct rule {
    bool (*l0_keeps)(const struct decide_input *in);
    enum when when;
    uint32_t bits;
    bool (*l1_wants)(const struct decide_input *in);
} rules[EXIT_REASON_COUNT] = {
    [EXIT_EXCEPTION_NMI] = {.l0_keeps = own_nmi, .when = ASK, .l1_wants = wants_exception},
    [EXIT_EXTERNAL_INTERRUPT] = {.when = IF_PIN, .bits = PIN_EXTERNAL_INTERRUPT},
    [EXIT_INTERRUPT_WINDOW] = {.when = IF_PROC, .bits = PROC_INTERRUPT_WINDOW},
    [EXIT_NMI_WINDOW] = {.when = IF_PROC, .bits = PROC_NMI_WINDOW},
    [EXIT_HLT] = {.when = IF_PROC, .bits = PROC_HLT},
    [EXIT_INVLPG] = {.when = IF_PROC, .bits = PROC_INVLPG},
    [EXIT_RDPMC] = {.when = IF_PROC, .bits = PROC_RDPMC},
    [EXIT_RDTSC] = {.when = IF_PROC, .bits = PROC_RDTSC},
    [EXIT_VMREAD] = {.when = ASK, .l1_wants = wants_vmread},
    [EXIT_VMWRITE] = {.when = ASK, .l1_wants = wants_vmwrite},
    [EXIT_CR_ACCESS] = {.when = ASK, .l1_wants = wants_cr_access},
    [EXIT_MOV_DR] = {.when = IF_PROC, .bits = PROC_MOV_DR},
    [EXIT_IO] = {.when = ASK, .l1_wants = wants_io},
    [EXIT_RDMSR] = {.when = ASK, .l1_wants = wants_rdmsr},
    [EXIT_WRMSR] = {.when = ASK, .l1_wants = wants_wrmsr},
    [EXIT_MWAIT] = {.when = IF_PROC, .bits = PROC_MWAIT},
    [EXIT_MONITOR] = {.when = IF_PROC, .bits = PROC_MONITOR},
    [EXIT_PAUSE] = {.when = ASK, .l1_wants = wants_pause},
    [EXIT_TPR_BELOW_THRESHOLD] = {.when = IF_PROC, .bits = PROC_TPR_SHADOW},
    [EXIT_APIC_ACCESS] = {.when = IF_PROC2, .bits = PROC2_APIC_ACCESS},
    [EXIT_VIRTUALIZED_EOI] = {.when = IF_PROC2, .bits = PROC2_VIRTUAL_INTERRUPTS},
    [EXIT_GDTR_IDTR] = {.when = IF_PROC2, .bits = PROC2_DESC_TABLE},
    [EXIT_LDTR_TR] = {.when = IF_PROC2, .bits = PROC2_DESC_TABLE},
    [EXIT_RDTSCP] = {.when = IF_PROC, .bits = PROC_RDTSC},
    [EXIT_PREEMPTION_TIMER] = {.when = IF_PIN, .bits = PIN_PREEMPTION_TIMER},
    [EXIT_WBINVD] = {.when = IF_PROC2, .bits = PROC2_WBINVD},
    [EXIT_RDRAND] = {.when = IF_PROC2, .bits = PROC2_RDRAND},
    [EXIT_INVPCID] = {.when = ASK, .l1_wants = wants_invpcid},
    [EXIT_VMFUNC] = {.when = IF_PROC2, .bits = PROC2_VMFUNC},
    [EXIT_ENCLS] = {.when = IF_PROC2, .bits = PROC2_ENCLS},
    [EXIT_RDSEED] = {.when = IF_PROC2, .bits = PROC2_RDSEED},
    [EXIT_PML_FULL] = {.when = IF_PROC2, .bits = PROC2_PML},
    [EXIT_XSAVES] = {.when = ASK, .l1_wants = wants_xsaves},
    [EXIT_XRSTORS] = {.when = ASK, .l1_wants = wants_xsaves},
    [EXIT_RDMSRLIST] = {.when = ASK, .l1_wants = wants_rdmsr},
    [EXIT_WRMSRLIST] = {.when = ASK, .l1_wants = wants_wrmsr},
    [EXIT_RDMSR_IMMEDIATE] = {.when = ASK, .l1_wants = wants_rdmsr},
    [EXIT_WRMSRNS_IMMEDIATE] = {.when = ASK, .l1_wants = wants_wrmsr},
    [EXIT_SPP] = {.when = IF_PROC2, .bits = PROC2_SPP},
    [EXIT_UMWAIT] = {.when = ASK, .l1_wants = wants_user_wait},
    [EXIT_TPAUSE] = {.when = ASK, .l1_wants = wants_user_wait},
    [EXIT_ENCLV] = {.when = IF_PROC2, .bits = PROC2_ENCLV},
    [EXIT_ENQCMD] = {.when = IF_PROC2, .bits = PROC2_PASID},
    [EXIT_ENQCMDS] = {.when = IF_PROC2, .bits = PROC2_PASID},
    [EXIT_BUS_LOCK] = {.when = IF_PROC2, .bits = PROC2_BUS_LOCK},
    [EXIT_NOTIFY] = {.when = IF_PROC2, .bits = PROC2_NOTIFY},
};

/* Control words by enum when; the others ask for no bit. */
struct asked {
    uint32_t word[IF_PROC2 + 1];
};

static inline struct asked asked_of(const struct vmcs12 *v)
{
    return (struct asked){{
        [IF_PIN] = (uint32_t)v->PIN_CONTROLS,
        [IF_PROC] = (uint32_t)v->PROC_CONTROLS,
        [IF_PROC2] = vmcs12_proc2(v),
    }};
}

/* True if L1 may want the exit by its controls; a row's own question is still to be asked. */
static inline bool controls_want(const struct asked *asked, const struct rule *rule)
{
    return !rule->bits || (asked->word[rule->when] & rule->bits);
}

/* L0 first: an exit that is L0's own by nature, such as its NMI, is not L1's even if L1 asked for the like. */
enum decision decide_exit(const struct decide_input *in)
{
    const struct rule *rule;

    /* A failed entry is L1's, as is whatever a newer CPU invents. */
    if (in->exit->entry_failure || in->exit->reason >= EXIT_REASON_COUNT)
        return TO_L1;
    rule = &rules[in->exit->reason];
    if (rule->l0_keeps && rule->l0_keeps(in))
        return TO_L0;
    const struct asked asked = asked_of(in->v);
    if (!controls_want(&asked, rule) || (rule->when == ASK && !rule->l1_wants(in)))
        return TO_L0;
    return TO_L1;
}

/* nested/exit.c looks at these first: what EPT02 lacks, VMFUNC, the end of a wait, a shutdown that it explains. */
#define STRAIGHT_NEVER (BIT(EXIT_EPT_VIOLATION) | BIT(EXIT_VMFUNC) | BIT(EXIT_SIPI) | BIT(EXIT_TRIPLE_FAULT))

uint64_t decide_straight(const struct vmcs12 *v)
{
    const struct asked asked = asked_of(v);
    uint64_t straight = 0;

    /* A row that asks neither L0 nor a bitmap depends on the controls alone, so its answer holds until L1 writes
     * one. */
    for (unsigned reason = 0; reason < MIN(EXIT_REASON_COUNT, 64); reason++)
        if (rules[reason].when != ASK && !rules[reason].l0_keeps && controls_want(&asked, &rules[reason]))
            straight |= BIT(reason);
    if ((v->PROC_CONTROLS & (PROC_USE_IO_BITMAPS | PROC_UNCOND_IO)) == PROC_UNCOND_IO)
        straight |= BIT(EXIT_IO); /* whatever the port */
    if (vmcs12_proc2(v) & PROC2_EPT)
        straight |= BIT(EXIT_EPT_MISCONFIG); /* EPT02 has none but where it repeats EPT12's */
    return straight & ~STRAIGHT_NEVER;
}
