#include "guests/diff/snippet.h"

#include "guests/diff/arena.h"
#include "guests/diff/code.h"
#include "guests/diff/image.h"
#include "guests/diff/l1_state.h"
#include "guests/diff/rand.h"
#include "guests/lib/cpu.h"

#define ATOMS_MAX 5

/* Instructions without operands. What they leave in registers must not depend on time or chance. */
struct fixed {
    uint8_t length;
    uint8_t bytes[9];
    uint8_t touches;
};

static const struct fixed fixed[] = {
    {2, {0x0f, 0xa2}, 0},                    /* CPUID */
    {2, {0x0f, 0x08}, 0},                    /* INVD */
    {2, {0x0f, 0x09}, 0},                    /* WBINVD */
    {2, {0xf3, 0x90}, 0},                    /* PAUSE */
    {2, {0x0f, 0x06}, 0},                    /* CLTS */
    {1, {0xf4}, 0},                          /* HLT */
    {3, {0x0f, 0x01, 0xd0}, 0},              /* XGETBV */
    {3, {0x0f, 0x01, 0xd1}, 0},              /* XSETBV */
    {3, {0x0f, 0x01, 0xc2}, 0},              /* VMLAUNCH */
    {3, {0x0f, 0x01, 0xc3}, 0},              /* VMRESUME */
    {3, {0x0f, 0x01, 0xc4}, 0},              /* VMXOFF */
    {2, {0x0f, 0x37}, 0},                    /* GETSEC */
    {2, {0x0f, 0xaa}, 0},                    /* RSM */
    {2, {0x0f, 0x0b}, 0},                    /* UD2 */
    {1, {0xcc}, 0},                          /* INT3 */
    {1, {0xf1}, 0},                          /* INT1 */
    {1, {0xce}, 0},                          /* INTO */
    {3, {0x0f, 0x01, 0xf8}, TOUCH_SEGMENTS}, /* SWAPGS */
    {1, {0xfb}, 0},                          /* STI */
    {2, {0xfb, 0xf4}, 0},                    /* STI; HLT */
    {1, {0xfa}, 0},                          /* CLI */
    {2, {0x9c, 0x9d}, 0},                    /* PUSHF; POPF */
    {2, {0x0f, 0x05}, TOUCH_SEGMENTS},       /* SYSCALL */
    {2, {0x0f, 0x34}, TOUCH_SEGMENTS},       /* SYSENTER */
    {2, {0x0f, 0x35}, TOUCH_SEGMENTS},       /* SYSEXIT */
    {2, {0x0f, 0x07}, TOUCH_SEGMENTS},       /* SYSRET */
    {1, {0xcf}, TOUCH_SEGMENTS},             /* IRET */
    {1, {0xcb}, TOUCH_SEGMENTS},             /* RETF */
    {1, {0x90}, 0},                          /* NOP */
    {2, {0x01, 0xc8}, 0},                    /* ADD */
    {2, {0xf7, 0xf1}, 0},                    /* DIV: #DE is likely */
    {1, {0x50}, 0},                          /* PUSH */
    {1, {0x58}, 0},                          /* POP */
    {2, {0x66, 0xcf}, TOUCH_SEGMENTS},       /* IRET of the other size */
    {3, {0x0f, 0x01, 0xca}, 0},              /* CLAC */
};

static void atom_fixed(struct snippet *s)
{
    const struct fixed *row = &RAND_PICK(fixed);

    code_bytes(s, row->bytes, row->length);
    s->touches |= row->touches;
}

/* Instructions whose result is a matter of time or chance: it is overwritten, and CF with it. */
static void atom_unpredictable(struct snippet *s)
{
    static const struct {
        uint8_t length, bytes[3];
    } rows[] = {
        {2, {0x0f, 0x31}},       /* RDTSC */
        {3, {0x0f, 0x01, 0xf9}}, /* RDTSCP */
        {2, {0x0f, 0x33}},       /* RDPMC */
        {3, {0x0f, 0xc7, 0xf0}}, /* RDRAND */
        {3, {0x0f, 0xc7, 0xf8}}, /* RDSEED */
    };
    unsigned i = rand_below(ARRAY_SIZE(rows));

    code_bytes(s, rows[i].bytes, rows[i].length);
    code_load(s, RAX, i);
    code_load(s, RDX, i);
    code_byte(s, 0xf8); /* CLC */
    s->touches |= TOUCH_TIME;
}

