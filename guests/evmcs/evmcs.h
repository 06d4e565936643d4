/* A VMCS that is a page of memory: the functions of guests/lib/vmx.h that name fields or the current VMCS, without the
 * instructions, for an image that is built with ENLIGHTENED. The hypervisor below must offer it.
 * guests/lib/vmx calls it. */
#ifndef GUESTS_EVMCS_EVMCS_H
#define GUESTS_EVMCS_EVMCS_H

#include "kernel/base.h"

#define EVMCS_VERSION 1u

/* The page of the current one; NULL: none. */
extern uint8_t *evmcs_page;

/* Says who this guest is, and gives the hypervisor a VP assist page; skips the scenario if there is no such
 * hypervisor. */
void evmcs_start(void);
/* The MSR bitmap of the current one is enlightened from here on; and a store to it was made. */
void evmcs_enlighten_bitmap(void);
void evmcs_bitmap_written(void);
/* VMCLEAR of the region has succeeded. */
void evmcs_cleared(uint64_t region);

#endif
