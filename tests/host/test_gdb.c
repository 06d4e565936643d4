/* sources: debug/packet.c debug/registers.c debug/commands.c debug/breakpoints.c kernel/format.c */
/* GDB's remote protocol: packets, commands on a target of this test's, and the way a guest is let run. */
#include "tests/host/host.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "debug/breakpoints.h"
#include "debug/commands.h"
#include "kernel/x86_bits.h"

#define ROUNDS 2000
#define NOISE 1000000
#define MEMORY_AT 0x1000u

/* --- Packets --- */

static struct packet_reader reader;
static struct packet_text text;
static char frame[PACKET_FRAME];

static enum packet_event feed(const char *bytes, size_t size)
{
    enum packet_event event = PACKET_NONE;
    for (size_t i = 0; i < size; i++)
        event = packet_take(&reader, (uint8_t)bytes[i]);
    return event;
}

static void test_packet_round_trip(void **state)
{
    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        packet_clear(&text);
        text.length = host_random() % (PACKET_TEXT - 1);
        host_random_fill(text.text, text.length);
        size_t size = packet_frame(&text, frame);
        assert_true(size <= sizeof frame);
        for (size_t i = 0; i + 1 < size; i++)
            assert_int_equal(packet_take(&reader, (uint8_t)frame[i]), PACKET_NONE);
        assert_int_equal(packet_take(&reader, (uint8_t)frame[size - 1]), PACKET_READY);
        assert_int_equal(reader.length, text.length);
        assert_memory_equal(reader.text, text.text, text.length);
    }
}

static void test_packet_broken(void **state)
{
    (void)state;
    assert_int_equal(feed("$g#67", 5), PACKET_READY);
    assert_string_equal(reader.text, "g");
    assert_int_equal(feed("$g#68", 5), PACKET_BROKEN);
    assert_int_equal(feed("$g#x7", 5), PACKET_BROKEN);
    assert_int_equal(feed("$g#6x", 5), PACKET_BROKEN);
    assert_int_equal(feed("noise+$lost$g#67", 16), PACKET_READY);
    assert_string_equal(reader.text, "g");
    assert_int_equal(feed("\x03", 1), PACKET_BREAK);
    assert_int_equal(feed("-", 1), PACKET_AGAIN);
    assert_int_equal(feed("+", 1), PACKET_NONE);
    packet_take(&reader, '$');
    for (unsigned i = 0; i < PACKET_TEXT; i++)
        assert_int_equal(packet_take(&reader, 0), PACKET_NONE);
    assert_int_equal(feed("#00", 3), PACKET_BROKEN); /* the checksum is right, but there was no room */
}

/* Of whatever comes over the line, nothing is taken for a packet whose checksum is wrong, and each that is right is. */
static void test_packet_noise(void **state)
{
    static const char often[] = "$$##}07f\x03";
    enum { OUTSIDE, INSIDE, BEFORE_HIGH, BEFORE_LOW } stage = OUTSIDE;
    char sum[3] = "", high = 0;
    uint8_t total = 0;
    unsigned ready = 0;

    (void)state;
    for (unsigned i = 0; i < NOISE; i++) {
        uint64_t random = host_random();
        char c = random & 3 ? often[(random >> 8) % (sizeof often - 1)] : (char)(random >> 16);
        bool right = false;
        if (c == '$') {
            stage = INSIDE, total = 0;
        } else if (stage == INSIDE && c == '#') {
            stage = BEFORE_HIGH;
            snprintf(sum, sizeof sum, "%02x", total);
        } else if (stage == INSIDE) {
            total = (uint8_t)(total + (uint8_t)c);
        } else if (stage == BEFORE_HIGH) {
            stage = BEFORE_LOW, high = c;
        } else if (stage == BEFORE_LOW) {
            stage = OUTSIDE;
            right = tolower((uint8_t)high) == sum[0] && tolower((uint8_t)c) == sum[1];
        }
        assert_int_equal(packet_take(&reader, (uint8_t)c) == PACKET_READY, right);
        ready += right;
    }
    assert_true(ready > 100 && reader.length < PACKET_TEXT);
}

