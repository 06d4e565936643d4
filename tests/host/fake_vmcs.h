/* A current VMCS for host tests of code that uses vmx/vmcs.h: an array with a word per encoding.
 * A test takes it with the second line  "cflags: -include tests/host/fake_vmcs.h"  and defines `fake_vmcs`.
 * tests/host/ only. It stands in for vmx/vmcs.h, whose include guard it sets: accessors are as there. */
#ifndef TESTS_HOST_FAKE_VMCS_H
#define TESTS_HOST_FAKE_VMCS_H
#define VMX_VMCS_H

#include "kernel/base.h"
#include "vmx/vmx_bits.h"

typedef struct {
    uint32_t encoding;
} vmcs_field_t;
#define FIELD(name, enc, width, area, sync, merge, ...) __attribute__((unused)) static const vmcs_field_t name = {enc};
#include "vmx/vmcs_fields.def"
#undef FIELD

extern uint64_t fake_vmcs[0x8000];

static inline uint64_t vmcs_read_encoding(uint32_t encoding)
{
    return fake_vmcs[encoding];
}

static inline void vmcs_read_to(uint64_t *value, uint32_t encoding)
{
    *value = fake_vmcs[encoding];
}

static inline void vmcs_write_encoding(uint32_t encoding, uint64_t value)
{
    fake_vmcs[encoding] = value;
}

#define vmcs_read(field) vmcs_read_encoding((field).encoding)
#define vmcs_write(field, value) vmcs_write_encoding((field).encoding, value)

#endif
