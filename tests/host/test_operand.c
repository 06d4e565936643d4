/* sources: vmx/segment.c vmx/operand_decode.c vmx/operand.c vmx/gva.c vmx/gva_access.c vmx/breakpoint.c */
/* cflags: -include tests/host/fake_vmcs.h */
#include "tests/host/host.h"

#include <string.h>

#include "kernel/layout.h"
#include "kernel/msr.h"
#include "kernel/x86.h"
#include "vmx/hooks.h"
#include "vmx/operand.h"
#include "vmx/run.h"
#include "vmx/vcpu.h"

#define MEMORY_SIZE 0x10000u
#define CS 1u
#define SS 2u
#define DS 3u
#define FS 4u
#define GS 5u
#define ALL_SEGMENTS 6u
/* Access rights of flat and other segments. */
#define AR_DATA_RW (AR_P | AR_S | AR_DB | 3)
#define AR_CODE_RX (AR_P | AR_S | AR_DB | 11)

uint64_t fake_vmcs[0x8000];
struct nested_hooks nested_hooks; /* asked only while L2 runs */
static struct vm vm;
static struct vcpu vcpu = {.vm = &vm};

/* One device beyond it, which keeps what was stored last. */
static struct {
    gpa_t gpa;
    uint64_t value;
    unsigned len, accesses;
} device;

void mmio_read(struct vcpu *of, gpa_t gpa, void *buffer, unsigned len)
{
    assert_ptr_equal(of, &vcpu);
    device.accesses++;
    memcpy(buffer, &device.value, len);
    device.gpa = gpa;
    device.len = len;
}

void mmio_write(struct vcpu *of, gpa_t gpa, const void *buffer, unsigned len)
{
    assert_ptr_equal(of, &vcpu);
    device.accesses++;
    memcpy(&device.value, buffer, len);
    device.gpa = gpa;
    device.len = len;
}

/* mm/gmem with nothing but memory below MEMORY_SIZE. */
bool gmem_search_ram(const struct gmem *gmem, gpa_t gpa)
{
    assert_ptr_equal(gmem, &vm.gmem);
    return gpa < MEMORY_SIZE;
}

bool gmem_read(const struct gmem *gmem, gpa_t gpa, void *buffer, uint64_t len)
{
    assert_ptr_equal(gmem, &vm.gmem);
    memset(buffer, 0xff, len);
    if (gpa + len > MEMORY_SIZE)
        return false;
    memcpy(buffer, layout_host_memory + gpa, len);
    return true;
}

bool gmem_write(const struct gmem *gmem, gpa_t gpa, const void *buffer, uint64_t len)
{
    assert_ptr_equal(gmem, &vm.gmem);
    if (gpa + len > MEMORY_SIZE)
        return false;
    memcpy(layout_host_memory + gpa, buffer, len);
    return true;
}

bool gmem_cas64(const struct gmem *gmem, gpa_t gpa, uint64_t old, uint64_t value)
{
    assert_ptr_equal(gmem, &vm.gmem);
    assert_true(IS_ALIGNED(gpa, 8) && gpa + 8 <= MEMORY_SIZE);
    if (memcmp(layout_host_memory + gpa, &old, 8))
        return false;
    memcpy(layout_host_memory + gpa, &value, 8);
    return true;
}

static void segment_set(unsigned number, uint64_t access_rights, uint64_t base, uint64_t limit)
{
    fake_vmcs[0x4814 + 2 * number] = access_rights;
    fake_vmcs[0x6806 + 2 * number] = base;
    fake_vmcs[0x4800 + 2 * number] = limit;
}

