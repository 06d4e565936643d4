/* Rules on the control fields: three sections of the SDM, and the TPR threshold in a table of its own. Most are of
 * two kinds. Reserved bits are what a capability MSR says they are, so that row is one compare with what L1 was
 * offered; and a control that only makes sense with another one needs that other. Addresses are judged only while
 * the control that uses them is on. SDM 3C 27.2.1 "Checks on VMX Controls" */
#include "kernel/x86_bits.h"
#include "nested/rules/check_rows.h"

/* The bits that must be 1 and those that may be, as L1 reads them in its capability MSRs. SDM 3D A.2 "Reserved Controls
 * and Default Settings" */
static bool pin_accepted(const struct check *c)
{
    return caps_accepts(c->caps->pin, c->value);
}

static bool proc_accepted(const struct check *c)
{
    return caps_accepts(c->caps->proc, c->value);
}

static bool proc2_accepted(const struct check *c)
{
    return caps_accepts(c->caps->proc2, c->value);
}

/* 64 bits, of which none must be 1. */
static bool proc3_accepted(const struct check *c)
{
    return (c->value & ~c->caps->proc3) == 0;
}

/* Values that a MOV to CR3 may load without an exit; IA32_VMX_MISC says how many there are. */
static bool cr3_target_count(const struct check *c)
{
    return c->value <= GET(c->caps->misc, VMX_MISC_CR3_TARGETS);
}

/* A page that the processor is given by address: aligned, within the physical-address width. */
static bool page_address(const struct check *c)
{
    return IS_ALIGNED(c->value, PAGE_SIZE) && check_within_width(c, c->value);
}

/* The threshold is a priority class of four bits; virtual-interrupt delivery ignores it. */
static bool tpr_threshold_reserved(const struct check *c)
{
    return c->word[CHECK_PROC2] & PROC2_VIRTUAL_INTERRUPTS || (c->value & BITS(31, 4)) == 0;
}

#define VIRTUAL_TPR_OFFSET 0x80
#define VIRTUAL_TPR_CLASS BITS(7, 4)

/* Above the class in L1's virtual-APIC page the exit would come at once; with APIC accesses virtualised the CPU itself
 * makes it. */
static bool tpr_threshold_reached(const struct check *c)
{
    uint8_t tpr;

    if (c->word[CHECK_PROC2] & (PROC2_VIRTUAL_INTERRUPTS | PROC2_APIC_ACCESS))
        return true;
    c->context->read(c->context->context, c->v->VIRTUAL_APIC_ADDR + VIRTUAL_TPR_OFFSET, &tpr, sizeof tpr);
    return c->value <= GET(tpr, VIRTUAL_TPR_CLASS);
}

/* Virtual NMIs are the guest's own NMIs, which must not be confused with those of the host. */
static bool needs_nmi_exiting(const struct check *c)
{
    return c->word[CHECK_PIN] & PIN_NMI;
}

/* Without virtual NMIs the CPU knows no blocking of its own for the guest, whose end a window could tell. */
static bool needs_virtual_nmis(const struct check *c)
{
    return c->word[CHECK_PIN] & PIN_VIRTUAL_NMIS;
}

/* All three features keep their registers in the virtual-APIC page, which the TPR shadow brings. */
static bool needs_tpr_shadow(const struct check *c)
{
    return c->word[CHECK_PROC] & PROC_TPR_SHADOW;
}

/* A guest's APIC is reached by memory or by MSRs, not by both. */
static bool no_apic_access(const struct check *c)
{
    return !(c->word[CHECK_PROC2] & PROC2_APIC_ACCESS);
}

/* Virtual interrupts are delivered by the CPU; the host's must exit, or both would come by the same door. */
static bool needs_interrupt_exiting(const struct check *c)
{
    return c->word[CHECK_PIN] & PIN_EXTERNAL_INTERRUPT;
}

