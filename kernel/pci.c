#include "kernel/pci.h"

#include "kernel/x86.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define CONFIG_ENABLE BIT(31)
#define BUSES 256u
#define DEVICES 32u
#define FUNCTIONS 8u

#define REG_ID 0x00
#define REG_COMMAND 0x04
#define COMMAND_MEMORY BIT(1)
#define REG_HEADER 0x0c
#define HEADER_TYPE BITS(22, 16)
#define HEADER_MANY BIT(23) /* more functions than one */
#define REG_BARS 0x10
#define BARS_END 0x28
#define BAR_IO BIT(0)
#define BAR_64 BIT(2)
#define BAR_ADDRESS BITS(31, 4)
/* A framebuffer begins within so many bytes of the memory that has it. */
#define REACH (256 * MIB)

static uint32_t read(uint32_t function, uint32_t reg)
{
    uint32_t before = in32(CONFIG_ADDRESS);

    out32(CONFIG_ADDRESS, (uint32_t)CONFIG_ENABLE | function | reg);
    uint32_t value = in32(CONFIG_DATA);
    out32(CONFIG_ADDRESS, before);
    return value;
}

/* 0: it opens no memory. */
static hpa_t bar_base(uint32_t function, uint32_t reg)
{
    uint32_t low = read(function, reg);

    if (low & BAR_IO)
        return 0;
    return (low & BAR_ADDRESS) | (low & BAR_64 ? (uint64_t)read(function, reg + 4) << 32 : 0);
}

static void look_at(uint32_t function, hpa_t address, struct pci_place *best)
{
    if (!(read(function, REG_COMMAND) & COMMAND_MEMORY) || (read(function, REG_HEADER) & HEADER_TYPE))
        return;
    for (uint32_t reg = REG_BARS; reg < BARS_END; reg += 4) {
        hpa_t base = bar_base(function, reg);
        bool wide = !(read(function, reg) & BAR_IO) && (read(function, reg) & BAR_64);
        uint64_t limit = best->known ? best->offset : REACH;
        if (base && base <= address && address - base < limit)
            *best = (struct pci_place){true, function, (uint8_t)reg, address - base};
        reg += wide ? 4 : 0;
    }
}

struct pci_place pci_find(hpa_t address)
{
    struct pci_place best = {0};

    for (uint32_t device = 0; device < BUSES * DEVICES; device++) {
        uint32_t first = device << 11, functions = FUNCTIONS;
        if (read(first, REG_ID) == UINT32_MAX)
            continue;
        if (!(read(first, REG_HEADER) & HEADER_MANY))
            functions = 1;
        for (uint32_t i = 0; i < functions; i++)
            if (read(first | i << 8, REG_ID) != UINT32_MAX)
                look_at(first | i << 8, address, &best);
    }
    return best;
}

hpa_t pci_where(const struct pci_place *place)
{
    if (!place->known || !(read(place->function, REG_COMMAND) & COMMAND_MEMORY))
        return 0;
    hpa_t base = bar_base(place->function, place->reg);
    return base ? base + place->offset : 0;
}
