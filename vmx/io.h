/* The few I/O ports that Nestor keeps from L1: its own console, the way off, and the debug facilities.
 * io_policy_init() before vmcs01 is made.
 * vmx/exit_io.c answers accesses; nested/ merges the bitmaps with L1's. */
#ifndef VMX_IO_H
#define VMX_IO_H

#include "vmx/vcpu.h"

/* Allocates and fills vm->io_bitmap_a/b from the options and vm->pm1a_control. 0, or -1 when pages run out. */
MUST_CHECK int io_policy_init(struct vm *vm);

/* A range of ports that Nestor keeps, and who answers for it. */
struct io_port {
    uint16_t first, last;
    /* Answers a write of / supplies a read of `size` bytes at `port`. */
    void (*write)(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);
    uint32_t (*read)(struct vcpu *vcpu, uint16_t port, unsigned size);
};
/* The row of a port, or NULL when it is L1's. */
const struct io_port *io_port_find(uint16_t port);

/* True if an I/O exit with this qualification touches a port that Nestor keeps. */
bool io_access_is_l0s(uint64_t qualification);

/* One bit per port in two pages of 0x8000 ports. SDM 3C 25.6.4 "I/O-Bitmap Addresses". Pure. */
static inline void io_bitmap_set(uint8_t *a, uint8_t *b, uint16_t port)
{
    (port & 0x8000 ? b : a)[(port & 0x7fff) / 8] |= (uint8_t)(1u << (port % 8));
}

#endif
