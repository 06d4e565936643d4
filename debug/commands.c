/* A handler for each first letter; those that let the guest go on are answered by its next stop. A thread's number is a
 * level's. */
#include "debug/commands.h"

#include "kernel/string.h"

#define MONITOR_LENGTH 128u
#define READ_CHUNK 512u
#define SIGNAL_TRAP 5u

#define OK(answer) packet_say(answer, "OK")
#define FAILED(answer) packet_say(answer, "E01")

void debug_begin(struct debug_session *session, const struct debug_target *target)
{
    *session = (struct debug_session){.target = target, .shown = target->running()};
}

void debug_stopped(struct debug_session *session, unsigned signal, const char *reason, struct packet_text *answer)
{
    session->shown = session->target->running();
    packet_clear(answer);
    packet_say(answer, "T%02xthread:%x;%s", signal, session->shown, reason);
}

/* A thread's number: 0 and -1 (any, all) are the one that runs. False: there is no such thread. */
static bool read_thread(const struct debug_session *session, const char **at, enum debug_level *level)
{
    uint64_t number = 0;

    if (packet_word(at, "-1"))
        number = 0;
    else if (!packet_number(at, &number) || number > DEBUG_LEVELS)
        return false;
    *level = number ? (enum debug_level)number : session->target->running();
    return session->target->exists(*level);
}

static void answer_memory_read(struct debug_session *session, const char *at, struct packet_text *answer)
{
    uint8_t bytes[READ_CHUNK];
    uint64_t address, size;

    if (!packet_number(&at, &address) || !packet_word(&at, ",") || !packet_number(&at, &size)) {
        FAILED(answer);
        return;
    }
    size = MIN(size, (PACKET_TEXT - 1) / 2);
    for (size_t part, got; size; size -= part, address += part) {
        part = (size_t)MIN(size, READ_CHUNK);
        got = session->target->read(session->shown, address, bytes, part);
        packet_say_hex(answer, bytes, got);
        if (got < part)
            break;
    }
    if (!answer->length)
        FAILED(answer);
}

static void answer_memory_write(struct debug_session *session, const char *at, struct packet_text *answer)
{
    uint8_t bytes[READ_CHUNK];
    uint64_t address, size;
    bool done = packet_number(&at, &address) && packet_word(&at, ",") && packet_number(&at, &size) &&
                packet_word(&at, ":") && size <= PACKET_TEXT;

    for (size_t part; done && size; size -= part, address += part) {
        part = (size_t)MIN(size, READ_CHUNK);
        done = packet_bytes(&at, bytes, part) && session->target->write(session->shown, address, bytes, part);
    }
    if (done)
        OK(answer);
    else
        FAILED(answer);
}

static void answer_register_read(struct debug_session *session, const char *at, struct packet_text *answer)
{
    struct debug_registers registers = {0};
    uint64_t number;

    session->target->registers(session->shown, &registers);
    if (!packet_number(&at, &number) || !debug_register_say(answer, &registers, number))
        FAILED(answer);
}

static bool write_register(const struct debug_session *session, uint64_t number, const char **at)
{
    size_t size;
    enum debug_register which = debug_register_of(number, &size);
    uint64_t value = 0;

    return which != DEBUG_REGISTERS && packet_bytes(at, &value, size) &&
           session->target->set_register(session->shown, which, value);
}

static void answer_register_write(struct debug_session *session, const char *at, struct packet_text *answer)
{
    uint64_t number;

    if (packet_number(&at, &number) && packet_word(&at, "=") && write_register(session, number, &at))
        OK(answer);
    else
        FAILED(answer);
}

/* Z0, Z1: both are breakpoints that no guest can see. Watchpoints are not supported: an empty answer. */
static void answer_breakpoint(const struct debug_session *session, const char *at, bool set, struct packet_text *answer)
{
    uint64_t type, address;

    if (!packet_number(&at, &type) || type > 1 || !packet_word(&at, ",") || !packet_number(&at, &address))
        return;
    if (set ? session->target->set_breakpoint(address, type == 1) : session->target->clear_breakpoint(address))
        OK(answer);
    else
        FAILED(answer);
}

static void answer_thread(struct debug_session *session, const char *at, bool select, struct packet_text *answer)
{
    enum debug_level level;
    bool for_memory = select && packet_word(&at, "g");

    if (select && !for_memory)
        packet_word(&at, "c");
    if (!read_thread(session, &at, &level)) {
        FAILED(answer);
        return;
    }
    if (for_memory)
        session->shown = level;
    OK(answer);
}

static void answer_threads(const struct debug_session *session, struct packet_text *answer)
{
    packet_say(answer, "m%x,%x", DEBUG_L0, DEBUG_L1);
    if (session->target->exists(DEBUG_L2))
        packet_say(answer, ",%x", DEBUG_L2);
}

static void answer_thread_name(const struct debug_session *session, const char *at, struct packet_text *answer)
{
    static const char *const names[][2] = {
        {"", ""}, {"L0, Nestor", "L0, Nestor"}, {"L1, waits for L2", "L1, runs"}, {"L2, waits for L1", "L2, runs"}};
    enum debug_level level;

    if (!read_thread(session, &at, &level))
        return;
    const char *name = names[level][level == session->target->running()];
    packet_say_hex(answer, name, strlen(name));
}

