/* Accesses in the guest's place, in two halves: where the bytes lie, and the copy. pieces_find() walks both pages of
 * an access that crosses a border before either is touched, because a CPU that faults has stored nothing. While L2
 * runs each step of a walk, and the page at its end, goes through EPT12 as well; that is nested/'s business and
 * reached by a hook.
 *
 * The second part, from walk_level() to gva_plain(), is a cache of few walks for operands of L1's kernel. It needs
 * no invalidation: a hit compares the registers and all four entries with what they were, so a change of L1's tables
 * is seen at once, earlier than a CPU with a TLB would see it. */
#include "vmx/gva.h"

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/breakpoint.h"
#include "vmx/hooks.h"
#include "vmx/mmio.h"
#include "vmx/run.h"
#include "vmx/vcpu.h"
#include "vmx/vmcs_setup.h"

#define SUB_PAGE 128u
#define CPUID_EXTENDED_FEATURES 0x80000001u
#define CPUID_EDX_PAGES_1G BIT(26)

/* Where an address that the current guest means as physical lies in L1's memory. False: L2's is not mapped by L1, and
 * the hook has made an exit for L1 of it, which shows the linear address. */
static bool to_gpa1(struct vcpu *vcpu, gva_t gva, gpa_t *gpa, uint32_t access, bool walk)
{
    if (!vcpu->in_l2 || nested_hooks.l2_translate(vcpu, gpa, access, walk))
        return true;
    vcpu->exit.guest_linear_address = gva;
    return false;
}

/* The walk for one linear address. */
struct walk_context {
    struct vcpu *vcpu;
    gva_t gva;
};

/* Tables of L2 lie in its own physical memory: each entry is read through EPT12. */
static bool memory_read(void *context, gpa_t gpa, void *value, unsigned size)
{
    const struct walk_context *walk = context;
    if (!to_gpa1(walk->vcpu, walk->gva, &gpa, GVA_READ, true)) {
        memset(value, 0, size);
        return false;
    }
    return gmem_read(&walk->vcpu->vm->gmem, gpa, value, size);
}

/* The entry alone, or the aligned word that holds a 4-byte entry and its neighbour. An update of what is no RAM is
 * lost, as on the bus; the walk need not come again for it. */
static bool memory_cas(void *context, gpa_t gpa, uint64_t old, uint64_t value, unsigned size)
{
    const struct walk_context *walk = context;
    struct vcpu *vcpu = walk->vcpu;
    if (!to_gpa1(vcpu, walk->gva, &gpa, GVA_WRITE, true))
        return true;
    gpa_t word = ALIGN_DOWN(gpa, 8);
    unsigned shift = (unsigned)(gpa - word) * 8;
    uint64_t entry = size == 8 ? ~0ull : BITS(31, 0) << shift;
    uint64_t now;

    if (!gmem_read(&vcpu->vm->gmem, word, &now, sizeof now))
        return true;
    if (((now & entry) >> shift) != old)
        return false;
    return gmem_cas64(&vcpu->vm->gmem, word, now, (now & ~entry) | value << shift);
}

/* Asked once: CPUID is slow, and an exit under another hypervisor. */
static bool cpu_has_1g_pages(void)
{
    static bool known, has;

    if (!known) {
        has = cpuid(CPUID_EXTENDED_FEATURES, 0).edx & CPUID_EDX_PAGES_1G;
        known = true;
    }
    return has;
}

/* L1's PKRU is in the register: no VM exit switches it. Nestor itself may run without CR4.PKE. */
static uint32_t pkru_read(void)
{
    uint64_t cr4 = read_cr4();
    uint32_t pkru, edx;

    if (!(cr4 & CR4_PKE))
        write_cr4(cr4 | CR4_PKE);
    __asm__ volatile("rdpkru" : "=a"(pkru), "=d"(edx) : "c"(0));
    if (!(cr4 & CR4_PKE))
        write_cr4(cr4);
    return pkru;
}

/* The guest's is in the register, unless exits of L2 change it for L1: then entries load it. */
static uint32_t pkrs_read(void)
{
    return (uint32_t)(vmcs_read(ENTRY_CONTROLS) & ENTRY_LOAD_PKRS ? vmcs_read(GUEST_PKRS) : rdmsr(IA32_PKRS));
}

void paging_state_read(const struct vcpu *vcpu, struct paging_state *state)
{
    EXPECT_GUEST(vcpu);
    state->cr0 = vmcs_read(GUEST_CR0);
    state->cr3 = vmcs_read(GUEST_CR3);
    state->cr4 = vmcs_read(GUEST_CR4);
    state->efer = vmcs_read(GUEST_EFER);
    state->rflags = vmcs_read(GUEST_RFLAGS);
    state->address_bits = vcpu->vm->caps.address_bits;
    state->pages_1g = cpu_has_1g_pages();
    state->pkru = state->cr4 & CR4_PKE ? pkru_read() : 0;
    state->pkrs = state->cr4 & CR4_PKS ? pkrs_read() : 0;
    if (x86_uses_pae(state->cr0, state->cr4, state->efer & EFER_LMA)) {
        state->pdpte[0] = vmcs_read(GUEST_PDPTE0);
        state->pdpte[1] = vmcs_read(GUEST_PDPTE1);
        state->pdpte[2] = vmcs_read(GUEST_PDPTE2);
        state->pdpte[3] = vmcs_read(GUEST_PDPTE3);
    }
}

