#include "guests/diff/insnop.h"

#include "guests/diff/exceptions.h"
#include "guests/diff/image.h"
#include "guests/diff/rand.h"
#include "guests/diff/transcript.h"
#include "guests/lib/check.h"
#include "guests/lib/cpu.h"
#include "guests/lib/page.h"

#define SCRATCH 3
#define WRITTEN_MAX 256
#define NO_FIELD 0x7ffe

/* VMCS regions that only these operations use, a region with a wrong revision, and one marked as a shadow. */
static uint64_t scratch[SCRATCH], wrong_revision, shadow;
static uint64_t cell[4] __attribute__((aligned(16)));
static uint16_t written[SCRATCH][WRITTEN_MAX];
static unsigned n_written[SCRATCH];
static uint64_t current; /* scratch region that is to be current */

void insnop_init(void)
{
    for (unsigned i = 0; i < SCRATCH; i++)
        scratch[i] = vmx_region_alloc();
    wrong_revision = (uint64_t)page_alloc();
    *(uint32_t *)wrong_revision = vmx_revision() ^ 1;
    shadow = vmx_region_alloc();
    *(uint32_t *)shadow |= (uint32_t)VMCS_SHADOW_INDICATOR;
}

/* A VMWRITE that fails leaves the same error number in each. */
void insnop_begin(void)
{
    for (unsigned i = 0; i < SCRATCH; i++) {
        REQUIRE_EQ(vmx_vmclear(&scratch[i]), 0);
        REQUIRE_EQ(vmx_vmptrld(&scratch[i]), 0);
        REQUIRE_EQ(vmx_vmwrite(NO_FIELD, 0), VMXERR_UNSUPPORTED_FIELD);
    }
    current = scratch[SCRATCH - 1];
}

/* Back to zeros, for the next block must not depend on this one. */
void insnop_end(void)
{
    for (unsigned i = 0; i < SCRATCH; i++) {
        REQUIRE_EQ(vmx_vmptrld(&scratch[i]), 0);
        while (n_written[i])
            vmx_set(written[i][--n_written[i]], 0);
    }
}

static void note_written(uint64_t encoding)
{
    for (unsigned i = 0; i < SCRATCH; i++)
        if (scratch[i] == current && n_written[i] < WRITTEN_MAX)
            written[i][n_written[i]++] = (uint16_t)(encoding & ~1ull);
}

/* L2's operations make their own VMCS current; clearing a current one leaves none. */
static void load_current(void)
{
    REQUIRE_EQ(vmx_vmptrld(current ? &current : &scratch[0]), 0);
    if (!current)
        REQUIRE_EQ(vmx_vmclear(&scratch[0]), 0);
}

static uint64_t pick_pointer(void)
{
    uint64_t region = scratch[rand_below(SCRATCH)];

    switch (rand_below(10)) {
    case 0:
        return region | rand_bit(12);
    case 1:
        return region | BIT(caps.physical_bits + rand_below(64 - caps.physical_bits));
    case 2:
        return vmx_on_region();
    case 3:
        return wrong_revision;
    case 4:
        return 0;
    case 5:
        return rand_value() | 1;
    default:
        return region;
    }
}

/* Operand addresses: mostly the cell; else one that faults. */
static uint64_t *pick_operand(void)
{
    static const uint64_t wrong[] = {UNMAPPED_ADDRESS, NONCANONICAL_ADDRESS, 0x7fffffffffffull, 0xffff800000000000ull};

    return rand_chance(7, 8) ? cell : (uint64_t *)RAND_PICK(wrong);
}

static int result;

static void report(const char *what, uint8_t vector)
{
    tr(what, vector == NO_FAULT ? (uint64_t)(int64_t)result : 0);
    tr("fault", vector);
    if (vector == NO_FAULT)
        return;
    tr("code", fault.error);
    if (vector == VECTOR_PF)
        tr("cr2", fault.cr2);
}

/* Runs an instruction that may fault and adds its outcome to the transcript. */
#define TRY(name, call)                                                                                                \
    do {                                                                                                               \
        uint8_t vector = FAULT_OF(result = call);                                                                      \
        report(name, vector);                                                                                          \
    } while (0)

static void do_vmclear(void)
{
    uint64_t *operand = pick_operand();

    cell[0] = pick_pointer();
    tr_note("pointer", cell[0]);
    TRY("vmclear", vmx_vmclear(operand));
    if (fault.vector == NO_FAULT && result == 0 && cell[0] == current)
        current = 0;
}

