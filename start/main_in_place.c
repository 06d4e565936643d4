/* The start under a firmware that goes on running: what start/main.c does for a boot loader, in steps between which the
 * processors are the firmware's again. All of them except the last can be undone. efi/main has the other side. */
#include "start/main_in_place.h"

#include "debug/stub.h"
#include "kernel/cmdline.h"
#include "kernel/layout.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/percpu.h"
#include "kernel/string.h"
#include "kernel/version.h"
#include "kernel/x86.h"
#include "mm/hpt.h"
#include "start/machine.h"
#include "start/processors.h"
#include "start/quirks.h"
#include "vmx/measure.h"
#include "vmx/run.h"
#include "vmx/trace_words.h"
#include "vmx/vmcs_setup.h"

extern uint8_t boot_pml4[]; /* boot/entry.asm */

/* boot/in_place.asm */
NORETURN void in_place_leave(hpa_t state, enum in_place_result result, hpa_t low_base, hpa_t tables);

_Static_assert(offsetof(struct in_place_state, segment) == 112 && offsetof(struct in_place_processor, tables) == 304,
               "boot/in_place.asm: S_, P_");

static struct in_place *told;

/* Which of told->processor this one is. */
static struct in_place_processor *own(void)
{
    return &told->processor[this_cpu()->id];
}

static NORETURN void leave(enum in_place_result result)
{
    in_place_leave(va_to_hpa(&own()->state), result, layout_load_base - IMAGE_LOAD_BASE, low_to_hpa(boot_pml4));
}

static NORETURN void refuse(void)
{
    __atomic_store_n(&told->failed, true, __ATOMIC_SEQ_CST);
    vmx_give_up();
    leave(IN_PLACE_REFUSED);
}

/* Of machine_end(), on whichever processor. */
static void give_back(const char *reason)
{
    size_t length = MIN(strlen(reason), sizeof told->reason - 1);

    /* The first reason counts: several may refuse at once. */
    if (!__atomic_exchange_n(&told->failed, true, __ATOMIC_SEQ_CST))
        memcpy(told->reason, reason, length); /* all 0 so far */
    refuse();
}

static void lead_to(struct cpu *cpu, void (*main)(struct cpu *cpu))
{
    struct in_place_processor *processor = &told->processor[cpu->id];

    processor->tables = read_cr3();
    processor->stack = (uint64_t)cpu->stack_top;
    processor->cpu = (uint64_t)cpu;
    processor->main = (uint64_t)main;
}

static void look_at_processor(struct cpu *cpu)
{
    processors_meet_in_place(cpu);
    leave(IN_PLACE_DONE);
}

/* Sets what each processor does next time, and goes back to the firmware until then. */
static NORETURN void next_round(void (*boot)(struct cpu *cpu), void (*other)(struct cpu *cpu))
{
    for (unsigned i = 0; i < percpu_count; i++)
        lead_to(percpu_cpus[i], i ? other : boot);
    told->one_by_one = other == look_at_processor;
    leave(IN_PLACE_JOIN);
}

/* --- The last round: all become L1, or none --- */

static void become_l1(struct cpu *cpu)
{
    /* Not own(): GS is the firmware's until there. */
    struct vcpu *vcpu = processors_join_l1(cpu, &told->processor[cpu->id].state, &told->failed);
    if (!vcpu)
        refuse();
    vcpu_run(vcpu);
}

static void go_on_as_l1(struct cpu *cpu)
{
    desc_load(cpu);
    machine_on_refusal(NULL);
    struct vcpu *boot_vcpu = processors_go_on(&own()->state);
    processors_hide_others();
    machine_hide_sleep();
    told->try_next = options.then == THEN_NEXT;
    machine_on_end(machine_print_summary);
    trace_words_init();
    log_info("main", "the firmware goes on as L1");
    debug_start(boot_vcpu);
    log_l1_starts();
    vcpu_run(boot_vcpu);
}

/* --- The round before: what all processors have is known --- */

static void make_vm(struct cpu *cpu)
{
    desc_load_without_task(cpu);
    l1_plan_space.start.present = &own()->state;
    quirks_find();
    if (options.measure)
        measure_print(&l1_vm.caps);
    l1_vm.in_place = true;
    machine_create_vm();
    processors_make_boot_vcpu();
    next_round(go_on_as_l1, become_l1);
}

/* --- The first round, of the processor that boots alone --- */

static void look_at_machine(void)
{
    machine_read_boot_information(told->boot_information);
    machine_read_memory_map();
    machine_check_cpu();
    machine_read_acpi();
    if (!told->carveout_size) {
        told->carveout_size = machine_carveout_size();
        leave(IN_PLACE_WANTS);
    }
    machine_print_cpu();
}

void kernel_main_in_place(hpa_t where)
{
    told = hpa_to_va(where);
    hpt_start(told->load_base);
    if (percpu_init(&percpu_boot_cpu, 0))
        panic("no processor");
    desc_load_without_task(&percpu_boot_cpu);
    machine_on_refusal(give_back);
    log_init();
    if (told->carveout_size)
        log_raw("nestor: Nestor %s, a hypervisor for nested VMX", NESTOR_VERSION);
    look_at_machine();
    machine_use_carveout(told->carveout_base, told->carveout_size);
    machine_find_previous_log();
    machine_move_to_carveout();
    processors_take_over((unsigned)told->processors);
    next_round(make_vm, look_at_processor);
}