static bool needs_virtual_interrupts(const struct check *c)
{
    return c->word[CHECK_PROC2] & PROC2_VIRTUAL_INTERRUPTS;
}

static bool needs_acknowledge(const struct check *c)
{
    return c->v->EXIT_CONTROLS & EXITC_ACK_INTERRUPT;
}

static bool is_vector(const struct check *c)
{
    return (c->value & BITS(15, 8)) == 0;
}

#define POSTED_DESC_SIZE 64

static bool posted_descriptor(const struct check *c)
{
    return IS_ALIGNED(c->value, POSTED_DESC_SIZE) && check_within_width(c, c->value);
}

/* VPID 0000H is the tag of root operation. */
static bool not_zero(const struct check *c)
{
    return c->value != 0;
}

#define EPT_TYPE_UC 0
#define EPT_TYPE_WB 6

/* The type with which the CPU reads the EPT tables themselves. SDM 3C 25.6.11 "Extended-Page-Table Pointer (EPTP)" */
static bool eptp_memory_type(const struct check *c)
{
    switch (GET(c->value, EPTP_MEMORY_TYPE)) {
    case EPT_TYPE_UC:
        return c->caps->ept_vpid & EPT_CAP_UC;
    case EPT_TYPE_WB:
        return c->caps->ept_vpid & EPT_CAP_WB;
    default:
        return false;
    }
}

/* The field holds the number of levels less 1. */
static bool eptp_walk_length(const struct check *c)
{
    switch (GET(c->value, EPTP_WALK_LENGTH) + 1) {
    case 4:
        return c->caps->ept_vpid & EPT_CAP_WALK4;
    case 5:
        return c->caps->ept_vpid & EPT_CAP_WALK5;
    default:
        return false;
    }
}

/* Bit 6 turns on accessed and dirty flags, where the CPU has them. */
static bool eptp_accessed_dirty(const struct check *c)
{
    return !(c->value & EPTP_AD) || c->caps->ept_vpid & EPT_CAP_AD;
}

/* Bit 7 makes the CPU enforce rights for supervisor shadow stacks, where it can. */
static bool eptp_shadow_stack(const struct check *c)
{
    return !(c->value & EPTP_SHADOW_STACK) || c->caps->ept_vpid & EPT_CAP_SUPERVISOR_SHADOW_STACK;
}

/* Bits 11:8, and those beyond the physical-address width. */
static bool eptp_reserved(const struct check *c)
{
    return (c->value & EPTP_RESERVED) == 0 && check_within_width(c, c->value);
}

/* The same five predicates outside an entry, for INVEPT and for EPTP switching: they read the value and the
 * capabilities alone. */
bool check_eptp(const struct vmx_caps *caps, uint64_t eptp)
{
    const struct check c = {.caps = caps, .value = eptp};
    return eptp_memory_type(&c) && eptp_walk_length(&c) && eptp_accessed_dirty(&c) && eptp_shadow_stack(&c) &&
           eptp_reserved(&c);
}

/* Logging of modified pages and unrestricted guests are features of EPT: without it there is nothing to log, and
 * nothing that could stand for the page tables of a guest without paging. */
static bool needs_ept(const struct check *c)
{
    return c->word[CHECK_PROC2] & PROC2_EPT;
}

/* IA32_VMX_VMFUNC has a bit for each function that may be on. */
static bool vm_functions(const struct check *c)
{
    return (c->value & ~c->caps->vmfunc) == 0;
}

#define VMFUNC_EPTP_SWITCHING BIT(0)

static bool switches_eptp(const struct check *c)
{
    return c->v->VM_FUNCTION_CONTROLS & VMFUNC_EPTP_SWITCHING;
}

/* EPTP switching replaces an EPTP: there must be one. */
static bool switching_needs_ept(const struct check *c)
{
    return !switches_eptp(c) || needs_ept(c);
}

