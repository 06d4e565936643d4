/* The ports that L0 keeps, as rows: made once from the options and the ACPI tables, and searched only for an access
 * that exits. A row sets its bits in the two I/O bitmaps, and the bitmaps decide what exits: all other ports are
 * L1's hardware, without Nestor in the way. For L2 nested/bitmap merges these bitmaps with L1's as it does with
 * MSRs. */
#include "vmx/io.h"

#include "kernel/cmdline.h"
#include "kernel/counters.h"
#include "kernel/panic.h"
#include "kernel/x86.h"
#include "mm/page.h"
#include "vmx/inspect.h"
#include "vmx/msr_guest.h"

#define COM2_FIRST 0x2f8
#define COM2_LAST 0x2ff
#define UART_PORTS 8
#define UART_LINE_STATUS 5
#define UART_LINE_IDLE 0x60 /* all is sent, nothing has come */
#define RESET_CONTROL 0xcf9
#define RESET_CONTROL_RESET BIT(2)
#define KEYBOARD_COMMAND 0x64
#define KEYBOARD_PULSES BITS(7, 4) /* commands F0H to FFH pulse the lines whose bits are 0: bit 0 is the CPU's reset */
#define SYSTEM_CONTROL_A 0x92
#define SYSTEM_CONTROL_A_RESET BIT(0)
#define PM1_CONTROL_SLP_EN BIT(13)
#define MAX_PORTS 16

static struct io_port ports[MAX_PORTS];
static unsigned port_count;
static uint32_t stats_index; /* counter that the next read of the statistics port gives */

/* Hands L1's write on to the hardware, in the width in which it came. */
static void pass_write(uint16_t port, unsigned size, uint32_t value)
{
    if (size == 1)
        out8(port, (uint8_t)value);
    else if (size == 2)
        out16(port, (uint16_t)value);
    else
        out32(port, value);
}

static uint32_t pass_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    (void)vcpu;
    return size == 1 ? in8(port) : size == 2 ? in16(port) : in32(port);
}

/* Sleep means that the machine goes off: the last chance to print what was counted. */
static void pm1_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    uint16_t base = vcpu->vm->pm1a_control;
    if (port != base && vcpu->vm->pm1b_control && port >= vcpu->vm->pm1b_control)
        base = vcpu->vm->pm1b_control;
    uint32_t word = value << 8 * (port - base); /* SLP_EN is in the second byte */
    if (word & PM1_CONTROL_SLP_EN)
        machine_report(0, "L1 turned the machine off");
    pass_write(port, size, value);
}

/* The ways by which software resets a PC: the register that the FADT names, the chipset's, the keyboard controller's,
 * and port 92H. */
static bool resets(const struct vm *vm, uint16_t port, uint32_t value)
{
    if (port == vm->reset_port && (uint8_t)value == vm->reset_value)
        return true;
    switch (port) {
    case RESET_CONTROL:
        return value & RESET_CONTROL_RESET;
    case KEYBOARD_COMMAND:
        return (value & (KEYBOARD_PULSES | BIT(0))) == KEYBOARD_PULSES;
    case SYSTEM_CONTROL_A:
        return value & SYSTEM_CONTROL_A_RESET;
    default:
        return false;
    }
}

/* Nestor dies with the machine, so it says what it counted before; with an option on-exit that ends the emulator a
 * reset is the end of the run. */
static void reset_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    if (resets(vcpu->vm, port, value)) {
        if (options.on_exit != ON_EXIT_HALT)
            machine_end(STATUS_PANIC, "L1 reset the machine");
        machine_report(0, "L1 reset the machine");
    }
    pass_write(port, size, value);
}

/* The end of a test: L1 names the exit status. */
static void debug_exit_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    (void)vcpu, (void)port, (void)size;
    if (options.fault == FAULT_PANIC)
        panic("on purpose, by fault=panic");
    machine_end((int)(value & 0xff), "L1 wrote it to the debug-exit port");
}

/* Statistics port: a write chooses a counter, a read gives it, of all processors together. */
static void stats_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    (void)vcpu, (void)port, (void)size;
    stats_index = value;
}

static uint32_t stats_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    (void)vcpu, (void)port, (void)size;
    return stats_index < COUNTER_COUNT ? (uint32_t)counters_total((enum counter)stats_index) : ~0u;
}

/* First the MSR's number, then what Nestor shall keep: bit 0 reads, bit 1 writes. */
static void policy_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    static uint32_t msr;
    (void)size;
    if (port == options.msr_policy)
        __atomic_store_n(&msr, value, __ATOMIC_RELAXED);
    else if (port == options.msr_policy + 4)
        msr_policy_change(vcpu->vm, __atomic_load_n(&msr, __ATOMIC_RELAXED), value & BIT(0), value & BIT(1));
}

