/* sources: nested/decide.c vmx/msr_bitmap.c */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/x86.h"
#include "nested/decide.h"
#include "vmx/msr_bitmap.h"

/* One exit of L2 under a vmcs12 that asks for nothing. Each test sets what it is about. */
static struct vmcs12 v;
static struct vmexit the_exit;
static uint64_t regs[GPR_COUNT];
static struct decide_input in;
static uint8_t page_a[PAGE_SIZE], page_b[PAGE_SIZE];

static int fresh(void **state)
{
    (void)state;
    memset(&v, 0, sizeof v);
    memset(&the_exit, 0, sizeof the_exit);
    memset(regs, 0, sizeof regs);
    memset(page_a, 0, sizeof page_a);
    memset(page_b, 0, sizeof page_b);
    in = (struct decide_input){.exit = &the_exit, .v = &v, .regs = regs};
    return 0;
}

static enum decision decide(uint32_t reason)
{
    the_exit.reason = reason;
    return decide_exit(&in);
}

static void set_proc2(uint32_t bits)
{
    v.PROC_CONTROLS |= PROC_SECONDARY;
    v.PROC2_CONTROLS = bits;
}

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
    static const uint32_t unknown[] = {35, 38, 42, EXIT_REASON_COUNT, 74, 0xffff, UINT32_MAX};

    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
        assert_int_equal(decide(unknown[i]), TO_L1);
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
#define TEST(name) cmocka_unit_test_setup(name, fresh)
    const struct CMUnitTest tests[] = {
        TEST(test_always_l1),
        TEST(test_unknown_reasons_are_l1s),
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
        TEST(test_io_unconditional),
        TEST(test_io_each_port_alone),
        TEST(test_io_wraps),
        TEST(test_io_across_the_two_bitmaps),
        TEST(test_io_bitmap_not_ram),
        TEST(test_io_random_against_reference),
        TEST(test_msr_every_bit),
        TEST(test_msr_without_bitmap_is_l1s),
        TEST(test_msr_out_of_range_is_l1s),
        TEST(test_vmread_and_vmwrite),
        TEST(test_vmread_of_large_numbers),
        TEST(test_pause),
        TEST(test_invpcid),
        TEST(test_xsaves),
        TEST(test_random_never_crashes),
    };
    return cmocka_run_group_tests_name("decide", tests, NULL, NULL);
}
