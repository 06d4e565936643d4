/* L1's port I/O: devices that are its own, and ports that whoever runs it may keep for himself. */
#include "guests/lib/cpu.h"
#include "guests/lib/irq.h"
#include "guests/lib/mem.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define COM1 0x3f8
#define COM1_LSR (COM1 + 5)
#define LSR_IDLE 0x60
#define PORT_RESET 0xcf9
#define PCI_ADDRESS 0xcf8
#define PCI_DATA 0xcfc
#define PCI_HOST_BRIDGE 0x80000000u
#define PF_WRITE_BIT BIT(1)

static void insb_rep(uint16_t port, void *to, uint64_t *count, uint8_t **end)
{
    uint64_t n = *count;

    asm volatile("cld; rep insb" : "+D"(to), "+c"(n) : "d"(port) : "memory");
    *count = n;
    *end = to;
}

static void wait_com1(void)
{
    while ((cpu_inb(COM1_LSR) & LSR_IDLE) != LSR_IDLE)
        ;
}

/* The strings are part of the transcript. */
static void io_string_out(void)
{
    static const char text[] = "# rep outsb\r\n", back[] = "\n\rbstuo dts #";
    const char *from = text;
    uint64_t count = sizeof(text) - 1;

    wait_com1();
    asm volatile("cld; rep outsb" : "+S"(from), "+c"(count) : "d"(COM1) : "memory");
    CHECK_EQ(count, 0);
    CHECK_EQ((uint64_t)from, (uint64_t)text + sizeof(text) - 1);
    wait_com1();
    from = back + sizeof(back) - 2;
    count = sizeof(back) - 1;
    asm volatile("std; rep outsb; cld" : "+S"(from), "+c"(count) : "d"(COM1) : "memory");
    CHECK_EQ((uint64_t)from, (uint64_t)back - 1);
    wait_com1();
}

/* A port that Nestor keeps: strings of it, with their registers, counts and directions. */
static void io_string_in(void)
{
    uint8_t *buffer = page_alloc(), *end;
    uint8_t value = cpu_inb(PORT_RESET);
    uint64_t count = 5;

    wait_com1();
    memset(buffer, 0xee, 64);
    insb_rep(PORT_RESET, buffer + 8, &count, &end);
    CHECK_EQ(count, 0);
    CHECK_EQ((uint64_t)end, (uint64_t)buffer + 13);
    CHECK_EQ(buffer[7], 0xee);
    CHECK_EQ(buffer[13], 0xee);
    for (unsigned i = 8; i < 13; i++)
        CHECK_EQ(buffer[i], value);
    count = 3;
    insb_rep(COM1_LSR, buffer + 40, &count, &end);
    CHECK_EQ(buffer[42] & LSR_IDLE, LSR_IDLE);
    count = 0; /* no element: nothing is touched */
    insb_rep(PORT_RESET, buffer + 20, &count, &end);
    CHECK_EQ((uint64_t)end, (uint64_t)buffer + 20);
    CHECK_EQ(buffer[20], 0xee);
    end = buffer + 30;
    count = 0xffffffff00000002; /* 32-bit addresses: ECX counts, and writing it clears the rest */
    asm volatile("std; addr32 rep insb; cld" : "+D"(end), "+c"(count) : "d"(PORT_RESET) : "memory");
    CHECK_EQ(count, 0);
    CHECK_EQ((uint64_t)end, (uint64_t)buffer + 28);
    CHECK_EQ(buffer[30], value);
    CHECK_EQ(buffer[29], value);
    CHECK_EQ(buffer[28], 0xee);
}

/* A window onto one page with nothing behind it. */
static uint8_t *map_window(uint64_t **root, void *page)
{
    uint64_t *pointers = page_alloc(), *directory = page_alloc(), *table = page_alloc();

    *root = (uint64_t *)(cpu_read_cr3() & PAGING_ADDRESS);
    (*root)[1] = (uint64_t)pointers | PTE_P | PTE_W;
    pointers[0] = (uint64_t)directory | PTE_P | PTE_W;
    directory[0] = (uint64_t)table | PTE_P | PTE_W;
    table[0] = (uint64_t)page | PTE_P | PTE_W;
    cpu_write_cr3(cpu_read_cr3());
    return (uint8_t *)(512 * GIB);
}

/* Memory that is not there: a page fault, with the elements before it done. */
static void io_string_fault(void)
{
    uint8_t *page = page_alloc(), *window, *end;
    uint64_t *root, count = 4;

    memset(page, 0xee, PAGE_SIZE);
    window = map_window(&root, page);
    CHECK_FAULT(insb_rep(PORT_RESET, window + PAGE_SIZE - 2, &count, &end), VECTOR_PF);
    CHECK_EQ(fault.cr2, (uint64_t)window + PAGE_SIZE);
    CHECK_EQ(fault.error, PF_WRITE_BIT);
    CHECK_EQ(page[PAGE_SIZE - 2], cpu_inb(PORT_RESET));
    CHECK_EQ(page[PAGE_SIZE - 1], cpu_inb(PORT_RESET));
    root[1] = 0;
    cpu_write_cr3(cpu_read_cr3());
}

