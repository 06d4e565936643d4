/* sources: nested/rules/decide.c vmx/msr_bitmap.c */
#include "tests/host/decide_world.h"

#include "kernel/x86.h"

static void test_always_l1(void **state)
{
    static const uint32_t reasons[] = {
        EXIT_TRIPLE_FAULT,  EXIT_INIT,          EXIT_SIPI,
        EXIT_TASK_SWITCH,   EXIT_CPUID,         EXIT_GETSEC,
        EXIT_INVD,          EXIT_VMCALL,        EXIT_VMCLEAR,
        EXIT_VMLAUNCH,      EXIT_VMPTRLD,       EXIT_VMPTRST,
        EXIT_VMRESUME,      EXIT_VMXOFF,        EXIT_VMXON,
        EXIT_RSM,           EXIT_MSR_LOAD_FAIL, EXIT_INVEPT,
        EXIT_MONITOR_TRAP,  EXIT_INVVPID,       EXIT_EPT_VIOLATION,
        EXIT_XSETBV,        EXIT_EPT_MISCONFIG, EXIT_APIC_WRITE,
        EXIT_IO_SMI,        EXIT_OTHER_SMI,     EXIT_INVALID_GUEST_STATE,
        EXIT_MACHINE_CHECK,
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++)
        assert_int_equal(decide(reasons[i]), TO_L1);
}

static void test_unknown_reasons_are_l1s(void **state)
{
    static const uint32_t unknown[] = {35, 38, 42, 65, 71, 82, 83, EXIT_REASON_COUNT, 127, 0xffff, UINT32_MAX};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
        assert_int_equal(decide(unknown[i]), TO_L1);
}

/* No number is undecided: without a control that causes it, what is new is L1's, as bare it would come there. */
static void test_every_number_is_decided(void **state)
{
    static const uint32_t gated[] = {EXIT_SPP,    EXIT_UMWAIT,  EXIT_TPAUSE,   EXIT_ENCLV,
                                     EXIT_ENQCMD, EXIT_ENQCMDS, EXIT_BUS_LOCK, EXIT_NOTIFY};

    (void)state;
    in.msr_bitmap = in.io_bitmap_a = in.vmread_bitmap = page_a;
    in.io_bitmap_b = in.vmwrite_bitmap = page_b;
    for (uint32_t reason = 0; reason < 128; reason++) {
        enum decision decision = decide(reason);
        assert_true(decision == TO_L0 || decision == TO_L1);
        if (reason >= EXIT_REASON_COUNT || reason == EXIT_SEAMCALL || reason == EXIT_TDCALL)
            assert_int_equal(decision, TO_L1);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(gated); i++) {
        v.PROC_CONTROLS = v.PROC2_CONTROLS = 0;
        assert_int_equal(decide(gated[i]), TO_L0);
        v.PROC_CONTROLS = v.PROC2_CONTROLS = UINT32_MAX;
        assert_int_equal(decide(gated[i]), TO_L1);
    }
}

static void test_entry_failures_are_l1s(void **state)
{
    (void)state;
    the_exit.entry_failure = true;
    assert_int_equal(decide(EXIT_HLT), TO_L1);
    assert_int_equal(decide(EXIT_INVALID_GUEST_STATE), TO_L1);
    the_exit.entry_failure = false;
    assert_int_equal(decide(EXIT_HLT), TO_L0);
}

/* Each control bit wants its reason, and no other bit does. */
static void test_each_pin_control(void **state)
{
    static const struct {
        uint32_t reason, bit;
    } rows[] = {{EXIT_EXTERNAL_INTERRUPT, PIN_EXTERNAL_INTERRUPT}, {EXIT_PREEMPTION_TIMER, PIN_PREEMPTION_TIMER}};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        v.PIN_CONTROLS = 0;
        assert_int_equal(decide(rows[i].reason), TO_L0);
        v.PIN_CONTROLS = rows[i].bit;
        assert_int_equal(decide(rows[i].reason), TO_L1);
        v.PIN_CONTROLS = ~rows[i].bit;
        assert_int_equal(decide(rows[i].reason), TO_L0);
    }
}

