#include "vmx/startup.h"

#include "kernel/lapic.h"
#include "kernel/msr.h"
#include "kernel/safe.h"
#include "kernel/x86.h"
#include "vmx/dump.h"
#include "vmx/event.h"
#include "vmx/hooks.h"
#include "vmx/kick.h"
#include "vmx/run.h"
#include "vmx/vmcs_setup.h"

#define SHORTHAND_NONE 0
#define SHORTHAND_SELF 1
#define SHORTHAND_ALL 2
#define SIPI_VECTOR BITS(7, 0) /* of the exit qualification */
#define HELD_TICKS 50000 /* of the TSC, from a start to the exit for an INIT that was held: an entry and an exit */

/* --- The processor that gets one --- */

/* Requests are taken one by one: another processor may set the next at any moment. */
static void take_request(struct vcpu *vcpu, uint32_t request)
{
    (void)__atomic_fetch_and(&vcpu->requests, ~request, __ATOMIC_SEQ_CST);
}

/* Sequentially consistent, as a request is posted before the kick that makes this processor look. */
static bool has_request(const struct vcpu *vcpu, uint32_t request)
{
    return __atomic_load_n(&vcpu->requests, __ATOMIC_SEQ_CST) & request;
}

static void set_waiting(struct vcpu *vcpu, enum waiting waiting)
{
    __atomic_store_n(&vcpu->waiting, (uint8_t)waiting, __ATOMIC_SEQ_CST);
}

void startup_wait_no_more(struct vcpu *vcpu)
{
    set_waiting(vcpu, WAITING_NOT);
    kick_answer(vcpu);
}

/* The APIC is reset here and not where INIT is taken: a start-up IPI that comes before the processor waits is lost, and
 * L1 sends the first soon after INIT. One that comes from here on is ignored. */
static void start(struct vcpu *vcpu, uint8_t vector)
{
    lapic_reset();
    vmcs01_start(vector);
    vcpu->started_at = rdtsc();
    startup_wait_no_more(vcpu);
}

/* The vector is read before the request is gone: after that another may be written. */
static uint8_t take_sipi(struct vcpu *vcpu)
{
    uint8_t vector = vcpu->sipi_vector;
    take_request(vcpu, VCPU_SIPI);
    return vector;
}

/* The start-up IPI is awaited in Nestor itself, as the CPU would make no exit of it. INIT and NMIs are lost
 * meanwhile. */
static void wait_inside(struct vcpu *vcpu)
{
    while (!has_request(vcpu, VCPU_SIPI)) {
        take_request(vcpu, VCPU_INIT | VCPU_NMI);
        vcpu->attention = vcpu->cpu->nmi_seen = false;
        cpu_pause();
    }
    start(vcpu, take_sipi(vcpu));
}

/* NMIs that come meanwhile wait, too. */
static void wait_inside_for_l2(struct vcpu *vcpu)
{
    while (!has_request(vcpu, VCPU_SIPI))
        cpu_pause();
    uint8_t vector = take_sipi(vcpu);
    startup_wait_no_more(vcpu);
    nested_hooks.sipi_to_l1(vcpu, vector);
}

void startup_wait_in_l2(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    set_waiting(vcpu, WAITING_L2);
    if (vcpu->vm->startup_trapped)
        vcpu->attention = true;
}

void startup_reset(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    if (vcpu->nmi_window)
        event_cancel_nmi_window(vcpu);
    /* The registers are as after INIT, whatever the processor was doing. */
    vmcs01_reset(vcpu);
    vcpu->cpu->nmi_seen = false;
    set_waiting(vcpu, WAITING_L1);
    take_request(vcpu, VCPU_INIT | VCPU_NMI);
    if (vcpu->vm->startup_trapped)
        wait_inside(vcpu);
    else
        vmcs_write(GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_SIPI);
}

/* L2: an exit to L1. L1 in VMX root operation: INIT waits until VMXOFF. SDM 3C 24.8 "Restrictions on VMX Operation" */
static void attend_init(struct vcpu *vcpu)
{
    if (vcpu->in_l2) {
        take_request(vcpu, VCPU_INIT);
        nested_hooks.init_to_l1(vcpu);
        return;
    }
    /* It stays requested; VMXOFF looks again. */
    if (vcpu->l1_in_vmx)
        return;
    if (vcpu->cpu->id == 0)
        dump_and_end(vcpu, "L1 sent INIT to the boot processor");
    startup_reset(vcpu);
}

/* Called at an exit or before an entry when `attention` is set. The flag is cleared first, so that a request that comes
 * while this one is looked at sets it again. */
void startup_attend(struct vcpu *vcpu)
{
    vcpu->attention = false; /* before the look */
    if (vcpu->waiting == WAITING_L2 && vcpu->vm->startup_trapped)
        wait_inside_for_l2(vcpu);
    if (has_request(vcpu, VCPU_NMI)) {
        take_request(vcpu, VCPU_NMI);
        vcpu->cpu->nmi_seen = true;
    }
    if (has_request(vcpu, VCPU_INIT))
        attend_init(vcpu);
}

