/* The values that the assembly of vmx/ knows by name: encodings of VMCS fields, offsets in the structs that it shares
 * with C, and bits. Not linked: see kernel/asm_value.h. */
#include "kernel/asm_value.h"
#include "kernel/msr.h"
#include "kernel/percpu.h"
#include "kernel/x86_bits.h"
#include "mm/page.h"
#include "vmx/hooks.h"
#include "vmx/msr_bitmap.h"
#include "vmx/operand.h"
#include "vmx/straight.h"
#include "vmx/vcpu.h"
#include "vmx/vmx_bits.h"

/* The order of struct straight's `vmx`. */
enum vmx_count {
#define COUNTER(name, text) NUMBER_##name,
#include "kernel/counters_vmx.def"
#undef COUNTER
    VMX_COUNTS
};
_Static_assert(ARRAY_SIZE(((struct straight *)0)->vmx) == VMX_COUNTS, "a word for each of counters_vmx.def");

static void fields(void)
{
#define FIELD(name, enc, ...) VALUE(name, enc);
#include "vmx/vmcs_fields.def"
#undef FIELD
#define REASON(name, number, ...) VALUE(EXIT_##name, number);
#include "vmx/exit_reasons.def"
#undef REASON
}

/* STRAIGHT_WRITE_ROWS writes each row of vmx/straight_rows.def from a plan's image. */
static void straight_rows(void)
{
#define ROW(field, value) SAME(STRAIGHT_##field);
#include "vmx/straight_rows.def"
#undef ROW
    SAME(STRAIGHT_ROWS_WRITTEN);
    LINE("%%macro STRAIGHT_WRITE_ROWS 0");
#define KEPT(field, value)
#define ROW(field, value) LINE_WITH("WRITE_FROM " #field ", P_IMAGE + %0", 8 * STRAIGHT_##field);
#include "vmx/straight_rows.def"
#undef ROW
    LINE("%%endmacro");
}

/* A vcpu, and the words of struct cpu to which GS leads, for vmx/entry.asm. */
static void members(void)
{
    MEMBER(VCPU_REGS, struct vcpu, regs);
    MEMBER(VCPU_LAUNCHED, struct vcpu, launched);
    MEMBER(VCPU_ATTENTION, struct vcpu, attention);
    SAME(NEXT_STRAIGHT_TO_L1);
    MEMBER(CPU_STACK_WORD, struct cpu, stack_word);
    MEMBER(CPU_EXIT_TSC, struct cpu, timed.exit_tsc);
    MEMBER(CPU_STRAIGHT, struct cpu, straight);
}

/* struct straight, by S_ and the member's name. It lies in struct cpu: CPU_STRAIGHT above. */
static void straight_members(void)
{
    MEMBER(S_RAX, struct straight, rax);
    MEMBER(S_RDX, struct straight, rdx);
    MEMBER(S_RCX, struct straight, rcx);
    MEMBER(S_PLAN, struct straight, plan);
    MEMBER(S_QUIET, struct straight, quiet);
    MEMBER(S_STOP, struct straight, stop);
    MEMBER(S_VMCS01, struct straight, vmcs01);
    MEMBER(S_MOVES, struct straight, moves);
    MEMBER(S_MOVES_THEN, struct straight, moves_then);
    MEMBER(S_EPOCH, struct straight, epoch);
    MEMBER(S_VMX, struct straight, vmx);
    MEMBER(S_BY_REASON, struct straight, by_reason);
    MEMBER(S_L1_EXITS, struct straight, l1_exits);
    MEMBER(S_CPUIDS, struct straight, cpuids);
    MEMBER(S_VMREADS, struct straight, vmreads);
    MEMBER(S_VMPTRLDS, struct straight, vmptrlds);
    MEMBER(S_INVEPTS, struct straight, invepts);
    MEMBER(S_INVVPIDS, struct straight, invvpids);
    MEMBER(S_HELD, struct straight, held);
    SAME(STRAIGHT_HELD);
    MEMBER(S_CURRENT, struct straight, current);
    MEMBER(CURRENT_SLOT, struct straight_current, slot);
    MEMBER(CURRENT_SHOWN, struct straight_current, shown);
    MEMBER(S_CLOCK, struct straight, clock);
    MEMBER(S_ENTERED, struct straight, entered);
    MEMBER(S_EPTP_OWED, struct straight, eptp_owed);
    MEMBER(S_EPTP_IS_OWED, struct straight, eptp_is_owed);
    MEMBER(S_PLAIN_LEAVES, struct straight, plain_leaves);
    MEMBER(S_FIELDS, struct straight, fields);
    MEMBER(S_ROW, struct straight, row);
    MEMBER(S_REGISTER, struct straight, reg);
    MEMBER(S_WORD, struct straight, word);
    MEMBER(S_FLAGS, struct straight, flags);
    VALUE(REASON_MAX, ARRAY_SIZE(((struct straight *)0)->by_reason) - 1);
    SAME(QUIET_ALL);
    SAME(QUIET_BUT_REVISIT);
    SAME(VIOLATION_OF_L1);
#define COUNTER(name, text) VALUE(name, NUMBER_##name);
#include "kernel/counters_vmx.def"
#undef COUNTER
}

