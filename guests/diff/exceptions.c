#include "guests/diff/exceptions.h"

#include "guests/diff/base.h"
#include "guests/lib/cpu.h"

#define AR_TYPE_CODE_READ 11
#define CR4_CET BIT(23)
#define SELECTOR_RPL 3u

static bool proc2(const struct image *v, uint64_t bit)
{
    return v->f[F_PROC_CONTROLS] & PROC_SECONDARY && v->f[F_PROC2_CONTROLS] & bit;
}

static bool ia32e(const struct image *v)
{
    return v->f[F_ENTRY_CONTROLS] & ENTRY_GUEST_64;
}

static bool injects(const struct image *v)
{
    return v->f[F_ENTRY_INTERRUPTION_INFO] & INTR_VALID;
}

static unsigned event_type(const struct image *v)
{
    return (unsigned)GET(v->f[F_ENTRY_INTERRUPTION_INFO], INTR_TYPE);
}

/* L2's code would run for ever. */
static bool unbounded(const struct image *v)
{
    return !(v->f[F_PIN_CONTROLS] & PIN_PREEMPTION_TIMER);
}

static bool rip_not_canonical(const struct image *v)
{
    int64_t rip = (int64_t)v->f[F_GUEST_RIP];

    return ia32e(v) && v->f[F_GUEST_CS_AR_BYTES] & AR_L && rip >> 47 != 0 && rip >> 47 != -1;
}

static bool ia32e_without_paging(const struct image *v)
{
    return ia32e(v) && (~v->f[F_GUEST_CR0] & (CR0_PG | CR0_PE));
}

static bool v86_without_protection(const struct image *v)
{
    return v->f[F_GUEST_RFLAGS] & RFLAGS_VM && !(v->f[F_GUEST_CR0] & CR0_PE);
}

static bool smm_controls(const struct image *v)
{
    return v->f[F_ENTRY_CONTROLS] & (ENTRY_TO_SMM | ENTRY_NO_DUAL_MONITOR);
}

static bool pending_debug_upper(const struct image *v)
{
    return v->f[F_GUEST_PENDING_DEBUG] >> 32;
}

static bool single_step_inconsistent(const struct image *v)
{
    bool held = v->f[F_GUEST_INTERRUPTIBILITY] & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS) ||
                v->f[F_GUEST_ACTIVITY_STATE] == ACTIVITY_HLT;

    return held && !(v->f[F_GUEST_PENDING_DEBUG] & PENDING_DEBUG_BS) != !(v->f[F_GUEST_RFLAGS] & RFLAGS_TF);
}

static bool single_steps(const struct image *v)
{
    return v->f[F_GUEST_RFLAGS] & RFLAGS_TF;
}

static bool event_while_inactive(const struct image *v)
{
    return injects(v) && v->f[F_GUEST_ACTIVITY_STATE] != ACTIVITY_ACTIVE;
}

/* Nestor offers L1 CET without its part of VMX, which every CPU with CET has. */
static bool cpu_has_cet(void)
{
    return caps.cr4_fixed1 & CR4_CET;
}

uint64_t exceptions_eptp(uint64_t eptp)
{
    return cpu_has_cet() ? eptp & ~(uint64_t)EPTP_SHADOW_STACK : eptp;
}

static bool shadow_stack_hidden(const struct image *v)
{
    return v->f[F_EPT_POINTER] != exceptions_eptp(v->f[F_EPT_POINTER]);
}

/* Nestor hides it where a CPU judges bases wrongly. */
static bool guest_la57(const struct image *v)
{
    return v->f[F_GUEST_CR4] & CR4_LA57;
}

static bool host_la57(const struct image *v)
{
    return v->f[F_HOST_CR4] & CR4_LA57;
}

/* A CPU with IA32_VMX_BASIC[56] lets an error code come with any hardware exception in protected mode, and with nothing
 * else. SDM 3C 27.2.1.3 "VM-Entry Control Fields" */
static bool error_code_misplaced(const struct image *v)
{
    bool exception = event_type(v) == INTR_TYPE_HARD_EXCEPTION && v->f[F_GUEST_CR0] & CR0_PE;

    return caps.basic & VMX_BASIC_NO_ERROR_CODE_CHECK && injects(v) && !exception &&
           v->f[F_ENTRY_INTERRUPTION_INFO] & INTR_ERROR_CODE;
}

