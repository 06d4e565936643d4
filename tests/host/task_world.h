/* The world of the tests of task switches: 64 KiB of linear memory with GDT, LDT and three TSSs at fixed places, and
 * the processor in it.
 * setup() before each test; each program has its own copy.
 * tests/host/ only. */
#ifndef TESTS_HOST_TASK_WORLD_H
#define TESTS_HOST_TASK_WORLD_H

#include "tests/host/host.h"

#include <string.h>

#include "kernel/x86.h"
#include "vmx/task_switch.h"
#include "vmx/vcpu.h"

#define MEMORY_SIZE 0x10000u
#define GDT 0x1000u
#define LDT 0x2000u
#define OLD_TSS 0x3000u
#define NEW_TSS 0x4000u
#define NEW_TSS16 0x5000u
#define STACK 0x7000u

enum {
    SEL_CODE = 0x08,
    SEL_DATA = 0x10,
    SEL_OLD = 0x18,
    SEL_NEW = 0x20,
    SEL_NEW16 = 0x28,
    SEL_LDT = 0x30,
    SEL_CODE3 = 0x38 | 3,
    SEL_DATA3 = 0x40 | 3,
    SEL_CONFORMING = 0x48,
    SEL_SCRATCH = 0x50,
    SEL_CODE_UNREADABLE = 0x58,
    SEL_STACK16 = 0x60,
    GDT_LIMIT = 0x67,
    SEL_BEYOND = 0x68,
    LDT_DATA = 0x0c, /* the second descriptor of the LDT */
    LDT_LIMIT = 0x0f,
};

/* Offsets of the selectors in a 32-bit TSS. */
enum { AT_ES = 0x48, AT_CS = 0x4c, AT_SS = 0x50, AT_DS = 0x54, AT_FS = 0x58, AT_GS = 0x5c, AT_LDT = 0x60 };

static uint8_t memory[MEMORY_SIZE];
static struct task_state state;
static struct task_request request;
static struct fault fault;
static unsigned accesses, refused_access; /* the access of this number faults; 0: none */
static uint32_t written_cr3;
static bool cr3_refused, last_user;

static inline bool page_fault(uint32_t gva, struct fault *f)
{
    *f = (struct fault){.vector = VECTOR_PF, .has_error_code = true, .error_code = 0, .address = gva};
    return false;
}

static inline bool memory_read(void *context, uint32_t gva, void *buffer, unsigned len, struct fault *f)
{
    (void)context;
    if (++accesses == refused_access || gva >= MEMORY_SIZE || len > MEMORY_SIZE - gva)
        return page_fault(gva, f);
    memcpy(buffer, memory + gva, len);
    return true;
}

static inline bool memory_write(void *context, uint32_t gva, const void *buffer, unsigned len, bool user,
                                struct fault *f)
{
    (void)context;
    last_user = user;
    if (++accesses == refused_access || gva >= MEMORY_SIZE || len > MEMORY_SIZE - gva)
        return page_fault(gva, f);
    memcpy(memory + gva, buffer, len);
    return true;
}

static inline bool memory_load_cr3(void *context, uint32_t cr3)
{
    (void)context;
    written_cr3 = cr3;
    return !cr3_refused;
}

static inline enum task_outcome run(void)
{
    const struct task_memory callbacks = {memory_read, memory_write, memory_load_cr3, NULL};
    accesses = 0;
    return task_switch(&state, &request, &callbacks, &fault);
}

static inline uint32_t get(uint32_t at, unsigned size)
{
    uint32_t value = 0;
    memcpy(&value, memory + at, size);
    return value;
}

static inline void put(uint32_t at, uint32_t value, unsigned size)
{
    memcpy(memory + at, &value, size);
}

