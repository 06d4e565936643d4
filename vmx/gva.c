/* The page walk, in software, for all paging modes by one loop: a mode is a number of levels, a width of entries and
 * a number of bits that each level takes from the address. Rights are gathered on the way down and judged at the
 * leaf. A and D flags are set last, each by compare-and-exchange with the entry as it was read: if L1 changed one
 * meanwhile the walk is made again, so that no flag appears in an entry that never translated anything.
 *
 * Memory is behind the callbacks of struct gva_memory: L1's own, L2's through EPT12, or an array of a test. */
#include "vmx/gva.h"

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/vmx_bits.h"

#define PF_PROTECTION_KEY BIT(5)
#define PTE_PROTECTION_KEY BITS(62, 59)
#define PKRU_ACCESS_DISABLE BIT(0)
#define PKRU_WRITE_DISABLE BIT(1)
#define MAX_LEVELS 5
#define LEVEL_PAE_POINTER 3 /* the level whose four entries PAE paging holds in registers */
/* Other processors of L1 may change the tables at any time; a walk does not follow them for ever. */
#define MAX_RETRIES 64

/* SDM 3A 4.1.1 "Four Paging Modes" */
struct paging_mode {
    unsigned levels, entry_size, index_bits;
};
static const struct paging_mode mode_32bit = {2, 4, 10};
static const struct paging_mode mode_pae = {3, 8, 9};
static const struct paging_mode mode_4level = {4, 8, 9};
static const struct paging_mode mode_5level = {5, 8, 9};

struct walk {
    const struct paging_state *state;
    const struct gva_memory *memory;
    const struct paging_mode *mode;
    gva_t gva;
    uint32_t access;
    /* The entries used, from the root down; what they allow together. */
    unsigned entries;
    gpa_t entry_gpa[MAX_LEVELS];
    uint64_t entry[MAX_LEVELS];
    bool user, writable, no_execute;
};

enum step { STEP_DOWN, STEP_LEAF, STEP_NOT_PRESENT, STEP_RESERVED };

/* With paging on; which is asked before. */
static const struct paging_mode *mode_of(const struct paging_state *state)
{
    if (!(state->cr4 & CR4_PAE))
        return &mode_32bit;
    if (!(state->efer & EFER_LMA))
        return &mode_pae;
    return state->cr4 & CR4_LA57 ? &mode_5level : &mode_4level;
}

/* How many bits of the address are the offset below an entry of this level. */
static unsigned level_shift(const struct walk *w, unsigned level)
{
    return 12 + (level - 1) * w->mode->index_bits;
}

/* True if the entry maps a page, and not a table. Bit 7 counts from the second level up, and at the fourth it is
 * reserved. */
static bool entry_is_leaf(const struct walk *w, uint64_t entry, unsigned level)
{
    if (level == 1)
        return true;
    if (!(entry & PTE_PS) || level > 3)
        return false;
    return w->mode != &mode_32bit || (w->state->cr4 & CR4_PSE);
}

/* Bits that must be 0 in a present entry. SDM 3A 4.3 "32-Bit Paging", 4.4.2 "Linear-Address Translation with PAE
 * Paging", 4.5.4 "Linear-Address Translation with 4-Level Paging and 5-Level Paging" */
static uint64_t entry_reserved(const struct walk *w, uint64_t entry, unsigned level)
{
    unsigned address_bits = w->state->address_bits;
    bool large = level > 1 && entry_is_leaf(w, entry, level);
    uint64_t reserved;

    if (w->mode == &mode_32bit)
        /* PSE-36: bits 20:13 are bits 39:32 of the address, as far as the processor has them. */
        return large ? BITS(21, MIN(address_bits, 40u) - 19) : 0;

    reserved = w->mode == &mode_pae ? BITS(62, address_bits) : BITS(51, address_bits);
    if (!(w->state->efer & EFER_NXE))
        reserved |= PTE_NX;
    if (level > 3 || (level == 3 && !w->state->pages_1g))
        reserved |= PTE_PS;
    if (large)
        reserved |= BITS(level_shift(w, level) - 1, 13);
    return reserved;
}