/* The one or two pieces of guest-physical memory that len bytes of linear memory are. */
struct pieces {
    gpa_t gpa[2];
    unsigned len[2];
    uint16_t page[2]; /* as struct fault has it */
};

/* A store of L2's that goes on behind its first 128 bytes: L1 may permit each by itself. */
static bool sub_pages_pass(struct vcpu *vcpu, gva_t gva, gpa_t gpa, unsigned len, uint32_t access)
{
    if (!(access & GVA_WRITE) || !vcpu->in_l2)
        return true;
    for (unsigned at = SUB_PAGE - gpa % SUB_PAGE; at < len; at += SUB_PAGE) {
        gpa_t behind = gpa + at;
        if (!to_gpa1(vcpu, gva + at, &behind, access, false))
            return false;
    }
    return true;
}

/* Walks both pages before either is touched, so that an access that faults has written nothing. L2's pages then go
 * through EPT12, again both. */
static bool pieces_find(struct vcpu *vcpu, gva_t gva, unsigned len, uint32_t access, struct pieces *pieces,
                        struct fault *fault)
{
    unsigned first = (unsigned)MIN(len, PAGE_SIZE - (gva & PAGE_MASK));
    struct walk_context walks[2] = {{vcpu, gva}, {vcpu, gva + first}};
    struct paging_state state;

    ASSERT(len > 0 && len <= PAGE_SIZE);
    paging_state_read(vcpu, &state);
    pieces->len[0] = first;
    pieces->len[1] = len - first;
    pieces->gpa[1] = 0;
    for (unsigned i = 0; i < 2 && pieces->len[i]; i++) {
        const struct gva_memory memory = {memory_read, memory_cas, &walks[i]};
        if (!gva_walk(&state, &memory, walks[i].gva, access, &pieces->gpa[i], fault))
            return false;
        pieces->page[i] = fault->page;
    }
    for (unsigned i = 0; i < 2 && pieces->len[i]; i++) {
        vcpu->l2_page = pieces->page[i];
        gpa_t gpa = pieces->gpa[i];
        if (!to_gpa1(vcpu, walks[i].gva, &pieces->gpa[i], access, false) ||
            !sub_pages_pass(vcpu, walks[i].gva, gpa, pieces->len[i], access))
            return false;
    }
    return true;
}

bool gva_read_as(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned len, uint32_t access, struct fault *fault)
{
    struct pieces pieces;

    if (!pieces_find(vcpu, gva, len, access, &pieces, fault))
        return false;
    for (unsigned i = 0, done = 0; i < 2 && pieces.len[i]; done += pieces.len[i++])
        if (!gmem_read(&vcpu->vm->gmem, pieces.gpa[i], (uint8_t *)buffer + done, pieces.len[i]))
            mmio_read(vcpu, pieces.gpa[i], (uint8_t *)buffer + done, pieces.len[i]);
    return true;
}

bool gva_write_as(struct vcpu *vcpu, gva_t gva, const void *buffer, unsigned len, uint32_t access, struct fault *fault)
{
    struct pieces pieces;

    if (!pieces_find(vcpu, gva, len, access | GVA_WRITE, &pieces, fault))
        return false;
    for (unsigned i = 0, done = 0; i < 2 && pieces.len[i]; done += pieces.len[i++])
        if (!gmem_write(&vcpu->vm->gmem, pieces.gpa[i], (const uint8_t *)buffer + done, pieces.len[i]))
            mmio_write(vcpu, pieces.gpa[i], (const uint8_t *)buffer + done, pieces.len[i]);
    return true;
}

/* The DPL of SS is the CPL, in every mode. SDM 3C 27.3.1.2 "Checks on Guest Segment Registers" */
static uint32_t access_at_cpl(void)
{
    return GET(vmcs_read(GUEST_SS_AR_BYTES), AR_DPL) == 3 ? (uint32_t)GVA_USER : GVA_READ;
}

/* One level of the walk that most operands of L1's VMX instructions take: RAM in one piece, the entry present and
 * accessed, and 0 in the bits `reserved`. False: the whole walk must say. */
static bool walk_level(const struct gmem *gmem, struct plain_walk *walk, unsigned depth, gpa_t where, uint64_t reserved)
{
    const uint64_t must = PTE_P | PTE_A;
    if (where - gmem->main_base >= gmem->main_size)
        return false;
    walk->entry[depth] = hpa_to_va(where);
    walk->value[depth] = __atomic_load_n(walk->entry[depth], __ATOMIC_RELAXED);
    return (walk->value[depth] & (reserved | must)) == must;
}