/* L1 in flat 32-bit protected mode without paging. */
static int setup(void **state)
{
    (void)state;
    memset(fake_vmcs, 0, sizeof fake_vmcs);
    memset(&vcpu.exit, 0, sizeof vcpu.exit);
    memset(vcpu.regs, 0, sizeof vcpu.regs);
    host_memory(MEMORY_SIZE);
    vm.caps.address_bits = 40;
    vm.caps.address_mask = BITS(39, 12);
    vm.gmem.main_size = MEMORY_SIZE;
    fake_vmcs[GUEST_CR0.encoding] = CR0_PE;
    for (unsigned i = 0; i < ALL_SEGMENTS; i++)
        segment_set(i, i == CS ? AR_CODE_RX : AR_DATA_RW, 0, 0xffffffff);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    host_memory_free();
    return 0;
}

/* L1 in 64-bit mode: linear pages 0 and 1 are gpa 8000h and b000h, page 2 is not present, page 3 is read-only,
 * page 4 lies outside RAM. */
static void long_mode(void)
{
    const uint64_t entry[][2] = {{0x1000, 0x2003}, {0x2000, 0x3003}, {0x3000, 0x4003},  {0x4000, 0x8003},
                                 {0x4008, 0xb003}, {0x4018, 0xa001}, {0x4020, 0x100003}};

    fake_vmcs[GUEST_CR0.encoding] = CR0_PE | CR0_PG | CR0_WP;
    fake_vmcs[GUEST_CR3.encoding] = 0x1000;
    fake_vmcs[GUEST_CR4.encoding] = CR4_PAE;
    fake_vmcs[GUEST_EFER.encoding] = EFER_LME | EFER_LMA;
    fake_vmcs[GUEST_CS_AR_BYTES.encoding] = AR_P | AR_S | AR_L | 11;
    for (unsigned i = 0; i < ARRAY_SIZE(entry); i++)
        memcpy(layout_host_memory + entry[i][0], &entry[i][1], 8);
}

/* Instruction information of [segment: base + index << scaling] with the address size; -1: none. */
static uint32_t info_of(unsigned segment, int base, int index, unsigned scaling, unsigned address_size)
{
    return (uint32_t)(PUT(scaling, INSN_INFO_SCALING) | PUT(address_size, INSN_INFO_ADDRESS_SIZE) |
                      PUT(segment, INSN_INFO_SEGMENT) |
                      (base < 0 ? INSN_INFO_BASE_INVALID : PUT((unsigned)base, INSN_INFO_BASE)) |
                      (index < 0 ? INSN_INFO_INDEX_INVALID : PUT((unsigned)index, INSN_INFO_INDEX)));
}

static void test_decode_every_register(void **state)
{
    uint64_t regs[GPR_COUNT];

    (void)state;
    host_random_fill(regs, sizeof regs);
    for (int base = -1; base < GPR_COUNT; base++) {
        for (int index = -1; index < GPR_COUNT; index++) {
            for (unsigned scaling = 0; scaling < 4; scaling++) {
                uint64_t displacement = host_random();
                uint64_t want = displacement + (base < 0 ? 0 : regs[base]) + (index < 0 ? 0 : regs[index] << scaling);
                struct operand_place place = operand_decode(info_of(GS, base, index, scaling, 2), displacement, regs);

                assert_int_equal(place.offset, want);
                assert_int_equal(place.segment_number, GS);
            }
        }
    }
}

static void test_decode_address_sizes(void **state)
{
    uint64_t regs[GPR_COUNT] = {[RBX] = 0xfedcba9876543210, [RSI] = 0xffff8};

    (void)state;
    assert_int_equal(operand_decode(info_of(DS, RBX, RSI, 0, 0), 0xf, regs).offset, 0x3217);
    assert_int_equal(operand_decode(info_of(DS, RBX, RSI, 0, 1), 0xf, regs).offset, 0x76643217);
    assert_int_equal(operand_decode(info_of(DS, RBX, RSI, 0, 2), 0xf, regs).offset, 0xfedcba9876643217);
    /* A negative displacement comes sign-extended. */
    assert_int_equal(operand_decode(info_of(DS, RSI, -1, 0, 0), (uint64_t)-0x10ll, regs).offset, 0xffe8);
    assert_int_equal(operand_decode(info_of(DS, -1, -1, 3, 2), 0xffffffff81000000, regs).offset, 0xffffffff81000000);
}