/* Any read gives a number by which a test knows that the port is there. */
static uint32_t policy_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    (void)vcpu, (void)port, (void)size;
    return COUNTER_MAGIC_VALUE;
}

/* Nestor's own console is not there for L1. */
static void hidden_write(struct vcpu *vcpu, uint16_t port, unsigned size, uint32_t value)
{
    (void)vcpu, (void)port, (void)size, (void)value;
}

/* An absent port reads as ones. A firmware that goes on as L1 has found the UART before: to it the line is idle, or it
 * would take ones for bytes that never end. */
static uint32_t hidden_read(struct vcpu *vcpu, uint16_t port, unsigned size)
{
    bool status = size == 1 && port % UART_PORTS == UART_LINE_STATUS;
    return vcpu->vm->in_place && status ? UART_LINE_IDLE : ~0u;
}

/* From now on accesses to these ports exit, L2's as well. */
static void port_add(struct vm *vm, uint16_t first, uint16_t last, struct io_port row)
{
    ASSERT(port_count < MAX_PORTS);
    row.first = first;
    row.last = last;
    ports[port_count++] = row;
    for (uint32_t port = first; port <= last; port++)
        io_bitmap_set(vm->io_bitmap_a, vm->io_bitmap_b, (uint16_t)port);
}

/* The FADT may name one of the others: one row is enough. */
static void add_reset_ports(struct vm *vm)
{
    static const uint16_t fixed[] = {RESET_CONTROL, KEYBOARD_COMMAND, SYSTEM_CONTROL_A};
    const struct io_port row = {.write = reset_write, .read = pass_read};

    for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++)
        port_add(vm, fixed[i], fixed[i], row);
    if (vm->reset_port && !io_port_find(vm->reset_port))
        port_add(vm, vm->reset_port, vm->reset_port, row);
}

/* Each option that names a port adds a row; what is off adds none, and its port is L1's. */
int io_policy_init(struct vm *vm)
{
    vm->io_bitmap_a = page_alloc();
    vm->io_bitmap_b = page_alloc();
    if (!vm->io_bitmap_a || !vm->io_bitmap_b)
        return -1;
    if (vm->pm1a_control)
        port_add(vm, vm->pm1a_control, (uint16_t)(vm->pm1a_control + 1),
                 (struct io_port){.write = pm1_write, .read = pass_read});
    if (vm->pm1b_control)
        port_add(vm, vm->pm1b_control, (uint16_t)(vm->pm1b_control + 1),
                 (struct io_port){.write = pm1_write, .read = pass_read});
    add_reset_ports(vm);
    if (options.console == LOG_ON_COM2)
        port_add(vm, COM2_FIRST, COM2_LAST, (struct io_port){.write = hidden_write, .read = hidden_read});
    if (options.gdb)
        port_add(vm, (uint16_t)options.gdb, (uint16_t)(options.gdb + UART_PORTS - 1),
                 (struct io_port){.write = hidden_write, .read = hidden_read});
    if (options.console >= OPTION_PORT_MIN)
        port_add(vm, (uint16_t)options.console, (uint16_t)(options.console + 7),
                 (struct io_port){.write = hidden_write, .read = hidden_read});
    if (options.debug_exit)
        port_add(vm, (uint16_t)options.debug_exit, (uint16_t)options.debug_exit,
                 (struct io_port){.write = debug_exit_write, .read = pass_read});
    if (options.stats)
        port_add(vm, (uint16_t)options.stats, (uint16_t)(options.stats + 3),
                 (struct io_port){.write = stats_write, .read = stats_read});
    if (options.inspect)
        port_add(vm, (uint16_t)options.inspect, (uint16_t)(options.inspect + 3),
                 (struct io_port){.write = inspect_write, .read = inspect_read});
    if (options.msr_policy)
        port_add(vm, (uint16_t)options.msr_policy, (uint16_t)(options.msr_policy + 7),
                 (struct io_port){.write = policy_write, .read = policy_read});
    return 0;
}

/* A short list, and every one of these exits is rare. */
const struct io_port *io_port_find(uint16_t port)
{
    for (unsigned i = 0; i < port_count; i++)
        if (port >= ports[i].first && port <= ports[i].last)
            return &ports[i];
    return NULL;
}

bool io_access_is_l0s(uint64_t qualification)
{
    uint32_t first = (uint32_t)GET(qualification, IO_QUAL_PORT), size = (uint32_t)GET(qualification, IO_QUAL_SIZE) + 1;
    for (uint32_t port = first; port < first + size; port++)
        if (io_port_find((uint16_t)port))
            return true;
    return false;
}