/* struct straight_plan, by P_ and the member's name: RDX points to it nearly always. */
static void plan_members(void)
{
    MEMBER(P_VMCS02, struct straight_plan, vmcs02);
    MEMBER(P_REVISION, struct straight_plan, revision);
    MEMBER(P_REASONS, struct straight_plan, reasons);
    MEMBER(P_SHAPE, struct straight_plan, shape);
    MEMBER(P_CR0_MASK, struct straight_plan, cr0_mask);
    MEMBER(P_CR0_KEPT, struct straight_plan, cr0_kept);
    MEMBER(P_EFER_KEPT, struct straight_plan, efer_kept);
    MEMBER(P_DR7, struct straight_plan, dr7);
    MEMBER(P_DEBUGCTL, struct straight_plan, debugctl);
    MEMBER(P_PAT, struct straight_plan, pat);
    MEMBER(P_EFER, struct straight_plan, efer);
    MEMBER(P_L1_EFER, struct straight_plan, l1_efer);
    MEMBER(P_TIMER, struct straight_plan, timer);
    MEMBER(P_INVVPID_TYPE, struct straight_plan, invvpid_type);
    MEMBER(P_INVVPID_L1, struct straight_plan, invvpid_l1);
    MEMBER(P_INVVPID_L2, struct straight_plan, invvpid_l2);
    MEMBER(P_PROC, struct straight_plan, proc);
    MEMBER(P_MSR_PAGE, struct straight_plan, msr_page);
    MEMBER(P_IMAGE, struct straight_plan, image);
    MEMBER(P_MADE, struct straight_plan, made);
    MEMBER(P_VMPTR, struct straight_plan, vmptr);
    MEMBER(P_REGION, struct straight_plan, region);
    MEMBER(P_IDENTIFIER, struct straight_plan, identifier);
    MEMBER(P_SLOT, struct straight_plan, slot);
    MEMBER(P_FIELDS, struct straight_plan, fields);
    MEMBER(P_DIRTY, struct straight_plan, dirty);
    MEMBER(P_SCOPE, struct straight_plan, scope);
    MEMBER(P_USED, struct straight_plan, used);
    MEMBER(P_EPOCH, struct straight_plan, epoch);
    MEMBER(P_MOVES, struct straight_plan, moves);
}

