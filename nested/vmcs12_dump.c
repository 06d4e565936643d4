/* vmcs12 by area, as the SDM groups the fields. The first dump of a VMCS has the fields that are not 0; a further
 * dump of the same one has those that changed, as that is the question when an entry fails which worked before. */
#include "nested/vmcs12_dump.h"

#include "kernel/log.h"
#include "nested/prepare.h"
#include "vmx/vmcs_setup.h"

static const struct {
    uint8_t area;
    const char *name;
} groups[] = {
    {VMCS_AREA_CTRL, "controls"},
    {VMCS_AREA_GUEST, "guest state"},
    {VMCS_AREA_HOST, "host state"},
    {VMCS_AREA_INFO, "exit information"},
};

/* The last dump, by any processor: it tells of changes, and decides nothing. */
static gpa_t last_vmptr = VMPTR_NONE;
static uint64_t last[FIELD_COUNT];

/* Fields of one area, below its name if there are any. Of a repeated dump only the rows whose value differs from the
 * last one. */
static void dump_group(const struct vmcs12 *v, unsigned group, bool again)
{
    bool named = false;

    for (unsigned row = 0; row < FIELD_COUNT; row++) {
        uint64_t value = v->field[row];
        if (vmcs_fields[row].area != groups[group].area || (again ? value == last[row] : !value))
            continue;
        if (!named)
            log_raw("  %s%s", groups[group].name, again ? ", changed since the last dump" : "");
        named = true;
        if (again)
            log_raw("    %s = %lx, was %lx", vmcs_fields[row].name, value, last[row]);
        else
            log_raw("    %s = %lx", vmcs_fields[row].name, value);
    }
}

void vmcs12_dump(struct nested *nested, struct vmcs12_slot *slot)
{
    bool again = last_vmptr == slot->vmptr;
    prepare_fetch_rows(nested, slot);
    log_raw("nestor: vmcs12 at gpa1=%lx, launch state %s:", slot->vmptr, slot->v->launched ? "launched" : "clear");
    for (unsigned group = 0; group < ARRAY_SIZE(groups); group++)
        dump_group(slot->v, group, again);
    last_vmptr = slot->vmptr;
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        last[row] = slot->v->field[row];
}
