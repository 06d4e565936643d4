/* How a segment bounds a data access. Outside 64-bit mode type and limit decide, and the linear address wraps at 32
 * bits; in 64-bit mode there is neither, only FS and GS have a base, and the address must be canonical. Which fault
 * it is depends on the segment register (#SS for the stack) and on what is wrong: a type that forbids the access is
 * #GP(0) always. */
#include "vmx/segment.h"

#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/vmx_bits.h"

#define SEGMENT_SS 2u
#define SEGMENT_FS 4u /* and GS after it: the two whose base counts in 64-bit mode */
/* Types of segments that are not system segments. SDM 3A table "Code- and Data-Segment Types" */
#define TYPE_CODE BIT(3)
#define TYPE_EXPAND_DOWN BIT(2)
#define TYPE_WRITE_OR_READ BIT(1) /* data: writable; code: readable */

/* #SS(0) for the stack segment, #GP(0) for others. */
static bool refuse(unsigned segment_number, struct fault *fault)
{
    *fault = (struct fault){.vector = segment_number == SEGMENT_SS ? VECTOR_SS : VECTOR_GP, .has_error_code = true};
    return false;
}

/* True if the segment's type lets data be read or written. */
static bool type_allows(uint32_t access_rights, bool write)
{
    uint64_t type = GET(access_rights, AR_TYPE);

    if (type & TYPE_CODE)
        return !write && (type & TYPE_WRITE_OR_READ);
    return !write || (type & TYPE_WRITE_OR_READ);
}

/* True if all bytes from first to last lie in the segment. */
static bool limit_allows(const struct segment *segment, uint64_t first, uint64_t last)
{
    uint64_t type = GET(segment->access_rights, AR_TYPE);

    if ((type & TYPE_CODE) || !(type & TYPE_EXPAND_DOWN))
        return last <= segment->limit;
    return first > segment->limit && last <= (segment->access_rights & AR_DB ? BITS(31, 0) : BITS(15, 0));
}

bool segment_linear(const struct segment *segment, unsigned segment_number, uint64_t offset, unsigned len, bool write,
                    unsigned linear_bits, gva_t *gva, struct fault *fault)
{
    uint64_t last = offset + len - 1;

    fault->vector = FAULT_NONE;
    /* 64-bit mode: no limits and no types, only canonical addresses. */
    if (linear_bits) {
        *gva = offset + (segment_number >= SEGMENT_FS ? segment->base : 0);
        if (!x86_is_canonical(*gva, linear_bits) || !x86_is_canonical(*gva + len - 1, linear_bits))
            return refuse(segment_number, fault);
        return true;
    }
    if (segment->access_rights & AR_UNUSABLE)
        return refuse(segment_number, fault);
    if (!type_allows(segment->access_rights, write))
        return refuse(SEGMENT_FS, fault); /* #GP(0) whatever the segment register */
    if (!limit_allows(segment, offset, last))
        return refuse(segment_number, fault);
    *gva = (uint32_t)(segment->base + offset);
    return true;
}

/* Bit 63 stays and chooses the flag; the bits from the address width up to bit 62 become copies of what they must
 * be. */
gva_t segment_untag(gva_t linear, uint64_t cr3, uint64_t cr4)
{
    bool supervisor = linear >> 63;
    unsigned width = 0;

    if (supervisor && (cr4 & CR4_LAM_SUP))
        width = cr4 & CR4_LA57 ? 57 : 48;
    else if (!supervisor && (cr3 & CR3_LAM_U57))
        width = 57;
    else if (!supervisor && (cr3 & CR3_LAM_U48))
        width = 48;
    if (!width)
        return linear;
    return supervisor ? linear | BITS(62, width) : linear & ~BITS(62, width);
}
