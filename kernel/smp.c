#include "kernel/smp.h"

#include "kernel/lapic.h"
#include "kernel/layout.h"
#include "kernel/string.h"
#include "kernel/x86.h"

#define COMMAND_INIT (PUT(ICR_DELIVERY_INIT, ICR_DELIVERY) | ICR_ASSERT)
#define COMMAND_STARTUP(page) (PUT(ICR_DELIVERY_STARTUP, ICR_DELIVERY) | ICR_ASSERT | (page) / PAGE_SIZE)

/* The second counter of the PIT, whose output port 61H shows. */
#define PIT_COUNTER_2 0x42
#define PIT_CONTROL 0x43
#define PIT_ONE_SHOT 0xb0 /* counter 2, both bytes, mode 0 */
#define PIT_HZ 1193182u
#define PORT_B 0x61
#define PORT_B_GATE 0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_OUTPUT 0x20
#define DELAY_TRIES 100000u /* on a machine without a PIT, once */
#define LEAF_FREQUENCY 0x16
#define TSC_MHZ_GUESS 4000

/* boot/ap.asm: what the block at ap_trampoline_data holds. */
struct ap_start {
    uint64_t boot_cr3, final_cr3;
    uint64_t stack, cpu, main;
};

extern const uint8_t ap_trampoline[], ap_trampoline_data[], ap_trampoline_end[];
extern const uint8_t boot_pml4[]; /* boot/entry.asm */

/* The TSC's rate as far as the CPU tells it: too long a delay does no harm. */
static uint64_t tsc_per_us(void)
{
    uint32_t mhz = cpuid(0, 0).eax >= LEAF_FREQUENCY ? cpuid(LEAF_FREQUENCY, 0).eax & 0xffff : 0;
    return mhz ? mhz : TSC_MHZ_GUESS;
}

static void delay_by_tsc(unsigned us)
{
    for (uint64_t end = rdtsc() + us * tsc_per_us(); rdtsc() < end;)
        cpu_pause();
}

void smp_delay_us(unsigned us)
{
    static bool no_pit; /* or one whose clock the board has gated */
    if (no_pit) {
        delay_by_tsc(us);
        return;
    }
    uint32_t count = MIN(us * (uint64_t)PIT_HZ / 1000000 + 1, 0xffff);
    out8(PORT_B, (uint8_t)((in8(PORT_B) & ~(unsigned)PORT_B_SPEAKER) | PORT_B_GATE));
    out8(PIT_CONTROL, PIT_ONE_SHOT);
    out8(PIT_COUNTER_2, (uint8_t)count);
    out8(PIT_COUNTER_2, (uint8_t)(count >> 8));
    unsigned tries = 0;
    while (tries < DELAY_TRIES && !(in8(PORT_B) & PORT_B_OUTPUT)) {
        cpu_pause();
        tries++;
    }
    no_pit = tries == DELAY_TRIES;
}

static bool wait_for(const struct cpu *cpu, unsigned ms)
{
    for (unsigned i = 0; i < 10 * ms && !cpu->started; i++)
        smp_delay_us(100);
    return cpu->started;
}

static void write_trampoline(uint8_t *to, const struct cpu *cpu, const void *stack_top, void (*main)(struct cpu *cpu))
{
    const struct ap_start start = {
        .boot_cr3 = low_to_hpa(boot_pml4),
        .final_cr3 = read_cr3(),
        .stack = (uint64_t)stack_top,
        .cpu = (uint64_t)cpu,
        .main = (uint64_t)main,
    };
    memcpy(to, ap_trampoline, (size_t)(ap_trampoline_end - ap_trampoline));
    memcpy(to + (ap_trampoline_data - ap_trampoline), &start, sizeof start);
}

bool smp_start(struct cpu *cpu, void *stack_top, void (*main)(struct cpu *cpu), hpa_t page)
{
    static uint8_t saved[PAGE_SIZE];
    uint8_t *to = hpa_to_va(page);

    memcpy(saved, to, PAGE_SIZE);
    write_trampoline(to, cpu, stack_top, main);
    lapic_send(cpu->apic_id, (uint32_t)COMMAND_INIT);
    smp_delay_us(10000);
    for (unsigned i = 0; i < 2 && !cpu->started; i++) {
        lapic_send(cpu->apic_id, (uint32_t)COMMAND_STARTUP(page));
        smp_delay_us(200);
    }
    bool started = wait_for(cpu, 1000);
    memcpy(to, saved, PAGE_SIZE);
    return started;
}
