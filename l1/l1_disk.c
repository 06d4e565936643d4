#include "l1/l1_disk.h"

extern const uint8_t l1_disk_code[L1_DISK_CODE_SIZE];

const char *l1_disk_plan(const struct l1_input *in, struct l1_plan *plan)
{
    if (!in->has_bios)
        return "no module, and no BIOS that could load a boot sector: give L1's kernel as the first multiboot2 module";
    plan->start = (struct l1_start){.real_page = L1_DISK_PAGE, .ebx = (uint32_t)in->boot_disk, .ecx = in->end_port};
    return l1_add_copy(in, plan,
                       (struct l1_copy){.to = L1_DISK_PAGE, .from = l1_disk_code, .length = L1_DISK_CODE_SIZE});
}