/* The bits that L1 changed in its bitmaps last: worth a second look. */
static uint32_t focus_msr;
static uint16_t focus_port;

void snippet_focus_msr(uint32_t msr)
{
    focus_msr = msr;
}

void snippet_focus_port(uint16_t port)
{
    focus_port = port;
}

static uint32_t pick_plain_msr(void)
{
    return focus_msr && rand_chance(1, 2) ? focus_msr : l1_state_msr_pick();
}

static uint32_t pick_msr(void)
{
    static const uint32_t odd[] = {IA32_APIC_BASE, IA32_MTRRCAP, IA32_FEATURE_CONTROL, 0x1fff,     0x2000,
                                   0xc0001fff,     0xc0002000,   0x3fffffff,           0xffffffff, 0};

    return rand_chance(3, 4) ? pick_plain_msr() : RAND_PICK(odd);
}

static void atom_rdmsr(struct snippet *s)
{
    uint32_t msr = pick_msr();

    code_load(s, RCX, msr);
    code_byte(s, 0x0f);
    code_byte(s, 0x32);
}

static void atom_wrmsr(struct snippet *s)
{
    code_load(s, RCX, pick_plain_msr());
    code_load(s, RAX, (uint32_t)rand_value());
    code_load(s, RDX, rand_chance(1, 2) ? 0 : (uint32_t)(rand_narrow(rand_value() << 32) >> 32));
    code_byte(s, 0x0f);
    code_byte(s, 0x30);
    s->touches |= TOUCH_MSRS | TOUCH_SEGMENTS;
}

/* Ports where nothing listens that minds. */
uint16_t snippet_port_pick(void)
{
    static const uint16_t ports[] = {0x80, 0x81, 0x82, 0x83, 0x84, 0x7ffe, 0x7fff, 0x8000, 0xfffc, 0xfffe, 0xffff};

    return focus_port && rand_chance(1, 2) ? focus_port : RAND_PICK(ports);
}

/* IN and OUT with the port in DX: E4 to E7 and EC to EF differ in direction and size. */
static void atom_io(struct snippet *s)
{
    static const uint8_t opcodes[] = {0xec, 0xed, 0xee, 0xef};

    if (rand_chance(1, 4)) {
        code_byte(s, (uint8_t)(RAND_PICK(opcodes) - 8));
        code_byte(s, (uint8_t)(0x80 + rand_below(4)));
        return;
    }
    code_load(s, RDX, snippet_port_pick());
    if (rand_chance(1, 4))
        code_byte(s, 0x66);
    code_byte(s, RAND_PICK(opcodes));
}

static void atom_string_io(struct snippet *s)
{
    static const uint8_t opcodes[] = {0x6c, 0x6d, 0x6e, 0x6f};
    static const uint8_t prefixes[] = {0x66, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65};

    code_load(s, RDX, snippet_port_pick());
    code_load(s, RCX, rand_below(4));
    if (rand_chance(1, 2))
        code_byte(s, RAND_PICK(prefixes));
    if (rand_chance(1, 2))
        code_byte(s, 0xf3);
    code_byte(s, RAND_PICK(opcodes));
}

static void atom_read_cr(struct snippet *s)
{
    static const uint8_t numbers[] = {0, 0, 2, 3, 3, 4, 4, 1, 5};

    code_register_form(s, 0x0f, 0x20, RAND_PICK(numbers), rand_below(8));
}

/* Bits of CR0 or CR4 to change; 5-level paging may be what Nestor hides and the bare CPU has. */
static uint32_t pick_cr_bits(unsigned number)
{
    uint64_t bits = rand_bit(number ? 23 : 32) | (rand_chance(1, 4) ? rand_bit(20) : 0);

    return (uint32_t)(number ? bits & ~CR4_LA57 : bits);
}

