/* The bytes of an instruction that accesses an MSR, for exits that do not say which form it was.
 * Pure.
 * vmx/exit_msr asks where the exit qualification may be one that the CPU did not fill. */
#ifndef VMX_MSR_FORM_H
#define VMX_MSR_FORM_H

#include "kernel/base.h"

enum msr_form { MSR_FORM_OTHER, MSR_FORM_WRMSRNS, MSR_FORM_IMMEDIATE };
/* `size` bytes at `bytes`, an instruction of 64-bit mode. Of an immediate form *msr and the general register's number
 * *reg: VEX map 7, opcode F6H, the MSR's number as the immediate. SDM 2B "RDMSR—Read From Model Specific Register" */
enum msr_form msr_form_decode(const uint8_t *bytes, unsigned size, uint32_t *msr, unsigned *reg);

#endif
