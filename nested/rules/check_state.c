/* Non-register state: is the guest halted, what blocks its interrupts, what debug exceptions wait. The rules forbid
 * combinations that no processor can be in, and events that could not be delivered in the state asked for. The last
 * rows look into L1's memory, for the VMCS that the link pointer names and for the PDPTEs, and follow the row that
 * found the address to be good. SDM 3C 27.3.1.5 "Checks on Guest Non-Register State" */
#include "kernel/x86_bits.h"
#include "nested/rules/check_rows.h"

/* Of exit 33. SDM 3C 27.8 "VM-Entry Failures During or After Loading Guest State" */
#define QUALIFICATION_PDPTE 2
#define QUALIFICATION_NMI 3
#define QUALIFICATION_LINK_POINTER 4

/* IA32_VMX_MISC has a bit for each state but the active one. */
static bool activity_supported(const struct check *c)
{
    switch (c->value) {
    case ACTIVITY_ACTIVE:
        return true;
    case ACTIVITY_HLT:
        return c->caps->misc & VMX_MISC_ACTIVITY_HLT;
    case ACTIVITY_SHUTDOWN:
        return c->caps->misc & VMX_MISC_ACTIVITY_SHUTDOWN;
    case ACTIVITY_WAIT_SIPI:
        return c->caps->misc & VMX_MISC_ACTIVITY_WAIT_SIPI;
    default:
        return false;
    }
}

/* HLT can be executed at CPL 0 alone, so no other code can be halted. */
static bool hlt_at_cpl0(const struct check *c)
{
    return c->value != ACTIVITY_HLT || GET(c->v->GUEST_SS_AR_BYTES, AR_DPL) == 0;
}

