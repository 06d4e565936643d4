/* Bits of the VMX controls, capability MSRs and exit information, under the field they belong to.
 * Pure facts of the SDM; needs nothing.
 * Anyone at or above vmx/, and the guests, may include it. */
#ifndef VMX_VMX_BITS_H
#define VMX_VMX_BITS_H

#include "kernel/base.h"

/* IA32_VMX_BASIC. SDM 3D A.1 "Basic VMX Information" */
#define VMX_BASIC_REVISION BITS(30, 0)
#define VMX_BASIC_REGION_SIZE BITS(44, 32)
#define VMX_BASIC_32BIT_ADDRESSES BIT(48)
#define VMX_BASIC_DUAL_MONITOR BIT(49)
#define VMX_BASIC_MEMORY_TYPE BITS(53, 50)
#define VMX_BASIC_INS_OUTS_INFO BIT(54)
#define VMX_BASIC_TRUE_CONTROLS BIT(55)
#define VMX_BASIC_NO_ERROR_CODE_CHECK BIT(56)

/* IA32_VMX_MISC. SDM 3D A.6 "Miscellaneous Data" */
#define VMX_MISC_TIMER_RATE BITS(4, 0)
#define VMX_MISC_STORE_LMA BIT(5)
#define VMX_MISC_ACTIVITY_HLT BIT(6)
#define VMX_MISC_ACTIVITY_SHUTDOWN BIT(7)
#define VMX_MISC_ACTIVITY_WAIT_SIPI BIT(8)
#define VMX_MISC_PT BIT(14)
#define VMX_MISC_SMBASE_IN_SMM BIT(15)
#define VMX_MISC_CR3_TARGETS BITS(24, 16)
#define VMX_MISC_MSR_LIST_MAX BITS(27, 25)
#define VMX_MISC_SMM_BLOCK_CTL BIT(28)
#define VMX_MISC_VMWRITE_ANY BIT(29)
#define VMX_MISC_INJECT_LENGTH0 BIT(30)
#define VMX_MISC_MSEG_REVISION BITS(63, 32)

/* IA32_VMX_EPT_VPID_CAP. SDM 3D A.10 "VPID and EPT Capabilities" */
#define EPT_CAP_EXEC_ONLY BIT(0)
#define EPT_CAP_WALK4 BIT(6)
#define EPT_CAP_WALK5 BIT(7)
#define EPT_CAP_UC BIT(8)
#define EPT_CAP_WB BIT(14)
#define EPT_CAP_2M BIT(16)
#define EPT_CAP_1G BIT(17)
#define EPT_CAP_INVEPT BIT(20)
#define EPT_CAP_AD BIT(21)
#define EPT_CAP_ADVANCED_INFO BIT(22)
#define EPT_CAP_SUPERVISOR_SHADOW_STACK BIT(23)
#define EPT_CAP_INVEPT_SINGLE BIT(25)
#define EPT_CAP_INVEPT_ALL BIT(26)
#define VPID_CAP_INVVPID BIT(32)
#define VPID_CAP_ADDRESS BIT(40)
#define VPID_CAP_SINGLE BIT(41)
#define VPID_CAP_ALL BIT(42)
#define VPID_CAP_SINGLE_NONGLOBAL BIT(43)

/* Types of INVEPT and INVVPID. SDM 3C 31.3 "VMX Instructions" */
#define INVEPT_SINGLE 1u
#define INVEPT_ALL 2u
#define INVVPID_ADDRESS 0u
#define INVVPID_SINGLE 1u
#define INVVPID_ALL 2u
#define INVVPID_SINGLE_NONGLOBAL 3u

/* PIN_CONTROLS. SDM 3C 25.6.1 "Pin-Based VM-Execution Controls" */
#define PIN_EXTERNAL_INTERRUPT BIT(0)
#define PIN_NMI BIT(3)
#define PIN_VIRTUAL_NMIS BIT(5)
#define PIN_PREEMPTION_TIMER BIT(6)
#define PIN_POSTED_INTERRUPTS BIT(7)

