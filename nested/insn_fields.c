/* VMREAD and VMWRITE: of L1 on its current VMCS, and of L2 on the shadow VMCS that L1 gave it. */
#include "kernel/x86.h"
#include "nested/insn.h"
#include "nested/l2_ept.h"
#include "nested/l2_shadow.h"
#include "nested/prepare.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "vmx/event.h"
#include "vmx/operand.h"
#include "vmx/run.h"

/* A field as an instruction names it. */
struct field_access {
    unsigned row;
    bool high; /* bits 63:32 of a 64-bit field */
};

/* Decodes an encoding. False: L1's VMCS has no such component (error 12). */
static inline bool field_decode(const struct nested *nested, uint64_t encoding, struct field_access *access)
{
    int row = vmcs_field_find(encoding & ~ENCODING_HIGH);
    access->high = (encoding & ENCODING_HIGH) != 0;
    if (row < 0 || !(nested->field_offered[row / 64] & BIT(row % 64)))
        return false;
    if (access->high && vmcs_fields[row].width != VMCS_WIDTH_64)
        return false;
    access->row = (unsigned)row;
    return true;
}

/* vmcs02 has the row's value, and vmcs12 an old one. */
static bool is_live(const struct vmcs12_slot *slot, unsigned row)
{
    return slot->live[row / 64] & BIT(row % 64);
}

/* What L1 named as the field: the register operand reg2. */
static uint64_t field_operand(struct vcpu *vcpu, bool long_mode)
{
    return operand_register_read(vcpu, (unsigned)GET(vcpu->exit.instruction_info, INSN_INFO_REG2), long_mode);
}

/* How an access to a VMCS component ends, for the level that executed the instruction. */
struct outcome {
    enum { DONE, FAULTED, FAILED, FAILED_INVALID } kind;
    uint32_t error; /* of FAILED */
    struct fault fault;
};

static inline uint64_t field_value(const struct vmcs12_slot *slot, const struct field_access *access)
{
    uint64_t value = slot->v->field[access->row];
    return access->high ? value >> 32 : value;
}

static struct outcome read_field(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    uint32_t info = vcpu->exit.instruction_info;
    bool long_mode = operand_long_mode();
    struct outcome out;
    struct field_access access;
    out.kind = DONE;
    if (!slot)
        return (struct outcome){.kind = FAILED_INVALID};
    if (!field_decode(vcpu->nested, field_operand(vcpu, long_mode), &access))
        return (struct outcome){.kind = FAILED, .error = VMXERR_UNSUPPORTED_FIELD};
    if (is_live(slot, access.row))
        prepare_fetch_rows(vcpu->nested, slot);
    uint64_t value = field_value(slot, &access);
    if (info & INSN_INFO_IS_REGISTER)
        operand_register_write(vcpu, (unsigned)GET(info, INSN_INFO_REG1), value, long_mode);
    else if (!operand_write(vcpu, &value, long_mode ? 8 : 4, &out.fault))
        out.kind = FAULTED;
    return out;
}

/* The upper half of a 64-bit row; the half that stays may be in vmcs02 alone. */
static NOINLINE uint64_t with_high_half(struct nested *nested, struct vmcs12_slot *slot, unsigned row, uint64_t value)
{
    if (is_live(slot, row))
        prepare_fetch_rows(nested, slot);
    return (uint32_t)slot->v->field[row] | value << 32;
}

static inline void field_write(struct nested *nested, struct vmcs12_slot *slot, const struct field_access *access,
                               uint64_t value)
{
    unsigned row = access->row;
    slot->v->field[row] = access->high ? with_high_half(nested, slot, row, value) : value & vmcs12_width_mask(row);
    slot_set_dirty(slot, row);
    shadow_put(nested, slot, row);
}

static struct outcome write_field(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    uint32_t info = vcpu->exit.instruction_info;
    bool long_mode = operand_long_mode();
    struct outcome out;
    struct field_access access;
    uint64_t value = 0;
    out.kind = DONE;
    if (!slot)
        return (struct outcome){.kind = FAILED_INVALID};
    if (info & INSN_INFO_IS_REGISTER) {
        value = operand_register_read(vcpu, (unsigned)GET(info, INSN_INFO_REG1), long_mode);
    } else if (!operand_read(vcpu, &value, long_mode ? 8 : 4, &out.fault)) {
        out.kind = FAULTED;
        return out;
    }
    if (!field_decode(vcpu->nested, field_operand(vcpu, long_mode), &access))
        return (struct outcome){.kind = FAILED, .error = VMXERR_UNSUPPORTED_FIELD};
    if (vmcs_fields[access.row].area == VMCS_AREA_INFO && !(vcpu->vm->caps12.misc & VMX_MISC_VMWRITE_ANY))
        return (struct outcome){.kind = FAILED, .error = VMXERR_READ_ONLY_FIELD};
    field_write(vcpu->nested, slot, &access, value);
    return out;
}

