/* sources: vmx/gva.c */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/gva.h"

#define PF_KNOWN (PF_PRESENT | PF_WRITE | PF_USER | PF_RESERVED | PF_FETCH | BIT(5))

/* All physical memory shows the fuzzer's bytes again and again, so that any address leads to entries. */
struct memory {
    uint8_t byte[4096];
    size_t size;
};

static bool memory_read(void *context, gpa_t gpa, void *value, unsigned size)
{
    struct memory *memory = context;

    for (unsigned i = 0; i < size; i++)
        ((uint8_t *)value)[i] = memory->byte[(gpa + i) % memory->size];
    return true;
}

static bool memory_cas(void *context, gpa_t gpa, uint64_t old, uint64_t value, unsigned size)
{
    struct memory *memory = context;
    uint64_t now = 0;

    memory_read(context, gpa, &now, size);
    if (now != old)
        return false;
    for (unsigned i = 0; i < size; i++)
        memory->byte[(gpa + i) % memory->size] = (uint8_t)(value >> 8 * i);
    return true;
}

static void state_take(struct fuzz_input *in, struct paging_state *state)
{
    uint8_t mode = fuzz_take_8(in);

    memset(state, 0, sizeof *state);
    state->cr0 = CR0_PE | (mode & 1 ? CR0_WP : 0) | (mode & 2 ? 0 : CR0_PG);
    state->cr4 = fuzz_take_32(in);
    state->cr3 = fuzz_take_64(in);
    state->efer = (mode & 4 ? EFER_NXE : 0);
    if (mode & 8) {
        state->efer |= EFER_LME | EFER_LMA;
        state->cr4 |= CR4_PAE;
    }
    state->rflags = mode & 16 ? RFLAGS_AC : 0;
    state->pages_1g = mode & 32;
    state->address_bits = 32 + fuzz_take_8(in) % 21;
    state->pkru = fuzz_take_32(in);
    for (unsigned i = 0; i < 4; i++)
        state->pdpte[i] = fuzz_take_64(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory memory;
    const struct gva_memory reading = {memory_read, NULL, &memory}, marking = {memory_read, memory_cas, &memory};
    struct fuzz_input in = {data, size};
    struct paging_state state;
    struct fault fault;
    gpa_t gpa, again;
    gva_t gva;
    uint32_t access;
    bool ok;

    state_take(&in, &state);
    gva = fuzz_take_64(&in);
    access = fuzz_take_32(&in) & (GVA_WRITE | GVA_USER | GVA_FETCH | GVA_IMPLICIT);
    if (access & GVA_FETCH)
        access &= ~(uint32_t)GVA_WRITE;
    memory.size = MIN(in.size, sizeof memory.byte);
    if (memory.size == 0)
        return 0;
    memcpy(memory.byte, in.data, memory.size);

    ok = gva_walk(&state, &reading, gva, access, &gpa, &fault);
    FUZZ_CHECK(ok == (fault.vector == FAULT_NONE));
    if (!ok) {
        bool is_lass = fault.vector == VECTOR_GP && (state.cr4 & CR4_LASS) && !fault.error_code;
        FUZZ_CHECK(fault.has_error_code && (is_lass || fault.vector == VECTOR_PF));
        FUZZ_CHECK(!(fault.error_code & ~PF_KNOWN));
        FUZZ_CHECK((fault.error_code & PF_PRESENT) || !(fault.error_code & (PF_RESERVED | BIT(5))));
    } else if (state.cr0 & CR0_PG) {
        FUZZ_CHECK((gpa & PAGE_MASK) == (gva & PAGE_MASK));
        FUZZ_CHECK((gpa >> MAX(state.address_bits, 40)) == 0);
        if (access & GVA_WRITE)
            FUZZ_CHECK(gva_walk(&state, &reading, gva, access & ~(uint32_t)GVA_WRITE, &again, &fault) && again == gpa);
    }
    /* Marking may change what a table that maps itself says; it must end. */
    (void)!gva_walk(&state, &marking, gva, access, &again, &fault);
    return 0;
}
