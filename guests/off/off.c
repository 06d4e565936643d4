/* Ways in which an L1 resets its machine; the argument says which. `again` resets it by port CF9H once, and when it
 * runs the second time, prints what Nestor has kept of its log of the first. */
#include "guests/lib/check.h"
#include "guests/lib/console.h"
#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "guests/lib/start.h"
#include "kernel/inspect_abi.h"

#define PATIENCE 10000000u /* turns of a loop until the reset must have come */

static const struct {
    const char *name;
    uint16_t port;
    uint8_t value;
} ways[] = {
    {"cf9", 0xcf9, 0x6},
    {"keyboard", 0x64, 0xfe},
    {"port92", 0x92, 0x1},
    {"none", 0x80, 0x0},
    /* Where tests/vm/lib_firmware.c puts the FADT's register. */
    {"fadt", 0x605, 0x5a},
};

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static uint32_t inspect_port(void)
{
    return cpu_cpuid(INSPECT_LEAF_PORT, 0).ebx;
}

static uint32_t inspect_word_at(uint32_t offset)
{
    cpu_outl((uint16_t)inspect_port(), offset);
    return cpu_inl((uint16_t)inspect_port());
}

static void print_previous(uint32_t written)
{
    for (uint32_t at = 0; at < written; at += 4) {
        uint32_t word = inspect_word_at(INSPECT_OFFSET(INSPECT_PREVIOUS, sizeof(struct inspect_log_position) + at));
        for (uint32_t i = 0; i < 4 && at + i < written; i++, word >>= 8)
            print("%c", (char)word);
    }
}

static void reset_by(unsigned way)
{
    print("off: a reset by %s follows\n", ways[way].name);
    cpu_outb(ways[way].port, ways[way].value);
    for (volatile unsigned i = 0; i < PATIENCE; i++)
        ;
}

uint8_t guest_main(const char *args)
{
    while (*args && *args++ != ' ') /* the image's own name comes first */
        ;
    if (same(args, "again")) {
        uint32_t written = inspect_word_at(INSPECT_OFFSET(INSPECT_PREVIOUS, 0));
        if (written) {
            print_previous(written);
            return 0;
        }
        reset_by(0);
        return 1;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ways); i++)
        if (same(args, ways[i].name))
            reset_by(i);
    return 7; /* nothing happened */
}
