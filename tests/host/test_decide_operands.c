/* sources: nested/rules/decide.c vmx/msr_bitmap.c */
#include "tests/host/decide_world.h"

#include "kernel/x86.h"
#include "vmx/msr_bitmap.h"

static enum decision io(unsigned port, unsigned size)
{
    the_exit.qualification = PUT(port, IO_QUAL_PORT) | PUT(size - 1, IO_QUAL_SIZE) | (port & 1 ? IO_QUAL_IN : 0);
    return decide(EXIT_IO);
}

static void use_io_bitmaps(void)
{
    v.PROC_CONTROLS = PROC_USE_IO_BITMAPS;
    in.io_bitmap_a = page_a;
    in.io_bitmap_b = page_b;
}

static void test_io_unconditional(void **state)
{
    (void)state;
    assert_int_equal(io(0x80, 1), TO_L0);
    v.PROC_CONTROLS = PROC_UNCOND_IO;
    assert_int_equal(io(0x80, 1), TO_L1);
    use_io_bitmaps();
    v.PROC_CONTROLS |= PROC_UNCOND_IO; /* ignored beside bitmaps */
    assert_int_equal(io(0x80, 1), TO_L0);
}

static void test_io_each_port_alone(void **state)
{
    (void)state;
    use_io_bitmaps();
    for (unsigned port = 0; port < 0x10000; port++) {
        uint8_t *page = port < 0x8000 ? page_a : page_b;

        assert_int_equal(io(port, 1), TO_L0);
        page[(port & 0x7fff) / 8] = (uint8_t)(1u << port % 8);
        assert_int_equal(io(port, 1), TO_L1);
        page[(port & 0x7fff) / 8] = 0;
    }
}

static void test_io_wraps(void **state)
{
    (void)state;
    use_io_bitmaps();
    assert_int_equal(io(0xffff, 1), TO_L0);
    assert_int_equal(io(0xffff, 2), TO_L1);
    assert_int_equal(io(0xfffe, 2), TO_L0);
    assert_int_equal(io(0xfffd, 4), TO_L1);
    assert_int_equal(io(0xfffc, 4), TO_L0);
}

static void test_io_across_the_two_bitmaps(void **state)
{
    (void)state;
    use_io_bitmaps();
    assert_int_equal(io(0x7ffe, 4), TO_L0);
    page_b[0] = 1;
    assert_int_equal(io(0x7fff, 2), TO_L1);
    assert_int_equal(io(0x7ffe, 2), TO_L0);
    page_b[0] = 0;
    page_a[0xfff] = 0x80;
    assert_int_equal(io(0x7fff, 2), TO_L1);
    assert_int_equal(io(0x8000, 2), TO_L0);
}

static void test_io_bitmap_not_ram(void **state)
{
    (void)state;
    use_io_bitmaps();
    in.io_bitmap_a = NULL;
    assert_int_equal(io(0x10, 1), TO_L1);
    assert_int_equal(io(0x8010, 1), TO_L0);
    in.io_bitmap_a = page_a;
    in.io_bitmap_b = NULL;
    assert_int_equal(io(0x10, 1), TO_L0);
    assert_int_equal(io(0x8010, 1), TO_L1);
}

/* The reference: byte by byte on one array of 65536 truth values. */
static void test_io_random_against_reference(void **state)
{
    static bool trapped[0x10000];

    (void)state;
    use_io_bitmaps();
    for (unsigned round = 0; round < 16; round++) {
        for (unsigned port = 0; port < 0x10000; port++)
            trapped[port] = host_random() % 16 == 0;
        memset(page_a, 0, sizeof page_a);
        memset(page_b, 0, sizeof page_b);
        for (unsigned port = 0; port < 0x10000; port++)
            if (trapped[port])
                (port < 0x8000 ? page_a : page_b)[port % 0x8000 / 8] |= (uint8_t)(1u << port % 8);
        for (unsigned i = 0; i < 20000; i++) {
            unsigned port = i < 64 ? 0x10000 - 64 + i : host_random() & 0xffff;
            unsigned size = 1u << host_random() % 3;
            bool want = false;

            for (unsigned byte = 0; byte < size; byte++)
                want |= port + byte > 0xffff || trapped[port + byte];
            assert_int_equal(io(port, size), want ? TO_L1 : TO_L0);
        }
    }
}

