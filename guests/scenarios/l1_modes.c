/* L1 in the modes before 64-bit mode: real mode with the BIOS, 16-bit and 32-bit protected mode, all kinds of paging,
 * virtual-8086 and compatibility mode, with instructions that exit in each. */
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/l1_legacy.h"
#include "guests/scenarios/scenario.h"
#include "kernel/msr.h"

/* As in l1_modes.asm. */
#define MODES_BASE 0x8000ull
#define RESULTS 0x9000ull
#define E820_BUFFER 0x9100ull
#define REAL_STACK 0x7000
#define LOW_SIZE 0x2000 /* of low memory in use, from MODES_BASE on */

#define SMAP 0x534d4150
#define WINDOW 0x70000000u
#define EFLAGS_VM BIT(17)
#define EFLAGS_IOPL3 BITS(13, 12)

struct modes_results {
    uint32_t cpuid_max, cpuid_vendor, feature_control;
    uint16_t faults, fault_sp[2], pad;
    uint32_t cr4, e820_eax, e820_ecx;
    uint16_t equipment, pad2[13];
    uint32_t flip;
} PACKED;
_Static_assert(offsetof(struct modes_results, flip) == 60, "l1_modes.asm knows the offsets");

struct e820 {
    uint64_t base, size;
    uint32_t type;
} PACKED;

/* For l1_modes.asm. */
extern uint32_t modes_value[4], modes_place, modes_cr3;
extern uint64_t modes_region;
uint32_t modes_value[4], modes_place, modes_cr3;
uint64_t modes_region;

extern const uint8_t modes_low[], modes_low_end[], modes_low_16bit_fault[], modes_v86[], modes_v86_end[];
extern const uint8_t modes_paging_on_at[], modes_cr4_write_at[];
void modes_to_real(void);
void modes_to_16bit(void);
void modes_paged(void);
void modes_paging_on(void);
void modes_long_tss16(void);
extern const uint8_t modes_long_tss16_at[];
void modes_to_v86(void);
void modes_vmx(void);
void modes_compatibility(void);
void modes_compatibility_vmx(void);
void modes_call_compatibility(uint32_t code, uint16_t selector);

static volatile struct modes_results *const results = (volatile struct modes_results *)RESULTS;
static uint8_t low_saved[LOW_SIZE];

static void low_prepare(const uint8_t *code, const uint8_t *end)
{
    legacy_reset();
    memcpy(low_saved, (const void *)MODES_BASE, LOW_SIZE);
    memset((void *)MODES_BASE, 0, LOW_SIZE);
    memcpy((void *)MODES_BASE, code, (size_t)(end - code));
}

static void low_restore(void)
{
    memcpy((void *)MODES_BASE, low_saved, LOW_SIZE);
}

static void check_no_trap(void)
{
    CHECK_EQ(legacy_trap.vector, LEGACY_NO_TRAP);
}

static void check_identity(void)
{
    CHECK_EQ(results->cpuid_max, cpu_cpuid(0, 0).eax);
    CHECK_EQ(results->cpuid_vendor, cpu_cpuid(0, 0).ebx);
    CHECK_EQ(results->feature_control, cpu_rdmsr(IA32_FEATURE_CONTROL));
}

static void real_mode(uint32_t flip)
{
    const struct e820 *first = (const struct e820 *)E820_BUFFER;

    low_prepare(modes_low, modes_low_end);
    results->flip = flip;
    legacy_run(modes_to_real);
    check_no_trap();
    check_identity();
    CHECK_EQ(results->faults, 2);
    /* IP, CS and FLAGS lie on the stack, and what the handler pushed; no error code. */
    CHECK_EQ(results->fault_sp[0], REAL_STACK - 4 - 6 - 4);
    CHECK_EQ(results->fault_sp[1], REAL_STACK - 4 - 6 - 4);
    CHECK_EQ(results->cr4 & CR4_VMXE, CR4_VMXE);
    CHECK_EQ(results->e820_eax, SMAP);
    CHECK_EQ(results->e820_ecx, 20);
    CHECK_EQ(first->base, 0);
    CHECK_EQ(first->type, 1);
    print("# BIOS: RAM from 0 to %lx, equipment %x\n", first->size, results->equipment);
    low_restore();
}

static void modes_real(void)
{
    real_mode(0);
}

/* PE goes and comes in writes that a hypervisor has to make for L1. */
static void modes_real_by_exit(void)
{
    real_mode((uint32_t)CR0_NE);
}