static void test_each_primary_control(void **state)
{
    static const struct {
        uint32_t reason, bit;
    } rows[] = {
        {EXIT_INTERRUPT_WINDOW, PROC_INTERRUPT_WINDOW},
        {EXIT_NMI_WINDOW, PROC_NMI_WINDOW},
        {EXIT_HLT, PROC_HLT},
        {EXIT_INVLPG, PROC_INVLPG},
        {EXIT_RDPMC, PROC_RDPMC},
        {EXIT_RDTSC, PROC_RDTSC},
        {EXIT_RDTSCP, PROC_RDTSC},
        {EXIT_MOV_DR, PROC_MOV_DR},
        {EXIT_MWAIT, PROC_MWAIT},
        {EXIT_MONITOR, PROC_MONITOR},
        {EXIT_TPR_BELOW_THRESHOLD, PROC_TPR_SHADOW},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        v.PROC_CONTROLS = 0;
        assert_int_equal(decide(rows[i].reason), TO_L0);
        v.PROC_CONTROLS = rows[i].bit;
        assert_int_equal(decide(rows[i].reason), TO_L1);
        v.PROC_CONTROLS = ~rows[i].bit;
        assert_int_equal(decide(rows[i].reason), TO_L0);
    }
}

static void test_each_secondary_control(void **state)
{
    static const struct {
        uint32_t reason, bit;
    } rows[] = {
        {EXIT_APIC_ACCESS, PROC2_APIC_ACCESS},
        {EXIT_VIRTUALIZED_EOI, PROC2_VIRTUAL_INTERRUPTS},
        {EXIT_GDTR_IDTR, PROC2_DESC_TABLE},
        {EXIT_LDTR_TR, PROC2_DESC_TABLE},
        {EXIT_WBINVD, PROC2_WBINVD},
        {EXIT_RDRAND, PROC2_RDRAND},
        {EXIT_RDSEED, PROC2_RDSEED},
        {EXIT_VMFUNC, PROC2_VMFUNC},
        {EXIT_ENCLS, PROC2_ENCLS},
        {EXIT_PML_FULL, PROC2_PML},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        set_proc2(0);
        assert_int_equal(decide(rows[i].reason), TO_L0);
        set_proc2(rows[i].bit);
        assert_int_equal(decide(rows[i].reason), TO_L1);
        set_proc2(~rows[i].bit);
        assert_int_equal(decide(rows[i].reason), TO_L0);
        set_proc2(rows[i].bit);
        v.PROC_CONTROLS = 0; /* not activated: they do not count */
        assert_int_equal(decide(rows[i].reason), TO_L0);
    }
}

static void raise(unsigned type, unsigned vector, uint32_t error_code)
{
    the_exit.interruption_info = (uint32_t)(INTR_VALID | PUT(type, INTR_TYPE) | vector);
    the_exit.interruption_error_code = error_code;
}

static void test_nmi(void **state)
{
    (void)state;
    raise(INTR_TYPE_NMI, VECTOR_NMI, 0);
    v.EXCEPTION_BITMAP = UINT32_MAX;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L0); /* the bitmap's bit 2 is not about NMIs */
    v.PIN_CONTROLS = PIN_NMI;
    v.EXCEPTION_BITMAP = 0;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L1);
    in.l0_nmi = true;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L0);
    raise(INTR_TYPE_HARD_EXCEPTION, VECTOR_GP, 0);
    v.EXCEPTION_BITMAP = BIT(VECTOR_GP);
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L1); /* l0_nmi is not about exceptions */
}

static void test_exception_bitmap(void **state)
{
    (void)state;
    for (unsigned vector = 0; vector < 32; vector++) {
        if (vector == VECTOR_PF)
            continue;
        raise(vector == VECTOR_BP || vector == VECTOR_OF ? INTR_TYPE_SOFT_EXCEPTION : INTR_TYPE_HARD_EXCEPTION, vector,
              0);
        v.EXCEPTION_BITMAP = BIT(vector);
        assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L1);
        v.EXCEPTION_BITMAP = ~BIT(vector) & UINT32_MAX;
        assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L0);
    }
    raise(INTR_TYPE_HARD_EXCEPTION, 32, 0);
    v.EXCEPTION_BITMAP = UINT32_MAX;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L0);
}