static void atom_write_cr(struct snippet *s)
{
    static const uint8_t numbers[] = {0, 0, 0, 3, 4, 4, 4, 2};
    unsigned number = RAND_PICK(numbers), reg = rand_chance(1, 4) ? RSP : RAX;

    code_register_form(s, 0x0f, 0x20, number, RAX);
    if (number == 0 || number == 4) {
        code_load(s, RCX, pick_cr_bits(number));
        code_byte(s, 0x31); /* XOR EAX, ECX: one or two bits of what it reads */
        code_byte(s, 0xc8);
    }
    if (reg == RSP) { /* MOV ESP, EAX, and what a register operand of an exit names is RSP */
        code_byte(s, 0x89);
        code_byte(s, 0xc4);
    }
    code_register_form(s, 0x0f, 0x22, number, reg);
    s->touches |= TOUCH_MSRS;
}

static void atom_lmsw(struct snippet *s)
{
    code_load(s, RAX, (uint32_t)rand_next() & 0xf);
    if (rand_chance(1, 2)) {
        code_register_form(s, 0x0f, 0x01, 6, RAX);
        return;
    }
    code_memory_form(s, 0, 0x01, 6);
}

static void atom_dr(struct snippet *s)
{
    bool write = rand_chance(1, 2);
    unsigned number = rand_below(8);

    if (write)
        code_load(s, RAX, number == 7 ? 0x400 : (uint32_t)rand_value());
    code_register_form(s, 0x0f, write ? 0x23 : 0x21, number, RAX);
    s->touches |= TOUCH_DEBUG;
}

/* Instructions with a memory operand: opcode after 0F, and what ModRM's middle field holds. */
static void atom_memory_system(struct snippet *s)
{
    static const struct {
        uint8_t prefix, opcode, extension;
        uint8_t touches;
    } rows[] = {
        {0, 0x01, 0, 0},              /* SGDT */
        {0, 0x01, 1, 0},              /* SIDT */
        {0, 0x01, 2, TOUCH_TABLES},   /* LGDT */
        {0, 0x01, 3, TOUCH_TABLES},   /* LIDT */
        {0, 0x01, 4, 0},              /* SMSW */
        {0, 0x01, 7, 0},              /* INVLPG */
        {0, 0x00, 0, 0},              /* SLDT */
        {0, 0x00, 1, 0},              /* STR */
        {0, 0x00, 2, TOUCH_SEGMENTS}, /* LLDT */
        {0, 0x00, 3, TOUCH_SEGMENTS}, /* LTR */
        {0, 0xc7, 6, 0},              /* VMPTRLD */
        {0, 0xc7, 7, 0},              /* VMPTRST */
        {0x66, 0xc7, 6, 0},           /* VMCLEAR */
        {0xf3, 0xc7, 6, 0},           /* VMXON */
        {0, 0xc7, 5, 0},              /* XSAVES */
        {0, 0xc7, 3, 0},              /* XRSTORS */
        {0, 0xae, 4, 0},              /* XSAVE */
    };
    unsigned i = rand_below(ARRAY_SIZE(rows));

    code_memory_form(s, rows[i].prefix, rows[i].opcode, rows[i].extension);
    s->touches |= rows[i].touches;
}

/* INVEPT, INVVPID, INVPCID. */
static void atom_invalidate(struct snippet *s)
{
    code_load(s, RAX, rand_below(5));
    code_memory_form38(s, (uint8_t)(0x80 + rand_below(3)), RAX);
}

static uint64_t pick_place(void)
{
    static const uint8_t pages[] = {PAGE_DATA,   PAGE_DATA,  PAGE_SPECIAL, PAGE_SPECIAL, PAGE_SPECIAL,
                                    PAGE_KERNEL, PAGE_READ,  PAGE_NX,      PAGE_ABSENT,  PAGE_APIC,
                                    PAGE_APIC,   PAGE_SPARE, PAGE_STACK,   PAGE_PT};
    static const uint16_t offsets[] = {0, 0x10, 0x20, 0x80, 0xb0, 0x300, 0x310, 0xff8, 0xffe, 0xfff};

    uint8_t page = RAND_PICK(pages);
    uint16_t offset = RAND_PICK(offsets);

    /* A store may not run over into the page directory: how long the CPU goes on by the old entry is its own choice. */
    return AT(page) + (page == PAGE_PT ? offset % (PAGE_SIZE / 2) : offset);
}