/* --- A target --- */

static struct {
    enum debug_level running;
    bool has_l2, cannot;
    uint8_t memory[64];
    struct debug_registers registers;
    struct breakpoints breakpoints;
    char monitored[200];
} fake;

static enum debug_level running(void)
{
    return fake.running;
}

static bool exists(enum debug_level level)
{
    return level != DEBUG_L2 || fake.has_l2;
}

static void registers(enum debug_level level, struct debug_registers *to)
{
    if (level == fake.running)
        *to = fake.registers;
}

static bool set_register(enum debug_level level, enum debug_register which, uint64_t value)
{
    if (level != fake.running)
        return false;
    debug_set(&fake.registers, which, value);
    return true;
}

static size_t mapped(uint64_t address, size_t size)
{
    if (address < MEMORY_AT || address >= MEMORY_AT + sizeof fake.memory)
        return 0;
    return MIN(size, MEMORY_AT + sizeof fake.memory - address);
}

static size_t read_memory(enum debug_level level, uint64_t address, void *bytes, size_t size)
{
    size = level == DEBUG_L0 ? 0 : mapped(address, size);
    memcpy(bytes, fake.memory + (size ? address - MEMORY_AT : 0), size);
    return size;
}

static bool write_memory(enum debug_level level, uint64_t address, const void *bytes, size_t size)
{
    if (level == DEBUG_L0 || mapped(address, size) < size)
        return false;
    memcpy(fake.memory + (address - MEMORY_AT), bytes, size);
    return true;
}

static bool set_breakpoint(uint64_t address, bool hard)
{
    return !fake.cannot && breakpoints_add(&fake.breakpoints, address, hard);
}

static bool clear_breakpoint(uint64_t address)
{
    return breakpoints_remove(&fake.breakpoints, address);
}

static void monitor(const char *command)
{
    snprintf(fake.monitored, sizeof fake.monitored, "%s", command);
}

static const struct debug_target target = {running,      exists,         registers,        set_register, read_memory,
                                           write_memory, set_breakpoint, clear_breakpoint, monitor};
static struct debug_session session;

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    memset(&reader, 0, sizeof reader);
    fake.running = DEBUG_L1;
    for (unsigned i = 0; i < sizeof fake.memory; i++)
        fake.memory[i] = (uint8_t)i;
    debug_begin(&session, &target);
    return 0;
}

/* The answer to the command, while the guest stays. */
static const char *ask(const char *command)
{
    assert_int_equal(debug_command(&session, command, &text), DEBUG_STAY);
    return text.text;
}

static void test_commands(void **state)
{
    (void)state;
    assert_string_equal(ask("?"), "T05thread:2;");
    assert_string_equal(ask("qfThreadInfo"), "m1,2");
    assert_string_equal(ask("T3"), "E01");
    assert_string_equal(ask("Hg3"), "E01");
    fake.has_l2 = true;
    assert_string_equal(ask("qfThreadInfo"), "m1,2,3");
    assert_string_equal(ask("qsThreadInfo"), "l");
    assert_string_equal(ask("T3"), "OK");
    assert_string_equal(ask("T4"), "E01");
    assert_string_equal(ask("qC"), "QC2");
    assert_string_equal(ask("Z0,1000,1"), "OK");
    assert_string_equal(ask("Z1,1004,1"), "OK");
    assert_string_equal(ask("Z2,1004,1"), "");
    assert_string_equal(ask("z0,1000,1"), "OK");
    assert_string_equal(ask("z0,1000,1"), "E01");
    assert_int_equal(fake.breakpoints.count, 1);
    assert_true(fake.breakpoints.hard[0]);
    fake.cannot = true;
    assert_string_equal(ask("Z0,1000,1"), "E01");
    assert_string_equal(ask("vMustReplyEmpty"), "");
    assert_string_equal(ask(""), "");
    assert_string_equal(ask("qRcmd,766d63733132"), "OK");
    assert_string_equal(fake.monitored, "vmcs12");
    assert_string_equal(ask("qRcmd,zz"), "E01");
    assert_string_equal(ask("QStartNoAckMode"), "OK");
    assert_true(session.no_acknowledge);
}

