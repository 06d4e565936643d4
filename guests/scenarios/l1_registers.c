/* L1's control registers and MSRs: what may be set, what reads back, what is #GP, in and out of VMX operation. */
#include "guests/lib/counters.h"
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/scenarios/scenario.h"

#define CR0_LMSW (CR0_PE | CR0_MP | CR0_EM | CR0_TS)
#define CR0_IGNORED (BITS(15, 6) | BIT(17) | BITS(28, 19)) /* reserved, and not checked */
#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)
#define XSAVE_LEGACY_SIZE 576
#define OTHER_APIC_BASE 0xfe000000ull
#define MTRR_TYPE_RESERVED 2
#define MTRR_MASK_VALID BIT(11)

/* Fixed bits: what VMX operation needs may not be cleared in it. SDM 3C 24.8 "Restrictions on VMX Operation" */
static void registers_fixed_bits(void)
{
    uint64_t cr0, cr4;

    vmx_start();
    cr0 = cpu_read_cr0();
    cr4 = cpu_read_cr4();
    CHECK_FAULT(cpu_write_cr0(cr0 & ~CR0_NE), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0(cr0 & ~CR0_PG), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0(cr0 & ~(CR0_PG | CR0_PE)), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr4(cr4 & ~CR4_VMXE), VECTOR_GP);
    CHECK_EQ(cpu_read_cr0(), cr0);
    CHECK_EQ(cpu_read_cr4(), cr4);
    cpu_write_cr0(cr0 ^ CR0_WP);
    CHECK_EQ(cpu_read_cr0(), cr0 ^ CR0_WP);
    cpu_write_cr0(cr0 ^ CR0_AM);
    CHECK_EQ(cpu_read_cr0(), cr0 ^ CR0_AM);
    cpu_write_cr0(cr0);
    CHECK_EQ(vmx_vmxoff(), 0);
    cpu_write_cr0(cr0 & ~CR0_NE);
    CHECK_EQ(cpu_read_cr0(), cr0 & ~CR0_NE);
    cpu_write_cr0(cr0);
    cpu_write_cr4(cr4 & ~CR4_VMXE);
    CHECK_EQ(cpu_read_cr4(), cr4 & ~CR4_VMXE);
    CHECK_FAULT(asm volatile("vmxoff"), VECTOR_UD);
}

static void lmsw(uint16_t value)
{
    asm volatile("lmsw %0" : : "r"(value));
}

static uint64_t smsw(void)
{
    uint64_t value;
    asm volatile("smsw %0" : "=r"(value));
    return value;
}

/* LMSW reaches four bits and cannot clear PE; SMSW reads as MOV does. */
static void check_lmsw(void)
{
    static const uint16_t operand = 0xfff0 | (uint16_t)(CR0_PE | CR0_TS);
    uint64_t cr0 = cpu_read_cr0();

    lmsw((uint16_t)(CR0_PE | CR0_MP | CR0_TS));
    CHECK_EQ(cpu_read_cr0(), (cr0 & ~CR0_LMSW) | CR0_PE | CR0_MP | CR0_TS);
    CHECK_EQ(smsw(), cpu_read_cr0());
    lmsw(0);
    CHECK_EQ(cpu_read_cr0(), (cr0 & ~CR0_LMSW) | CR0_PE);
    asm volatile("lmsw %0" : : "m"(operand));
    CHECK_EQ(cpu_read_cr0(), (cr0 & ~CR0_LMSW) | CR0_PE | CR0_TS);
    asm volatile("clts");
    CHECK_EQ(cpu_read_cr0(), (cr0 & ~CR0_LMSW) | CR0_PE);
    cpu_write_cr0(cr0);
}

static void registers_lmsw(void)
{
    check_lmsw();
    vmx_start();
    check_lmsw();
}