/* 512 EPTPs in one page, looked at when L2 executes VMFUNC. */
static bool eptp_list(const struct check *c)
{
    return !switches_eptp(c) || page_address(c);
}

/* A table of its own, as Linux writes the threshold before many entries. */
static const struct check_row tpr_rows[] = {
    CHECK_ROW("TPR threshold: bits 31:4", TPR_THRESHOLD, IF_PROC(PROC_TPR_SHADOW), .holds = tpr_threshold_reserved),
    CHECK_ROW("TPR threshold above VTPR", TPR_THRESHOLD, IF_PROC(PROC_TPR_SHADOW), .holds = tpr_threshold_reached),
};

static const struct check_row execution_rows[] = {
    CHECK_ROW("pin-based controls: reserved bits", PIN_CONTROLS, ALWAYS, .holds = pin_accepted),
    CHECK_ROW("primary controls: reserved bits", PROC_CONTROLS, ALWAYS, .holds = proc_accepted),
    CHECK_ROW("secondary controls: reserved bits", PROC2_CONTROLS, IF_PROC(PROC_SECONDARY), .holds = proc2_accepted),
    CHECK_ROW("tertiary controls: reserved bits", PROC3_CONTROLS, IF_PROC(PROC_TERTIARY), .holds = proc3_accepted),
    CHECK_ROW("CR3-target count", CR3_TARGET_COUNT, ALWAYS, .holds = cr3_target_count),
    CHECK_ROW("I/O-bitmap A address", IO_BITMAP_A, IF_PROC(PROC_USE_IO_BITMAPS), .holds = page_address),
    CHECK_ROW("I/O-bitmap B address", IO_BITMAP_B, IF_PROC(PROC_USE_IO_BITMAPS), .holds = page_address),
    CHECK_ROW("MSR-bitmap address", MSR_BITMAP, IF_PROC(PROC_USE_MSR_BITMAPS), .holds = page_address),
    CHECK_ROW("virtual-APIC address", VIRTUAL_APIC_ADDR, IF_PROC(PROC_TPR_SHADOW), .holds = page_address),
    CHECK_ROW("virtual NMIs without NMI exiting", PIN_CONTROLS, IF_PIN(PIN_VIRTUAL_NMIS), .holds = needs_nmi_exiting),
    CHECK_ROW("NMI-window exiting without virtual NMIs", PROC_CONTROLS, IF_PROC(PROC_NMI_WINDOW),
              .holds = needs_virtual_nmis),
    CHECK_ROW("APIC-access address", APIC_ACCESS_ADDR, IF_PROC2(PROC2_APIC_ACCESS), .holds = page_address),
    CHECK_ROW("virtualize x2APIC mode without TPR shadow", PROC2_CONTROLS, IF_PROC2(PROC2_X2APIC),
              .holds = needs_tpr_shadow),
    CHECK_ROW("APIC-register virtualization without TPR shadow", PROC2_CONTROLS, IF_PROC2(PROC2_APIC_REGISTER),
              .holds = needs_tpr_shadow),
    CHECK_ROW("virtual-interrupt delivery without TPR shadow", PROC2_CONTROLS, IF_PROC2(PROC2_VIRTUAL_INTERRUPTS),
              .holds = needs_tpr_shadow),
    CHECK_ROW("virtualize x2APIC mode with virtualize APIC accesses", PROC2_CONTROLS, IF_PROC2(PROC2_X2APIC),
              .holds = no_apic_access),
    CHECK_ROW("virtual-interrupt delivery without external-interrupt exiting", PROC2_CONTROLS,
              IF_PROC2(PROC2_VIRTUAL_INTERRUPTS), .holds = needs_interrupt_exiting),
    CHECK_ROW("posted interrupts without virtual-interrupt delivery", PIN_CONTROLS, IF_PIN(PIN_POSTED_INTERRUPTS),
              .holds = needs_virtual_interrupts),
    CHECK_ROW("posted interrupts without acknowledge interrupt on exit", PIN_CONTROLS, IF_PIN(PIN_POSTED_INTERRUPTS),
              .holds = needs_acknowledge),
    CHECK_ROW("posted-interrupt notification vector: bits 15:8", POSTED_VECTOR, IF_PIN(PIN_POSTED_INTERRUPTS),
              .holds = is_vector),
    CHECK_ROW("posted-interrupt descriptor address", POSTED_DESC_ADDR, IF_PIN(PIN_POSTED_INTERRUPTS),
              .holds = posted_descriptor),
    CHECK_ROW("VPID zero", VPID, IF_PROC2(PROC2_VPID), .holds = not_zero),
    CHECK_ROW("EPTP: memory type", EPT_POINTER, IF_PROC2(PROC2_EPT), .holds = eptp_memory_type),
    CHECK_ROW("EPTP: page-walk length", EPT_POINTER, IF_PROC2(PROC2_EPT), .holds = eptp_walk_length),
    CHECK_ROW("EPTP: accessed and dirty flags", EPT_POINTER, IF_PROC2(PROC2_EPT), .holds = eptp_accessed_dirty),
    CHECK_ROW("EPTP: supervisor shadow stack", EPT_POINTER, IF_PROC2(PROC2_EPT), .holds = eptp_shadow_stack),
    CHECK_ROW("EPTP: reserved bits", EPT_POINTER, IF_PROC2(PROC2_EPT), .holds = eptp_reserved),
    CHECK_ROW("PML without EPT", PROC2_CONTROLS, IF_PROC2(PROC2_PML), .holds = needs_ept),
    CHECK_ROW("PML address", PML_ADDRESS, IF_PROC2(PROC2_PML), .holds = page_address),
    CHECK_ROW("mode-based execute control without EPT", PROC2_CONTROLS, IF_PROC2(PROC2_MODE_BASED_EXECUTE),
              .holds = needs_ept),
    CHECK_ROW("sub-page write permissions without EPT", PROC2_CONTROLS, IF_PROC2(PROC2_SPP), .holds = needs_ept),
    CHECK_ROW("sub-page-permission-table pointer", SPPTP, IF_PROC2(PROC2_SPP), .holds = page_address),
    CHECK_ROW("unrestricted guest without EPT", PROC2_CONTROLS, IF_PROC2(PROC2_UNRESTRICTED), .holds = needs_ept),
    CHECK_ROW("VM-function controls: reserved bits", VM_FUNCTION_CONTROLS, IF_PROC2(PROC2_VMFUNC),
              .holds = vm_functions),
    CHECK_ROW("EPTP switching without EPT", PROC2_CONTROLS, IF_PROC2(PROC2_VMFUNC), .holds = switching_needs_ept),
    CHECK_ROW("EPTP-list address", EPTP_LIST_ADDRESS, IF_PROC2(PROC2_VMFUNC), .holds = eptp_list),
    CHECK_ROW("VMREAD-bitmap address", VMREAD_BITMAP, IF_PROC2(PROC2_VMCS_SHADOWING), .holds = page_address),
    CHECK_ROW("VMWRITE-bitmap address", VMWRITE_BITMAP, IF_PROC2(PROC2_VMCS_SHADOWING), .holds = page_address),
    CHECK_ROW("virtualization-exception information address", VE_INFO_ADDRESS, IF_PROC2(PROC2_EPT_VE),
              .holds = page_address),
    CHECK_ROW("TSC multiplier zero", TSC_MULTIPLIER, IF_PROC2(PROC2_TSC_SCALING), .holds = not_zero),
};

