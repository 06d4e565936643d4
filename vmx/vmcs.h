/* VMCS fields as typed handles, and access to the current VMCS.
 * A handle's type carries the field's width, so a wrong width, or a number where a field belongs, does not compile.
 * Names and numbers come from vmcs_fields.def. Callers say in their contract which VMCS must be current. */
#ifndef VMX_VMCS_H
#define VMX_VMCS_H

#include "kernel/base.h"
#include "vmx/count.h"
#include "vmx/vmx_bits.h"

typedef struct {
    uint32_t encoding;
} vmcs16_t;
typedef struct {
    uint32_t encoding;
} vmcs32_t;
typedef struct {
    uint32_t encoding;
} vmcs64_t;
typedef struct {
    uint32_t encoding;
} vmcsNAT_t;

#define FIELD(name, enc, width, area, sync, merge) static const vmcs##width##_t name = {enc};
#include "vmx/vmcs_fields.def"
#undef FIELD

/* Row numbers of vmcs_fields.def: FIELD_INDEX_GUEST_RIP ... */
enum vmcs_field_index {
#define FIELD(name, enc, width, area, sync, merge) FIELD_INDEX_##name,
#include "vmx/vmcs_fields.def"
#undef FIELD
    FIELD_COUNT
};

enum vmcs_width { VMCS_WIDTH_16, VMCS_WIDTH_64, VMCS_WIDTH_32, VMCS_WIDTH_NAT };
enum vmcs_area { VMCS_AREA_CTRL, VMCS_AREA_INFO, VMCS_AREA_GUEST, VMCS_AREA_HOST };
enum vmcs_sync { VMCS_SYNC_NONE, VMCS_SYNC_IN, VMCS_SYNC_BOTH, VMCS_SYNC_LAZY };
enum vmcs_merge { VMCS_MERGE_COPIED, VMCS_MERGE_L0, VMCS_MERGE_COMPUTED, VMCS_MERGE_ENTRY };

struct vmcs_field {
    const char *name;
    uint16_t encoding;
    uint8_t width, area, sync, merge;
};
extern const struct vmcs_field vmcs_fields[FIELD_COUNT];

#define ENCODING_HIGH BIT(0)
#define ENCODING_INDEX BITS(9, 1)
#define ENCODING_AREA BITS(11, 10)
#define ENCODING_WIDTH BITS(14, 13)

/* Name of an encoding for logs; "?" when unknown. */
const char *vmcs_field_name(uint32_t encoding);

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
    COUNT_INSN(VMWRITES);
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
/* Of fields that the CPU has (vmx/vmcs_setup.c asks for them all) such an access cannot fail while a VMCS is current: the flags are
 * looked at in `make CHECKED=1` alone. */
static inline uint64_t vmcs_read_encoding(uint32_t encoding)
{
    uint64_t value;
    COUNT_INSN(VMREADS);
    __asm__ volatile("vmread %1, %0" : "=r"(value) : "r"((uint64_t)encoding) : "cc");
    return value;
}

static inline void vmcs_write_encoding(uint32_t encoding, uint64_t value)
{
    COUNT_INSN(VMWRITES);
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
