/* sources: vmx/task_switch.c vmx/segment.c */
/* The task switch over 64 KiB of linear memory: GDT, LDT and three TSSs at fixed places. */
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

static uint8_t memory[MEMORY_SIZE];
static struct task_state state;
static struct task_request request;
static struct fault fault;
static unsigned accesses, refused_access; /* the access of this number faults; 0: none */
static uint32_t written_cr3;
static bool cr3_refused, last_user;

static bool page_fault(uint32_t gva, struct fault *f)
{
    *f = (struct fault){.vector = VECTOR_PF, .has_error_code = true, .error_code = 0, .address = gva};
    return false;
}

static bool memory_read(void *context, uint32_t gva, void *buffer, unsigned len, struct fault *f)
{
    (void)context;
    if (++accesses == refused_access || gva >= MEMORY_SIZE || len > MEMORY_SIZE - gva)
        return page_fault(gva, f);
    memcpy(buffer, memory + gva, len);
    return true;
}

static bool memory_write(void *context, uint32_t gva, const void *buffer, unsigned len, bool user, struct fault *f)
{
    (void)context;
    last_user = user;
    if (++accesses == refused_access || gva >= MEMORY_SIZE || len > MEMORY_SIZE - gva)
        return page_fault(gva, f);
    memcpy(memory + gva, buffer, len);
    return true;
}

static bool memory_load_cr3(void *context, uint32_t cr3)
{
    (void)context;
    written_cr3 = cr3;
    return !cr3_refused;
}

static enum task_outcome run(void)
{
    const struct task_memory callbacks = {memory_read, memory_write, memory_load_cr3, NULL};
    accesses = 0;
    return task_switch(&state, &request, &callbacks, &fault);
}

static uint32_t get(uint32_t at, unsigned size)
{
    uint32_t value = 0;
    memcpy(&value, memory + at, size);
    return value;
}

static void put(uint32_t at, uint32_t value, unsigned size)
{
    memcpy(memory + at, &value, size);
}

static void put_descriptor(unsigned selector, uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    uint64_t raw = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
                   (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
    memcpy(memory + (selector & 4 ? LDT : GDT) + (selector & 0xfff8), &raw, sizeof raw);
}

static unsigned access_of(unsigned selector)
{
    return memory[(selector & 4 ? LDT : GDT) + (selector & 0xfff8) + 5];
}

static bool is_busy(unsigned selector)
{
    return access_of(selector) & 2;
}

#define FLAGS32 0xc /* G, D/B */

static void fill_tables(void)
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

static void fill_new_tss(void)
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

static int setup(void **unused)
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

/* What VM entry demands of the segments of a guest outside IA-32e mode. SDM 3C 27.3.1.2 "Checks on Guest Segment
 * Registers" (unrestricted guest) */
static void assert_enterable(void)
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

static void test_jmp_loads_and_saves(void **unused)
{
    (void)unused;
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.eip, 0x12345678);
    assert_int_equal(state.eflags, 0x246);
    assert_int_equal(state.gpr[RAX], 0x11110000);
    assert_int_equal(state.gpr[RDI], 0x11110007);
    assert_int_equal(state.gpr[RSP], STACK);
    assert_int_equal(state.segment[TASK_CS].access_rights, 0xc09b);
    assert_int_equal(state.segment[TASK_SS].limit, 0xffffffff);
    assert_int_equal(state.segment[TASK_FS].access_rights & AR_UNUSABLE, AR_UNUSABLE);
    assert_int_equal(state.segment[TASK_GS].selector, LDT_DATA);
    assert_int_equal(state.segment[TASK_GS].base, 0x100);
    assert_int_equal(state.segment[TASK_LDTR].base, LDT);
    assert_int_equal(state.segment[TASK_TR].selector, SEL_NEW);
    assert_int_equal(state.segment[TASK_TR].access_rights, 0x8b);
    assert_enterable();
    assert_int_equal(get(OLD_TSS + 0x20, 4), 0x1007);
    assert_int_equal(get(OLD_TSS + 0x24, 4), 0x202);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(get(OLD_TSS + 0x28 + 4 * i, 4), 0xa0000000 + i);
    assert_int_equal(get(OLD_TSS + 0x4c, 2), SEL_CODE);
    assert_int_equal(get(OLD_TSS + 0x5c, 2), SEL_DATA);
}

