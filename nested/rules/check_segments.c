/* The longest table, made of few predicates by macros over the registers. Three things decide which rows apply. In
 * virtual-8086 mode segments have one form, and only that is checked; without "unrestricted guest" privilege levels
 * must fit each other as in protected mode; and registers that are unusable are passed over, except CS and TR. SDM 3C
 * 27.3.1.2 "Checks on Guest Segment Registers" */
#include "kernel/x86_bits.h"
#include "nested/rules/check_rows.h"

/* The rows of one kind of field follow each other in the order of enum segment. */
#define FIRST_SELECTOR FIELD_INDEX_GUEST_ES_SELECTOR
#define FIRST_LIMIT FIELD_INDEX_GUEST_ES_LIMIT
#define FIRST_AR FIELD_INDEX_GUEST_ES_AR_BYTES
_Static_assert(FIELD_INDEX_GUEST_TR_SELECTOR - FIRST_SELECTOR == SEGMENT_TR, "selectors in segment order");
_Static_assert(FIELD_INDEX_GUEST_TR_LIMIT - FIRST_LIMIT == SEGMENT_TR, "limits in segment order");
_Static_assert(FIELD_INDEX_GUEST_TR_AR_BYTES - FIRST_AR == SEGMENT_TR, "access rights in segment order");

#define SELECTOR_RPL BITS(1, 0)
#define SELECTOR_TI BIT(2)

/* Types of segments. SDM 3A 3.4.5.1 "Code- and Data-Segment Descriptor Types", 3.5 "System Descriptor Types" */
#define TYPE_ACCESSED BIT(0)
#define TYPE_READABLE BIT(1)
#define TYPE_CODE BIT(3)
#define TYPE_DATA_RW 3u
#define TYPE_DATA_RW_DOWN 7u
#define TYPE_CODE_EXEC 9u
#define TYPE_CODE_READ 11u
#define TYPE_CONFORMING_EXEC 13u
#define TYPE_CONFORMING_READ 15u
#define TYPE_LDT 2u
#define TYPE_TSS16_BUSY 3u
#define TYPE_TSS_BUSY 11u

/* Fields of any segment register, found by their distance from the first of their kind. */
static uint64_t selector(const struct check *c, enum segment segment)
{
    return c->v->field[FIRST_SELECTOR + segment];
}

static uint64_t rights(const struct check *c, enum segment segment)
{
    return c->v->field[FIRST_AR + segment];
}

static unsigned type_of(const struct check *c, enum segment segment)
{
    return (unsigned)GET(rights(c, segment), AR_TYPE);
}

static unsigned dpl_of(const struct check *c, enum segment segment)
{
    return (unsigned)GET(rights(c, segment), AR_DPL);
}

/* Checks of the access rights pass over registers that are unusable; CS and TR never are passed over. */
static bool counts(const struct check *c)
{
    return c->segment == SEGMENT_CS || c->segment == SEGMENT_TR || !(rights(c, c->segment) & AR_UNUSABLE);
}

/* The entry's own word on the mode, not EFER, which is checked against it elsewhere. */
static bool long_mode(const struct check *c)
{
    return c->word[CHECK_ENTRY] & ENTRY_GUEST_64;
}

/* L1 has not set "unrestricted guest": L2 must be in protected mode with paging, as guests of the first VMX CPUs
 * were. */
static bool restricted(const struct check *c)
{
    return c->word[CHECK_MODE] & MODE_RESTRICTED;
}

/* A TSS and an LDT have their descriptors in the GDT. */
static bool in_gdt(const struct check *c)
{
    return !counts(c) || !(c->value & SELECTOR_TI);
}

/* Both are the CPL; real-address mode, which an unrestricted guest may be in, has none. */
static bool ss_rpl_as_cs(const struct check *c)
{
    return !restricted(c) || GET(c->value, SELECTOR_RPL) == GET(selector(c, SEGMENT_CS), SELECTOR_RPL);
}

/* In virtual-8086 mode a base is nothing but the selector times 16. */
static bool base_as_v8086(const struct check *c)
{
    return c->value == selector(c, c->segment) << 4;
}

/* LDTR and TR have bases of 64 bits in IA-32e mode, and so do FS and GS. */
static bool base_canonical(const struct check *c)
{
    return !counts(c) || check_canonical(c, c->value);
}

/* The other segments have a base in legacy and compatibility mode only, of 32 bits. */
static bool base_32_bits(const struct check *c)
{
    return !counts(c) || c->value >> 32 == 0;
}

/* 64 KiB, less one. */
static bool limit_as_v8086(const struct check *c)
{
    return c->value == 0xffff;
}

