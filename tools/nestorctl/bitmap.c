/* bitmap: whose each MSR access of L2 is, of L1's current VMCS on one processor; in words, or as the page that
 * tools/bitmap-report fills too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel/version.h"
#include "tools/nestorctl/commands.h"
#include "tools/nestorctl/page.h"
#include "tools/nestorctl/window.h"

#define PAGE 4096u
#define BITS (8 * PAGE)
#define PART (BITS / 4)

struct bitmap {
    struct inspect_bitmap head;
    uint8_t l1[PAGE], l0[PAGE];
};

static const struct {
    uint32_t number;
    const char *name;
} msrs[] = {
#include "build/nestorctl/msr_names.inc"
};

static const char *name_of(uint32_t msr)
{
    for (size_t i = 0; i < sizeof msrs / sizeof msrs[0]; i++)
        if (msrs[i].number == msr)
            return msrs[i].name;
    return "";
}

static bool bit_of(const uint8_t *page, unsigned bit)
{
    return page[bit / 8] >> bit % 8 & 1;
}

/* 0: nobody, 1: L0, 2: L1, 3: both */
static unsigned who_of(const struct bitmap *bitmap, unsigned bit)
{
    return bit_of(bitmap->l0, bit) | bit_of(bitmap->l1, bit) << 1;
}

/* Four parts: reads, then writes, of the low MSRs and the high ones. SDM 3C 25.6.9 "MSR-Bitmap Address" */
static uint32_t msr_of(unsigned bit)
{
    return bit % PART + (bit / PART % 2 ? 0xc0000000u : 0);
}

/* Runs of accesses that are the same one's; those that nobody wants, and what L1 wants alone in long runs, are many. */
static void print_words(const struct bitmap *bitmap)
{
    static const char *const who[] = {"nobody", "L0", "L1", "both"};
    unsigned sum[4] = {0};

    for (unsigned bit = 0, first; bit < BITS; bit++) {
        unsigned owner = who_of(bitmap, bit);
        for (first = bit; bit + 1 < BITS && (bit + 1) % PART && who_of(bitmap, bit + 1) == owner; bit++)
            continue;
        sum[owner] += bit - first + 1;
        if (!owner)
            continue;
        printf("%-5s %8xH", first < 2 * PART ? "RDMSR" : "WRMSR", msr_of(first));
        if (bit > first)
            printf(" to %8xH", msr_of(bit));
        printf(" exits for %s%s%s\n", who[owner], bit == first && *name_of(msr_of(bit)) ? ": " : "",
               bit == first ? name_of(msr_of(bit)) : "");
    }
    printf("of %u accesses: %u exit for nobody, %u for L0 alone, %u for L1 alone, %u for both\n", BITS, sum[0], sum[1],
           sum[2], sum[3]);
}

static void print_runs(FILE *out, const char *key, const uint8_t *page)
{
    const char *comma = "";

    fprintf(out, "\"%s\": [", key);
    for (unsigned bit = 0, first; bit < BITS; bit++) {
        if (!bit_of(page, bit))
            continue;
        for (first = bit; bit + 1 < BITS && bit_of(page, bit + 1); bit++)
            continue;
        fprintf(out, "%s[%u, %u]", comma, first, bit);
        comma = ", ";
    }
    fprintf(out, "]");
}

/* The data that tools/bitmap-report describes. */
static void print_data(FILE *out, const void *data)
{
    const struct bitmap *bitmap = data;
    time_t now = time(NULL);
    char date[32];

    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", gmtime(&now));
    fprintf(out, "{\"about\": {\"date\": \"%s\", \"version\": \"%s\", \"command\": \"nestorctl bitmap\"}, ", date,
            NESTOR_VERSION);
    fprintf(out, "\"counters\": [], \"names\": {");
    for (size_t i = 0; i < sizeof msrs / sizeof msrs[0]; i++)
        fprintf(out, "%s\"%u\": \"%s\"", i ? ", " : "", msrs[i].number, msrs[i].name);
    fprintf(out, "}, \"dumps\": [{\"page\": \"%lXH\", ", bitmap->head.page);
    print_runs(out, "l0", bitmap->l0);
    fprintf(out, ", ");
    print_runs(out, "l1", bitmap->l1);
    fprintf(out, "}]}");
}

static int write_page(const char *path, const struct bitmap *bitmap)
{
    FILE *out = fopen(path, "we");

    if (!out) {
        fprintf(stderr, "nestorctl: %s cannot be written\n", path);
        return STATUS_FAILED;
    }
    if (page_write(out, page_bitmap, print_data, bitmap) | fclose(out)) {
        fprintf(stderr, "nestorctl: %s could not be written whole\n", path);
        return STATUS_FAILED;
    }
    return STATUS_OK;
}

int command_bitmap(int argc, char **argv)
{
    static struct bitmap bitmap;
    struct inspect_header header;
    const char *path = NULL;
    int letter, cpu = -1;

    optind = 1;
    while ((letter = getopt(argc, argv, "c:o:")) != -1) {
        char *end = "";
        if (letter == 'c')
            cpu = (int)strtol(optarg, &end, 10);
        else if (letter == 'o')
            path = optarg;
        if (letter == '?' || *end || optind > argc) {
            fprintf(stderr, "nestorctl: bitmap [-c CPU] [-o FILE]\n");
            return STATUS_USAGE;
        }
    }
    if (window_open(&header) || (cpu >= 0 && !window_move(cpu)))
        return STATUS_FAILED;
    window_read(INSPECT_OFFSET(INSPECT_BITMAP, 0), &bitmap, offsetof(struct bitmap, l0));
    window_read(INSPECT_OFFSET(INSPECT_POLICY, 0), bitmap.l0, PAGE);
    if (bitmap.head.vmptr == ~0ull) {
        fprintf(stderr, "nestorctl: L1 has no current VMCS on this processor: start a guest, or say -c CPU\n");
        return STATUS_FAILED;
    }
    if (path)
        return write_page(path, &bitmap);
    printf("of the VMCS at gpa1=%lx, ", bitmap.head.vmptr);
    if (bitmap.head.page == ~0ull)
        printf("without an MSR bitmap: every access exits\n");
    else
        printf("MSR bitmap at gpa1=%lx\n", bitmap.head.page);
    print_words(&bitmap);
    return STATUS_OK;
}