static void test_msr_every_bit(void **state)
{
    (void)state;
    v.PROC_CONTROLS = PROC_USE_MSR_BITMAPS;
    in.msr_bitmap = page_a;
    for (unsigned bit = 0; bit < 8 * PAGE_SIZE; bit++) {
        uint32_t reason = bit < 4 * PAGE_SIZE ? EXIT_RDMSR : EXIT_WRMSR;
        uint32_t other = bit < 4 * PAGE_SIZE ? EXIT_WRMSR : EXIT_RDMSR;

        regs[RCX] = (bit & 0x2000 ? 0xc0000000 : 0) + bit % 0x2000;
        assert_int_equal(decide(reason), TO_L0);
        page_a[bit / 8] = (uint8_t)(1u << bit % 8);
        assert_int_equal(decide(reason), TO_L1);
        assert_int_equal(decide(other), TO_L0);
        regs[RCX] |= 0x5a5a5a5a00000000ull; /* RDMSR looks at ECX */
        assert_int_equal(decide(reason), TO_L1);
        page_a[bit / 8] = 0;
    }
}

/* The newer forms are judged by the MSR that the exit names, not by ECX; WRMSRNS exits as WRMSR. */
static void test_msr_every_bit_of_the_newer_forms(void **state)
{
    static const uint32_t reasons[2][2] = {{EXIT_RDMSRLIST, EXIT_RDMSR_IMMEDIATE},
                                           {EXIT_WRMSRLIST, EXIT_WRMSRNS_IMMEDIATE}};

    (void)state;
    v.PROC_CONTROLS = PROC_USE_MSR_BITMAPS;
    in.msr_bitmap = page_a;
    for (unsigned bit = 0; bit < 8 * PAGE_SIZE; bit++) {
        unsigned write = bit >= 4 * PAGE_SIZE;

        the_exit.msr = (bit & 0x2000 ? 0xc0000000 : 0) + bit % 0x2000;
        regs[RCX] = ~(uint64_t)the_exit.msr;
        for (unsigned i = 0; i < 2; i++) {
            page_a[bit / 8] = 0;
            assert_int_equal(decide(reasons[write][i]), TO_L0);
            page_a[bit / 8] = (uint8_t)(1u << bit % 8);
            assert_int_equal(decide(reasons[write][i]), TO_L1);
            assert_int_equal(decide(reasons[!write][i]), TO_L0);
        }
        page_a[bit / 8] = 0;
    }
    the_exit.msr = 0x2000; /* in neither range */
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(decide(reasons[i / 2][i % 2]), TO_L1);
    the_exit.msr = 0x174;
    v.PROC_CONTROLS = 0;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(decide(reasons[i / 2][i % 2]), TO_L1);
}

static void test_msr_without_bitmap_is_l1s(void **state)
{
    (void)state;
    regs[RCX] = 0x174;
    in.msr_bitmap = page_a; /* stale: the control is off */
    assert_int_equal(decide(EXIT_RDMSR), TO_L1);
    v.PROC_CONTROLS = PROC_USE_MSR_BITMAPS;
    assert_int_equal(decide(EXIT_RDMSR), TO_L0);
    in.msr_bitmap = NULL;
    assert_int_equal(decide(EXIT_RDMSR), TO_L1);
    assert_int_equal(decide(EXIT_WRMSR), TO_L1);
}

static void test_msr_out_of_range_is_l1s(void **state)
{
    static const uint32_t outside[] = {0x2000, 0x80000000, 0xbfffffff, 0xc0002000, 0xffffffff};

    (void)state;
    v.PROC_CONTROLS = PROC_USE_MSR_BITMAPS;
    in.msr_bitmap = page_a;
    for (unsigned i = 0; i < ARRAY_SIZE(outside); i++) {
        regs[RCX] = outside[i];
        assert_int_equal(decide(EXIT_RDMSR), TO_L1);
        assert_int_equal(decide(EXIT_WRMSR), TO_L1);
    }
}

static void test_vmread_and_vmwrite(void **state)
{
    (void)state;
    the_exit.instruction_info = (uint32_t)PUT(R9, INSN_INFO_REG2);
    in.vmread_bitmap = page_a;
    in.vmwrite_bitmap = page_b;
    regs[R9] = 0x681e;
    assert_int_equal(decide(EXIT_VMREAD), TO_L1);
    assert_int_equal(decide(EXIT_VMWRITE), TO_L1);
    set_proc2(PROC2_VMCS_SHADOWING);
    assert_int_equal(decide(EXIT_VMREAD), TO_L0);
    page_a[0x681e / 8] = 1u << (0x681e % 8);
    assert_int_equal(decide(EXIT_VMREAD), TO_L1);
    assert_int_equal(decide(EXIT_VMWRITE), TO_L0);
    page_b[0x681e / 8] = 1u << (0x681e % 8);
    assert_int_equal(decide(EXIT_VMWRITE), TO_L1);
    regs[R9] = 0x6820;
    assert_int_equal(decide(EXIT_VMWRITE), TO_L0);
    in.vmwrite_bitmap = NULL;
    assert_int_equal(decide(EXIT_VMWRITE), TO_L1);
}