/* PROC_CONTROLS. SDM 3C 25.6.2 "Processor-Based VM-Execution Controls" */
#define PROC_INTERRUPT_WINDOW BIT(2)
#define PROC_TSC_OFFSETTING BIT(3)
#define PROC_HLT BIT(7)
#define PROC_INVLPG BIT(9)
#define PROC_MWAIT BIT(10)
#define PROC_RDPMC BIT(11)
#define PROC_RDTSC BIT(12)
#define PROC_CR3_LOAD BIT(15)
#define PROC_CR3_STORE BIT(16)
#define PROC_TERTIARY BIT(17)
#define PROC_CR8_LOAD BIT(19)
#define PROC_CR8_STORE BIT(20)
#define PROC_TPR_SHADOW BIT(21)
#define PROC_NMI_WINDOW BIT(22)
#define PROC_MOV_DR BIT(23)
#define PROC_UNCOND_IO BIT(24)
#define PROC_USE_IO_BITMAPS BIT(25)
#define PROC_MONITOR_TRAP BIT(27)
#define PROC_USE_MSR_BITMAPS BIT(28)
#define PROC_MONITOR BIT(29)
#define PROC_PAUSE BIT(30)
#define PROC_SECONDARY BIT(31)

/* PROC2_CONTROLS. SDM 3C 25.6.2, table "Secondary Processor-Based VM-Execution Controls" */
#define PROC2_APIC_ACCESS BIT(0)
#define PROC2_EPT BIT(1)
#define PROC2_DESC_TABLE BIT(2)
#define PROC2_RDTSCP BIT(3)
#define PROC2_X2APIC BIT(4)
#define PROC2_VPID BIT(5)
#define PROC2_WBINVD BIT(6)
#define PROC2_UNRESTRICTED BIT(7)
#define PROC2_APIC_REGISTER BIT(8)
#define PROC2_VIRTUAL_INTERRUPTS BIT(9)
#define PROC2_PAUSE_LOOP BIT(10)
#define PROC2_RDRAND BIT(11)
#define PROC2_INVPCID BIT(12)
#define PROC2_VMFUNC BIT(13)
#define PROC2_VMCS_SHADOWING BIT(14)
#define PROC2_ENCLS BIT(15)
#define PROC2_RDSEED BIT(16)
#define PROC2_PML BIT(17)
#define PROC2_EPT_VE BIT(18)
#define PROC2_XSAVES BIT(20)
#define PROC2_PASID BIT(21)
#define PROC2_MODE_BASED_EXECUTE BIT(22)
#define PROC2_SPP BIT(23)
#define PROC2_TSC_SCALING BIT(25)
#define PROC2_USER_WAIT BIT(26)
#define PROC2_PCONFIG BIT(27)
#define PROC2_ENCLV BIT(28)
#define PROC2_BUS_LOCK BIT(30)
#define PROC2_NOTIFY BIT(31)

/* PROC3_CONTROLS. SDM 3C 25.6.2 "Processor-Based VM-Execution Controls" */
#define PROC3_MSR_LIST BIT(6)
#define PROC3_SPEC_CTRL BIT(7)

/* EXIT_CONTROLS. SDM 3C 25.7.1 "VM-Exit Controls" */
#define EXITC_SAVE_DEBUG BIT(2)
#define EXITC_HOST_64 BIT(9)
#define EXITC_LOAD_PERF_GLOBAL BIT(12)
#define EXITC_ACK_INTERRUPT BIT(15)
#define EXITC_SAVE_PAT BIT(18)
#define EXITC_LOAD_PAT BIT(19)
#define EXITC_SAVE_EFER BIT(20)
#define EXITC_LOAD_EFER BIT(21)
#define EXITC_SAVE_TIMER BIT(22)
#define EXITC_CLEAR_UINV BIT(27)
#define EXITC_LOAD_CET BIT(28)
#define EXITC_LOAD_PKRS BIT(29)
#define EXITC_SAVE_PERF_GLOBAL BIT(30)
#define EXITC_SECONDARY BIT(31)

/* EXIT2_CONTROLS. SDM 3C 25.7.1 "VM-Exit Controls" */
#define EXIT2_LOAD_SPEC_CTRL BIT(2)

/* ENTRY_CONTROLS. SDM 3C 25.8.1 "VM-Entry Controls" */
#define ENTRY_LOAD_DEBUG BIT(2)
#define ENTRY_GUEST_64 BIT(9)
#define ENTRY_TO_SMM BIT(10)
#define ENTRY_NO_DUAL_MONITOR BIT(11)
#define ENTRY_LOAD_PERF_GLOBAL BIT(13)
#define ENTRY_LOAD_PAT BIT(14)
#define ENTRY_LOAD_EFER BIT(15)
#define ENTRY_LOAD_UINV BIT(19)
#define ENTRY_LOAD_CET BIT(20)
#define ENTRY_LOAD_PKRS BIT(22)
/* Registers that vmcs01 loads once, after an exit of L2 that left them as L2 had them: nested/switched. */
#define ENTRY_SWITCHED_ONCE (ENTRY_LOAD_CET | ENTRY_LOAD_PKRS | ENTRY_LOAD_UINV)

