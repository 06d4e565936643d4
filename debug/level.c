/* A level that does not run is read where its state waits: L1's in vmcs01, L2's in vmcs12. Its memory is found by a
 * walk of its tables that sets no flag: vmx/gva's, with EPT12 below it for L2. */
#include "debug/level.h"

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "nested/nested.h"
#include "nested/prepare.h"
#include "vmx/gva.h"
#include "vmx/vmcs_setup.h"

/* The registers that a VMCS has. */
static const struct {
    uint8_t which, row;
} fields[] = {
    {DEBUG_RSP, FIELD_INDEX_GUEST_RSP},         {DEBUG_RIP, FIELD_INDEX_GUEST_RIP},
    {DEBUG_EFLAGS, FIELD_INDEX_GUEST_RFLAGS},   {DEBUG_CS, FIELD_INDEX_GUEST_CS_SELECTOR},
    {DEBUG_SS, FIELD_INDEX_GUEST_SS_SELECTOR},  {DEBUG_DS, FIELD_INDEX_GUEST_DS_SELECTOR},
    {DEBUG_ES, FIELD_INDEX_GUEST_ES_SELECTOR},  {DEBUG_FS, FIELD_INDEX_GUEST_FS_SELECTOR},
    {DEBUG_GS, FIELD_INDEX_GUEST_GS_SELECTOR},  {DEBUG_FS_BASE, FIELD_INDEX_GUEST_FS_BASE},
    {DEBUG_GS_BASE, FIELD_INDEX_GUEST_GS_BASE}, {DEBUG_CR0, FIELD_INDEX_GUEST_CR0},
    {DEBUG_CR3, FIELD_INDEX_GUEST_CR3},         {DEBUG_CR4, FIELD_INDEX_GUEST_CR4},
    {DEBUG_EFER, FIELD_INDEX_GUEST_EFER},       {DEBUG_DR7, FIELD_INDEX_GUEST_DR7},
};

/* gdb's order and the processor's. */
static const uint8_t general[][2] = {
    {DEBUG_RAX, RAX}, {DEBUG_RBX, RBX}, {DEBUG_RCX, RCX}, {DEBUG_RDX, RDX}, {DEBUG_RSI, RSI},
    {DEBUG_RDI, RDI}, {DEBUG_RBP, RBP}, {DEBUG_R8, R8},   {DEBUG_R9, R9},   {DEBUG_R10, R10},
    {DEBUG_R11, R11}, {DEBUG_R12, R12}, {DEBUG_R13, R13}, {DEBUG_R14, R14}, {DEBUG_R15, R15},
};

enum debug_level level_running(const struct vcpu *vcpu)
{
    return vcpu->in_l2 ? DEBUG_L2 : DEBUG_L1;
}

bool level_exists(const struct vcpu *vcpu, enum debug_level level)
{
    return level == DEBUG_L0 || level == DEBUG_L1 || (vcpu->nested->vmxon && vcpu->nested->current);
}

/* Before the first access to a level's fields: its VMCS is current, or vmcs12 has all. After the last: the one to enter
 * is current again. */
static void open_level(const struct vcpu *vcpu, enum debug_level level)
{
    if (level == DEBUG_L1 && vcpu->in_l2)
        vmcs_load(vcpu->vmcs01);
    if (level == DEBUG_L2 && !vcpu->in_l2)
        prepare_fetch_rows(vcpu->nested, vcpu->nested->current);
}

static void close_level(const struct vcpu *vcpu, enum debug_level level)
{
    if (level == DEBUG_L1 && vcpu->in_l2)
        vmcs_load(vcpu->nested->current->vmcs02);
}

static uint64_t field_of(const struct vcpu *vcpu, enum debug_level level, unsigned row)
{
    if (level == DEBUG_L2 && !vcpu->in_l2)
        return vcpu->nested->current->v->field[row];
    return vmcs_read_encoding(vmcs_fields[row].encoding);
}

/* 0: L2 pages without EPT. */
static uint64_t eptp12_of(const struct vcpu *vcpu)
{
    const struct vmcs12 *v = vcpu->nested->current->v;
    return vmcs12_proc2(v) & PROC2_EPT ? l2_eptp12(v) : 0;
}

/* Nestor itself stands in the stub. */
static void own_registers(const struct vcpu *vcpu, struct debug_registers *to)
{
    debug_set(to, DEBUG_RIP, (uint64_t)__builtin_return_address(0));
    debug_set(to, DEBUG_RSP, (uint64_t)__builtin_frame_address(0));
    debug_set(to, DEBUG_CR0, read_cr0());
    debug_set(to, DEBUG_CR2, read_cr2());
    debug_set(to, DEBUG_CR3, read_cr3());
    debug_set(to, DEBUG_CR4, read_cr4());
    debug_set(to, DEBUG_EFER, rdmsr(IA32_EFER));
    debug_set(to, DEBUG_GS_BASE, (uint64_t)vcpu->cpu);
}

void level_registers(struct vcpu *vcpu, enum debug_level level, struct debug_registers *to)
{
    if (level == DEBUG_L0) {
        own_registers(vcpu, to);
        return;
    }
    open_level(vcpu, level);
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        debug_set(to, fields[i].which, field_of(vcpu, level, fields[i].row));
    debug_set(to, DEBUG_EPTP, level == DEBUG_L2 ? eptp12_of(vcpu) : field_of(vcpu, level, FIELD_INDEX_EPT_POINTER));
    close_level(vcpu, level);
    if (level != level_running(vcpu))
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(general); i++)
        debug_set(to, general[i][0], vcpu->regs[general[i][1]]);
    debug_set(to, DEBUG_CR2, read_cr2());
}

