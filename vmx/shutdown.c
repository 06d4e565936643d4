/* A triple fault leaves no trace of the events that led to it: its exit has no interruption information. What can
 * still be found is the event that Nestor injected last, the bytes at RIP, and the gates in the IDT by which each
 * exception of the chain would have been delivered. From these the chain is told from its beginning, and where the
 * first exception is a guess the text says so. */
#include "vmx/shutdown.h"

#include "kernel/format.h"
#include "kernel/log.h"
#include "kernel/percpu.h"
#include "kernel/x86.h"
#include "vmx/gva.h"
#include "vmx/operand.h"
#include "vmx/vmcs_setup.h"

#define UNKNOWN_VECTOR 256u
#define BYTES 8u
#define TEXT_SIZE 160

/* Of a gate's second word. SDM 3A 6.11 "IDT Descriptors" */
#define GATE_PRESENT BIT(15)
#define GATE_TYPE BITS(12, 8)
#define GATE_TASK 5u

static const char *const names[] = {
    "#DE", "#DB", "NMI", "#BP", "#OF",       "#BR", "#UD", "#NM", "#DF", "vector 9", "#TS",
    "#NP", "#SS", "#GP", "#PF", "vector 15", "#MF", "#AC", "#MC", "#XM", "#VE",      "#CP",
};

/* Vectors without a name of their own are interrupts, or exceptions that the SDM reserves. */
static const char *name_of(unsigned vector)
{
    return vector < ARRAY_SIZE(names) ? names[vector] : vector == UNKNOWN_VECTOR ? "an exception" : "an interrupt";
}

/* Reads the guest's memory without leaving a mark: exit and flags are put back, as the guest made no such access. */
static bool peek(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned size)
{
    struct vmexit exit = vcpu->exit;
    struct fault fault;
    bool read = gva_read_as(vcpu, gva, buffer, size, GVA_READ | GVA_IMPLICIT, &fault);
    vcpu->exit = exit;
    vcpu->l2_unmapped = false;
    return read;
}

/* The last event that Nestor injected, if nothing but this exit came after it. */
static uint32_t injected(const struct vcpu *vcpu)
{
    const struct trace_ring *ring = &vcpu->cpu->trace;
    if (ring->written < 2)
        return 0;
    const struct trace_record *record = &ring->record[(ring->written - 2) % TRACE_RECORDS];
    return GET(record->type_a, TRACE_RECORD_TYPE) == TRACE_INJECT ? (uint32_t)GET(record->type_a, TRACE_RECORD_A) : 0;
}

/* The exception that the bytes of an instruction raise wherever they are executed. */
static unsigned vector_of_bytes(const uint8_t *bytes)
{
    if (bytes[0] == 0x0f && (bytes[1] == 0x0b || bytes[1] == 0xb9 || bytes[1] == 0xff)) /* UD2, UD1, UD0 */
        return VECTOR_UD;
    if (bytes[0] == 0xcc)
        return VECTOR_BP;
    return bytes[0] == 0xcd ? bytes[1] : UNKNOWN_VECTOR; /* INT n */
}

/* The state of a gate, as far as it decides whether the event can be delivered. */
static void say_gate(struct vcpu *vcpu, unsigned vector)
{
    uint64_t base = vmcs_read(GUEST_IDTR_BASE), limit = vmcs_read(GUEST_IDTR_LIMIT), gate = 0, high = 0;
    unsigned size = operand_long_mode() || (vmcs_read(GUEST_EFER) & EFER_LMA) ? 16
                    : vmcs_read(GUEST_CR0) & CR0_PE                           ? 8
                                                                              : 4;
    gva_t at = base + (uint64_t)vector * size;
    char text[TEXT_SIZE];

    if ((uint64_t)vector * size + size - 1 > limit)
        format_text(text, sizeof text, "is beyond the limit of the IDT (base %lx, limit %lx)", base, limit);
    else if (!peek(vcpu, at, &gate, MIN(size, 8u)) || (size == 16 && !peek(vcpu, at + 8, &high, 8)))
        format_text(text, sizeof text, "at gva=%lx is not mapped", at);
    else if (size > 4 && !(gate >> 32 & GATE_PRESENT))
        format_text(text, sizeof text, "at gva=%lx is not present (%lx)", at, gate);
    else if (size == 4 || GET(gate >> 32, GATE_TYPE) == GATE_TASK)
        format_text(text, sizeof text, "at gva=%lx is %lx", at, gate);
    else
        format_text(text, sizeof text, "leads to %04lx:%lx, but the selector, that code or the stack cannot be used",
                    gate >> 16 & 0xffff, (gate & 0xffff) | (gate >> 32 & 0xffff0000) | high << 32);
    log_raw("  %s: gate %u %s", name_of(vector), vector, text);
}

/* The first exception as far as it can be known, and why each that follows could not be delivered. SDM 3A 6.15
 * "Interrupt 8—Double Fault Exception (#DF)" */
static void say_chain(struct vcpu *vcpu, unsigned first)
{
    if (first == UNKNOWN_VECTOR)
        log_raw("  an exception of the instruction at rip, or of its fetch (#PF: cr2=%lx)", read_cr2());
    else
        say_gate(vcpu, first);
    if (first != VECTOR_GP && first != VECTOR_DF)
        say_gate(vcpu, VECTOR_GP);
    if (first != VECTOR_PF && first == UNKNOWN_VECTOR)
        say_gate(vcpu, VECTOR_PF);
    if (first != VECTOR_DF)
        say_gate(vcpu, VECTOR_DF);
}

/* Once for each level: an L1 may start L2 after L2 that ends so, and only the first is news. */
void shutdown_explain(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    static bool said[2];
    const char *level = vcpu->in_l2 ? "L2" : "L1";
    uint8_t bytes[BYTES] = {0};
    uint32_t event = injected(vcpu);

    if (__atomic_exchange_n(&said[vcpu->in_l2], true, __ATOMIC_RELAXED))
        return;
    gva_t rip = vcpu->exit.rip + (operand_long_mode() ? 0 : vmcs_read(GUEST_CS_BASE));
    bool read = peek(vcpu, rip, bytes, BYTES);
    unsigned first = event & INTR_VALID ? (unsigned)GET(event, INTR_VECTOR) : vector_of_bytes(bytes);
    log_info("vmx", "%s shut down by a triple fault at rip=%lx: %s%s -> %s#DF -> shutdown; SDM 3A 6.15", level,
             vcpu->exit.rip, name_of(first), event & INTR_VALID ? " (injected by Nestor)" : "",
             first == VECTOR_GP || first == VECTOR_DF ? "" : "#GP, #NP, #SS or #PF at its delivery -> ");
    if (read)
        log_raw("  the bytes there: %02x %02x %02x %02x %02x %02x %02x %02x", bytes[0], bytes[1], bytes[2], bytes[3],
                bytes[4], bytes[5], bytes[6], bytes[7]);
    else
        log_raw("  the bytes there cannot be read: nothing is mapped at gva=%lx", rip);
    say_chain(vcpu, first);
    log_raw("  rsp=%lx cr0=%lx cr2=%lx cr3=%lx cr4=%lx efer=%lx rax=%lx rcx=%lx rdx=%lx rbx=%lx", vmcs_read(GUEST_RSP),
            vmcs_read(GUEST_CR0), read_cr2(), vmcs_read(GUEST_CR3), vmcs_read(GUEST_CR4), vmcs_read(GUEST_EFER),
            vcpu->regs[RAX], vcpu->regs[RCX], vcpu->regs[RDX], vcpu->regs[RBX]);
}