/* Present, data, read/write, accessed, DPL 3. */
static bool rights_as_v8086(const struct check *c)
{
    return c->value == 0xf3;
}

/* Accessed code of any kind. An unrestricted guest may also have data in CS, as real-address mode leaves it there. */
static bool cs_type(const struct check *c)
{
    switch (type_of(c, SEGMENT_CS)) {
    case TYPE_DATA_RW:
        return !restricted(c);
    case TYPE_CODE_EXEC:
    case TYPE_CODE_READ:
    case TYPE_CONFORMING_EXEC:
    case TYPE_CONFORMING_READ:
        return true;
    default:
        return false;
    }
}

/* Data that is accessed and writable, expanding up or down. */
static bool ss_type(const struct check *c)
{
    unsigned type = type_of(c, SEGMENT_SS);

    return !counts(c) || type == TYPE_DATA_RW || type == TYPE_DATA_RW_DOWN;
}

/* Accessed; and readable when it is a code segment. */
static bool data_type(const struct check *c)
{
    unsigned type = type_of(c, c->segment);

    return !counts(c) || (type & TYPE_ACCESSED && (!(type & TYPE_CODE) || type & TYPE_READABLE));
}

/* The S bit is 1 for code and data, 0 for system segments. */
static bool is_code_or_data(const struct check *c)
{
    return !counts(c) || c->value & AR_S;
}

static bool is_system(const struct check *c)
{
    return !counts(c) || !(c->value & AR_S);
}

/* SS.DPL is the CPL: plain code runs at its own level, conforming code at that or a less privileged one. */
static bool cs_dpl(const struct check *c)
{
    unsigned dpl = dpl_of(c, SEGMENT_CS), stack = dpl_of(c, SEGMENT_SS);

    switch (type_of(c, SEGMENT_CS)) {
    case TYPE_DATA_RW:
        return dpl == 0;
    case TYPE_CODE_EXEC:
    case TYPE_CODE_READ:
        return dpl == stack;
    default:
        return dpl <= stack;
    }
}

/* SS.DPL is the CPL, so these two hold for an unusable SS as well. */
static bool ss_dpl_as_rpl(const struct check *c)
{
    return !restricted(c) || dpl_of(c, SEGMENT_SS) == GET(selector(c, SEGMENT_SS), SELECTOR_RPL);
}

/* Real-address mode runs at CPL 0, and a data segment in CS is what it leaves behind. */
static bool ss_dpl_zero(const struct check *c)
{
    bool must = type_of(c, SEGMENT_CS) == TYPE_DATA_RW || !(c->v->GUEST_CR0 & CR0_PE);

    return !must || dpl_of(c, SEGMENT_SS) == 0;
}

/* Conforming code may be read at any RPL; unrestricted guests keep what real mode left there. */
static bool data_dpl(const struct check *c)
{
    if (!restricted(c) || !counts(c) || type_of(c, c->segment) > TYPE_CODE_READ)
        return true;
    return dpl_of(c, c->segment) >= GET(selector(c, c->segment), SELECTOR_RPL);
}

/* A register that is loaded has a segment that was present. */
static bool is_present(const struct check *c)
{
    return !counts(c) || c->value & AR_P;
}

static bool rights_reserved(const struct check *c)
{
    return !counts(c) || (c->value & AR_RESERVED) == 0;
}

/* With L the bit D/B is reserved: 64-bit code has one operand size by default. */
static bool cs_size(const struct check *c)
{
    return !long_mode(c) || !(c->value & AR_L) || !(c->value & AR_DB);
}

/* A limit in bytes has no bits above 19, one in pages has bits 11:0 all ones. */
static bool granularity(const struct check *c)
{
    uint64_t limit = c->v->field[FIRST_LIMIT + c->segment];

    if (!counts(c))
        return true;
    return c->value & AR_G ? (limit & BITS(11, 0)) == BITS(11, 0) : (limit & BITS(31, 20)) == 0;
}

/* Busy, as it is in use. A TSS of 16 bits exists outside IA-32e mode only. */
static bool tr_type(const struct check *c)
{
    unsigned type = type_of(c, SEGMENT_TR);

    return type == TYPE_TSS_BUSY || (type == TYPE_TSS16_BUSY && !long_mode(c));
}

static bool ldtr_type(const struct check *c)
{
    return !counts(c) || type_of(c, SEGMENT_LDTR) == TYPE_LDT;
}

/* TR can never be unusable: the CPU needs a TSS at any moment, for stacks and I/O permissions. */
static bool is_usable(const struct check *c)
{
    return !(c->value & AR_UNUSABLE);
}