/* Physical address of the page of a large or small leaf. */
static gpa_t leaf_page(const struct walk *w, uint64_t entry, unsigned level)
{
    if (w->mode == &mode_32bit && level == 2)
        return (entry & BITS(31, 22)) | PUT(GET(entry, BITS(20, 13)), BITS(39, 32));
    return entry & BITS(51, 12) & ~(BIT(level_shift(w, level)) - 1);
}

/* Reads one entry and adds it to the path, with what it allows. */
static enum step walk_level(struct walk *w, gpa_t table, unsigned level)
{
    uint64_t index = (w->gva >> level_shift(w, level)) & (BIT(w->mode->index_bits) - 1);
    gpa_t gpa = table + index * w->mode->entry_size;
    uint64_t entry = 0;

    /* Addresses without RAM read as all-ones, as they do on the bus. */
    w->memory->read(w->memory->context, gpa, &entry, w->mode->entry_size);
    if (!(entry & PTE_P))
        return STEP_NOT_PRESENT;
    if (entry & entry_reserved(w, entry, level))
        return STEP_RESERVED;
    w->entry_gpa[w->entries] = gpa;
    w->entry[w->entries++] = entry;
    w->user = w->user && (entry & PTE_U);
    w->writable = w->writable && (entry & PTE_W);
    w->no_execute = w->no_execute || (entry & PTE_NX); /* an entry of 4 bytes has no such bit */
    return entry_is_leaf(w, entry, level) ? STEP_LEAF : STEP_DOWN;
}

/* From the root to a leaf or to the entry that ends the walk. */
static enum step walk_tables(struct walk *w, gpa_t *gpa)
{
    uint64_t address = BITS(w->state->address_bits - 1, 12);
    unsigned level = w->mode->levels;
    gpa_t table = w->state->cr3 & (w->mode == &mode_32bit ? BITS(31, 12) : address);
    enum step step;

    w->entries = 0;
    w->user = w->writable = true;
    w->no_execute = false;
    if (w->mode == &mode_pae) {
        /* Checked when CR3 was loaded, and without rights of their own. SDM 3A 4.4.1 "PDPTE Registers" */
        uint64_t pdpte = w->state->pdpte[GET(w->gva, BITS(31, 30))];
        if (!(pdpte & PTE_P))
            return STEP_NOT_PRESENT;
        table = pdpte & address;
        level = LEVEL_PAE_POINTER - 1;
    }
    while ((step = walk_level(w, table, level)) == STEP_DOWN) {
        table = w->entry[w->entries - 1] & (w->mode == &mode_32bit ? BITS(31, 12) : address);
        level--;
    }
    if (step == STEP_LEAF)
        *gpa = leaf_page(w, w->entry[w->entries - 1], level) | (w->gva & (BIT(level_shift(w, level)) - 1));
    return step;
}

/* True if the page's protection key forbids the access: PKRU judges pages of user space, IA32_PKRS those of
 * supervisors. SDM 3A 4.6.2 "Protection Keys" */
static bool key_forbids(const struct walk *w)
{
    const struct paging_state *state = w->state;
    bool write = w->access & GVA_WRITE, user = w->access & GVA_USER;
    uint32_t rights;

    if (!(state->cr4 & (w->user ? CR4_PKE : CR4_PKS)) || !(state->efer & EFER_LMA) || (w->access & GVA_FETCH))
        return false;
    if (!w->user && user) /* forbidden without a key */
        return false;
    rights = (w->user ? state->pkru : state->pkrs) >> 2 * GET(w->entry[w->entries - 1], PTE_PROTECTION_KEY);
    return (rights & PKRU_ACCESS_DISABLE) ||
           ((rights & PKRU_WRITE_DISABLE) && write && (user || (state->cr0 & CR0_WP)));
}

/* Linear-address space separation: bit 63 alone says whose an address is, before any table is read (chapter
 * "Linear Address Space Separation" of Intel's "Architecture Instruction Set Extensions"). */
static bool space_forbids(const struct walk *w)
{
    const struct paging_state *state = w->state;
    bool supervisors = w->gva >> 63, explicit_ac = (state->rflags & RFLAGS_AC) && !(w->access & GVA_IMPLICIT);

    if (!(state->cr4 & CR4_LASS) || !(state->efer & EFER_LMA))
        return false;
    if (w->access & GVA_USER)
        return supervisors;
    return !supervisors && ((w->access & GVA_FETCH) || ((state->cr4 & CR4_SMAP) && !explicit_ac));
}