/* OUTS reads its source through any segment. */
static void io_string_segment(void)
{
    uint64_t base = cpu_rdmsr(IA32_FS_BASE);
    static const uint8_t zero[4];
    uint64_t offset = 2;

    cpu_wrmsr(IA32_FS_BASE, (uint64_t)zero);
    asm volatile("cld; fs outsb" : "+S"(offset) : "d"(PORT_RESET) : "memory");
    CHECK_EQ(offset, 3);
    cpu_wrmsr(IA32_FS_BASE, base);
}

/* The PCI address port is 32 bits wide and lies over the reset port. */
static void io_pci(void)
{
    uint32_t id;

    cpu_outl(PCI_ADDRESS, PCI_HOST_BRIDGE);
    CHECK_EQ(cpu_inl(PCI_ADDRESS), PCI_HOST_BRIDGE);
    id = cpu_inl(PCI_DATA);
    print("# PCI host bridge %x\n", id);
    CHECK(id != 0xffffffff);
    cpu_outl(PCI_ADDRESS, 0);
}

/* Widths: 8 and 16 bits leave the rest of RAX alone, 32 bits clear the upper half. */
static void io_widths(void)
{
    uint64_t rax = 0x1122334455667788;

    asm volatile("inb %%dx, %%al" : "+a"(rax) : "d"(PORT_RESET));
    CHECK_EQ(rax & ~0xffull, 0x1122334455667700);
    rax = 0x1122334455667788;
    asm volatile("inw %%dx, %%ax" : "+a"(rax) : "d"(PCI_ADDRESS));
    CHECK_EQ(rax & ~0xffffull, 0x1122334455660000);
    rax = 0x1122334455667788;
    asm volatile("inl %%dx, %%eax" : "+a"(rax) : "d"(PCI_ADDRESS));
    CHECK_EQ(rax >> 32, 0);
    asm volatile("inb $0x80, %%al" : "+a"(rax));
}

/* The text screen, which is no RAM: a place that nobody shows. */
#define SCREEN_PLACE 0xb8f00ull
#define FILL 0x1122334455667788ull

static void l2_nothing(void)
{
}

/* Memory operands in a device's memory, of instructions that whoever runs L1 executes. */
static void io_device_operands(void)
{
    volatile uint64_t *word = (volatile uint64_t *)SCREEN_PLACE;
    struct vm vm;

    vm_start(&vm, l2_nothing, 0);
    word[0] = word[1] = FILL;
    REQUIRE_EQ(word[0], FILL);
    REQUIRE_EQ(vmx_vmptrst((uint64_t *)SCREEN_PLACE), 0);
    CHECK_EQ(word[0], vm.vmcs);
    CHECK_EQ(word[1], FILL);
    REQUIRE_EQ(vmx_vmclear((const uint64_t *)SCREEN_PLACE), 0);
    REQUIRE_EQ(vmx_vmptrld((const uint64_t *)SCREEN_PLACE), 0);
    CHECK_EQ(vmx_current(), vm.vmcs);
    vmx_set(TSC_OFFSET, 0x8877665544332211);
    REQUIRE_EQ(vmx_vmread_memory(TSC_OFFSET, (uint64_t *)SCREEN_PLACE + 1), 0);
    CHECK_EQ(word[1], 0x8877665544332211);
    word[0] = 0x123456789abcdef0;
    REQUIRE_EQ(vmx_vmwrite_memory(TSC_OFFSET, (const uint64_t *)SCREEN_PLACE), 0);
    CHECK_EQ(vmx_get(TSC_OFFSET), 0x123456789abcdef0);
}

static void io_device_strings(void)
{
    volatile uint64_t *word = (volatile uint64_t *)SCREEN_PLACE;
    uint8_t value = cpu_inb(PORT_RESET), *end;
    uint64_t count = 2, to = LAPIC_BASE + LAPIC_TPR;

    word[0] = FILL;
    insb_rep(PORT_RESET, (uint8_t *)SCREEN_PLACE + 3, &count, &end);
    CHECK_EQ(word[0], (FILL & ~(0xffffull << 24)) | (uint64_t)value << 24 | (uint64_t)value << 32);
    cpu_outl(PCI_ADDRESS, 0x20);
    asm volatile("cld; insl" : "+D"(to) : "d"(PCI_ADDRESS) : "memory");
    CHECK_EQ(irq_lapic_read(LAPIC_TPR), cpu_inl(PCI_ADDRESS) & 0xff);
    irq_lapic_write(LAPIC_TPR, 0);
    cpu_outl(PCI_ADDRESS, 0);
}

const struct scenario l1_io_scenarios[] = {
    {"l1-io-string-out", io_string_out, NULL},
    {"l1-io-string-in", io_string_in, NULL},
    {"l1-io-string-fault", io_string_fault, NULL},
    {"l1-io-string-segment", io_string_segment, NULL},
    {"l1-io-device-operands", io_device_operands, NULL},
    {"l1-io-device-strings", io_device_strings, NULL},
    {"l1-io-pci", io_pci, NULL},
    {"l1-io-widths", io_widths, NULL},
    {NULL, NULL, NULL},
};