static void test_memory_and_registers(void **state)
{
    (void)state;
    assert_string_equal(ask("m1000,4"), "00010203");
    assert_string_equal(ask("m103e,10"), "3e3f"); /* as far as it is mapped */
    assert_string_equal(ask("mfff,1"), "E01");
    assert_string_equal(ask("M1000,2:cafe"), "OK");
    assert_string_equal(ask("m1000,4"), "cafe0203");
    assert_string_equal(ask("M1000,2:ca"), "E01");
    assert_string_equal(ask("M103f,2:cafe"), "E01");
    assert_string_equal(ask("Hg1"), "OK");
    assert_string_equal(ask("m1000,4"), "E01");
    assert_string_equal(ask("Hg2"), "OK");
    assert_string_equal(ask("P10=8877665544332211"), "OK"); /* RIP, least byte first */
    assert_true(fake.registers.value[DEBUG_RIP] == 0x1122334455667788);
    assert_string_equal(ask("p10"), "8877665544332211");
    assert_string_equal(ask("p0"), "xxxxxxxxxxxxxxxx");
    assert_string_equal(ask("P18=00000000000000000000"), "E01"); /* st0: Nestor has none */
    assert_string_equal(ask("p1000"), "E01");
    assert_string_equal(ask("Hg1"), "OK");
    assert_string_equal(ask("P10=8877665544332211"), "E01"); /* of another level than that which runs */
}

static void test_resume(void **state)
{
    (void)state;
    fake.has_l2 = true;
    assert_int_equal(debug_command(&session, "vCont;c", &text), DEBUG_CONTINUE);
    assert_int_equal(debug_command(&session, "vCont;C05", &text), DEBUG_CONTINUE);
    assert_int_equal(debug_command(&session, "vCont;s:3;c", &text), DEBUG_STEP);
    assert_int_equal(session.step, DEBUG_L2);
    assert_int_equal(debug_command(&session, "vCont;s", &text), DEBUG_STEP);
    assert_int_equal(session.step, DEBUG_L1);
    assert_string_equal(ask("vCont;s:1"), "E01"); /* Nestor itself */
    assert_string_equal(ask("vCont;x"), "E01");
    assert_string_equal(ask("vCont"), "E01");
    assert_string_equal(ask("vCont;"), "E01");
    assert_int_equal(debug_command(&session, "k", &text), DEBUG_KILL);
    assert_int_equal(debug_command(&session, "D", &text), DEBUG_DETACH);
    fake.running = DEBUG_L2;
    debug_stopped(&session, 5, "hwbreak:;", &text);
    assert_string_equal(text.text, "T05thread:3;hwbreak:;");
    assert_int_equal(session.shown, DEBUG_L2);
}

/* The description in pieces, and as many registers in it as `g` has. */
static void test_description(void **state)
{
    static char all[16384];
    size_t at = 0, bits = 0, digits;
    char command[64];

    (void)state;
    do {
        snprintf(command, sizeof command, "qXfer:features:read:target.xml:%zx,100", at);
        ask(command);
        assert_between(text.length, 1, 0x101);
        memcpy(all + at, text.text + 1, text.length - 1);
        at += text.length - 1;
    } while (text.text[0] == 'm');
    assert_string_equal(all + at - strlen("</target>"), "</target>");
    for (const char *reg = strstr(all, "bitsize=\""); reg; reg = strstr(reg, "bitsize=\"")) {
        unsigned size;
        reg += strlen("bitsize=\"");
        assert_int_equal(sscanf(reg, "%u", &size), 1);
        bits += size;
    }
    digits = strlen(ask("g"));
    assert_int_equal(digits, bits / 4);
}

