/* Sub-page write permissions of an L2: stores of 128 bytes that L1 lets through to a page that is not writable.
 * Current: vmcs02. nested/l2_ept and nested/prepare call it. */
#ifndef NESTED_L2_SPP_H
#define NESTED_L2_SPP_H

#include "nested/nested.h"

/* Before an entry with the control on: SPPT02 is that of vmcs12's SPPTP and of what L1 has said by its last INVEPT. */
void l2_spp_enter(struct nested *nested, const struct vmcs12 *v);

/* The fate of a store to gpa2, which only sub-page permissions may still let through. */
enum l2_spp {
    L2_SPP_DENIED,  /* it stays an EPT violation */
    L2_SPP_PERMITS, /* SPPT02 has the permission */
    L2_SPP_EXIT,    /* L1's exit EXIT_SPP, with *qualification, without NMI unblocking */
};
enum l2_spp l2_spp_store(struct vcpu *vcpu, gpa_t gpa2, uint64_t *qualification);

#endif
