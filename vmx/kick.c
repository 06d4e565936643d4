/* How one processor makes another forget a translation. EPT01 has a generation, and each processor the generation up
 * to which it has executed INVEPT. Who takes a permission away moves the first and then sends NMIs to all that lag
 * behind; the NMI ends a guest, or meets Nestor, whose handler executes the INVEPT at once. No lock is held and none
 * is needed on the way into a guest: the order of the two steps is the whole protocol. */
#include "vmx/kick.h"

#include "kernel/cmdline.h"
#include "kernel/lapic.h"
#include "kernel/ledger.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/trap.h"
#include "kernel/x86.h"
#include "vmx/run.h"
#include "vmx/straight.h"
#include "vmx/vmx_insn.h"

#define COMMAND_NMI (PUT(ICR_DELIVERY_NMI, ICR_DELIVERY) | ICR_ASSERT)
#define PATIENCE (1u << 24)   /* rounds of waiting before a line is logged */
#define STOP_TRIES (1u << 20) /* rounds of waiting for each processor at the end of a run */

static volatile bool stopping;

/* The run ends: this processor stands still and says so. */
static NORETURN void stop_here(struct cpu *cpu)
{
    cpu->stopped = true;
    for (;;)
        cpu_halt();
}

/* True if the NMI that has come is a kick. When the guest's own NMI comes first and is taken for the kick, the kick's
 * comes second and is taken for the guest's. */
static bool kick_take(struct cpu *cpu)
{
    if (!__atomic_exchange_n(&cpu->kick_pending, 0, __ATOMIC_SEQ_CST))
        return false;
    if (stopping)
        stop_here(cpu);
    return true;
}

/* A pending kick is not sent again: the other has yet to look, and will see what was written before it does. */
static void send(struct cpu *cpu)
{
    /* One that is on its way will be taken after what the caller has written. */
    if (!__atomic_exchange_n(&cpu->kick_pending, 1, __ATOMIC_SEQ_CST))
        lapic_send(cpu->apic_id, (uint32_t)COMMAND_NMI);
}

void kick_send(struct vcpu *vcpu)
{
    if (vcpu->cpu == this_cpu())
        vcpu->attention = true;
    else
        send(vcpu->cpu);
}

void kick_answer(struct vcpu *vcpu)
{
    uint64_t generation = __atomic_load_n(&vcpu->vm->ept01.generation, __ATOMIC_SEQ_CST);
    if (vcpu->ept01_generation == generation)
        return;
    /* The generation was read before: what is taken away during the INVEPT moves it again, and is answered again. */
    ASSERT(insn_invept(INVEPT_ALL, (struct invalidate_descriptor){0}));
    __atomic_store_n(&vcpu->ept01_generation, generation, __ATOMIC_RELEASE);
}

/* An NMI that is not a kick's is the guest's, and the caller goes on with it. */
bool kick_exit(struct vcpu *vcpu)
{
    if (GET(vcpu->exit.interruption_info, INTR_TYPE) != INTR_TYPE_NMI || !kick_take(vcpu->cpu))
        return false;
    /* The exit blocked NMIs, and no IRET will come: the next kick must get through. */
    vmx_unblock_nmi();
    vcpu->attention = true;
    return true;
}

/* True if the next instructions enter the guest without another look. */
static bool enters_guest(uint64_t rip)
{
    return (rip >= (uint64_t)vmx_enter_first && rip <= (uint64_t)vmx_enter_resume) || rip == (uint64_t)vmx_enter_launch;
}

static bool ends_straight(uint64_t rip)
{
    for (uint64_t i = 0; i < straight_ends_count; i++)
        if (rip >= straight_ends[i][0] && rip <= straight_ends[i][1])
            return true;
    return false;
}

/* An NMI while Nestor runs on this processor. */
static void kick_nmi(struct trap_frame *frame)
{
    struct cpu *cpu = this_cpu();
    struct vcpu *vcpu = cpu->vcpu;
    if (!kick_take(cpu))
        cpu->nmi_seen = true;
    if (!vcpu)
        return;
    spinlock_forbid();
    kick_answer(vcpu);
    spinlock_allow();
    vcpu->attention = true;
    straight_of(cpu)->stop = 1;
    straight_disturb(cpu);
    /* It was past its last look: back to before it, or the guest would run on what is stale. */
    if (enters_guest(frame->rip))
        frame->rip = (uint64_t)vmx_enter_again;
    else if (ends_straight(frame->rip))
        frame->rip = (uint64_t)vmx_straight_again;
}

