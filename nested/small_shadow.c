/* A shadow VMCS that L1 reaches while it runs is active on this processor (a VM entry makes it so: SDM 3C 25.1
 * "Overview"), and VMPTRLD of an active VMCS is allowed; so it is made current to be written and read, and never
 * cleared until it goes. What it has of each row is remembered, so that only what changed is written. */
#include "nested/small_shadow.h"

#include "kernel/layout.h"
#include "kernel/panic.h"
#include "mm/page.h"
#include "vmx/vmcs_setup.h"

/* Rows that L1 writes there: at most exits, or as a control of vmcs12 asks for. In the order in which they are read:
 * the event's validity before what depends on it. */
static const uint8_t always_rows[] = {FIELD_INDEX_GUEST_RIP,
                                      FIELD_INDEX_GUEST_RSP,
                                      FIELD_INDEX_GUEST_RFLAGS,
                                      FIELD_INDEX_GUEST_INTERRUPTIBILITY,
                                      FIELD_INDEX_GUEST_CR3,
                                      FIELD_INDEX_HOST_RSP,
                                      FIELD_INDEX_ENTRY_INTERRUPTION_INFO};
/* Which are those that nested/shadow opens for writing. */
static const uint8_t direct_rows[] = {
#define FIELD(name, enc, width, area, sync, merge, need, judged, view) VIEW_##view(, ROW_IN_LIST(name), , )
#include "vmx/vmcs_fields.def"
#undef FIELD
};
static const uint8_t sometimes_rows[] = {
    FIELD_INDEX_GUEST_INTERRUPT_STATUS,     FIELD_INDEX_PREEMPTION_TIMER,         FIELD_INDEX_TPR_THRESHOLD,
    FIELD_INDEX_ENTRY_EXCEPTION_ERROR_CODE, FIELD_INDEX_ENTRY_INSTRUCTION_LENGTH, FIELD_INDEX_EOI_EXIT_BITMAP0,
    FIELD_INDEX_EOI_EXIT_BITMAP1,           FIELD_INDEX_EOI_EXIT_BITMAP2,         FIELD_INDEX_EOI_EXIT_BITMAP3};

struct row {
    uint16_t row, encoding;
};

/* All that L1 is shown: those, and behind them what it only reads. Of them what each exit saves, and what describes it;
 * two rows more are saved when L1 uses them, and the rest L1 alone changes, and Nestor, in vmcs12. All processors
 * compute the same. */
static struct row rows[FIELD_COUNT], saved[FIELD_COUNT], described[FIELD_COUNT];
static unsigned written_count, rows_count, saved_count, described_count;

/* A page. */
struct small_shadow {
    hpa_t vmcs;
    bool filled;
    uint64_t has[FIELD_COUNT]; /* of each of `rows`, as far as L1 has not written it since */
};
_Static_assert(sizeof(struct small_shadow) <= PAGE_SIZE, "page_alloc()");

static void add_row(const struct nested *nested, unsigned row)
{
    const struct row entry = {(uint16_t)row, vmcs_fields[row].encoding};
    if (!bits_test(nested->rows_shown, row))
        return;
    rows[rows_count++] = entry;
    if (vmcs_fields[row].area == VMCS_AREA_INFO)
        described[described_count++] = entry;
    else if (vmcs_fields[row].area == VMCS_AREA_GUEST && row != FIELD_INDEX_PML_INDEX &&
             row != FIELD_INDEX_PREEMPTION_TIMER && row != FIELD_INDEX_GUEST_INTERRUPT_STATUS)
        saved[saved_count++] = entry;
}

static bool is_written(unsigned row)
{
    for (unsigned i = 0; i < written_count; i++)
        if (rows[i].row == row)
            return true;
    return false;
}

void small_init(const struct nested *nested)
{
    rows_count = saved_count = described_count = written_count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(always_rows); i++)
        add_row(nested, always_rows[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(sometimes_rows); i++)
        add_row(nested, sometimes_rows[i]);
    written_count = rows_count;
    for (unsigned i = 0; i < ARRAY_SIZE(direct_rows); i++)
        ASSERT(!bits_test(nested->rows_shown, direct_rows[i]) || is_written(direct_rows[i]));
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        if (!is_written(row))
            add_row(nested, row);
}

/* True if neither the CPU nor Nestor looks at the row, by vmcs12's controls. */
static bool is_unused(const struct vmcs12 *v, unsigned row)
{
    switch (row) {
    case FIELD_INDEX_GUEST_INTERRUPT_STATUS:
    case FIELD_INDEX_EOI_EXIT_BITMAP0:
    case FIELD_INDEX_EOI_EXIT_BITMAP1:
    case FIELD_INDEX_EOI_EXIT_BITMAP2:
    case FIELD_INDEX_EOI_EXIT_BITMAP3:
        return !(vmcs12_proc2(v) & PROC2_VIRTUAL_INTERRUPTS);
    case FIELD_INDEX_PREEMPTION_TIMER:
        return !(v->PIN_CONTROLS & PIN_PREEMPTION_TIMER);
    case FIELD_INDEX_TPR_THRESHOLD:
        return !(v->PROC_CONTROLS & PROC_TPR_SHADOW);
    case FIELD_INDEX_ENTRY_EXCEPTION_ERROR_CODE:
    case FIELD_INDEX_ENTRY_INSTRUCTION_LENGTH:
        return !(v->ENTRY_INTERRUPTION_INFO & INTR_VALID);
    default:
        return false;
    }
}