static inline void put_descriptor(unsigned selector, uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    uint64_t raw = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
                   (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
    memcpy(memory + (selector & 4 ? LDT : GDT) + (selector & 0xfff8), &raw, sizeof raw);
}

static inline unsigned access_of(unsigned selector)
{
    return memory[(selector & 4 ? LDT : GDT) + (selector & 0xfff8) + 5];
}

static inline bool is_busy(unsigned selector)
{
    return access_of(selector) & 2;
}

#define FLAGS32 0xc /* G, D/B */

static inline void fill_tables(void)
{
    put_descriptor(SEL_CODE, 0, 0xfffff, 0x9a, FLAGS32);
    put_descriptor(SEL_DATA, 0, 0xfffff, 0x92, FLAGS32);
    put_descriptor(SEL_OLD, OLD_TSS, 0x67, 0x8b, 0);
    put_descriptor(SEL_NEW, NEW_TSS, 0x67, 0x89, 0);
    put_descriptor(SEL_NEW16, NEW_TSS16, 0x2b, 0x81, 0);
    put_descriptor(SEL_LDT, LDT, LDT_LIMIT, 0x82, 0);
    put_descriptor(SEL_CODE3, 0, 0xfffff, 0xfa, FLAGS32);
    put_descriptor(SEL_DATA3, 0, 0xfffff, 0xf2, FLAGS32);
    put_descriptor(SEL_CONFORMING, 0, 0xfffff, 0x9e, FLAGS32);
    put_descriptor(SEL_CODE_UNREADABLE, 0, 0xfffff, 0x98, FLAGS32);
    put_descriptor(SEL_STACK16, 0, 0xffff, 0x92, 0);
    put_descriptor(LDT_DATA, 0x100, 0xfff, 0x92, 4);
}

static inline void fill_new_tss(void)
{
    static const uint16_t selectors[] = {SEL_DATA, SEL_CODE, SEL_DATA, SEL_DATA, 0, LDT_DATA};
    put(NEW_TSS + 0x1c, 0xabc000, 4);
    put(NEW_TSS + 0x20, 0x12345678, 4);
    put(NEW_TSS + 0x24, 0x246, 4);
    for (unsigned i = 0; i < 8; i++)
        put(NEW_TSS + 0x28 + 4 * i, 0x11110000 + i, 4);
    put(NEW_TSS + 0x38, STACK, 4);
    for (unsigned i = 0; i < 6; i++)
        put(NEW_TSS + 0x48 + 4 * i, selectors[i], 2);
    put(NEW_TSS + 0x60, SEL_LDT, 2);
    put(NEW_TSS16 + 0x0e, 0x1234, 2);
    put(NEW_TSS16 + 0x10, 0x246, 2);
    for (unsigned i = 0; i < 8; i++)
        put(NEW_TSS16 + 0x12 + 2 * i, 0x2220 + i, 2);
    put(NEW_TSS16 + 0x1a, STACK, 2);
    for (unsigned i = 0; i < 4; i++)
        put(NEW_TSS16 + 0x22 + 2 * i, i == TASK_CS ? SEL_CODE : SEL_DATA, 2);
}

static inline int setup(void **unused)
{
    (void)unused;
    memset(memory, 0, sizeof memory);
    fill_tables();
    fill_new_tss();
    state = (struct task_state){.eip = 0x1007, .eflags = 0x202, .cr3 = 0x5000, .gdt_base = GDT, .gdt_limit = GDT_LIMIT};
    for (unsigned i = 0; i < 8; i++)
        state.gpr[i] = 0xa0000000 + i;
    for (unsigned i = TASK_ES; i <= TASK_GS; i++)
        state.segment[i] = (struct segment){.selector = i == TASK_CS ? SEL_CODE : SEL_DATA,
                                            .limit = ~0u,
                                            .access_rights = i == TASK_CS ? 0xc09b : 0xc093};
    state.segment[TASK_LDTR].access_rights = AR_UNUSABLE;
    state.segment[TASK_TR] =
        (struct segment){.selector = SEL_OLD, .limit = 0x67, .access_rights = 0x8b, .base = OLD_TSS};
    request = (struct task_request){.source = TASK_JMP, .selector = SEL_NEW};
    refused_access = 0;
    written_cr3 = 0;
    cr3_refused = false;
    return 0;
}

/* The demands of a VM entry on the segments of a guest outside IA-32e mode. SDM 3C 27.3.1.2 "Checks on Guest Segment
 * Registers" (unrestricted guest) */
static inline void assert_enterable(void)
{
    const struct segment *cs = &state.segment[TASK_CS], *ss = &state.segment[TASK_SS], *tr = &state.segment[TASK_TR];
    uint64_t ss_dpl = GET(ss->access_rights, AR_DPL), cs_dpl = GET(cs->access_rights, AR_DPL);
    uint64_t cs_type = GET(cs->access_rights, AR_TYPE);

    assert_int_equal(state.eflags & ~0x3f7fd7u, 0);
    assert_int_equal(state.eflags & 2, 2);
    assert_true(tr->access_rights == 0x8b || tr->access_rights == 0x83);
    for (unsigned i = TASK_ES; i <= TASK_TR; i++) {
        const struct segment *segment = &state.segment[i];
        assert_int_equal(segment->access_rights & AR_RESERVED & ~AR_UNUSABLE, 0);
        if (segment->access_rights & AR_UNUSABLE)
            continue;
        assert_true(segment->access_rights & AR_P);
        assert_false((segment->access_rights & AR_G) && (segment->limit & 0xfff) != 0xfff);
        assert_false(!(segment->access_rights & AR_G) && segment->limit >> 20);
        assert_int_equal(segment->base >> 32, 0);
        if (i > TASK_GS)
            continue;
        assert_true(segment->access_rights & AR_S);
        assert_true(segment->access_rights & 1);
    }
    if (state.eflags & RFLAGS_VM) {
        for (unsigned i = TASK_ES; i <= TASK_GS; i++) {
            assert_int_equal(state.segment[i].access_rights, 0xf3);
            assert_int_equal(state.segment[i].base, (uint64_t)state.segment[i].selector << 4);
            assert_int_equal(state.segment[i].limit, 0xffff);
        }
        return;
    }
    assert_false(cs->access_rights & AR_UNUSABLE);
    assert_true(cs_type & 8);
    assert_true(cs_type & 4 ? cs_dpl <= ss_dpl : cs_dpl == ss_dpl);
    if (!(ss->access_rights & AR_UNUSABLE))
        assert_true(GET(ss->access_rights, AR_TYPE) == 3 || GET(ss->access_rights, AR_TYPE) == 7);
    if (!(state.segment[TASK_LDTR].access_rights & AR_UNUSABLE))
        assert_int_equal(state.segment[TASK_LDTR].access_rights & (AR_P | AR_S | AR_TYPE), 0x82);
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

#endif
