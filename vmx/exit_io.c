/* I/O instructions that reach one of Nestor's ports. An access that only overlaps such a port goes to the port's row
 * as a whole; where no row begins, to the hardware. */
#include "kernel/x86.h"
#include "vmx/breakpoint.h"
#include "vmx/event.h"
#include "vmx/exit_handlers.h"
#include "vmx/gva.h"
#include "vmx/io.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/vmcs_setup.h"

/* A port of Nestor's by its row, the hardware otherwise: an access may have exited for a neighbour. */
static uint32_t io_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    const struct io_port *row = io_port_find(port);
    if (row)
        return row->read(vcpu, port, size);
    return size == 1 ? in8(port) : size == 2 ? in16(port) : in32(port);
}

static void io_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    const struct io_port *row = io_port_find(port);
    if (row)
        row->write(vcpu, port, size, value);
    else if (size == 1)
        out8(port, (uint8_t)value);
    else if (size == 2)
        out16(port, (uint16_t)value);
    else
        out32(port, value);
}

/* Masks by the instruction-information field's address size: 16, 32, 64 bits. */
static uint64_t address_mask(const struct vcpu *vcpu)
{
    static const uint64_t masks[4] = {0xffff, 0xffffffff, ~0ull, ~0ull};
    return masks[GET(vcpu->exit.instruction_info, INSN_INFO_ADDRESS_SIZE) & 3];
}

/* Moves an index or count register, in the width of the instruction's addresses. */
static void advance(struct vcpu *vcpu, enum gpr reg, int64_t by)
{
    uint64_t mask = address_mask(vcpu);
    uint64_t value = (vcpu->regs[reg] + (uint64_t)by) & mask;
    /* a 32-bit result clears the upper half, a 16-bit one leaves the rest alone */
    vcpu->regs[reg] = mask == 0xffff ? (vcpu->regs[reg] & ~mask) | value : value;
}

/* INS and OUTS, one element at a time: with REP the instruction is repeated by executing it again. */
static void io_string(struct vcpu *vcpu, uint16_t port, unsigned size, bool in)
{
    uint64_t qualification = vcpu->exit.qualification;
    bool rep = (qualification & IO_QUAL_REP) != 0;
    struct fault fault;
    uint32_t value = 0;
    /* No element left: the instruction does nothing. */
    if (rep && !(vcpu->regs[RCX] & address_mask(vcpu))) {
        vcpu_skip_instruction(vcpu);
        return;
    }
    if (in)
        value = io_read(vcpu, port, size);
    if (!(in ? gva_write(vcpu, vcpu->exit.guest_linear_address, &value, size, &fault)
             : gva_read(vcpu, vcpu->exit.guest_linear_address, &value, size, &fault))) {
        if (!vcpu->l2_unmapped) /* else it is L1's exit: vmx/run.c hands it on */
            event_inject(vcpu, &fault);
        return;
    }
    if (!in)
        io_write(vcpu, port, size, value);
    advance(vcpu, in ? RDI : RSI, vmcs_read(GUEST_RFLAGS) & BIT(10) ? -(int64_t)size : (int64_t)size);
    breakpoint_port(vcpu, port, size);
    if (rep)
        advance(vcpu, RCX, -1);
    if (!rep || !(vcpu->regs[RCX] & address_mask(vcpu)))
        vcpu_skip_instruction(vcpu);
    else
        vcpu_repeat_instruction(vcpu);
}

/* The exit qualification has port, width and direction; of string instructions the addresses are in registers and in
 * the guest-linear address. SDM 3C 28.2.1 "Basic VM-Exit Information" */
void exit_io(struct vcpu *vcpu)
{
    EXPECT_GUEST(vcpu);
    uint64_t qualification = vcpu->exit.qualification;
    uint16_t port = (uint16_t)GET(qualification, IO_QUAL_PORT);
    unsigned size = (unsigned)GET(qualification, IO_QUAL_SIZE) + 1;
    bool in = (qualification & IO_QUAL_IN) != 0;
    uint64_t mask = BITS(8 * size - 1, 0);
    if (qualification & IO_QUAL_STRING) {
        io_string(vcpu, port, size, in);
        return;
    }
    breakpoint_port(vcpu, port, size);
    if (!in) {
        io_write(vcpu, port, size, (uint32_t)(vcpu->regs[RAX] & mask));
    } else {
        uint64_t value = io_read(vcpu, port, size) & mask;
        vcpu->regs[RAX] = size == 4 ? value : (vcpu->regs[RAX] & ~mask) | value;
    }
    vcpu_skip_instruction(vcpu);
}