/* A processor that waits for its start-up IPI passes an INVEPT before it runs. */
static bool has_passed(const struct vcpu *vcpu, uint64_t generation)
{
    return __atomic_load_n(&vcpu->waiting, __ATOMIC_SEQ_CST) ||
           __atomic_load_n(&vcpu->ept01_generation, __ATOMIC_ACQUIRE) >= generation;
}

/* `self` answers meanwhile: after an exit due to an NMI it may have NMIs blocked still, and the other may wait for
 * it. */
static void wait_for(const struct vcpu *vcpu, uint64_t generation, struct vcpu *self)
{
    for (unsigned i = 1; !has_passed(vcpu, generation); i++) {
        kick_answer(self);
        /* Lost where an APIC was off for a moment; one that only waits is not doubled by this. */
        if (i % PATIENCE == 0 && __atomic_load_n(&vcpu->cpu->kick_pending, __ATOMIC_SEQ_CST))
            lapic_send(vcpu->cpu->apic_id, (uint32_t)COMMAND_NMI);
        if (i == PATIENCE)
            log_warn("kick",
                     "processor %u does not answer: generation %lu of %lu, in L2: %u, requests %x, NMI under way: %u",
                     vcpu->cpu->id, vcpu->ept01_generation, generation, vcpu->in_l2, vcpu->requests,
                     vcpu->cpu->kick_pending);
        cpu_pause();
    }
}

/* Makes every other processor pass an INVEPT: first a kick to all that have not, then a wait for each, so that they
 * work at the same time. */
static void synchronize(struct ept *ept01)
{
    struct vcpu *self = this_cpu()->vcpu;
    const struct vm *vm = self->vm;
    uint64_t generation = __atomic_load_n(&ept01->generation, __ATOMIC_SEQ_CST);
    if (options.fault == FAULT_SKIP_KICK)
        return;
    for (unsigned i = 0; i < vm->vcpus; i++)
        if (vm->vcpu[i] != self && !has_passed(vm->vcpu[i], generation)) {
            count(COUNT_KICKS);
            trace(TRACE_KICK, vm->vcpu[i]->cpu->id, generation);
            send(vm->vcpu[i]->cpu);
        }
    for (unsigned i = 0; i < vm->vcpus; i++)
        if (vm->vcpu[i] != self) {
            wait_for(vm->vcpu[i], generation, self);
            if (__atomic_load_n(&vm->vcpu[i]->ept01_generation, __ATOMIC_ACQUIRE) >= generation)
                ledger_told(vm->vcpu[i]->cpu->id);
        }
}

/* The generation that every processor has passed: pages that were taken away by then are free for other use. */
uint64_t kick_oldest_generation(const struct vm *vm)
{
    uint64_t oldest = __atomic_load_n(&vm->ept01.generation, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < vm->vcpus; i++)
        if (!has_passed(vm->vcpu[i], oldest))
            oldest = __atomic_load_n(&vm->vcpu[i]->ept01_generation, __ATOMIC_ACQUIRE);
    return oldest;
}

/* For the end of a run. A processor that does not answer in time, as one with NMIs blocked, is left running. */
static void stop_others(void)
{
    const struct cpu *self = this_cpu();
    stopping = true;
    for (unsigned i = 0; i < percpu_count; i++)
        if (percpu_cpus[i] != self && percpu_cpus[i]->started)
            send(percpu_cpus[i]);
    for (unsigned i = 0; i < percpu_count; i++) {
        const struct cpu *cpu = percpu_cpus[i];
        for (unsigned tries = 0; cpu != self && cpu->started && !cpu->stopped && tries < STOP_TRIES; tries++)
            cpu_pause();
    }
}

void kick_init(void)
{
    this_cpu()->started = true;
    trap_nmi = kick_nmi;
    machine_on_stop(stop_others);
}

void kick_watch(struct vm *vm)
{
    vm->watch.synchronize = synchronize;
}