/* The instruction behind STI or MOV SS is about to be executed: the processor cannot be idle. */
static bool active_while_blocking(const struct check *c)
{
    return c->value == ACTIVITY_ACTIVE || !(c->v->GUEST_INTERRUPTIBILITY & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}

/* True if an event of this type and vector is to be injected. */
static bool event_is_vector(const struct check *c, unsigned type, unsigned vector)
{
    return check_event_is(c, type) && GET(c->word[CHECK_EVENT], INTR_VECTOR) == vector;
}

/* An event must be one that the activity state lets through. */
static bool event_wakes(const struct check *c)
{
    switch (c->value) {
    case ACTIVITY_HLT:
        return check_event_is(c, INTR_TYPE_EXTERNAL) || check_event_is(c, INTR_TYPE_NMI) ||
               event_is_vector(c, INTR_TYPE_HARD_EXCEPTION, VECTOR_DB) ||
               event_is_vector(c, INTR_TYPE_HARD_EXCEPTION, VECTOR_MC) || event_is_vector(c, INTR_TYPE_OTHER, 0);
    case ACTIVITY_SHUTDOWN:
        return check_event_is(c, INTR_TYPE_NMI) || event_is_vector(c, INTR_TYPE_HARD_EXCEPTION, VECTOR_MC);
    case ACTIVITY_WAIT_SIPI:
        return false;
    default:
        return true;
    }
}

#define INTERRUPTIBILITY_RESERVED BITS(31, 5)

/* Five bits have a meaning: STI, MOV SS, SMI, NMI, and an enclave's interruption. */
static bool interruptibility_reserved(const struct check *c)
{
    return (c->value & INTERRUPTIBILITY_RESERVED) == 0;
}

/* The two kinds of blocking exclude each other. */
static bool one_shadow(const struct check *c)
{
    return (c->value & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) != (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
}

/* Blocking by STI comes of an STI that has just set IF. */
static bool sti_needs_if(const struct check *c)
{
    return !(c->value & BLOCKING_BY_STI) || c->v->GUEST_RFLAGS & RFLAGS_IF;
}

/* An interrupt that is blocked cannot be the one under way. */
static bool interrupt_unblocked(const struct check *c)
{
    return !check_event_is(c, INTR_TYPE_EXTERNAL) || !(c->value & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}

/* MOV SS holds back NMIs as well. */
static bool nmi_not_after_mov_ss(const struct check *c)
{
    return !check_event_is(c, INTR_TYPE_NMI) || !(c->value & BLOCKING_BY_MOV_SS);
}

/* L1 is never in SMM as Nestor shows it the machine. */
static bool not_blocked_by_smi(const struct check *c)
{
    return !(c->value & BLOCKING_BY_SMI);
}

/* Left to the processor's choice by the SDM. */
static bool nmi_not_after_sti(const struct check *c)
{
    return !check_event_is(c, INTR_TYPE_NMI) || !(c->value & BLOCKING_BY_STI);
}

/* With virtual NMIs an NMI blocks the next; the row asks only then. */
static bool virtual_nmi_unblocked(const struct check *c)
{
    return !check_event_is(c, INTR_TYPE_NMI) || !(c->value & BLOCKING_BY_NMI);
}

/* That the processor has SGX is left to the CPU, which judges vmcs02. */
static bool enclave_without_mov_ss(const struct check *c)
{
    return !(c->value & ENCLAVE_INTERRUPTION) || !(c->value & BLOCKING_BY_MOV_SS);
}

#define PENDING_DEBUG_ALWAYS (PENDING_DEBUG_BREAKPOINTS | PENDING_DEBUG_ENABLED_BP | PENDING_DEBUG_BS)
#define DEBUGCTL_BTF BIT(1)

/* Four breakpoints, "enabled breakpoint" and single step have bits on each CPU. That it has more must be known here: a
 * CPU looks at this field before it loads MSRs, which Nestor does before it asks the CPU. */
static bool pending_debug_reserved(const struct check *c)
{
    return (c->value & ~(PENDING_DEBUG_ALWAYS | c->caps->pending_debug)) == 0;
}

/* Where a single-step trap would be held back, BS says that there is one: just when TF asks for it. */
static bool pending_single_step(const struct check *c)
{
    bool steps = c->v->GUEST_RFLAGS & RFLAGS_TF && !(c->v->GUEST_DEBUGCTL & DEBUGCTL_BTF);

    return !(c->value & PENDING_DEBUG_BS) == !steps;
}

/* A debug exception inside a transactional region carries no breakpoint's number, and says that one was enabled. */
static bool pending_rtm(const struct check *c)
{
    if (!(c->value & PENDING_DEBUG_RTM))
        return true;
    return (c->value & (BITS(11, 0) | BITS(15, 13))) == 0 && c->value & PENDING_DEBUG_ENABLED_BP &&
           !(c->v->GUEST_INTERRUPTIBILITY & BLOCKING_BY_MOV_SS);
}

/* The address of a VMCS region, as VMPTRLD would take it. */
static bool link_address(const struct check *c)
{
    return IS_ALIGNED(c->value, PAGE_SIZE) && check_within_width(c, c->value);
}

/* The first word of the region: the revision, and in bit 31 whether it is a shadow VMCS. */
static uint32_t link_header(const struct check *c)
{
    uint32_t header;

    c->context->read(c->context->context, c->value, &header, sizeof header);
    return header;
}

/* L1 keeps VMCSs of one format, whose number its IA32_VMX_BASIC has. */
static bool link_revision(const struct check *c)
{
    return GET(link_header(c), VMX_BASIC_REVISION) == GET(c->caps->basic, VMX_BASIC_REVISION);
}

/* With VMCS shadowing the link must lead to a shadow VMCS, without it to an ordinary one. */
static bool link_shadow(const struct check *c)
{
    return !(link_header(c) & VMCS_SHADOW_INDICATOR) == !(c->word[CHECK_PROC2] & PROC2_VMCS_SHADOWING);
}

/* A VMCS cannot be its own shadow. */
static bool link_not_current(const struct check *c)
{
    return c->value != c->context->current_vmptr;
}

#define LINK(name, fn)                                                                                                 \
    CHECK_ROW(name, VMCS_LINK_POINTER, IF_MODE(MODE_LINKED), .qualification = QUALIFICATION_LINK_POINTER, .holds = fn)

static const struct check_row state_rows[] = {
    CHECK_ROW("activity state not supported", GUEST_ACTIVITY_STATE, ALWAYS, .holds = activity_supported),
    CHECK_ROW("activity state HLT with SS.DPL not zero", GUEST_ACTIVITY_STATE, ALWAYS, .holds = hlt_at_cpl0),
    CHECK_ROW("activity state with blocking by STI or MOV SS", GUEST_ACTIVITY_STATE, ALWAYS,
              .holds = active_while_blocking),
    CHECK_ROW("activity state blocks the injected event", GUEST_ACTIVITY_STATE, IF_EVENT, .holds = event_wakes),
    CHECK_ROW("interruptibility: reserved bits", GUEST_INTERRUPTIBILITY, ALWAYS, .holds = interruptibility_reserved),
    CHECK_ROW("interruptibility: both STI and MOV SS", GUEST_INTERRUPTIBILITY, ALWAYS, .holds = one_shadow),
    CHECK_ROW("interruptibility: STI with RFLAGS.IF clear", GUEST_INTERRUPTIBILITY, ALWAYS, .holds = sti_needs_if),
    CHECK_ROW("interruptibility: blocks the injected interrupt", GUEST_INTERRUPTIBILITY, IF_EVENT,
              .holds = interrupt_unblocked),
    CHECK_ROW("interruptibility: MOV SS with injected NMI", GUEST_INTERRUPTIBILITY, IF_EVENT,
              .holds = nmi_not_after_mov_ss),
    CHECK_ROW("interruptibility: blocking by SMI outside SMM", GUEST_INTERRUPTIBILITY, ALWAYS,
              .holds = not_blocked_by_smi),
    CHECK_ROW("interruptibility: STI with injected NMI", GUEST_INTERRUPTIBILITY, IF_EVENT,
              .qualification = QUALIFICATION_NMI, .holds = nmi_not_after_sti),
    CHECK_ROW("interruptibility: virtual NMI blocked and injected", GUEST_INTERRUPTIBILITY, IF_PIN(PIN_VIRTUAL_NMIS),
              .holds = virtual_nmi_unblocked),
    CHECK_ROW("interruptibility: enclave interruption with MOV SS", GUEST_INTERRUPTIBILITY, ALWAYS,
              .holds = enclave_without_mov_ss),
    CHECK_ROW("pending debug exceptions: reserved bits", GUEST_PENDING_DEBUG, ALWAYS, .holds = pending_debug_reserved),
    CHECK_ROW("pending debug exceptions: BS against RFLAGS.TF", GUEST_PENDING_DEBUG, IF_MODE(MODE_BS_MATTERS),
              .holds = pending_single_step),
    CHECK_ROW("pending debug exceptions: RTM", GUEST_PENDING_DEBUG, ALWAYS, .holds = pending_rtm),
    LINK("VMCS link pointer: address", link_address),
    LINK("VMCS link pointer: revision identifier", link_revision),
    LINK("VMCS link pointer: shadow-VMCS indicator", link_shadow),
    LINK("VMCS link pointer: is the current VMCS", link_not_current),
};

/* SDM 3A 4.4.1 "PDPTE Registers": bits 2:1, 8:5 and those beyond the physical-address width are reserved. */
static bool pdpte_accepted(const struct check *c, uint64_t entry)
{
    return !(entry & PTE_P) || ((entry & (BITS(2, 1) | BITS(8, 5))) == 0 && check_within_width(c, entry));
}

/* With EPT the four entries are fields of the guest-state area. */
static bool pdpte_field(const struct check *c)
{
    return pdpte_accepted(c, c->value);
}

#define CR3_PDPT BITS(31, 5)

/* Without EPT the CPU loads the four entries from the page that CR3 names. SDM 3C 27.3.1.6 "Checks on Guest
 * Page-Directory-Pointer-Table Entries" */
static bool pdptes_in_memory(const struct check *c)
{
    uint64_t entries[4];

    c->context->read(c->context->context, c->value & CR3_PDPT, entries, sizeof entries);
    for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
        if (!pdpte_accepted(c, entries[i]))
            return false;
    return true;
}

#define PDPTE(name, on, mode, fn) CHECK_ROW(name, on, IF_MODE(mode), .qualification = QUALIFICATION_PDPTE, .holds = fn)

static const struct check_row pdpte_rows[] = {
    PDPTE("guest PDPTE0: reserved bits", GUEST_PDPTE0, MODE_PAE, pdpte_field),
    PDPTE("guest PDPTE1: reserved bits", GUEST_PDPTE1, MODE_PAE, pdpte_field),
    PDPTE("guest PDPTE2: reserved bits", GUEST_PDPTE2, MODE_PAE, pdpte_field),
    PDPTE("guest PDPTE3: reserved bits", GUEST_PDPTE3, MODE_PAE, pdpte_field),
    PDPTE("PDPTEs at guest CR3: reserved bits", GUEST_CR3, MODE_PAE_IN_MEMORY, pdptes_in_memory),
};

const struct check_table check_guest_state =
    CHECK_TABLE(CHECK_FAIL_GUEST, "SDM 3C 27.3.1.5 \"Checks on Guest Non-Register State\"", state_rows);
const struct check_table check_guest_pdptes = CHECK_TABLE(
    CHECK_FAIL_GUEST, "SDM 3C 27.3.1.6 \"Checks on Guest Page-Directory-Pointer-Table Entries\"", pdpte_rows);
