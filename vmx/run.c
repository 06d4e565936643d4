/* Exits, in C. vmx/entry.asm has put the guest's registers into its vcpu and calls vcpu_handle_exit(); on return it
 * enters the guest whose VMCS is current then. So a handler that loads another VMCS has changed the guest, and nobody
 * else must be told.
 *
 * There are several ways through, from short to long, and an exit takes the shortest that is exact for it. They differ
 * in how much of the exit they read: a VMREAD is the dearest instruction here, so the frequent exits read two or three
 * fields, and only handle_any() takes the whole snapshot and asks everybody who might have a part in the exit. */
#include "vmx/run.h"

#include "kernel/cmdline.h"
#include "kernel/ledger.h"
#include "kernel/machine_check.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/x86.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/hooks.h"
#include "vmx/kick.h"
#include "vmx/skip.h"
#include "vmx/startup.h"
#include "vmx/step.h"
#include "vmx/straight.h"
#include "vmx/vpid.h"

_Static_assert(STRAIGHT_GUEST_RSP == 0, "READ_TO HOST_RSP, P_IMAGE");

/* The column `parts` of each exit reason: bits, of which PLAIN and OPERAND leave out what every other exit has. */
enum { PART_COMMON = 0, PART_ADDRESSES = 1, PART_EVENT = 2, PART_PLAIN = 4, PART_OPERAND = 8 };
static const uint8_t exit_parts[EXIT_REASON_COUNT] = {
#define REASON(name, number, printable, cause, parts) [number] = PART_##parts,
#include "vmx/exit_reasons.def"
#undef REASON
};

bool vcpu_exit_has_addresses(uint32_t reason)
{
    return reason < EXIT_REASON_COUNT && (exit_parts[reason] & PART_ADDRESSES);
}

static void read_whole_exit(struct vmexit *exit, uint8_t parts)
{
    exit->qualification = vmcs_read(EXIT_QUALIFICATION);
    exit->instruction_info = vmcs_read(EXIT_INSTRUCTION_INFO);
    exit->idt_vectoring_info = vmcs_read(IDT_VECTORING_INFO);
    /* The error codes are read only where there is an event: a VMREAD costs as much as some dozens of instructions. */
    if (exit->idt_vectoring_info & INTR_VALID)
        exit->idt_vectoring_error_code = vmcs_read(IDT_VECTORING_ERROR_CODE);
    if (parts & PART_EVENT) {
        exit->interruption_info = vmcs_read(EXIT_INTERRUPTION_INFO);
        exit->interruption_error_code = vmcs_read(EXIT_INTERRUPTION_ERROR_CODE);
    }
    if (parts & PART_ADDRESSES) {
        exit->guest_linear_address = vmcs_read(GUEST_LINEAR_ADDRESS);
        exit->guest_physical_address = vmcs_read(GUEST_PHYSICAL_ADDRESS);
    }
}

/* The part that every exit has; events that are not read are none. */
static inline void read_common(struct vmexit *exit, uint32_t reason)
{
    exit->reason = (uint32_t)GET(reason, EXIT_REASON_BASIC);
    exit->entry_failure = (reason & EXIT_REASON_ENTRY_FAILURE) != 0;
    exit->changed = false;
    exit->rip = vmcs_read(GUEST_RIP);
    exit->instruction_length = vmcs_read(EXIT_INSTRUCTION_LENGTH);
    exit->idt_vectoring_info = 0;
    exit->interruption_info = 0;
}

void vcpu_prepare_entry_anew(struct vcpu *vcpu)
{
    bool timed = vcpu->attention && vcpu->cpu->timed.records; /* vmx_exit_timed asked for it */
    if (timed && (vcpu->step.active & STEP_DEBUG))
        debug_hooks.disarm(vcpu);
    if (vcpu->attention)
        startup_attend(vcpu);
    /* After the requests, which may take the event away or add one. */
    if (vcpu->inject_info | vcpu->cpu->nmi_seen)
        event_prepare(vcpu);
    /* Somebody took translations of EPT01 away: this processor must pass an INVEPT before it enters. */
    if (vcpu->ept01_generation != __atomic_load_n(&vcpu->vm->ept01.generation, __ATOMIC_ACQUIRE)) {
        kick_answer(vcpu);
        ept_retire_done(&vcpu->vm->ept01, kick_oldest_generation(vcpu->vm));
    }
    if (!timed)
        return;
    if (debug_hooks.entry)
        debug_hooks.entry(vcpu);
    trace_entry(vcpu->in_l2);
}

