#include "nested/rules/check_scope.h"

#include "kernel/x86_bits.h"

/* The tables, in the order of check_order (nested/rules/check.c). */
enum {
    EXECUTION = 1 << 0,
    TPR = 1 << 1,
    EXIT = 1 << 2,
    ENTRY = 1 << 3,
    HOST = 7 << 4,
    REGISTERS = 1 << 7,
    SEGMENTS = 1 << 8,
    TABLES = 1 << 9,
    RIP = 1 << 10,
    STATE = 1 << 11,
    PDPTES = 1 << 12,
    MODE = ENTRY | REGISTERS | SEGMENTS | RIP | STATE | PDPTES, /* what depends on the guest's operating mode */
};

/* Runs of rows of vmcs_fields.def. What has no run depends on everything: CHECK_SCOPE_ALL. */
static const struct {
    uint16_t first, last;
    check_scope_t scope;
} scopes[] = {
#define ONE(name, scope)                                                                                               \
    {                                                                                                                  \
        FIELD_INDEX_##name, FIELD_INDEX_##name, scope                                                                  \
    }
#define RUN(first, last, scope)                                                                                        \
    {                                                                                                                  \
        FIELD_INDEX_##first, FIELD_INDEX_##last, scope                                                                 \
    }
    ONE(VPID, EXECUTION),
    ONE(EPTP_INDEX, 0),
    RUN(GUEST_ES_SELECTOR, GUEST_TR_SELECTOR, SEGMENTS | RIP | STATE),
    RUN(GUEST_INTERRUPT_STATUS, PML_INDEX, 0),
    RUN(HOST_ES_SELECTOR, HOST_TR_SELECTOR, HOST),
    RUN(IO_BITMAP_A, MSR_BITMAP, EXECUTION),
    RUN(EXIT_MSR_STORE_ADDR, EXIT_MSR_LOAD_ADDR, EXIT),
    ONE(ENTRY_MSR_LOAD_ADDR, ENTRY),
    ONE(EXECUTIVE_VMCS_POINTER, 0),
    ONE(PML_ADDRESS, EXECUTION),
    ONE(TSC_OFFSET, 0),
    RUN(VIRTUAL_APIC_ADDR, EPT_POINTER, EXECUTION | TPR),
    RUN(EOI_EXIT_BITMAP0, EOI_EXIT_BITMAP3, 0),
    RUN(EPTP_LIST_ADDRESS, VE_INFO_ADDRESS, EXECUTION),
    ONE(XSS_EXITING_BITMAP, 0),
    ONE(TSC_MULTIPLIER, EXECUTION),
    ONE(GUEST_PHYSICAL_ADDRESS, 0),
    ONE(VMCS_LINK_POINTER, STATE),
    ONE(GUEST_DEBUGCTL, REGISTERS | STATE),
    ONE(GUEST_PAT, REGISTERS),
    ONE(GUEST_EFER, MODE),
    ONE(GUEST_PERF_GLOBAL_CTRL, REGISTERS),
    RUN(GUEST_PDPTE0, GUEST_PDPTE3, PDPTES),
    RUN(HOST_PAT, HOST_PERF_GLOBAL_CTRL, HOST),
    RUN(EXCEPTION_BITMAP, PAGE_FAULT_ERROR_CODE_MATCH, 0),
    ONE(CR3_TARGET_COUNT, EXECUTION),
    RUN(EXIT_MSR_STORE_COUNT, EXIT_MSR_LOAD_COUNT, EXIT),
    ONE(ENTRY_MSR_LOAD_COUNT, ENTRY),
    RUN(ENTRY_INTERRUPTION_INFO, ENTRY_INSTRUCTION_LENGTH, ENTRY | RIP | STATE),
    ONE(TPR_THRESHOLD, TPR),
    RUN(PLE_GAP, PLE_WINDOW, 0),
    RUN(VM_INSTRUCTION_ERROR, EXIT_INSTRUCTION_INFO, 0),
    RUN(GUEST_ES_LIMIT, GUEST_TR_LIMIT, SEGMENTS),
    RUN(GUEST_GDTR_LIMIT, GUEST_IDTR_LIMIT, TABLES),
    RUN(GUEST_ES_AR_BYTES, GUEST_TR_AR_BYTES, SEGMENTS | RIP | STATE),
    RUN(GUEST_INTERRUPTIBILITY, GUEST_ACTIVITY_STATE, STATE),
    ONE(GUEST_SMBASE, 0),
    ONE(GUEST_SYSENTER_CS, REGISTERS),
    ONE(PREEMPTION_TIMER, 0),
    ONE(HOST_SYSENTER_CS, HOST),
    RUN(CR0_GUEST_HOST_MASK, CR3_TARGET_VALUE3, 0),
    RUN(EXIT_QUALIFICATION, GUEST_LINEAR_ADDRESS, 0),
    RUN(GUEST_CR0, GUEST_CR4, MODE),
    RUN(GUEST_ES_BASE, GUEST_TR_BASE, SEGMENTS),
    RUN(GUEST_GDTR_BASE, GUEST_IDTR_BASE, TABLES),
    ONE(GUEST_DR7, REGISTERS),
    ONE(GUEST_RSP, 0),
    ONE(GUEST_RIP, RIP),
    ONE(GUEST_RFLAGS, MODE),
    ONE(GUEST_PENDING_DEBUG, STATE),
    RUN(GUEST_SYSENTER_ESP, GUEST_SYSENTER_EIP, REGISTERS),
    RUN(HOST_CR0, HOST_RIP, HOST),
#undef ONE
#undef RUN
};

check_scope_t check_scope_of(unsigned row)
{
    for (unsigned i = 0; i < ARRAY_SIZE(scopes); i++)
        if (row >= scopes[i].first && row <= scopes[i].last)
            return scopes[i].scope;
    return CHECK_SCOPE_ALL;
}

check_scope_t check_scope_lazy(void)
{
    return TPR | REGISTERS | SEGMENTS | TABLES;
}

check_scope_t check_scope_of_memory(const struct vmcs12 *v)
{
    bool pae = (v->GUEST_CR0 & CR0_PG) && (v->GUEST_CR4 & CR4_PAE) && !(v->ENTRY_CONTROLS & ENTRY_GUEST_64);
    check_scope_t scope = v->VMCS_LINK_POINTER == UINT64_MAX ? 0 : STATE;
    return pae && !(vmcs12_proc2(v) & PROC2_EPT) ? scope | PDPTES : scope;
}