static void test_page_fault_mask_and_match(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50000; round++) {
        uint32_t code = host_random() & 0x1f, mask = host_random() & 0x1f, match = host_random() & 0x1f;
        bool bit = host_random() & 1;
        /* SDM 3C 25.6.3: equal: the bit decides; else its opposite. */
        enum decision want = ((code & mask) == match) == bit ? TO_L1 : TO_L0;

        raise(INTR_TYPE_HARD_EXCEPTION, VECTOR_PF, code);
        v.PAGE_FAULT_ERROR_CODE_MASK = mask;
        v.PAGE_FAULT_ERROR_CODE_MATCH = match;
        v.EXCEPTION_BITMAP = bit ? BIT(VECTOR_PF) : ~BIT(VECTOR_PF) & UINT32_MAX;
        assert_int_equal(decide(EXIT_EXCEPTION_NMI), want);
    }
}

/* The usual ways to ask for all page faults and for none. */
static void test_page_fault_all_and_none(void **state)
{
    (void)state;
    raise(INTR_TYPE_HARD_EXCEPTION, VECTOR_PF, PF_WRITE | PF_USER);
    v.EXCEPTION_BITMAP = BIT(VECTOR_PF);
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L1);
    v.PAGE_FAULT_ERROR_CODE_MATCH = UINT32_MAX;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L0);
    v.EXCEPTION_BITMAP = 0;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L1);
    v.PAGE_FAULT_ERROR_CODE_MATCH = 0;
    assert_int_equal(decide(EXIT_EXCEPTION_NMI), TO_L0);
}

static enum decision mov_to_cr(unsigned number, unsigned reg, uint64_t value)
{
    if (reg == RSP)
        in.rsp = value;
    else
        regs[reg] = value;
    the_exit.qualification =
        PUT(number, CR_QUAL_NUMBER) | PUT(CR_QUAL_TYPE_MOV_TO, CR_QUAL_TYPE) | PUT(reg, CR_QUAL_REGISTER);
    return decide(EXIT_CR_ACCESS);
}

static void test_mov_to_cr0_and_cr4(void **state)
{
    (void)state;
    v.CR0_GUEST_HOST_MASK = CR0_PG | CR0_NE;
    v.CR0_READ_SHADOW = CR0_PG | CR0_TS;
    assert_int_equal(mov_to_cr(0, RAX, CR0_PG), TO_L0);          /* agrees in the mask's bits */
    assert_int_equal(mov_to_cr(0, RAX, CR0_PG | CR0_TS), TO_L0); /* others are L2's own */
    assert_int_equal(mov_to_cr(0, RAX, 0), TO_L1);               /* PG differs */
    assert_int_equal(mov_to_cr(0, RAX, CR0_PG | CR0_NE), TO_L1); /* NE differs */
    v.CR4_GUEST_HOST_MASK = CR4_VMXE;
    assert_int_equal(mov_to_cr(4, R15, CR4_PAE), TO_L0);
    assert_int_equal(mov_to_cr(4, R15, CR4_PAE | CR4_VMXE), TO_L1);
    v.CR4_GUEST_HOST_MASK = 0;
    assert_int_equal(mov_to_cr(4, R15, UINT64_MAX), TO_L0);
}

static void test_mov_to_cr_reads_the_right_register(void **state)
{
    (void)state;
    v.CR4_GUEST_HOST_MASK = UINT64_MAX;
    for (unsigned reg = 0; reg < GPR_COUNT; reg++) {
        memset(regs, 0xff, sizeof regs);
        in.rsp = UINT64_MAX;
        assert_int_equal(mov_to_cr(4, reg, 0), TO_L0);
        memset(regs, 0, sizeof regs);
        in.rsp = 0;
        assert_int_equal(mov_to_cr(4, reg, CR4_PGE), TO_L1);
    }
}

static void test_narrow_registers(void **state)
{
    (void)state;
    v.CR0_GUEST_HOST_MASK = UINT64_MAX;
    v.CR0_READ_SHADOW = CR0_PE;
    assert_int_equal(mov_to_cr(0, RBX, BIT(40) | CR0_PE), TO_L1);
    in.narrow = true;
    assert_int_equal(mov_to_cr(0, RBX, BIT(40) | CR0_PE), TO_L0);
    v.PROC_CONTROLS = PROC_CR3_LOAD;
    v.CR3_TARGET_COUNT = 1;
    v.CR3_TARGET_VALUE0 = 0x5000;
    assert_int_equal(mov_to_cr(3, RBX, BIT(50) | 0x5000), TO_L0);
}