/* Reserved bits: those below 32 are ignored, those above are #GP; so are the wrong pairs. */
static void registers_cr0(void)
{
    uint64_t cr0 = cpu_read_cr0();

    for (unsigned bit = 32; bit < 64; bit++)
        CHECK_FAULT(cpu_write_cr0(cr0 | BIT(bit)), VECTOR_GP);
    cpu_write_cr0(cr0 | CR0_IGNORED);
    CHECK_EQ(cpu_read_cr0(), cr0);
    cpu_write_cr0((cr0 | CR0_IGNORED) & ~(CR0_NE | CR0_ET)); /* with a bit that a hypervisor looks at */
    CHECK_EQ(cpu_read_cr0(), cr0 & ~CR0_NE);
    cpu_write_cr0(cr0);
    CHECK_FAULT(cpu_write_cr0(cr0 & ~CR0_PE), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0((cr0 & ~CR0_NE) | CR0_NW), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr0(cr0 & ~CR0_PG), VECTOR_GP); /* in 64-bit code */
    CHECK_FAULT(cpu_write_cr0(cr0 & ~(CR0_PG | CR0_NE)), VECTOR_GP);
    CHECK_EQ(cpu_read_cr0(), cr0);
}

/* Each bit of CR4: those that the CPU has (as IA32_VMX_CR4_FIXED1 says) can be set and cleared, the others are #GP. */
static void registers_cr4(void)
{
    const uint64_t careful = CR4_PAE | CR4_LA57 | CR4_SMEP | CR4_SMAP | CR4_CET | CR4_LASS;
    uint64_t cr4 = cpu_read_cr4(), allowed = cpu_rdmsr(IA32_VMX_CR4_FIXED1);

    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(allowed & BIT(bit))) {
            CHECK_FAULT(cpu_write_cr4(cr4 | BIT(bit)), VECTOR_GP);
            CHECK_FAULT(cpu_write_cr4((cr4 | BIT(bit)) ^ CR4_VMXE), VECTOR_GP);
        } else if (!(careful & BIT(bit))) {
            cpu_write_cr4(cr4 ^ BIT(bit));
            CHECK_EQ(cpu_read_cr4(), cr4 ^ BIT(bit));
            cpu_write_cr4(cr4);
        }
    }
    CHECK_FAULT(cpu_write_cr4(cr4 & ~CR4_PAE), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr4((cr4 & ~CR4_PAE) ^ CR4_VMXE), VECTOR_GP);
    CHECK_EQ(cpu_read_cr4(), cr4);
}

/* PCIDE wants the low bits of CR3 clear when it is set, also when the write is a hypervisor's to make. */
static void registers_pcid(void)
{
    uint64_t cr3 = cpu_read_cr3(), cr4 = cpu_read_cr4() & ~CR4_VMXE;

    cpu_write_cr4(cr4);
    cpu_write_cr3(cr3 | BIT(4)); /* PCD */
    CHECK_FAULT(cpu_write_cr4(cr4 | CR4_PCIDE), VECTOR_GP);
    CHECK_FAULT(cpu_write_cr4(cr4 | CR4_PCIDE | CR4_VMXE), VECTOR_GP);
    cpu_write_cr3(cr3);
    cpu_write_cr4(cr4 | CR4_PCIDE | CR4_VMXE);
    CHECK_EQ(cpu_read_cr4(), cr4 | CR4_PCIDE | CR4_VMXE);
    cpu_write_cr3(cr3 | 5);
    cpu_write_cr3(cr3 | BIT(63));
    CHECK_EQ(cpu_read_cr3(), cr3);
    cpu_write_cr4(cr4);
    CHECK_EQ(cpu_read_cr4(), cr4);
}

static const char *without_pcid(void)
{
    return cpu_cpuid(1, 0).ecx & BIT(17) ? NULL : "no PCID";
}

static void registers_cr8(void)
{
    for (uint64_t value = 0; value < 16; value++) {
        cpu_write_cr8(value);
        CHECK_EQ(cpu_read_cr8(), value);
        CHECK_EQ(irq_lapic_read(LAPIC_TPR), value << 4);
    }
    CHECK_FAULT(cpu_write_cr8(16), VECTOR_GP);
    irq_lapic_write(LAPIC_TPR, 0x20);
    CHECK_EQ(cpu_read_cr8(), 2);
    cpu_write_cr8(0);
}