/* Activity states that only the bare CPU has. */
static bool activity_hidden(const struct image *v)
{
    switch (v->f[F_GUEST_ACTIVITY_STATE]) {
    case ACTIVITY_HLT:
        return !(caps.misc & VMX_MISC_ACTIVITY_HLT);
    case ACTIVITY_SHUTDOWN:
        return !(caps.misc & VMX_MISC_ACTIVITY_SHUTDOWN);
    default:
        return false;
    }
}

static bool waits_for_sipi(const struct image *v)
{
    return v->f[F_GUEST_ACTIVITY_STATE] == ACTIVITY_WAIT_SIPI;
}

static bool nmi_while_blocked(const struct image *v)
{
    return injects(v) && event_type(v) == INTR_TYPE_NMI && v->f[F_GUEST_INTERRUPTIBILITY] & BLOCKING_BY_NMI;
}

static bool other_event(const struct image *v)
{
    return injects(v) && event_type(v) == INTR_TYPE_OTHER;
}

/* Their demands are looked at with a virtual-APIC page only. */
static bool posted_without_tpr_shadow(const struct image *v)
{
    return v->f[F_PIN_CONTROLS] & PIN_POSTED_INTERRUPTS && !(v->f[F_PROC_CONTROLS] & PROC_TPR_SHADOW);
}

/* The exit for a TPR threshold above VTPR comes after the event. */
static bool event_before_tpr_exit(const struct image *v)
{
    return injects(v) && v->f[F_PROC_CONTROLS] & PROC_TPR_SHADOW && proc2(v, PROC2_APIC_ACCESS) &&
           !proc2(v, PROC2_VIRTUAL_INTERRUPTS);
}

static bool privileges_differ(const struct image *v)
{
    uint64_t cpl = GET(v->f[F_GUEST_SS_AR_BYTES], AR_DPL);

    return proc2(v, PROC2_UNRESTRICTED) && !(v->f[F_GUEST_RFLAGS] & RFLAGS_VM) &&
           (v->f[F_GUEST_CS_SELECTOR] & SELECTOR_RPL) != cpl;
}

static bool readable_code_as_data(const struct image *v)
{
    for (unsigned i = F_GUEST_ES_AR_BYTES; i <= F_GUEST_GS_AR_BYTES; i++) {
        uint64_t ar = v->f[i], rpl = v->f[F_GUEST_ES_SELECTOR + i - F_GUEST_ES_AR_BYTES] & SELECTOR_RPL;
        if (GET(ar, AR_TYPE) == AR_TYPE_CODE_READ && i != F_GUEST_CS_AR_BYTES && rpl > GET(ar, AR_DPL))
            return true;
    }
    return false;
}

/* Where the reason says "BOCHS n", n is the bug's number in docs/DIFF.md.
 * first .. last: the rows of the image that go back to the base's values. */
