/* VMX instructions name memory by registers and a displacement. The CPU has decoded the instruction before it exits,
 * and leaves base, index, scale, segment and width in the instruction information and the displacement in the exit
 * qualification. The rest is the CPU's arithmetic once more: offset, limit or canonical check, linear address, and
 * then L1's paging, which vmx/gva walks. SDM 3C 28.2.5 "Information for VM Exits Due to Instruction Execution" */
#include "vmx/operand.h"

#include "kernel/msr.h"
#include "kernel/panic.h"
#include "kernel/string.h"
#include "kernel/x86.h"
#include "vmx/breakpoint.h"
#include "vmx/vcpu.h"
#include "vmx/vmcs_setup.h"

#define SEGMENT_COUNT 6u
#define SEGMENT_FS 4u
#define SEGMENT_STACK 2u

/* Field encodings of the six segment registers follow each other in the order of the information field's numbers. */
static void segment_read(unsigned number, struct segment *segment)
{
    uint32_t step = 2 * number;

    segment->selector = (uint16_t)vmcs_read_encoding(GUEST_ES_SELECTOR.encoding + step);
    segment->limit = (uint32_t)vmcs_read_encoding(GUEST_ES_LIMIT.encoding + step);
    segment->access_rights = (uint32_t)vmcs_read_encoding(GUEST_ES_AR_BYTES.encoding + step);
    segment->base = vmcs_read_encoding(GUEST_ES_BASE.encoding + step);
}

/* Bits of a linear address in 64-bit mode; 0 elsewhere, where segments count. */
static unsigned linear_bits(void)
{
    if (!operand_long_mode())
        return 0;
    return vmcs_read(GUEST_CR4) & CR4_LA57 ? 57 : 48;
}

bool operand_address(struct vcpu *vcpu, unsigned len, bool write, gva_t *gva, struct fault *fault)
{
    EXPECT_GUEST(vcpu);
    struct operand_place place;
    struct segment segment = {0};
    unsigned bits = linear_bits();

    ASSERT(!(vcpu->exit.instruction_info & INSN_INFO_IS_REGISTER));
    /* The one register that is in the VMCS: base or index may name it. */
    vcpu->regs[RSP] = vmcs_read(GUEST_RSP);
    place = operand_decode(vcpu->exit.instruction_info, vmcs_read(EXIT_QUALIFICATION), vcpu->regs);
    ASSERT(place.segment_number < SEGMENT_COUNT);
    if (!bits)
        segment_read(place.segment_number, &segment);
    else if (place.segment_number >= SEGMENT_FS) /* of the others only their number counts in 64-bit mode */
        segment.base = vmcs_read_encoding(GUEST_ES_BASE.encoding + 2 * place.segment_number);
    if (bits)
        place.offset =
            segment_untag(segment.base + place.offset, vmcs_read(GUEST_CR3), vmcs_read(GUEST_CR4)) - segment.base;
    return segment_linear(&segment, place.segment_number, place.offset, len, write, bits, gva, fault);
}

_Static_assert(INSN_INFO_SEGMENT >> 17 == 1, "OPERAND_PLAIN_JUDGED: FS and GS have bit 17");

/* Nearly every operand is a variable of a 64-bit kernel that lies in one page. For it all the checks above come down to
 * a few compares; NULL, at the slightest doubt, sends the caller the long way, which knows every fault. */
const void *operand_plain(struct vcpu *vcpu, uint64_t len)
{
    EXPECT_CURRENT(vcpu->vmcs01);
    uint64_t info = vcpu->exit.instruction_info;
    gva_t gva = vmcs_read(EXIT_QUALIFICATION);
    if ((info & OPERAND_PLAIN_JUDGED) != OPERAND_PLAIN_MUST || !operand_is_kernels())
        return NULL;
    vmcs_read_to(&vcpu->regs[RSP], GUEST_RSP.encoding);
    if (!(info & INSN_INFO_BASE_INVALID))
        gva += vcpu->regs[GET(info, INSN_INFO_BASE)];
    if (!(info & INSN_INFO_INDEX_INVALID))
        gva += vcpu->regs[GET(info, INSN_INFO_INDEX)] << GET(info, INSN_INFO_SCALING);
    if (__builtin_expect(vmcs_read(GUEST_DR7) & DR7_ENABLED, 0)) /* gva_read() looks for breakpoints */
        return NULL;
    return gva_plain(vcpu, gva, len); /* in IA-32e mode alone */
}

/* A stack access that separation of linear addresses forbids is #SS, others are #GP. */
static bool settle(const struct vcpu *vcpu, bool done, struct fault *fault)
{
    if (!done && fault->vector == VECTOR_GP && GET(vcpu->exit.instruction_info, INSN_INFO_SEGMENT) == SEGMENT_STACK)
        fault->vector = VECTOR_SS;
    return done;
}

bool operand_read(struct vcpu *vcpu, void *buffer, unsigned len, struct fault *fault)
{
    gva_t gva;

    return operand_address(vcpu, len, false, &gva, fault) &&
           settle(vcpu, gva_read(vcpu, gva, buffer, len, fault), fault);
}

bool operand_write(struct vcpu *vcpu, const void *buffer, unsigned len, struct fault *fault)
{
    gva_t gva;

    return operand_address(vcpu, len, true, &gva, fault) &&
           settle(vcpu, gva_write(vcpu, gva, buffer, len, fault), fault);
}

/* Outside 64-bit mode operands have 32 bits. */
uint64_t operand_register_read(struct vcpu *vcpu, unsigned number, bool long_mode)
{
    uint64_t value = number == RSP ? vmcs_read(GUEST_RSP) : vcpu->regs[number];

    return long_mode ? value : (uint32_t)value;
}

void operand_register_write(struct vcpu *vcpu, unsigned number, uint64_t value, bool long_mode)
{
    if (!long_mode)
        value = (uint32_t)value;
    if (number == RSP)
        vmcs_write(GUEST_RSP, value);
    else
        vcpu->regs[number] = value;
}