/* An entry of L1 judges what it loads; L1, which has left IA-32e mode since, may have CET state that this mode forbids
 * to load. Nobody but L1 has changed the registers since they were loaded, so that they need no load. */
static bool loads_in_vain(const struct vcpu *vcpu)
{
    uint64_t controls = vmcs_read(ENTRY_CONTROLS);
    if (vcpu->exit.reason != EXIT_INVALID_GUEST_STATE || !(controls & ENTRY_SWITCHED_ONCE))
        return false;
    vmcs_write(ENTRY_CONTROLS, (uint32_t)(controls & ~ENTRY_SWITCHED_ONCE));
    return true;
}

/* The exit is L0's, of either level. Another entry of vmcs01 that fails is Nestor's own mistake, so the run ends; one
 * of vmcs02 never comes here. */
static void vcpu_handle_at_l0(struct vcpu *vcpu)
{
    bool from_l2 = vcpu->in_l2;
    if (vcpu->exit.entry_failure && vcpu->exit.reason == EXIT_MACHINE_CHECK) {
        machine_check_report();
        dump_and_end(vcpu, "a machine check during a VM entry of L1");
    }
    if (vcpu->exit.entry_failure) {
        if (loads_in_vain(vcpu))
            return; /* with its event, if it has one */
        dump_and_end(vcpu, "a VM entry of L1 failed: its state is one that the CPU refuses");
    }
    event_requeue(vcpu);
    exit_handler_of(vcpu->exit.reason)(vcpu);
    if (from_l2)
        nested_hooks.l0_handled_l2(vcpu);
}

/* The handlers' findings about the instruction that exited start empty. */
static inline void begin_instruction(struct vcpu *vcpu)
{
    vcpu->completed = false;
    vcpu->debug_hits = 0;
}

/* The work that is left about the instruction when L0 has handled the exit and the same guest goes on. */
static void end_instruction(struct vcpu *vcpu, bool from_l2)
{
    if (vcpu->in_l2 != from_l2)
        return;
    if (!vcpu->completed)
        vcpu_not_completed();
    else if (from_l2)
        nested_hooks.l2_completed(vcpu);
}

/* The long way: the snapshot is taken whole, and whoever may have a part in the exit is asked, in this order: a step of
 * Nestor's own, a kick, nested/, L0. */
static NOINLINE void handle_any(struct vcpu *vcpu, uint32_t reason)
{
    bool from_l2 = vcpu->in_l2;
    begin_instruction(vcpu);
    read_common(&vcpu->exit, reason);
    read_whole_exit(&vcpu->exit, vcpu->exit.reason < EXIT_REASON_COUNT ? exit_parts[vcpu->exit.reason] : 0);
    if (__builtin_expect(vcpu->exit.reason >= EXIT_RDMSRLIST, 0))
        exit_settle_msr(vcpu);
    /* An EPT violation may be the same instruction's next store. */
    bool own_exit = (vcpu->step.active & STEP_DEBUG) && debug_hooks.exit(vcpu);
    if (step_active(vcpu) && vcpu->exit.reason != EXIT_EPT_VIOLATION && step_end(vcpu))
        own_exit = true;
    if (!from_l2 && (reason == EXIT_VMREAD || reason == EXIT_VMWRITE)) { /* these have no handler in the table */
        nested_hooks.field_access(vcpu, reason);
        return;
    }
    vcpu_count_exit(vcpu, vcpu->exit.reason, vcpu->exit.rip, from_l2);
    bool kicked = vcpu->exit.reason == EXIT_EXCEPTION_NMI && kick_exit(vcpu); /* who kicks waits for the answer */
    if (own_exit || kicked)
        event_requeue(vcpu);
    else if (!from_l2 || !nested_hooks.exit_from_l2(vcpu))
        vcpu_handle_at_l0(vcpu);
    if (vcpu->next != NEXT_ENTER)
        return;
    /* An instruction that the monitor trap flag came behind did complete: its single-step trap stays pending. */
    if (!own_exit || vcpu->exit.reason != EXIT_MONITOR_TRAP)
        end_instruction(vcpu, from_l2);
    vcpu_prepare_entry(vcpu);
}