static void test_only_the_dynamic_part_is_saved(void **unused)
{
    (void)unused;
    memset(memory + OLD_TSS, 0xee, 0x68);
    assert_int_equal(run(), TASK_DONE);
    for (unsigned i = 0; i < 0x20; i++)
        assert_int_equal(memory[OLD_TSS + i], 0xee);
    for (unsigned i = 0x5e; i < 0x68; i++)
        assert_int_equal(memory[OLD_TSS + i], 0xee);
    assert_int_equal(get(OLD_TSS + 0x4a, 2), 0xeeee);
    assert_int_equal(get(OLD_TSS + 0x4c, 2), SEL_CODE);
}

/* SDM 3A table "Effect of a Task Switch on Busy Flag, NT Flag, Previous Task Link Field, and TS Flag" */
static void test_busy_nt_and_link(void **unused)
{
    static const struct {
        enum task_source source;
        bool old_busy, new_nt, old_nt, linked;
    } rows[] = {
        {TASK_JMP, false, false, true, false},
        {TASK_CALL, true, true, true, true},
        {TASK_GATE, true, true, true, true},
        {TASK_IRET, false, false, false, false},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        setup(unused);
        request.source = rows[i].source;
        state.eflags |= (uint32_t)RFLAGS_NT;
        put(NEW_TSS, 0x7777, 2);
        if (rows[i].source == TASK_IRET)
            put_descriptor(SEL_NEW, NEW_TSS, 0x67, 0x8b, 0);
        assert_int_equal(run(), TASK_DONE);
        assert_int_equal(is_busy(SEL_OLD), rows[i].old_busy);
        assert_true(is_busy(SEL_NEW));
        assert_int_equal((state.eflags & RFLAGS_NT) != 0, rows[i].new_nt);
        assert_int_equal((get(OLD_TSS + 0x24, 4) & RFLAGS_NT) != 0, rows[i].old_nt);
        assert_int_equal(get(NEW_TSS, 2), rows[i].linked ? SEL_OLD : 0x7777);
    }
}

static void test_nt_of_the_new_task_is_its_own(void **unused)
{
    (void)unused;
    put(NEW_TSS + 0x24, 0x4246, 4);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.eflags, 0x4246);
}

static void test_16_bit_tss(void **unused)
{
    (void)unused;
    request.selector = SEL_NEW16;
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.eip, 0x1234);
    assert_int_equal(state.eflags, 0x246);
    assert_int_equal(state.gpr[RBX] & 0xffff, 0x2223);
    assert_int_equal(state.gpr[RSP] & 0xffff, STACK);
    assert_int_equal(state.segment[TASK_FS].selector, 0);
    assert_int_equal(state.segment[TASK_LDTR].access_rights & AR_UNUSABLE, AR_UNUSABLE);
    assert_int_equal(state.segment[TASK_TR].access_rights, 0x83);
    assert_enterable();
    /* And back: the old one is the 16-bit TSS now. */
    state.eip = 0xabcd;
    request.selector = SEL_OLD;
    memset(memory + NEW_TSS16 + 0x2a, 0xee, 8);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.eip, 0x1007);
    assert_int_equal(state.gpr[RDI], 0xa0000007);
    assert_int_equal(get(NEW_TSS16 + 0x0e, 2), 0xabcd);
    assert_int_equal(get(NEW_TSS16 + 0x24, 2), SEL_CODE);
    assert_int_equal(get(NEW_TSS16 + 0x2a, 2), 0xeeee);
    assert_false(is_busy(SEL_NEW16));
}