/* VM-exit controls, as the pin-based ones above. SDM 3C 25.7.1 "VM-Exit Controls" */
static bool exit_accepted(const struct check *c)
{
    return caps_accepts(c->caps->exit, c->value);
}

static bool exit2_accepted(const struct check *c)
{
    return (c->value & ~c->caps->exit2) == 0;
}

/* A timer that is off has no value to save. */
static bool needs_preemption_timer(const struct check *c)
{
    return c->word[CHECK_PIN] & PIN_PREEMPTION_TIMER;
}

/* An area of `count` entries of 16 bytes: its address aligned, its first and last byte within the address width. The
 * sum needs no more than 64 bits: the address was found to have fewer than 53, the length has 36. */
static bool msr_area(const struct check *c, uint64_t count)
{
    if (count == 0)
        return true;
    if (!IS_ALIGNED(c->value, 16) || !check_within_width(c, c->value))
        return false;
    return check_within_width(c, c->value + count * 16 - 1);
}

/* The counts have 32 bits and no limit of their own here; IA32_VMX_MISC only recommends one, which nested/msr_area
 * applies when it walks the list. */
static bool exit_store_area(const struct check *c)
{
    return msr_area(c, c->v->EXIT_MSR_STORE_COUNT);
}

static bool exit_load_area(const struct check *c)
{
    return msr_area(c, c->v->EXIT_MSR_LOAD_COUNT);
}

