/* The questions of gdb, and the answers: a packet's text in, a packet's text out, and what the guest does next.
 * Pure except for the target's functions, which do what is asked.
 * debug/stub drives it. */
#ifndef DEBUG_COMMANDS_H
#define DEBUG_COMMANDS_H

#include "debug/packet.h"
#include "debug/registers.h"

/* A level is a thread to gdb, whose numbers begin at 1. */
enum debug_level { DEBUG_L0 = 1, DEBUG_L1, DEBUG_L2, DEBUG_LEVELS = DEBUG_L2 };

struct debug_target {
    /* The level that runs, or would now. */
    enum debug_level (*running)(void);
    /* True if there is such a level: L2, while L1 has a current VMCS. */
    bool (*exists)(enum debug_level level);
    void (*registers)(enum debug_level level, struct debug_registers *to);
    /* False: it cannot be written. */
    bool (*set_register)(enum debug_level level, enum debug_register which, uint64_t value);
    /* Bytes from the level's linear address on, as far as they are mapped: how many. */
    size_t (*read)(enum debug_level level, uint64_t address, void *bytes, size_t size);
    bool (*write)(enum debug_level level, uint64_t address, const void *bytes, size_t size);
    /* False: there is no room for it, or the CPU cannot. `hard`: gdb called it a hardware breakpoint. */
    bool (*set_breakpoint)(uint64_t address, bool hard);
    bool (*clear_breakpoint)(uint64_t address);
    /* The words behind gdb's `monitor`; says what it has to say on its own. */
    void (*monitor)(const char *command);
};

enum debug_wish { DEBUG_STAY, DEBUG_CONTINUE, DEBUG_STEP, DEBUG_DETACH, DEBUG_KILL };

struct debug_session {
    const struct debug_target *target;
    enum debug_level shown; /* the thread that gdb looks at */
    enum debug_level step;  /* the level that DEBUG_STEP is about */
    bool no_acknowledge;    /* gdb asked for no `+` behind each packet */
};

void debug_begin(struct debug_session *session, const struct debug_target *target);
/* The guest has stopped, for what `signal` and `reason` say ("hwbreak:;", or ""): the text that tells gdb. */
void debug_stopped(struct debug_session *session, unsigned signal, const char *reason, struct packet_text *answer);
/* One packet. `answer` is to be sent back if the guest stays; else gdb waits until it stops. */
enum debug_wish debug_command(struct debug_session *session, const char *packet, struct packet_text *answer);

#endif
