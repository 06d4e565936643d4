/* Access to the current VMCS through the typed handles of vmx/vmcs_table.h.
 * A VMCS is current.
 * Callers say in their contract which one must be. */
#ifndef VMX_VMCS_H
#define VMX_VMCS_H

#include "vmx/count.h"
#include "vmx/vmcs_table.h"

/* Counts a VMWRITE, and whether the field is one of the major controls, after a write of which the next entry makes all
 * its checks anew (docs/PERFORMANCE.md, "What a real CPU takes"). */
static inline void vmcs_count_write(uint64_t encoding)
{
    COUNT_INSN(VMWRITES);
    if (encoding == PIN_CONTROLS.encoding || encoding == PROC_CONTROLS.encoding ||
        encoding == PROC2_CONTROLS.encoding || encoding == PROC3_CONTROLS.encoding ||
        encoding == EXIT_CONTROLS.encoding || encoding == ENTRY_CONTROLS.encoding)
        COUNT_INSN(MAJORS);
}

/* VMREAD and VMWRITE of the current VMCS by encoding; false when the instruction failed. */
static inline bool vmread_checked(uint64_t encoding, uint64_t *value)
{
    bool done;
    COUNT_INSN(VMREADS);
    __asm__ volatile("vmread %2, %1" : "=@cca"(done), "=r"(*value) : "r"(encoding));
    return done;
}

static inline bool vmwrite_checked(uint64_t encoding, uint64_t value)
{
    bool done;
    vmcs_count_write(encoding);
    __asm__ volatile("vmwrite %2, %1" : "=@cca"(done) : "r"(encoding), "rm"(value));
    return done;
}

#ifdef CHECKED
/* Reports the failed access and stops. */
void vmcs_access_failed(uint64_t encoding, bool write);

static inline uint64_t vmcs_read_encoding(uint32_t encoding)
{
    uint64_t value;
    if (__builtin_expect(!vmread_checked(encoding, &value), 0))
        vmcs_access_failed(encoding, false);
    return value;
}

static inline void vmcs_write_encoding(uint32_t encoding, uint64_t value)
{
    if (__builtin_expect(!vmwrite_checked(encoding, value), 0))
        vmcs_access_failed(encoding, true);
}

static inline void vmcs_read_to(uint64_t *value, uint32_t encoding)
{
    *value = vmcs_read_encoding(encoding);
}
#else
/* Of fields that the CPU has (vmx/vmcs_setup.c asks for them all) such an access cannot fail while a VMCS is current:
 * the flags are looked at in `make CHECKED=1` alone. */
static inline uint64_t vmcs_read_encoding(uint32_t encoding)
{
    uint64_t value;
    COUNT_INSN(VMREADS);
    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)encoding) : "cc");
    return value;
}

static inline void vmcs_write_encoding(uint32_t encoding, uint64_t value)
{
    vmcs_count_write(encoding);
    __asm__ volatile("vmwrite %1, %0" : : "r"((uint64_t)encoding), "rm"(value) : "cc");
}

/* The memory form: a field narrower than 64 bits is zero-extended. */
static inline void vmcs_read_to(uint64_t *value, uint32_t encoding)
{
    COUNT_INSN(VMREADS);
    __asm__ volatile("vmread %1, %0" : "=m"(*value) : "r"((uint64_t)encoding) : "cc");
}
#endif

static inline uint16_t vmcs_read_16(vmcs16_t field)
{
    return (uint16_t)vmcs_read_encoding(field.encoding);
}
static inline uint32_t vmcs_read_32(vmcs32_t field)
{
    return (uint32_t)vmcs_read_encoding(field.encoding);
}
static inline uint64_t vmcs_read_64(vmcs64_t field)
{
    return vmcs_read_encoding(field.encoding);
}
static inline uint64_t vmcs_read_nat(vmcsNAT_t field)
{
    return vmcs_read_encoding(field.encoding);
}
static inline void vmcs_write_16(vmcs16_t field, uint16_t value)
{
    vmcs_write_encoding(field.encoding, value);
}
static inline void vmcs_write_32(vmcs32_t field, uint32_t value)
{
    vmcs_write_encoding(field.encoding, value);
}
static inline void vmcs_write_64(vmcs64_t field, uint64_t value)
{
    vmcs_write_encoding(field.encoding, value);
}
static inline void vmcs_write_nat(vmcsNAT_t field, uint64_t value)
{
    vmcs_write_encoding(field.encoding, value);
}

/* vmcs_read(GUEST_RIP), vmcs_write(PIN_CONTROLS, x): the current VMCS, the field's own width; always checked. */
/* clang-format off: it breaks _Generic */
#define vmcs_read(field)                                                                                               \
    _Generic((field), vmcs16_t                                                                                         \
             : vmcs_read_16, vmcs32_t                                                                                  \
             : vmcs_read_32, vmcs64_t                                                                                  \
             : vmcs_read_64, vmcsNAT_t                                                                                 \
             : vmcs_read_nat)(field)
#define vmcs_write(field, value)                                                                                       \
    _Generic((field), vmcs16_t                                                                                         \
             : vmcs_write_16, vmcs32_t                                                                                 \
             : vmcs_write_32, vmcs64_t                                                                                 \
             : vmcs_write_64, vmcsNAT_t                                                                                \
             : vmcs_write_nat)(field, value)
/* clang-format on */
/* The same as 64 bits, whatever the field's width: saves the compiler an extension. */
#define vmcs_read_wide(field) vmcs_read_encoding((field).encoding)

#endif