static const struct check_row exit_rows[] = {
    CHECK_ROW("VM-exit controls: reserved bits", EXIT_CONTROLS, ALWAYS, .holds = exit_accepted),
    CHECK_ROW("secondary VM-exit controls: reserved bits", EXIT2_CONTROLS, IF_EXIT(EXITC_SECONDARY),
              .holds = exit2_accepted),
    CHECK_ROW("save VMX-preemption timer without the timer", EXIT_CONTROLS, IF_EXIT(EXITC_SAVE_TIMER),
              .holds = needs_preemption_timer),
    CHECK_ROW("VM-exit MSR-store area", EXIT_MSR_STORE_ADDR, ALWAYS, .holds = exit_store_area),
    CHECK_ROW("VM-exit MSR-load area", EXIT_MSR_LOAD_ADDR, ALWAYS, .holds = exit_load_area),
};

/* SDM 3C 25.8.1 "VM-Entry Controls" */
static bool entry_accepted(const struct check *c)
{
    return caps_accepts(c->caps->entry, c->value);
}

/* Of the event that the entry injects; the rows ask only while the valid bit is 1. */
static unsigned event_type(const struct check *c)
{
    return (unsigned)GET(c->word[CHECK_EVENT], INTR_TYPE);
}

static unsigned event_vector(const struct check *c)
{
    return (unsigned)GET(c->word[CHECK_EVENT], INTR_VECTOR);
}

/* Type 1 is reserved on every processor, type 7 on those without the monitor trap flag. */
static bool event_type_known(const struct check *c)
{
    return event_type(c) != 1 && (event_type(c) != INTR_TYPE_OTHER || c->caps->proc.may & PROC_MONITOR_TRAP);
}

/* NMIs have vector 2, exceptions one below 32, "other" events vector 0. */
static bool event_vector_fits(const struct check *c)
{
    switch (event_type(c)) {
    case INTR_TYPE_NMI:
        return event_vector(c) == VECTOR_NMI;
    case INTR_TYPE_HARD_EXCEPTION:
        return event_vector(c) < 32;
    case INTR_TYPE_OTHER:
        return event_vector(c) == 0; /* pending MTF VM exit */
    default:
        return true;
    }
}

#define VECTORS_WITH_ERROR_CODE                                                                                        \
    (BIT(VECTOR_DF) | BIT(VECTOR_TS) | BIT(VECTOR_NP) | BIT(VECTOR_SS) | BIT(VECTOR_GP) | BIT(VECTOR_PF) |             \
     BIT(VECTOR_AC))

/* An error code exactly where the exception pushes one, and none in real-address mode. CPUs that say so in
 * IA32_VMX_BASIC let either pass. */
