/* sources: vmx/segment.c vmx/operand_decode.c */
#include "tests/fuzz/fuzz.h"

#include "kernel/x86.h"
#include "vmx/operand.h"
#include "vmx/vmx_bits.h"

static bool is_canonical(uint64_t address, unsigned bits)
{
    uint64_t upper = address >> (bits - 1);

    return upper == 0 || upper == ~0ull >> (bits - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned widths[] = {0, 48, 57};
    struct fuzz_input in = {data, size};
    uint32_t info = fuzz_take_32(&in);
    uint64_t displacement = fuzz_take_64(&in), regs[16];
    struct operand_place place;
    struct segment segment;
    struct fault fault;
    unsigned bits, len;
    bool write;
    gva_t gva;

    fuzz_take(&in, regs, sizeof regs);
    fuzz_take(&in, &segment, sizeof segment);
    len = 1 + fuzz_take_8(&in) % 64;
    bits = widths[fuzz_take_8(&in) % 3];
    write = fuzz_take_8(&in) & 1;

    place = operand_decode(info, displacement, regs);
    FUZZ_CHECK(place.segment_number < 8);
    if (GET(info, INSN_INFO_ADDRESS_SIZE) == 0)
        FUZZ_CHECK(place.offset <= 0xffff);
    if (GET(info, INSN_INFO_ADDRESS_SIZE) == 1)
        FUZZ_CHECK(place.offset <= 0xffffffff);

    if (!segment_linear(&segment, place.segment_number, place.offset, len, write, bits, &gva, &fault)) {
        FUZZ_CHECK(fault.vector == VECTOR_GP || (fault.vector == VECTOR_SS && place.segment_number == 2));
        FUZZ_CHECK(fault.has_error_code && fault.error_code == 0);
    } else if (bits) {
        FUZZ_CHECK(is_canonical(gva, bits) && is_canonical(gva + len - 1, bits));
    } else {
        FUZZ_CHECK(gva <= 0xffffffff && place.offset + len - 1 <= 0xffffffff);
        FUZZ_CHECK(!(segment.access_rights & AR_UNUSABLE));
    }
    return 0;
}