/* An INIT that came while the processor waited for its start-up IPI changes nothing there, but some CPUs hold it, and
 * make an exit of it before the first instruction after the start. */
static bool was_held(const struct vcpu *vcpu)
{
    return !vcpu->in_l2 && vcpu->started_at && rdtsc() - vcpu->started_at < HELD_TICKS && !vmcs_read(GUEST_RIP);
}

void exit_init(struct vcpu *vcpu)
{
    if (was_held(vcpu))
        return;
    (void)__atomic_fetch_or(&vcpu->requests, VCPU_INIT, __ATOMIC_SEQ_CST);
    attend_init(vcpu);
}

void exit_sipi(struct vcpu *vcpu)
{
    start(vcpu, (uint8_t)GET(vcpu->exit.qualification, SIPI_VECTOR));
}

/* --- The processor that sends one --- */

/* A processor that runs ignores a start-up IPI. One that waits for it ignores INIT (SDM 3C 26.2 says "blocked"; it
 * would end what the start-up IPI behind it began), and one of L1's NMIs as well, also when it is about to wait. */
static bool is_taken(const struct vcpu *to, unsigned delivery)
{
    enum waiting waiting = to->waiting;
    bool waits = waiting == WAITING_L1 || (has_request(to, VCPU_INIT) && !to->l1_in_vmx);

    switch (delivery) {
    case ICR_DELIVERY_INIT:
        return waiting == WAITING_NOT;
    case ICR_DELIVERY_STARTUP:
        return waits || waiting == WAITING_L2;
    default:
        return !waits;
    }
}

/* Leaves the request with the processor and makes it look. */
static void post(struct vcpu *to, unsigned delivery, uint8_t vector)
{
    uint32_t request = delivery == ICR_DELIVERY_INIT ? VCPU_INIT : delivery == ICR_DELIVERY_NMI ? VCPU_NMI : VCPU_SIPI;
    if (!is_taken(to, delivery))
        return;
    to->sipi_vector = request == VCPU_SIPI ? vector : to->sipi_vector;
    (void)__atomic_fetch_or(&to->requests, request, __ATOMIC_SEQ_CST);
    kick_send(to);
}

/* True if the command names the processor: by shorthand, or by destination, physical or logical. `broadcast` is the
 * destination that means all. */
static bool is_addressed(const struct vcpu *from, const struct vcpu *to, uint32_t destination, uint32_t broadcast,
                         uint32_t command)
{
    switch (GET(command, ICR_SHORTHAND)) {
    case SHORTHAND_NONE:
        if (destination == broadcast)
            return true;
        if (command & ICR_LOGICAL) /* flat model */
            return GET(to->apic_ldr, ICR_DESTINATION) & destination;
        return to->cpu->apic_id == destination;
    case SHORTHAND_SELF:
        return to == from;
    case SHORTHAND_ALL:
        return true;
    default:
        return to != from;
    }
}

/* True when Nestor did it; else the CPU shall. */
static bool send(const struct vcpu *vcpu, uint32_t destination, uint32_t broadcast, uint32_t command)
{
    const struct vm *vm = vcpu->vm;
    unsigned delivery = (unsigned)GET(command, ICR_DELIVERY);

    if (delivery != ICR_DELIVERY_INIT && delivery != ICR_DELIVERY_STARTUP && delivery != ICR_DELIVERY_NMI)
        return false;
    if (delivery == ICR_DELIVERY_INIT && !(command & ICR_ASSERT)) /* the de-assert: nothing on CPUs of today */
        return true;
    for (unsigned i = 0; i < vm->vcpus; i++)
        if (is_addressed(vcpu, vm->vcpu[i], destination, broadcast, command))
            post(vm->vcpu[i], delivery, (uint8_t)GET(command, ICR_VECTOR));
    return true;
}

/* One of L1's stores to the APIC, made in its stead when it was trapped. */
static void write_register(struct vcpu *vcpu, uint32_t offset, uint32_t value)
{
    if (offset == LAPIC_ICR && vcpu->vm->startup_trapped &&
        send(vcpu, (uint32_t)GET(vcpu->apic_icr_high, ICR_DESTINATION), 0xff, value))
        return;
    if (offset == LAPIC_ICR_HIGH)
        vcpu->apic_icr_high = value;
    if (offset == LAPIC_LDR)
        vcpu->apic_ldr = value;
    lapic_write(offset, value);
}

void startup_write_register(struct vcpu *vcpu, gpa_t gpa, uint32_t value)
{
    write_register(vcpu, (uint32_t)(gpa & PAGE_MASK), value);
}

/* In x2APIC mode the command is one MSR of 64 bits, the destination in its upper half. */
bool startup_write_icr(struct vcpu *vcpu, uint64_t value)
{
    return send(vcpu, (uint32_t)(value >> 32), UINT32_MAX, (uint32_t)value) || wrmsr_safe(X2APIC_ICR, value);
}

int startup_trap(struct vm *vm)
{
    vm->apic_page = ALIGN_DOWN(rdmsr(IA32_APIC_BASE) & BITS(51, 12), PAGE_SIZE);
    return ept_trap_writes(&vm->ept01, vm->apic_page);
}
