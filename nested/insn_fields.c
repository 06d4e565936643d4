/* VMREAD and VMWRITE. */
#include "kernel/x86.h"
#include "nested/insn.h"
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
static bool field_decode(const struct nested *nested, uint64_t encoding, struct field_access *access)
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

/* What L1 named as the field: the register operand reg2. */
static uint64_t field_operand(struct vcpu *vcpu)
{
    return operand_register_read(vcpu, (unsigned)GET(vcpu->exit.instruction_info, INSN_INFO_REG2));
}

static unsigned operand_size(void)
{
    return operand_long_mode() ? 8 : 4;
}

void insn_exit_vmread(struct vcpu *vcpu)
{
    uint32_t info = vcpu->exit.instruction_info;
    struct vmcs12_slot *current = vcpu->nested->current;
    struct field_access access;
    struct fault fault;
    if (!insn_permitted(vcpu))
        return;
    if (!current) {
        insn_fail_invalid(vcpu);
        return;
    }
    if (!field_decode(vcpu->nested, field_operand(vcpu), &access)) {
        insn_fail(vcpu, VMXERR_UNSUPPORTED_FIELD);
        return;
    }
    uint64_t value = current->v->field[access.row];
    if (access.high)
        value >>= 32;
    if (info & INSN_INFO_IS_REGISTER) {
        operand_register_write(vcpu, (unsigned)GET(info, INSN_INFO_REG1), value);
    } else if (!operand_write(vcpu, &value, operand_size(), &fault)) {
        event_inject(vcpu, &fault);
        return;
    }
    insn_succeed(vcpu);
}

static void field_write(struct vmcs12_slot *slot, const struct field_access *access, uint64_t value)
{
    uint64_t *field = &slot->v->field[access->row];
    if (access->high)
        *field = (uint32_t)*field | value << 32;
    else
        *field = value & vmcs12_width_mask(access->row);
    slot_set_dirty(slot, access->row);
}

void insn_exit_vmwrite(struct vcpu *vcpu)
{
    uint32_t info = vcpu->exit.instruction_info;
    struct vmcs12_slot *current = vcpu->nested->current;
    struct field_access access;
    struct fault fault;
    uint64_t value = 0;
    if (!insn_permitted(vcpu))
        return;
    if (!current) {
        insn_fail_invalid(vcpu);
        return;
    }
    if (info & INSN_INFO_IS_REGISTER) {
        value = operand_register_read(vcpu, (unsigned)GET(info, INSN_INFO_REG1));
    } else if (!operand_read(vcpu, &value, operand_size(), &fault)) {
        event_inject(vcpu, &fault);
        return;
    }
    if (!field_decode(vcpu->nested, field_operand(vcpu), &access)) {
        insn_fail(vcpu, VMXERR_UNSUPPORTED_FIELD);
        return;
    }
    if (vmcs_fields[access.row].area == VMCS_AREA_INFO && !(vcpu->vm->caps12.misc & VMX_MISC_VMWRITE_ANY)) {
        insn_fail(vcpu, VMXERR_READ_ONLY_FIELD);
        return;
    }
    field_write(current, &access, value);
    insn_succeed(vcpu);
}
