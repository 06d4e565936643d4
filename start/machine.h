/* The machine, from what the loader said to a VM with L1's image in it: the steps of the start that one processor does.
 * start/main.c has their order. Each ends the run by itself, with one line that says why, when it cannot be done.
 * start/ alone calls them. */
#ifndef START_MACHINE_H
#define START_MACHINE_H

#include "boot/bootinfo.h"
#include "kernel/acpi.h"
#include "l1/l1_image.h"
#include "nested/ept02/ept02.h"
#include "vmx/vcpu.h"

extern struct bootinfo bootinfo;
extern struct acpi_info acpi;
extern struct vm l1_vm;
extern struct ept02_shared ept02_shared;
extern struct merged_cache merged_cache;
extern struct l1_plan l1_plan_space;

void machine_read_boot_information(uint64_t mbi);
void machine_read_memory_map(void);
void machine_check_cpu(void);
void machine_print_cpu(void);
void machine_read_acpi(void);
/* In bytes, a multiple of 2 MiB. */
uint64_t machine_carveout_size(void);
void machine_choose_carveout(void);
/* The same with memory that somebody else has chosen, and that is reserved in the firmware's map. */
void machine_use_carveout(hpa_t base, uint64_t size);
void machine_find_previous_log(void);
void machine_reserve_bios_page(void);
void machine_stash_modules(void);
void machine_move_to_carveout(void);
void machine_create_vm(void);
void machine_hide_sleep(void);
void machine_load_l1(void);
/* For the end of the run. */
void machine_print_summary(void);

#endif
