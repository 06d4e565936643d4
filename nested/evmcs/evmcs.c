#include "nested/evmcs/evmcs.h"

#include "vmx/vmcs_exists.h"

static const struct evmcs_row {
    uint16_t offset;
    uint8_t row, group;
} rows[] = {
#define EVMCS(field, offset, group) {offset, FIELD_INDEX_##field, EVMCS_##group},
#include "nested/evmcs/evmcs_fields.def"
#undef EVMCS
};

/* A field lies at a multiple of its width, and inside. */
#define WIDTH_OF(field) _Generic(field, vmcs16_t : 2, vmcs32_t : 4, vmcs64_t : 8, vmcsNAT_t : 8)
#define EVMCS(field, offset, group)                                                                                    \
    _Static_assert((offset) % WIDTH_OF(field) == 0 && (offset) + WIDTH_OF(field) <= EVMCS_SIZE, #field);
#include "nested/evmcs/evmcs_fields.def"
#undef EVMCS

/* Runs of rows[], and the rows that an exit writes: those of the guest's state first, the last `failure_count` those
 * that also an entry writes that fails. */
static struct {
    uint8_t first, end;
} groups[EVMCS_GROUPS];
static const struct evmcs_row *saved[ARRAY_SIZE(rows)];
static unsigned saved_count, failure_from;

/* Beside the guest-state area: an exit ends the event that the entry injected, and says which mode L2 is in. SDM 3C
 * 28.2, 28.3.1 */
static bool is_saved(unsigned row)
{
    return vmcs_fields[row].area == VMCS_AREA_GUEST || row == FIELD_INDEX_ENTRY_INTERRUPTION_INFO ||
           row == FIELD_INDEX_ENTRY_CONTROLS;
}

void evmcs_init(void)
{
    saved_count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        unsigned group = rows[i].group;
        if (!groups[group].end)
            groups[group].first = (uint8_t)i;
        groups[group].end = (uint8_t)(i + 1);
        if (is_saved(rows[i].row))
            saved[saved_count++] = &rows[i];
    }
    failure_from = saved_count;
    for (unsigned i = groups[EVMCS_EXIT].first; i < groups[EVMCS_EXIT].end; i++)
        saved[saved_count++] = &rows[i];
}
_Static_assert(ARRAY_SIZE(rows) < UINT8_MAX, "groups[] has 8 bits");

void evmcs_limit(struct vmx_caps *caps)
{
    static const bool has[FIELD_COUNT] = {
#define EVMCS(field, offset, group) [FIELD_INDEX_##field] = true,
#include "nested/evmcs/evmcs_fields.def"
#undef EVMCS
    };
    for (unsigned row = 0; row < FIELD_COUNT; row++)
        if (!has[row])
            vmcs_field_withdraw(caps, row);
}

/* The page is L1's, which may store to it meanwhile: one load for each field, and one store. */
static uint64_t field_read(const uint8_t *page, const struct evmcs_row *row)
{
    const uint8_t *at = page + row->offset;
    switch (vmcs_fields[row->row].width) {
    case VMCS_WIDTH_16:
        return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_RELAXED);
    case VMCS_WIDTH_32:
        return __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_RELAXED);
    default:
        return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
    }
}

static void field_write(uint8_t *page, const struct evmcs_row *row, uint64_t value)
{
    uint8_t *at = page + row->offset;
    switch (vmcs_fields[row->row].width) {
    case VMCS_WIDTH_16:
        __atomic_store_n((uint16_t *)(void *)at, (uint16_t)value, __ATOMIC_RELAXED);
        break;
    case VMCS_WIDTH_32:
        __atomic_store_n((uint32_t *)(void *)at, (uint32_t)value, __ATOMIC_RELAXED);
        break;
    default:
        __atomic_store_n((uint64_t *)(void *)at, value, __ATOMIC_RELAXED);
    }
}

uint32_t evmcs_word(const uint8_t *page, unsigned offset)
{
    return __atomic_load_n((const uint32_t *)(const void *)(page + offset), __ATOMIC_RELAXED);
}

static void read_group(const uint8_t *page, unsigned group, const uint64_t *offered, struct vmcs12 *v,
                       uint64_t *changed)
{
    for (unsigned i = groups[group].first; i < groups[group].end; i++) {
        uint64_t value = field_read(page, &rows[i]);
        unsigned row = rows[i].row;
        if (v->field[row] == value || !bits_test(offered, row))
            continue;
        v->field[row] = value;
        bits_set(changed, row);
    }
}

void evmcs_read(const uint8_t *page, uint32_t clean, const uint64_t *offered, struct vmcs12 *v, uint64_t *changed)
{
    uint32_t due = (uint32_t)(~clean & EVMCS_CLEAN_ALL);
    for (unsigned word = 0; word < EVMCS_WORDS; word++)
        changed[word] = 0;
    read_group(page, EVMCS_ALWAYS, offered, v, changed);
    for (; due; due &= due - 1)
        read_group(page, (unsigned)__builtin_ctz(due), offered, v, changed);
}

static void write_rows(uint8_t *page, const uint64_t *offered, const struct vmcs12 *v, unsigned from)
{
    for (unsigned i = from; i < saved_count; i++)
        if (bits_test(offered, saved[i]->row))
            field_write(page, saved[i], v->field[saved[i]->row]);
}

void evmcs_write_exit(uint8_t *page, const uint64_t *offered, const struct vmcs12 *v)
{
    write_rows(page, offered, v, 0);
}

void evmcs_write_failure(uint8_t *page, const uint64_t *offered, const struct vmcs12 *v)
{
    write_rows(page, offered, v, failure_from);
}