static void test_mov_to_cr3(void **state)
{
    (void)state;
    v.CR3_TARGET_VALUE0 = 0x1000;
    v.CR3_TARGET_VALUE1 = 0x2000;
    v.CR3_TARGET_VALUE2 = 0x3000;
    v.CR3_TARGET_VALUE3 = 0x4000;
    assert_int_equal(mov_to_cr(3, RAX, 0x9000), TO_L0); /* CR3-load exiting is 0 */
    v.PROC_CONTROLS = PROC_CR3_LOAD;
    for (unsigned count = 0; count <= 4; count++) {
        v.CR3_TARGET_COUNT = count;
        for (unsigned target = 1; target <= 5; target++)
            assert_int_equal(mov_to_cr(3, RAX, target * 0x1000), target <= count ? TO_L0 : TO_L1);
    }
    v.CR3_TARGET_COUNT = UINT32_MAX; /* never entered with, and harmless */
    assert_int_equal(mov_to_cr(3, RAX, 0x5000), TO_L1);
}

static enum decision cr_access(unsigned number, unsigned type)
{
    the_exit.qualification = PUT(number, CR_QUAL_NUMBER) | PUT(type, CR_QUAL_TYPE);
    return decide(EXIT_CR_ACCESS);
}

static void test_cr3_store_and_cr8(void **state)
{
    static const struct {
        unsigned number, type;
        uint32_t bit;
    } rows[] = {
        {3, CR_QUAL_TYPE_MOV_FROM, PROC_CR3_STORE},
        {8, CR_QUAL_TYPE_MOV_TO, PROC_CR8_LOAD},
        {8, CR_QUAL_TYPE_MOV_FROM, PROC_CR8_STORE},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        v.PROC_CONTROLS = rows[i].bit;
        assert_int_equal(cr_access(rows[i].number, rows[i].type), TO_L1);
        v.PROC_CONTROLS = ~rows[i].bit;
        assert_int_equal(cr_access(rows[i].number, rows[i].type), TO_L0);
    }
}

static void test_clts(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 4; bits++) {
        v.CR0_GUEST_HOST_MASK = bits & 1 ? CR0_TS : ~CR0_TS;
        v.CR0_READ_SHADOW = bits & 2 ? CR0_TS : ~CR0_TS;
        assert_int_equal(cr_access(0, CR_QUAL_TYPE_CLTS), bits == 3 ? TO_L1 : TO_L0);
    }
}

/* All of mask, shadow and source in the four bits that LMSW can write. */
static void test_lmsw(void **state)
{
    (void)state;
    for (unsigned mask = 0; mask < 16; mask++) {
        for (unsigned shadow = 0; shadow < 16; shadow++) {
            for (unsigned source = 0; source < 16; source++) {
                bool want = false;

                for (unsigned bit = 1; bit < 4; bit++)
                    want |= mask >> bit & 1 && (source >> bit & 1) != (shadow >> bit & 1);
                want |= mask & 1 && source & 1 && !(shadow & 1);
                v.CR0_GUEST_HOST_MASK = mask | ~15ull;
                v.CR0_READ_SHADOW = shadow;
                the_exit.qualification =
                    PUT(CR_QUAL_TYPE_LMSW, CR_QUAL_TYPE) | PUT(source | 0xfff0, CR_QUAL_LMSW_SOURCE);
                assert_int_equal(decide(EXIT_CR_ACCESS), want ? TO_L1 : TO_L0);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_always_l1),
        TEST(test_unknown_reasons_are_l1s),
        TEST(test_every_number_is_decided),
        TEST(test_entry_failures_are_l1s),
        TEST(test_each_pin_control),
        TEST(test_each_primary_control),
        TEST(test_each_secondary_control),
        TEST(test_nmi),
        TEST(test_exception_bitmap),
        TEST(test_page_fault_mask_and_match),
        TEST(test_page_fault_all_and_none),
        TEST(test_mov_to_cr0_and_cr4),
        TEST(test_mov_to_cr_reads_the_right_register),
        TEST(test_narrow_registers),
        TEST(test_mov_to_cr3),
        TEST(test_cr3_store_and_cr8),
        TEST(test_clts),
        TEST(test_lmsw),
    };
    return cmocka_run_group_tests_name("decide", tests, NULL, NULL);
}
