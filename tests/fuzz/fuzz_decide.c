/* sources: nested/rules/decide.c vmx/msr_bitmap.c */
#include "tests/fuzz/fuzz.h"

#include <string.h>

#include "nested/rules/decide.h"

static uint8_t pages[5][PAGE_SIZE];

/* A page of L1, or none; one byte of the input fills it. */
static const uint8_t *page_take(struct fuzz_input *in, unsigned number)
{
    uint8_t what = fuzz_take_8(in);

    memset(pages[number], what, PAGE_SIZE);
    return what == 0x55 ? NULL : pages[number];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct vmcs12 v;
    struct fuzz_input in = {data, size};
    struct vmexit exit;
    uint64_t regs[GPR_COUNT];
    struct decide_input input = {.exit = &exit, .v = &v, .regs = regs};

    memset(&exit, 0, sizeof exit);
    exit.reason = fuzz_take_8(&in) % EXIT_REASON_COUNT;
    exit.qualification = fuzz_take_64(&in);
    exit.interruption_info = fuzz_take_32(&in);
    exit.interruption_error_code = fuzz_take_32(&in);
    exit.instruction_info = fuzz_take_32(&in);
    input.msr_bitmap = page_take(&in, 0);
    input.io_bitmap_a = page_take(&in, 1);
    input.io_bitmap_b = page_take(&in, 2);
    input.vmread_bitmap = page_take(&in, 3);
    input.vmwrite_bitmap = page_take(&in, 4);
    input.rsp = fuzz_take_64(&in);
    input.l0_nmi = fuzz_take_8(&in) & 1;
    fuzz_take(&in, regs, sizeof regs);
    v.PIN_CONTROLS = fuzz_take_32(&in);
    v.PROC_CONTROLS = fuzz_take_32(&in);
    v.PROC2_CONTROLS = fuzz_take_32(&in);
    v.EXCEPTION_BITMAP = fuzz_take_32(&in);
    v.PAGE_FAULT_ERROR_CODE_MASK = fuzz_take_32(&in);
    v.PAGE_FAULT_ERROR_CODE_MATCH = fuzz_take_32(&in);
    v.CR0_GUEST_HOST_MASK = fuzz_take_64(&in);
    v.CR4_GUEST_HOST_MASK = fuzz_take_64(&in);
    v.CR0_READ_SHADOW = fuzz_take_64(&in);
    v.CR4_READ_SHADOW = fuzz_take_64(&in);
    v.CR3_TARGET_COUNT = fuzz_take_32(&in);

    enum decision decision = decide_exit(&input);
    FUZZ_CHECK(decision == TO_L0 || decision == TO_L1);
    return 0;
}
