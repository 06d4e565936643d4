#include "l1/l1_load.h"

#include "kernel/layout.h"
#include "kernel/string.h"
#include "l1/l1_stash.h"

void l1_stash(const struct l1_move *move, unsigned count, struct boot_module *module)
{
    for (unsigned i = 0; i < count; i++) {
        memmove(hpa_to_va(move[i].to), hpa_to_va(move[i].from), move[i].size);
        module[move[i].module].start = move[i].to;
    }
}

void l1_load(const struct l1_plan *plan)
{
    for (unsigned i = 0; i < plan->copies; i++) {
        uint8_t *to = hpa_to_va(plan->copy[i].to);
        memcpy(to, plan->copy[i].from, plan->copy[i].length);
        memset(to + plan->copy[i].length, 0, plan->copy[i].zeros);
    }
}