static void test_error_code_goes_on_the_new_stack(void **unused)
{
    (void)unused;
    request = (struct task_request){TASK_GATE, SEL_NEW, true, true, 0x89abcdef};
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.gpr[RSP], STACK - 4);
    assert_int_equal(get(STACK - 4, 4), 0x89abcdef);
    assert_false(last_user);
    /* 16-bit stack: only SP moves, and wraps. */
    setup(unused);
    request = (struct task_request){TASK_GATE, SEL_NEW, true, true, 0x1234};
    put(NEW_TSS + 0x50, SEL_STACK16, 2);
    put(NEW_TSS + 0x38, 0x99990000, 4);
    put_descriptor(SEL_STACK16, 0, 0xffff, 0x92, 0);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.gpr[RSP], 0x9999fffc);
    assert_int_equal(get(0xfffc, 4), 0x1234);
    /* A 16-bit TSS pushes a word. */
    setup(unused);
    request = (struct task_request){TASK_GATE, SEL_NEW16, true, true, 0xabcd1234};
    put(STACK - 4, 0, 4);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(get(STACK - 4, 4), 0x12340000);
}

static void test_error_code_at_cpl_3_and_stack_fault(void **unused)
{
    (void)unused;
    request = (struct task_request){TASK_GATE, SEL_NEW, true, true, 1};
    put(NEW_TSS + 0x4c, SEL_CODE3, 2);
    put(NEW_TSS + 0x50, SEL_DATA3, 2);
    put(NEW_TSS + 0x48, SEL_DATA3, 2);
    put(NEW_TSS + 0x54, SEL_DATA3, 2);
    put(NEW_TSS + 0x5c, 0, 2);
    assert_int_equal(run(), TASK_DONE);
    assert_true(last_user);
    assert_enterable();
    setup(unused);
    request = (struct task_request){TASK_GATE, SEL_NEW, true, true, 1};
    put_descriptor(SEL_DATA, 0, 0xff, 0x92, 4); /* the stack pointer lies beyond its limit */
    assert_int_equal(run(), TASK_FAULTED);
    assert_int_equal(fault.vector, VECTOR_SS);
    assert_int_equal(fault.error_code, 1);
    assert_int_equal(state.gpr[RSP], STACK);
    assert_enterable();
}

static void test_v86(void **unused)
{
    (void)unused;
    put(NEW_TSS + 0x24, 0x23202, 4);
    put(NEW_TSS + 0x4c, 0xffff, 2);
    put(NEW_TSS + 0x60, 0, 2);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.segment[TASK_CS].base, 0xffff0);
    assert_enterable();
    /* A bad LDT still is one, and the segments are as that mode wants them. */
    setup(unused);
    put(NEW_TSS + 0x24, 0x23202, 4);
    put(NEW_TSS + 0x60, SEL_DATA, 2);
    assert_int_equal(run(), TASK_FAULTED);
    assert_int_equal(fault.vector, VECTOR_TS);
    assert_int_equal(fault.error_code, SEL_DATA);
    assert_enterable();
}

static void test_cr3(void **unused)
{
    (void)unused;
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(written_cr3, 0); /* paging is off */
    assert_int_equal(state.cr3, 0x5000);
    setup(unused);
    state.paging = true;
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(written_cr3, 0xabc000);
    assert_int_equal(state.cr3, 0xabc000);
    setup(unused);
    state.paging = true;
    state.cr3 = 0xabc000; /* the same value loads nothing */
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(written_cr3, 0);
    setup(unused);
    state.paging = cr3_refused = true;
    assert_int_equal(run(), TASK_FAULTED);
    assert_int_equal(fault.vector, VECTOR_GP);
    assert_int_equal(fault.error_code, 0);
    assert_int_equal(state.cr3, 0x5000);
    assert_enterable();
    setup(unused);
    state.paging = true;
    request.selector = SEL_NEW16;
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(written_cr3, 0);
}

static void test_debug_trap(void **unused)
{
    (void)unused;
    put(NEW_TSS + 0x64, 1, 2);
    assert_int_equal(run(), TASK_DEBUG_TRAP);
    setup(unused);
    put(NEW_TSS + 0x64, 1, 2);
    put(NEW_TSS + 0x60, SEL_DATA, 2);
    assert_int_equal(run(), TASK_FAULTED);
}

