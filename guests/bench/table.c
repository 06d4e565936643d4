#include "guests/bench/table.h"

#include "guests/bench/display.h"
#include "guests/lib/counters.h"
#include "guests/lib/mem.h"

#define CELL 40u       /* characters of a row: the longest key has 25, and each figure 7 */
#define LINES_AROUND 5 /* of a page that are no rows: the head, the foot, and empty ones */
#define PAGE_SECONDS 10
#define TICKS_OF_SECOND_AT_MOST 6000000000ull

#define CPUID_HYPERVISOR BIT(31)
#define HYPERVISOR_LEAF 0x40000000u
#define BRAND_LEAF 0x80000002u
#define CMOS_ADDRESS 0x70
#define CMOS_DATA 0x71
#define CMOS_SECONDS 0

void table_print(const struct bench_result *results, unsigned count, bool counted)
{
    for (const struct bench_result *result = results; result < results + count; result++) {
        print("%s: %s", counted ? "count" : "bench", result->key);
        for (unsigned i = 0; counted && i < BENCH_COUNTS; i++)
            print(" %u.%02u", result->counts[i] / 100, result->counts[i] % 100);
        if (!counted)
            print(" %lu.%02lu %lu.%02lu", result->least / 100, result->least % 100, result->median / 100,
                  result->median % 100);
        print("\n");
    }
}

/* The name that the CPU gives itself, without the blanks before it. */
static const char *brand(char *text)
{
    for (unsigned i = 0; i < 3; i++) {
        struct cpuid part = cpu_cpuid(BRAND_LEAF + i, 0);
        memcpy(text + i * sizeof(part), &part, sizeof(part));
    }
    while (*text == ' ')
        text++;
    return text;
}

/* Nestor shows itself by the option stats=, others by a leaf of CPUID. */
static const char *l0_name(char *text)
{
    struct cpuid leaf;

    if (counters_present())
        return "Nestor";
    if (!(cpu_cpuid(1, 0).ecx & CPUID_HYPERVISOR))
        return "none";
    leaf = cpu_cpuid(HYPERVISOR_LEAF, 0);
    memcpy(text, &leaf.ebx, 3 * sizeof(leaf.ebx));
    return text;
}

void table_print_machine(void)
{
    char cpu[3 * sizeof(struct cpuid) + 1] = {0}, l0[3 * sizeof(uint32_t) + 1] = {0};

    print("bench: on %s, signature %x, L0: %s\n", brand(cpu), cpu_cpuid(1, 0).eax, l0_name(l0));
}

/* In 7 characters, as long as it is below 10 million. */
static void put_figure(uint64_t hundredths)
{
    if (hundredths < 100000)
        print("%4lu.%02lu", hundredths / 100, hundredths % 100);
    else
        print("%7lu", hundredths / 100);
}

static unsigned rows_of_page(void)
{
    return (display_columns() / CELL) * (display_rows() - LINES_AROUND);
}

/* Rows go down the first column, then down the next one. */
static void put_rows(const struct bench_result *results, unsigned count)
{
    unsigned lines = display_rows() - LINES_AROUND;

    for (unsigned line = 0; line < MIN(lines, count); line++) {
        for (unsigned i = line; i < count; i += lines) {
            print("%s%-25s", i == line ? "" : " ", results[i].key);
            put_figure(results[i].least);
            put_figure(results[i].median);
        }
        print("\n");
    }
}

static void show_page(const struct bench_result *results, unsigned count, unsigned page)
{
    unsigned rows = rows_of_page(), first = page * rows, pages = (count + rows - 1) / rows;

    display_clear();
    console_use(display_put);
    table_print_machine();
    print("time-stamp counter for one operation: minimum, median\n\n");
    put_rows(results + first, MIN(rows, count - first));
    print("\npage %u of %u", page + 1, pages);
    console_use(NULL);
}

bool table_show(const struct bench_result *results, unsigned count)
{
    if (!display_start() || display_columns() < CELL || display_rows() <= LINES_AROUND)
        return false;
    show_page(results, count, 0);
    return true;
}

static uint8_t clock(void)
{
    cpu_outb(CMOS_ADDRESS, CMOS_SECONDS);
    return cpu_inb(CMOS_DATA);
}

/* By the machine's clock; a machine without one takes longer. */
static void wait(unsigned seconds)
{
    uint64_t start = cpu_rdtsc(), limit = seconds * TICKS_OF_SECOND_AT_MOST;

    for (uint8_t last = clock(); seconds && cpu_rdtsc() - start < limit;) {
        uint8_t now = clock();
        seconds -= now != last;
        last = now;
    }
}

void table_turn_pages(const struct bench_result *results, unsigned count)
{
    unsigned rows = rows_of_page(), pages = MAX((count + rows - 1) / rows, 1u);

    for (unsigned page = 1;; page++) {
        wait(PAGE_SECONDS);
        if (pages > 1)
            show_page(results, count, page % pages);
    }
}

void table_refuse(const char *text)
{
    print("bench: %s\n", text);
    if (!display_start())
        return;
    console_use(display_put);
    print("bench: %s\n", text);
    console_use(NULL);
}