static bool event_error_code_bit(const struct check *c)
{
    bool delivers = c->word[CHECK_EVENT] & INTR_ERROR_CODE;
    bool protected = c->word[CHECK_MODE] & MODE_RESTRICTED || c->v->GUEST_CR0 & CR0_PE;

    if (!protected || event_type(c) != INTR_TYPE_HARD_EXCEPTION)
        return !delivers;
    if (c->caps->basic & VMX_BASIC_NO_ERROR_CODE_CHECK)
        return true;
    return delivers == (event_vector(c) < 32 && VECTORS_WITH_ERROR_CODE & BIT(event_vector(c)));
}

/* Bits 30:12 of the interruption information; the type, the vector and the two flags have rows of their own. */
static bool event_reserved(const struct check *c)
{
    return (c->value & BITS(30, 12)) == 0;
}

/* Error codes have 16 bits, although the field has 32. */
static bool error_code_reserved(const struct check *c)
{
    return !(c->word[CHECK_EVENT] & INTR_ERROR_CODE) || (c->value & BITS(31, 16)) == 0;
}

/* A software event pushes the address behind its instruction. Length 0 is allowed where IA32_VMX_MISC says so. */
static bool event_length(const struct check *c)
{
    unsigned type = event_type(c);

    if (type != INTR_TYPE_SOFT_INTERRUPT && type != INTR_TYPE_PRIV_SOFT_EXCEPTION && type != INTR_TYPE_SOFT_EXCEPTION)
        return true;
    return c->value <= 15 && (c->value != 0 || c->caps->misc & VMX_MISC_INJECT_LENGTH0);
}

static bool entry_load_area(const struct check *c)
{
    return msr_area(c, c->v->ENTRY_MSR_LOAD_COUNT);
}

static const struct check_row entry_rows[] = {
    /* Entry to SMM and deactivate dual-monitor treatment are never offered: the row of reserved bits refuses them. */
    CHECK_ROW("VM-entry controls: reserved bits", ENTRY_CONTROLS, ALWAYS, .holds = entry_accepted),
    CHECK_ROW("event injection: reserved type", ENTRY_INTERRUPTION_INFO, IF_EVENT, .holds = event_type_known),
    CHECK_ROW("event injection: vector", ENTRY_INTERRUPTION_INFO, IF_EVENT, .holds = event_vector_fits),
    CHECK_ROW("event injection: deliver-error-code bit", ENTRY_INTERRUPTION_INFO, IF_EVENT,
              .holds = event_error_code_bit),
    CHECK_ROW("event injection: reserved bits", ENTRY_INTERRUPTION_INFO, IF_EVENT, .holds = event_reserved),
    CHECK_ROW("event injection: error code", ENTRY_EXCEPTION_ERROR_CODE, IF_EVENT, .holds = error_code_reserved),
    CHECK_ROW("event injection: instruction length", ENTRY_INSTRUCTION_LENGTH, IF_EVENT, .holds = event_length),
    CHECK_ROW("VM-entry MSR-load area", ENTRY_MSR_LOAD_ADDR, ALWAYS, .holds = entry_load_area),
};

const struct check_table check_execution_controls =
    CHECK_TABLE(CHECK_FAIL_CONTROLS, "SDM 3C 27.2.1.1 \"VM-Execution Control Fields\"", execution_rows);
const struct check_table check_tpr_threshold =
    CHECK_TABLE(CHECK_FAIL_CONTROLS, "SDM 3C 27.2.1.1 \"VM-Execution Control Fields\"", tpr_rows);
const struct check_table check_exit_controls =
    CHECK_TABLE(CHECK_FAIL_CONTROLS, "SDM 3C 27.2.1.2 \"VM-Exit Control Fields\"", exit_rows);
const struct check_table check_entry_controls =
    CHECK_TABLE(CHECK_FAIL_CONTROLS, "SDM 3C 27.2.1.3 \"VM-Entry Control Fields\"", entry_rows);