static void test_accessed_bits(void **unused)
{
    (void)unused;
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(access_of(SEL_CODE), 0x9b);
    assert_int_equal(access_of(SEL_DATA), 0x93);
    assert_int_equal(access_of(LDT_DATA), 0x93);
    assert_int_equal(access_of(SEL_DATA3), 0xf2);
    assert_int_equal(access_of(SEL_LDT), 0x82);
}

static void test_both_descriptors_one_tss(void **unused)
{
    (void)unused;
    put_descriptor(SEL_NEW, OLD_TSS, 0x67, 0x89, 0);
    put(OLD_TSS + 0x60, 0, 2);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(state.eip, 0x1007); /* what was just saved */
    assert_int_equal(state.gpr[RBX], 0xa0000003);
}

static void make_scratch(uint32_t access)
{
    put_descriptor(SEL_SCRATCH, 0, 0xfffff, access, FLAGS32);
}

struct row {
    unsigned slot;     /* offset in the new TSS; 0: none */
    unsigned selector; /* put there */
    unsigned scratch;  /* access byte of SEL_SCRATCH */
    unsigned vector, error_code;
};

static void check_rows(const struct row *rows, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        setup(NULL);
        make_scratch(rows[i].scratch);
        put(NEW_TSS + rows[i].slot, rows[i].selector, 2);
        assert_int_equal(run(), TASK_FAULTED);
        assert_int_equal(fault.vector, rows[i].vector);
        assert_int_equal(fault.error_code, rows[i].error_code);
        assert_int_equal(state.segment[TASK_TR].selector, SEL_NEW);
        assert_int_equal(state.eip, 0x12345678);
        assert_enterable();
        request.external = true;
        setup(NULL);
        make_scratch(rows[i].scratch);
        put(NEW_TSS + rows[i].slot, rows[i].selector, 2);
        request = (struct task_request){.source = TASK_GATE, .selector = SEL_NEW, .external = true};
        assert_int_equal(run(), TASK_FAULTED);
        assert_int_equal(fault.error_code, rows[i].error_code | 1);
    }
}

enum { AT_ES = 0x48, AT_CS = 0x4c, AT_SS = 0x50, AT_DS = 0x54, AT_FS = 0x58, AT_GS = 0x5c, AT_LDT = 0x60 };

