/* Instructions that may raise #GP, without the risk: false when they did.
 * Needs the IDT (desc_load).
 * Anyone may call them. */
#ifndef KERNEL_SAFE_H
#define KERNEL_SAFE_H

#include "kernel/base.h"

/* *value is 0 when it failed. */
MUST_CHECK bool rdmsr_safe(uint32_t index, uint64_t *value);
MUST_CHECK bool wrmsr_safe(uint32_t index, uint64_t value);
MUST_CHECK bool xsetbv_safe(uint32_t index, uint64_t value);

#endif
