/* Rows in the order of gdb's numbers, in the features that gdb looks for; what Nestor does not know of is in the rows
 * all the same, as gdb insists on it. The description is made of the rows. */
#include "debug/registers.h"

#include "kernel/format.h"
#include "kernel/string.h"

#define NONE DEBUG_REGISTERS
#define XML_SIZE 8192

/* gdb's numbers are places in this table. */
struct row {
    enum debug_register which;
    uint8_t size;
    const char *name, *type;
};
#define ROW(member, name, size, type) {DEBUG_##member, size, name, type},
#define X87(name)                                                                                                      \
    {                                                                                                                  \
        NONE, 10, name, "i387_ext"                                                                                     \
    }
#define X87_STATE(name)                                                                                                \
    {                                                                                                                  \
        NONE, 4, name, "int"                                                                                           \
    }
#define XMM(name)                                                                                                      \
    {                                                                                                                  \
        NONE, 16, name, "uint128"                                                                                      \
    }
static const struct row core[] = {
    DEBUG_CORE(ROW) X87("st0"),
    X87("st1"),
    X87("st2"),
    X87("st3"),
    X87("st4"),
    X87("st5"),
    X87("st6"),
    X87("st7"),
    X87_STATE("fctrl"),
    X87_STATE("fstat"),
    X87_STATE("ftag"),
    X87_STATE("fiseg"),
    X87_STATE("fioff"),
    X87_STATE("foseg"),
    X87_STATE("fooff"),
    X87_STATE("fop"),
};
static const struct row sse[] = {
    XMM("xmm0"),
    XMM("xmm1"),
    XMM("xmm2"),
    XMM("xmm3"),
    XMM("xmm4"),
    XMM("xmm5"),
    XMM("xmm6"),
    XMM("xmm7"),
    XMM("xmm8"),
    XMM("xmm9"),
    XMM("xmm10"),
    XMM("xmm11"),
    XMM("xmm12"),
    XMM("xmm13"),
    XMM("xmm14"),
    XMM("xmm15"),
    {NONE, 4, "mxcsr", "int"},
};
static const struct row bases[] = {DEBUG_BASES(ROW)};
static const struct row own[] = {DEBUG_SYSTEM(ROW)};

static const struct feature {
    const char *name;
    const struct row *row;
    size_t rows;
} features[] = {
    {"org.gnu.gdb.i386.core", core, ARRAY_SIZE(core)},
    {"org.gnu.gdb.i386.sse", sse, ARRAY_SIZE(sse)},
    {"org.gnu.gdb.i386.segments", bases, ARRAY_SIZE(bases)},
    {"org.nestor.system", own, ARRAY_SIZE(own)},
};

static const struct row *row_of(uint64_t number)
{
    for (size_t i = 0; i < ARRAY_SIZE(features); number -= features[i++].rows)
        if (number < features[i].rows)
            return &features[i].row[number];
    return NULL;
}

static void say(struct packet_text *text, const struct debug_registers *registers, const struct row *row)
{
    if (row->which != NONE && registers->known[row->which])
        packet_say_hex(text, &registers->value[row->which], row->size);
    else
        packet_say(text, "%.*s", 2 * row->size, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
}

void debug_registers_say(struct packet_text *text, const struct debug_registers *registers)
{
    const struct row *row;

    for (uint64_t number = 0; (row = row_of(number)); number++)
        say(text, registers, row);
}

bool debug_register_say(struct packet_text *text, const struct debug_registers *registers, uint64_t number)
{
    const struct row *row = row_of(number);

    if (row)
        say(text, registers, row);
    return row != NULL;
}

enum debug_register debug_register_of(uint64_t number, size_t *size)
{
    const struct row *row = row_of(number);

    *size = row ? row->size : 0;
    return row ? row->which : NONE;
}

static size_t describe(char *xml, size_t size)
{
    size_t at = format_text(xml, size,
                            "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
                            "<architecture>i386:x86-64</architecture>");

    for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
        at += format_text(xml + at, size - at, "<feature name=\"%s\">", features[i].name);
        for (size_t j = 0; j < features[i].rows; j++)
            at += format_text(xml + at, size - at, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>",
                              features[i].row[j].name, 8u * features[i].row[j].size, features[i].row[j].type);
        at += format_text(xml + at, size - at, "</feature>");
    }
    return at + format_text(xml + at, size - at, "</target>");
}

void debug_describe(struct packet_text *text, size_t offset, size_t length)
{
    static char xml[XML_SIZE];
    static size_t size;

    if (!size)
        size = describe(xml, sizeof xml);
    offset = MIN(offset, size);
    length = MIN(MIN(length, size - offset), PACKET_TEXT / 2);
    packet_say(text, "%c%.*s", offset + length < size ? 'm' : 'l', (int)length, xml + offset);
}
