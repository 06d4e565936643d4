/* The loop that stands between an exit and the next entry: packets from the UART to debug/commands, whose functions are
 * here, until gdb lets the guest go. */
#include "debug/stub.h"

#include "debug/commands.h"
#include "debug/control.h"
#include "debug/level.h"
#include "debug/monitor.h"
#include "kernel/cmdline.h"
#include "kernel/log.h"
#include "kernel/panic.h"
#include "kernel/serial.h"
#include "vmx/hooks.h"

#define SIGNAL_INTERRUPT 2u
#define SIGNAL_TRAP 5u

static struct vcpu *self; /* of the one processor */
static struct debug_session session;
static struct packet_reader reader;
static struct packet_text answer, line_text;
static char frame[PACKET_FRAME];
static size_t frame_length;
static bool attached; /* gdb waits for a stop */
static bool free_run; /* gdb has left */

static void send_frame(void)
{
    serial_send((uint16_t)options.gdb, frame, frame_length);
}

static void send(const struct packet_text *text)
{
    frame_length = packet_frame(text, frame);
    send_frame();
}

/* --- What debug/commands asks of the guest --- */

static enum debug_level running(void)
{
    return level_running(self);
}

static bool exists(enum debug_level level)
{
    return level_exists(self, level);
}

static void registers(enum debug_level level, struct debug_registers *to)
{
    level_registers(self, level, to);
}

static bool set_register(enum debug_level level, enum debug_register which, uint64_t value)
{
    return level_set_register(self, level, which, value);
}

static size_t read_memory(enum debug_level level, uint64_t address, void *bytes, size_t size)
{
    return level_read(self, level, address, bytes, size);
}

static bool write_memory(enum debug_level level, uint64_t address, const void *bytes, size_t size)
{
    return level_write(self, level, address, bytes, size);
}

static bool set_breakpoint(uint64_t address, bool hard)
{
    return control_can_step(self) && breakpoints_add(&debug_control.breakpoints, address, hard);
}

static bool clear_breakpoint(uint64_t address)
{
    return breakpoints_remove(&debug_control.breakpoints, address);
}

/* A line that goes to gdb's console. */
static void to_gdb(const char *line, size_t length)
{
    packet_clear(&line_text);
    packet_say(&line_text, "O");
    packet_say_hex(&line_text, line, length);
    send(&line_text);
}

static void monitor(const char *command)
{
    log_redirect(to_gdb);
    monitor_run(self, command);
    log_redirect(NULL);
}

static const struct debug_target target = {
    .running = running,
    .exists = exists,
    .registers = registers,
    .set_register = set_register,
    .read = read_memory,
    .write = write_memory,
    .set_breakpoint = set_breakpoint,
    .clear_breakpoint = clear_breakpoint,
    .monitor = monitor,
};

/* --- The line --- */

/* The next packet, acknowledged. */
static const char *next_packet(void)
{
    for (;;) {
        int byte = serial_take((uint16_t)options.gdb);
        if (byte < 0)
            continue;
        switch (packet_take(&reader, (uint8_t)byte)) {
        case PACKET_READY:
            if (!session.no_acknowledge)
                serial_send((uint16_t)options.gdb, "+", 1);
            return reader.text;
        case PACKET_BROKEN:
            serial_send((uint16_t)options.gdb, "-", 1);
            break;
        case PACKET_AGAIN:
            send_frame();
            break;
        case PACKET_BREAK: /* it stands already */
        case PACKET_NONE:
            break;
        }
    }
}

/* The guest stands, and gdb may look, until it wants something of it. */
static enum debug_wish serve(void)
{
    enum debug_wish wish;

    do {
        wish = debug_command(&session, next_packet(), &answer);
        if (wish == DEBUG_STAY || wish == DEBUG_DETACH)
            send(&answer);
    } while (wish == DEBUG_STAY);
    return wish;
}

/* The level's own next instruction is the last, where the CPU can do that. */
static bool wants_impossible_step(enum debug_wish wish)
{
    return wish == DEBUG_STEP && !control_can_step(self);
}

static void stop(unsigned signal, const char *reason)
{
    enum debug_wish wish;

    debug_control.step = 0;
    if (attached) {
        debug_stopped(&session, signal, reason, &answer);
        send(&answer);
    }
    while (wants_impossible_step(wish = serve())) {
        log_warn("gdb", "this CPU has no monitor trap flag: no steps, no breakpoints; docs/LIMITS.md");
        debug_stopped(&session, SIGNAL_TRAP, "", &answer);
        send(&answer);
    }
    if (wish == DEBUG_KILL)
        machine_end(STATUS_PANIC, "gdb ended the run");
    attached = wish != DEBUG_DETACH;
    free_run = wish == DEBUG_DETACH;
    debug_control.step = wish == DEBUG_STEP ? session.step : 0;
    if (free_run) {
        debug_control.breakpoints.count = 0;
        log_info("gdb", "gdb has left; L1 goes on");
    }
    control_resume(self);
}

/* gdb's Ctrl-C. Other bytes that come while the guest runs are nothing. */
static bool is_called(void)
{
    int byte;

    while ((byte = serial_take((uint16_t)options.gdb)) >= 0)
        if (packet_take(&reader, (uint8_t)byte) == PACKET_BREAK)
            return true;
    return false;
}

/* The hook debug_entry of vmx/hooks.h. */
static void look_and_arm(struct vcpu *vcpu)
{
    static const char *const reasons[] = {
        [STOP_STEP] = "", [STOP_BREAKPOINT] = "swbreak:;", [STOP_HARD_BREAKPOINT] = "hwbreak:;"};

    if (free_run)
        return;
    enum debug_stop found = control_look(vcpu);
    if (!attached)
        stop(SIGNAL_TRAP, "");
    else if (is_called())
        stop(SIGNAL_INTERRUPT, "");
    else if (found != STOP_NONE)
        stop(SIGNAL_TRAP, reasons[found]);
    if (!free_run)
        control_arm(vcpu, true);
}

/* The run ends, and gdb shall know. */
static void say_status(int status)
{
    if (!attached)
        return;
    packet_clear(&answer);
    packet_say(&answer, "W%02x", status & 0xff);
    send(&answer);
    serial_flush((uint16_t)options.gdb);
    attached = false;
}

void debug_start(struct vcpu *vcpu)
{
    if (!options.gdb)
        return;
    if (!serial_init((uint16_t)options.gdb))
        machine_end(STATUS_ENVIRONMENT, "option gdb: there is no UART at port %lx", options.gdb);
    self = vcpu;
    vcpu->attention = true; /* the look before L1's first instruction */
    debug_begin(&session, &target);
    debug_hooks = (struct debug_hooks){.disarm = control_disarm, .exit = control_exit, .entry = look_and_arm};
    machine_on_status(say_status);
    log_info("gdb", "gdb's UART is at port %lx: L1 waits for gdb%s", options.gdb,
             control_can_step(vcpu) ? "" : "; no monitor trap flag, so no steps and no breakpoints");
}
