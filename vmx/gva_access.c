#include "vmx/gva.h"

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/run.h"
#include "vmx/vcpu.h"

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

void paging_state_read(const struct vcpu *vcpu, struct paging_state *state)
{
    state->cr0 = vmcs_read(GUEST_CR0);
    state->cr3 = vmcs_read(GUEST_CR3);
    state->cr4 = vmcs_read(GUEST_CR4);
    state->efer = vmcs_read(GUEST_EFER);
    state->rflags = vmcs_read(GUEST_RFLAGS);
    state->address_bits = vcpu->vm->caps.address_bits;
    state->pages_1g = cpu_has_1g_pages();
    state->pkru = state->cr4 & CR4_PKE ? pkru_read() : 0;
    if ((state->cr0 & CR0_PG) && (state->cr4 & CR4_PAE) && !(state->efer & EFER_LMA)) {
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
};

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
    }
    for (unsigned i = 0; i < 2 && pieces->len[i]; i++)
        if (!to_gpa1(vcpu, walks[i].gva, &pieces->gpa[i], access, false))
            return false;
    return true;
}

bool gva_read_as(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned len, uint32_t access, struct fault *fault)
{
    struct pieces pieces;

    if (!pieces_find(vcpu, gva, len, access, &pieces, fault))
        return false;
    gmem_read(&vcpu->vm->gmem, pieces.gpa[0], buffer, pieces.len[0]);
    if (pieces.len[1])
        gmem_read(&vcpu->vm->gmem, pieces.gpa[1], (uint8_t *)buffer + pieces.len[0], pieces.len[1]);
    return true;
}

bool gva_write_as(struct vcpu *vcpu, gva_t gva, const void *buffer, unsigned len, uint32_t access, struct fault *fault)
{
    struct pieces pieces;

    if (!pieces_find(vcpu, gva, len, access | GVA_WRITE, &pieces, fault))
        return false;
    gmem_write(&vcpu->vm->gmem, pieces.gpa[0], buffer, pieces.len[0]);
    if (pieces.len[1])
        gmem_write(&vcpu->vm->gmem, pieces.gpa[1], (const uint8_t *)buffer + pieces.len[0], pieces.len[1]);
    return true;
}

static uint32_t access_at_cpl(void)
{
    return GET(vmcs_read(GUEST_SS_AR_BYTES), AR_DPL) == 3 ? (uint32_t)GVA_USER : GVA_READ;
}

/* The walk that most operands of L1's VMX instructions take: 4-level paging, every entry present and accessed, a
 * read by supervisor code that neither SMAP nor a protection key can forbid. False: the whole walk must say. */
static bool translate_plain(const struct vcpu *vcpu, gva_t gva, gpa_t *gpa)
{
    uint64_t efer = vmcs_read(GUEST_EFER), cr4 = vmcs_read(GUEST_CR4), entry, user = PTE_U;
    const uint64_t address = BITS(vcpu->vm->caps.address_bits - 1, 12), must = PTE_P | PTE_A;
    const gpa_t ram = vcpu->vm->gmem.main_base;
    const uint64_t ram_size = vcpu->vm->gmem.main_size;
    /* Bits that must be as in `must`: the reserved ones too, NX without EFER.NXE being one. */
    uint64_t judged = must | (BITS(51, 12) & ~address) | (efer & EFER_NXE ? 0 : PTE_NX);
    gpa_t table = vmcs_read(GUEST_CR3) & address;
    unsigned shift = 39;

    if (!(efer & EFER_LMA) || (cr4 & CR4_LA57))
        return false;
    for (;; shift -= 9) {
        gpa_t where = table | (gva >> shift & 511) << 3;
        if (where - ram >= ram_size)
            return false;
        entry = __atomic_load_n((const uint64_t *)hpa_to_va(where), __ATOMIC_RELAXED);
        user &= entry;
        if ((entry & judged) != must)
            return false;
        table = entry & address;
        if (shift == 12)
            break;
        if (entry & PTE_PS) /* of 1 GiB, or where the bit is reserved: the whole walk */
            if (shift != 21 || (entry & BITS(20, 13)))
                return false;
        if (shift == 21 && (entry & PTE_PS))
            break;
    }
    if (user && (cr4 & (CR4_SMAP | CR4_PKE)))
        return false;
    *gpa = (table & ~(BIT(shift) - 1)) | (gva & (BIT(shift) - 1));
    return true;
}

bool gva_read(struct vcpu *vcpu, gva_t gva, void *buffer, unsigned len, struct fault *fault)
{
    gpa_t gpa;
    if (!vcpu->in_l2 && (gva & PAGE_MASK) + len <= PAGE_SIZE && !access_at_cpl() && translate_plain(vcpu, gva, &gpa)) {
        (void)gmem_read(&vcpu->vm->gmem, gpa, buffer, len);
        return true;
    }
    return gva_read_as(vcpu, gva, buffer, len, access_at_cpl(), fault);
}

bool gva_write(struct vcpu *vcpu, gva_t gva, const void *buffer, unsigned len, struct fault *fault)
{
    return gva_write_as(vcpu, gva, buffer, len, access_at_cpl(), fault);
}