/* Interruption information (exit, IDT-vectoring, entry). SDM 3C 25.8.3 "VM-Entry Controls for Event Injection" */
#define INTR_VECTOR BITS(7, 0)
#define INTR_TYPE BITS(10, 8)
#define INTR_TYPE_EXTERNAL 0u
#define INTR_TYPE_NMI 2u
#define INTR_TYPE_HARD_EXCEPTION 3u
#define INTR_TYPE_SOFT_INTERRUPT 4u
#define INTR_TYPE_PRIV_SOFT_EXCEPTION 5u
#define INTR_TYPE_SOFT_EXCEPTION 6u
#define INTR_TYPE_OTHER 7u
#define INTR_ERROR_CODE BIT(11)
#define INTR_NMI_UNBLOCKING BIT(12)
#define INTR_VALID BIT(31)

/* EXIT_REASON. SDM 3C 25.9.1 "Basic VM-Exit Information" */
#define EXIT_REASON_BASIC BITS(15, 0)
#define EXIT_REASON_ENTRY_FAILURE BIT(31)

/* GUEST_INTERRUPTIBILITY. SDM 3C 25.4.2 "Guest Non-Register State" */
#define BLOCKING_BY_STI BIT(0)
#define BLOCKING_BY_MOV_SS BIT(1)
#define BLOCKING_BY_SMI BIT(2)
#define BLOCKING_BY_NMI BIT(3)
#define ENCLAVE_INTERRUPTION BIT(4)

/* GUEST_ACTIVITY_STATE */
#define ACTIVITY_ACTIVE 0u
#define ACTIVITY_HLT 1u
#define ACTIVITY_SHUTDOWN 2u
#define ACTIVITY_WAIT_SIPI 3u

/* GUEST_INTERRUPT_STATUS */
#define INTERRUPT_STATUS_SVI BITS(15, 8)
/* GUEST_PENDING_DEBUG */
#define PENDING_DEBUG_BREAKPOINTS BITS(3, 0)
#define PENDING_DEBUG_BUS_LOCK BIT(11)
#define PENDING_DEBUG_ENABLED_BP BIT(12)
#define PENDING_DEBUG_BS BIT(14)
#define PENDING_DEBUG_RTM BIT(16)

/* Segment access rights. SDM 3C table "Format of Access Rights" */
#define AR_TYPE BITS(3, 0)
#define AR_TYPE_CONFORMING BIT(2) /* of a code segment */
/* Of CS: AR_L alone is 64-bit mode at CPL 0. */
#define AR_KERNEL_MODE (AR_L | AR_DPL | AR_TYPE_CONFORMING)
/* ... and the whole of it as an exit loads it for a 64-bit host: present, accessed, G and L. SDM 3C 28.5.2 */
#define ACCESS_CODE64 0xa09b
#define AR_S BIT(4)
#define AR_DPL BITS(6, 5)
#define AR_P BIT(7)
#define AR_AVL BIT(12)
#define AR_L BIT(13)
#define AR_DB BIT(14)
#define AR_G BIT(15)
#define AR_UNUSABLE BIT(16)
#define AR_RESERVED (BITS(11, 8) | BITS(31, 17))

/* Exit qualification: EPT violation. SDM 3C table "Exit Qualification for EPT Violations" */
#define EPT_QUAL_READ BIT(0)
#define EPT_QUAL_WRITE BIT(1)
#define EPT_QUAL_FETCH BIT(2)
#define EPT_QUAL_ALLOWED_READ BIT(3)
#define EPT_QUAL_ALLOWED_WRITE BIT(4)
#define EPT_QUAL_ALLOWED_EXEC BIT(5)
#define EPT_QUAL_ALLOWED_USER_EXEC BIT(6)
#define EPT_QUAL_GLA_VALID BIT(7)
#define EPT_QUAL_NOT_WALK BIT(8)
#define EPT_QUAL_USER_PAGE BIT(9)
#define EPT_QUAL_WRITABLE_PAGE BIT(10)
#define EPT_QUAL_NO_EXECUTE_PAGE BIT(11)
#define EPT_QUAL_NMI_UNBLOCKING BIT(12)
#define EPT_QUAL_SHADOW_STACK BIT(13)

