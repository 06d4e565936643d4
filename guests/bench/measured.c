#include "guests/bench/measured.h"

#include "guests/lib/cpu.h"
#include "guests/lib/mem.h"
#include "kernel/inspect_abi.h"
#include "kernel/layout.h"

#define BEGINS "measure: "
#define LOG_KEPT (64u << 10)

static char text[LOG_KEPT + 4];

/* 0: this is no Nestor with the option. */
static uint16_t find_port(void)
{
    struct cpuid leaf = cpu_cpuid(INSPECT_LEAF, 0);
    char signature[13] = {0};

    memcpy(signature, &leaf.ebx, 4);
    memcpy(signature + 4, &leaf.ecx, 4);
    memcpy(signature + 8, &leaf.edx, 4);
    return memcmp(signature, INSPECT_SIGNATURE, 12) ? 0 : (uint16_t)cpu_cpuid(INSPECT_LEAF_PORT, 0).ebx;
}

/* The log from its beginning. One that has gone round the ring is not looked at: its first lines are gone. */
static void read_log(uint16_t port)
{
    uint32_t written;

    cpu_outl(port, INSPECT_OFFSET(INSPECT_LOG, 0));
    written = cpu_inl(port);
    written = MIN(written, LOG_KEPT);
    cpu_outl(port, INSPECT_OFFSET(INSPECT_LOG, sizeof(struct inspect_log_position)));
    for (uint32_t at = 0; at < written; at += 4) {
        uint32_t word = cpu_inl(port);
        memcpy(text + at, &word, sizeof(word));
    }
    text[written] = 0;
}

unsigned measured_read(const char **lines, unsigned room)
{
    const size_t begins = sizeof(BEGINS) - 1;
    uint16_t port = find_port();
    unsigned count = 0;

    if (!port)
        return 0;
    read_log(port);
    for (char *at = text; *at && count < room; at++) {
        char *line = at;
        while (*at && *at != '\n')
            at++;
        if ((size_t)(at - line) > begins && !memcmp(line, BEGINS, begins))
            lines[count++] = line + begins;
        if (!*at)
            break;
        *at = 0;
    }
    return count;
}