static void atom_access(struct snippet *s)
{
    static const uint8_t opcodes[] = {0x88, 0x89, 0x89, 0x8a, 0x8b, 0x8b, 0x01, 0x87, 0xff, 0x39};
    uint8_t opcode = RAND_PICK(opcodes);

    code_load(s, RBX, (uint32_t)pick_place());
    if (opcode == 0x01 && rand_chance(1, 2))
        code_byte(s, 0xf0); /* LOCK ADD */
    code_address32(s);
    code_byte(s, opcode);
    code_byte(s, (uint8_t)(opcode == 0xff ? 0x03 : (rand_below(2) << 3 | 0x03)));
}

static void atom_string(struct snippet *s)
{
    static const uint8_t opcodes[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xa6};

    code_load(s, RSI, (uint32_t)pick_place());
    code_load(s, RDI, (uint32_t)pick_place());
    code_load(s, RCX, rand_below(4));
    code_byte(s, 0xf3);
    code_address32(s);
    code_byte(s, RAND_PICK(opcodes));
}

static void atom_jump(struct snippet *s)
{
    static const uint8_t pages[] = {PAGE_DATA, PAGE_SPECIAL, PAGE_KERNEL, PAGE_READ, PAGE_NX, PAGE_ABSENT, PAGE_SPARE};

    code_load(s, RAX, (uint32_t)(rand_chance(1, 4) ? rand_value() : AT(RAND_PICK(pages)) + 0x10));
    code_byte(s, 0xff);
    code_byte(s, rand_chance(1, 2) ? 0xe0 : 0xd0); /* JMP or CALL rAX */
}

static uint16_t pick_selector(void)
{
    static const uint16_t selectors[] = {
        0,         L2_CODE64, L2_DATA,    L2_CODE32,    L2_USER_DATA, L2_USER_CODE64, L2_USER_CODE32, L2_TSS,
        L2_CODE16, L2_DATA16, L2_LDT,     L2_TSS_OTHER, L2_ABSENT,    L2_CONFORMING,  L2_READ_ONLY,   0xc,
        0xf,       0xfff8,    L2_DATA | 3};

    return RAND_PICK(selectors);
}

static void atom_load_segment(struct snippet *s)
{
    static const uint8_t segments[] = {0, 2, 3, 4, 5};

    code_load(s, RAX, pick_selector());
    code_byte(s, 0x8e);
    code_byte(s, (uint8_t)(0xc0 | RAND_PICK(segments) << 3));
    s->touches |= TOUCH_SEGMENTS;
}

/* A far jump or call through memory: to code of other sizes, to tasks, to nothing. */
static void atom_far(struct snippet *s)
{
    code_load(s, RBX, (uint32_t)AT(PAGE_DATA) + 0x20);
    for (unsigned i = 0; i < 2; i++) {
        code_load(s, RAX, i ? pick_selector() : (uint32_t)AT(PAGE_CODE) + 0x800);
        code_address32(s);
        code_byte(s, 0x89);
        code_byte(s, 0x43); /* MOV [rBX + disp8], EAX */
        code_byte(s, (uint8_t)(i ? s->bits == 16 ? 2 : 4 : 0));
    }
    code_address32(s);
    code_byte(s, 0xff);
    code_byte(s, rand_chance(1, 2) ? 0x2b : 0x1b);
    s->touches |= TOUCH_SEGMENTS;
}

static void atom_int(struct snippet *s)
{
    static const uint8_t vectors[] = {0, 1, 2, 3, 4, 6, 8, 13, 14, 0x20, 0x80, 0xff};

    code_byte(s, 0xcd);
    code_byte(s, RAND_PICK(vectors));
}