/* Commands of random characters: an answer each, and no more than fits. */
static void test_random_commands(void **state)
{
    static const char letters[] = "?gpPmMZzHTqQvDk";
    static const char rest[] = "0123456789abcdef,,::;;-csCSCont;s:Xfer:features:read:target.xml:Rcmd,";
    char command[40];

    (void)state;
    fake.has_l2 = true;
    for (unsigned round = 0; round < 200 * ROUNDS; round++) {
        unsigned length = (unsigned)(host_random() % (sizeof command - 1));
        for (unsigned i = 0; i < length; i++)
            command[i] = i ? rest[host_random() % (sizeof rest - 1)] : letters[host_random() % (sizeof letters - 1)];
        command[length] = 0;
        (void)debug_command(&session, command, &text);
        assert_int_equal(strlen(text.text), text.length);
        assert_true(text.length < PACKET_TEXT && !text.cut);
    }
}

/* --- The way a guest runs --- */

static void test_breakpoint_list(void **state)
{
    struct breakpoints list = {0};

    (void)state;
    for (unsigned i = 0; i < BREAKPOINTS_MAX; i++)
        assert_true(breakpoints_add(&list, i, false));
    assert_true(breakpoints_add(&list, 7, false)); /* known */
    assert_false(breakpoints_add(&list, 100, false));
    assert_true(breakpoints_remove(&list, 0));
    assert_false(breakpoints_remove(&list, 0));
    assert_int_equal(breakpoints_find(&list, BREAKPOINTS_MAX - 1), 0);
    assert_int_equal(breakpoints_find(&list, 0), list.count);
    assert_true(breakpoints_dr7(0) == BIT(10) && breakpoints_dr7(4) == (BIT(10) | 0xaa));
}

static void test_way(void **state)
{
    struct breakpoints one = {.count = 1, .address = {0x1000}}, five = {.count = 5, .address = {1, 2, 3, 4, 5}};
    const struct breakpoints none = {0};
    const struct debug_start plain = {.at = 0x2000, .dr7 = BIT(10), .rflags = RFLAGS_FIXED1, .concerned = true};
    struct debug_start start = plain;

    (void)state;
    assert_int_equal(debug_way(&none, &start), WAY_FREE);
    assert_int_equal(debug_way(&one, &start), WAY_REGISTERS);
    assert_int_equal(debug_way(&five, &start), WAY_TRAP);
    start.concerned = false;
    assert_int_equal(debug_way(&one, &start), WAY_FREE);
    start.steps = true;
    assert_int_equal(debug_way(&none, &start), WAY_TRAP);
    start = plain, start.at = 0x1000; /* on the breakpoint itself */
    assert_int_equal(debug_way(&one, &start), WAY_TRAP);
    start = plain, start.accesses_registers = true;
    assert_int_equal(debug_way(&one, &start), WAY_TRAP);
    /* Addresses that the guest uses itself. */
    start = plain, start.dr7 |= BIT(1);
    assert_int_equal(debug_way(&one, &start), WAY_TRAP);
    start = plain, start.dr7 |= DR7_GD;
    assert_int_equal(debug_way(&one, &start), WAY_TRAP);
    start = plain, start.rflags |= RFLAGS_TF;
    assert_int_equal(debug_way(&one, &start), WAY_TRAP);
    start = plain, start.pending = BIT(14);
    assert_int_equal(debug_way(&one, &start), WAY_TRAP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_packet_round_trip, setup),
        cmocka_unit_test_setup(test_packet_broken, setup),
        cmocka_unit_test_setup(test_packet_noise, setup),
        cmocka_unit_test_setup(test_commands, setup),
        cmocka_unit_test_setup(test_memory_and_registers, setup),
        cmocka_unit_test_setup(test_resume, setup),
        cmocka_unit_test_setup(test_description, setup),
        cmocka_unit_test_setup(test_random_commands, setup),
        cmocka_unit_test(test_breakpoint_list),
        cmocka_unit_test(test_way),
    };
    return cmocka_run_group_tests_name("gdb", tests, NULL, NULL);
}
