/* The page of an enlightened VMCS: what of it goes to vmcs12 at an entry, and back at an exit.
 * Pure: the caller says where the page is; L1 may store to it at any time, so each field is read once.
 * evmcs_init() first. nested/enlightened uses it. docs/adr/0019-enlightened-vmcs.md */
#ifndef NESTED_EVMCS_EVMCS_H
#define NESTED_EVMCS_EVMCS_H

#include "nested/rules/vmcs12.h"

#define EVMCS_VERSION 1u
#define EVMCS_WORDS ((FIELD_COUNT + 63) / 64)

/* Fields that are no VMCS's: offsets, 32 bits each. */
enum {
    EVMCS_AT_VERSION = 0x000,
    EVMCS_AT_CLEAN_FIELDS = 0x338,
    EVMCS_AT_ENLIGHTENMENTS = 0x344,
    EVMCS_SIZE = 0x400,
};
/* Of the enlightenments: L1 says by CleanFields when it has written to its MSR bitmap. */
#define EVMCS_ENLIGHTENED_MSR_BITMAP BIT(1)

/* Bits of CleanFields, and two groups that have none. */
enum evmcs_group {
#define GROUP(name) EVMCS_##name,
#include "nested/evmcs/evmcs_groups.def"
#undef GROUP
    EVMCS_ALWAYS,
    EVMCS_EXIT,
    EVMCS_GROUPS
};
#define EVMCS_CLEAN_ALL BITS(EVMCS_ENLIGHTENMENTS, 0)

/* Once, before all else; all processors do the same. */
void evmcs_init(void);
/* Takes away what needs a field that an enlightened VMCS does not have: an L1 that keeps its VMCSs there goes by the
 * capability MSRs. Pure. */
void evmcs_limit(struct vmx_caps *caps);
/* One of the fields that are no VMCS's. */
uint32_t evmcs_word(const uint8_t *page, unsigned offset);
/* Before an entry: groups that `clean` does not vouch for, and those that no bit stands for, go to `v` as far as they
 * differ. `changed` gets a bit for each such row of vmcs_fields.def; it is set to 0 first. `offered`: rows that L1's
 * CPU has; others are left alone. */
void evmcs_read(const uint8_t *page, uint32_t clean, const uint64_t *offered, struct vmcs12 *v, uint64_t *changed);
/* After an exit: all that an exit may have changed goes to the page; nothing else of it is stored to. */
void evmcs_write_exit(uint8_t *page, const uint64_t *offered, const struct vmcs12 *v);
/* After an entry that failed: the fields that describe the exit, and the VM-instruction error. */
void evmcs_write_failure(uint8_t *page, const uint64_t *offered, const struct vmcs12 *v);

#endif
