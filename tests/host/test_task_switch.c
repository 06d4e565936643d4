/* sources: vmx/task_switch.c vmx/segment.c */
/* Task switches that succeed, and those that meet page faults or random tables. */
#include "tests/host/task_world.h"

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
        TEST(test_page_fault_at_each_access),
        TEST(test_random_tables),
        TEST(test_fault_combine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