bool level_set_register(struct vcpu *vcpu, enum debug_level level, enum debug_register which, uint64_t value)
{
    if (level != level_running(vcpu))
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(general); i++)
        if (general[i][0] == which) {
            vcpu->regs[general[i][1]] = value;
            return true;
        }
    if (which == DEBUG_RIP)
        vmcs_write(GUEST_RIP, value);
    else if (which == DEBUG_RSP)
        vmcs_write(GUEST_RSP, value);
    else if (which == DEBUG_EFLAGS && !((value ^ vmcs_read(GUEST_RFLAGS)) & ~RFLAGS_ARITHMETIC))
        vmcs_write(GUEST_RFLAGS, value);
    else
        return false;
    return true;
}

uint64_t level_next(void)
{
    bool flat = (vmcs_read(GUEST_CS_AR_BYTES) & AR_L) != 0;
    return vmcs_read(GUEST_RIP) + (flat ? 0 : vmcs_read(GUEST_CS_BASE));
}

struct walk_of {
    struct vcpu *vcpu;
    enum debug_level level;
};

/* From what a level takes for a physical address to L1's. */
static bool to_gpa1(struct vcpu *vcpu, enum debug_level level, gpa_t *gpa)
{
    uint64_t eptp12 = level == DEBUG_L2 ? eptp12_of(vcpu) : 0;

    if (!eptp12)
        return true;
    /* Without the flag the walk sets no A and no D. */
    eptp12 &= ~(uint64_t)EPTP_AD;
    struct ept12_walk walk =
        ept12_walk(&vcpu->vm->gmem, ept02_rules(&vcpu->nested->ept02s, eptp12), eptp12, *gpa, EPT_R, false);
    *gpa = walk.gpa1;
    return walk.kind == EPT12_WALK_OK;
}

static bool read_entry(void *context, gpa_t gpa, void *value, unsigned size)
{
    const struct walk_of *of = context;

    if (of->level == DEBUG_L0) {
        memcpy(value, hpa_to_va(gpa), size);
        return true;
    }
    if (to_gpa1(of->vcpu, of->level, &gpa))
        return gmem_read(&of->vcpu->vm->gmem, gpa, value, size);
    memset(value, 0, size); /* a table that EPT12 does not map: nothing is mapped below it */
    return false;
}

/* How the level pages, with nothing in it that forbids a read by supervisor code. */
static void paging_of(struct vcpu *vcpu, enum debug_level level, struct paging_state *state)
{
    struct debug_registers registers = {0};

    paging_state_read(vcpu, state); /* the CPU's own properties; what is the level's comes now */
    level_registers(vcpu, level, &registers);
    state->cr0 = registers.value[DEBUG_CR0];
    state->cr3 = registers.value[DEBUG_CR3];
    state->cr4 = registers.value[DEBUG_CR4] & ~(uint64_t)(CR4_SMAP | CR4_PKE | CR4_PKS);
    state->efer = registers.value[DEBUG_EFER];
    state->pkru = state->pkrs = 0;
    if (level == DEBUG_L0)
        return;
    open_level(vcpu, level);
    for (unsigned i = 0; i < 4; i++)
        state->pdpte[i] = field_of(vcpu, level, FIELD_INDEX_GUEST_PDPTE0 + i);
    close_level(vcpu, level);
}

struct level_place level_find(struct vcpu *vcpu, enum debug_level level, gva_t gva)
{
    struct walk_of of = {vcpu, level};
    const struct gva_memory memory = {.read = read_entry, .context = &of};
    struct level_place place = {0};
    struct paging_state state;
    struct fault fault;

    paging_of(vcpu, level, &state);
    place.mapped = gva_walk(&state, &memory, gva, GVA_READ, &place.gpa, &fault);
    place.gpa1 = place.gpa;
    place.mapped_ept = place.mapped && to_gpa1(vcpu, level, &place.gpa1);
    return place;
}

/* The part of `size` bytes that lies in the first page. */
static size_t in_page(gva_t gva, size_t size)
{
    return (size_t)MIN(size, PAGE_SIZE - (gva & PAGE_MASK));
}

size_t level_read(struct vcpu *vcpu, enum debug_level level, gva_t gva, void *bytes, size_t size)
{
    size_t done = 0;

    for (size_t part; done < size; done += part) {
        struct level_place place = level_find(vcpu, level, gva + done);
        part = in_page(gva + done, size - done);
        if (!place.mapped_ept)
            break;
        if (level == DEBUG_L0)
            memcpy((uint8_t *)bytes + done, (const void *)(uintptr_t)(gva + done), part);
        else if (!gmem_read(&vcpu->vm->gmem, place.gpa1, (uint8_t *)bytes + done, part))
            break;
    }
    return done;
}

bool level_write(struct vcpu *vcpu, enum debug_level level, gva_t gva, const void *bytes, size_t size)
{
    bool written = level != DEBUG_L0;

    for (size_t done = 0, part; written && done < size; done += part) {
        struct level_place place = level_find(vcpu, level, gva + done);
        part = in_page(gva + done, size - done);
        written = place.mapped_ept && gmem_write(&vcpu->vm->gmem, place.gpa1, (const uint8_t *)bytes + done, part);
    }
    return written;
}
