/* The first C code of an L1 image: brings the library up and calls guest_main(). */
#include "guests/lib/start.h"

#include "guests/lib/check.h"
#include "guests/lib/console.h"
#include "guests/lib/desc.h"
#include "guests/lib/irq.h"
#include "guests/lib/multiboot.h"
#include "guests/lib/page.h"
#include "guests/lib/trap.h"
#include "guests/lib/vm.h"

#define STATUS_BAD_BOOT 2

void guest_start(uint32_t magic, uint32_t info);

static void unexpected_fault(const struct trap_frame *frame)
{
    if (vm_in_l2())
        vm_report_l2_fault(frame);
    check_report("unexpected fault %lu, error 0x%lx, RIP 0x%lx", frame->vector, frame->error, frame->rip);
    check_abort();
}

void guest_start(uint32_t magic, uint32_t info)
{
    console_init();
    desc_init();
    trap_init();
    trap_set_unexpected(unexpected_fault);
    if (!multiboot_init(magic, info)) {
        print("Bail out! not booted by a multiboot1 loader with a memory map\n");
        guest_exit(STATUS_BAD_BOOT);
    }
    page_init();
    irq_init();
    guest_exit(guest_main(multiboot_args()));
}