/* SDM 3A table "Exception Conditions Checked During a Task Switch", the rows of the new task's segments. */
static void test_ldt_checks(void **unused)
{
    static const struct row rows[] = {
        {AT_LDT, SEL_BEYOND, 0, VECTOR_TS, SEL_BEYOND},
        {AT_LDT, SEL_LDT | 4, 0, VECTOR_TS, SEL_LDT | 4},
        {AT_LDT, SEL_DATA, 0, VECTOR_TS, SEL_DATA},
        {AT_LDT, SEL_SCRATCH, 0x02, VECTOR_TS, SEL_SCRATCH}, /* not present */
        {AT_LDT, SEL_NEW16, 0, VECTOR_TS, SEL_NEW16},        /* another system segment */
        {AT_LDT, 0, 0, VECTOR_TS, LDT_DATA},                 /* none is fine, but then GS has no table */
    };
    (void)unused;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void test_code_checks(void **unused)
{
    static const struct row rows[] = {
        {AT_CS, 0, 0, VECTOR_TS, 0},
        {AT_CS, SEL_DATA, 0, VECTOR_TS, SEL_DATA},
        {AT_CS, SEL_BEYOND, 0, VECTOR_TS, SEL_BEYOND},
        {AT_CS, SEL_LDT, 0, VECTOR_TS, SEL_LDT},
        {AT_CS, SEL_CODE3 & ~3, 0, VECTOR_TS, SEL_CODE3 & ~3}, /* DPL 3, RPL 0 */
        {AT_CS, SEL_SCRATCH, 0x1a, VECTOR_NP, SEL_SCRATCH},
        {AT_CS, SEL_SCRATCH, 0xde, VECTOR_TS, SEL_SCRATCH}, /* conforming, DPL 2 above RPL 0 */
    };
    (void)unused;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void test_stack_checks(void **unused)
{
    static const struct row rows[] = {
        {AT_SS, 0, 0, VECTOR_TS, 0},
        {AT_SS, 3, 0, VECTOR_TS, 0},
        {AT_SS, SEL_CODE, 0, VECTOR_TS, SEL_CODE},
        {AT_SS, SEL_SCRATCH, 0x90, VECTOR_TS, SEL_SCRATCH}, /* not writable */
        {AT_SS, SEL_SCRATCH, 0x12, VECTOR_SS, SEL_SCRATCH}, /* not present */
        {AT_SS, SEL_SCRATCH | 3, 0x92, VECTOR_TS, SEL_SCRATCH},
        {AT_SS, SEL_DATA3, 0, VECTOR_TS, SEL_DATA3 & ~3},
        {AT_SS, SEL_BEYOND, 0, VECTOR_TS, SEL_BEYOND},
    };
    (void)unused;
    check_rows(rows, ARRAY_SIZE(rows));
}

static void test_data_checks(void **unused)
{
    static const unsigned slots[] = {AT_DS, AT_ES, AT_FS, AT_GS};
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
        const struct row rows[] = {
            {slots[i], SEL_BEYOND, 0, VECTOR_TS, SEL_BEYOND},
            {slots[i], SEL_CODE_UNREADABLE, 0, VECTOR_TS, SEL_CODE_UNREADABLE},
            {slots[i], SEL_LDT, 0, VECTOR_TS, SEL_LDT},
            {slots[i], SEL_SCRATCH, 0x12, VECTOR_NP, SEL_SCRATCH},
            {slots[i], SEL_SCRATCH | 3, 0x92, VECTOR_TS, SEL_SCRATCH}, /* RPL above DPL */
            {slots[i], LDT_DATA + 8, 0, VECTOR_TS, LDT_DATA + 8},
        };
        check_rows(rows, ARRAY_SIZE(rows));
    }
}

static void test_what_is_allowed(void **unused)
{
    static const struct {
        unsigned slot, selector, scratch;
    } rows[] = {
        {AT_CS, SEL_CONFORMING, 0},
        {AT_DS, SEL_CODE, 0},
        {AT_DS, SEL_CONFORMING | 3, 0},
        {AT_DS, 3, 0},
        {AT_DS, SEL_SCRATCH, 0x90},
        {AT_ES, SEL_DATA3, 0},
        {AT_FS, LDT_DATA, 0},
        {AT_SS, SEL_SCRATCH, 0x96},
        {AT_CS, SEL_CODE_UNREADABLE, 0},
        {AT_GS, 0, 0},
        {AT_DS, SEL_SCRATCH | 2, 0xd2},
        {AT_ES, SEL_STACK16, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        setup(unused);
        make_scratch(rows[i].scratch);
        put(NEW_TSS + rows[i].slot, rows[i].selector, 2);
        assert_int_equal(run(), TASK_DONE);
        assert_enterable();
    }
}

/* The new TSS itself: refused in the old task. */
static void test_new_tss_checks(void **unused)
{
    static const struct {
        enum task_source source;
        unsigned selector, access, limit;
        unsigned vector, error_code;
    } rows[] = {
        {TASK_JMP, SEL_NEW | 4, 0x89, 0x67, VECTOR_GP, SEL_NEW | 4},
        {TASK_IRET, SEL_NEW | 4, 0x8b, 0x67, VECTOR_TS, SEL_NEW | 4},
        {TASK_CALL, SEL_BEYOND, 0x89, 0x67, VECTOR_GP, SEL_BEYOND},
        {TASK_IRET, SEL_BEYOND, 0x8b, 0x67, VECTOR_TS, SEL_BEYOND},
        {TASK_JMP, SEL_NEW | 3, 0x8b, 0x67, VECTOR_GP, SEL_NEW}, /* busy */
        {TASK_GATE, SEL_NEW, 0x8b, 0x67, VECTOR_GP, SEL_NEW},
        {TASK_IRET, SEL_NEW, 0x89, 0x67, VECTOR_TS, SEL_NEW}, /* not busy */
        {TASK_JMP, SEL_NEW, 0x92, 0x67, VECTOR_GP, SEL_NEW},
        {TASK_JMP, SEL_NEW, 0x82, 0x67, VECTOR_GP, SEL_NEW},
        {TASK_JMP, SEL_NEW, 0x8c, 0x67, VECTOR_GP, SEL_NEW}, /* a call gate */
        {TASK_JMP, SEL_NEW, 0x09, 0x67, VECTOR_NP, SEL_NEW},
        {TASK_IRET, SEL_NEW, 0x0b, 0x67, VECTOR_NP, SEL_NEW},
        {TASK_JMP, SEL_NEW, 0x89, 0x66, VECTOR_TS, SEL_NEW},
        {TASK_JMP, SEL_NEW, 0x81, 0x2a, VECTOR_TS, SEL_NEW},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        setup(unused);
        put_descriptor(SEL_NEW, NEW_TSS, rows[i].limit, rows[i].access, 0);
        struct task_state before = state;
        request = (struct task_request){.source = rows[i].source, .selector = (uint16_t)rows[i].selector};
        assert_int_equal(run(), TASK_REFUSED);
        assert_int_equal(fault.vector, rows[i].vector);
        assert_int_equal(fault.error_code, rows[i].error_code);
        assert_memory_equal(&before, &state, sizeof state);
        assert_true(is_busy(SEL_OLD));
    }
}

static void test_old_tss_too_short(void **unused)
{
    (void)unused;
    state.segment[TASK_TR].limit = 0x5c;
    assert_int_equal(run(), TASK_REFUSED);
    assert_int_equal(fault.vector, VECTOR_TS);
    assert_int_equal(fault.error_code, SEL_OLD);
    setup(unused);
    state.segment[TASK_TR].limit = 0x5d;
    assert_int_equal(run(), TASK_DONE);
}

static void prepare_source(enum task_source source)
{
    setup(NULL);
    if (source == TASK_IRET)
        put_descriptor(SEL_NEW, NEW_TSS, 0x67, 0x8b, 0);
    request = (struct task_request){source, SEL_NEW, source == TASK_GATE, source == TASK_GATE, 7};
}

/* Each access in turn is a page fault: before the switch state, busy flags and link are as they were, after it the new
 * task can be entered. The last access before it repeats one that was allowed already. */
static void test_page_fault_at_each_access(void **unused)
{
    (void)unused;
    for (enum task_source source = TASK_CALL; source <= TASK_GATE; source++) {
        unsigned outcomes[4] = {0}, unlike_before = 0;
        for (unsigned at = 1; !outcomes[TASK_DONE]; at++) {
            prepare_source(source);
            struct task_state before = state;
            unsigned old_access = access_of(SEL_OLD), new_access = access_of(SEL_NEW);
            refused_access = at;
            enum task_outcome outcome = run();
            outcomes[outcome]++;
            if (outcome == TASK_DONE)
                break;
            assert_int_equal(fault.vector, VECTOR_PF);
            if (outcome == TASK_FAULTED) {
                assert_enterable();
                continue;
            }
            assert_memory_equal(&before, &state, sizeof state);
            unlike_before += access_of(SEL_OLD) != old_access || access_of(SEL_NEW) != new_access || get(NEW_TSS, 2);
        }
        assert_true(outcomes[TASK_REFUSED] >= 4);
        assert_true(outcomes[TASK_FAULTED] >= 6);
        assert_true(unlike_before <= 1);
    }
}

/* Whatever the guest put into its tables: nothing but these outcomes, and a state that can be entered. */
static void test_random_tables(void **unused)
{
    static const uint8_t accesses_of_interest[] = {0x92, 0x93, 0x9a, 0x9b, 0x9e, 0xf2, 0xfa, 0xfe, 0x82, 0x89,
                                                   0x8b, 0x81, 0x83, 0x12, 0x1a, 0x96, 0x90, 0x98, 0xb2, 0xba};
    unsigned seen[4] = {0};
    for (unsigned round = 0; round < 200000; round++) {
        setup(unused);
        for (unsigned i = 0; i < 4; i++) {
            unsigned selector = (unsigned)(host_random() % 16) * 4;
            if ((selector & 0xfff8) == SEL_NEW || (selector & 0xfff8) == SEL_OLD)
                continue;
            put_descriptor(selector, (uint32_t)(host_random() % 0x3000), (uint32_t)(host_random() & 0xfffff),
                           accesses_of_interest[host_random() % ARRAY_SIZE(accesses_of_interest)],
                           (unsigned)(host_random() & 0xd));
        }
        for (unsigned i = 0; i < 3; i++)
            put(NEW_TSS + AT_ES + (uint32_t)(host_random() % 7) * 4, (uint32_t)(host_random() % 0x70), 2);
        if (host_random() % 8 == 0)
            put(NEW_TSS + 0x24, (uint32_t)host_random(), 4);
        request = (struct task_request){(enum task_source)(host_random() % 4), SEL_NEW, false, host_random() % 2, 1};
        if (request.source == TASK_IRET)
            put_descriptor(SEL_NEW, NEW_TSS, 0x67, 0x8b, 0);
        refused_access = (unsigned)(host_random() % 64);
        struct task_state before = state;
        enum task_outcome outcome = run();
        seen[outcome]++;
        if (outcome == TASK_REFUSED)
            assert_memory_equal(&before, &state, sizeof state);
        else
            assert_enterable();
        assert_int_equal(fault.vector == FAULT_NONE, outcome >= TASK_DONE);
    }
    assert_true(seen[TASK_REFUSED] && seen[TASK_FAULTED] && seen[TASK_DONE]);
}

/* SDM 3A table "Conditions for Generating a Double Fault" */
static void test_fault_combine(void **unused)
{
    enum { BENIGN = VECTOR_UD, CONTRIBUTORY = VECTOR_GP };
    static const struct {
        unsigned first, second, result;
    } rows[] = {
        {BENIGN, BENIGN, BENIGN},
        {BENIGN, CONTRIBUTORY, CONTRIBUTORY},
        {BENIGN, VECTOR_PF, VECTOR_PF},
        {CONTRIBUTORY, BENIGN, BENIGN},
        {CONTRIBUTORY, CONTRIBUTORY, VECTOR_DF},
        {CONTRIBUTORY, VECTOR_PF, VECTOR_PF},
        {VECTOR_PF, BENIGN, BENIGN},
        {VECTOR_PF, CONTRIBUTORY, VECTOR_DF},
        {VECTOR_PF, VECTOR_PF, VECTOR_DF},
        {VECTOR_DF, BENIGN, BENIGN},
        {VECTOR_DF, CONTRIBUTORY, FAULT_NONE},
        {VECTOR_DF, VECTOR_PF, FAULT_NONE},
        {VECTOR_DE, VECTOR_TS, VECTOR_DF},
        {VECTOR_NP, VECTOR_SS, VECTOR_DF},
        {VECTOR_DB, VECTOR_TS, VECTOR_TS},
        {VECTOR_AC, VECTOR_NP, VECTOR_NP},
    };
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(fault_combine(rows[i].first, rows[i].second), rows[i].result);
}

#define TEST(function) cmocka_unit_test_setup(function, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_jmp_loads_and_saves),
        TEST(test_only_the_dynamic_part_is_saved),
        TEST(test_busy_nt_and_link),
        TEST(test_nt_of_the_new_task_is_its_own),
        TEST(test_16_bit_tss),
        TEST(test_error_code_goes_on_the_new_stack),
        TEST(test_error_code_at_cpl_3_and_stack_fault),
        TEST(test_v86),
        TEST(test_cr3),
        TEST(test_debug_trap),
        TEST(test_accessed_bits),
        TEST(test_both_descriptors_one_tss),
        TEST(test_ldt_checks),
        TEST(test_code_checks),
        TEST(test_stack_checks),
        TEST(test_data_checks),
        TEST(test_what_is_allowed),
        TEST(test_new_tss_checks),
        TEST(test_old_tss_too_short),
        TEST(test_page_fault_at_each_access),
        TEST(test_random_tables),
        TEST(test_fault_combine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
