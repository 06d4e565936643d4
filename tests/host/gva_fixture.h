/* Page tables of L1, built by hand, and walks of them: what the tests of vmx/gva.c share.
 * Nothing must hold before; setup() before each test.
 * tests/host/ only. */
#ifndef TESTS_HOST_GVA_FIXTURE_H
#define TESTS_HOST_GVA_FIXTURE_H

#include "tests/host/host.h"

#include <string.h>

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/gva.h"

#define MEMORY_SIZE 0x10000u
#define PF_KEY BIT(5)
#define P PTE_P
#define W PTE_W
#define U PTE_U
#define A PTE_A
#define D PTE_D
#define PS PTE_PS
#define NX PTE_NX

/* Where the tests put the table of each level: level 4 at 0x4000 and so on. */
static inline gpa_t table_at(unsigned level)
{
    return level * 0x1000u;
}

struct fixture {
    struct paging_state state;
    uint8_t *memory;
    unsigned swaps, swaps_refused;
    void (*on_swap)(struct fixture *f); /* another processor, at work just before the swap */
};
static struct fixture f;

static inline bool memory_read(void *context, gpa_t gpa, void *value, unsigned size)
{
    struct fixture *fixture = context;

    memset(value, 0xff, size);
    if (gpa + size > MEMORY_SIZE)
        return false;
    memcpy(value, fixture->memory + gpa, size);
    return true;
}

static inline bool memory_cas(void *context, gpa_t gpa, uint64_t old, uint64_t value, unsigned size)
{
    struct fixture *fixture = context;
    uint64_t now = 0;

    assert_true(gpa + size <= MEMORY_SIZE);
    if (fixture->on_swap)
        fixture->on_swap(fixture);
    memcpy(&now, fixture->memory + gpa, size);
    if (now != old) {
        fixture->swaps_refused++;
        return false;
    }
    fixture->swaps++;
    memcpy(fixture->memory + gpa, &value, size);
    return true;
}

__attribute__((unused)) static const struct gva_memory memory_flags = {memory_read, memory_cas, &f};
static const struct gva_memory memory_no_flags = {memory_read, NULL, &f};

static inline int setup(void **state)
{
    (void)state;
    memset(&f, 0, sizeof f);
    f.memory = host_memory(MEMORY_SIZE);
    f.state.cr0 = CR0_PE | CR0_PG | CR0_WP;
    f.state.address_bits = 40;
    f.state.pages_1g = true;
    f.state.rflags = RFLAGS_FIXED1;
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

static inline void mode_32bit(void)
{
    f.state.cr4 = CR4_PSE;
    f.state.cr3 = table_at(2);
}

static inline void mode_pae(void)
{
    f.state.cr4 = CR4_PAE;
    f.state.efer = EFER_NXE;
    for (unsigned i = 0; i < 4; i++)
        f.state.pdpte[i] = table_at(2) | P;
}

static inline void mode_4level(void)
{
    f.state.cr4 = CR4_PAE;
    f.state.efer = EFER_NXE | EFER_LME | EFER_LMA;
    f.state.cr3 = table_at(4) | 0x18; /* PWT, PCD */
}

static inline void mode_5level(void)
{
    mode_4level();
    f.state.cr4 |= CR4_LA57;
    f.state.cr3 = table_at(5);
}

static inline bool is_32bit(void)
{
    return !(f.state.cr4 & CR4_PAE);
}

static inline uint64_t entry_size(void)
{
    return is_32bit() ? 4 : 8;
}

static inline uint8_t *entry_of(gva_t gva, unsigned level)
{
    unsigned bits = is_32bit() ? 10 : 9;
    uint64_t index = gva >> (12 + (level - 1) * bits) & (BIT(bits) - 1);

    return f.memory + table_at(level) + index * entry_size();
}

static inline void entry_set(gva_t gva, unsigned level, uint64_t value)
{
    memcpy(entry_of(gva, level), &value, entry_size());
}

static inline uint64_t entry_get(gva_t gva, unsigned level)
{
    uint64_t value = 0;
    memcpy(&value, entry_of(gva, level), entry_size());
    return value;
}

/* Entries from level `top` down to a leaf at level `leaf` that leads to `page`, all with the rights `flags`. */
static inline void map(gva_t gva, unsigned top, unsigned leaf, uint64_t page, uint64_t flags)
{
    for (unsigned level = top; level > leaf; level--)
        entry_set(gva, level, table_at(level - 1) | flags | P);
    entry_set(gva, leaf, page | flags | P | (leaf > 1 ? PS : 0));
}

static inline void expect_gpa(gva_t gva, uint32_t access, gpa_t want)
{
    struct fault fault;
    gpa_t gpa = 0;

    if (!gva_walk(&f.state, &memory_no_flags, gva, access, &gpa, &fault))
        fail_msg("%#lx, access %#x: fault %u, error code %#x", gva, access, fault.vector, fault.error_code);
    assert_int_equal(fault.vector, FAULT_NONE);
    assert_int_equal(gpa, want);
}

static inline void expect_fault(gva_t gva, uint32_t access, uint32_t code)
{
    struct fault fault;
    gpa_t gpa = 0;

    if (gva_walk(&f.state, &memory_no_flags, gva, access, &gpa, &fault))
        fail_msg("%#lx, access %#x: no fault, gpa %#lx", gva, access, gpa);
    assert_int_equal(fault.vector, VECTOR_PF);
    assert_true(fault.has_error_code);
    assert_int_equal(fault.address, gva);
    assert_int_equal(fault.error_code, code);
}

/* An address that has an index of its own at each level. */
static const gva_t gva_64 = 0xffff923456789abc;

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