/* The ways of an exit are functions of their own, so that none pays for the registers that another needs.
 *
 * An instruction of L1's of which nothing else is looked at. */
static NOINLINE void handle_instruction(struct vcpu *vcpu, uint32_t reason)
{
    vcpu->exit.reason = reason;
    vcpu->exit.rip = vmcs_read(GUEST_RIP);
    vcpu->exit.instruction_length = vmcs_read(EXIT_INSTRUCTION_LENGTH);
    if (exit_parts[reason] & PART_OPERAND)
        vcpu->exit.instruction_info = vmcs_read(EXIT_INSTRUCTION_INFO);
    vcpu_count_exit(vcpu, reason, vcpu->exit.rip, false);
    exit_handlers[reason](vcpu);
    vcpu_prepare_entry(vcpu);
}

/* CPUID of L1 for a leaf in which L1 sees the CPU itself. */
static NOINLINE void handle_plain_cpuid(struct vcpu *vcpu)
{
    uint64_t rip = vmcs_read(GUEST_RIP), *regs = vcpu->regs;
    vcpu_count_exit(vcpu, EXIT_CPUID, rip, false);
    __asm__ volatile("cpuid"
                     : "=a"(regs[RAX]), "=b"(regs[RBX]), "=c"(regs[RCX]), "=d"(regs[RDX])
                     : "a"(regs[RAX]), "c"(regs[RCX]));
    vcpu_skip_from(rip, vmcs_read_wide(EXIT_INSTRUCTION_LENGTH), vmcs_read(GUEST_RFLAGS));
    vcpu_prepare_entry(vcpu);
}

/* The commonest exit of L2 that is looked at whole. */
static NOINLINE void handle_violation_of_l2(struct vcpu *vcpu)
{
    begin_instruction(vcpu);
    read_common(&vcpu->exit, EXIT_EPT_VIOLATION);
    read_whole_exit(&vcpu->exit, PART_ADDRESSES);
    vcpu_count_exit(vcpu, EXIT_EPT_VIOLATION, vcpu->exit.rip, true);
    vcpu->only_filled = false;
    if (!nested_hooks.exit_from_l2(vcpu))
        vcpu_handle_at_l0(vcpu);
    if (!vcpu->only_filled)
        straight_of(vcpu->cpu)->quiet = 0;
    if (vcpu->next != NEXT_ENTER)
        return;
    end_instruction(vcpu, true);
    vcpu_prepare_entry(vcpu);
}

/* Exits that are L1's without a question go straight to it; vcpu->l2_straight says which for this L2. */
static inline void handle_exit_of_l2(struct vcpu *vcpu, uint32_t reason)
{
    if (reason < 64 && vcpu->l2_straight & BIT(reason))
        nested_hooks.straight_to_l1(vcpu, reason);
    else if (reason == EXIT_EPT_VIOLATION)
        handle_violation_of_l2(vcpu);
    else
        handle_any(vcpu, reason);
}

/* The ledger's look at the current VMCS, before each entry. In the CHECKED build alone. */
static inline void expect_paid(const struct vcpu *vcpu)
{
#ifdef CHECKED
    uint64_t proc2 = vmcs_read(PROC2_CONTROLS);
    struct ledger_entry entry = {.ep4ta = vmcs_read(EPT_POINTER), .vpid = proc2 & PROC2_VPID ? vmcs_read(VPID) : 0};
    entry.is_zero = vpid_is_zero(entry.vpid);
    if ((proc2 & PROC2_APIC_ACCESS) && entry.ep4ta == ept_pointer(&vcpu->vm->ept01)) /* else L1 answers for it */
        entry.apic_page = vmcs_read(APIC_ACCESS_ADDR);
    ledger_enter(&entry);
#endif
    (void)vcpu;
}

