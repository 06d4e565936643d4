/* The registers that gdb sees of a level, in the order of its protocol, and their description for it.
 * Pure.
 * debug/ uses it. */
#ifndef DEBUG_REGISTERS_H
#define DEBUG_REGISTERS_H

#include "debug/packet.h"

/* R(enumerator, "name", bytes, "type"). Features: what gdb calls core, the bases of FS and GS, and Nestor's own. The
 * x87 and SSE registers, which gdb wants to hear of, are in none of Nestor's memory. */
#define DEBUG_CORE(R)                                                                                                  \
    R(RAX, "rax", 8, "int64")                                                                                          \
    R(RBX, "rbx", 8, "int64")                                                                                          \
    R(RCX, "rcx", 8, "int64")                                                                                          \
    R(RDX, "rdx", 8, "int64")                                                                                          \
    R(RSI, "rsi", 8, "int64")                                                                                          \
    R(RDI, "rdi", 8, "int64")                                                                                          \
    R(RBP, "rbp", 8, "data_ptr")                                                                                       \
    R(RSP, "rsp", 8, "data_ptr")                                                                                       \
    R(R8, "r8", 8, "int64")                                                                                            \
    R(R9, "r9", 8, "int64")                                                                                            \
    R(R10, "r10", 8, "int64")                                                                                          \
    R(R11, "r11", 8, "int64")                                                                                          \
    R(R12, "r12", 8, "int64")                                                                                          \
    R(R13, "r13", 8, "int64")                                                                                          \
    R(R14, "r14", 8, "int64")                                                                                          \
    R(R15, "r15", 8, "int64")                                                                                          \
    R(RIP, "rip", 8, "code_ptr")                                                                                       \
    R(EFLAGS, "eflags", 4, "int32")                                                                                    \
    R(CS, "cs", 4, "int32")                                                                                            \
    R(SS, "ss", 4, "int32")                                                                                            \
    R(DS, "ds", 4, "int32")                                                                                            \
    R(ES, "es", 4, "int32")                                                                                            \
    R(FS, "fs", 4, "int32")                                                                                            \
    R(GS, "gs", 4, "int32")
#define DEBUG_BASES(R)                                                                                                 \
    R(FS_BASE, "fs_base", 8, "int")                                                                                    \
    R(GS_BASE, "gs_base", 8, "int")
#define DEBUG_SYSTEM(R)                                                                                                \
    R(CR0, "cr0", 8, "int64")                                                                                          \
    R(CR2, "cr2", 8, "int64")                                                                                          \
    R(CR3, "cr3", 8, "int64")                                                                                          \
    R(CR4, "cr4", 8, "int64")                                                                                          \
    R(EFER, "efer", 8, "int64")                                                                                        \
    R(DR7, "dr7", 8, "int64")                                                                                          \
    R(EPTP, "eptp", 8, "int64")

#define DEBUG_MEMBER(name, ...) DEBUG_##name,
enum debug_register { DEBUG_CORE(DEBUG_MEMBER) DEBUG_BASES(DEBUG_MEMBER) DEBUG_SYSTEM(DEBUG_MEMBER) DEBUG_REGISTERS };
#undef DEBUG_MEMBER

/* A level's registers, as far as they are known. */
struct debug_registers {
    bool known[DEBUG_REGISTERS];
    uint64_t value[DEBUG_REGISTERS];
};
static inline void debug_set(struct debug_registers *to, enum debug_register which, uint64_t value)
{
    to->known[which] = true;
    to->value[which] = value;
}

/* All of them in gdb's order, `x` for what is not known: the answer to `g`. */
void debug_registers_say(struct packet_text *text, const struct debug_registers *registers);
/* One by gdb's number; false: there is none. */
bool debug_register_say(struct packet_text *text, const struct debug_registers *registers, uint64_t number);
/* The register of gdb's number, and its size; DEBUG_REGISTERS: none that Nestor has. */
enum debug_register debug_register_of(uint64_t number, size_t *size);
/* `length` bytes from `offset` of the description, behind `l` or, when there is more, `m`: the answer to
 * qXfer:features:read. */
void debug_describe(struct packet_text *text, size_t offset, size_t length);

#endif
