/* A bitmap of 32,768 bits as the runs of ones in it: for tools/bitmap-report, which draws both halves and their OR. */
#include "nested/bitmap/merged_dump.h"

#include "kernel/log.h"

#define BITS_IN_PAGE (8 * PAGE_SIZE)
#define MERGES_LOGGED 1000
#define LINES_MAX 512 /* an L1 can make a bitmap of 16,384 runs */

static bool bit_of(const uint8_t *page, unsigned bit)
{
    return page[bit / 8] >> bit % 8 & 1;
}

/* One line for each run of set bits: whose, first and last bit. */
static void dump_page(const char *whose, const uint8_t *page)
{
    unsigned lines = 0;
    for (unsigned bit = 0; bit < BITS_IN_PAGE; bit++) {
        unsigned first = bit;
        if (!bit_of(page, bit))
            continue;
        if (lines++ == LINES_MAX) {
            log_raw("bitmap-dump: %s more", whose);
            return;
        }
        while (bit + 1 < BITS_IN_PAGE && bit_of(page, bit + 1))
            bit++;
        log_raw("bitmap-dump: %s %x-%x", whose, first, bit);
    }
}

/* Before its pages are freed, and at the end of the run: so each page that was ever merged is in the log. */
void merged_dump(const struct merged *m)
{
    const uint8_t *l1_page = merged_l1_page(m);
    if (m->kind != MERGED_MSR || !m->l0_page || !l1_page)
        return;
    log_raw("bitmap-dump: page %lx", m->page);
    dump_page("l0", m->l0_page);
    dump_page("l1", l1_page);
    log_raw("bitmap-dump: end");
}

void merged_dump_merge(const struct merged *m)
{
    static unsigned logged;

    if (logged == MERGES_LOGGED)
        return;
    merged_dump(m);
    if (++logged == MERGES_LOGGED)
        log_raw("bitmap-dump: further merges are not logged");
}