/* SDM 3A 4.6.1 "Determination of Access Rights" */
static bool rights_allow(const struct walk *w)
{
    const struct paging_state *state = w->state;
    bool explicit_ac = (state->rflags & RFLAGS_AC) && !(w->access & GVA_IMPLICIT);

    if ((w->access & GVA_FETCH) && w->no_execute)
        return false;
    if (w->access & GVA_USER)
        return w->user && (w->writable || !(w->access & GVA_WRITE));
    if (w->access & GVA_FETCH)
        return !w->user || !(state->cr4 & CR4_SMEP);
    if (w->user && (state->cr4 & CR4_SMAP) && !explicit_ac)
        return false;
    return w->writable || !(w->access & GVA_WRITE) || !(state->cr0 & CR0_WP);
}

/* SDM 3A 4.7 "Page-Fault Exceptions" */
static uint32_t fault_code(const struct walk *w, enum step step)
{
    const struct paging_state *state = w->state;
    bool names_fetch = (state->cr4 & CR4_SMEP) || ((state->cr4 & CR4_PAE) && (state->efer & EFER_NXE));
    uint32_t code = w->access & (GVA_WRITE | GVA_USER);

    if ((w->access & GVA_FETCH) && names_fetch)
        code |= PF_FETCH;
    if (step == STEP_RESERVED)
        code |= PF_PRESENT | PF_RESERVED;
    if (step == STEP_LEAF)
        code |= PF_PRESENT | (key_forbids(w) ? PF_PROTECTION_KEY : 0);
    return code;
}

/* Sets A in the entries used, and D in the leaf of a write. False when an entry changed meanwhile: walk again. */
static bool set_accessed(struct walk *w)
{
    for (unsigned i = 0; i < w->entries; i++) {
        bool leaf = i == w->entries - 1;
        uint64_t flags = PTE_A | (leaf && (w->access & GVA_WRITE) ? PTE_D : 0);

        if ((w->entry[i] & flags) == flags)
            continue;
        if (!w->memory->cas(w->memory->context, w->entry_gpa[i], w->entry[i], w->entry[i] | flags, w->mode->entry_size))
            return false;
    }
    return true;
}

/* The rights that the guest's paging gives to the page, in the bits in which advanced information on EPT violations
 * wants it. SDM 3C table "Exit Qualification for EPT Violations" */
static uint16_t page_rights(const struct walk *w)
{
    return (uint16_t)((w->user ? EPT_QUAL_USER_PAGE : 0) | (w->writable ? EPT_QUAL_WRITABLE_PAGE : 0) |
                      (w->no_execute ? EPT_QUAL_NO_EXECUTE_PAGE : 0));
}

bool gva_walk(const struct paging_state *state, const struct gva_memory *memory, gva_t gva, uint32_t access, gpa_t *gpa,
              struct fault *fault)
{
    struct walk w = {.state = state, .memory = memory, .mode = mode_of(state), .access = access};

    /* The processor's own accesses, to descriptor tables say, are a supervisor's at any CPL. */
    if (access & GVA_IMPLICIT)
        w.access &= ~(uint32_t)GVA_USER;
    w.gva = state->efer & EFER_LMA ? gva : (uint32_t)gva;
    fault->vector = FAULT_NONE;
    if (!(state->cr0 & CR0_PG)) {
        fault->page = EPT_QUAL_USER_PAGE | EPT_QUAL_WRITABLE_PAGE;
        *gpa = w.gva;
        return true;
    }
    if (space_forbids(&w)) {
        *fault = (struct fault){.vector = VECTOR_GP, .has_error_code = true};
        return false;
    }
    /* As the CPU does: rights are judged first, then flags are set, and a table that changed in between is walked
     * again. */
    for (unsigned retry = 0;; retry++) {
        enum step step = walk_tables(&w, gpa);

        if (step != STEP_LEAF || key_forbids(&w) || !rights_allow(&w)) {
            *fault = (struct fault){VECTOR_PF, true, fault_code(&w, step), w.gva, 0};
            return false;
        }
        fault->page = page_rights(&w);
        if (!memory->cas || set_accessed(&w) || retry == MAX_RETRIES)
            return true;
    }
}