static void modes_16bit(void)
{
    low_prepare(modes_low, modes_low_end);
    legacy_run(modes_to_16bit);
    check_identity();
    CHECK_EQ(legacy_trap.vector, VECTOR_GP);
    CHECK_EQ(legacy_trap.error, 0);
    CHECK_EQ(legacy_trap.cs, L_CODE16);
    CHECK_EQ(legacy_trap.eip, MODES_BASE + (uint64_t)(modes_low_16bit_fault - modes_low));
    CHECK_EQ(results->fault_sp[1] & 0xffff, (CR0_PE | CR0_NE | CR0_ET) & 0xffff);
    low_restore();
}

static uint32_t *word_alloc(uint32_t value)
{
    uint32_t *word = page_alloc_run(LARGE_2M * 2 / PAGE_SIZE, LARGE_2M * 2);

    *word = value;
    return word;
}

static void run_paged(uint32_t value)
{
    modes_place = WINDOW;
    memset(modes_value, 0, sizeof(modes_value));
    legacy_run(modes_paged);
    check_no_trap();
    CHECK_EQ(modes_value[0], value);
    CHECK_EQ(modes_value[1], legacy_control.cr0);
    CHECK_EQ(modes_value[2] & (EFER_LME | EFER_LMA), 0);
}

static void map_pae(uint64_t *pointers, const uint32_t *word)
{
    uint64_t *directory = (uint64_t *)(pointers[WINDOW >> 30] & PAGING_ADDRESS);

    directory[WINDOW / LARGE_2M % 512] = (uint64_t)word | 0xe7;
}

/* Each kind of paging twice: with CR0 writes that only the CPU looks at, and with such that a hypervisor makes. */
static void modes_32bit_paging(void)
{
    uint32_t *word = word_alloc(0x32326464);

    for (unsigned flip = 0; flip < 2; flip++) {
        legacy_reset();
        legacy_tables_32bit()[WINDOW >> 22] = (uint32_t)(uint64_t)word | 0xe7;
        legacy_control.flip = flip ? (uint32_t)CR0_NE : 0;
        legacy_control.cr0 ^= flip ? (uint32_t)CR0_NE : 0;
        run_paged(*word);
    }
}

static void modes_pae_paging(void)
{
    uint32_t *word = word_alloc(0x9ae9ae00);

    for (unsigned flip = 0; flip < 4; flip++) {
        legacy_reset();
        map_pae(legacy_tables_pae(), word);
        legacy_control.flip = flip & 1 ? (uint32_t)CR0_NE : 0;
        legacy_control.cr0 ^= flip & 2 ? (uint32_t)CR0_NE : 0;
        run_paged(*word);
    }
}

static void modes_no_paging(void)
{
    legacy_reset();
    modes_place = (uint32_t)(uint64_t)word_alloc(0x600d);
    memset(modes_value, 0, sizeof(modes_value));
    legacy_run(modes_paged);
    check_no_trap();
    CHECK_EQ(modes_value[0], 0x600d);
    CHECK_EQ(modes_value[1], CR0_PE | CR0_NE | CR0_ET);
}

/* PDPTEs are read and checked when paging goes on and when CR4 changes how it works. */
static void paging_on(uint64_t *pointers, uint32_t cr0_flip, uint32_t cr4_flip)
{
    legacy_reset();
    legacy_control.cr4 = (uint32_t)CR4_PAE;
    modes_cr3 = (uint32_t)(uint64_t)pointers;
    modes_place = WINDOW;
    modes_value[0] = cr0_flip;
    modes_value[1] = cr4_flip;
    modes_value[2] = 0;
    legacy_run(modes_paging_on);
}

static void modes_pdptes(void)
{
    static const uint32_t cr0_flips[] = {0, CR0_NE}, cr4_flips[] = {CR4_PGE, CR4_PGE | CR4_VMXE};
    uint32_t *word = word_alloc(0x9d9d);
    uint64_t *pointers;

    legacy_reset();
    pointers = legacy_tables_pae();
    map_pae(pointers, word);
    for (unsigned i = 0; i < 2; i++) {
        paging_on(pointers, cr0_flips[i], cr4_flips[i]);
        check_no_trap();
        CHECK_EQ(modes_value[2], *word);
        pointers[3] |= BIT(1); /* reserved */
        paging_on(pointers, cr0_flips[i], cr4_flips[i]);
        CHECK_EQ(legacy_trap.vector, VECTOR_GP);
        CHECK_EQ(legacy_trap.error, 0);
        CHECK_EQ(legacy_trap.eip, (uint64_t)modes_paging_on_at);
        pointers[3] &= ~PTE_P; /* not present: not looked at */
        paging_on(pointers, cr0_flips[i], cr4_flips[i]);
        CHECK_EQ(modes_value[2], *word);
        pointers[3] = (pointers[3] | PTE_P) & ~BIT(1);
    }
}

