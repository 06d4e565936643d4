#include "guests/smp/second.h"

#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/desc.h"
#include "guests/lib/irq.h"
#include "guests/lib/mem.h"
#include "guests/lib/vmx.h"

#define AP_PAGE 0x8000 /* as in ap.asm */
#define AP_STACK_SIZE 16384
#define SECOND_APIC_ID 1
#define ICR 0x300
#define ICR_HIGH 0x310
#define GDT_LIMIT 0x47
#define PATIENCE 200000000ull /* TSC ticks */
#define A_WHILE 10000         /* pauses */

extern const uint8_t ap_code[], ap_code_end[];
void smp_second(void) NORETURN;

uint8_t ap_stack[AP_STACK_SIZE] __attribute__((aligned(16)));
extern uint8_t ap_stack_top[];
asm(".globl ap_stack_top\n.set ap_stack_top, ap_stack + 16384");

volatile uint64_t second_starts;
unsigned second_nmis_sent;
volatile unsigned second_nmis;
static void (*volatile job)(void);
static uint64_t vmxon_region;

void smp_second(void)
{
    struct table_register idtr = {4095, desc_idt_base()}, gdtr = {GDT_LIMIT, desc_gdt_base()};

    asm volatile("lgdt %0; lidt %1" : : "m"(gdtr), "m"(idtr));
    second_starts++;
    for (;;) {
        void (*todo)(void) = job;
        if (todo) {
            todo();
            job = NULL;
        }
        cpu_pause();
    }
}

/* By the stack: to ask the APIC may exit. Code of L2 has stacks of its own, and enters nothing. */
unsigned vmx_processor(void)
{
    return (uint64_t)__builtin_frame_address(0) - (uint64_t)ap_stack <= AP_STACK_SIZE;
}

static bool is_second(void)
{
    return irq_lapic_read(LAPIC_ID) >> 24 == SECOND_APIC_ID;
}

static void count_nmi(uint64_t vector)
{
    if (vector == VECTOR_NMI && is_second())
        second_nmis++;
}

/* A job that fails stays where it is: the scenario's own processor sees that it does not finish. */
static void stop_second(void)
{
    while (is_second())
        cpu_pause();
}

void second_prepare(void)
{
    memcpy((void *)AP_PAGE, ap_code, (size_t)(ap_code_end - ap_code));
    vmxon_region = vmx_region_alloc();
    trap_hook = count_nmi;
    check_on_abort = stop_second;
}

void second_send(uint32_t command)
{
    irq_lapic_write(ICR_HIGH, SECOND_APIC_ID << 24);
    irq_lapic_write(ICR, command);
}

void second_send_nmi(void)
{
    second_nmis_sent++;
    second_send(ICR_NMI);
}

bool second_took_nmis(void)
{
    uint64_t start = cpu_rdtsc();

    while (second_nmis != second_nmis_sent && cpu_rdtsc() - start < PATIENCE)
        cpu_pause();
    return second_nmis == second_nmis_sent;
}

void second_start(void)
{
    uint64_t before = second_starts, start = cpu_rdtsc();

    second_send(ICR_INIT);
    job = NULL;
    /* One start-up IPI is lost where a hypervisor is still busy with the INIT. */
    for (unsigned i = 0; i < 2; i++) {
        second_send(ICR_STARTUP | AP_PAGE >> 12);
        for (unsigned k = 0; k < A_WHILE && second_starts == before; k++)
            cpu_pause();
    }
    while (second_starts == before && cpu_rdtsc() - start < PATIENCE)
        cpu_pause();
    REQUIRE_EQ(second_starts, before + 1);
}

void second_do(void (*todo)(void))
{
    REQUIRE(!job);
    job = todo;
}

bool second_is_idle(void)
{
    return !job;
}

bool second_finishes(void)
{
    uint64_t start = cpu_rdtsc();

    while (job && cpu_rdtsc() - start < PATIENCE)
        cpu_pause();
    return !job;
}

void second_vmx_on(void)
{
    vmx_prepare_control_registers();
    REQUIRE_EQ(vmx_vmxon(&vmxon_region), 0);
}

void second_vmx_off(void)
{
    REQUIRE_EQ(vmx_vmxoff(), 0);
    cpu_write_cr4(cpu_read_cr4() & ~CR4_VMXE);
}