/* Which bits are ignored depends on whose address it is; what is left is checked as ever. */
static void test_untag(void **state)
{
    const gva_t user = 0x00007f1234567890, tagged = 0x7a55ff1234567890 & ~BIT(47), kernel = 0xffff8f1234567890;

    (void)state;
    assert_int_equal(segment_untag(user | 0x7a00000000000000, 0, ~0ull), user | 0x7a00000000000000);
    assert_int_equal(segment_untag(user | 0x7e00000000000000, CR3_LAM_U57, 0), user);
    assert_int_equal(segment_untag(user | 0x0100000000000000, CR3_LAM_U57, 0), user | 0x0100000000000000);
    assert_int_equal(segment_untag(user | 0x7fff000000000000, CR3_LAM_U48, 0), user);
    assert_int_equal(segment_untag(tagged, CR3_LAM_U48, 0), tagged & BITS(47, 0));
    assert_int_equal(segment_untag(user | 0x0100000000000000, CR3_LAM_U48 | CR3_LAM_U57, 0), user | 0x0100000000000000);
    assert_int_equal(segment_untag(kernel & ~BITS(62, 48), 0, CR4_LAM_SUP), kernel);
    assert_int_equal(segment_untag(kernel & ~BITS(62, 48), ~0ull, 0), kernel & ~BITS(62, 48));
    assert_int_equal(segment_untag(kernel & ~BITS(62, 57), 0, CR4_LAM_SUP | CR4_LA57), kernel);
    assert_int_equal(segment_untag(kernel & ~BITS(62, 48), 0, CR4_LAM_SUP | CR4_LA57), (kernel & ~BITS(56, 48)));
}

static void test_operand_protected_mode(void **state)
{
    struct fault fault;
    uint64_t value = 0x1122334455667788, got = 0;
    gva_t gva;

    (void)state;
    segment_set(FS, AR_DATA_RW, 0x2000, 0xffff);
    vcpu.regs[RBX] = 0xffffffff00000300;
    vcpu.exit.instruction_info = info_of(FS, RBX, -1, 0, 1);
    vmcs_write(EXIT_QUALIFICATION, 0x10);
    assert_true(operand_address(&vcpu, 8, false, &gva, &fault));
    assert_int_equal(gva, 0x2310);
    assert_true(operand_write(&vcpu, &value, 8, &fault));
    assert_true(operand_read(&vcpu, &got, 8, &fault));
    assert_int_equal(got, value);
    assert_memory_equal(layout_host_memory + 0x2310, &value, 8);
}

static void test_operand_rsp_from_vmcs(void **state)
{
    struct fault fault;
    gva_t gva;

    (void)state;
    vcpu.regs[RSP] = 0xdead;
    fake_vmcs[GUEST_RSP.encoding] = 0x4000;
    vcpu.exit.instruction_info = info_of(SS, RSP, -1, 0, 1);
    assert_true(operand_address(&vcpu, 8, false, &gva, &fault));
    assert_int_equal(gva, 0x4000);
}

static void test_operand_long_mode_across_pages(void **state)
{
    struct fault fault;
    uint64_t value = 0x1122334455667788, got = 0;

    (void)state;
    long_mode();
    vcpu.exit.instruction_info = info_of(DS, RAX, -1, 0, 2);
    vcpu.regs[RAX] = 0xffc;
    assert_true(operand_write(&vcpu, &value, 8, &fault));
    assert_memory_equal(layout_host_memory + 0x8ffc, &value, 4);
    assert_memory_equal(layout_host_memory + 0xb000, (uint8_t *)&value + 4, 4);
    assert_true(operand_read(&vcpu, &got, 8, &fault));
    assert_int_equal(got, value);
}