static void write_xcr0(uint64_t value)
{
    asm volatile("xsetbv" : : "c"(0), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void user_xsetbv(void)
{
    write_xcr0(XCR0_X87);
}

static void user_mov_cr0(void)
{
    cpu_write_cr0(0x80010033);
}

static void user_mov_cr4(void)
{
    cpu_write_cr4(0x2620);
}

static void user_lmsw(void)
{
    lmsw((uint16_t)CR0_PE);
}

static void user_clts(void)
{
    asm volatile("clts");
}

static void user_invd(void)
{
    asm volatile("invd");
}

static void user_wrmsr(void)
{
    cpu_wrmsr(IA32_APIC_BASE, 0);
}

static void user_out(void)
{
    cpu_outb(0xcf9, 0);
}

/* Instructions that exit are #GP at CPL 3 like on a CPU where they don't. */
static void registers_privilege(void)
{
    static void (*const code[])(void) = {user_mov_cr0, user_mov_cr4, user_lmsw, user_clts,
                                         user_invd,    user_wrmsr,   user_out};
    uint64_t cr0 = cpu_read_cr0(), cr4 = cpu_read_cr4();

    for (unsigned i = 0; i < ARRAY_SIZE(code); i++) {
        CHECK_EQ(fault_of_user(code[i]), VECTOR_GP);
        CHECK_EQ(fault.error, 0);
    }
    CHECK_EQ(cpu_read_cr0(), cr0);
    CHECK_EQ(cpu_read_cr4(), cr4);
}

/* INVD right behind WBINVD, so that nothing is lost on a CPU that means it. */
static void registers_invd(void)
{
    volatile uint64_t value = 0x1234;

    asm volatile("wbinvd; invd" : : : "memory");
    CHECK_EQ(value, 0x1234);
}

/* Leaf 0xd gives the size of what XCR0 enables. */
static void registers_xcr0(void)
{
    uint64_t cr4 = cpu_read_cr4();
    struct cpuid all = cpu_cpuid(0xd, 0);

    cpu_write_cr4(cr4 | CR4_OSXSAVE);
    CHECK_EQ(all.eax & 7, XCR0_X87 | XCR0_SSE | XCR0_AVX);
    write_xcr0(XCR0_X87 | XCR0_SSE);
    CHECK_EQ(cpu_cpuid(0xd, 0).ebx, XSAVE_LEGACY_SIZE);
    write_xcr0(XCR0_X87 | XCR0_SSE | XCR0_AVX);
    CHECK_EQ(cpu_cpuid(0xd, 0).ebx, XSAVE_LEGACY_SIZE + cpu_cpuid(0xd, 2).eax);
    CHECK_EQ(cpu_cpuid(0xd, 0).ecx, all.ecx);
    for (unsigned bit = 3; bit < 63; bit++)
        if (!((bit < 32 ? all.eax >> bit : all.edx >> (bit - 32)) & 1))
            CHECK_FAULT(write_xcr0(XCR0_X87 | BIT(bit)), VECTOR_GP);
    CHECK_EQ(fault_of_user(user_xsetbv), VECTOR_GP);
    write_xcr0(XCR0_X87);
    cpu_write_cr4(cr4);
}

static const char *without_avx(void)
{
    return cpu_cpuid(1, 0).ecx & BIT(28) ? NULL : "no AVX";
}

/* The outcome of an access to an MSR that may not exist: the same on the bare CPU and on Nestor, whatever that is. */
static void registers_unknown_msrs(void)
{
    static const uint32_t msrs[] = {0x40000000, 0xc0002000, 0xffffffff, 0x2000, 0xbfffffff, 0x1fff, 0xc0001fff, 0x4b0};

    for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++) {
        uint8_t read = FAULT_OF((void)cpu_rdmsr(msrs[i]));
        uint8_t write = FAULT_OF(cpu_wrmsr(msrs[i], 0));
        print("# MSR %x: read %x, write %x\n", msrs[i], read, write);
        CHECK(read == NO_FAULT || (read == VECTOR_GP && fault.error == 0));
        CHECK(write == NO_FAULT || write == VECTOR_GP);
    }
}

static void user_rdmsr(void)
{
    (void)cpu_rdmsr(IA32_VMX_BASIC);
}

static void registers_feature_control(void)
{
    const uint64_t wanted = FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
    uint64_t value = cpu_rdmsr(IA32_FEATURE_CONTROL);

    CHECK_EQ(value & wanted, wanted);
    CHECK_FAULT(cpu_wrmsr(IA32_FEATURE_CONTROL, value), VECTOR_GP);
    if (counters_present()) { /* bare: Bochs 3.1 ends when a read-only MSR is written */
        CHECK_FAULT(cpu_wrmsr(IA32_VMX_BASIC, 0), VECTOR_GP);
        CHECK_FAULT(cpu_wrmsr(IA32_VMX_VMCS_ENUM, cpu_rdmsr(IA32_VMX_VMCS_ENUM)), VECTOR_GP);
    }
    CHECK_EQ(fault_of_user(user_rdmsr), VECTOR_GP);
}

/* EFER: LME only while paging is off, LMA never, reserved bits not at all. */
static void registers_efer(void)
{
    uint64_t efer = cpu_rdmsr(IA32_EFER);

    cpu_wrmsr(IA32_EFER, efer ^ EFER_SCE);
    CHECK_EQ(cpu_rdmsr(IA32_EFER), efer ^ EFER_SCE);
    cpu_wrmsr(IA32_EFER, efer ^ EFER_NXE);
    CHECK_EQ(cpu_rdmsr(IA32_EFER), efer ^ EFER_NXE);
    cpu_wrmsr(IA32_EFER, efer);
    CHECK_FAULT(cpu_wrmsr(IA32_EFER, efer & ~EFER_LME), VECTOR_GP);
    for (unsigned bit = 1; bit < 64; bit++)
        if (bit != 8 && bit != 10 && bit != 11 && bit != 13 && bit != 14 && bit != 15)
            CHECK_FAULT(cpu_wrmsr(IA32_EFER, efer | BIT(bit)), VECTOR_GP);
    CHECK_EQ(cpu_rdmsr(IA32_EFER), efer);
}

static void registers_pat(void)
{
    uint64_t pat = cpu_rdmsr(IA32_PAT);

    for (unsigned i = 0; i < 8; i++)
        for (uint64_t type = 0; type < 16; type++) {
            uint64_t value = (pat & ~(0xffull << 8 * i)) | type << 8 * i;
            bool valid = type <= 7 && type != 2 && type != 3;
            CHECK_EQ(FAULT_OF(cpu_wrmsr(IA32_PAT, value)), valid ? NO_FAULT : VECTOR_GP);
            CHECK(!valid || cpu_rdmsr(IA32_PAT) == value);
        }
    cpu_wrmsr(IA32_PAT, pat);
}

/* The APIC can move, and is found at its new place. */
static void registers_apic_base(void)
{
    uint64_t base = cpu_rdmsr(IA32_APIC_BASE);
    uint32_t version = irq_lapic_read(0x30);

    CHECK_EQ(base & APIC_BASE_EN, APIC_BASE_EN);
    cpu_wrmsr(IA32_APIC_BASE, base);
    CHECK_EQ(cpu_rdmsr(IA32_APIC_BASE), base);
    cpu_wrmsr(IA32_APIC_BASE, (base & ~BITS(51, 12)) | OTHER_APIC_BASE);
    CHECK_EQ(*(volatile uint32_t *)(OTHER_APIC_BASE + 0x30), version);
    cpu_wrmsr(IA32_APIC_BASE, base);
    CHECK_EQ(irq_lapic_read(0x30), version);
    CHECK_FAULT(cpu_wrmsr(IA32_APIC_BASE, base | BIT(0)), VECTOR_GP);
    CHECK_FAULT(cpu_wrmsr(IA32_APIC_BASE, base | BIT(52)), VECTOR_GP);
}

static void registers_mtrr(void)
{
    uint32_t last = IA32_MTRR_PHYSBASE0 + 2 * (unsigned)((cpu_rdmsr(IA32_MTRRCAP) & 0xff) - 1);
    uint64_t base = cpu_rdmsr(last), mask = cpu_rdmsr(last + 1), fixed = cpu_rdmsr(IA32_MTRR_FIX64K_00000);
    uint64_t type = cpu_rdmsr(IA32_MTRR_DEF_TYPE);

    cpu_wrmsr(last, 0xd0000001);
    cpu_wrmsr(last + 1, 0xff0000000 | MTRR_MASK_VALID);
    CHECK_EQ(cpu_rdmsr(last), 0xd0000001);
    CHECK_EQ(cpu_rdmsr(last + 1), 0xff0000000 | MTRR_MASK_VALID);
    CHECK_FAULT(cpu_wrmsr(last, 0xd0000000 | MTRR_TYPE_RESERVED), VECTOR_GP);
    CHECK_FAULT(cpu_wrmsr(last + 1, BIT(63)), VECTOR_GP);
    cpu_wrmsr(last + 1, mask);
    cpu_wrmsr(last, base);
    cpu_wrmsr(IA32_MTRR_FIX64K_00000, fixed);
    CHECK_EQ(cpu_rdmsr(IA32_MTRR_FIX64K_00000), fixed);
    CHECK_FAULT(cpu_wrmsr(IA32_MTRR_FIX64K_00000, 0x0303030303030303), VECTOR_GP);
    cpu_wrmsr(IA32_MTRR_DEF_TYPE, type);
    CHECK_FAULT(cpu_wrmsr(IA32_MTRR_DEF_TYPE, type | MTRR_TYPE_RESERVED | 1), VECTOR_GP);
}

/* SYSCALL by the MSRs that L1 wrote. */

static void user_syscall(void)
{
    asm volatile("syscall" : : : "rcx", "r11");
}

static void registers_syscall(void)
{
    uint64_t efer = cpu_rdmsr(IA32_EFER);

    CHECK_EQ(fault_of_user(user_syscall), VECTOR_UD); /* EFER.SCE is off */
    cpu_wrmsr(IA32_EFER, efer | EFER_SCE);
    cpu_wrmsr(IA32_STAR, 0x0008000800000000);
    cpu_wrmsr(IA32_LSTAR, 0x123000); /* UD2 there, so that the fault tells that it arrived */
    cpu_wrmsr(IA32_FMASK, BITS(9, 8));
    *(volatile uint16_t *)0x123000 = 0x0b0f;
    CHECK_EQ(fault_of_user(user_syscall), VECTOR_UD);
    CHECK_EQ(fault.rip, 0x123000);
    cpu_wrmsr(IA32_EFER, efer);
}

static void registers_tsc(void)
{
    uint64_t before = cpu_rdtsc(), now;

    cpu_wrmsr(IA32_TIME_STAMP_COUNTER, 0x1000000000000);
    now = cpu_rdtsc();
    CHECK(now >= 0x1000000000000);
    CHECK(now < 0x1000000000000 + 1000000);
    (void)cpu_cpuid(0, 0);
    CHECK(cpu_rdtsc() > now);
    cpu_wrmsr(IA32_TIME_STAMP_COUNTER, before);
}

#define CPUID1_EDX_APIC BIT(9)

/* The page of an APIC that is off is nobody's, in every width. SDM 3A 11.4.3 "Enabling or Disabling the Local APIC" */
static void store_to_apic(void)
{
    *(volatile uint8_t *)LAPIC_BASE = 0;
    *(volatile uint8_t *)(LAPIC_BASE + LAPIC_TPR) = 0x20;
    *(volatile uint16_t *)(LAPIC_BASE + LAPIC_TPR) = 0x20;
    *(volatile uint32_t *)(LAPIC_BASE + LAPIC_TPR) = 0x20;
    *(volatile uint64_t *)(LAPIC_BASE + LAPIC_TPR + 4) = 0x20;
}

/* An APIC that L1 disabled is none, also where whoever runs L1 keeps it on; and it comes back. */
static void registers_apic_off(void)
{
    uint64_t base = cpu_rdmsr(IA32_APIC_BASE);
    uint32_t tpr = *(volatile uint32_t *)(LAPIC_BASE + LAPIC_TPR);

    CHECK_EQ(cpu_cpuid(1, 0).edx & CPUID1_EDX_APIC, CPUID1_EDX_APIC);
    cpu_wrmsr(IA32_APIC_BASE, base & ~APIC_BASE_EN);
    CHECK_EQ(cpu_rdmsr(IA32_APIC_BASE), base & ~APIC_BASE_EN);
    CHECK_EQ(cpu_cpuid(1, 0).edx & CPUID1_EDX_APIC, 0);
    store_to_apic();
    CHECK_EQ(*(volatile uint8_t *)LAPIC_BASE, 0xff);
    CHECK_EQ(*(volatile uint64_t *)(LAPIC_BASE + LAPIC_TPR), ~0ull);
    cpu_wrmsr(IA32_APIC_BASE, base);
    CHECK_EQ(*(volatile uint32_t *)(LAPIC_BASE + LAPIC_TPR), tpr);
    CHECK_EQ(cpu_cpuid(1, 0).edx & CPUID1_EDX_APIC, CPUID1_EDX_APIC);
    irq_init();
}

/* The same without loads, for machines where another processor's APIC, at the same address, is on. */
static void registers_apic_off_stores(void)
{
    uint64_t base = cpu_rdmsr(IA32_APIC_BASE);
    cpu_wrmsr(IA32_APIC_BASE, base & ~APIC_BASE_EN);
    store_to_apic();
    cpu_wrmsr(IA32_APIC_BASE, base);
    CHECK_EQ(*(volatile uint32_t *)(LAPIC_BASE + LAPIC_TPR), 0);
    irq_init();
}

static volatile uint64_t l2_cr4;

static void l2_read_cr4(void)
{
    (void)cpu_cpuid(0, 0);
    l2_cr4 = cpu_read_cr4();
}

/* CR4.MCE is each level's own, whatever it is below. */
static void registers_mce(void)
{
    uint64_t before = cpu_read_cr4();
    struct vm vm;

    vm_start(&vm, l2_read_cr4, 0);
    for (unsigned i = 0; i < 4; i++) {
        uint64_t l1 = i & 1 ? CR4_MCE : 0, l2 = i & 2 ? CR4_MCE : 0;
        cpu_write_cr4((cpu_read_cr4() & ~CR4_MCE) | l1);
        CHECK_EQ(cpu_read_cr4() & CR4_MCE, l1);
        vm_set_code(&vm, l2_read_cr4);
        vmx_set(HOST_CR4, cpu_read_cr4());
        vmx_set(GUEST_CR4, (cpu_read_cr4() & ~CR4_MCE) | l2);
        EXPECT_EXIT_SKIP(&vm, EXIT_CPUID);
        CHECK_EQ(cpu_read_cr4() & CR4_MCE, l1);
        EXPECT_DONE(&vm);
        CHECK_EQ(l2_cr4 & CR4_MCE, l2);
        CHECK_EQ(cpu_read_cr4() & CR4_MCE, l1);
    }
    vmx_stop();
    cpu_write_cr4(before);
}

const struct scenario l1_register_scenarios[] = {
    {"l1-registers-apic-off", registers_apic_off, without_counters},
    {"l1-registers-apic-off-stores", registers_apic_off_stores, without_counters},
    {"l1-registers-mce", registers_mce, NULL},
    {"l1-registers-fixed-bits", registers_fixed_bits, NULL},
    {"l1-registers-lmsw", registers_lmsw, NULL},
    {"l1-registers-cr0", registers_cr0, NULL},
    {"l1-registers-cr4", registers_cr4, NULL},
    {"l1-registers-pcid", registers_pcid, without_pcid},
    {"l1-registers-cr8", registers_cr8, NULL},
    {"l1-registers-privilege", registers_privilege, NULL},
    {"l1-registers-invd", registers_invd, NULL},
    {"l1-registers-xcr0", registers_xcr0, without_avx},
    {"l1-registers-unknown-msrs", registers_unknown_msrs, NULL},
    {"l1-registers-feature-control", registers_feature_control, NULL},
    {"l1-registers-efer", registers_efer, NULL},
    {"l1-registers-pat", registers_pat, NULL},
    {"l1-registers-apic-base", registers_apic_base, NULL},
    {"l1-registers-mtrr", registers_mtrr, NULL},
    {"l1-registers-syscall", registers_syscall, NULL},
    {"l1-registers-tsc", registers_tsc, NULL},
    {NULL, NULL, NULL},
};
