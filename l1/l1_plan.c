#include "l1/l1_plan.h"

#include "kernel/string.h"
#include "l1/l1_disk.h"
#include "l1/l1_linux.h"
#include "l1/l1_multiboot.h"

enum l1_kind l1_detect(const uint8_t *image, uint64_t size)
{
    if (l1_linux_detect(image, size))
        return L1_LINUX;
    /* An image with both headers, as Xen, gets the older and simpler protocol. */
    if (l1_multiboot1_find(image, size) >= 0)
        return L1_MULTIBOOT1;
    return l1_multiboot2_find(image, size) >= 0 ? L1_MULTIBOOT2 : L1_UNKNOWN;
}

const char *l1_plan(const struct l1_input *in, struct l1_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    /* The first page holds the interrupt vectors and the BIOS data area. */
    l1_reserve(plan, 0, PAGE_SIZE);
    if (in->modules == 0) {
        plan->kind = L1_DISK;
        return l1_disk_plan(in, plan);
    }
    for (unsigned i = 0; i < in->modules; i++)
        l1_reserve(plan, in->module[i].start, in->module[i].size);
    plan->kind = l1_detect(in->image, in->module[0].size);
    switch (plan->kind) {
    case L1_LINUX:
        return l1_linux_plan(in, plan);
    case L1_MULTIBOOT1:
        return l1_multiboot1_plan(in, plan);
    case L1_MULTIBOOT2:
        return l1_multiboot2_plan(in, plan);
    default:
        return "the first module is no kernel: neither a Linux bzImage nor a multiboot image";
    }
}
