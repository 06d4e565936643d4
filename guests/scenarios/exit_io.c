/* I/O instructions of L2: unconditional exits, the two bitmaps, strings, and the end of the port space. */
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"
#include "guests/lib/paging.h"
#include "guests/scenarios/scenario.h"

#define PORT_DELAY 0x80 /* writes to it do nothing on any PC */
#define SEGMENT_DS 3
#define INFO_SIZE_64 2

/* The size in the exit qualification is one less than the number of bytes. */
#define SIZE_1 0
#define SIZE_2 1
#define SIZE_4 3

static uint8_t *bitmap_a, *bitmap_b;
static uint8_t buffer[16];
static volatile uint8_t l2_value;

static void create(struct vm *vm, void (*code)(void))
{
    vm_start(vm, code, 0);
    bitmap_a = page_alloc();
    bitmap_b = page_alloc();
    vmx_set(IO_BITMAP_A, (uint64_t)bitmap_a);
    vmx_set(IO_BITMAP_B, (uint64_t)bitmap_b);
}

static void set_bit(uint32_t port)
{
    uint8_t *bitmap = port & 0x8000 ? bitmap_b : bitmap_a;

    bitmap[(port & 0x7fff) / 8] |= (uint8_t)(1 << port % 8);
}

static void check_io(const struct vm *vm, uint16_t port, unsigned size, uint64_t flags)
{
    const uint64_t all = IO_QUAL_IN | IO_QUAL_STRING | IO_QUAL_REP | IO_QUAL_IMMEDIATE;

    CHECK_EQ(GET(vm->exit.qualification, IO_QUAL_PORT), port);
    CHECK_EQ(GET(vm->exit.qualification, IO_QUAL_SIZE), size);
    CHECK_EQ(vm->exit.qualification & all, flags);
}

/* L1 puts the port into RDX, and what it wants into RAX. */
static void l2_outb(void)
{
    asm volatile("outb %%al, %%dx" : : : "memory");
}

static void l2_outw(void)
{
    asm volatile("outw %%ax, %%dx" : : : "memory");
}

static void l2_outl(void)
{
    asm volatile("outl %%eax, %%dx" : : : "memory");
}

static void l2_inb(void)
{
    uint8_t value;
    asm volatile("inb %%dx, %%al" : "=a"(value) : : "memory");
    l2_value = value;
}

static void l2_outb_immediate(void)
{
    asm volatile("outb %%al, $0x80" : : : "memory");
}

static void l2_rep_outsb(void)
{
    asm volatile("rep outsb" : : "S"(buffer), "c"(5), "d"(PORT_DELAY) : "memory");
}

static void l2_insl(void)
{
    asm volatile("insl" : : "D"(buffer + 4), "d"(PORT_DELAY) : "memory");
}

static void start_at(struct vm *vm, void (*code)(void), uint16_t port)
{
    vm_set_code(vm, code);
    vm->regs[RDX] = port;
}

static void unconditional(void)
{
    struct vm vm;

    create(&vm, l2_outb);
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_DONE(&vm);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_UNCOND_IO);
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, PORT_DELAY, SIZE_1, 0);
    CHECK_EQ(vm.exit.length, 1);
    EXPECT_DONE(&vm);
    start_at(&vm, l2_outb_immediate, 0);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, PORT_DELAY, SIZE_1, IO_QUAL_IMMEDIATE);
    CHECK_EQ(vm.exit.length, 2);
    EXPECT_DONE(&vm);
}

static void bitmaps(void)
{
    struct vm vm;

    create(&vm, l2_outb);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_DONE(&vm);
    set_bit(PORT_DELAY);
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    EXPECT_DONE(&vm);
    set_bit(0x8abc);
    start_at(&vm, l2_inb, 0x8abc);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, 0x8abc, SIZE_1, IO_QUAL_IN);
    vm.regs[RAX] = 0x5a;
    EXPECT_DONE(&vm);
    CHECK_EQ(l2_value, 0x5a);
    bitmap_a[PORT_DELAY / 8] = 0;
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_DONE(&vm);
}

/* A wide access exits if any of its bytes has its bit set, also across the two pages. */
static void wide_accesses(void)
{
    struct vm vm;

    create(&vm, l2_outb);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    set_bit(PORT_DELAY + 3);
    start_at(&vm, l2_outw, PORT_DELAY);
    EXPECT_DONE(&vm);
    start_at(&vm, l2_outl, PORT_DELAY);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, PORT_DELAY, SIZE_4, 0);
    EXPECT_DONE(&vm);
    set_bit(0x8000);
    start_at(&vm, l2_outb, 0x7fff);
    EXPECT_DONE(&vm);
    start_at(&vm, l2_outw, 0x7fff);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, 0x7fff, SIZE_2, 0);
    EXPECT_DONE(&vm);
}

/* An access that wraps around the end of the port space exits whatever the bitmaps say. SDM 3C 25.6.4 "I/O-Bitmap
 * Addresses" */
