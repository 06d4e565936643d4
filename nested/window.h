/* The part of nested/ in the port of the option inspect=: the reading processor's own VMCS of L1, and its bitmap.
 * Current: vmcs01; L1 reads.
 * vmx/inspect asks by the hook `inspect`. */
#ifndef NESTED_WINDOW_H
#define NESTED_WINDOW_H

#include "nested/nested.h"

/* The word at `byte` of INSPECT_VMCS or INSPECT_BITMAP; all-ones where there is none. */
uint32_t window_word(struct vcpu *vcpu, uint32_t area, size_t byte);

#endif