static void do_vmptrld(void)
{
    uint64_t *operand = pick_operand();

    cell[0] = pick_pointer();
    tr_note("pointer", cell[0]);
    TRY("vmptrld", vmx_vmptrld(operand));
    if (fault.vector == NO_FAULT && result == 0)
        current = cell[0];
}

static void do_vmptrst(void)
{
    uint64_t *operand = pick_operand();

    cell[0] = 0x1111;
    TRY("vmptrst", vmx_vmptrst(operand));
    tr("cell", cell[0]);
}

static void do_vmxon(void)
{
    uint64_t *operand = pick_operand();

    cell[0] = pick_pointer();
    TRY("vmxon", vmx_vmxon(operand));
}

static uint64_t pick_encoding(void)
{
    uint64_t encoding = fields[rand_below(F_COUNT)].encoding;

    switch (rand_below(8)) {
    case 0:
        encoding = rand_next() & 0x7fff;
        break;
    case 1:
        encoding ^= rand_bit(16);
        break;
    case 2:
        encoding |= 1;
        break;
    case 3:
        encoding ^= rand_chance(1, 4) ? rand_bit(64) : 0;
        break;
    default:
        break;
    }
    return field_encoding_shared(encoding & 0x7fff) ? encoding : 0x681e;
}

static void do_vmread(void)
{
    uint64_t encoding = pick_encoding();
    uint64_t *operand = pick_operand();

    tr_note("field", encoding);
    cell[0] = cell[1] = 0x2222222222222222;
    if (rand_chance(1, 2))
        TRY("vmread", vmx_vmread(encoding, cell));
    else
        TRY("vmread_m", vmx_vmread_memory(encoding, operand));
    tr("value", cell[0]);
    tr("next", cell[1]);
}

static void do_vmwrite(void)
{
    uint64_t encoding = pick_encoding();
    uint64_t *operand = pick_operand();

    tr_note("field", encoding);
    cell[0] = rand_value();
    if (rand_chance(1, 2))
        TRY("vmwrite", vmx_vmwrite(encoding, cell[0]));
    else
        TRY("vmwrite_m", vmx_vmwrite_memory(encoding, operand));
    if (fault.vector != NO_FAULT || result != 0)
        return;
    note_written(encoding);
    cell[0] = 0;
    result = vmx_vmread(encoding, cell);
    tr("back", cell[0]);
}

/* Bochs takes 32 bits of the type. */
static uint64_t pick_type(void)
{
    return rand_chance(3, 4) ? rand_below(5) : (uint32_t)rand_value();
}

/* Bochs reads the descriptor before it looks at the type; the SDM's pseudocode has it the other way round. */
static uint64_t *pick_descriptor(bool known_type)
{
    return known_type ? pick_operand() : cell;
}

static void do_invept(void)
{
    uint64_t type = pick_type();
    uint64_t *operand = pick_descriptor(type == 1 || type == 2);

    cell[0] = exceptions_eptp(rand_chance(1, 2) ? 0x1e | scratch[0] : (scratch[0] | 0x1e) ^ rand_bit(64));
    cell[1] = rand_chance(3, 4) ? 0 : rand_value();
    tr_note("type", type);
    tr_note("eptp", cell[0]);
    TRY("invept", vmx_invept(type, (struct inv_descriptor *)operand));
}

static void do_invvpid(void)
{
    uint64_t type = pick_type();
    uint64_t *operand = pick_descriptor(type < 4);

    cell[0] = rand_chance(1, 2) ? rand_below(4) : rand_value();
    cell[1] = rand_chance(1, 2) ? scratch[0] : rand_value();
    tr_note("type", type);
    tr_note("vpid", cell[0]);
    tr_note("address", cell[1]);
    TRY("invvpid", vmx_invvpid(type, (struct inv_descriptor *)operand));
}

static void (*const instructions[])(void) = {
    do_vmclear, do_vmptrld, do_vmptrst, do_vmxon,  do_vmread,  do_vmread,
    do_vmread,  do_vmwrite, do_vmwrite, do_invept, do_invvpid,
};

unsigned insnop_run(void)
{
    unsigned count = 1 + rand_below(8);

    load_current();
    for (unsigned i = 0; i < count; i++) {
        tr_line("insn");
        instructions[rand_below(ARRAY_SIZE(instructions))]();
    }
    return count;
}