/* The state that each exit must have given the processor. In the CHECKED build alone. */
static inline void expect_root_state(void)
{
#ifdef CHECKED
    if (!(read_cr4() & CR4_MCE))
        panic("vmx: CR4.MCE is clear in root operation: a machine check would be a shutdown");
#endif
}

/* L1's instructions that vmx/straight_l1.asm did, into the counters that the other ways use. */
static NOINLINE void count_l1(struct vcpu *vcpu, struct straight *straight)
{
    vcpu->exits[0][EXIT_CPUID] += straight->cpuids;
    vcpu->exits[0][EXIT_VMREAD] += straight->vmreads;
    vcpu->exits[0][EXIT_VMPTRLD] += straight->vmptrlds;
    vcpu->exits[0][EXIT_INVEPT] += straight->invepts;
    vcpu->exits[0][EXIT_INVVPID] += straight->invvpids;
    vcpu->exits[0][EXIT_VMWRITE] += straight->l1_exits - straight->cpuids - straight->vmreads - straight->vmptrlds -
                                    straight->invepts - straight->invvpids;
    count_add(COUNT_EXITS_L1, straight->l1_exits);
    straight->l1_exits = straight->cpuids = straight->vmreads = straight->vmptrlds = 0;
    straight->invepts = straight->invvpids = 0;
#ifdef COUNT_VMX
    for (unsigned i = 0; i < ARRAY_SIZE(straight->vmx); i++) {
        count_add(COUNT_VMREADS + i, straight->vmx[i]);
        straight->vmx[i] = 0;
    }
#endif
}

/* An exit, or what comes before an entry, takes the long way. An NMI that comes after this is looked at again. */
static inline void leave_straight(struct vcpu *vcpu)
{
    struct straight *straight = straight_of(vcpu->cpu);
    straight->stop = 0;
    if (straight->moves)
        nested_hooks.straight_settle(vcpu);
    if (straight->l1_exits)
        count_l1(vcpu, straight);
}

static inline void handle_usual(struct vcpu *vcpu, uint32_t reason)
{
    if (reason < EXIT_REASON_COUNT && exit_parts[reason] & (PART_PLAIN | PART_OPERAND))
        handle_instruction(vcpu, reason);
    else
        handle_any(vcpu, reason);
}

/* True if L1 goes from one L2 to another, which it enters next: all is asked at once then. Who loads a VMCS for another
 * reason need not wait for that. */
static inline bool handle_vmptrld(struct vcpu *vcpu, struct straight *straight)
{
    bool entered = straight->entered;
    straight->quiet = straight->entered = 0;
    handle_instruction(vcpu, EXIT_VMPTRLD);
    return entered;
}

/* The reasons that L1 causes most often have shorter ways. True: whether all is quiet now must be asked. */
static inline bool handle_exit_of_l1(struct vcpu *vcpu, struct straight *straight, uint32_t reason)
{
    switch (reason) {
    /* Nothing that nested/quiet.def names is changed by these: an event for L1 is in vmcs01 when it is entered. */
    case EXIT_CPUID:
        if (cpuid_is_plain((uint32_t)vcpu->regs[RAX], &vcpu->vm->cpuid))
            handle_plain_cpuid(vcpu);
        else
            handle_usual(vcpu, reason);
        return false;
    case EXIT_RDMSR:
        handle_usual(vcpu, reason);
        return false;
    /* It leaves the next entry something to do, and straight_resume() asks then. */
    case EXIT_INVEPT:
        straight->quiet = 0;
        handle_instruction(vcpu, reason);
        return false;
    case EXIT_VMPTRLD:
        return handle_vmptrld(vcpu, straight);
    case EXIT_VMRESUME:
        straight->quiet = 0;
        if (straight->fields && straight->plan->valid && nested_hooks.straight_resume(vcpu)) {
            vcpu->next = NEXT_STRAIGHT_TO_L2;
            return false;
        }
        handle_instruction(vcpu, reason);
        return !vcpu->in_l2 || (straight->fields && straight->plan->valid);
    case EXIT_VMREAD:
    case EXIT_VMWRITE:
        straight->quiet = 0;
        nested_hooks.field_access(vcpu, reason);
        return true;
    default:
        straight->quiet = 0;
        handle_usual(vcpu, reason);
        return true;
    }
}

