#include "guests/bench/table.h"

#include "guests/bench/display.h"
#include "guests/bench/measured.h"
#include "guests/lib/counters.h"
#include "guests/lib/mem.h"

#define CELL 39u       /* characters of a row: the longest key has 25, and each figure 7 */
#define GAP 2u         /* between two columns: VGA's text has room for two */
#define LINES_AROUND 6 /* of a page that are no rows: two heads, those of the columns, an empty line, two of the foot */
#define PAGE_SECONDS 10
#define TICKS_OF_SECOND_AT_MOST 6000000000ull

#define CPUID_HYPERVISOR BIT(31)
#define HYPERVISOR_LEAF 0x40000000u
#define BRAND_LEAF 0x80000002u
#define CMOS_ADDRESS 0x70
#define CMOS_DATA 0x71
#define CMOS_SECONDS 0

static char run_name[32];

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

    print("bench: on %s, signature %x, L0: %s%s\n", brand(cpu), cpu_cpuid(1, 0).eax, l0_name(l0), run_name);
}

void table_name_run(const char *name)
{
    run_name[0] = ' ';
    for (unsigned i = 1; *name && *name != ' ' && i < sizeof(run_name) - 1; i++)
        run_name[i] = *name++;
}

/* In 7 characters, as long as it is below 10 million. */
static void put_figure(uint64_t hundredths)
{
    if (hundredths < 100000)
        print("%4lu.%02lu", hundredths / 100, hundredths % 100);
    else
        print("%7lu", hundredths / 100);
}

/* Lines of a page between its heads and its foot. */
static unsigned lines_of_page(void)
{
    return display_rows() - LINES_AROUND;
}

static unsigned columns_of_page(void)
{
    return (display_columns() + GAP) / (CELL + GAP);
}

static unsigned pages_for(unsigned count, unsigned of_page)
{
    return (count + of_page - 1) / of_page;
}

static unsigned pages_of(const struct bench_table *table)
{
    return pages_for(table->measured, lines_of_page()) +
           MAX(pages_for(table->count, lines_of_page() * columns_of_page()), 1u);
}

static void put_gap(bool first)
{
    print("%s", first ? "" : "  ");
}

/* Rows go down the first column, then down the next one. */
static void put_rows(const struct bench_result *results, unsigned count)
{
    unsigned lines = lines_of_page();

    for (unsigned i = 0; i < count; i += lines) {
        put_gap(i == 0);
        print("%-25s%7s%7s", "", "minimum", "median");
    }
    print("\n");
    for (unsigned line = 0; line < MIN(lines, count); line++) {
        for (unsigned i = line; i < count; i += lines) {
            put_gap(i == line);
            print("%-25s", results[i].key);
            put_figure(results[i].least);
            put_figure(results[i].median);
        }
        print("\n");
    }
}

/* Whoever has no serial port takes photographs, and may see the page for the first time. */
static void put_foot(unsigned page, unsigned pages)
{
    print("\npage %u of %u. ", page + 1, pages);
    if (pages > 1)
        print("Photograph each: every %u seconds comes the next one.\n", PAGE_SECONDS);
    else
        print("Photograph it.\n");
    print("Then switch the machine off, and start the menu's next entry.");
}

static void show_page(const struct bench_table *table, unsigned page)
{
    unsigned lines = lines_of_page(), first = pages_for(table->measured, lines);

    display_clear();
    console_use(display_put);
    table_print_machine();
    if (page < first) {
        print("VMX instructions, before the benchmark, by the time-stamp counter\n");
        for (unsigned i = page * lines; i < MIN((page + 1) * lines, table->measured); i++)
            print("%s\n", table->lines[i]);
    } else {
        unsigned rows = lines * columns_of_page(), from = (page - first) * rows;
        print("the benchmark, time-stamp counter for one operation\n");
        put_rows(table->results + from, MIN(rows, table->count - from));
    }
    put_foot(page, pages_of(table));
    console_use(NULL);
}

bool table_show(struct bench_table *table)
{
    if (!display_start() || display_columns() < CELL || display_rows() <= LINES_AROUND)
        return false;
    table->measured = measured_read(table->lines, ARRAY_SIZE(table->lines));
    show_page(table, 0);
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

void table_turn_pages(const struct bench_table *table)
{
    for (unsigned page = 1;; page++) {
        wait(PAGE_SECONDS);
        if (pages_of(table) > 1)
            show_page(table, page % pages_of(table));
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
