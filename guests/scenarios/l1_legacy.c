#include "guests/scenarios/l1_legacy.h"

#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"

#define FLAGS_32BIT 0xc /* G, D/B */
#define FLAGS_64BIT 0xa /* G, L */
#define GATE_INTERRUPT 0x8e
#define GATE_DPL3 0x60
#define PDE_LARGE 0xe7 /* present, writable, user, accessed, dirty, large */

struct legacy_control legacy_control;
struct legacy_trap legacy_trap;
volatile uint32_t legacy_trap_counts[256];
uint8_t legacy_trap_counted[256];
uint64_t legacy_gdt[L_GDT_SIZE / 8] __attribute__((aligned(16)));
uint64_t legacy_idt[256] __attribute__((aligned(16)));
uint64_t legacy_ldt[4] __attribute__((aligned(16)));
struct tss32 legacy_main_tss __attribute__((aligned(128)));

/* For l1_legacy.asm. */
extern const uint64_t legacy_stubs[256];
extern struct table_register legacy_gdtr, legacy_idtr;
void legacy_enter(void);

struct table_register legacy_gdtr = {sizeof(legacy_gdt) - 1, (uint64_t)legacy_gdt};
struct table_register legacy_idtr = {sizeof(legacy_idt) - 1, (uint64_t)legacy_idt};

uint64_t legacy_gate(unsigned type, unsigned selector, uint32_t offset)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)type << 40 | (uint64_t)(offset >> 16) << 48;
}

static uint64_t *descriptor_of(unsigned selector)
{
    return &(selector & 4 ? legacy_ldt : legacy_gdt)[selector / 8];
}

void legacy_set_descriptor(unsigned selector, uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    *descriptor_of(selector) = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
                               (uint64_t)(limit >> 16) << 48 | (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

unsigned legacy_access(unsigned selector)
{
    return *descriptor_of(selector) >> 40 & 0xff;
}

static void reset_gdt(void)
{
    memset(legacy_gdt, 0, sizeof(legacy_gdt));
    memset(legacy_ldt, 0, sizeof(legacy_ldt));
    legacy_set_descriptor(L_CODE64, 0, 0xfffff, 0x9b, FLAGS_64BIT);
    legacy_set_descriptor(L_DATA, 0, 0xfffff, 0x93, FLAGS_32BIT);
    legacy_set_descriptor(L_CODE32, 0, 0xfffff, 0x9b, FLAGS_32BIT);
    legacy_set_descriptor(L_CODE16, 0, 0xffff, 0x9b, 0);
    legacy_set_descriptor(L_DATA16, 0, 0xffff, 0x93, 0);
    legacy_set_descriptor(L_USER_CODE, 0, 0xfffff, 0xfb, FLAGS_32BIT);
    legacy_set_descriptor(L_USER_DATA, 0, 0xfffff, 0xf3, FLAGS_32BIT);
    legacy_set_descriptor(L_MAIN_TSS, (uint32_t)(uint64_t)&legacy_main_tss, sizeof(legacy_main_tss) - 1, 0x89, 0);
    legacy_set_descriptor(L_LDT, (uint32_t)(uint64_t)legacy_ldt, sizeof(legacy_ldt) - 1, 0x82, 0);
}

void legacy_reset(void)
{
    memset(&legacy_main_tss, 0, sizeof(legacy_main_tss));
    memset(legacy_trap_counted, 0, sizeof(legacy_trap_counted));
    for (unsigned i = 0; i < 256; i++) {
        unsigned type = GATE_INTERRUPT | (i == L_VECTOR_USER ? GATE_DPL3 : 0);
        legacy_trap_counts[i] = 0;
        legacy_idt[i] = legacy_gate(type, L_CODE32, (uint32_t)legacy_stubs[i]);
    }
    reset_gdt();
    legacy_control = (struct legacy_control){.cr0 = CR0_PE | CR0_NE | CR0_ET};
    legacy_trap = (struct legacy_trap){.vector = LEGACY_NO_TRAP};
}

void legacy_run(void (*entry)(void))
{
    legacy_control.entry = (uint32_t)(uint64_t)entry;
    legacy_enter();
}

uint32_t *legacy_tables_32bit(void)
{
    uint32_t *directory = page_alloc();

    for (uint32_t i = 0; i < 1024; i++)
        directory[i] = i << 22 | PDE_LARGE;
    legacy_control.cr3 = (uint32_t)(uint64_t)directory;
    legacy_control.cr4 |= (uint32_t)CR4_PSE;
    legacy_control.cr0 |= (uint32_t)(CR0_PG | CR0_WP);
    return directory;
}

uint64_t *legacy_tables_pae(void)
{
    uint64_t *pointers = page_alloc();
    uint64_t *directories = page_alloc_run(4, PAGE_SIZE);

    for (uint64_t i = 0; i < 2048; i++)
        directories[i] = i * LARGE_2M | PDE_LARGE;
    for (uint64_t i = 0; i < 4; i++)
        pointers[i] = (uint64_t)(directories + i * 512) | PTE_P;
    legacy_control.cr3 = (uint32_t)(uint64_t)pointers;
    legacy_control.cr4 |= (uint32_t)CR4_PAE;
    legacy_control.cr0 |= (uint32_t)(CR0_PG | CR0_WP);
    return pointers;
}