/* Exit qualification: control-register access */
#define CR_QUAL_NUMBER BITS(3, 0)
#define CR_QUAL_TYPE BITS(5, 4)
#define CR_QUAL_TYPE_MOV_TO 0u
#define CR_QUAL_TYPE_MOV_FROM 1u
#define CR_QUAL_TYPE_CLTS 2u
#define CR_QUAL_TYPE_LMSW 3u
#define CR_QUAL_LMSW_MEMORY BIT(6)
#define CR_QUAL_REGISTER BITS(11, 8)
#define CR_QUAL_LMSW_SOURCE BITS(31, 16)

/* Exit qualification: I/O instruction */
#define IO_QUAL_SIZE BITS(2, 0)
#define IO_QUAL_IN BIT(3)
#define IO_QUAL_STRING BIT(4)
#define IO_QUAL_REP BIT(5)
#define IO_QUAL_IMMEDIATE BIT(6)
#define IO_QUAL_PORT BITS(31, 16)

/* Exit qualification: MOV DR, task switch, APIC access */
#define DR_QUAL_NUMBER BITS(2, 0)
#define DR_QUAL_FROM BIT(4)
#define DR_QUAL_REGISTER BITS(11, 8)
#define TASK_QUAL_SELECTOR BITS(15, 0)
#define TASK_QUAL_SOURCE BITS(31, 30)
#define APIC_QUAL_OFFSET BITS(11, 0)
#define APIC_QUAL_TYPE BITS(15, 12)

/* VM-instruction information for memory operands. SDM 3C 28.2.5 "Information for VM Exits Due to Instruction
 * Execution" */
#define INSN_INFO_SCALING BITS(1, 0)
#define INSN_INFO_REG1 BITS(6, 3)
#define INSN_INFO_ADDRESS_SIZE BITS(9, 7)
#define INSN_INFO_IS_REGISTER BIT(10)
#define INSN_INFO_SEGMENT BITS(17, 15)
#define INSN_INFO_INDEX BITS(21, 18)
#define INSN_INFO_INDEX_INVALID BIT(22)
#define INSN_INFO_BASE BITS(26, 23)
#define INSN_INFO_BASE_INVALID BIT(27)
#define INSN_INFO_REG2 BITS(31, 28)

/* EPTP. SDM 3C 25.6.11 "Extended-Page-Table Pointer (EPTP)" */
#define EPTP_MEMORY_TYPE BITS(2, 0)
#define EPTP_WALK_LENGTH BITS(5, 3)
#define EPTP_AD BIT(6)
#define EPTP_SHADOW_STACK BIT(7)
#define EPTP_RESERVED BITS(11, 8)
#define EP4TA BITS(51, 12)

/* VM-instruction error numbers. SDM 3C 31.4 "VM Instruction Error Numbers" */
#define VMXERR_VMCALL_IN_ROOT 1u
#define VMXERR_VMCLEAR_ADDRESS 2u
#define VMXERR_VMCLEAR_VMXON_POINTER 3u
#define VMXERR_VMLAUNCH_NOT_CLEAR 4u
#define VMXERR_VMRESUME_NOT_LAUNCHED 5u
#define VMXERR_ENTRY_CONTROLS 7u
#define VMXERR_ENTRY_HOST_STATE 8u
#define VMXERR_VMPTRLD_ADDRESS 9u
#define VMXERR_VMPTRLD_VMXON_POINTER 10u
#define VMXERR_VMPTRLD_REVISION 11u
#define VMXERR_UNSUPPORTED_FIELD 12u
#define VMXERR_READ_ONLY_FIELD 13u
#define VMXERR_VMXON_IN_ROOT 15u
#define VMXERR_ENTRY_MOV_SS 26u
#define VMXERR_INVALID_OPERAND 28u

/* VMCS region header */
#define VMCS_SHADOW_INDICATOR BIT(31)

enum exit_reason {
#define REASON(name, number, printable, ...) EXIT_##name = (number),
#include "vmx/exit_reasons.def"
#undef REASON
    EXIT_REASON_COUNT = 86
};

/* Encodings of VMCS fields where a constant is wanted: GUEST_RIP_ENCODING ... (elsewhere the handles of
 * vmx/vmcs_table.h). */
enum vmcs_encoding {
#define FIELD(name, enc, ...) name##_ENCODING = (enc),
#include "vmx/vmcs_fields.def"
#undef FIELD
};

#endif
