/* An exit turns the breakpoints off (DR7 becomes 400H), and an instruction that Nestor executes makes its accesses
 * in root operation: the CPU would miss the guest's hits. So each access is compared with DR0 to DR3 here, and the
 * hits become pending debug exceptions, of which the next entry makes the trap behind the instruction. SDM 3C 28.5.1
 * "Loading Host Control Registers, Debug Registers, MSRs" */
#include "vmx/breakpoint.h"

#include "kernel/x86.h"
#include "vmx/operand.h"
#include "vmx/vmcs_setup.h"

/* R/W and LEN of DR7; SDM 3B 18.2.4 "Debug Control Register (DR7)". */
enum { RW_EXECUTE, RW_WRITE, RW_PORT, RW_ANY };

/* The kind of access that breakpoint `n` watches for; below it, how many bytes it covers. */
static unsigned rw_of(uint64_t dr7, unsigned n)
{
    return dr7 >> (16 + 4 * n) & 3;
}

/* The encodings of LEN are not in order: 10B is 8 bytes, 11B is 4. */
static uint64_t length_of(uint64_t dr7, unsigned n)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};
    return lengths[dr7 >> (18 + 4 * n) & 3];
}

/* True if a breakpoint of this kind watches for such accesses. */
static bool fits(unsigned rw, enum breakpoint_access access)
{
    if (access == BREAKPOINT_PORT)
        return rw == RW_PORT;
    return rw == RW_ANY || (rw == RW_WRITE && access == BREAKPOINT_WRITE);
}

/* Bytes overlap if either range begins inside the other, which two unsigned differences say, wrap included. A
 * breakpoint's address counts from its length's boundary. */
uint64_t breakpoints_met(uint64_t dr7, const uint64_t address[4], enum breakpoint_access access, uint64_t at,
                         unsigned len)
{
    uint64_t met = 0;
    for (unsigned n = 0; n < 4; n++) {
        uint64_t length = length_of(dr7, n), start = address[n] & ~(length - 1);
        bool enabled = dr7 >> 2 * n & 3;
        /* Either begins inside the other. */
        if (enabled && fits(rw_of(dr7, n), access) && (at - start < length || start - at < len))
            met |= BIT(n) | PENDING_DEBUG_ENABLED_BP;
    }
    return met;
}

void breakpoint_note(struct vcpu *vcpu, enum breakpoint_access access, uint64_t at, unsigned len)
{
    EXPECT_GUEST(vcpu);
    uint64_t address[4];
    read_breakpoints(address);
    if (access != BREAKPOINT_PORT && !operand_long_mode()) /* linear addresses have 32 bits there */
        for (unsigned n = 0; n < 4; n++)
            address[n] = (uint32_t)address[n];
    vcpu->debug_hits |= (uint32_t)breakpoints_met(vmcs_read(GUEST_DR7), address, access, at, len);
}

/* I/O breakpoints exist with CR4.DE only. */
void breakpoint_port(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    if ((vmcs_read(GUEST_DR7) & DR7_ENABLED) && (vmcs_read(GUEST_CR4) & CR4_DE))
        breakpoint_note(vcpu, BREAKPOINT_PORT, port, size);
}