static const struct exception {
    const char *reason;
    bool (*applies)(const struct image *);
    uint16_t first, last;
} exceptions[] = {
    {"every run of L2 is bounded by the timer", unbounded, F_PIN_CONTROLS, F_PIN_CONTROLS},
    {"BOCHS lax: posted interrupts without TPR shadow", posted_without_tpr_shadow, F_PIN_CONTROLS, F_PIN_CONTROLS},
    {"BOCHS lax: guest RIP that is not canonical", rip_not_canonical, F_GUEST_RIP, F_GUEST_RIP},
    {"BOCHS lax, and panics: IA-32e mode without paging or protection", ia32e_without_paging, F_GUEST_CR0, F_GUEST_CR0},
    {"BOCHS lax, and panics: IA-32e mode without paging or protection", ia32e_without_paging, F_ENTRY_CONTROLS,
     F_ENTRY_CONTROLS},
    {"BOCHS lax: virtual-8086 mode without protection", v86_without_protection, F_GUEST_RFLAGS, F_GUEST_RFLAGS},
    {"BOCHS lax: virtual-8086 mode without protection", v86_without_protection, F_GUEST_CR0, F_GUEST_CR0},
    {"BOCHS: entry to SMM gives exit 33", smm_controls, F_ENTRY_CONTROLS, F_ENTRY_CONTROLS},
    {"BOCHS lax: pending debug exceptions 63:32", pending_debug_upper, F_GUEST_PENDING_DEBUG, F_GUEST_PENDING_DEBUG},
    {"BOCHS lax: pending debug exceptions BS against TF", single_step_inconsistent, F_GUEST_PENDING_DEBUG,
     F_GUEST_PENDING_DEBUG},
    {"BOCHS lax: pending debug exceptions BS against TF", single_step_inconsistent, F_GUEST_RFLAGS, F_GUEST_RFLAGS},
    {"BOCHS lax: pending debug exceptions BS against TF", single_step_inconsistent, F_GUEST_INTERRUPTIBILITY,
     F_GUEST_INTERRUPTIBILITY},
    {"BOCHS 8: RFLAGS.TF loaded by a VM entry has no effect until the next exit", single_steps, F_GUEST_RFLAGS,
     F_GUEST_RFLAGS},
    {"capability hidden by Nestor: activity states", activity_hidden, F_GUEST_ACTIVITY_STATE, F_GUEST_ACTIVITY_STATE},
    {"capability hidden by Nestor: supervisor shadow stacks", shadow_stack_hidden, F_EPT_POINTER, F_EPT_POINTER},
    {"capability hidden by Nestor: 5-level paging", guest_la57, F_GUEST_CR4, F_GUEST_CR4},
    {"capability hidden by Nestor: 5-level paging", host_la57, F_HOST_CR4, F_HOST_CR4},
    {"BOCHS 19: error codes of what has none", error_code_misplaced, F_ENTRY_INTERRUPTION_INFO,
     F_ENTRY_INTERRUPTION_INFO},
    {"no other processor would end a wait for a start-up IPI", waits_for_sipi, F_GUEST_ACTIVITY_STATE,
     F_GUEST_ACTIVITY_STATE},
    {"BOCHS lax: events that the activity state does not let through", event_while_inactive, F_GUEST_ACTIVITY_STATE,
     F_GUEST_ACTIVITY_STATE},
    {"BOCHS 16: NMI injected while NMIs are blocked", nmi_while_blocked, F_GUEST_INTERRUPTIBILITY,
     F_GUEST_INTERRUPTIBILITY},
    {"BOCHS 17: event type 7 panics", other_event, F_ENTRY_INTERRUPTION_INFO, F_ENTRY_INTERRUPTION_INFO},
    {"BOCHS: no look at the TPR threshold after an event whose delivery faults", event_before_tpr_exit, F_TPR_THRESHOLD,
     F_TPR_THRESHOLD},
    {"BOCHS 11, 13: CS.RPL for CPL", privileges_differ, F_GUEST_CS_SELECTOR, F_GUEST_SS_SELECTOR},
    {"BOCHS 11, 13: CS.RPL for CPL", privileges_differ, F_GUEST_CS_AR_BYTES, F_GUEST_SS_AR_BYTES},
    {"BOCHS 12: RPL of type 11 used as data", readable_code_as_data, F_GUEST_ES_AR_BYTES, F_GUEST_GS_AR_BYTES},
    {"BOCHS 12: RPL of type 11 used as data", readable_code_as_data, F_GUEST_ES_SELECTOR, F_GUEST_GS_SELECTOR},
};

/* BOCHS 14: without "unrestricted guest" L2 may clear CR0.PE and CR0.PG; masked, the attempt exits. */
static void keep_fixed_bits(struct image *v)
{
    const uint64_t fixed = CR0_PE | CR0_PG | CR0_NE;

    if (proc2(v, PROC2_UNRESTRICTED))
        return;
    v->f[F_CR0_GUEST_HOST_MASK] |= fixed;
    v->f[F_CR0_READ_SHADOW] |= fixed;
}

void exceptions_remove(struct image *v, const struct image *base)
{
    keep_fixed_bits(v);
    for (unsigned i = 0; i < ARRAY_SIZE(exceptions); i++)
        if (exceptions[i].applies(v))
            for (unsigned row = exceptions[i].first; row <= exceptions[i].last; row++)
                v->f[row] = base->f[row];
}
