/* VMREAD and VMWRITE: of L1 on its current VMCS, and of L2 on the shadow VMCS that L1 gave it. */
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "nested/insn.h"
#include "nested/l2_ept.h"
#include "nested/lint.h"
#include "nested/prepare.h"
#include "nested/quiet.h"
#include "nested/shadow.h"
#include "nested/slot.h"
#include "vmx/event.h"
#include "vmx/operand.h"
#include "vmx/refusal.h"
#include "vmx/run.h"
#include "vmx/skip.h"
#include "vmx/vmcs_setup.h"

/* A field as an instruction names it. */
struct field_access {
    unsigned row;
    bool high; /* bits 63:32 of a 64-bit field */
};

/* Decodes an encoding. False: L1's VMCS has no such component (error 12). */
static inline bool field_decode(uint64_t encoding, struct field_access *access)
{
    unsigned row = encoding < VMCS12_ENCODINGS ? vmcs12_rows[encoding & ~ENCODING_HIGH] : 0;
    access->high = (encoding & ENCODING_HIGH) != 0;
    if (!row || (access->high && vmcs_fields[row - 1].width != VMCS_WIDTH_64))
        return false;
    access->row = row - 1;
    return true;
}

/* The encoding that L1 gave: the register operand reg2. */
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

/* The row, or its upper half. */
static inline uint64_t field_value(const struct vmcs12_slot *slot, const struct field_access *access)
{
    uint64_t value = slot->v->field[access->row];
    return access->high ? value >> 32 : value;
}

/* VMREAD in all its forms, on the VMCS of `slot`. NULL: there is no current VMCS. */
static struct outcome read_field(struct vcpu *vcpu, struct vmcs12_slot *slot)
{
    uint32_t info = vcpu->exit.instruction_info;
    bool long_mode = operand_long_mode();
    struct outcome out;
    struct field_access access;
    out.kind = DONE;
    if (!slot)
        return (struct outcome){.kind = FAILED_INVALID};
    if (!field_decode(field_operand(vcpu, long_mode), &access))
        return (struct outcome){.kind = FAILED, .error = VMXERR_UNSUPPORTED_FIELD};
    /* The newest value is in vmcs02: it comes here now, with all others that wait there. */
    if (slot_is_live(slot, access.row))
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
    if (slot_is_live(slot, row))
        prepare_fetch_rows(nested, slot);
    return (uint32_t)slot->v->field[row] | value << 32;
}

/* Writes a row of vmcs12; the next entry brings it to vmcs02. */
static inline void field_write(const struct vcpu *vcpu, struct vmcs12_slot *slot, uint64_t row, uint64_t value)
{
    if (slot == vcpu->nested->current && straight_write(vcpu, slot, (unsigned)row, value))
        return;
    slot->v->field[row] = value;
    slot_set_dirty(slot, row);
}

/* VMWRITE in all its forms. The source is read before the field is looked up, as the CPU does: a fault of the operand
 * comes before error 12. */
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
    if (!field_decode(field_operand(vcpu, long_mode), &access))
        return (struct outcome){.kind = FAILED, .error = VMXERR_UNSUPPORTED_FIELD};
    if (vmcs_fields[access.row].area == VMCS_AREA_INFO && !(vcpu->vm->caps12.misc & VMX_MISC_VMWRITE_ANY))
        return (struct outcome){.kind = FAILED, .error = VMXERR_READ_ONLY_FIELD};
    value = access.high ? with_high_half(vcpu->nested, slot, access.row, value) : value & vmcs12_width_mask(access.row);
    if (vmcs_fields[access.row].area == VMCS_AREA_INFO)
        lint_read_only(vcpu, access.row);
    field_write(vcpu, slot, access.row, value);
    shadow_put(vcpu->nested, slot, access.row);
    return out;
}

