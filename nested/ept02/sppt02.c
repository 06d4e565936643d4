/* L1's sub-page permission tables hold addresses that the CPU must not follow: L1 may write any. So vmcs02 has a table
 * of Nestor's own, which is filled when L2 stores. A page that Nestor watches needs nothing here: as long as a store
 * to it must exit, EPT02's leaf has neither W nor the bit that brings this table in. */
#include "nested/ept02/sppt02.h"

#include "kernel/layout.h"
#include "kernel/string.h"
#include "mm/ept.h"
#include "mm/page.h"

#define TOP_LEVEL 4u
#define VALID BIT(0)
#define ADDRESS BITS(51, 12)
#define TABLE_RESERVED (BITS(63, 52) | BITS(11, 1))
#define VECTOR_RESERVED 0xaaaaaaaaaaaaaaaaull

int sppt02_init(struct sppt02 *s)
{
    *s = (struct sppt02){.used = 1};
    for (unsigned i = 0; i < SPPT02_PAGES; i++) {
        s->page[i] = page_alloc();
        if (!s->page[i]) {
            sppt02_release(s);
            return -1;
        }
    }
    return 0;
}

void sppt02_release(struct sppt02 *s)
{
    for (unsigned i = 0; i < SPPT02_PAGES && s->page[i]; i++) {
        page_free(s->page[i]);
        s->page[i] = NULL;
    }
}

/* All-ones where there is no RAM, which has reserved bits. */
enum sppt12_result sppt12_look(const struct gmem *gmem, unsigned address_bits, uint64_t spptp12, gpa_t gpa2,
                               uint64_t *vector)
{
    const uint64_t reserved = TABLE_RESERVED | (ADDRESS & ~(BIT(address_bits) - 1));
    gpa_t table = spptp12 & ADDRESS;

    for (unsigned level = TOP_LEVEL;; level--) {
        uint64_t entry;
        (void)gmem_read64(gmem, table + 8 * ept_index(gpa2, level), &entry);
        *vector = entry;
        if (level == 1)
            return entry & VECTOR_RESERVED ? SPPT12_MISCONFIG : SPPT12_VECTOR;
        if (!(entry & VALID))
            return SPPT12_MISS;
        if (entry & reserved)
            return SPPT12_MISCONFIG;
        table = entry & ADDRESS;
    }
}

/* The pages stay Nestor's and are used again, so what the CPU may have cached of them is due to go. */
static bool empty(struct sppt02 *s)
{
    bool had = s->used > 1;

    for (unsigned i = 0; had && i < s->used; i++)
        memset(s->page[i], 0, PAGE_SIZE);
    s->used = 1;
    return had;
}

bool sppt02_use(struct sppt02 *s, uint64_t spptp12)
{
    if (!s->stale && s->spptp12 == spptp12)
        return false;
    s->stale = false;
    s->spptp12 = spptp12;
    return empty(s);
}

/* The place of the vector for gpa2, with the tables above it; NULL when the pages are used up. */
static uint64_t *vector_of(struct sppt02 *s, gpa_t gpa2)
{
    uint64_t *table = s->page[0];

    for (unsigned level = TOP_LEVEL; level > 1; level--) {
        uint64_t *entry = &table[ept_index(gpa2, level)];
        if (!*entry && s->used == SPPT02_PAGES)
            return NULL;
        if (!*entry)
            __atomic_store_n(entry, va_to_hpa(s->page[s->used++]) | VALID, __ATOMIC_RELEASE);
        table = hpa_to_va(*entry & ADDRESS);
    }
    return &table[ept_index(gpa2, 1)];
}

bool sppt02_set(struct sppt02 *s, gpa_t gpa2, uint64_t vector)
{
    uint64_t *place = vector_of(s, gpa2);
    bool went = !place && empty(s);

    if (!place)
        place = vector_of(s, gpa2);
    went |= *place != vector;
    __atomic_store_n(place, vector, __ATOMIC_RELEASE);
    return went;
}