static void test_operand_no_half_write(void **state)
{
    static const uint8_t zeros[8];
    uint64_t value = ~0ull;
    struct fault fault;

    (void)state;
    long_mode();
    vcpu.exit.instruction_info = info_of(DS, RAX, -1, 0, 2);
    vcpu.regs[RAX] = 0x1ffc;
    assert_false(operand_write(&vcpu, &value, 8, &fault));
    assert_int_equal(fault.vector, VECTOR_PF);
    assert_int_equal(fault.error_code, PF_WRITE);
    assert_int_equal(fault.address, 0x2000);
    assert_memory_equal(layout_host_memory + 0xbff8, zeros, 8);
}

static void test_operand_read_only_page(void **state)
{
    uint64_t value = ~0ull;
    struct fault fault;

    (void)state;
    long_mode();
    vcpu.exit.instruction_info = info_of(DS, -1, -1, 0, 2);
    vmcs_write(EXIT_QUALIFICATION, 0x3008);
    assert_true(operand_read(&vcpu, &value, 8, &fault));
    assert_int_equal(value, 0);
    assert_false(operand_write(&vcpu, &value, 8, &fault));
    assert_int_equal(fault.error_code, PF_PRESENT | PF_WRITE);
    fake_vmcs[GUEST_SS_AR_BYTES.encoding] |= AR_DPL; /* CPL 3: a user's access to a supervisor page */
    assert_false(operand_read(&vcpu, &value, 8, &fault));
    assert_int_equal(fault.error_code, PF_PRESENT | PF_USER);
}

/* An address that is no RAM is a device's: one access of the operand's width, and only that. */
static void test_operand_outside_ram(void **state)
{
    uint64_t value = 0x1122334455667788;
    struct fault fault;

    (void)state;
    long_mode();
    vcpu.exit.instruction_info = info_of(DS, -1, -1, 0, 2);
    vmcs_write(EXIT_QUALIFICATION, 0x4000);
    assert_true(operand_write(&vcpu, &value, 8, &fault));
    assert_int_equal(device.accesses, 1);
    assert_int_equal(device.len, 8);
    assert_int_equal(device.value, value);
    device.value = 42;
    assert_true(operand_read(&vcpu, &value, 8, &fault));
    assert_int_equal(device.accesses, 2);
    assert_int_equal(value, 42);
}

static void test_operand_table_outside_ram(void **state)
{
    struct fault fault;
    uint64_t value;

    (void)state;
    long_mode();
    fake_vmcs[GUEST_CR3.encoding] = 0x8000000000;
    vcpu.exit.instruction_info = info_of(DS, -1, -1, 0, 2);
    assert_false(operand_read(&vcpu, &value, 8, &fault));
    assert_int_equal(fault.error_code, PF_PRESENT | PF_RESERVED);
}

static void test_operand_sets_flags_of_4_byte_entries(void **state)
{
    const uint32_t directory = 0x2003, entries[2] = {0x8003, 0x9003};
    uint32_t now[2];
    struct fault fault;
    uint64_t value = 1;

    (void)state;
    fake_vmcs[GUEST_CR0.encoding] = CR0_PE | CR0_PG;
    fake_vmcs[GUEST_CR3.encoding] = 0x1000;
    memcpy(layout_host_memory + 0x1000, &directory, 4);
    memcpy(layout_host_memory + 0x2000, entries, 8);
    vcpu.exit.instruction_info = info_of(DS, -1, -1, 0, 1);
    vmcs_write(EXIT_QUALIFICATION, 0x1010);
    assert_true(operand_write(&vcpu, &value, 8, &fault));
    memcpy(now, layout_host_memory + 0x2000, 8);
    assert_int_equal(now[0], 0x8003);
    assert_int_equal(now[1], 0x9003 | PTE_A | PTE_D);
    assert_int_equal(layout_host_memory[0x9010], 1);
}