/* POPF with bits that matter. Not the trap flag: where L0 handles an exit unseen by L1, Bochs loses it (BOCHS 8). */
static void atom_popf(struct snippet *s)
{
    static const uint32_t bits[] = {BIT(9), BIT(10), BIT(12), BIT(14), BIT(16), BIT(17), BIT(18), BIT(21), 0};

    code_load(s, RAX, (uint32_t)(RFLAGS_FIXED1 | RAND_PICK(bits) | RAND_PICK(bits)));
    code_byte(s, 0x50);
    code_byte(s, 0x9d);
}

static void atom_monitor(struct snippet *s)
{
    code_load(s, RAX, (uint32_t)AT(PAGE_DATA));
    code_load(s, RCX, 0);
    code_load(s, RDX, 0);
    code_byte(s, 0x0f);
    code_byte(s, 0x01);
    code_byte(s, 0xc8);
}

/* Function 0 with a few indexes: to itself, to the same tables, to what is no EPTP, and past the list. */
static void atom_vmfunc(struct snippet *s)
{
    static const uint32_t indexes[] = {0, 0, 1, 1, 2, 511, 512, 0x80000000};

    code_load(s, RAX, rand_chance(7, 8) ? 0 : rand_below(70));
    code_load(s, RCX, RAND_PICK(indexes));
    code_byte(s, 0x0f);
    code_byte(s, 0x01);
    code_byte(s, 0xd4);
    s->touches |= TOUCH_EPTP;
}

/* A field that both have, or one with a small number, which may be none. What a register holds by chance may be a field
 * that only the bare CPU has. */
static uint32_t pick_encoding(void)
{
    uint32_t encoding = rand_chance(3, 4) ? fields[rand_below(F_COUNT)].encoding : rand_below(16);

    return field_encoding_shared(encoding) ? encoding : 0;
}

/* VMREAD or VMWRITE of a field by its number, for VMCS shadowing. */
static void atom_shadow(struct snippet *s)
{
    code_load(s, RAX, pick_encoding());
    code_register_form(s, 0x0f, (uint8_t)(0x78 + rand_below(2)), RAX, rand_chance(1, 2) ? RDX : rand_below(8));
}

static void atom_shadow_memory(struct snippet *s)
{
    code_load(s, RAX, pick_encoding());
    code_memory_form(s, 0, (uint8_t)(0x78 + rand_below(2)), RAX);
}

static void (*const atoms[])(struct snippet *) = {
    atom_vmfunc,
    atom_shadow,
    atom_shadow,
    atom_fixed,
    atom_fixed,
    atom_fixed,
    atom_fixed,
    atom_rdmsr,
    atom_rdmsr,
    atom_wrmsr,
    atom_wrmsr,
    atom_io,
    atom_io,
    atom_io,
    atom_string_io,
    atom_read_cr,
    atom_write_cr,
    atom_write_cr,
    atom_lmsw,
    atom_dr,
    atom_memory_system,
    atom_memory_system,
    atom_invalidate,
    atom_shadow_memory,
    atom_access,
    atom_access,
    atom_access,
    atom_string,
    atom_jump,
    atom_load_segment,
    atom_unpredictable,
    atom_far,
    atom_int,
    atom_popf,
    atom_monitor,
};

void snippet_make(struct snippet *s, enum mode mode)
{
    unsigned count = rand_below(ATOMS_MAX + 1);

    s->length = 0;
    s->bits = mode_bits(mode);
    s->touches = 0;
    for (unsigned i = 0; i < count; i++)
        atoms[rand_below(ARRAY_SIZE(atoms))](s);
    code_byte(s, 0x0f);
    code_byte(s, 0x01);
    code_byte(s, 0xc1);
}

void snippet_registers(uint64_t regs[16])
{
    for (unsigned i = 0; i < 16; i++)
        regs[i] = i < 8 ? AT(PAGE_DATA) + 0x10 * i : rand_value();
    regs[R11] &= ~RFLAGS_TF; /* SYSRET loads it into RFLAGS; see atom_popf() */
    regs[RAX] = rand_below(8);
    regs[RCX] = rand_below(16);
    regs[RDX] = 0x80;
}
