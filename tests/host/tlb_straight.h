/* The straight way (vmx/straight.asm) on the processors of tlb_machine.h, which includes this: its looks at `quiet` and
 * `stop`, its change from one VMCS to the other, and that between each two of its instructions the other processor may
 * come, or an NMI. Registers and host state are not there to be moved. tests/host/ only. */
#ifndef TESTS_HOST_TLB_STRAIGHT_H
#define TESTS_HOST_TLB_STRAIGHT_H

#include "kernel/cmdline.h"
#include "nested/host_state.h"
#include "nested/quiet.h"
#include "nested/slot.h"
#include "nested/straight_ept.h"
#include "vmx/hooks.h"
#include "vmx/msr_bitmap.h"
#include "vmx/operand.h"
#include "vmx/straight.h"

static const uint8_t straight_end[1];
const uint8_t vmx_straight_again[1];
const uint64_t straight_ends[1][2] = {{(uint64_t)straight_end, (uint64_t)straight_end}}, straight_ends_count = 1;

/* For a checked comparison: host_state.c is not linked. */
QUIET bool host_state_is(struct vcpu *vcpu, const struct vmcs12_slot *slot, const struct l1_registers *l2, uint64_t cr0)
{
    (void)vcpu, (void)slot, (void)l2, (void)cr0;
    return true;
}

/* Whose guest the current VMCS is: struct vcpu says it only when an exit takes the long way. */
QUIET static bool runs_l2(const struct processor *p)
{
    return p->vmcs != p->vcpu.vmcs01;
}

/* The value that L1 reads of its current VMCS: where VMCS shadowing shows it vmcs02, of that. */
QUIET static uint64_t l1_vmread(struct processor *p, unsigned row)
{
    const struct nested *nested = p->vcpu.nested;
    const struct vmcs12_slot *slot = nested->current;
    hpa_t current = p->vmcs;

    if (!slot->mirrored || !bits_test(nested->rows_shown, row))
        return slot->v->field[row];
    p->vmcs = slot->vmcs02;
    uint64_t value = tlb_vmread(vmcs_fields[row].encoding);
    p->vmcs = current;
    return value;
}

QUIET static void vmwrite12(struct processor *p, unsigned row, uint64_t value)
{
    p->vcpu.nested->current->v->field[row] = value;
    slot_set_dirty(p->vcpu.nested->current, row);
    straight_disturb(&p->cpu); /* as vmx/straight_l1.asm does */
}

/* Conditions without which no plan is made. */
QUIET static void configure_modes(struct processor *p)
{
    vmwrite12(p, FIELD_INDEX_ENTRY_CONTROLS, ENTRY_GUEST_64);
    vmwrite12(p, FIELD_INDEX_EXIT_CONTROLS, EXITC_HOST_64);
    vmwrite12(p, FIELD_INDEX_VMCS_LINK_POINTER, VMPTR_NONE);
}

QUIET static bool is_for_l1(const struct processor *p, const struct straight_plan *plan, uint32_t reason)
{
    if (reason < 64 && plan->reasons & BIT(reason))
        return true;
    return reason == EXIT_RDMSR && plan->msr_page &&
           msr_bitmap_test(plan->msr_page, (uint32_t)p->vcpu.regs[RCX], MSR_READ);
}

/* From the one VMCS to the other. */
QUIET static void turn(struct processor *p)
{
    struct straight *straight = straight_of(&p->cpu);
    const struct straight_plan *plan = straight->plan;
    bool of_l2 = runs_l2(p);

    between();
    p->vmcs = of_l2 ? straight->vmcs01 : plan->vmcs02;
    straight->moves++;
    if (plan->shape & SHAPE_NO_VPID)
        (void)tlb_invvpid(plan->invvpid_type,
                          (struct invalidate_descriptor){.context = of_l2 ? plan->invvpid_l1[0] : plan->invvpid_l2[0]});
    between();
}

/* An EPT violation of L2. True: L2 goes on, up to the last look, or the exit is L1's. */
QUIET static enum straight_violation go_by_ept(struct processor *p)
{
    enum straight_violation violation = straight_ept_exit(&p->vcpu);

    straight_violations[violation]++;
    return violation;
}