/* mode: bits of CHECK_MODE under which the row applies; 0: always. */
#define ONE(seg, part, text, mode, fn)                                                                                 \
    CHECK_ROW("guest " #seg text, GUEST_##seg##_##part, .segment = SEGMENT_##seg, IF_MODE(mode), .holds = fn)
#define DATA(part, text, mode, fn)                                                                                     \
    ONE(DS, part, text, mode, fn), ONE(ES, part, text, mode, fn), ONE(FS, part, text, mode, fn),                       \
        ONE(GS, part, text, mode, fn)
#define ALL(part, text, mode, fn)                                                                                      \
    ONE(CS, part, text, mode, fn), ONE(SS, part, text, mode, fn), DATA(part, text, mode, fn)

static const struct check_row segment_rows[] = {
    ONE(TR, SELECTOR, " selector: TI", 0, in_gdt),
    ONE(LDTR, SELECTOR, " selector: TI", 0, in_gdt),
    ONE(SS, SELECTOR, " selector: RPL is not that of CS", MODE_NOT_V8086, ss_rpl_as_cs),

    ALL(BASE, " base in virtual-8086 mode", MODE_V8086, base_as_v8086),
    ONE(TR, BASE, " base not canonical", 0, base_canonical),
    /* These two are loaded even when the register is unusable. */
    ONE(FS, BASE, " base not canonical", 0, check_value_canonical),
    ONE(GS, BASE, " base not canonical", 0, check_value_canonical),
    ONE(LDTR, BASE, " base not canonical", 0, base_canonical),
    ONE(CS, BASE, " base: bits 63:32", 0, base_32_bits),
    ONE(SS, BASE, " base: bits 63:32", 0, base_32_bits),
    ONE(DS, BASE, " base: bits 63:32", 0, base_32_bits),
    ONE(ES, BASE, " base: bits 63:32", 0, base_32_bits),

    ALL(LIMIT, " limit in virtual-8086 mode", MODE_V8086, limit_as_v8086),

    ALL(AR_BYTES, " access rights in virtual-8086 mode", MODE_V8086, rights_as_v8086),
    ONE(CS, AR_BYTES, " type", MODE_NOT_V8086, cs_type),
    ONE(SS, AR_BYTES, " type", MODE_NOT_V8086, ss_type),
    DATA(AR_BYTES, " type", MODE_NOT_V8086, data_type),
    ALL(AR_BYTES, " is a system segment", MODE_NOT_V8086, is_code_or_data),
    ONE(CS, AR_BYTES, " DPL", MODE_NOT_V8086, cs_dpl),
    ONE(SS, AR_BYTES, " DPL is not its RPL", MODE_NOT_V8086, ss_dpl_as_rpl),
    ONE(SS, AR_BYTES, " DPL in real mode or with a data segment in CS", MODE_NOT_V8086, ss_dpl_zero),
    DATA(AR_BYTES, " DPL below its RPL", MODE_NOT_V8086, data_dpl),
    ALL(AR_BYTES, " not present", MODE_NOT_V8086, is_present),
    ALL(AR_BYTES, " access rights: reserved bits", MODE_NOT_V8086, rights_reserved),
    ONE(CS, AR_BYTES, " D/B with L in IA-32e mode", MODE_NOT_V8086, cs_size),
    ALL(AR_BYTES, " granularity against limit", MODE_NOT_V8086, granularity),

    ONE(TR, AR_BYTES, " type", 0, tr_type),
    ONE(TR, AR_BYTES, " is no system segment", 0, is_system),
    ONE(TR, AR_BYTES, " not present", 0, is_present),
    ONE(TR, AR_BYTES, " access rights: reserved bits", 0, rights_reserved),
    ONE(TR, AR_BYTES, " granularity against limit", 0, granularity),
    ONE(TR, AR_BYTES, " unusable", 0, is_usable),

    ONE(LDTR, AR_BYTES, " type", 0, ldtr_type),
    ONE(LDTR, AR_BYTES, " is no system segment", 0, is_system),
    ONE(LDTR, AR_BYTES, " not present", 0, is_present),
    ONE(LDTR, AR_BYTES, " access rights: reserved bits", 0, rights_reserved),
    ONE(LDTR, AR_BYTES, " granularity against limit", 0, granularity),
};

const struct check_table check_guest_segments =
    CHECK_TABLE(CHECK_FAIL_GUEST, "SDM 3C 27.3.1.2 \"Checks on Guest Segment Registers\"", segment_rows);
