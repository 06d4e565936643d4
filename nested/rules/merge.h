/* The controls of vmcs02: what Nestor needs of any guest, and what L1 asked for its L2.
 * Pure. L1 owns the machine, so most of what L1 asks is passed on as it is: interrupts, CR masks, TSC, APIC.
 * nested/enter writes the result when L1 changed a control. */
#ifndef NESTED_RULES_MERGE_H
#define NESTED_RULES_MERGE_H

#include "nested/rules/vmcs12.h"
#include "vmx/caps.h"

/* How L2's I/O instructions are intercepted. */
enum io_mode { IO_L0_BITMAPS, IO_MERGED_BITMAPS, IO_ALL_EXIT };

struct merge_input {
    const struct vmcs12 *v;
    const struct vmx_caps *cpu;
    bool msr_bitmap_merged; /* L1 uses an MSR bitmap and its merged page is at hand */
    bool io_bitmaps_merged; /* the same of its two I/O bitmaps */
};

struct merged_controls {
    uint32_t pin, proc, proc2, exit, entry;
    uint64_t proc3; /* counts with PROC_TERTIARY */
};

struct merged_controls merge_controls(const struct merge_input *in);
/* Which I/O bitmaps serve L2, by vmcs12's PROC_CONTROLS, and if the pages that L1 names are merged. L0's own ports exit
 * in each case. */
enum io_mode merge_io(uint64_t proc, bool merged);

/* IA32_EFER that L2 starts with, from vmcs12 and L1's own (SDM 3C 27.3.2.1 "Loading Guest Control Registers, Debug
 * Registers, and MSRs"). */
uint64_t merge_guest_efer(const struct vmcs12 *v, uint64_t l1_efer);
/* IA32_EFER that L1 has after the exit, from vmcs12 and L2's (SDM 3C 28.5.1). */
uint64_t merge_host_efer(const struct vmcs12 *v, uint64_t l2_efer);

#endif