static void port_wrap(void)
{
    struct vm vm;

    create(&vm, l2_outb);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    start_at(&vm, l2_outb, 0xffff);
    EXPECT_DONE(&vm);
    start_at(&vm, l2_outw, 0xffff);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, 0xffff, SIZE_2, 0);
    EXPECT_DONE(&vm);
    start_at(&vm, l2_outl, 0xfffd);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, 0xfffd, SIZE_4, 0);
    EXPECT_DONE(&vm);
}

static void strings(void)
{
    bool has_info = cpu_rdmsr(IA32_VMX_BASIC) & VMX_BASIC_INS_OUTS_INFO;
    struct vm vm;

    create(&vm, l2_rep_outsb);
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    EXPECT_DONE(&vm);
    CHECK_EQ(vm.regs[RCX], 0);
    set_bit(PORT_DELAY);
    vm_set_code(&vm, l2_rep_outsb);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, PORT_DELAY, SIZE_1, IO_QUAL_STRING | IO_QUAL_REP);
    CHECK_EQ(vm.exit.gla, (uint64_t)buffer);
    CHECK_EQ(vm.regs[RCX], 5);
    if (has_info) {
        CHECK_EQ(GET(vm.exit.info, INSN_INFO_ADDRESS_SIZE), INFO_SIZE_64);
        CHECK_EQ(GET(vm.exit.info, INSN_INFO_SEGMENT), SEGMENT_DS);
    }
    EXPECT_DONE(&vm);
    vm_set_code(&vm, l2_insl);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    check_io(&vm, PORT_DELAY, SIZE_4, IO_QUAL_STRING | IO_QUAL_IN);
    CHECK_EQ(vm.exit.gla, (uint64_t)buffer + 4);
    EXPECT_DONE(&vm);
}

#define IN_BYTES 24

static uint8_t *in_place;

static void l2_rep_insb(void)
{
    asm volatile("rep insb" : : "D"(in_place), "c"(IN_BYTES), "d"(PORT_DELAY) : "memory");
}

/* A string that comes in over a page border, of which the second page is missing: nothing may get lost. */
static void ins_into_missing_page(void)
{
    uint64_t *entry;
    uint8_t *pages;
    uint8_t value;
    struct vm vm;

    vm_start(&vm, l2_rep_insb, VM_EPT);
    pages = page_alloc_run(2, PAGE_SIZE);
    value = cpu_inb(PORT_DELAY);
    for (unsigned i = 0; i < 2 * PAGE_SIZE; i++)
        pages[i] = (uint8_t)~value;
    entry = paging_entry(vm.ept, (uint64_t)pages + PAGE_SIZE, PAGE_SIZE);
    *entry &= ~EPT_RWX;
    in_place = pages + PAGE_SIZE - IN_BYTES / 2;
    EXPECT_EXIT(&vm, EXIT_EPT_VIOLATION);
    CHECK_EQ(vm.exit.gpa, (uint64_t)pages + PAGE_SIZE);
    CHECK_EQ(vm.exit.qualification & (EPT_QUAL_READ | EPT_QUAL_WRITE), EPT_QUAL_WRITE);
    CHECK_EQ(vm.regs[RCX], IN_BYTES / 2);
    *entry |= EPT_RWX;
    EXPECT_DONE(&vm);
    for (unsigned i = 0; i < IN_BYTES; i++)
        CHECK_EQ(in_place[i], value);
    CHECK_EQ(in_place[IN_BYTES], (uint8_t)~value);
}

/* With the bitmaps on, "unconditional I/O exiting" counts for nothing. */
static void bitmaps_win(void)
{
    struct vm vm;

    create(&vm, l2_outb);
    vm_control_set(PROC_CONTROLS, (uint32_t)(PROC_USE_IO_BITMAPS | PROC_UNCOND_IO));
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_DONE(&vm);
}

/* Both controls off, then bitmaps elsewhere: the pages in use are those that the VMCS names at the entry. */
static void bitmap_replaced(void)
{
    uint8_t *other;
    struct vm vm;

    create(&vm, l2_outb);
    other = page_alloc();
    vm_control_set(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    other[PORT_DELAY / 8] = 1;
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_DONE(&vm);
    vmx_set(IO_BITMAP_A, (uint64_t)other);
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_EXIT_SKIP(&vm, EXIT_IO);
    EXPECT_DONE(&vm);
    vm_control_clear(PROC_CONTROLS, (uint32_t)PROC_USE_IO_BITMAPS);
    start_at(&vm, l2_outb, PORT_DELAY);
    EXPECT_DONE(&vm);
}

const struct scenario exit_io_scenarios[] = {
    {"io-unconditional", unconditional, NULL},
    {"io-bitmaps", bitmaps, NULL},
    {"io-wide-accesses", wide_accesses, NULL},
    {"io-port-wrap", port_wrap, NULL},
    {"io-strings", strings, NULL},
    {"io-ins-into-missing-page", ins_into_missing_page, without_ept},
    {"io-bitmaps-win", bitmaps_win, NULL},
    {"io-bitmap-replaced", bitmap_replaced, NULL},
    {0},
};