/* True if L1's VMRESUME may enter: behind a violation that L1 was told of, EPT02 gets what L1 has mapped. */
QUIET static bool may_enter(struct processor *p, uint32_t reason)
{
    uint8_t quiet = straight_of(&p->cpu)->quiet;

    return reason == EXIT_VMRESUME &&
           (quiet == QUIET_ALL || (quiet == QUIET_BUT_REVISIT && straight_ept_enter(&p->vcpu)));
}

/* VMPTRLD of L1: what was known of the other vmcs12 holds as long as the byte has stood since. False: the long way. */
QUIET static bool turn_to_other(struct processor *p)
{
    struct straight *straight = straight_of(&p->cpu);
    gpa_t vmptr = *(const gpa_t *)operand_plain(&p->vcpu, sizeof vmptr);
    struct straight_plan *plan = straight->held[vmptr / PAGE_SIZE % STRAIGHT_HELD];

    if (straight->stop || !straight->fields || plan->vmptr != vmptr)
        return false;
    between();
    if (straight->quiet == QUIET_ALL && plan->epoch == straight->epoch) {
        turns_kept++;
        straight->plan->moves += straight->moves - straight->moves_then;
        straight->moves_then = straight->moves;
    } else if (!plan->made || !straight->current->shown) {
        return false;
    } else if (straight->moves != straight->moves_then || straight->entered) {
        nested_hooks.vmptrld_usual(&p->vcpu, plan);
        return true;
    } else {
        straight->quiet = 0;
        plan->used = ++straight->clock;
    }
    vmcs_write(VMCS_LINK_POINTER, plan->vmcs02);
    *straight->current = (struct straight_current){plan->slot, plan->vmcs02};
    straight->plan = plan;
    straight->fields = plan->fields;
    return true;
}

/* Up to the last look. False: the long way. */
QUIET static bool go_straight(struct processor *p, uint32_t reason)
{
    struct straight *straight = straight_of(&p->cpu);
    struct straight_plan *plan = straight->plan;
    bool of_l2 = runs_l2(p);

    p->alone = !of_l2 && reason == EXIT_VMPTRLD;
    if (p->alone)
        return turn_to_other(p);
    if (!straight->quiet)
        return false;
    between();
    if (of_l2 && reason == EXIT_EPT_VIOLATION) {
        enum straight_violation violation = go_by_ept(p);
        if (violation != VIOLATION_OF_L1)
            return violation == VIOLATION_FILLED;
    } else if (of_l2 ? !is_for_l1(p, plan, reason) : !may_enter(p, reason)) {
        return false;
    }
    if (!of_l2 && (vmcs_read(GUEST_CS_AR_BYTES) != ACCESS_CODE64 || vmcs_read(GUEST_INTERRUPTIBILITY)))
        return false;
    straight->by_reason[of_l2 ? reason : 0] += of_l2;
    p->vcpu.next = NEXT_ENTER; /* in a checked build the check of the one before has said so */
    turn(p);
    return true;
}

/* The long way. True: what vcpu_handle_exit() leaves to the straight one is done, up to the last look. */
QUIET static bool go_long(struct processor *p)
{
    enum vcpu_next next = vcpu_handle_exit(&p->vcpu);

    p->alone = false;
    if (next == NEXT_ENTER)
        return false;
    handed_back[next == NEXT_STRAIGHT_TO_L2]++;
    turn(p);
    return true;
}

/* The end of it: the last look, after which only an NMI is heard. False: another look is needed. */
QUIET static bool end_straight(struct processor *p)
{
    const struct straight *straight = straight_of(&p->cpu);
    bool good;

    p->ending = true;
    between();
    good = runs_l2(p) ? straight->quiet : !straight->stop;
    between();
    p->ending = false;
    good &= !p->again;
    p->again = false;
    return good;
}

/* True if the guest runs then. False: what is done before any entry is to be done; in half of the cases as in a checked
 * build, which has nothing to compare behind an instruction of L1's. */
QUIET static bool is_in(struct processor *p)
{
    bool checked = options.quiet_fault == QUIET_FAULT_STEP || host_random() % 2; /* that one would crash */

    checked &= !p->alone;

    if (checked)
        vcpu_straight_checked(&p->vcpu);
    else if (end_straight(p))
        straight_ways++;
    else
        vcpu_enter_again(&p->vcpu), checked = true;
    return !checked;
}

#endif