static void test_operand_pae_pointers_from_vmcs(void **state)
{
    const uint64_t directory = 0x2003, entry = 0x8003;
    struct fault fault;
    uint64_t value = 0x55;

    (void)state;
    fake_vmcs[GUEST_CR0.encoding] = CR0_PE | CR0_PG;
    fake_vmcs[GUEST_CR4.encoding] = CR4_PAE;
    fake_vmcs[GUEST_PDPTE3.encoding] = 0x1001;
    memcpy(layout_host_memory + 0x1000, &directory, 8);
    memcpy(layout_host_memory + 0x2000, &entry, 8);
    vcpu.exit.instruction_info = info_of(DS, -1, -1, 0, 1);
    vmcs_write(EXIT_QUALIFICATION, 0xc0000020);
    assert_true(operand_write(&vcpu, &value, 8, &fault));
    assert_int_equal(layout_host_memory[0x8020], 0x55);
}

static void test_operand_registers(void **state)
{
    (void)state;
    vcpu.regs[R15] = 0x1122334455667788;
    fake_vmcs[GUEST_RSP.encoding] = 0xffffffff80001000;
    assert_int_equal(operand_register_read(&vcpu, R15, operand_long_mode()), 0x55667788);
    assert_int_equal(operand_register_read(&vcpu, RSP, operand_long_mode()), 0x80001000);
    operand_register_write(&vcpu, RAX, 0x1122334455667788, operand_long_mode());
    assert_int_equal(vcpu.regs[RAX], 0x55667788);
    long_mode();
    assert_int_equal(operand_register_read(&vcpu, R15, operand_long_mode()), 0x1122334455667788);
    assert_int_equal(operand_register_read(&vcpu, RSP, operand_long_mode()), 0xffffffff80001000);
    operand_register_write(&vcpu, RAX, 0x1122334455667788, operand_long_mode());
    operand_register_write(&vcpu, RSP, 0x1000, operand_long_mode());
    assert_int_equal(vcpu.regs[RAX], 0x1122334455667788);
    assert_int_equal(fake_vmcs[GUEST_RSP.encoding], 0x1000);
}

static void test_operand_modes(void **state)
{
    struct fault fault;
    gva_t gva;

    (void)state;
    assert_false(operand_long_mode());
    fake_vmcs[GUEST_CS_AR_BYTES.encoding] |= AR_L; /* means nothing outside IA-32e mode */
    assert_false(operand_long_mode());
    long_mode();
    assert_true(operand_long_mode());
    assert_int_equal(operand_cpl(), 0);
    vcpu.exit.instruction_info = info_of(DS, -1, -1, 0, 2);
    vmcs_write(EXIT_QUALIFICATION, 0xff12000000000000);
    assert_false(operand_address(&vcpu, 8, false, &gva, &fault));
    fake_vmcs[GUEST_CR4.encoding] |= CR4_LA57;
    assert_true(operand_address(&vcpu, 8, false, &gva, &fault));
    fake_vmcs[GUEST_CS_AR_BYTES.encoding] &= ~AR_L;
    assert_false(operand_long_mode());
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_decode_every_register),
        TEST(test_decode_address_sizes),
        TEST(test_untag),
        TEST(test_operand_protected_mode),
        TEST(test_operand_rsp_from_vmcs),
        TEST(test_operand_long_mode_across_pages),
        TEST(test_operand_no_half_write),
        TEST(test_operand_read_only_page),
        TEST(test_operand_outside_ram),
        TEST(test_operand_table_outside_ram),
        TEST(test_operand_sets_flags_of_4_byte_entries),
        TEST(test_operand_pae_pointers_from_vmcs),
        TEST(test_operand_registers),
        TEST(test_operand_modes),
    };
    return cmocka_run_group_tests_name("operand", tests, NULL, NULL);
}