/* Flags, error number or fault as the outcome says; the number goes to L1's current VMCS, which for L2 is the one that
 * controls it. Current: the VMCS of the level that executed the instruction. */
static void conclude(struct vcpu *vcpu, const struct outcome *out)
{
    switch (out->kind) {
    case DONE:
        insn_succeed(vcpu);
        break;
    case FAULTED:
        event_inject(vcpu, &out->fault);
        break;
    case FAILED:
        insn_fail(vcpu, out->error);
        break;
    case FAILED_INVALID:
        insn_fail_invalid(vcpu);
        break;
    }
}

/* Whether an instruction has the usual form: 64-bit mode, both operands registers but RSP. `value`: the register that is
 * read or written, `field`: the one that names the field. */
static inline bool has_plain_operands(const struct vcpu *vcpu, unsigned *value, unsigned *field)
{
    uint32_t info = vcpu->exit.instruction_info;
    *value = (unsigned)GET(info, INSN_INFO_REG1);
    *field = (unsigned)GET(info, INSN_INFO_REG2);
    return (info & INSN_INFO_IS_REGISTER) && *value != RSP && *field != RSP && operand_long_mode();
}

/* The usual VMREAD, of a field that vmcs12 holds. False: nothing was done. */
static bool read_to_register(struct vcpu *vcpu, const struct vmcs12_slot *slot)
{
    unsigned to, field;
    struct field_access access;
    if (!slot || !has_plain_operands(vcpu, &to, &field) || !field_decode(vcpu->nested, vcpu->regs[field], &access) ||
        is_live(slot, access.row))
        return false;
    vcpu->regs[to] = field_value(slot, &access);
    return true;
}

void insn_exit_vmread(struct vcpu *vcpu)
{
    if (!insn_permitted(vcpu))
        return;
    if (read_to_register(vcpu, vcpu->nested->current)) {
        insn_succeed(vcpu);
        return;
    }
    struct outcome out = read_field(vcpu, vcpu->nested->current);
    conclude(vcpu, &out);
}

/* The usual VMWRITE, of a field that is not read-only. False: nothing was done. */
static bool write_from_register(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    unsigned from, field;
    struct field_access access;
    if (!slot || !has_plain_operands(vcpu, &from, &field) || !field_decode(vcpu->nested, vcpu->regs[field], &access) ||
        vmcs_fields[access.row].area == VMCS_AREA_INFO)
        return false;
    field_write(vcpu->nested, slot, &access, vcpu->regs[from]);
    return true;
}

void insn_exit_vmwrite(struct vcpu *vcpu)
{
    if (!insn_permitted(vcpu))
        return;
    if (write_from_register(vcpu, vcpu->nested->current)) {
        insn_succeed(vcpu);
        return;
    }
    struct outcome out = write_field(vcpu, vcpu->nested->current);
    conclude(vcpu, &out);
}

/* Privilege comes before everything; the modes in which there is no such instruction do not exit. */
bool l2_shadow_access(struct vcpu *vcpu)
{
    struct nested *nested = vcpu->nested;
    gpa_t link = nested->current->v->VMCS_LINK_POINTER;
    if (operand_cpl() > 0) {
        event_inject_gp(vcpu, 0);
        return true;
    }
    struct vmcs12_slot *shadow = link == VMPTR_NONE ? NULL : slot_load(nested, link);
    if (shadow && shadow->mirrored) /* L2 reaches it by exits alone */
        prepare_fetch_rows(nested, shadow);
    struct outcome out = vcpu->exit.reason == EXIT_VMREAD ? read_field(vcpu, shadow) : write_field(vcpu, shadow);
    if (vcpu->l2_unmapped) {
        vcpu->l2_unmapped = false;
        return l2_unmapped_exit(vcpu);
    }
    conclude(vcpu, &out);
    return true;
}
