#include "guests/lib/desc.h"

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
} PACKED;
_Static_assert(sizeof(struct tss) == 104, "64-bit TSS");

struct gate {
    uint16_t offset_low;
    uint16_t selector;
    uint8_t ist;
    uint8_t type;
    uint16_t offset_middle;
    uint32_t offset_high;
    uint32_t reserved;
};
_Static_assert(sizeof(struct gate) == 16, "64-bit interrupt gate");

#define GATE_INTERRUPT 0x8e
#define GATE_DPL_SHIFT 5
#define TYPE_TSS 0x89ull

static uint8_t trap_stack[16384] __attribute__((aligned(16)));
static uint8_t other_tss[104];
static struct tss tss;
static struct gate idt[256] __attribute__((aligned(16)));
static uint64_t gdt[] = {
    [SEL_CODE64 / 8] = 0x00af9b000000ffff,
    [SEL_DATA / 8] = 0x00cf93000000ffff,
    [SEL_USER_DATA / 8] = 0x00cff3000000ffff,
    [SEL_USER_CODE / 8] = 0x00affb000000ffff,
    [SEL_TSS / 8] = 0,
    [SEL_TSS / 8 + 1] = 0,
    [SEL_CODE32 / 8] = 0x00cf9b000000ffff,
    [SEL_OTHER_TSS / 8] = 0,
};

static uint64_t tss_descriptor(uint64_t base, uint64_t limit)
{
    return limit | (base & 0xffffff) << 16 | TYPE_TSS << 40 | (base >> 24 & 0xff) << 56;
}

void desc_init(void)
{
    struct table_register gdtr = {sizeof(gdt) - 1, (uint64_t)gdt};
    struct table_register idtr = {sizeof(idt) - 1, (uint64_t)idt};

    tss.rsp[0] = (uint64_t)(trap_stack + sizeof(trap_stack));
    tss.io_map = sizeof(tss);
    gdt[SEL_TSS / 8] = tss_descriptor((uint64_t)&tss, sizeof(tss) - 1);
    gdt[SEL_OTHER_TSS / 8] = tss_descriptor((uint64_t)other_tss, sizeof(other_tss) - 1);
    asm volatile("lgdt %0; lidt %1; ltr %w2" : : "m"(gdtr), "m"(idtr), "r"(SEL_TSS));
}

uint64_t desc_gdt_base(void)
{
    return (uint64_t)gdt;
}

uint64_t desc_idt_base(void)
{
    return (uint64_t)idt;
}

uint64_t desc_tss_base(void)
{
    return (uint64_t)&tss;
}

void desc_set_gate(unsigned vector, uint64_t handler, unsigned dpl)
{
    idt[vector] = (struct gate){
        .offset_low = (uint16_t)handler,
        .selector = SEL_CODE64,
        .type = (uint8_t)(GATE_INTERRUPT | dpl << GATE_DPL_SHIFT),
        .offset_middle = (uint16_t)(handler >> 16),
        .offset_high = (uint32_t)(handler >> 32),
    };
}