static bool make(const struct nested *nested, struct vmcs12_slot *slot)
{
    struct small_shadow *small = page_alloc();
    if (!small)
        return false;
    small->vmcs = vmcs_alloc(&nested->vcpu->vm->caps);
    if (!small->vmcs) {
        page_free(small);
        return false;
    }
    *(uint32_t *)hpa_to_va(small->vmcs) |= (uint32_t)VMCS_SHADOW_INDICATOR; /* vmcs_alloc() leaves it not active */
    slot->small = small;
    return true;
}

static inline void save_row(struct vmcs12 *v, unsigned row)
{
    vmcs_read_to(&v->field[row], vmcs_fields[row].encoding);
}

bool small_save(const struct nested *nested, struct vmcs12_slot *slot, const uint64_t *left, bool exit)
{
    struct vmcs12 *v = slot->v;
    EXPECT_CURRENT(slot->vmcs02);
    if (!nested->small || slot->enlightened)
        return false;
    for (unsigned i = 0; i < saved_count; i++)
        vmcs_read_to(&v->field[saved[i].row], saved[i].encoding);
    if ((v->PIN_CONTROLS & PIN_PREEMPTION_TIMER) && (v->EXIT_CONTROLS & EXITC_SAVE_TIMER))
        save_row(v, FIELD_INDEX_PREEMPTION_TIMER);
    if (vmcs12_proc2(v) & PROC2_VIRTUAL_INTERRUPTS)
        save_row(v, FIELD_INDEX_GUEST_INTERRUPT_STATUS);
    for (unsigned i = 0; exit && i < described_count; i++)
        vmcs_read_to(&v->field[described[i].row], described[i].encoding);
    if (exit)
        save_row(v, FIELD_INDEX_IDT_VECTORING_ERROR_CODE); /* which is not shown */
    for (unsigned word = 0; word < DIRTY_WORDS; word++)
        slot->live[word] = left[word] & ~nested->rows_shown[word];
    return true;
}

void small_show(const struct nested *nested, struct vmcs12_slot *slot)
{
    EXPECT_CURRENT(slot->vmcs02);
    if (slot->enlightened || (!slot->small && !make(nested, slot)))
        return;
    struct small_shadow *small = slot->small;
    const uint64_t *field = slot->v->field;
    vmcs_load(small->vmcs);
    for (unsigned i = 0; i < rows_count; i++) {
        uint64_t value = field[rows[i].row];
        if (small->filled && small->has[i] == value)
            continue;
        small->has[i] = value;
        vmcs_write_encoding(rows[i].encoding, value);
    }
    small->filled = true;
    slot->small_shown = small->vmcs;
}

/* A value that an exit saved passes the checks, and L2's state the CPU checks in vmcs02 as it would in vmcs12:
 * nested/enter finds the rule when it refuses one. */
static void take(struct vmcs12_slot *slot, unsigned i, uint64_t value)
{
    unsigned row = rows[i].row;
    slot->v->field[row] = slot->small->has[i] = value;
    bits_set(slot->plan.dirty, row);
    if (row == FIELD_INDEX_TPR_THRESHOLD || row == FIELD_INDEX_GUEST_CR3)
        slot->plan.scope |= check_scope_of(row);
    else if (vmcs_fields[row].area != VMCS_AREA_CTRL)
        slot->direct |= check_scope_of(row);
}

static void fetch(struct vmcs12_slot *slot, bool all)
{
    const struct small_shadow *small = slot->small;
    vmcs_load(small->vmcs);
    for (unsigned i = 0; i < written_count; i++) {
        if (i >= ARRAY_SIZE(always_rows) && !all && is_unused(slot->v, rows[i].row))
            continue;
        uint64_t value = vmcs_read_encoding(rows[i].encoding);
        if (value != small->has[i])
            take(slot, i, value);
    }
    if (slot->v->ENTRY_INTERRUPTION_INFO & INTR_VALID)
        slot->plan.scope |= check_scope_of(FIELD_INDEX_ENTRY_INTERRUPTION_INFO);
}

void small_fetch(struct vmcs12_slot *slot)
{
    fetch(slot, false);
}

void small_fetch_all(struct vmcs12_slot *slot)
{
    fetch(slot, true);
}

void small_put(const struct nested *nested, struct vmcs12_slot *slot, unsigned row)
{
    if (!slot->small_shown)
        return;
    vmcs_load(slot->small->vmcs);
    for (unsigned i = 0; i < rows_count; i++)
        if (rows[i].row == row) {
            slot->small->has[i] = slot->v->field[row];
            vmcs_write_encoding(rows[i].encoding, slot->v->field[row]);
        }
    vmcs_load(nested->vcpu->vmcs01);
}

void small_hide(struct vmcs12_slot *slot)
{
    slot->small_shown = 0;
}

void small_free(struct vmcs12_slot *slot)
{
    if (!slot->small)
        return;
    vmcs_free(slot->small->vmcs);
    page_free(slot->small);
    slot->small = NULL;
    slot->small_shown = 0;
}