/* A walk of L1's paging that gva_plain() has kept, in a vcpu; and hooks. */
static void walk_members(void)
{
    MEMBER(CPU_VCPU, struct cpu, vcpu);
    MEMBER(VCPU_WALK, struct vcpu, walk);
    SAME(PLAIN_WALKS);
    VALUE(WALK_SHIFT, __builtin_ctz(sizeof(struct plain_walk)));
    MEMBER(W_PAGE, struct plain_walk, page);
    MEMBER(W_CR3, struct plain_walk, cr3);
    MEMBER(W_CR4, struct plain_walk, cr4);
    MEMBER(W_EFER, struct plain_walk, efer);
    MEMBER(W_ENTRY, struct plain_walk, entry);
    MEMBER(W_VALUE, struct plain_walk, value);
    MEMBER(W_AT, struct plain_walk, at);
    MEMBER(HOOK_INVEPT_USUAL, struct nested_hooks, invept_usual);
    MEMBER(HOOK_INVVPID_USUAL, struct nested_hooks, invvpid_usual);
    MEMBER(HOOK_VMPTRLD_USUAL, struct nested_hooks, vmptrld_usual);
}

static void shapes(void)
{
    SAME(SHAPE_READ_DEBUG);
    SAME(SHAPE_READ_PAT);
    SAME(SHAPE_READ_EFER);
    SAME(SHAPE_DEBUG);
    SAME(SHAPE_PAT);
    SAME(SHAPE_EFER);
    SAME(SHAPE_TIMER);
    SAME(SHAPE_NO_VPID);
    SAME(SHAPE_KEEP_PAT);
    SAME(SHAPE_KEEP_EFER);
    SAME(SHAPE_NMI);
    SAME(SHAPE_PROC);
    SAME(SHAPE_MODE);
    SAME(SHAPE_ENTRY_LIST);
    SAME(SHAPE_EXIT_LISTS);
    SAME(SHAPE_ENTRY);
    SAME(SHAPE_EXIT);
    SAME(SHAPE_BARE);
}

/* Bits of registers and of fields. AR_MODE masks the access rights of CS so that AR_KERNEL64 remains for 64-bit code at
 * CPL 0: a code segment that is not conforming has the CPL for its DPL. SDM 3C 27.3.1.2 */
static void bits(void)
{
    VALUE(AR_MODE, AR_KERNEL_MODE);
    VALUE(AR_KERNEL64, AR_L);
    SAME(ACCESS_CODE64);
    SAME(ENTRY_GUEST_64);
    VALUE(BLOCKING, BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    SAME(BLOCKING_BY_NMI);
    VALUE(EFER_LME_LMA, EFER_LME | EFER_LMA);
    SAME(VMCS_SHADOW_INDICATOR);
    SAME(RFLAGS_TF);
    SAME(RFLAGS_RF);
    SAME(RFLAGS_ARITHMETIC);
    SAME(INSN_INFO_IS_REGISTER);
    VALUE(OPERAND_JUDGED, OPERAND_PLAIN_JUDGED | INSN_INFO_BASE_INVALID | INSN_INFO_INDEX_INVALID);
    VALUE(OPERAND_MUST, OPERAND_PLAIN_MUST | INSN_INFO_INDEX_INVALID);
    VALUE(BASE_SHIFT, __builtin_ctz(INSN_INFO_BASE));
    VALUE(REG2_SHIFT, __builtin_ctz(INSN_INFO_REG2));
    SAME(DR7_ENABLED);
    SAME(INVEPT_SINGLE);
    SAME(PAGE_SIZE);
    VALUE(PAGE_SHIFT, __builtin_ctz(PAGE_SIZE));
    SAME(STRAIGHT_ENCODINGS);
    SAME(INTR_TYPE);
    VALUE(INTR_IS_NMI, PUT(INTR_TYPE_NMI, INTR_TYPE));
    SAME(CR_QUAL_NUMBER);
    /* The MSR bitmap by bit numbers, as BT counts them in memory: vmx/msr_bitmap.h has bytes. */
    VALUE(MSR_OUTSIDE, ~(MSR_BITMAP_RANGE - 1));
    SAME(MSR_BITMAP_HIGH_BASE);
    VALUE(BITS_HIGH, 8 * MSR_BITMAP_READ_HIGH);
    VALUE(BITS_WRITE, 8 * MSR_BITMAP_WRITE_LOW);
}

__attribute__((used)) static void values(void)
{
    fields();
    straight_rows();
    members();
    straight_members();
    plan_members();
    walk_members();
    shapes();
    bits();
}