/* An EPT violation says itself what it has changed. True: as above. */
static inline bool handle_by_level(struct vcpu *vcpu, struct straight *straight, uint32_t reason)
{
    if (!vcpu->in_l2)
        return handle_exit_of_l1(vcpu, straight, reason);
    if (reason != EXIT_EPT_VIOLATION)
        straight->quiet = 0;
    handle_exit_of_l2(vcpu, reason);
    if (reason == EXIT_EPT_VIOLATION && vcpu->next != NEXT_ENTER)
        return false; /* the next entry has EPT12 to look at */
    return !straight->quiet;
}

/* Current: the VMCS that exited, vmcs02 when vcpu->in_l2. On return the VMCS to enter is current. */
enum vcpu_next vcpu_handle_exit(struct vcpu *vcpu)
{
    struct straight *straight = straight_of(vcpu->cpu);
    bool ask = true;
    leave_straight(vcpu);
    uint32_t reason = vmcs_read(EXIT_REASON);
    vcpu->launched = true;
    vcpu->next = NEXT_ENTER;
    spinlock_expect_none();
    expect_root_state();
    if (__builtin_expect(vcpu->step.active, 0)) {
        straight->quiet = 0;
        handle_any(vcpu, reason);
    } else {
        ask = handle_by_level(vcpu, straight, reason);
    }
    if (vcpu->next == NEXT_ENTER)
        expect_paid(vcpu);
    if (ask)
        nested_hooks.straight_ready(vcpu);
    return vcpu->next;
}

#ifdef CHECKED
void vcpu_straight_checked(struct vcpu *vcpu)
{
    leave_straight(vcpu);
    spinlock_expect_none();
    expect_root_state();
    nested_hooks.straight_checked(vcpu);
    if (!vcpu->attention) /* else vcpu_enter_again() comes next, and pays */
        expect_paid(vcpu);
    if (!straight_of(vcpu->cpu)->quiet)
        nested_hooks.straight_ready(vcpu);
}
#else
void vcpu_straight_checked(struct vcpu *vcpu)
{
    (void)vcpu;
}
#endif

/* VMfail of VMLAUNCH/VMRESUME: for vmcs01 Nestor's own mistake, for vmcs02 a control that the CPU refuses. */
void vcpu_entry_failed(struct vcpu *vcpu)
{
    leave_straight(vcpu);
    straight_of(vcpu->cpu)->quiet = 0;
    if (vcpu->step.active & STEP_DEBUG)
        debug_hooks.disarm(vcpu);
    uint32_t error = vmcs_read(VM_INSTRUCTION_ERROR);
    ledger_not_entered();
    /* Every field of vmcs01 is Nestor's own choice: no guest can cause this. */
    if (!vcpu->in_l2)
        panic("vmx: VM entry of L1 failed with VM-instruction error %u", error);
    nested_hooks.entry_failed(vcpu, error);
    vcpu_prepare_entry(vcpu);
}

/* An NMI came after the last look: what was written for the entry is taken back first. */
void vcpu_enter_again(struct vcpu *vcpu)
{
    leave_straight(vcpu);
    straight_of(vcpu->cpu)->quiet = 0;
    event_recall(vcpu);
    vcpu_prepare_entry_anew(vcpu);
    expect_paid(vcpu);
    nested_hooks.straight_ready(vcpu);
}

void vcpu_run(struct vcpu *vcpu)
{
    if (options.fault == FAULT_MACHINE_CHECK)
        __asm__ volatile("int %0" : : "i"(VECTOR_MC));
    straight_of(vcpu->cpu)->plain_leaves = vcpu->vm->cpuid.plain_leaves;
    vcpu_prepare_entry(vcpu);
    vmx_run(vcpu, vcpu->cpu->stack_word);
}
