/* Answers what kernel/inspect_abi.h defines: how a program in L1 reads Nestor's log, counters and traces.
 * inspect_start() once the VM is made; it does nothing without the option inspect=.
 * vmx/io calls the port's functions, start-up code says the lines of text. */
#ifndef VMX_INSPECT_H
#define VMX_INSPECT_H

#include "kernel/inspect_abi.h"
#include "vmx/vcpu.h"

/* Adds the line "key: text" to INSPECT_TEXT, while there is room; before L1 starts, from one processor. */
void inspect_say(const char *key, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Lets CPUID tell L1 of the port. All processors are known. */
void inspect_start(struct vm *vm);
/* The word at `offset`, all-ones where there is none. */
uint32_t inspect_word(const struct vm *vm, uint32_t offset);

/* At the end of a run in an emulator: the header and the records of the option trace=, in hexadecimal lines on the
 * emulator's debug console. nestor-run --trace makes a trace of them. */
void inspect_export(const struct vm *vm);

/* Of the port; rows as in vmx/io.h. */
void inspect_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value);
uint32_t inspect_read(struct vcpu *vcpu, uint16_t port, unsigned size);

#endif