/* A 16-bit TSS keeps L1 out of IA-32e mode, whoever makes the switch. SDM 2B "MOV—Move to/from Control Registers" */
static void modes_tss16(void)
{
    static const uint32_t flips[] = {0, CR0_NE};
    static struct tss16 tss;

    for (unsigned i = 0; i < 2; i++) {
        legacy_reset();
        legacy_set_descriptor(L_TASK16, (uint32_t)(uint64_t)&tss, sizeof(tss) - 1, 0x81, 0);
        legacy_control.cr3 = (uint32_t)cpu_read_cr3();
        legacy_control.cr4 = (uint32_t)CR4_PAE;
        legacy_control.efer = (uint32_t)EFER_LME;
        modes_value[0] = flips[i];
        legacy_run(modes_long_tss16);
        CHECK_EQ(legacy_trap.vector, VECTOR_GP);
        CHECK_EQ(legacy_trap.error, 0);
        CHECK_EQ(legacy_trap.eip, (uint64_t)modes_long_tss16_at);
    }
}

static void modes_v8086(void)
{
    static const uint32_t flags[] = {EFLAGS_VM | 2, EFLAGS_VM | EFLAGS_IOPL3 | 2};

    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        low_prepare(modes_v86, modes_v86_end);
        legacy_main_tss.esp0 = (uint32_t)(uint64_t)page_alloc() + (uint32_t)PAGE_SIZE;
        legacy_main_tss.ss0 = L_DATA;
        modes_value[0] = flags[i];
        legacy_run(modes_to_v86);
        CHECK_EQ(legacy_trap.vector, VECTOR_GP);
        CHECK_EQ(legacy_trap.error, 0);
        CHECK_EQ(legacy_trap.cs, MODES_BASE >> 4);
        CHECK_EQ(legacy_trap.eip, (uint64_t)(modes_v86_end - modes_v86) - 1);
        CHECK_EQ(legacy_trap.ss, MODES_BASE >> 4);
        CHECK_EQ(legacy_trap.esp, 0x800);
        CHECK_EQ(legacy_trap.eflags & (EFLAGS_VM | EFLAGS_IOPL3), flags[i] & ~2u);
        low_restore();
    }
}

/* A 32-bit hypervisor: VMX instructions with 32-bit addresses, under both kinds of paging. */
static void modes_vmx_32bit(void)
{
    for (unsigned pae = 0; pae < 2; pae++) {
        legacy_reset();
        if (pae)
            (void)legacy_tables_pae();
        else
            (void)legacy_tables_32bit();
        modes_region = vmx_region_alloc();
        memset(modes_value, 0, sizeof(modes_value));
        legacy_run(modes_vmx);
        check_no_trap();
        CHECK_EQ(modes_value[0] & RFLAGS_ARITHMETIC, 0);
        CHECK_EQ(modes_value[1] & RFLAGS_ARITHMETIC, 0);
        CHECK_EQ(modes_value[2], 0xffffffff); /* no current VMCS */
        CHECK_EQ(modes_value[3], 0xffffffff);
    }
}

static void modes_compatibility_mode(void)
{
    uint64_t cr0 = cpu_read_cr0();

    modes_call_compatibility((uint32_t)(uint64_t)modes_compatibility, SEL_CODE32);
    CHECK_EQ(modes_value[0], cpu_cpuid(0, 0).ebx);
    CHECK_EQ(modes_value[1], cpu_rdmsr(IA32_FEATURE_CONTROL));
    CHECK_EQ(cpu_read_cr0(), cr0);
    vmx_start();
    CHECK_FAULT(modes_call_compatibility((uint32_t)(uint64_t)modes_compatibility_vmx, SEL_CODE32), VECTOR_UD);
}

const struct scenario l1_mode_scenarios[] = {
    {"l1-modes-real", modes_real, NULL},
    {"l1-modes-real-by-exit", modes_real_by_exit, NULL},
    {"l1-modes-16bit", modes_16bit, NULL},
    {"l1-modes-no-paging", modes_no_paging, NULL},
    {"l1-modes-32bit-paging", modes_32bit_paging, NULL},
    {"l1-modes-pae-paging", modes_pae_paging, NULL},
    {"l1-modes-pdptes", modes_pdptes, NULL},
    {"l1-modes-tss16", modes_tss16, NULL},
    {"l1-modes-v8086", modes_v8086, NULL},
    {"l1-modes-vmx-32bit", modes_vmx_32bit, NULL},
    {"l1-modes-compatibility", modes_compatibility_mode, NULL},
    {NULL, NULL, NULL},
};