static void test_vmread_of_large_numbers(void **state)
{
    (void)state;
    the_exit.instruction_info = (uint32_t)PUT(RSP, INSN_INFO_REG2);
    in.vmread_bitmap = page_a;
    set_proc2(PROC2_VMCS_SHADOWING);
    in.rsp = 0x7fff;
    assert_int_equal(decide(EXIT_VMREAD), TO_L0);
    in.rsp = 0x8000;
    assert_int_equal(decide(EXIT_VMREAD), TO_L1);
    in.rsp = BIT(32) | 0x10;
    assert_int_equal(decide(EXIT_VMREAD), TO_L1);
    in.narrow = true;
    assert_int_equal(decide(EXIT_VMREAD), TO_L0);
}

static void test_pause(void **state)
{
    (void)state;
    assert_int_equal(decide(EXIT_PAUSE), TO_L0);
    v.PROC_CONTROLS = PROC_PAUSE;
    assert_int_equal(decide(EXIT_PAUSE), TO_L1);
    v.PROC_CONTROLS = 0;
    set_proc2(PROC2_PAUSE_LOOP);
    assert_int_equal(decide(EXIT_PAUSE), TO_L1);
    set_proc2(~(uint32_t)PROC2_PAUSE_LOOP);
    assert_int_equal(decide(EXIT_PAUSE), TO_L0);
}

static void test_invpcid(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 4; bits++) {
        v.PROC_CONTROLS = bits & 1 ? PROC_INVLPG : 0;
        set_proc2(bits & 2 ? PROC2_INVPCID : 0);
        assert_int_equal(decide(EXIT_INVPCID), bits == 3 ? TO_L1 : TO_L0);
    }
}

static void test_xsaves(void **state)
{
    (void)state;
    regs[RAX] = 0xffffffff00000100ull; /* only EAX counts */
    regs[RDX] = 0xffffffff00000001ull;
    set_proc2(PROC2_XSAVES);
    assert_int_equal(decide(EXIT_XSAVES), TO_L0);
    v.XSS_EXITING_BITMAP = 0x100;
    assert_int_equal(decide(EXIT_XSAVES), TO_L1);
    assert_int_equal(decide(EXIT_XRSTORS), TO_L1);
    v.XSS_EXITING_BITMAP = BIT(32);
    assert_int_equal(decide(EXIT_XRSTORS), TO_L1);
    v.XSS_EXITING_BITMAP = ~(BIT(32) | 0x100);
    assert_int_equal(decide(EXIT_XSAVES), TO_L0);
    v.XSS_EXITING_BITMAP = 0x100;
    set_proc2(0);
    assert_int_equal(decide(EXIT_XSAVES), TO_L0);
}

/* Whatever comes, there is an answer: sanitizers watch. */
static void test_random_never_crashes(void **state)
{
    (void)state;
    in.io_bitmap_a = in.vmread_bitmap = in.msr_bitmap = page_a;
    in.io_bitmap_b = in.vmwrite_bitmap = page_b;
    for (unsigned round = 0; round < 20000; round++) {
        host_random_fill(&v, sizeof v);
        host_random_fill(regs, sizeof regs);
        host_random_fill(page_a, 64);
        the_exit.qualification = host_random();
        the_exit.interruption_info = (uint32_t)host_random();
        the_exit.instruction_info = (uint32_t)host_random();
        in.rsp = host_random();
        in.narrow = round & 1;
        for (uint32_t reason = 0; reason <= EXIT_REASON_COUNT; reason++) {
            enum decision answer = decide(reason);
            assert_true(answer == TO_L0 || answer == TO_L1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_io_unconditional),
        TEST(test_io_each_port_alone),
        TEST(test_io_wraps),
        TEST(test_io_across_the_two_bitmaps),
        TEST(test_io_bitmap_not_ram),
        TEST(test_io_random_against_reference),
        TEST(test_msr_every_bit),
        TEST(test_msr_every_bit_of_the_newer_forms),
        TEST(test_msr_without_bitmap_is_l1s),
        TEST(test_msr_out_of_range_is_l1s),
        TEST(test_vmread_and_vmwrite),
        TEST(test_vmread_of_large_numbers),
        TEST(test_pause),
        TEST(test_invpcid),
        TEST(test_xsaves),
        TEST(test_random_never_crashes),
    };
    return cmocka_run_group_tests_name("decide_operands", tests, NULL, NULL);
}
