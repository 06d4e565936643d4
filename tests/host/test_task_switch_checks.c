/* sources: vmx/task_switch.c vmx/segment.c */
/* The checks of a task switch: the TSSs in the old task, segments and LDT in the new one. */
#include "tests/host/task_world.h"

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

/* A conforming code segment runs at the selector's RPL, whatever its own DPL below that is. */
static void test_conforming_code_at_cpl_3(void **unused)
{
    (void)unused;
    put(NEW_TSS + AT_CS, SEL_CONFORMING | 3, 2);
    for (unsigned at = AT_ES; at <= AT_GS; at += 4)
        if (at != AT_CS)
            put(NEW_TSS + at, SEL_DATA3, 2);
    assert_int_equal(run(), TASK_DONE);
    assert_int_equal(GET(state.segment[TASK_CS].access_rights, AR_DPL), 0);
    assert_int_equal(GET(state.segment[TASK_SS].access_rights, AR_DPL), 3);
    assert_enterable();
}

/* The last byte of a descriptor must lie within the table. */
static void test_table_limits(void **unused)
{
    (void)unused;
    make_scratch(0x92);
    put(NEW_TSS + AT_DS, SEL_SCRATCH, 2);
    put_descriptor(LDT_DATA, 0, 0, 0, 0);
    put(NEW_TSS + AT_GS, 0, 2);
    state.gdt_limit = SEL_SCRATCH + 7;
    assert_int_equal(run(), TASK_DONE);
    setup(unused);
    make_scratch(0x92);
    put(NEW_TSS + AT_DS, SEL_SCRATCH, 2);
    state.gdt_limit = SEL_SCRATCH + 6;
    assert_int_equal(run(), TASK_FAULTED);
    assert_int_equal(fault.error_code, SEL_SCRATCH);
    setup(unused);
    state.gdt_limit = SEL_NEW + 6;
    assert_int_equal(run(), TASK_REFUSED);
    setup(unused);
    put_descriptor(SEL_LDT, LDT, LDT_LIMIT - 1, 0x82, 0);
    assert_int_equal(run(), TASK_FAULTED);
    assert_int_equal(fault.error_code, LDT_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ldt_checks),        TEST(test_code_checks),
        TEST(test_stack_checks),      TEST(test_data_checks),
        TEST(test_what_is_allowed),   TEST(test_new_tss_checks),
        TEST(test_old_tss_too_short), TEST(test_conforming_code_at_cpl_3),
        TEST(test_table_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