/* Says in the log what was refused, once for each kind. */
static void log_failure(struct vcpu *vcpu, const struct outcome *out)
{
    uint64_t encoding = field_operand(vcpu, operand_long_mode());
    if (out->kind == FAILED_INVALID)
        refusal_log(vcpu, vcpu->in_l2 ? REFUSAL_SHADOW_LINK : REFUSAL_NO_CURRENT, 0, 0);
    else if (out->kind == FAILED)
        refusal_log(vcpu, out->error == VMXERR_READ_ONLY_FIELD ? REFUSAL_READ_ONLY_FIELD : REFUSAL_ABSENT_FIELD,
                    encoding, 0);
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

/* The usual form: 64-bit mode, CPL 0, both operands registers, a field in its full form. False: nothing was done.
 * `slot`: NULL outside VMX operation, too. */
static inline bool access_plain(struct vcpu *vcpu, struct vmcs12_slot *slot, uint32_t reason)
{
    uint64_t info = vmcs_read_wide(EXIT_INSTRUCTION_INFO);
    uint64_t reg = GET(info, INSN_INFO_REG1), field = GET(info, INSN_INFO_REG2);
    if (!slot || !(info & INSN_INFO_IS_REGISTER) || !operand_in_64_bit_kernel())
        return false;
    vmcs_read_to(&vcpu->regs[RSP], GUEST_RSP.encoding); /* either operand may be it */
    uint64_t encoding = vcpu->regs[field];
    if (encoding >= VMCS12_ENCODINGS || !vmcs12_rows[encoding])
        return false;
    uint64_t row = vmcs12_rows[encoding] - 1ull;
    /* A read of RSP or of a live row takes the long way; the rest is one load. */
    if (reason == EXIT_VMREAD) {
        if (reg == RSP || slot_is_live(slot, row))
            return false;
        vcpu->regs[reg] = slot->v->field[row];
        return true;
    }
    /* A mask of 0 is a read-only field; a row that vmcs02 shows to L1 must be written there, too. */
    if (!vmcs12_write_masks[row] || ((slot->mirrored || slot->small_shown) && bits_test(vcpu->nested->rows_shown, row)))
        return false;
    field_write(vcpu, slot, row, vcpu->regs[reg] & vmcs12_write_masks[row]);
    return true;
}

/* Accesses that access_plain() leaves: each form, with all its checks. */
static NOINLINE void access_any(struct vcpu *vcpu, uint32_t reason, uint64_t rip)
{
    vcpu->exit.reason = reason;
    vcpu->exit.rip = rip;
    vcpu->exit.instruction_length = vmcs_read(EXIT_INSTRUCTION_LENGTH);
    vcpu->exit.instruction_info = vmcs_read(EXIT_INSTRUCTION_INFO);
    if (insn_permitted(vcpu)) {
        struct vmcs12_slot *slot = vcpu->nested->current;
        struct outcome out = reason == EXIT_VMREAD ? read_field(vcpu, slot) : write_field(vcpu, slot);
        log_failure(vcpu, &out);
        conclude(vcpu, &out);
    }
    vcpu_prepare_entry(vcpu);
}

void insn_field_access(struct vcpu *vcpu, uint32_t reason)
{
    KNOWN(reason == EXIT_VMREAD || reason == EXIT_VMWRITE);
    uint64_t rip = vmcs_read(GUEST_RIP);
    vcpu_count_exit(vcpu, reason, rip, false);
    if (!access_plain(vcpu, vcpu->nested->current, reason)) {
        access_any(vcpu, reason, rip);
        return;
    }
    uint64_t rflags = vmcs_read(GUEST_RFLAGS) & ~RFLAGS_ARITHMETIC;
    vmcs_write(GUEST_RFLAGS, rflags);
    vcpu_skip_to(rip + vmcs_read_wide(EXIT_INSTRUCTION_LENGTH), rflags); /* 64-bit mode: it does not wrap */
    vcpu_prepare_entry(vcpu);
}

/* Privilege comes before everything; the modes in which there is no such instruction do not exit. */
bool l2_shadow_access(struct vcpu *vcpu)
{
    EXPECT_CURRENT(vcpu->nested->current->vmcs02);
    struct nested *nested = vcpu->nested;
    gpa_t link = nested->current->v->VMCS_LINK_POINTER;
    if (operand_cpl() > 0) {
        refusal_log(vcpu, REFUSAL_NOT_CPL0, operand_cpl(), 0);
        event_inject_gp(vcpu, 0);
        return true;
    }
    struct vmcs12_slot *shadow = link == VMPTR_NONE ? NULL : slot_load(nested, link);
    if (shadow && (shadow->mirrored || shadow->small_shown)) /* L2 reaches it by exits alone */
        prepare_fetch_rows(nested, shadow);
    struct outcome out = vcpu->exit.reason == EXIT_VMREAD ? read_field(vcpu, shadow) : write_field(vcpu, shadow);
    if (vcpu->l2_unmapped) {
        vcpu->l2_unmapped = false;
        return l2_unmapped_exit(vcpu);
    }
    log_failure(vcpu, &out);
    conclude(vcpu, &out);
    return true;
}