static void answer_description(const char *at, struct packet_text *answer)
{
    uint64_t offset, length;

    if (packet_number(&at, &offset) && packet_word(&at, ",") && packet_number(&at, &length))
        debug_describe(answer, (size_t)offset, (size_t)length);
    else
        FAILED(answer);
}

static void answer_monitor(const struct debug_session *session, const char *at, struct packet_text *answer)
{
    char command[MONITOR_LENGTH];
    size_t length = strlen(at) / 2;

    if (length < sizeof command && packet_bytes(&at, command, length)) {
        command[length] = 0;
        session->target->monitor(command);
        OK(answer);
    } else {
        FAILED(answer);
    }
}

static void answer_query(struct debug_session *session, const char *at, struct packet_text *answer)
{
    if (packet_word(&at, "Supported"))
        packet_say(answer, "PacketSize=%x;qXfer:features:read+;QStartNoAckMode+;swbreak+;hwbreak+;vContSupported+",
                   PACKET_TEXT - 1);
    else if (packet_word(&at, "Xfer:features:read:target.xml:"))
        answer_description(at, answer);
    else if (packet_word(&at, "fThreadInfo"))
        answer_threads(session, answer);
    else if (packet_word(&at, "sThreadInfo"))
        packet_say(answer, "l");
    else if (packet_word(&at, "ThreadExtraInfo,"))
        answer_thread_name(session, at, answer);
    else if (packet_word(&at, "Rcmd,"))
        answer_monitor(session, at, answer);
    else if (packet_word(&at, "Attached"))
        packet_say(answer, "1");
    else if (!strcmp(at, "C"))
        packet_say(answer, "QC%x", session->target->running());
}

/* vCont;s:2;c: the first action of each that concerns a level. One steps, or all go on. */
static enum debug_wish resume(struct debug_session *session, const char *at, struct packet_text *answer)
{
    enum debug_wish wish = DEBUG_STAY;
    uint64_t signal;

    while (packet_word(&at, ";")) {
        char action = *at;
        bool known = action && strchr("csCS", action);
        at += known;
        if (action == 'C' || action == 'S') /* a signal means nothing to a processor */
            known = known && packet_number(&at, &signal);
        enum debug_level level = session->target->running();
        if (!known || (packet_word(&at, ":") && !read_thread(session, &at, &level))) {
            FAILED(answer);
            return DEBUG_STAY;
        }
        bool steps = action == 's' || action == 'S';
        if (steps && level == DEBUG_L0) { /* Nestor itself stands in the stub */
            FAILED(answer);
            return DEBUG_STAY;
        }
        if (wish == DEBUG_STAY || steps)
            wish = steps ? DEBUG_STEP : DEBUG_CONTINUE;
        if (steps)
            session->step = level;
    }
    if (wish == DEBUG_STAY)
        FAILED(answer);
    return wish;
}

static void answer_stop(struct debug_session *session, const char *at, struct packet_text *answer)
{
    (void)at;
    debug_stopped(session, SIGNAL_TRAP, "", answer);
}

static void answer_registers(struct debug_session *session, const char *at, struct packet_text *answer)
{
    struct debug_registers registers = {0};

    (void)at;
    session->target->registers(session->shown, &registers);
    debug_registers_say(answer, &registers);
}

static void answer_set(struct debug_session *session, const char *at, struct packet_text *answer)
{
    answer_breakpoint(session, at, true, answer);
}

static void answer_clear(struct debug_session *session, const char *at, struct packet_text *answer)
{
    answer_breakpoint(session, at, false, answer);
}

static void answer_select(struct debug_session *session, const char *at, struct packet_text *answer)
{
    answer_thread(session, at, true, answer);
}

static void answer_alive(struct debug_session *session, const char *at, struct packet_text *answer)
{
    answer_thread(session, at, false, answer);
}

static void answer_wish(struct debug_session *session, const char *at, struct packet_text *answer)
{
    if (strcmp(at, "StartNoAckMode") != 0)
        return;
    session->no_acknowledge = true;
    OK(answer);
}

/* The packets after which the guest stays where it is, by their first letter. */
static const struct {
    char letter;
    void (*answer)(struct debug_session *session, const char *at, struct packet_text *answer);
} staying[] = {
    {'?', answer_stop},        {'g', answer_registers},    {'p', answer_register_read}, {'P', answer_register_write},
    {'m', answer_memory_read}, {'M', answer_memory_write}, {'Z', answer_set},           {'z', answer_clear},
    {'H', answer_select},      {'T', answer_alive},        {'q', answer_query},         {'Q', answer_wish},
};

static enum debug_wish answer_v(struct debug_session *session, const char *at, struct packet_text *answer)
{
    if (packet_word(&at, "Cont?"))
        packet_say(answer, "vCont;c;C;s;S");
    else if (packet_word(&at, "Cont"))
        return resume(session, at, answer);
    else if (packet_word(&at, "Kill"))
        return DEBUG_KILL;
    return DEBUG_STAY;
}

enum debug_wish debug_command(struct debug_session *session, const char *packet, struct packet_text *answer)
{
    packet_clear(answer);
    for (size_t i = 0; i < ARRAY_SIZE(staying); i++)
        if (*packet && *packet == staying[i].letter)
            staying[i].answer(session, packet + 1, answer);
    switch (*packet) {
    case 'v':
        return answer_v(session, packet + 1, answer);
    case 'D':
        OK(answer);
        return DEBUG_DETACH;
    case 'k':
        return DEBUG_KILL;
    default: /* an answer that is empty: not supported */
        return DEBUG_STAY;
    }
}
