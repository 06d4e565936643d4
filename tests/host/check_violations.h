/* Cases of test_check.c: edits of a good VM entry, each of which one rule refuses.
 * Nothing must hold before.
 * tests/host/ only. */
#ifndef TESTS_HOST_CHECK_VIOLATIONS_H
#define TESTS_HOST_CHECK_VIOLATIONS_H

#include "tests/host/check_world.h"

struct violation {
    const char *rule;
    enum good good;
    enum check_kind kind;
    uint64_t qualification;
    unsigned beside; /* rows that cannot but fail together with it */
    struct edit edits[MAX_EDITS];
};

#define CONTROL(rule, good, ...)                                                                                       \
    {                                                                                                                  \
        rule, good, CHECK_FAIL_CONTROLS, 0, 0,                                                                         \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define HOST(rule, good, ...)                                                                                          \
    {                                                                                                                  \
        rule, good, CHECK_FAIL_HOST, 0, 0,                                                                             \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define GUEST(rule, good, ...)                                                                                         \
    {                                                                                                                  \
        rule, good, CHECK_FAIL_GUEST, 0, 0,                                                                            \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
#define GUEST_QUALIFIED(rule, good, qualification, beside, ...)                                                        \
    {                                                                                                                  \
        rule, good, CHECK_FAIL_GUEST, qualification, beside,                                                           \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }

/* The same edit on each segment register. */
#define EACH_DATA(text, good, part, EDIT)                                                                              \
    GUEST("guest DS" text, good, EDIT(v.GUEST_DS_##part)), GUEST("guest ES" text, good, EDIT(v.GUEST_ES_##part)),      \
        GUEST("guest FS" text, good, EDIT(v.GUEST_FS_##part)), GUEST("guest GS" text, good, EDIT(v.GUEST_GS_##part))
#define EACH_SEGMENT(text, good, part, EDIT)                                                                           \
    GUEST("guest CS" text, good, EDIT(v.GUEST_CS_##part)), GUEST("guest SS" text, good, EDIT(v.GUEST_SS_##part)),      \
        EACH_DATA(text, good, part, EDIT)
#define EACH_SEGMENT_AND_SYSTEM(text, good, part, EDIT)                                                                \
    EACH_SEGMENT(text, good, part, EDIT), GUEST("guest TR" text, good, EDIT(v.GUEST_TR_##part)),                       \
        GUEST("guest LDTR" text, good, EDIT(v.GUEST_LDTR_##part))
#define BASE_PLUS_1(member) ON(member, 1)
#define LIMIT_FFFE(member) SET(member, 0xfffe)
#define RIGHTS_93(member) SET(member, 0x93)
#define RIGHTS_UNUSABLE_F3(member) SET(member, 0x100f3)
#define NOT_ACCESSED(member) SET(member, 0xc092)
#define EXEC_ONLY(member) SET(member, 0xc099)
#define SYSTEM(member) OFF(member, AR_S)
#define NOT_SYSTEM(member) ON(member, AR_S)
#define RPL_3(member) ON(member, 3)
#define NOT_PRESENT(member) OFF(member, AR_P)
#define RESERVED_8(member) ON(member, BIT(8))
#define RESERVED_17(member) ON(member, BIT(17))
#define RESERVED_31(member) ON(member, BIT(31))
#define PAGES_WITH_BYTES(member) SET(member, 0xfffff000)
#define BYTES_ABOVE_1M(member) OFF(member, AR_G)

/* Controls that skylake_x lacks, offered and on. */
#define WITH_POSTED ON(caps.pin, PIN_POSTED_INTERRUPTS << 32), ON(v.PIN_CONTROLS, PIN_POSTED_INTERRUPTS)
#define WITH_DELIVERY ON(v.PROC2_CONTROLS, PROC2_VIRTUAL_INTERRUPTS), ON(v.EXIT_CONTROLS, EXITC_ACK_INTERRUPT)
#define WITH_ENTRY(bits) ON(caps.entry, (bits) << 32), ON(v.ENTRY_CONTROLS, bits)
#define WITH_EXIT(bits) ON(caps.exit, (bits) << 32), ON(v.EXIT_CONTROLS, bits)

static const struct violation violations[] = {
    /* VM-execution controls */
    CONTROL("pin-based controls: reserved bits", GOOD_64, ON(v.PIN_CONTROLS, BIT(8))),
    CONTROL("pin-based controls: reserved bits", GOOD_64, OFF(v.PIN_CONTROLS, BIT(2))),
    CONTROL("primary controls: reserved bits", GOOD_64, ON(v.PROC_CONTROLS, PROC_TERTIARY)),
    CONTROL("primary controls: reserved bits", GOOD_64, OFF(v.PROC_CONTROLS, BIT(8))),
    CONTROL("secondary controls: reserved bits", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_ENCLS)),
    CONTROL("tertiary controls: reserved bits", GOOD_64, ON(caps.proc, PROC_TERTIARY << 32),
            ON(v.PROC_CONTROLS, PROC_TERTIARY), SET(v.PROC3_CONTROLS, PROC3_MSR_LIST)),
    CONTROL("secondary VM-exit controls: reserved bits", GOOD_64, WITH_EXIT(EXITC_SECONDARY),
            SET(caps.exit2, EXIT2_LOAD_SPEC_CTRL), SET(v.EXIT2_CONTROLS, BIT(3))),
    CONTROL("CR3-target count", GOOD_64, SET(v.CR3_TARGET_COUNT, 5)),
    CONTROL("CR3-target count", GOOD_64, SET(v.CR3_TARGET_COUNT, UINT32_MAX)),
    CONTROL("I/O-bitmap A address", GOOD_64, ON(v.IO_BITMAP_A, 1)),
    CONTROL("I/O-bitmap A address", GOOD_64, ON(v.IO_BITMAP_A, TOO_WIDE)),
    CONTROL("I/O-bitmap B address", GOOD_64, ON(v.IO_BITMAP_B, BIT(11))),
    CONTROL("MSR-bitmap address", GOOD_64, SET(v.MSR_BITMAP, UINT64_MAX)),
    CONTROL("MSR-bitmap address", GOOD_64, ON(v.MSR_BITMAP, BIT(63))),
    CONTROL("virtual-APIC address", GOOD_64, ON(v.VIRTUAL_APIC_ADDR, 0x10)),
    CONTROL("virtual-APIC address", GOOD_64, ON(v.VIRTUAL_APIC_ADDR, TOO_WIDE)),
    CONTROL("TPR threshold: bits 31:4", GOOD_64, SET(v.TPR_THRESHOLD, 0x10)),
    CONTROL("TPR threshold above VTPR", GOOD_64, OFF(v.PROC2_CONTROLS, PROC2_APIC_ACCESS), SET(v.TPR_THRESHOLD, 3),
            SET(virtual_tpr, 0x2f)),
    CONTROL("virtual NMIs without NMI exiting", GOOD_64, OFF(v.PIN_CONTROLS, PIN_NMI)),
    CONTROL("NMI-window exiting without virtual NMIs", GOOD_64, OFF(v.PIN_CONTROLS, PIN_VIRTUAL_NMIS)),
    CONTROL("APIC-access address", GOOD_64, ON(v.APIC_ACCESS_ADDR, 0x800)),
    CONTROL("virtualize x2APIC mode without TPR shadow", GOOD_64, OFF(v.PROC_CONTROLS, PROC_TPR_SHADOW),
            SET(v.PROC2_CONTROLS, PROC2_X2APIC)),
    CONTROL("APIC-register virtualization without TPR shadow", GOOD_64, OFF(v.PROC_CONTROLS, PROC_TPR_SHADOW),
            SET(v.PROC2_CONTROLS, PROC2_APIC_REGISTER)),
    CONTROL("virtual-interrupt delivery without TPR shadow", GOOD_64, OFF(v.PROC_CONTROLS, PROC_TPR_SHADOW),
            SET(v.PROC2_CONTROLS, PROC2_VIRTUAL_INTERRUPTS)),
    CONTROL("virtualize x2APIC mode with virtualize APIC accesses", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_X2APIC)),
    CONTROL("virtual-interrupt delivery without external-interrupt exiting", GOOD_64,
            ON(v.PROC2_CONTROLS, PROC2_VIRTUAL_INTERRUPTS), OFF(v.PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT)),
    CONTROL("posted interrupts without virtual-interrupt delivery", GOOD_64, WITH_POSTED,
            ON(v.EXIT_CONTROLS, EXITC_ACK_INTERRUPT), OFF(v.PROC2_CONTROLS, PROC2_VIRTUAL_INTERRUPTS)),
    CONTROL("posted interrupts without acknowledge interrupt on exit", GOOD_64, WITH_POSTED, WITH_DELIVERY,
            OFF(v.EXIT_CONTROLS, EXITC_ACK_INTERRUPT)),
    CONTROL("posted-interrupt notification vector: bits 15:8", GOOD_64, WITH_POSTED, WITH_DELIVERY,
            SET(v.POSTED_VECTOR, 0x100)),
    CONTROL("posted-interrupt descriptor address", GOOD_64, WITH_POSTED, WITH_DELIVERY,
            SET(v.POSTED_DESC_ADDR, 0x2020)),
    CONTROL("posted-interrupt descriptor address", GOOD_64, WITH_POSTED, WITH_DELIVERY,
            SET(v.POSTED_DESC_ADDR, TOO_WIDE)),
    CONTROL("VPID zero", GOOD_64, SET(v.VPID, 0)),
    CONTROL("EPTP: memory type", GOOD_64, ON(v.EPT_POINTER, 1)),
    CONTROL("EPTP: memory type", GOOD_64, OFF(v.EPT_POINTER, 7), OFF(caps.ept_vpid, EPT_CAP_UC)),
    CONTROL("EPTP: memory type", GOOD_64, OFF(caps.ept_vpid, EPT_CAP_WB)),
    CONTROL("EPTP: page-walk length", GOOD_64, OFF(v.EPT_POINTER, BIT(3))),
    CONTROL("EPTP: page-walk length", GOOD_64, SET(v.EPT_POINTER, PUT(4, EPTP_WALK_LENGTH) | 6)),
    CONTROL("EPTP: accessed and dirty flags", GOOD_64, ON(v.EPT_POINTER, EPTP_AD), OFF(caps.ept_vpid, EPT_CAP_AD)),
    CONTROL("EPTP: supervisor shadow stack", GOOD_64, ON(v.EPT_POINTER, EPTP_SHADOW_STACK)),
    CONTROL("EPTP: reserved bits", GOOD_64, ON(v.EPT_POINTER, BIT(8))),
    CONTROL("EPTP: reserved bits", GOOD_64, ON(v.EPT_POINTER, BIT(11))),
    CONTROL("EPTP: reserved bits", GOOD_64, ON(v.EPT_POINTER, TOO_WIDE)),
    CONTROL("PML without EPT", GOOD_64, OFF(v.PROC2_CONTROLS, PROC2_EPT), ON(v.PROC2_CONTROLS, PROC2_PML)),
    CONTROL("PML address", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_PML), SET(v.PML_ADDRESS, 0x25008)),
    CONTROL("sub-page write permissions without EPT", GOOD_64, OFF(v.PROC2_CONTROLS, PROC2_EPT),
            ON(caps.proc2, PROC2_SPP << 32), ON(v.PROC2_CONTROLS, PROC2_SPP)),
    CONTROL("sub-page-permission-table pointer", GOOD_64, ON(caps.proc2, PROC2_SPP << 32),
            ON(v.PROC2_CONTROLS, PROC2_SPP), SET(v.SPPTP, 0x25008)),
    CONTROL("mode-based execute control without EPT", GOOD_64, OFF(v.PROC2_CONTROLS, PROC2_EPT),
            ON(caps.proc2, PROC2_MODE_BASED_EXECUTE << 32), ON(v.PROC2_CONTROLS, PROC2_MODE_BASED_EXECUTE)),
    CONTROL("unrestricted guest without EPT", GOOD_64, OFF(v.PROC2_CONTROLS, PROC2_EPT),
            ON(v.PROC2_CONTROLS, PROC2_UNRESTRICTED)),
    CONTROL("VM-function controls: reserved bits", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_VMFUNC),
            SET(v.VM_FUNCTION_CONTROLS, 2)),
    CONTROL("EPTP switching without EPT", GOOD_64, OFF(v.PROC2_CONTROLS, PROC2_EPT), ON(v.PROC2_CONTROLS, PROC2_VMFUNC),
            SET(v.VM_FUNCTION_CONTROLS, 1)),
    CONTROL("EPTP-list address", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_VMFUNC), SET(v.VM_FUNCTION_CONTROLS, 1),
            SET(v.EPTP_LIST_ADDRESS, 0x26004)),
    CONTROL("VMREAD-bitmap address", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_VMCS_SHADOWING), SET(v.VMREAD_BITMAP, 1)),
    CONTROL("VMWRITE-bitmap address", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_VMCS_SHADOWING),
            SET(v.VMWRITE_BITMAP, TOO_WIDE)),
    CONTROL("virtualization-exception information address", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_EPT_VE),
            SET(v.VE_INFO_ADDRESS, 0x27ff8)),
    CONTROL("TSC multiplier zero", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_TSC_SCALING), SET(v.TSC_MULTIPLIER, 0)),

    /* VM-exit and VM-entry controls */
    CONTROL("VM-exit controls: reserved bits", GOOD_64, ON(v.EXIT_CONTROLS, BIT(23))),
    CONTROL("VM-exit controls: reserved bits", GOOD_64, OFF(v.EXIT_CONTROLS, BIT(0))),
    CONTROL("save VMX-preemption timer without the timer", GOOD_64, OFF(v.PIN_CONTROLS, PIN_PREEMPTION_TIMER)),
    CONTROL("VM-exit MSR-store area", GOOD_64, SET(v.EXIT_MSR_STORE_COUNT, 1), SET(v.EXIT_MSR_STORE_ADDR, 0x28008)),
    CONTROL("VM-exit MSR-store area", GOOD_64, SET(v.EXIT_MSR_STORE_COUNT, 2),
            SET(v.EXIT_MSR_STORE_ADDR, TOO_WIDE - 16)),
    CONTROL("VM-exit MSR-store area", GOOD_64, SET(v.EXIT_MSR_STORE_COUNT, 1), SET(v.EXIT_MSR_STORE_ADDR, TOO_WIDE)),
    CONTROL("VM-exit MSR-load area", GOOD_64, SET(v.EXIT_MSR_LOAD_COUNT, 1), SET(v.EXIT_MSR_LOAD_ADDR, 0x28001)),
    CONTROL("VM-exit MSR-load area", GOOD_64, SET(v.EXIT_MSR_LOAD_COUNT, UINT32_MAX),
            SET(v.EXIT_MSR_LOAD_ADDR, TOO_WIDE - BIT(35))),
    CONTROL("VM-entry MSR-load area", GOOD_64, SET(v.ENTRY_MSR_LOAD_COUNT, 1), SET(v.ENTRY_MSR_LOAD_ADDR, 4)),
    CONTROL("VM-entry MSR-load area", GOOD_64, SET(v.ENTRY_MSR_LOAD_COUNT, 0x10000001),
            SET(v.ENTRY_MSR_LOAD_ADDR, TOO_WIDE - 16)), /* 16 * count does not fit 32 bits */
    CONTROL("VM-entry controls: reserved bits", GOOD_64, ON(v.ENTRY_CONTROLS, BIT(16))),
    CONTROL("VM-entry controls: reserved bits", GOOD_64, OFF(v.ENTRY_CONTROLS, BIT(12))),
    CONTROL("event injection: reserved type", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, INTR_VALID | PUT(1, INTR_TYPE))),
    CONTROL("event injection: reserved type", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, EVENT(OTHER, 0))),
    CONTROL("event injection: vector", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, EVENT(NMI, 3))),
    CONTROL("event injection: vector", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, 32))),
    CONTROL("event injection: vector", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, EVENT(OTHER, 1)), OFFER_MONITOR_TRAP),
    CONTROL("event injection: deliver-error-code bit", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_GP))),
    CONTROL("event injection: deliver-error-code bit", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_UD) | INTR_ERROR_CODE)),
    CONTROL("event injection: deliver-error-code bit", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(EXTERNAL, 0x20) | INTR_ERROR_CODE)),
    CONTROL("event injection: deliver-error-code bit", GOOD_REAL,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_GP) | INTR_ERROR_CODE)),
    CONTROL("event injection: deliver-error-code bit", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(NMI, VECTOR_NMI) | INTR_ERROR_CODE),
            ON(caps.basic, VMX_BASIC_NO_ERROR_CODE_CHECK)),
    /* Without unrestricted guest the guest counts as protected; that its CR0 says otherwise fails later. */
    {"event injection: deliver-error-code bit",
     GOOD_PAE,
     CHECK_FAIL_CONTROLS,
     0,
     1,
     {SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_GP)), OFF(v.GUEST_CR0, CR0_PE | CR0_PG)}},
    CONTROL("event injection: reserved bits", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_UD) | BIT(12))),
    CONTROL("event injection: reserved bits", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_UD) | BIT(30))),
    CONTROL("event injection: error code", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_PF) | INTR_ERROR_CODE),
            SET(v.ENTRY_EXCEPTION_ERROR_CODE, BIT(16))),
    CONTROL("event injection: instruction length", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, EVENT(SOFT_INTERRUPT, 0x80)),
            SET(v.ENTRY_INSTRUCTION_LENGTH, 16)),
    CONTROL("event injection: instruction length", GOOD_64, SET(v.ENTRY_INTERRUPTION_INFO, EVENT(SOFT_EXCEPTION, 3)),
            OFF(caps.misc, VMX_MISC_INJECT_LENGTH0)),
    CONTROL("event injection: instruction length", GOOD_64,
            SET(v.ENTRY_INTERRUPTION_INFO, EVENT(PRIV_SOFT_EXCEPTION, 1)), SET(v.ENTRY_INSTRUCTION_LENGTH, UINT32_MAX)),

    /* Host state */
    HOST("host CR0: fixed bits", GOOD_64, OFF(v.HOST_CR0, CR0_NE)),
    HOST("host CR0: fixed bits", GOOD_64, ON(v.HOST_CR0, BIT(32))),
    HOST("host CR4: fixed bits", GOOD_64, OFF(v.HOST_CR4, CR4_VMXE)),
    HOST("host CR4: fixed bits", GOOD_64, ON(v.HOST_CR4, BIT(30))),
    HOST("host CR4.CET without CR0.WP", GOOD_64, ON(caps.cr4_fixed1, CR4_CET), ON(v.HOST_CR4, CR4_CET),
         OFF(v.HOST_CR0, CR0_WP)),
    HOST("host CR3: reserved bits", GOOD_64, ON(v.HOST_CR3, TOO_WIDE)),
    HOST("host CR3: reserved bits", GOOD_64, ON(v.HOST_CR3, BIT(63))),
    HOST("host IA32_SYSENTER_ESP not canonical", GOOD_64, SET(v.HOST_SYSENTER_ESP, NOT_CANONICAL)),
    HOST("host IA32_SYSENTER_EIP not canonical", GOOD_64, SET(v.HOST_SYSENTER_EIP, BIT(63))),
    HOST("host IA32_PAT", GOOD_64, SET(v.HOST_PAT, 2)),
    HOST("host IA32_PAT", GOOD_64, SET(v.HOST_PAT, 8ull << 56)),
    HOST("host IA32_EFER: reserved bits", GOOD_64, ON(v.HOST_EFER, BIT(12))),
    HOST("host IA32_EFER: LMA and LME", GOOD_64, OFF(v.HOST_EFER, EFER_LMA)),
    HOST("host IA32_EFER: LMA and LME", GOOD_64, OFF(v.HOST_EFER, EFER_LME)),
    HOST("host IA32_EFER: LMA and LME", GOOD_32_HOST, ON(v.HOST_EFER, EFER_LME)),
    HOST("host CS selector: RPL or TI", GOOD_64, ON(v.HOST_CS_SELECTOR, 1)),
    HOST("host SS selector: RPL or TI", GOOD_64, ON(v.HOST_SS_SELECTOR, 2)),
    HOST("host DS selector: RPL or TI", GOOD_64, ON(v.HOST_DS_SELECTOR, 4)),
    HOST("host ES selector: RPL or TI", GOOD_64, ON(v.HOST_ES_SELECTOR, 3)),
    HOST("host FS selector: RPL or TI", GOOD_64, ON(v.HOST_FS_SELECTOR, 7)),
    HOST("host GS selector: RPL or TI", GOOD_64, ON(v.HOST_GS_SELECTOR, 1)),
    HOST("host TR selector: RPL or TI", GOOD_64, ON(v.HOST_TR_SELECTOR, 4)),
    HOST("host CS selector zero", GOOD_64, SET(v.HOST_CS_SELECTOR, 0)),
    HOST("host TR selector zero", GOOD_64, SET(v.HOST_TR_SELECTOR, 0)),
    HOST("host SS selector zero", GOOD_32_HOST, SET(v.HOST_SS_SELECTOR, 0)),
    HOST("host FS base not canonical", GOOD_64, SET(v.HOST_FS_BASE, NOT_CANONICAL)),
    HOST("host GS base not canonical", GOOD_64, SET(v.HOST_GS_BASE, NOT_CANONICAL)),
    HOST("host GDTR base not canonical", GOOD_64, SET(v.HOST_GDTR_BASE, NOT_CANONICAL)),
    HOST("host IDTR base not canonical", GOOD_64, SET(v.HOST_IDTR_BASE, NOT_CANONICAL)),
    HOST("host TR base not canonical", GOOD_64, SET(v.HOST_TR_BASE, NOT_CANONICAL)),
    {"IA-32e mode guest from outside IA-32e mode", GOOD_64, CHECK_FAIL_HOST, 0, 1, {SET(l1_long_mode, 0)}},
    HOST("64-bit host from outside IA-32e mode", GOOD_PAE, SET(l1_long_mode, 0)),
    HOST("32-bit host from IA-32e mode", GOOD_32_HOST, SET(l1_long_mode, 1)),
    HOST("host CR4.PCIDE with 32-bit host", GOOD_32_HOST, ON(v.HOST_CR4, CR4_PCIDE)),
    HOST("host CR4.PAE clear with 64-bit host", GOOD_64, OFF(v.HOST_CR4, CR4_PAE)),
    HOST("host RIP", GOOD_64, SET(v.HOST_RIP, NOT_CANONICAL)),
    HOST("host RIP", GOOD_32_HOST, ON(v.HOST_RIP, BIT(32))),

    /* Guest control registers, debug registers, MSRs */
    GUEST("guest CR0: fixed bits", GOOD_64, OFF(v.GUEST_CR0, CR0_NE)),
    GUEST("guest CR0: fixed bits", GOOD_REAL, OFF(v.GUEST_CR0, CR0_NE)),
    GUEST("guest CR0: fixed bits", GOOD_PAE, OFF(v.GUEST_CR0, CR0_PG)),
    GUEST("guest CR0: fixed bits", GOOD_REAL, ON(v.GUEST_CR0, BIT(40))),
    GUEST("guest CR0.PG without CR0.PE", GOOD_REAL, ON(v.GUEST_CR0, CR0_PG)),
    GUEST("guest CR4: fixed bits", GOOD_64, OFF(v.GUEST_CR4, CR4_VMXE)),
    GUEST("guest CR4: fixed bits", GOOD_REAL, ON(v.GUEST_CR4, BIT(15))),
    GUEST("guest CR4.CET without CR0.WP", GOOD_64, ON(caps.cr4_fixed1, CR4_CET), ON(v.GUEST_CR4, CR4_CET),
          OFF(v.GUEST_CR0, CR0_WP)),
    GUEST("guest IA32_DEBUGCTL: reserved bits", GOOD_64, SET(v.GUEST_DEBUGCTL, BIT(3))),
    GUEST("guest IA32_DEBUGCTL: reserved bits", GOOD_64, SET(v.GUEST_DEBUGCTL, BIT(63))),
    GUEST("guest CR0.PG clear in IA-32e mode", GOOD_64, ON(v.PROC2_CONTROLS, PROC2_UNRESTRICTED),
          OFF(v.GUEST_CR0, CR0_PG)),
    GUEST("guest CR4.PAE clear in IA-32e mode", GOOD_64, OFF(v.GUEST_CR4, CR4_PAE)),
    GUEST("guest CR4.PCIDE outside IA-32e mode", GOOD_PAE, ON(v.GUEST_CR4, CR4_PCIDE)),
    GUEST("guest CR3: reserved bits", GOOD_64, ON(v.GUEST_CR3, CR3_LAM_U57)), /* the CPU has no masking */
    GUEST("guest CR3: reserved bits", GOOD_64, SET(caps.cr3_flags, CR3_LAM_U48 | CR3_LAM_U57),
          ON(v.GUEST_CR3, BIT(60))),
    GUEST("guest CR3: reserved bits", GOOD_64, ON(v.GUEST_CR3, TOO_WIDE)),
    GUEST("guest CR3: reserved bits", GOOD_PAE_NO_EPT, ON(v.GUEST_CR3, BIT(52))),
    GUEST("guest DR7: bits 63:32", GOOD_64, ON(v.GUEST_DR7, BIT(32))),
    GUEST("guest IA32_SYSENTER_ESP not canonical", GOOD_64, SET(v.GUEST_SYSENTER_ESP, NOT_CANONICAL)),
    GUEST("guest IA32_SYSENTER_EIP not canonical", GOOD_64, SET(v.GUEST_SYSENTER_EIP, NOT_CANONICAL)),
    GUEST("guest IA32_PAT", GOOD_64, SET(v.GUEST_PAT, 0x0300)),
    GUEST("guest IA32_EFER: reserved bits", GOOD_64, ON(v.GUEST_EFER, BIT(9))),
    GUEST("guest IA32_EFER: LMA", GOOD_64, OFF(v.GUEST_EFER, EFER_LMA | EFER_LME)),
    GUEST("guest IA32_EFER: LMA", GOOD_PAE, ON(v.GUEST_EFER, EFER_LMA | EFER_LME)),
    GUEST("guest IA32_EFER: LME", GOOD_64, OFF(v.GUEST_EFER, EFER_LME)),
    GUEST("guest IA32_EFER: LME", GOOD_PAE, ON(v.GUEST_EFER, EFER_LME)),

    /* Guest segment registers */
    GUEST("guest TR selector: TI", GOOD_64, ON(v.GUEST_TR_SELECTOR, 4)),
    GUEST("guest LDTR selector: TI", GOOD_64, ON(v.GUEST_LDTR_SELECTOR, 4)),
    GUEST("guest SS selector: RPL is not that of CS", GOOD_64, ON(v.GUEST_CS_SELECTOR, 3)),
    EACH_SEGMENT(" base in virtual-8086 mode", GOOD_V8086, BASE, BASE_PLUS_1),
    EACH_SEGMENT(" limit in virtual-8086 mode", GOOD_V8086, LIMIT, LIMIT_FFFE),
    EACH_SEGMENT(" access rights in virtual-8086 mode", GOOD_V8086, AR_BYTES, RIGHTS_93),
    EACH_SEGMENT(" access rights in virtual-8086 mode", GOOD_V8086, AR_BYTES, RIGHTS_UNUSABLE_F3),
    GUEST("guest TR base not canonical", GOOD_64, SET(v.GUEST_TR_BASE, NOT_CANONICAL)),
    GUEST("guest FS base not canonical", GOOD_64, SET(v.GUEST_FS_BASE, NOT_CANONICAL)),
    GUEST("guest FS base not canonical", GOOD_64, SET(v.GUEST_FS_BASE, NOT_CANONICAL),
          SET(v.GUEST_FS_AR_BYTES, AR_UNUSABLE)),
    GUEST("guest GS base not canonical", GOOD_64, SET(v.GUEST_GS_BASE, NOT_CANONICAL)),
    GUEST("guest LDTR base not canonical", GOOD_64, SET(v.GUEST_LDTR_BASE, NOT_CANONICAL)),
    GUEST("guest CS base: bits 63:32", GOOD_64, SET(v.GUEST_CS_BASE, BIT(32))),
    GUEST("guest SS base: bits 63:32", GOOD_64, SET(v.GUEST_SS_BASE, BIT(32))),
    GUEST("guest DS base: bits 63:32", GOOD_64, SET(v.GUEST_DS_BASE, BIT(63))),
    GUEST("guest ES base: bits 63:32", GOOD_64, SET(v.GUEST_ES_BASE, BIT(33))),
    GUEST("guest CS type", GOOD_64, SET(v.GUEST_CS_AR_BYTES, 0xa093)),
    GUEST("guest CS type", GOOD_REAL, SET(v.GUEST_CS_AR_BYTES, 0x97)),
    GUEST("guest CS type", GOOD_64, OFF(v.GUEST_CS_AR_BYTES, 1)),
    GUEST("guest SS type", GOOD_64, SET(v.GUEST_SS_AR_BYTES, 0xc091)),
    GUEST("guest SS type", GOOD_REAL, SET(v.GUEST_SS_AR_BYTES, 0x9b)),
    EACH_DATA(" type", GOOD_64, AR_BYTES, NOT_ACCESSED),
    EACH_DATA(" type", GOOD_64, AR_BYTES, EXEC_ONLY),
    EACH_SEGMENT(" is a system segment", GOOD_64, AR_BYTES, SYSTEM),
    GUEST("guest CS DPL", GOOD_64, ON(v.GUEST_CS_AR_BYTES, AR_DPL)),
    GUEST("guest CS DPL", GOOD_64, SET(v.GUEST_CS_AR_BYTES, 0xa0ff)), /* conforming, above the CPL */
    GUEST("guest CS DPL", GOOD_REAL, SET(v.GUEST_CS_AR_BYTES, 0xf3)),
    GUEST("guest SS DPL is not its RPL", GOOD_64, SET(v.GUEST_CS_AR_BYTES, 0xa09f), SET(v.GUEST_SS_AR_BYTES, 0xc0b3)),
    GUEST("guest SS DPL is not its RPL", GOOD_64, SET(v.GUEST_CS_AR_BYTES, 0xa09f),
          SET(v.GUEST_SS_AR_BYTES, AR_UNUSABLE | AR_DPL)),
    GUEST("guest SS DPL in real mode or with a data segment in CS", GOOD_REAL, SET(v.GUEST_SS_AR_BYTES, 0xb3)),
    GUEST("guest SS DPL in real mode or with a data segment in CS", GOOD_REAL, SET(v.GUEST_SS_AR_BYTES, 0xf3),
          ON(v.GUEST_CR0, CR0_PE)),
    GUEST("guest SS DPL in real mode or with a data segment in CS", GOOD_REAL, SET(v.GUEST_SS_AR_BYTES, 0xf3),
          SET(v.GUEST_CS_AR_BYTES, 0xfb)),
    EACH_DATA(" DPL below its RPL", GOOD_64, SELECTOR, RPL_3),
    GUEST("guest DS DPL below its RPL", GOOD_64, ON(v.GUEST_DS_SELECTOR, 3), SET(v.GUEST_DS_AR_BYTES, 0xc09b)),
    EACH_SEGMENT(" not present", GOOD_64, AR_BYTES, NOT_PRESENT),
    GUEST("guest CS not present", GOOD_64, SET(v.GUEST_CS_AR_BYTES, AR_UNUSABLE | 0xa01b)),
    GUEST_QUALIFIED("guest TR not present", GOOD_64, 0, 1, SET(v.GUEST_TR_AR_BYTES, AR_UNUSABLE | 0x0b)),
    EACH_SEGMENT_AND_SYSTEM(" access rights: reserved bits", GOOD_64, AR_BYTES, RESERVED_8),
    EACH_SEGMENT_AND_SYSTEM(" access rights: reserved bits", GOOD_REAL, AR_BYTES, RESERVED_17),
    EACH_SEGMENT_AND_SYSTEM(" access rights: reserved bits", GOOD_PAE, AR_BYTES, RESERVED_31),
    GUEST("guest CS D/B with L in IA-32e mode", GOOD_64, ON(v.GUEST_CS_AR_BYTES, AR_DB)),
    EACH_SEGMENT(" granularity against limit", GOOD_64, LIMIT, PAGES_WITH_BYTES),
    EACH_SEGMENT(" granularity against limit", GOOD_PAE, AR_BYTES, BYTES_ABOVE_1M),
    GUEST("guest TR type", GOOD_64, SET(v.GUEST_TR_AR_BYTES, 0x89)),
    GUEST("guest TR type", GOOD_64, SET(v.GUEST_TR_AR_BYTES, 0x83)),
    GUEST("guest TR type", GOOD_REAL, SET(v.GUEST_TR_AR_BYTES, 0x82)),
    GUEST("guest TR is no system segment", GOOD_64, NOT_SYSTEM(v.GUEST_TR_AR_BYTES)),
    GUEST("guest TR not present", GOOD_64, NOT_PRESENT(v.GUEST_TR_AR_BYTES)),
    GUEST("guest TR granularity against limit", GOOD_64, SET(v.GUEST_TR_LIMIT, BIT(20))),
    GUEST("guest TR granularity against limit", GOOD_64, ON(v.GUEST_TR_AR_BYTES, AR_G)),
    GUEST("guest TR unusable", GOOD_64, ON(v.GUEST_TR_AR_BYTES, AR_UNUSABLE)),
    GUEST("guest LDTR type", GOOD_64, SET(v.GUEST_LDTR_AR_BYTES, 0x83)),
    GUEST("guest LDTR is no system segment", GOOD_64, NOT_SYSTEM(v.GUEST_LDTR_AR_BYTES)),
    GUEST("guest LDTR not present", GOOD_64, NOT_PRESENT(v.GUEST_LDTR_AR_BYTES)),
    GUEST("guest LDTR granularity against limit", GOOD_64, SET(v.GUEST_LDTR_LIMIT, 0xfff00000)),

    /* Guest descriptor tables, RIP, RFLAGS */
    GUEST("guest GDTR base not canonical", GOOD_64, SET(v.GUEST_GDTR_BASE, NOT_CANONICAL)),
    GUEST("guest IDTR base not canonical", GOOD_REAL, SET(v.GUEST_IDTR_BASE, NOT_CANONICAL)),
    GUEST("guest GDTR limit: bits 31:16", GOOD_64, SET(v.GUEST_GDTR_LIMIT, BIT(16))),
    GUEST("guest IDTR limit: bits 31:16", GOOD_64, SET(v.GUEST_IDTR_LIMIT, UINT32_MAX)),
    GUEST("guest RIP", GOOD_64, SET(v.GUEST_RIP, BIT(48))),
    GUEST("guest RIP", GOOD_64, SET(v.GUEST_RIP, ~BIT(48))),
    GUEST("guest RIP", GOOD_64, OFF(v.GUEST_CS_AR_BYTES, AR_L)), /* compatibility mode, with a 64-bit address */
    GUEST("guest RIP", GOOD_PAE, ON(v.GUEST_RIP, BIT(32))),
    GUEST("guest RFLAGS: reserved bits", GOOD_64, ON(v.GUEST_RFLAGS, BIT(3))),
    GUEST("guest RFLAGS: reserved bits", GOOD_64, ON(v.GUEST_RFLAGS, BIT(22))),
    GUEST("guest RFLAGS: reserved bits", GOOD_64, OFF(v.GUEST_RFLAGS, RFLAGS_FIXED1)),
    GUEST("guest RFLAGS.VM outside legacy protected mode", GOOD_V8086, ON(v.PROC2_CONTROLS, PROC2_UNRESTRICTED),
          OFF(v.GUEST_CR0, CR0_PE | CR0_PG)),
    GUEST("guest RFLAGS.VM outside legacy protected mode", GOOD_V8086, ON(v.ENTRY_CONTROLS, ENTRY_GUEST_64),
          SET(v.GUEST_EFER, EFER_LME | EFER_LMA)),
    GUEST("external interrupt injected with RFLAGS.IF clear", GOOD_64,
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(EXTERNAL, 0x20)), OFF(v.GUEST_RFLAGS, RFLAGS_IF)),

    /* Guest non-register state */
    GUEST("activity state not supported", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, 4)),
    GUEST("activity state not supported", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN),
          OFF(caps.misc, VMX_MISC_ACTIVITY_SHUTDOWN)),
    GUEST("activity state not supported", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_SIPI),
          OFF(caps.misc, VMX_MISC_ACTIVITY_WAIT_SIPI)),
    GUEST("activity state not supported", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_HLT),
          OFF(caps.misc, VMX_MISC_ACTIVITY_HLT)),
    GUEST("activity state HLT with SS.DPL not zero", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_HLT),
          SET(v.GUEST_CS_AR_BYTES, 0xa0fb), SET(v.GUEST_SS_AR_BYTES, 0xc0f3), ON(v.GUEST_CS_SELECTOR, 3),
          ON(v.GUEST_SS_SELECTOR, 3)),
    GUEST("activity state with blocking by STI or MOV SS", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_HLT),
          SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI)),
    GUEST("activity state with blocking by STI or MOV SS", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN),
          SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)),
    GUEST("activity state blocks the injected event", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_HLT),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(HARD_EXCEPTION, VECTOR_UD))),
    GUEST("activity state blocks the injected event", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_HLT),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(SOFT_INTERRUPT, 1)), SET(v.ENTRY_INSTRUCTION_LENGTH, 2)),
    GUEST("activity state blocks the injected event", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(EXTERNAL, 0x20))),
    GUEST("activity state blocks the injected event", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_SIPI),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(NMI, VECTOR_NMI))),
    GUEST("interruptibility: reserved bits", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BIT(5))),
    GUEST("interruptibility: both STI and MOV SS", GOOD_64,
          SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)),
    GUEST("interruptibility: STI with RFLAGS.IF clear", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI),
          OFF(v.GUEST_RFLAGS, RFLAGS_IF)),
    GUEST("interruptibility: blocks the injected interrupt", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(EXTERNAL, 0x20))),
    GUEST("interruptibility: blocks the injected interrupt", GOOD_REAL,
          SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS), SET(v.ENTRY_INTERRUPTION_INFO, EVENT(EXTERNAL, 0x20))),
    GUEST("interruptibility: MOV SS with injected NMI", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(NMI, VECTOR_NMI))),
    GUEST("interruptibility: blocking by SMI outside SMM", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_SMI)),
    GUEST_QUALIFIED("interruptibility: STI with injected NMI", GOOD_64, 3, 0,
                    SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI),
                    SET(v.ENTRY_INTERRUPTION_INFO, EVENT(NMI, VECTOR_NMI))),
    GUEST("interruptibility: virtual NMI blocked and injected", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_NMI),
          SET(v.ENTRY_INTERRUPTION_INFO, EVENT(NMI, VECTOR_NMI))),
    GUEST("interruptibility: enclave interruption with MOV SS", GOOD_64,
          SET(v.GUEST_INTERRUPTIBILITY, ENCLAVE_INTERRUPTION | BLOCKING_BY_MOV_SS)),
    GUEST("pending debug exceptions: reserved bits", GOOD_64, SET(v.GUEST_PENDING_DEBUG, BIT(4))),
    GUEST("pending debug exceptions: reserved bits", GOOD_64, SET(v.GUEST_PENDING_DEBUG, BIT(13))),
    GUEST("pending debug exceptions: reserved bits", GOOD_64, SET(caps.pending_debug, PENDING_DEBUG_RTM),
          SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_BUS_LOCK)),
    GUEST("pending debug exceptions: reserved bits", GOOD_64, SET(caps.pending_debug, PENDING_DEBUG_BUS_LOCK),
          SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_RTM | PENDING_DEBUG_ENABLED_BP)),
    GUEST("pending debug exceptions: reserved bits", GOOD_64, SET(v.GUEST_PENDING_DEBUG, BIT(32))),
    GUEST("pending debug exceptions: BS against RFLAGS.TF", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_STI),
          SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_BS)),
    GUEST("pending debug exceptions: BS against RFLAGS.TF", GOOD_64, SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS),
          ON(v.GUEST_RFLAGS, RFLAGS_TF)),
    GUEST("pending debug exceptions: BS against RFLAGS.TF", GOOD_64, SET(v.GUEST_ACTIVITY_STATE, ACTIVITY_HLT),
          SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_BS), ON(v.GUEST_RFLAGS, RFLAGS_TF), SET(v.GUEST_DEBUGCTL, BIT(1))),
    GUEST("pending debug exceptions: RTM", GOOD_64, SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_RTM)),
    GUEST("pending debug exceptions: RTM", GOOD_64,
          SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_RTM | PENDING_DEBUG_ENABLED_BP | 1)),
    GUEST("pending debug exceptions: RTM", GOOD_64,
          SET(v.GUEST_PENDING_DEBUG, PENDING_DEBUG_RTM | PENDING_DEBUG_ENABLED_BP),
          SET(v.GUEST_INTERRUPTIBILITY, BLOCKING_BY_MOV_SS)),
    /* The bytes at a bad address are no right header either. */
    GUEST_QUALIFIED("VMCS link pointer: address", GOOD_64, 4, 2, SET(v.VMCS_LINK_POINTER, WORLD_LINK + 8)),
    GUEST_QUALIFIED("VMCS link pointer: address", GOOD_64, 4, 2, SET(v.VMCS_LINK_POINTER, WORLD_LINK | TOO_WIDE)),
    GUEST_QUALIFIED("VMCS link pointer: revision identifier", GOOD_64, 4, 0, SET(v.VMCS_LINK_POINTER, WORLD_LINK),
                    SET(link_header, VMCS12_REVISION + 1)),
    GUEST_QUALIFIED("VMCS link pointer: shadow-VMCS indicator", GOOD_64, 4, 0, SET(v.VMCS_LINK_POINTER, WORLD_LINK),
                    ON(link_header, VMCS_SHADOW_INDICATOR)),
    GUEST_QUALIFIED("VMCS link pointer: shadow-VMCS indicator", GOOD_64, 4, 0, SET(v.VMCS_LINK_POINTER, WORLD_LINK),
                    ON(v.PROC2_CONTROLS, PROC2_VMCS_SHADOWING)),
    GUEST_QUALIFIED("VMCS link pointer: is the current VMCS", GOOD_64, 4, 0, SET(v.VMCS_LINK_POINTER, WORLD_VMPTR)),

    /* CET, protection keys, user interrupts */
    HOST("host IA32_S_CET: reserved bits", GOOD_64, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_S_CET, BIT(6))),
    HOST("host IA32_S_CET: reserved bits", GOOD_64, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_S_CET, BIT(10) | BIT(11))),
    HOST("host IA32_S_CET: address", GOOD_64, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_S_CET, NOT_CANONICAL)),
    HOST("host IA32_S_CET: address", GOOD_32_HOST, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_S_CET, BIT(32))),
    HOST("host SSP: bits 1:0", GOOD_64, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_SSP, 2)),
    HOST("host SSP: address", GOOD_64, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_SSP, NOT_CANONICAL)),
    HOST("host SSP: address", GOOD_32_HOST, WITH_EXIT(EXITC_LOAD_CET), SET(v.HOST_SSP, BIT(32))),
    HOST("host IA32_INTERRUPT_SSP_TABLE_ADDR not canonical", GOOD_64, WITH_EXIT(EXITC_LOAD_CET),
         SET(v.HOST_SSP_TABLE, NOT_CANONICAL)),
    HOST("host IA32_SPEC_CTRL", GOOD_64, WITH_EXIT(EXITC_SECONDARY), SET(caps.exit2, EXIT2_LOAD_SPEC_CTRL),
         SET(v.EXIT2_CONTROLS, EXIT2_LOAD_SPEC_CTRL), SET(v.HOST_SPEC_CTRL, BIT(9))),
    HOST("host IA32_PKRS: bits 63:32", GOOD_64, WITH_EXIT(EXITC_LOAD_PKRS), SET(v.HOST_PKRS, BIT(32))),
    GUEST("guest IA32_S_CET: reserved bits", GOOD_64, WITH_ENTRY(ENTRY_LOAD_CET), SET(v.GUEST_S_CET, BIT(9))),
    GUEST("guest IA32_S_CET: reserved bits", GOOD_PAE, WITH_ENTRY(ENTRY_LOAD_CET),
          SET(v.GUEST_S_CET, BIT(10) | BIT(11))),
    GUEST("guest IA32_S_CET: address", GOOD_64, WITH_ENTRY(ENTRY_LOAD_CET), SET(v.GUEST_S_CET, NOT_CANONICAL)),
    GUEST("guest IA32_S_CET: address", GOOD_PAE, WITH_ENTRY(ENTRY_LOAD_CET), SET(v.GUEST_S_CET, BIT(32))),
    GUEST("guest SSP: bits 1:0", GOOD_64, WITH_ENTRY(ENTRY_LOAD_CET), SET(v.GUEST_SSP, 1)),
    GUEST("guest SSP: address", GOOD_64, WITH_ENTRY(ENTRY_LOAD_CET), SET(v.GUEST_SSP, BIT(48))),
    GUEST("guest SSP: address", GOOD_PAE, WITH_ENTRY(ENTRY_LOAD_CET), SET(v.GUEST_SSP, BIT(32))),
    GUEST("guest IA32_INTERRUPT_SSP_TABLE_ADDR not canonical", GOOD_64, WITH_ENTRY(ENTRY_LOAD_CET),
          SET(v.GUEST_SSP_TABLE, NOT_CANONICAL)),
    GUEST("guest IA32_PKRS: bits 63:32", GOOD_64, WITH_ENTRY(ENTRY_LOAD_PKRS), SET(v.GUEST_PKRS, BIT(63))),
    GUEST("guest UINV: bits 15:8", GOOD_64, WITH_ENTRY(ENTRY_LOAD_UINV), SET(v.GUEST_UINV, 0x100)),

    /* PDPTEs */
    GUEST_QUALIFIED("guest PDPTE0: reserved bits", GOOD_PAE, 2, 0, SET(v.GUEST_PDPTE0, 0x1003)),
    GUEST_QUALIFIED("guest PDPTE1: reserved bits", GOOD_PAE, 2, 0, SET(v.GUEST_PDPTE1, 0x1001 | BIT(8))),
    GUEST_QUALIFIED("guest PDPTE2: reserved bits", GOOD_PAE, 2, 0, SET(v.GUEST_PDPTE2, 0x1001 | BIT(63))),
    GUEST_QUALIFIED("guest PDPTE3: reserved bits", GOOD_V8086, 2, 0, SET(v.GUEST_PDPTE3, 0x1001 | TOO_WIDE)),
    GUEST_QUALIFIED("PDPTEs at guest CR3: reserved bits", GOOD_PAE_NO_EPT, 2, 0, SET(pdptes[0], 5)),
    GUEST_QUALIFIED("PDPTEs at guest CR3: reserved bits", GOOD_PAE_NO_EPT, 2, 0, SET(pdptes[3], 1 | BIT(5))),
};

#endif