/* All of a walk but its result; the size of the page, 0 where the whole walk must say. The registers are filled. */
static uint64_t walk_levels(const struct vcpu *vcpu, struct plain_walk *walk, gva_t gva)
{
    const struct gmem *gmem = &vcpu->vm->gmem;
    const uint64_t address = vcpu->vm->caps.address_mask;
    uint64_t reserved = (BITS(51, 12) & ~address) | (walk->efer & EFER_NXE ? 0 : PTE_NX);
    gpa_t table = walk->cr3 & address;
    for (unsigned depth = 0; depth < 4; depth++) {
        gpa_t where = table | (gva >> (39 - 9 * depth) & 511) << 3;
        if (!walk_level(gmem, walk, depth, where, depth < 2 ? reserved | PTE_PS : reserved))
            return 0;
        table = walk->value[depth] & address;
        if (depth == 2 && (walk->value[2] & PTE_PS)) {
            walk->entry[3] = walk->entry[2];
            walk->value[3] = walk->value[2];
            return walk->value[2] & BITS(20, 13) ? 0 : LARGE_2M;
        }
    }
    return PAGE_SIZE;
}

/* Fills the cache's entry. A supervisor's read of a present page is forbidden by SMAP, a protection key or LASS alone;
 * where one of these is on and might matter, the whole walk decides. */
static bool walk_page(const struct vcpu *vcpu, struct plain_walk *walk, gva_t gva)
{
    const struct gmem *gmem = &vcpu->vm->gmem;
    bool canonical = x86_is_canonical(gva, 48);
    uint64_t size, user;
    if (!(walk->efer & EFER_LMA) || (walk->cr4 & CR4_LA57) || !canonical || !(size = walk_levels(vcpu, walk, gva)))
        return false;
    user = walk->value[0] & walk->value[1] & walk->value[2] & walk->value[3] & PTE_U;
    if (user ? (walk->cr4 & (CR4_SMAP | CR4_PKE)) : (walk->cr4 & CR4_PKS))
        return false;
    if ((walk->cr4 & CR4_LASS) && !(gva >> 63))
        return false;
    gpa_t page =
        ALIGN_DOWN(walk->value[3] & vcpu->vm->caps.address_mask, size) | (ALIGN_DOWN(gva, PAGE_SIZE) & (size - 1));
    if (page - gmem->main_base >= gmem->main_size)
        return false;
    walk->at = hpa_to_va(page);
    return true;
}

static NOINLINE const void *walk_anew(const struct vcpu *vcpu, struct plain_walk *walk, gva_t gva)
{
    walk->page = ALIGN_DOWN(gva, PAGE_SIZE);
    if (walk_page(vcpu, walk, gva))
        return walk->at + (gva & PAGE_MASK);
    walk->cr4 = 0;
    return NULL;
}

/* L1's other processors may write the entry meanwhile: one load, one look. */
static inline bool is_unchanged(const struct plain_walk *walk, unsigned depth)
{
    return __atomic_load_n(walk->entry[depth], __ATOMIC_RELAXED) == walk->value[depth];
}

const void *gva_plain(struct vcpu *vcpu, gva_t gva, uint64_t len)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    struct plain_walk *walk = &vcpu->walk[gva / PAGE_SIZE % PLAIN_WALKS];
    uint64_t cr3 = vmcs_read(GUEST_CR3), cr4 = vmcs_read(GUEST_CR4), efer = vmcs_read(GUEST_EFER);
    if ((gva & PAGE_MASK) + len > PAGE_SIZE)
        return NULL;
    if (walk->page == ALIGN_DOWN(gva, PAGE_SIZE) && walk->cr3 == cr3 && walk->cr4 == cr4 && walk->efer == efer &&
        is_unchanged(walk, 0) && is_unchanged(walk, 1) && is_unchanged(walk, 2) && is_unchanged(walk, 3))
        return walk->at + (gva & PAGE_MASK);
    walk->cr3 = cr3;
    walk->cr4 = cr4;
    walk->efer = efer;
    return walk_anew(vcpu, walk, gva);
}

/* Breakpoints are noted before the access, as the hits of an instruction that faults after all are dropped with it. */
bool gva_read(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned len, struct fault *fault)
{
    const void *plain = vcpu->in_l2 || access_at_cpl() ? NULL : gva_plain(vcpu, gva, len);
    breakpoint_memory(vcpu, false, gva, len);
    if (plain) {
        memcpy(buffer, plain, len);
        return true;
    }
    return gva_read_as(vcpu, gva, buffer, len, access_at_cpl(), fault);
}

bool gva_write(struct vcpu *vcpu, gva_t gva, const void *buffer, unsigned len, struct fault *fault)
{
    breakpoint_memory(vcpu, true, gva, len);
    return gva_write_as(vcpu, gva, buffer, len, access_at_cpl(), fault);
}
